/**
 * The unresolved batches of one partition, in order: what may be sent next, what an answer means, what has failed for
 * good. A synchronous state machine; the producer (producer.ts) is its driver and owns time, connections and buffers.
 *
 * Invariants:
 * - Sequences are given in queue order at the first send, and a batch keeps bytes and sequence until it is resolved,
 *   unless it, or a batch before it, was refused for certain and is left out, or some of its records (`shrink`, `renew`), or it was refused as
 *   too large and goes on as parts, which share its sequences (`split`).
 * - A batch is sent only while every batch before it is in flight: what waits to be sent again is never overtaken.
 * - A broker remembers the last few batches of a producer (`inFlightMax`), so a batch is first sent only while it is within so many of the
 *   oldest unresolved one. Answers may overtake each other: what counts is the distance, not how many are in flight.
 * - The window opens only after a batch sent alone was acknowledged, and closes again at every trouble. A broker that
 *   knows nothing of a producer takes any first sequence, so two first batches in flight could be appended in the wrong
 *   order.
 * - After a batch has failed for good nothing behind it is sent any more: it would be delivered out of order. Batches
 *   before it go on; what is in flight behind it is still reported as its answer says.
 */
import { assert } from '../base/assert.ts'
import { StreamError } from '../base/errors.ts'
import { KafkaError, kafkaErrorIsRetriable } from '../protocol/errors.ts'

/** Kafka remembers five batches of a producer; our daemon, which is met at its native door, remembers sixteen. */
export const IN_FLIGHT_MAX = { kafka: 5, native: 16 } as const
const SEQUENCE_SPAN = 2 ** 31

/** Refusals of what is in the batch, before anything of it is appended: the next batch may well be fine. */
const refusesContents: ReadonlySet<number> = new Set([
  KafkaError.MESSAGE_TOO_LARGE,
  KafkaError.RECORD_LIST_TOO_LARGE,
  KafkaError.INVALID_RECORD,
  KafkaError.INVALID_TIMESTAMP,
  KafkaError.UNSUPPORTED_COMPRESSION_TYPE,
])
/** Refusals before the append that are worth another attempt; all other errors leave open what has happened. */
const refusesForNow: ReadonlySet<number> = new Set([
  KafkaError.UNKNOWN_TOPIC_OR_PARTITION,
  KafkaError.LEADER_NOT_AVAILABLE,
  KafkaError.NOT_LEADER_OR_FOLLOWER,
  KafkaError.NOT_ENOUGH_REPLICAS,
  KafkaError.FENCED_LEADER_EPOCH,
  KafkaError.UNKNOWN_LEADER_EPOCH,
  KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
])

export interface QueuedBatch {
  recordCount: number
  /** Ordinals of its first and last record, counted from 0 over all appends of the producer. */
  firstOrdinal: number
  lastOrdinal: number
  /** On the monotonic clock. */
  readonly deadlineMs: number
  state: 'waiting' | 'inFlight' | 'resend'
  /** -1 before the first send. */
  baseSequence: number
  /** Counts first sends of the partition; -1 before. */
  sendIndex: number
  sends: number
  /** Whether, at its last send, nothing else was in flight, and whether nothing before it was unresolved. */
  wasAlone: boolean
  wasFirst: boolean
  /** Whether some send of it ended without an answer: the broker may or may not have it. */
  outcomeUnknown: boolean
  lastFailure: StreamError | undefined
}

export interface QueueOptions {
  /** false: no sequences, one batch in flight, so that order holds; a lost answer may make a duplicate. */
  readonly idempotent: boolean
  readonly inFlightMax: number
  /** Whether the batches behind a certainly refused one may go on with its sequences. */
  readonly continueAfterRefusal: boolean
}

/** What the driver must do after a step. */
export interface StepResult<Batch> {
  readonly delivered: readonly Batch[]
  /** Gone for good, in order, each with its own reason in `failure`. */
  readonly failed: readonly { readonly batch: Batch; readonly failure: StreamError }[]
  /** Nothing is sent until the driver has got a new producer id for this partition and called `renew`. */
  readonly wantsIdentity: boolean
  /** The partition should rest this many failures' worth of back-off before the next send; 0: go on at once. */
  readonly pauseFailures: number
}

const nothing: StepResult<never> = {
  delivered: [],
  failed: [],
  wantsIdentity: false,
  pauseFailures: 0,
}

export class PartitionQueue<Batch extends QueuedBatch> {
  readonly #options: QueueOptions
  readonly #batches: Batch[] = []
  #inFlight = 0
  #nextSequence = 0
  /** Whether the broker is known to hold the state that refuses what is out of order. */
  #isProven = false
  #failuresInRow = 0
  #nextIndex = 0
  /** The first batch, in order, that has failed for good: only what was sent before it goes on. */
  #stop: { readonly index: number; readonly failure: StreamError } | undefined
  /** The sendIndex of a batch left out: what was sent before it goes on, then a new identity is needed. */
  #leftOut: number | undefined

  constructor(options: QueueOptions) {
    assert(
      options.inFlightMax >= 1 && options.inFlightMax <= IN_FLIGHT_MAX.native,
      'a broker remembers the last batches of a producer only',
    )
    this.#options = options
  }

  /** Unresolved batches, oldest first. */
  get batches(): readonly Batch[] {
    return this.#batches
  }

  get inFlight(): number {
    return this.#inFlight
  }

  /** Why nothing more can be delivered to this partition, once that is so. */
  get failure(): StreamError | undefined {
    return this.#stop?.failure
  }

  add(batch: Batch): void {
    assert(this.#stop === undefined, 'nothing is added behind a batch that has failed')
    assert(batch.state === 'waiting' && batch.baseSequence === -1, 'a queued batch is new')
    this.#batches.push(batch)
  }

  /** Whether `next` would return a batch. */
  get canSend(): boolean {
    return this.#candidate() !== undefined
  }

  /** The batch to send now, counted as in flight from here on, or undefined. */
  next(): Batch | undefined {
    const batch = this.#candidate()
    if (batch === undefined) return undefined
    if (batch.sendIndex === -1) {
      batch.sendIndex = this.#nextIndex++
      if (this.#options.idempotent) {
        batch.baseSequence = this.#nextSequence
        this.#nextSequence = (this.#nextSequence + batch.recordCount) % SEQUENCE_SPAN
      }
    }
    batch.state = 'inFlight'
    batch.sends++
    batch.wasAlone = this.#inFlight === 0
    batch.wasFirst = this.#batches[0] === batch
    this.#inFlight++
    return batch
  }

  /** The broker has it (or has had it already). */
  acknowledge(batch: Batch): StepResult<Batch> {
    if (!this.#land(batch)) return nothing
    this.#remove(batch)
    // What was sent before the last trouble proves nothing about what comes after it.
    this.#isProven ||= batch.wasAlone
    this.#failuresInRow = 0
    return { ...this.#settle(0), delivered: [batch] }
  }

  /** The broker has refused it with `code`; `failure` is that in the user's words. */
  refuse(batch: Batch, code: number, failure: StreamError): StepResult<Batch> {
    if (code === KafkaError.DUPLICATE_SEQUENCE_NUMBER && this.#options.idempotent) {
      return this.acknowledge(batch)
    }
    if (!this.#land(batch)) return nothing
    this.#isProven = false
    batch.lastFailure = failure
    if (!refusesContents.has(code) && !refusesForNow.has(code)) batch.outcomeUnknown = true
    const isConsequence =
      code === KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER && (!batch.wasFirst || !this.#maySend(batch))
    if (isConsequence) return this.#settle(0)
    if (kafkaErrorIsRetriable(code)) {
      // Once for all that was under way together: each round is one attempt.
      if (batch.wasFirst || this.#failuresInRow === 0) this.#failuresInRow++
      return this.#settle(this.#failuresInRow)
    }
    return this.#failForGood(batch, failure, refusesContents.has(code))
  }

  /**
   * A new producer id is there, so sequences begin anew. Taking the sequence of the batch left out instead would let a
   * late copy of a batch behind it, sent under its old number, be appended a second time.
   * @returns  batches that were sent under the old identity: they are stamped anew before the next send
   */
  renew(): readonly Batch[] {
    assert(this.#leftOut !== undefined && this.#inFlight === 0, 'identity changes at rest only')
    this.#leftOut = undefined
    this.#isProven = false
    this.#nextSequence = 0
    const changed: Batch[] = []
    for (const batch of this.#batches) {
      if (batch.sendIndex === -1) break
      batch.sendIndex = this.#nextIndex++
      batch.baseSequence = this.#nextSequence
      this.#nextSequence = (this.#nextSequence + batch.recordCount) % SEQUENCE_SPAN
      changed.push(batch)
    }
    return changed
  }

  /** Whether a refusal with `code` is certain, and of nothing but what is in the batch: it may be made anew. */
  mayShrink(batch: Batch, code: number): boolean {
    const isUnderWay = batch.state === 'inFlight' && this.#batches.includes(batch)
    const isCertain = refusesContents.has(code) && !batch.outcomeUnknown
    return isUnderWay && isCertain && this.#stop === undefined
  }

  /**
   * The broker has refused it because of single records, and the driver has made it anew without them: it keeps its place. Where
   * batches go on after a refusal they all get new sequences first (`renew`); else this one keeps its own, and nothing behind it is sent
   * any more: what was in flight there can never be appended, for its sequences do not follow.
   */
  shrink(batch: Batch, failure: StreamError): StepResult<Batch> {
    assert(this.#stop === undefined && !batch.outcomeUnknown, 'as mayShrink says')
    if (!this.#land(batch)) return nothing
    this.#isProven = false
    const { sendIndex } = batch
    if (this.#options.continueAfterRefusal) {
      this.#leftOut = Math.min(this.#leftOut ?? sendIndex, sendIndex)
    } else this.#stop = { index: sendIndex + 1, failure }
    return this.#settle(0)
  }

  /** Whether it may be made anew as parts. Where it may be in the log already, its sequences keep the parts from standing there twice. */
  maySplit(batch: Batch): boolean {
    const isUnderWay = batch.state === 'inFlight' && this.#batches.includes(batch)
    const isSafe = this.#options.idempotent || !batch.outcomeUnknown
    const isBeforeStop = this.#stop === undefined || batch.sendIndex < this.#stop.index
    return isUnderWay && isSafe && isBeforeStop
  }

  /**
   * The broker has refused it as too large, and the driver has made it anew as `parts`: they take its place and its sequences, record by
   * record, so that those of the batches behind it stay what they are.
   */
  split(batch: Batch, parts: readonly Batch[], failure: StreamError): StepResult<Batch> {
    assert(this.maySplit(batch), 'as maySplit says')
    this.#land(batch)
    this.#isProven = false
    const { sendIndex } = batch
    const added = parts.length - 1
    for (const row of this.#batches) if (row.sendIndex > sendIndex) row.sendIndex += added
    if (this.#leftOut !== undefined && this.#leftOut > sendIndex) this.#leftOut += added
    if (this.#stop !== undefined) this.#stop = { ...this.#stop, index: this.#stop.index + added }
    this.#nextIndex += added
    let sequence = batch.baseSequence
    for (const [index, part] of parts.entries()) {
      part.state = 'resend'
      part.sends = 0
      part.lastFailure = failure
      part.sendIndex = sendIndex + index
      part.baseSequence = sequence
      if (this.#options.idempotent) sequence = (sequence + part.recordCount) % SEQUENCE_SPAN
    }
    this.#batches.splice(this.#batches.indexOf(batch), 1, ...parts)
    return this.#settle(0)
  }

  /** Its answer will never come: the connection is gone, or the request timed out. */
  lose(batch: Batch, failure: StreamError): StepResult<Batch> {
    if (!this.#land(batch)) return nothing
    this.#isProven = false
    batch.outcomeUnknown = true
    batch.lastFailure = failure
    return this.#settle(0)
  }

  /** It never left: the connection refused to take it. */
  unsend(batch: Batch): StepResult<Batch> {
    if (!this.#land(batch)) return nothing
    batch.sends--
    return this.#settle(0)
  }

  /** Fails what has passed its deadline, and so everything behind it. */
  expire(nowMs: number, makeFailure: (batch: Batch) => StreamError): StepResult<Batch> {
    const failed: { batch: Batch; failure: StreamError }[] = []
    for (;;) {
      const first = this.#batches[0]
      // Those in flight behind it keep their own deadlines.
      if (first === undefined || first.deadlineMs > nowMs) break
      const failure = makeFailure(first)
      if (first.state === 'inFlight') {
        first.outcomeUnknown = true
        this.#inFlight--
      }
      failed.push(...this.#failForGood(first, failure, false).failed)
    }
    return failed.length === 0 ? nothing : { ...nothing, failed }
  }

  /** Fails all that is left, in flight or not: the producer is closing. */
  abandon(makeFailure: (batch: Batch) => StreamError): StepResult<Batch> {
    for (const batch of this.#batches) batch.outcomeUnknown ||= batch.state === 'inFlight'
    const failed = this.#batches.map((batch) => ({ batch, failure: makeFailure(batch) }))
    this.#batches.length = 0
    this.#inFlight = 0
    if (failed[0] !== undefined) this.#stop ??= { index: 0, failure: failed[0].failure }
    return { ...nothing, failed }
  }

  #candidate(): Batch | undefined {
    const isOpen = this.#isProven && this.#options.idempotent
    if (this.#inFlight >= (isOpen ? this.#options.inFlightMax : 1)) return undefined
    for (const batch of this.#batches) {
      if (batch.state === 'inFlight') continue
      return this.#maySend(batch) ? batch : undefined
    }
    return undefined
  }

  #maySend(batch: Batch): boolean {
    const index = batch.sendIndex === -1 ? this.#nextIndex : batch.sendIndex
    if (this.#stop !== undefined && index >= this.#stop.index) return false
    if (this.#leftOut !== undefined && index >= this.#leftOut) return false
    const oldest = this.#batches[0]?.sendIndex ?? -1
    return oldest === -1 || index - oldest < this.#options.inFlightMax
  }

  /** Takes it out of flight; false for an answer that has come too late to matter. */
  #land(batch: Batch): boolean {
    if (batch.state !== 'inFlight' || !this.#batches.includes(batch)) return false
    this.#inFlight--
    batch.state = 'resend'
    return true
  }

  #remove(batch: Batch): void {
    const index = this.#batches.indexOf(batch)
    assert(index >= 0, 'only an unresolved batch is resolved')
    this.#batches.splice(index, 1)
  }

  #failForGood(batch: Batch, failure: StreamError, isCertain: boolean): StepResult<Batch> {
    this.#remove(batch)
    const { sendIndex } = batch
    const mayContinue = this.#options.continueAfterRefusal && isCertain && !batch.outcomeUnknown
    if (mayContinue && this.#stop === undefined) {
      this.#leftOut = Math.min(this.#leftOut ?? sendIndex, sendIndex)
    } else {
      const index = sendIndex === -1 ? this.#nextIndex : sendIndex
      if (this.#stop === undefined || index < this.#stop.index) this.#stop = { index, failure }
    }
    const rest = this.#settle(0)
    return { ...rest, failed: [{ batch, failure }, ...rest.failed] }
  }

  /** What follows once a batch has landed. */
  #settle(pauseFailures: number): StepResult<Batch> {
    const failed = this.#failRest()
    const leftOut = this.#leftOut
    if (leftOut === undefined || this.#stop !== undefined || this.#inFlight > 0) {
      return { ...nothing, failed, pauseFailures }
    }
    const hasEarlier = this.#batches.some((row) => row.sendIndex >= 0 && row.sendIndex < leftOut)
    if (hasEarlier) return { ...nothing, failed, pauseFailures }
    if (this.#options.idempotent) return { ...nothing, wantsIdentity: true, pauseFailures }
    this.#leftOut = undefined
    return { ...nothing, pauseFailures }
  }

  /** Behind a batch that has failed for good everything fails that is not in flight. */
  #failRest(): StepResult<Batch>['failed'] {
    const stop = this.#stop
    if (stop === undefined) return []
    const { failure } = stop
    const rest = this.#batches.filter(
      ({ state, sendIndex }) =>
        state !== 'inFlight' && (sendIndex === -1 || sendIndex >= stop.index),
    )
    for (const batch of rest) this.#remove(batch)
    return rest.map((batch) => ({
      batch,
      failure: new StreamError('NOT_DELIVERED', `not sent, because of: ${failure.message}`, {
        ...(failure.target === undefined ? {} : { target: failure.target }),
        ...(failure.kafkaError === undefined ? {} : { kafkaError: failure.kafkaError }),
        cause: failure,
      }),
    }))
  }
}
