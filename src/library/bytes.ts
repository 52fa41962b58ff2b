/** Values of scripts as bytes, and the records of a batch as messages. */
import { StreamError } from '../base/errors.ts'
import type { ByteRange, HeaderInput, RecordInput } from '../record/batch-builder.ts'
import type { RecordCursor } from '../record/record-cursor.ts'
import type { Bytes, Message, RecordInput as PublicRecord } from './public.d.ts'

/** @throws StreamError RECORD_INVALID for anything but text, bytes or null, and for a time before 1970 */
export function toRecord(input: Bytes | PublicRecord): RecordInput {
  if (typeof input === 'string' || input instanceof Uint8Array) return { value: rangeOf(input) }
  if (typeof input !== 'object' || input === null || input.value === undefined) {
    throw new StreamError('RECORD_INVALID', 'a record is text, bytes, or an object with a value')
  }
  const { value, key, headers, timestampMs } = input
  // Stored times below 0 mean that there is none. What is no whole number the batch refuses.
  if (timestampMs !== undefined && timestampMs < 0) {
    throw new StreamError('RECORD_INVALID', `timestampMs: ${timestampMs} is before 1970`)
  }
  return {
    value: value === null ? null : rangeOf(value),
    key: key === undefined || key === null ? null : rangeOf(key),
    ...(headers === undefined ? {} : { headers: toHeaders(headers) }),
    ...(timestampMs === undefined ? {} : { timestampMs }),
  }
}

export function rangeOf(input: Bytes): ByteRange {
  if (typeof input !== 'string' && !(input instanceof Uint8Array)) {
    throw new StreamError('RECORD_INVALID', 'keys and values are text or bytes')
  }
  const bytes = typeof input === 'string' ? Buffer.from(input, 'utf8') : input
  return { bytes, start: 0, end: bytes.length }
}

function toHeaders(headers: NonNullable<PublicRecord['headers']>): HeaderInput[] {
  const pairs = isPairs(headers) ? headers : pairsOf(headers)
  return pairs.map(([name, value]) => ({
    key: rangeOf(name),
    value: value === null ? null : rangeOf(value),
  }))
}

/** What has no entries of its own (a Map) or takes letters for them (text) would lose headers without a word. */
function isPairs(
  headers: NonNullable<PublicRecord['headers']>,
): headers is readonly (readonly [string, Bytes | null])[] {
  if (!Array.isArray(headers)) return false
  if (!headers.every((pair) => Array.isArray(pair) && pair.length === 2)) throw wrongHeaders()
  return true
}

function pairsOf(headers: Readonly<Record<string, Bytes | null>>): [string, Bytes | null][] {
  const isPlain = typeof headers === 'object' && headers !== null && !(Symbol.iterator in headers)
  if (!isPlain) throw wrongHeaders()
  return Object.entries(headers)
}

function wrongHeaders(): StreamError {
  return new StreamError('RECORD_INVALID', 'headers are an object, or an array of [name, value]')
}

/** The same memory as no Buffer, whose slices would be Buffers too: once for a batch, so that no message pays for it. */
export function plainBytes(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length)
}

/**
 * The record the cursor stands on, in memory of its own: the batch it came from may go.
 * @param bytes  those of the cursor, plain
 */
export function toMessage(
  cursor: RecordCursor,
  bytes: Uint8Array,
  topic: string,
  partition: number,
): Message {
  const { offset, timestampMs } = cursor
  const value = copyOf(bytes, cursor.valueStart, cursor.valueEnd)
  const headers: [string, Uint8Array | null][] = []
  cursor.rewindHeaders()
  while (cursor.nextHeader()) {
    const name = copyOf(bytes, cursor.headerKeyStart, cursor.headerKeyEnd)
    headers.push([
      Buffer.from(name ?? []).toString('utf8'),
      copyOf(bytes, cursor.headerValueStart, cursor.headerValueEnd),
    ])
  }
  const text = (): string | null => (value === null ? null : Buffer.from(value).toString('utf8'))
  return {
    topic,
    partition,
    offset,
    timestampMs: timestampMs < 0 ? null : timestampMs,
    key: copyOf(bytes, cursor.keyStart, cursor.keyEnd),
    value,
    headers,
    text,
    json: () => JSON.parse(text() ?? 'null') as unknown,
  }
}

function copyOf(bytes: Uint8Array, start: number, end: number): Uint8Array | null {
  return start < 0 ? null : bytes.slice(start, end)
}
