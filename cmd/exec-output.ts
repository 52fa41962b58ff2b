/**
 * What children print, on our standard output. Of one child at a time (-P 1) as it comes; of several at once in whole lines, so
 * that no line has parts of two, as long as it has less than LINE_BYTES_MAX. Bytes are never added or changed.
 *
 * A child is read no faster than our reader reads: nothing piles up.
 */

import type { Child } from '../src/ports/children.ts'
import type { ByteOutput } from '../src/ports/stdio.ts'
import { HeldBytes } from '../src/text/record-splitter.ts'
import { BrokenPipe } from './exit-code.ts'

const NEWLINE = 0x0a
const LINE_BYTES_MAX = 1024 * 1024

export class ExecOutput {
  readonly #output: ByteOutput
  readonly #isShared: boolean
  readonly #onFailure: (error: unknown) => void
  /** One write at a time. */
  #writing: Promise<void> = Promise.resolve()
  #hasFailed = false

  /** @param onFailure  called once: BrokenPipe, StreamError OUTPUT_FAILED; nothing is written after it */
  constructor(
    output: ByteOutput,
    options: { readonly isShared: boolean; readonly onFailure: (error: unknown) => void },
  ) {
    this.#output = output
    this.#isShared = options.isShared
    this.#onFailure = options.onFailure
  }

  /** Resolves when all that the child has printed is written. */
  async pass({ output }: Child): Promise<void> {
    if (output === undefined) return
    const held = new HeldBytes()
    for (;;) {
      const chunk = await output.read()
      if (chunk === undefined) break
      await this.#take(chunk, held)
    }
    if (held.length > 0) await this.#write(held.bytes.subarray(0, held.length))
  }

  async #take(chunk: Uint8Array, held: HeldBytes): Promise<void> {
    if (!this.#isShared) {
      await this.#write(chunk)
      return
    }
    const lineEnd = chunk.lastIndexOf(NEWLINE) + 1
    const isLong = held.length + chunk.length - lineEnd > LINE_BYTES_MAX
    const end = isLong ? chunk.length : lineEnd
    if (end > 0 && held.length > 0) {
      held.append(chunk, 0, end)
      const lines = held.bytes.slice(0, held.length)
      held.length = 0
      await this.#write(lines)
    } else if (end > 0) await this.#write(chunk.subarray(0, end))
    if (end < chunk.length) held.append(chunk, end, chunk.length)
  }

  async #write(bytes: Uint8Array): Promise<void> {
    const before = this.#writing
    let free: () => void = () => undefined
    this.#writing = new Promise((resolve) => {
      free = resolve
    })
    await before
    try {
      if (!this.#hasFailed && (await this.#output.write(bytes)) === 'broken') {
        this.#fail(new BrokenPipe())
      }
    } catch (error) {
      this.#fail(error)
    } finally {
      free()
    }
  }

  #fail(error: unknown): void {
    if (this.#hasFailed) return
    this.#hasFailed = true
    this.#onFailure(error)
  }
}
