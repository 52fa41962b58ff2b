/**
 * One connection of the line protocol: requests in (line-reader.ts), one line of answer for each, in order, and between
 * them whole messages of its subscriptions (line-subscription.ts).
 *
 * Invariants:
 * - `+OK` leaves only when the record is durable by the rules of its topic: records go the way of Produce, with acks=all
 *   (INV-1).
 * - Answers leave in the order of the requests, each once; a client that has sent its end still gets all of them.
 * - Bounded: a connection with too much in work, or whose client does not take its answers, is not read from; what it has
 *   sent waits in the kernel. Nobody is cut off for being slow or silent.
 * - No topic is made unless the daemon makes topics by itself (auto.create.topics.enable).
 */

import { Buffer } from 'node:buffer'
import { isStreamError } from '../../src/base/errors.ts'
import type { Link, LinkEvents } from '../../src/ports/net.ts'
import { KafkaError, kafkaErrorMessage, kafkaErrorName } from '../../src/protocol/errors.ts'
import { ZERO_UUID } from '../../src/protocol/schema.ts'
import { OutputBuffer } from '../../src/record/output-buffer.ts'
import { partitionForKey } from '../../src/record/partitioner.ts'
import { putNumber } from '../../src/text/envelope-writer.ts'
import type { RequestContext, Services } from '../apis/handler.ts'
import { codeOfError, messageOfError } from '../apis/kafka-codes.ts'
import { handle } from '../apis/registry.ts'
import type { Admission } from './admission.ts'
import { type LineBatch, LineBatches } from './line-batches.ts'
import { LineReader, type LineRequest } from './line-reader.ts'
import {
  LineSubscription,
  oneLine,
  type Refusal,
  unknownPartition,
  unknownTopic,
} from './line-subscription.ts'

/** 2: SUB. */
export const LINE_PROTOCOL_VERSION = 2

export interface LineDoorOptions {
  readonly services: Services
  readonly admission: Admission
  /** Batches of one connection in work. */
  readonly requestsMax: number
  /** For how long a batch may wait to be committed. */
  readonly requestTimeoutMs: number
  /** The most that one record may take, whatever its topic says. */
  readonly recordBytesMax: number
}

/** What is owed to the client: answers of some records of one batch, or a line of text. */
type Owed =
  | { readonly kind: 'records'; readonly batch: LineBatch; readonly first: number; count: number }
  | { readonly kind: 'text'; readonly bytes: Uint8Array }
  | { readonly kind: 'subscription'; readonly subscription: LineSubscription }

/** Answers the client has not taken, above which its requests wait. */
const QUEUED_BYTES_MAX = 1024 * 1024
const WORK_BYTES_MAX = 4 * 1024 * 1024
/** Of one connection. */
const SUBSCRIPTIONS_MAX = 64
/** Around a record, in its batch. */
const RECORD_MARGIN_BYTES = 256
const PRODUCE_VERSION = 9
const METADATA_VERSION = 12
const ACKS_ALL = -1

export class LineSession implements LinkEvents {
  readonly #link: Link
  readonly #options: LineDoorOptions
  readonly #onEnd: (session: LineSession) => void
  readonly #reader: LineReader
  readonly #batches: LineBatches
  readonly #owed: Owed[] = []
  readonly #out = new OutputBuffer(4096)
  readonly #subscriptions = new Set<LineSubscription>()
  /** What was received and not read yet: the rest of one chunk, and at most one more that came after the pause. */
  #pending: Uint8Array[] = []
  #works = 0
  #workBytes = 0
  /** A topic is being made; the request that names it waits. */
  #isMakingTopic = false
  #madeTopic: string | undefined
  #isReading = false
  #isOpen = true
  #hasEnded = false
  #mustClose = false
  /** Keyless records of one pass stay together, and have one timestamp. */
  #turn: number
  #passMs = -1

  constructor(
    link: Link,
    options: LineDoorOptions,
    onEnd: (session: LineSession) => void = () => undefined,
  ) {
    this.#link = link
    this.#options = options
    this.#onEnd = onEnd
    this.#turn = link.id
    this.#reader = new LineReader({
      recordBytesMax: (topic) => this.#recordBytesMax(topic),
      onRequest: (request) => this.#onRequest(request),
      onTooLarge: (topic, bytes, bytesMax) => {
        const size = bytes === undefined ? `more than ${bytesMax}` : `${bytes}`
        const message = `a record of ${size} bytes, ${topic} takes ${bytesMax}`
        this.#refuse({ code: KafkaError.MESSAGE_TOO_LARGE, message })
      },
      onFatal: (message) => {
        this.#owe(errorLine('BAD_REQUEST', `${message}; the connection ends here`))
        this.#mustClose = true
      },
    })
    this.#batches = new LineBatches(options.recordBytesMax, (batch, bytes) =>
      this.#produce(batch, bytes),
    )
    options.admission.addQueue(link)
  }

  get isIdle(): boolean {
    return this.#works === 0 && this.#owed.length === 0 && this.#pending.length === 0
  }

  releaseParked(): void {
    for (const each of [...this.#subscriptions]) each.release()
  }

  onMessage(frames: readonly Uint8Array[]): void {
    if (!this.#isOpen || this.#mustClose) return
    for (const frame of frames) {
      this.#options.admission.received(frame.length)
      if (frame.length > 0) this.#pending.push(frame)
    }
    this.#read()
  }

  onEnd(): void {
    this.#hasEnded = true
    this.#settle()
  }

  onDrain(): void {
    this.#look()
  }

  onClose(): void {
    if (!this.#isOpen) return
    this.#isOpen = false
    this.#pending = []
    for (const each of [...this.#subscriptions]) this.#endSubscription(each)
    this.#owed.length = 0
    this.#options.admission.removeQueue(this.#link)
    this.#onEnd(this)
  }

  /** One pass: all requests at hand, then the batches they made. */
  #read(): void {
    // A batch that settles within a pass would begin another one inside it.
    if (this.#isReading) return
    this.#isReading = true
    this.#turn += 1
    this.#passMs = this.#options.services.broker.time.wallMs()
    while (this.#isOpen && !this.#mustClose && !this.#isBlocked) {
      const chunk = this.#pending[0] ?? (this.#reader.hasUntaken ? NOTHING : undefined)
      if (chunk === undefined) break
      const at = this.#reader.feed(chunk, 0, chunk.length)
      if (at < chunk.length) this.#pending[0] = chunk.subarray(at)
      else this.#pending.shift()
      this.#batches.flush()
    }
    this.#isReading = false
    // Readers first: what was appended has ended the waits of subscriptions, which send in microtasks that are queued by now. An
    // answer that left before would wake its client on the processor that theirs could have.
    void Promise.resolve().then(this.#settleBehindReaders)
  }

  get #isBlocked(): boolean {
    return (
      this.#isMakingTopic ||
      this.#works >= this.#options.requestsMax ||
      this.#workBytes >= WORK_BYTES_MAX ||
      this.#link.queuedBytes > QUEUED_BYTES_MAX
    )
  }

  /** After anything has happened: answers that may leave, reading on or not, the end. */
  #settle(): void {
    if (!this.#isOpen) return
    this.#sendOwed()
    if (this.#isBlocked) this.#link.pause?.()
    else this.#link.resume?.()
    if (this.#isBlocked && this.#link.queuedBytes > QUEUED_BYTES_MAX) {
      this.#options.admission.whenRoom(this.#look)
    }
    const hasMore = this.#pending.length > 0 || this.#reader.hasUntaken
    if (hasMore && !this.#isBlocked && !this.#mustClose && !this.#isReading) {
      this.#read()
      return
    }
    const isOver = this.#mustClose || (this.#hasEnded && !hasMore)
    if (!isOver || this.#owed.length > 0 || this.#isMakingTopic) return
    // Who has no more to ask gets all that is owed; a subscription without an end would never have been.
    for (const each of [...this.#subscriptions]) {
      if (this.#mustClose || !each.isBounded) this.#endSubscription(each)
    }
    if (this.#subscriptions.size > 0) return
    if (this.#hasEnded && !this.#mustClose && this.#reader.isInsideRequest) {
      this.#mustClose = true
      this.#owe(errorLine('BAD_REQUEST', 'the input ends inside a request, which was not taken'))
      this.#sendOwed()
    }
    this.#link.close()
  }

  readonly #settleBehindReaders = (): void => this.#settle()

  readonly #look = (): void => {
    this.#read()
    for (const each of [...this.#subscriptions]) each.resume()
  }

  // --- requests

  #onRequest(request: LineRequest): boolean {
    if (this.#mustClose || this.#isBlocked) return false
    switch (request.verb) {
      case 'PUB':
      case 'LINE':
        return this.#publish(request)
      case 'SUB':
        this.#subscribe(request)
        return true
      case 'PING':
        this.#owe(PONG)
        return true
      case 'INFO':
        this.#owe(this.#info())
        return true
      case 'QUIT':
        this.#owe(BYE)
        this.#mustClose = true
        return true
    }
  }

  #publish(request: LineRequest): boolean {
    const { services } = this.#options
    const { topic } = request
    const image = services.broker.image.topic(topic)
    if (image === undefined || image.value.state !== 'READY') {
      if (
        this.#madeTopic !== topic &&
        services.broker.config.boolean('auto.create.topics.enable')
      ) {
        this.#makeTopic(topic)
        return false
      }
      this.#madeTopic = undefined
      this.#refuse(unknownTopic(topic))
      return true
    }
    this.#madeTopic = undefined
    const { partitions } = image.value
    if (request.partition !== undefined && request.partition >= partitions) {
      this.#refuse(unknownPartition(topic, request.partition, partitions))
      return true
    }
    const partition = request.partition ?? this.#choose(request, partitions)
    try {
      this.#oweRecord(this.#batches.add(request, partition, this.#passMs))
    } catch (error) {
      if (!isStreamError(error)) throw error
      this.#refuse({ code: codeOfError(error), message: error.message })
    }
    return true
  }

  // --- subscriptions

  #subscribe(request: LineRequest): void {
    const { services, admission } = this.#options
    const { topic } = request
    const code = KafkaError.INVALID_REQUEST
    if (this.#subscriptions.size >= SUBSCRIPTIONS_MAX) {
      const message = `${SUBSCRIPTIONS_MAX} subscriptions are the most on one connection`
      this.#refuse({ code, message })
      return
    }
    if ([...this.#subscriptions].some((each) => each.overlaps(request))) {
      this.#refuse({ code, message: `${topic} is subscribed to already` })
      return
    }
    const subscription = LineSubscription.open(request, {
      services,
      admission,
      out: this.#out,
      hasRoom: this.#hasRoom,
      send: () => this.#send(),
      onOver: (over) => {
        this.#subscriptions.delete(over)
        this.#settle()
      },
    })
    if ('code' in subscription) {
      this.#refuse(subscription)
      return
    }
    this.#subscriptions.add(subscription)
    this.#owed.push({ kind: 'subscription', subscription })
  }

  #endSubscription(subscription: LineSubscription): void {
    subscription.end()
    this.#subscriptions.delete(subscription)
  }

  /** Asked by a subscription, which is resumed when there is room again. */
  readonly #hasRoom = (): boolean => {
    const { admission } = this.#options
    const { queuedBytes } = this.#link
    if (queuedBytes <= Math.min(QUEUED_BYTES_MAX, admission.shareBytes)) return true
    admission.whenRoom(this.#look)
    return false
  }

  // --- topics

  #choose({ bytes, keyStart, keyEnd }: LineRequest, partitions: number): number {
    if (keyStart < 0) return this.#turn % partitions
    return partitionForKey('murmur2', partitions, bytes, keyStart, keyEnd)
  }

  /** Of a topic; without one: of those with the default. */
  #recordBytesMax(topic?: string): number {
    const { services, recordBytesMax } = this.#options
    const { broker } = services
    const ofTopic =
      topic === undefined ? undefined : broker.table.find(topic, 0)?.config.maxMessageBytes
    const bytesMax = ofTopic ?? broker.config.number('message.max.bytes')
    return Math.min(bytesMax, recordBytesMax) - RECORD_MARGIN_BYTES
  }

  #info(): Uint8Array {
    const { host, broker } = this.#options.services
    const info = {
      v: 1,
      protocol: LINE_PROTOCOL_VERSION,
      version: host.version,
      cluster: broker.clusterId,
      recordBytesMax: this.#recordBytesMax(),
    }
    return Buffer.from(`+INFO ${JSON.stringify(info)}\n`)
  }

  /** As a Metadata request that allows it would. The request at hand is offered again afterwards. */
  #makeTopic(topic: string): void {
    this.#isMakingTopic = true
    const done = (): void => {
      this.#isMakingTopic = false
      this.#madeTopic = topic
      this.#read()
    }
    const body = {
      topics: [{ name: topic, topicId: ZERO_UUID }],
      allowAutoTopicCreation: true,
      includeClusterAuthorizedOperations: false,
      includeTopicAuthorizedOperations: false,
    }
    const context = new LineContext(METADATA_VERSION)
    Promise.resolve(handle('Metadata', this.#options.services, context, body)).then(done, done)
  }

  // --- batches

  #produce(batch: LineBatch, bytes: Uint8Array): void {
    const { admission, services, requestTimeoutMs } = this.#options
    this.#works += 1
    this.#workBytes += bytes.length
    admission.begin(bytes.length)
    const done = (): void => {
      this.#works -= 1
      this.#workBytes -= bytes.length
      admission.end(bytes.length)
      batch.isSettled = true
    }
    const failed = (error: unknown): void => {
      const code = codeOfError(error)
      batch.errorLine = errorLine(kafkaErrorName(code), messageOfError(error))
      services.broker.log.error('a line request failed', { error: messageOfError(error) })
    }
    const body = {
      transactionalId: null,
      acks: ACKS_ALL,
      timeoutMs: requestTimeoutMs,
      topicData: [
        {
          name: batch.topic,
          topicId: ZERO_UUID,
          partitionData: [{ index: batch.partition, records: bytes }],
        },
      ],
    }
    let answer: ReturnType<typeof handle<'Produce'>>
    try {
      answer = handle('Produce', services, new LineContext(PRODUCE_VERSION), body)
    } catch (error) {
      done()
      failed(error)
      return
    }
    if (!(answer instanceof Promise)) {
      done()
      noteAnswer(batch, answer)
      return
    }
    answer
      .then(
        (body) => noteAnswer(batch, body),
        (error: unknown) => failed(error),
      )
      .finally(() => {
        done()
        this.#read()
      })
  }

  // --- answers

  #owe(bytes: Uint8Array): void {
    this.#owed.push({ kind: 'text', bytes })
  }

  #refuse({ code, message }: Refusal): void {
    this.#owe(errorLine(kafkaErrorName(code), message))
  }

  /** One object for a run of records of one batch. */
  #oweRecord(batch: LineBatch): void {
    const last = this.#owed.at(-1)
    if (last?.kind === 'records' && last.batch === batch) last.count += 1
    else this.#owed.push({ kind: 'records', batch, first: batch.recordCount - 1, count: 1 })
  }

  #sendOwed(): void {
    const out = this.#out
    const begun: LineSubscription[] = []
    let sent = 0
    for (const owed of this.#owed) {
      if (owed.kind === 'records') {
        if (!owed.batch.isSettled) break
        putAnswers(out, owed.batch, owed.first, owed.count)
      } else if (owed.kind === 'subscription') {
        out.append(owed.subscription.greeting)
        begun.push(owed.subscription)
      } else out.append(owed.bytes)
      sent += 1
    }
    if (sent === 0) return
    this.#owed.splice(0, sent)
    this.#send()
    // Their messages come behind their greetings, and none behind a +BYE.
    if (this.#mustClose) return
    for (const each of begun) each.resume()
  }

  #send(): void {
    const out = this.#out
    const bytes = Uint8Array.from(out.filled())
    out.clear()
    this.#options.admission.sent(bytes.length)
    this.#link.send([bytes])
  }
}

const LF = 0x0a
const NOTHING = new Uint8Array(0)
const PONG = Buffer.from('+PONG\n')
const BYE = Buffer.from('+BYE\n')

function errorLine(code: string, message: string): Uint8Array {
  return Buffer.from(`-ERR ${code} ${oneLine(message)}\n`)
}

function noteAnswer(batch: LineBatch, answer: Awaited<ReturnType<typeof handle<'Produce'>>>): void {
  const row = answer?.responses[0]?.partitionResponses[0]
  const code = row?.errorCode ?? KafkaError.UNKNOWN_SERVER_ERROR
  if (row === undefined || code !== 0) {
    const message = row?.errorMessage ?? kafkaErrorMessage(code)
    batch.errorLine = errorLine(kafkaErrorName(code), message)
    return
  }
  batch.baseOffset = row.baseOffset
}

function putAnswers(out: OutputBuffer, batch: LineBatch, first: number, count: number): void {
  const { errorLine: error, partition, baseOffset } = batch
  if (error !== undefined) {
    for (let index = 0; index < count; index += 1) out.append(error)
    return
  }
  const head = Buffer.from(`+OK ${partition} `)
  for (let index = first; index < first + count; index += 1) {
    out.append(head)
    putNumber(out, baseOffset + index)
    out.appendByte(LF)
  }
}

/** What the handlers ask of a request; answers are small here, so that nothing is reserved for them. */
class LineContext implements RequestContext {
  readonly door = 'zmq'
  readonly endpoint = { host: '', port: 0 }
  readonly apiVersion: number
  readonly clientId = 'line'
  readonly peer = 'line:'
  answerNow: (() => void) | undefined

  constructor(apiVersion: number) {
    this.apiVersion = apiVersion
  }

  reserveAnswer(wantedBytes: number): number {
    return wantedBytes
  }

  releaseAnswer(): void {}

  park(): void {}
}
