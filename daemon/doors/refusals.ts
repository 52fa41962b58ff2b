/**
 * Tells the operator about peers that were not let in: one line for a cause and a peer, then at most one a minute with how often
 * it has happened since. The memory is bounded; a full one begins anew.
 */
import type { Log } from '../../src/ports/log.ts'
import type { LinkRefusal } from '../../src/ports/net.ts'
import type { Time } from '../../src/ports/time.ts'

const PAUSE_MS = 60_000
const REMEMBERED_MAX = 1000
/** Lines a minute over all peers: a thousand keys that nobody knows are one story. */
const LINES_MAX = 20

interface Told {
  atMs: number
  untold: number
}

export class Refusals {
  readonly #time: Time
  readonly #log: Log
  readonly #told = new Map<string, Told>()
  #minuteMs = Number.NEGATIVE_INFINITY
  #lines = 0

  constructor(time: Time, log: Log) {
    this.#time = time
    this.#log = log
  }

  /** @param address  the listener's */
  tell(address: string, { why, peer, publicKey }: LinkRefusal): void {
    const nowMs = this.#time.monotonicMs()
    const key = `${address} ${peer ?? ''} ${publicKey ?? ''} ${why}`
    const told = this.#told.get(key)
    if (told !== undefined && nowMs - told.atMs < PAUSE_MS) {
      told.untold += 1
      return
    }
    if (!this.#takeLine(nowMs)) return
    if (this.#told.size >= REMEMBERED_MAX) this.#told.clear()
    this.#told.set(key, { atMs: nowMs, untold: 0 })
    this.#log.warn(`refused a peer: ${why}`, {
      listener: address,
      peer,
      key: publicKey,
      ...(told === undefined || told.untold === 0 ? {} : { again: told.untold }),
    })
  }

  #takeLine(nowMs: number): boolean {
    if (nowMs - this.#minuteMs >= PAUSE_MS) {
      this.#minuteMs = nowMs
      this.#lines = 0
    }
    this.#lines += 1
    return this.#lines <= LINES_MAX
  }
}
