/**
 * What goes into a partition log and what comes out of it. Offsets, positions and sizes are plain numbers; `end` is
 * exclusive, `last` inclusive.
 */

export interface AppendResult {
  /** Base offset of the first batch. */
  readonly firstOffset: number
  /** Last offset of the last batch. */
  readonly lastOffset: number
  /** The log end offset after the append: what durableOffset must reach for the append to be durable. */
  readonly nextOffset: number
}

export interface LogSlice {
  /** Each holds one or more whole batches in their stored form; they may be kept, and must not be changed. */
  readonly bytes: readonly Uint8Array[]
  readonly sizeBytes: number
  /** Base offset of the first batch (it may lie below the offset asked for); the offset asked for when empty. */
  readonly firstOffset: number
  /** Where to read on: behind the last batch returned, or behind a gap; the offset asked for when empty. */
  readonly nextOffset: number
}

export interface ReadRequest {
  /** From logStartOffset to logEndOffset, both included. */
  readonly offset: number
  readonly maxBytes: number
  /** Nothing at or beyond is returned: the high watermark or the last stable offset; the log end when absent. */
  readonly endOffset?: number
  /** At least one batch comes back even above maxBytes (KIP-74). Default true. */
  readonly minOneBatch?: boolean
}

/** Whole batches in a file, readable by whoever may open it. */
export interface LocalSpan {
  readonly path: string
  /** Disk port: names the file itself. */
  readonly fileId: string
  readonly position: number
  readonly sizeBytes: number
  /** Behind its last batch, or behind the gap that follows. */
  readonly nextOffset: number
}

export interface SpansRequest {
  /** From logStartOffset to logEndOffset, both included. */
  readonly offset: number
  /** Nothing at or beyond: the high watermark or the last stable offset. */
  readonly endOffset: number
  /** About so much over all spans; whole batches may be more. */
  readonly maxBytes: number
}

/** Names of Kafka's errors; the caller maps them to numbers. */
export type ProducerErrorName =
  | 'INVALID_PRODUCER_EPOCH'
  | 'OUT_OF_ORDER_SEQUENCE_NUMBER'
  | 'DUPLICATE_SEQUENCE_NUMBER'
  | 'INVALID_TXN_STATE'

export type ProducerCheck =
  | { readonly kind: 'new' }
  | { readonly kind: 'duplicate'; readonly baseOffset: number; readonly lastOffset: number }
  | { readonly kind: 'error'; readonly code: ProducerErrorName; readonly detail: string }

export interface TimestampOffset {
  readonly offset: number
  readonly timestampMs: number
  readonly leaderEpoch: number
}

export interface EpochEnd {
  readonly epoch: number
  readonly endOffset: number
}

export interface AbortedTransaction {
  readonly producerId: number
  readonly firstOffset: number
  /** Of the ABORT marker. */
  readonly lastOffset: number
  readonly lastStableOffset: number
}

export interface ProducerSummary {
  readonly producerId: number
  readonly producerEpoch: number
  readonly lastSequence: number
  readonly lastTimestampMs: number
  readonly coordinatorEpoch: number
  /** −1: no open transaction. */
  readonly currentTransactionFirstOffset: number
}

/** Bytes of a segment that are not what was written; reads of the range fail with DATA_DAMAGED. */
export interface DamagedRange {
  readonly file: string
  readonly segmentBaseOffset: number
  readonly startPosition: number
  /** Exclusive; Infinity where nothing valid follows in the segment. */
  readonly endPosition: number
  readonly startOffset: number
  /** Exclusive. */
  readonly endOffset: number
  readonly detail: string
  /** By the scan of a start: what producers did in it was not seen. */
  readonly foundAtStart?: boolean
}

/** What opening a log had to do, for the diagnostics and for deciding whether the start was lossy. */
export interface RecoveryReport {
  /** True after a clean shutdown: nothing was scanned. */
  readonly clean: boolean
  readonly scannedBytes: number
  /** Bytes cut off as a torn tail; kept aside in `cutFiles`. */
  readonly cutBytes: number
  readonly cutFiles: readonly string[]
  readonly damage: readonly DamagedRange[]
  /** Below the durable mark: replication.md section 5.3 (c). */
  readonly damagedBelowMark: boolean
}

export interface RetentionResult {
  readonly deletedSegments: number
  readonly deletedBytes: number
}

export interface CompactionNeed {
  /** Share of the cleanable bytes that was never compacted, 0 to 1. */
  readonly dirtyRatio: number
  readonly dirtyBytes: number
  /** True when the ratio or max.compaction.lag.ms asks for a run now. */
  readonly due: boolean
}

export interface CompactionResult {
  readonly kind: 'done' | 'nothing' | 'aborted'
  readonly bytesBefore: number
  readonly bytesAfter: number
  readonly recordsDropped: number
  /** Below it no key has an older duplicate any more. */
  readonly cleanOffset: number
}
