/** `stream groups watch`: the rows of `groups lag`, again and again. */

import type { CommandArgs, CommandDeps } from './deps.ts'
import { lagShape, lagsOf, toRows } from './groups-lag.ts'
import { requireGroups, withGroups } from './groups-shared.ts'
import { type CommandSpec, rowOptions } from './option-table.ts'
import { printRows } from './row-output.ts'
import { TargetFailures } from './topics-shared.ts'
import { Unanswered } from './unanswered.ts'
import { WakeUp } from './wake-up.ts'

const EVERY_MS = 2000
/** Home, and clear what follows. */
const REDRAW = '\x1b[H\x1b[J'
const CLEAR = '\x1b[2J'

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'groups watch',
  summary: 'Watch how many records consumer groups have not read yet',
  description: ['Redraws the table of groups lag; without a terminal the rows are printed each time. Ends by a signal, or with --count.'],
  operands: [{ name: 'GROUP', isRepeatable: true }],
  options: [
    { long: 'every', argument: 'DUR', default: '2s', help: 'the pause' },
    { long: 'total', help: 'the sum over all topics' },
    { long: 'count', short: 'n', argument: 'N', help: 'stop after so many times' },
    ...rowOptions,
  ],
  columns: lagShape.columns,
  examples: [
    { line: 'stream groups watch nightly' },
    { line: "stream groups watch 'etl-*' --every 10s --total" },
  ],
  exits: [[3, 'no such group']],
}

export function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  requireGroups(args, spec.name)
  const { flags } = args
  const everyMs = flags.durationMs('every') ?? EVERY_MS
  const countMax = flags.wholeNumber('count') ?? Number.POSITIVE_INFINITY
  const timeoutMs = flags.durationMs('timeout')
  const deadlineMs = deps.time.monotonicMs() + (timeoutMs ?? Number.POSITIVE_INFINITY)
  const isScreen = deps.host.isTerminal('output')
  return withGroups(deps, args, async (session) => {
    let isStopped = false
    const wake = new WakeUp(deps.time)
    const stopListening = deps.interruption.onRaised(() => {
      isStopped = true
      wake.wake()
    })
    try {
      if (isScreen) await deps.stdio.output.write(Buffer.from(CLEAR))
      for (let count = 1; ; count += 1) {
        const failures = new TargetFailures(deps)
        // Not told: the rows have a dash for it, and the next ones come soon.
        const unanswered = new Unanswered()
        const lags = await lagsOf(deps, session, args.operands, failures, unanswered)
        if (failures.exit !== 0 && lags.size === 0) return failures.exit
        if (isScreen) await deps.stdio.output.write(Buffer.from(REDRAW))
        await printRows(deps, flags, lagShape, toRows(lags, flags.has('total')))
        if (count >= countMax || isStopped) return failures.exit
        if (deps.time.monotonicMs() + everyMs > deadlineMs) return 7
        await wake.wait(everyMs)
        if (isStopped) return 0
      }
    } finally {
      stopListening()
    }
  })
}
