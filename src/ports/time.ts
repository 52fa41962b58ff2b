/** Time as the core sees it. Real: src/io/real-time.ts; simulated: test/sim. */

export interface Timer {
  /** Idempotent; the callback never runs afterwards. */
  cancel(): void
}

export interface Time {
  /** Milliseconds since 1970, an integer. May jump in either direction. */
  wallMs(): number
  /** Monotonic milliseconds with fraction; the origin is arbitrary. Deadlines and leases use only this. */
  monotonicMs(): number
  /** Runs `callback` once, not before `delayMs` (at least 0) have passed. */
  setTimer(delayMs: number, callback: () => void): Timer
}

/** Resolves after `delayMs`. */
export function sleep(time: Time, delayMs: number): Promise<void> {
  return new Promise((resolve) => {
    time.setTimer(delayMs, resolve)
  })
}
