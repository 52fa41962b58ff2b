/**
 * The aborted transactions of a segment (kafka-protocol.md section 7.5), in the segment that holds the ABORT marker.
 * Entry, 34 bytes: int16 version = 0 · int64 producer id · int64 first offset · int64 last offset · int64 last stable
 * offset. The file exists only where there is an entry.
 *
 * The layout has no checksum, so what was read from the file proves nothing: `isProven` says that it was held against the log
 * (transaction-proof.ts), or was made by this process.
 *
 * Invariant: last offsets rise strictly.
 */
import type { Disk } from '../../src/ports/disk.ts'
import { int16At, int64At, putInt16, putInt64 } from '../../src/record/batch-layout.ts'
import { IndexFile } from './index-file.ts'
import type { AbortedTransaction } from './log-types.ts'

export const TRANSACTION_ENTRY_BYTES = 34

export class TransactionIndex {
  readonly file: IndexFile
  /** Set while it is held against the log. */
  proof: Promise<void> | undefined
  #isHeld = false
  #isDoubted = false

  constructor(path: string) {
    this.file = new IndexFile(path, TRANSACTION_ENTRY_BYTES)
  }

  /** As OffsetIndex.load. */
  load(disk: Disk): boolean {
    if (this.file.isLoaded) return true
    this.#read(disk)
    return this.isWellFormed
  }

  /** What can be told without the log. Only where loaded. */
  get isWellFormed(): boolean {
    return this.#soundCount() === this.file.count
  }

  #read(disk: Disk): void {
    if (this.file.isLoaded) return
    this.file.load(disk)
    if (!this.file.isAsLeft) this.#isHeld = false
  }

  /** The entries are what the log says. Without any there is nothing that could be wrong. Only where loaded. */
  get isProven(): boolean {
    return this.#isHeld || (this.file.count === 0 && !this.#isDoubted)
  }

  /** They were held against the log, or made from it. */
  noteProven(): void {
    this.#isHeld = true
    this.#isDoubted = false
  }

  /** They were made without a part of the log that is there again. */
  doubt(): void {
    this.#isHeld = false
    this.#isDoubted = true
  }

  /** All entries. Only where loaded. */
  entries(): AbortedTransaction[] {
    return Array.from({ length: this.file.count }, (_, index) => this.entry(index))
  }

  /** Other entries, in memory; the next flush of the file writes them. Only where loaded. */
  replace(entries: readonly AbortedTransaction[]): void {
    const bytes = new Uint8Array(entries.length * TRANSACTION_ENTRY_BYTES)
    for (const [index, entry] of entries.entries()) {
      putEntry(bytes, index * TRANSACTION_ENTRY_BYTES, entry)
    }
    this.file.replace(bytes)
  }

  /** What lies behind the first entry that cannot be right is dropped, in the file too. @returns whether nothing was */
  loadSoundPart(disk: Disk): boolean {
    this.#read(disk)
    const count = this.#soundCount()
    const isSound = count === this.file.count
    if (!isSound) this.file.truncate(disk, count)
    return isSound
  }

  /** The marker stands behind what it ends: zeros, which a power cut may leave, are no entry. */
  #soundCount(): number {
    let lastBefore = -1
    for (let index = 0; index < this.file.count; index++) {
      const entry = this.entry(index)
      if (int16At(this.file.bytes, index * TRANSACTION_ENTRY_BYTES) !== 0) return index
      if (!Number.isSafeInteger(entry.lastOffset) || entry.lastOffset <= lastBefore) return index
      if (entry.firstOffset < 0 || entry.firstOffset >= entry.lastOffset) return index
      lastBefore = entry.lastOffset
    }
    return this.file.count
  }

  entry(index: number): AbortedTransaction {
    const at = index * TRANSACTION_ENTRY_BYTES
    const bytes = this.file.bytes
    return {
      producerId: int64At(bytes, at + 2),
      firstOffset: int64At(bytes, at + 10),
      lastOffset: int64At(bytes, at + 18),
      lastStableOffset: int64At(bytes, at + 26),
    }
  }

  append(aborted: AbortedTransaction): void {
    // What comes after proven entries is made from the log as it is written.
    if (this.isProven) this.#isHeld = true
    const at = this.file.extend()
    putEntry(this.file.bytes, at, aborted)
  }

  /**
   * Collects what overlaps [fromOffset, endOffset).
   * @returns true when no later segment can hold more
   */
  collect(fromOffset: number, endOffset: number, into: AbortedTransaction[]): boolean {
    for (let index = 0; index < this.file.count; index++) {
      const entry = this.entry(index)
      if (entry.lastOffset >= fromOffset && entry.firstOffset < endOffset) into.push(entry)
      if (entry.lastStableOffset >= endOffset) return true
    }
    return false
  }

  /** Drops the entries whose marker is at or beyond an offset. */
  truncateToOffset(disk: Disk, offset: number): void {
    this.#read(disk)
    let count = this.file.count
    while (count > 0 && this.entry(count - 1).lastOffset >= offset) count--
    this.file.truncate(disk, count)
  }
}

function putEntry(bytes: Uint8Array, at: number, aborted: AbortedTransaction): void {
  putInt16(bytes, at, 0)
  putInt64(bytes, at + 2, aborted.producerId)
  putInt64(bytes, at + 10, aborted.firstOffset)
  putInt64(bytes, at + 18, aborted.lastOffset)
  putInt64(bytes, at + 26, aborted.lastStableOffset)
}
