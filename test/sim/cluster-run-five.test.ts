/** Simulated clusters of five daemons (200 seeds; STREAM_SIM_SEEDS says four times another number). Three: cluster-run.test.ts. */
import { describe, expect, it } from 'vitest'
import { runCluster } from './cluster-run.ts'
import { runSeeds } from './seeds.ts'

const seeds = Math.ceil(Number(process.env['STREAM_SIM_SEEDS'] ?? 800) / 4)
const PART = 50

describe('simulated cluster of five', () => {
  for (let first = 0; first < seeds; first += PART) {
    const count = Math.min(PART, seeds - first)
    it(`seeds ${first} to ${first + count - 1} without an anomaly; replay one: npm run sim -- --brokers 5 --seed N`, async () => {
      const { failures } = await runSeeds((seed) => runCluster(seed, { brokers: 5 }), first, count)
      expect(failures.join('\n')).toBe('')
    }, 300_000)
  }
})
