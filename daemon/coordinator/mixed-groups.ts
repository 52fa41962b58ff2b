/**
 * Groups with members of both protocols (KIP-848, "online migration"): a classic group becomes one of the consumer
 * protocol when the first member of that joins, and is classic again when only classic members are left. Here is what
 * one looks like as the other; the requests of classic members are consumer-groups.ts. Pure functions.
 *
 * A classic member in a group of the consumer protocol has its generation as its epoch. It says what it has by the owned
 * partitions of its subscription: one that rebalances eagerly has given back all with each join, a cooperative one joins
 * once more when it has.
 */

import {
  decodeAssignment,
  decodeSubscription,
  encodeAssignment,
  type Subscription,
  type TopicPartitions,
} from '../../src/protocol/consumer-metadata.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import type { AdoptedMember, ClassicGroup } from './classic-group.ts'
import { type ConsumerChange, NO_HASH } from './consumer-group-records.ts'
import type { ConsumerGroupState } from './consumer-group-state.ts'
import { type HeartbeatRequest, JOIN_EPOCH } from './consumer-heartbeat.ts'
import type { GroupMember, JoinRequest, Protocol } from './group-member.ts'
import type { TopicsView } from './group-topics.ts'
import { type Partitions, partitionsOf, rowsOf, select, union } from './partition-sets.ts'

const PROTOCOL_TYPE = 'consumer'

/** @returns all records of the group; or why it can be none of the consumer protocol, in words */
export function adoptedChanges(
  classic: ClassicGroup,
  topics: TopicsView,
): readonly ConsumerChange[] | string {
  if (classic.protocolType !== PROTOCOL_TYPE) {
    return `its members are not consumers but of the type ${classic.protocolType}`
  }
  const epoch = classic.generation
  const members: ConsumerChange[] = []
  let taken: Partitions = new Map()
  for (const member of classic.members) {
    const subscription = subscriptionOf(classic, member)
    const assignment = decodeAssignment(member.assignment)
    if (subscription === undefined || assignment === undefined) {
      return `what its member ${member.memberId} says cannot be read`
    }
    if (assignment.userData !== null && assignment.userData.length > 0) {
      return 'its members assign partitions in a way of their own'
    }
    // A cooperative member may not have given back yet what its new assignment lacks.
    const held = [...assignment.partitions, ...subscription.ownedPartitions]
    const before = taken
    const assigned = select(
      toPartitions(held, topics),
      (topicId, partition) => !(before.get(topicId)?.has(partition) ?? false),
    )
    taken = union(taken, assigned)
    const { memberId } = member
    members.push(
      {
        kind: 'member',
        memberId,
        value: {
          instanceId: member.groupInstanceId,
          rackId: subscription.rackId,
          clientId: member.clientId,
          clientHost: member.clientHost,
          rebalanceTimeoutMs: member.rebalanceTimeoutMs,
          topicNames: [...new Set(subscription.topics)].sort(),
          topicRegex: null,
          serverAssignor: null,
          classic: { sessionTimeoutMs: member.sessionTimeoutMs, protocols: member.protocols },
        },
      },
      { kind: 'target', memberId, value: assigned },
      {
        kind: 'progress',
        memberId,
        value: {
          epoch,
          previousEpoch: epoch,
          state: 'stable',
          assigned,
          pendingRevocation: new Map(),
        },
      },
    )
  }
  return [
    { kind: 'epoch', value: { epoch, metadataHash: NO_HASH } },
    { kind: 'targetEpoch', value: epoch },
    ...members,
  ]
}

function subscriptionOf(
  { protocolName }: ClassicGroup,
  { protocols }: GroupMember,
): Subscription | undefined {
  const protocol = protocols.find(({ name }) => name === protocolName) ?? protocols[0]
  return protocol === undefined ? undefined : decodeSubscription(protocol.metadata)
}

/** The group as a classic one. All its members are classic. */
export function classicMembersOf(
  state: ConsumerGroupState,
  topics: TopicsView,
): { readonly generation: number; readonly members: readonly AdoptedMember[] } {
  const members: AdoptedMember[] = []
  let generation = 0
  for (const { memberId, metadata, progress } of state.members()) {
    generation = Math.max(generation, progress.epoch)
    members.push({
      memberId,
      groupInstanceId: metadata.instanceId,
      clientId: metadata.clientId,
      clientHost: metadata.clientHost,
      rebalanceTimeoutMs: metadata.rebalanceTimeoutMs,
      sessionTimeoutMs: metadata.classic?.sessionTimeoutMs ?? 0,
      protocols: metadata.classic?.protocols ?? [],
      assignment: assignmentOf(union(progress.assigned, progress.pendingRevocation), topics),
    })
  }
  return { generation, members }
}

/**
 * What a classic member asks for when it joins a group of the consumer protocol.
 * @returns or an error code
 */
export function heartbeatOf(
  state: ConsumerGroupState,
  topics: TopicsView,
  request: JoinRequest,
): HeartbeatRequest | number {
  const { protocolType, protocols, groupInstanceId } = request
  const subscription = decodeSubscription(protocols[0]?.metadata ?? new Uint8Array(0))
  const isConsumer = protocolType === PROTOCOL_TYPE && subscription !== undefined
  const holderId = groupInstanceId === null ? undefined : state.idOfInstance(groupInstanceId)
  if (!isConsumer || !isSupported(state, holderId ?? request.memberId, protocols)) {
    return KafkaError.INCONSISTENT_GROUP_PROTOCOL
  }
  if (request.memberId !== '' && holderId !== undefined && holderId !== request.memberId) {
    return KafkaError.FENCED_INSTANCE_ID
  }
  const name = groupInstanceId ?? request.clientId
  return {
    memberId: request.memberId === '' ? `${name}-${request.newMemberSuffix}` : request.memberId,
    memberEpoch: JOIN_EPOCH,
    instanceId: groupInstanceId,
    rackId: subscription.rackId,
    clientId: request.clientId,
    clientHost: request.clientHost,
    rebalanceTimeoutMs: request.rebalanceTimeoutMs,
    topicNames: subscription.topics,
    topicRegex: '',
    serverAssignor: null,
    owned: toPartitions(subscription.ownedPartitions, topics),
    classic: { sessionTimeoutMs: request.sessionTimeoutMs, protocols },
  }
}

/** One of its protocols is known to all other classic members: they may be among themselves again. */
function isSupported(
  state: ConsumerGroupState,
  memberId: string,
  protocols: readonly Protocol[],
): boolean {
  let common = new Set(protocols.map(({ name }) => name))
  for (const member of state.members()) {
    const { classic } = member.metadata
    if (classic === null || member.memberId === memberId) continue
    const before = common
    common = new Set(classic.protocols.map(({ name }) => name).filter((name) => before.has(name)))
  }
  return common.size > 0
}

/** As the leader of a classic group would have sent it. */
export function assignmentOf(assigned: Partitions, topics: TopicsView): Uint8Array {
  const partitions = rowsOf(assigned).flatMap(({ topicId, partitions }) => {
    const topic = topics.nameOf(topicId)
    return topic === undefined ? [] : [{ topic, partitions }]
  })
  return encodeAssignment({ partitions, userData: null })
}

function toPartitions(rows: readonly TopicPartitions[], topics: TopicsView): Partitions {
  return partitionsOf(
    rows.flatMap(({ topic, partitions }) => {
      const topicId = topics.find(topic)?.topicId
      return topicId === undefined ? [] : [{ topicId, partitions }]
    }),
  )
}
