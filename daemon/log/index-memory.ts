/**
 * Bounds the memory of all loaded indexes of a directory: the least recently used are given back.
 * Entries that were never written stay until they could be.
 */
import type { Disk } from '../../src/ports/disk.ts'
import type { Segment } from './segment.ts'

export class IndexMemory {
  readonly #disk: Disk
  readonly #bytesMax: number
  /** In the order of their last use, oldest first, with the bytes counted for each. */
  readonly #loaded = new Map<Segment, number>()
  #latest: Segment | undefined
  #bytes = 0

  constructor(disk: Disk, options: { readonly bytesMax: number }) {
    this.#disk = disk
    this.#bytesMax = options.bytesMax
  }

  get bytes(): number {
    return this.#bytes
  }

  /** The indexes of a segment are about to be used, and have been loaded. */
  touch(segment: Segment): void {
    const bytes = sizeOf(segment)
    if (this.#latest === segment) {
      this.#count(segment, bytes)
    } else {
      const before = this.#loaded.get(segment) ?? 0
      this.#loaded.delete(segment)
      this.#bytes -= before
      this.#count(segment, bytes, 0)
      this.#latest = segment
    }
    if (this.#bytes > this.#bytesMax) this.#shrink(segment)
  }

  forget(segment: Segment): void {
    this.#bytes -= this.#loaded.get(segment) ?? 0
    this.#loaded.delete(segment)
    if (this.#latest === segment) this.#latest = undefined
  }

  #count(segment: Segment, bytes: number, before = this.#loaded.get(segment) ?? 0): void {
    if (bytes === before && before !== 0) return
    this.#bytes += bytes - before
    this.#loaded.set(segment, bytes)
  }

  #shrink(keep: Segment): void {
    for (const segment of this.#loaded.keys()) {
      if (this.#bytes <= this.#bytesMax) return
      if (segment === keep) continue
      if (!segment.detached) {
        try {
          segment.flushIndexes(this.#disk)
        } catch {
          // No space: they stay in memory, and their next flush tries again.
          continue
        }
      }
      for (const file of segment.indexFiles()) file.unload()
      this.forget(segment)
    }
  }
}

function sizeOf(segment: Segment): number {
  let bytes = 0
  for (const file of segment.indexFiles()) bytes += file.usedBytes
  return bytes
}
