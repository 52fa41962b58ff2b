/** What members of the consumer protocol ask and are answered (ConsumerGroupHeartbeat), and the checks of a request alone. */

import { KafkaError } from '../../src/protocol/errors.ts'
import type { ClassicMetadata } from './consumer-group-records.ts'
import type { Partitions } from './partition-sets.ts'

export const JOIN_EPOCH = 0
export const LEAVE_EPOCH = -1
/** A static member goes, and will be back within its session. */
export const LEAVE_FOR_A_WHILE_EPOCH = -2

export interface HeartbeatRequest {
  readonly memberId: string
  readonly memberEpoch: number
  readonly instanceId: string | null
  readonly rackId: string | null
  readonly clientId: string
  readonly clientHost: string
  /** −1: as before. */
  readonly rebalanceTimeoutMs: number
  /** null: as before. */
  readonly topicNames: readonly string[] | null
  /** null: as before; empty: none. */
  readonly topicRegex: string | null
  readonly serverAssignor: string | null
  /** undefined: as before. */
  readonly owned: Partitions | undefined
  /** Of a member of the classic protocol, whose join this is; null: of one of the consumer protocol. */
  readonly classic: ClassicMetadata | null
}

export interface HeartbeatAnswer {
  readonly memberId: string
  readonly memberEpoch: number
  /** null: as it was told before. */
  readonly assigned: Partitions | null
  /** For partitions that others still have: it should ask again soon. */
  readonly isWaiting: boolean
}

export interface HeartbeatRefusal {
  readonly errorCode: number
  readonly errorMessage: string
}

export function isRefusal(result: HeartbeatAnswer | HeartbeatRefusal): result is HeartbeatRefusal {
  return 'errorCode' in result
}

export function refuse(errorCode: number, errorMessage: string): HeartbeatRefusal {
  return { errorCode, errorMessage }
}

/**
 * @param makesOwnId  the member makes its id itself (from version 1 on)
 * @returns undefined: nothing is wrong with it
 */
export function findRequestDefect(
  request: HeartbeatRequest,
  makesOwnId: boolean,
  assignors: readonly string[],
): HeartbeatRefusal | undefined {
  const { memberId, memberEpoch, instanceId } = request
  const invalid = (message: string) => refuse(KafkaError.INVALID_REQUEST, message)
  if (memberId === '' && (makesOwnId || memberEpoch !== JOIN_EPOCH)) {
    return invalid("MemberId can't be empty.")
  }
  if (instanceId === '') return invalid("InstanceId can't be empty.")
  if (request.rackId === '') return invalid("RackId can't be empty.")
  if (memberEpoch < LEAVE_FOR_A_WHILE_EPOCH) return invalid('MemberEpoch is invalid.')
  if (memberEpoch === LEAVE_FOR_A_WHILE_EPOCH && instanceId === null) {
    return invalid("InstanceId can't be null.")
  }
  if (memberEpoch === JOIN_EPOCH) {
    if (request.rebalanceTimeoutMs < 0) {
      return invalid('RebalanceTimeoutMs must be provided in first request.')
    }
    if (request.owned === undefined || request.owned.size > 0) {
      return invalid('TopicPartitions must be empty when (re-)joining.')
    }
    if (request.topicNames === null && request.topicRegex === null) {
      return invalid(
        'Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.',
      )
    }
  }
  const { serverAssignor } = request
  if (serverAssignor !== null && !assignors.includes(serverAssignor)) {
    return refuse(
      KafkaError.UNSUPPORTED_ASSIGNOR,
      `ServerAssignor ${serverAssignor} is not supported. Supported assignors: ${assignors.join(', ')}.`,
    )
  }
  return undefined
}
