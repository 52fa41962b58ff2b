/** `--rate`: how long to wait so that a rate is not exceeded. Post-paid: what is taken is counted, then waited for. */

import type { Time } from '../src/ports/time.ts'
import type { Rate } from '../src/text/units.ts'

/** So much may be caught up after a pause, so that small waits do not lower the rate. */
const BURST_MS = 100

export class Pacer {
  readonly #time: Time
  readonly #rate: Rate
  /** When all that was taken has been paid for. */
  #paidAtMs: number

  constructor(time: Time, rate: Rate) {
    this.#time = time
    this.#rate = rate
    this.#paidAtMs = time.monotonicMs()
  }

  take(records: number, bytes: number): void {
    const amount = this.#rate.unit === 'records' ? records : bytes
    const earliestMs = this.#time.monotonicMs() - BURST_MS
    if (this.#paidAtMs < earliestMs) this.#paidAtMs = earliestMs
    this.#paidAtMs += (amount / this.#rate.perSecond) * 1000
  }

  /** 0 if nothing has to be waited for. */
  get waitMs(): number {
    return Math.max(0, this.#paidAtMs - this.#time.monotonicMs())
  }
}
