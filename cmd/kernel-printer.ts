/**
 * Prints whole batches through a WebAssembly kernel into its memory and writes them out from there, piece by piece: what
 * a pipe takes at once goes out while the next piece is made, so that its reader and this process work side by side.
 *
 * Invariant: bytes that were handed to a write that is not finished are not touched: the output is filled on only
 * behind them, and begun anew only when all of it is written.
 * Bench: test/bench/throughput.ts.
 */

import type { RecordsEvent } from '../src/client/consumer.ts'
import type { ByteOutput } from '../src/ports/stdio.ts'
import { KernelMemory, SLACK_BYTES } from '../src/record/kernel-memory.ts'
import type { KernelRun, KernelStep, RecordRange } from '../src/record/kernel-run.ts'
import { OutputBuffer } from '../src/record/output-buffer.ts'
import { BrokenPipe } from './exit-code.ts'

/** What a pipe holds: the next piece is made while its reader takes this one. */
const PIPE_PIECE_BYTES = 64 * 1024
const FILE_PIECE_BYTES = 256 * 1024

/** A kernel with what it is told beside the batches. */
export interface PrintKernel extends KernelRun {
  /** A value taken so far contains the delimiter. */
  readonly isAmbiguous: boolean
  setPartition?(topic: string, partition: number): void
}

export class KernelPrinter {
  readonly memory: KernelMemory
  readonly kernel: PrintKernel
  readonly buffer: OutputBuffer
  readonly #output: ByteOutput
  readonly #pieceBytes: number
  #writtenBytes = 0
  /** The reader takes nothing at present: no further try before all is written by write(). */
  #isStalled = false
  /** The batch in hand, of which a part is printed. */
  #event: RecordsEvent | undefined
  #at = -1

  private constructor(output: ByteOutput, memory: KernelMemory, kernel: PrintKernel) {
    this.memory = memory
    this.kernel = kernel
    this.buffer = new OutputBuffer(0, { bytes: memory.output, slackBytes: SLACK_BYTES })
    this.#output = output
    this.#pieceBytes = output.kind === 'pipe' ? PIPE_PIECE_BYTES : FILE_PIECE_BYTES
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

  /** Whether write() is due. */
  get isFull(): boolean {
    return this.buffer.length + this.#pieceBytes > this.buffer.bytes.length - SLACK_BYTES
  }

  /**
   * The next piece of the batch at `at`, which is begun by the first call.
   * @throws StreamError CORRUPT_BATCH …; nothing of the batch has been taken then
   */
  step(event: RecordsEvent, at: number, range: RecordRange): KernelStep {
    if (this.#event !== event || this.#at !== at) {
      this.kernel.taken = 0
      this.kernel.nextOffset = range.fromOffset
      if (!this.buffer.isAtHome) return 'full'
      if (!this.kernel.begin(event.bytes, at, range)) return 'judge'
      this.#event = event
      this.#at = at
    }
    const step = this.kernel.step(this.buffer, this.#pieceBytes)
    if (step === 'done' || step === 'judge') this.#event = undefined
    return step
  }

  /** Writes as much as is taken at once. @throws BrokenPipe; StreamError OUTPUT_FAILED */
  flow(): void {
    const { buffer } = this
    const pending = buffer.length - this.#writtenBytes
    if (this.#isStalled || pending < this.#pieceBytes) return
    const taken = this.#output.writeSome(buffer.bytes.subarray(this.#writtenBytes, buffer.length))
    if (taken === 'broken') throw new BrokenPipe()
    this.#isStalled = taken === 0
    this.#writtenBytes += taken
    if (this.#writtenBytes === buffer.length) this.#clear()
  }

  /** What is taken and not written yet. */
  get pending(): Uint8Array {
    return this.buffer.bytes.subarray(this.#writtenBytes, this.buffer.length)
  }

  /** All of it is written. */
  written(): void {
    this.#isStalled = false
    this.#clear()
  }

  #clear(): void {
    this.#writtenBytes = 0
    this.buffer.clear()
  }
}
