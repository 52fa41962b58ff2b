/** LeaveGroup (13), versions 0 to 5; from v3 on for several members, each with its own error. Errors: 14, 15, 16, 24, 25, 82. */

import { KafkaError } from '../../src/protocol/errors.ts'
import { findGroup } from './group-requests.ts'
import type { Handler } from './handler.ts'

const BATCHED_VERSION = 3

export const leaveGroup: Handler<'LeaveGroup'> = (services, context, request) => {
  const isBatched = context.apiVersion >= BATCHED_VERSION
  const names = isBatched
    ? request.members
    : [{ memberId: request.memberId, groupInstanceId: null }]
  const { shard, entry, errorCode } = findGroup(services, request.groupId)
  if (shard === undefined) return { throttleTimeMs: 0, errorCode, members: [] }
  const nowMs = services.broker.time.monotonicMs()
  const codes =
    entry === undefined
      ? names.map(() => KafkaError.UNKNOWN_MEMBER_ID)
      : entry.classic.leave(nowMs, names)
  if (entry !== undefined) services.groups.arm(entry)
  if (!isBatched) return { throttleTimeMs: 0, errorCode: codes[0] ?? 0, members: [] }
  return {
    throttleTimeMs: 0,
    errorCode: 0,
    members: names.map(({ memberId, groupInstanceId }, index) => ({
      memberId,
      groupInstanceId,
      errorCode: codes[index] ?? 0,
    })),
  }
}
