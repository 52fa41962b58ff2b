/** A broker whose disk is full, among others that have room. */
import { describe, expect, it } from 'vitest'
import { type Node, ReplicaWorld } from './replica-world.ts'

const ROOM_BYTES = 2 ** 40
const RESERVE_BYTES = 4096

/** Nodes of these numbers have less room than the reserve. */
function fill(world: ReplicaWorld, ...nodeIds: readonly number[]): void {
  for (const nodeId of nodeIds) leave(world, nodeId, RESERVE_BYTES / 2)
}

function leave(world: ReplicaWorld, nodeId: number, freeBytes: number): void {
  const { disk } = world.node(nodeId)
  disk.totalBytes = RESERVE_BYTES * 20
  const ballast = disk.open('/ballast', 'write')
  ballast.write(0, [new Uint8Array(disk.space('/').freeBytes - freeBytes)])
  ballast.close()
}

function makeRoom(world: ReplicaWorld, nodeId: number): void {
  world.node(nodeId).disk.totalBytes = ROOM_BYTES
}

async function started(options: { readonly minInSync?: number } = {}): Promise<ReplicaWorld> {
  const world = new ReplicaWorld('full disks', { ...options, reserveBytesMax: RESERVE_BYTES })
  await world.startAll()
  await world.run(1000)
  await write(world, world.node(1))
  return world
}

async function write(world: ReplicaWorld, node: Node): Promise<void> {
  expect(await world.settle(world.produce(node))).toBe('committed')
}

function inSync(world: ReplicaWorld): readonly number[] {
  return world
    .record()
    .value.inSyncReplicas.map(({ broker }) => broker)
    .sort()
}

const saidOf = (world: ReplicaWorld, text: string): number =>
  world.said.filter((line) => line.includes(text)).length

describe('a full disk', () => {
  it('of a leader: another leads within seconds, and takes writes', async () => {
    const world = await started()
    fill(world, 1)
    await world.run(2500)
    expect(world.record().value.leader).toBe(1)
    await world.run(3500)
    expect(world.record().value).toMatchObject({ leader: 2, leaderEpoch: 1, uncleanEpoch: 0 })
    expect(inSync(world)).toEqual([2, 3])
    expect(saidOf(world, 'leaderships were given away: the disk is full')).toBe(1)
    await write(world, world.node(2))
    world.inspect()
    expect(world.problems).toEqual([])
  })

  it('of one that led: it is not in sync while it takes nothing, though it lacks nothing; with room it is', async () => {
    const world = await started()
    fill(world, 1)
    await world.run(40_000)
    expect(world.record().value).toMatchObject({ leader: 2, leaderEpoch: 1 })
    expect(inSync(world)).toEqual([2, 3])
    await write(world, world.node(2))
    await world.run(5000)
    expect(inSync(world)).toEqual([2, 3])
    makeRoom(world, 1)
    await world.until(() => inSync(world).length === 3, 5000)
    expect(world.node(1).log.logEndOffset).toBe(2)
  })

  it('of a follower: nobody waits for it as long as for one that is slow', async () => {
    const world = await started()
    fill(world, 3)
    await world.run(10_000)
    expect(inSync(world)).toEqual([1, 2, 3])
    const beganMs = world.world.now
    await write(world, world.node(1))
    expect(world.world.now - beganMs).toBeLessThan(3000)
    expect(inSync(world)).toEqual([1, 2])
    await write(world, world.node(1))
    makeRoom(world, 3)
    await world.until(() => inSync(world).length === 3, 5000)
    expect(world.node(3).log.logEndOffset).toBe(3)
  })

  it('of two: the lead stays where the others in sync were too few to take writes', async () => {
    const world = await started()
    fill(world, 1, 2)
    await world.run(60_000)
    expect(world.record().value).toMatchObject({ leader: 2, leaderEpoch: 1 })
    expect(inSync(world)).toEqual([2, 3])
    makeRoom(world, 2)
    await world.run(2000)
    await write(world, world.node(2))
  })

  it('of two, where one in sync is enough: the third leads', async () => {
    const world = await started({ minInSync: 1 })
    fill(world, 1, 2)
    await world.run(15_000)
    expect(world.record().value).toMatchObject({ leader: 3, leaderEpoch: 2 })
    await write(world, world.node(3))
  })

  it('of a new leader that cannot even write its epoch: another leads, though too few are in sync', async () => {
    const world = await started()
    fill(world, 1)
    leave(world, 2, 0)
    await world.run(15_000)
    expect(world.record().value).toMatchObject({ leader: 3, leaderEpoch: 2 })
    makeRoom(world, 2)
    // As housekeeping does.
    await world.settle(world.node(2).running?.table.retry() ?? Promise.resolve())
    await world.until(() => inSync(world).includes(2), 5000)
    await world.run(500)
    await write(world, world.node(3))
  })

  it('that has room again in a moment changes nothing', async () => {
    const world = await started()
    fill(world, 1)
    await world.run(2000)
    makeRoom(world, 1)
    await world.run(10_000)
    expect(world.record().value).toMatchObject({ leader: 1, leaderEpoch: 0 })
    await write(world, world.node(1))
    expect(saidOf(world, 'there is room again')).toBe(1)
  })
})
