/**
 * The line protocol's requests out of a stream of bytes (stream help line-protocol).
 *
 *     PUB TOPIC LENGTH [key=LENGTH] [partition=N] [ts=MS] LF  KEY-BYTES VALUE-BYTES
 *     LINE TOPIC VALUE LF
 *     SUB TOPIC [partition=N] [from=start|end|OFFSET] [until=end] LF
 *     PING LF    INFO LF    QUIT LF
 *
 * A line ends with LF, and a CR before it belongs to the end. Empty lines between requests are ignored, so what follows the
 * bytes of a PUB may be a newline or not. LENGTH −1 is a null value.
 *
 * Invariants:
 * - Any bytes end in requests, a refusal of one request, or `fatal`: a place from which nobody knows where the next
 *   request begins. Nothing is read beyond that.
 * - Memory follows the bytes that have arrived, and is bounded by what the handler allows for a record. A longer one is
 *   refused and its bytes are dropped as they come.
 * - A request that the handler does not take now is offered again by the next feed, before anything else.
 */

export type Verb = 'PUB' | 'LINE' | 'SUB' | 'PING' | 'INFO' | 'QUIT'

/** One object, filled anew for each request: the ranges are valid until the handler returns. */
export interface LineRequest {
  readonly verb: Verb
  readonly topic: string
  /** undefined: by key, else any; of a SUB: all. */
  readonly partition: number | undefined
  /** undefined: now. */
  readonly timestampMs: number | undefined
  /** Where a SUB begins. */
  readonly from: 'start' | 'end' | number
  /** A SUB that is over where its partitions end now. */
  readonly isUntilEnd: boolean
  readonly bytes: Uint8Array
  /** −1: no key. */
  readonly keyStart: number
  readonly keyEnd: number
  /** −1: null. */
  readonly valueStart: number
  readonly valueEnd: number
}

export interface LineHandler {
  /** The most that key and value of a record for this topic may take. */
  recordBytesMax(topic: string): number
  /** @returns false: not now */
  onRequest(request: LineRequest): boolean
  /** The request at hand is refused; the next one follows. */
  /** @param bytes  undefined: it has not arrived to its end, and is longer than that */
  onTooLarge(topic: string, bytes: number | undefined, bytesMax: number): void
  /** The stream cannot be read on. */
  onFatal(message: string): void
}

/** Of a request line but LINE: a topic and three options. */
const LINE_BYTES_MAX = 1024
/** Before the value of a LINE. */
const LINE_HEAD_BYTES_MAX = 300
const LF = 0x0a
const CR = 0x0d
const SPACE = 0x20
const LENGTH_MAX = 0x7fffffff
const CARRY_BYTES_KEPT = 64 * 1024

interface MutableRequest {
  verb: Verb
  topic: string
  partition: number | undefined
  timestampMs: number | undefined
  from: 'start' | 'end' | number
  isUntilEnd: boolean
  bytes: Uint8Array
  keyStart: number
  keyEnd: number
  valueStart: number
  valueEnd: number
}

export class LineReader {
  readonly #handler: LineHandler
  readonly #request: MutableRequest = {
    verb: 'PING',
    topic: '',
    partition: undefined,
    timestampMs: undefined,
    from: 'end',
    isUntilEnd: false,
    bytes: EMPTY,
    keyStart: -1,
    keyEnd: -1,
    valueStart: -1,
    valueEnd: -1,
  }
  /** A request that is not whole yet. */
  #carry: Uint8Array = EMPTY
  #carryLength = 0
  /** Bytes of the request in the carry; 0: its line has no end yet. */
  #neededBytes = 0
  /** Bytes of a refused record that are still to come. */
  #skipBytes = 0
  /** A LINE that is too long is dropped up to its end. */
  #skipsLine = false
  #isDead = false
  /** Of the request line at hand. */
  #payloadBytes = 0
  #keyBytes = -1
  /** Topics come in runs: the bytes of the last one, and its text. */
  #topicBytes: Uint8Array = EMPTY
  #topicText = ''

  constructor(handler: LineHandler) {
    this.#handler = handler
  }

  /** Bytes of a request that has begun and is not whole. */
  get heldBytes(): number {
    return this.#carryLength
  }

  /** Whether a request has begun and is not whole, or was not taken. */
  get isInsideRequest(): boolean {
    return this.#carryLength > 0 || this.#skipBytes > 0 || this.#skipsLine
  }

  /** A request is whole and was not taken: feed again, with nothing if need be. */
  get hasUntaken(): boolean {
    return this.#neededBytes > 0 && this.#carryLength === this.#neededBytes
  }

  /** @returns where it stopped: `end`, or the beginning of a request that the handler did not take */
  feed(chunk: Uint8Array, start: number, end: number): number {
    let at = start
    while (!this.#isDead) {
      if (this.#carryLength > 0) {
        const next = this.#feedCarry(chunk, at, end)
        if (next < 0) return at
        at = next
        if (this.#carryLength > 0) return at
        continue
      }
      if (at >= end) return end
      if (this.#skipBytes > 0) {
        const count = Math.min(this.#skipBytes, end - at)
        this.#skipBytes -= count
        at += count
      } else if (this.#skipsLine) {
        at = this.#skipLine(chunk, at, end)
      } else {
        const next = this.#feedPlain(chunk, at, end)
        if (next < 0) return at
        at = next
      }
    }
    return end
  }

  /** @returns  the place behind the request at `at`; −1: it was not taken */
  #feedPlain(chunk: Uint8Array, at: number, end: number): number {
    const lineEnd = indexOf(chunk, LF, at, end)
    if (lineEnd < 0) {
      this.#keep(chunk, at, end)
      return end
    }
    if (isBlank(chunk, at, lineEnd)) return lineEnd + 1
    if (!this.#readLine(chunk, at, lineEnd)) return end
    const payloadStart = lineEnd + 1
    const requestEnd = payloadStart + this.#payloadBytes
    if (this.#refusesPayload()) {
      this.#skipBytes = this.#payloadBytes
      return payloadStart
    }
    if (requestEnd > end) {
      this.#neededBytes = requestEnd - at
      this.#keep(chunk, at, end)
      return end
    }
    return this.#offer(chunk, payloadStart) ? requestEnd : -1
  }

  /** @returns  where the chunk is read on; −1: the request was not taken, and stays in the carry */
  #feedCarry(chunk: Uint8Array, start: number, end: number): number {
    let at = start
    if (this.#neededBytes === 0) {
      const lineEnd = indexOf(chunk, LF, at, end)
      if (lineEnd < 0) {
        this.#keep(chunk, at, end)
        return end
      }
      this.#keep(chunk, at, lineEnd + 1)
      at = lineEnd + 1
      if (this.#isDead || this.#skipsLine) return this.#dropLine(at)
      const headEnd = this.#carryLength - 1
      if (isBlank(this.#carry, 0, headEnd)) {
        this.#dropCarry()
        return at
      }
      if (!this.#readLine(this.#carry, 0, headEnd)) return end
      if (this.#refusesPayload()) {
        this.#skipBytes = this.#payloadBytes
        this.#dropCarry()
        return at
      }
      this.#neededBytes = this.#carryLength + this.#payloadBytes
    }
    const count = Math.min(this.#neededBytes - this.#carryLength, end - at)
    if (count > 0) {
      this.#keep(chunk, at, at + count)
      at += count
    }
    if (this.#carryLength < this.#neededBytes) return at
    const lineEnd = indexOf(this.#carry, LF, 0, this.#carryLength)
    // The request object may have been filled for nobody since: it is read again.
    this.#readLine(this.#carry, 0, lineEnd)
    if (!this.#offer(this.#carry, lineEnd + 1)) {
      // What was copied is not given again.
      return at === start ? -1 : at
    }
    this.#dropCarry()
    return at
  }

  /** The end of a line that was given up while it was carried. */
  #dropLine(at: number): number {
    this.#skipsLine = false
    this.#dropCarry()
    return at
  }

  #skipLine(chunk: Uint8Array, at: number, end: number): number {
    const lineEnd = indexOf(chunk, LF, at, end)
    if (lineEnd < 0) return end
    this.#skipsLine = false
    return lineEnd + 1
  }

  #refusesPayload(): boolean {
    const { verb, topic } = this.#request
    if (verb !== 'PUB') return false
    const bytesMax = this.#handler.recordBytesMax(topic)
    if (this.#payloadBytes <= bytesMax) return false
    this.#handler.onTooLarge(topic, this.#payloadBytes, bytesMax)
    return true
  }

  #offer(bytes: Uint8Array, payloadStart: number): boolean {
    const request = this.#request
    request.bytes = bytes
    if (request.verb === 'PUB') {
      const keyBytes = Math.max(this.#keyBytes, 0)
      request.keyStart = this.#keyBytes < 0 ? -1 : payloadStart
      request.keyEnd = payloadStart + keyBytes
      const isNull = request.valueStart < 0
      request.valueStart = isNull ? -1 : payloadStart + keyBytes
      request.valueEnd = payloadStart + this.#payloadBytes
    }
    return this.#handler.onRequest(request)
  }

  /** Fills the request from its line [start, end), without payload. @returns false: fatal */
  #readLine(bytes: Uint8Array, start: number, lineEnd: number): boolean {
    const end = lineEnd > start && bytes[lineEnd - 1] === CR ? lineEnd - 1 : lineEnd
    const request = this.#request
    request.partition = undefined
    request.timestampMs = undefined
    request.from = 'end'
    request.isUntilEnd = false
    request.keyStart = -1
    request.keyEnd = -1
    request.valueStart = -1
    request.valueEnd = -1
    this.#payloadBytes = 0
    this.#keyBytes = -1
    const verbEnd = wordEnd(bytes, start, end)
    const verb = verbOf(bytes, start, verbEnd)
    if (verb === undefined) {
      const shown = Buffer.from(bytes.subarray(start, Math.min(verbEnd, start + 20)))
      return this.#fatal(`${JSON.stringify(shown.toString('latin1'))} is no request`)
    }
    request.verb = verb
    if (verb !== 'PUB' && verb !== 'LINE' && verb !== 'SUB') {
      request.topic = ''
      return verbEnd === end || this.#fatal(`${verb} takes no arguments`)
    }
    if (verb !== 'LINE' && end - start > LINE_BYTES_MAX)
      return this.#fatal('a request line too long')
    const topicStart = verbEnd + 1
    const topicEnd = wordEnd(bytes, topicStart, end)
    if (verbEnd >= end || topicEnd === topicStart) return this.#fatal(`${verb} without a topic`)
    request.topic = this.#topic(bytes, topicStart, topicEnd)
    if (verb === 'LINE') {
      request.valueStart = Math.min(topicEnd + 1, end)
      request.valueEnd = end
      return true
    }
    if (verb === 'SUB') return this.#readOptions(bytes, topicEnd, end)
    return this.#readLengths(bytes, topicEnd, end)
  }

  #readLengths(bytes: Uint8Array, topicEnd: number, end: number): boolean {
    const request = this.#request
    const lengthStart = topicEnd + 1
    const lengthEnd = wordEnd(bytes, lengthStart, end)
    const length = topicEnd < end ? numberAt(bytes, lengthStart, lengthEnd, -1) : undefined
    if (length === undefined) return this.#fatal('PUB without the length of its value')
    // Said here, and turned into a place by offer.
    request.valueStart = length < 0 ? -1 : 0
    this.#payloadBytes = Math.max(length, 0)
    if (!this.#readOptions(bytes, lengthEnd, end)) return false
    if (this.#payloadBytes > LENGTH_MAX) return this.#fatal('a length beyond 2 GiB')
    return true
  }

  /** Words from `at`, where a space is, to the end of the line. */
  #readOptions(bytes: Uint8Array, start: number, end: number): boolean {
    for (let at = start; at < end; ) {
      const optionEnd = wordEnd(bytes, at + 1, end)
      const option = Buffer.from(bytes.subarray(at + 1, optionEnd)).toString('latin1')
      const isRead = this.#request.verb === 'SUB' ? this.#readSubOption : this.#readPubOption
      if (option !== '' && !isRead.call(this, option)) return false
      at = optionEnd
    }
    return true
  }

  #readSubOption(option: string): boolean {
    const request = this.#request
    const match = /^(?:partition=(\d{1,10})|from=(start|end|\d{1,16})|until=(end))$/.exec(option)
    if (match === null)
      return this.#fatal(`${JSON.stringify(option.slice(0, 40))} is no option of SUB`)
    const [, partition, from, until] = match
    if (partition !== undefined) {
      request.partition = Number(partition)
      if (request.partition > LENGTH_MAX) return this.#fatal(`${option}: no partition`)
    } else if (from !== undefined) {
      request.from = from === 'start' || from === 'end' ? from : Number(from)
    } else request.isUntilEnd = until === 'end'
    return true
  }

  #readPubOption(option: string): boolean {
    const request = this.#request
    const match = /^(key|partition|ts)=(\d{1,15})$/.exec(option)
    const value = Number(match?.[2])
    switch (match?.[1]) {
      case 'key':
        if (this.#keyBytes >= 0 || value > LENGTH_MAX) return this.#fatal(`${option}: no length`)
        this.#keyBytes = value
        this.#payloadBytes += value
        return true
      case 'partition':
        if (value > LENGTH_MAX) return this.#fatal(`${option}: no partition`)
        request.partition = value
        return true
      case 'ts':
        request.timestampMs = value
        return true
      default:
        return this.#fatal(`${JSON.stringify(option.slice(0, 40))} is no option of PUB`)
    }
  }

  #topic(bytes: Uint8Array, start: number, end: number): string {
    const last = this.#topicBytes
    let isSame = last.length === end - start
    for (let at = 0; isSame && at < last.length; at += 1) isSame = last[at] === bytes[start + at]
    if (!isSame) {
      this.#topicBytes = bytes.slice(start, end)
      this.#topicText = Buffer.from(this.#topicBytes).toString('utf8')
    }
    return this.#topicText
  }

  #keep(chunk: Uint8Array, start: number, end: number): void {
    const count = end - start
    if (this.#neededBytes === 0 && !this.#mayKeepLine(chunk, start, count)) return
    const length = this.#carryLength + count
    if (length > this.#carry.length) {
      const grown = new Uint8Array(Math.max(length, this.#carry.length * 2, LINE_BYTES_MAX))
      grown.set(this.#carry.subarray(0, this.#carryLength))
      this.#carry = grown
    }
    this.#carry.set(chunk.subarray(start, end), this.#carryLength)
    this.#carryLength = length
  }

  /** A line without an end must not fill the memory. */
  #mayKeepLine(chunk: Uint8Array, start: number, count: number): boolean {
    if (this.#isDead || this.#skipsLine) return false
    const length = this.#carryLength + count
    if (length <= LINE_BYTES_MAX) return true
    const head = Buffer.concat([
      this.#carry.subarray(0, Math.min(this.#carryLength, LINE_HEAD_BYTES_MAX)),
      chunk.subarray(start, start + Math.max(0, LINE_HEAD_BYTES_MAX - this.#carryLength)),
    ]).toString('latin1')
    const topic = /^LINE ([^ ]{1,255}) /.exec(head)?.[1]
    if (topic === undefined) {
      this.#fatal('a request line too long')
      return false
    }
    const bytesMax = this.#handler.recordBytesMax(topic)
    if (length <= bytesMax + LINE_HEAD_BYTES_MAX) return true
    this.#handler.onTooLarge(topic, undefined, bytesMax)
    this.#skipsLine = true
    this.#dropCarry()
    return false
  }

  #dropCarry(): void {
    this.#carryLength = 0
    this.#neededBytes = 0
    if (this.#carry.length > CARRY_BYTES_KEPT) this.#carry = EMPTY
  }

  #fatal(message: string): false {
    if (!this.#isDead) this.#handler.onFatal(message)
    this.#isDead = true
    this.#dropCarry()
    return false
  }
}

const EMPTY = new Uint8Array(0)

function verbOf(bytes: Uint8Array, start: number, end: number): Verb | undefined {
  return verbs.find(({ code }) => {
    if (code.length !== end - start) return false
    return code.every((byte, index) => byte === bytes[start + index])
  })?.verb
}

const verbs = (['PUB', 'LINE', 'SUB', 'PING', 'INFO', 'QUIT'] as const).map((verb) => ({
  verb,
  code: Buffer.from(verb),
}))

function wordEnd(bytes: Uint8Array, start: number, end: number): number {
  for (let at = start; at < end; at += 1) if (bytes[at] === SPACE) return at
  return Math.max(start, end)
}

/** Whole decimal numbers from `min` up, at most 2^31 − 1. */
function numberAt(bytes: Uint8Array, start: number, end: number, min: number): number | undefined {
  if (end - start === 2 && bytes[start] === 0x2d && bytes[start + 1] === 0x31 && min < 0) return -1
  if (end <= start || end - start > 10) return undefined
  let value = 0
  for (let at = start; at < end; at += 1) {
    const digit = (bytes[at] as number) - 0x30
    if (digit < 0 || digit > 9) return undefined
    value = value * 10 + digit
  }
  return value > LENGTH_MAX ? undefined : value
}

function isBlank(bytes: Uint8Array, start: number, end: number): boolean {
  return end === start || (end === start + 1 && bytes[start] === CR)
}

/** As indexOf, but not beyond `end`. */
function indexOf(bytes: Uint8Array, byte: number, start: number, end: number): number {
  const found = bytes.indexOf(byte, start)
  return found >= end ? -1 : found
}
