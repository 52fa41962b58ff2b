/**
 * Envelopes of version 1 read from bytes (commands.md, section 3.2), one line at a time, without JSON.parse.
 *
 *     {"v":1,"topic":"t","partition":0,"offset":42,"ts":1730000000000,"key":"k","value":"…","headers":[["h","x"]]}
 *
 * Invariants:
 * - A line gives either a record or one error that says why; no line can crash the reader or leave a half-read record.
 * - A value that needs no decoding is a range of the line itself; what must be decoded (escapes, base64) goes to one
 *   scratch buffer, never longer than the line.
 * - Numbers, booleans, arrays and objects keep their own text, byte for byte. Of a repeated field the last counts.
 */

import { StreamError } from '../base/errors.ts'
import { JsonBytes } from './json-bytes.ts'
import { decodeText, JsonScanner, NOT_JSON } from './json-scanner.ts'
import type { RangeSlot, RecordFields } from './record-fields.ts'
import { NO_TIMESTAMP } from './record-fields.ts'
import { isUtf8Range } from './utf8.ts'

const QUOTE = 0x22
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d
const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d
const COMMA = 0x2c
const LETTER_N = 0x6e

const VERSION = 0
const TOPIC = 1
const PARTITION = 2
const TIMESTAMP = 3
const KEY = 4
const VALUE = 5
const HEADERS = 6
const OFFSET = 7
const FIELD_COUNT = 8

const fieldNames = {
  ts: Buffer.from('ts'),
  key: Buffer.from('key'),
  value: Buffer.from('value'),
  topic: Buffer.from('topic'),
  offset: Buffer.from('offset'),
  headers: Buffer.from('headers'),
  partition: Buffer.from('partition'),
} as const

/** What is read beside key, value, headers and timestamp; each is required then. */
export interface EnvelopeOptions {
  readonly keepTopic?: boolean
  readonly keepPartition?: boolean
  readonly keepOffset?: boolean
}

export class EnvelopeReader {
  readonly #scanner = new JsonScanner()
  /** Where each field's JSON begins and ends in the line; NOT_JSON: absent. */
  readonly #starts = new Int32Array(FIELD_COUNT)
  readonly #ends = new Int32Array(FIELD_COUNT)
  readonly #values = new JsonBytes(this.#scanner)
  readonly #keepTopic: boolean
  readonly #keepPartition: boolean
  readonly #keepOffset: boolean

  constructor(options: EnvelopeOptions = {}) {
    this.#keepTopic = options.keepTopic ?? false
    this.#keepPartition = options.keepPartition ?? false
    this.#keepOffset = options.keepOffset ?? false
  }

  /**
   * Reads `bytes[start, end)`, a line without its delimiter, into `fields`.
   * @throws StreamError RECORD_INVALID; the caller adds the line's number
   */
  read(bytes: Uint8Array, start: number, end: number, fields: RecordFields): void {
    fields.reset()
    this.#findFields(bytes, start, end)
    this.#checkVersion(bytes)
    this.#readKeyAndValue(bytes, fields)
    this.#readTimestamp(bytes, fields)
    this.#readHeaders(bytes, fields)
    if (this.#keepTopic) this.#readTopic(bytes, fields)
    if (this.#keepPartition) this.#readPartition(bytes, fields)
    if (this.#keepOffset) this.#readOffset(bytes, fields)
  }

  #findFields(bytes: Uint8Array, start: number, end: number): void {
    const scanner = this.#scanner
    this.#starts.fill(NOT_JSON)
    let at = scanner.skipSpace(bytes, start, end)
    if (at === end) throw invalid('empty line where an envelope should be')
    if (bytes[at] !== OPEN_BRACE) throw invalid('no JSON object')
    if (!isUtf8Range(bytes, start, end)) throw invalid('not UTF-8')
    at = scanner.skipSpace(bytes, at + 1, end)
    if (at < end && bytes[at] === CLOSE_BRACE) {
      at += 1
    } else {
      for (;;) {
        if (at >= end || bytes[at] !== QUOTE) throw broken(at - start)
        const nameStart = at + 1
        at = scanner.skipString(bytes, nameStart, end)
        if (at === NOT_JSON) throw broken(scanner.errorAt - start)
        const field = fieldNamed(bytes, nameStart, at - 1, scanner.hasEscape)
        at = scanner.skipSpace(bytes, at, end)
        if (at >= end || bytes[at] !== 0x3a) throw broken(at - start)
        at = scanner.skipSpace(bytes, at + 1, end)
        const valueStart = at
        at = scanner.skipValue(bytes, at, end)
        if (at === NOT_JSON) throw broken(scanner.errorAt - start)
        if (field >= 0) {
          this.#starts[field] = valueStart
          this.#ends[field] = at
        }
        at = scanner.skipSpace(bytes, at, end)
        const next = at < end ? bytes[at] : 0
        at += 1
        if (next === CLOSE_BRACE) break
        if (next !== COMMA) throw broken(at - 1 - start)
        at = scanner.skipSpace(bytes, at, end)
      }
    }
    if (scanner.skipSpace(bytes, at, end) !== end) throw broken(at - start)
    this.#values.begin(end - start)
  }

  #isAbsent(field: number): boolean {
    return this.#starts[field] === NOT_JSON
  }

  #isNull(bytes: Uint8Array, field: number): boolean {
    return bytes[this.#starts[field] as number] === LETTER_N
  }

  #numberOf(bytes: Uint8Array, field: number): number {
    const start = this.#starts[field] as number
    const end = this.#ends[field] as number
    const first = bytes[start] as number
    if (first !== 0x2d && (first < 0x30 || first > 0x39)) return Number.NaN
    // Timestamps are 13 digits: read them without a string.
    if (end - start <= 15) {
      let value = 0
      let at = start
      for (; at < end; at += 1) {
        const digit = (bytes[at] as number) - 0x30
        if (digit < 0 || digit > 9) break
        value = value * 10 + digit
      }
      if (at === end) return value
    }
    return Number(textOf(bytes, start, end))
  }

  #checkVersion(bytes: Uint8Array): void {
    if (this.#isAbsent(VERSION)) return
    const version = this.#numberOf(bytes, VERSION)
    if (version === 1) return
    throw Number.isInteger(version) && version > 1
      ? invalid(`envelope version ${version}; this program reads version 1`)
      : invalid('"v" must be 1')
  }

  #readKeyAndValue(bytes: Uint8Array, fields: RecordFields): void {
    if (this.#isAbsent(VALUE)) throw invalid('no "value"')
    this.#readBytes(bytes, VALUE, fields.valueSlot, 'value')
    if (this.#isAbsent(KEY)) return
    fields.hasKey = true
    this.#readBytes(bytes, KEY, fields.keySlot, 'key')
  }

  #readBytes(bytes: Uint8Array, field: number, target: RangeSlot, name: string): void {
    this.#values.read(
      bytes,
      this.#starts[field] as number,
      this.#ends[field] as number,
      target,
      name,
    )
  }

  #readTimestamp(bytes: Uint8Array, fields: RecordFields): void {
    if (this.#isAbsent(TIMESTAMP)) return
    if (this.#isNull(bytes, TIMESTAMP)) {
      fields.timestampMs = NO_TIMESTAMP
      return
    }
    const timestampMs = this.#numberOf(bytes, TIMESTAMP)
    if (!Number.isSafeInteger(timestampMs) || timestampMs < 0) {
      throw invalid('"ts" must be whole milliseconds since 1970, or null')
    }
    fields.timestampMs = timestampMs
  }

  #readTopic(bytes: Uint8Array, fields: RecordFields): void {
    if (this.#isAbsent(TOPIC)) throw invalid('no "topic"')
    const start = this.#starts[TOPIC] as number
    if (bytes[start] !== QUOTE) throw invalid('"topic" must be a string')
    fields.topic = decodeText(bytes, start + 1, (this.#ends[TOPIC] as number) - 1)
  }

  #readPartition(bytes: Uint8Array, fields: RecordFields): void {
    if (this.#isAbsent(PARTITION)) throw invalid('no "partition"')
    const partition = this.#numberOf(bytes, PARTITION)
    if (!Number.isInteger(partition) || partition < 0 || partition > 0x7fffffff) {
      throw invalid('"partition" must be a number from 0 up')
    }
    fields.partition = partition
  }

  #readOffset(bytes: Uint8Array, fields: RecordFields): void {
    if (this.#isAbsent(OFFSET)) throw invalid('no "offset"')
    const offset = this.#numberOf(bytes, OFFSET)
    if (!Number.isSafeInteger(offset) || offset < 0) {
      throw invalid('"offset" must be a number from 0 up')
    }
    fields.offset = offset
  }

  #readHeaders(bytes: Uint8Array, fields: RecordFields): void {
    if (this.#isAbsent(HEADERS) || this.#isNull(bytes, HEADERS)) return
    const start = this.#starts[HEADERS] as number
    const end = this.#ends[HEADERS] as number
    switch (bytes[start]) {
      case OPEN_BRACKET:
        this.#readHeaderPairs(bytes, start, end, fields)
        return
      case OPEN_BRACE:
        this.#readHeaderMembers(bytes, start, end, fields)
        return
      default:
        throw invalid('"headers" must be an array of pairs, or an object')
    }
  }

  /** `[["h","x"],["n",null]]`; the JSON has been checked. */
  #readHeaderPairs(bytes: Uint8Array, start: number, end: number, fields: RecordFields): void {
    const scanner = this.#scanner
    let at = scanner.skipSpace(bytes, start + 1, end)
    while (bytes[at] !== CLOSE_BRACKET) {
      if (bytes[at] !== OPEN_BRACKET) throw invalid('a header must be a pair [name, value]')
      const nameStart = scanner.skipSpace(bytes, at + 1, end)
      if (bytes[nameStart] === CLOSE_BRACKET) throw invalid('a header must be a pair [name, value]')
      const nameEnd = scanner.skipValue(bytes, nameStart, end)
      at = scanner.skipSpace(bytes, nameEnd, end)
      if (bytes[at] !== COMMA) throw invalid('a header must be a pair [name, value]')
      const valueStart = scanner.skipSpace(bytes, at + 1, end)
      const valueEnd = scanner.skipValue(bytes, valueStart, end)
      at = scanner.skipSpace(bytes, valueEnd, end)
      if (bytes[at] !== CLOSE_BRACKET) throw invalid('a header must be a pair [name, value]')
      this.#readHeader(bytes, nameStart, nameEnd, valueStart, valueEnd, fields)
      at = scanner.skipSpace(bytes, at + 1, end)
      if (bytes[at] === COMMA) at = scanner.skipSpace(bytes, at + 1, end)
    }
  }

  /** `{"h":"x"}`; the JSON has been checked. Repeated names are kept: headers may repeat. */
  #readHeaderMembers(bytes: Uint8Array, start: number, end: number, fields: RecordFields): void {
    const scanner = this.#scanner
    let at = scanner.skipSpace(bytes, start + 1, end)
    while (bytes[at] !== CLOSE_BRACE) {
      const nameStart = at
      const nameEnd = scanner.skipString(bytes, nameStart + 1, end)
      // Past the colon.
      const valueStart = scanner.skipSpace(bytes, scanner.skipSpace(bytes, nameEnd, end) + 1, end)
      const valueEnd = scanner.skipValue(bytes, valueStart, end)
      this.#readHeader(bytes, nameStart, nameEnd, valueStart, valueEnd, fields)
      at = scanner.skipSpace(bytes, valueEnd, end)
      if (bytes[at] === COMMA) at = scanner.skipSpace(bytes, at + 1, end)
    }
  }

  #readHeader(
    bytes: Uint8Array,
    nameStart: number,
    nameEnd: number,
    valueStart: number,
    valueEnd: number,
    fields: RecordFields,
  ): void {
    const header = fields.addHeader()
    if (!this.#values.readText(bytes, nameStart, nameEnd, header.key, 'header name')) {
      throw invalid('a header name must be a string or {"b64":"…"}')
    }
    this.#values.read(bytes, valueStart, valueEnd, header.valueSlot, 'header value')
  }
}

function fieldNamed(bytes: Uint8Array, start: number, end: number, hasEscape: boolean): number {
  if (hasEscape) {
    const raw = Buffer.from(decodeText(bytes, start, end), 'utf8')
    return fieldNamed(raw, 0, raw.length, false)
  }
  switch (end - start) {
    case 1:
      return bytes[start] === 0x76 ? VERSION : -1
    case 2:
      return isWord(bytes, start, fieldNames.ts) ? TIMESTAMP : -1
    case 3:
      return isWord(bytes, start, fieldNames.key) ? KEY : -1
    case 5:
      if (isWord(bytes, start, fieldNames.value)) return VALUE
      return isWord(bytes, start, fieldNames.topic) ? TOPIC : -1
    case 6:
      return isWord(bytes, start, fieldNames.offset) ? OFFSET : -1
    case 7:
      return isWord(bytes, start, fieldNames.headers) ? HEADERS : -1
    case 9:
      return isWord(bytes, start, fieldNames.partition) ? PARTITION : -1
    default:
      return -1
  }
}

function isWord(bytes: Uint8Array, start: number, word: Uint8Array): boolean {
  for (let index = 0; index < word.length; index += 1) {
    if (bytes[start + index] !== word[index]) return false
  }
  return true
}

function textOf(bytes: Uint8Array, start: number, end: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString('latin1')
}

function invalid(message: string): StreamError {
  return new StreamError('RECORD_INVALID', message)
}

function broken(at: number): StreamError {
  return invalid(`not JSON at byte ${at + 1}`)
}
