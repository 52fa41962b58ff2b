/**
 * The most recent batches of all logs of a directory, kept by reference for readers at the tail.
 *
 * Invariants:
 * - At most `bytesMax` are held over all logs; the oldest batch of the directory goes first.
 * - What one log holds is a run of its batches without a batch missing in between, up to its end.
 *
 * The bytes are the ones that came from the network, so they keep the received message alive. A small batch is copied
 * instead: it may stand in a large message, and a small message keeps the 8 KiB block that libzmq cut it out of. Without
 * that the cache held a gigabyte after 100,000 lines that were produced one by one.
 */
import { Buffer } from 'node:buffer'

const ENTRY_OVERHEAD_BYTES = 256
const COPY_BYTES_MAX = 16 * 1024

const NOTHING = new Uint8Array(0)

interface CachedBatch {
  readonly owner: LogCache
  /** Let go when dropped: the queues below keep a dropped entry for a while. */
  bytes: Uint8Array
  readonly baseOffset: number
  readonly lastOffset: number
  dropped: boolean
}

export class BatchCache {
  readonly #bytesMax: number
  #queue: CachedBatch[] = []
  #head = 0
  #bytes = 0

  constructor(options: { readonly bytesMax: number }) {
    this.#bytesMax = options.bytesMax
  }

  get bytes(): number {
    return this.#bytes
  }

  forLog(): LogCache {
    return new LogCache(this)
  }

  /** @internal */
  add(owner: LogCache, bytes: Uint8Array, baseOffset: number, lastOffset: number): CachedBatch {
    // Small ones from Node's pool: they come and go in order.
    const kept = bytes.length <= COPY_BYTES_MAX ? Buffer.from(bytes) : bytes
    const entry = { owner, bytes: kept, baseOffset, lastOffset, dropped: false }
    this.#queue.push(entry)
    this.#bytes += kept.length + ENTRY_OVERHEAD_BYTES
    return entry
  }

  /** @internal */
  shrink(): void {
    while (this.#bytes > this.#bytesMax && this.#head < this.#queue.length) {
      const oldest = this.#queue[this.#head++] as CachedBatch
      if (!oldest.dropped) {
        this.drop(oldest)
        oldest.owner.shift()
      }
    }
    if (this.#head > 1024 && this.#head * 2 > this.#queue.length) {
      this.#queue = this.#queue.slice(this.#head)
      this.#head = 0
    }
  }

  /** @internal */
  drop(entry: CachedBatch): void {
    entry.dropped = true
    this.#bytes -= entry.bytes.length + ENTRY_OVERHEAD_BYTES
    entry.bytes = NOTHING
  }
}

export class LogCache {
  readonly #cache: BatchCache
  #entries: CachedBatch[] = EMPTY
  #head = 0

  constructor(cache: BatchCache) {
    this.#cache = cache
  }

  /** First offset that can be answered; Infinity when nothing is held. */
  get startOffset(): number {
    return this.#entries[this.#head]?.baseOffset ?? Infinity
  }

  /** The next batch of the log, behind all that are held. */
  add(bytes: Uint8Array, baseOffset: number, lastOffset: number): void {
    if (this.#entries === EMPTY) this.#entries = []
    this.#entries.push(this.#cache.add(this, bytes, baseOffset, lastOffset))
    this.#cache.shrink()
  }

  /** Whole batches from the one that holds `offset` on; undefined where they are not held. */
  read(
    offset: number,
    endOffset: number,
    maxBytes: number,
    minOneBatch: boolean,
  ):
    | { bytes: Uint8Array[]; sizeBytes: number; firstOffset: number; nextOffset: number }
    | undefined {
    if (offset < this.startOffset) return undefined
    const entries = this.#entries
    let low = this.#head
    let high = entries.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((entries[middle] as CachedBatch).lastOffset < offset) low = middle + 1
      else high = middle
    }
    if (low === entries.length) return undefined
    const bytes: Uint8Array[] = []
    let sizeBytes = 0
    let firstOffset = offset
    let nextOffset = offset
    for (let index = low; index < entries.length; index++) {
      const entry = entries[index] as CachedBatch
      if (entry.lastOffset >= endOffset) break
      const size = sizeBytes + entry.bytes.length
      if (size > maxBytes && (bytes.length > 0 || !minOneBatch)) break
      if (bytes.length === 0) firstOffset = entry.baseOffset
      bytes.push(entry.bytes)
      sizeBytes = size
      nextOffset = entry.lastOffset + 1
    }
    return { bytes, sizeBytes, firstOffset, nextOffset }
  }

  /** The log now ends at `endOffset`. */
  truncate(endOffset: number): void {
    while (this.#entries.length > this.#head) {
      const last = this.#entries.at(-1) as CachedBatch
      if (last.lastOffset < endOffset) break
      this.#entries.pop()
      this.#cache.drop(last)
    }
  }

  /** What lies wholly below `offset` is not held any more: compaction has another form of it. */
  dropBelow(offset: number): void {
    while (this.#head < this.#entries.length) {
      const oldest = this.#entries[this.#head] as CachedBatch
      if (oldest.baseOffset >= offset) break
      this.#cache.drop(oldest)
      this.shift()
    }
  }

  clear(): void {
    this.truncate(0)
    this.#entries = EMPTY
    this.#head = 0
  }

  /** @internal The oldest one has been dropped by the bound over all logs. */
  shift(): void {
    this.#head++
    if (this.#head === this.#entries.length) {
      this.#entries = EMPTY
      this.#head = 0
    } else if (this.#head > 256 && this.#head * 2 > this.#entries.length) {
      this.#entries = this.#entries.slice(this.#head)
      this.#head = 0
    }
  }
}

const EMPTY: CachedBatch[] = []
