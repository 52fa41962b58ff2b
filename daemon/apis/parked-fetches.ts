/** How many fetches wait for records: a bound over all connections. A fetch that finds no room is answered at once. */

export class ParkedFetches {
  readonly #countMax: number
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
}
