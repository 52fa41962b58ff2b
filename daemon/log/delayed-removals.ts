/**
 * What has been taken out of the logs, and leaves the disk file.delete.delay.ms later, so that a read under way ends well; or
 * at once, when the disk has no room left for appends. What a removal cannot take away, and what a crash or an end
 * leaves, goes at the next start.
 */
import { isStreamError } from '../../src/base/errors.ts'
import type { Log } from '../../src/ports/log.ts'
import type { Time, Timer } from '../../src/ports/time.ts'

interface Removal {
  /** For people. */
  readonly path: string
  readonly owner: object
  readonly remove: () => void
  readonly timer: Timer
}

export class DelayedRemovals {
  readonly #time: Time
  readonly #log: Log
  readonly #waiting = new Set<Removal>()

  constructor(time: Time, log: Log) {
    this.#time = time
    this.#log = log
  }

  /** @param owner  who may cancel it  @param remove  may throw StreamErrors of the disk: they are told, and that is all */
  add(owner: object, delayMs: number, path: string, remove: () => void): void {
    if (delayMs <= 0) {
      removeOrTell(this.#log, path, remove)
      return
    }
    const timer = this.#time.setTimer(delayMs, () => {
      this.#waiting.delete(removal)
      removeOrTell(this.#log, path, remove)
    })
    const removal: Removal = { path, owner, remove, timer }
    this.#waiting.add(removal)
  }

  /** Leaves to the next start what is waiting. */
  cancel(owner: object): void {
    for (const removal of [...this.#waiting]) {
      if (removal.owner !== owner) continue
      removal.timer.cancel()
      this.#waiting.delete(removal)
    }
  }

  /** For want of space. @returns whether anything was removed */
  runAll(): boolean {
    const waiting = [...this.#waiting]
    this.#waiting.clear()
    for (const { timer, path, remove } of waiting) {
      timer.cancel()
      removeOrTell(this.#log, path, remove)
    }
    return waiting.length > 0
  }
}

/** What cannot be removed takes space and is in nobody's way: no reason to end, or not to start. */
export function removeOrTell(log: Log, path: string, remove: () => void): void {
  try {
    remove()
  } catch (error) {
    if (!isStreamError(error)) throw error
    log.warn('what was deleted cannot be removed from the disk; each start tries again', {
      path,
      error: error.message,
    })
  }
}
