/**
 * Records in, acknowledged batches out: sends what batch-filler.ts has filled to the partitions' leaders, tells what became of it.
 * The driver around partition-queue.ts, which decides what may be sent and what an answer means.
 *
 * What it promises with acks=all: of every partition a prefix of the appended batches is in the log, each record once
 * and in order; whatever was reported as delivered is in that prefix. After a batch has failed for good nothing behind
 * it in its partition is sent any more. With acks=1 or 0 there are no sequences: one request in flight per partition
 * keeps the order, but a lost answer may make a duplicate (1), and a lost connection a gap (0).
 *
 * Invariants:
 * - A batch's bytes never change between its first send and its answer, and a buffer is used again only when its batch
 *   was sent exactly once and answered: a second link may still hold the bytes (ports/net.ts: frames stay unchanged).
 * - Memory is bounded: bufferBytesMax over all partitions, the window and two batches per partition.
 * - Latency: with nothing in flight for a partition an idle input sends at once (flushSoon); else the batch leaves when
 *   it is full, when an acknowledgement comes, or after lingerMs.
 *
 * Within one pass of the driver: (1) finish the batches that may go, (2) send them, (3) feed answers back into the
 * queues, (4) report, (5) wake those who wait. No step is entered again from within a report.
 */
import { assert } from '../base/assert.ts'
import { StreamError } from '../base/errors.ts'
import type { Random } from '../ports/random.ts'
import type { Time, Timer } from '../ports/time.ts'
import type { Response } from '../protocol/api-table.ts'
import { KafkaError, kafkaErrorIsRetriable } from '../protocol/errors.ts'
import type { RecordInput } from '../record/batch-builder.ts'
import { stampProducer, stampTransactional } from '../record/batch-layout.ts'
import type { Codec } from '../record/compression.ts'
import type { KeyedLines } from '../record/keyed-lines.ts'
import { backoffMs } from './backoff.ts'
import { BatchFiller } from './batch-filler.ts'
import type { Cluster } from './cluster.ts'
import type { Connection } from './connection.ts'
import { type Delivery, deliveryOf, failureOfOpen } from './delivery.ts'
import type { TopicInfo } from './metadata-cache.ts'
import { IN_FLIGHT_MAX, type StepResult } from './partition-queue.ts'
import { type PartitionerName, partitionForKey } from './partitioner.ts'
import { notDelivered, notSent, refusalOf, refusedIndexesOf } from './produce-failure.ts'
import { type Identity, requestIdentity } from './producer-identity.ts'
import { type Batch, groupByTopic, hasRecords, type Lane } from './producer-lane.ts'
import { RefusalNotices } from './refusal-notices.ts'
import { RefusedBatches } from './refused-batches.ts'

export type Acks = 'all' | 1 | 0

export interface ProducerOptions {
  /** Default `all`: idempotent. */
  readonly acks?: Acks
  /** Most bytes of a batch, uncompressed, header included (a single larger record excepted). Default 1 024 000. */
  readonly batchBytes?: number
  /** Most bytes of a batch with a single record; the topic's max.message.bytes where known. Default 1 048 588. */
  readonly recordBytesMax?: number
  /** The longest a record waits for others when the window is open. Default 5. */
  readonly lingerMs?: number
  /** Default `none`. */
  readonly codec?: Codec
  readonly compressionLevel?: number
  /** Default murmur2. */
  readonly partitioner?: PartitionerName
  /** From append to acknowledgement; then NOT_DELIVERED. Default 120 000. */
  readonly deliveryTimeoutMs?: number
  /** Of one request; default: the cluster's. */
  readonly requestTimeoutMs?: number
  /** Batches in flight per partition. Default with acks=all: what the broker remembers (IN_FLIGHT_MAX); always 1 otherwise. */
  readonly inFlightMax?: number
  /** Memory for batches, over all partitions. Default 67 108 864. */
  readonly bufferBytesMax?: number
  /** Ends a line for appendLines; default 10. */
  readonly delimiter?: number
  /** Whether deliveries list the ordinals of their records (for receipts with keys). */
  readonly trackOrdinals?: boolean
  /**
   * `continue`: after a batch was refused for its contents (too large, invalid record) the next ones of its partition
   * go on; the refused one is reported, or the refused records of it where the broker names them. Everything else stops the partition,
   * as `stop` (default) does always; what comes before a record that the broker names is delivered.
   */
  readonly afterRefusal?: 'stop' | 'continue'
  /** Set by a TransactionalProducer: everything goes into its open transaction. */
  readonly transaction?: ProducerTransaction
  /** Called once per batch; may append. */
  readonly onDelivery?: (delivery: Delivery) => void
  /** Nothing can be delivered any more, whatever it is; called once, after the deliveries that have failed of it. */
  readonly onFailure?: (error: StreamError) => void
}

/** The transaction that a producer writes into. */
export interface ProducerTransaction {
  readonly transactionalId: string
  readonly identity: Identity
  /** From which version on the broker adds partitions decides which one may be used. */
  readonly produceVersionMax: number
  /** Whether a batch for the partition may leave; if not, `retry` is called when that has changed. */
  admit(topic: string, partition: number, retry: (failure?: StreamError) => void): boolean
}

const defaults = {
  batchBytes: 1000 * 1024,
  recordBytesMax: 1_048_588,
  lingerMs: 5,
  deliveryTimeoutMs: 120_000,
  bufferBytesMax: 64 * 1024 * 1024,
}
/** A request takes one batch of each partition, and no more batches once it is this large. */
const REQUEST_BYTES_MAX = 4 * 1024 * 1024
/** acks=0: what the transport may hold before sending pauses. */
const ONE_WAY_QUEUE_BYTES_MAX = 8 * 1024 * 1024
/** A broker answers at its own timeout at the latest; this is for the way there and back. */
const ANSWER_MARGIN_MS = 5000
const staleMetadata: ReadonlySet<number> = new Set([
  KafkaError.UNKNOWN_TOPIC_OR_PARTITION,
  KafkaError.LEADER_NOT_AVAILABLE,
  KafkaError.NOT_LEADER_OR_FOLLOWER,
  KafkaError.FENCED_LEADER_EPOCH,
  KafkaError.UNKNOWN_LEADER_EPOCH,
  KafkaError.KAFKA_STORAGE_ERROR,
])

export class Producer {
  readonly #time: Time
  readonly #random: Random
  readonly #cluster: Cluster
  readonly #options: ProducerOptions
  readonly #acks: Acks
  readonly #filler: BatchFiller
  readonly #refused: RefusedBatches
  readonly #notices: RefusalNotices
  readonly #oneWayConnections = new Set<Connection>()
  readonly #stopListening: () => void
  #identity: Identity | undefined
  #isInitializing = false
  #firstFailedOrdinal = Number.POSITIVE_INFINITY
  #failure: StreamError | undefined
  /** Stops everything, not one partition. */
  #fatal: StreamError | undefined
  #deliveryTimer: Timer | undefined
  #waiters: (() => void)[] = []
  #isPumping = false
  #pumpAgain = false
  #isClosed = false

  constructor(time: Time, random: Random, cluster: Cluster, options: ProducerOptions = {}) {
    this.#time = time
    this.#random = random
    this.#cluster = cluster
    this.#options = options
    this.#acks = options.acks ?? 'all'
    const isIdempotent = this.#acks === 'all'
    const window = IN_FLIGHT_MAX[cluster.isNative ? 'native' : 'kafka']
    const { trackOrdinals = false, afterRefusal = 'stop', delimiter = 10 } = options
    this.#filler = new BatchFiller(
      time,
      random,
      {
        isIdempotent,
        inFlightMax: isIdempotent ? (options.inFlightMax ?? window) : 1,
        batchBytes: options.batchBytes ?? defaults.batchBytes,
        recordBytesMax: options.recordBytesMax ?? defaults.recordBytesMax,
        lingerMs: options.lingerMs ?? defaults.lingerMs,
        deliveryTimeoutMs: options.deliveryTimeoutMs ?? defaults.deliveryTimeoutMs,
        bufferBytesMax: options.bufferBytesMax ?? defaults.bufferBytesMax,
        delimiter,
        trackOrdinals,
        continueAfterRefusal: afterRefusal === 'continue',
      },
      {
        knownPartitions: (topic) => cluster.metadata.topic(topic)?.partitions.length ?? 0,
        pump: () => this.#pump(),
        onDeadline: (deadlineMs) => this.#armDelivery(deadlineMs),
      },
    )
    this.#refused = new RefusedBatches(
      this.#filler,
      {
        codec: options.codec ?? 'none',
        level: options.compressionLevel,
        isTransactional: options.transaction !== undefined,
        stopsAtFirst: afterRefusal !== 'continue',
        batchBytes: options.batchBytes ?? defaults.batchBytes,
      },
      {
        stamp: (batch) => this.#stamp(batch),
        onDelivery: (delivery) => options.onDelivery?.(delivery),
        onGap: (ordinals) => this.#noteGap(ordinals),
      },
    )
    this.#notices = new RefusalNotices(time, cluster)
    this.#stopListening = cluster.onChange(() => {
      const { refusal } = cluster
      if (refusal === undefined) this.#pump()
      else this.#failAll(refusal)
    })
    this.#identity = options.transaction?.identity
  }

  /**
   * Looks a topic up, and asks for a producer id meanwhile. Must have resolved before the first append to the topic.
   * @throws StreamError TOPIC_UNKNOWN, TOPIC_NAME_INVALID, NOT_ALLOWED, UNREACHABLE, TIMED_OUT (no leader)
   */
  async prepare(
    topic: string,
    options: { readonly allowAutoCreation?: boolean; readonly deadlineMs?: number } = {},
  ): Promise<TopicInfo> {
    if (this.#acks === 'all') this.#initialize()
    const info = await this.#cluster.awaitTopic(topic, options)
    this.#cluster.addTopic(topic)
    this.#filler.addTopic(topic, info.partitions.length)
    return info
  }

  /** As last heard of; grows when partitions are added. */
  partitionCount(topic: string): number {
    return this.#filler.partitionCount(topic)
  }

  /** The partition of a key's bytes [start, end). */
  partitionForKey(topic: string, bytes: Uint8Array, start = 0, end = bytes.length): number {
    const name = this.#options.partitioner ?? 'murmur2'
    return partitionForKey(name, this.partitionCount(topic), bytes, start, end)
  }

  /** Whether the last append stopped for want of room: wait for `writable()`, then go on. */
  get isFull(): boolean {
    return this.#filler.isFull
  }

  /** How many records were appended so far; the ordinal of the next one. */
  get appendedCount(): number {
    return this.#filler.nextOrdinal
  }

  /** The first failure that stopped a partition or everything; undefined while all goes well. */
  get failure(): StreamError | undefined {
    return this.#failure
  }

  /** Every record with an ordinal below this is delivered, or was refused and left out (afterRefusal). Looks through all that is unresolved: not for hot paths. */
  deliveredThrough(): number {
    let through = Math.min(this.#filler.nextOrdinal, this.#firstFailedOrdinal)
    for (const lane of this.#filler.active) {
      for (const batch of lane.queue.batches) through = Math.min(through, batch.firstOrdinal)
      if (hasRecords(lane)) through = Math.min(through, lane.firstOrdinal)
    }
    return through
  }

  /** Bytes taken by the last appendLines or appendKeyedLines, also when it threw. */
  get consumedBytes(): number {
    return this.#filler.consumedBytes
  }

  /** As BatchFiller.appendLines; @throws StreamError also CLOSED, and what has stopped everything */
  appendLines(
    topic: string,
    partition: number | undefined,
    chunk: Uint8Array,
    start: number,
    end: number,
  ): number {
    this.#refuseIfStopped()
    return this.#filler.appendLines(topic, partition, chunk, start, end)
  }

  /** Whether appendKeyedLines may be called. */
  get takesKeyedLines(): boolean {
    return this.#options.partitioner !== 'crc32' && this.#options.trackOrdinals !== true
  }

  /** As BatchFiller.appendKeyedLines, where takesKeyedLines; @throws StreamError also CLOSED, and what has stopped everything */
  appendKeyedLines(
    topic: string,
    lines: KeyedLines,
    chunk: Uint8Array,
    start: number,
    end: number,
  ): number {
    assert(this.takesKeyedLines, 'lines of a step change places, and are hashed by the kernel')
    this.#refuseIfStopped()
    return this.#filler.appendKeyedLines(topic, lines, chunk, start, end)
  }

  /** As BatchFiller.append; for a key see partitionForKey. @throws StreamError also CLOSED, and what has stopped everything */
  append(topic: string, partition: number | undefined, record: RecordInput): boolean {
    this.#refuseIfStopped()
    return this.#filler.append(topic, partition, record)
  }

  /** As BatchFiller.appendBatch, with acks=all. @throws StreamError also CLOSED, and what has stopped everything */
  appendBatch(topic: string, partition: number, batch: Uint8Array): boolean {
    assert(this.#acks === 'all', 'made batches get sequences')
    this.#refuseIfStopped()
    return this.#filler.appendBatch(topic, partition, batch)
  }

  /** The input is idle: what is open leaves at once where nothing is in flight, else with the next acknowledgement. */
  flushSoon(): void {
    this.#filler.flushSoon()
  }

  #refuseIfStopped(): void {
    if (this.#isClosed) throw new StreamError('CLOSED', 'the producer is closed')
    if (this.#fatal !== undefined) throw this.#fatal
  }

  /** Resolves when an append that found no room may be tried again, or when it would throw. */
  writable(): Promise<void> {
    if (!this.#filler.isFull || this.#fatal !== undefined || this.#isClosed)
      return Promise.resolve()
    return new Promise((resolve) => {
      this.#waiters.push(() => {
        this.#filler.isFull = false
        resolve()
      })
    })
  }

  /**
   * Sends all that was appended and waits until every batch is resolved.
   * @throws StreamError the first failure that stopped a partition, ever
   */
  async flush(): Promise<void> {
    while (this.#filler.active.size > 0 && !this.#isClosed) {
      this.#filler.sealAll()
      this.#pump()
      if (this.#filler.active.size === 0) break
      await new Promise<void>((resolve) => {
        this.#waiters.push(resolve)
      })
    }
    if (this.#acks === 0) await this.#awaitOneWay()
    if (this.#failure !== undefined) throw this.#failure
  }

  /** Gives up what is unresolved (NOT_DELIVERED, outcome unknown where it was sent). Idempotent; the cluster stays. */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#stopListening()
    this.#filler.close()
    this.#deliveryTimer?.cancel()
    for (const lane of [...this.#filler.active]) {
      lane.pauseTimer?.cancel()
      if (hasRecords(lane)) this.#filler.seal(lane)
      this.#apply(
        lane,
        lane.queue.abandon((batch) => notDelivered(batch, 'the producer was closed')),
      )
    }
    this.#wake()
  }

  // --- sending

  /** Sends whatever may be sent now. Cheap when there is nothing; safe to call at any time. */
  #pump(): void {
    if (this.#isPumping) {
      this.#pumpAgain = true
      return
    }
    if (this.#isClosed || this.#filler.active.size === 0) return
    if (this.#acks === 'all' && this.#identity === undefined) {
      this.#initialize()
      return
    }
    this.#isPumping = true
    try {
      do {
        this.#pumpAgain = false
        // One batch of each partition per round: a request may hold no more.
        while (this.#pumpRound()) {}
      } while (this.#pumpAgain)
    } finally {
      this.#isPumping = false
    }
  }

  #pumpRound(): boolean {
    const nowMs = this.#time.monotonicMs()
    const groups = new Map<Connection, Batch[]>()
    for (const lane of [...this.#filler.active]) {
      if (lane.notBeforeMs > nowMs || !lane.queue.canSend) continue
      if (!this.#isAdmitted(lane)) continue
      const connection = this.#connectionTo(lane)
      if (connection === undefined) continue
      if (this.#acks === 0 && connection.queuedBytes > ONE_WAY_QUEUE_BYTES_MAX) continue
      const batch = lane.queue.next()
      if (batch === undefined || !this.#finish(batch)) continue
      const group = groups.get(connection)
      if (group === undefined) groups.set(connection, [batch])
      else group.push(batch)
    }
    for (const [connection, batches] of groups) this.#sendGroup(connection, batches)
    return groups.size > 0
  }

  /** Whether the partition is part of the transaction; without one every partition is. */
  #isAdmitted(lane: Lane): boolean {
    const { transaction } = this.#options
    if (transaction === undefined) return true
    return transaction.admit(lane.topic, lane.partition, (failure) => {
      if (failure === undefined) this.#pump()
      else if (!this.#isClosed) this.#failAll(failure)
    })
  }

  #connectionTo(lane: Lane): Connection | undefined {
    const leader = this.#cluster.leaderOf(lane.topic, lane.partition)
    if (leader === undefined) {
      this.#cluster.requestRefresh()
      return undefined
    }
    const connection = this.#cluster.connectionTo(leader.leaderId)
    const refusal = connection === undefined && this.#cluster.refusalOf(leader.leaderId)
    if (refusal) {
      this.#apply(
        lane,
        lane.queue.abandon(() => refusal),
      )
    }
    return connection
  }

  /** Makes the batch's bytes at its first send. @returns  false when that failed, and with it the batch */
  #finish(batch: Batch): boolean {
    if (batch.bytes !== undefined) return true
    if (batch.prepared !== undefined) {
      const isTransactional = this.#options.transaction !== undefined
      stampTransactional(batch.prepared, 0, isTransactional)
      batch.bytes = batch.prepared
      this.#stamp(batch)
      return true
    }
    const builder = batch.builder
    assert(builder !== undefined, 'a batch without bytes has its builder')
    const codec = this.#options.codec ?? 'none'
    const level = this.#options.compressionLevel
    const isIdempotent = this.#acks === 'all'
    try {
      batch.bytes = builder.finish({
        codec,
        isTransactional: this.#options.transaction !== undefined,
        ...(level === undefined ? {} : { level }),
        ...(isIdempotent
          ? { ...this.#identityOf(batch.lane), baseSequence: batch.baseSequence }
          : {}),
      })
    } catch (error) {
      if (!(error instanceof StreamError)) throw error
      const { UNSUPPORTED_COMPRESSION_TYPE } = KafkaError
      const { lane } = batch
      this.#apply(lane, lane.queue.refuse(batch, UNSUPPORTED_COMPRESSION_TYPE, error))
      return false
    }
    if (codec !== 'none') this.#filler.release(batch, true)
    return true
  }

  #sendGroup(connection: Connection, batches: readonly Batch[]): void {
    let group: Batch[] = []
    let bytes = 0
    for (const batch of batches) {
      if (bytes > 0 && bytes + (batch.bytes?.length ?? 0) > REQUEST_BYTES_MAX) {
        this.#send(connection, group)
        group = []
        bytes = 0
      }
      group.push(batch)
      bytes += batch.bytes?.length ?? 0
    }
    this.#send(connection, group)
  }

  #send(connection: Connection, batches: readonly Batch[]): void {
    const timeoutMs = this.#options.requestTimeoutMs ?? this.#cluster.requestTimeoutMs
    const body = {
      transactionalId: this.#options.transaction?.transactionalId ?? null,
      acks: this.#acks === 'all' ? -1 : this.#acks,
      timeoutMs,
      topicData: groupByTopic(batches),
    }
    try {
      if (this.#acks === 0) {
        connection.requestOneWay('Produce', body)
        this.#oneWayConnections.add(connection)
        for (const batch of batches) this.#apply(batch.lane, batch.lane.queue.acknowledge(batch))
        return
      }
      connection.request(
        'Produce',
        body,
        {
          timeoutMs: timeoutMs + ANSWER_MARGIN_MS,
          ...(this.#options.transaction === undefined
            ? {}
            : { versionMax: this.#options.transaction.produceVersionMax }),
        },
        (failure, response) => this.#onAnswer(batches, failure, response),
      )
    } catch (error) {
      if (!(error instanceof StreamError)) throw error
      for (const batch of batches) {
        const { lane } = batch
        const result =
          error.code === 'CONNECTION_LOST'
            ? lane.queue.unsend(batch)
            : lane.queue.refuse(batch, KafkaError.UNSUPPORTED_VERSION, error)
        this.#apply(lane, result)
      }
    }
  }

  // --- answers

  #onAnswer(
    batches: readonly Batch[],
    failure: StreamError | undefined,
    response: Response<'Produce'> | undefined,
  ): void {
    if (this.#isClosed) return
    for (const batch of batches) {
      const { lane } = batch
      const result =
        response === undefined
          ? this.#onLost(batch, failure)
          : this.#onPartitionAnswer(batch, response)
      this.#apply(lane, result)
      // While others are in flight a fuller batch costs no time: small ones would only cost more of everything else.
      if (lane.isUrgent && hasRecords(lane) && lane.queue.batches.length === 0)
        this.#filler.seal(lane)
    }
    this.#pump()
  }

  #onLost(batch: Batch, failure: StreamError | undefined): StepResult<Batch> {
    const { queue } = batch.lane
    const error = failure ?? new StreamError('CONNECTION_LOST', 'connection lost')
    const code = error.kafkaError
    if (code !== undefined && !kafkaErrorIsRetriable(code)) return queue.refuse(batch, code, error)
    this.#cluster.requestRefresh()
    const result = queue.lose(batch, error)
    // A notice instead of an answer leaves the connection standing: do not send again in a tight loop.
    return code === undefined ? result : { ...result, pauseFailures: batch.sends }
  }

  #onPartitionAnswer(batch: Batch, response: Response<'Produce'>): StepResult<Batch> {
    const { lane } = batch
    const row = response.responses
      .find((topic) => topic.name === lane.topic)
      ?.partitionResponses.find((partition) => partition.index === lane.partition)
    if (row === undefined) {
      const words = `${lane.target}: missing from the broker's answer`
      const result = lane.queue.lose(batch, new StreamError('MALFORMED_MESSAGE', words))
      return { ...result, pauseFailures: batch.sends }
    }
    if (row.errorCode === 0) {
      batch.baseOffset = row.baseOffset
      return lane.queue.acknowledge(batch)
    }
    const { batchBytes = defaults.batchBytes } = this.#options
    batch.refusedIndexes = refusedIndexesOf(batch, row)
    const refusal = refusalOf(batch, row, batchBytes)
    const remade = this.#refused.remake(batch, row, refusal)
    if (remade !== undefined) return remade
    const result = lane.queue.refuse(batch, row.errorCode, refusal)
    if (result.pauseFailures > 0) this.#notices.onRefused(lane, refusal)
    if (!staleMetadata.has(row.errorCode)) return result
    const { leaderId, leaderEpoch } = row.currentLeader
    const { metadata } = this.#cluster
    metadata.learnLeader(lane.topic, lane.partition, leaderId, leaderEpoch)
    const known = metadata.partition(lane.topic, lane.partition)
    if (leaderId >= 0 && known?.leaderId === leaderId && known.leaderEpoch === leaderEpoch) {
      // To the next leader at once: the last one has named it.
      lane.failuresForgiven = Math.max(lane.failuresForgiven, result.pauseFailures)
      return { ...result, pauseFailures: 0 }
    }
    this.#cluster.requestRefresh()
    if (result.pauseFailures === 0) return result
    return { ...result, pauseFailures: Math.max(1, result.pauseFailures - lane.failuresForgiven) }
  }

  /** With its producer and its sequence, where there are any. */
  #stamp({ bytes, baseSequence, lane }: Batch): void {
    if (this.#acks !== 'all' || bytes === undefined) return
    stampProducer(bytes, 0, { ...this.#identityOf(lane), baseSequence })
  }

  #apply(lane: Lane, result: StepResult<Batch>): void {
    if (result.delivered.length > 0) {
      lane.failuresForgiven = 0
      this.#notices.onTaken(lane)
    }
    for (const batch of result.delivered) {
      this.#filler.release(batch, this.#acks !== 0 && batch.sends === 1)
      this.#options.onDelivery?.(deliveryOf(batch, undefined))
    }
    // What was left out for its contents is told to the caller, and no gap in what can be delivered.
    const isGap = lane.queue.failure !== undefined
    for (const { batch, failure } of result.failed) {
      if (isGap) this.#noteGap([batch.firstOrdinal])
      this.#filler.release(batch, batch.sends === 0)
      this.#options.onDelivery?.(deliveryOf(batch, failure))
    }
    if (result.wantsIdentity) void this.#renew(lane)
    if (lane.queue.failure !== undefined) this.#stopLane(lane, lane.queue.failure)
    if (result.pauseFailures > 0) this.#pause(lane, result.pauseFailures)
    if (lane.queue.batches.length === 0 && !hasRecords(lane)) this.#filler.active.delete(lane)
    if (result.delivered.length > 0 || result.failed.length > 0) this.#wake()
  }

  #noteGap(ordinals: readonly number[]): void {
    this.#firstFailedOrdinal = Math.min(this.#firstFailedOrdinal, ...ordinals)
  }

  /** What is still being filled can never be sent either. */
  #stopLane(lane: Lane, failure: StreamError): void {
    this.#failure ??= failure
    const builder = this.#filler.discard(lane)
    if (builder === undefined) return
    this.#noteGap([lane.firstOrdinal])
    this.#options.onDelivery?.(failureOfOpen(lane, builder, notSent(lane.target, failure)))
  }

  #pause(lane: Lane, failures: number): void {
    const delayMs = backoffMs(this.#random, this.#cluster.backoff, failures)
    lane.notBeforeMs = this.#time.monotonicMs() + delayMs
    lane.pauseTimer?.cancel()
    lane.pauseTimer = this.#time.setTimer(delayMs, () => {
      lane.pauseTimer = undefined
      lane.notBeforeMs = Number.NEGATIVE_INFINITY
      this.#pump()
    })
  }

  #wake(): void {
    if (this.#waiters.length === 0) return
    const waiters = this.#waiters
    this.#waiters = []
    for (const waiter of waiters) waiter()
  }

  // --- deadlines

  #armDelivery(deadlineMs: number): void {
    const delayMs = Math.max(0, deadlineMs - this.#time.monotonicMs())
    this.#deliveryTimer ??= this.#time.setTimer(delayMs, () => {
      this.#deliveryTimer = undefined
      this.#onDeliveryDeadline()
    })
  }

  #onDeliveryDeadline(): void {
    const nowMs = this.#time.monotonicMs()
    let earliestMs = Number.POSITIVE_INFINITY
    for (const lane of [...this.#filler.active]) {
      const result = lane.queue.expire(nowMs, (batch) =>
        notDelivered(batch, 'not acknowledged within the delivery timeout'),
      )
      this.#apply(lane, result)
      for (const batch of lane.queue.batches) earliestMs = Math.min(earliestMs, batch.deadlineMs)
    }
    if (earliestMs < Number.POSITIVE_INFINITY) this.#armDelivery(earliestMs)
    this.#pump()
  }

  // --- identity

  #identityOf(lane: Lane): Identity {
    const identity = lane.identity ?? this.#identity
    assert(identity !== undefined, 'nothing is sent before there is a producer id')
    return identity
  }

  #initialize(): void {
    if (this.#isInitializing || this.#identity !== undefined || this.#isClosed) return
    this.#isInitializing = true
    void this.#requestIdentity().then((identity) => {
      this.#isInitializing = false
      this.#identity = identity
      if (identity !== undefined) this.#pump()
    })
  }

  /** After a batch was left out: sequences of this partition begin anew under an id of its own. */
  async #renew(lane: Lane): Promise<void> {
    const identity = await this.#requestIdentity()
    if (identity === undefined || this.#isClosed || lane.queue.failure !== undefined) return
    lane.identity = identity
    for (const batch of lane.queue.renew()) {
      this.#stamp(batch)
    }
    this.#pump()
  }

  /** undefined: the producer is closed, or all has failed. */
  async #requestIdentity(): Promise<Identity | undefined> {
    const identity = await requestIdentity(
      this.#time,
      this.#random,
      this.#cluster,
      () => !this.#isClosed,
    )
    if (!(identity instanceof StreamError)) return identity
    this.#failAll(identity)
    return undefined
  }

  /** Nothing can be delivered at all. */
  #failAll(failure: StreamError): void {
    if (this.#fatal !== undefined || this.#isClosed) return
    this.#fatal = failure
    this.#failure ??= failure
    for (const lane of [...this.#filler.active]) {
      if (hasRecords(lane)) this.#filler.seal(lane)
      this.#apply(
        lane,
        lane.queue.abandon(() => failure),
      )
    }
    this.#wake()
    this.#options.onFailure?.(failure)
  }

  /** acks=0 has no answers, but requests of a connection start in order: an answer to a later one says "received". */
  async #awaitOneWay(): Promise<void> {
    const connections = [...this.#oneWayConnections]
    this.#oneWayConnections.clear()
    const body = { clientSoftwareName: 'stream', clientSoftwareVersion: '1' }
    await Promise.allSettled(
      connections
        .filter((connection) => connection.isOpen)
        .map((connection) => connection.call('ApiVersions', body)),
    )
  }
}
