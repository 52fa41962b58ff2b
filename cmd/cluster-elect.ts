/** `stream cluster elect`: gives the lead back to preferred replicas, or with --unclean to any that lives; that one asks. */

import type { PartitionName } from '../src/client/cluster-admin.ts'
import type { PartitionInfo, TopicInfo } from '../src/client/metadata-cache.ts'
import { isLedByOther } from '../src/client/partition-health.ts'
import { sleep } from '../src/ports/time.ts'
import type { Row, RowShape } from '../src/text/rows.ts'
import { type ClusterSession, refuseOperands, withCluster } from './cluster-shared.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import {
  type CommandSpec,
  changeOptions,
  regexOption,
  rowOptions,
  yesOption,
} from './option-table.ts'
import { confirm } from './prompt.ts'
import { printRows } from './row-output.ts'
import { findTopics, TargetFailures } from './topics-shared.ts'

const shape: RowShape = { kind: 'election', columns: ['TOPIC', 'PARTITION', 'OLD', 'NEW'] }
/** The news of an election takes a moment to reach the broker that is asked. */
const NEWS_MS_MAX = 5000
const NEWS_POLL_MS = 100

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'cluster elect',
  summary: 'Give the lead of partitions back to their preferred replicas',
  description: [
    'The preferred replica is the first one of a partition; after a failure or a restart others lead. Only partitions that another one leads are touched; records are not at risk.',
    '--unclean elects for partitions that nobody leads, whichever replica lives. What only the others have is lost, and was perhaps acknowledged. Asks first.',
    'OLD and NEW are brokers; - is none.',
  ],
  operands: [],
  options: [
    { long: 'topics', argument: 'GLOB', isRepeatable: true, help: 'only partitions of these topics' },
    { long: 'partition', short: 'p', argument: 'LIST', help: 'only these partitions: 0,2-4' },
    { long: 'unclean', help: 'elect for partitions without a leader, and accept that records are lost' },
    regexOption,
    yesOption,
    ...changeOptions,
    ...rowOptions,
  ],
  columns: shape.columns,
  examples: [
    { line: 'stream cluster elect' },
    { line: "stream cluster elect --topics 'orders*' --dry-run" },
  ],
  exits: [
    [1, 'a partition could not be given a leader'],
    [2, 'refused for want of -y'],
    [3, 'no such topic'],
  ],
}

interface Candidate extends PartitionName {
  readonly old: number | null
  readonly wanted: number | null
}

export function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  refuseOperands(args)
  const { flags } = args
  const isUnclean = flags.has('unclean')
  const wanted = flags.partitions('partition')
  return withCluster(deps, args, async (session) => {
    const failures = new TargetFailures(deps)
    const topics = await topicsOf(session, args, failures)
    const needs = isUnclean ? ({ leaderId }: PartitionInfo) => leaderId < 0 : isLedByOther
    const candidates = topics.flatMap(({ name, partitions }) =>
      partitions.flatMap((row): Candidate[] => {
        if (!needs(row) || wanted?.includes(row.partition) === false) return []
        const old = row.leaderId < 0 ? null : row.leaderId
        const next = isUnclean ? null : (row.replicas[0] ?? null)
        return [{ topic: name, partition: row.partition, old, wanted: next }]
      }),
    )
    const plan = candidates.map((each): Row => [each.topic, each.partition, each.old, each.wanted])
    if (candidates.length === 0 || flags.has('dry-run')) {
      await printRows(deps, flags, shape, plan)
      return failures.exit
    }
    const question = `elect leaders of ${candidates.length} partitions though records may be lost?`
    if (isUnclean && !(await confirm(deps, flags, question, 'y', { shape, rows: plan }))) {
      deps.console.warn('nothing elected')
      return 1
    }
    const kind = isUnclean ? 'unclean' : 'preferred'
    const elected: Candidate[] = []
    for (const [index, outcome] of (
      await session.cluster.electLeaders(kind, candidates)
    ).entries()) {
      const candidate = candidates[index]
      if (outcome.error !== undefined) failures.add(outcome.error, outcome.topic)
      else if (candidate !== undefined) elected.push(candidate)
    }
    await printRows(deps, flags, shape, await newLeaders(deps, session, elected))
    return failures.exit
  })
}

async function topicsOf(
  { admin }: ClusterSession,
  args: CommandArgs,
  failures: TargetFailures,
): Promise<readonly TopicInfo[]> {
  const operands = args.flags.all('topics')
  return operands.length === 0
    ? admin.listTopics()
    : findTopics(admin, { ...args, operands }, failures)
}

/** Who leads now, once it is another one than before. */
async function newLeaders(
  deps: CommandDeps,
  { admin }: ClusterSession,
  elected: readonly Candidate[],
): Promise<Row[]> {
  const deadlineMs = deps.time.monotonicMs() + NEWS_MS_MAX
  const names = [...new Set(elected.map(({ topic }) => topic))]
  for (;;) {
    const topics = new Map(
      (names.length === 0 ? [] : await admin.describeTopics(names)).map((row) => [row.name, row]),
    )
    const rows = elected.map(({ topic, partition, old, wanted }) => {
      const leaderId = topics.get(topic)?.partitions[partition]?.leaderId ?? -1
      const now = leaderId < 0 ? null : leaderId
      const isNews = wanted === null ? now !== old : now === wanted
      return { isNews, row: [topic, partition, old, now] satisfies Row }
    })
    if (rows.every(({ isNews }) => isNews) || deps.time.monotonicMs() > deadlineMs) {
      return rows.map(({ row }) => row)
    }
    await sleep(deps.time, NEWS_POLL_MS)
  }
}
