/** Completion of a reassignment (replication.md section 2.8), shared by the leader's T4 and, while next() leaves it out, the controller. */
import type { PartitionValue } from '../../daemon/metadata/metadata-values.ts'
import type { Rules } from './rules.ts'

/**
 * The record once all replicas that are being added are in sync and enough of the final set are.
 * @param leader  who leads afterwards; one that is being removed cannot, and the controller has to choose first
 * @returns undefined while it is too early
 */
export function completed(
  part: PartitionValue,
  leader: number,
  minInSyncConfig: number,
  rules: Rules,
): PartitionValue | undefined {
  if (part.adding.length === 0 && part.removing.length === 0) return undefined
  const replicas = part.replicas.filter((id) => !part.removing.includes(id))
  const inSync = part.inSyncReplicas.filter((m) => !part.removing.includes(m.broker))
  const minInSync = Math.min(minInSyncConfig, replicas.length)
  if (!part.adding.every((id) => inSync.some((m) => m.broker === id))) return undefined
  if (inSync.length < minInSync || !inSync.some((m) => m.broker === leader)) return undefined
  return {
    ...part,
    replicas,
    adding: [],
    removing: [],
    inSyncReplicas: inSync,
    eligibleReplicas: [],
    known: [],
    minInSync,
    leaderEpoch: part.leaderEpoch + (rules.removalRaisesEpoch ? 1 : 0),
  }
}
