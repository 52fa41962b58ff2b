/**
 * Groups under chaos: members of our own client join, leave, pause and die while records flow, the daemon restarts. From
 * one seed a run. Checked: no partition is owned by two members of one generation, no committed offset goes back, no
 * record below a committed offset was never read, and in the end all are read.
 */
import { afterEach, describe, expect, it } from 'vitest'
import { ClassicGroup } from '../../../daemon/coordinator/classic-group.ts'
import type { SyncAnswer } from '../../../daemon/coordinator/group-member.ts'
import { KafkaError } from '../../../src/protocol/errors.ts'
import { batchOf } from '../batches.ts'
import { DaemonWorld } from '../daemon-world.ts'
import { Worker, type WorkerListener, type WorkerOptions } from './classic-worker.ts'

const PARTITIONS = 6
const texts = { 'group.initial.rebalance.delay.ms': '100', 'offsets.topic.num.partitions': '2' }

class Run implements WorkerListener {
  readonly w: DaemonWorld
  readonly anomalies: string[] = []
  readonly seen = Array.from({ length: PARTITIONS }, () => new Set<number>())
  readonly owners = new Map<number, Map<string, string>>()
  readonly produced = new Array<number>(PARTITIONS).fill(0)
  events = 0
  readTwice = 0

  constructor(seed: string) {
    this.w = new DaemonWorld(seed)
  }

  join(name: string, options: WorkerOptions = {}): Worker {
    return new Worker(this.w, name, options, this)
  }

  assigned({ name, member }: Worker): void {
    this.events += 1
    this.#claim(member.generation, name, member.owned)
  }

  revoked(): void {
    this.events += 1
  }

  read(partition: number, offset: number): void {
    if (this.seen[partition]?.has(offset)) this.readTwice += 1
    this.seen[partition]?.add(offset)
  }

  failed({ name }: Worker, error: unknown): void {
    this.anomalies.push(`${name}: ${String(error)}`)
  }

  #claim(generation: number, member: string, partitions: readonly { partition: number }[]): void {
    const owners = this.owners.get(generation) ?? new Map<string, string>()
    this.owners.set(generation, owners)
    for (const { partition } of partitions) {
      const other = owners.get(`${partition}`)
      if (other !== undefined && other !== member) {
        this.anomalies.push(`partition ${partition} of ${other} and ${member} in ${generation}`)
      }
      owners.set(`${partition}`, member)
    }
  }
}

async function committed(run: Run): Promise<Map<number, number>> {
  const client = run.w.client()
  const answer = await client.call('OffsetFetch', 8, {
    groups: [{ groupId: 'g', topics: null }],
    requireStable: false,
  })
  const offsets = new Map<number, number>()
  if (answer.groups[0]!.errorCode !== 0) return offsets
  for (const { partitions } of answer.groups[0]!.topics) {
    for (const row of partitions) offsets.set(row.partitionIndex, row.committedOffset)
  }
  return offsets
}

async function chaos(seed: string, steps: number, options: WorkerOptions = {}): Promise<Run> {
  const run = new Run(seed)
  const { w } = run
  const random = w.world.random.fork('chaos')
  await w.start({ texts })
  let producer = w.client()
  await producer.create('t', { partitions: PARTITIONS })
  await producer.call('FindCoordinator', 0, { key: 'g' })
  const workers: Worker[] = []
  let names = 0
  const high = new Map<number, number>()
  const look = async (): Promise<void> => {
    for (const [partition, offset] of await committed(run)) {
      if (offset < (high.get(partition) ?? 0))
        run.anomalies.push(`partition ${partition} goes back to ${offset}`)
      high.set(partition, offset)
      for (let below = 0; below < offset; below += 1) {
        if (!run.seen[partition]!.has(below))
          run.anomalies.push(`offset ${below} of ${partition} was lost`)
      }
    }
  }
  for (let step = 0; step < steps; step += 1) {
    for (let count = 0; count < 4; count += 1) {
      const partition = Math.floor(random.between(0, PARTITIONS))
      const answer = await producer.produce('t', batchOf(['a', 'b', 'c']), { partition })
      if (answer.errorCode === 0) run.produced[partition] = answer.baseOffset + 3
    }
    const alive = workers.filter((each) => !each.isDead)
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
    const one = alive.length > 0 ? random.pick(alive) : undefined
    if (what === 'join' && alive.length < 5) {
      names += 1
      workers.push(run.join(`m${names}`, options))
    } else if (what === 'leave' && one !== undefined) await w.settle(one.leave())
    else if (what === 'pause' && one !== undefined) one.pausedUntilMs = w.world.now + 9000
    else if (what === 'die' && one !== undefined) one.die()
    else if (what === 'restart' && step % 5 === 4) {
      await w.crashAndRestart({ texts }, random.pick(['power', 'process'] as const))
      producer = w.client()
      await w.run(100)
    }
    await w.run(random.between(50, 2500))
    await look()
  }
  names += 1
  workers.push(run.join(`m${names}`, options))
  await w.run(40_000)
  await look()
  for (const [partition, end] of run.produced.entries()) {
    for (let offset = 0; offset < end; offset += 1) {
      if (!run.seen[partition]!.has(offset))
        run.anomalies.push(`offset ${offset} of ${partition} was never read`)
    }
  }
  for (const each of workers) if (!each.isDead) await w.settle(each.leave())
  return run
}

describe('groups under chaos', () => {
  it.each(Array.from({ length: 12 }, (_, seed) => `chaos ${seed}`))('%s', async (seed) => {
    const run = await chaos(seed, 40)
    expect(run.anomalies).toEqual([])
    // Rebalances and deaths did happen; how many, the seed decides.
    expect(run.events).toBeGreaterThan(3)
  })

  it('a static member that comes back moves nothing', async () => {
    const run = new Run('static')
    const { w } = run
    await w.start({ texts })
    const client = w.client()
    await client.create('t', { partitions: PARTITIONS })
    const a = run.join('a', { instanceId: 'one' })
    const b = run.join('b', { instanceId: 'two' })
    await w.run(10_000)
    expect([a.member.owned.length, b.member.owned.length]).toEqual([3, 3])
    const before = { events: run.events, generation: a.member.generation, owned: b.member.owned }
    b.die()
    await w.run(2000)
    const again = run.join('b2', { instanceId: 'two' })
    await w.run(3000)
    expect(again.member.owned).toEqual(before.owned)
    expect(again.member.generation).toBe(before.generation)
    expect(a.gaveBack).toBe(0)
    // Its own first assignment and nothing else.
    expect(run.events).toBe(before.events + 1)
  })

  it('cooperative: who joins or leaves moves only what must move', async () => {
    const run = new Run('cooperative')
    const { w } = run
    await w.start({ texts })
    await w.client().create('t', { partitions: PARTITIONS })
    const a = run.join('a')
    await w.run(5000)
    expect(a.member.owned).toHaveLength(6)
    const b = run.join('b')
    await w.run(5000)
    expect([a.member.owned.length, b.member.owned.length, a.gaveBack]).toEqual([3, 3, 3])
    const c = run.join('c')
    await w.run(5000)
    expect([a.member.owned.length, b.member.owned.length, c.member.owned.length]).toEqual([2, 2, 2])
    expect([a.gaveBack, b.gaveBack, c.gaveBack]).toEqual([4, 1, 0])
    await w.settle(c.leave())
    await w.run(5000)
    expect([a.member.owned.length, b.member.owned.length]).toEqual([3, 3])
    expect([a.gaveBack, b.gaveBack]).toEqual([4, 1])
  })

  it('a commit on its way while the member joins again loses it nothing', async () => {
    const run = new Run('commit and join')
    const { w } = run
    await w.start({ texts })
    const client = w.client()
    await client.create('t', { partitions: PARTITIONS })
    await client.create('u')
    const a = run.join('a')
    await w.run(5000)
    const refused: unknown[] = []
    for (let round = 0; round < 200; round += 1) {
      const { generation } = a.member
      a.member.setTopics(round % 2 === 0 ? ['t', 'u'] : ['t'])
      // From before the join is on its way to after its answer.
      await w.run(round / 50)
      const offsets = [{ topic: 't', partition: 0, offset: round + 1 }]
      void a.member.commit(offsets).catch((error: unknown) => refused.push(error))
      await w.run(1000)
      expect(a.member.generation).toBeGreaterThan(generation)
    }
    expect(run.anomalies).toEqual([])
    expect(a.lost).toBe(0)
    expect(a.member.owned.filter(({ topic }) => topic === 't')).toHaveLength(PARTITIONS)
    // Of the generation before: made again they are taken.
    expect(refused.length).toBeGreaterThan(0)
    for (const error of refused) {
      expect(error).toMatchObject({ kafkaError: KafkaError.REBALANCE_IN_PROGRESS })
    }
  })

  it('a group that turns eager, and cooperative again, reads nothing twice', async () => {
    const run = new Run('turns')
    const { w } = run
    await w.start({ texts })
    const client = w.client()
    await client.create('t', { partitions: PARTITIONS })
    const flow = async (steps: number): Promise<void> => {
      for (let step = 0; step < steps; step += 1) {
        const partition = step % PARTITIONS
        const { baseOffset } = await client.produce('t', batchOf(['a', 'b', 'c']), { partition })
        run.produced[partition] = baseOffset + 3
        await w.run(20)
      }
    }
    const workers = ['a', 'b', 'c'].map((name) => run.join(name))
    await flow(400)
    for (let round = 0; round < 5; round += 1) {
      const eager = run.join(`eager ${round}`, { assignors: ['range'] })
      await flow(300)
      const shares = [...workers, eager].map((each) => each.member.owned.length)
      expect(shares.sort()).toEqual([1, 1, 2, 2])
      await w.settle(eager.leave())
      await flow(300)
      expect(workers.map((each) => each.member.owned.length)).toEqual([2, 2, 2])
    }
    await w.run(5000)
    expect(run.seen.map(({ size }) => size)).toEqual(run.produced)
    expect(run.anomalies).toEqual([])
    expect(workers.map(({ lost }) => lost)).toEqual([0, 0, 0])
    expect(run.readTwice).toBe(0)
  })

  it('eager: all partitions are shared out again, and each has one reader', async () => {
    const run = new Run('eager')
    const { w } = run
    await w.start({ texts })
    await w.client().create('t', { partitions: PARTITIONS })
    const workers = ['a', 'b', 'c'].map((name) => run.join(name, { assignors: ['range'] }))
    await w.run(8000)
    expect(workers.map((each) => each.member.owned.length)).toEqual([2, 2, 2])
    workers[0]?.die()
    await w.run(20_000)
    expect(workers.slice(1).map((each) => each.member.owned.length)).toEqual([3, 3])
    expect(run.anomalies).toEqual([])
  })
})

describe('planted bugs are seen', () => {
  const { sync } = ClassicGroup.prototype
  afterEach(() => {
    ClassicGroup.prototype.sync = sync
  })

  async function seen(pattern: RegExp, options: WorkerOptions = {}): Promise<boolean> {
    for (let seed = 0; seed < 12; seed += 1) {
      const { anomalies } = await chaos(`chaos ${seed}`, 40, options)
      if (anomalies.some((each) => pattern.test(each))) return true
    }
    return false
  }

  /** What members are told of their assignment is another one. */
  function assign(change: (answer: SyncAnswer) => SyncAnswer): void {
    ClassicGroup.prototype.sync = function (nowMs, request, reply) {
      sync.call(this, nowMs, request, (answer) => reply(change(answer)))
    }
  }

  it('two members that are told the same share', async () => {
    let last: SyncAnswer | undefined
    assign((answer) => {
      if (answer.errorCode === 0 && answer.assignment.length > 0) last ??= answer
      return answer.errorCode === 0 && last !== undefined ? last : answer
    })
    expect(await seen(/^partition \d+ of m\d+ and m\d+ in \d+$/)).toBe(true)
  })

  it('a share that nobody is told of', async () => {
    assign((answer) => ({ ...answer, assignment: new Uint8Array(0) }))
    expect(await seen(/was never read/)).toBe(true)
  })

  it('a commit of what was committed before', async () => {
    expect(await seen(/goes back/, { shift: (count) => (count % 3 === 0 ? -1 : 0) })).toBe(true)
  })

  it('a commit of what was not read', async () => {
    expect(await seen(/was lost/, { shift: () => 1 })).toBe(true)
  })
})
