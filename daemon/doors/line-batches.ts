/**
 * Records of the line protocol gathered into batches: one for each partition and pass, a pass being what one read of one
 * connection brought. So a thousand small PUBs that arrive together cost one append and one sync.
 *
 * Invariants:
 * - Nothing is open between two passes: `flush` ends each, and gives out batches in memory of their own, which the log may
 *   keep.
 * - At most OPEN_MAX batches are open at one time, whatever a client names.
 */
import { BatchBuilder, type RecordInput } from '../../src/record/batch-builder.ts'
import type { LineRequest } from './line-reader.ts'

/** What becomes of the records of one batch; several runs of answers may refer to it. */
export interface LineBatch {
  readonly topic: string
  readonly partition: number
  recordCount: number
  /** Of its first record, once it is settled without error. */
  baseOffset: number
  /** `-ERR …` with its newline, for each of its records. */
  errorLine: Uint8Array | undefined
  isSettled: boolean
}

interface Open {
  readonly batch: LineBatch
  readonly builder: BatchBuilder
}

interface MutableRange {
  bytes: Uint8Array
  start: number
  end: number
}

const OPEN_MAX = 16
const BUILDER_BYTES = 64 * 1024

export class LineBatches {
  readonly #open = new Map<string, Open>()
  readonly #free: BatchBuilder[] = []
  readonly #send: (batch: LineBatch, bytes: Uint8Array) => void
  readonly #recordBytesMax: number
  readonly #key: MutableRange = { bytes: EMPTY, start: 0, end: 0 }
  readonly #value: MutableRange = { bytes: EMPTY, start: 0, end: 0 }

  /** @param send  takes a whole batch; called from within add and flush */
  constructor(recordBytesMax: number, send: (batch: LineBatch, bytes: Uint8Array) => void) {
    this.#recordBytesMax = recordBytesMax
    this.#send = send
  }

  /**
   * @returns the batch that the record is now the last one of
   * @throws StreamError RECORD_TOO_LARGE, RECORD_INVALID; nothing was added
   */
  add(request: LineRequest, partition: number, nowMs: number): LineBatch {
    const record = this.#recordOf(request)
    for (;;) {
      const open = this.#openFor(request.topic, partition, nowMs)
      try {
        if (open.builder.append(record)) {
          open.batch.recordCount += 1
          return open.batch
        }
      } catch (error) {
        if (open.builder.isEmpty) this.#release(open)
        throw error
      }
      this.#finish(open)
    }
  }

  /** Sends what is open. */
  flush(): void {
    for (const open of [...this.#open.values()]) this.#finish(open)
  }

  #openFor(topic: string, partition: number, nowMs: number): Open {
    const name = `${topic}/${partition}`
    const found = this.#open.get(name)
    if (found !== undefined) return found
    if (this.#open.size >= OPEN_MAX) this.flush()
    const builder =
      this.#free.pop() ?? new BatchBuilder(BUILDER_BYTES, { bytesMax: this.#recordBytesMax })
    builder.reset({ timestampMs: nowMs })
    const batch: LineBatch = {
      topic,
      partition,
      recordCount: 0,
      baseOffset: -1,
      errorLine: undefined,
      isSettled: false,
    }
    const open = { batch, builder }
    this.#open.set(name, open)
    return open
  }

  #finish(open: Open): void {
    const { batch, builder } = open
    // The log and its cache may keep the bytes; the builder is used again.
    const bytes = builder.isEmpty ? undefined : Uint8Array.from(builder.finish())
    this.#release(open)
    if (bytes !== undefined) this.#send(batch, bytes)
  }

  #release({ batch, builder }: Open): void {
    this.#open.delete(`${batch.topic}/${batch.partition}`)
    builder.reset({ timestampMs: -1 })
    this.#free.push(builder)
  }

  #recordOf(request: LineRequest): RecordInput {
    const { bytes, keyStart, keyEnd, valueStart, valueEnd, timestampMs } = request
    return {
      key: keyStart < 0 ? null : setRange(this.#key, bytes, keyStart, keyEnd),
      value: valueStart < 0 ? null : setRange(this.#value, bytes, valueStart, valueEnd),
      ...(timestampMs === undefined ? {} : { timestampMs }),
    }
  }
}

const EMPTY = new Uint8Array(0)

function setRange(
  range: MutableRange,
  bytes: Uint8Array,
  start: number,
  end: number,
): MutableRange {
  range.bytes = bytes
  range.start = start
  range.end = end
  return range
}
