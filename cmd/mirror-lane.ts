/**
 * The copy of one topic into another: its records go into transactions of their own, each with the positions behind them.
 *
 * The loop: (1) take the next event of the source; (2) send its batches; (3) commit when much or old enough is open, when nothing
 * more comes, or at the end. What a failure leaves is settled before anything else is sent, then the source is read again from the
 * committed positions: nothing that was read is kept for a second attempt.
 *
 * Invariants:
 * - A transaction holds the records between the committed positions and those that it commits, and nothing else.
 * - The transactional id is of the pair of topics: whoever begins it anew fences the one before.
 * - A partition that fails is left out from then on; the others go on.
 */

import { isStreamError, StreamError } from '../src/base/errors.ts'
import type { ConsumerEvent, RecordsEvent } from '../src/client/consumer-events.ts'
import type { Delivery } from '../src/client/delivery.ts'
import type { ProducerOptions } from '../src/client/producer.ts'
import { sleep } from '../src/ports/time.ts'
import type { BatchCopier } from '../src/record/batch-copier.ts'
import { batchBytesAt, lastOffsetAt, recordCountAt } from '../src/record/batch-layout.ts'
import type { Broker } from './broker.ts'
import type { BatchProducerClient, ConsumerClient, TransactionClient } from './clients.ts'
import type { CommandDeps } from './deps.ts'
import {
  type MirrorPosition,
  type MirrorTrait,
  mirrorPrefix,
  NONE_YET,
  NOT_TOLD,
  ofPair,
  positionKey,
  readPositions,
  storedPosition,
  type TopicPair,
} from './mirror-positions.ts'
import type { Pacer } from './pacer.ts'
import type { Report } from './report.ts'
import { appendState, prepareState } from './stream-state.ts'
import { WakeUp } from './wake-up.ts'

const TRANSACTION_TIMEOUT_MS = 60_000
/** Readers of the target wait for an open transaction. */
const OPEN_MS_MAX = 1000
const OPEN_BYTES_MAX = 128 * 1024 * 1024
/** Nothing has come for so long: what is open is committed. */
const IDLE_MS = 30
/** After so much the position is known, and a stop, a commit or a rate may come in between. */
const SLICE_BYTES = 1024 * 1024
const PACED_SLICE_BYTES = 32 * 1024
const INBOX_BYTES_MAX = 8 * 1024 * 1024
const RETRY_FIRST_MS = 100
const RETRY_MAX_MS = 5000
/** Of a run that ends by itself, one after the other without a commit between them. */
const RETRIES_MAX = 3
const ABORT_MS_MAX = 5000

export interface LanePartition {
  readonly partition: number
  /** Where this run began. */
  readonly startOffset: number
  /** Undefined: goes on. */
  readonly endOffset: number | undefined
  position: MirrorPosition
  /** Everything before it has been sent; ahead of position.next while a transaction is open. */
  taken: number
  state: 'reading' | 'ended' | 'failed'
  /** It is to be stored though it has not moved: it is new, or its error is. */
  isUnstored: boolean
}

export interface LaneOptions {
  readonly clusterId: string
  readonly pair: TopicPair
  readonly copier: BatchCopier
  readonly producerOptions: ProducerOptions
  readonly pacer: Pacer | undefined
  readonly report: Report
  readonly follows: boolean
  readonly traits: readonly MirrorTrait[]
  /** Before the records of a partition. */
  readonly onPartition: (partition: number) => void
  /** Tells of offsets that are gone. @throws StreamError where the partition is to fail by it */
  readonly onGap: (topic: string, partition: number, from: number, to: number) => void
  readonly onFailure: (error: unknown, target: string) => void
  /** The consumer has something to read again. */
  readonly onReading: () => void
}

/** Fails one partition, not all. */
class PartitionFailure {
  readonly partition: LanePartition
  readonly error: StreamError
  constructor(partition: LanePartition, error: StreamError) {
    this.partition = partition
    this.error = error
  }
}

export function mirrorTransactionalId(clusterId: string, { source, target }: TopicPair): string {
  return `stream.mirror.${clusterId}.${source}.${target}`
}

export class MirrorLane {
  readonly partitions = new Map<number, LanePartition>()
  readonly #deps: CommandDeps
  readonly #target: Broker
  readonly #consumer: ConsumerClient
  readonly #options: LaneOptions
  readonly #wake: WakeUp
  #inbox: ConsumerEvent[] = []
  #inboxBytes = 0
  #isHeld = false
  #isStopping = false
  #isOver = false
  #isWaiting = false
  #client: TransactionClient | undefined
  #producer: BatchProducerClient | undefined
  #openedMs = 0
  #lastMs = 0
  #openBytes = 0
  #openRecords = 0
  /** The decision to commit may have been taken. */
  #isEnding = false
  #refused: PartitionFailure | undefined
  /** Where the records of the open transaction went, by partition. */
  readonly #placed = new Map<number, { first: number; end: number; isKnown: boolean }>()
  #retries = 0

  constructor(deps: CommandDeps, target: Broker, consumer: ConsumerClient, options: LaneOptions) {
    this.#deps = deps
    this.#target = target
    this.#consumer = consumer
    this.#options = options
    this.#wake = new WakeUp(deps.time)
  }

  get pair(): TopicPair {
    return this.#options.pair
  }

  /** Becomes the only copy of the pair; what another left open is aborted. @throws StreamError as TransactionalProducer.init */
  async open(): Promise<void> {
    const { clusterId, pair, producerOptions } = this.#options
    const client = await this.#deps.clients.transactionalProducer(
      this.#target.cluster,
      {
        transactionalId: mirrorTransactionalId(clusterId, pair),
        timeoutMs: TRANSACTION_TIMEOUT_MS,
      },
      { ...producerOptions, onDelivery: (delivery) => this.#onDelivery(delivery) },
    )
    await client.init()
    this.#client = client
  }

  add(partition: LanePartition): void {
    this.partitions.set(partition.partition, partition)
    this.#assign(partition)
  }

  /** What came of its topic at the source. */
  offer(event: ConsumerEvent): void {
    if (this.#isOver) return
    this.#inbox.push(event)
    if (event.kind === 'records') this.#inboxBytes += event.bytes.length
    if (this.#inboxBytes > INBOX_BYTES_MAX && !this.#isHeld) this.#hold(true)
    this.#wake.wake()
  }

  /** Commits what was sent, and ends. */
  stop(): void {
    this.#isStopping = true
    this.#wake.wake()
  }

  /** A moment to note what was passed without a record: markers, and what was aborted. */
  tick(): void {
    // Only what was handed out and sent is behind: not in the middle of an event.
    if (!this.#isWaiting || this.#inbox.length > 0 || this.#isStopping) return
    for (const each of this.partitions.values()) {
      if (each.state !== 'reading') continue
      const at = this.#consumer.position(this.pair.source, each.partition) ?? 0
      if (at > each.taken) each.taken = at
    }
    this.#lastMs = this.#deps.time.monotonicMs()
    this.#wake.wake()
  }

  /** Copies until all partitions have ended or failed, or stop; tells what failed. */
  async run(): Promise<void> {
    try {
      while (!this.#isOver) {
        try {
          await this.#step()
        } catch (error) {
          await this.#recover(error)
        }
      }
    } catch (error) {
      this.#options.onFailure(error, this.pair.source)
    }
    await this.#close()
  }

  // --- the loop

  async #step(): Promise<void> {
    const event = this.#isStopping ? undefined : this.#inbox.shift()
    if (event !== undefined) {
      if (event.kind === 'records') this.#inboxBytes -= event.bytes.length
      if (this.#isHeld && this.#inboxBytes < INBOX_BYTES_MAX / 2) this.#hold(false)
      await this.#take(event)
      return
    }
    const isDone = this.#isStopping || !this.#hasState('reading')
    if (this.#hasNews) {
      const { time } = this.#deps
      const dueMs = Math.min(this.#lastMs + IDLE_MS, this.#openedMs + OPEN_MS_MAX)
      if (isDone || time.monotonicMs() >= dueMs) await this.#commit()
      else await this.#rest(dueMs - time.monotonicMs())
    } else if (isDone) this.#isOver = true
    else await this.#rest(Number.POSITIVE_INFINITY)
  }

  /** Everything that came has been sent. */
  async #rest(timeoutMs: number): Promise<void> {
    this.#isWaiting = true
    await this.#wake.wait(timeoutMs)
    this.#isWaiting = false
  }

  #hasState(state: LanePartition['state']): boolean {
    for (const each of this.partitions.values()) if (each.state === state) return true
    return false
  }

  get #hasNews(): boolean {
    if (this.#openRecords > 0) return true
    for (const each of this.partitions.values()) {
      if (each.taken !== each.position.next || each.isUnstored) return true
    }
    return false
  }

  async #take(event: ConsumerEvent): Promise<void> {
    const part = this.partitions.get(event.partition)
    if (part === undefined || part.state !== 'reading') return
    this.#lastMs = this.#deps.time.monotonicMs()
    if (!this.#hasNews) this.#openedMs = this.#lastMs
    switch (event.kind) {
      case 'records':
        await this.#takeRecords(part, event)
        return
      case 'gap':
        try {
          this.#options.onGap(event.topic, event.partition, event.from, event.to)
        } catch (error) {
          if (!isStreamError(error)) throw error
          throw new PartitionFailure(part, error)
        }
        part.taken = Math.max(part.taken, event.to)
        return
      case 'end':
        part.taken = Math.max(part.taken, event.offset)
        part.state = 'ended'
        return
      case 'failed':
        throw new PartitionFailure(part, event.error)
    }
  }

  async #takeRecords(part: LanePartition, event: RecordsEvent): Promise<void> {
    const { bytes, batches, fromOffset, untilOffset } = event
    const sliceBytes = this.#options.pacer === undefined ? SLICE_BYTES : PACED_SLICE_BYTES
    for (let first = 0; first < batches.length; ) {
      let end = first
      let sizeBytes = 0
      while (end < batches.length && sizeBytes < sliceBytes) {
        sizeBytes += batchBytesAt(bytes, batches[end] as number)
        end += 1
      }
      const isLast = end === batches.length
      const last = batches[end - 1] as number
      // Before the bytes are sent: they are stamped anew.
      const next = isLast ? event.nextOffset : Math.min(lastOffsetAt(bytes, last) + 1, untilOffset)
      const slice = { bytes, batches: batches.slice(first, end), fromOffset, untilOffset }
      const records = await this.#send(part, slice)
      part.taken = next
      this.#openBytes += sizeBytes
      first = end
      if (this.#isDue) await this.#commit()
      await this.#pace(records, sizeBytes)
      if (this.#isStopping) return
    }
  }

  async #send(part: LanePartition, slice: Parameters<BatchCopier['copies']>[0]): Promise<number> {
    const { copier, pair, onPartition } = this.#options
    const producer = await this.#begin()
    let records = 0
    onPartition(part.partition)
    copier.reset()
    const copies = copier.copies(slice)
    for (;;) {
      const batch = nextCopy(copies, part)
      if (batch === undefined) break
      const count = recordCountAt(batch, 0)
      while (!producer.appendBatch(pair.target, part.partition, batch)) await producer.writable()
      records += count
    }
    this.#openRecords += records
    return records
  }

  get #isDue(): boolean {
    if (this.#openBytes >= OPEN_BYTES_MAX) return true
    return this.#deps.time.monotonicMs() - this.#openedMs >= OPEN_MS_MAX
  }

  async #pace(records: number, bytes: number): Promise<void> {
    const { pacer } = this.#options
    if (pacer === undefined) return
    pacer.take(records, bytes)
    // Nobody waits for a transaction that waits for its rate.
    if (pacer.waitMs > OPEN_MS_MAX / 2 && this.#hasNews) await this.#commit()
    while (pacer.waitMs > 0 && !this.#isStopping) await this.#wake.wait(pacer.waitMs)
  }

  #hold(isHeld: boolean): void {
    this.#isHeld = isHeld
    for (const { partition } of this.partitions.values()) {
      if (isHeld) this.#consumer.pause(this.pair.source, partition)
      else this.#consumer.resume(this.pair.source, partition)
    }
  }

  // --- transactions

  async #begin(): Promise<BatchProducerClient> {
    if (this.#producer !== undefined) return this.#producer
    if (this.#client === undefined) await this.open()
    const producer = (await this.#client?.begin()) as BatchProducerClient
    this.#producer = producer
    await producer.prepare(this.pair.target)
    await prepareState(this.#deps, this.#target, producer)
    return producer
  }

  async #commit(): Promise<void> {
    const { clusterId, pair } = this.#options
    const producer = await this.#begin()
    // Only then it is known where the records went.
    await producer.flush()
    const changed: { readonly part: LanePartition; readonly position: MirrorPosition }[] = []
    for (const part of this.partitions.values()) {
      if (part.taken === part.position.next && !part.isUnstored) continue
      const position = this.#positionOf(part)
      changed.push({ part, position })
      const key = positionKey(clusterId, pair, part.partition)
      const value = storedPosition(position)
      const nowMs = this.#deps.time.wallMs()
      while (!appendState(producer, mirrorPrefix(clusterId), key, value, nowMs)) {
        await producer.writable()
      }
    }
    await producer.flush()
    this.#isEnding = true
    await this.#client?.commit()
    this.#isEnding = false
    for (const { part, position } of changed) this.#onCommitted(part, position)
    this.#options.report.records += this.#openRecords
    this.#options.report.bytes += this.#openBytes
    this.#retries = 0
    this.#forget()
  }

  #positionOf(part: LanePartition): MirrorPosition {
    const { position, taken, state } = part
    const placed = this.#placed.get(part.partition)
    const error = state === 'failed' ? position.error : undefined
    const traits = joinTraits(position, this.#options.traits)
    if (placed === undefined) return { ...position, next: taken, traits, error }
    const here = placed.isKnown ? placed.end : NOT_TOLD
    const first = placed.isKnown ? placed.first : NOT_TOLD
    const hereFirst = position.hereFirst === NONE_YET ? first : position.hereFirst
    return { ...position, next: taken, hereFirst, here, traits, error }
  }

  #onCommitted(part: LanePartition, position: MirrorPosition): void {
    const before = part.position.next
    part.position = position
    part.isUnstored = false
    if (position.next > before) {
      this.#options.report.addSpan(this.pair.source, part.partition, before, position.next - 1)
    }
  }

  /** Nothing is open any more. */
  #forget(): void {
    this.#producer = undefined
    this.#openBytes = 0
    this.#openRecords = 0
    this.#openedMs = this.#deps.time.monotonicMs()
    this.#placed.clear()
  }

  #onDelivery(delivery: Delivery): void {
    const { topic, partition, baseOffset, recordCount, error } = delivery
    if (topic !== this.pair.target) return
    const part = this.partitions.get(partition)
    if (part === undefined) return
    if (error !== undefined) {
      if (isOfRecords(error)) this.#refused ??= new PartitionFailure(part, error)
      return
    }
    const isKnown = baseOffset >= 0
    const end = baseOffset + recordCount
    const placed = this.#placed.get(partition)
    if (placed === undefined) this.#placed.set(partition, { first: baseOffset, end, isKnown })
    else {
      placed.first = Math.min(placed.first, baseOffset)
      placed.end = Math.max(placed.end, end)
      placed.isKnown &&= isKnown
    }
  }

  // --- failures

  /** @throws what ends the lane */
  async #recover(error: unknown): Promise<void> {
    const failure = this.#refused ?? (error instanceof PartitionFailure ? error : undefined)
    this.#refused = undefined
    if (failure === undefined && !this.#mayTryAgain(error)) throw this.#inWords(error)
    const wasEnding = this.#isEnding
    this.#isEnding = false
    if (failure !== undefined) this.#failPartition(failure)
    else if (isStreamError(error)) {
      this.#deps.console.warn(`${error.message}; trying again`)
    }
    if (wasEnding) {
      this.#client = undefined
      this.#producer?.close()
    } else await this.#abort()
    this.#forget()
    if (failure === undefined) await this.#backOff()
    if (this.#client === undefined) await this.#settle()
    this.#readAgain()
  }

  #mayTryAgain(error: unknown): error is StreamError {
    if (!isStreamError(error) || this.#isStopping) return false
    const isPassing =
      error.retriable || error.code === 'NOT_DELIVERED' || error.code === 'TIMED_OUT'
    if (!isPassing || error.code === 'TOPIC_UNKNOWN') return false
    this.#retries += 1
    return this.#options.follows || this.#retries <= RETRIES_MAX
  }

  #inWords(error: unknown): unknown {
    if (!isStreamError(error, 'FENCED')) return error
    const { source, target } = this.pair
    return new StreamError('FENCED', `${source}: another copy into ${target} has taken over`, {
      target: source,
      cause: error,
    })
  }

  #failPartition({ partition: part, error }: PartitionFailure): void {
    const { source, target } = this.pair
    part.state = 'failed'
    part.position = { ...part.position, error: error.message }
    part.isUnstored = true
    this.#consumer.unassign(source, part.partition)
    const where = source === target ? source : `${source} to ${target}`
    this.#options.onFailure(error, `${where} partition ${part.partition}`)
  }

  async #abort(): Promise<void> {
    const client = this.#client
    if (client === undefined || this.#producer === undefined) return
    try {
      await client.abort()
    } catch (error) {
      if (isStreamError(error, 'FENCED')) throw this.#inWords(error)
      this.#client = undefined
    }
  }

  #backOff(): Promise<void> {
    const pauseMs = Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** Math.min(this.#retries, 10))
    return sleep(this.#deps.time, pauseMs)
  }

  /** Nobody knows what became of the last transaction: now it is ended, and the positions tell. */
  async #settle(): Promise<void> {
    for (;;) {
      try {
        await this.open()
        break
      } catch (error) {
        if (!this.#mayTryAgain(error)) throw this.#inWords(error)
      }
      await this.#backOff()
    }
    const { clusterId, pair } = this.#options
    const stored = ofPair(await readPositions(this.#deps, this.#target, clusterId), pair)
    for (const part of this.partitions.values()) {
      const position = stored.get(part.partition)
      if (position !== undefined && part.state !== 'failed') part.position = position
    }
  }

  /** From the committed positions. */
  #readAgain(): void {
    this.#inbox = []
    this.#inboxBytes = 0
    this.#isHeld = false
    for (const part of this.partitions.values()) {
      part.taken = part.position.next
      if (part.state === 'failed') continue
      part.state = 'reading'
      this.#assign(part)
    }
  }

  #assign({ partition, position, endOffset, taken }: LanePartition): void {
    const startOffset = Math.max(taken, position.next)
    const end = endOffset === undefined ? {} : { endOffset }
    this.#consumer.assign([{ topic: this.pair.source, partition, startOffset, ...end }])
    this.#options.onReading()
  }

  async #close(): Promise<void> {
    this.#isOver = true
    for (const { partition } of this.partitions.values()) {
      this.#consumer.unassign(this.pair.source, partition)
    }
    this.#inbox = []
    if (this.#producer === undefined) return
    // Where the broker is away the transaction's own time ends it, or the next run.
    const abort = this.#client?.abort().catch(() => undefined)
    await Promise.race([abort, sleep(this.#deps.time, ABORT_MS_MAX)])
  }
}

function nextCopy(
  copies: Generator<Uint8Array, void, undefined>,
  part: LanePartition,
): Uint8Array | undefined {
  try {
    const { value } = copies.next()
    return value ?? undefined
  } catch (error) {
    // Damaged, or too large for the target: of this partition alone.
    if (isStreamError(error)) throw new PartitionFailure(part, error)
    throw error
  }
}

/** Records with their origin and records without are of two kinds. */
function joinTraits(
  { traits: before, hereFirst }: MirrorPosition,
  now: readonly MirrorTrait[],
): readonly MirrorTrait[] {
  const hasChanged = before.includes('tagged') !== now.includes('tagged')
  const isMixed = hasChanged && hereFirst !== NONE_YET
  return [...new Set([...before, ...now, ...(isMixed ? (['mixed'] as const) : [])])]
}

/** The broker refuses what is in a batch; others of the topic may be fine. */
function isOfRecords({ code }: StreamError): boolean {
  return (
    code === 'RECORD_TOO_LARGE' || code === 'RECORD_INVALID' || code === 'UNSUPPORTED_COMPRESSION'
  )
}
