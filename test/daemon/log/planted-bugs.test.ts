/** The crash test must find these bugs: each is planted in the log of a run, and some run has to complain. */
import { describe, expect, it } from 'vitest'
import type { PartitionLog } from '../../../daemon/log/partition-log.ts'
import { type CrashPlan, runCrash } from './crash-run.ts'
import type { LogWorld } from './log-world.ts'

const RUNS_MAX = 300

/** @returns the first complaint, or undefined when the bug stays hidden */
async function findBug(
  plant: NonNullable<CrashPlan['plant']>,
  kind: CrashPlan['kind'] = 'power',
): Promise<string | undefined> {
  for (let seed = 0; seed < RUNS_MAX; seed++) {
    const crashAt = 20 + ((seed * 37) % 200)
    try {
      const { problems } = await runCrash({ seed: `bug ${seed}`, crashAt, kind, steps: 60, plant })
      if (problems[0] !== undefined) return problems[0]
    } catch (error) {
      return String(error)
    }
  }
  return undefined
}

describe('planted bugs', () => {
  it('none: the same runs find nothing', async () => {
    for (let seed = 0; seed < 40; seed++) {
      const crashAt = 20 + ((seed * 37) % 200)
      const plan = { seed: `bug ${seed}`, crashAt, kind: 'power', steps: 60 } as const
      expect((await runCrash(plan)).problems).toEqual([])
    }
  })

  it('unsynced data counted as durable', async () => {
    const plant = (log: PartitionLog): void => {
      const { core } = log
      const append = log.append.bind(log)
      log.append = (batches, options) => {
        const result = append(batches, options)
        // The sync "ends" at once.
        core.durableOffset = result.nextOffset
        for (const segment of core.segments) segment.syncedBytes = segment.sizeBytes
        return result
      }
      Object.defineProperty(log, 'flush', { value: () => Promise.resolve() })
      const listen = log.onDurable.bind(log)
      log.onDurable = (listener) => {
        const before = log.append
        log.append = (batches, options) => {
          const result = before(batches, options)
          listener(result.nextOffset)
          return result
        }
        return listen(listener)
      }
    }
    expect(await findBug(plant)).toMatch(/were promised/)
  })

  it('the names of new segments are not synced', async () => {
    const plant = (_log: PartitionLog, world: LogWorld): void => {
      const { disk } = world
      const sync = disk.syncDirectory.bind(disk)
      disk.syncDirectory = (path) => (path.endsWith('t-0') ? Promise.resolve() : sync(path))
    }
    expect(await findBug(plant)).toBeDefined()
  })

  it('the mark is not lowered before a truncation', async () => {
    const plant = (log: PartitionLog): void => {
      const { marks } = log.core.context
      marks.lower = () => Promise.resolve()
    }
    expect(await findBug(plant)).toBeDefined()
  })

  it('the tail is left in the file when a segment is cut', async () => {
    const plant = (log: PartitionLog): void => {
      const { files } = log.core.context
      const use = files.use.bind(files)
      files.use = (handle) => {
        const file = use(handle)
        file.truncate = () => undefined
        return file
      }
    }
    expect(await findBug(plant, 'process')).toBeDefined()
  })

  it('the log start is not saved before segments go', async () => {
    const plant = (log: PartitionLog): void => {
      Object.defineProperty(log.core.context, 'saveCheckpoint', { value: () => Promise.resolve() })
    }
    expect(await findBug(plant)).toBeDefined()
  })

  it('a clean end that syncs nothing', async () => {
    const plant = (log: PartitionLog): void => {
      Object.defineProperty(log, 'close', {
        value: () => {
          log.core.state = 'closed'
          return Promise.resolve()
        },
      })
    }
    expect(await findBug(plant)).toBeDefined()
  })
})
