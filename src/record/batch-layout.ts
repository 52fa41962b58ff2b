/**
 * The layout of Kafka's RecordBatch v2, the unit of everything: on disk, on every wire, in a mirror. Owns the positions
 * of the 61-byte header, reading and patching it, and judging whether foreign bytes are one whole batch.
 *
 *      at  size
 *       0     8  base offset               ┐ outside the CRC: stamped by the broker
 *       8     4  length of what follows    │ (whole batch − 12)
 *      12     4  partition leader epoch    ┘
 *      16     1  magic = 2
 *      17     4  CRC-32C of bytes 21 to the end
 *      21     2  attributes: bits 0–2 codec, 3 log append time, 4 transactional, 5 control, 6 delete horizon, 7–15 zero
 *      23     4  last offset delta
 *      27     8  base timestamp (the delete horizon, when attribute bit 6 is set)
 *      35     8  max timestamp
 *      43     8  producer id (−1: none)
 *      51     2  producer epoch (−1)
 *      53     4  base sequence (−1)
 *      57     4  record count
 *      61     …  records, or one compressed blob of them
 *
 * These numbers are permanent. All are big-endian. int64 fields become numbers; a batch with one beyond ±2^53 is a
 * defect, and the single-field readers below may only be used on bytes that have passed findBatchDefect or were made
 * by this program.
 * Source: Kafka DefaultRecordBatch.java; kafka-protocol.md section 7.2.
 */
import { StreamError } from '../base/errors.ts'
import { crc32c } from './crc32c.ts'

/** Of a batch, before its records; never compressed. */
export const HEADER_BYTES = 61
/** Base offset and length: what stands before the counted bytes. */
export const LOG_OVERHEAD_BYTES = 12
/** A record without key, value and headers. */
export const RECORD_BYTES_MIN = 7

export const BASE_OFFSET_AT = 0
export const LENGTH_AT = 8
export const LEADER_EPOCH_AT = 12
export const MAGIC_AT = 16
export const CRC_AT = 17
export const ATTRIBUTES_AT = 21
export const LAST_OFFSET_DELTA_AT = 23
export const BASE_TIMESTAMP_AT = 27
export const MAX_TIMESTAMP_AT = 35
export const PRODUCER_ID_AT = 43
export const PRODUCER_EPOCH_AT = 51
export const BASE_SEQUENCE_AT = 53
export const RECORD_COUNT_AT = 57

export const CODEC_MASK = 0b111
export const LOG_APPEND_TIME_BIT = 1 << 3
export const TRANSACTIONAL_BIT = 1 << 4
export const CONTROL_BIT = 1 << 5
export const DELETE_HORIZON_BIT = 1 << 6
const ATTRIBUTES_KNOWN = 0b111_1111
const CODEC_ID_MAX = 4
const TWO_POW_32 = 0x1_0000_0000

export interface BatchHeader {
  readonly baseOffset: number
  /** Of the whole batch, its first 12 bytes included. */
  readonly batchBytes: number
  readonly partitionLeaderEpoch: number
  readonly magic: number
  /** Unsigned. */
  readonly crc: number
  readonly attributes: number
  readonly lastOffsetDelta: number
  /** baseOffset + lastOffsetDelta; inclusive. */
  readonly lastOffset: number
  /** Milliseconds since 1970; the delete horizon when hasDeleteHorizon(attributes). */
  readonly baseTimestamp: number
  readonly maxTimestamp: number
  /** −1: none. */
  readonly producerId: number
  readonly producerEpoch: number
  readonly baseSequence: number
  readonly recordCount: number
}

/** Why bytes are not one whole valid batch. */
export interface BatchDefect {
  readonly kind:
    | 'truncated'
    | 'length'
    | 'magic'
    | 'attributes'
    | 'range'
    | 'count'
    | 'producer'
    | 'crc'
  /** In words, without the contents. */
  readonly detail: string
}

export function int16At(bytes: Uint8Array, at: number): number {
  return ((((bytes[at] as number) << 8) | (bytes[at + 1] as number)) << 16) >> 16
}

export function int32At(bytes: Uint8Array, at: number): number {
  return (
    ((bytes[at] as number) << 24) |
    ((bytes[at + 1] as number) << 16) |
    ((bytes[at + 2] as number) << 8) |
    (bytes[at + 3] as number)
  )
}

/** Exact within ±2^53, rounded beyond. */
export function int64At(bytes: Uint8Array, at: number): number {
  return int32At(bytes, at) * TWO_POW_32 + (int32At(bytes, at + 4) >>> 0)
}

export function putInt16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >> 8
  bytes[at + 1] = value
}

export function putInt32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >> 24
  bytes[at + 1] = value >> 16
  bytes[at + 2] = value >> 8
  bytes[at + 3] = value
}

/** `value` is an integer within ±2^53. */
export function putInt64(bytes: Uint8Array, at: number, value: number): void {
  const high = Math.floor(value / TWO_POW_32)
  putInt32(bytes, at, high)
  putInt32(bytes, at + 4, value - high * TWO_POW_32)
}

export function baseOffsetAt(bytes: Uint8Array, at: number): number {
  return int64At(bytes, at + BASE_OFFSET_AT)
}

/** Inclusive. */
export function lastOffsetAt(bytes: Uint8Array, at: number): number {
  return int64At(bytes, at + BASE_OFFSET_AT) + int32At(bytes, at + LAST_OFFSET_DELTA_AT)
}

/** Of the whole batch; below HEADER_BYTES or negative when the bytes are nonsense. */
export function batchBytesAt(bytes: Uint8Array, at: number): number {
  return int32At(bytes, at + LENGTH_AT) + LOG_OVERHEAD_BYTES
}

export function leaderEpochAt(bytes: Uint8Array, at: number): number {
  return int32At(bytes, at + LEADER_EPOCH_AT)
}

export function magicAt(bytes: Uint8Array, at: number): number {
  return ((bytes[at + MAGIC_AT] as number) << 24) >> 24
}

/** Unsigned. */
export function crcAt(bytes: Uint8Array, at: number): number {
  return int32At(bytes, at + CRC_AT) >>> 0
}

export function attributesAt(bytes: Uint8Array, at: number): number {
  return int16At(bytes, at + ATTRIBUTES_AT)
}

export function lastOffsetDeltaAt(bytes: Uint8Array, at: number): number {
  return int32At(bytes, at + LAST_OFFSET_DELTA_AT)
}

export function baseTimestampAt(bytes: Uint8Array, at: number): number {
  return int64At(bytes, at + BASE_TIMESTAMP_AT)
}

export function maxTimestampAt(bytes: Uint8Array, at: number): number {
  return int64At(bytes, at + MAX_TIMESTAMP_AT)
}

export function producerIdAt(bytes: Uint8Array, at: number): number {
  return int64At(bytes, at + PRODUCER_ID_AT)
}

export function producerEpochAt(bytes: Uint8Array, at: number): number {
  return int16At(bytes, at + PRODUCER_EPOCH_AT)
}

export function baseSequenceAt(bytes: Uint8Array, at: number): number {
  return int32At(bytes, at + BASE_SEQUENCE_AT)
}

export function recordCountAt(bytes: Uint8Array, at: number): number {
  return int32At(bytes, at + RECORD_COUNT_AT)
}

/** The codec's number; compression.ts names it. */
export function codecOf(attributes: number): number {
  return attributes & CODEC_MASK
}

/** Whether all records carry the batch's max timestamp, set by the broker. */
export function isLogAppendTime(attributes: number): boolean {
  return (attributes & LOG_APPEND_TIME_BIT) !== 0
}

export function isTransactional(attributes: number): boolean {
  return (attributes & TRANSACTIONAL_BIT) !== 0
}

export function isControl(attributes: number): boolean {
  return (attributes & CONTROL_BIT) !== 0
}

export function hasDeleteHorizon(attributes: number): boolean {
  return (attributes & DELETE_HORIZON_BIT) !== 0
}

/** @throws StreamError CORRUPT_BATCH when fewer than HEADER_BYTES stand at `at` or a number is out of range */
export function readBatchHeader(bytes: Uint8Array, at = 0): BatchHeader {
  if (at < 0 || bytes.length - at < HEADER_BYTES) {
    throw new StreamError('CORRUPT_BATCH', `a batch header of ${bytes.length - at} bytes`)
  }
  const baseOffset = baseOffsetAt(bytes, at)
  const lastOffsetDelta = lastOffsetDeltaAt(bytes, at)
  const header = {
    baseOffset,
    batchBytes: batchBytesAt(bytes, at),
    partitionLeaderEpoch: leaderEpochAt(bytes, at),
    magic: magicAt(bytes, at),
    crc: crcAt(bytes, at),
    attributes: attributesAt(bytes, at),
    lastOffsetDelta,
    lastOffset: baseOffset + lastOffsetDelta,
    baseTimestamp: baseTimestampAt(bytes, at),
    maxTimestamp: maxTimestampAt(bytes, at),
    producerId: producerIdAt(bytes, at),
    producerEpoch: producerEpochAt(bytes, at),
    baseSequence: baseSequenceAt(bytes, at),
    recordCount: recordCountAt(bytes, at),
  }
  const defect = findRangeDefect(bytes, at)
  if (defect !== undefined) throw new StreamError('CORRUPT_BATCH', `batch header: ${defect.detail}`)
  return header
}

/**
 * Patches the two fields that a broker owns, in place; both lie outside the CRC.
 * @param baseOffset  0 or more, below 2^53
 */
export function stampBatch(
  bytes: Uint8Array,
  at: number,
  stamp: { readonly baseOffset: number; readonly leaderEpoch: number },
): void {
  putInt64(bytes, at + BASE_OFFSET_AT, stamp.baseOffset)
  putInt32(bytes, at + LEADER_EPOCH_AT, stamp.leaderEpoch)
}

/** Makes all records of a batch carry the broker's time, in place, and its CRC anew (topics with LogAppendTime). */
export function stampLogAppendTime(bytes: Uint8Array, at: number, timestampMs: number): void {
  putInt16(bytes, at + ATTRIBUTES_AT, attributesAt(bytes, at) | LOG_APPEND_TIME_BIT)
  putInt64(bytes, at + MAX_TIMESTAMP_AT, timestampMs)
  stampCrc(bytes, at)
}

/** Gives a finished batch another producer identity, in place, and its CRC anew (a producer whose epoch was raised). */
export function stampProducer(
  bytes: Uint8Array,
  at: number,
  producer: {
    readonly producerId: number
    readonly producerEpoch: number
    readonly baseSequence: number
  },
): void {
  putInt64(bytes, at + PRODUCER_ID_AT, producer.producerId)
  putInt16(bytes, at + PRODUCER_EPOCH_AT, producer.producerEpoch)
  putInt32(bytes, at + BASE_SEQUENCE_AT, producer.baseSequence)
  stampCrc(bytes, at)
}

/** Says whether the batch belongs to a transaction; the CRC must be stamped after it. */
export function stampTransactional(bytes: Uint8Array, at: number, isTransactional: boolean): void {
  const attributes = attributesAt(bytes, at) & ~TRANSACTIONAL_BIT
  putInt16(bytes, at + ATTRIBUTES_AT, isTransactional ? attributes | TRANSACTIONAL_BIT : attributes)
}

/** Computes the CRC of the batch at `at`, whose length field must be right, and writes it. */
export function stampCrc(bytes: Uint8Array, at: number): void {
  putInt32(bytes, at + CRC_AT, crc32c(bytes, at + ATTRIBUTES_AT, at + batchBytesAt(bytes, at)))
}

/**
 * Whether one whole valid batch stands at `at`: structure, ranges and CRC, but not single records.
 * Bytes after the batch are not looked at. Never reads at or beyond `end`, nor throws.
 * @param end  exclusive
 * @returns  undefined when the batch is sound, else the first defect; 'truncated' means that more bytes might help
 */
export function findBatchDefect(
  bytes: Uint8Array,
  at = 0,
  end = bytes.length,
): BatchDefect | undefined {
  return findHeaderDefect(bytes, at, end) ?? findCrcDefect(bytes, at)
}

/** As findBatchDefect, without the CRC: constant time. */
export function findHeaderDefect(
  bytes: Uint8Array,
  at = 0,
  end = bytes.length,
): BatchDefect | undefined {
  const available = Math.min(end, bytes.length) - at
  if (at < 0 || available < LOG_OVERHEAD_BYTES) {
    return { kind: 'truncated', detail: `${Math.max(available, 0)} bytes, too few for a length` }
  }
  const batchBytes = batchBytesAt(bytes, at)
  if (batchBytes < HEADER_BYTES) {
    return { kind: 'length', detail: `a batch of ${batchBytes} bytes, fewer than its header` }
  }
  // The magic is judged before the length is believed: a lost place in a log is 'magic', not an endless 'truncated'.
  if (available > MAGIC_AT && magicAt(bytes, at) !== 2) {
    return { kind: 'magic', detail: `magic ${magicAt(bytes, at)} where only 2 is known` }
  }
  if (batchBytes > available) {
    return { kind: 'truncated', detail: `${available} of ${batchBytes} bytes` }
  }
  const attributes = attributesAt(bytes, at)
  if ((attributes & ~ATTRIBUTES_KNOWN) !== 0) {
    return { kind: 'attributes', detail: `unknown attribute bits in ${attributes & 0xffff}` }
  }
  const codec = codecOf(attributes)
  if (codec > CODEC_ID_MAX) return { kind: 'attributes', detail: `unknown codec ${codec}` }
  if (isControl(attributes) && codec !== 0) {
    return { kind: 'attributes', detail: 'a compressed control batch' }
  }
  return findRangeDefect(bytes, at) ?? findCountDefect(bytes, at, batchBytes, codec)
}

function findRangeDefect(bytes: Uint8Array, at: number): BatchDefect | undefined {
  const baseOffset = baseOffsetAt(bytes, at)
  const lastOffsetDelta = lastOffsetDeltaAt(bytes, at)
  if (baseOffset < 0 || !Number.isSafeInteger(baseOffset + Math.max(lastOffsetDelta, 0))) {
    return { kind: 'range', detail: `base offset ${baseOffset}` }
  }
  if (lastOffsetDelta < 0) {
    return { kind: 'count', detail: `last offset delta ${lastOffsetDelta}` }
  }
  const baseTimestamp = baseTimestampAt(bytes, at)
  const maxTimestamp = maxTimestampAt(bytes, at)
  if (!Number.isSafeInteger(baseTimestamp) || !Number.isSafeInteger(maxTimestamp)) {
    return { kind: 'range', detail: `timestamps ${baseTimestamp}, ${maxTimestamp}` }
  }
  const producerId = producerIdAt(bytes, at)
  if (!Number.isSafeInteger(producerId) || producerId < -1) {
    return { kind: 'range', detail: `producer id ${producerId}` }
  }
  return undefined
}

function findCountDefect(
  bytes: Uint8Array,
  at: number,
  batchBytes: number,
  codec: number,
): BatchDefect | undefined {
  const recordCount = recordCountAt(bytes, at)
  const lastOffsetDelta = lastOffsetDeltaAt(bytes, at)
  const recordsBytes = batchBytes - HEADER_BYTES
  // Compaction leaves gaps and even empty batches, so the count may be smaller than the offsets say, never larger.
  if (recordCount < 0 || recordCount - 1 > lastOffsetDelta) {
    return {
      kind: 'count',
      detail: `${recordCount} records with a last offset delta of ${lastOffsetDelta}`,
    }
  }
  const fits =
    codec === 0
      ? recordCount * RECORD_BYTES_MIN <= recordsBytes
      : recordCount === 0 || recordsBytes > 0
  if (!fits || (recordCount === 0 && recordsBytes > 0)) {
    return { kind: 'count', detail: `${recordCount} records in ${recordsBytes} bytes` }
  }
  const producerId = producerIdAt(bytes, at)
  if (producerId >= 0) {
    const sequenceWanted = !isControl(attributesAt(bytes, at))
    if (producerEpochAt(bytes, at) < 0 || (sequenceWanted && baseSequenceAt(bytes, at) < -1)) {
      return { kind: 'producer', detail: `producer ${producerId} without epoch or sequence` }
    }
  }
  return undefined
}

function findCrcDefect(bytes: Uint8Array, at: number): BatchDefect | undefined {
  const expected = crcAt(bytes, at)
  const actual = crc32c(bytes, at + ATTRIBUTES_AT, at + batchBytesAt(bytes, at))
  if (expected === actual) return undefined
  return { kind: 'crc', detail: `CRC ${hex32(actual)} where the header says ${hex32(expected)}` }
}

function hex32(value: number): string {
  return value.toString(16).padStart(8, '0')
}
