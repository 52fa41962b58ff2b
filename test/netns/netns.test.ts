/**
 * Real processes in network namespaces: one short round of faults with everything judged. The long run is `npm run netns`. Skipped
 * with a word where namespaces, loop devices or etcd cannot be had.
 */
import { describe, expect, it } from 'vitest'
import { SimRandom } from '../sim/sim-random.ts'
import { faultKinds, planFaults } from './faults.ts'
import { HostsCluster, noHosts } from './hosts-cluster.ts'
import { playRound } from './round.ts'

const SESSION_MS = 3000
const ROUND_MS = 20_000

const why = noHosts()
if (why !== undefined) process.stderr.write(`netns tests are skipped: ${why}\n`)

describe('a plan of faults', () => {
  const options = { daemons: 3, lengthMs: 3_600_000, kinds: faultKinds, sessionMs: SESSION_MS }

  it('is the same for one seed, and another for another', () => {
    const plan = (seed: string) => planFaults(new SimRandom(seed), options)
    expect(plan('1')).toEqual(plan('1'))
    expect(plan('1')).not.toEqual(plan('2'))
  })

  it('has every kind, and takes the word of one daemon only', () => {
    const faults = planFaults(new SimRandom('all'), options)
    expect(new Set(faults.map(({ kind }) => kind))).toEqual(new Set(faultKinds))
    const failing = faults.filter(({ kind }) => kind === 'sync').flatMap(({ daemons }) => daemons)
    expect(new Set(failing).size).toBe(1)
    expect(faults.some(({ variant }) => variant === 'with-etcd')).toBe(true)
    expect(faults.some(({ kind, daemons }) => kind === 'power' && daemons.length === 2)).toBe(true)
  })
})

describe.skipIf(why !== undefined)('daemons as processes on hosts of their own', () => {
  it('lose nothing, double nothing and agree after cuts, pauses, deaths, full and failing disks and power cuts', async () => {
    const config = [`broker.session.timeout.ms=${SESSION_MS}`, 'replica.lag.time.max.ms=5000']
    const cluster = await HostsCluster.start({ config })
    try {
      const seed = process.env['STREAM_SEED'] ?? '7'
      const result = await playRound(cluster, {
        seed: `test.${seed}`,
        lengthMs: ROUND_MS,
        sessionMs: SESSION_MS,
        only: ['cut', 'one-way', 'pause', 'kill', 'full', 'sync', 'power'],
        say: () => undefined,
      })
      expect(result.anomalies).toEqual([])
      expect(result.acknowledged).toBeGreaterThan(500)
      expect(result.transactions).toBeGreaterThan(0)
      expect(result.faults.size).toBeGreaterThan(2)
    } finally {
      await cluster.stop()
    }
  }, 300_000)
})
