/**
 * Where in a segment an offset is (kafka-protocol.md sections 7.5, 7.6). Entry: int32 relative offset (of the *last*
 * offset of a batch) · int32 position of that batch in the segment.
 *
 * Invariants: relative offsets and positions rise strictly; no entry after the first equals the segment's base offset.
 * An entry is a hint that came from a disk: whoever follows one checks that the batch it names stands there.
 */
import type { Disk } from '../../src/ports/disk.ts'
import { int32At, putInt32 } from '../../src/record/batch-layout.ts'
import { IndexFile } from './index-file.ts'

export const OFFSET_ENTRY_BYTES = 8

export interface OffsetPosition {
  readonly offset: number
  readonly position: number
}

export class OffsetIndex {
  readonly file: IndexFile
  readonly #baseOffset: number

  constructor(path: string, baseOffset: number) {
    this.file = new IndexFile(path, OFFSET_ENTRY_BYTES)
    this.#baseOffset = baseOffset
  }

  get last(): OffsetPosition | undefined {
    const count = this.file.count
    return count === 0 ? undefined : this.entry(count - 1)
  }

  entry(index: number): OffsetPosition {
    const at = index * OFFSET_ENTRY_BYTES
    return {
      offset: this.#baseOffset + int32At(this.file.bytes, at),
      position: int32At(this.file.bytes, at + 4),
    }
  }

  /**
   * Loads the file and judges it as a whole.
   * @param endPosition  size of the segment in bytes
   * @returns false when it cannot be right: it must be rebuilt
   */
  load(disk: Disk, endPosition: number): boolean {
    if (this.file.isLoaded) return true
    this.file.load(disk)
    return this.#soundCount(endPosition) === this.file.count
  }

  /** As load, but keeps what comes before the first entry that cannot be right. @returns as load */
  loadSoundPart(disk: Disk, endPosition: number): boolean {
    if (this.load(disk, endPosition)) return true
    this.file.truncate(disk, this.#soundCount(endPosition))
    return false
  }

  #soundCount(endPosition: number): number {
    // The first entry never names the start of the segment; zeros are what a power cut leaves of an unsynced sector.
    let offsetBefore = -1
    let positionBefore = 0
    const { bytes, count } = this.file
    for (let index = 0; index < count; index++) {
      const at = index * OFFSET_ENTRY_BYTES
      const offset = int32At(bytes, at)
      const position = int32At(bytes, at + 4)
      if (offset <= offsetBefore || position <= positionBefore || position >= endPosition) {
        return index
      }
      if (offset === 0 && index > 0) return index
      offsetBefore = offset
      positionBefore = position
    }
    return count
  }

  append(offset: number, position: number): void {
    const at = this.file.extend()
    putInt32(this.file.bytes, at, offset - this.#baseOffset)
    putInt32(this.file.bytes, at + 4, position)
  }

  /** The greatest entry whose offset is at most `offset`; undefined: begin at the start of the segment. */
  lookup(offset: number): OffsetPosition | undefined {
    const index = this.#countUpTo(offset - this.#baseOffset, 0) - 1
    return index < 0 ? undefined : this.entry(index)
  }

  /** Entries that begin behind `position`, for finding the way behind damage. */
  *entriesBehind(position: number): Generator<OffsetPosition> {
    for (let index = this.#countUpTo(position, 4); index < this.file.count; index++) {
      yield this.entry(index)
    }
  }

  /** Drops the entries at or beyond a position of the segment. */
  truncateToPosition(disk: Disk, position: number): void {
    this.file.load(disk)
    this.file.truncate(disk, this.#countUpTo(position - 1, 4))
  }

  /** Drops the entries at or beyond an offset. */
  truncateToOffset(disk: Disk, offset: number): void {
    this.file.load(disk)
    this.file.truncate(disk, this.#countUpTo(offset - this.#baseOffset - 1, 0))
  }

  /** How many entries hold at most `value` in the field at `fieldAt`. */
  #countUpTo(value: number, fieldAt: number): number {
    const bytes = this.file.bytes
    let low = 0
    let high = this.file.count
    while (low < high) {
      const middle = (low + high) >>> 1
      if (int32At(bytes, middle * OFFSET_ENTRY_BYTES + fieldAt) <= value) low = middle + 1
      else high = middle
    }
    return low
  }
}
