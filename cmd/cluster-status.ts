/** `stream cluster status`: the cluster on one screen; exit 1 where partitions cannot be read or written. */

import type { Row, RowShape } from '../src/text/rows.ts'
import {
  type ClusterView,
  type Health,
  healthOf,
  lookAtCluster,
  refuseOperands,
  warnIfStale,
  withCluster,
} from './cluster-shared.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { type CommandSpec, rowOptions } from './option-table.ts'
import { printRows, rowForm } from './row-output.ts'

const shape: RowShape = {
  kind: 'cluster',
  columns: [
    'ID',
    'CONTROLLER',
    'BROKERS',
    'TOPICS',
    'UNDER_REPLICATED',
    'UNAVAILABLE',
    'KNOWN',
    'PARTITIONS',
    'UNDER_MIN_ISR',
    'NOT_PREFERRED',
    'MOVING',
  ],
}
const screenShape: RowShape = { kind: 'cluster', columns: ['WHAT', 'NOW', 'NOTE'] }

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'cluster status',
  summary: 'Tell how the cluster does',
  description: [
    'BROKERS are those that live, KNOWN those that are registered or have replicas. UNAVAILABLE counts partitions that nobody leads, UNDER_MIN_ISR those that refuse records with acks=all, NOT_PREFERRED those that another replica leads than the first one, MOVING those on their way to other brokers. Internal topics count.',
    'Exit 1 if any partition is unavailable or under its min.insync.replicas, or if no broker is the controller: so it is too where the session of the daemon that is asked with the metadata store (etcd) has run out, for then it does not know. What else may be wrong, and what to do: stream cluster doctor.',
  ],
  operands: [],
  options: rowOptions,
  columns: shape.columns,
  examples: [
    { line: 'stream cluster status' },
    { line: 'stream cluster status --json | jq .under_replicated' },
  ],
  exits: [[1, 'partitions are unavailable, or under min.insync.replicas; or no broker is the controller, or the daemon has lost the metadata store']],
}

export function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  refuseOperands(args)
  return withCluster(deps, args, async (session) => {
    const view = await lookAtCluster(session)
    const health = healthOf(view)
    if (rowForm(deps, args.flags) === 'table') {
      await printRows(deps, args.flags, screenShape, screenRows(view, health))
    } else await printRows(deps, args.flags, shape, [statusRow(view, health)])
    warnIfStale(deps, view)
    const isHeadless = view.overview.controllerId < 0 || view.store?.isLost === true
    return health.unavailable + health.underMinInSync === 0 && !isHeadless ? 0 : 1
  })
}

function statusRow(view: ClusterView, health: Health): Row {
  const { overview, brokers, topics, moves } = view
  return [
    overview.clusterId ?? null,
    overview.controllerId < 0 ? null : overview.controllerId,
    brokers.filter(({ state }) => state === 'live').length,
    topics.length,
    health.underReplicated,
    health.unavailable,
    brokers.length,
    health.partitions,
    health.underMinInSync,
    health.notPreferred,
    moves?.length ?? null,
  ]
}

function storeRow({ store }: ClusterView): Row[] {
  if (store === undefined) return []
  const held = store.isReadOnly ? 'read-only' : 'silent'
  const state = store.isLost ? 'lost' : store.trouble === undefined ? 'answers' : held
  return [['store', state, store.trouble ?? '']]
}

function screenRows(view: ClusterView, health: Health): Row[] {
  const { overview, brokers, topics, moves } = view
  const missing = brokers.filter(({ state }) => state !== 'live')
  const live = brokers.length - missing.length
  const named = missing.map(({ nodeId, state }) => `broker ${nodeId} is ${state}`).join(', ')
  const count = (what: string, value: number, note: string): Row => [
    what,
    String(value),
    value === 0 ? '' : note,
  ]
  const controller = overview.controllerId
  return [
    ['cluster', overview.clusterId ?? '-', ''],
    controller < 0
      ? ['controller', 'none', 'nothing can be created, elected or moved']
      : ['controller', `broker ${controller}`, ''],
    ['brokers', `${live} of ${brokers.length}`, named],
    ...storeRow(view),
    ['topics', String(topics.length), ''],
    ['partitions', String(health.partitions), ''],
    count('unavailable', health.unavailable, 'nobody leads them'),
    count('under min ISR', health.underMinInSync, 'they refuse records with acks=all'),
    count('under-replicated', health.underReplicated, 'stream topics list --under-replicated'),
    count('not preferred', health.notPreferred, 'stream cluster elect'),
    moves === undefined ? ['moving', '-', ''] : count('moving', moves.length, 'to other brokers'),
  ]
}
