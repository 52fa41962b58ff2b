/**
 * ConsumerGroupHeartbeat (68), versions 0 and 1: all that a member of the consumer protocol sends (KIP-848;
 * consumer-group.ts has the rules). Epoch 0 joins, -1 leaves, -2 leaves for a while (static members). From v1 on the
 * member makes its id, and may subscribe by a regular expression (topic-pattern.ts).
 *
 * Errors: 14, 15, 16, 24, 25, 42, 69, 81, 82, 110, 111, 112, 128.
 */

import type { ResponseInput } from '../../src/protocol/api-table.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import {
  type HeartbeatAnswer,
  type HeartbeatRefusal,
  isRefusal,
  JOIN_EPOCH,
} from '../coordinator/consumer-heartbeat.ts'
import { partitionsOf, rowsOf } from '../coordinator/partition-sets.ts'
import { newUuid } from '../metadata/topic-names.ts'
import { clientHostOf, findGroup } from './group-requests.ts'
import type { Handler, Services } from './handler.ts'

const OWN_ID_VERSION = 1

export const consumerGroupHeartbeat: Handler<'ConsumerGroupHeartbeat'> = (
  services,
  context,
  request,
) => {
  const { broker, groups } = services
  const { groupId, memberEpoch, topicPartitions } = request
  const found = findGroup(services, groupId)
  if (found.shard === undefined) return refused(found.errorCode, null)
  if (found.entry === undefined && memberEpoch !== JOIN_EPOCH) {
    return refused(KafkaError.GROUP_ID_NOT_FOUND, `Group ${groupId} not found.`)
  }
  const makesOwnId = context.apiVersion >= OWN_ID_VERSION
  const isNew = !makesOwnId && request.memberId === '' && memberEpoch === JOIN_EPOCH
  const entry = groups.entryIn(found.shard, groupId)
  const result = groups.consumers.heartbeat(
    entry,
    {
      memberId: isNew ? newUuid(broker.random) : request.memberId,
      memberEpoch,
      instanceId: request.instanceId,
      rackId: request.rackId,
      clientId: context.clientId ?? '',
      clientHost: clientHostOf(context),
      rebalanceTimeoutMs: request.rebalanceTimeoutMs,
      topicNames: request.subscribedTopicNames,
      topicRegex: request.subscribedTopicRegex,
      serverAssignor: request.serverAssignor,
      owned: topicPartitions === null ? undefined : partitionsOf(topicPartitions),
      classic: null,
    },
    makesOwnId,
  )
  if (!(result instanceof Promise)) {
    groups.dropIfNothing(entry)
    return refused(result.errorCode, result.errorMessage)
  }
  return result.then((answer) => answerOf(services, answer))
}

function answerOf(
  { groups }: Services,
  result: HeartbeatAnswer | HeartbeatRefusal,
): ResponseInput<'ConsumerGroupHeartbeat'> {
  if (isRefusal(result)) return refused(result.errorCode, result.errorMessage)
  const { memberId, memberEpoch, assigned, isWaiting } = result
  return {
    throttleTimeMs: 0,
    errorCode: 0,
    memberId,
    memberEpoch,
    heartbeatIntervalMs: groups.consumers.heartbeatIntervalMs(isWaiting),
    assignment: assigned === null ? null : { topicPartitions: rowsOf(assigned) },
  }
}

function refused(
  errorCode: number,
  errorMessage: string | null,
): ResponseInput<'ConsumerGroupHeartbeat'> {
  return { throttleTimeMs: 0, errorCode, errorMessage, memberEpoch: 0, heartbeatIntervalMs: 0 }
}
