/**
 * Groups of the consumer protocol between their machine (consumer-group.ts) and the log: what a heartbeat changes is
 * appended at once, and its answer waits until that is committed. Here a group also changes its protocol, which it can
 * while it has no members.
 *
 * Invariants:
 * - The machine is asked only when the log takes appends: it is never ahead of the log. Should an append fail
 *   nevertheless, all groups of that partition are read from the log again.
 * - An answer goes out only when everything is committed that it rests on, also what others have changed.
 */

import { KafkaError } from '../../src/protocol/errors.ts'
import { isInternalTopic } from '../metadata/topic-names.ts'
import type { Broker } from '../replica/broker.ts'
import { ConsumerGroup } from './consumer-group.ts'
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
  type EncodedRecord,
  encodeConsumerChange,
  encodeGroup,
  type GroupRecord,
} from './group-records.ts'
import type { GroupShard, Stored } from './group-shard.ts'
import type { TopicsView } from './group-topics.ts'

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
    if (group === undefined) {
      if (request.memberEpoch !== JOIN_EPOCH || !entry.classic.isUnused) {
        const why = entry.classic.isUnused
          ? `Group ${groupId} not found.`
          : `Group ${groupId} is not a consumer group: its members speak the classic protocol, and have to leave first.`
        return refuse(KafkaError.GROUP_ID_NOT_FOUND, why)
      }
      group = this.#make(groupId)
    }
    const { time } = this.#ports.broker
    const result = group.heartbeat(time.monotonicMs(), request)
    if (isRefusal(result)) return result
    const isNew = entry.consumer === undefined
    entry.consumer = group
    const answered = this.#store(entry, isNew ? this.#forgetClassic(entry) : []).then((code) =>
      code === 0 ? result : refuse(code, 'the group could not be stored'),
    )
    this.#ports.arm(entry)
    return answered
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
      }),
      this.#topics,
      () => time.wallMs(),
    )
  }

  #forgetClassic(entry: GroupEntry): readonly EncodedRecord[] {
    const wasStored = entry.isStored
    entry.isStored = false
    entry.classic.restore(undefined, this.#ports.broker.time.monotonicMs())
    return wasStored ? [encodeGroup(entry.groupId, undefined)] : []
  }

  /** @returns 0, or an error code */
  #store(entry: GroupEntry, before: readonly EncodedRecord[]): Promise<number> {
    const changes = entry.consumer?.takeChanges() ?? []
    return new Promise((resolve) => {
      if (changes.length === 0 && before.length === 0) this.whenSettled(entry, resolve)
      else {
        const records = changes.map((change) => encodeConsumerChange(entry.groupId, change))
        this.#append(entry, [...before, ...records], resolve)
      }
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
