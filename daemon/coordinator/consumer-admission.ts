/** Whose heartbeat it is, and whether that member may speak: ids, instance ids, epochs (KIP-848). */

import { KafkaError } from '../../src/protocol/errors.ts'
import type { ConsumerGroupState, ConsumerMember } from './consumer-group-state.ts'
import {
  type HeartbeatRefusal,
  type HeartbeatRequest,
  JOIN_EPOCH,
  LEAVE_FOR_A_WHILE_EPOCH,
  refuse,
} from './consumer-heartbeat.ts'
import { isSubset } from './partition-sets.ts'

export function isRefused(
  found: ConsumerMember | HeartbeatRefusal | undefined,
): found is HeartbeatRefusal {
  return found !== undefined && 'errorCode' in found
}

/**
 * A member that is known may join again at any time: with that it says that it has nothing any more.
 * @returns undefined: a new one; of a static member that comes back the one before it
 */
export function findMember(
  state: ConsumerGroupState,
  request: HeartbeatRequest,
  sizeMax: number,
): ConsumerMember | HeartbeatRefusal | undefined {
  const { memberId, instanceId, memberEpoch } = request
  const member = state.get(memberId)
  const holderId = instanceId === null ? undefined : state.idOfInstance(instanceId)
  const isJoining = memberEpoch === JOIN_EPOCH
  if (isJoining && member === undefined && holderId === undefined && state.size >= sizeMax) {
    return refuse(
      KafkaError.GROUP_MAX_SIZE_REACHED,
      `The consumer group has reached its maximum capacity of ${sizeMax} members.`,
    )
  }
  if (!isJoining) {
    const wrong = instanceId === null ? undefined : checkInstance(state, instanceId, memberId)
    if (wrong !== undefined) return wrong
    return member === undefined ? unknownMember(memberId) : checkEpoch(member, request)
  }
  const holder = holderId === undefined ? undefined : state.get(holderId)
  if (holder === undefined || holder.memberId === memberId) return member
  // A member of the classic protocol does not say that it goes for a while.
  const isClassic = request.classic !== null || holder.metadata.classic !== null
  if (isClassic || holder.progress.epoch === LEAVE_FOR_A_WHILE_EPOCH) return holder
  return refuse(
    KafkaError.UNRELEASED_INSTANCE_ID,
    `Static member ${memberId} with instance id ${instanceId} cannot join the group because the instance id is owned by ${holder.memberId} member.`,
  )
}

export function checkInstance(
  state: ConsumerGroupState,
  instanceId: string,
  memberId: string,
): HeartbeatRefusal | undefined {
  const holder = state.idOfInstance(instanceId)
  if (holder === undefined) {
    return refuse(KafkaError.UNKNOWN_MEMBER_ID, `Instance id ${instanceId} is unknown.`)
  }
  if (holder === memberId) return undefined
  return refuse(
    KafkaError.FENCED_INSTANCE_ID,
    `Static member ${memberId} with instance id ${instanceId} was fenced by member ${holder}.`,
  )
}

export function unknownMember(memberId: string): HeartbeatRefusal {
  return refuse(KafkaError.UNKNOWN_MEMBER_ID, `Member ${memberId} is not a member of the group.`)
}

function checkEpoch(
  member: ConsumerMember,
  { memberEpoch, owned }: HeartbeatRequest,
): ConsumerMember | HeartbeatRefusal {
  const { epoch, previousEpoch, assigned } = member.progress
  if (memberEpoch === epoch) return member
  // The answer with its new epoch may have got lost.
  const isBehind =
    memberEpoch < epoch &&
    memberEpoch === previousEpoch &&
    owned !== undefined &&
    isSubset(owned, assigned)
  if (isBehind) return member
  const than = memberEpoch > epoch ? 'greater' : 'smaller'
  return refuse(
    KafkaError.FENCED_MEMBER_EPOCH,
    `The consumer group member has a ${than} member epoch (${memberEpoch}) than the one known by the group coordinator (${epoch}). The member must abandon all its partitions and rejoin.`,
  )
}
