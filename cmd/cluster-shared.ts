/** What the verbs of `stream cluster` share: one look at brokers and partitions, and what is wrong with it in numbers. */

import { isStreamError, StreamError, UsageError } from '../src/base/errors.ts'
import type { BrokerStorage, ClusterOverview, Reassignment } from '../src/client/cluster-admin.ts'
import type { PartitionInfo, TopicInfo } from '../src/client/metadata-cache.ts'
import {
  isLedByOther,
  isUnderMinInSync,
  isUnderReplicated,
} from '../src/client/partition-health.ts'
import type { PlanPartition } from '../src/client/replica-plan.ts'
import { type Broker, openBroker } from './broker.ts'
import type { AdminClient, ClusterAdminClient } from './clients.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { askStoreContact, type StoreContact } from './store-contact.ts'

export interface ClusterSession {
  readonly broker: Broker
  readonly admin: AdminClient
  readonly cluster: ClusterAdminClient
}

/** For one broker's answer about its files. */
export const STORAGE_MS_MAX = 5000

/** Opens the broker for one verb and closes it after. */
export async function withCluster(
  deps: CommandDeps,
  args: CommandArgs,
  use: (session: ClusterSession) => Promise<number>,
): Promise<number> {
  const broker = await openBroker(deps, args)
  try {
    const admin = await deps.clients.admin(broker.cluster)
    return await use({ broker, admin, cluster: await deps.clients.clusterAdmin(broker.cluster) })
  } finally {
    broker.cluster.close()
  }
}

export type BrokerState = 'live' | 'fenced' | 'gone'

export interface KnownBroker {
  readonly nodeId: number
  readonly address: string | null
  readonly rack: string | null
  /** `fenced`: registered, and takes no part; `gone`: has replicas, and nothing is known of it. */
  readonly state: BrokerState
}

export interface ClusterView {
  readonly overview: ClusterOverview
  readonly brokers: readonly KnownBroker[]
  /** All, internal ones too. */
  readonly topics: readonly TopicInfo[]
  /** By topic, as configured. */
  readonly minInSync: ReadonlyMap<string, number>
  /** undefined: the broker does not tell. */
  readonly moves: readonly Reassignment[] | undefined
  /** Of the daemon that was asked: whether all this is of now. undefined: it does not tell. */
  readonly store: StoreContact | undefined
}

export async function lookAtCluster({ admin, cluster }: ClusterSession): Promise<ClusterView> {
  const [overview, topics, moves, store] = await Promise.all([
    cluster.describe(),
    admin.listTopics(),
    cluster.reassignments().catch(ifUntold),
    askStoreContact(admin),
  ])
  return {
    overview,
    brokers: knownBrokers(overview, topics),
    topics,
    minInSync: await askMinInSync(admin, topics),
    moves,
    store,
  }
}

/** One line where what is shown may be old. */
export function warnIfStale({ console }: CommandDeps, { store }: ClusterView): void {
  if (store?.trouble === undefined) return
  const held = store.isReadOnly
    ? 'no topic can be made, no lead can move'
    : 'what is shown may be late'
  const consequence = store.isLost ? 'what is shown may be old' : held
  console.warn(`the metadata store is ${store.trouble}; ${consequence}`)
}

/** What a broker will not or cannot tell is unknown, and no failure. */
export function ifUntold(error: unknown): undefined {
  const isUntold =
    isStreamError(error, 'NOT_ALLOWED') || isStreamError(error, 'UNSUPPORTED_BY_BROKER')
  if (!isUntold) throw error
}

export async function askMinInSync(
  admin: AdminClient,
  topics: readonly TopicInfo[],
): Promise<Map<string, number>> {
  const least = new Map<string, number>()
  if (topics.length === 0) return least
  const resources = topics.map(({ name }) => ({ kind: 'topic', name }) as const)
  const described = await admin.describeConfigs(resources, { keys: ['min.insync.replicas'] })
  for (const { name, configs } of described) {
    const text = configs.find((config) => config.name === 'min.insync.replicas')?.value
    least.set(name, Number(text ?? 1))
  }
  return least
}

function knownBrokers(
  { brokers }: ClusterOverview,
  topics: readonly TopicInfo[],
): readonly KnownBroker[] {
  const known = new Map<number, KnownBroker>()
  for (const { nodeId, address, rack, isFenced, host } of brokers) {
    const state = isFenced === true ? 'fenced' : 'live'
    known.set(nodeId, { nodeId, address: host === '' ? null : address, rack, state })
  }
  for (const { partitions } of topics) {
    for (const nodeId of partitions.flatMap(({ replicas }) => replicas)) {
      if (!known.has(nodeId))
        known.set(nodeId, { nodeId, address: null, rack: null, state: 'gone' })
    }
  }
  return [...known.values()].sort((a, b) => a.nodeId - b.nodeId)
}

// --- partitions

export interface Health {
  readonly partitions: number
  readonly unavailable: number
  readonly underReplicated: number
  readonly underMinInSync: number
  readonly notPreferred: number
}

export function healthOf({ topics, minInSync }: ClusterView): Health {
  const all = topics.flatMap(({ name, partitions }) => partitions.map((row) => ({ name, row })))
  const count = (holds: (row: PartitionInfo, name: string) => boolean): number =>
    all.filter(({ name, row }) => holds(row, name)).length
  return {
    partitions: all.length,
    unavailable: count(({ leaderId }) => leaderId < 0),
    underReplicated: count(isUnderReplicated),
    underMinInSync: count((row, name) => isUnderMinInSync(row, minInSync.get(name) ?? 1)),
    notPreferred: count(isLedByOther),
  }
}

// --- plans

/** Bytes of a partition on its fullest replica, 0 where nobody tells. */
export function sizeTable(storage: readonly BrokerStorage[]): (name: string) => number {
  const sizes = new Map<string, number>()
  for (const { topic, partition, bytes } of storage
    .flatMap(({ directories }) => directories)
    .flatMap(({ partitions }) => partitions)) {
    const name = `${topic}/${partition}`
    sizes.set(name, Math.max(bytes, sizes.get(name) ?? 0))
  }
  return (name) => sizes.get(name) ?? 0
}

export function planPartitions(
  topics: readonly TopicInfo[],
  bytesOf: (name: string) => number,
): PlanPartition[] {
  return topics.flatMap(({ name: topic, partitions }) =>
    partitions.map(({ partition, replicas, inSyncReplicas }) => ({
      topic,
      partition,
      replicas,
      inSync: inSyncReplicas,
      bytes: bytesOf(`${topic}/${partition}`),
    })),
  )
}

/** @throws StreamError NAME_UNKNOWN; CONFLICT where it is not alive and has to be */
export function findBroker(
  view: Pick<ClusterView, 'brokers'>,
  nodeId: number,
  mustLive: boolean,
): KnownBroker {
  const found = view.brokers.find((broker) => broker.nodeId === nodeId)
  const target = `broker ${nodeId}`
  if (found === undefined) {
    const ids = view.brokers.map((broker) => broker.nodeId).join(', ')
    throw new StreamError('NAME_UNKNOWN', `${target}: no such broker`, {
      target,
      hint: `there are ${ids}`,
    })
  }
  if (mustLive && found.state !== 'live') {
    throw new StreamError('CONFLICT', `${target} is not alive (${found.state})`, {
      target,
      hint: 'start it first, or leave it out; which are alive: stream cluster brokers',
    })
  }
  return found
}

/** `1,2,4`. @throws UsageError */
export function parseBrokerIds(text: string, flag: string): number[] {
  const ids = text.split(',').map((word) => (/^\d{1,9}$/.test(word) ? Number(word) : Number.NaN))
  if (ids.some(Number.isNaN)) throw new UsageError(`${flag} ${text}: must be broker ids: 1,2,4`)
  return [...new Set(ids)]
}

/** @throws UsageError */
export function refuseOperands({ operands }: CommandArgs): void {
  if (operands.length > 0) throw new UsageError(`unexpected argument ${operands[0]}`)
}
