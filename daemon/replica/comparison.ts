/**
 * One comparison of a range of offsets with the leader's copy (replication.md section 7.3), as a synchronous machine: it
 * is told what was answered and read, and says what to do next.
 *
 *  1. the leader's hash of the range against the one that the scrubber made: mostly that is all
 *  2. where they differ, this replica's bytes are read once more, and the leader is asked once more
 *  3. halves of halves, until one batch is left: the first that differs
 *  4. the leader's own batch, to say what it is, and that it is no work of compaction
 *
 * Its user sees to it that nothing has moved meanwhile: leader epoch, log, log start (comparer.ts).
 *
 * Invariants:
 * - A verdict `differs` stands on two readings of both copies and on the bytes of both batches. Whatever leaves a doubt
 *   ends with `unknown`: the next pass comes by again.
 * - What the leader could tell of a part of the range alone counts only where that part holds more than all of it here.
 */
import { Buffer } from 'node:buffer'
import { assert } from '../../src/base/assert.ts'
import {
  attributesAt,
  baseOffsetAt,
  batchBytesAt,
  CRC_AT,
  findBatchDefect,
  HEADER_BYTES,
  isControl,
  lastOffsetAt,
  putInt32,
  stampTransactional,
} from '../../src/record/batch-layout.ts'
import { crc32c } from '../../src/record/crc32c.ts'
import { type HashAnswer, type HashedRange, isCleaned } from '../log/range-hash.ts'

/** The first batch of a range that is another one at the leader. */
export interface Difference {
  readonly startOffset: number
  /** Exclusive; of the batch here. */
  readonly endOffset: number
  /** CRC-32C of the whole stored batch, its base offset and leader epoch included. */
  readonly checksum: number
  readonly leaderChecksum: number
}

export type Verdict =
  | { readonly kind: 'same' }
  | { readonly kind: 'unknown'; readonly why: string }
  | { readonly kind: 'differs'; readonly difference: Difference }

export type ComparisonStep =
  /** Ask the leader for its hash of these offsets. */
  | { readonly kind: 'hash'; readonly startOffset: number; readonly endOffset: number }
  /** Read the range here, from the files. */
  | { readonly kind: 'read' }
  /** Ask the leader for its batch at this offset. */
  | { readonly kind: 'batch'; readonly offset: number }
  | { readonly kind: 'done'; readonly verdict: Verdict }

export class Comparison {
  readonly range: HashedRange
  step: ComparisonStep
  #bytes: Uint8Array = EMPTY
  /** Of the batches in `bytes`, and behind the last one. */
  #positions: number[] = []
  #offsets: number[] = []
  /** Batches from `low` on, before `high`: among them is the first one that differs. */
  #low = 0
  #high = 0
  /** The batch before which everything is asked for; 0: the whole range. */
  #middle = 0

  constructor(range: HashedRange) {
    this.range = range
    this.step = { kind: 'hash', startOffset: range.startOffset, endOffset: range.endOffset }
  }

  onHash(answer: HashAnswer): void {
    assert(this.step.kind === 'hash', 'an answer is to what was asked for')
    const { endOffset } = this.step
    const own = this.#own()
    if (answer.nextOffset < endOffset && answer.sizeBytes <= own.sizeBytes) {
      this.#unknown(`the leader tells only what is below offset ${answer.nextOffset}`)
      return
    }
    const isSame = answer.checksum === own.checksum && answer.sizeBytes === own.sizeBytes
    if (this.#positions.length === 0) this.step = isSame ? same : { kind: 'read' }
    else if (this.#middle > 0) this.#narrow(isSame)
    else if (isSame) this.step = same
    else this.#halve()
  }

  /** @param bytes  whole batches from the start of the range on */
  onRead(bytes: Uint8Array): void {
    assert(this.step.kind === 'read', 'a range is read where that is called for')
    const { startOffset, endOffset } = this.range
    let expected = startOffset
    let at = 0
    while (at < bytes.length && expected < endOffset) {
      if (baseOffsetAt(bytes, at) !== expected || isCleaned(bytes, at)) break
      this.#positions.push(at)
      this.#offsets.push(expected)
      expected = lastOffsetAt(bytes, at) + 1
      at += batchBytesAt(bytes, at)
    }
    if (expected !== endOffset || at === 0) {
      this.#unknown('the range is another one by now')
      return
    }
    this.#bytes = bytes
    this.#positions.push(at)
    this.#offsets.push(endOffset)
    this.#high = this.#offsets.length - 1
    this.step = { kind: 'hash', startOffset, endOffset }
  }

  /** @param records  whole batches of the leader; the first one is what it has at the offset that was asked for */
  onBatch(records: Uint8Array): void {
    assert(this.step.kind === 'batch', 'an answer is to what was asked for')
    const { offset } = this.step
    const size = records.length < HEADER_BYTES ? 0 : batchBytesAt(records, 0)
    const isBatch = size > 0 && findBatchDefect(records, 0, size) === undefined
    if (!isBatch || baseOffsetAt(records, 0) > offset || lastOffsetAt(records, 0) < offset) {
      this.#unknown(`the leader shows no batch at offset ${offset}`)
      return
    }
    const own = this.#bytes.subarray(this.#positions[this.#low], this.#positions[this.#high])
    const theirs = records.subarray(0, size)
    if (isExplained(own, theirs)) {
      this.#unknown(`compaction has changed the batch at offset ${offset}`)
      return
    }
    const difference = {
      startOffset: offset,
      endOffset: this.#offsets[this.#high] as number,
      checksum: crc32c(own),
      leaderChecksum: crc32c(theirs),
    }
    this.step = { kind: 'done', verdict: { kind: 'differs', difference } }
  }

  /** What the step asks for is not to be had. */
  giveUp(why: string): void {
    this.#unknown(why)
  }

  /** Of what the leader was asked for. */
  #own(): { readonly sizeBytes: number; readonly checksum: number } {
    if (this.#positions.length === 0) return this.range
    const start = this.#positions[this.#low] as number
    const end = this.#positions[this.#middle > 0 ? this.#middle : this.#high] as number
    return { sizeBytes: end - start, checksum: crc32c(this.#bytes, start, end) }
  }

  #narrow(isSame: boolean): void {
    if (isSame) this.#low = this.#middle
    else this.#high = this.#middle
    this.#halve()
  }

  #halve(): void {
    const startOffset = this.#offsets[this.#low] as number
    if (this.#high - this.#low === 1) {
      this.step = { kind: 'batch', offset: startOffset }
      return
    }
    this.#middle = (this.#low + this.#high) >>> 1
    const endOffset = this.#offsets[this.#middle] as number
    this.step = { kind: 'hash', startOffset, endOffset }
  }

  #unknown(why: string): void {
    this.step = { kind: 'done', verdict: { kind: 'unknown', why } }
  }
}

const EMPTY = new Uint8Array(0)
const same: ComparisonStep = { kind: 'done', verdict: { kind: 'same' } }

/**
 * Whether two batches are one: the bytes are the same by now, compaction has left out something of the other one, or it has
 * made a committed one plain, which changes that bit and the checksum alone.
 */
function isExplained(own: Uint8Array, theirs: Uint8Array): boolean {
  if (isCleaned(theirs, 0)) return true
  if (own.length !== theirs.length) return false
  if (isControl(attributesAt(own, 0)) || isControl(attributesAt(theirs, 0))) {
    return Buffer.compare(own, theirs) === 0
  }
  return Buffer.compare(plain(own), plain(theirs)) === 0
}

function plain(batch: Uint8Array): Uint8Array {
  // A Buffer's slice() would be the same memory.
  const copy = Uint8Array.from(batch)
  stampTransactional(copy, 0, false)
  putInt32(copy, CRC_AT, 0)
  return copy
}
