import { describe, expect, it } from 'vitest'
import { firstRefused } from '../../cmd/record-errors.ts'
import type { Delivery } from '../../src/client/delivery.ts'

const delivery: Delivery = {
  topic: 't',
  partition: 0,
  baseOffset: -1,
  recordCount: 4,
  bytes: 100,
  firstOrdinal: 10,
  lastOrdinal: 13,
  ordinals: undefined,
  error: undefined,
  outcomeUnknown: false,
  batch: undefined,
}

describe('the record to blame', () => {
  it('is the one that the broker names, else the first of the batch', () => {
    expect(firstRefused(delivery)).toBe(10)
    expect(firstRefused({ ...delivery, refusedIndexes: [2, 3] })).toBe(12)
    // Keys have put records of other partitions in between.
    const spread = { ...delivery, lastOrdinal: 30, refusedIndexes: [2] }
    expect(firstRefused({ ...spread, ordinals: [10, 17, 21, 30] })).toBe(21)
    expect(firstRefused(spread)).toBe(10)
  })
})
