/**
 * One batch, appended only if a partition's log ends at an expected offset: compare-and-set. The daemon's own API
 * (AppendAt); a Kafka cluster has nothing like it.
 *
 * It is filled like a Producer, but nothing leaves before flush, and what does not fit one batch of one partition is
 * refused as a whole. The batch has a producer id and a sequence: sent again after a lost answer, the daemon knows it.
 */

import { StreamError } from '../base/errors.ts'
import type { Random } from '../ports/random.ts'
import { sleep, type Time } from '../ports/time.ts'
import { KafkaError, kafkaErrorIsRetriable } from '../protocol/errors.ts'
import { BatchBuilder, type RecordInput } from '../record/batch-builder.ts'
import { backoffMs } from './backoff.ts'
import type { Cluster } from './cluster.ts'
import { kafkaFailure } from './kafka-failure.ts'
import type { TopicInfo } from './metadata-cache.ts'
import { partitionForKey } from './partitioner.ts'
import type { ProducerOptions } from './producer.ts'
import { type Identity, requestIdentity } from './producer-identity.ts'

const BATCH_BYTES_MAX = 1_048_588
const DELIVERY_TIMEOUT_MS = 120_000

export class ConditionalProducer {
  /** There is always room, or an error. */
  readonly isFull = false
  consumedBytes = 0
  failure: StreamError | undefined
  readonly #time: Time
  readonly #random: Random
  readonly #cluster: Cluster
  readonly #options: ProducerOptions
  readonly #expectedEndOffset: number
  readonly #builder: BatchBuilder
  #topic = ''
  #partition: number | undefined
  #isDelivered = false

  constructor(
    time: Time,
    random: Random,
    cluster: Cluster,
    options: ProducerOptions,
    expectedEndOffset: number,
  ) {
    this.#time = time
    this.#random = random
    this.#cluster = cluster
    this.#options = options
    this.#expectedEndOffset = expectedEndOffset
    this.#builder = new BatchBuilder(options.recordBytesMax ?? BATCH_BYTES_MAX)
    this.#builder.reset({ timestampMs: time.wallMs() })
  }

  /** @throws StreamError UNSUPPORTED_BY_BROKER where there is no AppendAt; and as Producer.prepare */
  async prepare(topic: string): Promise<TopicInfo> {
    const deadlineMs = this.#time.monotonicMs() + this.#cluster.requestTimeoutMs
    const connection = await this.#cluster.connection('any', deadlineMs)
    if (!connection.supports('AppendAt', 0)) {
      throw new StreamError(
        'UNSUPPORTED_BY_BROKER',
        'this broker cannot append at an expected offset',
        { hint: "only the daemon's own doors can: ipc:// and tcp://" },
      )
    }
    const info = await this.#cluster.awaitTopic(topic)
    this.#cluster.addTopic(topic)
    this.#topic = topic
    return info
  }

  get appendedCount(): number {
    return this.#builder.recordCount
  }

  deliveredThrough(): number {
    return this.#isDelivered ? this.#builder.recordCount : 0
  }

  partitionCount(topic: string): number {
    return Math.max(1, this.#cluster.metadata.topic(topic)?.partitions.length ?? 0)
  }

  partitionForKey(topic: string, bytes: Uint8Array, start = 0, end = bytes.length): number {
    const name = this.#options.partitioner ?? 'murmur2'
    return partitionForKey(name, this.partitionCount(topic), bytes, start, end)
  }

  /** @throws StreamError NOT_DELIVERED: more than one batch; CONFIG_INVALID: more than one partition */
  append(topic: string, partition: number | undefined, record: RecordInput): true {
    this.#choose(topic, partition)
    if (this.#builder.append(record)) return true
    throw this.#tooMuch()
  }

  /** @throws as append */
  appendLines(
    topic: string,
    partition: number | undefined,
    chunk: Uint8Array,
    start: number,
    end: number,
  ): number {
    this.#choose(topic, partition)
    const delimiter = this.#options.delimiter ?? 10
    this.consumedBytes = this.#builder.appendLines(chunk, start, end, { delimiter })
    if (this.#builder.isFull) throw this.#tooMuch()
    return this.consumedBytes
  }

  flushSoon(): void {
    // Nothing leaves before all is there.
  }

  async writable(): Promise<void> {
    // There is always room.
  }

  /** @throws StreamError CONFLICT: the log ends elsewhere, nothing was appended; NOT_DELIVERED and others */
  async flush(): Promise<void> {
    if (this.#builder.isEmpty || this.#isDelivered) return
    try {
      const baseOffset = await this.#send()
      this.#isDelivered = true
      this.#report(baseOffset)
    } catch (error) {
      if (error instanceof StreamError) this.failure ??= error
      throw error
    }
  }

  close(): void {
    // The cluster stays, and nothing else is held.
  }

  #choose(topic: string, partition: number | undefined): void {
    let chosen = partition ?? this.#partition
    if (chosen === undefined && this.partitionCount(topic) === 1) chosen = 0
    if (chosen === undefined || chosen !== (this.#partition ?? chosen)) {
      throw new StreamError('CONFIG_INVALID', `${topic} has several partitions, and one is meant`, {
        target: topic,
        hint: 'name it: --partition N',
      })
    }
    this.#partition = chosen
  }

  #tooMuch(): StreamError {
    return new StreamError(
      'NOT_DELIVERED',
      `the input does not fit one batch of ${this.#builder.capacityBytes} bytes; nothing was appended`,
      { target: this.#topic },
    )
  }

  /** @returns the offset of the first record */
  async #send(): Promise<number> {
    const timeoutMs = this.#options.deliveryTimeoutMs ?? DELIVERY_TIMEOUT_MS
    const deadlineMs = this.#time.monotonicMs() + timeoutMs
    const identity = await this.#identify(deadlineMs)
    const batch = this.#builder.finish({
      codec: this.#options.codec ?? 'none',
      ...identity,
      baseSequence: 0,
    })
    for (let attempt = 1; ; attempt += 1) {
      const outcome = await this.#sendOnce(batch, deadlineMs)
      if (typeof outcome === 'number') return outcome
      const delayMs = backoffMs(this.#random, this.#cluster.backoff, attempt)
      if (this.#time.monotonicMs() + delayMs > deadlineMs) throw outcome
      await sleep(this.#time, delayMs)
      await this.#cluster.describeTopics([this.#topic], { deadlineMs })
    }
  }

  async #identify(deadlineMs: number): Promise<Identity> {
    const identity = await requestIdentity(
      this.#time,
      this.#random,
      this.#cluster,
      () => this.#time.monotonicMs() < deadlineMs,
    )
    if (identity instanceof StreamError) throw identity
    if (identity !== undefined) return identity
    throw new StreamError('NOT_DELIVERED', 'no producer id could be had', { target: this.#topic })
  }

  /** @returns the offset, or why it may be tried again */
  async #sendOnce(batch: Uint8Array, deadlineMs: number): Promise<number | StreamError> {
    const target = `${this.#topic} partition ${this.#partition}`
    const leader = this.#cluster.leaderOf(this.#topic, this.#partition ?? 0)
    if (leader === undefined) {
      return new StreamError('NOT_DELIVERED', `${target}: no leader`, { target })
    }
    const timeoutMs = this.#options.requestTimeoutMs ?? this.#cluster.requestTimeoutMs
    try {
      const answer = await this.#cluster.call(
        leader.leaderId,
        'AppendAt',
        {
          topic: this.#topic,
          partition: this.#partition ?? 0,
          expectedEndOffset: this.#expectedEndOffset,
          timeoutMs,
          records: batch,
        },
        { deadlineMs },
      )
      const { errorCode, errorMessage, baseOffset } = answer
      if (errorCode === 0) return baseOffset
      if (errorCode === KafkaError.OFFSET_OUT_OF_RANGE) {
        throw new StreamError('CONFLICT', `${target}: ${errorMessage ?? 'ends elsewhere'}`, {
          target,
        })
      }
      const failure = kafkaFailure(errorCode, { target, brokerMessage: errorMessage })
      if (kafkaErrorIsRetriable(errorCode)) return failure
      throw failure
    } catch (error) {
      if (!(error instanceof StreamError) || error.code === 'CONFLICT') throw error
      if (!error.retriable || this.#cluster.isClosed) throw error
      return new StreamError('NOT_DELIVERED', `${target}: ${error.message}, outcome unknown`, {
        target,
        cause: error,
      })
    }
  }

  #report(baseOffset: number): void {
    const { recordCount, sizeBytes } = this.#builder
    this.#options.onDelivery?.({
      topic: this.#topic,
      partition: this.#partition ?? 0,
      baseOffset,
      recordCount,
      bytes: sizeBytes,
      firstOrdinal: 0,
      lastOrdinal: recordCount - 1,
      ordinals: undefined,
      error: undefined,
      outcomeUnknown: false,
      batch: undefined,
    })
  }
}
