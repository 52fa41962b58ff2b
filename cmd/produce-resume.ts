/**
 * A resumable import (`produce --resume ID`): the input goes into the topic in chunks, each one transaction that holds its
 * records and the input position behind them. A rerun reads up to that position, checks that it is the same input, and
 * sends what comes after it.
 *
 * Invariants:
 * - A transaction holds whole records, and the position behind the last of them: what is committed is the input up to
 *   there, each record once.
 * - A new owner of the id fences the one before, and reads the position only after that one's transaction is settled.
 * - Nothing waits in an open transaction for input that does not come: after CHUNK_AGE_MS it is committed as it is.
 */

import { createHash, type Hash } from 'node:crypto'
import { StreamError } from '../src/base/errors.ts'
import type { Time, Timer } from '../src/ports/time.ts'
import type { ProduceResume } from './produce-plan.ts'
import type { Sink } from './produce-sink.ts'
import type { RecordErrors } from './record-errors.ts'

/** Readers of the topic wait for an open transaction. */
const CHUNK_AGE_MS = 1000
/** Where nothing tells how long the next record is. */
const SLICE_BYTES_MIN = 4096

/** Where the input stands, behind a whole record. */
export interface InputPosition {
  /** Of all inputs in order, unpacked. */
  readonly bytes: number
  /** Records, those in error included. */
  readonly lines: number
  /** SHA-256 of all bytes before it, base64. */
  readonly hash: string
  /** The last record had no end of its own: the input ended there. */
  readonly isOpen: boolean
}

export interface ResumeParts {
  readonly time: Time
  readonly id: string
  readonly limits: ProduceResume
  readonly errors: RecordErrors
  /** Records appended in this run. */
  readonly appendedCount: () => number
  /** Where an earlier run has come to. */
  readonly from: InputPosition | undefined
  /** What may still come behind a record that the input ended in. */
  readonly delimiter: Uint8Array | undefined
  /** `delimiter` ends each record, and nothing else does. */
  readonly isDelimited: boolean
  /** Commits what was appended, together with the position, and begins anew. */
  readonly commit: (position: InputPosition) => Promise<void>
  /** A commit has failed while the input was idle. */
  readonly onFailure: (error: unknown) => void
}

export class ResumeSink implements Sink {
  readonly #sink: Sink
  readonly #parts: ResumeParts
  /** Of all bytes fed; `#mark` is its state at the position. */
  readonly #hash: Hash = createHash('sha256')
  #mark: Hash
  #fedBytes = 0
  /** The last place behind a whole record. */
  #position = 0
  #lines = 0
  #isOpen = false
  /** What is committed. */
  #committedBytes: number
  #chunkBytes = 0
  #chunkLines = 0
  /** The position of the earlier run is reached. */
  #isLive: boolean
  /** How many bytes of the end of the last record of the earlier run are still to come; -1: none is expected. */
  #endingAt = -1
  #isCommitDue = false
  #commit: Promise<void> | undefined
  #timer: Timer | undefined
  #hadOpenRecord = false
  /** A record was taken that waits for room: how many are behind the position is not known by counting. */
  #isRecordWaiting = false
  #isPlaceLost = false

  constructor(sink: Sink, parts: ResumeParts) {
    this.#sink = sink
    this.#parts = parts
    this.#mark = this.#hash.copy()
    const { from } = parts
    this.#isLive = from === undefined || from.bytes === 0
    this.#committedBytes = from?.bytes ?? -1
    this.#lines = from?.lines ?? 0
    this.#chunkLines = this.#lines
  }

  get openBytes(): number | undefined {
    return this.#sink.openBytes
  }

  get isRecordWaiting(): boolean {
    return this.#sink.isRecordWaiting
  }

  get isBlocked(): boolean {
    return this.#isCommitDue || this.#commit !== undefined || this.#sink.isBlocked
  }

  async ready(): Promise<void> {
    if (this.#commit !== undefined) await this.#commit
    else if (this.#sink.isBlocked) await this.#sink.ready()
    else if (this.#isCommitDue) await this.#startCommit()
  }

  feed(chunk: Uint8Array, start: number, end: number): number {
    if (this.#commit !== undefined || (this.#isCommitDue && !this.#sink.isBlocked)) return start
    let at = this.#isLive ? start : this.#verify(chunk, start, end)
    if (this.#endingAt >= 0) at = this.#takeEnding(chunk, at, end)
    if (at === end && !this.#sink.isBlocked) return at
    do {
      at = this.#feedSlice(chunk, at, this.#sliceEnd(chunk, at, end))
      if (this.#sink.isBlocked) break
      this.#isCommitDue ||= this.#isChunkFull() && this.#isPlaceKnown()
    } while (at < end && !this.#isCommitDue)
    this.#watchAge()
    return at
  }

  /** One input is over. @returns false while something must be waited for */
  finish(): boolean {
    this.#endingAt = -1
    if (!this.#isLive) return true
    if (this.#isCommitDue || this.#commit !== undefined) {
      // What is appended now would come behind the position.
      if (!this.#sink.isBlocked || this.#commit !== undefined) return false
    }
    this.#hadOpenRecord ||= this.#sink.openBytes !== 0
    if (!this.#sink.finish()) return false
    if (this.#fedBytes !== this.#position || this.#hadOpenRecord) {
      this.#moveTo(this.#fedBytes, this.#hash.copy())
      this.#isOpen = this.#hadOpenRecord
    }
    this.#hadOpenRecord = false
    this.#isCommitDue ||= this.#isChunkFull()
    return true
  }

  drop(): number {
    return this.#sink.drop()
  }

  /** All inputs are over. @throws StreamError CONFLICT: they are shorter than what was sent of them before */
  checkEnd(): void {
    const { from } = this.#parts
    if (this.#isLive || from === undefined) return
    throw this.#conflict(
      `the input ends after ${this.#fedBytes} bytes, but ${from.bytes} were sent of it before`,
    )
  }

  /**
   * Commits what is whole, if its place in the input is known; what is in the transaction after this is to be given up.
   * @throws as ResumeParts.commit
   */
  async commitRest(): Promise<void> {
    this.#timer?.cancel()
    if (this.#commit !== undefined) await this.#commit
    if (this.#isPlaceLost || !this.#isPlaceKnown()) return
    if (this.#isLive && this.#position !== this.#committedBytes) await this.#startCommit()
    this.#timer?.cancel()
  }

  // --- the part that was sent before

  /** @returns where it ends @throws StreamError CONFLICT */
  #verify(chunk: Uint8Array, start: number, end: number): number {
    const { from, errors } = this.#parts
    if (from === undefined) return start
    const at = Math.min(end, start + from.bytes - this.#fedBytes)
    this.#hash.update(chunk.subarray(start, at))
    this.#fedBytes += at - start
    if (this.#fedBytes < from.bytes) return end
    if (this.#hash.copy().digest('base64') !== from.hash) {
      throw this.#conflict(
        `the input is another one than before: its first ${from.bytes} bytes (${from.lines} records) have changed`,
      )
    }
    this.#isLive = true
    this.#position = from.bytes
    this.#mark = this.#hash.copy()
    this.#isOpen = from.isOpen
    this.#endingAt = from.isOpen ? 0 : -1
    errors.startAt(from.lines)
    return at
  }

  /** The input has grown behind a record that it ended in: the end of that record must come first. */
  #takeEnding(chunk: Uint8Array, start: number, end: number): number {
    const { delimiter } = this.#parts
    let at = start
    while (at < end && this.#endingAt >= 0) {
      if (delimiter === undefined || chunk[at] !== delimiter[this.#endingAt]) {
        throw this.#conflict(
          'the last record of the earlier run had no end, and has gone on since: it was sent as it was',
        )
      }
      at += 1
      this.#endingAt += 1
      if (this.#endingAt === delimiter.length) this.#endingAt = -1
    }
    this.#fedBytes += at - start
    this.#hash.update(chunk.subarray(start, at))
    if (this.#endingAt < 0) this.#moveTo(this.#fedBytes, this.#hash.copy())
    return at
  }

  #conflict(message: string): StreamError {
    const { id } = this.#parts
    return new StreamError('CONFLICT', `--resume ${id}: ${message}`, {
      target: id,
      hint: 'to send all of it again: --restart; for another input: another ID',
    })
  }

  // --- chunks

  /** So much that the chunk's limits are not passed, as far as that can be known. */
  #sliceEnd(chunk: Uint8Array, at: number, end: number): number {
    if (this.#isCommitDue) return at
    const { records, bytes } = this.#parts.limits
    const room = Math.max(SLICE_BYTES_MIN, bytes - (this.#fedBytes - this.#chunkBytes))
    const limit = Math.min(end, at + room)
    const left = Math.max(1, records - (this.#seenLines() - this.#chunkLines))
    // No record is shorter than a byte.
    if (limit - at <= left) return limit
    const { delimiter, isDelimited } = this.#parts
    if (!isDelimited || delimiter?.length !== 1) return at + left
    return afterDelimiters(chunk, at, limit, delimiter[0], left)
  }

  #feedSlice(chunk: Uint8Array, start: number, end: number): number {
    let next: number
    try {
      next = this.#sink.feed(chunk, start, end)
    } catch (error) {
      this.#placeFailure(chunk, start, end)
      throw error
    }
    const before = this.#fedBytes
    this.#fedBytes += next - start
    this.#isRecordWaiting = this.#sink.isRecordWaiting
    const open = this.#isRecordWaiting ? undefined : this.#sink.openBytes
    const position = open === undefined ? -1 : this.#fedBytes - open
    if (position < before || (position === this.#position && next === start)) {
      this.#hash.update(chunk.subarray(start, next))
      return next
    }
    const cut = start + (position - before)
    this.#hash.update(chunk.subarray(start, cut))
    this.#moveTo(position, this.#hash.copy())
    this.#hash.update(chunk.subarray(cut, next))
    return next
  }

  /** A record ends the run: what was appended before it may be committed, if its place is known. */
  #placeFailure(chunk: Uint8Array, start: number, end: number): void {
    const { delimiter, isDelimited } = this.#parts
    const count = this.#seenLines() - this.#lines
    if (count === 0) return
    this.#isPlaceLost = !isDelimited || delimiter?.length !== 1 || this.#isRecordWaiting
    if (delimiter === undefined || this.#isPlaceLost) return
    const place = afterDelimiters(chunk, start, end, delimiter[0], count)
    this.#hash.update(chunk.subarray(start, place))
    this.#moveTo(this.#fedBytes + place - start, this.#hash.copy())
  }

  #seenLines(): number {
    return this.#parts.errors.linesThrough(this.#parts.appendedCount())
  }

  #moveTo(position: number, mark: Hash): void {
    this.#position = position
    this.#mark = mark
    this.#lines = this.#seenLines()
    this.#isOpen = false
  }

  /** Nothing was appended that lies behind the position. */
  #isPlaceKnown(): boolean {
    return this.#seenLines() === this.#lines
  }

  #isChunkFull(): boolean {
    const { records, bytes } = this.#parts.limits
    return (
      this.#position > this.#chunkBytes &&
      (this.#lines - this.#chunkLines >= records || this.#fedBytes - this.#chunkBytes >= bytes)
    )
  }

  #watchAge(): void {
    if (this.#timer !== undefined || this.#position <= this.#chunkBytes) return
    this.#timer = this.#parts.time.setTimer(CHUNK_AGE_MS, () => {
      this.#timer = undefined
      if (this.#commit !== undefined || this.#position <= this.#chunkBytes) return
      // A record that waits for room is not in the transaction, and may not be behind the position.
      if (this.#sink.isBlocked) this.#isCommitDue = true
      else if (this.#isPlaceKnown()) this.#startCommit().catch(this.#parts.onFailure)
    })
  }

  #startCommit(): Promise<void> {
    this.#timer?.cancel()
    this.#timer = undefined
    const position: InputPosition = {
      bytes: this.#position,
      lines: this.#lines,
      hash: this.#mark.copy().digest('base64'),
      isOpen: this.#isOpen,
    }
    const run = this.#parts.commit(position).then(() => {
      this.#committedBytes = position.bytes
      this.#chunkBytes = position.bytes
      this.#chunkLines = position.lines
      this.#isCommitDue = false
      this.#commit = undefined
    })
    this.#commit = run
    return run
  }
}

/** The place behind the `count`-th delimiter, `end` if there are not so many. */
function afterDelimiters(
  chunk: Uint8Array,
  start: number,
  end: number,
  delimiter: number | undefined,
  count: number,
): number {
  let at = start
  for (let left = count; left > 0 && delimiter !== undefined; left -= 1) {
    const found = chunk.indexOf(delimiter, at)
    if (found < 0 || found >= end) return end
    at = found + 1
  }
  return at
}
