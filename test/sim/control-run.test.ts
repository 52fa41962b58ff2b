import { describe, expect, it } from 'vitest'
import { type ControlOptions, runControl } from './control-run.ts'
import {
  activeAtOnce,
  dataEpochLater,
  electsWithoutGuards,
  unknownIsFailed,
  zombieController,
} from './planted-control-bugs.ts'

const seeds = Number(process.env['SIM_SEEDS'] ?? 40)

async function findAnomalies(
  count: number,
  options: ControlOptions,
  isWanted: (anomaly: string) => boolean,
): Promise<readonly string[]> {
  for (let seed = 0; seed < count; seed += 1) {
    const { anomalies } = await runControl(seed, options)
    const found = anomalies.filter(isWanted)
    if (found.length > 0) return found
  }
  return []
}

describe('simulated control plane', () => {
  for (const brokers of [3, 5]) {
    it(`${seeds} seeds of ${brokers} brokers keep I2, I4, I11, I12, T6, and come to health`, {
      timeout: 600_000,
    }, async () => {
      const failures: string[] = []
      const seen: Record<string, number> = {}
      for (let seed = 0; seed < seeds; seed += 1) {
        const result = await runControl(seed, { brokers })
        for (const anomaly of result.anomalies) failures.push(`seed ${seed}: ${anomaly}`)
        const { completions: _, ...taken } = result.seen
        for (const [name, times] of Object.entries(taken)) {
          seen[name] = (seen[name] ?? 0) + times
        }
      }
      expect(failures.slice(0, 10).join('\n')).toBe('')
      // Nothing of what is judged was missing from the runs.
      for (const [name, times] of Object.entries(seen))
        expect([name, times > 0]).toEqual([name, true])
    })
  }

  it('one seed twice is one run', async () => {
    const first = await runControl('twice', { brokers: 3 })
    const second = await runControl('twice', { brokers: 3 })
    expect(second.traceHash).toBe(first.traceHash)
  })

  describe('finds', () => {
    const cases = [
      ['elections without the guards of session and data', electsWithoutGuards, /^I11/],
      ['a controller that goes on without its lease', zombieController, /^I12/],
      ['a broker that is in before its partitions were evaluated', activeAtOnce, /^(T6|I)/],
      ['no answer taken for not applied', unknownIsFailed, /^I5/],
      ['a data epoch that is written after the session', dataEpochLater, /^(I12|I11|I4)/],
    ] as const
    for (const [name, wrapStore, expected] of cases) {
      it(name, { timeout: 300_000 }, async () => {
        const found = await findAnomalies(200, { brokers: 3, wrapStore }, (text) =>
          expected.test(text),
        )
        expect(found).not.toEqual([])
      })
    }
  })
})
