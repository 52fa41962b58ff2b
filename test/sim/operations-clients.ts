/** Clients of a run of operations.ts: each notes what it did and what it was told. One object is one life of one client. */
import { StreamError } from '../../src/base/errors.ts'
import { Cluster } from '../../src/client/cluster.ts'
import { Consumer } from '../../src/client/consumer.ts'
import type { ConsumerEvent } from '../../src/client/consumer-events.ts'
import type { Delivery } from '../../src/client/delivery.ts'
import { GroupMember } from '../../src/client/group-member.ts'
import { Producer, type ProducerOptions } from '../../src/client/producer.ts'
import { TransactionalProducer } from '../../src/client/transactional-producer.ts'
import { RecordCursor } from '../../src/record/record-cursor.ts'
import type { DaemonWorld } from '../daemon/daemon-world.ts'
import type { CommitSeen, Moved, Operation, Placed, Poll, Send } from './operations.ts'
import { quiet } from './sim-clients.ts'
import type { SimRandom } from './sim-random.ts'
import { SimTime } from './sim-time.ts'

export const TOPIC = 't'
export const GROUP = 'g'
const BATCH_BYTES = 100
/** Longer than any trouble: what is not delivered by then is not known to have failed. */
const DELIVERY_MS = 300_000

/** What may be wrong with clients, to prove that the judge sees it. */
export interface ClientBugs {
  readonly producer?: ProducerOptions
  readonly isolation?: 'read_uncommitted'
}

export interface Surroundings {
  readonly w: DaemonWorld
  readonly addresses: readonly string[]
  readonly partitions: number
  readonly bugs: ClientBugs
  readonly operations: (Operation | Moved)[]
  /** Commits, as they are sent. */
  readonly asked: CommitSeen[]
  /** Of the run. */
  readonly random: SimRandom
}

/** An open send: where it stands is told when its batch is delivered. */
interface Sending extends Send {
  offset: number | undefined
  isRefused: boolean
}

type Step = Poll | Sending

abstract class Life {
  readonly process: string
  protected readonly around: Surroundings
  protected readonly time: SimTime
  protected readonly cluster: Cluster
  isOver = false

  constructor(around: Surroundings, process: string) {
    this.process = process
    this.around = around
    this.time = new SimTime(around.w.world, { name: process })
    const { world, network } = around.w
    this.cluster = new Cluster(
      this.time,
      world.random.fork(process),
      network.host(process),
      quiet,
      {
        addresses: around.addresses,
        connectTimeoutMs: 600_000,
        requestTimeoutMs: 3000,
      },
    )
  }

  /** Its process ends, whatever it is at. */
  die(): void {
    this.isOver = true
    this.time.halt()
    this.around.w.network.crash(this.process)
  }

  protected done(
    outcome: Operation['outcome'],
    isTransaction: boolean,
    steps: readonly Step[],
  ): void {
    this.around.operations.push({ process: this.process, outcome, isTransaction, steps })
  }

  protected moved(partitions: readonly number[]): void {
    this.around.operations.push({ process: this.process, moved: partitions.map(String) })
  }

  protected consumer(): Consumer {
    const { random, bugs } = this.around
    return new Consumer(
      this.time,
      this.around.w.world.random.fork(`${this.process} reads`),
      this.cluster,
      {
        maxWaitMs: 50,
        partitionBytesMax: random.pick([200, 1000, 1_000_000]),
        ...(bugs.isolation === undefined ? {} : { isolation: bugs.isolation }),
      },
    )
  }

  protected assignAll(consumer: Consumer): void {
    const all = Array.from({ length: this.around.partitions }, (_, partition) => partition)
    consumer.assign(all.map((partition) => ({ topic: TOPIC, partition, startOffset: 0 })))
    this.moved(all)
  }

  protected async next(consumer: Consumer, waitMs: number): Promise<Poll | undefined> {
    await consumer.wait(waitMs)
    return pollOf(consumer.poll())
  }

  protected sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.time.setTimer(ms, resolve)
    })
  }
}

/** Sends single records and small batches, idempotently, and waits for each. */
export class Sender extends Life {
  async run(operations: number, nextValue: () => string): Promise<void> {
    const { random, bugs } = this.around
    const open = new Map<number, Sending>()
    const producer = new Producer(
      this.time,
      this.around.w.world.random.fork(`${this.process} sends`),
      this.cluster,
      {
        batchBytes: BATCH_BYTES,
        lingerMs: 0,
        deliveryTimeoutMs: DELIVERY_MS,
        trackOrdinals: true,
        ...bugs.producer,
        onDelivery: (delivery) => settle(open, delivery),
      },
    )
    await this.cluster.connect()
    await producer.prepare(TOPIC, { deadlineMs: this.time.monotonicMs() + DELIVERY_MS })
    let ordinal = 0
    for (let count = 0; count < operations && !this.isOver; count += 1) {
      const sends: Sending[] = []
      const partition = random.integer(this.around.partitions)
      for (let index = 1 + random.integer(5); index > 0; index -= 1) {
        const sending = newSend(partition, nextValue())
        open.set(ordinal, sending)
        ordinal += 1
        sends.push(sending)
        append(producer, sending)
      }
      const isDelivered = await producer.flush().then(
        () => true,
        () => false,
      )
      if (this.isOver) return
      // Each send is an operation of its own: they do not stand or fall together.
      for (const sending of sends) {
        const isOk = isDelivered && !sending.isRefused
        this.done(isOk ? 'ok' : 'info', false, [sending])
      }
      if (!isDelivered) break
      await this.sleep(random.between(0, 200))
    }
    producer.close()
    this.cluster.close()
  }
}

/** Reads and sends in transactions, and commits or aborts them. */
export class Transactor extends Life {
  async run(transactions: number, id: string, nextValue: () => string): Promise<void> {
    const { random, bugs } = this.around
    let open = new Map<number, Sending>()
    const fork = this.around.w.world.random.fork(`${this.process} writes`)
    const producer = new TransactionalProducer(
      this.time,
      fork,
      this.cluster,
      { transactionalId: id, timeoutMs: 5000, classic: random.chance(0.3) },
      {
        batchBytes: BATCH_BYTES,
        lingerMs: 0,
        trackOrdinals: true,
        ...bugs.producer,
        onDelivery: (delivery) => settle(open, delivery),
      },
    )
    await this.cluster.connect()
    await producer.init()
    const consumer = this.consumer()
    this.assignAll(consumer)
    for (let count = 0; count < transactions && !this.isOver; count += 1) {
      const steps: Step[] = []
      open = new Map()
      let mayBeCommitted = false
      try {
        const sink = await producer.begin()
        await sink.prepare(TOPIC)
        for (let left = 2 + random.integer(5); left > 0; left -= 1) {
          if (random.chance(0.4)) {
            const poll = await this.next(consumer, 20)
            if (poll !== undefined) steps.push(poll)
            continue
          }
          const sending = newSend(random.integer(this.around.partitions), nextValue())
          open.set(open.size, sending)
          steps.push(sending)
          append(sink, sending)
          if (random.chance(0.4)) await sink.flush()
          if (random.chance(0.3)) await this.sleep(random.between(0, 300))
        }
        if (random.chance(0.25)) {
          await producer.abort()
          this.done('fail', true, steps)
          continue
        }
        mayBeCommitted = true
        await producer.commit()
        this.done('ok', true, steps)
      } catch (error) {
        if (!(error instanceof StreamError) || this.isOver) throw error
        // Never asked to be committed: nobody else would do so.
        this.done(mayBeCommitted ? 'info' : 'fail', true, steps)
        break
      }
      await this.sleep(random.between(0, 100))
    }
    consumer.close()
    this.cluster.close()
  }
}

/** Reads all partitions from their start, in order. */
export class Reader extends Life {
  async run(lifeMs: number): Promise<void> {
    await this.cluster.connect()
    const consumer = this.consumer()
    this.assignAll(consumer)
    const endMs = this.time.monotonicMs() + lifeMs
    while (this.time.monotonicMs() < endMs && !this.isOver) {
      const poll = await this.next(consumer, 100)
      if (poll !== undefined) this.done('ok', false, [poll])
    }
    consumer.close()
    this.cluster.close()
  }
}

/** Reads as a member of a group, and commits what it has read. */
export class Subscriber extends Life {
  /** Stands still so long, as a frozen machine does; its heartbeats too. */
  freeze(ms: number): void {
    this.time.freeze()
    this.around.w.world.schedule(ms, `${this.process} goes on`, () => this.time.thaw())
  }

  async run(lifeMs: number): Promise<void> {
    await this.cluster.connect()
    const fork = this.around.w.world.random.fork(`${this.process} joins`)
    const member = new GroupMember(this.time, fork, this.cluster, {
      groupId: GROUP,
      topics: [TOPIC],
      sessionTimeoutMs: 6000,
      heartbeatIntervalMs: 500,
      rebalanceTimeoutMs: 8000,
    })
    member.start()
    const consumer = this.consumer()
    const positions = new Map<number, number>()
    const endMs = this.time.monotonicMs() + lifeMs
    let committedMs = 0
    const commit = async (): Promise<void> => {
      const owned = new Set(member.owned.map(({ partition }) => partition))
      const offsets = [...positions]
        .filter(([partition]) => owned.has(partition))
        .map(([partition, offset]) => ({ topic: TOPIC, partition, offset }))
      const atMs = this.around.w.world.now
      const { generation } = member
      for (const { partition, offset } of offsets) {
        this.around.asked.push({ group: GROUP, key: `${partition}`, offset, atMs, generation })
      }
      await member.commit(offsets).catch(() => undefined)
    }
    while (this.time.monotonicMs() < endMs && !this.isOver) {
      for (let event = member.poll(); event !== undefined; event = member.poll()) {
        if (event.kind === 'failed') throw event.error
        const partitions = event.partitions.map(({ partition }) => partition)
        this.moved(partitions)
        if (event.kind === 'revoked') {
          if (!event.isLost) await commit()
          for (const partition of partitions) {
            consumer.unassign(TOPIC, partition)
            positions.delete(partition)
          }
          member.released()
          continue
        }
        const stored = await member.fetchOffsets(event.partitions)
        consumer.assign(
          event.partitions.map(({ topic, partition }) => ({
            topic,
            partition,
            startOffset: stored.find((row) => row.partition === partition)?.offset ?? 0,
          })),
        )
      }
      // Without partitions there is nothing to wait for.
      if (member.owned.length === 0) await this.sleep(50)
      else await consumer.wait(50)
      const event = consumer.poll()
      const poll = pollOf(event)
      if (poll !== undefined) this.done('ok', false, [poll])
      if (event?.kind === 'records') positions.set(event.partition, event.nextOffset)
      if (this.time.monotonicMs() - committedMs > 300) {
        committedMs = this.time.monotonicMs()
        await commit()
      }
    }
    if (this.isOver) return
    await commit()
    await member.leave()
    consumer.close()
    this.cluster.close()
  }
}

function newSend(partition: number, value: string): Sending {
  return { kind: 'send', key: `${partition}`, value, offset: undefined, isRefused: false }
}

function append(producer: Producer, { key, value }: Sending): void {
  const bytes = new TextEncoder().encode(value)
  producer.append(TOPIC, Number(key), { value: { bytes, start: 0, end: bytes.length } })
}

function settle(open: ReadonlyMap<number, Sending>, delivery: Delivery): void {
  for (const [index, ordinal] of (delivery.ordinals ?? []).entries()) {
    const sending = open.get(ordinal)
    if (sending === undefined) continue
    if (delivery.error !== undefined) sending.isRefused = true
    else if (delivery.baseOffset >= 0) sending.offset = delivery.baseOffset + index
  }
}

/** The records that are meant, whatever else their batches hold. */
export function pollOf(event: ConsumerEvent | undefined): Poll | undefined {
  if (event?.kind === 'failed') throw event.error
  if (event?.kind !== 'records') return undefined
  const cursor = new RecordCursor()
  const records: Placed[] = []
  for (const at of event.batches) {
    cursor.reset(event.bytes, at)
    while (cursor.next()) {
      const { offset, bytes, valueStart, valueEnd } = cursor
      if (offset < event.fromOffset || offset >= event.untilOffset) continue
      records.push({
        offset,
        value: new TextDecoder().decode(bytes.subarray(valueStart, valueEnd)),
      })
    }
  }
  return { kind: 'poll', key: `${event.partition}`, records }
}
