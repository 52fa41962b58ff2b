/**
 * Envelopes of version 1 written from the ranges of a record cursor (commands.md, section 3.2), without strings.
 *
 * Invariants: always the same eight fields in one order, no spaces; strings escape `"`, `\` and U+0000–U+001F and
 * nothing else; what is not UTF-8 is base64. Reading the line back gives the same key, value, headers and timestamp.
 */

import type { OutputBuffer } from '../record/output-buffer.ts'
import type { RecordCursor } from '../record/record-cursor.ts'
import { base64Length, encodeBase64 } from './base64.ts'
import { findOnlyBase64 } from './json-bytes.ts'
import { JsonScanner, NOT_JSON } from './json-scanner.ts'
import { isUtf8Range } from './utf8.ts'

const NEWLINE = 0x0a
const QUOTE = 0x22
const COMMA = 0x2c
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d
const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d
const BACKSLASH = 0x5c

const tsName = Buffer.from(',"ts":')
const keyName = Buffer.from(',"key":')
const valueName = Buffer.from(',"value":')
const headersName = Buffer.from(',"headers":[')
const base64Open = Buffer.from('{"b64":"')
const base64Close = Buffer.from('"}')
const nullWord = Buffer.from('null')
const hexDigits = Buffer.from('0123456789abcdef')

/** The letter after the backslash, for the bytes below 0x20 that have one. */
const shortEscapes = new Uint8Array(32)
for (const [byte, letter] of [
  [0x08, 'b'],
  [0x09, 't'],
  [0x0a, 'n'],
  [0x0c, 'f'],
  [0x0d, 'r'],
] as const) {
  shortEscapes[byte] = letter.charCodeAt(0)
}

/** 1 for the bytes that stand for themselves in a string of ASCII. */
const isPlain = new Uint8Array(256).fill(1, 0x20, 0x80)
isPlain[QUOTE] = 0
isPlain[BACKSLASH] = 0

/** Six bytes for `\u00xx`: the most that one byte can become. */
const ESCAPED_BYTES_MAX = 6
/** Longer strings are written in parts, so that room for the worst case is never asked for at once. */
const CHUNK_BYTES = 16_384

export class EnvelopeWriter {
  readonly #embed: boolean
  readonly #delimiter: Uint8Array
  readonly #scanner = new JsonScanner()
  /** Of the batch in hand, up to the offset. */
  #prefix: Uint8Array = new Uint8Array(0)
  #timestampMs = Number.NaN
  #timestampText: Uint8Array = new Uint8Array(0)

  constructor(options: { readonly embed?: boolean; readonly delimiter?: Uint8Array } = {}) {
    this.#embed = options.embed ?? false
    this.#delimiter = options.delimiter ?? Uint8Array.of(NEWLINE)
  }

  /** All records until the next call are of this partition. */
  setPartition(topic: string, partition: number): void {
    this.#prefix = envelopePrefix(topic, partition)
  }

  /** Appends the envelope of the record the cursor stands on, and the delimiter. Moves the cursor's headers. */
  write(cursor: RecordCursor, out: OutputBuffer): void {
    const { bytes } = cursor
    put(out, this.#prefix)
    putNumber(out, cursor.offset)
    put(out, tsName)
    this.#putTimestamp(out, cursor.timestampMs)
    put(out, keyName)
    putJsonText(out, bytes, cursor.keyStart, cursor.keyEnd)
    put(out, valueName)
    const { valueStart, valueEnd } = cursor
    if (this.#embed && valueStart >= 0 && this.#isEmbeddable(bytes, valueStart, valueEnd)) {
      out.append(bytes, valueStart, valueEnd)
    } else {
      putJsonText(out, bytes, valueStart, valueEnd)
    }
    put(out, headersName)
    if (cursor.headerCount > 0) this.#putHeaders(cursor, out)
    out.reserve(2)
    out.bytes[out.length++] = CLOSE_BRACKET
    out.bytes[out.length++] = CLOSE_BRACE
    put(out, this.#delimiter)
  }

  /** Records of one batch often have one timestamp, whose digits are then copied. */
  #putTimestamp(out: OutputBuffer, timestampMs: number): void {
    if (timestampMs !== this.#timestampMs) {
      this.#timestampMs = timestampMs
      const start = out.length
      if (timestampMs < 0) put(out, nullWord)
      else putNumber(out, timestampMs)
      this.#timestampText = Uint8Array.from(out.bytes.subarray(start, out.length))
      return
    }
    put(out, this.#timestampText)
  }

  #putHeaders(cursor: RecordCursor, out: OutputBuffer): void {
    cursor.rewindHeaders()
    let isFirst = true
    while (cursor.nextHeader()) {
      out.reserve(2)
      if (!isFirst) out.bytes[out.length++] = COMMA
      out.bytes[out.length++] = OPEN_BRACKET
      putJsonText(out, cursor.bytes, cursor.headerKeyStart, cursor.headerKeyEnd)
      out.appendByte(COMMA)
      putJsonText(out, cursor.bytes, cursor.headerValueStart, cursor.headerValueEnd)
      out.appendByte(CLOSE_BRACKET)
      isFirst = false
    }
  }

  /**
   * Whether the value is a JSON object or array on one line which, read back as an envelope's value, gives these very
   * bytes: no white space around it, UTF-8, no newline, and nothing that would be taken for base64.
   */
  #isEmbeddable(bytes: Uint8Array, start: number, end: number): boolean {
    const first = bytes[start]
    if (end - start < 2 || (first !== OPEN_BRACE && first !== OPEN_BRACKET)) return false
    const after = this.#scanner.skipValue(bytes, start, end)
    if (after !== end) return false
    if (!isUtf8Range(bytes, start, end)) return false
    const delimiter = this.#delimiter[0] ?? NEWLINE
    for (let at = start; at < end; at += 1) {
      if (bytes[at] === NEWLINE || bytes[at] === delimiter) return false
    }
    return first === OPEN_BRACKET || findOnlyBase64(this.#scanner, bytes, start, end) === NOT_JSON
  }
}

/** A range as its JSON: a string, `{"b64":…}` where it is no UTF-8, null for `start` −1. */
export function putJsonText(
  out: OutputBuffer,
  bytes: Uint8Array,
  start: number,
  end: number,
): void {
  if (start < 0) put(out, nullWord)
  else if (!putAsciiString(out, bytes, start, end)) putString(out, bytes, start, end)
}

/** What all envelopes of a partition begin with, up to the offset. */
export function envelopePrefix(topic: string, partition: number): Uint8Array {
  return Buffer.from(`{"v":1,"topic":${JSON.stringify(topic)},"partition":${partition},"offset":`)
}

/**
 * The usual string: ASCII with few escapes, in one pass. @returns false, with nothing written, at the first byte that
 * is neither, so that the range has to be checked for UTF-8
 */
function putAsciiString(out: OutputBuffer, bytes: Uint8Array, start: number, end: number): boolean {
  if (end - start > CHUNK_BYTES) return false
  // Room for a string in which every byte is escaped.
  out.reserve((end - start) * ESCAPED_BYTES_MAX + 2)
  const target = out.bytes
  let to = out.length
  target[to++] = QUOTE
  for (let at = start; at < end; at += 1) {
    const byte = bytes[at] as number
    if (isPlain[byte] === 1) {
      target[to++] = byte
    } else if (byte >= 0x80) {
      return false
    } else {
      to = putEscape(target, to, byte)
    }
  }
  target[to++] = QUOTE
  out.length = to
  return true
}

function putEscape(target: Uint8Array, at: number, byte: number): number {
  let to = at
  target[to++] = BACKSLASH
  const letter = byte < 0x20 ? (shortEscapes[byte] as number) : byte
  if (letter !== 0) {
    target[to++] = letter
    return to
  }
  target[to++] = 0x75
  target[to++] = 0x30
  target[to++] = 0x30
  target[to++] = hexDigits[byte >> 4] as number
  target[to++] = hexDigits[byte & 15] as number
  return to
}

function putString(out: OutputBuffer, bytes: Uint8Array, start: number, end: number): void {
  if (!isUtf8Range(bytes, start, end)) {
    put(out, base64Open)
    out.reserve(base64Length(end - start))
    out.length = encodeBase64(bytes, start, end, out.bytes, out.length)
    put(out, base64Close)
    return
  }
  out.appendByte(QUOTE)
  for (let from = start; from < end; from += CHUNK_BYTES) {
    const chunkEnd = Math.min(end, from + CHUNK_BYTES)
    out.reserve((chunkEnd - from) * ESCAPED_BYTES_MAX)
    const target = out.bytes
    let to = out.length
    for (let at = from; at < chunkEnd; at += 1) {
      const byte = bytes[at] as number
      if (byte >= 0x20 && byte !== QUOTE && byte !== BACKSLASH) target[to++] = byte
      else to = putEscape(target, to, byte)
    }
    out.length = to
  }
  out.appendByte(QUOTE)
}

function put(out: OutputBuffer, bytes: Uint8Array): void {
  const count = bytes.length
  out.reserve(count)
  const target = out.bytes
  let to = out.length
  for (let at = 0; at < count; at += 1) target[to++] = bytes[at] as number
  out.length = to
}

/** A whole number from 0 up, in decimal. */
export function putNumber(out: OutputBuffer, value: number): void {
  out.reserve(20)
  let digits = 1
  for (let power = 10; value >= power && digits < 17; power *= 10) digits += 1
  const target = out.bytes
  let at = out.length + digits - 1
  let rest = value
  // Above 2^31 the remainders are doubles, which cost more.
  while (rest > 0x7fffffff) {
    const quotient = Math.floor(rest / 10)
    target[at--] = 0x30 + (rest - quotient * 10)
    rest = quotient
  }
  let small = rest | 0
  for (; at >= out.length; at -= 1) {
    const quotient = (small / 10) | 0
    target[at] = 0x30 + (small - quotient * 10)
    small = quotient
  }
  out.length += digits
}
