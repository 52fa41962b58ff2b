/** LeaveGroup (13), versions 0 to 5; from v3 on for several members, each with its own error. Errors: 14, 15, 16, 24, 25, 82. */

import type { ResponseInput } from '../../src/protocol/api-table.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import type { MemberName } from '../coordinator/classic-members.ts'
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
  const answer = (codes: readonly number[]): ResponseInput<'LeaveGroup'> =>
    answerOf(isBatched, names, codes)
  if (entry === undefined) return answer(names.map(() => KafkaError.UNKNOWN_MEMBER_ID))
  const { consumers } = services.groups
  if (consumers.hasMembers(entry)) return consumers.leave(entry, names).then(answer)
  const codes = entry.classic.leave(services.broker.time.monotonicMs(), names)
  services.groups.arm(entry)
  return answer(codes)
}

function answerOf(
  isBatched: boolean,
  names: readonly MemberName[],
  codes: readonly number[],
): ResponseInput<'LeaveGroup'> {
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
