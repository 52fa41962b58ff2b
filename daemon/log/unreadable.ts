/**
 * What readers make of a place that the medium cannot read (EIO): zeros, which no checksum passes. So it is damage like any
 * other — quarantined, said, fetched from another replica — and a disk gives such a sector another place when it is written.
 * A disk that fails as a whole is not damage of a log: from so much on the error stands.
 *
 * Starts read without this: what cannot be read behind the durable mark would be taken for a torn tail.
 */
import { isUnreadable } from '../../src/ports/disk.ts'
import type { WalkedFile } from './batch-walk.ts'

/** Reads fail by pages of the kernel's cache. */
const PAGE_BYTES = 4096
/** In one read. */
const LOST_BYTES_MAX = 16 * PAGE_BYTES

export class ReadableParts implements WalkedFile {
  readonly #file: WalkedFile
  readonly #onLost: (position: number) => void

  /** @param onLost  told of each page that was left out */
  constructor(file: WalkedFile, onLost: (position: number) => void = () => undefined) {
    this.#file = file
    this.#onLost = onLost
  }

  read(position: number, target: Uint8Array): number {
    try {
      return this.#file.read(position, target)
    } catch (error) {
      const pages = new Pages(position, target, error)
      for (let page = pages.next(); page !== undefined; page = pages.next()) {
        try {
          pages.took(this.#file.read(page.position, page.part))
        } catch (failure) {
          pages.lost(failure)
          this.#onLost(page.position)
        }
      }
      return pages.filled
    }
  }

  async readAsync(position: number, target: Uint8Array): Promise<number> {
    try {
      return await this.#file.readAsync(position, target)
    } catch (error) {
      const pages = new Pages(position, target, error)
      for (let page = pages.next(); page !== undefined; page = pages.next()) {
        try {
          pages.took(await this.#file.readAsync(page.position, page.part))
        } catch (failure) {
          pages.lost(failure)
          this.#onLost(page.position)
        }
      }
      return pages.filled
    }
  }
}

/** One read, page by page. */
class Pages {
  filled = 0
  readonly #position: number
  readonly #target: Uint8Array
  readonly #failure: unknown
  #lostBytes = 0
  #part: Uint8Array = EMPTY
  #isAtEnd = false

  /** @throws the failure, where it is of another kind */
  constructor(position: number, target: Uint8Array, failure: unknown) {
    if (!isUnreadable(failure)) throw failure
    this.#position = position
    this.#target = target
    this.#failure = failure
  }

  next(): { readonly position: number; readonly part: Uint8Array } | undefined {
    if (this.#isAtEnd || this.filled === this.#target.length) return undefined
    const position = this.#position + this.filled
    const end = this.filled + PAGE_BYTES - (position % PAGE_BYTES)
    this.#part = this.#target.subarray(this.filled, Math.min(end, this.#target.length))
    return { position, part: this.#part }
  }

  took(bytes: number): void {
    this.filled += bytes
    this.#isAtEnd = bytes < this.#part.length
  }

  /** @throws where it is too much */
  lost(failure: unknown): void {
    if (!isUnreadable(failure)) throw failure
    this.#lostBytes += this.#part.length
    if (this.#lostBytes > LOST_BYTES_MAX) throw this.#failure
    this.#part.fill(0)
    this.filled += this.#part.length
  }
}

const EMPTY = new Uint8Array(0)
