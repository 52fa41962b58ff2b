/** Clients of a simulated run: producers of numbered lines that note what they were told, and a reader of all there is. */
import { isStreamError } from '../../src/base/errors.ts'
import { Admin } from '../../src/client/admin.ts'
import { Cluster, type ClusterOptions } from '../../src/client/cluster.ts'
import { Consumer } from '../../src/client/consumer.ts'
import type { LocalReadOptions } from '../../src/client/local-reads.ts'
import { Producer, type ProducerOptions } from '../../src/client/producer.ts'
import type { Log } from '../../src/ports/log.ts'
import { RecordCursor } from '../../src/record/record-cursor.ts'
import type { FoundRecord, SentRecord } from './history.ts'
import type { SimNetwork } from './sim-net.ts'
import type { SimRandom } from './sim-random.ts'
import { SimTime } from './sim-time.ts'
import type { SimWorld } from './sim-world.ts'

export interface Sent extends SentRecord {
  acknowledged: SentRecord['acknowledged']
}

export const quiet: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
}

export interface ClientWorld {
  readonly world: SimWorld
  readonly network: SimNetwork
  /** Of the run: what the clients choose. */
  readonly random: SimRandom
  readonly addresses: readonly string[]
  readonly topic: string
}

const decoder = new TextDecoder()

/** Longer than any trouble. */
const PREPARE_MS = 600_000

const BURST_MAX = 20
const SPREAD_BURST_MAX = 5
const PAUSE_MS_MAX = 400

export interface SimClient {
  readonly cluster: Cluster
  readonly time: SimTime
  readonly random: SimRandom
}

export function simClient(
  clients: ClientWorld,
  host: string,
  options: Partial<ClusterOptions> = {},
): SimClient {
  const time = new SimTime(clients.world, { name: host })
  const random = clients.world.random.fork(host)
  const cluster = new Cluster(time, random, clients.network.host(host), quiet, {
    addresses: clients.addresses,
    connectTimeoutMs: 600_000,
    requestTimeoutMs: 5000,
    ...options,
  })
  return { cluster, time, random }
}

export interface ProduceOptions {
  readonly records: number
  readonly partitions: number
  /** Spreads the sending over about so long, so that whatever happens in this time meets records; in one go when absent. */
  readonly spreadMs?: number | undefined
  readonly producer?: ProducerOptions
}

/** Sends until all is delivered, in bursts. What is sent goes to `sent` before it is sent. */
export async function produceLines(
  clients: ClientWorld,
  name: string,
  sent: Sent[],
  options: ProduceOptions,
): Promise<void> {
  const { topic } = clients
  const { cluster, time, random } = simClient(clients, name)
  const own: Sent[] = []
  const producer = new Producer(time, random, cluster, {
    batchBytes: clients.random.pick([200, 1000, 5000]),
    lingerMs: clients.random.pick([0, 5, 50]),
    codec: clients.random.pick(['none', 'none', 'zstd', 'gzip']),
    deliveryTimeoutMs: 3_600_000,
    trackOrdinals: true,
    ...options.producer,
    onDelivery: (delivery) => {
      if (delivery.error !== undefined) return
      const ordinals =
        delivery.ordinals ??
        Array.from({ length: delivery.recordCount }, (_, index) => delivery.firstOrdinal + index)
      for (const [index, ordinal] of ordinals.entries()) {
        const record = own[ordinal]
        if (record === undefined) continue
        record.acknowledged = {
          topic,
          partition: delivery.partition,
          // A duplicate whose place the broker no longer knows is acknowledged without one.
          offset: delivery.baseOffset < 0 ? undefined : delivery.baseOffset + index,
        }
      }
    },
  })
  await cluster.connect()
  await producer.prepare(topic, { deadlineMs: time.monotonicMs() + PREPARE_MS })
  const burstMax = options.spreadMs === undefined ? BURST_MAX : SPREAD_BURST_MAX
  const bursts = (2 * options.records) / (burstMax + 1)
  const pauseMsMax = options.spreadMs === undefined ? PAUSE_MS_MAX : (2 * options.spreadMs) / bursts
  for (let ordinal = 0; ordinal < options.records; ) {
    const burst = Math.min(options.records - ordinal, 1 + clients.random.integer(burstMax))
    const values: string[] = []
    for (let index = 0; index < burst; index++)
      values.push(`${name}-${ordinal + index}-${'x'.repeat(clients.random.integer(80))}`)
    for (const [index, value] of values.entries()) {
      const record = { producer: name, ordinal: ordinal + index, value, acknowledged: undefined }
      own.push(record)
      sent.push(record)
    }
    const partition =
      options.partitions === 1 || clients.random.chance(0.5)
        ? undefined
        : clients.random.integer(options.partitions)
    const chunk = new TextEncoder().encode(`${values.join('\n')}\n`)
    for (let at = 0; at < chunk.length; ) {
      const taken = producer.appendLines(topic, partition, chunk, at, chunk.length)
      at += taken
      if (at < chunk.length) await producer.writable()
    }
    producer.flushSoon()
    ordinal += burst
    await new Promise<void>((resolve) => {
      time.setTimer(clients.random.between(0, pauseMsMax), resolve)
    })
  }
  await producer.flush()
  producer.close()
  cluster.close()
}

/** All records of the topic up to the ends that the brokers name now, per partition in the order of reading. */
export async function readTopic(
  clients: ClientWorld,
  name: string,
  localReads?: LocalReadOptions,
): Promise<FoundRecord[]> {
  const { topic } = clients
  const { cluster, time, random } = simClient(clients, name)
  await cluster.connect()
  const admin = new Admin(time, random, cluster)
  const [described] = await admin.describeTopics([topic])
  const questions = (described?.partitions ?? []).map(({ partition }) => ({
    topic,
    partition,
    at: 'latest' as const,
  }))
  const ends = await admin.listOffsets(questions)
  const consumer = new Consumer(time, random, cluster, {
    partitionBytesMax: clients.random.pick([300, 3000, 1_000_000]),
    ...(localReads === undefined ? {} : { localReads }),
  })
  consumer.assign(
    ends.map((end) => ({
      topic,
      partition: end.partition,
      startOffset: 0,
      endOffset: end.offset,
    })),
  )
  const found: FoundRecord[] = []
  await readAll(consumer, topic, (record) => found.push(record))
  consumer.close()
  cluster.close()
  found.sort((left, right) => left.partition - right.partition)
  return found
}

export interface WatchOptions {
  readonly partitions: number
  readonly isOver: () => boolean
  readonly see: (record: FoundRecord) => void
}

/** Reads the topic again and again from its begin, through whatever happens, and tells all that it was served. */
export async function watchTopic(clients: ClientWorld, options: WatchOptions): Promise<void> {
  const { topic, world, random } = clients
  const parts = Array.from({ length: options.partitions }, (_, partition) => partition)
  for (let round = 0; !options.isOver(); round++) {
    const { cluster, time, random: own } = simClient(clients, `watcher${round}`)
    const consumer = new Consumer(time, own, cluster, {
      partitionBytesMax: random.pick([300, 3000, 1_000_000]),
    })
    world.schedule(random.between(500, 10_000), 'watcher ends', () => {
      consumer.close()
      cluster.close()
    })
    try {
      await cluster.connect()
      consumer.assign(parts.map((partition) => ({ topic, partition, startOffset: 0 })))
      await readAll(consumer, topic, options.see)
    } catch (error) {
      if (!isStreamError(error)) throw error
    }
    consumer.close()
    cluster.close()
    await new Promise<void>((resolve) => {
      world.schedule(random.between(100, 5000), 'watcher', resolve)
    })
  }
}

/** Until it is closed, all has ended, or a partition has failed. */
async function readAll(
  consumer: Consumer,
  topic: string,
  see: (record: FoundRecord) => void,
): Promise<void> {
  const cursor = new RecordCursor()
  for (;;) {
    const event = await consumer.next()
    if (event === undefined) return
    if (event.kind === 'failed') throw event.error
    if (event.kind !== 'records') continue
    for (const at of event.batches) {
      cursor.reset(event.bytes, at)
      while (cursor.next()) {
        if (cursor.offset < event.fromOffset || cursor.offset >= event.untilOffset) continue
        const value = decoder.decode(cursor.bytes.subarray(cursor.valueStart, cursor.valueEnd))
        see({ topic, partition: event.partition, offset: cursor.offset, value })
      }
    }
    event.release?.()
  }
}
