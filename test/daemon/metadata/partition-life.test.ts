import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { PartitionLife, type Step, steps } from './partition-life.ts'

const BROKERS = 4
const runs = Number(process.env['FUZZ_RUNS'] ?? 2000)

const step: fc.Arbitrary<Step> = fc.record({
  what: fc.constantFrom(...steps),
  broker: fc.integer({ min: 1, max: BROKERS }),
  number: fc.nat(9),
  order: fc.shuffledSubarray([1, 2, 3, 4], { minLength: 4, maxLength: 4 }),
})

describe('a partition that is moved, elected and loses its brokers', () => {
  it('keeps the invariants of section 6 at every step, and comes to health', {
    timeout: 120_000,
  }, () => {
    const seen: Record<string, number> = {}
    const start = fc.record({
      replicas: fc.integer({ min: 1, max: 3 }),
      minInSync: fc.integer({ min: 1, max: 3 }),
      commitFlush: fc.boolean(),
    })
    const life = fc.array(step, { minLength: 5, maxLength: 120, size: 'max' })
    fc.assert(
      fc.property(start, life, ({ replicas, minInSync, commitFlush }, taken) => {
        const partition = new PartitionLife(BROKERS, replicas, minInSync, commitFlush)
        for (const each of taken) partition.take(each)
        partition.heal()
        for (const [name, times] of Object.entries(partition.seen)) {
          seen[name] = (seen[name] ?? 0) + times
        }
      }),
      { numRuns: runs },
    )
    // Nothing of what is judged was missing from the lives.
    for (const name of ['decided', 'begin', 'cancel', 'ended', 'prefer', 'unclean', 'committed']) {
      expect([name, (seen[name] ?? 0) > 0]).toEqual([name, true])
    }
  })
})
