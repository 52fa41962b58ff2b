/**
 * What a log knows of the producers that wrote to it: their last batches, for idempotence (replication.md section 8),
 * and their open transactions, for the last stable offset (section 9.4).
 *
 * Invariants:
 * - The state is derived from the batches alone: a snapshot plus the replay of the headers behind it gives the same.
 * - The window holds at most WINDOW_BATCHES batches; a control batch empties it, for a sequence used again after an
 *   abort must not be answered with the offset of the aborted record.
 *
 * Snapshot (Kafka's `.snapshot`): int16 version = 1 · uint32 CRC-32C of all bytes after it · int32 count, then per
 * producer 46 bytes: int64 id · int16 epoch · int32 last sequence · int64 last offset · int32 offset delta ·
 * int64 timestamp · int32 coordinator epoch · int64 first offset of the open transaction (−1).
 */
import { assert } from '../../src/base/assert.ts'
import {
  int16At,
  int32At,
  int64At,
  putInt16,
  putInt32,
  putInt64,
} from '../../src/record/batch-layout.ts'
import { crc32c } from '../../src/record/crc32c.ts'
import type { AbortedTransaction, ProducerCheck, ProducerSummary } from './log-types.ts'

/** Kafka keeps five. With a sync before each acknowledgement five batches in flight do not fill the disk's time (test/bench). */
export const WINDOW_BATCHES = 16
const SNAPSHOT_VERSION = 1
const SNAPSHOT_HEAD_BYTES = 10
const SNAPSHOT_ENTRY_BYTES = 46
const SEQUENCE_MODULUS = 0x8000_0000

interface BatchTrace {
  readonly firstSequence: number
  readonly lastSequence: number
  readonly firstOffset: number
  readonly lastOffset: number
}

interface ProducerEntry {
  epoch: number
  /** Oldest first. */
  window: BatchTrace[]
  /** −1: no data batch in this epoch. It outlives the window, so that the sequence goes on over a transaction's end. */
  lastSequence: number
  lastOffset: number
  /** Of the marker that came last; −1: not known. */
  markerOffset: number
  offsetDelta: number
  timestampMs: number
  /** Wall time of this process when it last heard of the producer: old record timestamps must not expire it. */
  seenMs: number
  coordinatorEpoch: number
  transactionFirstOffset: number
}

interface CompletedTransaction {
  readonly firstOffset: number
  readonly markerOffset: number
}

/** The fields of a batch header that matter here; record's BatchHeader is one. */
export interface ProducerBatch {
  readonly baseOffset: number
  readonly lastOffset: number
  readonly lastOffsetDelta: number
  readonly maxTimestamp: number
  readonly producerId: number
  readonly producerEpoch: number
  readonly baseSequence: number
  readonly isTransactional: boolean
}

export interface TransactionMarker {
  readonly producerId: number
  readonly producerEpoch: number
  readonly coordinatorEpoch: number
  readonly offset: number
  readonly timestampMs: number
  readonly commit: boolean
}

export interface MarkerCheck {
  readonly producerId: number
  readonly producerEpoch: number
  readonly coordinatorEpoch: number
  readonly transactionVersion: number
}

export class ProducerState {
  #entries: Map<number, ProducerEntry> | undefined
  /** First offsets of open transactions. */
  #open: Map<number, number> | undefined
  /** Ended transactions whose marker may not be below the high watermark yet, by marker offset. */
  #completed: CompletedTransaction[] = []

  get count(): number {
    return this.#entries?.size ?? 0
  }

  summaries(): ProducerSummary[] {
    return [...(this.#entries ?? [])].map(([producerId, entry]) => ({
      producerId,
      producerEpoch: entry.epoch,
      lastSequence: entry.lastSequence,
      lastTimestampMs: entry.timestampMs,
      coordinatorEpoch: entry.coordinatorEpoch,
      currentTransactionFirstOffset: entry.transactionFirstOffset,
    }))
  }

  /** Last offset of a producer's last data batch, for compaction; −1 for one that only has a marker. */
  lastBatchOf(
    producerId: number,
  ): { readonly epoch: number; readonly lastOffset: number } | undefined {
    return this.#entries?.get(producerId)
  }

  /** Whether a transaction of this very epoch is open. */
  isInTransaction(producerId: number, epoch: number): boolean {
    const entry = this.#entries?.get(producerId)
    return entry !== undefined && entry.epoch === epoch && entry.transactionFirstOffset >= 0
  }

  /**
   * The check of a client's batch; changes nothing. Rules: kafka-protocol.md P14, Kafka ProducerAppendInfo.
   */
  check(
    batch: Omit<ProducerBatch, 'baseOffset' | 'lastOffset' | 'maxTimestamp'>,
    transactionVersion = 0,
  ): ProducerCheck {
    if (batch.producerId < 0) return NEW
    const entry = this.#entries?.get(batch.producerId)
    if (entry === undefined) {
      // Each transaction of version 2 has an epoch of its own, so its sequences begin at 0.
      if (transactionVersion < 2 || batch.baseSequence === 0) return NEW
      return refuse(
        'OUT_OF_ORDER_SEQUENCE_NUMBER',
        `a transaction begins at sequence ${batch.baseSequence} instead of 0`,
      )
    }
    if (batch.producerEpoch < entry.epoch) {
      return refuse(
        'INVALID_PRODUCER_EPOCH',
        `producer ${batch.producerId} at epoch ${batch.producerEpoch}, the log has ${entry.epoch}`,
      )
    }
    if (batch.baseSequence < 0) {
      return refuse('OUT_OF_ORDER_SEQUENCE_NUMBER', `sequence ${batch.baseSequence}`)
    }
    if (batch.producerEpoch > entry.epoch) {
      if (batch.baseSequence !== 0) {
        return refuse(
          'OUT_OF_ORDER_SEQUENCE_NUMBER',
          `a new epoch begins at sequence ${batch.baseSequence} instead of 0`,
        )
      }
      return this.#checkTransaction(batch, entry)
    }
    const lastSequence = addSequence(batch.baseSequence, batch.lastOffsetDelta)
    for (const trace of entry.window) {
      if (trace.firstSequence === batch.baseSequence && trace.lastSequence === lastSequence) {
        return { kind: 'duplicate', baseOffset: trace.firstOffset, lastOffset: trace.lastOffset }
      }
    }
    if (batch.baseSequence !== addSequence(entry.lastSequence, 1)) {
      const oldest = entry.window[0]
      const older = oldest !== undefined && isBefore(lastSequence, oldest.firstSequence)
      return refuse(
        older ? 'DUPLICATE_SEQUENCE_NUMBER' : 'OUT_OF_ORDER_SEQUENCE_NUMBER',
        `producer ${batch.producerId} sent sequence ${batch.baseSequence} after ${entry.lastSequence}`,
      )
    }
    return this.#checkTransaction(batch, entry)
  }

  #checkTransaction(
    batch: { readonly isTransactional: boolean },
    entry: ProducerEntry,
  ): ProducerCheck {
    if (!batch.isTransactional && entry.transactionFirstOffset >= 0) {
      return refuse('INVALID_TXN_STATE', 'a batch outside the open transaction of its producer')
    }
    return NEW
  }

  /**
   * Whether a marker may end what its producer has open here (replication.md section 9.3, rule 5). `repeat`: it is in
   * the log already. Refused: it is late, from an older transaction or an older coordinator.
   */
  checkMarker(marker: MarkerCheck): 'append' | 'repeat' | 'refused' {
    const entry = this.#entries?.get(marker.producerId)
    if (entry === undefined || entry.epoch < marker.producerEpoch) return 'append'
    if (marker.coordinatorEpoch < entry.coordinatorEpoch) return 'refused'
    if (entry.epoch > marker.producerEpoch) return 'refused'
    if (entry.transactionFirstOffset < 0) return 'repeat'
    // With version 2 the marker's epoch is above that of the transaction it ends.
    return marker.transactionVersion >= 2 ? 'refused' : 'append'
  }

  /** Whether a data batch is what its producer would write next: then its header is right, as far as anybody here can tell. */
  isContinuedBy(batch: ProducerBatch): boolean {
    const entry = this.#entries?.get(batch.producerId)
    if (entry === undefined || batch.producerEpoch !== entry.epoch) return false
    if (batch.baseSequence !== addSequence(entry.lastSequence, 1)) return false
    return (
      batch.isTransactional === entry.coordinatorEpoch >= 0 || entry.transactionFirstOffset >= 0
    )
  }

  /** A data batch was appended or replayed. It was checked before, or comes from a log that was. */
  append(batch: ProducerBatch, nowMs: number): void {
    if (batch.producerId < 0) return
    const entry = this.#entryFor(batch.producerId)
    if (batch.producerEpoch !== entry.epoch) {
      entry.epoch = batch.producerEpoch
      entry.window = []
      entry.lastSequence = -1
    }
    entry.lastOffset = batch.lastOffset
    entry.offsetDelta = batch.lastOffsetDelta
    entry.timestampMs = batch.maxTimestamp
    entry.seenMs = nowMs
    if (batch.baseSequence >= 0) {
      entry.lastSequence = addSequence(batch.baseSequence, batch.lastOffsetDelta)
      if (entry.window.length === WINDOW_BATCHES) entry.window.shift()
      entry.window.push({
        firstSequence: batch.baseSequence,
        lastSequence: entry.lastSequence,
        firstOffset: batch.baseOffset,
        lastOffset: batch.lastOffset,
      })
    }
    if (batch.isTransactional && entry.transactionFirstOffset < 0) {
      entry.transactionFirstOffset = batch.baseOffset
      this.#open ??= new Map()
      this.#open.set(batch.producerId, batch.baseOffset)
    }
  }

  /**
   * A COMMIT or ABORT marker was appended or replayed.
   * @returns  the aborted transaction for the transaction index, if it aborted one that has data here
   */
  applyMarker(marker: TransactionMarker, nowMs: number): AbortedTransaction | undefined {
    const entry = this.#entryFor(marker.producerId)
    if (marker.producerEpoch !== entry.epoch) {
      entry.epoch = marker.producerEpoch
      entry.lastSequence = -1
      entry.lastOffset = -1
      entry.offsetDelta = 0
    }
    entry.markerOffset = marker.offset
    entry.window = []
    entry.coordinatorEpoch = marker.coordinatorEpoch
    entry.timestampMs = marker.timestampMs
    entry.seenMs = nowMs
    const firstOffset = entry.transactionFirstOffset
    if (firstOffset < 0) return undefined
    entry.transactionFirstOffset = -1
    this.#open?.delete(marker.producerId)
    this.#completed.push({ firstOffset, markerOffset: marker.offset })
    if (marker.commit) return undefined
    return {
      producerId: marker.producerId,
      firstOffset,
      lastOffset: marker.offset,
      lastStableOffset: this.#firstOpenOffset() ?? marker.offset + 1,
    }
  }

  /** Transactions whose marker is below the high watermark are stable. */
  forgetCompletedBelow(highWatermark: number): void {
    while ((this.#completed[0]?.markerOffset ?? Infinity) < highWatermark) this.#completed.shift()
  }

  /** First offset of the oldest transaction that is open, or whose marker is not below `highWatermark`. */
  firstUnstableOffset(highWatermark: number): number | undefined {
    let first = this.#firstOpenOffset()
    for (const completed of this.#completed) {
      if (completed.markerOffset < highWatermark) continue
      if (first === undefined || completed.firstOffset < first) first = completed.firstOffset
    }
    return first
  }

  /** Forgets producers not heard of for so long, but none with an open transaction. */
  expire(nowMs: number, expirationMs: number): void {
    for (const [producerId, entry] of this.#entries ?? []) {
      if (entry.transactionFirstOffset < 0 && nowMs - entry.seenMs >= expirationMs) {
        this.#entries?.delete(producerId)
      }
    }
  }

  /**
   * Batches below `offset` are another cluster's, whose producer ids mean nothing here: a producer of this one that has the
   * same id must not be taken for theirs. Open transactions stay.
   */
  forgetBelow(offset: number): void {
    for (const [producerId, entry] of this.#entries ?? []) {
      if (entry.transactionFirstOffset >= 0) continue
      entry.window = entry.window.filter((trace) => trace.firstOffset >= offset)
      const last = entry.lastOffset < 0 ? entry.markerOffset : entry.lastOffset
      if (last >= 0 && last < offset) this.#entries?.delete(producerId)
    }
  }

  clear(): void {
    this.#entries = undefined
    this.#open = undefined
    this.#completed = []
  }

  encodeSnapshot(): Uint8Array {
    const count = this.count
    const bytes = new Uint8Array(SNAPSHOT_HEAD_BYTES + count * SNAPSHOT_ENTRY_BYTES)
    putInt16(bytes, 0, SNAPSHOT_VERSION)
    putInt32(bytes, 6, count)
    let at = SNAPSHOT_HEAD_BYTES
    for (const [producerId, entry] of this.#entries ?? []) {
      putInt64(bytes, at, producerId)
      putInt16(bytes, at + 8, entry.epoch)
      putInt32(bytes, at + 10, entry.lastSequence)
      // Of a producer that only has a marker: where that is. Its sequence says that there is no batch.
      putInt64(bytes, at + 14, entry.lastOffset < 0 ? entry.markerOffset : entry.lastOffset)
      putInt32(bytes, at + 22, entry.offsetDelta)
      putInt64(bytes, at + 26, entry.timestampMs)
      putInt32(bytes, at + 34, entry.coordinatorEpoch)
      putInt64(bytes, at + 38, entry.transactionFirstOffset)
      at += SNAPSHOT_ENTRY_BYTES
    }
    putInt32(bytes, 2, crc32c(bytes, 6, bytes.length))
    return bytes
  }

  /** @returns undefined for anything but a whole valid snapshot */
  static decodeSnapshot(bytes: Uint8Array, nowMs: number): ProducerState | undefined {
    if (bytes.length < SNAPSHOT_HEAD_BYTES || int16At(bytes, 0) !== SNAPSHOT_VERSION)
      return undefined
    if (crc32c(bytes, 6, bytes.length) !== int32At(bytes, 2) >>> 0) return undefined
    const count = int32At(bytes, 6)
    if (count < 0 || bytes.length !== SNAPSHOT_HEAD_BYTES + count * SNAPSHOT_ENTRY_BYTES) {
      return undefined
    }
    const state = new ProducerState()
    for (let at = SNAPSHOT_HEAD_BYTES; at < bytes.length; at += SNAPSHOT_ENTRY_BYTES) {
      state.#load(bytes, at, nowMs)
    }
    return state
  }

  #load(bytes: Uint8Array, at: number, nowMs: number): void {
    const producerId = int64At(bytes, at)
    const lastSequence = int32At(bytes, at + 10)
    const lastOffset = int64At(bytes, at + 14)
    const offsetDelta = int32At(bytes, at + 22)
    const transactionFirstOffset = int64At(bytes, at + 38)
    const entry = this.#entryFor(producerId)
    entry.epoch = int16At(bytes, at + 8)
    entry.lastSequence = lastSequence
    if (lastSequence < 0) entry.markerOffset = lastOffset
    else entry.lastOffset = lastOffset
    entry.offsetDelta = offsetDelta
    entry.timestampMs = int64At(bytes, at + 26)
    entry.seenMs = nowMs
    entry.coordinatorEpoch = int32At(bytes, at + 34)
    entry.transactionFirstOffset = transactionFirstOffset
    // A transactional producer without an open transaction: a marker came last, and it has emptied the window.
    const ended = entry.coordinatorEpoch >= 0 && transactionFirstOffset < 0
    if (lastOffset >= 0 && lastSequence >= 0 && !ended) {
      entry.window = [
        {
          firstSequence: addSequence(lastSequence, -offsetDelta),
          lastSequence,
          firstOffset: lastOffset - offsetDelta,
          lastOffset,
        },
      ]
    }
    if (transactionFirstOffset >= 0) {
      this.#open ??= new Map()
      this.#open.set(producerId, transactionFirstOffset)
    }
  }

  #entryFor(producerId: number): ProducerEntry {
    this.#entries ??= new Map()
    let entry = this.#entries.get(producerId)
    if (entry === undefined) {
      entry = {
        epoch: -1,
        window: [],
        lastSequence: -1,
        lastOffset: -1,
        markerOffset: -1,
        offsetDelta: 0,
        timestampMs: -1,
        seenMs: 0,
        coordinatorEpoch: -1,
        transactionFirstOffset: -1,
      }
      this.#entries.set(producerId, entry)
    }
    return entry
  }

  #firstOpenOffset(): number | undefined {
    if (this.#open === undefined || this.#open.size === 0) return undefined
    let first = Infinity
    for (const offset of this.#open.values()) if (offset < first) first = offset
    return first
  }
}

const NEW: ProducerCheck = { kind: 'new' }

function refuse(
  code: Extract<ProducerCheck, { kind: 'error' }>['code'],
  detail: string,
): ProducerCheck {
  return { kind: 'error', code, detail }
}

/** Sequences run from 0 to 2^31 − 1 and wrap to 0. */
export function addSequence(sequence: number, delta: number): number {
  assert(Number.isInteger(delta), 'a sequence moves by whole numbers')
  return (((sequence + delta) % SEQUENCE_MODULUS) + SEQUENCE_MODULUS) % SEQUENCE_MODULUS
}

/** Whether `a` comes before `b` on the ring of sequences. */
function isBefore(a: number, b: number): boolean {
  const distance = addSequence(b, -a)
  return distance > 0 && distance < SEQUENCE_MODULUS / 2
}
