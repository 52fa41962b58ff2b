/**
 * The checksum of a range of offsets, by which two replicas compare what they hold without sending it (replication.md
 * section 7.3). Their segments are cut differently, so it speaks of batches alone:
 *
 *     [startOffset, endOffset) is the batches whose base offset is at or beyond startOffset and whose last offset is
 *     below endOffset; its checksum is the CRC-32C over their stored bytes, one behind the other.
 *
 * Base offset and leader epoch count, which a batch's own checksum does not cover: replicas copy both from their leader.
 *
 * Invariants:
 * - A range that is handed over has no gap and no batch that compaction has made: each replica compacts its own log, when
 *   it likes. So two ranges of the same offsets hold the same bytes, or one of the copies is wrong; but for a batch of a
 *   transaction that compaction has made plain, which shows only beside the other one (daemon/replica/comparison.ts).
 * - Every batch in it was checked against its own checksum, and came from a file.
 */
import {
  attributesAt,
  baseOffsetAt,
  batchBytesAt,
  hasDeleteHorizon,
  lastOffsetAt,
  lastOffsetDeltaAt,
  recordCountAt,
} from '../../src/record/batch-layout.ts'
import { crc32c } from '../../src/record/crc32c.ts'
import type { LogSlice, ReadRequest } from './log-types.ts'

/** Of a range that is handed over, unless one batch is larger. */
const RANGE_BYTES_MAX = 1024 * 1024

export interface HashedRange {
  readonly startOffset: number
  /** Exclusive. */
  readonly endOffset: number
  readonly sizeBytes: number
  readonly checksum: number
}

/** A range that was read from the files of a log and found sound. */
export interface SoundRange extends HashedRange {
  /** Of the log when it was read: how often it had been cut. */
  readonly generation: number
}

export interface HashRequest {
  readonly startOffset: number
  readonly endOffset: number
  /** No more is read, but for one batch. */
  readonly maxBytes: number
}

export interface HashAnswer {
  readonly sizeBytes: number
  readonly checksum: number
  /** How far the range could be told: endOffset, or where a gap or a cleaned batch stands, or maxBytes were read. */
  readonly nextOffset: number
}

/** Whether compaction has left out something of the batch, or has given it a delete horizon. */
export function isCleaned(bytes: Uint8Array, at: number): boolean {
  return (
    recordCountAt(bytes, at) !== lastOffsetDeltaAt(bytes, at) + 1 ||
    hasDeleteHorizon(attributesAt(bytes, at))
  )
}

/** Of batches as they are come upon. Neighbours in one block are hashed in one call: small ones cost next to nothing. */
export class RangeHash {
  readonly startOffset: number
  /** Behind the last batch. */
  endOffset: number
  sizeBytes = 0
  #checksum = 0
  #block: Uint8Array = EMPTY
  #runStart = 0
  #runEnd = 0

  constructor(startOffset: number) {
    this.startOffset = startOffset
    this.endOffset = startOffset
  }

  /** Whether the batch stands where the range ends, and is as it was appended. */
  isFollowedBy(block: Uint8Array, at: number): boolean {
    return baseOffsetAt(block, at) === this.endOffset && !isCleaned(block, at)
  }

  /** The block is not changed before settle(). */
  add(block: Uint8Array, at: number): void {
    if (block !== this.#block || at !== this.#runEnd) {
      this.settle()
      this.#block = block
      this.#runStart = at
    }
    const batchBytes = batchBytesAt(block, at)
    this.#runEnd = at + batchBytes
    this.sizeBytes += batchBytes
    this.endOffset = lastOffsetAt(block, at) + 1
  }

  /** Nothing of the blocks is looked at any more. */
  settle(): void {
    if (this.#runEnd > this.#runStart) {
      this.#checksum = crc32c(this.#block, this.#runStart, this.#runEnd, this.#checksum)
    }
    this.#block = EMPTY
    this.#runStart = 0
    this.#runEnd = 0
  }

  get checksum(): number {
    this.settle()
    return this.#checksum
  }
}

/** Cuts what a scrub comes upon into ranges that can be compared. */
export class SoundRanges {
  readonly #give: (range: SoundRange) => void
  /** What lies below was handed over, or begins nowhere. */
  #next: number
  #hash: RangeHash | undefined
  #generation = -1

  constructor(fromOffset: number, give: (range: SoundRange) => void) {
    this.#next = fromOffset
    this.#give = give
  }

  /** A sound batch; those below the log start, and those that are read once more, are passed over. */
  add(block: Uint8Array, at: number, log: { generation: number; logStartOffset: number }): void {
    if (this.#generation !== log.generation) this.drop()
    const baseOffset = baseOffsetAt(block, at)
    if (baseOffset < this.#next || baseOffset < log.logStartOffset) return
    this.#next = lastOffsetAt(block, at) + 1
    const isFull =
      this.#hash !== undefined && this.#hash.sizeBytes + batchBytesAt(block, at) > RANGE_BYTES_MAX
    if (isFull || this.#hash?.isFollowedBy(block, at) === false) this.end()
    if (isCleaned(block, at)) return
    this.#generation = log.generation
    this.#hash ??= new RangeHash(baseOffset)
    this.#hash.add(block, at)
  }

  /** The blocks may change from now on. */
  settle(): void {
    this.#hash?.settle()
  }

  /** Nothing more belongs to the range: it is handed over. */
  end(): void {
    const hash = this.#hash
    this.#hash = undefined
    if (hash === undefined) return
    const { startOffset, endOffset, sizeBytes, checksum } = hash
    this.#give({ startOffset, endOffset, sizeBytes, checksum, generation: this.#generation })
  }

  drop(): void {
    this.#hash = undefined
  }
}

/** What a range is read with: daemon/log/log-reader.ts, from the files alone. */
export interface StoredReader {
  readStored(request: ReadRequest): Promise<LogSlice>
}

/**
 * The hash of a range of this log.
 * @throws StreamError as LogReader.readStored; DATA_DAMAGED where something in the range is
 */
export async function hashRange(reader: StoredReader, wanted: HashRequest): Promise<HashAnswer> {
  const { startOffset, endOffset, maxBytes } = wanted
  const hash = new RangeHash(startOffset)
  const told = (nextOffset: number): HashAnswer => {
    const { sizeBytes, checksum } = hash
    return { sizeBytes, checksum, nextOffset: Math.min(nextOffset, endOffset) }
  }
  let readBytes = 0
  let offset = startOffset
  while (offset < endOffset && readBytes < maxBytes) {
    const slice = await reader.readStored({
      offset,
      endOffset,
      maxBytes: maxBytes - readBytes,
      minOneBatch: readBytes === 0,
    })
    if (slice.sizeBytes === 0) {
      return told((await hasBatchAcross(reader, offset, endOffset)) ? endOffset : offset)
    }
    readBytes += slice.sizeBytes
    for (const block of slice.bytes) {
      for (let at = 0; at < block.length; at += batchBytesAt(block, at)) {
        // One that begins before the range is no part of it, and no gap either.
        if (baseOffsetAt(block, at) < startOffset) hash.endOffset = lastOffsetAt(block, at) + 1
        else if (hash.isFollowedBy(block, at)) hash.add(block, at)
        else return told(hash.endOffset)
      }
    }
    offset = slice.nextOffset
  }
  return told(offset)
}

/** Whether there is no more of a range because a batch reaches beyond its end: no gap, and not too large to be read. */
async function hasBatchAcross(
  reader: StoredReader,
  offset: number,
  endOffset: number,
): Promise<boolean> {
  const [block] = (await reader.readStored({ offset, maxBytes: 1 })).bytes
  if (block === undefined || baseOffsetAt(block, 0) >= endOffset) return false
  return lastOffsetAt(block, 0) >= endOffset
}

const EMPTY = new Uint8Array(0)
