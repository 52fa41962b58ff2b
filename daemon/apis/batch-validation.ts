/**
 * What the daemon checks of a producer's batch before it appends it, in the order of kafka-protocol.md section 6, and
 * what it rewrites where the topic asks for it. Everything here is header work on fixed places, without decompression,
 * but for compacted topics (keys) and a topic with a codec of its own.
 *
 * Sources: Kafka LogValidator.java; kfake 00_produce.go (P13).
 */

import { isStreamError } from '../../src/base/errors.ts'
import type { TopicConfig } from '../../src/config/topic-config.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import {
  ATTRIBUTES_AT,
  attributesAt,
  baseSequenceAt,
  baseTimestampAt,
  batchBytesAt,
  CODEC_MASK,
  CRC_AT,
  codecOf,
  findBatchDefect,
  findHeaderDefect,
  HEADER_BYTES,
  hasDeleteHorizon,
  isControl,
  isLogAppendTime,
  LENGTH_AT,
  LOG_OVERHEAD_BYTES,
  lastOffsetDeltaAt,
  MAGIC_AT,
  magicAt,
  maxTimestampAt,
  producerIdAt,
  putInt16,
  putInt32,
  recordCountAt,
  stampCrc,
  stampLogAppendTime,
} from '../../src/record/batch-layout.ts'
import {
  type Codec,
  codecFromId,
  codecId,
  compress,
  decompress,
} from '../../src/record/compression.ts'
import { RecordCursor } from '../../src/record/record-cursor.ts'

const ZSTD = codecId('zstd')
/** First Produce version that may carry zstd (KIP-110). */
const ZSTD_PRODUCE_VERSION = 7
const RECORD_ERRORS_MAX = 100
const NO_TIMESTAMP = -1

export interface BatchRefusal {
  readonly code: number
  readonly message: string
  readonly recordErrors?: readonly {
    readonly batchIndex: number
    readonly batchIndexErrorMessage: string | null
  }[]
}

export interface BatchRules {
  readonly config: TopicConfig
  readonly apiVersion: number
  readonly wallMs: number
}

/** @returns undefined when `records` is exactly one batch that may be appended */
export function findBatchRefusal(
  records: Uint8Array | null,
  { config, apiVersion, wallMs }: BatchRules,
): BatchRefusal | undefined {
  if (records === null || records.length < HEADER_BYTES) {
    const isOld = records !== null && records.length > MAGIC_AT && isOldMagic(records)
    if (isOld) return refuse(KafkaError.UNSUPPORTED_FOR_MESSAGE_FORMAT, 'message format 0 or 1')
    return refuse(KafkaError.CORRUPT_MESSAGE, 'no whole batch')
  }
  if (isOldMagic(records)) {
    return refuse(KafkaError.UNSUPPORTED_FOR_MESSAGE_FORMAT, 'message format 0 or 1')
  }
  const batchBytes = batchBytesAt(records, 0)
  if (batchBytes >= HEADER_BYTES && batchBytes < records.length) {
    return refuse(KafkaError.INVALID_RECORD, 'more than one batch for a partition')
  }
  if (batchBytes !== records.length) {
    return refuse(
      KafkaError.CORRUPT_MESSAGE,
      `${records.length} bytes, the batch says ${batchBytes}`,
    )
  }
  if (magicAt(records, 0) !== 2) {
    return refuse(KafkaError.CORRUPT_MESSAGE, `unknown magic ${magicAt(records, 0)}`)
  }
  return (
    findAttributesRefusal(records, apiVersion) ??
    findCountRefusal(records) ??
    findSizeRefusal(records, config) ??
    findTimestampRefusal(records, config, wallMs) ??
    findChecksumRefusal(records) ??
    (config.cleanupCompact ? findKeyRefusal(records) : undefined)
  )
}

function isOldMagic(records: Uint8Array): boolean {
  const magic = magicAt(records, 0)
  return magic === 0 || magic === 1
}

function findAttributesRefusal(records: Uint8Array, apiVersion: number): BatchRefusal | undefined {
  const attributes = attributesAt(records, 0)
  if (isControl(attributes)) {
    return refuse(KafkaError.INVALID_RECORD, 'clients do not write control batches')
  }
  if (hasDeleteHorizon(attributes)) {
    return refuse(KafkaError.INVALID_RECORD, 'clients do not set the delete horizon')
  }
  if (isLogAppendTime(attributes)) {
    return refuse(KafkaError.INVALID_TIMESTAMP, 'clients do not set LogAppendTime')
  }
  if (codecOf(attributes) === ZSTD && apiVersion < ZSTD_PRODUCE_VERSION) {
    return refuse(KafkaError.UNSUPPORTED_COMPRESSION_TYPE, 'zstd needs Produce version 7')
  }
  return undefined
}

function findCountRefusal(records: Uint8Array): BatchRefusal | undefined {
  const count = recordCountAt(records, 0)
  const lastDelta = lastOffsetDeltaAt(records, 0)
  if (count < 1) return refuse(KafkaError.INVALID_RECORD, `a batch of ${count} records`)
  if (lastDelta !== count - 1) {
    return refuse(
      KafkaError.INVALID_RECORD,
      `${count} records, the last offset delta is ${lastDelta}`,
    )
  }
  if (producerIdAt(records, 0) >= 0 && baseSequenceAt(records, 0) < 0) {
    return refuse(KafkaError.INVALID_RECORD, 'a producer id without sequence number')
  }
  const defect = findHeaderDefect(records)
  return defect === undefined ? undefined : refuse(KafkaError.INVALID_RECORD, defect.detail)
}

function findSizeRefusal(records: Uint8Array, config: TopicConfig): BatchRefusal | undefined {
  if (records.length > config.maxMessageBytes) {
    const message = `${records.length} bytes, max.message.bytes is ${config.maxMessageBytes}`
    return refuse(KafkaError.MESSAGE_TOO_LARGE, message)
  }
  if (records.length > config.segmentBytes) {
    const message = `${records.length} bytes, segment.bytes is ${config.segmentBytes}`
    return refuse(KafkaError.RECORD_LIST_TOO_LARGE, message)
  }
  return undefined
}

function findTimestampRefusal(
  records: Uint8Array,
  config: TopicConfig,
  wallMs: number,
): BatchRefusal | undefined {
  if (config.messageTimestampType === 'LogAppendTime') return undefined
  const afterMs = wallMs + config.messageTimestampAfterMaxMs
  const beforeMs = wallMs - config.messageTimestampBeforeMaxMs
  const isOutside = (cursor: RecordCursor): boolean =>
    cursor.timestampMs !== NO_TIMESTAMP &&
    (cursor.timestampMs > afterMs || cursor.timestampMs < beforeMs)
  const max = maxTimestampAt(records, 0)
  if (max !== NO_TIMESTAMP && max - wallMs > config.messageTimestampAfterMaxMs) {
    const message = `timestamp ${max} lies too far ahead of ${wallMs}`
    const refusal = refuse(KafkaError.INVALID_TIMESTAMP, message)
    return { ...refusal, recordErrors: findRecordErrors(records, isOutside, message) }
  }
  const base = baseTimestampAt(records, 0)
  const oldest = max === NO_TIMESTAMP ? NO_TIMESTAMP : Math.min(base, max)
  if (oldest !== NO_TIMESTAMP && wallMs - oldest > config.messageTimestampBeforeMaxMs) {
    const message = `timestamp ${oldest} lies too far before ${wallMs}`
    const refusal = refuse(KafkaError.INVALID_TIMESTAMP, message)
    return { ...refusal, recordErrors: findRecordErrors(records, isOutside, message) }
  }
  return undefined
}

/** Which records of a refused batch are to blame; none where it cannot be read. */
function findRecordErrors(
  records: Uint8Array,
  isToBlame: (cursor: RecordCursor) => boolean,
  batchIndexErrorMessage: string,
): NonNullable<BatchRefusal['recordErrors']> {
  const cursor = new RecordCursor()
  const recordErrors: { batchIndex: number; batchIndexErrorMessage: string }[] = []
  try {
    cursor.reset(records)
    for (let index = 0; cursor.next(); index += 1) {
      if (recordErrors.length >= RECORD_ERRORS_MAX) break
      if (isToBlame(cursor)) recordErrors.push({ batchIndex: index, batchIndexErrorMessage })
    }
  } catch (error) {
    if (!isStreamError(error)) throw error
    return []
  }
  return recordErrors
}

function findChecksumRefusal(records: Uint8Array): BatchRefusal | undefined {
  const defect = findBatchDefect(records)
  return defect === undefined ? undefined : refuse(KafkaError.CORRUPT_MESSAGE, defect.detail)
}

/** A compacted topic keeps one record for each key, so every record needs one. */
function findKeyRefusal(records: Uint8Array): BatchRefusal | undefined {
  const cursor = new RecordCursor()
  const recordErrors: { batchIndex: number; batchIndexErrorMessage: string }[] = []
  try {
    cursor.reset(records)
    for (let index = 0; cursor.next(); index += 1) {
      if (cursor.keyStart >= 0 || recordErrors.length >= RECORD_ERRORS_MAX) continue
      const batchIndexErrorMessage = 'a record of a compacted topic needs a key'
      recordErrors.push({ batchIndex: index, batchIndexErrorMessage })
    }
  } catch (error) {
    if (!isStreamError(error)) throw error
    if (error.code === 'RUNTIME_MISSING') {
      return refuse(KafkaError.UNSUPPORTED_COMPRESSION_TYPE, error.message)
    }
    return refuse(KafkaError.INVALID_RECORD, error.message)
  }
  if (recordErrors.length === 0) return undefined
  const message = 'one or more records of a compacted topic have no key'
  return { ...refuse(KafkaError.INVALID_RECORD, message), recordErrors }
}

/** The topic stores batches otherwise than this one was sent. */
export function needsRewrite(records: Uint8Array, config: TopicConfig): boolean {
  if (config.messageTimestampType === 'LogAppendTime') return true
  return isOtherCodec(records, config)
}

function isOtherCodec(records: Uint8Array, config: TopicConfig): boolean {
  const wanted = storedCodec(config)
  return wanted !== undefined && codecOf(attributesAt(records, 0)) !== codecId(wanted)
}

function storedCodec(config: TopicConfig): Codec | undefined {
  const { compressionType } = config
  if (compressionType === 'producer') return undefined
  return compressionType === 'uncompressed' ? 'none' : compressionType
}

/**
 * The batch as the topic stores it: in its codec, and with the append's time where that is asked for. Changes `records`
 * in place where no new batch is made.
 * @throws StreamError CORRUPT_BATCH, DECOMPRESSION_LIMIT, UNSUPPORTED_COMPRESSION, RUNTIME_MISSING
 */
export function rewriteBatch(records: Uint8Array, config: TopicConfig, wallMs: number): Uint8Array {
  const batch = isOtherCodec(records, config) ? recompress(records, config) : records
  if (config.messageTimestampType === 'LogAppendTime') stampLogAppendTime(batch, 0, wallMs)
  return batch
}

function recompress(records: Uint8Array, config: TopicConfig): Uint8Array {
  const attributes = attributesAt(records, 0)
  const payload = decompress(codecFromId(codecOf(attributes)), records.subarray(HEADER_BYTES))
  const codec = storedCodec(config) ?? 'none'
  const stored = compress(codec, payload, levelOf(codec, config))
  const batch = new Uint8Array(HEADER_BYTES + stored.length)
  batch.set(records.subarray(0, HEADER_BYTES))
  batch.set(stored, HEADER_BYTES)
  putInt32(batch, LENGTH_AT, batch.length - LOG_OVERHEAD_BYTES)
  putInt32(batch, CRC_AT, 0)
  putInt16(batch, ATTRIBUTES_AT, (attributes & ~CODEC_MASK) | codecId(codec))
  stampCrc(batch, 0)
  return batch
}

function levelOf(codec: Codec, config: TopicConfig): number | undefined {
  switch (codec) {
    case 'gzip':
      return config.compressionGzipLevel > 0 ? config.compressionGzipLevel : undefined
    case 'zstd':
      return config.compressionZstdLevel
    case 'none':
    case 'snappy':
    case 'lz4':
      return undefined
  }
}

function refuse(code: number, message: string): BatchRefusal {
  return { code, message }
}
