/**
 * Groups of the consumer protocol between their machine (consumer-group.ts) and the log: what a heartbeat changes is
 * appended at once, and its answer waits until that is committed. Here a group also changes its protocol: while it has no
 * members, or with those that it has (mixed-groups.ts), whose requests then come here too.
 *
 * Invariants:
 * - The machine is asked only when the log takes appends: it is never ahead of the log. Should an append fail
 *   nevertheless, all groups of that partition are read from the log again.
 * - An answer goes out only when everything is committed that it rests on, also what others have changed.
 */

import { KafkaError } from '../../src/protocol/errors.ts'
import { isInternalTopic } from '../metadata/topic-names.ts'
import type { Broker } from '../replica/broker.ts'
import type { MemberName } from './classic-members.ts'
import { ConsumerGroup } from './consumer-group.ts'
import type { ConsumerChange } from './consumer-group-records.ts'
import {
  findRequestDefect,
  type HeartbeatAnswer,
  type HeartbeatRefusal,
  type HeartbeatRequest,
  isRefusal,
  JOIN_EPOCH,
  refuse,
} from './consumer-heartbeat.ts'
import { type GroupEntry, isDead } from './group-entry.ts'
import {
  type JoinAnswer,
  type JoinRequest,
  joinRefusal,
  type SyncAnswer,
  type SyncRequest,
  syncRefusal,
} from './group-member.ts'
import {
  type EncodedRecord,
  encodeConsumerChange,
  encodeGroup,
  type GroupRecord,
} from './group-records.ts'
import type { GroupShard, Stored } from './group-shard.ts'
import type { TopicsView } from './group-topics.ts'
import { adoptedChanges, assignmentOf, classicMembersOf, heartbeatOf } from './mixed-groups.ts'

const CLASSIC_PROTOCOL_TYPE = 'consumer'
const WAITING_INTERVAL_MS = 500
/** How long what is due waits while nothing can be stored. */
const POSTPONE_MS = 1000

export interface ConsumerGroupsPorts {
  readonly broker: Broker
  /** Sees that the group's next tick comes in time. */
  readonly arm: (entry: GroupEntry) => void
  /** The log may hold what memory does not: the partition's groups are read anew. */
  readonly reload: (shard: GroupShard) => void
}

export class ConsumerGroups {
  readonly #ports: ConsumerGroupsPorts
  readonly #topics: TopicsView

  constructor(ports: ConsumerGroupsPorts) {
    this.#ports = ports
    this.#topics = topicsOf(ports.broker)
  }

  get assignors(): readonly string[] {
    const names = this.#ports.broker.config.text('group.consumer.assignors') ?? ''
    return names.split(',').map((name) => name.trim())
  }

  /**
   * The pause before a member's next heartbeat. Whoever waits for partitions of others would else hear of them only a
   * whole pause after they were given back.
   */
  heartbeatIntervalMs(isWaiting: boolean): number {
    const intervalMs = this.#ports.broker.config.number('group.consumer.heartbeat.interval.ms')
    return isWaiting ? Math.min(intervalMs, WAITING_INTERVAL_MS) : intervalMs
  }

  /** @param makesOwnId  the member makes its id itself */
  heartbeat(
    entry: GroupEntry,
    request: HeartbeatRequest,
    makesOwnId: boolean,
  ): Promise<HeartbeatAnswer | HeartbeatRefusal> | HeartbeatRefusal {
    const { groupId } = entry
    const defect = findRequestDefect(request, makesOwnId, this.assignors)
    if (defect !== undefined) return defect
    const { refusal } = entry.shard
    if (refusal !== 0) return refuse(refusal, 'the group can not be stored now')
    if (isDead(entry)) return refuse(KafkaError.COORDINATOR_NOT_AVAILABLE, 'it is being deleted')
    let group = entry.consumer
    const nowMs = this.#ports.broker.time.monotonicMs()
    if (group === undefined) {
      if (request.memberEpoch !== JOIN_EPOCH) {
        return refuse(KafkaError.GROUP_ID_NOT_FOUND, `Group ${groupId} not found.`)
      }
      const changes = entry.classic.isUnused ? [] : this.#changesFromClassic(entry)
      if (!Array.isArray(changes)) return changes
      group = this.#make(groupId)
      group.adopt(nowMs, changes)
    }
    const result = group.heartbeat(nowMs, request)
    if (isRefusal(result)) return result
    const isNew = entry.consumer === undefined
    entry.consumer = group
    const answered = this.#store(entry, isNew ? this.#forgetClassic(entry) : []).then((code) =>
      code === 0 ? result : refuse(code, 'the group could not be stored'),
    )
    this.#ports.arm(entry)
    return answered
  }

  /** Whether classic members are to ask here. */
  hasMembers({ consumer }: GroupEntry): boolean {
    return consumer !== undefined && !consumer.isEmpty
  }

  /** Of a member of the classic protocol, while hasMembers. */
  async join(entry: GroupEntry, request: JoinRequest): Promise<JoinAnswer> {
    const refused = (code: number): JoinAnswer => joinRefusal(code, request.memberId)
    const group = entry.consumer
    if (group === undefined || isDead(entry)) return refused(KafkaError.COORDINATOR_NOT_AVAILABLE)
    if (entry.shard.refusal !== 0) return refused(entry.shard.refusal)
    const heartbeat = heartbeatOf(group.state, this.#topics, request)
    if (typeof heartbeat === 'number') return refused(heartbeat)
    const { memberId } = heartbeat
    const isNew = request.memberId === '' && request.groupInstanceId === null
    if (isNew && request.requiresKnownMemberId) {
      return joinRefusal(KafkaError.MEMBER_ID_REQUIRED, memberId)
    }
    const result = group.heartbeat(this.#ports.broker.time.monotonicMs(), heartbeat)
    if (isRefusal(result)) return refused(result.errorCode)
    const stored = this.#store(entry, [])
    this.#ports.arm(entry)
    const code = await stored
    if (code !== 0) return refused(code)
    // It was the last that had spoken the other protocol: there is a rebalance of the classic one.
    if (entry.consumer !== group) return refused(KafkaError.REBALANCE_IN_PROGRESS)
    return {
      errorCode: 0,
      generationId: result.memberEpoch,
      protocolType: CLASSIC_PROTOCOL_TYPE,
      protocolName: request.protocols[0]?.name ?? null,
      leader: '',
      skipAssignment: false,
      memberId,
      members: [],
    }
  }

  /** Of a member of the classic protocol, while hasMembers. */
  async sync(entry: GroupEntry, request: SyncRequest): Promise<SyncAnswer> {
    const { memberId, protocolType, protocolName } = request
    const group = entry.consumer
    if (group === undefined || isDead(entry)) {
      return syncRefusal(KafkaError.COORDINATOR_NOT_AVAILABLE)
    }
    const name = group.state.get(memberId)?.metadata.classic?.protocols[0]?.name
    const isOther =
      (protocolType !== null && protocolType !== CLASSIC_PROTOCOL_TYPE) ||
      (protocolName !== null && name !== undefined && protocolName !== name)
    if (isOther) return syncRefusal(KafkaError.INCONSISTENT_GROUP_PROTOCOL)
    const nowMs = this.#ports.broker.time.monotonicMs()
    const wrong = group.classicSync(nowMs, request, request.generationId)
    this.#ports.arm(entry)
    if (wrong !== 0) return syncRefusal(wrong)
    const assignment = assignmentOf(group.state.progressOf(memberId).assigned, this.#topics)
    const code = await new Promise<number>((resolve) => this.whenSettled(entry, resolve))
    if (code !== 0) return syncRefusal(code)
    return {
      errorCode: 0,
      protocolType: CLASSIC_PROTOCOL_TYPE,
      protocolName: name ?? null,
      assignment,
    }
  }

  /** Of a member of the classic protocol, while hasMembers. @returns an error code */
  beat(entry: GroupEntry, name: MemberName, generationId: number): number {
    const group = entry.consumer
    if (group === undefined || isDead(entry)) return KafkaError.COORDINATOR_NOT_AVAILABLE
    const nowMs = this.#ports.broker.time.monotonicMs()
    const code = group.classicHeartbeat(nowMs, name, generationId)
    this.#ports.arm(entry)
    return code
  }

  /** While hasMembers. @returns an error code per member, in order */
  async leave(entry: GroupEntry, names: readonly MemberName[]): Promise<readonly number[]> {
    const group = entry.consumer
    const { refusal } = entry.shard
    if (group === undefined || isDead(entry)) {
      return names.map(() => KafkaError.COORDINATOR_NOT_AVAILABLE)
    }
    if (refusal !== 0) return names.map(() => refusal)
    const codes = names.map((name) => group.classicLeave(name))
    const stored = this.#store(entry, [])
    this.#ports.arm(entry)
    const code = await stored
    return code === 0 ? codes : names.map(() => code)
  }

  /** Sessions that are over. */
  tick(entry: GroupEntry): void {
    const { consumer, shard } = entry
    if (consumer === undefined) return
    const nowMs = this.#ports.broker.time.monotonicMs()
    if (isDead(entry)) consumer.postpone(Number.POSITIVE_INFINITY)
    else if (shard.refusal !== 0) consumer.postpone(nowMs + POSTPONE_MS)
    else {
      consumer.tick(nowMs)
      void this.#store(entry, [])
    }
  }

  /** A record of the log, while its shard is loaded. */
  restore(entry: GroupEntry, { change }: Extract<GroupRecord, { kind: 'consumer' }>): void {
    entry.consumer ??= this.#make(entry.groupId)
    entry.consumer.restore(change)
    const { state } = entry.consumer
    const isGone = change.kind === 'epoch' && change.value === undefined && state.size === 0
    if (isGone) entry.consumer = undefined
  }

  /** All records that take a group out of the log. */
  tombstonesOf({ groupId, consumer }: GroupEntry): readonly EncodedRecord[] {
    return (consumer?.tombstones() ?? []).map((change) => encodeConsumerChange(groupId, change))
  }

  /**
   * A member of the classic protocol asks for a group of this one.
   * @returns 0: it is a classic group now; else an error code
   */
  makeClassic(entry: GroupEntry): number {
    const { consumer, shard } = entry
    if (consumer === undefined) return 0
    if (!consumer.isEmpty) return KafkaError.INCONSISTENT_GROUP_PROTOCOL
    if (shard.refusal !== 0) return shard.refusal
    const records = this.tombstonesOf(entry)
    entry.consumer = undefined
    this.#append(entry, records, () => undefined)
    return 0
  }

  /** Calls back when all is committed that this group's answers show now: 0, or an error code. */
  whenSettled(entry: GroupEntry, settled: Stored): void {
    entry.shard.whenCommitted(entry.endOffset, settled)
  }

  #make(groupId: string): ConsumerGroup {
    const { config, time } = this.#ports.broker
    return new ConsumerGroup(
      groupId,
      () => ({
        sessionTimeoutMs: config.number('group.consumer.session.timeout.ms'),
        sizeMax: config.number('group.max.size'),
        assignors: this.assignors,
        mayBecomeClassic: this.#mayMigrate('downgrade'),
      }),
      this.#topics,
      () => time.wallMs(),
    )
  }

  #mayMigrate(direction: 'upgrade' | 'downgrade'): boolean {
    const policy = this.#ports.broker.config.text('group.consumer.migration.policy')
    return policy === 'bidirectional' || policy === direction
  }

  #changesFromClassic({ groupId, classic }: GroupEntry): ConsumerChange[] | HeartbeatRefusal {
    if (!this.#mayMigrate('upgrade')) {
      return refuse(
        KafkaError.GROUP_ID_NOT_FOUND,
        `Group ${groupId} is not a consumer group: its members speak the classic protocol, and have to leave first (group.consumer.migration.policy).`,
      )
    }
    const changes = adoptedChanges(classic, this.#topics)
    return typeof changes === 'string'
      ? refuse(
          KafkaError.UNSUPPORTED_VERSION,
          `Group ${groupId} can not become a consumer group: ${changes}.`,
        )
      : [...changes]
  }

  /** Whoever waits there joins anew. */
  #forgetClassic(entry: GroupEntry): readonly EncodedRecord[] {
    // One with members may be on its way into the log.
    const mayBeStored = entry.isStored || entry.classic.memberCount > 0
    entry.isStored = false
    entry.classic.die(KafkaError.REBALANCE_IN_PROGRESS)
    entry.classic.restore(undefined, this.#ports.broker.time.monotonicMs())
    return mayBeStored ? [encodeGroup(entry.groupId, undefined)] : []
  }

  /** Only classic members are left. @returns what the log has to say of it */
  #becomeClassic(entry: GroupEntry, group: ConsumerGroup): readonly EncodedRecord[] {
    const { generation, members } = classicMembersOf(group.state, this.#topics)
    const gone = this.tombstonesOf(entry)
    entry.consumer = undefined
    entry.isStored = true
    const nowMs = this.#ports.broker.time.monotonicMs()
    const stored = entry.classic.adopt(nowMs, generation, members)
    return [...gone, encodeGroup(entry.groupId, stored)]
  }

  /** @returns 0, or an error code */
  #store(entry: GroupEntry, before: readonly EncodedRecord[]): Promise<number> {
    const group = entry.consumer
    const changes = group?.takeChanges() ?? []
    const records = [
      ...before,
      ...changes.map((change) => encodeConsumerChange(entry.groupId, change)),
    ]
    if (group?.mustBecomeClassic) records.push(...this.#becomeClassic(entry, group))
    return new Promise((resolve) => {
      if (records.length === 0) this.whenSettled(entry, resolve)
      else this.#append(entry, records, resolve)
    })
  }

  #append(entry: GroupEntry, records: readonly EncodedRecord[], stored: Stored): void {
    const endOffset = entry.shard.append(records, () => undefined, stored)
    if (endOffset === undefined) this.#ports.reload(entry.shard)
    else entry.endOffset = endOffset
  }
}

function topicsOf({ image }: Broker): TopicsView {
  return {
    find: (name) => {
      const topic = image.topic(name)
      if (topic?.value.state !== 'READY') return undefined
      return { topicId: topic.topicId, partitions: topic.value.partitions }
    },
    nameOf: (topicId) => {
      const topic = image.topicById(topicId)
      return topic?.value.state === 'READY' ? topic.name : undefined
    },
    *names() {
      for (const { name, value } of image.topics()) {
        if (value.state === 'READY' && !isInternalTopic(name)) yield name
      }
    },
  }
}
