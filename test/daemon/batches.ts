/** Batches as clients send them, and records as they come back. */
import { BatchBuilder, type FinishOptions } from '../../src/record/batch-builder.ts'
import { attributesAt, batchBytesAt, isControl } from '../../src/record/batch-layout.ts'
import { RecordCursor } from '../../src/record/record-cursor.ts'

export interface TestRecord {
  readonly key?: string | null
  readonly value?: string | null
  readonly timestampMs?: number
}

export function bytesOf(text: string) {
  const bytes = Buffer.from(text)
  return { bytes, start: 0, end: bytes.length }
}

/** One batch of whole records in fresh memory. */
export function batchOf(
  records: readonly (string | TestRecord)[],
  options: FinishOptions & { readonly timestampMs?: number } = {},
): Uint8Array {
  const builder = new BatchBuilder(1 << 20)
  builder.reset({ timestampMs: options.timestampMs ?? 1_790_000_000_000 })
  for (const each of records) {
    const { key, value, timestampMs } =
      typeof each === 'string' ? { key: undefined, value: each, timestampMs: undefined } : each
    builder.append({
      key: key === undefined || key === null ? null : bytesOf(key),
      value: value === undefined || value === null ? null : bytesOf(value),
      ...(timestampMs === undefined ? {} : { timestampMs }),
    })
  }
  return Uint8Array.from(builder.finish(options))
}

export interface ReadRecord {
  readonly offset: number
  readonly timestampMs: number
  readonly key: string | null
  readonly value: string | null
}

/** All records of whole batches one after the other; control batches are left out. */
export function recordsOf(bytes: Uint8Array | null): readonly ReadRecord[] {
  const records: ReadRecord[] = []
  if (bytes === null) return records
  const cursor = new RecordCursor()
  for (let at = 0; at < bytes.length; at += batchBytesAt(bytes, at)) {
    if (isControl(attributesAt(bytes, at))) continue
    cursor.reset(bytes, at)
    while (cursor.next()) {
      const text = (start: number, end: number) =>
        start < 0 ? null : Buffer.from(cursor.bytes.subarray(start, end)).toString()
      records.push({
        offset: cursor.offset,
        timestampMs: cursor.timestampMs,
        key: text(cursor.keyStart, cursor.keyEnd),
        value: text(cursor.valueStart, cursor.valueEnd),
      })
    }
  }
  return records
}
