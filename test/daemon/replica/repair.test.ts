/** Damage on a minority of the replicas: found, quarantined, repaired from the others, said. */
import { describe, expect, it } from 'vitest'
import { encodePartition } from '../../../daemon/metadata/metadata-values.ts'
import type { PartitionTable } from '../../../daemon/replica/partition-table.ts'
import { isStreamError } from '../../../src/base/errors.ts'
import { SimDisk } from '../../sim/sim-disk.ts'
import { SimTime } from '../../sim/sim-time.ts'
import { type Node, ReplicaWorld, TOPIC_ID, type WorldOptions } from './replica-world.ts'

const SMALL = { topicConfig: { 'internal.segment.bytes': '2000', 'index.interval.bytes': '500' } }

async function started(seed: number | string, options: WorldOptions = {}, batches = 120) {
  const world = new ReplicaWorld(seed, { ...SMALL, ...options })
  await world.startAll()
  await world.until(() => world.node(1).partition().notServing === undefined)
  await world.run(100)
  await fill(world, batches)
  return world
}

async function fill(world: ReplicaWorld, batches: number): Promise<void> {
  const leader = world.leader() as Node
  const outcomes = Array.from({ length: batches }, () => world.produce(leader, 0, 3))
  expect(new Set(await world.settle(Promise.all(outcomes)))).toEqual(new Set(['committed']))
  // The marks reach the medium.
  await world.run(1000)
}

function segments(node: Node): string[] {
  return node.disk
    .files()
    .map(({ path }) => path)
    .filter((path) => path.startsWith('/data/t-0/') && path.endsWith('.log'))
}

function content(node: Node): string {
  return segments(node)
    .map((path) => Buffer.from(node.disk.readFile(path) ?? []).toString('latin1'))
    .join('')
}

/** What a scrubber does: reads everything, and so finds what is damaged. @returns the offsets that cannot be read */
async function scrub(world: ReplicaWorld, node: Node): Promise<number[]> {
  const { log } = node
  const bad: number[] = []
  for (let offset = log.logStartOffset; offset < log.logEndOffset; offset += 3) {
    await world.settle(
      log.read({ offset, maxBytes: 1 }).catch((error: unknown) => {
        if (!isStreamError(error, 'DATA_DAMAGED')) throw error
        bad.push(offset)
      }),
    )
  }
  return bad
}

function flip(node: Node, segment: number, position = 300): void {
  node.disk.flipBit(segments(node)[segment] as string, position, 3)
}

async function expectWhole(world: ReplicaWorld) {
  await world.run(4000)
  const leader = world.leader() as Node
  for (const node of world.nodes) {
    expect(await scrub(world, node)).toEqual([])
    expect(node.log.damage).toEqual([])
    expect(node.log.logEndOffset).toBe(leader.log.logEndOffset)
    node.log.verify()
  }
  expect(world.record().value.inSyncReplicas).toHaveLength(world.nodes.length)
  await world.compare()
  expect(world.problems).toEqual([])
}

describe('a damaged range', () => {
  it('of a follower is found by a read, fetched from the leader and put in place; it stays in sync', async () => {
    const world = await started(1)
    const poor = world.node(3)
    const before = content(poor)
    flip(poor, 0)
    flip(poor, 2, 700)
    expect((await scrub(world, poor)).length).toBeGreaterThan(1)
    expect(world.said.join('\n')).toContain('b3 error damaged bytes in a log')
    await world.run(2000)
    expect(content(poor)).toBe(before)
    const said = world.said.filter((line) => line.includes('was repaired'))
    expect(said).toHaveLength(2)
    expect(said[0]).toContain('"from":1')
    await expectWhole(world)
  })

  it('of the leader is repaired from a follower; what is damaged is never served', async () => {
    const world = await started(2)
    const leader = world.node(1)
    const before = content(leader)
    flip(leader, 1)
    const bad = await scrub(world, leader)
    expect(bad).toHaveLength(1)
    await world.run(2000)
    expect(content(leader)).toBe(before)
    expect(world.said.some((line) => / b1 .*was repaired/.test(line))).toBe(true)
    await fill(world, 5)
    await expectWhole(world)
  })

  it('a page that the disk cannot read is fetched too, of a follower and of the leader', async () => {
    const world = await started(1)
    for (const nodeId of [3, 1]) {
      const node = world.node(nodeId)
      const before = content(node)
      node.disk.spoilPage(segments(node)[1] as string, 300)
      expect((await scrub(world, node)).length).toBeGreaterThan(0)
      expect(world.said.join('\n')).toContain(`b${nodeId} error the disk cannot read`)
      await world.run(2000)
      expect(content(node)).toBe(before)
    }
    await expectWhole(world)
  })

  it('on two of three replicas at one place: the third one is asked', async () => {
    const world = await started(3)
    for (const node of [world.node(1), world.node(2)]) {
      flip(node, 1)
      expect(await scrub(world, node)).toHaveLength(1)
    }
    await expectWhole(world)
    const repaired = world.said.filter((line) => line.includes('was repaired'))
    expect(repaired).toHaveLength(2)
    expect(repaired.some((line) => line.includes('"from":3'))).toBe(true)
  })

  it('without a sound replica stays quarantined, and is named; once one is back it is repaired', async () => {
    const world = await started(4, { minInSync: 1, config: { 'replica.lag.time.max.ms': '1000' } })
    const leader = world.node(1)
    for (const node of [world.node(2), world.node(3)]) {
      world.crash(node, 'process')
      world.expire(node)
    }
    await world.run(3000)
    flip(leader, 0)
    const bad = await scrub(world, leader)
    expect(bad).toHaveLength(1)
    await world.run(5000)
    expect(await scrub(world, leader)).toEqual(bad)
    const named = world.said.filter((line) => line.includes('cannot be repaired now'))
    expect(named).toHaveLength(1)
    expect(named[0]).toContain('no other replica is in sync')
    expect(named[0]).toContain('t-0')
    for (const node of [world.node(2), world.node(3)]) await world.start(node)
    await expectWhole(world)
  })

  it('found at a start: the start is lossy, and it joins only once it is whole', async () => {
    const world = await started(5)
    const poor = world.node(3)
    const before = content(poor)
    const oldEpoch = world.dataEpoch(3)
    world.crash(poor, 'power')
    world.expire(poor)
    // The last two segments are gone, which the mark says were durable.
    for (const path of segments(poor).slice(-2)) poor.disk.unlink(path)
    world.network.blockBoth('b1', 'b3')
    world.network.blockBoth('b2', 'b3')
    await world.start(poor)
    expect(world.dataEpoch(3)).toBeGreaterThan(oldEpoch)
    await world.run(3000)
    expect(poor.log.damage.length).toBeGreaterThan(0)
    expect(world.record().value.inSyncReplicas.map(({ broker }) => broker)).toEqual([1, 2])
    // The links are back, but what the leader sends of the range is damaged there, too.
    world.network.heal()
    await fill(world, 3)
    await expectWhole(world)
    expect(content(poor).startsWith(before)).toBe(true)
    const joined = world.record().value.inSyncReplicas.find(({ broker }) => broker === 3)
    expect(joined?.dataEpoch).toBe(world.dataEpoch(3))
  })

  it('that no replica has any more keeps its replica out of the replicas in sync', async () => {
    const world = await started(6, { minInSync: 1, config: { 'replica.lag.time.max.ms': '1000' } })
    const poor = world.node(3)
    // All three lost the same batch: nobody can repair anybody.
    for (const node of world.nodes) flip(node, 0)
    expect(await scrub(world, poor)).toHaveLength(1)
    await world.run(5000)
    expect(await scrub(world, poor)).toHaveLength(1)
    const said = world.said.filter((line) => line.includes('b3 error a damaged log cannot be'))
    expect(said).toHaveLength(1)
    // It takes no more part; what comes next is written and read without it.
    await fill(world, 5)
    expect(world.record().value.inSyncReplicas.map(({ broker }) => broker)).not.toContain(3)
  })

  it('bits flipped anywhere on one replica at a time, many runs', async () => {
    for (let seed = 0; seed < 12; seed += 1) {
      const world = await started(`flips ${seed}`, {}, 60)
      const random = world.world.random.fork('flips')
      for (let round = 0; round < 3; round += 1) {
        const node = world.nodes[random.integer(3)] as Node
        const before = content(node)
        for (let count = 1 + random.integer(4); count > 0; count -= 1) {
          // The newest batches are served from memory.
          const paths = segments(node).slice(0, -2)
          const path = paths[random.integer(paths.length)] as string
          const size = node.disk.stat(path)?.sizeBytes ?? 0
          const position = random.integer(Math.max(size, 1))
          if (size === 0) continue
          node.disk.flipBit(path, position, random.integer(8))
        }
        await scrub(world, node)
        await world.run(3000)
        await scrub(world, node)
        await world.run(3000)
        expect(content(node)).toBe(before)
      }
      await expectWhole(world)
    }
  })
})

describe('a disk that was replaced', () => {
  it('empty: the broker counts nowhere until it has copied everything', async () => {
    const world = await started(20)
    const poor = world.node(3)
    const oldEpoch = world.dataEpoch(3)
    world.crash(poor, 'power')
    world.expire(poor)
    poor.disk = new SimDisk(world.world.random.fork('new disk'), new SimTime(world.world))
    world.network.blockBoth('b1', 'b3')
    await world.start(poor)
    expect(world.dataEpoch(3)).toBeGreaterThan(oldEpoch)
    await fill(world, 2)
    expect(world.record().value.inSyncReplicas.map(({ broker }) => broker)).toEqual([1, 2])
    expect(poor.log.logEndOffset).toBe(0)
    world.network.heal()
    await expectWhole(world)
    expect(content(poor)).toBe(content(world.node(1)))
  })

  it('a log that this broker holds no more is set aside, never taken back, and removed in time', async () => {
    const world = await started(21)
    const left = world.node(3)
    const directories = () =>
      new Set(left.disk.files().map(({ path }) => path.split('/')[2] as string))
    const assign = (replicas: number[]) => {
      const { value } = world.record()
      const inSyncReplicas = value.inSyncReplicas.filter(({ broker }) => replicas.includes(broker))
      const partitionEpoch = value.partitionEpoch + 1
      const key = world.keys.partition(TOPIC_ID, 0)
      const changed = { ...value, replicas, inSyncReplicas, partitionEpoch }
      world.put({ kind: 'put', key, value: encodePartition(changed) })
    }
    assign([1, 2])
    await world.run(500)
    expect(left.running?.table.get(TOPIC_ID, 0)).toBeUndefined()
    expect([...directories()].some((name) => /^t-0\.[0-9a-f]{32}-stray$/.test(name))).toBe(true)
    expect(directories().has('t-0')).toBe(false)
    // It returns, and starts empty.
    const end = world.node(1).log.logEndOffset
    assign([1, 2, 3])
    await world.until(() => left.running?.table.get(TOPIC_ID, 0)?.log.logEndOffset === end)
    await expectWhole(world)
    const { table } = left.running as { table: PartitionTable }
    table.removeStrays(0)
    table.removeStrays(3_500_000)
    expect([...directories()].some((name) => name.endsWith('-stray'))).toBe(true)
    table.removeStrays(3_700_000)
    expect([...directories()].some((name) => name.endsWith('-stray'))).toBe(false)
    // Left out while it is down: set aside at the start.
    world.crash(left, 'process')
    world.expire(left)
    assign([1, 2])
    await world.start(left)
    expect(left.running?.table.get(TOPIC_ID, 0)).toBeUndefined()
    expect(directories().has('t-0')).toBe(false)
    expect([...directories()].some((name) => name.endsWith('-stray'))).toBe(true)
  })
})
