/** What is wrong with a partition, in the words that commands share. */

import type { PartitionInfo } from './metadata-cache.ts'

export function isUnderReplicated({ inSyncReplicas, replicas }: PartitionInfo): boolean {
  return inSyncReplicas.length < replicas.length
}

/** A setting above the number of replicas means all of them. */
export function isUnderMinInSync(
  { inSyncReplicas, replicas }: PartitionInfo,
  configured: number,
): boolean {
  return inSyncReplicas.length < Math.min(configured, replicas.length)
}

export function isLedByOther({ leaderId, replicas }: PartitionInfo): boolean {
  return leaderId >= 0 && replicas[0] !== undefined && leaderId !== replicas[0]
}
