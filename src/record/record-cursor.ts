/**
 * Walks the records of one batch without an object per record: next() moves on, number fields say where things are.
 *
 * The bytes are foreign. The cursor never reads outside the batch, believes no count or length that the bytes cannot
 * hold, and throws CORRUPT_BATCH on anything that is not exactly a batch's records; but the CRC is its caller's concern
 * (findBatchDefect). Ranges lie in `bytes`, which is the batch itself, or fresh memory when it was compressed.
 */
import { StreamError } from '../base/errors.ts'
import {
  attributesAt,
  baseOffsetAt,
  baseTimestampAt,
  batchBytesAt,
  codecOf,
  findHeaderDefect,
  HEADER_BYTES,
  isControl,
  isLogAppendTime,
  lastOffsetAt,
  leaderEpochAt,
  maxTimestampAt,
  RECORD_BYTES_MIN,
  recordCountAt,
} from './batch-layout.ts'
import { codecFromId, type DecompressLimits, decompress } from './compression.ts'
import { unzigzag } from './varint.ts'

const NO_BYTES = new Uint8Array(0)

export class RecordCursor {
  /** What all ranges refer to. */
  bytes: Uint8Array = NO_BYTES
  offset = -1
  /** Milliseconds since 1970, −1: none. */
  timestampMs = -1
  /** −1: a null key. `keyEnd` is exclusive, and equal to the start of an empty key. */
  keyStart = -1
  keyEnd = -1
  /** −1: a null value. */
  valueStart = -1
  valueEnd = -1
  headerCount = 0
  /** Of the first header's key length. */
  headersStart = 0
  /** Where the key's length stands; from here to recordEnd a record can be copied as it is. */
  payloadStart = 0
  recordEnd = 0
  /** Of the header that nextHeader() moved to. */
  headerKeyStart = -1
  headerKeyEnd = -1
  /** −1: a null value. */
  headerValueStart = -1
  headerValueEnd = -1
  /** Of the whole batch. */
  recordCount = 0
  isControl = false
  batchBaseOffset = 0
  batchLeaderEpoch = -1
  /** Inclusive; records may be missing at the end of a compacted batch. */
  batchLastOffset = 0
  /** All records lie here in `bytes`. */
  recordsStart = 0
  recordsEnd = 0

  readonly #limits: DecompressLimits
  #position = 0
  #end = 0
  #recordsLeft = 0
  #offsetDelta = -1
  #baseTimestampMs = 0
  /** With LogAppendTime all records have the batch's timestamp. */
  #logAppendTimeMs: number | undefined
  #headerPosition = 0
  #headersLeft = 0

  constructor(limits: DecompressLimits = {}) {
    this.#limits = limits
  }

  /**
   * Goes before the first record of the batch at `at`.
   * @throws StreamError CORRUPT_BATCH; DECOMPRESSION_LIMIT, RUNTIME_MISSING (compression.ts)
   */
  reset(batch: Uint8Array, at = 0): void {
    this.#recordsLeft = 0
    this.recordCount = 0
    const defect = findHeaderDefect(batch, at)
    if (defect !== undefined) throw corrupt(defect.detail)
    const attributes = attributesAt(batch, at)
    const recordsStart = at + HEADER_BYTES
    const batchEnd = at + batchBytesAt(batch, at)
    const recordCount = recordCountAt(batch, at)
    const codec = codecFromId(codecOf(attributes))
    if (codec === 'none' || recordCount === 0) {
      this.bytes = batch
      this.#position = recordsStart
      this.#end = batchEnd
    } else {
      this.bytes = decompress(codec, batch.subarray(recordsStart, batchEnd), this.#limits)
      this.#position = 0
      this.#end = this.bytes.length
    }
    if (recordCount * RECORD_BYTES_MIN > this.#end - this.#position) {
      throw corrupt(`${recordCount} records in ${this.#end - this.#position} bytes`)
    }
    this.recordCount = recordCount
    this.isControl = isControl(attributes)
    this.#recordsLeft = recordCount
    this.recordsStart = this.#position
    this.recordsEnd = this.#end
    this.batchBaseOffset = baseOffsetAt(batch, at)
    this.batchLeaderEpoch = leaderEpochAt(batch, at)
    this.batchLastOffset = lastOffsetAt(batch, at)
    this.#offsetDelta = -1
    this.#baseTimestampMs = baseTimestampAt(batch, at)
    this.#logAppendTimeMs = isLogAppendTime(attributes) ? maxTimestampAt(batch, at) : undefined
    this.#headersLeft = 0
  }

  /**
   * @returns  false after the last record
   * @throws StreamError CORRUPT_BATCH; no further record can be had then
   */
  next(): boolean {
    if (this.#recordsLeft === 0) {
      if (this.#position !== this.#end) throw this.#stop('bytes after the last record')
      return false
    }
    this.#recordsLeft--
    const batchEnd = this.#end
    const length = this.#readVarint(batchEnd)
    const recordEnd = this.#position + length
    if (length < RECORD_BYTES_MIN - 1 || recordEnd > batchEnd) {
      throw this.#stop(`a record of ${length} bytes`)
    }
    this.recordEnd = recordEnd
    // The attributes of a record mean nothing so far, and Kafka ignores them too.
    this.#position++
    const timestampDelta = this.#readVarint(recordEnd)
    const offsetDelta = this.#readVarint(recordEnd)
    const offset = this.batchBaseOffset + offsetDelta
    if (offsetDelta <= this.#offsetDelta || offset > this.batchLastOffset) {
      throw this.#stop(`offset delta ${offsetDelta} after ${this.#offsetDelta}`)
    }
    this.#offsetDelta = offsetDelta
    this.offset = offset
    this.timestampMs = this.#logAppendTimeMs ?? this.#baseTimestampMs + timestampDelta
    this.payloadStart = this.#position
    const keyLength = this.#readLength(recordEnd)
    this.keyStart = keyLength < 0 ? -1 : this.#position
    if (keyLength > 0) this.#position += keyLength
    this.keyEnd = keyLength < 0 ? -1 : this.#position
    const valueLength = this.#readLength(recordEnd)
    this.valueStart = valueLength < 0 ? -1 : this.#position
    if (valueLength > 0) this.#position += valueLength
    this.valueEnd = valueLength < 0 ? -1 : this.#position
    const headerCount = this.#readVarint(recordEnd)
    this.headerCount = headerCount
    this.headersStart = this.#position
    if (headerCount !== 0) this.#checkHeaders(headerCount, recordEnd)
    if (this.#position !== recordEnd) throw this.#stop('a record longer than its fields')
    this.#headerPosition = this.headersStart
    this.#headersLeft = headerCount
    return true
  }

  /** Moves to the current record's next header. Always well-formed: next() has looked at all of them. */
  nextHeader(): boolean {
    if (this.#headersLeft === 0) return false
    this.#headersLeft--
    const position = this.#position
    this.#position = this.#headerPosition
    this.#readHeader(this.recordEnd)
    this.#headerPosition = this.#position
    this.#position = position
    return true
  }

  /** Goes before the current record's first header again. */
  rewindHeaders(): void {
    this.#headerPosition = this.headersStart
    this.#headersLeft = this.headerCount
  }

  #checkHeaders(headerCount: number, recordEnd: number): void {
    if (headerCount < 0 || headerCount * 2 > recordEnd - this.#position) {
      throw this.#stop(`${headerCount} record headers`)
    }
    for (let index = 0; index < headerCount; index++) this.#readHeader(recordEnd)
  }

  #readHeader(recordEnd: number): void {
    const keyLength = this.#readLength(recordEnd)
    if (keyLength < 0) throw this.#stop('a record header without name')
    this.headerKeyStart = this.#position
    this.#position += keyLength
    this.headerKeyEnd = this.#position
    const valueLength = this.#readLength(recordEnd)
    this.headerValueStart = valueLength < 0 ? -1 : this.#position
    if (valueLength > 0) this.#position += valueLength
    this.headerValueEnd = valueLength < 0 ? -1 : this.#position
  }

  /** A length that the bytes up to `end` can hold, or −1. */
  #readLength(end: number): number {
    const length = this.#readVarint(end)
    if (length < -1 || length > end - this.#position) throw this.#stop(`a length of ${length}`)
    return length
  }

  #readVarint(end: number): number {
    const bytes = this.bytes
    let position = this.#position
    // One or two bytes: nearly all.
    if (position + 1 < end) {
      const first = bytes[position] as number
      if (first < 0x80) {
        this.#position = position + 1
        return (first >>> 1) ^ -(first & 1)
      }
      const second = bytes[position + 1] as number
      if (second < 0x80) {
        this.#position = position + 2
        const both = (first & 0x7f) | (second << 7)
        return (both >>> 1) ^ -(both & 1)
      }
    }
    let unsigned = 0
    let scale = 1
    for (;;) {
      if (position >= end) throw this.#stop('a record that ends early')
      const byte = bytes[position++] as number
      unsigned += (byte & 0x7f) * scale
      if (byte < 0x80) break
      scale *= 0x80
      if (scale > 2 ** 63) throw this.#stop('a number of more than ten bytes')
    }
    if (unsigned > Number.MAX_SAFE_INTEGER) throw this.#stop('a number beyond 2^53')
    this.#position = position
    return unzigzag(unsigned)
  }

  #stop(detail: string): StreamError {
    this.#recordsLeft = 0
    this.#position = this.#end
    this.#headersLeft = 0
    return corrupt(`record after offset delta ${this.#offsetDelta}: ${detail}`)
  }
}

function corrupt(detail: string): StreamError {
  return new StreamError('CORRUPT_BATCH', `a batch that is not well-formed: ${detail}`)
}
