import { describe, expect, it } from 'vitest'
import { beginReassignment, completeReassignment } from '../../../daemon/metadata/controller.ts'
import { encodePartition } from '../../../daemon/metadata/metadata-values.ts'
import { BrokerConfig } from '../../../daemon/replica/broker-config.ts'
import { Housekeeping } from '../../../daemon/replica/housekeeping.ts'
import type { TopicController } from '../../../daemon/replica/topic-controller.ts'
import { attributesAt, isControl } from '../../../src/record/batch-layout.ts'
import { buildControlBatch } from '../../../src/record/control-batch.ts'
import { SimDisk } from '../../sim/sim-disk.ts'
import { SimTime } from '../../sim/sim-time.ts'
import { batchOf, recordsOf } from '../batches.ts'
import { type Node, ReplicaWorld, TOPIC_ID } from './replica-world.ts'

const TOPIC_CONFIG = {
  'cleanup.policy': 'compact',
  'internal.segment.bytes': '400',
  'min.cleanable.dirty.ratio': '0',
}

interface Written {
  readonly key: string
  readonly value: string | null
  /** undefined: its outcome is not known. */
  offset: number | undefined
}

/** A compacted partition on three brokers, written by key. */
class KeyedWorld extends ReplicaWorld {
  readonly written: Written[] = []
  #sequence = 0

  constructor(
    seed: number | string,
    config: Readonly<Record<string, string>> = {},
    retentionMs = 1000,
  ) {
    super(seed, {
      topicConfig: { ...TOPIC_CONFIG, 'delete.retention.ms': String(retentionMs) },
      config,
    })
  }

  async begin(): Promise<void> {
    await this.startAll()
    await this.until(() => this.node(1).partition().notServing === undefined)
    await this.run(100)
  }

  /** @returns whether it was committed */
  write(node: Node, key: string, value: string | null): Promise<boolean> {
    const partition = node.partition()
    if (partition.notServing !== undefined) return Promise.resolve(false)
    const written: Written = { key, value, offset: undefined }
    this.written.push(written)
    const { firstOffset, nextOffset } = partition.append(batchOf([{ key, value }]))
    return new Promise((resolve) => {
      partition.whenCommitted({
        endOffset: nextOffset,
        onCommitted: () => {
          written.offset = firstOffset
          resolve(true)
        },
        onLost: () => resolve(false),
      })
    })
  }

  async set(key: string, value: string | null): Promise<void> {
    expect(await this.settle(this.write(this.leader() as Node, key, value))).toBe(true)
  }

  /** A record in a transaction of its own. */
  async commit(producerId: number, key: string, value: string): Promise<void> {
    const baseSequence = this.#sequence++
    const options = { producerId, producerEpoch: 0, baseSequence, isTransactional: true }
    const marker = { type: 'commit', producerId, producerEpoch: 0, coordinatorEpoch: 0 } as const
    const partition = (this.leader() as Node).partition()
    partition.append(batchOf([{ key, value }], options))
    const { nextOffset } = partition.append(buildControlBatch({ ...marker, timestampMs: 1 }))
    await this.until(() => partition.highWatermark >= nextOffset)
  }

  async markers(node: Node): Promise<number[]> {
    const found: number[] = []
    for (const [offset, text] of await this.read(node.log)) {
      if (isControl(attributesAt(Buffer.from(text, 'latin1'), 0))) found.push(offset)
    }
    return found
  }

  /** What was written before is in closed segments of all that run, and committed there. */
  async pushOut(): Promise<void> {
    for (let round = 0; round < 4; round += 1) await this.set('filler', 'x'.repeat(200))
    await this.run(1200)
  }

  async compact(...nodeIds: number[]): Promise<void> {
    for (const nodeId of nodeIds) await this.settle(this.compactOne(this.node(nodeId)))
    // What each has reached goes to the leader, and comes back as a floor.
    await this.run(1200)
  }

  async compactOne(node: Node): Promise<void> {
    await this.housekeeping(node)?.compact()
  }

  /** What a broker writes down every few seconds. */
  async checkpoint(): Promise<void> {
    for (const node of this.nodes) {
      const housekeeping = this.housekeeping(node)
      if (housekeeping !== undefined) await this.settle(housekeeping.checkpoint())
    }
  }

  housekeeping(node: Node): Housekeeping | undefined {
    const { running } = node
    if (running === undefined) return undefined
    const { time, table, directory } = running
    const say = (message: string, fields?: object): void => {
      this.problems.push(`${message} ${JSON.stringify(fields ?? {})}`)
    }
    const log = { debug: say, info: say, warn: say, error: say }
    const topics = undefined as unknown as TopicController
    const config = new BrokerConfig(new Map())
    return new Housekeeping({
      time,
      log,
      table,
      directory,
      config,
      topics,
      keepsAll: () => false,
    })
  }

  /** Records below the high watermark by key, as a reader that begins at the start keeps them. */
  async state(node: Node): Promise<Map<string, { offset: number; value: string | null }>> {
    const { log, highWatermark } = node.partition()
    const found = new Map<string, { offset: number; value: string | null }>()
    for (const bytes of (await this.read(log, highWatermark)).values()) {
      for (const { key, offset, value } of recordsOf(Buffer.from(bytes, 'latin1'))) {
        found.set(key ?? '', { offset, value })
      }
    }
    return found
  }

  async states(key: string, nodes: readonly Node[] = this.nodes): Promise<unknown[]> {
    const values: unknown[] = []
    for (const node of nodes) values.push((await this.state(node)).get(key)?.value)
    return values
  }

  floors(): number[] {
    return this.nodes.map((node) => node.log.tombstoneFloor)
  }

  async moveTo(nodeId: number): Promise<void> {
    this.elect(nodeId)
    await this.until(() => this.node(nodeId).partition().notServing === undefined)
    await this.run(1500)
  }

  /** To these brokers, and done: whoever is added joins later. */
  reassign(target: readonly number[]): void {
    const begun = beginReassignment(this.record().value, target)
    const value = completeReassignment(begun) ?? begun
    const leaderEpoch = begun.leaderEpoch + (value === begun ? 0 : 1)
    const key = this.keys.partition(TOPIC_ID, 0)
    this.put({ kind: 'put', key, value: encodePartition({ ...value, leaderEpoch }) })
  }

  /** Its machine is replaced by one with an empty disk. */
  wipe(node: Node): void {
    this.crash(node)
    const name = `disk${node.nodeId}.${node.boots}`
    node.disk = new SimDisk(this.world.random.fork(name), new SimTime(this.world, { name }))
  }
}

describe('compaction of replicas', () => {
  it('every replica compacts its log, and a tombstone goes when all have told that they did', async () => {
    const world = new KeyedWorld(1)
    await world.begin()
    await world.set('a', 'old')
    await world.set('a', null)
    for (let round = 0; round < 3; round += 1) {
      await world.pushOut()
      await world.compact(1, 2)
    }
    expect(await world.states('a')).toEqual([null, null, null])
    expect(world.node(2).log.cleanOffset).toBeGreaterThan(2)
    expect(world.floors()).toEqual([0, 0, 0])
    await world.compact(3)
    for (const floor of world.floors()) expect(floor).toBeGreaterThan(2)
    await world.pushOut()
    await world.compact(1, 2, 3)
    await world.pushOut()
    await world.compact(1, 2, 3)
    expect(await world.states('a')).toEqual([undefined, undefined, undefined])
    expect(world.problems).toEqual([])
  })

  it('a tombstone stays while a replica is away, and no key comes back with it', async () => {
    const world = new KeyedWorld(2, { 'replica.lag.time.max.ms': '1000' })
    await world.begin()
    await world.set('a', 'old')
    await world.run(1000)
    const late = world.node(3)
    world.crash(late)
    world.expire(late)
    const others = [world.node(1), world.node(2)]
    await world.set('a', null)
    for (const leader of [1, 2, 1]) {
      if (world.leader()?.nodeId !== leader) await world.moveTo(leader)
      await world.pushOut()
      await world.compact(1, 2)
    }
    expect(others.map((node) => node.log.tombstoneFloor)).toEqual([0, 0])
    expect(await world.states('a', others)).toEqual([null, null])
    await world.start(late)
    await world.run(3000)
    expect(await world.states('a')).toEqual([null, null, null])
    for (let round = 0; round < 3; round += 1) {
      await world.pushOut()
      await world.compact(1, 2, 3)
    }
    expect(await world.states('a')).toEqual([undefined, undefined, undefined])
    for (const leader of [3, 2, 1]) {
      await world.moveTo(leader)
      expect(await world.states('a')).toEqual([undefined, undefined, undefined])
    }
    expect(world.problems).toEqual([])
  })

  it('what a replica had told before it went away counts on in the epoch', async () => {
    const world = new KeyedWorld(3, { 'replica.lag.time.max.ms': '1000' })
    await world.begin()
    await world.set('a', 'old')
    await world.set('a', null)
    await world.pushOut()
    await world.compact(3)
    const told = world.node(3).log.cleanOffset
    expect(told).toBeGreaterThan(2)
    world.crash(world.node(3))
    world.expire(world.node(3))
    await world.set('b', 'later')
    await world.set('b', null)
    for (let round = 0; round < 3; round += 1) {
      await world.pushOut()
      await world.compact(1, 2)
    }
    const others = [world.node(1), world.node(2)]
    expect(others.map((node) => node.log.tombstoneFloor)).toEqual([told, told])
    expect(await world.states('a', others)).toEqual([undefined, undefined])
    expect(await world.states('b', others)).toEqual([null, null])
  })

  it('a leader that starts again knows the floor again with the first fetch of each replica', async () => {
    const world = new KeyedWorld(7, { 'replica.lag.time.max.ms': '1000' })
    await world.begin()
    await world.set('a', 'old')
    await world.set('a', null)
    await world.pushOut()
    await world.compact(1, 2, 3)
    const before = world.floors()
    expect(Math.min(...before)).toBeGreaterThan(2)
    await world.checkpoint()
    // All of them at once, so that nobody is left who remembers.
    for (const node of world.nodes) {
      world.crash(node)
      world.expire(node)
    }
    for (const node of world.nodes) await world.start(node)
    await world.until(() => world.leader()?.partition().notServing === undefined)
    // A fetch waits half a second at most; compaction looks every 15 s.
    await world.run(3000)
    expect(world.floors()).toEqual(before)
    for (let round = 0; round < 2; round += 1) {
      await world.pushOut()
      await world.compact(1, 2, 3)
    }
    expect(await world.states('a')).toEqual([undefined, undefined, undefined])
    expect(world.problems).toEqual([])
  })

  it('how far a log is compacted is written down, also where nothing else has moved', async () => {
    const world = new KeyedWorld(9)
    await world.begin()
    await world.set('a', 'old')
    await world.pushOut()
    const node = world.node(2)
    const housekeeping = world.housekeeping(node) as Housekeeping
    const written = () =>
      Buffer.from(node.disk.readFile('/data/cleaner-offset-checkpoint') ?? []).toString()
    await world.settle(housekeeping.checkpoint())
    expect(written()).not.toContain('t 0')
    await world.settle(housekeeping.compact())
    await world.settle(housekeeping.checkpoint())
    expect(written()).toContain(`t 0 ${node.log.cleanOffset}`)
  })

  it('what a replica had told is forgotten when the leader starts again while it is away: tombstones stay until it is back', async () => {
    const world = new KeyedWorld(8, { 'replica.lag.time.max.ms': '1000' })
    await world.begin()
    await world.set('a', 'old')
    await world.set('a', null)
    await world.pushOut()
    await world.compact(3)
    const late = world.node(3)
    world.crash(late)
    world.expire(late)
    const others = [world.node(1), world.node(2)]
    for (const node of others) {
      world.crash(node)
      world.expire(node)
    }
    for (const node of others) await world.start(node)
    await world.until(() => world.leader()?.partition().notServing === undefined)
    await world.run(3000)
    for (let round = 0; round < 3; round += 1) {
      await world.pushOut()
      await world.compact(1, 2)
    }
    expect(others.map((node) => node.log.tombstoneFloor)).toEqual([0, 0])
    expect(await world.states('a', others)).toEqual([null, null])
    await world.start(late)
    await world.run(3000)
    for (let round = 0; round < 2; round += 1) {
      await world.pushOut()
      await world.compact(1, 2, 3)
    }
    expect(await world.states('a')).toEqual([undefined, undefined, undefined])
    expect(world.problems).toEqual([])
  })

  it('a new, empty replica lowers no floor, and lets none rise before it has compacted', async () => {
    const world = new KeyedWorld(4, { 'replica.lag.time.max.ms': '1000' })
    await world.begin()
    await world.set('a', 'old')
    await world.set('a', null)
    for (let round = 0; round < 2; round += 1) {
      await world.pushOut()
      await world.compact(1, 2, 3)
    }
    const [floor] = world.floors() as [number]
    expect(floor).toBeGreaterThan(2)
    await world.set('b', 'old')
    const late = world.node(3)
    world.wipe(late)
    world.expire(late)
    await world.start(late)
    await world.run(3000)
    await world.set('b', null)
    expect(late.log.cleanOffset).toBe(0)
    expect(world.floors()).toEqual([floor, floor, floor])
    for (let round = 0; round < 2; round += 1) {
      await world.pushOut()
      await world.compact(1, 2)
    }
    expect(world.floors()).toEqual([floor, floor, floor])
    expect(await world.states('b')).toEqual([null, null, null])
    for (let round = 0; round < 3; round += 1) {
      await world.pushOut()
      await world.compact(1, 2, 3)
    }
    await world.moveTo(3)
    for (const key of ['a', 'b']) {
      expect(await world.states(key)).toEqual([undefined, undefined, undefined])
    }
    expect(world.problems).toEqual([])
  })

  it('a replica that copies while markers go does not wait for the end of a transaction', async () => {
    const world = new KeyedWorld(6, { 'replica.lag.time.max.ms': '1000' })
    await world.begin()
    await world.commit(7, 'a', 'first')
    await world.commit(7, 'b', 'second')
    for (let round = 0; round < 3; round += 1) {
      await world.pushOut()
      await world.compact(1, 2, 3)
    }
    // The markers are gone everywhere, the records are there.
    for (const node of world.nodes) {
      expect(await world.markers(node)).toEqual([])
      expect(node.log.lastStableOffset(node.log.logEndOffset)).toBe(node.log.logEndOffset)
    }
    expect(await world.states('a')).toEqual(['first', 'first', 'first'])
    const late = world.node(3)
    world.wipe(late)
    world.expire(late)
    await world.start(late)
    await world.run(5000)
    await world.moveTo(3)
    await world.set('c', 'later')
    expect(late.partition().lastStableOffset).toBe(late.log.logEndOffset)
    expect(await world.states('a')).toEqual(['first', 'first', 'first'])
    expect(world.problems).toEqual([])
  })

  for (const isRunning of [false, true]) {
    const when = isRunning ? 'between two looks of its broker' : 'while its broker was down'
    it(`a log that was left out and given again ${when} is not taken back`, async () => {
      const world = new KeyedWorld(5, { 'replica.lag.time.max.ms': '1000' })
      await world.begin()
      await world.set('a', 'old')
      await world.run(1000)
      const late = world.node(3)
      const stale = late.log
      if (!isRunning) {
        world.crash(late)
        world.expire(late)
      }
      world.reassign([1, 2])
      world.reassign([1, 2, 3])
      if (!isRunning) {
        // Without it the others forget.
        world.reassign([1, 2])
        await world.set('a', null)
        for (let round = 0; round < 3; round += 1) {
          await world.pushOut()
          await world.compact(1, 2)
        }
        const others = [world.node(1), world.node(2)]
        expect(await world.states('a', others)).toEqual([undefined, undefined])
        world.reassign([1, 2, 3])
        await world.start(late)
      }
      await world.run(5000)
      const strays = late.running?.directory.strays() ?? []
      expect(strays.map(({ partition }) => partition)).toEqual([0])
      expect(late.log).not.toBe(stale)
      const states = await world.states('a')
      expect(new Set(states)).toEqual(new Set([isRunning ? 'old' : undefined]))
      // The log that took its place is its own from now on.
      world.crash(late)
      world.expire(late)
      await world.start(late)
      await world.run(3000)
      expect(late.running?.directory.strays()).toHaveLength(1)
      expect(world.problems).toEqual([])
    })
  }

  for (let seed = 1; seed <= 4; seed += 1) {
    it(`brings no key back over crashes, moved leaderships and empty disks, seed ${seed}`, async () => {
      const world = await runChaos(seed)
      expect(world.problems).toEqual([])
    })
  }
})

async function runChaos(seed: number): Promise<KeyedWorld> {
  const world = new KeyedWorld(
    `compaction chaos ${seed}`,
    { 'replica.lag.time.max.ms': '500' },
    100,
  )
  const random = world.world.random.fork('chaos')
  await world.begin()
  const endMs = world.world.now + 20_000
  const isOver = (): boolean => world.world.now >= endMs
  const failed = (error: unknown): void => {
    // A process that has died under it says nothing more.
    if (!isOver()) world.said.push(String(error))
  }
  const again = (least: number, most: number, name: string, work: () => void): void => {
    const turn = (): void => {
      if (isOver()) return
      work()
      world.world.schedule(random.between(least, most), name, turn)
    }
    turn()
  }
  const starting = new Set<Node>()
  again(5, 60, 'write', () => {
    for (const node of world.nodes) {
      const partition = node.running?.table.get(TOPIC_ID, 0)
      if (partition === undefined || partition.notServing !== undefined) continue
      if (partition.isUnderMinInSync) continue
      const value = random.chance(0.4) ? null : `${world.written.length}`.padEnd(40, 'x')
      // Keys are written for a while, and then never again.
      const key = Math.floor(world.written.length / 4) + random.integer(8)
      world.write(node, `k${key}`, value).catch(failed)
    }
  })
  again(20, 250, 'compact', () => world.compactOne(random.pick(world.nodes)).catch(failed))
  again(200, 1500, 'strike', () => {
    const node = random.pick(world.nodes)
    const { value } = world.record()
    const isWhole =
      value.inSyncReplicas.length === 3 && world.nodes.every((other) => other.running !== undefined)
    const kind = random.pick(['move', 'crash', 'wipe', 'cut', 'heal'])
    if (kind === 'cut') world.network.blockBoth(node.host, random.pick(world.nodes).host)
    else if (kind === 'heal') world.network.heal()
    else if (kind === 'move' && value.inSyncReplicas.some(({ broker }) => broker === node.nodeId)) {
      if (node.running !== undefined && isWhole) world.elect(node.nodeId)
    } else if (isWhole && starting.size === 0 && (kind === 'crash' || kind === 'wipe')) {
      if (kind === 'wipe') world.wipe(node)
      else world.crash(node, random.pick(['process', 'power']))
      world.world.schedule(random.between(5, 500), 'expire', () => world.expire(node))
      world.world.schedule(random.between(600, 6000), 'start', () => {
        starting.add(node)
        world.launch(node).then(
          () => starting.delete(node),
          (error: unknown) => world.problems.push(`a start failed: ${String(error)}`),
        )
      })
    }
  })
  await world.run(21_000)
  world.network.heal()
  await world.run(10_000)
  world.control()
  await world.run(5000)
  for (const leader of [1, 2, 3]) {
    await world.moveTo(leader)
    await world.pushOut()
    await world.compact(1, 2, 3)
  }
  for (const node of world.nodes) await judge(world, node)
  expect(Math.min(...world.floors())).toBeGreaterThan(0)
  return world
}

/** For each key what is found is not older than what was acknowledged last; what is not found was deleted. */
async function judge(world: KeyedWorld, node: Node): Promise<void> {
  const state = await world.state(node)
  for (const key of new Set(world.written.map((each) => each.key))) {
    const all = world.written.filter((each) => each.key === key)
    const acked = all.filter((each) => each.offset !== undefined)
    const last = acked.reduce<Written | undefined>(
      (best, each) => ((each.offset ?? -1) > (best?.offset ?? -1) ? each : best),
      undefined,
    )
    if (last?.offset === undefined) continue
    const found = state.get(key)
    const mayBeGone =
      last.value === null || all.some((each) => each.offset === undefined && each.value === null)
    const isRight =
      found === undefined
        ? mayBeGone
        : found.offset > last.offset || (found.offset === last.offset && found.value === last.value)
    if (isRight) continue
    world.problems.push(
      `broker ${node.nodeId}, ${key}: ${JSON.stringify(found)} instead of ${JSON.stringify(last)}`,
    )
  }
}
