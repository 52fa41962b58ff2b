/** A warning that would come again and again while its cause lasts: told once, when it changes, and then once a minute. */
import { isStreamError } from '../../src/base/errors.ts'
import type { Log } from '../../src/ports/log.ts'
import type { Time } from '../../src/ports/time.ts'

const PAUSE_MS = 60_000

export class RepeatedWarning {
  readonly #time: Time
  readonly #log: Log
  readonly #message: string
  #told: { readonly why: string; readonly atMs: number } | undefined

  constructor(time: Time, log: Log, message: string) {
    this.#time = time
    this.#log = log
    this.#message = message
  }

  tell(error: unknown): void {
    const why = error instanceof Error ? error.message : String(error)
    const nowMs = this.#time.monotonicMs()
    const told = this.#told
    if (told !== undefined && told.why === why && nowMs - told.atMs < PAUSE_MS) return
    this.#told = { why, atMs: nowMs }
    const hint = isStreamError(error) ? error.hint : undefined
    this.#log.warn(this.#message, { error: why, hint })
  }

  /** The cause is gone: the next one is told at once. @returns whether there was one */
  over(): boolean {
    const was = this.#told !== undefined
    this.#told = undefined
    return was
  }
}
