/**
 * What must be known of a whole log before a part of it can be read as a committed reader sees it: where it ends, which
 * transactions were aborted, which are open, and where times lie. Taken from the batches alone: the indexes may be what is
 * wrong. One pass over the headers; only what changes the outcome is read whole.
 */
import { isStreamError } from '../../src/base/errors.ts'
import type { Disk } from '../../src/ports/disk.ts'
import {
  attributesAt,
  baseOffsetAt,
  findBatchDefect,
  isControl,
  isTransactional,
  producerIdAt,
} from '../../src/record/batch-layout.ts'
import { readControlBatch } from '../../src/record/control-batch.ts'
import { RecordCursor } from '../../src/record/record-cursor.ts'
import { type BatchWalk, recordTimestampAt } from '../log/batch-walk.ts'
import { readEpochFile } from '../log/epoch-file.ts'
import type { SegmentFile } from './partition-files.ts'
import { LogOrder, scanSegment } from './segment-scan.ts'

export interface AbortedRange {
  readonly producerId: number
  readonly firstOffset: number
  /** Of the marker. */
  readonly lastOffset: number
}

export interface LogFacts {
  readonly firstOffset: number
  /** Behind the last batch that can be read. */
  readonly endOffset: number
  /** First offset of the oldest open transaction; undefined: none is open. */
  readonly openFrom: number | undefined
  readonly epochMax: number | undefined
  isAborted(producerId: number, offset: number): boolean
  isOpen(producerId: number, offset: number): boolean
  /** First record stamped at or after; undefined: none is. Only of the times asked for. */
  offsetOfTime(timeMs: number): number | undefined
}

export async function readLogFacts(
  disk: Disk,
  segments: readonly SegmentFile[],
  timesMs: readonly number[],
): Promise<LogFacts> {
  const pass = new FactsPass(disk, timesMs)
  const first = segments[0]
  const epochs = first?.isNamed === true ? readEpochFile(disk, first.directory) : undefined
  const epochMax = epochs?.latest?.epoch
  const order = new LogOrder()
  for (const [index, segment] of segments.entries()) {
    pass.segment = segment
    const nextBaseOffset = segments[index + 1]?.baseOffset
    await scanSegment(disk, segment, order, { mode: 'headers', nextBaseOffset, epochMax }, pass)
  }
  return {
    firstOffset: pass.firstOffset ?? first?.baseOffset ?? 0,
    endOffset: order.expected,
    openFrom: pass.open.size === 0 ? undefined : Math.min(...pass.open.values()),
    epochMax,
    isAborted: (producerId, offset) => {
      const ranges = pass.aborted.get(producerId) ?? []
      return ranges.some((each) => each.firstOffset <= offset && offset <= each.lastOffset)
    },
    isOpen: (producerId, offset) => offset >= (pass.open.get(producerId) ?? Infinity),
    offsetOfTime: (timeMs) => pass.found.get(timeMs),
  }
}

class FactsPass {
  segment: SegmentFile | undefined
  firstOffset: number | undefined
  readonly open = new Map<number, number>()
  readonly aborted = new Map<number, AbortedRange[]>()
  readonly found = new Map<number, number>()
  readonly #disk: Disk
  readonly #timesMs: readonly number[]
  readonly #cursor = new RecordCursor()

  constructor(disk: Disk, timesMs: readonly number[]) {
    this.#disk = disk
    this.#timesMs = timesMs
  }

  onDefect(): void {}

  onBatch(walk: BatchWalk): void {
    const { bytes, at } = walk
    this.firstOffset ??= baseOffsetAt(bytes, at)
    const attributes = attributesAt(bytes, at)
    if (isControl(attributes)) this.#endTransaction(bytes, at)
    else if (isTransactional(attributes)) this.#begin(walk)
    if (this.found.size < this.#timesMs.length) this.#lookForTimes(walk)
  }

  #begin(walk: BatchWalk): void {
    const producerId = producerIdAt(walk.bytes, walk.at)
    if (this.open.has(producerId)) return
    // A header alone may be damaged, and would hold back all that follows.
    if (this.#whole(walk) !== undefined)
      this.open.set(producerId, baseOffsetAt(walk.bytes, walk.at))
  }

  #endTransaction(bytes: Uint8Array, at: number): void {
    let record: ReturnType<typeof readControlBatch>
    try {
      record = readControlBatch(bytes, at)
    } catch (error) {
      if (!isStreamError(error)) throw error
      return
    }
    if (record?.kind !== 'marker') return
    const { producerId, offset } = record
    const firstOffset = this.open.get(producerId)
    this.open.delete(producerId)
    if (firstOffset === undefined || record.type === 'commit') return
    const ranges = this.aborted.get(producerId) ?? []
    ranges.push({ producerId, firstOffset, lastOffset: offset })
    this.aborted.set(producerId, ranges)
  }

  #lookForTimes(walk: BatchWalk): void {
    const latestMs = recordTimestampAt(walk.bytes, walk.at)
    if (isControl(attributesAt(walk.bytes, walk.at))) return
    for (const timeMs of this.#timesMs) {
      if (latestMs < timeMs || this.found.has(timeMs)) continue
      const offset = this.#firstAt(walk, timeMs)
      if (offset !== undefined) this.found.set(timeMs, offset)
    }
  }

  #firstAt(walk: BatchWalk, timeMs: number): number | undefined {
    const batch = this.#whole(walk)
    if (batch === undefined) return undefined
    try {
      this.#cursor.reset(batch)
      while (this.#cursor.next()) {
        if (this.#cursor.timestampMs >= timeMs) return this.#cursor.offset
      }
    } catch (error) {
      if (!isStreamError(error)) throw error
    }
    return undefined
  }

  /** The batch with its records; undefined where it is not sound. */
  #whole(walk: BatchWalk): Uint8Array | undefined {
    const batch = new Uint8Array(walk.batchBytes)
    const file = this.#disk.open(this.segment?.path ?? '', 'read')
    try {
      if (file.read(walk.position, batch) < batch.length) return undefined
    } finally {
      file.close()
    }
    return findBatchDefect(batch) === undefined ? batch : undefined
  }
}
