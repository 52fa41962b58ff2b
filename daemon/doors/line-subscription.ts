/**
 * One SUB of the line protocol: the records of a topic, or of one of its partitions, sent as they come.
 *
 *     MSG TOPIC PARTITION OFFSET TIMESTAMP KEY-LENGTH LENGTH LF  KEY-BYTES VALUE-BYTES LF
 *     +END TOPIC LF               until=end, and that is reached
 *     -END TOPIC CODE MESSAGE LF  it cannot go on
 *
 * Invariants:
 * - What a partition holds is sent in the order of its offsets, each record once, from the first offset asked for: nothing is left out
 *   in silence. Where records are gone before they were sent the subscription ends and says so.
 * - Only what is committed is sent: transactions once they are, aborted ones never.
 * - Bounded: it reads on only while its client takes what it was sent, and holds one answer of the log at a time.
 */

import { Buffer } from 'node:buffer'
import type { Timer } from '../../src/ports/time.ts'
import type { Request, ResponseInput } from '../../src/protocol/api-table.ts'
import {
  KafkaError,
  kafkaErrorIsRetriable,
  kafkaErrorMessage,
  kafkaErrorName,
} from '../../src/protocol/errors.ts'
import { ZERO_UUID } from '../../src/protocol/schema.ts'
import { AbortedTransactions } from '../../src/record/aborted-transactions.ts'
import { baseOffsetAt, batchBytesAt, lastOffsetAt } from '../../src/record/batch-layout.ts'
import type { OutputBuffer } from '../../src/record/output-buffer.ts'
import { RecordCursor } from '../../src/record/record-cursor.ts'
import { putNumber } from '../../src/text/envelope-writer.ts'
import type { RequestContext, Services } from '../apis/handler.ts'
import { codeOfError, findReadable, messageOfError } from '../apis/kafka-codes.ts'
import { handle } from '../apis/registry.ts'
import type { Admission } from './admission.ts'
import type { LineRequest } from './line-reader.ts'

/** What a subscription is given by the connection that it belongs to. */
export interface SubscriptionPlace {
  readonly services: Services
  readonly admission: Admission
  /** Its client takes what it is sent; else `resume` is called once it does. */
  readonly hasRoom: () => boolean
  /** Takes messages and ends, whole lines; empty when this returns. */
  readonly send: (out: OutputBuffer) => void
  readonly out: OutputBuffer
  /** It has said its last line. */
  readonly onOver: (subscription: LineSubscription) => void
}

/** Why a SUB is refused. */
export interface Refusal {
  readonly code: number
  readonly message: string
}

interface Position {
  readonly partition: number
  /** Of the next record. */
  offset: number
  /** The first one no longer wanted: where a batch begins, or will. */
  readonly endOffset: number
}

type FetchAnswer = NonNullable<ResponseInput<'Fetch'>>
type PartitionRequest = Request<'Fetch'>['topics'][number]['partitions'][number]
type PartitionAnswer = FetchAnswer['responses'][number]['partitions'][number]

const FETCH_VERSION = 12
const READ_COMMITTED = 1
/** Of one answer of the log. */
const ANSWER_BYTES_MAX = 1024 * 1024
/** Handed to the link at once. */
const SEND_BYTES = 64 * 1024
/** As long as a fetch waits; then partitions that were added meanwhile are seen. */
const WAIT_MS_MAX = 5000
/** Answers without records that come sooner have not waited: a partition is away, no more may wait, or the daemon ends. */
const HASTY_MS = 50
const PAUSE_MS = 100

export class LineSubscription {
  readonly topic: string
  /** undefined: all. */
  readonly partition: number | undefined
  /** Another topic may get the name. */
  readonly #topicId: string
  readonly #place: SubscriptionPlace
  readonly #isBounded: boolean
  readonly #positions: Position[]
  readonly #cursor = new RecordCursor()
  readonly #context = new FetchContext(this)
  readonly #heads = new Map<number, Uint8Array>()
  /** The answer that is being sent. */
  #sending: Generator<void, void> | undefined
  #isFetching = false
  #isOver = false
  #turn = 0
  #timer: Timer | undefined

  /** Looks up where it begins. Nothing is sent before `resume`. */
  static open(request: LineRequest, place: SubscriptionPlace): LineSubscription | Refusal {
    const { broker } = place.services
    const { topic, partition: only } = request
    const image = broker.image.topic(topic)
    if (image?.value.state !== 'READY') return unknownTopic(topic)
    const { partitions } = image.value
    if (only !== undefined && only >= partitions) return unknownPartition(topic, only, partitions)
    if (typeof request.from === 'number' && only === undefined && partitions > 1) {
      const message = `from=${request.from}: ${topic} has ${partitions} partitions, name one: partition=N`
      return { code: KafkaError.INVALID_REQUEST, message }
    }
    const positions: Position[] = []
    for (let index = only ?? 0; index < (only === undefined ? partitions : only + 1); index += 1) {
      const position = positionIn(place.services, request, index)
      if ('code' in position) return position
      positions.push(position)
    }
    return new LineSubscription(request, { topicId: image.topicId, positions }, place)
  }

  private constructor(
    request: LineRequest,
    { topicId, positions }: { readonly topicId: string; readonly positions: Position[] },
    place: SubscriptionPlace,
  ) {
    this.topic = request.topic
    this.#topicId = topicId
    this.partition = request.partition
    this.#isBounded = request.isUntilEnd
    this.#positions = positions
    this.#place = place
  }

  get isBounded(): boolean {
    return this.#isBounded
  }

  /** `+SUB …`, the answer to the request. */
  get greeting(): Uint8Array {
    return Buffer.from(`+SUB ${this.topic} ${this.#positions.length}\n`)
  }

  get admission(): Admission {
    return this.#place.admission
  }

  /** Whether both would send the same records. */
  overlaps({ topic, partition }: LineRequest): boolean {
    if (topic !== this.topic) return false
    return partition === undefined || this.partition === undefined || partition === this.partition
  }

  /** Sends and reads on, as far as there is room. */
  resume(): void {
    while (!this.#isOver && !this.#isFetching && this.#timer === undefined) {
      if (!this.#place.hasRoom()) return
      if (this.#sending === undefined) this.#fetch()
      else this.#sendOn()
    }
  }

  /** Does not wait for records any more: the daemon ends. */
  release(): void {
    this.#context.answerNow?.()
  }

  /** Without a word. */
  end(): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#sending = undefined
    this.#timer?.cancel()
    this.#timer = undefined
    this.#context.answerNow?.()
    this.#context.releaseAnswer()
  }

  // --- reading

  #fetch(): void {
    const { broker } = this.#place.services
    if (broker.image.topic(this.topic)?.topicId !== this.#topicId) {
      this.#over(KafkaError.UNKNOWN_TOPIC_OR_PARTITION, `${this.topic} was deleted`)
      return
    }
    this.#addPartitions()
    const startMs = broker.time.monotonicMs()
    const taken = (answer: FetchAnswer | undefined): void => {
      this.#isFetching = false
      if (this.#isOver) this.#context.releaseAnswer()
      else this.#take(answer, startMs)
    }
    this.#isFetching = true
    try {
      const answer = handle('Fetch', this.#place.services, this.#context, this.#request())
      if (!(answer instanceof Promise)) {
        taken(answer)
        return
      }
      answer.then(
        (body) => {
          taken(body)
          this.resume()
        },
        (error: unknown) => this.#failed(error),
      )
    } catch (error) {
      this.#failed(error)
    }
  }

  #failed(error: unknown): void {
    this.#isFetching = false
    if (this.#isOver) return
    const { log } = this.#place.services.broker
    log.error('a subscription failed', { topic: this.topic, error: messageOfError(error) })
    this.#over(codeOfError(error), messageOfError(error))
  }

  /** What was added to the topic since is read from its beginning. */
  #addPartitions(): void {
    if (this.partition !== undefined || this.#isBounded) return
    const partitions = this.#place.services.broker.image.topic(this.topic)?.value.partitions ?? 0
    for (let index = this.#positions.length; index < partitions; index += 1) {
      this.#positions.push({ partition: index, offset: 0, endOffset: Number.POSITIVE_INFINITY })
    }
  }

  /** Partitions are answered in the order of the request, so each is the first in its turn. */
  #request(): Request<'Fetch'> {
    this.#turn += 1
    const count = this.#positions.length
    const partitions: PartitionRequest[] = []
    for (let index = 0; index < count; index += 1) {
      const { partition, offset, endOffset } = this.#positions[
        (this.#turn + index) % count
      ] as Position
      if (offset >= endOffset) continue
      partitions.push({
        partition,
        currentLeaderEpoch: -1,
        fetchOffset: offset,
        lastFetchedEpoch: -1,
        logStartOffset: -1,
        partitionMaxBytes: ANSWER_BYTES_MAX,
        // The other fields are what followers say.
      } as PartitionRequest)
    }
    return {
      replicaId: -1,
      replicaState: { replicaId: -1, replicaEpoch: -1 },
      clusterId: null,
      dataEpoch: -1,
      fetchNumber: -1,
      maxWaitMs: this.#isBounded ? 0 : WAIT_MS_MAX,
      minBytes: 1,
      maxBytes: ANSWER_BYTES_MAX,
      isolationLevel: READ_COMMITTED,
      sessionId: 0,
      sessionEpoch: -1,
      topics: [{ topic: this.topic, topicId: ZERO_UUID, partitions }],
      forgottenTopicsData: [],
      rackId: '',
    }
  }

  #take(answer: FetchAnswer | undefined, startMs: number): void {
    const rows = answer?.responses[0]?.partitions ?? []
    const isFatal = rows.some((row) => row.errorCode !== 0 && !this.#willPass(row))
    const isEmpty = rows.every(({ records }) => records === null || records.length === 0)
    if (!isFatal && isEmpty) {
      this.#context.releaseAnswer()
      if (this.#isBounded) this.#endsHere(rows)
      const { time } = this.#place.services.broker
      if (this.#isOver || time.monotonicMs() - startMs >= HASTY_MS) return
      this.#timer = time.setTimer(PAUSE_MS, () => {
        this.#timer = undefined
        this.resume()
      })
      return
    }
    this.#sending = this.#emit(rows)
  }

  /** An error of a replica of this daemon that is not open yet, or has no leader to follow. */
  #willPass({ partitionIndex, errorCode }: PartitionAnswer): boolean {
    const { image, nodeId } = this.#place.services.broker
    const replicas = image.partition(this.#topicId, partitionIndex)?.value.replicas
    return kafkaErrorIsRetriable(errorCode) && replicas?.includes(nodeId) === true
  }

  /** Nothing is left before the ends: what stood there was compacted away. */
  #endsHere(rows: readonly PartitionAnswer[]): void {
    for (const row of rows) {
      if (row.errorCode !== 0) continue
      const position = this.#positionOf(row.partitionIndex)
      if (position !== undefined && (row.lastStableOffset ?? -1) >= position.endOffset) {
        position.offset = position.endOffset
      }
    }
    this.#endIfDone()
  }

  // --- sending

  #sendOn(): void {
    try {
      if (this.#sending?.next().done !== true) {
        this.#place.send(this.#place.out)
        return
      }
    } catch (error) {
      this.#failed(error)
      return
    }
    this.#sending = undefined
    this.#context.releaseAnswer()
    if (this.#place.out.length > 0) this.#place.send(this.#place.out)
    this.#endIfDone()
  }

  #endIfDone(): void {
    if (this.#isOver || this.#positions.some(({ offset, endOffset }) => offset < endOffset)) return
    this.#say(`+END ${this.topic}\n`)
  }

  /** Puts out the messages of one answer, and yields whenever they are enough for now. */
  *#emit(rows: readonly PartitionAnswer[]): Generator<void, void> {
    for (const row of rows) {
      const position = this.#positionOf(row.partitionIndex)
      if (position === undefined) continue
      if (row.errorCode !== 0) {
        if (this.#willPass(row)) continue
        this.#over(row.errorCode, this.#wordsFor(row, position))
        return
      }
      const aborted = new AbortedTransactions(row.abortedTransactions ?? [])
      for (const bytes of (row.records ?? []) as readonly Uint8Array[]) {
        for (let at = 0; at < bytes.length; at += batchBytesAt(bytes, at)) {
          if (aborted.isVisible(bytes, at) && baseOffsetAt(bytes, at) < position.endOffset) {
            yield* this.#emitBatch(bytes, at, position)
          }
          position.offset = Math.max(position.offset, lastOffsetAt(bytes, at) + 1)
        }
      }
    }
  }

  *#emitBatch(batch: Uint8Array, at: number, position: Position): Generator<void, void> {
    const cursor = this.#cursor
    cursor.reset(batch, at)
    while (cursor.next()) {
      if (cursor.offset < position.offset) continue
      this.#putMessage(position.partition)
      if (this.#place.out.length >= SEND_BYTES) yield
    }
  }

  #putMessage(partition: number): void {
    const { out } = this.#place
    const { bytes, offset, timestampMs, keyStart, keyEnd, valueStart, valueEnd } = this.#cursor
    out.append(this.#headOf(partition))
    putNumber(out, offset)
    putInteger(out, timestampMs)
    putInteger(out, keyStart < 0 ? -1 : keyEnd - keyStart)
    putInteger(out, valueStart < 0 ? -1 : valueEnd - valueStart)
    out.appendByte(LF)
    if (keyStart >= 0) out.append(bytes, keyStart, keyEnd)
    if (valueStart >= 0) out.append(bytes, valueStart, valueEnd)
    out.appendByte(LF)
  }

  #headOf(partition: number): Uint8Array {
    let head = this.#heads.get(partition)
    if (head === undefined) {
      head = Buffer.from(`MSG ${this.topic} ${partition} `)
      this.#heads.set(partition, head)
    }
    return head
  }

  #positionOf(partition: number): Position | undefined {
    return this.#positions[partition - (this.partition ?? 0)]
  }

  #wordsFor({ errorCode, logStartOffset = -1 }: PartitionAnswer, position: Position): string {
    const { partition, offset } = position
    const place = `${this.topic} partition ${partition}`
    if (errorCode === KafkaError.OFFSET_OUT_OF_RANGE && logStartOffset > offset) {
      return `${place}: the records before ${logStartOffset} are gone, ${offset} was next`
    }
    if (errorCode === KafkaError.NOT_LEADER_OR_FOLLOWER) return `${place} is not on this daemon`
    return `${place}, offset ${offset}: ${kafkaErrorMessage(errorCode)}`
  }

  #over(code: number, message: string): void {
    this.#say(`-END ${this.topic} ${kafkaErrorName(code)} ${oneLine(message)}\n`)
  }

  #say(line: string): void {
    const { out, send, onOver } = this.#place
    this.end()
    out.append(Buffer.from(line))
    send(out)
    onOver(this)
  }
}

const LF = 0x0a
const SPACE = 0x20
const MINUS = 0x2d
const MESSAGE_CHARACTERS_MAX = 400

/** One line, whatever the message holds. */
export function oneLine(message: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is replaced
  return message.slice(0, MESSAGE_CHARACTERS_MAX).replaceAll(/[\u0000-\u001f\u007f]+/g, ' ')
}

export function unknownTopic(topic: string): Refusal {
  const shown = JSON.stringify(topic).slice(1, -1)
  const message = `no topic ${shown}; create it: stream topics create ${shown}`
  return { code: KafkaError.UNKNOWN_TOPIC_OR_PARTITION, message }
}

export function unknownPartition(topic: string, partition: number, partitions: number): Refusal {
  const message = `${topic} has no partition ${partition}, only ${partitions}`
  return { code: KafkaError.UNKNOWN_TOPIC_OR_PARTITION, message }
}

function positionIn(
  { broker }: Services,
  { topic, from, isUntilEnd }: LineRequest,
  index: number,
): Position | Refusal {
  const { code, partition } = findReadable(broker, topic, index, -1)
  if (partition === undefined || code !== 0) {
    const leader = broker.image.partition(broker.image.topic(topic)?.topicId ?? '', index)?.value
      .leader
    const where = leader === undefined || leader < 0 ? 'no daemon leads it' : `ask daemon ${leader}`
    return { code, message: `${topic} partition ${index} is not on this daemon: ${where}` }
  }
  const start = partition.log.logStartOffset
  const end = partition.lastStableOffset
  const offset = from === 'start' ? start : from === 'end' ? end : from
  if (offset < start || offset > end) {
    const message = `from=${offset}: ${topic} partition ${index} has the offsets ${start} to ${end}`
    return { code: KafkaError.OFFSET_OUT_OF_RANGE, message }
  }
  return { partition: index, offset, endOffset: isUntilEnd ? end : Number.POSITIVE_INFINITY }
}

/** A space, and a number that may be negative. */
function putInteger(out: OutputBuffer, value: number): void {
  out.appendByte(SPACE)
  if (value < 0) out.appendByte(MINUS)
  putNumber(out, Math.abs(value))
}

/** One subscription fetches all the time: it counts as no work, but its answers are reserved for. */
class FetchContext implements RequestContext {
  readonly door = 'zmq'
  readonly endpoint = { host: '', port: 0 }
  readonly apiVersion = FETCH_VERSION
  readonly clientId = 'line'
  readonly peer = 'line'
  answerNow: (() => void) | undefined
  readonly #subscription: LineSubscription
  #reservedBytes = 0

  constructor(subscription: LineSubscription) {
    this.#subscription = subscription
  }

  reserveAnswer(wantedBytes: number): number {
    const { admission } = this.#subscription
    this.releaseAnswer()
    this.#reservedBytes = Math.min(wantedBytes, Math.floor(admission.shareBytes))
    admission.reserve(this.#reservedBytes)
    return this.#reservedBytes
  }

  releaseAnswer(): void {
    this.#subscription.admission.unreserve(this.#reservedBytes)
    this.#reservedBytes = 0
  }

  park(): void {}
}
