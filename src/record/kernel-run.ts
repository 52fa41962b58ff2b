/**
 * One batch after another through a kernel, piece by piece: what does not fit into the output waits in the batch until
 * there is room. A record that the kernel does not accept is left, with what follows it in the batch, to the scalar code.
 */
import {
  JobField,
  KERNEL_DONE,
  KERNEL_ENOUGH,
  KERNEL_FULL,
  type KernelMemory,
} from './kernel-memory.ts'
import type { OutputBuffer } from './output-buffer.ts'
import { RecordCursor } from './record-cursor.ts'

/** Which records of a batch are wanted. */
export interface RecordRange {
  readonly fromOffset: number
  /** Exclusive. */
  readonly endOffset: number
  readonly recordsMax: number
}

/**
 * `full`: the output must be written before the next step. `more`: there may be room for more. `done`: the batch holds
 * nothing more that is wanted. `judge`: from nextOffset on it is for the scalar code.
 */
export type KernelStep = 'full' | 'more' | 'done' | 'judge'

const INT32_MAX = 0x7fff_ffff

export class KernelRun {
  /** Where to go on; after the whole batch it is behind its last offset, though records may be missing at its end. */
  nextOffset = 0
  /** Records appended by the last step. */
  taken = 0
  /** Of the batch in hand, for what a kernel needs to know of its header. */
  readonly cursor = new RecordCursor()
  readonly #memory: KernelMemory
  readonly #run: () => number
  #fromOffset = 0
  #endOffset = 0

  constructor(memory: KernelMemory, run: () => number) {
    this.#memory = memory
    this.#run = run
  }

  /**
   * Begins the batch at `at`, which stays unchanged until the last step of it.
   * @returns  false when it is for the scalar code altogether
   * @throws StreamError CORRUPT_BATCH, DECOMPRESSION_LIMIT, RUNTIME_MISSING
   */
  begin(batch: Uint8Array, at: number, range: RecordRange): boolean {
    const { cursor } = this
    const { job } = this.#memory
    this.nextOffset = range.fromOffset
    cursor.reset(batch, at)
    if (cursor.isControl) return false
    const position = this.#memory.place(cursor.bytes, cursor.recordsStart, cursor.recordsEnd)
    const deltaMax = cursor.batchLastOffset - cursor.batchBaseOffset
    if (position < 0) return false
    const base = cursor.batchBaseOffset
    job[JobField.position] = position
    job[JobField.end] = position + cursor.recordsEnd - cursor.recordsStart
    job[JobField.left] = cursor.recordCount
    job[JobField.delta] = -1
    job[JobField.deltaMax] = deltaMax
    job[JobField.fromDelta] = clamp(range.fromOffset - base)
    job[JobField.endDelta] = clamp(range.endOffset - base)
    job[JobField.takeMax] = clamp(range.recordsMax)
    this.#fromOffset = range.fromOffset
    this.#endOffset = range.endOffset
    return true
  }

  /**
   * Appends records, about `pieceBytes` of them.
   * @param out  its memory is the kernel's output
   */
  step(out: OutputBuffer, pieceBytes: number): KernelStep {
    this.taken = 0
    const capacity = out.bytes.length - out.slackBytes
    let end = Math.min(capacity, out.length + pieceBytes)
    for (;;) {
      const answer = this.#call(out, end)
      if (answer === KERNEL_DONE) {
        this.nextOffset = this.cursor.batchLastOffset + 1
        return 'done'
      }
      const { job } = this.#memory
      const delta = job[JobField.delta] as number
      const base = this.cursor.batchBaseOffset
      if (answer === KERNEL_ENOUGH) {
        this.nextOffset = Math.min(base + delta, this.#endOffset)
        return 'done'
      }
      this.nextOffset = Math.max(this.#fromOffset, base + delta + 1)
      if (answer !== KERNEL_FULL) return 'judge'
      if (this.taken > 0) return end < capacity ? 'more' : 'full'
      if (end === capacity) return out.length > 0 ? 'full' : 'judge'
      // One record larger than a piece.
      end = capacity
    }
  }

  #call(out: OutputBuffer, end: number): number {
    const { job, buffer } = this.#memory
    const { bytes } = out
    if (bytes.buffer !== buffer) throw new Error('the output is not in the kernel’s memory')
    job[JobField.target] = bytes.byteOffset + out.length
    job[JobField.targetEnd] = bytes.byteOffset + end
    const answer = this.#run()
    out.length = (job[JobField.target] as number) - bytes.byteOffset
    const taken = job[JobField.taken] as number
    job[JobField.takeMax] = (job[JobField.takeMax] as number) - taken
    this.taken += taken
    return answer
  }
}

function clamp(value: number): number {
  return Math.max(-1, Math.min(value, INT32_MAX))
}
