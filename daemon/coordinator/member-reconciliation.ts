/**
 * One step of a member from what it has to what it is meant to have (KIP-848; replication.md section 10.3): first give
 * back, then take, and take only what nobody has. A pure function.
 *
 *     kept = assigned ∩ target; revoked = assigned − kept; free = target − kept, without an owner
 *     revoked, and the client still has some of it  ->  unrevoked, epoch unchanged
 *     else                                          ->  epoch = target's; kept + free; unreleased while the rest is held
 *
 * Safety rests on one rule: a partition leaves its owner only when the client has said that it no longer has it, or is
 * no member any more.
 */

import type { MemberProgress } from './consumer-group-records.ts'
import { has, NO_PARTITIONS, overlaps, type Partitions, select, union } from './partition-sets.ts'

export interface ReconcileInput {
  readonly progress: MemberProgress
  readonly targetEpoch: number
  readonly target: Partitions
  /** What the client says that it has; undefined: it did not say. */
  readonly owned: Partitions | undefined
  /** Whether the member reads a topic now: what it no longer reads it gives back without waiting for a new target. */
  readonly isSubscribed: (topicId: string) => boolean
  /** Its subscription is another one since its last heartbeat. */
  readonly isSubscriptionNew: boolean
  /** Whether another member has a partition. */
  readonly isHeldByOther: (topicId: string, partition: number) => boolean
}

/** @returns the same object where nothing changes */
export function reconcile(input: ReconcileInput): MemberProgress {
  const { progress, targetEpoch } = input
  switch (progress.state) {
    case 'stable':
      if (progress.epoch !== targetEpoch) return advance(input)
      return input.isSubscriptionNew ? dropUnsubscribed(input) : progress
    case 'unrevoked':
      if (!hasStill(input, progress.pendingRevocation)) return advance(input)
      return input.isSubscriptionNew ? dropUnsubscribed(input) : progress
    case 'unreleased':
      return advance(input)
  }
}

/** Silence is no sign of having given back. */
function hasStill({ owned }: ReconcileInput, partitions: Partitions): boolean {
  if (partitions.size === 0) return false
  return owned === undefined || overlaps(owned, partitions)
}

function advance(input: ReconcileInput): MemberProgress {
  const { progress, targetEpoch, isSubscribed, isHeldByOther } = input
  const target = select(input.target, (topicId) => isSubscribed(topicId))
  const kept = select(progress.assigned, (topicId, partition) => has(target, topicId, partition))
  const revoked = select(
    progress.assigned,
    (topicId, partition) => !has(target, topicId, partition),
  )
  if (hasStill(input, revoked)) {
    return {
      epoch: progress.epoch,
      previousEpoch: progress.epoch,
      state: 'unrevoked',
      assigned: kept,
      pendingRevocation: revoked,
    }
  }
  let isHeld = false
  const free = select(target, (topicId, partition) => {
    if (has(kept, topicId, partition)) return false
    const isOthers = isHeldByOther(topicId, partition)
    isHeld ||= isOthers
    return !isOthers
  })
  const state = isHeld ? 'unreleased' : 'stable'
  const isUnchanged =
    progress.epoch === targetEpoch &&
    progress.state === state &&
    free.size === 0 &&
    revoked.size === 0 &&
    progress.pendingRevocation.size === 0
  if (isUnchanged) return progress
  return {
    epoch: targetEpoch,
    previousEpoch: progress.epoch,
    state,
    assigned: union(kept, free),
    pendingRevocation: NO_PARTITIONS,
  }
}

function dropUnsubscribed(input: ReconcileInput): MemberProgress {
  const { progress, isSubscribed } = input
  const assigned = select(progress.assigned, (topicId) => isSubscribed(topicId))
  const dropped = select(progress.assigned, (topicId) => !isSubscribed(topicId))
  if (dropped.size === 0) return progress
  const pendingRevocation = union(progress.pendingRevocation, dropped)
  const mustWait = hasStill(input, pendingRevocation)
  return {
    epoch: progress.epoch,
    previousEpoch: progress.epoch,
    state: mustWait ? 'unrevoked' : progress.state,
    assigned,
    pendingRevocation: mustWait ? pendingRevocation : progress.pendingRevocation,
  }
}
