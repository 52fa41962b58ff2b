/**
 * One simulated run of a cluster: daemons on simulated ports, a store with leases by time, producers and a reader of src/client,
 * faults drawn from the seed. First trouble, then calm: every partition must come to have all its replicas in sync, all must be
 * delivered and readable, judged without an anomaly (history.ts), and the replicas' logs must be the same bytes.
 *
 * | fault | what it does |
 * | --- | --- |
 * | crash | a daemon dies in the middle of any disk operation; the page cache survives |
 * | power | the same, and unsynced sectors and names are lost, kept or torn |
 * | links | links break with the message on them |
 * | repeat | a whole request arrives again, later, on another link |
 * | delay | messages take up to seconds |
 * | cut | two daemons, or a daemon and the clients, do not hear each other, one way or both |
 * | store | a daemon is cut off from the store |
 * | unknown | transactions of the store are lost, or applied unheard or late |
 * | lease | a lease ends while its holder lives |
 * | sync | a sync fails, the pages count as clean, the daemon is failed and is started again |
 * | clock | somebody sets a daemon's clock, up to a day |
 */
import { Admin } from '../../src/client/admin.ts'
import type { Disk } from '../../src/ports/disk.ts'
import type { MetadataStore } from '../../src/ports/metadata-store.ts'
import { type Anomaly, type FoundRecord, judge } from './history.ts'
import { SimBroker } from './sim-broker.ts'
import { type ClientWorld, produceLines, readTopic, type Sent, simClient } from './sim-clients.ts'
import { SimNetwork } from './sim-net.ts'
import type { SimRandom } from './sim-random.ts'
import { SimStoreServer } from './sim-store.ts'
import { SimWorld } from './sim-world.ts'

export type ClusterFault =
  | 'crash'
  | 'power'
  | 'links'
  | 'repeat'
  | 'delay'
  | 'cut'
  | 'store'
  | 'unknown'
  | 'lease'
  | 'sync'
  | 'clock'

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

const strikes = ['crash', 'power', 'cut', 'store', 'lease', 'sync', 'clock'] as const
type Strike = (typeof strikes)[number]

const DAY_MS = 86_400_000
const TOPIC = 'numbers'
/** After the last fault: how long the cluster may take until all is healthy (I15), simulated. */
const HEALTHY_MS = 120_000
const LOOK_MS = 250
const READ_BYTES = 1 << 20

export async function runCluster(
  seed: number | string,
  options: ClusterRunOptions = {},
): Promise<ClusterRunResult> {
  const run = new ClusterRun(seed, options)
  await run.play()
  return run.result()
}

class ClusterRun {
  readonly #options: ClusterRunOptions
  readonly #world: SimWorld
  readonly #random: SimRandom
  readonly #network: SimNetwork
  readonly #stores: SimStoreServer
  readonly #brokers: readonly SimBroker[]
  readonly #partitions: number
  readonly #fired: Record<string, number> = {}
  readonly #sent: Sent[] = []
  readonly #anomalies: Anomaly[] = []
  #troubled = true
  #clients = 0

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
      ]),
      ...(wrapDisk === undefined ? {} : { wrapDisk }),
      ...(wrapStore === undefined ? {} : { wrapStore }),
    }
    const count = options.brokers ?? 3
    this.#brokers = Array.from({ length: count }, (_, index) => new SimBroker(shared, index + 1))
  }

  async play(): Promise<void> {
    for (const broker of this.#brokers) broker.start()
    await this.#until(() => this.#brokers.every(({ daemon }) => daemon !== undefined), 'start')
    await this.#createTopic()
    this.#beginTrouble()
    const records = this.#options.records ?? 60 + this.#random.integer(100)
    const producers = Array.from({ length: this.#random.pick([1, 2, 3]) }, (_, index) =>
      produceLines(this.#clientWorld(), `p${index}`, this.#sent, {
        records,
        partitions: this.#partitions,
      }),
    )
    const all = Promise.all(producers)
    // Trouble lasts for a while, whether all is delivered before or not.
    this.#world.schedule(this.#random.between(20_000, 120_000), 'calm', () => this.#calm())
    await this.#world.settle(all)
    await this.#until(() => !this.#troubled, 'calm')
    await this.#until(() => this.#isHealthy(), 'healthy')
    const found = await this.#read()
    this.#anomalies.push(...judge({ sent: this.#sent, found }))
    for (const { acknowledged, value } of this.#sent) {
      if (acknowledged !== undefined) continue
      const detail = `${value} was never delivered, although all was calm in the end`
      this.#anomalies.push({ kind: 'lost-write', detail })
    }
    await this.#compareReplicas()
    for (const { daemon } of this.#brokers) {
      if (daemon !== undefined) await this.#world.settle(daemon.stop({ graceMs: 100 }))
    }
  }

  result(): ClusterRunResult {
    return {
      seed: this.#world.seed,
      traceHash: this.#world.traceHash,
      anomalies: this.#anomalies,
      fired: { ...this.#fired, ...this.#network.fired, ...this.#stores.fired },
      records: this.#sent.length,
      events: this.#world.eventCount,
      trace: this.#world.trace,
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

  #read(): Promise<FoundRecord[]> {
    this.#clients += 1
    return this.#world.settle(readTopic(this.#clientWorld(), `reader${this.#clients}`))
  }

  // --- trouble

  #mayHappen(fault: ClusterFault): boolean {
    return this.#options.only?.includes(fault) ?? true
  }

  #count(name: string): void {
    this.#fired[name] = (this.#fired[name] ?? 0) + 1
  }

  #beginTrouble(): void {
    const { faults } = this.#network
    if (this.#mayHappen('links') && this.#random.chance(0.5)) faults.loseLink = 0.01
    if (this.#mayHappen('repeat') && this.#random.chance(0.5)) faults.duplicate = 0.1
    if (this.#mayHappen('delay') && this.#random.chance(0.5)) faults.spike = 0.02
    if (this.#mayHappen('unknown') && this.#random.chance(0.5)) {
      this.#stores.faults.answerLost = 0.05
      this.#stores.faults.requestLost = 0.05
      this.#stores.faults.appliedLate = 0.05
    }
    const kinds = strikes.filter(
      // Each run has its own selection: all faults at once hide each other.
      (kind) => this.#mayHappen(kind) && this.#random.chance(0.6),
    )
    if (kinds.length === 0) return
    const next = (): void => {
      if (!this.#troubled) return
      this.#strike(this.#random.pick(kinds))
      this.#world.schedule(this.#random.between(500, 15_000), 'trouble', next)
    }
    this.#world.schedule(this.#random.between(10, 2000), 'trouble', next)
  }

  #strike(kind: Strike): void {
    this.#count(kind)
    switch (kind) {
      case 'crash':
        this.#killSoon(this.#random.pick(this.#brokers), 'process')
        return
      case 'power': {
        // Of one, of a minority, of all at once.
        const count = this.#random.pick([1, 1, 1, 2, this.#brokers.length])
        for (const broker of this.#shuffled().slice(0, count)) this.#killSoon(broker, 'power')
        return
      }
      case 'cut':
        this.#cut()
        return
      case 'store': {
        const { store } = this.#random.pick(this.#brokers)
        if (store === undefined) return
        store.isCutOff = true
        this.#world.schedule(this.#random.between(100, 30_000), 'store again', () => {
          store.isCutOff = false
        })
        return
      }
      case 'lease':
        this.#stores.expireAny()
        return
      case 'sync':
        this.#failSync(this.#random.pick(this.#brokers))
        return
      case 'clock':
        this.#random.pick(this.#brokers).jumpClock(this.#random.between(-DAY_MS, DAY_MS))
        return
    }
  }

  #shuffled(): SimBroker[] {
    const rest = [...this.#brokers]
    const order: SimBroker[] = []
    while (rest.length > 0) order.push(...rest.splice(this.#random.integer(rest.length), 1))
    return order
  }

  /** In the middle of one of its next operations on the disk; it comes back after a while. */
  #killSoon(broker: SimBroker, kind: 'process' | 'power'): void {
    if (broker.daemon === undefined) return
    const { disk } = broker
    disk.crashAtOperation = disk.operations + this.#random.pick([1, 1, 2, 3, 5, 10, 30])
    const giveUpMs = this.#world.now + 2000
    const look = (): void => {
      // What has not happened when calm comes never does.
      if (broker.disk !== disk || !(this.#troubled || disk.isDead)) return
      if (!disk.isDead && this.#world.now < giveUpMs) {
        this.#world.schedule(5, 'watch', look)
        return
      }
      broker.kill(kind)
      const awayMs = this.#random.pick([10, 500, 5000, 20_000])
      this.#world.schedule(this.#random.between(1, awayMs), `start ${broker.host}`, () => {
        if (broker.daemon === undefined) broker.start()
      })
    }
    this.#world.schedule(1, 'watch', look)
  }

  /** As a kernel does it: the bytes are not on the medium, and the next sync says that all is well. */
  #failSync(broker: SimBroker): void {
    const { disk } = broker
    let isOver = false
    disk.failsSync = () => {
      const fails = !isOver
      isOver = true
      return fails
    }
    this.#world.schedule(this.#random.between(500, 10_000), 'after the failed sync', () => {
      if (broker.disk !== disk || broker.daemon === undefined) return
      disk.failsSync = () => false
      if (!isOver) return
      broker.kill('process')
      broker.start()
    })
  }

  #cut(): void {
    const hosts = [...this.#brokers.map(({ host }) => host), 'p0']
    const from = this.#random.pick(hosts)
    const others = hosts.filter((host) => host !== from)
    const isolates = this.#random.chance(0.4)
    for (const to of isolates ? others : [this.#random.pick(others)]) {
      if (this.#random.chance(0.5)) this.#network.blockBoth(from, to)
      else this.#network.block(from, to)
    }
    this.#world.schedule(this.#random.between(200, 30_000), 'heal', () => this.#network.heal())
  }

  #calm(): void {
    this.#troubled = false
    this.#network.heal()
    this.#network.calm()
    this.#stores.calm()
    for (const { disk } of this.#brokers) {
      disk.crashAtOperation = Number.POSITIVE_INFINITY
      disk.failsSync = () => false
    }
  }

  // --- judgement

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
    const { image } = daemon.broker
    const topic = image.topic(TOPIC)
    if (topic === undefined) return `${host} knows no topic`
    const rows = [...image.partitions(topic.topicId).values()].map(({ partition, value }) => {
      const members = value.inSyncReplicas.map((member) => member.broker).join(',')
      return `${partition}: leader ${value.leader} epoch ${value.leaderEpoch} in sync ${members}`
    })
    return `${host} ${daemon.state}, ${rows.join(', ')}`
  }

  /** I15: everybody sees a leader and all replicas in sync, and all logs of a partition end at one high watermark. */
  #isHealthy(): boolean {
    const ends = new Map<number, number>()
    return this.#brokers.every(({ daemon }) => {
      if (daemon === undefined) return false
      const { image, table } = daemon.broker
      const topic = image.topic(TOPIC)
      if (topic === undefined) return false
      return [...image.partitions(topic.topicId).values()].every(({ partition, value }) => {
        if (value.leader < 0 || value.inSyncReplicas.length < value.replicas.length) return false
        const own = table.get(topic.topicId, partition)
        if (own === undefined) return !value.replicas.includes(daemon.broker.nodeId)
        const end = ends.get(partition) ?? own.log.logEndOffset
        ends.set(partition, end)
        return own.highWatermark === end && own.log.logEndOffset === end
      })
    })
  }

  /** I3: between the largest log start and the smallest high watermark all replicas hold the same bytes. */
  async #compareReplicas(): Promise<void> {
    const [first] = this.#brokers
    const topicId = first?.daemon?.broker.image.topic(TOPIC)?.topicId ?? ''
    for (let index = 0; index < this.#partitions; index += 1) {
      const replicas = this.#brokers.flatMap(({ daemon, host }) => {
        const partition = daemon?.broker.table.get(topicId, index)
        return partition === undefined ? [] : [{ host, partition }]
      })
      const from = Math.max(...replicas.map(({ partition }) => partition.log.logStartOffset))
      const to = Math.min(...replicas.map(({ partition }) => partition.highWatermark))
      let expected: string | undefined
      for (const { host, partition } of replicas) {
        const text = await this.#world.settle(bytesOf(partition.log, from, to))
        expected ??= text
        if (text === expected) continue
        const detail = `partition ${index} of ${host} differs between ${from} and ${to} (I3)`
        this.#anomalies.push({ kind: 'inconsistent-offsets', detail })
      }
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
