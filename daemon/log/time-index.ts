/**
 * When the records of a segment were made (kafka-protocol.md sections 7.5, 7.6). Entry: int64 timestamp, the largest
 * so far · int32 relative last offset of the batch that holds it.
 *
 * Invariant: timestamps rise strictly, offsets do not fall. As in the offset index, an entry is only a hint.
 */
import type { Disk } from '../../src/ports/disk.ts'
import { int32At, int64At, putInt32, putInt64 } from '../../src/record/batch-layout.ts'
import { IndexFile } from './index-file.ts'

export const TIME_ENTRY_BYTES = 12

export interface TimestampPosition {
  readonly timestampMs: number
  /** Last offset of the batch that holds the timestamp. */
  readonly offset: number
}

export class TimeIndex {
  readonly file: IndexFile
  readonly #baseOffset: number

  constructor(path: string, baseOffset: number) {
    this.file = new IndexFile(path, TIME_ENTRY_BYTES)
    this.#baseOffset = baseOffset
  }

  get last(): TimestampPosition | undefined {
    const count = this.file.count
    return count === 0 ? undefined : this.entry(count - 1)
  }

  entry(index: number): TimestampPosition {
    const at = index * TIME_ENTRY_BYTES
    return {
      timestampMs: int64At(this.file.bytes, at),
      offset: this.#baseOffset + int32At(this.file.bytes, at + 8),
    }
  }

  /** As OffsetIndex.load. */
  load(disk: Disk): boolean {
    if (this.file.isLoaded) return true
    this.file.load(disk)
    return this.#soundCount() === this.file.count
  }

  /** As OffsetIndex.loadSoundPart. */
  loadSoundPart(disk: Disk): boolean {
    if (this.load(disk)) return true
    this.file.truncate(disk, this.#soundCount())
    return false
  }

  #soundCount(): number {
    // A time of 0 is never written: zeros are what a power cut leaves of an unsynced sector.
    let before: TimestampPosition = { timestampMs: 0, offset: this.#baseOffset }
    for (let index = 0; index < this.file.count; index++) {
      const entry = this.entry(index)
      if (!Number.isSafeInteger(entry.timestampMs)) return index
      if (entry.timestampMs <= before.timestampMs || entry.offset < before.offset) return index
      before = entry
    }
    return this.file.count
  }

  /** Appends only what is later than the last entry. */
  maybeAppend(timestampMs: number, offset: number): void {
    if (timestampMs <= (this.last?.timestampMs ?? 0)) return
    const at = this.file.extend()
    putInt64(this.file.bytes, at, timestampMs)
    putInt32(this.file.bytes, at + 8, offset - this.#baseOffset)
  }

  /** The greatest entry whose timestamp is below `timestampMs`: no batch up to its offset has a later one. */
  lookupBelow(timestampMs: number): TimestampPosition | undefined {
    let low = 0
    let high = this.file.count
    while (low < high) {
      const middle = (low + high) >>> 1
      if (int64At(this.file.bytes, middle * TIME_ENTRY_BYTES) < timestampMs) low = middle + 1
      else high = middle
    }
    return low === 0 ? undefined : this.entry(low - 1)
  }

  /** Drops the entries at or beyond an offset. */
  truncateToOffset(disk: Disk, offset: number): void {
    this.file.load(disk)
    let count = this.file.count
    while (count > 0 && this.entry(count - 1).offset >= offset) count--
    this.file.truncate(disk, count)
  }
}
