import { describe, expect, it } from 'vitest'
import { encodePartition } from '../../../daemon/metadata/metadata-values.ts'
import { batchOf } from '../batches.ts'
import { type Node, ReplicaWorld, TOPIC_ID, type WorldOptions } from './replica-world.ts'

async function started(seed: number | string, options?: WorldOptions) {
  const world = new ReplicaWorld(seed, options)
  await world.startAll()
  await world.until(() => world.node(1).partition().notServing === undefined)
  await world.run(100)
  return world
}

/** Everything is copied, committed and in sync, and nothing is wrong with it. */
async function expectWhole(world: ReplicaWorld) {
  await world.run(3000)
  for (let index = 0; index < world.options.partitions; index += 1) {
    const leader = world.leader(index) as Node
    const end = leader.partition(index).log.logEndOffset
    for (const node of world.nodes) {
      expect(node.partition(index).log.logEndOffset).toBe(end)
      expect(node.partition(index).highWatermark).toBe(end)
    }
    expect(world.record(index).value.inSyncReplicas).toHaveLength(world.nodes.length)
  }
  world.inspect()
  await world.compare()
  expect(world.problems).toEqual([])
}

describe('replication', () => {
  it('followers copy what the leader has, and only then it is committed', async () => {
    const world = await started(1)
    const leader = world.node(1)
    const outcome = world.produce(leader)
    expect(leader.partition().highWatermark).toBe(0)
    expect(await world.settle(outcome)).toBe('committed')
    await expectWhole(world)
    expect(leader.log.logEndOffset).toBe(1)
  })

  it('an acknowledgement waits for no long poll: positions are told while a fetch waits', async () => {
    const world = await started(2)
    await world.run(2000)
    const before = world.world.now
    expect(await world.settle(world.produce(world.node(1)))).toBe('committed')
    expect(world.world.now - before).toBeLessThan(30)
  })

  it('a log that cannot be made on a full disk keeps no broker from starting, and is made once there is room', async () => {
    const world = await started('full')
    expect(await world.settle(world.produce(world.node(1)))).toBe('committed')
    const node = world.node(3)
    world.crash(node, 'process')
    world.expire(node)
    const { disk } = node
    const log = disk.list('/data').find((name) => name.endsWith('-0'))
    disk.removeTree(`/data/${log}`)
    const total = disk.totalBytes
    disk.totalBytes = disk.files().reduce((sum, file) => sum + file.sizeBytes, 0)
    await world.start(node, true)
    expect(node.running?.table.partitionCount).toBe(0)
    disk.totalBytes = total
    await world.run(2000)
    await world.settle(node.running?.table.retry() ?? Promise.resolve())
    await expectWhole(world)
  })

  it('acks=1 waits for the leader alone', async () => {
    const world = await started(3)
    const partition = world.node(1).partition()
    world.network.blockBoth('b1', 'b2')
    world.network.blockBoth('b1', 'b3')
    const { nextOffset } = partition.append(batchOf(['a']))
    const safe = new Promise<string>((resolve) => {
      partition.whenSafeHere({
        endOffset: nextOffset,
        onCommitted: () => resolve('safe'),
        onLost: resolve,
      })
    })
    expect(await world.settle(safe)).toBe('safe')
    expect(partition.highWatermark).toBe(0)
  })

  it('many partitions in one fetch, each with its turn', async () => {
    const world = await started(4, {
      partitions: 7,
      config: { 'replica.fetch.response.max.bytes': '3000', 'replica.fetch.max.bytes': '1000' },
    })
    await world.until(() => world.nodes.every((_, at) => world.leader(at) !== undefined))
    const outcomes: Promise<string>[] = []
    for (let round = 0; round < 20; round += 1) {
      for (let index = 0; index < 7; index += 1) {
        outcomes.push(world.produce(world.leader(index) as Node, index, 10))
      }
    }
    expect(new Set(await world.settle(Promise.all(outcomes)))).toEqual(new Set(['committed']))
    await expectWhole(world)
  })

  it('a dead follower leaves the in-sync replicas, comes back, catches up from files, joins again', async () => {
    const world = await started(5, { config: { 'replica.lag.time.max.ms': '2000' } })
    const leader = world.node(1)
    const follower = world.node(3)
    world.crash(follower)
    const stuck = world.produce(leader)
    // It counts until the store has confirmed that it does not.
    await world.run(1000)
    expect(leader.partition().highWatermark).toBe(0)
    expect(await world.settle(stuck)).toBe('committed')
    expect(world.record().value.inSyncReplicas.map((member) => member.broker)).toEqual([1, 2])
    world.expire(follower)
    for (let count = 0; count < 50; count += 1) {
      expect(await world.settle(world.produce(leader, 0, 20))).toBe('committed')
    }
    await world.start(follower)
    await expectWhole(world)
  })

  it('a new leader makes followers cut what was never committed', async () => {
    const world = await started(6)
    const [old, chosen] = [world.node(1), world.node(2)] as [Node, Node]
    expect(await world.settle(world.produce(old))).toBe('committed')
    // What the old leader writes from here on reaches nobody.
    world.network.blockBoth('b1', 'b2')
    world.network.blockBoth('b1', 'b3')
    const lost = [world.produce(old), world.produce(old)]
    await world.run(50)
    world.elect(2)
    expect(await world.settle(Promise.all(lost))).toEqual(['notLeader', 'notLeader'])
    await world.until(() => chosen.partition().notServing === undefined)
    expect(old.log.logEndOffset).toBe(3)
    world.network.heal()
    expect(await world.settle(world.produce(chosen))).toBe('committed')
    await expectWhole(world)
    expect(chosen.log.logEndOffset).toBe(2)
    expect(old.log.endOffsetForEpoch(0)).toEqual({ epoch: 0, endOffset: 1 })
  })

  it('a leader that lost its followers acknowledges nothing after the next one was elected', async () => {
    const world = await started(7)
    world.network.blockBoth('b1', 'b2')
    world.network.blockBoth('b1', 'b3')
    // Its image stands still as well: it does not know.
    const image = world.node(1).running?.image
    image?.close()
    world.elect(2)
    await world.until(() => world.node(2).partition().notServing === undefined)
    world.network.heal()
    const zombie = world.produce(world.node(1))
    await world.run(5000)
    expect(world.node(1).partition().notServing).toBeUndefined()
    expect(world.node(1).partition().highWatermark).toBe(0)
    expect(await world.settle(world.produce(world.node(2)))).toBe('committed')
    zombie.catch(() => undefined)
    world.inspect()
    expect(world.problems).toEqual([])
  })

  it('a leader without a session serves on while its followers fetch, and sends clients away when they do not', async () => {
    const world = await started(7)
    const leader = world.node(1)
    const session = leader.running?.session
    if (session === undefined) throw new Error('it runs')
    session.fenced = true
    await world.run(4000)
    expect(leader.partition().isDeserted).toBe(false)
    expect(await world.settle(world.produce(leader))).toBe('committed')
    // They follow another one, or nobody: it does not hear of it.
    world.network.blockBoth('b1', 'b2')
    world.network.blockBoth('b1', 'b3')
    const waiting = world.produce(leader)
    await world.run(1000)
    expect(leader.partition().isDeserted).toBe(false)
    await world.run(2000)
    expect(leader.partition().isDeserted).toBe(true)
    expect(await world.settle(waiting)).toBe('notLeader')
    world.network.heal()
    await world.run(2000)
    expect(leader.partition().isDeserted).toBe(false)
    expect(await world.settle(world.produce(leader))).toBe('committed')
  })

  it('I10 a replica keeps committed records that its leader lacks, unless an unclean election says so', async () => {
    const world = await started(8, { minInSync: 1 })
    const [first, second, third] = world.nodes as [Node, Node, Node]
    expect(await world.settle(world.produce(first, 0, 3))).toBe('committed')
    await world.run(1000)
    // A copy that lost committed records is elected although nobody says so.
    const log = third.log
    await world.settle(third.partition().stopFollowing())
    await world.settle(log.truncateTo(0))
    world.elect(3)
    await world.until(() => third.partition().notServing === undefined)
    await world.run(2000)
    for (const node of [first, second]) expect(node.log.logEndOffset).toBe(3)
    expect(world.said.some((line) => line.includes('lacks committed records'))).toBe(true)
    // The same, said out loud.
    const { value } = world.record()
    const epoch = value.leaderEpoch + 1
    const key = world.keys.partition(TOPIC_ID, 0)
    const unclean = {
      ...value,
      leaderEpoch: epoch,
      partitionEpoch: value.partitionEpoch + 1,
      uncleanEpoch: epoch,
      recovering: true,
      inSyncReplicas: value.inSyncReplicas.filter((member) => member.broker === 3),
    }
    world.put({ kind: 'put', key, value: encodePartition(unclean) })
    world.acked.length = 0
    await world.run(5000)
    for (const node of [first, second]) expect(node.log.logEndOffset).toBe(0)
    expect(world.record().value.recovering).toBe(false)
    const said = (words: string) => world.said.filter((line) => line.includes(words))
    expect(said('may lack acknowledged records')).toHaveLength(1)
    const losses = said('acknowledged records are cut off')
    expect(losses).toHaveLength(2)
    for (const line of losses) expect(line).toMatch(/warn.*endOffset\W+0\b.*records\W+3\b/)
    expect(await world.settle(world.produce(third, 0, 5))).toBe('committed')
    await expectWhole(world)
  })

  it('a follower below the log start begins anew there', async () => {
    const world = await started(9, {
      config: { 'replica.lag.time.max.ms': '500' },
      topicConfig: { 'internal.segment.bytes': '300' },
    })
    const [leader, , late] = world.nodes as [Node, Node, Node]
    world.crash(late)
    world.expire(late)
    for (let count = 0; count < 20; count += 1) {
      expect(await world.settle(world.produce(leader, 0, 3))).toBe('committed')
    }
    // Inside of a batch: the whole of it is copied.
    await world.settle(leader.partition().deleteRecordsBefore(31))
    world.acked.splice(0, 31)
    await world.start(late)
    await expectWhole(world)
    expect(late.log.logStartOffset).toBe(31)
  })

  it('a follower is told of a log start that moved', async () => {
    const world = await started(10)
    const leader = world.node(1)
    for (let count = 0; count < 5; count += 1) await world.settle(world.produce(leader))
    await world.run(1000)
    await world.settle(leader.partition().deleteRecordsBefore(3))
    await world.run(1000)
    for (const node of world.nodes) expect(node.log.logStartOffset).toBe(3)
  })

  it('a new leader whose high watermark lags says so until it has caught up (KIP-207)', async () => {
    const world = await started(11)
    const [first, second] = world.nodes as [Node, Node, Node]
    for (let count = 0; count < 3; count += 1) await world.settle(world.produce(first))
    await world.run(1000)
    world.network.blockBoth('b2', 'b3')
    world.network.blockBoth('b1', 'b2')
    world.elect(2)
    const partition = second.partition()
    await world.until(() => partition.notServing === undefined)
    expect(partition.isHighWatermarkFresh).toBe(true)
    world.network.heal()
    await expectWhole(world)
  })

  it('a broker that came back without its data is taken out at once, and joins when it has all', async () => {
    const world = await started(12)
    const [leader, , poor] = world.nodes as [Node, Node, Node]
    for (let count = 0; count < 5; count += 1) await world.settle(world.produce(leader))
    world.crash(poor)
    world.expire(poor)
    await world.settle(world.produce(leader))
    await world.start(poor, true)
    await expectWhole(world)
    const member = world.record().value.inSyncReplicas.find((entry) => entry.broker === 3)
    expect(member?.dataEpoch).toBe(world.dataEpoch(3))
  })

  it('LogInfo tells the controller how far a replica reaches', async () => {
    const world = await started(13)
    await world.settle(world.produce(world.node(1), 0, 4))
    await world.run(1000)
    const replication = world.node(2).running?.replication
    const views = await world.settle(
      replication!.inquire(3, [
        { topicId: TOPIC_ID, partition: 0 },
        { topicId: TOPIC_ID, partition: 9 },
      ]),
    )
    expect([...views]).toEqual([
      [`${TOPIC_ID}/0`, { lastEpoch: 0, latestEpoch: 0, logEndOffset: 4 }],
    ])
  })

  it('outcomes of the store that are unknown change nothing: the same write is sent again', async () => {
    const world = await started(14, { config: { 'replica.lag.time.max.ms': '1000' } })
    const leader = world.node(1)
    for (const fault of ['answerLost', 'requestLost', 'appliedLate'] as const) {
      world.stores.faults[fault] = 0.8
      const follower = world.node(2)
      world.crash(follower, 'process')
      const outcome = world.produce(leader)
      expect(await world.settle(outcome)).toBe('committed')
      world.stores.calm()
      world.expire(follower)
      await world.start(follower)
      await expectWhole(world)
    }
    expect(world.stores.fired.answerLost + world.stores.fired.requestLost).toBeGreaterThan(0)
  })
})

describe('a disk that fails under a follower', () => {
  it('fails its data directory, as on a leader; the others go on without it', async () => {
    const world = await started(15, { config: { 'replica.lag.time.max.ms': '1000' } })
    const poor = world.node(3)
    poor.disk.failsSync = () => true
    expect(await world.settle(world.produce(world.node(1)))).toBe('committed')
    expect(poor.running?.directory.failure?.code).toBe('DISK_FAILED')
    expect(world.record().value.inSyncReplicas.map((member) => member.broker)).toEqual([1, 2])
    expect(world.said.some((line) => line.includes('b3 error'))).toBe(true)
  })

  it('an append that dies half way ends the replica, and nothing is thrown past it', async () => {
    const world = await started(16, { config: { 'replica.lag.time.max.ms': '1000' } })
    const poor = world.node(3)
    poor.disk.crashAtOperation = poor.disk.operations + 1
    expect(await world.settle(world.produce(world.node(1)))).toBe('committed')
    expect(poor.partition().notServing).toBe('storageFailed')
    expect(poor.partition().follower).toBeUndefined()
    // It comes back as another process, and joins.
    world.crash(poor, 'process')
    world.expire(poor)
    await world.start(poor)
    await expectWhole(world)
  })
})

describe('replication under faults', () => {
  for (let seed = 1; seed <= 6; seed += 1) {
    it(`keeps what it acknowledged, seed ${seed}`, async () => {
      const world = await runChaos(seed)
      expect(world.problems).toEqual([])
      expect(world.acked.length).toBeGreaterThan(0)
    })
  }
})

/** Crashes, cut links, moved leaderships and a flaky store; then calm, and everything must come together. */
async function runChaos(seed: number): Promise<ReplicaWorld> {
  const random = new ReplicaWorld(seed).world.random.fork('options')
  const world = new ReplicaWorld(`chaos ${seed}`, {
    partitions: random.pick([1, 2, 3]),
    config: {
      'replica.lag.time.max.ms': String(random.pick([300, 1000, 3000])),
      'replica.fetch.max.bytes': String(random.pick([200, 2000])),
    },
    topicConfig: { 'internal.segment.bytes': String(random.pick([400, 2000, 100_000])) },
  })
  await world.startAll()
  const { network, stores } = world
  network.faults.loseLink = random.pick([0, 0.02])
  network.faults.duplicate = random.pick([0, 0.2])
  network.faults.spike = random.pick([0, 0.02])
  stores.faults.answerLost = random.pick([0, 0.2])
  stores.faults.appliedLate = random.pick([0, 0.2])
  const endMs = world.world.now + 20_000
  const starting = new Set<Node>()
  const strike = (): void => {
    if (world.world.now >= endMs) return
    const node = random.pick(world.nodes)
    const kind = random.pick(['crash', 'cut', 'move', 'controller', 'heal'])
    if (kind === 'crash' && node.running !== undefined && !starting.has(node)) {
      const alive = world.nodes.filter((other) => other.running !== undefined)
      if (alive.length === world.nodes.length) {
        world.crash(node, random.pick(['process', 'power']))
        world.world.schedule(random.between(5, 800), 'expire', () => world.expire(node))
        world.world.schedule(random.between(900, 3000), 'start', () => {
          starting.add(node)
          world.launch(node).then(
            () => starting.delete(node),
            (error: unknown) => world.problems.push(`a start failed: ${String(error)}`),
          )
        })
      }
    } else if (kind === 'cut') {
      network.blockBoth(node.host, random.pick(world.nodes).host)
    } else if (kind === 'heal') {
      network.heal()
    } else if (kind === 'move') {
      const index = random.integer(world.options.partitions)
      const { value } = world.record(index)
      const views = world.views()
      const able = value.inSyncReplicas.filter((member) => {
        const view = views.get(member.broker)
        return view?.live === true && view.state === 'ACTIVE' && view.dataEpoch === member.dataEpoch
      })
      if (able.length > 0) world.elect(random.pick(able).broker, index)
    } else if (kind === 'controller') {
      world.control()
    }
    world.world.schedule(random.between(20, 600), 'strike', strike)
  }
  world.world.schedule(100, 'strike', strike)
  const write = (): void => {
    if (world.world.now >= endMs) return
    const index = random.integer(world.options.partitions)
    for (const node of world.nodes) {
      const partition = node.running?.table.get(TOPIC_ID, index)
      if (partition === undefined || partition.notServing !== undefined) continue
      world.produce(node, index, 1 + random.integer(5)).catch(() => undefined)
    }
    world.world.schedule(random.between(1, 30), 'write', write)
  }
  write()
  const look = (): void => {
    world.inspect()
    if (world.world.now < endMs) world.world.schedule(3, 'look', look)
  }
  look()
  await world.run(20_000)
  network.heal()
  network.calm()
  stores.calm()
  await world.run(15_000)
  world.control()
  await world.run(15_000)
  world.inspect()
  for (let index = 0; index < world.options.partitions; index += 1) {
    const { value } = world.record(index)
    if (value.inSyncReplicas.length !== world.nodes.length) {
      world.problems.push(`I15: only ${JSON.stringify(value.inSyncReplicas)} are in sync`)
    }
    const ends = world.nodes.map((node) => node.partition(index).log.logEndOffset)
    const highs = world.nodes.map((node) => node.partition(index).highWatermark)
    if (new Set([...ends, ...highs]).size !== 1) {
      world.problems.push(`the replicas of ${index} differ: ${ends} / ${highs}`)
    }
  }
  await world.compare()
  return world
}
