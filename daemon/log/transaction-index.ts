/**
 * The aborted transactions of a segment (kafka-protocol.md section 7.5), in the segment that holds the ABORT marker.
 * Entry, 34 bytes: int16 version = 0 · int64 producer id · int64 first offset · int64 last offset · int64 last stable
 * offset. The file exists only where there is an entry.
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

  constructor(path: string) {
    this.file = new IndexFile(path, TRANSACTION_ENTRY_BYTES)
  }

  /** As OffsetIndex.load. */
  load(disk: Disk): boolean {
    if (this.file.isLoaded) return true
    this.file.load(disk)
    return this.#soundCount() === this.file.count
  }

  /** What lies behind the first entry that cannot be right is dropped, in the file too. @returns whether nothing was */
  loadSoundPart(disk: Disk): boolean {
    this.file.load(disk)
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
    const at = this.file.extend()
    const bytes = this.file.bytes
    putInt16(bytes, at, 0)
    putInt64(bytes, at + 2, aborted.producerId)
    putInt64(bytes, at + 10, aborted.firstOffset)
    putInt64(bytes, at + 18, aborted.lastOffset)
    putInt64(bytes, at + 26, aborted.lastStableOffset)
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
    this.file.load(disk)
    let count = this.file.count
    while (count > 0 && this.entry(count - 1).lastOffset >= offset) count--
    this.file.truncate(disk, count)
  }
}
