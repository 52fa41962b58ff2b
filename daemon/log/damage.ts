/**
 * Finding the way behind bytes that are not a batch (replication.md section 7.3). Used by recovery, to tell a torn tail
 * from corruption, and by readers, to serve the rest.
 *
 * A place counts as the way on only if a chain of sound batches leads from it to something that is known to be right: a
 * place the offset index names, or else the end of the search. So a batch that somebody stored inside a record is not
 * taken for one of the log.
 */
import {
  baseOffsetAt,
  batchBytesAt,
  HEADER_BYTES,
  leaderEpochAt,
  MAGIC_AT,
} from '../../src/record/batch-layout.ts'
import { BatchWalk, type WalkedFile, walkAll } from './batch-walk.ts'
import type { Segment } from './segment.ts'

/** Checksummed in search of a way on, at most; beyond it only places that the index names are tried. */
const SEARCH_BYTES_MAX = 256 * 1024 * 1024
const WINDOW_BYTES = 1024 * 1024

export interface SearchBounds {
  /** Where the damage begins. */
  readonly position: number
  /** Exclusive. */
  readonly endPosition: number
  /** A batch behind the damage begins at or beyond this offset … */
  readonly offsetMin: number
  /** … and below this one. */
  readonly offsetEnd: number
  /** Leader epochs outside are not of this log here. */
  readonly epochMin: number
  readonly epochMax: number
}

export interface WayOn {
  readonly position: number
  readonly offset: number
}

/** The first sound batch behind `bounds.position`; undefined: there is none in this segment. */
export async function findWayOn(
  file: WalkedFile,
  segment: Segment,
  bounds: SearchBounds,
): Promise<WayOn | undefined> {
  const search = new Search(file, bounds)
  let anchor: WayOn | undefined
  for (const entry of segment.offsetIndex.entriesBehind(bounds.position)) {
    if (entry.position >= bounds.endPosition) break
    anchor = await search.soundBatchAt(entry.position, entry.offset)
    if (anchor !== undefined) break
  }
  return (await search.scanTo(anchor)) ?? anchor
}

class Search {
  readonly #file: WalkedFile
  readonly #bounds: SearchBounds
  #bytesLeft = SEARCH_BYTES_MAX

  constructor(file: WalkedFile, bounds: SearchBounds) {
    this.#file = file
    this.#bounds = bounds
  }

  async soundBatchAt(position: number, lastOffset: number): Promise<WayOn | undefined> {
    const walk = this.#walk(position, this.#bounds.endPosition)
    let found: WayOn | undefined
    await walkAll(walk, () => {
      const offset = baseOffsetAt(walk.bytes, walk.at)
      if (walk.lastOffset === lastOffset && this.#isPlausible(walk.bytes, walk.at)) {
        found = { position, offset }
      }
      return false
    })
    return found
  }

  /** The first place between the damage and `anchor` from which sound batches lead to it, or to the end. */
  async scanTo(anchor: WayOn | undefined): Promise<WayOn | undefined> {
    const { position, endPosition } = this.#bounds
    const limit = anchor?.position ?? endPosition
    const window = new Uint8Array(WINDOW_BYTES + HEADER_BYTES)
    for (let start = position + 1; start + HEADER_BYTES <= limit; start += WINDOW_BYTES) {
      const count = await this.#file.readAsync(start, window)
      const candidates = Math.min(count - HEADER_BYTES + 1, WINDOW_BYTES, limit - start)
      for (let at = 0; at < candidates; at++) {
        if (window[at + MAGIC_AT] !== 2 || window[at] !== 0) continue
        const batchBytes = batchBytesAt(window, at)
        if (batchBytes < HEADER_BYTES || start + at + batchBytes > limit) continue
        if (!this.#isPlausible(window, at)) continue
        const offset = baseOffsetAt(window, at)
        if (await this.#leadsTo(start + at, limit, anchor !== undefined)) {
          return { position: start + at, offset }
        }
        if (this.#bytesLeft <= 0) return undefined
      }
    }
    return undefined
  }

  /** Sound batches from `position` to exactly `limit`, or, where nothing is known of the end, at least one. */
  async #leadsTo(position: number, limit: number, exactly: boolean): Promise<boolean> {
    const walk = this.#walk(position, limit)
    let count = 0
    const outcome = await walkAll(walk, () => {
      count++
      this.#bytesLeft -= walk.batchBytes
      return this.#bytesLeft > 0
    })
    this.#bytesLeft -= HEADER_BYTES
    if (exactly) return outcome === 'end'
    return count > 0
  }

  #walk(position: number, end: number): BatchWalk {
    return new BatchWalk(this.#file, { start: position, end, mode: 'whole' })
  }

  #isPlausible(bytes: Uint8Array, at: number): boolean {
    const { offsetMin, offsetEnd, epochMin, epochMax } = this.#bounds
    const offset = baseOffsetAt(bytes, at)
    const epoch = leaderEpochAt(bytes, at)
    return offset >= offsetMin && offset < offsetEnd && epoch >= epochMin && epoch <= epochMax
  }
}
