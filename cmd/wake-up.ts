/**
 * One wait for whichever of many things comes first. Unlike a race of promises it leaves nothing behind with those that have
 * not come: a loop may wait so for as long as it likes.
 */

import type { Time, Timer } from '../src/ports/time.ts'

export class WakeUp {
  readonly #time: Time
  readonly #armed = new Set<string>()
  #isAwake = false
  #resolve: (() => void) | undefined

  constructor(time: Time) {
    this.#time = time
  }

  /** Ends the wait, or the next one. */
  wake(): void {
    this.#isAwake = true
    this.#resolve?.()
  }

  /** Wakes when `promise` resolves; asked for again under a name that still waits, nothing is done. */
  arm(name: string, start: () => Promise<unknown>): void {
    if (this.#armed.has(name)) return
    this.#armed.add(name)
    const onEnd = (): void => {
      this.#armed.delete(name)
      this.wake()
    }
    start().then(onEnd, onEnd)
  }

  /** @param timeoutMs  Infinity: as long as it takes */
  async wait(timeoutMs: number): Promise<void> {
    let timer: Timer | undefined
    if (!this.#isAwake) {
      await new Promise<void>((resolve) => {
        this.#resolve = resolve
        if (timeoutMs !== Number.POSITIVE_INFINITY) {
          timer = this.#time.setTimer(Math.max(1, timeoutMs), resolve)
        }
      })
    }
    timer?.cancel()
    this.#resolve = undefined
    this.#isAwake = false
  }
}
