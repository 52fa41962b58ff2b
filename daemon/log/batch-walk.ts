/**
 * Goes through the batches of a segment file, from the start of one batch, in file order. Two modes: `headers` reads as
 * little as it can and looks at structure only; `whole` reads everything and checks the CRC.
 *
 * The walk is driven by its user, so that a thousand batches in one block cost no promise:
 *
 *     for (;;) {
 *       const step = walk.step()
 *       if (step === 'more') { await walk.fill(); continue }
 *       if (step !== 'batch') break
 *       … walk.bytes, walk.at, walk.position, walk.batchBytes …
 *     }
 *
 * Invariant: nothing is read at or beyond `end`, whatever the bytes claim; memory is bounded by the largest batch that
 * can stand before `end`.
 */
import { Buffer } from 'node:buffer'
import type { DiskFile } from '../../src/ports/disk.ts'
import {
  attributesAt,
  type BatchDefect,
  baseOffsetAt,
  batchBytesAt,
  findBatchDefect,
  HEADER_BYTES,
  isControl,
  lastOffsetDeltaAt,
  magicAt,
  maxTimestampAt,
  recordCountAt,
} from '../../src/record/batch-layout.ts'

export type WalkedFile = Pick<DiskFile, 'read' | 'readAsync'>

export type WalkStep = 'batch' | 'more' | 'end' | 'defect'

export interface WalkOptions {
  readonly start: number
  /** Exclusive. */
  readonly end: number
  readonly mode: 'headers' | 'whole'
  /** Every block gets a buffer of its own, so that what was read may be kept. */
  readonly fresh?: boolean
}

const BLOCK_BYTES_MAX = 1024 * 1024
const HEADERS_BLOCK_BYTES_MIN = 128
const HEADERS_BLOCK_BYTES_FIRST = 4096
/** From this size on a read for each header is cheaper than to read what lies between (bench: restart). */
const HOP_BYTES_MIN = 6000
/** Control batches are 78 bytes; in `headers` mode they are read whole, larger ones are not believed. */
const CONTROL_BYTES_MAX = 4096

export class BatchWalk {
  /** The block that holds the current batch. */
  bytes: Uint8Array = EMPTY
  /** Of the current batch in `bytes`. */
  at = 0
  /** Of the current batch in the file; after 'end' and 'defect' the place where the walk stopped. */
  position: number
  batchBytes = 0
  defect: BatchDefect | undefined
  /** How much fill() reads at most, unless one batch needs more. */
  blockBytes: number
  readonly end: number
  readonly #file: WalkedFile
  readonly #mode: 'headers' | 'whole'
  readonly #fresh: boolean
  #buffer: Uint8Array = EMPTY
  #blockStart = 0
  #next: number
  #neededBytes = 0
  #batchesInBlock = 0

  constructor(file: WalkedFile, options: WalkOptions) {
    this.#file = file
    this.end = options.end
    this.#mode = options.mode
    this.#fresh = options.fresh ?? false
    this.#next = options.start
    this.position = options.start
    this.blockBytes = options.mode === 'whole' ? BLOCK_BYTES_MAX : HEADERS_BLOCK_BYTES_FIRST
  }

  get lastOffset(): number {
    return baseOffsetAt(this.bytes, this.at) + lastOffsetDeltaAt(this.bytes, this.at)
  }

  /** Where the batch behind the current one begins. */
  get nextPosition(): number {
    return this.#next
  }

  /** To go on elsewhere: behind damage, or once more where the disk gave wrong bytes. What was read is read again. */
  moveTo(position: number): void {
    this.#next = position
    this.position = position
    this.defect = undefined
    this.bytes = EMPTY
    this.#blockStart = position
    this.#batchesInBlock = 0
  }

  step(): WalkStep {
    const position = this.#next
    this.position = position
    if (position >= this.end) return 'end'
    const at = position - this.#blockStart
    const available = at < 0 ? 0 : this.bytes.length - at
    const left = this.end - position
    if (left < HEADER_BYTES) {
      return this.#stop({ kind: 'truncated', detail: `${left} bytes before the end` })
    }
    if (available < HEADER_BYTES) return this.#needs(HEADER_BYTES)
    const batchBytes = batchBytesAt(this.bytes, at)
    if (magicAt(this.bytes, at) !== 2) {
      return this.#stop({ kind: 'magic', detail: `magic ${magicAt(this.bytes, at)}` })
    }
    if (batchBytes < HEADER_BYTES) {
      return this.#stop({ kind: 'length', detail: `a batch of ${batchBytes} bytes` })
    }
    if (batchBytes > left) {
      return this.#stop({ kind: 'truncated', detail: `${left} of ${batchBytes} bytes` })
    }
    const whole =
      this.#mode === 'whole' ||
      (isControl(attributesAt(this.bytes, at)) && batchBytes <= CONTROL_BYTES_MAX)
    if (whole) {
      if (available < batchBytes) return this.#needs(batchBytes)
      const defect = findBatchDefect(this.bytes, at, at + batchBytes)
      if (defect !== undefined) return this.#stop(defect)
    } else {
      const defect = findNumberDefect(this.bytes, at)
      if (defect !== undefined) return this.#stop(defect)
    }
    this.at = at
    this.batchBytes = batchBytes
    this.#next = position + batchBytes
    this.#batchesInBlock++
    return 'batch'
  }

  /** What the next batch needs at least to be looked at; after 'more'. */
  get neededBytes(): number {
    return this.#neededBytes
  }

  /** Reads the next block. @throws StreamError of the disk */
  async fill(): Promise<void> {
    const target = this.#nextBlock()
    this.#filled(target, await this.#file.readAsync(this.#next, target))
  }

  /** As fill, without a thread hop: for starts and small repairs, where nothing else waits for the loop. */
  fillNow(): void {
    const target = this.#nextBlock()
    this.#filled(target, this.#file.read(this.#next, target))
  }

  #nextBlock(): Uint8Array {
    if (this.#mode === 'headers') this.#adaptBlock()
    const left = this.end - this.#next
    return this.#target(Math.min(Math.max(this.blockBytes, this.#neededBytes), left))
  }

  #filled(target: Uint8Array, count: number): void {
    // The file is shorter than it was: what is missing reads as zeros and is judged as such.
    if (count < target.length) target.fill(0, count)
    this.bytes = target
    this.#blockStart = this.#next
    this.#batchesInBlock = 0
  }

  #target(size: number): Uint8Array {
    if (this.#fresh) return Buffer.allocUnsafeSlow(size)
    if (this.#buffer.length < size) this.#buffer = Buffer.allocUnsafeSlow(size)
    return this.#buffer.length === size ? this.#buffer : this.#buffer.subarray(0, size)
  }

  /** Large batches: hop from header to header. Small ones: read on in large blocks. */
  #adaptBlock(): void {
    if (this.bytes.length === 0) return
    const walkedBytes = this.#next - this.#blockStart
    this.blockBytes =
      walkedBytes > HOP_BYTES_MIN * Math.max(this.#batchesInBlock, 1)
        ? HEADERS_BLOCK_BYTES_MIN
        : Math.min(Math.max(this.blockBytes, HEADERS_BLOCK_BYTES_FIRST) * 4, BLOCK_BYTES_MAX)
  }

  #needs(bytes: number): 'more' {
    this.#neededBytes = bytes
    return 'more'
  }

  #stop(defect: BatchDefect): 'defect' {
    this.defect = defect
    return 'defect'
  }
}

function findNumberDefect(bytes: Uint8Array, at: number): BatchDefect | undefined {
  const baseOffset = baseOffsetAt(bytes, at)
  const lastOffsetDelta = lastOffsetDeltaAt(bytes, at)
  if (baseOffset < 0 || lastOffsetDelta < 0) {
    return { kind: 'range', detail: `offset ${baseOffset} + ${lastOffsetDelta}` }
  }
  if (!Number.isSafeInteger(baseOffset + lastOffsetDelta)) {
    return { kind: 'range', detail: `base offset ${baseOffset}` }
  }
  if (!Number.isSafeInteger(maxTimestampAt(bytes, at))) {
    return { kind: 'range', detail: 'timestamp' }
  }
  return undefined
}

/**
 * The largest timestamp of a record that is there; −1 for a batch that compaction kept empty for its producer's sake. Its
 * header still says what it once held, and Kafka's tools take a time entry made from that for a fault.
 */
export function recordTimestampAt(bytes: Uint8Array, at: number): number {
  return recordCountAt(bytes, at) === 0 ? -1 : maxTimestampAt(bytes, at)
}

/** Runs a walk to its end; `visit` returns false to stop early. @returns how it ended */
export async function walkAll(
  walk: BatchWalk,
  visit: (walk: BatchWalk) => boolean,
): Promise<'end' | 'defect' | 'stopped'> {
  for (;;) {
    const step = walk.step()
    switch (step) {
      case 'batch':
        if (!visit(walk)) return 'stopped'
        break
      case 'more':
        await walk.fill()
        break
      case 'end':
      case 'defect':
        return step
    }
  }
}

/** As walkAll, without a thread hop. */
export function walkAllNow(
  walk: BatchWalk,
  visit: (walk: BatchWalk) => boolean,
): 'end' | 'defect' | 'stopped' {
  for (;;) {
    const step = walk.step()
    switch (step) {
      case 'batch':
        if (!visit(walk)) return 'stopped'
        break
      case 'more':
        walk.fillNow()
        break
      case 'end':
      case 'defect':
        return step
    }
  }
}

const EMPTY = new Uint8Array(0)
