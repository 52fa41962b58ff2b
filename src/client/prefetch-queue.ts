/** What a consumer has fetched and not handed out yet, in the order in which it came. */
import type { ConsumerEvent, RecordsEvent } from './consumer-events.ts'
import type { Part } from './consumer-part.ts'
import type { Fetched } from './fetched-batches.ts'

export type PrefetchItem = Fetched | Exclude<ConsumerEvent, RecordsEvent>

export interface Prefetched {
  readonly part: Part
  readonly item: PrefetchItem
  /** What it counts against the limit. */
  readonly bytes: number
}

export class PrefetchQueue {
  readonly #entries: Prefetched[] = []
  #bytes = 0

  get bytes(): number {
    return this.#bytes
  }

  push(part: Part, item: PrefetchItem, bytes: number): void {
    part.queued++
    this.#bytes += bytes
    this.#entries.push({ part, item, bytes })
  }

  /** The first one of a partition that is not paused. */
  take(): Prefetched | undefined {
    const index = this.#entries.findIndex(isOpen)
    return index < 0 ? undefined : this.#remove(index)
  }

  /** Whether there is something to take. */
  get isReady(): boolean {
    return this.#entries.some(isOpen)
  }

  /** What is held for paused partitions does not count: nobody would ever take it, and the others would starve. */
  isFilled(bytesMax: number): boolean {
    if (this.#bytes < bytesMax) return false
    let bytes = 0
    for (const entry of this.#entries) if (isOpen(entry)) bytes += entry.bytes
    return bytes >= bytesMax
  }

  /** Drops all of a partition. */
  drop(part: Part): void {
    this.#dropFrom(part, 0)
  }

  /**
   * Drops what a partition has from the first block on that was read from a file, and gives the blocks back.
   *
   * @returns  the offset from which it is to be read again; undefined: nothing was from a file
   */
  dropLocal(part: Part): number | undefined {
    for (const [index, { part: other, item }] of this.#entries.entries()) {
      if (other !== part || 'kind' in item || item.release === undefined) continue
      this.#dropFrom(part, index)
      return item.fromOffset
    }
    return undefined
  }

  clear(): void {
    this.#entries.length = 0
    this.#bytes = 0
  }

  #dropFrom(part: Part, from: number): void {
    for (let index = this.#entries.length - 1; index >= from; index--) {
      if (this.#entries[index]?.part !== part) continue
      const { item } = this.#remove(index)
      if (!('kind' in item)) item.release?.()
    }
  }

  #remove(index: number): Prefetched {
    const [entry] = this.#entries.splice(index, 1) as [Prefetched]
    entry.part.queued--
    this.#bytes -= entry.bytes
    return entry
  }
}

function isOpen({ part }: Prefetched): boolean {
  return !part.isPaused
}
