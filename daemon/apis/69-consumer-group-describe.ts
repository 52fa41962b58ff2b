/**
 * ConsumerGroupDescribe (69), versions 0 and 1: groups of the consumer protocol, what their members have and are to have.
 * A group of the classic protocol is not found here, and DescribeGroups tells of it. Errors: 14, 15, 16, 24, 69.
 */

import type { ResponseInput } from '../../src/protocol/api-table.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import type { ConsumerGroup } from '../coordinator/consumer-group.ts'
import type { ConsumerMember } from '../coordinator/consumer-group-state.ts'
import { isDead } from '../coordinator/group-entry.ts'
import { type Partitions, rowsOf } from '../coordinator/partition-sets.ts'
import { groupOperations } from './authorized-operations.ts'
import { findGroup } from './group-requests.ts'
import type { Handler, Services } from './handler.ts'

type GroupAnswer = ResponseInput<'ConsumerGroupDescribe'>['groups'][number]

/** Which protocol a member speaks. */
const CLASSIC_MEMBER = 0
const CONSUMER_MEMBER = 1

export const consumerGroupDescribe: Handler<'ConsumerGroupDescribe'> = async (
  services,
  _context,
  request,
) => {
  const withOperations = request.includeAuthorizedOperations
  const groups = await Promise.all(
    request.groupIds.map(async (groupId) => {
      const answer = await describe(services, groupId)
      const isTold = withOperations && answer.errorCode === 0
      return isTold ? { ...answer, authorizedOperations: groupOperations } : answer
    }),
  )
  return { throttleTimeMs: 0, groups }
}

async function describe(services: Services, groupId: string): Promise<GroupAnswer> {
  const { shard, entry, errorCode } = findGroup(services, groupId)
  if (shard === undefined) {
    const isNowhere = services.groups.isWithoutTopic && groupId !== ''
    return isNowhere
      ? refused(groupId, KafkaError.GROUP_ID_NOT_FOUND, `Group ${groupId} not found.`)
      : refused(groupId, errorCode, null)
  }
  if (entry?.consumer === undefined || isDead(entry)) {
    const isClassic = entry !== undefined && !isDead(entry)
    const why = isClassic ? 'is not a consumer group' : 'not found'
    return refused(groupId, KafkaError.GROUP_ID_NOT_FOUND, `Group ${groupId} ${why}.`)
  }
  const answer = answerOf(services, groupId, entry.consumer)
  const settled = await new Promise<number>((resolve) => {
    services.groups.consumers.whenSettled(entry, resolve)
  })
  return settled === 0 ? answer : refused(groupId, settled, null)
}

function refused(groupId: string, errorCode: number, errorMessage: string | null): GroupAnswer {
  return {
    errorCode,
    errorMessage,
    groupId,
    groupState: '',
    groupEpoch: 0,
    assignmentEpoch: 0,
    assignorName: '',
    members: [],
  }
}

function answerOf(services: Services, groupId: string, group: ConsumerGroup): GroupAnswer {
  const { state } = group
  return {
    errorCode: 0,
    errorMessage: null,
    groupId,
    groupState: state.name,
    groupEpoch: state.epoch,
    assignmentEpoch: state.targetEpoch,
    assignorName: group.assignor,
    members: [...state.members()].map((member) =>
      memberOf(services, member, state.targetOf(member.memberId)),
    ),
  }
}

function memberOf(
  services: Services,
  { memberId, metadata, progress }: ConsumerMember,
  target: Partitions,
): GroupAnswer['members'][number] {
  const { instanceId, rackId, clientId, clientHost, topicNames, topicRegex } = metadata
  return {
    memberId,
    instanceId,
    rackId,
    memberEpoch: progress.epoch,
    clientId,
    clientHost,
    subscribedTopicNames: topicNames,
    subscribedTopicRegex: topicRegex,
    assignment: { topicPartitions: named(services, progress.assigned) },
    targetAssignment: { topicPartitions: named(services, target) },
    memberType: metadata.classic === null ? CONSUMER_MEMBER : CLASSIC_MEMBER,
  }
}

/** Topics that are gone have no name to tell. */
function named({ broker }: Services, partitions: Partitions) {
  return rowsOf(partitions).flatMap((row) => {
    const topicName = broker.image.topicById(row.topicId)?.name
    return topicName === undefined ? [] : { ...row, topicName }
  })
}
