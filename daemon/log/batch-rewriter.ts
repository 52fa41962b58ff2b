/**
 * Makes a batch smaller without changing what stays of it: compaction's pencil. Offsets, sequence, producer, codec and
 * the batch's own offsets range are kept; the count, the timestamps and the CRC follow the records that are left.
 *
 * A batch with tombstones gets its delete horizon (attribute bit 6: the base timestamp field then holds the time from
 * which on tombstones may go), the first time it is copied.
 */
import {
  ATTRIBUTES_AT,
  attributesAt,
  BASE_TIMESTAMP_AT,
  baseTimestampAt,
  codecOf,
  DELETE_HORIZON_BIT,
  HEADER_BYTES,
  hasDeleteHorizon,
  isLogAppendTime,
  LENGTH_AT,
  LOG_OVERHEAD_BYTES,
  MAX_TIMESTAMP_AT,
  maxTimestampAt,
  putInt16,
  putInt32,
  putInt64,
  RECORD_COUNT_AT,
  recordCountAt,
  stampCrc,
} from '../../src/record/batch-layout.ts'
import { codecFromId, compress } from '../../src/record/compression.ts'
import { RecordCursor } from '../../src/record/record-cursor.ts'
import { putVarint, varintBytes, zigzag } from '../../src/record/varint.ts'

export interface RewriteOptions {
  /** An empty batch stays where no record does: it carries the state of its producer. */
  readonly keepEmpty: boolean
  /** When tombstones that are kept now may go; set on batches that have no delete horizon yet. */
  readonly horizonForTombstonesMs: number
}

export interface Rewritten {
  /** undefined: nothing is left. The batch given, when nothing had to change. */
  readonly batch: Uint8Array | undefined
  readonly recordsKept: number
  readonly recordsDropped: number
}

interface KeptRecord {
  readonly timestampMs: number
  readonly offsetDelta: number
  readonly payloadStart: number
  readonly recordEnd: number
}

export class BatchRewriter {
  readonly #cursor = new RecordCursor()

  /** @throws StreamError CORRUPT_BATCH, DECOMPRESSION_LIMIT when the records cannot be read */
  rewrite(
    batch: Uint8Array,
    keeps: (cursor: RecordCursor) => boolean,
    options: RewriteOptions,
  ): Rewritten {
    const cursor = this.#cursor
    cursor.reset(batch)
    const kept: KeptRecord[] = []
    let hasTombstone = false
    while (cursor.next()) {
      if (!keeps(cursor)) continue
      if (cursor.keyStart >= 0 && cursor.valueStart < 0) hasTombstone = true
      kept.push({
        timestampMs: cursor.timestampMs,
        offsetDelta: cursor.offset - cursor.batchBaseOffset,
        payloadStart: cursor.payloadStart,
        recordEnd: cursor.recordEnd,
      })
    }
    const recordsKept = kept.length
    const recordsDropped = recordCountAt(batch, 0) - recordsKept
    const needsHorizon = hasTombstone && !hasDeleteHorizon(attributesAt(batch, 0))
    if (recordsDropped === 0 && !needsHorizon) return { batch, recordsKept, recordsDropped }
    if (recordsKept === 0) {
      return { batch: options.keepEmpty ? emptied(batch) : undefined, recordsKept, recordsDropped }
    }
    const horizonMs = needsHorizon ? options.horizonForTombstonesMs : undefined
    return { batch: encode(batch, cursor.bytes, kept, horizonMs), recordsKept, recordsDropped }
  }

  /** The same batch with a delete horizon: for markers. */
  withHorizon(batch: Uint8Array, horizonMs: number): Uint8Array {
    const cursor = this.#cursor
    cursor.reset(batch)
    const kept: KeptRecord[] = []
    while (cursor.next()) {
      kept.push({
        timestampMs: cursor.timestampMs,
        offsetDelta: cursor.offset - cursor.batchBaseOffset,
        payloadStart: cursor.payloadStart,
        recordEnd: cursor.recordEnd,
      })
    }
    return encode(batch, cursor.bytes, kept, horizonMs)
  }
}

/** No records: base timestamp −1, the largest one as before (kafka-protocol.md section 7.2). */
function emptied(batch: Uint8Array): Uint8Array {
  const bytes = batch.slice(0, HEADER_BYTES)
  putInt32(bytes, LENGTH_AT, HEADER_BYTES - LOG_OVERHEAD_BYTES)
  putInt16(bytes, ATTRIBUTES_AT, attributesAt(batch, 0) & ~DELETE_HORIZON_BIT)
  putInt64(bytes, BASE_TIMESTAMP_AT, -1)
  putInt32(bytes, RECORD_COUNT_AT, 0)
  stampCrc(bytes, 0)
  return bytes
}

/** @param horizonMs  a new delete horizon; undefined: as the batch has it */
function encode(
  batch: Uint8Array,
  source: Uint8Array,
  kept: readonly KeptRecord[],
  horizonMs: number | undefined,
): Uint8Array {
  const attributes = attributesAt(batch, 0)
  const hadHorizon = hasDeleteHorizon(attributes)
  const first = kept[0]
  const baseTimestampMs = hadHorizon
    ? baseTimestampAt(batch, 0)
    : (horizonMs ?? first?.timestampMs ?? -1)
  const records = encodeRecords(source, kept, baseTimestampMs)
  const codec = codecFromId(codecOf(attributes))
  const body = codec === 'none' ? records : compress(codec, records)
  const bytes = new Uint8Array(HEADER_BYTES + body.length)
  bytes.set(batch.subarray(0, HEADER_BYTES))
  bytes.set(body, HEADER_BYTES)
  putInt32(bytes, LENGTH_AT, bytes.length - LOG_OVERHEAD_BYTES)
  if (horizonMs !== undefined) putInt16(bytes, ATTRIBUTES_AT, attributes | DELETE_HORIZON_BIT)
  putInt64(bytes, BASE_TIMESTAMP_AT, baseTimestampMs)
  if (!isLogAppendTime(attributes)) {
    let maxTimestampMs = -1
    for (const record of kept) maxTimestampMs = Math.max(maxTimestampMs, record.timestampMs)
    putInt64(bytes, MAX_TIMESTAMP_AT, maxTimestampMs)
  } else {
    putInt64(bytes, MAX_TIMESTAMP_AT, maxTimestampAt(batch, 0))
  }
  putInt32(bytes, RECORD_COUNT_AT, kept.length)
  stampCrc(bytes, 0)
  return bytes
}

function encodeRecords(
  source: Uint8Array,
  kept: readonly KeptRecord[],
  baseTimestampMs: number,
): Uint8Array {
  let capacity = 0
  for (const record of kept) capacity += record.recordEnd - record.payloadStart + 32
  const bytes = new Uint8Array(capacity)
  let at = 0
  for (const record of kept) {
    const timestamp = zigzag(record.timestampMs - baseTimestampMs)
    const offset = zigzag(record.offsetDelta)
    const payloadBytes = record.recordEnd - record.payloadStart
    const length = 1 + varintBytes(timestamp) + varintBytes(offset) + payloadBytes
    at = putVarint(bytes, at, zigzag(length))
    bytes[at++] = 0
    at = putVarint(bytes, at, timestamp)
    at = putVarint(bytes, at, offset)
    bytes.set(source.subarray(record.payloadStart, record.recordEnd), at)
    at += payloadBytes
  }
  return bytes.subarray(0, at)
}
