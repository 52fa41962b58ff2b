import { afterEach, describe, expect, it, vi } from 'vitest'
import { Partition } from '../../../daemon/replica/partition.ts'
import { Peers } from '../../../daemon/replica/peers.ts'
import type { RequestInput } from '../../../src/protocol/api-table.ts'
import { ReplicaWorld } from './replica-world.ts'

const PARTITIONS = 330

/** Fetches name every partition, so work grows with the square where each partition sends one of its own. */
describe('a topic of many partitions', () => {
  afterEach(() => vi.restoreAllMocks())

  it('is not gone through again for each partition that changes', async () => {
    const world = await wholeWorld()
    const configured = vi.spyOn(Partition.prototype, 'applyConfig')
    for (let index = 0; index < PARTITIONS; index += 1) world.elect(2, index)
    await world.until(() => world.node(2).partition(PARTITIONS - 1).notServing === undefined)
    expect(configured.mock.calls.length).toBeLessThan(10 * PARTITIONS)
  })

  it('is asked for again in few fetches where its leader refuses all of it', async () => {
    const world = await wholeWorld()
    const { running } = world.node(1)
    for (const partition of running?.table.all() ?? []) partition.stopServing('notLeader')
    const named = countNamed()
    await world.run(3000)
    // Pauses double from 20 ms to 1 s: eight rounds of two followers.
    expect(named.count).toBeGreaterThan(5 * PARTITIONS)
    expect(named.count).toBeLessThan(40 * PARTITIONS)
  })

  it('is not named whole for each batch of one of its partitions', async () => {
    const world = await wholeWorld()
    await world.world.settle(world.produce(world.node(1), 0))
    const named = countNamed()
    for (let batch = 0; batch < 100; batch += 1) {
      expect(await world.world.settle(world.produce(world.node(1), 0))).toBe('committed')
    }
    // Two followers, a fetch and a position for each batch; and the others twice a second.
    expect(named.count).toBeGreaterThan(100)
    expect(named.count).toBeLessThan(8 * 100 + 20 * PARTITIONS)
    await world.run(8000)
    const quiet = world.node(2).partition(0)
    expect(quiet.log.logEndOffset).toBe(world.node(1).log.logEndOffset)
    named.count = 0
    await world.run(1000)
    expect(named.count).toBeLessThan(10 * PARTITIONS)
    expect(await world.world.settle(world.produce(world.node(1), 0))).toBe('committed')
    expect(world.problems).toEqual([])
  })
})

async function wholeWorld(): Promise<ReplicaWorld> {
  const world = new ReplicaWorld('many', { partitions: PARTITIONS })
  await world.startAll()
  const indexes = Array.from({ length: PARTITIONS }, (_, index) => index)
  await world.until(() =>
    indexes.every((index) => world.record(index).value.inSyncReplicas.length === 3),
  )
  return world
}

function countNamed(): { count: number } {
  const named = { count: 0 }
  const call = Peers.prototype.call
  vi.spyOn(Peers.prototype, 'call').mockImplementation(function (this: Peers, ...args) {
    const [, api, , request] = args as Parameters<typeof call>
    if (api === 'Fetch') {
      const { topics } = request as RequestInput<'Fetch'>
      for (const { partitions } of topics) {
        named.count += partitions.length
      }
    }
    return Reflect.apply(call, this, args)
  })
  return named
}
