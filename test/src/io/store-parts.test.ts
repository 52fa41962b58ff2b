import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { crc32cOf } from '../../../src/io/crc32c-table.ts'
import { QueueMeter } from '../../../src/io/link-support.ts'
import { decodeStoreRecord, encodeStoreRecord } from '../../../src/io/store-record.ts'
import { formatSnapshot, parseSnapshot } from '../../../src/io/store-snapshot.ts'
import { StoreWatchers } from '../../../src/io/store-watchers.ts'

const record = fc.record({
  entry: fc.record({
    key: fc.string({ maxLength: 20 }),
    value: fc.uint8Array({ maxLength: 40 }),
    createRevision: fc.maxSafeNat(),
    modRevision: fc.maxSafeNat(),
  }),
  isLeased: fc.boolean(),
})

describe('crc32cOf', () => {
  it('has the check value, however the bytes are parted', () => {
    const digits = new TextEncoder().encode('123456789')
    expect(crc32cOf(digits)).toBe(0xe3069283)
    expect(crc32cOf(digits.subarray(0, 4), digits.subarray(4))).toBe(0xe3069283)
  })
})

describe('store record', () => {
  it('reads back what was written', () => {
    fc.assert(
      fc.property(record, (written) => {
        const read = decodeStoreRecord(written.entry.key, encodeStoreRecord(written))
        expect(read).toEqual(written)
      }),
    )
  })

  it('D5: any one changed bit, or another key, is refused', () => {
    fc.assert(
      fc.property(record, fc.nat(), (written, position) => {
        const bytes = encodeStoreRecord(written)
        const bit = position % (bytes.length * 8)
        bytes[bit >> 3]! ^= 1 << (bit & 7)
        expect(() => decodeStoreRecord(written.entry.key, bytes)).toThrow(
          expect.objectContaining({ code: 'STORE_DAMAGED', target: written.entry.key }),
        )
        bytes[bit >> 3]! ^= 1 << (bit & 7)
        expect(() => decodeStoreRecord(`${written.entry.key}x`, bytes)).toThrow()
      }),
    )
  })
})

describe('store snapshot', () => {
  it('reads back what was written', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), fc.array(record, { maxLength: 5 }), (revision, records) => {
        expect(parseSnapshot(formatSnapshot({ revision, records }))).toEqual({ revision, records })
      }),
    )
  })
})

describe('StoreWatchers', () => {
  it('a watch from a forgotten revision ends at once, standing ones go on', async () => {
    const watchers = new StoreWatchers(5)
    const heard: string[] = []
    const events = (name: string) => ({
      onChanges: (revision: number) => {
        heard.push(`${name}${revision}`)
      },
      onEnd: () => {
        heard.push(`${name} ends`)
      },
    })
    const change = [{ key: 'k', entry: undefined }]
    watchers.watch('', 6, events('a'))
    watchers.publish(6, change)
    watchers.forget(6)
    watchers.watch('', 6, events('b'))
    watchers.publish(7, change)
    await new Promise((resolve) => setImmediate(resolve))
    expect(heard).toEqual(
      ['a6', 'b ends', 'a7'].toSorted((left, right) => heard.indexOf(left) - heard.indexOf(right)),
    )
    expect(heard.indexOf('a6')).toBeLessThan(heard.indexOf('a7'))
  })
})

describe('QueueMeter', () => {
  it('a drain is due at half of the peak, once, and only above 1 MiB', () => {
    const meter = new QueueMeter()
    meter.add(1024 * 1024)
    expect(meter.remove(1024 * 1024)).toBe(false)
    meter.add(4_000_000)
    expect(meter.remove(1_900_000)).toBe(false)
    expect(meter.remove(200_000)).toBe(true)
    expect(meter.remove(100_000)).toBe(false)
    expect(meter.bytes).toBe(1_800_000)
  })
})
