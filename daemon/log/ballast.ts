/**
 * A file that only takes space: part of the reserve of the disk guard, given up for what must be written even when others
 * have filled the file system to its last byte (a start, deletions, metadata), and filled again when there is room.
 *
 * Invariants:
 * - It is given up only while somebody holds what lend() returned, and never for records.
 * - It is no data: whatever happens to it, nothing is lost but room. It is never synced.
 */
import { isStreamError } from '../../src/base/errors.ts'
import type { Disk } from '../../src/ports/disk.ts'
import { BALLAST_NAME } from './directory-files.ts'

const CHUNK_BYTES = 64 * 1024
/** Stays free when it is filled again on a disk with little room: the small files that are replaced now and then need it. */
const LEFT_FREE_BYTES = 64 * 1024

export class Ballast {
  readonly #disk: Disk
  readonly #directory: string
  readonly #path: string
  readonly #bytesWanted: number
  #bytes: number
  #holders = 0

  constructor(disk: Disk, options: { readonly directory: string; readonly bytesWanted: number }) {
    this.#disk = disk
    this.#directory = options.directory
    this.#path = `${options.directory}/${BALLAST_NAME}`
    this.#bytesWanted = options.bytesWanted
    this.#bytes = disk.stat(this.#path)?.sizeBytes ?? 0
  }

  /** What it holds now. */
  get bytes(): number {
    return this.#bytes
  }

  /** Gives it up where there is little room. @returns takes back what is left of that at once, before others have it; idempotent */
  lend(): () => void {
    if (this.#holders++ === 0 && this.#bytes > 0) {
      const wantedBytes = Math.max(this.#bytes, this.#bytesWanted)
      if (this.#disk.space(this.#directory).freeBytes < wantedBytes) this.#empty()
    }
    let isHeld = true
    return () => {
      if (!isHeld) return
      isHeld = false
      this.#holders--
      if (this.#bytes === 0) this.restore()
    }
  }

  async during<T>(work: () => Promise<T>): Promise<T> {
    const giveBack = this.lend()
    try {
      return await work()
    } finally {
      giveBack()
    }
  }

  /** Fills what is missing, as far as there is room. */
  restore(): void {
    if (this.#holders > 0 || this.#bytes >= this.#bytesWanted) return
    let room = this.#disk.space(this.#directory).freeBytes - LEFT_FREE_BYTES
    try {
      const file = this.#disk.open(this.#path, 'write')
      try {
        while (this.#bytes < this.#bytesWanted && room > 0) {
          const count = Math.min(CHUNK_BYTES, this.#bytesWanted - this.#bytes, room)
          file.write(this.#bytes, [noise(count, this.#bytes)])
          this.#bytes += count
          room -= count
        }
      } finally {
        file.close()
      }
    } catch (error) {
      if (!isStreamError(error)) throw error
      // The next round tries again.
    }
  }

  #empty(): void {
    try {
      const file = this.#disk.open(this.#path, 'write')
      try {
        file.truncate(0)
        this.#bytes = 0
      } finally {
        file.close()
      }
    } catch (error) {
      if (!isStreamError(error)) throw error
    }
  }
}

/** A file system that compresses would give zeros no space. */
function noise(count: number, seed: number): Uint8Array {
  const words = new Uint32Array(Math.ceil(count / 4))
  let word = (seed ^ 0x9e3779b9) >>> 0 || 1
  for (let at = 0; at < words.length; at++) {
    word ^= word << 13
    word ^= word >>> 17
    word ^= word << 5
    words[at] = word
  }
  return new Uint8Array(words.buffer, 0, count)
}
