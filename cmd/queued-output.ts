/**
 * An output beside the main stream of a command (receipts, dead letters, tee): bytes are copied and written in order,
 * one write at a time. Whoever fills it must stop at `isFull` and wait for `drained`.
 */

import type { ByteOutput } from '../src/ports/stdio.ts'
import { BrokenPipe } from './exit-code.ts'

const PENDING_BYTES_MAX = 1024 * 1024

export class QueuedOutput {
  readonly #output: ByteOutput
  readonly #queue: Uint8Array[] = []
  #pendingBytes = 0
  #running: Promise<void> | undefined
  #error: Error | undefined

  constructor(output: ByteOutput) {
    this.#output = output
  }

  get isFull(): boolean {
    return this.#pendingBytes >= PENDING_BYTES_MAX
  }

  /** @throws BrokenPipe or StreamError OUTPUT_FAILED, if an earlier write failed */
  write(bytes: Uint8Array): void {
    if (this.#error !== undefined) throw this.#error
    if (bytes.length === 0) return
    this.#queue.push(Uint8Array.from(bytes))
    this.#pendingBytes += bytes.length
    this.#running ??= this.#run()
  }

  /** Resolves when all is written. @throws as write */
  async drained(): Promise<void> {
    await this.#running
    if (this.#error !== undefined) throw this.#error
  }

  /** All is written and, in a file, durable. @throws as write */
  async finish(): Promise<void> {
    await this.drained()
    this.#output.sync()
    this.#output.close()
  }

  async #run(): Promise<void> {
    try {
      for (;;) {
        const bytes = this.#queue.shift()
        if (bytes === undefined) break
        if ((await this.#output.write(bytes)) === 'broken') throw new BrokenPipe()
        this.#pendingBytes -= bytes.length
      }
    } catch (error) {
      this.#error = error instanceof Error ? error : new Error(String(error))
      this.#queue.length = 0
      this.#pendingBytes = 0
    }
    this.#running = undefined
  }
}
