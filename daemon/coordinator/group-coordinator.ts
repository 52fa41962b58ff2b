/**
 * The group coordinator: which group lives in which partition of `__consumer_offsets`, the loading and leaving of those
 * partitions, timers, expiry. The rules of membership are classic-group.ts and consumer-group.ts (with consumer-groups.ts
 * before it); here they meet clock, log and topics.
 *
 * Invariants:
 * - A group is served only by the leader of its partition, and only when all of that partition is loaded.
 * - All that answers show is committed.
 * - Each request is answered once: at the latest when its shard ends or the broker stops.
 */

import { isStreamError } from '../../src/base/errors.ts'
import type { Timer } from '../../src/ports/time.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import type { ImageChange } from '../metadata/metadata-image.ts'
import type { Broker } from '../replica/broker.ts'
import { ClassicGroup } from './classic-group.ts'
import { ConsumerGroups } from './consumer-groups.ts'
import {
  emptySinceMs,
  type GroupEntry,
  isUnused,
  protocolTypeOf,
  subscribedTopicsOf,
  wakeMsOf,
} from './group-entry.ts'
import {
  type EncodedRecord,
  encodeGroup,
  encodeOffset,
  type GroupRecord,
  partitionForGroup,
} from './group-records.ts'
import { GroupShard, type Stored } from './group-shard.ts'
import { ensureOffsetsTopic, OFFSETS_TOPIC } from './internal-topic.ts'
import type { WrittenMarker } from './marker-writer.ts'
import { expiredOffsets, type OffsetEntry, OffsetTable } from './offset-table.ts'
import type { PeerCaller } from './peer-caller.ts'
import type { TransactionOwner } from './shard-log.ts'

const MINUTE_MS = 60_000

/** A group's place, or why it is not served here now. */
export type FoundGroup =
  | { readonly shard: GroupShard; readonly entry: GroupEntry | undefined; readonly errorCode: 0 }
  | { readonly shard: undefined; readonly entry: undefined; readonly errorCode: number }

export class GroupCoordinator {
  /** Those of the consumer protocol. */
  readonly consumers: ConsumerGroups
  readonly #broker: Broker
  readonly #peers: PeerCaller | undefined
  readonly #shards = new Map<number, GroupShard>()
  readonly #groups = new Map<string, GroupEntry>()
  readonly #timers = new Set<Timer>()
  #creating: Promise<unknown> | undefined
  readonly #stopListening: (() => void)[] = []
  #isStopped = false

  /** @param peers  undefined: the single daemon */
  constructor(broker: Broker, peers?: PeerCaller) {
    this.#broker = broker
    this.#peers = peers
    this.consumers = new ConsumerGroups({
      broker,
      arm: (entry) => this.arm(entry),
      reload: (shard) => {
        this.#leave(shard)
        this.#lookForShards()
      },
    })
  }

  /** Begins to load what this broker leads, and to look after it. Returns at once. */
  start(): void {
    const { config, image, table } = this.#broker
    this.#lookForShards()
    this.#stopListening.push(
      image.onChange((change) => this.#follow(change)),
      // Among other brokers a leadership begins and ends later than the image says.
      table.onLeadership(({ topic }) => {
        if (topic === OFFSETS_TOPIC) this.#lookForShards()
      }),
    )
    this.#every(config.number('offsets.retention.check.interval.ms'), () => this.expire())
  }

  /** Answers whatever is parked. Idempotent. */
  stop(): void {
    if (this.#isStopped) return
    this.#isStopped = true
    for (const stop of this.#stopListening) stop()
    for (const timer of this.#timers) timer.cancel()
    for (const shard of [...this.#shards.values()]) this.#leave(shard)
  }

  // --- finding

  get #topicPartitions(): number | undefined {
    const topic = this.#broker.image.topic(OFFSETS_TOPIC)
    return topic?.value.state === 'READY' ? topic.value.partitions : undefined
  }

  find(groupId: string): FoundGroup {
    const refuse = (errorCode: number): FoundGroup => ({
      shard: undefined,
      entry: undefined,
      errorCode,
    })
    const partitions = this.#topicPartitions
    if (this.#isStopped) return refuse(KafkaError.NOT_COORDINATOR)
    if (partitions === undefined) return refuse(KafkaError.COORDINATOR_NOT_AVAILABLE)
    const shard = this.#shardAt(partitionForGroup(groupId, partitions))
    if (shard === undefined) return refuse(KafkaError.NOT_COORDINATOR)
    if (!shard.isReady) return refuse(KafkaError.COORDINATOR_LOAD_IN_PROGRESS)
    return { shard, entry: this.#groups.get(groupId), errorCode: 0 }
  }

  /** Of a group that is being served; made where there is none. */
  entryIn(shard: GroupShard, groupId: string): GroupEntry {
    const found = this.#groups.get(groupId)
    if (found !== undefined) return found
    const { config, time } = this.#broker
    let entry: GroupEntry | undefined
    const classic = new ClassicGroup(
      groupId,
      () => ({
        initialRebalanceDelayMs: config.number('group.initial.rebalance.delay.ms'),
        sizeMax: config.number('group.max.size'),
      }),
      (stored, done) => {
        const made = entry as GroupEntry
        const records = [encodeGroup(groupId, stored)]
        const apply = (): void => {
          made.isStored = true
        }
        this.append(shard, records, apply, (errorCode) => {
          done(errorCode, time.monotonicMs())
          this.arm(made)
        })
      },
      () => time.wallMs(),
    )
    entry = {
      groupId,
      shard,
      offsets: new OffsetTable(),
      classic,
      consumer: undefined,
      isStored: false,
      endOffset: 0,
      timer: undefined,
      timerMs: Number.POSITIVE_INFINITY,
    }
    this.#groups.set(groupId, entry)
    return entry
  }

  /** Of a group that a refused request has made. */
  dropIfNothing(entry: GroupEntry): void {
    const hasState = entry.isStored || entry.consumer !== undefined || !entry.offsets.isEmpty
    if (!hasState && isUnused(entry)) this.#remove(entry)
  }

  /** All groups that are served here. */
  get groups(): Iterable<GroupEntry> {
    return this.#served()
  }

  *#served(): Iterable<GroupEntry> {
    for (const entry of this.#groups.values()) if (entry.shard.isReady) yield entry
  }

  /** Nobody has asked for a coordinator yet: there is no group. */
  get isWithoutTopic(): boolean {
    return this.#topicPartitions === undefined && !this.#isStopped
  }

  /** Some groups cannot be told yet. */
  get isLoading(): boolean {
    for (const shard of this.#shards.values()) if (!shard.isReady) return true
    return false
  }

  /** The broker that coordinates a group, or why none does. The first question makes the offsets topic. */
  async locate(groupId: string): Promise<{ readonly nodeId: number; readonly errorCode: number }> {
    if (this.#isStopped) return { nodeId: -1, errorCode: KafkaError.COORDINATOR_NOT_AVAILABLE }
    try {
      await this.#ensureTopic()
    } catch (error) {
      if (!isStreamError(error)) throw error
      this.#broker.log.warn('the offsets topic could not be made', { error: error.message })
      return { nodeId: -1, errorCode: KafkaError.COORDINATOR_NOT_AVAILABLE }
    }
    const { image } = this.#broker
    const topic = image.topic(OFFSETS_TOPIC)
    const partitions = this.#topicPartitions
    if (topic === undefined || partitions === undefined) {
      return { nodeId: -1, errorCode: KafkaError.COORDINATOR_NOT_AVAILABLE }
    }
    const index = partitionForGroup(groupId, partitions)
    const leader = image.partition(topic.topicId, index)?.value.leader ?? -1
    if (leader < 0) return { nodeId: -1, errorCode: KafkaError.COORDINATOR_NOT_AVAILABLE }
    return { nodeId: leader, errorCode: 0 }
  }

  async #ensureTopic(): Promise<void> {
    if (this.#topicPartitions !== undefined) return
    this.#creating ??= ensureOffsetsTopic(this.#broker, this.#peers).finally(() => {
      this.#creating = undefined
    })
    await this.#creating
    this.#lookForShards()
  }

  // --- writing

  /** As GroupShard.append; the group's timer is looked at afterwards. */
  append(
    shard: GroupShard,
    records: readonly EncodedRecord[],
    apply: (position: number) => void,
    stored: Stored,
  ): void {
    shard.append(records, apply, stored)
  }

  /** Writes offsets of an open transaction: they count when its marker comes. @param stored  0, or an error code */
  appendPending(
    { groupId, shard }: GroupEntry,
    owner: TransactionOwner,
    offsets: readonly OffsetEntry[],
    stored: Stored,
  ): void {
    const records = offsets.map(({ topic, partition, value }) =>
      encodeOffset(groupId, topic, partition, value),
    )
    const position = shard.append(records, () => undefined, stored, owner)
    if (position === undefined) return
    for (const { topic, partition, value } of offsets) {
      shard.pending.add(owner, groupId, topic, partition, value, position)
    }
  }

  /** A transaction has ended in a partition: its offsets count from now on, or are gone. */
  takeMarker({ topic, partition, producerId, isCommit }: WrittenMarker): void {
    // A partition that is not open here is read with the marker in it.
    if (topic === OFFSETS_TOPIC) this.#shards.get(partition)?.takeMarker(producerId, isCommit)
  }

  #endTransaction(shard: GroupShard, producerId: number, isCommit: boolean): void {
    for (const pending of shard.pending.end(producerId)) {
      if (!isCommit) continue
      const { group, topic, partition, value, position } = pending
      this.entryIn(shard, group).offsets.set(topic, partition, value, position)
    }
  }

  /** To be called after each input of a group: sees that its next tick comes in time. */
  arm(entry: GroupEntry): void {
    const wakeMs = wakeMsOf(entry)
    if (wakeMs >= entry.timerMs || this.#groups.get(entry.groupId) !== entry) return
    entry.timer?.cancel()
    entry.timer = undefined
    entry.timerMs = Number.POSITIVE_INFINITY
    if (wakeMs === Number.POSITIVE_INFINITY || this.#isStopped) return
    const { time } = this.#broker
    entry.timerMs = wakeMs
    entry.timer = time.setTimer(Math.max(0, wakeMs - time.monotonicMs()), () => {
      entry.timer = undefined
      entry.timerMs = Number.POSITIVE_INFINITY
      entry.classic.tick(time.monotonicMs())
      this.consumers.tick(entry)
      this.arm(entry)
    })
  }

  /**
   * Writes tombstones for offsets.
   * @param stored  0, or an error code
   */
  forget(entry: GroupEntry, offsets: readonly OffsetEntry[], stored: Stored): void {
    const records = offsets.map(({ topic, partition }) =>
      encodeOffset(entry.groupId, topic, partition, undefined),
    )
    const apply = (position: number): void => {
      for (const { topic, partition } of offsets) {
        entry.offsets.delete(topic, partition)
        entry.shard.pending.delete(entry.groupId, topic, partition, position)
      }
    }
    if (records.length === 0) stored(0)
    else this.append(entry.shard, records, apply, stored)
  }

  /** Deletes a group that has no members, with all its offsets. @param stored  0, or an error code */
  delete(entry: GroupEntry, stored: Stored): void {
    const { groupId, shard } = entry
    const offsets = [...entry.offsets.all(), ...shard.pending.ofGroup(groupId)]
    const records = offsets.map(({ topic, partition }) =>
      encodeOffset(groupId, topic, partition, undefined),
    )
    if (entry.isStored) records.push(encodeGroup(groupId, undefined))
    records.push(...this.consumers.tombstonesOf(entry))
    const remove = (position: number): void => {
      for (const { topic, partition } of offsets) {
        shard.pending.delete(groupId, topic, partition, position)
      }
      if (this.#groups.get(groupId) === entry) this.#remove(entry)
    }
    if (records.length === 0) {
      remove(0)
      stored(0)
      return
    }
    // From here on it refuses everything; what was appended before stays before.
    entry.classic.die()
    this.append(shard, records, remove, (errorCode) => {
      if (errorCode !== 0) this.#revive(entry)
      stored(errorCode)
    })
  }

  /** The deletion may or may not be in the log: the group as it was, until the log says otherwise. */
  #revive(entry: GroupEntry): void {
    const { groupId, shard } = entry
    if (this.#groups.get(groupId) !== entry || !shard.isReady) return
    this.#remove(entry)
    const again = this.entryIn(shard, groupId)
    again.offsets.setAll(entry.offsets)
    again.isStored = entry.isStored
    again.consumer = entry.consumer
    again.consumer?.begin(this.#broker.time.monotonicMs())
    this.arm(again)
  }

  #remove(entry: GroupEntry): void {
    entry.timer?.cancel()
    entry.timer = undefined
    this.#groups.delete(entry.groupId)
  }

  // --- expiry

  /** Forgets offsets that are over, and groups of which nothing is left. */
  expire(): void {
    const { config, time } = this.#broker
    const wallMs = time.wallMs()
    const retentionMs = config.number('offsets.retention.minutes') * MINUTE_MS
    for (const entry of [...this.#served()]) {
      const { groupId, offsets, shard } = entry
      const over = expiredOffsets(offsets, {
        wallMs,
        retentionMs,
        state: isUnused(entry) ? 'Empty' : 'active',
        protocolType: protocolTypeOf(entry),
        emptySinceMs: emptySinceMs(entry),
        subscribedTopics: subscribedTopicsOf(entry),
      })
      const expired = over.filter(
        ({ topic, partition }) => !shard.pending.holds(groupId, topic, partition),
      )
      this.forget(entry, expired, (errorCode) => {
        if (errorCode !== 0 || !shard.isReady || this.#groups.get(groupId) !== entry) return
        const isEmpty = offsets.isEmpty && !shard.pending.hasGroup(groupId)
        if (isUnused(entry) && isEmpty) this.delete(entry, () => undefined)
      })
    }
  }

  #forgetTopic(topic: string): void {
    for (const entry of [...this.#served()]) {
      const pending = [...entry.shard.pending.ofGroup(entry.groupId)]
      const offsets = [
        ...entry.offsets.ofTopic(topic),
        ...pending.filter((each) => each.topic === topic),
      ]
      if (offsets.length > 0) this.forget(entry, offsets, () => undefined)
    }
  }

  // --- shards

  #follow(change: ImageChange): void {
    const { image } = this.#broker
    for (const topicId of change.deletedTopicIds) {
      const name = image.deletedTopic(topicId)?.value.name
      if (name !== undefined) this.#forgetTopic(name)
    }
    if (change.topicIds.size > 0 || change.deletedTopicIds.size > 0) {
      for (const { consumer } of this.#groups.values()) consumer?.noteTopics()
    }
    const topic = image.topic(OFFSETS_TOPIC)
    if (topic !== undefined && change.topicIds.has(topic.topicId)) this.#lookForShards()
  }

  #lookForShards(): void {
    if (this.#isStopped) return
    for (const shard of [...this.#shards.values()]) {
      if (!shard.isCurrent) this.#leave(shard)
    }
    const partitions = this.#topicPartitions ?? 0
    for (let index = 0; index < partitions; index += 1) this.#shardAt(index)
  }

  /** undefined: this broker does not lead it. */
  #shardAt(index: number): GroupShard | undefined {
    const known = this.#shards.get(index)
    if (known?.isCurrent) return known
    if (known !== undefined) this.#leave(known)
    const partition = this.#broker.table.find(OFFSETS_TOPIC, index)
    if (partition === undefined || partition.notServing !== undefined) return undefined
    const { time, log, config, directory } = this.#broker
    const shard: GroupShard = new GroupShard(
      index,
      partition,
      {
        time,
        log,
        commitTimeoutMs: () => config.number('offsets.commit.timeout.ms'),
        refusesWrites: () => directory.refusesWrites(),
      },
      {
        onRecord: (record, position, owner) => this.#onRecord(shard, record, position, owner),
        onMarker: (producerId, isCommit) => this.#endTransaction(shard, producerId, isCommit),
      },
    )
    this.#shards.set(index, shard)
    this.#load(shard)
    return shard
  }

  #load(shard: GroupShard): void {
    shard
      .load()
      .then(() => {
        if (!shard.isReady) return
        for (const entry of this.#groups.values()) {
          if (entry.shard !== shard) continue
          entry.consumer?.begin(this.#broker.time.monotonicMs())
          this.arm(entry)
        }
      })
      .catch((error: unknown) => {
        this.#broker.log.error('the groups of a partition could not be loaded', {
          partition: shard.index,
          error: String(error),
        })
      })
  }

  /** A record of the log, while a shard is loaded. */
  #onRecord(
    shard: GroupShard,
    record: GroupRecord,
    position: number,
    owner: TransactionOwner | undefined,
  ): void {
    if (record.kind === 'other') return
    if (record.kind === 'offset') {
      const { group, topic, partition } = record
      if (record.value === undefined) shard.pending.delete(group, topic, partition, position)
      else if (owner !== undefined) {
        this.entryIn(shard, group)
        shard.pending.add(owner, group, topic, partition, record.value, position)
        return
      }
    }
    const { value } = record.kind === 'consumer' ? record.change : record
    if (value === undefined && !this.#groups.has(record.group)) return
    const entry = this.entryIn(shard, record.group)
    if (record.kind === 'consumer') this.consumers.restore(entry, record)
    else if (record.kind === 'offset') {
      const { topic, partition } = record
      if (record.value === undefined) entry.offsets.delete(topic, partition)
      else entry.offsets.set(topic, partition, record.value, position)
    } else {
      entry.isStored = record.value !== undefined
      entry.classic.restore(record.value, this.#broker.time.monotonicMs())
    }
    const isEmpty = entry.offsets.isEmpty && !shard.pending.hasGroup(record.group)
    if (!entry.isStored && entry.consumer === undefined && isEmpty) this.#remove(entry)
  }

  #leave(shard: GroupShard): void {
    if (this.#shards.get(shard.index) === shard) this.#shards.delete(shard.index)
    shard.close()
    for (const entry of [...this.#groups.values()]) {
      if (entry.shard !== shard) continue
      this.#remove(entry)
      entry.classic.die(KafkaError.NOT_COORDINATOR)
    }
  }

  #every(pauseMs: number, job: () => void): void {
    if (!Number.isFinite(pauseMs)) return
    const timer = this.#broker.time.setTimer(pauseMs, () => {
      this.#timers.delete(timer)
      if (this.#isStopped) return
      job()
      this.#every(pauseMs, job)
    })
    this.#timers.add(timer)
  }
}
