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
