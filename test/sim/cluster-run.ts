/**
 * One simulated run of a cluster: daemons on simulated ports, a store with leases by time, producers and a reader of src/client,
 * faults drawn from the seed. First trouble, then calm: every partition must come to have all its replicas in sync, all must be
 * delivered and readable, judged without an anomaly (history.ts), every order must have its end, what a reader was served meanwhile
 * must still be there, and the replicas' logs must be the same bytes, whole on their disks.
 *
 * | fault | what it does |
 * | --- | --- |
 * | crash | a daemon dies in the middle of any disk operation; the page cache survives |
 * | power | the same, and unsynced sectors and names are lost, kept or torn |
 * | links | links break with the message on them |
 * | repeat | a whole request arrives again, later, on another link |
 * | delay | messages come a second, 6 s or 20 s late, by the run |
 * | cut | two daemons, or a daemon and the clients, do not hear each other, one way or both |
 * | store | a daemon is cut off from the store |
 * | unknown | transactions of the store are lost, or applied unheard or late |
 * | lease | a lease ends while its holder lives |
 * | sync | a sync fails, of one or of several at once, the pages count as clean, the daemon is failed and is started again, or its machine |
 * | clock | somebody sets a daemon's clock, up to a day |
 * | pause | a process stands still, or its machine and with it the monotonic clock; then all that came meanwhile comes at once |
 * | flip | a bit flips in one replica's log; a majority of the replicas in sync stays unharmed |
 * | orders | brokers join, are drained, forgotten and get empty disks, partitions move, leaders are elected (cluster-orders.ts) |
 */
import { DIFFERENCE_SAID } from '../../daemon/replica/comparer.ts'
import type { Partition } from '../../daemon/replica/partition.ts'
import { isStreamError } from '../../src/base/errors.ts'
import { Admin } from '../../src/client/admin.ts'
import type { Disk } from '../../src/ports/disk.ts'
import type { Log } from '../../src/ports/log.ts'
import type { MetadataStore } from '../../src/ports/metadata-store.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import { ClusterOrders } from './cluster-orders.ts'
import { type ClusterFault, ClusterTrouble } from './cluster-trouble.ts'
import { ClusterTruth, isSound, partitionOf, TOPIC } from './cluster-truth.ts'
import { type Anomaly, type FoundRecord, judge } from './history.ts'
import { SimBroker } from './sim-broker.ts'
import {
  type ClientWorld,
  produceLines,
  quiet,
  readTopic,
  type Sent,
  simClient,
  watchTopic,
} from './sim-clients.ts'
import { SimNetwork } from './sim-net.ts'
import { SimRandom } from './sim-random.ts'
import { SimStoreServer } from './sim-store.ts'
import { SimWorld } from './sim-world.ts'

/** A bug put in on purpose, to prove that the oracles catch what the faults lead to. */
export interface ClusterBug {
  wrapDisk?(disk: Disk): Disk
  wrapStore?(store: MetadataStore): MetadataStore
}

export interface ClusterRunOptions {
  readonly brokers?: number
  /** Leaves out every fault but these; all when absent. */
  readonly only?: readonly ClusterFault[]
  readonly plantedBug?: ClusterBug
  readonly keepsTrace?: boolean
  readonly records?: number
  /** In every run the logs are read in search of damage, and compared with the leaders', all the time. */
  readonly scrubs?: boolean
}

export interface ClusterRunResult {
  readonly seed: number | string
  readonly traceHash: string
  readonly anomalies: readonly Anomaly[]
  readonly fired: Readonly<Record<string, number>>
  readonly records: number
  readonly events: number
  readonly trace: readonly string[]
}

/** After the last fault: how long the cluster may take until all is healthy (I15), simulated. */
const HEALTHY_MS = 120_000
const LOOK_MS = 250
const READ_BYTES = 1 << 20

export async function runCluster(
  seed: number | string,
  options: ClusterRunOptions = {},
): Promise<ClusterRunResult> {
  const run = new ClusterRun(seed, options)
  try {
    await run.play()
  } catch (error) {
    if (options.keepsTrace !== true) throw error
    run.noteEnd(error)
  }
  return run.result()
}

/** In some runs the logs are read in search of damage all the time; drawn apart, so that the others stay as they are. */
function scrubbing(
  seed: number | string,
  isWanted: boolean,
): readonly (readonly [string, string])[] {
  if (!new SimRandom(`${seed}/scrub`).chance(0.2) && !isWanted) return []
  return [
    ['stream.scrub.interval.ms', '2000'],
    ['stream.scrub.max.bytes.per.second', '20000'],
  ]
}

class ClusterRun {
  readonly #options: ClusterRunOptions
  readonly #world: SimWorld
  readonly #random: SimRandom
  readonly #network: SimNetwork
  readonly #stores: SimStoreServer
  readonly #brokers: readonly SimBroker[]
  readonly #partitions: number
  readonly #sent: Sent[] = []
  readonly #anomalies: Anomaly[] = []
  readonly #truth: ClusterTruth
  readonly #trouble: ClusterTrouble
  readonly #seen = new Map<string, string>()
  #clients = 0
  #compared = 0

  constructor(seed: number | string, options: ClusterRunOptions) {
    this.#options = options
    this.#world = new SimWorld(seed, options.keepsTrace ?? false)
    this.#random = this.#world.random.fork('run')
    this.#network = new SimNetwork(this.#world)
    this.#stores = new SimStoreServer(this.#world, { leases: 'time' })
    this.#partitions = this.#random.pick([1, 2, 3])
    const { wrapDisk, wrapStore } = options.plantedBug ?? {}
    const shared = {
      world: this.#world,
      network: this.#network,
      stores: this.#stores,
      config: new Map([
        ['log.dir.reserve.bytes', '0'],
        ['replica.lag.time.max.ms', '3000'],
        ['min.insync.replicas', '2'],
        ...scrubbing(seed, options.scrubs === true),
      ]),
      log: (host: string) => this.#listenTo(host),
      ...(wrapDisk === undefined ? {} : { wrapDisk }),
      ...(wrapStore === undefined ? {} : { wrapStore }),
    }
    const count = options.brokers ?? 3
    // One more than there are at first: it may join.
    this.#brokers = Array.from(
      { length: count + 1 },
      (_, index) => new SimBroker(shared, index + 1),
    )
    this.#truth = new ClusterTruth(this.#stores, this.#brokers)
    this.#trouble = new ClusterTrouble({
      world: this.#world,
      random: this.#random,
      network: this.#network,
      stores: this.#stores,
      brokers: this.#brokers,
      truth: this.#truth,
      partitions: this.#partitions,
      only: options.only,
    })
  }

  async play(): Promise<void> {
    for (const broker of this.#brokers.slice(0, -1)) broker.start()
    await this.#until(() => this.#started().every(({ daemon }) => daemon !== undefined), 'start')
    await this.#createTopic()
    this.#trouble.begin()
    const orders = this.#mayOrder() ? this.#order() : Promise.resolve()
    const watching = this.#random.chance(0.5) ? this.#watch() : Promise.resolve()
    const records = this.#options.records ?? 60 + this.#random.integer(100)
    const troubleMs = this.#random.between(20_000, 120_000)
    const producers = Array.from({ length: this.#random.pick([1, 2, 3]) }, (_, index) =>
      produceLines(this.#clientWorld(), `p${index}`, this.#sent, {
        records,
        partitions: this.#partitions,
        // What is sent in one go is delivered within seconds: most of the faults would meet an idle cluster.
        spreadMs: this.#random.chance(0.75) ? troubleMs : undefined,
      }),
    )
    const all: Promise<unknown> = Promise.all(producers)
    // Trouble lasts for a while, whether all is delivered before or not.
    this.#world.schedule(troubleMs, 'calm', () => this.#trouble.calm())
    // What fails in the midst of the trouble is told when its turn comes.
    for (const work of [all, orders, watching]) work.catch(() => undefined)
    await this.#until(() => this.#trouble.isOver, 'calm')
    await this.#ends(all, 'delivered')
    await this.#ends(orders, 'done with its orders')
    await this.#ends(watching, 'read')
    await this.#until(() => this.#isHealthy(), 'healthy')
    const found = await this.#read()
    this.#compareSeen(found)
    this.#anomalies.push(...judge({ sent: this.#sent, found }))
    for (const { acknowledged, value } of this.#sent) {
      if (acknowledged !== undefined) continue
      const detail = `${value} was never delivered, although all was calm in the end`
      this.#anomalies.push({ kind: 'lost-write', detail })
    }
    await this.#compareReplicas()
    this.#noteCompared()
    for (const { daemon } of this.#brokers) {
      if (daemon !== undefined) await this.#world.settle(daemon.stop({ graceMs: 100 }))
    }
  }

  /** For a replay, whose trace is wanted all the more. */
  noteEnd(error: unknown): void {
    this.#anomalies.push({ kind: 'broken-off', detail: String(error) })
  }

  result(): ClusterRunResult {
    return {
      seed: this.#world.seed,
      traceHash: this.#world.traceHash,
      anomalies: this.#anomalies,
      fired: {
        ...this.#trouble.fired,
        ...this.#network.fired,
        ...this.#stores.fired,
        ...(this.#compared > 0 ? { compared: this.#compared } : {}),
      },
      records: this.#sent.length,
      events: this.#world.eventCount,
      trace: this.#world.trace,
    }
  }

  /** No copies differ here, so whoever says that some do is wrong (daemon/replica/comparer.ts). */
  #listenTo(host: string): Log {
    return {
      ...quiet,
      error: (message, fields) => {
        if (message !== DIFFERENCE_SAID) return
        const detail = `${host}: ${message}: ${JSON.stringify(fields)}`
        this.#anomalies.push({ kind: 'inconsistent-offsets', detail })
      },
    }
  }

  /** Of the processes that live now. */
  #noteCompared(): void {
    for (const { daemon } of this.#brokers) {
      this.#compared += daemon?.broker.replication?.comparer?.comparedCount ?? 0
    }
  }

  // --- clients

  #clientWorld(): ClientWorld {
    return {
      world: this.#world,
      network: this.#network,
      random: this.#random,
      addresses: this.#brokers.map(({ address }) => address),
      topic: TOPIC,
    }
  }

  async #createTopic(): Promise<void> {
    const { cluster, time, random } = simClient(this.#clientWorld(), 'admin')
    const configs = {
      'internal.segment.bytes': String(this.#random.pick([8_000, 20_000, 1_000_000])),
      'index.interval.bytes': '512',
      // A clock that is a day behind would refuse what comes from the others.
      'message.timestamp.after.max.ms': '9223372036854775807',
    }
    const replicationFactor = Math.min(3, this.#brokers.length)
    const topic = { name: TOPIC, partitions: this.#partitions, replicationFactor, configs }
    const work = async (): Promise<void> => {
      await cluster.connect()
      const [outcome] = await new Admin(time, random, cluster).createTopics([topic])
      if (outcome?.error !== undefined) throw outcome.error
      cluster.close()
    }
    await this.#world.settle(work())
  }

  /** Who meets damage first is told so; once it is repaired all must be readable. */
  async #read(): Promise<FoundRecord[]> {
    const deadlineMs = this.#world.now + HEALTHY_MS
    for (;;) {
      this.#clients += 1
      try {
        return await this.#world.settle(readTopic(this.#clientWorld(), `reader${this.#clients}`))
      } catch (error) {
        const isDamage = isStreamError(error) && error.kafkaError === KafkaError.CORRUPT_MESSAGE
        if (!isDamage || this.#world.now >= deadlineMs) throw error
        await this.#world.run({ untilMs: this.#world.now + LOOK_MS })
      }
    }
  }

  #started(): SimBroker[] {
    return this.#brokers.filter(({ wasStarted }) => wasStarted)
  }

  #mayOrder(): boolean {
    return (this.#options.only?.includes('orders') ?? true) && this.#random.chance(0.5)
  }

  #order(): Promise<void> {
    const orders = new ClusterOrders({
      clients: this.#clientWorld(),
      truth: this.#truth,
      brokers: this.#brokers,
      random: this.#random.fork('orders'),
      isOver: () => this.#trouble.isOver,
      count: (order) => this.#trouble.count(order),
    })
    return orders.work()
  }

  /** What is served is served for good: the same value at an offset whoever is asked, and there in the end. */
  #watch(): Promise<void> {
    return watchTopic(this.#clientWorld(), {
      partitions: this.#partitions,
      isOver: () => this.#trouble.isOver,
      see: ({ partition, offset, value }) => {
        const place = `${partition}@${offset}`
        const before = this.#seen.get(place) ?? value
        this.#seen.set(place, value)
        if (before === value) return
        const detail = `${place} was served as ${before}, and later as ${value}`
        this.#anomalies.push({ kind: 'inconsistent-offsets', detail })
      },
    })
  }

  #compareSeen(found: readonly FoundRecord[]): void {
    const values = new Map(
      found.map(({ partition, offset, value }) => [`${partition}@${offset}`, value]),
    )
    for (const [place, value] of this.#seen) {
      if (values.get(place) === value) continue
      const detail = `${place} was served as ${value}, and is ${values.get(place)} in the end`
      this.#anomalies.push({ kind: 'inconsistent-offsets', detail })
    }
  }

  // --- judgement

  async #ends(work: Promise<unknown>, what: string): Promise<void> {
    let isOver = false
    const over = (): void => {
      isOver = true
    }
    work.then(over, over)
    await this.#until(() => isOver, what)
    await work
  }

  async #until(isSo: () => boolean, what: string): Promise<void> {
    const deadlineMs = this.#world.now + HEALTHY_MS
    while (!isSo()) {
      if (this.#world.now >= deadlineMs) {
        const state = this.#brokers.map((broker) => this.#stateOf(broker)).join('; ')
        throw new Error(`seed ${this.#world.seed}: not ${what} after ${HEALTHY_MS} ms: ${state}`)
      }
      await this.#world.run({ untilMs: this.#world.now + LOOK_MS })
    }
  }

  #stateOf({ host, daemon }: SimBroker): string {
    if (daemon === undefined) return `${host} down`
    const { image, table } = daemon.broker
    const topic = image.topic(TOPIC)
    if (topic === undefined) return `${host} knows no topic`
    const rows = [...image.partitions(topic.topicId).values()].map(({ partition, value }) => {
      const members = value.inSyncReplicas.map((member) => member.broker).join(',')
      const own = table.get(topic.topicId, partition)
      const log = own && ` end ${own.log.logEndOffset} committed ${own.highWatermark}`
      const move = `+${value.adding.join(',')} -${value.removing.join(',')}`
      return `${partition}: leader ${value.leader} epoch ${value.leaderEpoch} of ${value.replicas} ${move} in sync ${members}${log ?? ''}`
    })
    return `${host} ${daemon.state}, ${rows.join(', ')}`
  }

  /** I15: everybody sees a leader and all replicas in sync, and all logs of a partition end at one high watermark. */
  #isHealthy(): boolean {
    const ends = new Map<number, number>()
    return this.#started().every(({ daemon }) => {
      if (daemon === undefined) return false
      const { image, table } = daemon.broker
      const topic = image.topic(TOPIC)
      if (topic === undefined) return false
      return [...image.partitions(topic.topicId).values()].every(({ partition, value }) => {
        if (value.leader < 0 || value.inSyncReplicas.length < value.replicas.length) return false
        if (value.adding.length + value.removing.length > 0) return false
        const own = table.get(topic.topicId, partition)
        if ((own !== undefined) !== value.replicas.includes(daemon.broker.nodeId)) return false
        if (own === undefined) return true
        const end = ends.get(partition) ?? own.log.logEndOffset
        ends.set(partition, end)
        return own.highWatermark === end && own.log.logEndOffset === end
      })
    })
  }

  /** I3: between the largest log start and the smallest high watermark all replicas hold the same bytes. */
  async #compareReplicas(): Promise<void> {
    for (let index = 0; index < this.#partitions; index += 1) {
      const replicas = this.#brokers.flatMap((broker) => {
        const partition = partitionOf(broker, index)
        return partition === undefined ? [] : [{ broker, partition }]
      })
      const from = Math.max(...replicas.map(({ partition }) => partition.log.logStartOffset))
      const to = Math.min(...replicas.map(({ partition }) => partition.highWatermark))
      let expected: string | undefined
      for (const { broker } of replicas) {
        const { host } = broker
        const text = await this.#wholeBytes(broker, index, from, to)
        expected ??= text
        if (text === expected) continue
        const detail = `partition ${index} of ${host} differs between ${from} and ${to} (I3)`
        this.#anomalies.push({ kind: 'inconsistent-offsets', detail })
      }
    }
  }

  /** Damage that nobody has met yet is met here, and has to be repaired from the others. */
  async #wholeBytes(broker: SimBroker, index: number, from: number, to: number): Promise<string> {
    let text: string | undefined
    let why = ''
    const read = async (log: Partition['log']): Promise<void> => {
      log.core.cache.clear()
      try {
        text = await bytesOf(log, from, to)
      } catch (error) {
        why = String(error)
      }
    }
    const deadlineMs = this.#world.now + HEALTHY_MS
    for (;;) {
      // A death that was armed before the calm may come this late: what starts in its place is read.
      const log = partitionOf(broker, index)?.log
      if (log !== undefined) await this.#world.settle(read(log))
      const isWhole = log?.damage.length === 0 && isSound(broker.disk, log.directory)
      if (text !== undefined && isWhole) return text
      if (this.#world.now >= deadlineMs) {
        const what = `${broker.host} partition ${index}`
        throw new Error(`seed ${this.#world.seed}: ${what} is not repaired: ${why}`)
      }
      text = undefined
      await this.#world.run({ untilMs: this.#world.now + LOOK_MS })
    }
  }
}

interface ReadableLog {
  read(options: { offset: number; maxBytes: number; endOffset: number }): Promise<{
    readonly bytes: readonly Uint8Array[]
    readonly nextOffset: number
  }>
}

async function bytesOf(log: ReadableLog, from: number, to: number): Promise<string> {
  const parts: string[] = []
  for (let offset = from; offset < to; ) {
    const slice = await log.read({ offset, maxBytes: READ_BYTES, endOffset: to })
    for (const bytes of slice.bytes) parts.push(Buffer.from(bytes).toString('hex'))
    if (slice.nextOffset <= offset) break
    offset = slice.nextOffset
  }
  return parts.join('')
}
