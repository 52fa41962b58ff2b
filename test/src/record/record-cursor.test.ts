import { describe, expect, test } from 'vitest'
import { putInt32, stampBatch } from '../../../src/record/batch-layout.ts'
import { RecordCursor } from '../../../src/record/record-cursor.ts'
import { buildBatch, hex, readBatch, toHex } from './record-support.ts'

/** A batch of one uncompressed record body given in hex, with the header's counts as told. */
function batchOf(records: string, recordCount = 1, lastOffsetDelta = recordCount - 1): Uint8Array {
  const template = buildBatch([{ key: null, value: null, headers: [], timestampMs: 1000 }])
  const batch = new Uint8Array(Buffer.concat([template.subarray(0, 61), hex(records)]))
  putInt32(batch, 8, batch.length - 12)
  putInt32(batch, 23, lastOffsetDelta)
  putInt32(batch, 57, recordCount)
  return batch
}

const corrupt = expect.objectContaining({ code: 'CORRUPT_BATCH' })

describe('RecordCursor', () => {
  test('offsets count from the base offset, wherever the batch lies', () => {
    const batch = buildBatch([
      { key: null, value: 'a', headers: [], timestampMs: 1 },
      { key: null, value: 'b', headers: [], timestampMs: 1 },
    ])
    stampBatch(batch, 0, { baseOffset: 2 ** 40, leaderEpoch: 1 })
    const log = Buffer.concat([Buffer.alloc(5), batch, batch])
    expect(readBatch(log, 5).map((one) => one.offset)).toEqual([2 ** 40, 2 ** 40 + 1])
  })

  test('headers can be walked again', () => {
    const cursor = new RecordCursor()
    cursor.reset(buildBatch([{ key: null, value: 'v', headers: [['a', null]], timestampMs: 1 }]))
    cursor.next()
    for (let round = 0; round < 2; round++) {
      expect(cursor.nextHeader()).toBe(true)
      expect(toHex(cursor.bytes.subarray(cursor.headerKeyStart, cursor.headerKeyEnd))).toBe('61')
      expect(cursor.headerValueStart).toBe(-1)
      expect(cursor.nextHeader()).toBe(false)
      cursor.rewindHeaders()
    }
    expect(cursor.next()).toBe(false)
    expect(cursor.next()).toBe(false)
  })

  test('a varint may be longer than it need be', () => {
    // Length 9, delta 0 in four bytes, offset delta 0, null key and value, no headers.
    expect(readBatch(batchOf('1200808080000001' + '0100'))).toHaveLength(1)
  })

  test.each([
    ['ends within its length', '80', 1],
    ['is shorter than any record', '0a0000000101', 1],
    ['claims more than there is', '0e000000010100', 1],
    ['has a negative length', '0b0000000101000000', 1],
    ['has a value beyond its end', '0c000000010400', 1],
    ['has a key beyond its end', '0c0000007f0100', 1],
    ['has a key length below -1', '0c000000030100', 1],
    ['has a value length below -1', '0c000000010300', 1],
    ['has a negative header count', '0c000000010101', 1],
    ['has more headers than bytes', '0c000000010102', 1],
    ['has a billion headers', '140000000101feffffff0f', 1],
    ['has a header without name', '10000000010102010100', 1],
    ['is longer than its fields', '0e00000001010000', 1],
    ['is followed by bytes', '0c00000001010000', 1],
    ['has the offset of the one before', '0c000000010100' + '0c000000010100', 2],
    ['has a negative offset delta', '0c000001010100', 1],
    ['has an offset beyond the last', '0c000002010100', 1],
    ['has a number of eleven bytes', '2000' + 'ffffffffffffffffffff7f' + '00010100', 1],
    ['has a timestamp beyond 2^53', '1e00' + 'ffffffffffffffffff01' + '00010100', 1],
  ])('a record that %s is CORRUPT_BATCH', (_, records, recordCount) => {
    expect(() => readBatch(batchOf(records, recordCount))).toThrow(corrupt)
  })

  test('after nonsense there are no further records', () => {
    const cursor = new RecordCursor()
    cursor.reset(batchOf('0c000000010300'))
    expect(() => cursor.next()).toThrow(corrupt)
    expect(cursor.next()).toBe(false)
    cursor.reset(batchOf('0c000000010100'))
    expect(cursor.next()).toBe(true)
  })

  test('a batch emptied by compaction has no records', () => {
    expect(readBatch(batchOf('', 0, 4))).toEqual([])
  })

  test('compressed data with another count of records is CORRUPT_BATCH', () => {
    const record = { key: null, value: 'v', headers: [], timestampMs: 1 }
    for (const count of [1, 3, 1_000_000]) {
      const batch = buildBatch([record, record], { codec: 'lz4' })
      putInt32(batch, 57, count)
      putInt32(batch, 23, count - 1)
      expect(() => readBatch(batch)).toThrow(corrupt)
    }
  })
})
