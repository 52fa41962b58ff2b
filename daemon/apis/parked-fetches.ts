/**
 * How many fetches wait for records: a bound over all connections. A fetch that finds no room is answered at once. And
 * which fetch of each follower waits; those are as many as there are brokers.
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
  readonly #followers = new Map<number, FollowerSlot>()
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

  ofFollower(nodeId: number): FollowerSlot {
    let slot = this.#followers.get(nodeId)
    if (slot === undefined) {
      slot = { waiting: undefined, lastEarlyMs: Number.NEGATIVE_INFINITY }
      this.#followers.set(nodeId, slot)
    }
    return slot
  }
}
