/**
 * One WebAssembly memory in which received batches are read, decoded and written out of, and the job through which its
 * kernels are called. The layout, from address 0:
 *
 *     job · small texts · input (batches copied in) · blocks (files are read right into them) · outputs
 *
 * Each part ends with slack that whole vectors may read or overwrite. The memory never grows, so views stay valid, and
 * pages nobody touches cost nothing.
 */

import { loadKernel, webAssembly } from './web-assembly.ts'

export const SLACK_BYTES = 64
export const KERNEL_PAGE_BYTES = 65_536
const JOB_AT = 64
const JOB_WORDS = 16
const TEXTS_AT = 1024
/** Of the null value, prefixes and the like. */
export const TEXTS_BYTES = 8192
/** The largest records section that is copied in; of more a copy would cost more than the kernel saves. */
const INPUT_BYTES = 1_114_112
const INPUT_AT = TEXTS_AT + TEXTS_BYTES + SLACK_BYTES
/** Holds a batch of the usual limit, 1 MiB, and a few more of the usual size, 256 KiB. */
export const BLOCK_BYTES = 1_310_720
const BLOCKS = 3
const BLOCKS_AT = INPUT_AT + INPUT_BYTES + SLACK_BYTES
const BLOCK_STRIDE = BLOCK_BYTES + SLACK_BYTES
const OUTPUT_BYTES = 1_048_576
const OUTPUTS = 3
const OUTPUT_STRIDE = OUTPUT_BYTES + SLACK_BYTES
const OUTPUTS_AT = BLOCKS_AT + BLOCKS * BLOCK_STRIDE
export const KERNEL_PAGES = Math.ceil((OUTPUTS_AT + OUTPUTS * OUTPUT_STRIDE) / KERNEL_PAGE_BYTES)

/** Answers of the kernels; record-walk.assemblyscript has the same numbers. */
export const KERNEL_DONE = 0
export const KERNEL_FULL = 1
export const KERNEL_JUDGE = 2
export const KERNEL_ENOUGH = 3

/** Fields of the job, in 32-bit words; the numbers in record-walk.assemblyscript are bytes. */
export const JobField = {
  position: 0,
  end: 1,
  left: 2,
  delta: 3,
  deltaMax: 4,
  fromDelta: 5,
  endDelta: 6,
  takeMax: 7,
  target: 8,
  targetEnd: 9,
  taken: 10,
  /** From here on each kernel has its own. */
  own: 11,
} as const

export class KernelMemory {
  readonly buffer: ArrayBuffer
  readonly bytes: Uint8Array
  readonly job: Int32Array
  /** Further fields of the job that are too large for 32 bits. */
  readonly jobNumbers: Float64Array
  /** Small texts for the kernels; addresses are textsAt + index. */
  readonly texts: Uint8Array
  readonly textsAt = TEXTS_AT
  /** For files: whoever fills one says when it may be filled again. */
  readonly blocks: readonly Uint8Array[]
  /** For lines or envelopes: one is filled while others are written; each view ends with its slack. */
  readonly outputs: readonly Uint8Array[]
  readonly #memory: object

  private constructor(memory: { readonly buffer: ArrayBuffer }) {
    this.#memory = memory
    const { buffer } = memory
    this.buffer = buffer
    this.bytes = new Uint8Array(buffer)
    this.job = new Int32Array(buffer, JOB_AT, JOB_WORDS)
    this.jobNumbers = new Float64Array(buffer, JOB_AT + JOB_WORDS * 4, 4)
    this.texts = new Uint8Array(buffer, TEXTS_AT, TEXTS_BYTES)
    const view = (at: number, bytes: number) => new Uint8Array(buffer, at, bytes)
    this.blocks = Array.from({ length: BLOCKS }, (_, index) =>
      view(BLOCKS_AT + index * BLOCK_STRIDE, BLOCK_BYTES),
    )
    this.outputs = Array.from({ length: OUTPUTS }, (_, index) =>
      view(OUTPUTS_AT + index * OUTPUT_STRIDE, OUTPUT_STRIDE),
    )
  }

  /** @returns undefined where the engine has no WebAssembly, or the process no address space for it */
  static create(): KernelMemory | undefined {
    try {
      const { Memory } = webAssembly()
      return new KernelMemory(new Memory({ initial: KERNEL_PAGES, maximum: KERNEL_PAGES }))
    } catch {
      return undefined
    }
  }

  /** Compiles a kernel over this memory: 1–4 ms. @returns undefined where the processor or the engine lacks SIMD */
  load<T>(base64: string): T | undefined {
    return loadKernel<T>(base64, { env: { memory: this.#memory } })
  }

  /**
   * The address of `bytes[start]` in this memory; bytes from elsewhere are copied in.
   * @returns −1 for more than can be copied in
   */
  place(bytes: Uint8Array, start: number, end: number): number {
    if (bytes.buffer === this.buffer) return bytes.byteOffset + start
    if (end - start > INPUT_BYTES) return -1
    this.bytes.set(bytes.subarray(start, end), INPUT_AT)
    return INPUT_AT
  }
}
