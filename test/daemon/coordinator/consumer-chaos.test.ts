/**
 * Groups of the consumer protocol under chaos: members join, leave, pause and die while records flow, the daemon restarts.
 * From one seed a run. Checked at every moment: no partition is taken by a member while another one has it whose session
 * is not over; no committed offset goes back; no record below a committed offset was never read. In the end all are
 * read. Planted bugs prove that each of these would be seen.
 */
import { afterEach, describe, expect, it } from 'vitest'
import { ConsumerGroup } from '../../../daemon/coordinator/consumer-group.ts'
import { ConsumerGroupState } from '../../../daemon/coordinator/consumer-group-state.ts'
import { Cluster } from '../../../src/client/cluster.ts'
import { GroupAdmin } from '../../../src/client/group-admin.ts'
import { SimTime } from '../../sim/sim-time.ts'
import { batchOf } from '../batches.ts'
import { DaemonWorld, ZMQ } from '../daemon-world.ts'
import { ConsumerProtocolMember, type MemberOptions } from './consumer-member.ts'

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
  'group.consumer.session.timeout.ms': `${SESSION_MS}`,
  'group.consumer.heartbeat.interval.ms': '500',
}

class Run {
  readonly w: DaemonWorld
  readonly anomalies: string[] = []
  readonly members: ConsumerProtocolMember[] = []
  readonly produced = new Array<number>(PARTITIONS).fill(0)
  topicId = ''
  claims = 0
  readonly #seen = Array.from({ length: PARTITIONS }, () => new Set<number>())
  readonly #holders = new Map<number, ConsumerProtocolMember>()
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

  join(options: Partial<MemberOptions> = {}): ConsumerProtocolMember {
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
      { groupId: 'g', topic: 't', topicId: this.topicId, ...options },
      {
        claim: (who, partition) => this.#claim(who, partition),
        release: (who, partition) => {
          if (this.#holders.get(partition) === who) this.#holders.delete(partition)
        },
        read: (partition, offset) => this.#seen[partition]?.add(offset),
      },
    )
    member.isDone.catch((error: unknown) => {
      if (!member.isGone) this.anomalies.push(`${member.name}: ${String(error)}`)
    })
    this.members.push(member)
    return member
  }

  #claim(who: ConsumerProtocolMember, partition: number): void {
    this.claims += 1
    const holder = this.#holders.get(partition)
    const nowMs = this.w.world.now
    if (holder !== undefined && holder !== who && holder.beatMs + SESSION_MS > nowMs) {
      this.anomalies.push(`partition ${partition} of ${holder.name} and ${who.name}`)
    }
    this.#holders.set(partition, who)
  }

  async look(): Promise<void> {
    const answer = await this.w.client().call('OffsetFetch', 8, {
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
}

async function chaos(
  seed: string,
  steps: number,
  options: Partial<MemberOptions> = {},
): Promise<Run> {
  const run = new Run(seed)
  const { w } = run
  const random = w.world.random.fork('chaos')
  await run.start()
  let producer = w.client()
  for (let step = 0; step < steps; step += 1) {
    for (let count = 0; count < 4; count += 1) {
      const partition = Math.floor(random.between(0, PARTITIONS))
      const answer = await producer.produce('t', batchOf(['a', 'b', 'c']), { partition })
      if (answer.errorCode === 0) run.produced[partition] = answer.baseOffset + 3
    }
    const alive = run.members.filter(({ isGone }) => !isGone)
    const one = alive.length > 0 ? random.pick(alive) : undefined
    const what = random.pick([
      'join',
      'join',
      'join',
      'leave',
      'pause',
      'die',
      'nothing',
      'nothing',
      'restart',
    ] as const)
    if (what === 'join' && alive.length < 5) run.join(options)
    else if (what === 'leave' && one !== undefined) await w.settle(one.leave())
    else if (what === 'pause' && one !== undefined) one.pausedUntilMs = w.world.now + 9000
    else if (what === 'die' && one !== undefined) one.die()
    else if (what === 'restart' && step % 5 === 4) {
      await w.crashAndRestart({ texts }, random.pick(['power', 'process'] as const))
      producer = w.client()
      await w.run(100)
    }
    await w.run(random.between(50, 2500))
    await run.look()
  }
  run.join(options)
  await w.run(40_000)
  await run.look()
  for (const [partition, end] of run.produced.entries()) run.checkRead(partition, end, 'never read')
  for (const each of run.members) if (!each.isGone) await w.settle(each.leave())
  return run
}

describe('groups of the consumer protocol under chaos', () => {
  it.each(Array.from({ length: 12 }, (_, seed) => `chaos ${seed}`))('%s', async (seed) => {
    const run = await chaos(seed, 40)
    expect(run.anomalies).toEqual([])
    // Rebalances and deaths did happen; how many, the seed decides.
    expect(run.claims).toBeGreaterThan(PARTITIONS)
  })

  it('who joins or leaves moves only what must move', async () => {
    const run = new Run('moves')
    const { w } = run
    await run.start()
    const counts = () => run.members.map(({ owned }) => owned.size)
    const moves = () => run.members.map(({ gaveBack }) => gaveBack)
    run.join()
    await w.run(3000)
    expect(counts()).toEqual([6])
    run.join()
    await w.run(3000)
    expect([counts(), moves()]).toEqual([
      [3, 3],
      [3, 0],
    ])
    const third = run.join()
    await w.run(3000)
    expect([counts(), moves()]).toEqual([
      [2, 2, 2],
      [4, 1, 0],
    ])
    await w.settle(third.leave())
    await w.run(3000)
    expect([counts().slice(0, 2), moves().slice(0, 2)]).toEqual([
      [3, 3],
      [4, 1],
    ])
    expect(run.anomalies).toEqual([])
  })

  it('our own tools list it and describe who has what', async () => {
    const run = new Run('described')
    const { w } = run
    await run.start()
    run.join()
    run.join({ instanceId: 'two' })
    await w.run(5000)
    const time = new SimTime(w.world, { name: 'admin' })
    const random = w.world.random.fork('admin')
    const cluster = new Cluster(time, random, w.network.host('admin'), quiet, { addresses: [ZMQ] })
    await w.settle(cluster.connect())
    const admin = new GroupAdmin(time, random, cluster)
    expect(await w.settle(admin.list())).toEqual([
      { groupId: 'g', protocolType: 'consumer', state: 'Stable' },
    ])
    expect(await w.settle(admin.describe('g'))).toEqual({
      groupId: 'g',
      state: 'Stable',
      protocolType: 'consumer',
      members: run.members.map(({ name, owned }, index) => ({
        memberId: name,
        instanceId: index === 1 ? 'two' : null,
        clientId: 'stream',
        host: name,
        partitions: [{ topic: 't', partitions: [...owned].sort() }],
      })),
    })
    expect(await w.settle(admin.describe('none'))).toBe(undefined)
    expect((await w.settle(admin.delete('g'))).error?.code).toBe('CONFLICT')
    for (const member of run.members) await w.settle(member.leave())
    expect((await w.settle(admin.delete('g'))).error).toBe(undefined)
    expect(await w.settle(admin.list())).toEqual([])
  })

  it('a static member that comes back moves nothing', async () => {
    const run = new Run('static')
    const { w } = run
    await run.start()
    const a = run.join({ instanceId: 'one' })
    const b = run.join({ instanceId: 'two' })
    await w.run(5000)
    expect([a.owned.size, b.owned.size]).toEqual([3, 3])
    const before = { owned: [...b.owned].sort(), epoch: a.epoch, gaveBack: a.gaveBack }
    await w.settle(b.leave(true))
    await w.run(2000)
    const again = run.join({ instanceId: 'two' })
    await w.run(2000)
    expect([...again.owned].sort()).toEqual(before.owned)
    expect([a.epoch, a.gaveBack]).toEqual([before.epoch, before.gaveBack])
    expect(run.anomalies).toEqual([])
  })

  it('a hundred members come to a stable group and each has its share', async () => {
    const run = new Run('hundred')
    const { w } = run
    await run.start()
    await w.client().create('wide', { partitions: 300 })
    const topicId = (
      await w.client().call('Metadata', 12, {
        topics: [{ name: 'wide', topicId: 'AAAAAAAAAAAAAAAAAAAAAA' }],
      })
    ).topics[0]!.topicId
    for (let count = 0; count < 100; count += 1) run.join({ topic: 'wide', topicId })
    await w.run(20_000)
    expect(run.members.every(({ owned }) => owned.size === 3)).toBe(true)
    const before = run.members.reduce((sum, { gaveBack }) => sum + gaveBack, 0)
    await w.settle(run.members[0]!.leave())
    await w.run(10_000)
    const after = run.members.reduce((sum, { gaveBack }) => sum + gaveBack, 0)
    // What the leaver gave back, and nothing else.
    expect(after - before).toBe(3)
  })
})

describe('planted bugs are seen', () => {
  const { ownerOf } = ConsumerGroupState.prototype
  const { checkEpoch } = ConsumerGroup.prototype
  afterEach(() => {
    ConsumerGroupState.prototype.ownerOf = ownerOf
    ConsumerGroup.prototype.checkEpoch = checkEpoch
  })

  async function seen(pattern: RegExp, options: Partial<MemberOptions> = {}): Promise<boolean> {
    for (let seed = 0; seed < 12; seed += 1) {
      const { anomalies } = await chaos(`chaos ${seed}`, 40, options)
      if (anomalies.some((each) => pattern.test(each))) return true
    }
    return false
  }

  it('a partition that is given before it is given back', async () => {
    ConsumerGroupState.prototype.ownerOf = () => undefined
    expect(await seen(/^partition \d+ of m\d+ and m\d+$/)).toBe(true)
  })

  it('a commit of a member whose epoch is over', async () => {
    ConsumerGroup.prototype.checkEpoch = () => 0
    expect(await seen(/goes back/)).toBe(true)
  })

  it('a commit of what was not read', async () => {
    expect(await seen(/was lost/, { commitsAhead: 1 })).toBe(true)
  })
})
