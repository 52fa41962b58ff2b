/** What every Random must do; run on the real source and the seeded one. */
import { describe, expect, it } from 'vitest'
import type { Random } from '../../src/ports/random.ts'

export function describeRandom(name: string, make: () => Random): void {
  describe(`Random: ${name}`, () => {
    it('fractions are in [0, 1) and spread evenly', () => {
      const random = make()
      const tenths = new Array<number>(10).fill(0)
      for (let draw = 0; draw < 10_000; draw++) {
        const value = random.fraction()
        expect(value >= 0 && value < 1).toBe(true)
        tenths[Math.floor(value * 10)]! += 1
      }
      // 1,000 expected; eight standard deviations to either side.
      for (const count of tenths) expect(Math.abs(count - 1000)).toBeLessThan(240)
    })

    it('bytes are fresh arrays of the asked length', () => {
      const random = make()
      for (const count of [0, 1, 16, 4096, 10_000]) expect(random.bytes(count).length).toBe(count)
      const first = random.bytes(16)
      const copy = first.slice()
      expect(random.bytes(16)).not.toEqual(copy)
      expect(first).toEqual(copy)
    })

    it('all values of a byte occur', () => {
      expect(new Set(make().bytes(10_000)).size).toBe(256)
    })
  })
}
