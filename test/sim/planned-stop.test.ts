import { describe, expect, it } from 'vitest'
import { stopPlanned } from './planned-stop.ts'

describe('a daemon of a cluster that is told to stop', () => {
  for (const seed of ['a', 'b', 'c']) {
    it(`hands over: no failed request, under 100 ms of pause per partition, seed ${seed}`, async () => {
      const { moved, pauseMs, readPauseMs, troubles, acknowledged, read } = await stopPlanned(
        seed,
        4,
      )
      expect(moved).toBeGreaterThan(0)
      expect(troubles).toEqual([])
      expect(pauseMs).toBeLessThan(100)
      expect(readPauseMs).toBeLessThan(100)
      expect(read).toBe(acknowledged)
    })
  }
})
