/**
 * One simulated run of transactions and groups: senders, transactions that read and write, readers by assignment and members of
 * a group work on one topic while the daemon and they die, links are lost and requests come twice. In the end everything is
 * read once more, and all that anybody did and saw is judged (operations.ts).
 */
import { Cluster } from '../../src/client/cluster.ts'
// Loaded late by clients: the first run of a process would wait for the file, and be another one than the second.
import '../../src/client/login-question.ts'
import { Consumer } from '../../src/client/consumer.ts'
import type { Disk } from '../../src/ports/disk.ts'
import { DaemonWorld, KAFKA, ZMQ } from '../daemon/daemon-world.ts'
import {
  type CommitSeen,
  judgeOperations,
  type Moved,
  type Operation,
  type OperationAnomaly,
  type Poll,
} from './operations.ts'
import {
  type ClientBugs,
  GROUP,
  pollOf,
  Reader,
  Sender,
  Subscriber,
  type Surroundings,
  TOPIC,
  Transactor,
} from './operations-clients.ts'
import { quiet } from './sim-clients.ts'
import { SimTime } from './sim-time.ts'

/** A bug put in on purpose, to prove that the judge sees what it leads to. */
export interface OperationBug extends ClientBugs {
  wrapDisk?(disk: Disk): Disk
  /** Changes the code for the time of a run. @returns what takes it back */
  plant?(): () => void
}

export interface OperationRunOptions {
  readonly bug?: OperationBug
  readonly keepsTrace?: boolean
}

export interface OperationRunResult {
  readonly seed: number
  readonly traceHash: string
  readonly anomalies: readonly OperationAnomaly[]
  readonly fired: Readonly<Record<string, number>>
  /** Operations. */
  readonly records: number
  readonly events: number
  readonly trace: readonly string[]
  readonly operations: readonly (Operation | Moved)[]
}

const texts = {
  'transaction.state.log.num.partitions': '2',
  'offsets.topic.num.partitions': '2',
  'group.initial.rebalance.delay.ms': '100',
  'transaction.abort.timed.out.transaction.cleanup.interval.ms': '500',
}
/** Longer than the timeout of a transaction and a session. */
const CALM_MS = 20_000
const FINAL_MS = 120_000

export async function runOperations(
  seed: number,
  options: OperationRunOptions = {},
): Promise<OperationRunResult> {
  const undo = options.bug?.plant?.()
  try {
    const run = new OperationRun(seed, options)
    await run.play()
    return run.result()
  } finally {
    undo?.()
  }
}

class OperationRun {
  readonly #seed: number
  readonly #w: DaemonWorld
  readonly #around: Surroundings
  readonly #operations: (Operation | Moved)[] = []
  readonly #commits: CommitSeen[] = []
  readonly #fired: Record<string, number> = {}
  readonly #transactors = new Set<Transactor>()
  readonly #subscribers = new Set<Subscriber>()
  #values = 0
  #lives = 0
  #isTroubled = true
  #final: readonly Poll[] = []
  #open: readonly string[] = []

  constructor(seed: number, { bug = {}, keepsTrace }: OperationRunOptions) {
    this.#seed = seed
    this.#w = new DaemonWorld(seed, keepsTrace)
    if (bug.wrapDisk !== undefined) this.#w.wrapDisk = bug.wrapDisk
    const random = this.#w.world.random.fork('operations')
    this.#around = {
      w: this.#w,
      addresses: [seed % 2 === 0 ? ZMQ : KAFKA],
      partitions: 1 + random.integer(3),
      bugs: bug,
      operations: this.#operations,
      asked: [],
      random,
    }
  }

  async play(): Promise<void> {
    const { random, partitions } = this.#around
    await this.#w.start({ texts })
    await this.#w.client().create(TOPIC, {
      partitions,
      config: { 'internal.segment.bytes': `${random.pick([2000, 1_000_000])}` },
    })
    const { faults } = this.#w.network
    if (random.chance(0.5)) faults.loseLink = 0.01
    if (random.chance(0.5)) faults.duplicate = 0.05
    if (random.chance(0.5)) faults.spike = 0.03
    const work = Promise.all([
      this.#send(),
      this.#transact('x'),
      this.#transact('y'),
      this.#read(),
      this.#subscribe(),
      this.#subscribe(),
    ])
    let isDone = false
    work.then(
      () => {
        isDone = true
      },
      () => {
        isDone = true
      },
    )
    for (let strikes = 0; strikes < 8 && !isDone; strikes += 1) {
      await this.#w.run(random.between(50, 1500))
      await this.#strike()
      await this.#look()
    }
    this.#isTroubled = false
    this.#w.network.calm()
    await this.#w.settle(work)
    await this.#w.run(CALM_MS)
    await this.#look()
    await this.#readAll()
  }

  result(): OperationRunResult {
    const { world, network } = this.#w
    const history = {
      operations: this.#operations,
      final: this.#final,
      commits: this.#commits,
      ...(this.#w.network.fired.duplicate > 0 ? { asked: this.#around.asked } : {}),
      open: this.#open,
    }
    return {
      seed: this.#seed,
      traceHash: world.traceHash,
      anomalies: judgeOperations(history),
      fired: { ...this.#fired, ...network.fired, ...this.#outcomes() },
      records: this.#operations.length,
      events: world.eventCount,
      trace: world.trace,
      operations: this.#operations,
    }
  }

  #outcomes(): Record<string, number> {
    const counts: Record<string, number> = {}
    for (const each of this.#operations) {
      if ('moved' in each || !each.isTransaction) continue
      const name = `transaction ${each.outcome}`
      counts[name] = (counts[name] ?? 0) + 1
    }
    return counts
  }

  // --- trouble

  #count(name: string): void {
    this.#fired[name] = (this.#fired[name] ?? 0) + 1
  }

  async #strike(): Promise<void> {
    const { random } = this.#around
    const what = random.pick([
      'power',
      'process',
      'kill',
      'kill',
      'leave',
      'freeze',
      'none',
    ] as const)
    if (what === 'power' || what === 'process') {
      await this.#w.crash(what)
      await this.#w.run(random.between(1, 500))
      await this.#w.start({ texts })
    } else if (what === 'kill' && this.#transactors.size > 0) {
      this.#end(this.#transactors, random.pick([...this.#transactors]))
    } else if (what === 'leave' && this.#subscribers.size > 0) {
      this.#end(this.#subscribers, random.pick([...this.#subscribers]))
    } else if (what === 'freeze' && this.#subscribers.size > 0) {
      random.pick([...this.#subscribers]).freeze(random.between(1000, 9000))
    }
    this.#count(what)
  }

  #end<L extends Transactor | Subscriber>(lives: Set<L>, life: L): void {
    lives.delete(life)
    life.die()
    this.#deaths.get(life)?.()
  }

  readonly #deaths = new Map<object, () => void>()

  /** Until it is done, or killed. */
  async #live<L extends Transactor | Subscriber>(
    lives: Set<L>,
    life: L,
    work: Promise<void>,
  ): Promise<void> {
    lives.add(life)
    const dead = new Promise<void>((resolve) => {
      this.#deaths.set(life, resolve)
    })
    work.catch(() => undefined)
    await Promise.race([dead, work.catch(() => undefined)])
    lives.delete(life)
  }

  // --- clients

  #name(kind: string): string {
    this.#lives += 1
    return `${kind}${this.#lives}`
  }

  readonly #nextValue = (): string => {
    this.#values += 1
    return `${this.#values}`
  }

  async #send(): Promise<void> {
    await new Sender(this.#around, this.#name('sender')).run(25, this.#nextValue)
  }

  async #transact(id: string): Promise<void> {
    const { random, operations } = this.#around
    const wanted = 12
    const done = (): number =>
      operations.filter((each) => !('moved' in each) && each.process.startsWith(id)).length
    // A successor takes the id over while its predecessor may still be at work.
    for (let lives = 0; done() < wanted && lives < 100; lives += 1) {
      const life = new Transactor(this.#around, this.#name(id))
      const work = life.run(1 + random.integer(wanted), id, this.#nextValue)
      await this.#live(this.#transactors, life, work)
    }
  }

  async #read(): Promise<void> {
    for (let lives = 0; lives < 3; lives += 1) {
      const reader = new Reader(this.#around, this.#name('reader'))
      await reader.run(this.#around.random.between(500, 4000))
    }
  }

  async #subscribe(): Promise<void> {
    do {
      const life = new Subscriber(this.#around, this.#name('member'))
      const work = life.run(this.#around.random.between(1000, 8000))
      await this.#live(this.#subscribers, life, work)
    } while (this.#isTroubled)
  }

  // --- looking

  async #look(): Promise<void> {
    const client = this.#w.client()
    const answer = await client
      .call('OffsetFetch', 8, { groups: [{ groupId: GROUP, topics: null }], requireStable: false })
      .catch(() => undefined)
    const found = answer?.groups[0]
    if (found?.errorCode !== 0) return
    for (const { partitions } of found.topics) {
      for (const { partitionIndex, committedOffset: offset } of partitions) {
        this.#commits.push({
          group: GROUP,
          key: `${partitionIndex}`,
          offset,
          atMs: this.#w.world.now,
        })
      }
    }
  }

  /** Up to the last stable offset, which is the end where nothing is open any more. */
  async #readAll(): Promise<void> {
    const { world, network } = this.#w
    const { partitions } = this.#around
    const time = new SimTime(world, { name: 'final' })
    const client = this.#w.client()
    const ends = new Map<number, number>()
    const open: string[] = []
    for (let partition = 0; partition < partitions; partition += 1) {
      const end = await client.offset(TOPIC, -1, { partition })
      const stable = await client.offset(TOPIC, -1, { partition, isolationLevel: 1 })
      if (stable.offset < end.offset) open.push(`${partition}`)
      ends.set(partition, stable.offset)
    }
    this.#open = open
    const random = world.random.fork('final')
    const cluster = new Cluster(time, random, network.host('final'), quiet, { addresses: [ZMQ] })
    const consumer = new Consumer(time, random, cluster)
    const polls: Poll[] = []
    const read = async (): Promise<void> => {
      await cluster.connect()
      consumer.assign(
        [...ends].map(([partition, endOffset]) => ({
          topic: TOPIC,
          partition,
          startOffset: 0,
          endOffset,
        })),
      )
      const endMs = time.monotonicMs() + FINAL_MS
      while (!consumer.isDone && time.monotonicMs() < endMs) {
        await consumer.wait(1000)
        const poll = pollOf(consumer.poll())
        if (poll !== undefined) polls.push(poll)
      }
    }
    await this.#w.settle(read())
    consumer.close()
    cluster.close()
    this.#final = polls
  }
}
