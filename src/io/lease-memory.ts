/**
 * What the main thread and the thread that guards a lease know of it, in memory they share. Times are whole milliseconds of the
 * monotonic clock, which all threads of a process share.
 */

const TICKED_MS = 0
const RENEWED_MS = 1
const SLOTS = 2

/** Looks and ticks in the life of a lease. */
export const LOOKS = 6

export type GuardOrder =
  | {
      readonly kind: 'guard'
      readonly leaseId: string
      readonly ttlMs: number
      readonly memory: SharedArrayBuffer
    }
  | { readonly kind: 'release'; readonly leaseId: string }

export class LeaseMemory {
  readonly buffer: SharedArrayBuffer
  readonly #slots: BigInt64Array

  constructor(buffer = new SharedArrayBuffer(SLOTS * BigInt64Array.BYTES_PER_ELEMENT)) {
    this.buffer = buffer
    this.#slots = new BigInt64Array(buffer)
  }

  /** When the main thread was last seen to move. */
  get tickedMs(): number {
    return Number(Atomics.load(this.#slots, TICKED_MS))
  }

  set tickedMs(ms: number) {
    this.#raise(TICKED_MS, ms)
  }

  /** When the last keep-alive was sent that was acknowledged, whoever sent it. */
  get renewedMs(): number {
    return Number(Atomics.load(this.#slots, RENEWED_MS))
  }

  set renewedMs(ms: number) {
    this.#raise(RENEWED_MS, ms)
  }

  /** Both threads raise it, neither takes it back. Rounded down: a lease is never believed to live longer than it does. */
  #raise(slot: number, ms: number): void {
    const value = BigInt(Math.floor(ms))
    for (;;) {
      const known = Atomics.load(this.#slots, slot)
      if (known >= value) return
      if (Atomics.compareExchange(this.#slots, slot, known, value) === known) return
    }
  }
}
