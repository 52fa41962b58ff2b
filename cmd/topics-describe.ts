/** `stream topics describe`. */

import type { TopicInfo } from '../src/client/metadata-cache.ts'
import type { Row, RowShape } from '../src/text/rows.ts'
import type { AdminClient, ClusterAdminClient } from './clients.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { type CommandSpec, regexOption, rowOptions } from './option-table.ts'
import { printRows, printText, rowForm } from './row-output.ts'
import type { TableDisplay } from './table-fit.ts'
import {
  askBytes,
  askOffsets,
  findTopics,
  type OffsetTable,
  requireNames,
  TargetFailures,
  withAdmin,
} from './topics-shared.ts'
import { Unanswered } from './unanswered.ts'

const shape: RowShape = {
  kind: 'partition',
  columns: [
    'TOPIC',
    'PARTITION',
    'LEADER',
    'EPOCH',
    'REPLICAS',
    'ISR',
    'START',
    'STABLE',
    'END',
    'BYTES',
    'ELR',
    'OFFLINE',
  ],
}
const display: TableDisplay = {
  sizes: ['BYTES'],
  titles: { PARTITION: 'PART', REPLICAS: 'REPL' },
  drop: ['ELR', 'OFFLINE', 'EPOCH', 'STABLE', 'REPLICAS', 'ISR', 'START', 'LEADER'],
}
const configShape: RowShape = { kind: 'config', columns: ['TOPIC', 'KEY', 'VALUE', 'ORIGIN'] }

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'topics describe',
  summary: 'Describe the partitions or the settings of topics',
  description: [
    'ISR: replicas in sync. ELR: eligible leaders, complete though not in sync (KIP-966). OFFLINE: replicas whose broker or disk is down.',
    'With --json one object a topic, with its settings and partitions.',
    'Where a broker does not answer within 5 seconds, what only it knows is unknown (-, in JSON null), and the exit code tells.',
  ],
  operands: [{ name: 'NAME', isRepeatable: true }],
  options: [
    { long: 'config', help: 'all settings with their origin' },
    regexOption,
    ...rowOptions,
  ],
  columns: shape.columns,
  examples: [
    { line: 'stream topics describe orders' },
    { line: 'stream topics describe orders --config' },
    { line: "stream topics describe 'orders*' --json > topics.ndjson" },
  ],
  exits: [[3, 'no such topic'], [7, 'a broker does not answer; the rows are printed']],
}

export function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  requireNames(args, spec.name)
  return withAdmin(deps, args, async ({ admin, broker }) => {
    const failures = new TargetFailures(deps)
    const topics = await findTopics(admin, args, failures)
    if (topics.length === 0) return failures.exit
    const askEligible = async (): Promise<EligibleTable> =>
      eligibleTable(await deps.clients.clusterAdmin(broker.cluster), topics)
    const unanswered = new Unanswered()
    const askAll = () => askFacts(admin, topics, askEligible, unanswered)
    if (rowForm(deps, args.flags) === 'json') await printObjects(deps, admin, topics, askAll)
    else if (args.flags.has('config')) await printConfigs(deps, args, admin, topics, failures)
    else await printPartitions(deps, args, topics, askAll)
    for (const error of unanswered.errors()) failures.add(error)
    return failures.exit
  })
}

interface Facts {
  readonly start: OffsetTable
  readonly stable: OffsetTable
  readonly end: OffsetTable
  readonly bytes: OffsetTable
  readonly eligible: EligibleTable
}

/** Eligible leaders of a partition; null where the broker does not tell. */
type EligibleTable = (topic: string, partition: number) => readonly number[] | null

async function eligibleTable(
  cluster: ClusterAdminClient,
  topics: readonly TopicInfo[],
): Promise<EligibleTable> {
  const rows = await cluster.eligibleReplicas(topics.map(({ name }) => name))
  const table = new Map(rows?.map((row) => [`${row.topic}/${row.partition}`, row.eligible]))
  return (topic, partition) => table.get(`${topic}/${partition}`) ?? null
}

async function askFacts(
  admin: AdminClient,
  topics: readonly TopicInfo[],
  askEligible: () => Promise<EligibleTable>,
  unanswered: Unanswered,
): Promise<Facts> {
  const [start, stable, end, bytes, eligible] = await Promise.all([
    askOffsets(admin, topics, 'earliest', { unanswered }),
    askOffsets(admin, topics, 'latest', { unanswered }),
    askOffsets(admin, topics, 'latest', { isUncommitted: true, unanswered }),
    askBytes(admin, topics, unanswered),
    askEligible(),
  ])
  return { start, stable, end, bytes, eligible }
}

async function printPartitions(
  deps: CommandDeps,
  args: CommandArgs,
  topics: readonly TopicInfo[],
  askAll: () => Promise<Facts>,
): Promise<void> {
  const facts = await askAll()
  const rows = topics.flatMap((topic) => partitionRows(topic, facts))
  await printRows(deps, args.flags, shape, rows, display)
}

function partitionRows(topic: TopicInfo, facts: Facts): Row[] {
  return topic.partitions.map((row) => [
    topic.name,
    row.partition,
    row.leaderId < 0 ? null : row.leaderId,
    row.leaderEpoch < 0 ? null : row.leaderEpoch,
    row.replicas,
    row.inSyncReplicas,
    facts.start(topic.name, row.partition) ?? null,
    facts.stable(topic.name, row.partition) ?? null,
    facts.end(topic.name, row.partition) ?? null,
    facts.bytes(topic.name, row.partition) ?? null,
    facts.eligible(topic.name, row.partition),
    row.offlineReplicas,
  ])
}

async function printConfigs(
  deps: CommandDeps,
  args: CommandArgs,
  admin: AdminClient,
  topics: readonly TopicInfo[],
  failures: TargetFailures,
): Promise<void> {
  const described = await admin.describeConfigs(topics.map(({ name }) => ({ kind: 'topic', name })))
  const rows: Row[] = []
  for (const { name, configs, error } of described) {
    if (error !== undefined) failures.add(error, name)
    for (const config of configs) {
      const value = config.isSensitive ? '***' : config.value
      rows.push([name, config.name, value, config.origin])
    }
  }
  await printRows(deps, args.flags, configShape, rows, {
    shrink: ['VALUE', 'TOPIC'],
    drop: ['TOPIC'],
  })
}

/** One object a topic: `name`, `partitions`, `replicas`, `config` are what would make it anew. */
async function printObjects(
  deps: CommandDeps,
  admin: AdminClient,
  topics: readonly TopicInfo[],
  askAll: () => Promise<Facts>,
): Promise<void> {
  const [facts, described] = await Promise.all([
    askAll(),
    admin.describeConfigs(topics.map(({ name }) => ({ kind: 'topic', name }))),
  ])
  const lines = topics.map((topic, index) => {
    const configs = described[index]?.configs ?? []
    const object = {
      v: 1,
      kind: 'topic',
      name: topic.name,
      id: topic.topicId,
      partitions: topic.partitions.length,
      replicas: topic.partitions[0]?.replicas.length ?? 0,
      config: Object.fromEntries(
        configs.flatMap(({ name, value, origin, isSensitive }) =>
          origin === 'topic' && !isSensitive ? [[name, value]] : [],
        ),
      ),
      settings: configs.map(({ name, value, origin, isSensitive }) => ({
        key: name,
        value: isSensitive ? '***' : value,
        origin,
      })),
      detail: topic.partitions.map((row) => ({
        partition: row.partition,
        leader: row.leaderId < 0 ? null : row.leaderId,
        epoch: row.leaderEpoch < 0 ? null : row.leaderEpoch,
        replicas: row.replicas,
        isr: row.inSyncReplicas,
        start: facts.start(topic.name, row.partition) ?? null,
        stable: facts.stable(topic.name, row.partition) ?? null,
        end: facts.end(topic.name, row.partition) ?? null,
        bytes: facts.bytes(topic.name, row.partition) ?? null,
        elr: facts.eligible(topic.name, row.partition),
        offline: row.offlineReplicas,
      })),
    }
    return `${JSON.stringify(object)}\n`
  })
  await printText(deps.stdio.output, lines.join(''))
}
