/**
 * Many simulated runs (1,000 seeds; STREAM_SIM_SEEDS says another number), the proof that one seed is one run, and planted
 * bugs: for each fault one that only this fault brings to light, which the oracles must catch.
 */
import { describe, expect, it } from 'vitest'
import { type FaultName, type PlantedBug, runDaemon } from './daemon-run.ts'
import { lyingDisk } from './lying-disk.ts'
import { runSeeds } from './seeds.ts'

const seeds = Number(process.env['STREAM_SIM_SEEDS'] ?? 1000)
const first = Number(process.env['STREAM_SIM_FIRST'] ?? 0)

describe('simulated daemon', () => {
  it(`${seeds} seeds without an anomaly; replay one: npm run sim -- --seed N`, async () => {
    const { fired, failures } = await runSeeds((seed) => runDaemon(seed), first, seeds)
    expect(failures.join('\n')).toBe('')
    if (seeds >= 100) {
      for (const name of ['crash', 'power', 'full', 'sync', 'loseLink', 'duplicate', 'spike']) {
        expect(fired[name] ?? 0, `the fault ${name} took effect`).toBeGreaterThan(0)
      }
    }
  }, 900_000)

  const regressions: [number, string][] = [
    [311, 'died before it could note a failed sync, and the restart trusted the page cache'],
    [438, 'the same, where the next failed sync was noted'],
    [727, 'a disk full at the moment of a start: the leadership was tried again only 30 s later'],
  ]
  it.each(regressions)('seed %i: %s', async (seed) => {
    const { failures } = await runSeeds((one) => runDaemon(one), seed, 1)
    expect(failures.join('\n')).toBe('')
  })

  it('one seed twice is one run, to the last event; two seeds are two', async () => {
    const [a, b, c] = [await runDaemon(7), await runDaemon(7), await runDaemon(8)]
    expect(a.traceHash).toBe(b.traceHash)
    expect(a.events).toBe(b.events)
    expect(a.traceHash).not.toBe(c.traceHash)
  })
})

describe('planted bugs are caught', () => {
  const planted: { name: string; only: FaultName[]; bug: PlantedBug; caught: RegExp }[] = [
    {
      name: 'power cut: a log that acknowledges without a sync',
      only: ['power', 'crash'],
      bug: {
        wrapDisk: lyingDisk((file) =>
          file.path.endsWith('.log') ? { dataSync: () => Promise.resolve() } : {},
        ),
      },
      caught:
        /lost-write|inconsistent-offsets|hole|moved-write|altered|OUT_OF_ORDER_SEQUENCE_NUMBER|CORRUPT_MESSAGE/,
    },
    {
      name: 'failed sync: a log that takes EIO for success',
      only: ['sync', 'power', 'crash'],
      bug: {
        wrapDisk: lyingDisk((file) => ({
          dataSync: () => file.dataSync().catch(() => undefined),
          sync: () => file.sync().catch(() => undefined),
        })),
      },
      caught:
        /lost-write|inconsistent-offsets|hole|moved-write|altered|OUT_OF_ORDER_SEQUENCE_NUMBER|CORRUPT_MESSAGE/,
    },
    {
      name: 'lost answers: a producer that is not idempotent',
      only: ['links', 'crash'],
      bug: { producer: { acks: 1 } },
      caught: /duplicate/,
    },
    {
      name: 'repeated requests: the same',
      only: ['repeat'],
      bug: { producer: { acks: 1 } },
      caught: /duplicate/,
    },
    {
      name: 'full disk: writes that fail are taken for done',
      only: ['full', 'power', 'crash'],
      bug: {
        wrapDisk: lyingDisk((file) => ({
          write: (position, parts) => {
            try {
              file.write(position, parts)
            } catch (error) {
              if ((error as { code?: string }).code !== 'DISK_FULL' || !file.path.endsWith('.log'))
                throw error
            }
          },
        })),
      },
      caught: /./,
    },
  ]
  for (const { name, only, bug, caught } of planted) {
    it(name, async () => {
      const { failures } = await runSeeds(
        (seed) => runDaemon(seed, { only, plantedBug: bug }),
        0,
        120,
      )
      expect(failures.length).toBeGreaterThan(0)
      expect(failures.join('\n')).toMatch(caught)
    }, 120_000)
  }
})
