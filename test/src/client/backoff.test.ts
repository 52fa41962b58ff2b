import { describe, expect, it } from 'vitest'
import { backoffMs } from '../../../src/client/backoff.ts'
import { SimRandom } from '../../sim/sim-random.ts'

describe('backoff', () => {
  it('doubles up to its bound, with jitter, however many failures there were', () => {
    const random = new SimRandom(1)
    for (const [failures, plainMs] of [
      [1, 50],
      [2, 100],
      [5, 800],
      [6, 1000],
      [10_000, 1000],
    ] as const) {
      const pauses = Array.from({ length: 50 }, () =>
        backoffMs(random, { firstMs: 50, maxMs: 1000 }, failures),
      )
      expect(Math.min(...pauses)).toBeGreaterThanOrEqual(plainMs * 0.8)
      expect(Math.max(...pauses)).toBeLessThanOrEqual(plainMs * 1.2)
      expect(new Set(pauses).size).toBeGreaterThan(10)
    }
  })
})
