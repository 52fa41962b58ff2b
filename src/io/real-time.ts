/** The clocks and timers of the machine. */
import type { Time, Timer } from '../ports/time.ts'
import { monotonicMs } from './monotonic.ts'

/** setTimeout takes at most this; longer delays fire at once. */
const DELAY_MS_MAX = 0x7fffffff

class RealTimer implements Timer {
  private handle: NodeJS.Timeout | NodeJS.Immediate | undefined
  private readonly callback: () => void
  private readonly dueMs: number

  constructor(delayMs: number, callback: () => void) {
    this.callback = callback
    this.dueMs = monotonicMs() + delayMs
    this.arm(delayMs)
  }

  cancel(): void {
    if (this.handle === undefined) return
    clearTimeout(this.handle as NodeJS.Timeout)
    this.handle = undefined
  }

  private arm(delayMs: number): void {
    this.handle = setTimeout(() => this.fire(), Math.min(delayMs, DELAY_MS_MAX))
  }

  private fire(): void {
    this.handle = undefined
    // Node rounds delays down to whole milliseconds and caps them; the port promises "not before".
    const remainingMs = this.dueMs - monotonicMs()
    if (remainingMs > 0) {
      this.arm(Math.ceil(remainingMs))
      return
    }
    this.callback()
  }
}

export class RealTime implements Time {
  wallMs(): number {
    return Date.now()
  }

  monotonicMs(): number {
    return monotonicMs()
  }

  setTimer(delayMs: number, callback: () => void): Timer {
    return new RealTimer(Math.max(0, delayMs), callback)
  }
}
