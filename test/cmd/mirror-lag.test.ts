/** A link that was made just now is not level because it has no topics yet. */
import { describe, expect, it } from 'vitest'
import type { LinkDescription, MirrorTopic } from '../../src/client/link-admin.ts'
import { World } from './fake-world.ts'

const partition = {
  partition: 0,
  state: 'following',
  sourceEnd: 7,
  logStart: 0,
  logEnd: 7,
  highWatermark: 7,
  behindMs: 0,
  heardMs: 0,
  promotedOffset: -1,
  promotedEpoch: -1,
  error: null,
  received: -1,
  settledOffset: -1,
}
const orders: MirrorTopic = {
  name: 'orders',
  state: 'mirror',
  sourceTopicId: 'AAAAAAAAAAAAAAAAAAAAAA',
  path: [],
  problem: null,
  partitionCount: 1,
  partitions: [partition],
}

function west(over: Partial<LinkDescription>): LinkDescription {
  return {
    name: 'west',
    state: 'active',
    source: ['tcp://west:7100'],
    context: null,
    isTakenUp: true,
    sourceClusterId: 'W',
    globs: ['*'],
    syncConfigs: false,
    syncGroups: false,
    rateKind: 'bytes',
    ratePerSecond: 0,
    problem: null,
    topics: [orders],
    ...over,
  }
}

/** What the daemon tells, one after the other; the last of it from then on. */
function world(...told: readonly LinkDescription[]) {
  const w = new World()
  const state = { asked: 0, orders: [] as string[] }
  const next = (): LinkDescription => {
    const found = told[Math.min(state.asked, told.length - 1)] ?? west({})
    state.asked += 1
    return found
  }
  w.clients.linkAdmin = async () => ({
    create: async () => [],
    alter: async (_name, action) => {
      state.orders.push(action)
      return []
    },
    describe: async () => [next()],
    describeOne: async () => next(),
  })
  return { w, state }
}

/** As it is when the source has died: level, as far as it was heard of. */
function silent(heardMs: number, state = 'retrying'): LinkDescription {
  const error = 'connection lost'
  return west({ topics: [{ ...orders, partitions: [{ ...partition, state, heardMs, error }] }] })
}

describe('a source that is not heard of', () => {
  it('is no lag of 0', async () => {
    const run = (...words: string[]) => world(silent(10_001)).w.run('mirror', ...words)
    const { exit, stdout } = await run('lag', 'west', '--fail-above', '1000')
    expect([exit, stdout]).toEqual([1, 'west\torders\t-\t-\n'])
    expect((await run('lag', 'west', '--total')).stdout).toBe('west\t-\t-\t-\n')
    const status = await run('status', 'west')
    expect(status.stdout).toBe('west\torders\t0\tretrying\t7\t7\t-\t-\tconnection lost\n')
    const waited = await run('lag', 'west', '--wait-until', '0', '--timeout', '1s')
    expect(waited.exit).toBe(7)
    expect(waited.stderr).toContain(
      'its source was not heard of lately (retrying: connection lost)',
    )
  })

  it('nor where the link is paused', async () => {
    const { w } = world(silent(60_000, 'paused'))
    expect((await w.run('mirror', 'lag', 'west', '--fail-above', '0')).exit).toBe(1)
  })

  it('is not told as complete where its mirror is promoted', async () => {
    const done = { ...orders, state: 'promoted', partitions: [{ ...partition, state: 'promoted' }] }
    const { w } = world(silent(10_001), west({ topics: [done] }))
    expect((await w.run('mirror', 'promote', 'west', '-y')).stdout).toMatch(/\t-\n$/)
    const plan = await world(silent(10_001)).w.run('mirror', 'promote', 'west', '--dry-run')
    expect(plan.stdout).toBe('west\torders\t0\t7\t-\t-\n')
  })

  it('may be silent for a moment, and for longer where it is followed at a rate', async () => {
    for (const link of [silent(10_000), silent(60_000, 'following')]) {
      const { w } = world(link)
      expect((await w.run('mirror', 'lag', 'west', '--fail-above', '0')).exit).toBe(0)
    }
  })
})

const unseen = west({ isTakenUp: false, topics: [] })

describe('a link that has taken up nothing yet', () => {
  it('is waited for', async () => {
    const { w, state } = world(unseen, unseen, west({}))
    const { exit, stdout } = await w.run('mirror', 'lag', 'west', '--wait-until', '0')
    expect([exit, stdout, state.asked]).toEqual([0, 'west\torders\t0\t0\n', 3])
  })

  it('is not promoted as if it had caught up', async () => {
    const done = { ...orders, state: 'promoted', partitions: [{ ...partition, state: 'promoted' }] }
    const { w, state } = world(unseen, unseen, west({}), west({ state: 'paused', topics: [done] }))
    const words = ['mirror', 'promote', 'west', '--when-caught-up', '-y']
    expect((await w.run(...words)).exit).toBe(0)
    expect(state.orders).toEqual(['promote'])
  })

  it('is level where nothing at the source matches', async () => {
    const { w } = world(west({ topics: [] }))
    expect((await w.run('mirror', 'lag', 'west', '--wait-until', '0')).exit).toBe(0)
  })
})
