/**
 * Parts of batches as the broker stored them: what an epoch is made of. They are kept by reference until the epoch is
 * resolved, so that a retry, a half of a bisection and a dead letter are made of the very same records.
 */

import type { RecordsEvent } from '../src/client/consumer-events.ts'
import {
  baseOffsetAt,
  batchBytesAt,
  lastOffsetAt,
  recordCountAt,
} from '../src/record/batch-layout.ts'
import { RecordCursor } from '../src/record/record-cursor.ts'

/** The records of one batch with first ≤ offset ≤ last; at least one. */
export interface Piece {
  readonly bytes: Uint8Array
  /** Where its batch begins in `bytes`. */
  readonly at: number
  /** Offsets of its first and its last record. */
  readonly first: number
  readonly last: number
  readonly records: number
  /** Its share of the batch, as stored. */
  readonly sizeBytes: number
}

/** @throws StreamError CORRUPT_BATCH, UNSUPPORTED_COMPRESSION … of a batch with gaps, which has to be looked through */
export function piecesOf(event: RecordsEvent): Piece[] {
  const pieces: Piece[] = []
  for (const at of event.batches) {
    const piece = slice(event.bytes, at, event.fromOffset, event.untilOffset - 1)
    if (piece !== undefined) pieces.push(piece)
  }
  return pieces
}

/** The first `count` records, fewer than there are, and the others. */
export function splitPiece(piece: Piece, count: number): readonly [Piece, Piece] {
  const { bytes, at, first, last } = piece
  const middle = isDense(bytes, at) ? first + count : offsetOfRecord(piece, count)
  const left = slice(bytes, at, first, middle - 1)
  const right = slice(bytes, at, middle, last)
  if (left === undefined || right === undefined) throw new Error('a piece is split between records')
  return [left, right]
}

/** Records before `offset` and from it on; either may be none. */
export function splitPieceAt(
  piece: Piece,
  offset: number,
): readonly [Piece | undefined, Piece | undefined] {
  const { bytes, at, first, last } = piece
  return [
    slice(bytes, at, first, Math.min(last, offset - 1)),
    slice(bytes, at, Math.max(first, offset), last),
  ]
}

/** No offset of the batch is missing. */
function isDense(bytes: Uint8Array, at: number): boolean {
  return lastOffsetAt(bytes, at) - baseOffsetAt(bytes, at) + 1 === recordCountAt(bytes, at)
}

function slice(bytes: Uint8Array, at: number, from: number, through: number): Piece | undefined {
  let first = Math.max(from, baseOffsetAt(bytes, at))
  let last = Math.min(through, lastOffsetAt(bytes, at))
  if (last < first) return undefined
  let records = last - first + 1
  if (!isDense(bytes, at)) {
    const cursor = new RecordCursor()
    cursor.reset(bytes, at)
    records = 0
    const [low, high] = [first, last]
    while (cursor.next()) {
      if (cursor.offset < low || cursor.offset > high) continue
      if (records === 0) first = cursor.offset
      last = cursor.offset
      records += 1
    }
    if (records === 0) return undefined
  }
  const share = records / Math.max(1, recordCountAt(bytes, at))
  return { bytes, at, first, last, records, sizeBytes: Math.ceil(batchBytesAt(bytes, at) * share) }
}

function offsetOfRecord(piece: Piece, index: number): number {
  const cursor = new RecordCursor()
  cursor.reset(piece.bytes, piece.at)
  let seen = 0
  while (cursor.next()) {
    if (cursor.offset < piece.first) continue
    if (seen === index) return cursor.offset
    seen += 1
  }
  throw new Error('a piece is split between its records')
}

/** Walks the records of pieces in order, without an object a record. */
export class PieceCursor {
  /** Stands on the record that next() moved to. */
  readonly record = new RecordCursor()
  #pieces: readonly Piece[] = []
  #index = 0
  #piece: Piece | undefined

  /** Goes before the first record. */
  reset(pieces: readonly Piece[]): void {
    this.#pieces = pieces
    this.#index = 0
    this.#piece = undefined
  }

  /** @returns false after the last record */
  next(): boolean {
    for (;;) {
      const piece = this.#piece ?? this.#open()
      if (piece === undefined) return false
      while (this.record.next()) {
        if (this.record.offset < piece.first) continue
        if (this.record.offset > piece.last) break
        return true
      }
      this.#piece = undefined
    }
  }

  #open(): Piece | undefined {
    const piece = this.#pieces[this.#index]
    if (piece === undefined) return undefined
    this.#index += 1
    this.#piece = piece
    this.record.reset(piece.bytes, piece.at)
    return piece
  }
}
