/**
 * SIGINT, SIGTERM, SIGHUP as a command sees them (commands.md, section 1): the first asks it to stop reading and to
 * deliver or write what was taken; the second ends at once. A command that listens to nobody ends at the first.
 */

import type { DeathSignal, Host } from '../src/ports/host.ts'

const signals: readonly (DeathSignal & ('SIGINT' | 'SIGTERM' | 'SIGHUP'))[] = [
  'SIGINT',
  'SIGTERM',
  'SIGHUP',
]

export class Interruption {
  /** The signal that asked to stop; the command dies by it when it is done. */
  signal: DeathSignal | undefined
  readonly #listeners = new Set<() => void>()

  /** Takes the three signals over from their default action. */
  attach(host: Host): void {
    for (const signal of signals) {
      host.onSignal(signal, () => {
        if (this.signal !== undefined || this.#listeners.size === 0) host.dieBySignal(signal)
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
