/**
 * The limit on copying replicas (`--rate`), as Kafka has it: a rate at every broker that sends or takes, and in every topic
 * the list of the replicas that it holds for. It stays in force until it is lifted, whoever set it.
 */

import { StreamError } from '../src/base/errors.ts'
import type { ConfigChange } from '../src/client/admin.ts'
import { addedReplicas, type PlannedPartition } from '../src/client/replica-plan.ts'
import type { ClusterSession } from './cluster-shared.ts'

const LEADER_RATE = 'leader.replication.throttled.rate'
const FOLLOWER_RATE = 'follower.replication.throttled.rate'
const LEADER_REPLICAS = 'leader.replication.throttled.replicas'
const FOLLOWER_REPLICAS = 'follower.replication.throttled.replicas'

/**
 * Before the moves begin.
 * @throws StreamError of the broker; nothing moves then
 */
export async function limitMoves(
  { admin, cluster }: ClusterSession,
  moves: readonly PlannedPartition[],
  bytesPerSecond: number,
): Promise<void> {
  const rate = String(Math.max(1, Math.floor(bytesPerSecond)))
  const copied = moves.filter((move) => addedReplicas(move).length > 0)
  if (copied.length === 0) return
  const { brokers } = await cluster.describe()
  const changes: ConfigChange[] = brokers
    .filter(({ isFenced }) => isFenced !== true)
    .map(({ nodeId }) => ({
      kind: 'broker',
      name: String(nodeId),
      set: { [LEADER_RATE]: rate, [FOLLOWER_RATE]: rate },
    }))
  for (const name of new Set(copied.map(({ topic }) => topic))) {
    const mine = copied.filter(({ topic }) => topic === name)
    const list = (of: (move: PlannedPartition) => readonly number[]): string =>
      mine.flatMap((move) => of(move).map((nodeId) => `${move.partition}:${nodeId}`)).join(',')
    changes.push({
      kind: 'topic',
      name,
      set: {
        [LEADER_REPLICAS]: list(({ replicas }) => replicas),
        [FOLLOWER_REPLICAS]: list(addedReplicas),
      },
    })
  }
  for (const { name, error } of await admin.alterConfigs(changes)) {
    if (error === undefined) continue
    throw new StreamError(error.code, `the limit was not taken by ${name}: ${error.message}`, {
      hint: 'nothing has been moved; without a limit: leave out --rate',
      cause: error,
    })
  }
}

/** Of these topics, and of all brokers once no topic has a limit. What is not limited stays as it is. */
export async function liftLimits(
  { admin, cluster }: ClusterSession,
  names: readonly string[],
): Promise<void> {
  const topics = (await admin.listTopics()).map(({ name }) => name)
  const described =
    topics.length === 0
      ? []
      : await admin.describeConfigs(
          topics.map((name) => ({ kind: 'topic', name })),
          { keys: [LEADER_REPLICAS, FOLLOWER_REPLICAS] },
        )
  const limited = described
    .filter(({ configs }) =>
      configs.some(({ name, origin, value }) => isLimitKey(name) && origin === 'topic' && value),
    )
    .map(({ name }) => name)
  const changes: ConfigChange[] = limited
    .filter((name) => names.includes(name))
    .map((name) => ({ kind: 'topic', name, unset: [LEADER_REPLICAS, FOLLOWER_REPLICAS] }))
  if (changes.length === 0) return
  if (limited.length === changes.length) {
    const { brokers } = await cluster.describe()
    for (const { nodeId, isFenced } of brokers) {
      if (isFenced === true) continue
      changes.push({ kind: 'broker', name: String(nodeId), unset: [LEADER_RATE, FOLLOWER_RATE] })
    }
  }
  for (const { error } of await admin.alterConfigs(changes)) {
    if (error !== undefined) throw error
  }
}

function isLimitKey(name: string): boolean {
  return name === LEADER_REPLICAS || name === FOLLOWER_REPLICAS
}
