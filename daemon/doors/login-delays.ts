/**
 * Slows down who guesses: after failed logins of one name from one address the next attempts wait, each twice as long as the one before,
 * and one after the other however many connections it has. Names do not pay for each other: behind one address, a host that is shared or
 * a router, there may be many. An address that fails with many names is slowed down as a whole with all that it has not failed with.
 * Names of users and others are treated alike, so nobody learns who exists. The memory is bounded; the oldest address is forgotten first.
 */

import type { Time, Timer } from '../../src/ports/time.ts'

const DELAY_MS_MAX = 5000
/** Whoever would wait longer is put off, not judged: else those who come again faster than they are judged shut all others out. */
const WAIT_MS_MAX = 6000
const FORGET_MS = 10 * 60_000
const GUESSERS_MAX = 10_000
/** Of one address; what it fails with beyond them counts together. */
const NAMES_MAX = 64
const NAME_LENGTH_MAX = 200
const ALL_OTHERS = ''

interface Guesser {
  failures: number
  /** When its next attempt may be judged. */
  nextMs: number
  lastMs: number
}

type Names = Map<string, Guesser>

export class LoginDelays {
  readonly #time: Time
  readonly #firstMs: number
  readonly #addresses = new Map<string, Names>()
  readonly #pauses = new Set<() => void>()
  #size = 0
  #isStopped = false

  /** @param firstMs  after the first failure; 0: never */
  constructor(time: Time, firstMs: number) {
    this.#time = time
    this.#firstMs = firstMs
  }

  get size(): number {
    return this.#size
  }

  /** Resolves when an attempt of `user` from `address` may be judged. @returns false: it may not, too many wait */
  async turn(address: string, user: string): Promise<boolean> {
    const names = this.#addresses.get(address)
    if (names === undefined) return true
    const guesser = names.get(this.#nameIn(names, user))
    if (names.size === 0) this.#addresses.delete(address)
    if (guesser === undefined) return true
    const nowMs = this.#time.monotonicMs()
    const atMs = Math.max(nowMs, guesser.nextMs)
    if (atMs - nowMs > WAIT_MS_MAX) return false
    guesser.nextMs = atMs + this.#delayMs(guesser)
    if (atMs > nowMs) await this.#pause(atMs - nowMs)
    return !this.#isStopped
  }

  /** Resolves when the failure may be told. */
  async failed(address: string, user: string): Promise<void> {
    if (this.#firstMs <= 0) return
    const nowMs = this.#time.monotonicMs()
    const names: Names = this.#addresses.get(address) ?? new Map()
    const name = this.#nameIn(names, user)
    const guesser = names.get(name) ?? { failures: 0, nextMs: nowMs, lastMs: nowMs }
    guesser.failures += 1
    guesser.lastMs = nowMs
    guesser.nextMs = Math.max(guesser.nextMs, nowMs + this.#delayMs(guesser))
    if (!names.has(name)) {
      if (this.#size >= GUESSERS_MAX) this.#forgetOldest()
      names.set(name, guesser)
      this.#size += 1
    }
    this.#addresses.delete(address)
    this.#addresses.set(address, names)
    await this.#pause(this.#firstMs)
  }

  /** What others of that address have failed with still counts: who has a login of his own may guess that of another. */
  succeeded(address: string, user: string): void {
    const names = this.#addresses.get(address)
    if (names === undefined || user === ALL_OTHERS) return
    if (names.delete(user)) this.#size -= 1
    if (names.size === 0) this.#addresses.delete(address)
  }

  /** The daemon stops: who waits is put off now, and nobody waits any more. */
  stop(): void {
    this.#isStopped = true
    for (const end of [...this.#pauses]) end()
  }

  #pause(delayMs: number): Promise<void> | undefined {
    if (this.#isStopped) return undefined
    return new Promise((resolve) => {
      let timer: Timer | undefined
      const end = (): void => {
        timer?.cancel()
        this.#pauses.delete(end)
        resolve()
      }
      this.#pauses.add(end)
      timer = this.#time.setTimer(delayMs, end)
    })
  }

  /** Under which name an attempt counts; what is too long ago is forgotten first. */
  #nameIn(names: Names, user: string): string {
    for (const [name, { lastMs }] of names) {
      if (this.#time.monotonicMs() - lastMs < FORGET_MS) continue
      names.delete(name)
      this.#size -= 1
    }
    const isOwn = user.length <= NAME_LENGTH_MAX && (names.has(user) || names.size < NAMES_MAX)
    return isOwn ? user : ALL_OTHERS
  }

  #forgetOldest(): void {
    const [oldest] = this.#addresses
    if (oldest === undefined) return
    this.#addresses.delete(oldest[0])
    this.#size -= oldest[1].size
  }

  #delayMs({ failures }: Guesser): number {
    return Math.min(DELAY_MS_MAX, this.#firstMs * 2 ** Math.min(30, failures - 1))
  }
}
