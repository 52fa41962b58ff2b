/**
 * Which records make an epoch, and which epoch may start (commands.md, section 5 pipe): the partitions' machine. It is
 * synchronous and knows neither processes nor brokers; the driver tells it what came and what became of what it gave.
 *
 * Invariants:
 * - The epochs of a partition are given out in offset order, one at a time; the next one only after the one before was
 *   `done`, so never beside a retry or a bisection.
 * - Every record that was taken is in exactly one epoch; epochs lie without gaps: each begins where the one before ended.
 * - A retry is the same epoch, with the same range and id. A half lies within its parent.
 * - What is held is bounded: a partition that has an epoch's worth waiting, or any where all of them together have
 *   PENDING_BYTES_MAX, is to be paused.
 * - At most UNCOMMITTED_MAX epochs of a partition are done and not committed.
 */

import { assert } from '../src/base/assert.ts'
import type { RecordsEvent } from '../src/client/consumer-events.ts'
import { type Piece, piecesOf, splitPiece, splitPieceAt } from './pipe-pieces.ts'

/** An offset range of one partition, read by one run of the child. */
export interface Epoch {
  readonly topic: string
  readonly partition: number
  readonly pieces: readonly Piece[]
  /** None: only a position moves, and no child is run. */
  readonly records: number
  readonly sizeBytes: number
  /** Where the epoch before it ended. */
  readonly startOffset: number
  /** Of its first and its last record; of an empty one: where it begins, and one before. */
  readonly first: number
  readonly last: number
  /** The position that is committed with it. */
  readonly endOffset: number
  /** The epoch it is a half of. */
  readonly parent: Epoch | undefined
  /** From 1; rises with each retry. */
  attempt: number
}

export interface EpochLimits {
  records: number
  readonly bytes: number
  /** From the first record's arrival. */
  readonly ms: number
}

export interface EpochOptions {
  readonly limits: EpochLimits
  /** Records of the whole run; then every partition counts as ended. */
  readonly countMax: number
  /** An epoch is given out as soon as there is a record, not when it is full: long-lived children are fed so. */
  readonly isEager: boolean
  /** Undefined: any lane runs any partition. Else so many, and a partition stays in its lane. */
  readonly stickyLanes: number | undefined
  /** Epochs of a partition that may be done and not committed; default UNCOMMITTED_MAX. */
  readonly uncommittedMax?: number
}

/** Over all partitions. */
const PENDING_BYTES_MAX = 64 * 1024 * 1024
const UNCOMMITTED_MAX = 2

interface Part {
  readonly topic: string
  readonly partition: number
  readonly lane: number
  /** Taken and in no epoch yet. */
  pieces: Piece[]
  records: number
  bytes: number
  /** When the first of them came. */
  openedMs: number
  /** Where the next epoch begins, and where what was taken ends. */
  cutOffset: number
  nextOffset: number
  /** Retries and halves, in offset order: they come first. */
  planned: Epoch[]
  notBeforeMs: number
  running: Epoch | undefined
  uncommitted: number
  hasEnded: boolean
  isLeaving: boolean
  /** The next epoch must end right there: it was begun by an earlier run. */
  fixedEnd: number | undefined
}

export class PipeEpochs {
  readonly #options: EpochOptions
  /** In the order in which they have their turn: who had one goes to the back. */
  readonly #parts = new Map<string, Part>()
  #recordsLeft: number
  #pendingBytes = 0
  #isDraining = false
  #assigned = 0

  constructor(options: EpochOptions) {
    this.#options = options
    this.#recordsLeft = options.countMax
  }

  get limits(): EpochLimits {
    return this.#options.limits
  }

  /** @param fixedEnd  where the first epoch must end, as an earlier run recorded it */
  add(topic: string, partition: number, startOffset: number, fixedEnd?: number): void {
    const lane = this.#assigned % (this.#options.stickyLanes ?? 1)
    this.#assigned += 1
    this.#parts.set(nameOf(topic, partition), {
      topic,
      partition,
      lane,
      pieces: [],
      records: 0,
      bytes: 0,
      openedMs: 0,
      cutOffset: startOffset,
      nextOffset: startOffset,
      planned: [],
      notBeforeMs: Number.NEGATIVE_INFINITY,
      running: undefined,
      uncommitted: 0,
      hasEnded: false,
      isLeaving: false,
      fixedEnd,
    })
  }

  /** @throws StreamError as piecesOf; nothing was taken then */
  take(event: RecordsEvent, nowMs: number): void {
    const part = this.#parts.get(nameOf(event.topic, event.partition))
    if (part === undefined || part.hasEnded) return
    for (const piece of piecesOf(event)) {
      const taken =
        piece.records <= this.#recordsLeft
          ? piece
          : this.#recordsLeft > 0
            ? splitPiece(piece, this.#recordsLeft)[0]
            : undefined
      if (taken === undefined) break
      if (part.records === 0) part.openedMs = nowMs
      part.pieces.push(taken)
      part.records += taken.records
      part.bytes += taken.sizeBytes
      this.#pendingBytes += taken.sizeBytes
      this.#recordsLeft -= taken.records
      part.nextOffset = taken.last + 1
      if (taken !== piece) break
    }
    if (this.#recordsLeft > 0) part.nextOffset = event.nextOffset
    else for (const each of this.#parts.values()) each.hasEnded = true
  }

  /** Nothing of the partition lies below `offset` any more that was not taken. */
  skip(topic: string, partition: number, offset: number): void {
    const part = this.#parts.get(nameOf(topic, partition))
    if (part !== undefined && !part.hasEnded) part.nextOffset = Math.max(part.nextOffset, offset)
  }

  /** Nothing more comes of it. */
  end(topic: string, partition: number, offset: number): void {
    this.skip(topic, partition, offset)
    const part = this.#parts.get(nameOf(topic, partition))
    if (part !== undefined) part.hasEnded = true
  }

  /** --count is reached: nothing more is wanted of any partition. */
  get isCounted(): boolean {
    return this.#recordsLeft <= 0
  }

  /** No further epoch starts; what runs may end. */
  drain(): void {
    this.#isDraining = true
  }

  /**
   * The epoch that may start now.
   * @param lane  with sticky lanes: whose turn it is
   */
  next(nowMs: number, lane = 0): Epoch | undefined {
    if (this.#isDraining) return undefined
    for (const [name, part] of this.#parts) {
      if (part.running !== undefined || part.isLeaving || part.notBeforeMs > nowMs) continue
      if (part.uncommitted >= (this.#options.uncommittedMax ?? UNCOMMITTED_MAX)) continue
      if (this.#options.stickyLanes !== undefined && part.lane !== lane) continue
      const epoch = part.planned.shift() ?? (this.#isDue(part, nowMs) ? this.#cut(part) : undefined)
      if (epoch === undefined) continue
      part.running = epoch
      this.#parts.delete(name)
      this.#parts.set(name, part)
      return epoch
    }
    return undefined
  }

  /** When next() may have something that it has not now; undefined: when something else happens. */
  wakeAtMs(nowMs: number): number | undefined {
    let wakeMs = Number.POSITIVE_INFINITY
    for (const part of this.#parts.values()) {
      if (part.running !== undefined || part.isLeaving) continue
      const dueMs = part.planned.length > 0 ? part.notBeforeMs : part.openedMs + this.limits.ms
      // What is due already waits for a lane or a transaction.
      if ((part.planned.length > 0 || part.records > 0) && dueMs > nowMs) {
        wakeMs = Math.min(wakeMs, dueMs)
      }
    }
    return wakeMs === Number.POSITIVE_INFINITY ? undefined : wakeMs
  }

  /** The partition is still ours: what became of the epoch counts. */
  holds(epoch: Epoch): boolean {
    return this.#parts.get(nameOf(epoch.topic, epoch.partition))?.running === epoch
  }

  /** Its results wait for their transaction. */
  done(epoch: Epoch): void {
    const part = this.#running(epoch)
    part.running = undefined
    part.uncommitted += 1
  }

  /** @returns whether the partition is still ours */
  committed(epoch: Epoch): boolean {
    const part = this.#parts.get(nameOf(epoch.topic, epoch.partition))
    if (part === undefined || part.uncommitted === 0) return false
    part.uncommitted -= 1
    return true
  }

  /** An epoch that is done as its first `count` records and the others, each to be committed by itself. */
  divide(epoch: Epoch, count: number): readonly [Epoch, Epoch] {
    const part = this.#parts.get(nameOf(epoch.topic, epoch.partition))
    if (part !== undefined) part.uncommitted += 1
    const [left, right] = halve(epoch.pieces, count)
    const middle = (right[0] as Piece).first
    const place = { topic: epoch.topic, partition: epoch.partition }
    return [
      makeEpoch(place, left, { start: epoch.startOffset, end: middle }, epoch.parent),
      makeEpoch(place, right, { start: middle, end: epoch.endOffset }, epoch.parent),
    ]
  }

  /** Epochs that were done are not after all: all but the first wait for another attempt, the first counts as running. */
  reopen(epochs: readonly Epoch[]): void {
    const first = epochs[0]
    for (const epoch of epochs) {
      const part = this.#parts.get(nameOf(epoch.topic, epoch.partition))
      if (part === undefined) continue
      part.uncommitted = Math.max(0, part.uncommitted - 1)
      if (epoch !== first) this.#plan(part, epoch)
      else {
        if (part.running !== undefined) this.#plan(part, part.running)
        part.running = epoch
      }
    }
  }

  /** An epoch that runs waits for another attempt, without fault. */
  giveBack(epoch: Epoch): void {
    const part = this.#running(epoch)
    part.running = undefined
    this.#plan(part, epoch)
  }

  #plan(part: Part, epoch: Epoch): void {
    part.planned.push(epoch)
    part.planned.sort((left, right) => left.startOffset - right.startOffset)
  }

  /** The same epoch again, not before that time. */
  retry(epoch: Epoch, notBeforeMs: number): void {
    const part = this.#running(epoch)
    part.running = undefined
    part.notBeforeMs = notBeforeMs
    epoch.attempt += 1
    this.#plan(part, epoch)
  }

  /** Its two halves in its place. */
  bisect(epoch: Epoch): void {
    assert(epoch.records > 1, 'a single record has no halves')
    const part = this.#running(epoch)
    part.running = undefined
    part.notBeforeMs = Number.NEGATIVE_INFINITY
    const [left, right] = halve(epoch.pieces, epoch.records >> 1)
    const rightFirst = (right[0] as Piece).first
    part.planned.unshift(
      makeEpoch(part, left, { start: epoch.startOffset, end: rightFirst }, epoch),
      makeEpoch(part, right, { start: rightFirst, end: epoch.endOffset }, epoch),
    )
  }

  /** Whether the partition has enough waiting. */
  wantsPause(topic: string, partition: number): boolean {
    const part = this.#parts.get(nameOf(topic, partition))
    if (part === undefined || part.fixedEnd !== undefined) return false
    const { records, bytes } = this.limits
    const isFull = part.records >= records || part.bytes >= bytes
    return isFull || (this.#pendingBytes >= PENDING_BYTES_MAX && part.records > 0)
  }

  /** It is to be given back: nothing more of it starts. */
  leave(topic: string, partition: number): void {
    const part = this.#parts.get(nameOf(topic, partition))
    if (part !== undefined) part.isLeaving = true
  }

  /** Nothing of it runs or waits for its transaction. */
  isQuiet(topic: string, partition: number): boolean {
    const part = this.#parts.get(nameOf(topic, partition))
    return part === undefined || (part.running === undefined && part.uncommitted === 0)
  }

  /** It is gone with everything that was taken of it. @returns the epoch that runs */
  remove(topic: string, partition: number): Epoch | undefined {
    const name = nameOf(topic, partition)
    const part = this.#parts.get(name)
    if (part === undefined) return undefined
    this.#parts.delete(name)
    this.#pendingBytes -= part.bytes
    return part.running
  }

  /** Every partition has ended, and nothing of it runs or can start. */
  get isIdle(): boolean {
    for (const part of this.#parts.values()) {
      const isEmpty = part.planned.length === 0 && part.cutOffset >= part.nextOffset
      if (!part.hasEnded || !isEmpty || part.running !== undefined) return false
    }
    return true
  }

  /** Every partition has ended, and all of it is committed. */
  get isDone(): boolean {
    return this.isIdle && this.#isQuietAll
  }

  get #isQuietAll(): boolean {
    for (const part of this.#parts.values()) {
      if (part.running !== undefined || part.uncommitted > 0) return false
    }
    return true
  }

  #running(epoch: Epoch): Part {
    const part = this.#parts.get(nameOf(epoch.topic, epoch.partition))
    assert(part !== undefined && part.running === epoch, 'the epoch runs')
    return part
  }

  #isDue(part: Part, nowMs: number): boolean {
    if (part.cutOffset >= part.nextOffset) return false
    if (part.hasEnded) return true
    if (part.fixedEnd !== undefined) return part.nextOffset >= part.fixedEnd
    if (part.records === 0) return false
    const { records, bytes, ms } = this.limits
    if (this.#options.isEager) return true
    return part.records >= records || part.bytes >= bytes || nowMs - part.openedMs >= ms
  }

  #cut(part: Part): Epoch {
    const { fixedEnd } = part
    part.fixedEnd = undefined
    const pieces: Piece[] = []
    let left = this.limits.records
    let bytesLeft = this.limits.bytes
    let endOffset = part.nextOffset
    while (part.pieces.length > 0) {
      const piece = part.pieces[0] as Piece
      let [taken, rest]: readonly (Piece | undefined)[] = [piece, undefined]
      if (fixedEnd !== undefined) [taken, rest] = splitPieceAt(piece, fixedEnd)
      else if (left <= 0 || bytesLeft <= 0) [taken, rest] = [undefined, piece]
      else if (piece.records > left) [taken, rest] = splitPiece(piece, left)
      if (taken !== undefined) {
        pieces.push(taken)
        left -= taken.records
        bytesLeft -= taken.sizeBytes
        part.records -= taken.records
        part.bytes -= taken.sizeBytes
        this.#pendingBytes -= taken.sizeBytes
      }
      if (rest === undefined) part.pieces.shift()
      else {
        part.pieces[0] = rest
        endOffset = rest.first
        break
      }
    }
    if (fixedEnd !== undefined) endOffset = Math.min(endOffset, Math.max(fixedEnd, part.cutOffset))
    const range = { start: part.cutOffset, end: endOffset }
    const epoch = makeEpoch(part, pieces, range, undefined)
    part.cutOffset = endOffset
    return epoch
  }
}

function makeEpoch(
  { topic, partition }: Pick<Part, 'topic' | 'partition'>,
  pieces: readonly Piece[],
  range: { readonly start: number; readonly end: number },
  parent: Epoch | undefined,
): Epoch {
  let records = 0
  let sizeBytes = 0
  for (const piece of pieces) {
    records += piece.records
    sizeBytes += piece.sizeBytes
  }
  const { start: startOffset, end: endOffset } = range
  const first = pieces[0]?.first ?? startOffset
  const last = pieces.at(-1)?.last ?? first - 1
  return {
    topic,
    partition,
    pieces,
    records,
    sizeBytes,
    startOffset,
    first,
    last,
    endOffset,
    parent,
    attempt: 1,
  }
}

function halve(pieces: readonly Piece[], count: number): readonly [Piece[], Piece[]] {
  const left: Piece[] = []
  const right: Piece[] = []
  let wanted = count
  for (const piece of pieces) {
    if (wanted <= 0) right.push(piece)
    else if (piece.records <= wanted) left.push(piece)
    else {
      const [before, after] = splitPiece(piece, wanted)
      left.push(before)
      right.push(after)
    }
    wanted -= piece.records
  }
  return [left, right]
}

function nameOf(topic: string, partition: number): string {
  return `${topic}/${partition}`
}
