/** More runs: LOG_CRASH_SEEDS=10000 npx vitest run --test-timeout 0 test/daemon/log/crash.test.ts */
import { describe, expect, it } from 'vitest'
import { type CrashPlan, runCrash } from './crash-run.ts'

const SEEDS = Number(process.env['LOG_CRASH_SEEDS'] ?? 40)
const KINDS = ['process', 'power'] as const

async function problemsOf(plan: CrashPlan): Promise<string[]> {
  const { problems } = await runCrash(plan)
  return problems.map((problem) => `${JSON.stringify(plan)}: ${problem.slice(0, 300)}`)
}

describe('crash', () => {
  it.each(KINDS)('at every operation of one run (%s)', async (kind) => {
    const steps = 30
    const { operations } = await runCrash({ seed: 'every', crashAt: Infinity, kind, steps })
    const problems: string[] = []
    for (let crashAt = 1; crashAt <= operations; crashAt++) {
      problems.push(...(await problemsOf({ seed: 'every', crashAt, kind, steps })))
    }
    expect(problems).toEqual([])
    expect(operations).toBeGreaterThan(50)
  })

  it.each(KINDS)('anywhere in many runs (%s)', async (kind) => {
    const problems: string[] = []
    for (let seed = 0; seed < SEEDS; seed++) {
      const crashAt = 1 + ((seed * 37) % 211)
      problems.push(...(await problemsOf({ seed, crashAt, kind, steps: 60 })))
    }
    expect(problems).toEqual([])
  })

  it('anywhere in a recovery', async () => {
    const problems: string[] = []
    for (let seed = 0; seed < SEEDS; seed++) {
      const crashAt = 1 + ((seed * 31) % 151)
      const crashRecoveryAt = 1 + (seed % 23)
      const kind = KINDS[seed % 2] ?? 'power'
      problems.push(...(await problemsOf({ seed, crashAt, kind, steps: 40, crashRecoveryAt })))
    }
    expect(problems).toEqual([])
  })

  it('one plan gives one run', async () => {
    const plan = { seed: 'twice', crashAt: 90, kind: 'power', steps: 60 } as const
    expect(await runCrash(plan)).toEqual(await runCrash(plan))
  })
})

/** Each was found by a run like the ones above. */
const regressions: readonly (CrashPlan & { readonly what: string })[] = [
  {
    what: 'deleted segments that came back with holes among them cost the records behind (log start above the mark)',
    ...{ seed: 556, crashAt: 106, kind: 'power', steps: 60 },
  },
  {
    what: 'a truncation in page cache alone was undone by a power cut after the recovery',
    ...{ seed: 874, crashAt: 66, kind: 'process', steps: 40, crashRecoveryAt: 1 },
  },
  {
    what: 'a torn batch whose first sector was lost kept its CRC, and was taken for one below the mark',
    ...{ seed: 10485, crashAt: 151, kind: 'power', steps: 60 },
  },
  {
    what: 'the last time entry of a rolled segment was trusted though it came after the checkpoint',
    ...{ seed: 567, crashAt: 91, kind: 'process', steps: 60 },
  },
  {
    what: 'snapshots between the newest and the recovery point were left torn',
    ...{ seed: 5, crashAt: 186, kind: 'process', steps: 60 },
  },
  {
    what: 'index files outlived their segment',
    ...{ seed: 30, crashAt: 56, kind: 'power', steps: 60 },
  },
  {
    what: 'half an index entry was left behind the last whole one',
    ...{ seed: 11313, crashAt: 165, kind: 'power', steps: 40, crashRecoveryAt: 21 },
  },
  {
    what: 'a torn tail of an index cost its sound part, and then a second crash in the recovery',
    ...{ seed: 22805, crashAt: 175, kind: 'power', steps: 40, crashRecoveryAt: 13 },
  },
]

describe('crash: regressions', () => {
  it.each(regressions)('$what', async ({ what: _, ...plan }) => {
    expect(await problemsOf(plan)).toEqual([])
  })
})
