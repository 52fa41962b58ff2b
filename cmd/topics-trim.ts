/** `stream topics trim`: deletes the oldest records of topics; prints its plan and asks. */

import { UsageError } from '../src/base/errors.ts'
import type { TrimOrder } from '../src/client/admin.ts'
import type { TopicInfo } from '../src/client/metadata-cache.ts'
import { type Positions, parsePositions } from '../src/text/position.ts'
import type { Row, RowShape } from '../src/text/rows.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import type { Flags } from './flags.ts'
import {
  type CommandSpec,
  changeOptions,
  regexOption,
  rowOptions,
  yesOption,
} from './option-table.ts'
import { confirm } from './prompt.ts'
import { resolveRanges } from './read-range.ts'
import { printRows } from './row-output.ts'
import { unknownPartition } from './topic-names.ts'
import { askOffsets, findTopics, requireNames, TargetFailures, withAdmin } from './topics-shared.ts'

const shape: RowShape = { kind: 'partition', columns: ['TOPIC', 'PARTITION', 'OLD', 'NEW'] }

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'topics trim',
  summary: 'Delete the oldest records of topics',
  description: ['Deletes the records before a position, or all but the last N of each partition. OLD and NEW are where the log starts. Asks first.'],
  operands: [{ name: 'NAME', isRepeatable: true }],
  options: [
    { long: 'to', argument: 'POS', help: 'the first record that stays' },
    { long: 'keep', argument: 'N', help: 'so many records of each partition stay' },
    { long: 'partition', short: 'p', argument: 'LIST', help: 'only these partitions: 0,2-4' },
    regexOption,
    yesOption,
    ...changeOptions,
    ...rowOptions,
  ],
  columns: shape.columns,
  examples: [
    { line: 'stream topics trim clicks --to yesterday --dry-run' },
    { line: 'stream topics trim clicks --keep 1000000 -y' },
  ],
  exits: [
    [2, 'refused for want of -y'],
    [3, 'no such topic or partition'],
  ],
}

export function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  requireNames(args, spec.name)
  const { flags } = args
  const target = readTarget(flags, deps.time.wallMs())
  const wanted = flags.partitions('partition')
  return withAdmin(deps, args, async ({ admin }) => {
    const failures = new TargetFailures(deps)
    const topics = await findTopics(admin, args, failures)
    for (const topic of topics) requirePartitions(topic, target, wanted)
    const partitions = topics.flatMap(({ name, partitions: rows }) =>
      rows.flatMap(({ partition }) =>
        (wanted?.includes(partition) ?? true) ? [{ topic: name, partition }] : [],
      ),
    )
    const [ranges, starts] = await Promise.all([
      resolveRanges(partitions, target, undefined, (questions) => admin.listOffsets(questions)),
      askOffsets(admin, topics, 'earliest'),
    ])
    const orders = ranges.flatMap(({ topic, partition, startOffset }): TrimOrder[] => {
      const start = starts(topic, partition) ?? 0
      return startOffset > start ? [{ topic, partition, beforeOffset: startOffset }] : []
    })
    const rowOf = ({ topic, partition }: TrimOrder, to: number): Row => [
      topic,
      partition,
      starts(topic, partition) ?? null,
      to,
    ]
    if (orders.length === 0) return failures.exit
    const plan = orders.map((order) => rowOf(order, order.beforeOffset))
    if (flags.has('dry-run')) {
      await printRows(deps, flags, shape, plan)
      return failures.exit
    }
    const records = orders.reduce(
      (sum, order) => sum + order.beforeOffset - (starts(order.topic, order.partition) ?? 0),
      0,
    )
    const question = `delete the offsets before the new starts, ${records} in ${orders.length} partitions?`
    if (!(await confirm(deps, flags, question, 'y', { shape, rows: plan }))) {
      deps.console.warn('nothing deleted')
      return 1
    }
    const rows: Row[] = []
    for (const outcome of await admin.deleteRecords(orders)) {
      if (outcome.error !== undefined) failures.add(outcome.error, outcome.topic)
      else rows.push(rowOf(outcome, outcome.logStartOffset))
    }
    await printRows(deps, flags, shape, rows)
    return failures.exit
  })
}

/** Nothing is deleted where a partition is named that is not there. @throws StreamError TOPIC_UNKNOWN */
function requirePartitions(
  { name, partitions }: TopicInfo,
  { places }: Positions,
  wanted: readonly number[] | undefined,
): void {
  const placed = places.filter(({ topic }) => topic === undefined || topic === name)
  const named = [...(wanted ?? []), ...placed.map(({ partition }) => partition)]
  const missing = named.find((partition) => partition >= partitions.length)
  if (missing !== undefined) throw unknownPartition(name, missing, partitions.length)
}

function readTarget(flags: Flags, nowMs: number): Positions {
  flags.exclusive('to', 'keep')
  const keep = flags.wholeNumber('keep')
  if (keep !== undefined) return { all: { kind: 'before-end', count: keep }, places: [] }
  const text = flags.text('to')
  if (text === undefined) throw new UsageError('give --to POS or --keep N')
  const positions = parsePositions(text, nowMs)
  if (positions === undefined) {
    throw new UsageError(`--to ${text}: must be a position such as end, 1000, -5000, yesterday`)
  }
  // Partitions that are not named keep what they have.
  return positions.all === undefined ? { ...positions, all: { kind: 'start' } } : positions
}
