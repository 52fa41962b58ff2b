/**
 * Prints whole batches through a WebAssembly kernel into its memory and writes them out from there: while one output is
 * written, on another thread where the reader is slow, the next one is filled.
 *
 * Invariant: bytes that were handed to a write are not touched before it is done, and writes follow one another in the
 * order in which their outputs were filled.
 * Bench: test/bench/throughput.ts.
 */

import type { RecordsEvent } from '../src/client/consumer-events.ts'
import type { ByteOutput, WriteOutcome } from '../src/ports/stdio.ts'
import { KernelMemory, SLACK_BYTES } from '../src/record/kernel-memory.ts'
import type { KernelRun, KernelStep, RecordRange } from '../src/record/kernel-run.ts'
import { OutputBuffer } from '../src/record/output-buffer.ts'
import { BrokenPipe } from './exit-code.ts'

/** So much goes out at once when nothing else is on its way; then an output is filled to its end. */
const WRITE_BYTES = 256 * 1024

/** A kernel with what it is told beside the batches. */
export interface PrintKernel extends KernelRun {
  /** A value taken so far contains the delimiter. */
  readonly isAmbiguous: boolean
  setPartition?(topic: string, partition: number): void
}

export class KernelPrinter {
  readonly memory: KernelMemory
  readonly kernel: PrintKernel
  readonly #output: ByteOutput
  /** The one that is filled. */
  #buffer: OutputBuffer
  readonly #free: OutputBuffer[] = []
  /** Filled, in order; the first one is being written. */
  readonly #filled: OutputBuffer[] = []
  #failure: unknown
  #waiters: (() => void)[] = []
  /** The batch in hand, of which a part is printed. */
  #event: RecordsEvent | undefined
  #at = -1

  private constructor(output: ByteOutput, memory: KernelMemory, kernel: PrintKernel) {
    this.memory = memory
    this.kernel = kernel
    this.#output = output
    const [first, ...others] = memory.outputs.map(
      (bytes) => new OutputBuffer(0, { bytes, slackBytes: SLACK_BYTES }),
    )
    this.#buffer = first as OutputBuffer
    this.#free.push(...others)
  }

  /** Compiles: 1–4 ms. @returns undefined where there is no WebAssembly, or none with SIMD */
  static load(
    output: ByteOutput,
    makeKernel: (memory: KernelMemory) => PrintKernel | undefined,
  ): KernelPrinter | undefined {
    const memory = KernelMemory.create()
    const kernel = memory === undefined ? undefined : makeKernel(memory)
    return memory === undefined || kernel === undefined
      ? undefined
      : new KernelPrinter(output, memory, kernel)
  }

  /** What is filled at present, for what is printed without the kernel. */
  get buffer(): OutputBuffer {
    return this.#buffer
  }

  /** Settles with the write that is under way, if one is; it never rejects. */
  get settling(): Promise<void> | undefined {
    if (this.#filled.length === 0 || this.#failure !== undefined) return undefined
    return new Promise((resolve) => this.#waiters.push(resolve))
  }

  /**
   * The next part of the batch at `at`, which is begun by the first call. After `full` there is room again once
   * `flush` has been waited for.
   * @throws StreamError CORRUPT_BATCH …; nothing of the batch has been taken then
   */
  step(event: RecordsEvent, at: number, range: RecordRange): KernelStep {
    if (this.#event !== event || this.#at !== at) {
      this.kernel.taken = 0
      this.kernel.nextOffset = range.fromOffset
      if (!this.kernel.begin(event.bytes, at, range)) return 'judge'
      this.#event = event
      this.#at = at
    }
    this.kernel.taken = 0
    const step = this.#buffer.isAtHome ? this.kernel.step(this.#buffer, WRITE_BYTES) : 'full'
    if (step === 'done' || step === 'judge') this.#event = undefined
    return step
  }

  /**
   * Sends what was taken on its way, if that is due, and gives room if there is any.
   * @throws BrokenPipe; StreamError OUTPUT_FAILED, of an earlier write too
   */
  flow(isFull: boolean): void {
    if (this.#failure !== undefined) throw this.#failure
    const isDue = this.#filled.length === 0 && this.#buffer.length >= WRITE_BYTES
    if (isDue || isFull) this.#send()
  }

  /**
   * Sends all that was taken on its way. @returns what to wait for before more is printed; nothing where there is room
   * @throws as flow, also as a rejection
   */
  flush(): void | Promise<void> {
    if (this.#failure !== undefined) throw this.#failure
    this.#send()
    // Still filled: the other outputs are on their way.
    if (this.#buffer.length > 0) return this.#flushLater()
  }

  /** All that was taken is written. @throws as flow */
  async finish(): Promise<void> {
    await this.flush()
    while (this.#filled.length > 0 && this.#failure === undefined) await this.settling
    if (this.#failure !== undefined) throw this.#failure
  }

  async #flushLater(): Promise<void> {
    await this.settling
    await this.flush()
  }

  #send(): void {
    const next = this.#free.pop()
    if (this.#buffer.length === 0 || next === undefined) {
      if (next !== undefined) this.#free.push(next)
      return
    }
    this.#filled.push(this.#buffer)
    this.#buffer = next
    if (this.#filled.length === 1) this.#writeNext()
    if (this.#failure !== undefined) throw this.#failure
  }

  #writeNext(): void {
    for (;;) {
      const buffer = this.#filled[0]
      if (buffer === undefined) return
      let outcome: WriteOutcome | Promise<WriteOutcome>
      try {
        outcome = this.#output.write(buffer.filled())
      } catch (error) {
        this.#fail(error)
        return
      }
      if (typeof outcome !== 'string') {
        outcome.then(
          (later) => {
            if (this.#onWritten(later)) this.#writeNext()
            this.#wake()
          },
          (error: unknown) => this.#fail(error),
        )
        return
      }
      if (!this.#onWritten(outcome)) return
    }
  }

  #onWritten(outcome: WriteOutcome): boolean {
    if (outcome === 'broken') {
      this.#fail(new BrokenPipe())
      return false
    }
    const buffer = this.#filled.shift()
    buffer?.clear()
    if (buffer !== undefined) this.#free.push(buffer)
    return true
  }

  #fail(error: unknown): void {
    this.#failure ??= error
    this.#wake()
  }

  #wake(): void {
    const waiters = this.#waiters
    this.#waiters = []
    for (const waiter of waiters) waiter()
  }
}
