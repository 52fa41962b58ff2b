/**
 * How a producer fills batches: records go into the open batch of their partition, a full or due one takes its place in the
 * partition's queue. What is sent, and what answers mean, is producer.ts's.
 *
 * Invariants:
 * - A partition has one open batch at most; what is sealed is never filled again.
 * - Memory is bounded: bufferBytesMax over all partitions, and no partition holds more batches than its window and two.
 * - Ordinals count records in the order of appending; a batch knows its first and its last.
 */
import { assert } from '../base/assert.ts'
import { StreamError } from '../base/errors.ts'
import type { Random } from '../ports/random.ts'
import type { Time, Timer } from '../ports/time.ts'
import { BatchBuilder, type RecordInput } from '../record/batch-builder.ts'
import { HEADER_BYTES, recordCountAt } from '../record/batch-layout.ts'
import type { KeyedLines } from '../record/keyed-lines.ts'
import { PartitionQueue } from './partition-queue.ts'
import { type Batch, hasRecords, hasUnsent, type Lane, type TopicState } from './producer-lane.ts'

/** More than the two that are filled and finished while the window is in flight would only add latency. */
const BATCHES_BEYOND_WINDOW = 2
/** A builder has room for more than a header. */
const BATCH_BYTES_MIN = HEADER_BYTES + 1

/** What every batch begins with. */
const newBatch = {
  bytes: undefined,
  baseOffset: -1,
  refusedIndexes: [],
  state: 'waiting',
  baseSequence: -1,
  sendIndex: -1,
  sends: 0,
  wasAlone: false,
  wasFirst: false,
  outcomeUnknown: false,
  lastFailure: undefined,
} as const

/** As ProducerOptions says of them. */
export interface FillerOptions {
  readonly isIdempotent: boolean
  readonly inFlightMax: number
  readonly batchBytes: number
  readonly recordBytesMax: number
  readonly lingerMs: number
  readonly deliveryTimeoutMs: number
  readonly bufferBytesMax: number
  readonly delimiter: number
  readonly trackOrdinals: boolean
  readonly continueAfterRefusal: boolean
}

/** Who sends what is filled. */
export interface FillerOwner {
  /** Of a topic, as last heard of; 0: nothing was. */
  knownPartitions(topic: string): number
  /** Batches are in their queues, or may be wanted: sends what may be sent. */
  pump(): void
  /** A batch was sealed that must be resolved by then. */
  onDeadline(deadlineMs: number): void
}

export class BatchFiller {
  /** Partitions with anything unresolved or open; the owner takes out what has come to rest. */
  readonly active = new Set<Lane>()
  /** Whether the last append stopped for want of room. */
  isFull = false
  /** Bytes taken by the last appendLines or appendKeyedLines, also when it threw. */
  consumedBytes = 0
  /** Of the next record. */
  nextOrdinal = 0
  readonly #time: Time
  readonly #random: Random
  readonly #options: FillerOptions
  readonly #owner: FillerOwner
  readonly #lineOptions: { readonly delimiter: number }
  readonly #topics = new Map<string, TopicState>()
  readonly #freeBuilders: BatchBuilder[] = []
  #builderCount = 0
  /** Of batches that the caller made, which are not resolved yet. */
  #preparedBytes = 0
  #lingerTimer: Timer | undefined

  constructor(time: Time, random: Random, options: FillerOptions, owner: FillerOwner) {
    this.#time = time
    this.#random = random
    this.#options = options
    this.#owner = owner
    this.#lineOptions = { delimiter: options.delimiter }
  }

  addTopic(topic: string, partitions: number): void {
    if (this.#topics.has(topic)) return
    const sticky = Math.floor(this.#random.fraction() * partitions)
    this.#topics.set(topic, { name: topic, lanes: [], sticky, bytesMax: this.#options.batchBytes })
  }

  partitionCount(topic: string): number {
    const lanes = this.#topics.get(topic)?.lanes.length ?? 0
    return Math.max(1, this.#owner.knownPartitions(topic), lanes)
  }

  /**
   * Appends a record (null key, time of appending) for each whole line of chunk [start, end).
   * @param partition  undefined: keyless records stay together for a batch, batches go to changing partitions
   * @returns  bytes consumed. If that is less than all: no room (`isFull`), or the rest is a line without end.
   * @throws StreamError what stopped the partition; RECORD_TOO_LARGE for a line that can never fit. `consumedBytes`
   *   then says how much was taken before; everything up to there is appended.
   */
  appendLines(
    topic: string,
    partition: number | undefined,
    chunk: Uint8Array,
    start: number,
    end: number,
  ): number {
    const state = this.#state(topic)
    this.consumedBytes = 0
    this.isFull = false
    let at = start
    while (at < end) {
      const lane = this.#laneFor(state, partition)
      const builder = lane === undefined ? undefined : this.#openBuilder(lane)
      if (lane === undefined || builder === undefined) {
        this.isFull = true
        break
      }
      const before = builder.recordCount
      try {
        at += builder.appendLines(chunk, at, end, this.#lineOptions)
      } finally {
        if (builder.isEmpty) this.#returnBuilder(lane)
      }
      this.consumedBytes = at - start
      const added = builder.recordCount - before
      if (added > 0) this.#onAppended(lane, before === 0, added)
      if (!builder.isFull) break
      this.seal(lane)
      this.#owner.pump()
    }
    if (this.#options.lingerMs === 0) this.flushSoon()
    return at - start
  }

  /**
   * As appendLines, for lines with keys; partitions are murmur2's. What `lines` leaves to others stops it, as does a line without its
   * end. Only where takesKeyedLines: lines of one step are not in the order of the input.
   * @returns  bytes consumed. If that is less than all: no room (`isFull`), or the next line is for `append`.
   * @throws StreamError what stopped a partition: `consumedBytes` then says how much was taken before
   */
  appendKeyedLines(
    topic: string,
    lines: KeyedLines,
    chunk: Uint8Array,
    start: number,
    end: number,
  ): number {
    const state = this.#state(topic)
    this.consumedBytes = 0
    this.isFull = false
    const laneCount = this.partitionCount(topic)
    if (!lines.setLaneCount(laneCount)) return 0
    for (let index = 0; index < laneCount; index++) {
      const builder = state.lanes[index]?.builder
      lines.setLane(index, builder?.recordCount ?? 0, builder?.roomBytes ?? 0)
    }
    let at = start
    let isGoingOn = true
    while (isGoingOn && at < end) {
      const step = lines.step(chunk, at, end)
      this.#takeRecords(state, lines, laneCount)
      at += lines.consumedBytes
      this.consumedBytes = at - start
      isGoingOn = step === 'more' || (step === 'room' && this.#openLane(state, lines))
    }
    if (this.#options.lingerMs === 0) this.flushSoon()
    return at - start
  }

  #takeRecords(state: TopicState, lines: KeyedLines, laneCount: number): void {
    const before = this.nextOrdinal
    for (let index = 0; index < laneCount; index++) {
      const bytes = lines.recordBytes(index)
      if (bytes === 0) continue
      const lane = this.#lane(state, index)
      const { builder } = lane
      assert(builder !== undefined, 'records are made for open batches only')
      const isFirst = builder.isEmpty
      const from = lines.recordsAt(index)
      const count = lines.nextDelta(index) - builder.recordCount
      builder.appendEncoded(lines.memory, from, from + bytes, count)
      // Ordinals are in the order of the input: those of its first and its last record are what is kept of a batch.
      this.nextOrdinal = before + lines.firstLine(index)
      this.#onAppended(lane, isFirst, lines.lastLine(index) - lines.firstLine(index) + 1)
    }
    this.nextOrdinal = before + lines.lineCount
  }

  /** Room for the line that found none. @returns false: there is none now (`isFull`), or no batch has it */
  #openLane(state: TopicState, lines: KeyedLines): boolean {
    const lane = this.#lane(state, lines.stoppedLane)
    if (lane.builder?.isEmpty) {
      this.#returnBuilder(lane)
      return false
    }
    if (lane.builder !== undefined) {
      this.seal(lane)
      this.#owner.pump()
    }
    const builder = this.#openBuilder(lane)
    this.isFull = builder === undefined
    if (builder !== undefined) lines.setLane(lane.partition, 0, builder.roomBytes)
    return builder !== undefined
  }

  /**
   * Appends one record.
   * @param partition  undefined: as appendLines; for a key see partitionForKey
   * @returns  false: no room (`isFull`), nothing was appended
   * @throws StreamError what stopped the partition; RECORD_TOO_LARGE, RECORD_INVALID (nothing was appended)
   */
  append(topic: string, partition: number | undefined, record: RecordInput): boolean {
    const state = this.#state(topic)
    this.isFull = false
    for (;;) {
      const lane = this.#laneFor(state, partition)
      const builder = lane === undefined ? undefined : this.#openBuilder(lane)
      if (lane === undefined || builder === undefined) {
        this.isFull = true
        return false
      }
      const before = builder.recordCount
      let isTaken = false
      try {
        isTaken = builder.append(record)
      } finally {
        if (builder.isEmpty) this.#returnBuilder(lane)
      }
      if (isTaken) {
        this.#onAppended(lane, before === 0, 1)
        if (this.#options.lingerMs === 0) this.flushSoon()
        return true
      }
      assert(before > 0, 'a record that no batch can hold is refused by an error')
      this.seal(lane)
      this.#owner.pump()
    }
  }

  /**
   * Appends a batch that was made before: its records as they are, whatever producer it names. Its bytes are changed (producer,
   * sequence, whether it is transactional) and belong to the producer until it is delivered.
   * @param batch  one whole sound batch without log-append time
   * @returns  false: no room (`isFull`), nothing was appended
   * @throws StreamError what stopped the partition
   */
  appendBatch(topic: string, partition: number, batch: Uint8Array): boolean {
    const lane = this.#lane(this.#state(topic), partition)
    if (lane.queue.failure !== undefined) throw lane.queue.failure
    const bytesMax = this.#options.bufferBytesMax
    const isOver = this.#preparedBytes > 0 && this.#preparedBytes + batch.length > bytesMax
    this.isFull = isOver || !this.#hasRoom(lane)
    if (this.isFull) return false
    if (hasRecords(lane)) this.seal(lane)
    const recordCount = recordCountAt(batch, 0)
    const timeoutMs = this.#options.deliveryTimeoutMs
    const deadlineMs = this.#time.monotonicMs() + timeoutMs
    lane.queue.add({
      ...newBatch,
      lane,
      builder: undefined,
      prepared: batch,
      sizeBytes: batch.length,
      recordCount,
      firstOrdinal: this.nextOrdinal,
      lastOrdinal: this.nextOrdinal + recordCount - 1,
      ordinals: undefined,
      deadlineMs,
    })
    this.nextOrdinal += recordCount
    this.#preparedBytes += batch.length
    this.active.add(lane)
    this.#owner.onDeadline(deadlineMs)
    this.#owner.pump()
    return true
  }

  /** The input is idle: what is open leaves at once where nothing is in flight, else with the next acknowledgement. */
  flushSoon(): void {
    for (const lane of this.active) {
      if (!hasRecords(lane)) continue
      if (lane.queue.batches.length === 0) this.seal(lane)
      else lane.isUrgent = true
    }
    this.#owner.pump()
  }

  /**
   * The topic takes no batches above that. What is open may be larger, and is split once it is refused.
   * @returns  the limit in force: the smallest that was ever told
   */
  limitBatches(topic: string, bytesMax: number): number {
    const state = this.#state(topic)
    state.bytesMax = Math.max(BATCH_BYTES_MIN, Math.min(state.bytesMax, bytesMax))
    return state.bytesMax
  }

  #state(topic: string): TopicState {
    const state = this.#topics.get(topic)
    assert(state !== undefined, 'a topic is prepared before it is written to')
    return state
  }

  #laneFor(state: TopicState, partition: number | undefined): Lane | undefined {
    if (partition !== undefined) return this.#lane(state, partition)
    const count = this.partitionCount(state.name)
    let chosen = this.#lane(state, state.sticky % count)
    if (chosen.builder !== undefined || this.#hasRoom(chosen)) return chosen
    for (let step = 1; step < count; step++) {
      chosen = this.#lane(state, (state.sticky + step) % count)
      if (this.#hasRoom(chosen)) {
        state.sticky = chosen.partition
        return chosen
      }
    }
    return undefined
  }

  #lane(state: TopicState, partition: number): Lane {
    const known = state.lanes[partition]
    if (known !== undefined) return known
    if (partition >= this.partitionCount(state.name) || partition < 0) {
      const target = `${state.name} partition ${partition}`
      throw new StreamError('TOPIC_UNKNOWN', `${target}: no such partition`, { target })
    }
    const lane: Lane = {
      topic: state.name,
      partition,
      target: `${state.name} partition ${partition}`,
      queue: new PartitionQueue<Batch>({
        idempotent: this.#options.isIdempotent,
        inFlightMax: this.#options.inFlightMax,
        continueAfterRefusal: this.#options.continueAfterRefusal,
      }),
      builder: undefined,
      firstOrdinal: 0,
      lastOrdinal: 0,
      ordinals: undefined,
      openedMs: 0,
      isUrgent: false,
      identity: undefined,
      failuresForgiven: 0,
      refusedSinceMs: undefined,
      isRefusalTold: false,
      notBeforeMs: Number.NEGATIVE_INFINITY,
      pauseTimer: undefined,
    }
    for (let index = state.lanes.length; index < partition; index++) state.lanes.push(undefined)
    state.lanes[partition] = lane
    return lane
  }

  #hasRoom(lane: Lane): boolean {
    return lane.queue.batches.length < this.#options.inFlightMax + BATCHES_BEYOND_WINDOW
  }

  #openBuilder(lane: Lane): BatchBuilder | undefined {
    if (lane.queue.failure !== undefined) throw lane.queue.failure
    if (lane.builder !== undefined) return lane.builder
    if (!this.#hasRoom(lane)) return undefined
    let builder = this.#freeBuilders.pop()
    if (builder === undefined) {
      const bytesMax = this.#options.bufferBytesMax
      const countMax = Math.max(
        this.#options.inFlightMax + BATCHES_BEYOND_WINDOW,
        Math.floor(bytesMax / this.#options.batchBytes),
      )
      if (this.#builderCount >= countMax) {
        // All memory is in other partitions' batches: get the open ones going.
        this.sealAll()
        this.#owner.pump()
        return undefined
      }
      this.#builderCount++
      builder = new BatchBuilder(this.#options.batchBytes, {
        bytesMax: this.#options.recordBytesMax,
      })
    }
    const { bytesMax } = this.#state(lane.topic)
    builder.reset({ timestampMs: this.#time.wallMs(), bytesMax })
    lane.builder = builder
    return builder
  }

  /** A builder without records may not be held by a partition while others wait for one. */
  #returnBuilder(lane: Lane): void {
    if (lane.builder !== undefined) this.#freeBuilders.push(lane.builder)
    lane.builder = undefined
  }

  #onAppended(lane: Lane, isFirst: boolean, count: number): void {
    if (isFirst) {
      lane.firstOrdinal = this.nextOrdinal
      lane.openedMs = this.#time.monotonicMs()
      lane.ordinals = this.#options.trackOrdinals ? [] : undefined
      this.active.add(lane)
      this.#armLinger(this.#options.lingerMs)
    }
    if (lane.ordinals !== undefined) {
      for (let step = 0; step < count; step++) lane.ordinals.push(this.nextOrdinal + step)
    }
    this.nextOrdinal += count
    lane.lastOrdinal = this.nextOrdinal - 1
  }

  /** The open batch takes its place in the queue; it is finished when it is first sent. */
  seal(lane: Lane): void {
    const builder = lane.builder
    assert(builder !== undefined && !builder.isEmpty, 'only a batch with records is sealed')
    const timeoutMs = this.#options.deliveryTimeoutMs
    lane.queue.add({
      ...newBatch,
      lane,
      builder,
      prepared: undefined,
      sizeBytes: builder.sizeBytes,
      recordCount: builder.recordCount,
      firstOrdinal: lane.firstOrdinal,
      lastOrdinal: lane.lastOrdinal,
      ordinals: lane.ordinals,
      deadlineMs: lane.openedMs + timeoutMs,
    })
    lane.builder = undefined
    lane.ordinals = undefined
    lane.isUrgent = false
    this.#owner.onDeadline(lane.openedMs + timeoutMs)
    // Keyless records stay together for a batch, then the next partition has its turn.
    const state = this.#topics.get(lane.topic)
    if (state !== undefined && state.sticky === lane.partition) {
      const count = this.partitionCount(lane.topic)
      if (count > 1) {
        const step = 1 + Math.floor(this.#random.fraction() * (count - 1))
        state.sticky = (lane.partition + step) % count
      }
    }
  }

  sealAll(): void {
    for (const lane of this.active) if (hasRecords(lane)) this.seal(lane)
  }

  #armLinger(delayMs: number): void {
    this.#lingerTimer ??= this.#time.setTimer(delayMs, () => {
      this.#lingerTimer = undefined
      this.#onLinger()
    })
  }

  #onLinger(): void {
    const nowMs = this.#time.monotonicMs()
    let waitMs = Number.POSITIVE_INFINITY
    for (const lane of this.active) {
      if (!hasRecords(lane) || lane.isUrgent) continue
      const dueMs = lane.openedMs + this.#options.lingerMs
      if (dueMs > nowMs) waitMs = Math.min(waitMs, dueMs - nowMs)
      // While the window is full a fuller batch costs no time.
      else if (hasUnsent(lane)) lane.isUrgent = true
      else this.seal(lane)
    }
    if (waitMs < Number.POSITIVE_INFINITY) this.#armLinger(waitMs)
    this.#owner.pump()
  }

  /** What is open in the partition is given up. @returns the batch that was filled, of one with records */
  discard(lane: Lane): BatchBuilder | undefined {
    const { builder } = lane
    if (builder === undefined) return undefined
    lane.builder = undefined
    this.#freeBuilders.push(builder)
    return builder.isEmpty ? undefined : builder
  }

  /** The batch is resolved, or its bytes are made. @param mayReuse  nobody holds bytes of the builder any more */
  release(batch: Batch, mayReuse: boolean): void {
    this.#preparedBytes -= batch.prepared?.length ?? 0
    const { builder } = batch
    if (builder === undefined) return
    batch.builder = undefined
    if (mayReuse) this.#freeBuilders.push(builder)
    else this.#builderCount--
  }

  close(): void {
    this.#lingerTimer?.cancel()
  }
}
