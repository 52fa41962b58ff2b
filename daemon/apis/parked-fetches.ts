/**
 * How many fetches wait for records: a bound over all connections. A fetch that finds no room is answered at once. And
 * which fetches of each follower wait; those are at most two a broker.
 */

/** What is remembered of one follower between its fetches. */
export interface FollowerSlot {
  /** Its fetch that waits. */
  waiting: { supersede(): void } | undefined
  /** When a fetch was last answered for its high watermark's sake. */
  lastEarlyMs: number
}

export class ParkedFetches {
  readonly #countMax: number
  readonly #followers = new Map<string, FollowerSlot>()
  #count = 0

  constructor(countMax: number) {
    this.#countMax = countMax
  }

  get count(): number {
    return this.#count
  }

  enter(): boolean {
    if (this.#count >= this.#countMax) return false
    this.#count += 1
    return true
  }

  leave(): void {
    this.#count -= 1
  }

  /** @param isBusy  of the two fetches that it may have here, the one for partitions that get records (FetchLanes) */
  ofFollower(nodeId: number, isBusy: boolean): FollowerSlot {
    const key = `${nodeId} ${isBusy}`
    let slot = this.#followers.get(key)
    if (slot === undefined) {
      slot = { waiting: undefined, lastEarlyMs: Number.NEGATIVE_INFINITY }
      this.#followers.set(key, slot)
    }
    return slot
  }
}
