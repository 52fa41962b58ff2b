/** What a member says of itself, kept over heartbeats that leave it out, and compared. */

import type { ClassicMetadata, MemberMetadata } from './consumer-group-records.ts'
import type { HeartbeatRequest } from './consumer-heartbeat.ts'
import { matchesProtocols } from './group-member.ts'

/** What is not told stays as it was. */
export function updated(
  request: HeartbeatRequest,
  before: MemberMetadata | undefined,
): MemberMetadata {
  const { topicNames, topicRegex, rebalanceTimeoutMs } = request
  return {
    instanceId: request.instanceId ?? before?.instanceId ?? null,
    rackId: request.rackId ?? before?.rackId ?? null,
    clientId: request.clientId,
    clientHost: request.clientHost,
    rebalanceTimeoutMs:
      rebalanceTimeoutMs >= 0 ? rebalanceTimeoutMs : (before?.rebalanceTimeoutMs ?? -1),
    topicNames: topicNames === null ? (before?.topicNames ?? []) : [...new Set(topicNames)].sort(),
    topicRegex: topicRegex === null ? (before?.topicRegex ?? null) : topicRegex || null,
    serverAssignor: request.serverAssignor ?? before?.serverAssignor ?? null,
    classic: request.classic,
  }
}

export function isSameMetadata(left: MemberMetadata, right: MemberMetadata): boolean {
  return (
    left.instanceId === right.instanceId &&
    left.rackId === right.rackId &&
    left.clientId === right.clientId &&
    left.clientHost === right.clientHost &&
    left.rebalanceTimeoutMs === right.rebalanceTimeoutMs &&
    left.serverAssignor === right.serverAssignor &&
    isSameClassic(left.classic, right.classic) &&
    isSameSubscription(left, right)
  )
}

function isSameClassic(left: ClassicMetadata | null, right: ClassicMetadata | null): boolean {
  if (left === null || right === null) return left === right
  return (
    left.sessionTimeoutMs === right.sessionTimeoutMs &&
    matchesProtocols(left.protocols, right.protocols)
  )
}

export function isSameSubscription(left: MemberMetadata, right: MemberMetadata): boolean {
  return (
    left.topicRegex === right.topicRegex &&
    left.topicNames.length === right.topicNames.length &&
    left.topicNames.every((name, index) => name === right.topicNames[index])
  )
}
