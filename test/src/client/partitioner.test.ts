import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { crc32, murmur2, partitionForKey } from '../../../src/client/partitioner.ts'

describe('partitioner', () => {
  it('murmur2 agrees with Kafka’s own test values', () => {
    // Kafka UtilsTest.testMurmur2
    const values: readonly (readonly [string, number])[] = [
      ['21', -973932308],
      ['foobar', -790332482],
      ['a-little-bit-long-string', -985981536],
      ['a-little-bit-longer-string', -1486304829],
      ['lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8', -58897971],
      ['abc', 479470107],
    ]
    for (const [text, hash] of values) expect(murmur2(Buffer.from(text)) | 0).toBe(hash)
  })

  it('crc32 is zlib’s', () => {
    expect(crc32(Buffer.from('123456789'))).toBe(0xcbf43926)
    expect(crc32(new Uint8Array())).toBe(0)
  })

  it('depends on the bytes of the range alone, and stays inside the partitions', () => {
    const names = fc.constantFrom('murmur2' as const, 'crc32' as const)
    const bytes = fc.uint8Array({ maxLength: 40 })
    fc.assert(
      fc.property(names, bytes, bytes, bytes, fc.nat(50), (name, before, key, after, extra) => {
        const count = extra + 1
        const whole = Buffer.concat([before, key, after])
        const found = partitionForKey(name, count, key)
        const end = before.length + key.length
        expect(partitionForKey(name, count, whole, before.length, end)).toBe(found)
        expect(found).toBeGreaterThanOrEqual(0)
        expect(found).toBeLessThan(count)
      }),
    )
  })
})
