/** One comparison as a machine, against a leader that is a list of batches. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { hashRange, type StoredReader } from '../../../daemon/log/range-hash.ts'
import { Comparison, type Verdict } from '../../../daemon/replica/comparison.ts'
import {
  attributesAt,
  baseOffsetAt,
  DELETE_HORIZON_BIT,
  lastOffsetAt,
  putInt16,
  putInt64,
  stampCrc,
  stampTransactional,
} from '../../../src/record/batch-layout.ts'
import { crc32c } from '../../../src/record/crc32c.ts'
import { batchOf } from '../batches.ts'

/** @param counts  how many records each batch has */
function copyOf(counts: readonly number[], text = 'v'): Uint8Array[] {
  let offset = 0
  return counts.map((count) => {
    const batch = batchOf(Array.from({ length: count }, (_, at) => `${text}${offset + at}`))
    putInt64(batch, 0, offset)
    offset += count
    return batch
  })
}

function endOf(batches: readonly Uint8Array[]): number {
  const last = batches.at(-1)
  return last === undefined ? 0 : lastOffsetAt(last, 0) + 1
}

/** Reads as a log does (LogReader): the batch that holds the offset, or the next one, and whole batches below the end. */
function readerOf(batches: readonly Uint8Array[]): StoredReader {
  return {
    readStored: ({ offset, endOffset = Infinity, maxBytes, minOneBatch = true }) => {
      const found: Uint8Array[] = []
      let sizeBytes = 0
      for (const batch of batches) {
        if (lastOffsetAt(batch, 0) < offset) continue
        const isFree = minOneBatch && found.length === 0
        const isTooMuch = !isFree && sizeBytes + batch.length > maxBytes
        if (lastOffsetAt(batch, 0) >= endOffset || isTooMuch) break
        found.push(batch)
        sizeBytes += batch.length
      }
      const [first] = found
      return Promise.resolve({
        bytes: found.length === 0 ? [] : [Buffer.concat(found)],
        sizeBytes,
        firstOffset: first === undefined ? offset : baseOffsetAt(first, 0),
        nextOffset: first === undefined ? offset : endOf(found),
      })
    },
  }
}

interface Run {
  readonly verdict: Verdict
  readonly asked: number
}

/** @param again  what is here when it is read once more */
async function compare(
  own: readonly Uint8Array[],
  leader: readonly Uint8Array[] | ((asked: number) => readonly Uint8Array[]),
  again = own,
): Promise<Run> {
  const startOffset = baseOffsetAt(own[0] as Uint8Array, 0)
  const endOffset = endOf(own)
  const bytes = Buffer.concat(own as Uint8Array[])
  const range = { startOffset, endOffset, sizeBytes: bytes.length, checksum: crc32c(bytes) }
  const comparison = new Comparison(range)
  let asked = 0
  for (;;) {
    const { step } = comparison
    if (step.kind === 'done') return { verdict: step.verdict, asked }
    if (step.kind === 'read') {
      comparison.onRead(Buffer.concat(again as Uint8Array[]))
      continue
    }
    asked += 1
    const batches = typeof leader === 'function' ? leader(asked) : leader
    if (step.kind === 'hash') {
      const { kind: _, ...wanted } = step
      comparison.onHash(await hashRange(readerOf(batches), { ...wanted, maxBytes: 1 << 22 }))
    } else {
      const wanted = { offset: step.offset, maxBytes: 1 }
      const slice = await readerOf(batches).readStored(wanted)
      comparison.onBatch(Buffer.concat(slice.bytes as Uint8Array[]))
    }
  }
}

const COUNTS = [3, 1, 5, 2, 2, 7, 1, 4, 3]

function replaced(batches: readonly Uint8Array[], index: number, text = 'other'): Uint8Array[] {
  const before = batches[index] as Uint8Array
  const baseOffset = baseOffsetAt(before, 0)
  const count = lastOffsetAt(before, 0) - baseOffset + 1
  const batch = batchOf(Array.from({ length: count }, (_, at) => `${text}${at}`))
  putInt64(batch, 0, baseOffset)
  return batches.with(index, batch)
}

describe('a comparison', () => {
  it('asks once where both copies are the same', async () => {
    const run = await compare(copyOf(COUNTS), copyOf(COUNTS))
    expect(run).toEqual({ verdict: { kind: 'same' }, asked: 1 })
  })

  it('finds the first batch that differs, wherever it stands and whatever size the other one has', async () => {
    for (const text of ['w', 'much longer than the other one is ']) {
      for (let index = 0; index < COUNTS.length; index += 1) {
        const own = copyOf(COUNTS)
        const leader = replaced(replaced(own, COUNTS.length - 1, text), index, text)
        const { verdict, asked } = await compare(own, leader)
        expect(verdict).toEqual({
          kind: 'differs',
          difference: {
            startOffset: baseOffsetAt(own[index] as Uint8Array, 0),
            endOffset: lastOffsetAt(own[index] as Uint8Array, 0) + 1,
            checksum: crc32c(own[index] as Uint8Array),
            leaderChecksum: crc32c(leader[index] as Uint8Array),
          },
        })
        expect(asked).toBeLessThanOrEqual(2 + Math.ceil(Math.log2(COUNTS.length)) + 1)
      }
    }
  })

  it('finds batches that are cut at other offsets', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 12 }),
        fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 12 }),
        async (ownCounts, leaderCounts) => {
          const own = copyOf(ownCounts)
          // The leader goes on behind the range.
          const leader = copyOf([...leaderCounts, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5])
          const first = own.findIndex((batch, at) => {
            const theirs = leader[at]
            return theirs === undefined || Buffer.compare(batch, theirs) !== 0
          })
          const { verdict } = await compare(own, leader)
          if (first < 0) expect(verdict).toEqual({ kind: 'same' })
          else {
            const startOffset = baseOffsetAt(own[first] as Uint8Array, 0)
            expect(verdict).toMatchObject({ kind: 'differs', difference: { startOffset } })
          }
        },
      ),
    )
  })

  it('differs by leader epoch and offset too, which a batch’s own checksum does not cover', async () => {
    const own = copyOf(COUNTS)
    const leader = own.map((batch) => batch.slice())
    ;(leader[2] as Uint8Array)[15] = 1
    const { verdict } = await compare(own, leader)
    expect(verdict).toMatchObject({ kind: 'differs', difference: { startOffset: 4 } })
  })

  it('ends the same where either side was read wrongly the first time', async () => {
    const own = copyOf(COUNTS)
    const other = replaced(own, 3)
    expect(await compare(own, (asked) => (asked === 1 ? other : own))).toEqual({
      verdict: { kind: 'same' },
      asked: 2,
    })
    expect(await compare(other, own, own)).toEqual({ verdict: { kind: 'same' }, asked: 2 })
  })

  it('ends unknown where the copy here is another one by now, or the leader’s while it is looked at', async () => {
    const own = copyOf(COUNTS)
    const other = replaced(own, 3)
    const counts = COUNTS.slice(0, 4)
    expect((await compare(own, other, copyOf(counts))).verdict.kind).toBe('unknown')
    expect((await compare(own, other, [])).verdict.kind).toBe('unknown')
    const moving = await compare(own, (asked) => (asked < 3 ? other : own))
    expect(moving.verdict.kind).toBe('unknown')
  })

  it('ends unknown where the leader tells less than the range: a gap, its end', async () => {
    const own = copyOf(COUNTS)
    const ends = copyOf(COUNTS.slice(0, 5))
    expect((await compare(own, ends)).verdict.kind).toBe('unknown')
    for (let gap = 0; gap < COUNTS.length - 1; gap += 1) {
      const leader = own.toSpliced(gap, 1)
      expect((await compare(own, leader)).verdict).toMatchObject({ kind: 'unknown' })
    }
  })

  it('ends unknown where compaction was at work at the leader', async () => {
    const own = copyOf(COUNTS)
    const sparse = batchOf(['a', 'b', 'c'])
    putInt64(sparse, 0, 4)
    // Five offsets, three records.
    sparse[26] = 4
    stampCrc(sparse, 0)
    expect((await compare(own, own.with(2, sparse))).verdict.kind).toBe('unknown')
    const later = (own[2] as Uint8Array).slice()
    putInt16(later, 21, attributesAt(later, 0) | DELETE_HORIZON_BIT)
    stampCrc(later, 0)
    expect((await compare(own, own.with(2, later))).verdict.kind).toBe('unknown')
    expect((await compare(own.with(2, later), own)).verdict.kind).toBe('unknown')
  })

  it('ends unknown where a batch of a transaction was made plain on one side', async () => {
    const own = copyOf(COUNTS)
    const inTransaction = (own[4] as Uint8Array).slice()
    putInt64(inTransaction, 43, 7)
    const plain = inTransaction.slice()
    stampTransactional(inTransaction, 0, true)
    stampCrc(inTransaction, 0)
    stampCrc(plain, 0)
    const cleaned = own.with(4, plain)
    const raw = own.with(4, inTransaction)
    expect((await compare(raw, cleaned)).verdict.kind).toBe('unknown')
    expect((await compare(cleaned, raw)).verdict.kind).toBe('unknown')
  })

  it('takes no batch of the leader that is none', () => {
    const own = copyOf([2])
    const bytes = own[0] as Uint8Array
    const range = { startOffset: 0, endOffset: 2, sizeBytes: bytes.length, checksum: 0 }
    for (const records of [new Uint8Array(0), new Uint8Array(80), copyOf([9]).slice(1)[0]]) {
      const comparison = new Comparison(range)
      const hash = { sizeBytes: 1, checksum: 1, nextOffset: 2 }
      comparison.onHash(hash)
      comparison.onRead(bytes)
      comparison.onHash(hash)
      expect(comparison.step).toEqual({ kind: 'batch', offset: 0 })
      comparison.onBatch(records ?? new Uint8Array(3))
      expect(comparison.step).toMatchObject({ kind: 'done', verdict: { kind: 'unknown' } })
    }
  })
})
