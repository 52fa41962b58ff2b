/** Replicas that differ although all their checksums are right are found, and nothing else is taken for that. */
import { describe, expect, it } from 'vitest'
import { encodePartition } from '../../../daemon/metadata/metadata-values.ts'
import type { Comparer } from '../../../daemon/replica/comparer.ts'
import type { Peers } from '../../../daemon/replica/peers.ts'
import { StreamError } from '../../../src/base/errors.ts'
import { KafkaError } from '../../../src/protocol/errors.ts'
import { baseOffsetAt, batchBytesAt } from '../../../src/record/batch-layout.ts'
import { buildControlBatch } from '../../../src/record/control-batch.ts'
import { crc32c } from '../../../src/record/crc32c.ts'
import { SimDisk } from '../../sim/sim-disk.ts'
import { SimTime } from '../../sim/sim-time.ts'
import { batchOf } from '../batches.ts'
import { replaceBatch } from '../other-batch.ts'
import { type Node, ReplicaWorld, TOPIC_ID, type WorldOptions } from './replica-world.ts'

const LOG_PATH = '/data/t-0'
const SMALL = { topicConfig: { 'internal.segment.bytes': '2000', 'index.interval.bytes': '500' } }
const DIFFERS = 'error a batch differs'

async function started(seed: number | string, options: WorldOptions = {}, batches = 40) {
  const world = new ReplicaWorld(seed, { ...SMALL, ...options })
  await world.startAll()
  await world.until(() => world.node(1).partition().notServing === undefined)
  await world.run(100)
  if (batches > 0) await fill(world, batches)
  return world
}

async function fill(world: ReplicaWorld, batches: number): Promise<void> {
  const leader = world.leader() as Node
  const outcomes = Array.from({ length: batches }, () => world.produce(leader, 0, 3))
  expect(new Set(await world.settle(Promise.all(outcomes)))).toEqual(new Set(['committed']))
  await world.run(1000)
}

function comparerOf(node: Node): Comparer {
  const comparer = node.running?.replication.comparer
  if (comparer === undefined) throw new Error('it does not compare')
  return comparer
}

/** What the scrubber does with one log. */
async function scrub(world: ReplicaWorld, node: Node): Promise<void> {
  const { log } = node
  const comparer = comparerOf(node)
  const pieces = log.scrub(0, (range) => comparer.take(log, range))
  for (let isDone = false; !isDone; ) {
    isDone = (await world.settle(pieces.next(comparer.wants(log)))).isDone
    await world.until(() => !comparer.isBusy)
  }
}

function differencesSaid(world: ReplicaWorld): string[] {
  return world.said.filter((line) => line.includes(DIFFERS))
}

/** The files of both differ, and those of the third one are the leader's. */
function expectUntouched(world: ReplicaWorld, node: Node, before: string): void {
  expect(content(node)).toBe(before)
  expect(node.log.damage).toEqual([])
  expect(world.problems).toEqual([])
}

function content(node: Node): string {
  const names = node.disk.list(LOG_PATH).filter((name) => name.endsWith('.log'))
  return names
    .map((name) => Buffer.from(node.disk.readFile(`${LOG_PATH}/${name}`) ?? []).toString('latin1'))
    .join('')
}

function batchAt(node: Node, offset: number): Uint8Array {
  const bytes = Buffer.from(content(node), 'latin1')
  let at = 0
  while (baseOffsetAt(bytes, at) !== offset) at += batchBytesAt(bytes, at)
  return bytes.subarray(at, at + batchBytesAt(bytes, at))
}

/** Between a broker and its peers; `before` runs before a request leaves, `after` before its answer arrives. */
function onCall(
  node: Node,
  { before, after }: { before?: (api: string) => void; after?: (api: string) => unknown },
): string[] {
  const peers = node.running?.replication.peers as Peers
  const call = peers.call.bind(peers)
  const asked: string[] = []
  peers.call = (async (...args: Parameters<typeof call>) => {
    asked.push(args[1])
    before?.(args[1])
    const answer = await call(...args)
    await after?.(args[1])
    return answer
  }) as typeof peers.call
  return asked
}

describe('copies that are the same', () => {
  it('are found the same, whatever their segments: one question for each megabyte', async () => {
    const world = await started(1, {}, 0)
    const poor = world.node(3)
    poor.log.applyConfig({ ...poor.log.config, segmentBytes: 700 })
    await fill(world, 60)
    expect(poor.log.segmentCount).toBeGreaterThan(world.node(1).log.segmentCount)
    const asked = onCall(poor, {})
    await scrub(world, poor)
    expect(comparerOf(poor)).toMatchObject({ comparedCount: 1, differing: 0 })
    expect(asked.filter((api) => api === 'SegmentSync')).toHaveLength(1)
    expect(world.said.filter((line) => / (error|warn) /.test(line))).toEqual([])
  })

  it('are compared in pieces where there is much', async () => {
    const world = await started(2, { topicConfig: {} }, 0)
    const leader = world.leader() as Node
    const { nextOffset } = leader.partition().append(batchOf(['x'.repeat(1_040_000)]))
    for (let at = 0; at < 30; at += 1) leader.partition().append(batchOf(['y'.repeat(100_000)]))
    await world.until(() => world.node(2).partition().highWatermark === nextOffset + 30)
    await scrub(world, world.node(2))
    // The large batch, then three times ten.
    expect(comparerOf(world.node(2)).comparedCount).toBe(4)
  })

  it('a leader compares nothing, nor does a replica that is not in sync', async () => {
    const world = await started(3)
    await scrub(world, world.node(1))
    expect(comparerOf(world.node(1)).comparedCount).toBe(0)
    const { value } = world.record()
    const left = {
      ...value,
      inSyncReplicas: value.inSyncReplicas.filter(({ broker }) => broker !== 3),
      partitionEpoch: value.partitionEpoch + 1,
    }
    const key = world.keys.partition(TOPIC_ID, 0)
    world.put({ kind: 'put', key, value: encodePartition(left) })
    const { image } = world.node(3).running as NonNullable<Node['running']>
    await world.until(() => image.revision >= world.stores.image.revision)
    expect(comparerOf(world.node(3)).wants(world.node(3).log)).toBe(false)
  })
})

describe('a batch that differs', () => {
  it('of a follower is named with its offsets and both checksums, once, and left as it is', async () => {
    const world = await started(1)
    const poor = world.node(3)
    const other = replaceBatch(poor.disk, LOG_PATH, 51)
    const before = content(poor)
    await scrub(world, poor)
    await scrub(world, poor)
    const said = differencesSaid(world)
    expect(said).toHaveLength(1)
    expect(JSON.parse(said[0]?.slice(said[0].indexOf('{')) ?? '')).toEqual({
      partition: 't-0',
      offsets: '51 to 53',
      leader: 1,
      checksum: crc32c(other).toString(16).padStart(8, '0'),
      leaderChecksum: crc32c(batchAt(world.node(1), 51))
        .toString(16)
        .padStart(8, '0'),
      todo: expect.stringContaining('stream dump /data/t-0 --batches --from 51'),
    })
    expect(comparerOf(poor).differing).toBe(1)
    expectUntouched(world, poor, before)
  })

  it('of the leader is found by both followers, though its cache has the right one', async () => {
    const world = await started(2)
    const leader = world.node(1)
    // The last one: it is in memory everywhere.
    replaceBatch(leader.disk, LOG_PATH, 117)
    const before = content(leader)
    for (const nodeId of [2, 3]) {
      await scrub(world, world.node(nodeId))
      expect(comparerOf(world.node(nodeId)).differing).toBe(1)
    }
    expect(differencesSaid(world).every((line) => line.includes('"117 to 119"'))).toBe(true)
    expect(differencesSaid(world)).toHaveLength(2)
    expectUntouched(world, leader, before)
  })

  it('is forgotten when it is the same again, and when the log is trimmed over it', async () => {
    const world = await started(3)
    const poor = world.node(2)
    const right = Uint8Array.from(batchAt(poor, 30))
    replaceBatch(poor.disk, LOG_PATH, 30)
    await scrub(world, poor)
    expect(comparerOf(poor).differing).toBe(1)
    replaceBatch(poor.disk, LOG_PATH, 30)
    expect(Buffer.compare(batchAt(poor, 30), right)).toBe(0)
    await scrub(world, poor)
    expect(comparerOf(poor).differing).toBe(0)
    replaceBatch(poor.disk, LOG_PATH, 60)
    await scrub(world, poor)
    expect(comparerOf(poor).differing).toBe(1)
    await world.settle(world.node(1).partition().deleteRecordsBefore(63))
    await world.until(() => poor.log.logStartOffset === 63)
    expect(comparerOf(poor).differing).toBe(0)
    expect(differencesSaid(world)).toHaveLength(2)
  })

  it('is found behind a leader that has changed, by whoever follows now', async () => {
    const world = await started(4)
    const odd = world.node(3)
    replaceBatch(odd.disk, LOG_PATH, 90)
    world.elect(3)
    await world.until(() => odd.partition().notServing === undefined)
    await world.run(3000)
    await fill(world, 5)
    await scrub(world, world.node(1))
    expect(differencesSaid(world)).toHaveLength(1)
    expect(differencesSaid(world)[0]).toMatch(/ b1 .*"90 to 92".*"leader":3/)
  })
})

describe('what may differ', () => {
  it('is never compared while something moves: leader, log, log start', async () => {
    const world = await started(5)
    const poor = world.node(3)
    replaceBatch(poor.disk, LOG_PATH, 51)
    const moves: (() => unknown)[] = [
      // As a cut does.
      () => {
        poor.log.core.generation += 2
      },
      () => poor.log.deleteRecordsBefore(10),
      () => poor.partition().stopFollowing(),
    ]
    for (const after of moves) {
      let isDone = false
      onCall(poor, {
        after: (api) => {
          if (api !== 'SegmentSync' || isDone) return
          isDone = true
          return after()
        },
      })
      await scrub(world, poor)
      expect(isDone).toBe(true)
    }
    expect(differencesSaid(world)).toEqual([])
    expect(comparerOf(poor).differing).toBe(0)
  })

  it('is not told by a leader of another epoch, nor compared with one', async () => {
    const world = await started(6)
    const poor = world.node(3)
    replaceBatch(poor.disk, LOG_PATH, 51)
    let moves = 0
    onCall(poor, {
      before: (api) => {
        if (api !== 'SegmentSync' || moves > 0) return
        moves += 1
        world.elect(2)
      },
    })
    await scrub(world, poor)
    expect(moves).toBe(1)
    expect(differencesSaid(world)).toEqual([])
    await world.run(3000)
    await scrub(world, poor)
    expect(differencesSaid(world)).toHaveLength(1)
    expect(differencesSaid(world)[0]).toContain('"leader":2')
  })

  it('lies below the log start of either side', async () => {
    const world = await started(7)
    const [leader, poor] = [world.node(1), world.node(3)]
    replaceBatch(poor.disk, LOG_PATH, 9)
    // Inside the batch that differs: it reaches across.
    await world.settle(leader.partition().deleteRecordsBefore(10))
    await scrub(world, poor)
    await world.run(1000)
    await scrub(world, poor)
    expect(poor.log.logStartOffset).toBe(10)
    expect(comparerOf(poor).comparedCount).toBe(1)
    expect(differencesSaid(world)).toEqual([])
  })

  it('lies above the high watermark', async () => {
    const world = await started(8, { minInSync: 1, config: { 'replica.lag.time.max.ms': '60000' } })
    const poor = world.node(3)
    // Nothing is committed without the second one.
    world.network.blockBoth('b1', 'b2')
    world
      .node(1)
      .partition()
      .append(batchOf(['not committed']))
    await world.until(() => poor.log.durableOffset === 121)
    replaceBatch(poor.disk, LOG_PATH, 120)
    expect(poor.partition().highWatermark).toBe(120)
    await scrub(world, poor)
    expect(differencesSaid(world)).toEqual([])
  })

  it('is quarantined on either side', async () => {
    const world = await started(9)
    const [leader, poor] = [world.node(1), world.node(3)]
    // Nobody has a sound copy, so that it stays so.
    for (const node of world.nodes) {
      const path = `${LOG_PATH}/${node.disk.list(LOG_PATH).filter((name) => name.endsWith('.log'))[1]}`
      node.disk.flipBit(path, 300, 3)
    }
    for (const node of world.nodes) {
      const pieces = node.log.scrub(0)
      while (!(await world.settle(pieces.next())).isDone);
      expect(node.log.damage).toHaveLength(1)
    }
    await scrub(world, poor)
    expect(differencesSaid(world)).toEqual([])
    expect(comparerOf(poor).comparedCount).toBe(2)
    // What stands right behind it is not.
    const { endOffset } = leader.log.damage[0] as { endOffset: number }
    replaceBatch(poor.disk, LOG_PATH, endOffset)
    await scrub(world, poor)
    expect(differencesSaid(world)).toHaveLength(1)
    expect(differencesSaid(world)[0]).toContain(`"offsets":"${endOffset} to`)
  })

  it('was repaired: it is the leader’s, byte for byte', async () => {
    const world = await started(10)
    const poor = world.node(2)
    const path = `${LOG_PATH}/${poor.disk.list(LOG_PATH).find((name) => name.endsWith('.log'))}`
    poor.disk.flipBit(path, 300, 3)
    await scrub(world, poor)
    expect(differencesSaid(world)).toEqual([])
    await world.run(2000)
    expect(world.said.some((line) => line.includes('was repaired'))).toBe(true)
    await scrub(world, poor)
    expect(differencesSaid(world)).toEqual([])
    expect(comparerOf(poor).comparedCount).toBeGreaterThan(0)
  })

  it('is being compacted, or was, by one replica and not by the others, wherever its bytes have come to', async () => {
    const world = await started(
      11,
      { topicConfig: { 'internal.segment.bytes': '400', 'min.cleanable.dirty.ratio': '0' } },
      0,
    )
    const leader = world.node(1)
    await keyedBatches(world)
    await scrub(world, world.node(3))
    const comparedBefore = comparerOf(world.node(3)).comparedCount
    expect(comparedBefore).toBe(1)
    // Two of three compact, though the topic is not compacted any more: the leader, and a follower.
    for (const node of [leader, world.node(2)]) {
      const before = content(node)
      const lastStableOffset = node.partition().lastStableOffset
      await world.settle(node.log.compact({ nowMs: 1, lastStableOffset }))
      expect(content(node)).not.toBe(before)
      expect(node.log.wasCompacted).toBe(true)
    }
    for (const node of [world.node(2), world.node(3)]) await scrub(world, node)
    // A follower that begins anew has what was cleaned, and does not know.
    const fresh = world.node(2)
    world.crash(fresh)
    const name = 'another disk'
    fresh.disk = new SimDisk(world.world.random.fork(name), new SimTime(world.world, { name }))
    world.expire(fresh)
    await world.start(fresh, true)
    await world.until(() => world.record().value.inSyncReplicas.length === 3)
    await world.run(1000)
    expect(content(fresh)).toBe(content(leader))
    expect(fresh.log.wasCompacted).toBe(false)
    for (const leads of [3, 2]) {
      await scrub(world, fresh)
      world.elect(leads)
      await world.until(() => world.node(leads).partition().notServing === undefined)
      await world.run(3000)
      for (const node of world.nodes) if (node.nodeId !== leads) await scrub(world, node)
    }
    expect(differencesSaid(world)).toEqual([])
    expect(
      world.said.filter((line) => line.includes('could not be compared')).length,
    ).toBeGreaterThan(0)
    // What is compacted now is not even asked for.
    for (const node of world.nodes) {
      node.log.applyConfig({ ...node.log.config, cleanupCompact: true })
      expect(comparerOf(node).wants(node.log)).toBe(false)
    }
  })
})

/** Keys that come again, transactions that end well and badly, tombstones. */
async function keyedBatches(world: ReplicaWorld): Promise<void> {
  const partition = (world.leader() as Node).partition()
  let nextOffset = 0
  for (let round = 0; round < 8; round += 1) {
    partition.append(
      batchOf([
        { key: 'a', value: `${round}` },
        { key: `only ${round}`, value: 'x' },
      ]),
    )
    partition.append(batchOf([{ key: `gone ${round % 3}`, value: null }]))
    const producerId = 5
    const producer = { producerId, producerEpoch: 0 }
    const options = { ...producer, baseSequence: round, isTransactional: true }
    partition.append(batchOf([{ key: `t${round}`, value: 'in a transaction' }], options))
    const type = round % 3 === 0 ? ('abort' as const) : ('commit' as const)
    const marker = buildControlBatch({ ...producer, type, coordinatorEpoch: 0, timestampMs: 1 })
    nextOffset = partition.append(marker).nextOffset
  }
  await world.until(() => world.nodes.every((node) => node.partition().highWatermark >= nextOffset))
  await world.run(1000)
}

describe('a leader that cannot be asked', () => {
  it('is left alone for a minute, with one line; the log is read on, and compared once it answers', async () => {
    const world = await started(12)
    const poor = world.node(3)
    replaceBatch(poor.disk, LOG_PATH, 51)
    const peers = poor.running?.replication.peers as Peers
    const call = peers.call.bind(peers)
    let refused = 0
    let isSilent = true
    peers.call = ((...args: Parameters<typeof call>) => {
      if (args[1] !== 'SegmentSync' || !isSilent) return call(...args)
      refused += 1
      return Promise.reject(new StreamError('TIMED_OUT', 'no answer in time'))
    }) as typeof peers.call
    for (let round = 0; round < 3; round += 1) await scrub(world, poor)
    expect(refused).toBe(1)
    await world.run(61_000)
    await scrub(world, poor)
    expect(refused).toBe(2)
    const said = world.said.filter((line) => line.includes('cannot be compared with a leader'))
    expect(said).toHaveLength(1)
    expect(said[0]).toContain('no answer in time')
    isSilent = false
    await world.run(61_000)
    await scrub(world, poor)
    expect(differencesSaid(world)).toHaveLength(1)
  })

  it('because it is older is known by what it lists, and is not sent what it does not know', async () => {
    const world = await started(13)
    const poor = world.node(3)
    const peers = poor.running?.replication.peers as Peers
    // Nobody lists the version of Fetch that daemons speak.
    const body = { maxWaitMs: 0, minBytes: 0, topics: [], forgottenTopicsData: [] }
    const unlisted = peers.call(1, 'Fetch', 18, body, { ifListed: true })
    await expect(world.settle(unlisted)).rejects.toMatchObject({ code: 'UNSUPPORTED_BY_BROKER' })
    const call = peers.call.bind(peers)
    let asked = 0
    peers.call = ((...args: Parameters<typeof call>) => {
      if (args[1] !== 'SegmentSync') return call(...args)
      asked += 1
      return call(args[0], 'Fetch', 18, body, args[4])
    }) as typeof peers.call
    for (let round = 0; round < 3; round += 1) await scrub(world, poor)
    expect(asked).toBe(1)
    const said = world.said.filter((line) => line.includes('cannot be compared with a leader'))
    expect(said).toHaveLength(1)
    expect(said[0]).toContain('it runs an older version')
    expect(world.said.filter((line) => / (error|warn) /.test(line))).toEqual([])
  })

  it('is asked no more once this broker stops', async () => {
    const world = await started(14)
    const poor = world.node(3)
    const asked = onCall(poor, { before: () => comparerOf(poor).stop() })
    await scrub(world, poor)
    expect(asked.filter((api) => api === 'SegmentSync').length).toBeLessThan(2)
    expect(comparerOf(poor)).toMatchObject({ isBusy: false, comparedCount: 0 })
    expect(comparerOf(poor).wants(poor.log)).toBe(false)
    expect(world.said.filter((line) => / (error|warn) /.test(line))).toEqual([])
  })

  it('may refuse: that is said to nobody', async () => {
    const world = await started(15)
    const poor = world.node(3)
    const peers = poor.running?.replication.peers as Peers
    const call = peers.call.bind(peers)
    peers.call = (async (...args: Parameters<typeof call>) => {
      const answer = await call(...args)
      const errorCode = KafkaError.NOT_LEADER_OR_FOLLOWER
      return args[1] === 'SegmentSync' ? { ...answer, errorCode } : answer
    }) as typeof peers.call
    replaceBatch(poor.disk, LOG_PATH, 51)
    await scrub(world, poor)
    expect(
      world.said.filter((line) => / (error|warn|info) .*(compared|differs)/.test(line)),
    ).toEqual([])
  })
})
