/**
 * SIGINT, SIGTERM, SIGHUP as a command sees them (commands.md, section 1): the first asks it to stop reading and to
 * deliver or write what was taken; the second ends at once. A command that listens to nobody ends at the first.
 *
 * timeout(1) sends its signal to the command and then to the whole group, so the command hears it twice within a moment: a repeat
 * of the first signal counts as the second only after REPEAT_MS.
 */

import type { DeathSignal, Host } from '../src/ports/host.ts'
import type { Time } from '../src/ports/time.ts'

const REPEAT_MS = 250

const signals: readonly (DeathSignal & ('SIGINT' | 'SIGTERM' | 'SIGHUP'))[] = [
  'SIGINT',
  'SIGTERM',
  'SIGHUP',
]

export class Interruption {
  /** The signal that asked to stop; the command dies by it when it is done. */
  signal: DeathSignal | undefined
  #raisedMs = 0
  readonly #listeners = new Set<() => void>()

  /** Takes the three signals over from their default action. */
  attach(host: Pick<Host, 'onSignal' | 'dieBySignal'>, time: Pick<Time, 'monotonicMs'>): void {
    for (const signal of signals) {
      host.onSignal(signal, () => {
        const nowMs = time.monotonicMs()
        if (this.signal === signal && nowMs - this.#raisedMs < REPEAT_MS) return
        if (this.signal !== undefined || this.#listeners.size === 0) host.dieBySignal(signal)
        this.#raisedMs = nowMs
        this.raise(signal)
      })
    }
  }

  raise(signal: DeathSignal): void {
    this.signal = signal
    for (const listener of [...this.#listeners]) listener()
  }

  /** @returns a function that ends the subscription */
  onRaised(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => {
      this.#listeners.delete(listener)
    }
  }
}
