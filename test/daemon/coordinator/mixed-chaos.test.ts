/**
 * Groups with members of both protocols under chaos: classic ones (eager and cooperative) and ones of the consumer
 * protocol join, leave, pause and die while records flow, the daemon restarts; the group changes its protocol again and
 * again. From one seed a run. Checked: no partition is taken by a member while another one reads it; no committed offset
 * goes back; no record below a committed offset was never read; in the end all are read. Planted bugs are seen.
 */
import { afterEach, describe, expect, it } from 'vitest'
import { ConsumerGroup } from '../../../daemon/coordinator/consumer-group.ts'
import { ConsumerGroupState } from '../../../daemon/coordinator/consumer-group-state.ts'
import { Cluster } from '../../../src/client/cluster.ts'
import type { GroupPartition } from '../../../src/client/group-offsets.ts'
import { SimTime } from '../../sim/sim-time.ts'
import { batchOf } from '../batches.ts'
import { DaemonWorld, ZMQ } from '../daemon-world.ts'
import { Worker, type WorkerListener } from './classic-worker.ts'
import { ConsumerProtocolMember } from './consumer-member.ts'

const quiet = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
}
const PARTITIONS = 6
const SESSION_MS = 6000
const texts = {
  'offsets.topic.num.partitions': '2',
  'group.initial.rebalance.delay.ms': '100',
  'group.consumer.session.timeout.ms': `${SESSION_MS}`,
  'group.consumer.heartbeat.interval.ms': '500',
}

type Member = ConsumerProtocolMember | Worker

class Run implements WorkerListener {
  readonly w: DaemonWorld
  readonly anomalies: string[] = []
  readonly members: Member[] = []
  readonly produced = new Array<number>(PARTITIONS).fill(0)
  /** What the group was at each look. */
  readonly types = new Set<string>()
  topicId = ''
  lost = 0
  readonly #seen = Array.from({ length: PARTITIONS }, () => new Set<number>())
  readonly #holders = new Map<number, Member>()
  readonly #high = new Map<number, number>()

  constructor(seed: string) {
    this.w = new DaemonWorld(seed)
  }

  async start(): Promise<void> {
    await this.w.start({ texts })
    const client = this.w.client()
    this.topicId = (await client.create('t', { partitions: PARTITIONS })).topicId
    await client.call('FindCoordinator', 0, { key: 'g' })
  }

  get alive(): readonly Member[] {
    return this.members.filter((member) => !isGone(member))
  }

  joinClassic(assignor: 'range' | 'cooperative-sticky', instanceId?: string): Worker {
    const options = {
      assignors: [...new Set([assignor, 'range' as const])],
      ...(instanceId === undefined ? {} : { instanceId }),
    }
    const worker = new Worker(this.w, `m${this.members.length}`, options, this)
    this.members.push(worker)
    return worker
  }

  join(instanceId?: string): ConsumerProtocolMember {
    const { world, network } = this.w
    const name = `m${this.members.length}`
    const time = new SimTime(world, { name })
    const random = world.random.fork(name)
    const cluster = new Cluster(time, random, network.host(name), quiet, {
      addresses: [ZMQ],
      connectTimeoutMs: 600_000,
      requestTimeoutMs: 3000,
    })
    const crash = (): void => {
      time.halt()
      network.crash(name)
    }
    const member = new ConsumerProtocolMember(
      { time, random, cluster, crash },
      name,
      {
        groupId: 'g',
        topic: 't',
        topicId: this.topicId,
        ...(instanceId === undefined ? {} : { instanceId }),
      },
      {
        claim: (who, partition) => this.#claim(who, partition),
        release: (who, partition) => this.#release(who, partition),
        read: (partition, offset) => this.read(partition, offset),
      },
    )
    member.isDone.catch((error: unknown) => {
      if (!member.isGone) this.anomalies.push(`${member.name}: ${String(error)}`)
    })
    this.members.push(member)
    return member
  }

  assigned(worker: Worker, partitions: readonly GroupPartition[]): void {
    for (const { partition } of partitions) this.#claim(worker, partition)
  }

  revoked(worker: Worker, partitions: readonly GroupPartition[], isLost: boolean): void {
    if (isLost) this.lost += partitions.length
    for (const { partition } of partitions) this.#release(worker, partition)
  }

  failed(worker: Worker, error: unknown): void {
    if (!worker.isDead) this.anomalies.push(`${worker.name}: ${String(error)}`)
  }

  read(partition: number, offset: number): void {
    this.#seen[partition]?.add(offset)
  }

  #claim(who: Member, partition: number): void {
    const holder = this.#holders.get(partition)
    if (holder !== undefined && holder !== who && this.#reads(holder)) {
      this.anomalies.push(`partition ${partition} of ${holder.name} and ${who.name}`)
    }
    this.#holders.set(partition, who)
  }

  #release(who: Member, partition: number): void {
    if (this.#holders.get(partition) === who) this.#holders.delete(partition)
  }

  /** As far as the group has to know. */
  #reads(member: Member): boolean {
    if (isGone(member)) return false
    if (member instanceof Worker) return true
    return member.beatMs + SESSION_MS > this.w.world.now
  }

  async look(): Promise<void> {
    const client = this.w.client()
    const { groups } = await client.call('ListGroups', 5, { statesFilter: [], typesFilter: [] })
    for (const { groupType, groupState } of groups) {
      if (groupState !== 'Empty') this.types.add(groupType)
    }
    const answer = await client.call('OffsetFetch', 8, {
      groups: [{ groupId: 'g', topics: null }],
      requireStable: false,
    })
    if (answer.groups[0]?.errorCode !== 0) return
    for (const { partitions } of answer.groups[0].topics) {
      for (const { partitionIndex: partition, committedOffset: offset } of partitions) {
        if (offset < (this.#high.get(partition) ?? 0)) {
          this.anomalies.push(`partition ${partition} goes back to ${offset}`)
        }
        this.#high.set(partition, offset)
        this.checkRead(partition, offset, 'was lost')
      }
    }
  }

  checkRead(partition: number, end: number, what: string): void {
    for (let offset = 0; offset < end; offset += 1) {
      if (!this.#seen[partition]?.has(offset)) {
        this.anomalies.push(`offset ${offset} of ${partition} ${what}`)
      }
    }
  }

  /** Partitions of each that is there, in the order of joining. */
  get shares(): readonly number[] {
    return this.alive.map((member) =>
      member instanceof Worker ? member.member.owned.length : member.owned.size,
    )
  }
}

function isGone(member: Member): boolean {
  return member instanceof Worker ? member.isDead : member.isGone
}

async function chaos(seed: string, steps: number): Promise<Run> {
  const run = new Run(seed)
  const { w } = run
  const random = w.world.random.fork('chaos')
  // A restart forgets which protocols members know besides the one in use (as Kafka does), and refuses others.
  const classic = random.pick(['range', 'cooperative-sticky', 'both'] as const)
  const joinClassic = (): Worker =>
    run.joinClassic(
      classic === 'both' ? random.pick(['range', 'cooperative-sticky'] as const) : classic,
    )
  await run.start()
  let producer = w.client()
  for (let step = 0; step < steps; step += 1) {
    for (let count = 0; count < 4; count += 1) {
      const partition = Math.floor(random.between(0, PARTITIONS))
      const answer = await producer.produce('t', batchOf(['a', 'b', 'c']), { partition })
      if (answer.errorCode === 0) run.produced[partition] = answer.baseOffset + 3
    }
    const { alive } = run
    const one = alive.length > 0 ? random.pick(alive) : undefined
    const what = random.pick([
      'classic',
      'classic',
      'consumer',
      'leave',
      'leave',
      'pause',
      'die',
      'nothing',
      'restart',
    ] as const)
    if (what === 'classic' && alive.length < 5) joinClassic()
    else if (what === 'consumer' && alive.length < 5) run.join()
    else if (what === 'leave' && one !== undefined) await w.settle(one.leave())
    else if (what === 'pause' && one !== undefined) {
      const { now } = w.world
      // A classic one has its rebalance timeout of 8 s to give back in: one pause, not two in a row.
      if (!(one instanceof Worker)) one.pausedUntilMs = now + 9000
      else if (one.pausedUntilMs + 5000 < now) one.pausedUntilMs = now + 5000
    } else if (what === 'die' && one !== undefined) one.die()
    else if (what === 'restart' && step % 3 === 2 && classic !== 'both') {
      await w.crashAndRestart({ texts }, random.pick(['power', 'process'] as const))
      producer = w.client()
      await w.run(100)
    }
    await w.run(random.between(50, 2500))
    await run.look()
  }
  joinClassic()
  run.join()
  await w.run(40_000)
  await run.look()
  for (const [partition, end] of run.produced.entries()) run.checkRead(partition, end, 'never read')
  for (const each of run.alive) await w.settle(each.leave())
  return run
}

const seeds = Array.from({ length: 12 }, (_, seed) => `mixed ${seed}`)

describe('groups of both protocols under chaos', () => {
  it.each(seeds)('%s', async (seed) => {
    const run = await chaos(seed, 50)
    expect(run.anomalies).toEqual([])
    expect([...run.types].sort()).toEqual(['classic', 'consumer'])
  })

  it.each(['range', 'cooperative-sticky'] as const)(
    'members go over to the consumer protocol one by one, and back: %s',
    async (assignor) => {
      const run = new Run(`over ${assignor}`)
      const { w } = run
      await run.start()
      for (let count = 0; count < 3; count += 1) run.joinClassic(assignor)
      await w.run(8000)
      expect(run.shares).toEqual([2, 2, 2])
      await run.look()
      for (let count = 0; count < 3; count += 1) {
        await w.settle(run.alive[0]!.leave())
        run.join()
        await w.run(8000)
        expect(run.shares).toEqual([2, 2, 2])
        await run.look()
        expect([...run.types]).toEqual(['classic', 'consumer'])
      }
      for (let count = 0; count < 3; count += 1) {
        await w.settle(run.alive[0]!.leave())
        run.joinClassic(assignor)
        await w.run(8000)
        expect(run.shares).toEqual([2, 2, 2])
      }
      run.types.clear()
      await run.look()
      expect([...run.types]).toEqual(['classic'])
      // Nobody was put out: each change was a rebalance.
      expect(run.lost).toBe(0)
      expect(run.anomalies).toEqual([])
    },
  )

  it('a static member goes over in its place', async () => {
    const run = new Run('static')
    const { w } = run
    await run.start()
    const a = run.joinClassic('range', 'one')
    const b = run.joinClassic('range', 'two')
    await w.run(8000)
    expect(run.shares).toEqual([3, 3])
    a.die()
    run.join('one')
    await w.run(8000)
    expect(run.shares).toEqual([3, 3])
    b.die()
    run.join('two')
    await w.run(8000)
    expect(run.shares).toEqual([3, 3])
    await run.look()
    expect([...run.types]).toEqual(['consumer'])
    expect(run.anomalies).toEqual([])
  })
})

describe('planted bugs are seen', () => {
  const { ownerOf } = ConsumerGroupState.prototype
  const { heartbeat, adopt } = ConsumerGroup.prototype
  afterEach(() => {
    ConsumerGroupState.prototype.ownerOf = ownerOf
    ConsumerGroup.prototype.heartbeat = heartbeat
    ConsumerGroup.prototype.adopt = adopt
  })

  async function seen(pattern: RegExp): Promise<boolean> {
    for (const seed of seeds) {
      const { anomalies } = await chaos(seed, 50)
      if (anomalies.some((each) => pattern.test(each))) return true
    }
    return false
  }

  it('a partition that is given before it is given back', async () => {
    ConsumerGroupState.prototype.ownerOf = () => undefined
    expect(await seen(/^partition \d+ of m\d+ and m\d+$/)).toBe(true)
  })

  it('a classic member that is taken to have given back what it still has', async () => {
    ConsumerGroup.prototype.heartbeat = function (nowMs, request) {
      const isClassic = request.classic !== null
      return heartbeat.call(this, nowMs, isClassic ? { ...request, owned: new Map() } : request)
    }
    expect(await seen(/^partition \d+ of m\d+ and m\d+$/)).toBe(true)
  })

  it('classic members that come over with empty hands', async () => {
    ConsumerGroup.prototype.adopt = function (nowMs, changes) {
      const emptied = changes.map((change) =>
        change.kind === 'progress' && change.value !== undefined
          ? { ...change, value: { ...change.value, assigned: new Map() } }
          : change,
      )
      adopt.call(this, nowMs, emptied)
    }
    expect(await seen(/^partition \d+ of m\d+ and m\d+$/)).toBe(true)
  })
})
