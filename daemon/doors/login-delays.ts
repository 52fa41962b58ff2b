/**
 * Slows down who guesses: after failed logins from one address its next attempts wait, each twice as long as the one before,
 * and one after the other however many connections it has. The memory is bounded; the oldest address is forgotten first.
 */

import { sleep, type Time } from '../../src/ports/time.ts'

const DELAY_MS_MAX = 5000
/** Whoever would wait longer is turned away, not judged: else those who come again faster than they are judged shut all others out. */
const WAIT_MS_MAX = 6000
const FORGET_MS = 10 * 60_000
const ADDRESSES_MAX = 10_000

interface Guesser {
  failures: number
  /** When its next attempt may be judged. */
  nextMs: number
  lastMs: number
}

export class LoginDelays {
  readonly #time: Time
  readonly #firstMs: number
  readonly #guessers = new Map<string, Guesser>()

  /** @param firstMs  after the first failure; 0: never */
  constructor(time: Time, firstMs: number) {
    this.#time = time
    this.#firstMs = firstMs
  }

  get size(): number {
    return this.#guessers.size
  }

  /** Resolves when an attempt from `address` may be judged. @returns false: it may not, too many wait */
  async turn(address: string): Promise<boolean> {
    const guesser = this.#known(address)
    if (guesser === undefined) return true
    const nowMs = this.#time.monotonicMs()
    const atMs = Math.max(nowMs, guesser.nextMs)
    if (atMs - nowMs > WAIT_MS_MAX) return false
    guesser.nextMs = atMs + this.#delayMs(guesser)
    if (atMs > nowMs) await sleep(this.#time, atMs - nowMs)
    return true
  }

  /** Resolves when the failure may be told. */
  async failed(address: string): Promise<void> {
    if (this.#firstMs <= 0) return
    const nowMs = this.#time.monotonicMs()
    const guesser = this.#known(address) ?? { failures: 0, nextMs: nowMs, lastMs: nowMs }
    guesser.failures += 1
    guesser.lastMs = nowMs
    guesser.nextMs = Math.max(guesser.nextMs, nowMs + this.#delayMs(guesser))
    this.#guessers.delete(address)
    if (this.#guessers.size >= ADDRESSES_MAX) {
      const [oldest] = this.#guessers.keys()
      if (oldest !== undefined) this.#guessers.delete(oldest)
    }
    this.#guessers.set(address, guesser)
    await sleep(this.#time, this.#firstMs)
  }

  succeeded(address: string): void {
    this.#guessers.delete(address)
  }

  #known(address: string): Guesser | undefined {
    const guesser = this.#guessers.get(address)
    if (guesser === undefined) return undefined
    if (this.#time.monotonicMs() - guesser.lastMs < FORGET_MS) return guesser
    this.#guessers.delete(address)
    return undefined
  }

  #delayMs({ failures }: Guesser): number {
    return Math.min(DELAY_MS_MAX, this.#firstMs * 2 ** Math.min(30, failures - 1))
  }
}
