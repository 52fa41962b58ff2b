/** `stream topics list`. */

import type { ConfigDescription } from '../src/client/admin.ts'
import type { TopicInfo } from '../src/client/metadata-cache.ts'
import { isUnderMinInSync, isUnderReplicated } from '../src/client/partition-health.ts'
import type { Row, RowShape } from '../src/text/rows.ts'
import type { AdminClient } from './clients.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import type { Flags } from './flags.ts'
import { type CommandSpec, regexOption, rowOptions } from './option-table.ts'
import { printRows } from './row-output.ts'
import type { TableDisplay } from './table-fit.ts'
import {
  askBytes,
  askOffsets,
  findTopics,
  isInternalTopic,
  type OffsetTable,
  TargetFailures,
  withAdmin,
} from './topics-shared.ts'
import { Unanswered } from './unanswered.ts'

const shape: RowShape = {
  kind: 'topic',
  columns: ['NAME', 'PARTITIONS', 'REPLICAS', 'SPAN', 'BYTES', 'POLICY'],
}

const display: TableDisplay = {
  sizes: ['BYTES'],
  titles: { PARTITIONS: 'PARTS', REPLICAS: 'REPL' },
  shrink: ['NAME', 'POLICY'],
  drop: ['REPLICAS', 'POLICY'],
}

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'topics list',
  summary: 'List topics',
  description: ['SPAN is end minus start over all partitions, not a count of records. BYTES counts each partition once. Where a broker does not answer within 5 seconds, what only it knows is unknown (-), and the exit code tells.'],
  operands: [{ name: 'GLOB', isOptional: true, isRepeatable: true }],
  options: [
    { long: 'internal', help: 'internal topics too' },
    { long: 'under-replicated', help: 'only those with replicas that are not in sync' },
    { long: 'unavailable', help: 'only those with a partition that nobody leads' },
    { long: 'under-min-isr', help: 'only those with fewer in-sync replicas than min.insync.replicas' },
    { long: 'overrides', help: 'only those with settings of their own' },
    { long: 'empty', help: 'only those without records' },
    { long: 'inactive', argument: 'DUR', help: 'only those without a record for so long' },
    regexOption,
    { long: 'fail-empty', help: 'exit 3 if there is none' },
    ...rowOptions,
  ],
  columns: shape.columns,
  examples: [
    { line: 'stream topics list' },
    { line: "stream topics list 'orders*' --json | jq -r .name" },
  ],
  exits: [[3, 'a topic given by its name is unknown'], [7, 'a broker does not answer; the rows are printed']],
}

export function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const { flags } = args
  const inactiveMs = flags.durationMs('inactive')
  return withAdmin(deps, args, async ({ admin }) => {
    const failures = new TargetFailures(deps)
    const candidates =
      args.operands.length > 0
        ? await findTopics(admin, args, failures, { emptyIsFine: true })
        : (await admin.listTopics()).filter(
            (topic) => flags.has('internal') || !isInternalTopic(topic),
          )
    const topics = candidates.filter((topic) => hasState(topic, flags))
    const unanswered = new Unanswered()
    const facts = await askFacts(admin, topics, inactiveMs !== undefined, unanswered)
    const oldestMs = inactiveMs === undefined ? undefined : deps.time.wallMs() - inactiveMs
    const wanted = topics.filter((topic) => isWanted(topic, flags, facts, oldestMs))
    await printRows(
      deps,
      flags,
      shape,
      wanted.map((topic) => rowOf(topic, facts)),
      display,
    )
    for (const error of unanswered.errors()) failures.add(error)
    if (failures.exit !== 0) return failures.exit
    return wanted.length === 0 && flags.has('fail-empty') ? 3 : 0
  })
}

interface Facts {
  readonly start: OffsetTable
  readonly end: OffsetTable
  readonly bytes: OffsetTable
  /** Latest timestamps; only asked for when needed. */
  readonly latestMs: OffsetTable | undefined
  readonly configs: ReadonlyMap<string, ConfigDescription>
  readonly unanswered: Unanswered
}

async function askFacts(
  admin: AdminClient,
  topics: readonly TopicInfo[],
  wantsTimes: boolean,
  unanswered: Unanswered,
): Promise<Facts> {
  const [start, end, bytes, configs, latestMs] = await Promise.all([
    askOffsets(admin, topics, 'earliest', { unanswered }),
    askOffsets(admin, topics, 'latest', { isUncommitted: true, unanswered }),
    askBytes(admin, topics, unanswered),
    topics.length === 0
      ? []
      : admin.describeConfigs(topics.map(({ name }) => ({ kind: 'topic', name }))),
    wantsTimes
      ? askOffsets(admin, topics, 'maxTimestamp', { wantsTimestamp: true, unanswered })
      : undefined,
  ])
  const byName = new Map(configs.map((description) => [description.name, description]))
  return { start, end, bytes, latestMs, configs: byName, unanswered }
}

function hasState(topic: TopicInfo, flags: Flags): boolean {
  const { partitions } = topic
  if (flags.has('under-replicated') && !partitions.some(isUnderReplicated)) return false
  return !flags.has('unavailable') || partitions.some((row) => row.leaderId < 0)
}

function isWanted(
  topic: TopicInfo,
  flags: Flags,
  facts: Facts,
  oldestMs: number | undefined,
): boolean {
  const configs = facts.configs.get(topic.name)?.configs ?? []
  if (flags.has('under-min-isr')) {
    const text = configs.find(({ name }) => name === 'min.insync.replicas')?.value
    const least = Number(text ?? 1)
    if (!topic.partitions.some((row) => isUnderMinInSync(row, least))) return false
  }
  if (flags.has('overrides') && configs.every(({ origin }) => origin !== 'topic')) return false
  if (flags.has('empty') && spanOf(topic, facts) !== 0) return false
  const { latestMs } = facts
  if (oldestMs === undefined || latestMs === undefined) return true
  // What is not known may have been written to just now.
  return topic.partitions.every(
    ({ partition }) =>
      !facts.unanswered.has(topic.name, partition) &&
      (latestMs(topic.name, partition) ?? -1) < oldestMs,
  )
}

function rowOf(topic: TopicInfo, facts: Facts): Row {
  const policy = facts.configs
    .get(topic.name)
    ?.configs.find(({ name }) => name === 'cleanup.policy')?.value
  return [
    topic.name,
    topic.partitions.length,
    topic.partitions[0]?.replicas.length ?? 0,
    spanOf(topic, facts),
    sumOf(topic, facts.bytes),
    policy ?? null,
  ]
}

function spanOf(topic: TopicInfo, { start, end }: Facts): number | null {
  const ends = sumOf(topic, end)
  const starts = sumOf(topic, start)
  return ends === null || starts === null ? null : ends - starts
}

/** null where it is not known of every partition. */
function sumOf(topic: TopicInfo, table: OffsetTable): number | null {
  let sum = 0
  for (const { partition } of topic.partitions) {
    const value = table(topic.name, partition)
    if (value === undefined) return null
    sum += value
  }
  return sum
}
