/**
 * Decisions of the controller as transactions: which partition records are written, what T3 must still find of the brokers that
 * they newly name as leaders, and how much goes into one transaction (replication.md section 5.4).
 *
 * Invariants, asserted for every planned change:
 * - epochs never fall, and the partition epoch rises with every change (I2);
 * - a leader stands in the in-sync replicas with the data epoch that the guard names (I11).
 */

import { assert } from '../../src/base/assert.ts'
import type { MetadataImage, PartitionImage } from './metadata-image.ts'
import type { PartitionValue } from './metadata-values.ts'
import type { LeaderGuard, PartitionChange } from './topic-transactions.ts'

/** The largest share of one transaction that partitions take, so that one conflict spoils little. */
const PARTITIONS_MAX = 120

export interface PlannedChange extends PartitionChange {
  /** The broker that is newly named as leader, as it was when this was decided. */
  readonly guard: LeaderGuard | undefined
}

/**
 * @returns undefined where the broker to lead is gone: what was decided no longer stands
 */
export function planChange(
  before: PartitionImage,
  value: PartitionValue,
  image: MetadataImage,
): PlannedChange | undefined {
  const { topicId, partition, revision } = before
  const old = before.value
  assert(value.leaderEpoch >= old.leaderEpoch, 'leader epochs never fall (I2)')
  assert(value.partitionEpoch > old.partitionEpoch, 'a change raises the partition epoch (I2)')
  assert(
    value.leader < 0 || value.replicas.includes(value.leader),
    'a leader is one of the replicas (I11)',
  )
  const change = { topicId, partition, revision, value }
  const isNewlyNamed =
    value.leader >= 0 &&
    (value.leader !== old.leader ||
      value.leaderIncarnation !== old.leaderIncarnation ||
      value.leaderEpoch !== old.leaderEpoch)
  if (!isNewlyNamed) return { ...change, guard: undefined }
  const session = image.session(value.leader)
  const dataEpoch = image.broker(value.leader)?.dataEpoch
  if (session === undefined || session.incarnation !== value.leaderIncarnation) return undefined
  const member = value.inSyncReplicas.find((m) => m.broker === value.leader)
  assert(
    member !== undefined && member.dataEpoch === dataEpoch,
    'a leader is in sync, with its current data epoch (I11)',
  )
  const guard = {
    nodeId: value.leader,
    sessionEpoch: session.sessionEpoch,
    dataEpoch: member.dataEpoch,
  }
  return { ...change, guard }
}

export interface PlannedWrite {
  readonly changes: readonly PlannedChange[]
  readonly guards: readonly LeaderGuard[]
}

/**
 * Takes changes from the front of `queue` for one transaction: 1 + partitions + 2 × distinct new leaders stay within
 * `operationsMax`. Two views of one broker never come into one transaction.
 */
export function takeWrite(
  queue: PlannedChange[],
  operationsMax: number,
  partitionsMax = PARTITIONS_MAX,
): PlannedWrite {
  const guards = new Map<number, LeaderGuard>()
  const changes: PlannedChange[] = []
  while (changes.length < Math.min(partitionsMax, PARTITIONS_MAX)) {
    const [change] = queue
    if (change === undefined) break
    const { guard } = change
    const known = guard === undefined ? undefined : guards.get(guard.nodeId)
    if (guard !== undefined && known !== undefined) {
      const isSame =
        known.sessionEpoch === guard.sessionEpoch && known.dataEpoch === guard.dataEpoch
      if (!isSame) break
    }
    const added = guard !== undefined && known === undefined ? 1 : 0
    const operations = 1 + changes.length + 1 + 2 * (guards.size + added)
    if (operations > operationsMax && changes.length > 0) break
    queue.shift()
    changes.push(change)
    if (guard !== undefined) guards.set(guard.nodeId, guard)
  }
  return { changes, guards: [...guards.values()] }
}
