/**
 * DescribeGroups (15), versions 0 to 6. A group that does not exist is Dead, from v6 on with error 69; so is one of the
 * consumer protocol, which ConsumerGroupDescribe tells of. What members said
 * and were given is told of Stable groups alone. Errors: 14, 15, 16, 24, 69.
 */

import type { ResponseInput } from '../../src/protocol/api-table.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import { isDead } from '../coordinator/group-entry.ts'
import { groupOperations } from './authorized-operations.ts'
import { findGroup } from './group-requests.ts'
import type { Handler, Services } from './handler.ts'

type GroupAnswer = ResponseInput<'DescribeGroups'>['groups'][number]

const NOT_FOUND_VERSION = 6
const NO_BYTES = new Uint8Array(0)

export const describeGroups: Handler<'DescribeGroups'> = (services, context, request) => ({
  throttleTimeMs: 0,
  groups: request.groups.map((groupId) => {
    const answer = describe(services, groupId, context.apiVersion)
    const isKnown = answer.errorCode === 0 && answer.groupState !== 'Dead'
    return request.includeAuthorizedOperations && isKnown
      ? { ...answer, authorizedOperations: groupOperations }
      : answer
  }),
})

function describe(services: Services, groupId: string, apiVersion: number): GroupAnswer {
  const nothing = {
    groupId,
    groupState: '',
    protocolType: '',
    protocolData: '',
    members: [],
  }
  const { shard, entry, errorCode } = findGroup(services, groupId)
  if (shard === undefined) {
    const isNowhere = services.groups.isWithoutTopic && groupId !== ''
    if (!isNowhere) return { ...nothing, errorCode }
  }
  if (entry === undefined || isDead(entry) || entry.consumer !== undefined) {
    const isError = apiVersion >= NOT_FOUND_VERSION
    const why = entry?.consumer === undefined ? 'not found' : 'is not a classic group'
    return {
      ...nothing,
      groupState: 'Dead',
      errorCode: isError ? KafkaError.GROUP_ID_NOT_FOUND : 0,
      errorMessage: isError ? `Group ${groupId} ${why}.` : null,
    }
  }
  const { classic } = entry
  const isStable = classic.state === 'Stable'
  return {
    errorCode: 0,
    groupId,
    groupState: classic.state,
    protocolType: classic.protocolType,
    protocolData: isStable ? classic.protocolName : '',
    members: [...classic.members].map((member) => ({
      memberId: member.memberId,
      groupInstanceId: member.groupInstanceId,
      clientId: member.clientId,
      clientHost: member.clientHost,
      memberMetadata: isStable
        ? (member.protocols.find(({ name }) => name === classic.protocolName)?.metadata ?? NO_BYTES)
        : NO_BYTES,
      memberAssignment: isStable ? member.assignment : NO_BYTES,
    })),
  }
}
