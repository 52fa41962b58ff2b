/** `stream tail`: the last records of topics, by time; with -f it goes on (commands.md, section 5). */

import { UsageError } from '../src/base/errors.ts'
import { RecordFilter } from '../src/text/record-filter.ts'
import { parseCount } from '../src/text/units.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import type { Flags } from './flags.ts'
import type { CommandSpec } from './option-table.ts'
import { runRead } from './read-job.ts'
import {
  filterOptions,
  formOptions,
  keyFilterOption,
  outcomeOptions,
  type ReadPlan,
  readPlan,
  topicOptions,
} from './read-options.ts'
import type { ReadVariant } from './read-variant.ts'
import { hasColor } from './row-output.ts'
import { lastRecords, recordsFrom } from './tail-start.ts'
import { isGlob } from './topic-names.ts'

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'tail',
  summary: 'Print the last records of topics, and follow',
  description: [
    'The last N records of all partitions together, by time, or with -n +N those from offset N on; with -f it goes on as records come.',
    'On a terminal each record is one line with its time, place and key, cut to the width; any flag for the form (-o, -F, --json, --raw, -0 …) prints records as cat does.',
  ],
  operands: [{ name: 'TOPIC', isRepeatable: true }],
  options: [
    { long: 'count', short: 'n', argument: 'N', default: '10', help: 'how many; +N: from offset N on' },
    { long: 'follow', short: 'f', help: 'go on at the end' },
    { long: 'idle', argument: 'DUR', help: 'with -f: stop when no record came for so long; exit 0' },
    ...formOptions,
    keyFilterOption,
    ...filterOptions,
    ...topicOptions,
    ...outcomeOptions,
  ],
  examples: [
    { line: 'stream tail orders' },
    { line: "stream tail -f 'app.*' -F '%d{iso} %t %v\\n'" },
    { line: "stream tail -n 3 orders --grep 'v:/error/i' --json" },
  ],
  exits: [
    [3, 'no such topic'],
    [5, 'records were gone before they were read; --strict'],
  ],
}

const COUNT = 10

export function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const { flags, operands } = args
  const findRanges = readCount(flags)
  const follows = flags.has('follow')
  const plain = flags.without('count')
  const plan: ReadPlan = {
    ...readPlan(deps, { flags: plain, operands }, { command: 'tail', follows: false }),
    isByTime: true,
  }
  return runRead(deps, { flags: plain, operands }, plan, {
    findRanges: findRanges(plan),
    goesOn: follows,
    makeWriter: () => makeScreen(deps, flags, plan),
  })
}

type MakeRanges = (plan: ReadPlan) => NonNullable<ReadVariant['findRanges']>

function readCount(flags: Flags): MakeRanges {
  const text = flags.text('count') ?? String(COUNT)
  const isFrom = text.startsWith('+')
  const count = parseCount(isFrom ? text.slice(1) : text)
  if (count === undefined) throw new UsageError(`--count ${text}: must be a number N, or +N`)
  if (isFrom) return () => recordsFrom(count)
  return (plan) => {
    const filter = new RecordFilter(plan.filter)
    return lastRecords(count, (topic, cursor) => {
      if (filter.isEmpty) return true
      filter.setTopic(topic)
      return filter.matches(cursor)
    })
  }
}

async function makeScreen(deps: CommandDeps, flags: Flags, plan: ReadPlan) {
  if (!deps.host.isTerminal('output') || !plan.isDefaultForm) return undefined
  const { ScreenWriter } = await import('../src/text/screen-writer.ts')
  const [topic = '', ...others] = plan.topics
  return new ScreenWriter({
    columns: () => deps.host.columns('output'),
    hasColor: hasColor(deps, flags),
    showsTopic: others.length > 0 || plan.isRegex || isGlob(topic),
    nowMs: () => deps.time.wallMs(),
  })
}
