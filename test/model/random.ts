/** Small seeded generator (xorshift32): one number per choice, the same walk for the same seed on every machine. */
export class ModelRandom {
  #state = 1

  seed(seed: number): void {
    // Neighbouring seeds must not give neighbouring walks.
    let mixed = (seed ^ 0x9e3779b9) >>> 0
    mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b) >>> 0
    mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35) >>> 0
    mixed = (mixed ^ (mixed >>> 16)) >>> 0
    this.#state = mixed === 0 ? 1 : mixed
  }

  /** @returns an integer in [0, bound); bound ≥ 1 */
  below(bound: number): number {
    let state = this.#state
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    this.#state = state
    return (state >>> 0) % bound
  }

  /** @returns an integer in [low, high], both included */
  between(low: number, high: number): number {
    return high <= low ? low : low + this.below(high - low + 1)
  }

  /** True in `percent` of 100 cases. */
  chance(percent: number): boolean {
    return percent > 0 && this.below(1000) < percent * 10
  }
}
