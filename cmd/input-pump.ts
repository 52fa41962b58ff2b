/**
 * Moves bytes from an input to a sink that may be full for a while: the driver of `produce`.
 *
 * (1) feed the sink; (2) if it took all, go on at once, without a promise; (3) else pause the input, which keeps the
 * chunk's memory as it is, wait for the sink, feed it the rest, and resume. An end or a stop during (3) waits for it.
 */

import type { ByteInput } from '../src/ports/stdio.ts'

export interface ChunkSink {
  /** Takes `chunk[start, end)`. @returns where it stopped; less than `end` only when it is blocked */
  feed(chunk: Uint8Array, start: number, end: number): number
  /** Whether it wants to be waited for before it is fed again. */
  readonly isBlocked: boolean
  ready(): Promise<void>
  /** All bytes of a chunk have been taken. */
  onChunk?(chunk: Uint8Array, start: number, end: number): void
}

export class InputPump {
  readonly #sink: ChunkSink
  #input: ByteInput | undefined
  #resolve: ((reason: 'end' | 'stopped') => void) | undefined
  #reject: ((error: unknown) => void) | undefined
  #isBusy = false
  #isStopped = false
  #hasEnded = false
  #endError: Error | undefined
  #failure: { readonly error: unknown } | undefined
  readonly #queue: Uint8Array[] = []

  constructor(sink: ChunkSink) {
    this.#sink = sink
  }

  /** One input to its end. @returns `stopped` after stop(). @throws what the sink or the input throws, or fail() was given */
  run(input: ByteInput): Promise<'end' | 'stopped'> {
    this.#hasEnded = false
    this.#endError = undefined
    return new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
      if (this.#failure !== undefined) {
        this.#settle()
        return
      }
      if (this.#isStopped) {
        resolve('stopped')
        return
      }
      this.#input = input
      input.start({
        onBytes: (chunk, start, end) => this.#onBytes(chunk, start, end),
        onEnd: (error) => {
          this.#hasEnded = true
          this.#endError = error
          this.#settle()
        },
      })
    })
  }

  /** Reads nothing more; what is in hand is still fed. */
  stop(): void {
    this.#isStopped = true
    this.#input?.close()
    this.#settle()
  }

  /** Ends the run with an error, at once. */
  fail(error: unknown): void {
    this.#failure ??= { error }
    this.#input?.close()
    this.#settle()
  }

  #onBytes(chunk: Uint8Array, start: number, end: number): void {
    if (this.#failure !== undefined) return
    if (this.#isBusy) {
      // At most one chunk comes after a pause.
      this.#queue.push(Uint8Array.from(chunk.subarray(start, end)))
      return
    }
    try {
      const at = this.#sink.feed(chunk, start, end)
      if (at === end && !this.#sink.isBlocked) {
        this.#sink.onChunk?.(chunk, start, end)
        return
      }
      this.#input?.pause()
      this.#isBusy = true
      void this.#drain(chunk, start, at, end)
    } catch (error) {
      this.fail(error)
    }
  }

  async #drain(chunk: Uint8Array, start: number, from: number, end: number): Promise<void> {
    try {
      await this.#feedAll(chunk, start, from, end)
      for (;;) {
        const next = this.#queue.shift()
        if (next === undefined) break
        await this.#feedAll(next, 0, 0, next.length)
      }
    } catch (error) {
      this.#isBusy = false
      this.fail(error)
      return
    }
    this.#isBusy = false
    if (!this.#isStopped && !this.#hasEnded && this.#failure === undefined) this.#input?.resume()
    this.#settle()
  }

  async #feedAll(chunk: Uint8Array, start: number, from: number, end: number): Promise<void> {
    let at = from
    while (this.#failure === undefined) {
      if (this.#sink.isBlocked) await this.#sink.ready()
      if (at === end && !this.#sink.isBlocked) break
      at = this.#sink.feed(chunk, at, end)
    }
    this.#sink.onChunk?.(chunk, start, end)
  }

  #settle(): void {
    if (this.#failure !== undefined) {
      this.#reject?.(this.#failure.error)
      return
    }
    if (this.#isBusy) return
    if (this.#endError !== undefined) this.#reject?.(this.#endError)
    else if (this.#hasEnded) this.#resolve?.('end')
    else if (this.#isStopped) this.#resolve?.('stopped')
  }
}
