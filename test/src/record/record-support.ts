/** What the tests of src/record share: records as plain values, built and read through the real parts. */
import fc from 'fast-check'
import {
  BatchBuilder,
  type ByteRange,
  type FinishOptions,
  type RecordInput,
} from '../../../src/record/batch-builder.ts'
import { RecordCursor } from '../../../src/record/record-cursor.ts'

export interface PlainRecord {
  readonly key: string | null
  readonly value: string | null
  readonly headers: readonly (readonly [string, string | null])[]
  readonly timestampMs: number
}

export interface ReadRecord extends PlainRecord {
  readonly offset: number
}

export function hex(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, 'hex'))
}

export function base64(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, 'base64'))
}

export function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}

/** Text as latin1 bytes that do not begin at 0 of their array, so that forgotten offsets show. */
export function range(text: string): ByteRange {
  const bytes = Buffer.from(`##${text}##`, 'latin1')
  return { bytes, start: 2, end: bytes.length - 2 }
}

export function toInput(record: PlainRecord): RecordInput {
  return {
    key: record.key === null ? null : range(record.key),
    value: record.value === null ? null : range(record.value),
    headers: record.headers.map(([key, value]) => ({
      key: range(key),
      value: value === null ? null : range(value),
    })),
    timestampMs: record.timestampMs,
  }
}

export function buildBatch(
  records: readonly PlainRecord[],
  options: FinishOptions = {},
): Uint8Array {
  const builder = new BatchBuilder(4 * 1024 * 1024)
  builder.reset({ timestampMs: 0 })
  for (const record of records) {
    if (!builder.append(toInput(record))) throw new Error('the test batch is full')
  }
  return new Uint8Array(builder.finish(options))
}

export function readBatch(batch: Uint8Array, at = 0): ReadRecord[] {
  const cursor = new RecordCursor()
  cursor.reset(batch, at)
  const records: ReadRecord[] = []
  while (cursor.next()) records.push(currentRecord(cursor))
  return records
}

export function currentRecord(cursor: RecordCursor): ReadRecord {
  const text = (start: number, end: number) =>
    Buffer.from(cursor.bytes.subarray(start, end)).toString('latin1')
  const headers: [string, string | null][] = []
  while (cursor.nextHeader()) {
    headers.push([
      text(cursor.headerKeyStart, cursor.headerKeyEnd),
      cursor.headerValueStart < 0 ? null : text(cursor.headerValueStart, cursor.headerValueEnd),
    ])
  }
  return {
    offset: cursor.offset,
    timestampMs: cursor.timestampMs,
    key: cursor.keyStart < 0 ? null : text(cursor.keyStart, cursor.keyEnd),
    value: cursor.valueStart < 0 ? null : text(cursor.valueStart, cursor.valueEnd),
    headers,
  }
}

/** Any bytes, as latin1; now and then long enough for lengths of two and three varint bytes. */
export const anyBytes = fc.oneof(
  { weight: 8, arbitrary: fc.uint8Array({ maxLength: 40 }) },
  { weight: 2, arbitrary: fc.uint8Array({ minLength: 60, maxLength: 200 }) },
)
const anyText = anyBytes.map((bytes) => Buffer.from(bytes).toString('latin1'))
const anyLongText = fc.oneof(
  { weight: 20, arbitrary: anyText },
  {
    weight: 1,
    arbitrary: fc.integer({ min: 8000, max: 17000 }).map((count) => 'long '.repeat(count / 5)),
  },
)

export const anyRecord: fc.Arbitrary<PlainRecord> = fc.record({
  key: fc.option(anyText),
  value: fc.option(anyLongText),
  headers: fc.oneof(
    { weight: 3, arbitrary: fc.constant([]) },
    { weight: 1, arbitrary: fc.array(fc.tuple(anyText, fc.option(anyText)), { maxLength: 5 }) },
  ),
  timestampMs: fc.oneof(
    { weight: 5, arbitrary: fc.integer({ min: 1_700_000_000_000, max: 1_700_000_900_000 }) },
    { weight: 1, arbitrary: fc.constant(-1) },
    { weight: 1, arbitrary: fc.maxSafeInteger().map((value) => Math.trunc(value / 4) + 0) },
  ),
})

export const anyRecords = fc.array(anyRecord, { minLength: 1, maxLength: 12 })
