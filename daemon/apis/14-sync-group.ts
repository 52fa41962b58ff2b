/**
 * SyncGroup (14), versions 0 to 5. The leader brings the assignments; they are handed out once they are stored.
 * Errors: 14, 15, 16, 22, 23, 24, 25, 27, 82.
 */

import type { ResponseInput } from '../../src/protocol/api-table.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import { type SyncAnswer, type SyncRequest, syncRefusal } from '../coordinator/group-member.ts'
import { findGroup } from './group-requests.ts'
import type { Handler } from './handler.ts'

export const syncGroup: Handler<'SyncGroup'> = (services, context, request) => {
  const { shard, entry, errorCode } = findGroup(services, request.groupId)
  if (shard === undefined) {
    // As Kafka: whoever waited for an assignment joins anew.
    const isLoading = errorCode === KafkaError.COORDINATOR_LOAD_IN_PROGRESS
    return answerOf(syncRefusal(isLoading ? KafkaError.REBALANCE_IN_PROGRESS : errorCode))
  }
  if (entry === undefined) return answerOf(syncRefusal(KafkaError.UNKNOWN_MEMBER_ID))
  const sync: SyncRequest = {
    memberId: request.memberId,
    groupInstanceId: request.groupInstanceId,
    generationId: request.generationId,
    protocolType: request.protocolType,
    protocolName: request.protocolName,
    // They outlive the message that they came in.
    assignments: new Map(
      request.assignments.map(({ memberId, assignment }) => [
        memberId,
        Uint8Array.from(assignment),
      ]),
    ),
  }
  const { consumers } = services.groups
  if (consumers.hasMembers(entry)) return consumers.sync(entry, sync).then(answerOf)
  const synced = new Promise<SyncAnswer>((resolve) => {
    entry.classic.sync(services.broker.time.monotonicMs(), sync, resolve)
  })
  services.groups.arm(entry)
  context.park()
  return synced.then(answerOf)
}

function answerOf(answer: SyncAnswer): ResponseInput<'SyncGroup'> {
  return { throttleTimeMs: 0, ...answer }
}
