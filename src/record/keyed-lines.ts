/**
 * Lines with keys into records, each in the batch of its key's partition: drives the WebAssembly kernel, which leaves every line that
 * is not plainly right to whoever works line by line. Partitions are murmur2's.
 * Bench: test/bench/throughput.ts (`--key-json into 12 partitions`).
 */
import { keyedLineKernelBase64 } from './keyed-line-kernel.wasm.ts'
import { loadKernel } from './web-assembly.ts'

/** Addresses and sizes as in keyed-line-kernel.assemblyscript. */
const JOB_AT = 64
const NAMES_AT = 128
const NAME_BYTES_AT = 4096
const NAME_BYTES_MAX = 8192
const NAMES_MAX = 16
const LANES_AT = 32_768
const LANE_WORDS = 8
const LANES_MAX = 1024
const SOURCE_AT = 262_144
const SOURCE_BYTES = 64 * 1024
const NO_SEPARATOR = 256

const Job = {
  sourceBytes: 0,
  delimiter: 1,
  separator: 2,
  lineBytesMax: 3,
  laneCount: 4,
  nameCount: 5,
  consumed: 6,
  lineCount: 7,
  stoppedLane: 8,
} as const
const Lane = { nextDelta: 0, roomBytes: 1, bytes: 2, start: 3, firstLine: 4, lastLine: 5 } as const

const ANSWERS = ['done', 'more', 'judge', 'room'] as const
/**
 * `done`: but for a line without its end all is taken. `more`: call again with the rest. `judge`: the next line is not for this
 * kernel. `room`: the partition `stoppedLane` has none for the next line.
 */
export type KeyedStep = (typeof ANSWERS)[number]

export interface KeyedLinesOptions {
  /** One byte. */
  readonly delimiter: number
  /** Of a line without its delimiter; a longer one is not for this kernel. */
  readonly lineBytesMax: number
  /** One byte that ends the key, or the names of the path to the key in the line's JSON, in UTF-8. */
  readonly key: number | readonly Uint8Array[]
}

interface KernelExports {
  readonly memory: { readonly buffer: ArrayBuffer }
  readonly encodeKeyedLines: () => number
}

export class KeyedLines {
  /** Of the last step: bytes of whole lines taken, and how many lines. */
  consumedBytes = 0
  lineCount = 0
  stoppedLane = 0
  /** Holds the records of the last step. */
  readonly memory: Uint8Array
  readonly #kernel: KernelExports
  readonly #job: Int32Array
  readonly #lanes: Int32Array

  private constructor(kernel: KernelExports, options: KeyedLinesOptions) {
    const { buffer } = kernel.memory
    this.#kernel = kernel
    this.memory = new Uint8Array(buffer)
    this.#job = new Int32Array(buffer, JOB_AT, 16)
    this.#lanes = new Int32Array(buffer, LANES_AT, LANES_MAX * LANE_WORDS)
    this.#job[Job.delimiter] = options.delimiter
    this.#job[Job.lineBytesMax] = options.lineBytesMax
    if (typeof options.key === 'number') this.#job[Job.separator] = options.key
    else this.#setPath(options.key)
  }

  /** Compiles the kernel: 1–4 ms. @returns undefined where it cannot be had, or not for such a path */
  static load(options: KeyedLinesOptions): KeyedLines | undefined {
    const { key } = options
    if (typeof key !== 'number') {
      const bytes = key.reduce((sum, name) => sum + name.length, 0)
      if (key.length > NAMES_MAX || bytes > NAME_BYTES_MAX) return undefined
    }
    const kernel = loadKernel<KernelExports>(keyedLineKernelBase64)
    return kernel === undefined ? undefined : new KeyedLines(kernel, options)
  }

  /** How many partitions there are. @returns false: too many for this kernel */
  setLaneCount(count: number): boolean {
    this.#job[Job.laneCount] = count
    return count <= LANES_MAX
  }

  /** @param nextDelta  offset delta of the partition's next record. @param roomBytes  in the batch that is open */
  setLane(lane: number, nextDelta: number, roomBytes: number): void {
    this.#lanes[lane * LANE_WORDS + Lane.nextDelta] = nextDelta
    this.#lanes[lane * LANE_WORDS + Lane.roomBytes] = roomBytes
  }

  /** Takes whole lines of chunk [start, end). */
  step(chunk: Uint8Array, start: number, end: number): KeyedStep {
    const job = this.#job
    const pieceBytes = Math.min(SOURCE_BYTES, end - start)
    this.memory.set(chunk.subarray(start, start + pieceBytes), SOURCE_AT)
    job[Job.sourceBytes] = pieceBytes
    const answer = ANSWERS[this.#kernel.encodeKeyedLines()] ?? 'judge'
    this.consumedBytes = job[Job.consumed] as number
    this.lineCount = job[Job.lineCount] as number
    this.stoppedLane = job[Job.stoppedLane] as number
    if (answer !== 'done' || start + pieceBytes === end) return answer
    // A line that is longer than a piece is for others.
    return this.consumedBytes === 0 ? 'judge' : 'more'
  }

  /** Bytes of the lane's records of the last step, 0 where it has none; they lie in `memory` from recordsAt on. */
  recordBytes(lane: number): number {
    return this.#lanes[lane * LANE_WORDS + Lane.bytes] as number
  }

  recordsAt(lane: number): number {
    return this.#lanes[lane * LANE_WORDS + Lane.start] as number
  }

  nextDelta(lane: number): number {
    return this.#lanes[lane * LANE_WORDS + Lane.nextDelta] as number
  }

  /** Which line of the last step, from 0, is the lane's first, and which its last. */
  firstLine(lane: number): number {
    return this.#lanes[lane * LANE_WORDS + Lane.firstLine] as number
  }

  lastLine(lane: number): number {
    return this.#lanes[lane * LANE_WORDS + Lane.lastLine] as number
  }

  #setPath(path: readonly Uint8Array[]): void {
    const names = new Int32Array(this.memory.buffer, NAMES_AT, NAMES_MAX * 2)
    let at = NAME_BYTES_AT
    for (const [index, name] of path.entries()) {
      this.memory.set(name, at)
      names[index * 2] = at
      names[index * 2 + 1] = name.length
      at += name.length
    }
    this.#job[Job.nameCount] = path.length
    this.#job[Job.separator] = NO_SEPARATOR
  }
}
