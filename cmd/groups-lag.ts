/** `stream groups lag`: how far groups are behind, also as a test for scripts. */

import { StreamError } from '../src/base/errors.ts'
import { sleep } from '../src/ports/time.ts'
import type { Row, RowShape } from '../src/text/rows.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import type { Flags } from './flags.ts'
import {
  findGroups,
  type GroupsSession,
  type LagRow,
  lagRows,
  oldestSeconds,
  requireGroups,
  sumLag,
  tellBehindEnd,
  withGroups,
} from './groups-shared.ts'
import { type CommandSpec, rowOptions } from './option-table.ts'
import { printRows } from './row-output.ts'
import { TargetFailures } from './topics-shared.ts'
import { Unanswered } from './unanswered.ts'

export const lagShape: RowShape = { kind: 'lag', columns: ['GROUP', 'TOPIC', 'LAG', 'SECONDS'] }
const WAIT_PAUSE_MS = 500

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'groups lag',
  summary: 'Tell how many records consumer groups have not read yet',
  description: ['One row for each topic; with --total one for each group, whose TOPIC is -. SECONDS is the age of the oldest unread record. LAG is below 0 where the group has committed more than there is: records were lost, or the topic was created anew.'],
  operands: [{ name: 'GROUP', isRepeatable: true }],
  options: [
    { long: 'total', help: 'the sum over all topics' },
    { long: 'fail-above', argument: 'N', help: 'exit 1 if a group has more than N unread records' },
    { long: 'wait-until', argument: 'N', help: 'wait until every group has at most N unread records, and every member has committed; 7 if --timeout comes first' },
    ...rowOptions,
  ],
  columns: lagShape.columns,
  examples: [
    { line: 'stream groups lag nightly' },
    { line: 'stream groups lag nightly --wait-until 0 --timeout 5m' },
    { line: "stream groups lag 'etl-*' --total --fail-above 10000" },
  ],
  exits: [
    [1, 'a group is further behind than --fail-above'],
    [3, 'no such group'],
    [5, '--wait-until, and a group has committed more than there is (LAG below 0)'],
    [7, '--timeout came before --wait-until was reached, or a broker does not answer; the rows are printed'],
  ],
}

export function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  requireGroups(args, spec.name)
  return withGroups(deps, args, (session) =>
    reportLag(
      deps,
      args.flags,
      lagShape,
      (failures, unanswered) => lagsOf(deps, session, args.operands, failures, unanswered),
      (lags) => {
        for (const [group, { rows }] of lags) tellBehindEnd(deps, group, rows)
      },
    ),
  )
}

export interface GroupLag {
  readonly rows: readonly LagRow[]
  /** It has members, nothing is committed, and nothing is given to them yet: how far they are nobody knows. */
  readonly isAssigning: boolean
}

/**
 * Prints lags, once they are as --wait-until wants them, and judges them by --fail-above.
 * @param read  rows by name; what cannot be told goes to the failures, or is unanswered and may be told the next time
 * @throws StreamError TIMED_OUT: not so within --timeout
 */
export async function reportLag(
  deps: CommandDeps,
  flags: Flags,
  shape: RowShape,
  read: (
    failures: TargetFailures,
    unanswered: Unanswered,
  ) => Promise<ReadonlyMap<string, GroupLag>>,
  onPrinted?: (lags: ReadonlyMap<string, GroupLag>) => void,
): Promise<number> {
  const failAbove = flags.wholeNumber('fail-above')
  const waitUntil = flags.wholeNumber('wait-until')
  const timeoutMs = flags.durationMs('timeout')
  const deadlineMs = deps.time.monotonicMs() + (timeoutMs ?? Number.POSITIVE_INFINITY)
  for (;;) {
    const failures = new TargetFailures(deps)
    const unanswered = new Unanswered()
    const lags = await read(failures, unanswered)
    const unknown = unanswered.errors()
    const worst = Math.max(0, ...[...lags.values()].map(({ rows }) => sumLag(rows) ?? 0))
    const untold = [...lags].filter(([, lag]) => isUntold(lag)).map(([group]) => group)
    const isKnown = untold.length === 0 && unknown.length === 0
    const isWithin = waitUntil === undefined || (worst <= waitUntil && isKnown)
    const isReached = isWithin || failures.exit !== 0
    const isLate = deps.time.monotonicMs() + WAIT_PAUSE_MS > deadlineMs
    if (!isReached && !isLate) {
      await sleep(deps.time, WAIT_PAUSE_MS)
      continue
    }
    await printRows(deps, flags, shape, toRows(lags, flags.has('total')))
    onPrinted?.(lags)
    for (const error of unknown) failures.add(error)
    if (!isReached) {
      throw new StreamError(
        'TIMED_OUT',
        `${worst} records unread${untoldWords(untold)}, not ${waitUntil}, after ${timeoutMs} ms`,
      )
    }
    if (failures.exit !== 0) return failures.exit
    // Never to be reached, and not read either.
    if (waitUntil !== undefined && [...lags.values()].some(isBehindEnd)) return 5
    return failAbove !== undefined && worst > failAbove ? 1 : 0
  }
}

function isBehindEnd({ rows }: GroupLag): boolean {
  return rows.some(({ lag }) => lag !== null && lag < 0)
}

function isUntold({ rows, isAssigning }: GroupLag): boolean {
  return isAssigning || rows.some((row) => row.isUntold)
}

function untoldWords([first]: readonly string[]): string {
  return first === undefined
    ? ''
    : ` besides what members of ${first} have committed nothing of yet`
}

export async function lagsOf(
  deps: CommandDeps,
  session: GroupsSession,
  operands: readonly string[],
  failures: TargetFailures,
  unanswered: Unanswered,
): Promise<ReadonlyMap<string, GroupLag>> {
  const lags = new Map<string, GroupLag>()
  for (const group of await findGroups(session.groups, operands, failures)) {
    const rows = await lagRows(deps, session, group, { wantsSeconds: true, unanswered })
    lags.set(group.groupId, { rows, isAssigning: rows.length === 0 && group.members.length > 0 })
  }
  return lags
}

export function toRows(lags: ReadonlyMap<string, GroupLag>, isTotal: boolean): Row[] {
  const rows: Row[] = []
  for (const [group, { rows: partitions }] of lags) {
    if (isTotal) {
      rows.push([group, null, sumLag(partitions), oldestSeconds(partitions)])
      continue
    }
    for (const topic of new Set(partitions.map((each) => each.topic))) {
      const ofTopic = partitions.filter((each) => each.topic === topic)
      rows.push([group, topic, sumLag(ofTopic), oldestSeconds(ofTopic)])
    }
  }
  return rows
}
