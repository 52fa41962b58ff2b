/** The leader epoch of a reassignment, and what is left of it when the rule is left out. */
import { completeReassignment } from '../../daemon/metadata/controller.ts'
import type { PartitionValue } from '../../daemon/metadata/metadata-values.ts'
import type { Rules } from './rules.ts'

/** `after` at the epoch of `before` where the leader stays and replicas have left, if the rule is off. */
export function withRemovalEpoch(
  before: PartitionValue,
  after: PartitionValue,
  rules: Rules,
): PartitionValue {
  if (rules.removalRaisesEpoch || after.leader !== before.leader) return after
  if (after.leaderIncarnation !== before.leaderIncarnation) return after
  if (after.uncleanEpoch !== before.uncleanEpoch) return after
  return { ...after, leaderEpoch: before.leaderEpoch }
}

/**
 * T4 that ends a reassignment: the record with the follower joined becomes the final one; undefined: not yet, or another one must lead
 * then, whom the controller chooses.
 */
export function completedByLeader(
  joined: PartitionValue,
  minInSyncConfig: number,
  rules: Rules,
): PartitionValue | undefined {
  const whole = completeReassignment(joined, (replicas) => Math.min(minInSyncConfig, replicas))
  if (whole === undefined) return undefined
  if (!whole.inSyncReplicas.some((m) => m.broker === joined.leader)) return undefined
  return withRemovalEpoch(joined, { ...whole, leaderEpoch: joined.leaderEpoch + 1 }, rules)
}
