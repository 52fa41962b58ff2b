/**
 * Batches as a reader got them made into batches that a producer may send: the records, their times, headers and codec stay.
 *
 * - A batch goes on as it is where nothing in it must change: its bytes are those of the source, compressed or not, and only
 *   base offset and leader epoch are stamped here (producer, sequence and CRC by the producer).
 * - It is made anew, with its own codec, where a producer may not send it so: records are missing in it (compaction) or lie
 *   outside the range wanted, its times are the broker's or a delete horizon, it is larger than the target takes; and where
 *   the caller wants it: a filter, a header for each record.
 * - Small batches that follow each other become one: each batch costs a request and a sync at the other end.
 *
 * Invariant: what comes out has the records wanted of what went in, each once, in order. Control batches are the caller's to leave out.
 */
import { BatchBuilder } from './batch-builder.ts'
import {
  attributesAt,
  baseOffsetAt,
  batchBytesAt,
  codecOf,
  hasDeleteHorizon,
  isLogAppendTime,
  lastOffsetAt,
  lastOffsetDeltaAt,
  recordCountAt,
  stampBatch,
} from './batch-layout.ts'
import { codecFromId } from './compression.ts'
import { RecordCursor } from './record-cursor.ts'

export interface CopierOptions {
  /** The most that the target takes as one batch. */
  readonly batchBytesMax: number
  /** Absent: all records are wanted. May move the cursor's headers. */
  readonly wants?: (cursor: RecordCursor) => boolean
  /** A header that each record gets behind its own, as encodeHeader makes it; undefined for a record that gets none. */
  readonly tag?: (cursor: RecordCursor) => Uint8Array | undefined
}

/** Batches of one partition, in offset order. Only records with fromOffset ≤ offset < untilOffset are meant. */
export interface CopiedRange {
  readonly bytes: Uint8Array
  readonly batches: readonly number[]
  readonly fromOffset: number
  readonly untilOffset: number
}

/** Batches of fewer bytes, and of fewer records where they are compressed, are put together where they follow each other. */
const SMALL_BYTES = 16 * 1024
const SMALL_PACKED_RECORDS = 128
/** Of a batch made here, uncompressed. */
const BUILT_BYTES_MAX = 512 * 1024

export class BatchCopier {
  readonly #options: CopierOptions
  readonly #isExact: boolean
  readonly #cursor = new RecordCursor()
  #builder: BatchBuilder | undefined
  /** Of the batch being made. */
  #codec = 0

  constructor(options: CopierOptions) {
    this.#options = options
    this.#isExact = options.wants === undefined && options.tag === undefined
  }

  /**
   * The bytes of what is passed on as it is are views of `range.bytes`, and are changed; the rest is fresh memory.
   * @throws StreamError CORRUPT_BATCH, RECORD_TOO_LARGE (a record that the target cannot take), RUNTIME_MISSING, DECOMPRESSION_LIMIT
   */
  *copies(range: CopiedRange): Generator<Uint8Array, void, undefined> {
    const { bytes, batches } = range
    for (let index = 0; index < batches.length; index++) {
      const at = batches[index] as number
      if (recordCountAt(bytes, at) === 0) continue
      if (this.#mayPass(range, at) && !this.#isJoined(range, index)) {
        if (this.#hasRecords) yield this.#finish()
        stampBatch(bytes, at, { baseOffset: 0, leaderEpoch: -1 })
        yield bytes.subarray(at, at + batchBytesAt(bytes, at))
        continue
      }
      const codec = codecOf(attributesAt(bytes, at))
      if (this.#hasRecords && codec !== this.#codec) yield this.#finish()
      this.#codec = codec
      yield* this.#rebuild(range, at)
    }
    if (this.#hasRecords) yield this.#finish()
  }

  /** Forgets what was begun: after an error, or where not all was taken. */
  reset(): void {
    this.#builder?.reset({ timestampMs: -1 })
  }

  get #hasRecords(): boolean {
    return this.#builder !== undefined && !this.#builder.isEmpty
  }

  #mayPass({ bytes, fromOffset, untilOffset }: CopiedRange, at: number): boolean {
    if (!this.#isExact) return false
    const attributes = attributesAt(bytes, at)
    return (
      recordCountAt(bytes, at) === lastOffsetDeltaAt(bytes, at) + 1 &&
      baseOffsetAt(bytes, at) >= fromOffset &&
      lastOffsetAt(bytes, at) < untilOffset &&
      !isLogAppendTime(attributes) &&
      !hasDeleteHorizon(attributes) &&
      batchBytesAt(bytes, at) <= this.#options.batchBytesMax
    )
  }

  /** A small batch with another of its codec before or behind it. */
  #isJoined({ bytes, batches }: CopiedRange, index: number): boolean {
    const at = batches[index] as number
    if (!isSmall(bytes, at)) return false
    const codec = codecOf(attributesAt(bytes, at))
    if (this.#hasRecords && this.#codec === codec) return true
    const next = batches[index + 1]
    return (
      next !== undefined && isSmall(bytes, next) && codecOf(attributesAt(bytes, next)) === codec
    )
  }

  *#rebuild({ bytes, fromOffset, untilOffset }: CopiedRange, at: number) {
    const { wants, tag } = this.#options
    const cursor = this.#cursor
    const builder = this.#openBuilder()
    cursor.reset(bytes, at)
    while (cursor.next()) {
      if (cursor.offset < fromOffset) continue
      if (cursor.offset >= untilOffset) break
      if (wants !== undefined && !wants(cursor)) continue
      const header = tag?.(cursor)
      for (;;) {
        const isTaken =
          header === undefined ? builder.appendCopy(cursor) : builder.appendTagged(cursor, header)
        if (isTaken) break
        yield this.#finish()
      }
    }
  }

  #openBuilder(): BatchBuilder {
    let builder = this.#builder
    if (builder === undefined) {
      const { batchBytesMax } = this.#options
      const capacity = Math.min(BUILT_BYTES_MAX, batchBytesMax)
      builder = new BatchBuilder(capacity, { bytesMax: batchBytesMax })
      builder.reset({ timestampMs: -1 })
      this.#builder = builder
    }
    return builder
  }

  #finish(): Uint8Array {
    const builder = this.#openBuilder()
    const codec = codecFromId(this.#codec)
    const batch = builder.finish({ codec })
    // The builder's own buffer is written to again, while the producer still sends the batch.
    const copy = codec === 'none' ? Uint8Array.from(batch) : batch
    builder.reset({ timestampMs: -1 })
    return copy
  }
}

function isSmall(bytes: Uint8Array, at: number): boolean {
  if (batchBytesAt(bytes, at) > SMALL_BYTES) return false
  // A batch may be small because it packs well: to unpack it would cost more than its request.
  return codecOf(attributesAt(bytes, at)) === 0 || recordCountAt(bytes, at) <= SMALL_PACKED_RECORDS
}
