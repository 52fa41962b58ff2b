/**
 * The model in the normal run: some thousand walks with all rules in force, and the loudest rules left out, each of which must be
 * caught. The long runs are in RESULTS.md.
 */
import { describe, expect, it } from 'vitest'
import { type RuleName, rulesWithout } from './rules.ts'
import { ModelWalker, type Size } from './walk.ts'

const STEPS = 600

/** @returns the first violation, with what replays it */
function firstViolation(
  size: Size,
  without: readonly RuleName[],
  walks: number,
): { seed: number; invariant: string; detail: string } | undefined {
  const walker = new ModelWalker({ ...size, steps: STEPS }, rulesWithout(...without))
  for (let seed = 1; seed <= walks; seed++) {
    const invariant = walker.run(seed)
    if (invariant !== undefined) {
      return { seed, invariant, detail: walker.world.violationDetail }
    }
  }
  return undefined
}

const THREE: Size = { brokers: 3, replicas: 3, minInSync: 2 }

describe('the protocol with all rules', () => {
  const sizes: readonly (readonly [Size, number])[] = [
    [THREE, 4000],
    [{ brokers: 3, replicas: 3, minInSync: 1 }, 1500],
    [{ brokers: 3, replicas: 3, minInSync: 3 }, 1000],
    [{ brokers: 5, replicas: 3, minInSync: 2 }, 1500],
    [{ brokers: 5, replicas: 5, minInSync: 3 }, 1000],
    [{ brokers: 1, replicas: 1, minInSync: 1 }, 500],
  ]
  for (const [size, walks] of sizes) {
    const { brokers, replicas, minInSync } = size
    it(`keeps every invariant: ${brokers} brokers, ${replicas} replicas, minIsr ${minInSync}`, () => {
      expect(firstViolation(size, [], walks)).toBeUndefined()
    })
  }

  it('walks the same way for the same seed, and another for another', () => {
    const trace = (seed: number): string => {
      const lines: string[] = []
      new ModelWalker({ ...THREE, steps: STEPS }, rulesWithout()).run(seed, lines)
      return lines.join('\n')
    }
    expect(trace(7)).toBe(trace(7))
    expect(trace(7)).not.toBe(trace(8))
  })

  it('does not remember the walk before', () => {
    const walker = new ModelWalker({ ...THREE, steps: STEPS }, rulesWithout())
    const first: string[] = []
    const again: string[] = []
    walker.run(11, first)
    walker.run(12)
    walker.run(11, again)
    expect(again).toEqual(first)
  })
})

describe('the protocol without one of its rules', () => {
  const loud: readonly RuleName[] = [
    'strictMinInSync',
    'durableNotEnd',
    'shrinkWhenConfirmed',
    'expandAtOnce',
    'expandAboveHighWatermark',
    'expandAboveEpochStart',
    'divergenceCheck',
    'forgottenEpochStartsOver',
    'tableClearedPerEpoch',
    'truncateByEpochNotWatermark',
    'durableFallsWithTruncation',
    'cutCancelsSync',
    'dataEpoch',
    'leaderIncarnation',
    'unknownIsNotFailed',
    'selfGuardOfLeader',
    'controllerGuard',
    'electWholeOnly',
    'eligibleClearedByController',
    'eligibleClearedAfterElection',
    'eligibleClearedByLeader',
    'eligibleClearedOnMinInSync',
    'removalRaisesEpoch',
  ]
  for (const rule of loud) {
    it(`${rule} left out breaks an invariant`, () => {
      expect(firstViolation(THREE, [rule], 8000)).toBeDefined()
    })
  }
})
