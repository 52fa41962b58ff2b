import { describe, expect, it } from 'vitest'
import { ReplicationQuota } from '../../../daemon/replica/replication-quota.ts'
import { SimTime } from '../../sim/sim-time.ts'
import { SimWorld } from '../../sim/sim-world.ts'
import { batchOf } from '../batches.ts'
import { type Node, ReplicaWorld } from './replica-world.ts'

describe('ReplicationQuota', () => {
  it('lets a second’s worth pass at once, then as much as the rate says', async () => {
    const world = new SimWorld(1)
    let rate = 1000
    const quota = new ReplicationQuota(new SimTime(world), () => rate)
    expect(quota.bytesLeft).toBe(1000)
    quota.record(3000)
    expect(quota.bytesLeft).toBe(-2000)
    expect(quota.pauseMs).toBe(2100)
    await world.run({ untilMs: 2100 })
    expect(quota.bytesLeft).toBe(100)
    await world.run({ untilMs: 60_000 })
    expect(quota.bytesLeft).toBe(1000)
    rate = Number.POSITIVE_INFINITY
    expect(quota.bytesLeft).toBe(Number.POSITIVE_INFINITY)
    expect(quota.pauseMs).toBe(0)
    quota.record(1_000_000)
    rate = 10
    expect(quota.bytesLeft).toBe(10)
  })
})

const SIZE = 400_000
const RATE = 50_000

/** How long a follower needs that has missed SIZE bytes, in ms. */
async function catchUp(
  seed: string,
  config: Record<string, string>,
  topicConfig: Record<string, string>,
): Promise<number> {
  const lag = { 'replica.lag.time.max.ms': '1000' }
  const world = new ReplicaWorld(seed, { config: { ...config, ...lag }, topicConfig })
  await world.startAll()
  const [leader, second, late] = world.nodes as [Node, Node, Node]
  await world.until(() => leader.partition().notServing === undefined)
  world.crash(late)
  world.expire(late)
  await world.run(2000)
  const filler = 'x'.repeat(4000)
  const beganMs = world.world.now
  for (let size = 0; size < SIZE; size += filler.length)
    leader.partition().append(batchOf([filler]))
  await world.until(() => leader.partition().highWatermark === leader.log.logEndOffset, 120_000)
  // Whoever is in sync is never held back.
  expect(second.log.durableOffset).toBe(leader.log.logEndOffset)
  expect(world.world.now - beganMs).toBeLessThan(2000)
  // What was sent to the others has used up some of the limit.
  await world.run(30_000)
  await world.start(late)
  const startMs = world.world.now
  await world.until(() => late.log.logEndOffset === leader.log.logEndOffset, 120_000)
  const tookMs = world.world.now - startMs
  await world.run(3000)
  expect(world.record().value.inSyncReplicas).toHaveLength(3)
  return tookMs
}

describe('the limit on copying replicas (KIP-73)', () => {
  const expectedMs = ((SIZE - RATE) / RATE) * 1000

  it('without a limit a follower copies at once', async () => {
    expect(await catchUp('free', {}, {})).toBeLessThan(1000)
  })

  for (const side of ['leader', 'follower'] as const) {
    it(`holds the ${side} to its rate, for the replicas that are listed`, async () => {
      const rate = { [`${side}.replication.throttled.rate`]: String(RATE) }
      const listed = side === 'leader' ? '0:1' : '0:3'
      const key = `${side}.replication.throttled.replicas`
      for (const list of [listed, '*']) {
        const tookMs = await catchUp(`${side} ${list}`, rate, { [key]: list })
        expect(tookMs).toBeGreaterThan(expectedMs * 0.9)
        expect(tookMs).toBeLessThan(expectedMs * 1.25)
      }
      expect(await catchUp(`${side} other`, rate, { [key]: '1:1,0:2' })).toBeLessThan(1000)
    })
  }

  it('a list that is none is refused', async () => {
    const { validateTopicConfig } = await import('../../../src/config/topic-config.ts')
    const key = 'leader.replication.throttled.replicas'
    for (const text of ['', '*', '0:1,12:3']) validateTopicConfig({ [key]: text })
    for (const text of ['1', '0:a', '*,0:1']) {
      expect(() => validateTopicConfig({ [key]: text })).toThrow('must be PARTITION:BROKER')
    }
  })
})
