/**
 * A member of a group of the classic protocol that reads and commits: our own client's member, as a program would use it.
 * For simulations.
 */
import { Cluster } from '../../../src/client/cluster.ts'
import { Consumer } from '../../../src/client/consumer.ts'
import { GroupMember } from '../../../src/client/group-member.ts'
import type { GroupPartition } from '../../../src/client/group-offsets.ts'
import { RecordCursor } from '../../../src/record/record-cursor.ts'
import { SimTime } from '../../sim/sim-time.ts'
import { type DaemonWorld, ZMQ } from '../daemon-world.ts'

const quiet = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
}

export interface WorkerOptions {
  readonly instanceId?: string
  readonly assignors?: ('range' | 'cooperative-sticky')[]
  /** A planted bug: what is added to a position when it is committed for the n-th time. */
  readonly shift?: (count: number) => number
}

/** What happens to partitions, in order. */
export interface WorkerListener {
  /** What it has now; `partitions`: what was added. */
  assigned(worker: Worker, partitions: readonly GroupPartition[]): void
  revoked(worker: Worker, partitions: readonly GroupPartition[], isLost: boolean): void
  read(partition: number, offset: number): void
  failed(worker: Worker, error: unknown): void
}

export class Worker {
  readonly name: string
  readonly member: GroupMember
  readonly #listener: WorkerListener
  readonly #crash: () => void
  readonly #time: SimTime
  readonly #cluster: Cluster
  readonly #consumer: Consumer
  readonly #positions = new Map<number, number>()
  readonly #shift: (count: number) => number
  #commits = 0
  /** It neither reads nor gives anything back, but its heartbeats go on. */
  pausedUntilMs = 0
  isDead = false
  gaveBack = 0
  lost = 0
  isDone: Promise<void>

  constructor(
    { world, network }: DaemonWorld,
    name: string,
    options: WorkerOptions,
    listener: WorkerListener,
  ) {
    this.#listener = listener
    this.#crash = () => network.crash(name)
    const { shift = () => 0, ...membership } = options
    this.#shift = shift
    this.name = name
    this.#time = new SimTime(world, { name })
    const random = world.random.fork(name)
    this.#cluster = new Cluster(this.#time, random, network.host(name), quiet, {
      addresses: [ZMQ],
      connectTimeoutMs: 600_000,
      requestTimeoutMs: 3000,
    })
    this.member = new GroupMember(this.#time, random, this.#cluster, {
      groupId: 'g',
      topics: ['t'],
      sessionTimeoutMs: 6000,
      heartbeatIntervalMs: 500,
      rebalanceTimeoutMs: 8000,
      ...membership,
    })
    this.#consumer = new Consumer(this.#time, random, this.#cluster, { maxWaitMs: 100 })
    this.isDone = this.#work()
    this.isDone.catch((error: unknown) => listener.failed(this, error))
  }

  async #work(): Promise<void> {
    await this.#cluster.connect()
    this.member.start()
    let committedMs = 0
    while (!this.isDead) {
      for (let event = this.member.poll(); event !== undefined; event = this.member.poll()) {
        if (event.kind === 'failed') throw event.error
        if (event.kind === 'revoked') {
          await this.#awake()
          this.gaveBack += event.partitions.length
          if (event.isLost) this.lost += event.partitions.length
          if (!event.isLost) await this.#commit()
          for (const { topic, partition } of event.partitions) {
            this.#consumer.unassign(topic, partition)
            this.#positions.delete(partition)
          }
          this.#listener.revoked(this, event.partitions, event.isLost)
          this.member.released()
          continue
        }
        this.#listener.assigned(this, event.partitions)
        const stored = new Map(
          (await this.member.fetchOffsets(event.partitions)).map((row) => [
            row.partition,
            row.offset,
          ]),
        )
        this.#consumer.assign(
          event.partitions.map((each) => ({
            ...each,
            startOffset: stored.get(each.partition) ?? 0,
          })),
        )
      }
      if (this.#time.monotonicMs() < this.pausedUntilMs) {
        await this.#sleep(50)
        continue
      }
      const record = this.#consumer.poll()
      if (record?.kind === 'records') {
        const cursor = new RecordCursor()
        for (const at of record.batches) {
          cursor.reset(record.bytes, at)
          while (cursor.next()) this.#listener.read(record.partition, cursor.offset)
        }
        this.#positions.set(record.partition, record.nextOffset)
        await this.#sleep(5)
      } else await this.#sleep(20)
      if (this.#time.monotonicMs() - committedMs > 300) {
        committedMs = this.#time.monotonicMs()
        await this.#commit()
      }
    }
  }

  async #commit(): Promise<void> {
    this.#commits += 1
    const owned = new Set(this.member.owned.map(({ partition }) => partition))
    const offsets = [...this.#positions]
      .filter(([partition]) => owned.has(partition))
      .map(([partition, offset]) => ({
        topic: 't',
        partition,
        offset: Math.max(0, offset + this.#shift(this.#commits)),
      }))
    await this.member.commit(offsets).catch(() => undefined)
  }

  async leave(): Promise<void> {
    await this.#commit()
    this.isDead = true
    await this.member.leave()
    this.#consumer.close()
    this.#cluster.close()
  }

  die(): void {
    this.isDead = true
    this.#time.halt()
    this.#crash()
  }

  async #awake(): Promise<void> {
    while (this.#time.monotonicMs() < this.pausedUntilMs && !this.isDead) await this.#sleep(50)
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.#time.setTimer(ms, resolve)
    })
  }
}
