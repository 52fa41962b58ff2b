/** Why a run of `consume --exec` takes no more records. */

/** `done`, `idle`: what was taken is still worked on to its end. The others: nothing new is started. */
export type StopReason = 'signal' | 'timeout' | 'failed' | 'idle' | 'done'

export class ExecStop {
  /** The first counts, but what cuts a run short counts more than a proper end. */
  reason: StopReason | undefined
  readonly stopped: Promise<void>
  #resolve: () => void = () => undefined
  readonly #onStop: () => void

  constructor(onStop: () => void) {
    this.#onStop = onStop
    this.stopped = new Promise((resolve) => {
      this.#resolve = resolve
    })
  }

  stop(reason: StopReason): void {
    // A failure while the last work is being done is one nevertheless.
    if (this.reason !== undefined && (!this.isProper || isProperReason(reason))) return
    this.reason = reason
    this.#resolve()
    this.#onStop()
  }

  /** It ends as it was meant to, or has not been stopped. */
  get isProper(): boolean {
    return this.reason === undefined || isProperReason(this.reason)
  }
}

function isProperReason(reason: StopReason): boolean {
  return reason === 'done' || reason === 'idle'
}
