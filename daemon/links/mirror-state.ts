/**
 * What becomes of one mirrored partition: a synchronous state machine, told what its source has answered and what its log
 * has, which says what is to be done next. It never awaits; link-run.ts does what it says and tells the outcome.
 *
 *     ready ── fetch ──▶ asked ── rows ──▶ (append | restart | trim) ──▶ ready
 *       ▲                  │ error, damage, disk                           │ too much is not durable
 *       │                  ▼                                               ▼
 *       └── time ──── waiting, diverged                                  held ── committed ──▶ ready
 *
 * Invariants:
 * - An epoch of the source is in the store before the first batch of it is in the log, so the epoch of the last batch is
 *   always known, and asking with it finds every cut at the source.
 * - Nothing that is here is cut: where the source lacks what is here the partition stays as it is and says so (diverged), and
 *   asks again now and then.
 * - An answer counts only while nothing has changed since it was asked for (`turn`).
 */

import { isStreamError } from '../../src/base/errors.ts'
import { KafkaError, kafkaErrorIsRetriable, kafkaErrorName } from '../../src/protocol/errors.ts'
import { baseOffsetAt } from '../../src/record/batch-layout.ts'
import type { SourceEpoch } from '../metadata/link-values.ts'
import { splitSourceBatches } from './source-batches.ts'

export const PAUSE_MS_MIN = 100
export const PAUSE_MS_MAX = 10_000
/** A partition whose source lacks what is here is looked at again so often. */
export const DIVERGED_PAUSE_MS = 30_000
/** Appended and not committed yet. */
const UNCOMMITTED_BYTES_MAX = 32 * 1024 * 1024

/** One partition of a Fetch answer. */
export interface SourceRow {
  readonly errorCode: number
  readonly lastStableOffset: number
  readonly highWatermark: number
  readonly logStartOffset: number
  readonly divergingEpoch: { readonly epoch: number; readonly endOffset: number }
  readonly records: Uint8Array | null
}

export interface LogPlace {
  readonly logStartOffset: number
  readonly logEndOffset: number
}

export type MirrorStep =
  | { readonly kind: 'none' }
  /** `epochs` must be in the store before, where there are any; undefined: they are. */
  | {
      readonly kind: 'append'
      readonly batches: readonly Uint8Array[]
      readonly bytes: number
      readonly epochs: readonly SourceEpoch[] | undefined
    }
  /** Drop everything and begin at `offset`, with these batches if there are any. */
  | {
      readonly kind: 'restart'
      readonly offset: number
      readonly batches: readonly Uint8Array[]
      readonly bytes: number
      readonly epochs: readonly SourceEpoch[] | undefined
    }
  /** Ask the source where its log starts and ends, and say it to `ranged`. */
  | { readonly kind: 'askRange' }
  /** The source's leaders have changed. */
  | { readonly kind: 'refresh' }

export type MirrorPhase = 'ready' | 'asked' | 'busy' | 'held' | 'waiting' | 'diverged'

const NO_BYTES = new Uint8Array(0)
const NONE: MirrorStep = { kind: 'none' }

export class MirrorState {
  #phase: MirrorPhase = 'ready'
  #epochs: readonly SourceEpoch[]
  #turn = 0
  /** Where the source's log starts, behind everything that is here; undefined: it goes on where this log ends. */
  #from: number | undefined
  #untilMs = 0
  #pauseMs = PAUSE_MS_MIN
  #uncommittedBytes = 0
  #sourceEnd = -1
  #sourceStart = -1
  #levelMs: number
  #heardMs: number | undefined
  #error: string | undefined

  constructor(epochs: readonly SourceEpoch[], nowMs: number) {
    this.#epochs = epochs
    this.#levelMs = nowMs
  }

  get phase(): MirrorPhase {
    return this.#phase
  }

  get epochs(): readonly SourceEpoch[] {
    return this.#epochs
  }

  /** The source's last stable offset as heard last; −1: not heard of yet. */
  get sourceEnd(): number {
    return this.#sourceEnd
  }

  /** The source's log start as heard last; −1: not heard of yet. */
  get sourceStart(): number {
    return this.#sourceStart
  }

  /** What keeps it from going on; undefined: nothing. */
  get error(): string | undefined {
    return this.#error
  }

  /** When `waiting` and `diverged` end. */
  get untilMs(): number {
    return this.#untilMs
  }

  /** Since when there has been something that is not here; the present time where there is nothing. */
  levelSinceMs(logEndOffset: number, nowMs: number): number {
    if (this.#sourceEnd >= 0 && logEndOffset >= this.#sourceEnd) return nowMs
    return this.#levelMs
  }

  /** −1: the source was not heard of yet. */
  heardAgoMs(nowMs: number): number {
    return this.#heardMs === undefined ? -1 : Math.ceil(nowMs - this.#heardMs)
  }

  /** What is asked for next. */
  fetchOffset(log: LogPlace): number {
    return this.#from ?? log.logEndOffset
  }

  /** The source's epoch of the last batch here, for the next fetch; −1: none is known, or it does not go on from there. */
  lastEpochAt(logEndOffset: number): number {
    if (this.#from !== undefined) return -1
    return this.#epochs.findLast(({ startOffset }) => startOffset < logEndOffset)?.epoch ?? -1
  }

  /** @returns whether it may be asked for */
  isReady(nowMs: number): boolean {
    const isOver = this.#phase === 'waiting' || this.#phase === 'diverged'
    if (isOver && nowMs >= this.#untilMs) this.#phase = 'ready'
    return this.#phase === 'ready'
  }

  /** @returns the turn that the answer has to name */
  ask(): number {
    this.#phase = 'asked'
    this.#turn += 1
    return this.#turn
  }

  /** An answer has come that may not count any more. */
  isTurn(turn: number): boolean {
    return this.#phase === 'asked' && turn === this.#turn
  }

  /** The request failed, nothing is known. */
  unanswered(turn: number): void {
    if (this.isTurn(turn)) this.#phase = 'ready'
  }

  take(row: SourceRow, log: LogPlace, nowMs: number): MirrorStep {
    if (row.errorCode !== 0) return this.#takeError(row.errorCode, nowMs)
    this.#sourceEnd = row.lastStableOffset >= 0 ? row.lastStableOffset : row.highWatermark
    this.#sourceStart = row.logStartOffset
    this.#heardMs = nowMs
    if (row.divergingEpoch.endOffset >= 0) {
      const { epoch, endOffset } = row.divergingEpoch
      const cut = Math.min(endOffset, log.logEndOffset)
      return this.#diverge(
        `the source was cut back to offset ${cut} (leader epoch ${epoch}); here are records to ${log.logEndOffset}`,
        nowMs,
      )
    }
    try {
      return this.#takeRecords(row.records ?? NO_BYTES, log, nowMs)
    } catch (error) {
      if (!isStreamError(error)) throw error
      this.fail(error, nowMs)
      return NONE
    }
  }

  #takeRecords(records: Uint8Array, log: LogPlace, nowMs: number): MirrorStep {
    const from = this.fetchOffset(log)
    // Those beyond are of batches that a leader before this one has not appended any more; the source may have others there now.
    const known = this.#epochs.filter(({ startOffset }) => startOffset < from)
    const latest = known.at(-1)?.epoch ?? -1
    const { batches, bytes, newEpochs } = splitSourceBatches(records, from, this.#sourceEnd, latest)
    const isKnown = newEpochs.length === 0 && known.length === this.#epochs.length
    const found = { batches, bytes, epochs: isKnown ? undefined : [...known, ...newEpochs] }
    const first = batches[0]
    const baseOffset = first === undefined ? from : baseOffsetAt(first, 0)
    if (this.#from === undefined) {
      if (first === undefined) return this.#level(log, nowMs)
      if (baseOffset < from) return this.#insideBatch(baseOffset, log, nowMs)
      this.#phase = 'busy'
      return { kind: 'append', ...found }
    }
    // A batch may begin before the log start, and is taken whole, as followers do.
    const offset = Math.min(baseOffset, from)
    if (offset < log.logEndOffset) return this.#insideBatch(offset, log, nowMs)
    if (first === undefined && this.#sourceEnd !== from) return this.#level(log, nowMs)
    this.#phase = 'busy'
    return { kind: 'restart', offset, ...found }
  }

  #insideBatch(baseOffset: number, log: LogPlace, nowMs: number): MirrorStep {
    return this.#diverge(
      `offset ${log.logEndOffset} lies inside of a batch of the source that begins at ${baseOffset}`,
      nowMs,
    )
  }

  /** Where the source's log starts and ends (its high watermark). */
  ranged(start: number, end: number, log: LogPlace, nowMs: number): MirrorStep {
    if (start > log.logEndOffset) {
      this.#from = start
      this.#phase = 'ready'
      return NONE
    }
    if (end < log.logEndOffset) {
      return this.#diverge(
        `the source ends at offset ${end}; here are records to ${log.logEndOffset}`,
        nowMs,
      )
    }
    return this.#wait(`the source does not serve offset ${log.logEndOffset} yet`, nowMs)
  }

  /** The epochs are in the store. */
  learned(epochs: readonly SourceEpoch[]): void {
    this.#epochs = epochs
  }

  /** What was asked for is in the log. @param bytes  that are not committed yet */
  done(bytes: number, log: LogPlace, nowMs: number): void {
    this.#uncommittedBytes += bytes
    if (this.#from !== undefined && log.logEndOffset >= this.#from) this.#from = undefined
    this.#pauseMs = PAUSE_MS_MIN
    this.#error = undefined
    this.#phase = this.#uncommittedBytes > UNCOMMITTED_BYTES_MAX ? 'held' : 'ready'
    if (log.logEndOffset >= this.#sourceEnd) this.#levelMs = nowMs
  }

  committed(bytes: number): void {
    this.#uncommittedBytes -= bytes
    if (this.#phase === 'held' && this.#uncommittedBytes <= UNCOMMITTED_BYTES_MAX / 2) {
      this.#phase = 'ready'
    }
  }

  /** It is tried again after a pause. */
  fail(error: unknown, nowMs: number): void {
    this.#wait(error instanceof Error ? error.message : String(error), nowMs)
  }

  /** Not the topic it was mirrored from, or none: told, and looked at again. */
  refuse(reason: string, nowMs: number): void {
    this.#diverge(reason, nowMs)
  }

  #takeError(code: number, nowMs: number): MirrorStep {
    switch (code) {
      case KafkaError.OFFSET_OUT_OF_RANGE:
        this.#phase = 'busy'
        return { kind: 'askRange' }
      case KafkaError.FENCED_LEADER_EPOCH:
      case KafkaError.UNKNOWN_LEADER_EPOCH:
      case KafkaError.NOT_LEADER_OR_FOLLOWER:
        this.#wait(`the source's leader is changing (${kafkaErrorName(code)})`, nowMs)
        return { kind: 'refresh' }
      default: {
        const what = kafkaErrorIsRetriable(code) ? 'the source answers' : 'the source refuses'
        this.#wait(`${what}: ${kafkaErrorName(code)}`, nowMs)
        return { kind: 'refresh' }
      }
    }
  }

  #level(log: LogPlace, nowMs: number): MirrorStep {
    this.done(0, log, nowMs)
    return NONE
  }

  #wait(reason: string, nowMs: number): MirrorStep {
    this.#error = reason
    this.#phase = 'waiting'
    this.#untilMs = nowMs + this.#pauseMs
    this.#pauseMs = Math.min(PAUSE_MS_MAX, this.#pauseMs * 2)
    return NONE
  }

  #diverge(reason: string, nowMs: number): MirrorStep {
    this.#error = reason
    this.#phase = 'diverged'
    this.#untilMs = nowMs + DIVERGED_PAUSE_MS
    return NONE
  }
}
