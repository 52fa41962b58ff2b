/**
 * Whole daemons whose scrubbers compare their logs with their leaders': a batch that was replaced by another sound one is found and
 * named, and a cluster in which everything else happens is told of nothing.
 */
import { describe, expect, it } from 'vitest'
import { DIFFERENCE_SAID } from '../../daemon/replica/comparer.ts'
import { Admin } from '../../src/client/admin.ts'
import { ClusterAdmin } from '../../src/client/cluster-admin.ts'
import { Producer } from '../../src/client/producer.ts'
import { TransactionalProducer } from '../../src/client/transactional-producer.ts'
import { replaceBatch } from '../daemon/other-batch.ts'
import { batchesOf, logFiles } from './cluster-truth.ts'
import { SimBroker } from './sim-broker.ts'
import { type ClientWorld, quiet, type SimClient, simClient } from './sim-clients.ts'
import { SimNetwork } from './sim-net.ts'
import { SimStoreServer } from './sim-store.ts'
import { SimWorld } from './sim-world.ts'

interface Told {
  readonly host: string
  readonly message: string
  readonly fields: Readonly<Record<string, unknown>>
}

const TOPICS = ['plain', 'trimmed', 'keyed', 'both'] as const
type Topic = (typeof TOPICS)[number]
const CONFIGS: Readonly<Record<Topic, Readonly<Record<string, string>>>> = {
  plain: {},
  trimmed: { 'retention.bytes': '4000' },
  keyed: {
    'cleanup.policy': 'compact',
    'min.cleanable.dirty.ratio': '0',
    'delete.retention.ms': '3000',
  },
  // Compacted for a while, and then no more.
  both: { 'cleanup.policy': 'compact', 'min.cleanable.dirty.ratio': '0.1' },
}

class Cluster {
  readonly world: SimWorld
  readonly brokers: readonly SimBroker[]
  readonly told: Told[] = []
  readonly #clients: ClientWorld
  #count = 0

  constructor(seed: string, config: Readonly<Record<string, string>>) {
    this.world = new SimWorld(seed)
    const { world } = this
    const network = new SimNetwork(world)
    const stores = new SimStoreServer(world, { leases: 'time' })
    const texts = { 'log.dir.reserve.bytes': '0', 'log.retention.check.interval.ms': '700' }
    const log = (host: string) => ({
      ...quiet,
      error: (message: string, fields = {}) => this.told.push({ host, message, fields }),
    })
    const shared = {
      ...{ world, network, stores, log },
      config: new Map(Object.entries({ ...texts, 'stream.scrub.interval.ms': '2000', ...config })),
    }
    this.brokers = [1, 2, 3].map((id) => new SimBroker(shared, id))
    const addresses = this.brokers.map(({ address }) => address)
    const random = world.random.fork('clients')
    this.#clients = { world, network, random, addresses, topic: 'plain' }
  }

  async start(): Promise<void> {
    for (const broker of this.brokers) broker.start()
    await this.until(() => this.brokers.every(({ daemon }) => daemon !== undefined))
    await this.ask(async ({ time, random, cluster }) => {
      const topics = TOPICS.map((name) => ({
        ...{ name, partitions: 1, replicationFactor: 3 },
        configs: {
          ...{ 'internal.segment.bytes': '1500', 'index.interval.bytes': '512' },
          ...CONFIGS[name],
        },
      }))
      await new Admin(time, random, cluster).createTopics(topics)
    })
  }

  async until(isSo: () => boolean): Promise<void> {
    const deadlineMs = this.world.now + 120_000
    while (!isSo()) {
      if (this.world.now > deadlineMs) throw new Error('it does not become so')
      await this.run(100)
    }
  }

  run(ms: number): Promise<void> {
    return this.world.run({ untilMs: this.world.now + ms })
  }

  async ask<T>(work: (client: SimClient) => Promise<T>): Promise<T> {
    this.#count += 1
    const client = simClient(this.#clients, `client${this.#count}`)
    const all = async (): Promise<T> => {
      await client.cluster.connect()
      return await work(client)
    }
    const answer = await this.world.settle(all())
    client.cluster.close()
    return answer
  }

  /** A few records for every topic, some of them of transactions. */
  write(round: number): Promise<void> {
    return this.ask(async ({ time, random, cluster }) => {
      const producer = new Producer(time, random, cluster, { lingerMs: 0, batchBytes: 300 })
      await writeRecords(producer, round)
      producer.close()
      const options = { transactionalId: 'x', timeoutMs: 60_000 }
      const transactional = new TransactionalProducer(time, random, cluster, options)
      await transactional.init()
      await writeRecords(await transactional.begin(), round)
      if (round % 3 === 0) await transactional.abort()
      else await transactional.commit()
    })
  }

  partition(broker: SimBroker, topic: Topic) {
    const topicId = broker.daemon?.broker.image.topic(topic)?.topicId
    const partition = broker.daemon?.broker.table.get(topicId ?? '', 0)
    if (partition === undefined) throw new Error(`${broker.host} has no ${topic}`)
    return partition
  }

  leader(topic: Topic): SimBroker {
    const found = this.brokers.find(
      (broker) =>
        broker.daemon !== undefined && this.partition(broker, topic).notServing === undefined,
    )
    if (found === undefined) throw new Error(`nobody leads ${topic}`)
    return found
  }

  isHealthy(): boolean {
    return this.brokers.every(({ daemon }) => {
      if (daemon === undefined) return false
      const { image, table } = daemon.broker
      return TOPICS.every((topic) => {
        const topicId = image.topic(topic)?.topicId ?? ''
        const record = image.partition(topicId, 0)?.value
        const own = table.get(topicId, 0)
        return record?.inSyncReplicas.length === 3 && own?.highWatermark === own?.log.logEndOffset
      })
    })
  }

  get differences(): readonly Told[] {
    return this.told.filter(({ message }) => message === DIFFERENCE_SAID)
  }

  /** As `stream daemon status` shows it. */
  status(broker: SimBroker): Promise<number> {
    return this.ask(async ({ cluster }) => {
      const answer = await cluster.call(broker.nodeId, 'DaemonStatus', {})
      return answer.differingBatches
    })
  }

  bytes(topic: Topic): string[] {
    return this.brokers.map((broker) => {
      const { directory } = this.partition(broker, topic).log
      return logFiles(broker.disk, directory)
        .map((path) => Buffer.from(broker.disk.readFile(path) ?? []).toString('latin1'))
        .join('')
    })
  }
}

async function writeRecords(producer: Producer, round: number): Promise<void> {
  const range = (text: string) => {
    const bytes = Buffer.from(text)
    return { bytes, start: 0, end: bytes.length }
  }
  for (const topic of TOPICS) {
    await producer.prepare(topic)
    for (let at = 0; at < 8; at += 1) {
      const key = range(`key ${(round * 5 + at * 3) % 11}`)
      const value = at === 3 ? null : range(`${topic} ${round} ${at} ${'v'.repeat(40)}`)
      producer.append(topic, 0, { key, value })
    }
  }
  await producer.flush()
}

/** Base offsets of what stands in a replica's files. */
function offsetsOf(broker: SimBroker, directory: string): number[] {
  return logFiles(broker.disk, directory).flatMap((path) => {
    const bytes = broker.disk.readFile(path) ?? new Uint8Array(0)
    return batchesOf(path, bytes).map(({ position }) =>
      Number(new DataView(bytes.buffer, bytes.byteOffset).getBigInt64(position)),
    )
  })
}

describe('three daemons', () => {
  it('one of which holds another sound batch: it is named, counted, and left as it is', async () => {
    const cluster = new Cluster('differs', {})
    await cluster.start()
    for (let round = 0; round < 6; round += 1) await cluster.write(round)
    await cluster.until(() => cluster.isHealthy())
    await cluster.run(6000)
    expect(cluster.differences).toEqual([])
    const leader = cluster.leader('plain')
    const [poor, other] = cluster.brokers.filter((broker) => broker !== leader) as [
      SimBroker,
      SimBroker,
    ]
    const { directory } = cluster.partition(poor, 'plain').log
    const offsets = offsetsOf(poor, directory)
    const offset = offsets[Math.floor(offsets.length / 2)] as number
    replaceBatch(poor.disk, directory, offset)
    const before = cluster.bytes('plain')
    expect(new Set(before).size).toBe(2)
    await cluster.run(20_000)
    expect(cluster.differences).toHaveLength(1)
    expect(cluster.differences[0]).toMatchObject({
      host: poor.host,
      fields: { partition: 'plain-0', leader: leader.nodeId },
    })
    expect(cluster.differences[0]?.fields['offsets']).toMatch(new RegExp(`^${offset} to `))
    expect(await cluster.status(poor)).toBe(1)
    expect(await cluster.status(leader)).toBe(0)
    expect(await cluster.status(other)).toBe(0)
    expect(cluster.bytes('plain')).toEqual(before)
    // Where it leads, whoever follows it says so.
    leader.kill('process')
    await cluster.run(30_000)
    leader.start()
    await cluster.until(() => cluster.isHealthy())
    await cluster.run(10_000)
    for (const { fields } of cluster.differences) {
      expect(fields['offsets']).toMatch(new RegExp(`^${offset} to `))
    }
    expect(cluster.bytes('plain')).toEqual(before)
  })

  it('that write, trim, compact, change their leaders and settings, die and come back: nothing is told', async () => {
    for (const seed of ['a', 'b', 'c', 'd', 'e', 'f']) {
      const cluster = new Cluster(`same ${seed}`, {})
      const random = cluster.world.random.fork('test')
      await cluster.start()
      let compared = 0
      const count = (broker: SimBroker): void => {
        compared += broker.daemon?.broker.replication?.comparer?.comparedCount ?? 0
      }
      for (let round = 0; round < 24; round += 1) {
        await cluster.write(round)
        await cluster.run(random.integer(3000))
        if (round % 5 === 4) {
          const broker = cluster.brokers[random.integer(3)] as SimBroker
          count(broker)
          // One that begins anew copies what its leader has cleaned.
          if (random.chance(0.3)) broker.replaceDisk()
          else broker.kill(random.chance(0.5) ? 'process' : 'power')
          await cluster.run(random.integer(20_000))
          broker.start()
          await cluster.until(() => cluster.isHealthy())
        }
        if (round % 4 === 2) {
          await cluster.ask(async ({ time, random: own, cluster: link }) => {
            const admin = new ClusterAdmin(time, own, link, { timeoutMs: 5000 })
            const names = TOPICS.map((topic) => ({ topic, partition: 0 }))
            await admin.electLeaders('preferred', names)
          })
        }
        if (round % 8 === 7) {
          await cluster.ask(async ({ time, random: own, cluster: link }) => {
            const policy = round % 16 === 7 ? 'delete' : 'compact'
            const set = { 'cleanup.policy': policy }
            const admin = new Admin(time, own, link)
            await admin.alterConfigs([{ kind: 'topic', name: 'both', set }])
            await admin.deleteRecords([{ topic: 'plain', partition: 0, beforeOffset: round * 6 }])
          })
        }
      }
      await cluster.until(() => cluster.isHealthy())
      await cluster.run(20_000)
      for (const broker of cluster.brokers) count(broker)
      expect(cluster.differences).toEqual([])
      expect(compared).toBeGreaterThan(50)
      // What was meant to happen has happened.
      const first = (topic: Topic) => cluster.partition(cluster.leader(topic), topic).log
      expect(first('trimmed').logStartOffset).toBeGreaterThan(0)
      expect(first('plain').logStartOffset).toBeGreaterThan(0)
      expect(first('keyed').cleanOffset).toBeGreaterThan(0)
      expect(first('both').config.cleanupCompact).toBe(false)
      expect(first('both').cleanOffset).toBeGreaterThan(0)
    }
  }, 120_000)
})
