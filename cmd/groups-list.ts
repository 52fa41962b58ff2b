/** `stream groups list`. */

import { UsageError } from '../src/base/errors.ts'
import { nearestName } from '../src/config/nearest-name.ts'
import type { Row, RowShape } from '../src/text/rows.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import type { Flags } from './flags.ts'
import {
  findGroups,
  lagRows,
  oldestMs,
  sumLag,
  tellBehindEnd,
  withGroups,
} from './groups-shared.ts'
import { type CommandSpec, rowOptions } from './option-table.ts'
import { printRows } from './row-output.ts'
import { TargetFailures } from './topics-shared.ts'
import { Unanswered } from './unanswered.ts'

const STATES = [
  'Empty',
  'Stable',
  'PreparingRebalance',
  'CompletingRebalance',
  'Assigning',
  'Reconciling',
  'Dead',
]

const shape: RowShape = { kind: 'group', columns: ['GROUP', 'STATE', 'MEMBERS', 'LAG'] }

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'groups list',
  summary: 'List consumer groups',
  description: ['LAG is the sum over all partitions that the group has committed.'],
  operands: [{ name: 'GLOB', isOptional: true, isRepeatable: true }],
  options: [
    { long: 'state', argument: 'S', help: 'only groups in this state: Empty, Stable, PreparingRebalance, CompletingRebalance, or Assigning, Reconciling of the consumer protocol, Dead' },
    { long: 'inactive', argument: 'DUR', help: 'only groups without members that have left a record unread for so long' },
    { long: 'lagging', help: 'only groups with unread records' },
    { long: 'fail-empty', help: 'exit 3 if there is none' },
    ...rowOptions,
  ],
  columns: shape.columns,
  examples: [
    { line: 'stream groups list' },
    { line: 'stream groups list --lagging --json | jq -r .group' },
  ],
  exits: [[3, 'a group given by its name is unknown'], [7, 'a broker does not answer; the rows are printed']],
}

export function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const { flags, operands } = args
  const inactiveMs = flags.durationMs('inactive')
  const state = readState(flags)
  return withGroups(deps, args, async (session) => {
    const failures = new TargetFailures(deps)
    const found = await findGroups(session.groups, operands.length > 0 ? operands : ['*'], {
      add: (error, target) => {
        // Without arguments no group at all is no failure.
        if (operands.length > 0) failures.add(error, target)
      },
    } as TargetFailures)
    const rows: Row[] = []
    const unanswered = new Unanswered()
    for (const group of found) {
      if (state !== undefined && group.state.toLowerCase() !== state) continue
      if (inactiveMs !== undefined && group.members.length > 0) continue
      const wantsSeconds = inactiveMs !== undefined
      const lags = await lagRows(deps, session, group, { wantsSeconds, unanswered })
      const lag = sumLag(lags)
      tellBehindEnd(deps, group.groupId, lags)
      if (flags.has('lagging') && (lag ?? 0) === 0) continue
      if (inactiveMs !== undefined && (oldestMs(lags) ?? 0) < inactiveMs) continue
      rows.push([group.groupId, group.state, group.members.length, lag])
    }
    await printRows(deps, flags, shape, rows)
    for (const error of unanswered.errors()) failures.add(error)
    if (failures.exit !== 0) return failures.exit
    return rows.length === 0 && flags.has('fail-empty') ? 3 : 0
  })
}

/** In any case of letters. @throws UsageError */
function readState(flags: Flags): string | undefined {
  const text = flags.text('state')
  const state = text?.toLowerCase()
  if (text === undefined || STATES.some((each) => each.toLowerCase() === state)) return state
  const nearest = nearestName(text, STATES)
  throw new UsageError(
    `--state ${text}: must be one of ${STATES.join(', ')}`,
    nearest === undefined ? undefined : `did you mean ${nearest}?`,
  )
}
