/**
 * Groups from outside: which there are, who is in them, what they have committed; and orders to them. Each group is asked
 * of its own coordinator. A method throws only when nothing could be asked at all, or where it is about one group.
 */
import { StreamError } from '../base/errors.ts'
import type { Random } from '../ports/random.ts'
import type { Time } from '../ports/time.ts'
import { decodeAssignment, type TopicPartitions } from '../protocol/consumer-metadata.ts'
import { KafkaError } from '../protocol/errors.ts'
import type { Outcome } from './admin.ts'
import type { Cluster } from './cluster.ts'
import { GroupLink } from './group-link.ts'
import {
  commitGroupOffsets,
  deleteGroupOffsets,
  fetchGroupOffsets,
  type GroupOffset,
  type GroupPartition,
} from './group-offsets.ts'
import { kafkaFailure } from './kafka-failure.ts'

export interface GroupListing {
  readonly groupId: string
  readonly protocolType: string
  /** Empty where the broker is too old to tell. */
  readonly state: string
}

export interface GroupMemberInfo {
  readonly memberId: string
  readonly instanceId: string | null
  readonly clientId: string
  /** Without the slash that Kafka puts before it. */
  readonly host: string
  /** Of groups of the protocol type `consumer`; empty in others, and while a rebalance runs. */
  readonly partitions: readonly TopicPartitions[]
}

export interface GroupDescription {
  readonly groupId: string
  /** Empty, PreparingRebalance, CompletingRebalance, Stable, Assigning, Reconciling. */
  readonly state: string
  readonly protocolType: string
  readonly members: readonly GroupMemberInfo[]
}

const EPOCH_STATES_VERSION = 4

export class GroupAdmin {
  readonly #time: Time
  readonly #random: Random
  readonly #cluster: Cluster
  readonly #links = new Map<string, GroupLink>()

  constructor(time: Time, random: Random, cluster: Cluster) {
    this.#time = time
    this.#random = random
    this.#cluster = cluster
  }

  /** All groups of all brokers, sorted by name. @throws StreamError as Cluster.call */
  async list(): Promise<readonly GroupListing[]> {
    const listings = await this.#cluster.ofEachBroker((nodeId) => this.#listOf(nodeId))
    const found = new Map(listings.flat().map((group) => [group.groupId, group]))
    return [...found.values()].sort((a, b) => (a.groupId < b.groupId ? -1 : 1))
  }

  async #listOf(nodeId: number): Promise<readonly GroupListing[]> {
    const deadlineMs = this.#time.monotonicMs() + this.#cluster.requestTimeoutMs
    for (;;) {
      const connection = await this.#cluster.connection(nodeId, deadlineMs)
      const version = connection.versionOf('ListGroups')
      const response = await this.#cluster.call(
        nodeId,
        'ListGroups',
        { statesFilter: [], ...(version >= 5 ? { typesFilter: [] } : {}) } as never,
        { deadlineMs },
      )
      const code = response.errorCode
      if (code === KafkaError.COORDINATOR_LOAD_IN_PROGRESS) {
        await this.#cluster.changed(100)
        if (this.#time.monotonicMs() < deadlineMs) continue
      }
      if (code !== 0) throw kafkaFailure(code, { target: 'groups' })
      return response.groups.map(({ groupId, protocolType, groupState }) => ({
        groupId,
        protocolType,
        state: version >= EPOCH_STATES_VERSION ? groupState : '',
      }))
    }
  }

  /**
   * Of either protocol. A group of the newer one is not there for the question about classic groups.
   * @returns undefined: there is no such group
   * @throws StreamError as GroupLink.call
   */
  async describe(groupId: string): Promise<GroupDescription | undefined> {
    return (await this.#describeClassic(groupId)) ?? (await this.#describeConsumer(groupId))
  }

  async #describeConsumer(groupId: string): Promise<GroupDescription | undefined> {
    const link = this.#link(groupId)
    const deadlineMs = this.#time.monotonicMs() + this.#cluster.requestTimeoutMs
    const connection = await link.connection(deadlineMs)
    if (!connection.supports('ConsumerGroupDescribe')) return undefined
    const response = await link.call(
      'ConsumerGroupDescribe',
      { groupIds: [groupId], includeAuthorizedOperations: false },
      ({ groups }) => groups[0]?.errorCode ?? 0,
    )
    const row = response.groups[0]
    const code = row?.errorCode ?? KafkaError.GROUP_ID_NOT_FOUND
    if (code === KafkaError.GROUP_ID_NOT_FOUND || row === undefined) return undefined
    // Kafka 3.7 to 3.9 name the question, and refuse it while the newer protocol is off: then there is no such group.
    if (code === KafkaError.UNSUPPORTED_VERSION) return undefined
    if (code !== 0) throw kafkaFailure(code, { target: `group ${groupId}` })
    return {
      groupId,
      state: row.groupState,
      protocolType: 'consumer',
      members: row.members.map((member) => ({
        memberId: member.memberId,
        instanceId: member.instanceId,
        clientId: member.clientId,
        host: member.clientHost.replace(/^\//, ''),
        partitions: member.assignment.topicPartitions.map(({ topicName, partitions }) => ({
          topic: topicName,
          partitions,
        })),
      })),
    }
  }

  async #describeClassic(groupId: string): Promise<GroupDescription | undefined> {
    const response = await this.#link(groupId).call(
      'DescribeGroups',
      { groups: [groupId], includeAuthorizedOperations: false },
      ({ groups }) => groups[0]?.errorCode ?? 0,
    )
    const row = response.groups[0]
    const code = row?.errorCode ?? KafkaError.GROUP_ID_NOT_FOUND
    if (code === KafkaError.GROUP_ID_NOT_FOUND || row === undefined) return undefined
    if (code !== 0) throw kafkaFailure(code, { target: `group ${groupId}` })
    if (row.groupState === 'Dead') return undefined
    const isConsumer = row.protocolType === 'consumer'
    return {
      groupId,
      state: row.groupState,
      protocolType: row.protocolType,
      members: row.members.map((member) => ({
        memberId: member.memberId,
        instanceId: member.groupInstanceId,
        clientId: member.clientId,
        host: member.clientHost.replace(/^\//, ''),
        partitions: isConsumer ? (decodeAssignment(member.memberAssignment)?.partitions ?? []) : [],
      })),
    }
  }

  /** All that the group has committed, as it is now. @throws as fetchGroupOffsets */
  offsets(groupId: string): Promise<readonly GroupOffset[]> {
    return fetchGroupOffsets(this.#link(groupId), undefined, { requireStable: false })
  }

  /** By hand: the group must have no members. @throws as commitGroupOffsets */
  commit(groupId: string, offsets: readonly GroupOffset[]): Promise<void> {
    return commitGroupOffsets(this.#link(groupId), offsets)
  }

  /** @throws as deleteGroupOffsets */
  deleteOffsets(groupId: string, partitions: readonly GroupPartition[]): Promise<void> {
    return deleteGroupOffsets(this.#link(groupId), partitions)
  }

  /** With all that it has committed. An outcome with CONFLICT where it has members. */
  async delete(groupId: string): Promise<Outcome> {
    const target = `group ${groupId}`
    const response = await this.#link(groupId).call(
      'DeleteGroups',
      { groupsNames: [groupId] },
      ({ results }) => results[0]?.errorCode ?? 0,
    )
    const code = response.results[0]?.errorCode ?? 0
    if (code === 0) return { name: groupId, error: undefined }
    return { name: groupId, error: groupFailure(code, target, groupId) }
  }

  #link(groupId: string): GroupLink {
    let link = this.#links.get(groupId)
    if (link === undefined) {
      link = new GroupLink(this.#time, this.#random, this.#cluster, groupId)
      this.#links.set(groupId, link)
    }
    return link
  }
}

function groupFailure(code: number, target: string, groupId: string): StreamError {
  if (code !== KafkaError.GROUP_ID_NOT_FOUND) return kafkaFailure(code, { target })
  return new StreamError('NAME_UNKNOWN', `${groupId}: no such group (GROUP_ID_NOT_FOUND)`, {
    target: groupId,
    kafkaError: code,
  })
}
