/**
 * Drives the WebAssembly twin of LineDecoder: whole batches into lines, 16 bytes at a time, and a look for the delimiter
 * inside of values on the way. It takes every well-formed batch, with keys, headers and null values.
 * Bench: test/bench/record-kernel.ts.
 */
import { JobField, type KernelMemory, TEXTS_BYTES } from './kernel-memory.ts'
import { KernelRun } from './kernel-run.ts'
import { lineDecoderBase64 } from './line-decoder.wasm.ts'

const DELIMITER = JobField.own
const NULL_START = JobField.own + 1
const NULL_BYTES = JobField.own + 2
const AMBIGUOUS = JobField.own + 3

export class SimdLineDecoder extends KernelRun {
  readonly #job: Int32Array

  private constructor(memory: KernelMemory, run: () => number) {
    super(memory, run)
    this.#job = memory.job
  }

  /**
   * @param options.delimiter  one byte
   * @param options.nullValue  stands for a null value; default: nothing
   * @returns  undefined where it cannot be had
   */
  static load(
    memory: KernelMemory,
    options: { readonly delimiter: number; readonly nullValue?: Uint8Array },
  ): SimdLineDecoder | undefined {
    const nullValue = options.nullValue ?? new Uint8Array(0)
    if (nullValue.length > TEXTS_BYTES) return undefined
    const kernel = memory.load<{ readonly decodeLines: () => number }>(lineDecoderBase64)
    if (kernel === undefined) return undefined
    memory.texts.set(nullValue)
    memory.job[DELIMITER] = options.delimiter
    memory.job[NULL_START] = memory.textsAt
    memory.job[NULL_BYTES] = nullValue.length
    memory.job[AMBIGUOUS] = 0
    return new SimdLineDecoder(memory, kernel.decodeLines)
  }

  /** A value taken so far contains the delimiter. */
  get isAmbiguous(): boolean {
    return this.#job[AMBIGUOUS] !== 0
  }
}
