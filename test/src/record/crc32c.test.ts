import fc from 'fast-check'
import { describe, expect, test, vi } from 'vitest'
import { crc32c, crc32cTable } from '../../../src/record/crc32c.ts'
import { xxhash32 } from '../../../src/record/xxhash32.ts'

const checkInput = Buffer.from('123456789')

/** By its definition. */
function crc32cBitwise(bytes: Uint8Array): number {
  let crc = -1
  for (const byte of bytes) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (0x82f63b78 & -(crc & 1))
  }
  return ~crc >>> 0
}

describe('crc32c', () => {
  test('has the check value of the Castagnoli polynomial', () => {
    expect(crc32c(checkInput)).toBe(0xe3069283)
    expect(crc32cTable(checkInput)).toBe(0xe3069283)
    expect(crc32c(new Uint8Array(0))).toBe(0)
    // RFC 3720, section B.4.
    expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa)
    expect(crc32c(new Uint8Array(32).fill(0xff))).toBe(0x62a8ab43)
  })

  test('the table gives the same before and after it has grown', async () => {
    const { createHash } = await import('node:crypto')
    const inputs = Array.from({ length: 400 }, (_, length) =>
      createHash('shake256', { outputLength: length + 1 })
        .update(`${length}`)
        .digest(),
    )
    vi.resetModules()
    const fresh = await import('../../../src/record/crc32c.ts')
    // 80 KB: by one byte at a time at first, by eight for the rest.
    for (const input of inputs) expect(fresh.crc32cTable(input)).toBe(crc32cBitwise(input))
    for (const input of inputs) expect(fresh.crc32cTable(input)).toBe(crc32cBitwise(input))
  })

  test('table and native agree on every range, before and after the native one is loaded', () => {
    const bytes = new Uint8Array(3000).map((_, index) => (index * 7919) >> 3)
    for (let round = 0; round < 60; round++) {
      expect(crc32c(bytes, round, 3000 - round)).toBe(crc32cTable(bytes, round, 3000 - round))
    }
    fc.assert(
      fc.property(fc.nat(3000), fc.nat(3000), (one, other) => {
        const start = Math.min(one, other)
        const end = Math.max(one, other)
        const expected = crc32cTable(bytes.slice(start, end))
        expect(crc32c(bytes, start, end)).toBe(expected)
        expect(crc32cTable(bytes, start, end)).toBe(expected)
      }),
    )
  })

  test('goes on behind what came before, however it is cut', () => {
    const bytes = new Uint8Array(3000).map((_, index) => (index * 7919) >> 3)
    const whole = crc32c(bytes)
    fc.assert(
      fc.property(fc.nat(3000), (cut) => {
        expect(crc32c(bytes, cut, 3000, crc32c(bytes, 0, cut))).toBe(whole)
        expect(crc32cTable(bytes, cut, 3000, crc32cTable(bytes, 0, cut))).toBe(whole)
      }),
    )
  })
})

describe('xxhash32', () => {
  test('has the check values of its specification', () => {
    expect(xxhash32(new Uint8Array(0))).toBe(0x02cc5d05)
    expect(xxhash32(checkInput)).toBe(0x937bad67)
    expect(xxhash32(Buffer.from('Nobody inspects the spammish repetition'))).toBe(0xe2293b2f)
  })
})
