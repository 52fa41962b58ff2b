/** Links under faults (STREAM_SIM_SEEDS says how many seeds), and the proof that one seed is one run. */
import { describe, expect, it } from 'vitest'
import { runLink } from './link-run.ts'

const seeds = Math.max(1, Math.ceil(Number(process.env['STREAM_SIM_SEEDS'] ?? 800) / 20))

describe('simulated link', () => {
  it(`${seeds} seeds: the mirror is the source to the byte, whoever dies`, async () => {
    const failures: string[] = []
    let kills = 0
    for (let seed = 1; seed <= seeds; seed += 1) {
      const result = await runLink(seed)
      if (result.failure !== undefined) failures.push(result.failure)
      kills += result.kills
    }
    expect(failures.join('\n')).toBe('')
    expect(kills).toBeGreaterThan(seeds)
  }, 600_000)

  it('one seed is one run', async () => {
    const [first, second] = [await runLink(5), await runLink(5)]
    expect(second).toEqual(first)
  }, 120_000)
})
