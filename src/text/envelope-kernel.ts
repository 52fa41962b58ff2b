/**
 * Drives the WebAssembly twin of EnvelopeWriter: whole batches into envelopes. It takes every well-formed batch; what is
 * not UTF-8 becomes base64 as there. Embedded values (--embed) are for EnvelopeWriter alone.
 * Bench: test/bench/throughput.ts.
 */
import {
  attributesAt,
  baseTimestampAt,
  isLogAppendTime,
  maxTimestampAt,
} from '../record/batch-layout.ts'
import { JobField, type KernelMemory } from '../record/kernel-memory.ts'
import { KernelRun, type RecordRange } from '../record/kernel-run.ts'
import { envelopeKernelBase64 } from './envelope-kernel.wasm.ts'
import { envelopePrefix } from './envelope-writer.ts'

const PREFIX_AT = JobField.own
const PREFIX_BYTES = JobField.own + 1
const DELIMITER_AT = JobField.own + 2
const DELIMITER_BYTES = JobField.own + 3
const HAS_APPEND_TIME = JobField.own + 4

/** Where the texts lie in the memory for small texts; behind the prefix the kernel has room of its own. */
const DELIMITER_BYTES_MAX = 1024
const PREFIX_INDEX = 1088
const PREFIX_BYTES_MAX = 6000

export class EnvelopeKernel extends KernelRun {
  readonly isAmbiguous = false
  readonly #memory: KernelMemory
  #isPrefixSet = false

  private constructor(memory: KernelMemory, run: () => number) {
    super(memory, run)
    this.#memory = memory
  }

  /** @returns  undefined where it cannot be had */
  static load(
    memory: KernelMemory,
    options: { readonly delimiter: Uint8Array },
  ): EnvelopeKernel | undefined {
    const { delimiter } = options
    if (delimiter.length > DELIMITER_BYTES_MAX) return undefined
    const kernel = memory.load<{ readonly writeEnvelopes: () => number }>(envelopeKernelBase64)
    if (kernel === undefined) return undefined
    memory.texts.set(delimiter)
    memory.job[DELIMITER_AT] = memory.textsAt
    memory.job[DELIMITER_BYTES] = delimiter.length
    return new EnvelopeKernel(memory, kernel.writeEnvelopes)
  }

  /** All batches until the next call are of this partition. */
  setPartition(topic: string, partition: number): void {
    const prefix = envelopePrefix(topic, partition)
    this.#isPrefixSet = prefix.length <= PREFIX_BYTES_MAX
    if (!this.#isPrefixSet) return
    const { job, texts, textsAt } = this.#memory
    texts.set(prefix, PREFIX_INDEX)
    job[PREFIX_AT] = textsAt + PREFIX_INDEX
    job[PREFIX_BYTES] = prefix.length
  }

  override begin(batch: Uint8Array, at: number, range: RecordRange): boolean {
    if (!super.begin(batch, at, range) || !this.#isPrefixSet) return false
    const { job, jobNumbers } = this.#memory
    const hasAppendTime = isLogAppendTime(attributesAt(batch, at))
    job[HAS_APPEND_TIME] = hasAppendTime ? 1 : 0
    jobNumbers[0] = this.cursor.batchBaseOffset
    jobNumbers[1] = hasAppendTime ? maxTimestampAt(batch, at) : baseTimestampAt(batch, at)
    return true
  }
}
