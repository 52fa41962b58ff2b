/**
 * JoinGroup (11), versions 0 to 9 (classic-group.ts has the rules). The answer waits until the rebalance is complete.
 * Errors: 14, 15, 16, 23, 24, 25, 26, 27, 79 (from v4), 81, 82.
 */

import type { ResponseInput } from '../../src/protocol/api-table.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import { type JoinAnswer, type JoinRequest, joinRefusal } from '../coordinator/group-member.ts'
import { newUuid } from '../metadata/topic-names.ts'
import { clientHostOf, findGroup } from './group-requests.ts'
import type { Handler, RequestContext } from './handler.ts'

const KNOWN_MEMBER_VERSION = 4
const SKIP_ASSIGNMENT_VERSION = 9
const NULLABLE_PROTOCOL_VERSION = 7

export const joinGroup: Handler<'JoinGroup'> = (services, context, request) => {
  const { broker, groups } = services
  const { groupId, memberId, sessionTimeoutMs, rebalanceTimeoutMs } = request
  const refuse = (errorCode: number) => answerOf(context, joinRefusal(errorCode, memberId))
  const found = findGroup(services, groupId)
  if (found.shard === undefined) return refuse(found.errorCode)
  const isInBounds =
    sessionTimeoutMs >= broker.config.number('group.min.session.timeout.ms') &&
    sessionTimeoutMs <= broker.config.number('group.max.session.timeout.ms')
  if (!isInBounds) return refuse(KafkaError.INVALID_SESSION_TIMEOUT)
  if (memberId !== '' && found.entry === undefined) return refuse(KafkaError.UNKNOWN_MEMBER_ID)
  const entry = groups.entryIn(found.shard, groupId)
  const join: JoinRequest = {
    memberId,
    groupInstanceId: request.groupInstanceId,
    clientId: context.clientId ?? '',
    clientHost: clientHostOf(context),
    sessionTimeoutMs,
    rebalanceTimeoutMs: rebalanceTimeoutMs < 0 ? sessionTimeoutMs : rebalanceTimeoutMs,
    protocolType: request.protocolType,
    // They outlive the message that they came in.
    protocols: request.protocols.map(({ name, metadata }) => ({
      name,
      metadata: Uint8Array.from(metadata),
    })),
    requiresKnownMemberId: context.apiVersion >= KNOWN_MEMBER_VERSION,
    canSkipAssignment: context.apiVersion >= SKIP_ASSIGNMENT_VERSION,
    newMemberSuffix: newUuid(broker.random),
  }
  if (groups.consumers.hasMembers(entry)) {
    return groups.consumers.join(entry, join).then((answer) => answerOf(context, answer))
  }
  const notClassic = groups.consumers.makeClassic(entry)
  if (notClassic !== 0) return refuse(notClassic)
  const joined = new Promise<JoinAnswer>((resolve) => {
    entry.classic.join(broker.time.monotonicMs(), join, resolve)
  })
  groups.arm(entry)
  context.park()
  return joined.then((answer) => answerOf(context, answer))
}

function answerOf({ apiVersion }: RequestContext, answer: JoinAnswer): ResponseInput<'JoinGroup'> {
  const { protocolName } = answer
  return {
    throttleTimeMs: 0,
    ...answer,
    protocolName: apiVersion < NULLABLE_PROTOCOL_VERSION ? (protocolName ?? '') : protocolName,
  }
}
