import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  attributesAt,
  BASE_SEQUENCE_AT,
  baseOffsetAt,
  findBatchDefect,
  HEADER_BYTES,
  int64At,
  isLogAppendTime,
  lastOffsetAt,
  maxTimestampAt,
  putInt32,
  putInt64,
  readBatchHeader,
  stampBatch,
  stampCrc,
  stampLogAppendTime,
  stampProducer,
} from '../../../src/record/batch-layout.ts'
import { buildBatch, hex, readBatch } from './record-support.ts'

const kafkajsBatch = hex(
  '000000000000000000000057ffffffff0211101f690010000000020000018bcfe568000000018bcfe9fbe0000000000000000700010000002a0000000316000000010a68656c6c6f001000b71702026b01002000c0cf24040000040261023104626200',
)
const record = { key: 'k', value: 'some value', headers: [], timestampMs: 1000 }

/** A batch with a valid CRC over whatever `change` did. */
function changed(change: (batch: Uint8Array) => void): Uint8Array {
  const batch = buildBatch([record, record, record], {
    producerId: 5,
    producerEpoch: 0,
    baseSequence: 9,
  })
  change(batch)
  stampCrc(batch, 0)
  return batch
}

describe('int64', () => {
  test('passes as a number within ±2^53', () => {
    const bytes = new Uint8Array(8)
    fc.assert(
      fc.property(fc.maxSafeInteger(), (value) => {
        putInt64(bytes, 0, value)
        expect(int64At(bytes, 0)).toBe(value)
        expect(new DataView(bytes.buffer).getBigInt64(0)).toBe(BigInt(value))
      }),
    )
  })
})

describe('readBatchHeader', () => {
  test('reads every field of a batch that kafkajs wrote', () => {
    expect(readBatchHeader(kafkajsBatch)).toEqual({
      baseOffset: 0,
      batchBytes: 99,
      partitionLeaderEpoch: -1,
      magic: 2,
      crc: 0x11101f69,
      attributes: 16,
      lastOffsetDelta: 2,
      lastOffset: 2,
      baseTimestamp: 1700000000000,
      maxTimestamp: 1700000300000,
      producerId: 7,
      producerEpoch: 1,
      baseSequence: 42,
      recordCount: 3,
    })
  })

  test('fewer bytes than a header are CORRUPT_BATCH', () => {
    for (let length = 0; length < HEADER_BYTES; length++) {
      expect(() => readBatchHeader(kafkajsBatch.subarray(0, length))).toThrow(
        expect.objectContaining({ code: 'CORRUPT_BATCH' }),
      )
    }
    expect(() => readBatchHeader(kafkajsBatch, 60)).toThrow()
  })
})

describe('findBatchDefect', () => {
  test('a batch cut at any length is truncated, and whole when nothing is cut', () => {
    for (let length = 0; length < kafkajsBatch.length; length++) {
      expect(findBatchDefect(kafkajsBatch, 0, length)?.kind).toBe('truncated')
      expect(findBatchDefect(kafkajsBatch.subarray(0, length))?.kind).toBe('truncated')
    }
    expect(findBatchDefect(kafkajsBatch)).toBeUndefined()
  })

  test('finds a batch in the midst of others', () => {
    const log = Buffer.concat([kafkajsBatch, kafkajsBatch, kafkajsBatch])
    expect(findBatchDefect(log, 99)).toBeUndefined()
    expect(findBatchDefect(log, 98)).toBeDefined()
  })

  test('any flipped bit within the CRC is found', () => {
    fc.assert(
      fc.property(fc.integer({ min: 17 * 8, max: 99 * 8 - 1 }), (bit) => {
        const batch = kafkajsBatch.slice()
        batch[bit >> 3] = (batch[bit >> 3] as number) ^ (1 << (bit & 7))
        expect(findBatchDefect(batch)).toBeDefined()
      }),
      { numRuns: 400 },
    )
  })

  test.each([
    ['length', (b: Uint8Array) => putInt32(b, 8, 48)],
    ['length', (b: Uint8Array) => putInt32(b, 8, -1)],
    ['truncated', (b: Uint8Array) => putInt32(b, 8, 0x7fffffff)],
    ['magic', (b: Uint8Array) => b.set([1], 16)],
    ['magic', (b: Uint8Array) => b.set([0xff], 16)],
    ['attributes', (b: Uint8Array) => b.set([0, 5], 21)],
    ['attributes', (b: Uint8Array) => b.set([0, 7], 21)],
    ['attributes', (b: Uint8Array) => b.set([0, 0x80], 21)],
    ['attributes', (b: Uint8Array) => b.set([0x80, 0], 21)],
    ['attributes', (b: Uint8Array) => b.set([0, 0x31], 21)],
    ['range', (b: Uint8Array) => b.set([0x7f, 0xff], 0)],
    ['range', (b: Uint8Array) => b.set([0xff], 0)],
    ['range', (b: Uint8Array) => b.set([0x40], 27)],
    ['range', (b: Uint8Array) => b.set([0x80], 35)],
    ['range', (b: Uint8Array) => b.set([0x80], 43)],
    ['count', (b: Uint8Array) => putInt32(b, 23, -1)],
    ['count', (b: Uint8Array) => putInt32(b, 57, -1)],
    ['count', (b: Uint8Array) => putInt32(b, 57, 0)],
    ['count', (b: Uint8Array) => putInt32(b, 57, 4)],
    ['count', (b: Uint8Array) => b.set([0x40, 0, 0, 0], 57)],
    ['producer', (b: Uint8Array) => b.set([0xff, 0xff], 51)],
    ['producer', (b: Uint8Array) => putInt32(b, BASE_SEQUENCE_AT, -2)],
  ] as const)('%s: a header that cannot be, though its CRC is right (%#)', (kind, change) => {
    const batch = buildBatch([record, record, record], {
      producerId: 5,
      producerEpoch: 0,
      baseSequence: 9,
    })
    change(batch)
    if (kind !== 'length' && kind !== 'truncated') stampCrc(batch, 0)
    expect(findBatchDefect(batch)?.kind).toBe(kind)
  })

  test('gaps left by compaction are sound', () => {
    expect(findBatchDefect(changed((batch) => putInt32(batch, 23, 1000)))).toBeUndefined()
  })
})

describe('stamps', () => {
  test('stampBatch: changes offset and epoch and leaves the CRC right', () => {
    fc.assert(
      fc.property(fc.nat({ max: 2 ** 52 }), fc.nat(), (baseOffset, leaderEpoch) => {
        const batch = new Uint8Array(7 + kafkajsBatch.length)
        batch.set(kafkajsBatch, 7)
        stampBatch(batch, 7, { baseOffset, leaderEpoch })
        expect(findBatchDefect(batch, 7)).toBeUndefined()
        expect(baseOffsetAt(batch, 7)).toBe(baseOffset)
        expect(lastOffsetAt(batch, 7)).toBe(baseOffset + 2)
        expect(readBatchHeader(batch, 7).partitionLeaderEpoch).toBe(leaderEpoch)
      }),
    )
  })

  test('stampLogAppendTime: all records report the broker’s time', () => {
    const batch = kafkajsBatch.slice()
    stampLogAppendTime(batch, 0, 1_800_000_000_000)
    expect(findBatchDefect(batch)).toBeUndefined()
    expect(isLogAppendTime(attributesAt(batch, 0))).toBe(true)
    expect(maxTimestampAt(batch, 0)).toBe(1_800_000_000_000)
    expect(readBatch(batch).map((one) => one.timestampMs)).toEqual(Array(3).fill(1_800_000_000_000))
  })

  test('stampProducer: gives a finished batch a new identity', () => {
    const batch = kafkajsBatch.slice()
    stampProducer(batch, 0, { producerId: 2 ** 40, producerEpoch: 3, baseSequence: 0 })
    expect(findBatchDefect(batch)).toBeUndefined()
    expect(readBatchHeader(batch)).toMatchObject({
      producerId: 2 ** 40,
      producerEpoch: 3,
      baseSequence: 0,
    })
  })
})
