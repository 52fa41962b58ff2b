/**
 * A file of fixed-size entries beside a segment: offset index, time index, transaction index. Owns the copy in memory,
 * the entries not written yet, and the file's exact length (nothing is preallocated).
 *
 * Invariants:
 * - The file holds a prefix of the entries in memory; the rest is written by flush(), at the latest at roll and close.
 * - Everything here can be rebuilt from the segment, so a missing or bad file is never an error, and a failed write is
 *   tried again by the next flush.
 * - `isAsLeft` only where the entries are those that this process had in memory before: what has become of the file since then is
 *   seen when it is read again.
 */
import type { Disk } from '../../src/ports/disk.ts'
import { crc32c } from '../../src/record/crc32c.ts'

const CAPACITY_BYTES_MIN = 512
/** So many unwritten bytes are written in one go. */
const FLUSH_BYTES = 1024

export class IndexFile {
  path: string
  readonly entryBytes: number
  /** Entries in memory; undefined: not loaded. */
  #bytes: Uint8Array | undefined
  #usedBytes = 0
  #writtenBytes = 0
  /** Of the file; more than was written where a crash left half an entry. */
  #fileBytes = 0
  /** Written since the last sync. */
  unsynced = false
  /** What was loaded last is what unload() gave back. */
  isAsLeft = false
  /** Of what unload() gave back. */
  #left: number | undefined

  constructor(path: string, entryBytes: number) {
    this.path = path
    this.entryBytes = entryBytes
  }

  get isLoaded(): boolean {
    return this.#bytes !== undefined
  }

  /** Only where loaded. */
  get count(): number {
    return this.#usedBytes / this.entryBytes
  }

  get usedBytes(): number {
    return this.#usedBytes
  }

  get hasUnwritten(): boolean {
    return this.#writtenBytes < this.#usedBytes || this.#fileBytes > this.#usedBytes
  }

  /** A partial entry at the end is dropped. Does nothing when loaded. */
  load(disk: Disk): void {
    if (this.#bytes !== undefined) return
    const bytes = disk.readFile(this.path) ?? new Uint8Array(0)
    this.#bytes = bytes
    this.#usedBytes = bytes.length - (bytes.length % this.entryBytes)
    this.#writtenBytes = this.#usedBytes
    this.#fileBytes = bytes.length
    this.isAsLeft = this.#left !== undefined && this.#left === this.#checksum()
  }

  /** Gives the memory back; what was not written stays in memory, and so does the index then. */
  unload(): void {
    if (this.hasUnwritten || this.#bytes === undefined) return
    this.#left = this.#checksum()
    this.#bytes = undefined
  }

  #checksum(): number {
    return crc32c(this.bytes, 0, this.#usedBytes)
  }

  /** The entries; valid until the next append. Only where loaded. */
  get bytes(): Uint8Array {
    return this.#bytes ?? EMPTY
  }

  /** Space for one more entry, to be filled by the caller at the position returned. Only where loaded. */
  extend(): number {
    const at = this.#usedBytes
    const needed = at + this.entryBytes
    const bytes = this.bytes
    if (needed > bytes.length) {
      const grown = new Uint8Array(Math.max(CAPACITY_BYTES_MIN, needed, bytes.length * 2))
      grown.set(bytes.subarray(0, at))
      this.#bytes = grown
    }
    this.#usedBytes = needed
    return at
  }

  flushIfDue(disk: Disk): void {
    if (this.#usedBytes - this.#writtenBytes >= FLUSH_BYTES) this.flush(disk)
  }

  /** @throws StreamError of the disk; the entries stay in memory then */
  flush(disk: Disk): void {
    if (!this.hasUnwritten) return
    const file = disk.open(this.path, 'write')
    try {
      if (file.sizeBytes() > this.#writtenBytes) file.truncate(this.#writtenBytes)
      if (this.#usedBytes > this.#writtenBytes) {
        file.write(this.#writtenBytes, [this.bytes.subarray(this.#writtenBytes, this.#usedBytes)])
      }
    } finally {
      file.close()
    }
    this.#writtenBytes = this.#usedBytes
    this.#fileBytes = this.#usedBytes
    this.unsynced = true
  }

  /** Keeps the first `count` entries, in memory and, where the file holds more, in the file. */
  truncate(disk: Disk, count: number): void {
    this.load(disk)
    this.#usedBytes = Math.min(this.#usedBytes, count * this.entryBytes)
    const stat = disk.stat(this.path)
    if (stat !== undefined && stat.sizeBytes > this.#usedBytes) {
      const file = disk.open(this.path, 'write')
      try {
        file.truncate(this.#usedBytes)
      } finally {
        file.close()
      }
      this.unsynced = true
    }
    this.#fileBytes = Math.min(this.#fileBytes, this.#usedBytes)
    this.#writtenBytes = Math.min(this.#writtenBytes, this.#usedBytes)
  }

  /** Other entries, in memory; the next flush writes them. Only where loaded. */
  replace(bytes: Uint8Array): void {
    this.#bytes = bytes
    this.#usedBytes = bytes.length
    this.#writtenBytes = 0
  }

  /** Forgets everything: the file is empty, or absent where it was. */
  reset(disk: Disk): void {
    this.#bytes = new Uint8Array(0)
    this.#usedBytes = 0
    this.#writtenBytes = 0
    this.truncate(disk, 0)
  }
}

const EMPTY = new Uint8Array(0)
