/** Brings something to where it should be, again and again: soon after it is woken, and every now and then in any case. */
import type { Time, Timer } from '../../src/ports/time.ts'

export class LevelLoop {
  readonly #time: Time
  readonly #pauseMs: number
  readonly #pass: () => Promise<void>
  #timer: Timer | undefined
  #running: Promise<void> | undefined
  /** Woken while a pass was under way, which may have looked already. */
  #isWanted = false
  #isStopped = false

  /** @param pass  one at a time; it must not fail */
  constructor(time: Time, pauseMs: number, pass: () => Promise<void>) {
    this.#time = time
    this.#pauseMs = pauseMs
    this.#pass = pass
  }

  /** As soon as may be; never from inside of a caller's turn. */
  wake(): void {
    if (this.#isStopped) return
    if (this.#running !== undefined) {
      this.#isWanted = true
      return
    }
    this.#runAfter(0)
  }

  /** Resolves when the pass that is under way has ended. */
  async stop(): Promise<void> {
    this.#isStopped = true
    this.#timer?.cancel()
    await this.#running
  }

  #runAfter(delayMs: number): void {
    this.#timer?.cancel()
    this.#timer = this.#time.setTimer(delayMs, () => {
      this.#isWanted = false
      this.#running = this.#pass().finally(() => {
        this.#running = undefined
        if (!this.#isStopped) this.#runAfter(this.#isWanted ? 0 : this.#pauseMs)
      })
    })
  }
}
