/** What a producer tells of its batches, and of records apart from them. */
import type { StreamError } from '../base/errors.ts'
import type { BatchBuilder } from '../record/batch-builder.ts'
import type { Batch, Lane } from './producer-lane.ts'

/** What became of one batch. */
export interface Delivery {
  readonly topic: string
  readonly partition: number
  /** Of its first record; -1 when not delivered, or not told by the broker (acks=0, a late duplicate). */
  readonly baseOffset: number
  readonly recordCount: number
  /** Of the batch as sent. */
  readonly bytes: number
  /** Ordinals of its first and last record: records are counted from 0 over all appends. */
  readonly firstOrdinal: number
  readonly lastOrdinal: number
  /** All of them, in order, when trackOrdinals is set, or when records of the batch were left out. */
  readonly ordinals: readonly number[] | undefined
  /** Absent: delivered. NOT_DELIVERED, RECORD_TOO_LARGE, RECORD_INVALID, FENCED, NOT_ALLOWED … */
  readonly error: StreamError | undefined
  /** With an error: which records the broker has named, from 0, rising; absent: none, it is of the batch. */
  readonly refusedIndexes?: readonly number[]
  /** With an error: whether the broker may have it nevertheless. */
  readonly outcomeUnknown: boolean
  /** With an error: the batch as it was sent, if it was; valid during the call. */
  readonly batch: Uint8Array | undefined
}

/** @param error  undefined: it was acknowledged */
export function deliveryOf(batch: Batch, error: StreamError | undefined): Delivery {
  const { lane } = batch
  return {
    topic: lane.topic,
    partition: lane.partition,
    baseOffset: error === undefined ? batch.baseOffset : -1,
    recordCount: batch.recordCount,
    bytes: batch.bytes?.length ?? batch.sizeBytes,
    firstOrdinal: batch.firstOrdinal,
    lastOrdinal: batch.lastOrdinal,
    ordinals: batch.ordinals,
    error,
    ...(batch.refusedIndexes.length === 0 ? {} : { refusedIndexes: batch.refusedIndexes }),
    outcomeUnknown: error !== undefined && batch.outcomeUnknown,
    batch: error === undefined ? undefined : batch.bytes,
  }
}

/**
 * Of records that have failed apart from their batch.
 * @param ordinals  of the records, not empty
 * @param batch  one of them alone, as it would have been sent; undefined: they never were
 */
export function failureOfRecords(
  { topic, partition }: Lane,
  ordinals: readonly number[],
  error: StreamError,
  batch: Uint8Array | undefined,
): Delivery {
  return {
    topic,
    partition,
    baseOffset: -1,
    recordCount: ordinals.length,
    bytes: batch?.length ?? 0,
    firstOrdinal: ordinals[0] ?? -1,
    lastOrdinal: ordinals.at(-1) ?? -1,
    ordinals,
    error,
    outcomeUnknown: false,
    batch,
  }
}

/** Of the batch that was being filled and can never be sent. */
export function failureOfOpen(lane: Lane, builder: BatchBuilder, error: StreamError): Delivery {
  return {
    topic: lane.topic,
    partition: lane.partition,
    baseOffset: -1,
    recordCount: builder.recordCount,
    bytes: builder.sizeBytes,
    firstOrdinal: lane.firstOrdinal,
    lastOrdinal: lane.lastOrdinal,
    ordinals: lane.ordinals,
    error,
    outcomeUnknown: false,
    batch: undefined,
  }
}
