/**
 * A cluster under load of which one daemon is told to stop: how long partitions pause, and whether a client hears of it. In
 * simulated time, so the pauses are those of the protocol alone: messages, the store's answers, the disks' syncs.
 */
import { Admin } from '../../src/client/admin.ts'
import { Consumer } from '../../src/client/consumer.ts'
import { Producer } from '../../src/client/producer.ts'
import type { SimBroker } from './sim-broker.ts'
import { simClient } from './sim-clients.ts'
import type { SimWorld } from './sim-world.ts'
import { startThree } from './three-brokers.ts'

export interface PlannedStop {
  /** Longest time between two acknowledgements of a partition, in ms: before the stop, and over it. */
  readonly steadyMs: number
  readonly pauseMs: number
  /** The same between two answers that brought records to a consumer. */
  readonly steadyReadMs: number
  readonly readPauseMs: number
  /** What went wrong for a client. */
  readonly troubles: readonly string[]
  readonly acknowledged: number
  readonly read: number
  /** Led by the daemon when it was told to stop. */
  readonly moved: number
}

const TOPIC = 'steps'
const TICK_MS = 5

export async function stopPlanned(seed: string, partitions: number): Promise<PlannedStop> {
  const { world, network, brokers, addresses } = await startThree(seed)
  const random = world.random.fork('clients')
  const client = (host: string) =>
    simClient({ world, network, random, addresses, topic: TOPIC }, host)

  const troubles: string[] = []
  const gaps = { acked: new Gaps(world, partitions), read: new Gaps(world, partitions) }
  let acknowledged = 0
  let read = 0
  const writing = client('writer')
  const reading = client('reader')
  await world.settle(writing.cluster.connect())
  const admin = new Admin(writing.time, writing.random, writing.cluster)
  const topic = { name: TOPIC, partitions, replicationFactor: 3, configs: {} }
  await world.settle(admin.createTopics([topic]))
  const producer = new Producer(writing.time, writing.random, writing.cluster, {
    lingerMs: 0,
    onDelivery: ({ partition, recordCount, error }) => {
      if (error !== undefined) troubles.push(`delivery: ${error.message}`)
      acknowledged += recordCount
      gaps.acked.note(partition)
    },
  })
  await world.settle(producer.prepare(TOPIC))
  await world.settle(reading.cluster.connect())
  await world.settle(reading.cluster.awaitTopic(TOPIC))
  const consumer = new Consumer(reading.time, reading.random, reading.cluster)
  const all = Array.from({ length: partitions }, (_, partition) => partition)
  consumer.assign(all.map((partition) => ({ topic: TOPIC, partition, startOffset: 0 })))
  const consume = async (): Promise<void> => {
    for (let event = await consumer.next(); event !== undefined; event = await consumer.next()) {
      if (event.kind !== 'records') {
        troubles.push(`consumer: ${event.kind}`)
        continue
      }
      read += event.nextOffset - event.fromOffset
      gaps.read.note(event.partition)
    }
  }
  const consuming = consume()
  const line = new TextEncoder().encode('a line\n')
  let isOver = false
  const tick = (): void => {
    if (isOver) return
    for (const partition of all) producer.appendLines(TOPIC, partition, line, 0, line.length)
    producer.flushSoon()
    world.schedule(TICK_MS, 'tick', tick)
  }
  tick()
  const runFor = (ms: number): Promise<void> => world.run({ untilMs: world.now + ms })
  await runFor(300)
  gaps.acked.longest()
  gaps.read.longest()
  await runFor(300)
  const steadyMs = gaps.acked.longest()
  const steadyReadMs = gaps.read.longest()

  const going = brokers[1] as SimBroker
  const { broker } = going.daemon ?? {}
  const topicId = broker?.image.topic(TOPIC)?.topicId ?? ''
  const moved = (broker?.table.ofTopic(topicId) ?? []).filter((p) => p.notServing === undefined)
  const stopping = going.daemon?.stop({ graceMs: 10_000 }) ?? Promise.resolve()
  await world.settle(stopping)
  going.kill('process')
  await runFor(500)
  const pauseMs = gaps.acked.longest()
  const readPauseMs = gaps.read.longest()
  isOver = true
  await world.settle(producer.flush())
  await runFor(1000)
  consumer.close()
  await world.settle(consuming)
  producer.close()
  return {
    ...{ steadyMs, pauseMs, steadyReadMs, readPauseMs, troubles, acknowledged, read },
    moved: moved.length,
  }
}

/** The longest silence of each partition. */
class Gaps {
  readonly #world: SimWorld
  readonly #last: number[]
  #longestMs = 0

  constructor(world: SimWorld, partitions: number) {
    this.#world = world
    this.#last = new Array(partitions).fill(world.now)
  }

  note(partition: number): void {
    this.#longestMs = Math.max(this.#longestMs, this.#world.now - (this.#last[partition] ?? 0))
    this.#last[partition] = this.#world.now
  }

  /** Since the last question. */
  longest(): number {
    const longestMs = this.#longestMs
    this.#longestMs = 0
    return longestMs
  }
}
