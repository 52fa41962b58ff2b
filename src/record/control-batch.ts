/**
 * Control batches: the markers that end a transaction in a partition (kafka-protocol.md section 7.3). One record, never
 * compressed, 78 bytes, one offset; clients skip it.
 *
 *     key    int16 version = 0 · int16 type (0 abort, 1 commit)
 *     value  int16 version = 0 · int32 coordinator epoch
 *
 * These numbers are permanent. Kafka knows more types (2 leader change, 3 and 4 snapshot, 5 KRaft version, 6 voters):
 * none is written here, all are read as 'other'.
 * Source: Kafka ControlRecordType.java, EndTransactionMarker.java.
 */
import { StreamError } from '../base/errors.ts'
import { BatchBuilder, type ByteRange } from './batch-builder.ts'
import { HEADER_BYTES, int16At, int32At, isControl, readBatchHeader } from './batch-layout.ts'
import { RecordCursor } from './record-cursor.ts'

export const MARKER_BYTES = 78
const TYPE_ABORT = 0
const TYPE_COMMIT = 1

export interface TransactionMarker {
  readonly type: 'commit' | 'abort'
  readonly producerId: number
  /** With transactions of version 2 the epoch after it was raised. */
  readonly producerEpoch: number
  readonly coordinatorEpoch: number
  readonly timestampMs: number
}

export type ControlRecord =
  | ({ readonly kind: 'marker'; readonly offset: number } & TransactionMarker)
  | { readonly kind: 'other'; readonly offset: number; readonly typeNumber: number }

/** A whole batch with base offset 0 and leader epoch −1, in fresh memory. */
export function buildControlBatch(marker: TransactionMarker): Uint8Array {
  const builder = new BatchBuilder(HEADER_BYTES + 64)
  builder.reset({ timestampMs: marker.timestampMs })
  const epoch = marker.coordinatorEpoch
  builder.append({
    key: whole(Uint8Array.of(0, 0, 0, marker.type === 'commit' ? TYPE_COMMIT : TYPE_ABORT)),
    value: whole(Uint8Array.of(0, 0, epoch >> 24, epoch >> 16, epoch >> 8, epoch)),
  })
  return builder.finish({
    producerId: marker.producerId,
    producerEpoch: marker.producerEpoch,
    isTransactional: true,
    isControl: true,
  })
}

/**
 * Reads the record of a control batch at `at`.
 * @returns  undefined for an empty one (compaction leaves them)
 * @throws StreamError CORRUPT_BATCH, also for a batch that is not a control batch
 */
export function readControlBatch(batch: Uint8Array, at = 0): ControlRecord | undefined {
  const header = readBatchHeader(batch, at)
  if (!isControl(header.attributes)) {
    throw new StreamError('CORRUPT_BATCH', 'a data batch where a control batch was expected')
  }
  const cursor = new RecordCursor()
  cursor.reset(batch, at)
  if (!cursor.next()) return undefined
  const { bytes, keyStart, valueStart, offset } = cursor
  if (keyStart < 0 || cursor.keyEnd - keyStart < 4) {
    throw new StreamError('CORRUPT_BATCH', 'a control record without type')
  }
  // Versions above 0 may only append fields, so what is known is read at any version.
  const typeNumber = int16At(bytes, keyStart + 2)
  if (typeNumber !== TYPE_ABORT && typeNumber !== TYPE_COMMIT) {
    return { kind: 'other', offset, typeNumber }
  }
  if (valueStart < 0 || cursor.valueEnd - valueStart < 6) {
    throw new StreamError('CORRUPT_BATCH', 'a transaction marker without coordinator epoch')
  }
  return {
    kind: 'marker',
    offset,
    type: typeNumber === TYPE_COMMIT ? 'commit' : 'abort',
    producerId: header.producerId,
    producerEpoch: header.producerEpoch,
    coordinatorEpoch: int32At(bytes, valueStart + 2),
    timestampMs: cursor.timestampMs,
  }
}

function whole(bytes: Uint8Array): ByteRange {
  return { bytes, start: 0, end: bytes.length }
}
