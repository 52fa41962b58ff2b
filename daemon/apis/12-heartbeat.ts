/** Heartbeat (12), versions 0 to 4. Errors: 14, 15, 16, 22, 24, 25, 27, 82. */

import { KafkaError } from '../../src/protocol/errors.ts'
import { findGroup } from './group-requests.ts'
import type { Handler } from './handler.ts'

export const heartbeat: Handler<'Heartbeat'> = (services, _context, request) => {
  const { shard, entry, errorCode } = findGroup(services, request.groupId)
  if (shard === undefined) {
    // As Kafka: whoever beats while the groups are being loaded is as well as it can be.
    const isLoading = errorCode === KafkaError.COORDINATOR_LOAD_IN_PROGRESS
    return { throttleTimeMs: 0, errorCode: isLoading ? 0 : errorCode }
  }
  if (entry === undefined) return { throttleTimeMs: 0, errorCode: KafkaError.UNKNOWN_MEMBER_ID }
  const { consumers } = services.groups
  if (consumers.hasMembers(entry)) {
    return { throttleTimeMs: 0, errorCode: consumers.beat(entry, request, request.generationId) }
  }
  const nowMs = services.broker.time.monotonicMs()
  const code = entry.classic.heartbeat(nowMs, request, request.generationId)
  services.groups.arm(entry)
  return { throttleTimeMs: 0, errorCode: code }
}
