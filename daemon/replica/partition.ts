/**
 * The leader's state of one partition on its log: leader epoch, high watermark, parked produces, waiting fetches.
 * A synchronous state machine. Its driver is the log: an append writes at once, the log's flusher syncs, and only
 * `onDurable` moves the high watermark where the topic is durable before the ack; nothing is answered earlier.
 *
 * Invariants:
 * - The high watermark never falls while this process leads, and is at most the log end offset (I8).
 * - With commit flush (flush.messages = 1) it is at most the durable offset (I6): nothing above it is acknowledged or
 *   shown to a consumer.
 * - A produce is answered `committed` only when the high watermark has reached its end (I7), a duplicate like a new one.
 * - The high watermark stays at the start of the leader's epoch until that epoch is on the disk: every batch that was
 *   acknowledged has its epoch in the log's epoch file, or above what a recovery scans.
 * - Every parked produce and every waiting fetch is told exactly once: committed, or why not.
 */

import { assert } from '../../src/base/assert.ts'
import type { TopicConfig } from '../../src/config/topic-config.ts'
import type { BatchHeader } from '../../src/record/batch-layout.ts'
import type { AppendResult, ProducerCheck } from '../log/log-types.ts'
import type { PartitionLog } from '../log/partition-log.ts'
import type { PartitionValue } from '../metadata/metadata-values.ts'

/** Why a partition does not serve (any more). The apis map these to Kafka's error numbers. */
export type NotServing = 'notLeader' | 'deleted' | 'storageFailed' | 'stopping'

/** Waits until the high watermark reaches `endOffset`. */
export interface CommitWaiter {
  readonly endOffset: number
  onCommitted(): void
  onLost(why: NotServing): void
}

/** Waits for anything that may change what a fetch of this partition answers. */
export interface ReadWaiter {
  onChanged(partition: Partition): void
}

export interface PartitionIdentity {
  readonly topic: string
  readonly topicId: string
  readonly partition: number
}

export class Partition {
  readonly topic: string
  readonly topicId: string
  readonly partition: number
  readonly log: PartitionLog
  #config: TopicConfig
  #leaderEpoch = -1
  #partitionEpoch = -1
  #inSyncCount = 0
  #minInSync = 1
  #highWatermark: number
  #lastStableOffset: number
  #notServing: NotServing | undefined = 'notLeader'
  #parked: CommitWaiter[] = []
  readonly #waiting = new Set<ReadWaiter>()
  readonly #stopListening: () => void
  #appendedBytes = 0
  /** Where the epoch being made durable begins; undefined: it is durable. */
  #epochStart: number | undefined

  constructor(log: PartitionLog, identity: PartitionIdentity, config: TopicConfig) {
    this.topic = identity.topic
    this.topicId = identity.topicId
    this.partition = identity.partition
    this.log = log
    this.#config = config
    this.#highWatermark = Math.min(log.highWatermarkHint, log.durableOffset)
    this.#lastStableOffset = log.lastStableOffset(this.#highWatermark)
    this.#stopListening = log.onDurable(() => this.#advance())
  }

  get config(): TopicConfig {
    return this.#config
  }

  /** -1 until it has led. */
  get leaderEpoch(): number {
    return this.#leaderEpoch
  }

  get partitionEpoch(): number {
    return this.#partitionEpoch
  }

  get highWatermark(): number {
    return this.#highWatermark
  }

  get lastStableOffset(): number {
    return this.#lastStableOffset
  }

  /** undefined: it leads and serves. */
  get notServing(): NotServing | undefined {
    return this.#notServing
  }

  /** Fewer in-sync replicas than acks=all asks for. */
  get isUnderMinInSync(): boolean {
    return this.#inSyncCount < this.#minInSync
  }

  /** Bytes appended since this process opened the log: tells a fetch how much may have come. */
  get appendedBytes(): number {
    return this.#appendedBytes
  }

  get parkedCount(): number {
    return this.#parked.length
  }

  /**
   * Takes the leadership of `value`'s epoch, or its changes within that epoch, and serves from this call on. What it
   * appends is acknowledged only once the epoch is durable; that is when the promise resolves. A step that failed can
   * be repeated (KAFKA-9307): the partition then does not lead.
   * @throws StreamError DISK_FAILED, DISK_FULL
   */
  async lead(value: PartitionValue): Promise<void> {
    if (value.leaderEpoch < this.#leaderEpoch) return
    if (value.leaderEpoch === this.#leaderEpoch && value.partitionEpoch < this.#partitionEpoch)
      return
    const before = this.#leaderEpoch
    let durable: Promise<void> | undefined
    if (value.leaderEpoch > before) {
      this.#epochStart = this.log.logEndOffset
      durable = this.log.beginEpoch(value.leaderEpoch)
      this.#leaderEpoch = value.leaderEpoch
    }
    this.#partitionEpoch = value.partitionEpoch
    this.#inSyncCount = value.inSyncReplicas.length
    this.#minInSync = value.minInSync
    if (this.#notServing === 'notLeader') this.#notServing = undefined
    this.#advance()
    this.#wakeReaders()
    if (durable === undefined) return
    try {
      await durable
    } catch (error) {
      if (this.#leaderEpoch === value.leaderEpoch) {
        this.#leaderEpoch = before
        this.stopServing('notLeader')
      }
      throw error
    }
    if (this.#leaderEpoch !== value.leaderEpoch) return
    this.#epochStart = undefined
    this.#advance()
  }

  /** Stops serving; parked produces have an unknown outcome, waiting fetches are told. Final but for `notLeader`. */
  stopServing(why: NotServing): void {
    if (this.#notServing !== undefined && this.#notServing !== 'notLeader') return
    if (this.#notServing === why) return
    this.#notServing = why
    const parked = this.#parked
    this.#parked = []
    for (const waiter of parked) waiter.onLost(why)
    this.#wakeReaders()
  }

  close(): void {
    this.stopServing('stopping')
    this.#stopListening()
  }

  applyConfig(config: TopicConfig): void {
    this.#config = config
    this.log.applyConfig(config)
    this.#advance()
  }

  checkProducer(header: BatchHeader, transactionVersion = 0): ProducerCheck {
    return this.log.checkProducer(header, transactionVersion)
  }

  /**
   * Appends one batch at the log's end, with its base offset and the leader epoch stamped into it.
   * @throws StreamError DISK_FULL, DISK_FAILED: nothing was appended
   */
  append(batch: Uint8Array): AppendResult {
    assert(this.#notServing === undefined, 'only a serving leader appends')
    const result = this.log.append([batch], { leaderEpoch: this.#leaderEpoch })
    assert(result.nextOffset > result.firstOffset, 'an append takes at least one offset')
    this.#appendedBytes += batch.length
    if (this.#config.flushMessages > 1) this.#advance()
    return result
  }

  /** Tells `waiter` once: at once where it is already so, hence never from inside of this call where it is not. */
  whenCommitted(waiter: CommitWaiter): void {
    if (this.#notServing !== undefined) waiter.onLost(this.#notServing)
    else if (waiter.endOffset <= this.#highWatermark) waiter.onCommitted()
    else this.#parked.push(waiter)
  }

  addReader(waiter: ReadWaiter): void {
    this.#waiting.add(waiter)
  }

  removeReader(waiter: ReadWaiter): void {
    this.#waiting.delete(waiter)
  }

  /** @throws StreamError DISK_FAILED, DISK_FULL */
  async deleteRecordsBefore(offset: number): Promise<void> {
    assert(
      offset <= this.#highWatermark,
      'records above the high watermark are not deleted (I13, I14)',
    )
    await this.log.deleteRecordsBefore(offset)
    this.#wakeReaders()
  }

  /** Retention or compaction may have moved the log start. */
  logStartMoved(): void {
    this.#wakeReaders()
  }

  /** For tests: checks what must hold between two inputs. */
  verify(): void {
    assert(this.#highWatermark <= this.log.logEndOffset, 'high watermark ≤ log end (I8)')
    assert(this.#lastStableOffset <= this.#highWatermark, 'last stable offset ≤ high watermark')
    assert(
      this.#parked.every((waiter) => waiter.endOffset > this.#highWatermark),
      'nobody waits for what is committed',
    )
  }

  #advance(): void {
    const { log } = this
    const end = log.logEndOffset
    const written = this.#config.flushMessages > 1 ? end : Math.min(log.durableOffset, end)
    const committed = Math.min(written, this.#epochStart ?? written)
    if (committed <= this.#highWatermark) return
    this.#highWatermark = committed
    log.setHighWatermark(committed)
    this.#lastStableOffset = log.lastStableOffset(committed)
    if (this.#parked.length > 0) this.#release(committed)
    if (this.#waiting.size > 0) this.#wakeReaders()
  }

  #release(committed: number): void {
    const parked = this.#parked
    const still: CommitWaiter[] = []
    this.#parked = still
    for (const waiter of parked) {
      if (waiter.endOffset <= committed) waiter.onCommitted()
      else still.push(waiter)
    }
  }

  #wakeReaders(): void {
    for (const waiter of [...this.#waiting]) {
      if (this.#waiting.has(waiter)) waiter.onChanged(this)
    }
  }
}
