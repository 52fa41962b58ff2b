/**
 * Builds one record batch after the other in one buffer. Owns that buffer, the offset deltas and the batch's header.
 *
 * - A batch is its 61-byte header and records with rising offset deltas; `sizeBytes` counts both, uncompressed.
 * - A batch never exceeds `capacityBytes`, except when a single record does: an empty builder grows for it, up to
 *   `bytesMax`, and goes back to its own buffer at the next reset.
 * - finish() without a codec returns a view of this buffer. The transport sends it without a copy, so the builder must
 *   not be reset or appended to before the peer has acknowledged the batch. With a codec the batch is fresh memory, and
 *   the builder may be reset at once.
 */
import { assert } from '../base/assert.ts'
import { StreamError } from '../base/errors.ts'
import {
  ATTRIBUTES_AT,
  BASE_OFFSET_AT,
  BASE_SEQUENCE_AT,
  BASE_TIMESTAMP_AT,
  CONTROL_BIT,
  DELETE_HORIZON_BIT,
  HEADER_BYTES,
  LAST_OFFSET_DELTA_AT,
  LEADER_EPOCH_AT,
  LENGTH_AT,
  LOG_APPEND_TIME_BIT,
  LOG_OVERHEAD_BYTES,
  MAGIC_AT,
  MAX_TIMESTAMP_AT,
  PRODUCER_EPOCH_AT,
  PRODUCER_ID_AT,
  putInt16,
  putInt32,
  putInt64,
  RECORD_COUNT_AT,
  stampCrc,
  TRANSACTIONAL_BIT,
} from './batch-layout.ts'
import { type Codec, codecId, compress } from './compression.ts'
import { encodeLines } from './line-encoder.ts'
import { LineJob } from './line-kernel.ts'
import type { RecordCursor } from './record-cursor.ts'
import { putVarint, VARLONG_MAX, varintBytes, zigzag } from './varint.ts'

/** Kafka's default of max.message.bytes. */
export const BATCH_BYTES_MAX = 1_048_588
/** The kernels write whole words. */
const SLACK_BYTES = 32

/** Bytes [start, end) of `bytes`. Objects may be reused between calls: nothing keeps them. */
export interface ByteRange {
  readonly bytes: Uint8Array
  readonly start: number
  readonly end: number
}

export interface HeaderInput {
  readonly key: ByteRange
  readonly value: ByteRange | null
}

export interface RecordInput {
  /** Absent: null. */
  readonly key?: ByteRange | null
  /** Absent: null. */
  readonly value?: ByteRange | null
  readonly headers?: readonly HeaderInput[]
  /** Milliseconds since 1970, −1: none. Default: the builder's. */
  readonly timestampMs?: number
}

export interface BuilderOptions {
  /** The most that one batch with a single large record may take, uncompressed. Default 1,048,588 or the capacity. */
  readonly bytesMax?: number
}

export interface ResetOptions {
  /** Of records that bring none of their own. */
  readonly timestampMs: number
  /** The batch is full here already. Default, and at most: the capacity. */
  readonly bytesMax?: number
  /** Compaction: appendCopy keeps the cursor's offsets, relative to this. */
  readonly baseOffset?: number
  /** Compaction: stands in the place of the base timestamp. */
  readonly deleteHorizonMs?: number
}

export interface FinishOptions {
  /** Default 'none'. */
  readonly codec?: Codec
  /** Of gzip and zstd; compression.ts. */
  readonly level?: number
  /** Default −1, none; then the epoch and sequence are −1 too. */
  readonly producerId?: number
  readonly producerEpoch?: number
  readonly baseSequence?: number
  readonly isTransactional?: boolean
  readonly isControl?: boolean
  /** For batches that replace another (compaction): what must outlive the records left out. */
  readonly replaces?: {
    readonly leaderEpoch: number
    readonly lastOffsetDelta: number
    readonly isLogAppendTime: boolean
    /** Used when no record is left, or when isLogAppendTime. */
    readonly maxTimestamp: number
  }
}

export class BatchBuilder {
  readonly capacityBytes: number
  readonly #bytesMax: number
  readonly #home: Uint8Array
  readonly #job = new LineJob()
  #buffer: Uint8Array
  #timestampMs = -1
  #baseTimestampMs = -1
  #maxTimestampMs = -1
  #baseOffset: number | undefined
  #hasDeleteHorizon = false
  /** The batch is full here; further on only for a single record. */
  #endMax: number
  /** End of what is written. */
  #at = HEADER_BYTES
  #recordCount = 0
  #lastOffsetDelta = -1
  #isFull = false

  constructor(capacityBytes: number, options: BuilderOptions = {}) {
    assert(capacityBytes > HEADER_BYTES, 'a batch holds more than its header')
    this.capacityBytes = capacityBytes
    this.#bytesMax = Math.max(capacityBytes, options.bytesMax ?? BATCH_BYTES_MAX)
    // Memory of its own, never of the shared pool: it is handed to the transport.
    this.#home = allocate(capacityBytes + SLACK_BYTES)
    this.#buffer = this.#home
    this.#endMax = capacityBytes
    this.#job.setTarget(this.#home)
  }

  get recordCount(): number {
    return this.#recordCount
  }

  get isEmpty(): boolean {
    return this.#recordCount === 0
  }

  /** Of the batch so far, uncompressed, header included. */
  get sizeBytes(): number {
    return this.#at
  }

  /** Whether the last append stopped because a record did not fit; finish, then append it to the next batch. */
  get isFull(): boolean {
    return this.#isFull
  }

  /** Of the records appended, −1 when there are none. */
  get maxTimestampMs(): number {
    return this.#maxTimestampMs
  }

  /** Begins a new batch. A batch returned by finish() without codec is overwritten from now on. */
  reset(options: ResetOptions): void {
    if (this.#buffer !== this.#home) {
      this.#buffer = this.#home
      this.#job.setTarget(this.#home)
    }
    this.#endMax = Math.min(this.capacityBytes, options.bytesMax ?? this.capacityBytes)
    this.#timestampMs = options.timestampMs
    this.#baseOffset = options.baseOffset
    this.#hasDeleteHorizon = options.deleteHorizonMs !== undefined
    this.#baseTimestampMs = options.deleteHorizonMs ?? -1
    this.#maxTimestampMs = -1
    this.#at = HEADER_BYTES
    this.#recordCount = 0
    this.#lastOffsetDelta = -1
    this.#isFull = false
  }

  /**
   * Appends a record for each whole line of chunk [start, end): null key, no headers, the builder's timestamp, the
   * line without its delimiter as value.
   * @returns  the bytes consumed, delimiters included. What is left is a line without end, or (isFull) one that belongs
   *   to the next batch.
   * @throws StreamError RECORD_TOO_LARGE when the first line of an empty batch can never fit; nothing is consumed
   */
  appendLines(
    chunk: Uint8Array,
    start: number,
    end: number,
    options?: { readonly delimiter?: number },
  ): number {
    assert(start >= 0 && end <= chunk.length, 'lines lie inside their chunk')
    assert(this.#baseOffset === undefined, 'lines are numbered from 0')
    const delimiter = options?.delimiter ?? 10
    if (this.#recordCount === 0) this.#beginTimestamps(this.#timestampMs)
    else if (this.#timestampMs !== this.#baseTimestampMs) {
      return this.#appendLinesSlowly(chunk, start, end, delimiter)
    }
    const job = this.#job
    job.setSource(chunk)
    job.sourceAt = start
    job.sourceEnd = end
    job.delimiter = delimiter
    this.#runKernel()
    if (this.#isFull && this.#recordCount === 0 && this.#growForLine(start, end, delimiter)) {
      this.#runKernel()
    }
    return job.sourceAt - start
  }

  #runKernel(): void {
    const job = this.#job
    job.targetAt = this.#at
    job.targetEnd = this.#endMax
    job.count = this.#recordCount
    encodeLines(job)
    this.#at = job.targetAt
    this.#recordCount = job.count
    this.#lastOffsetDelta = job.count - 1
    this.#isFull = job.isFull
    if (job.count > 0 && this.#timestampMs > this.#maxTimestampMs) {
      this.#maxTimestampMs = this.#timestampMs
    }
  }

  /** @returns  whether the buffer now has room for the line at `start`, which is whole */
  #growForLine(start: number, end: number, delimiter: number): boolean {
    const found = this.#job.sourceBuffer.indexOf(delimiter, start)
    const isWhole = found >= 0 && found < end
    const valueBytes = (isWhole ? found : end) - start
    // Exactly, so that no second line gets in: attributes, two deltas, null key, no headers.
    const bodyBytes = 5 + varintBytes(valueBytes * 2) + valueBytes
    const bytes = HEADER_BYTES + varintBytes(bodyBytes * 2) + bodyBytes
    this.#checkFits(bytes, valueBytes)
    // A line without end waits for the rest of its input; this batch is empty and needs no finishing.
    this.#isFull = false
    if (isWhole) this.#growTo(bytes)
    return isWhole
  }

  /** Records that share no timestamp with the first: rare, so clarity goes before speed. */
  #appendLinesSlowly(chunk: Uint8Array, start: number, end: number, delimiter: number): number {
    this.#isFull = false
    let at = start
    while (at < end) {
      const found = chunk.indexOf(delimiter, at)
      if (found < 0 || found >= end) break
      if (!this.append({ value: { bytes: chunk, start: at, end: found } })) break
      at = found + 1
    }
    return at - start
  }

  /**
   * Appends one record, whole or not at all.
   * @returns  false when it does not fit (isFull)
   * @throws StreamError RECORD_TOO_LARGE when it does not fit an empty batch; RECORD_INVALID for a timestamp beyond ±2^51
   */
  append(record: RecordInput): boolean {
    assert(this.#baseOffset === undefined, 'new records are numbered from 0')
    const headers = record.headers ?? []
    let headersBytes = varintBytes(headers.length * 2)
    for (const header of headers) headersBytes += sizedBytes(header.key) + rangeBytes(header.value)
    const key = record.key ?? null
    const value = record.value ?? null
    const payloadBytes = rangeBytes(key) + rangeBytes(value) + headersBytes
    const timestampMs = record.timestampMs ?? this.#timestampMs
    if (!this.#beginRecord(timestampMs, this.#recordCount, payloadBytes)) return false
    this.#putRange(key)
    this.#putRange(value)
    this.#at = putVarint(this.#buffer, this.#at, headers.length * 2)
    for (const header of headers) {
      this.#putRange(header.key)
      this.#putRange(header.value)
    }
    return true
  }

  /**
   * Appends the record a cursor stands on, with its timestamp, key, value and headers; with its offset too when reset
   * was given a base offset.
   * @returns  false when it does not fit (isFull)
   * @throws StreamError as append
   */
  appendCopy(cursor: RecordCursor): boolean {
    const offsetDelta =
      this.#baseOffset === undefined ? this.#recordCount : cursor.offset - this.#baseOffset
    assert(offsetDelta > this.#lastOffsetDelta, 'offsets rise within a batch')
    const { bytes, payloadStart, recordEnd } = cursor
    if (!this.#beginRecord(cursor.timestampMs, offsetDelta, recordEnd - payloadStart)) return false
    this.#putBytes(bytes, payloadStart, recordEnd)
    return true
  }

  /**
   * As appendCopy, with one more header behind the record's own.
   * @param header  as it stands in a record: name and value, each with its length before it (encodeHeader)
   * @returns  false when it does not fit (isFull)
   * @throws StreamError as append
   */
  appendTagged(cursor: RecordCursor, header: Uint8Array): boolean {
    assert(this.#baseOffset === undefined, 'new records are numbered from 0')
    const { bytes, payloadStart, headersStart, recordEnd, headerCount } = cursor
    const countAt = headerCountPlace(cursor)
    const count = (headerCount + 1) * 2
    const payloadBytes =
      countAt - payloadStart + varintBytes(count) + (recordEnd - headersStart) + header.length
    if (!this.#beginRecord(cursor.timestampMs, this.#recordCount, payloadBytes)) return false
    this.#putBytes(bytes, payloadStart, countAt)
    this.#at = putVarint(this.#buffer, this.#at, count)
    this.#putBytes(bytes, headersStart, recordEnd)
    this.#putBytes(header, 0, header.length)
    return true
  }

  /** What appendEncoded may take: none beside a single record that is larger than a batch should be. */
  get roomBytes(): number {
    return Math.max(0, this.#endMax - this.#at)
  }

  /**
   * Appends records as they stand in a batch: with the builder's timestamp (delta 0), and offset deltas that go on from the
   * builder's record count. They fit (roomBytes).
   */
  appendEncoded(bytes: Uint8Array, start: number, end: number, recordCount: number): void {
    assert(end - start <= this.roomBytes, 'encoded records fit')
    if (this.#recordCount === 0) this.#beginTimestamps(this.#timestampMs)
    assert(this.#timestampMs === this.#baseTimestampMs, 'encoded records have the base timestamp')
    this.#buffer.set(bytes.subarray(start, end), this.#at)
    this.#at += end - start
    this.#recordCount += recordCount
    this.#lastOffsetDelta = this.#recordCount - 1
    this.#maxTimestampMs = Math.max(this.#maxTimestampMs, this.#timestampMs)
  }

  /** Writes a record's fields up to its key. `payloadBytes`: from the key's length to the end. */
  #beginRecord(timestampMs: number, offsetDelta: number, payloadBytes: number): boolean {
    const isFirst = this.#recordCount === 0
    const baseTimestampMs = isFirst && !this.#hasDeleteHorizon ? timestampMs : this.#baseTimestampMs
    const timestampDelta = timestampMs - baseTimestampMs
    if (
      !Number.isInteger(timestampMs) ||
      Math.abs(timestampMs) > VARLONG_MAX / 2 ||
      Math.abs(timestampDelta) > VARLONG_MAX
    ) {
      throw new StreamError('RECORD_INVALID', `a record with the timestamp ${timestampMs}`)
    }
    const timestampZigzag = zigzag(timestampDelta)
    const bodyBytes = 1 + varintBytes(timestampZigzag) + varintBytes(offsetDelta * 2) + payloadBytes
    const recordBytes = varintBytes(bodyBytes * 2) + bodyBytes
    if (this.#at + recordBytes > this.#endMax) {
      if (!isFirst) {
        this.#isFull = true
        return false
      }
      this.#checkFits(HEADER_BYTES + recordBytes, payloadBytes)
      this.#growTo(HEADER_BYTES + recordBytes)
    }
    this.#isFull = false
    if (isFirst) this.#beginTimestamps(timestampMs)
    if (isFirst || timestampMs > this.#maxTimestampMs) this.#maxTimestampMs = timestampMs
    const buffer = this.#buffer
    let at = putVarint(buffer, this.#at, bodyBytes * 2)
    buffer[at++] = 0
    at = putVarint(buffer, at, timestampZigzag)
    at = putVarint(buffer, at, offsetDelta * 2)
    this.#at = at
    this.#recordCount++
    this.#lastOffsetDelta = offsetDelta
    return true
  }

  #beginTimestamps(timestampMs: number): void {
    if (!this.#hasDeleteHorizon) this.#baseTimestampMs = timestampMs
  }

  #checkFits(bytes: number, contentBytes: number): void {
    if (bytes <= this.#bytesMax) return
    throw new StreamError(
      'RECORD_TOO_LARGE',
      `a record of ${contentBytes} bytes or more where a batch holds ${this.#bytesMax}`,
      {
        hint: 'the topic must allow it (max.message.bytes), and the producer too (max.request.size)',
      },
    )
  }

  #growTo(bytes: number): void {
    this.#endMax = Math.max(this.#endMax, bytes)
    if (bytes + SLACK_BYTES <= this.#buffer.length) return
    this.#buffer = allocate(bytes + SLACK_BYTES)
    this.#job.setTarget(this.#buffer)
  }

  #putRange(range: ByteRange | null): void {
    if (range === null) {
      this.#buffer[this.#at++] = 1
      return
    }
    this.#at = putVarint(this.#buffer, this.#at, (range.end - range.start) * 2)
    this.#putBytes(range.bytes, range.start, range.end)
  }

  #putBytes(bytes: Uint8Array, start: number, end: number): void {
    const buffer = this.#buffer
    const count = end - start
    if (count > 48) {
      buffer.set(bytes.subarray(start, end), this.#at)
    } else {
      let to = this.#at
      for (let at = start; at < end; at++) buffer[to++] = bytes[at] as number
    }
    this.#at += count
  }

  /**
   * One complete valid batch with base offset 0 (or that of reset) and leader epoch −1. May be called again with other
   * options, for instance a new producer epoch; without codec that rewrites the same memory.
   * @returns  without codec a view of the builder's buffer, valid until reset; with one, fresh memory
   * @throws StreamError RUNTIME_MISSING (compression.ts)
   */
  finish(options: FinishOptions = {}): Uint8Array {
    const replaces = options.replaces
    assert(this.#recordCount > 0 || replaces !== undefined, 'a batch holds records')
    const codec = options.codec ?? 'none'
    let batch: Uint8Array
    if (codec === 'none' || this.#recordCount === 0) {
      batch = this.#buffer.subarray(0, this.#at)
    } else {
      const blob = compress(codec, this.#buffer.subarray(HEADER_BYTES, this.#at), options.level)
      batch = allocate(HEADER_BYTES + blob.length)
      batch.set(blob, HEADER_BYTES)
    }
    const isLogAppendTime = replaces?.isLogAppendTime === true
    const attributes =
      (this.#recordCount === 0 ? 0 : codecId(codec)) |
      (isLogAppendTime ? LOG_APPEND_TIME_BIT : 0) |
      (options.isTransactional === true ? TRANSACTIONAL_BIT : 0) |
      (options.isControl === true ? CONTROL_BIT : 0) |
      (this.#hasDeleteHorizon ? DELETE_HORIZON_BIT : 0)
    const maxTimestampMs =
      replaces !== undefined && (isLogAppendTime || this.#recordCount === 0)
        ? replaces.maxTimestamp
        : this.#maxTimestampMs
    const producerId = options.producerId ?? -1
    putInt64(batch, BASE_OFFSET_AT, this.#baseOffset ?? 0)
    putInt32(batch, LENGTH_AT, batch.length - LOG_OVERHEAD_BYTES)
    putInt32(batch, LEADER_EPOCH_AT, replaces?.leaderEpoch ?? -1)
    batch[MAGIC_AT] = 2
    putInt16(batch, ATTRIBUTES_AT, attributes)
    putInt32(batch, LAST_OFFSET_DELTA_AT, replaces?.lastOffsetDelta ?? this.#lastOffsetDelta)
    putInt64(batch, BASE_TIMESTAMP_AT, this.#baseTimestampMs)
    putInt64(batch, MAX_TIMESTAMP_AT, maxTimestampMs)
    putInt64(batch, PRODUCER_ID_AT, producerId)
    putInt16(batch, PRODUCER_EPOCH_AT, options.producerEpoch ?? -1)
    putInt32(batch, BASE_SEQUENCE_AT, options.baseSequence ?? -1)
    putInt32(batch, RECORD_COUNT_AT, this.#recordCount)
    stampCrc(batch, 0)
    return batch
  }
}

/** A header as it stands in a record. */
export function encodeHeader(name: Uint8Array, value: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(
    varintBytes(name.length * 2) + name.length + varintBytes(value.length * 2) + value.length,
  )
  let at = putVarint(bytes, 0, name.length * 2)
  bytes.set(name, at)
  at = putVarint(bytes, at + name.length, value.length * 2)
  bytes.set(value, at)
  return bytes
}

/** Where the number of headers stands: lengths may be written with more bytes than they need, so they are walked over. */
function headerCountPlace(cursor: RecordCursor): number {
  const { bytes, keyStart, keyEnd, valueStart, valueEnd } = cursor
  let at = afterVarint(bytes, cursor.payloadStart)
  if (keyStart >= 0) at += keyEnd - keyStart
  at = afterVarint(bytes, at)
  return valueStart >= 0 ? at + valueEnd - valueStart : at
}

function afterVarint(bytes: Uint8Array, start: number): number {
  let at = start
  while ((bytes[at] as number) >= 0x80) at++
  return at + 1
}

/** Not zeroed, and no Buffer: a Buffer's slice() would be a view where all callers expect a copy. */
function allocate(bytes: number): Uint8Array {
  return new Uint8Array(Buffer.allocUnsafeSlow(bytes).buffer)
}

/** Length and bytes of a key or value. */
function rangeBytes(range: ByteRange | null): number {
  return range === null ? 1 : sizedBytes(range)
}

function sizedBytes(range: ByteRange): number {
  const count = range.end - range.start
  return varintBytes(count * 2) + count
}
