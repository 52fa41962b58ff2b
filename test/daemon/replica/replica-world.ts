/**
 * Several brokers' data planes on simulated ports: log, partitions, replication and the ZeroMQ door, with the real
 * messages in between. The controller is the test: `control()` applies the pure function next() to every partition, at
 * one moment, to what the store holds. `inspect()` checks the invariants of replication.md section 6.
 */
import type { Services } from '../../../daemon/apis/handler.ts'
import { listedRanges } from '../../../daemon/apis/listed-ranges.ts'
import { ParkedFetches } from '../../../daemon/apis/parked-fetches.ts'
import { Admission } from '../../../daemon/doors/admission.ts'
import { Complaints } from '../../../daemon/doors/complaints.ts'
import type { DoorOptions } from '../../../daemon/doors/door.ts'
import { Session } from '../../../daemon/doors/session.ts'
import { zmqRules } from '../../../daemon/doors/zmq.ts'
import { DataDirectory } from '../../../daemon/log/data-directory.ts'
import type { PartitionLog } from '../../../daemon/log/partition-log.ts'
import { type BrokerView, type LogView, next } from '../../../daemon/metadata/controller.ts'
import { MetadataImage } from '../../../daemon/metadata/metadata-image.ts'
import { MetadataKeys } from '../../../daemon/metadata/metadata-keys.ts'
import {
  decodeLive,
  decodePartition,
  decodeRegistration,
  encodeData,
  encodeLive,
  encodePartition,
  encodeRegistration,
  encodeTopic,
  type PartitionValue,
} from '../../../daemon/metadata/metadata-values.ts'
import { initialPartition } from '../../../daemon/metadata/topic-transactions.ts'
import { BrokerConfig } from '../../../daemon/replica/broker-config.ts'
import type { NotServing, Partition } from '../../../daemon/replica/partition.ts'
import { PartitionTable } from '../../../daemon/replica/partition-table.ts'
import { Replication } from '../../../daemon/replica/replication.ts'
import type { SessionView } from '../../../daemon/replica/session-keeper.ts'
import type { Log } from '../../../src/ports/log.ts'
import type { StoreOperation } from '../../../src/ports/metadata-store.ts'
import { SimDisk } from '../../sim/sim-disk.ts'
import { SimNetwork } from '../../sim/sim-net.ts'
import { type SimStore, SimStoreServer } from '../../sim/sim-store.ts'
import { SimTime } from '../../sim/sim-time.ts'
import { SimWorld } from '../../sim/sim-world.ts'
import { batchOf, recordsOf } from '../batches.ts'

export const TOPIC = 't'
export const TOPIC_ID = 'AbcdefghijklmnopqrstuA'
const CLUSTER_ID = 'CbcdefghijklmnopqrstuA'

export interface WorldOptions {
  readonly brokers?: number
  readonly partitions?: number
  readonly minInSync?: number
  readonly topicConfig?: Readonly<Record<string, string>>
  readonly config?: Readonly<Record<string, string>>
  /** Of the data directories: at the most a twentieth of the disk. */
  readonly reserveBytesMax?: number
}

/** What one broker's process holds; gone with it. */
export interface Running {
  readonly incarnation: string
  readonly time: SimTime
  readonly store: SimStore
  readonly directory: DataDirectory
  readonly image: MetadataImage
  readonly table: PartitionTable
  readonly replication: Replication
  readonly session: { sessionEpoch: number; dataEpoch: number; fenced: boolean }
}

export interface Acked {
  readonly partition: number
  readonly offset: number
  readonly value: string
}

export class Node {
  readonly nodeId: number
  disk: SimDisk
  running: Running | undefined
  boots = 1
  incarnations = 0

  constructor(nodeId: number, disk: SimDisk) {
    this.nodeId = nodeId
    this.disk = disk
  }

  get host(): string {
    return `b${this.nodeId}`
  }

  get endpoint(): string {
    return `tcp://${this.host}:7000`
  }

  partition(index = 0): Partition {
    const partition = this.running?.table.get(TOPIC_ID, index)
    if (partition === undefined) throw new Error(`broker ${this.nodeId} has no partition ${index}`)
    return partition
  }

  get log(): PartitionLog {
    return this.partition().log
  }
}

export class ReplicaWorld {
  readonly world: SimWorld
  readonly network: SimNetwork
  readonly stores: SimStoreServer
  readonly keys = new MetadataKeys(CLUSTER_ID)
  readonly nodes: Node[] = []
  readonly said: string[] = []
  readonly acked: Acked[] = []
  readonly problems: string[] = []
  readonly options: Required<WorldOptions>
  /** Largest high watermark a leader has shown, by partition. */
  readonly trueHighWatermark: number[] = []
  readonly #shown = new Map<string, number>()
  #written = 0

  constructor(seed: number | string, options: WorldOptions = {}) {
    this.options = {
      brokers: 3,
      partitions: 1,
      minInSync: 2,
      topicConfig: {},
      config: {},
      reserveBytesMax: 0,
      ...options,
    }
    this.world = new SimWorld(seed)
    this.network = new SimNetwork(this.world, { deadAfterMs: 2000, connectTimeoutMs: 1000 })
    this.stores = new SimStoreServer(this.world, { leases: 'time' })
    for (let nodeId = 1; nodeId <= this.options.brokers; nodeId += 1) {
      const time = new SimTime(this.world, { name: `disk${nodeId}` })
      this.nodes.push(new Node(nodeId, new SimDisk(this.world.random.fork(`disk${nodeId}`), time)))
    }
  }

  node(nodeId: number): Node {
    return this.nodes[nodeId - 1] as Node
  }

  run(ms: number): Promise<void> {
    return this.world.run({ untilMs: this.world.now + ms })
  }

  settle<T>(promise: Promise<T>): Promise<T> {
    return this.world.settle(promise)
  }

  until(condition: () => boolean, limitMs = 60_000): Promise<void> {
    const endMs = this.world.now + limitMs
    return this.world.run({
      until: () => {
        if (this.world.now > endMs) throw new Error(`not so after ${limitMs} ms`)
        return condition()
      },
    })
  }

  // --- the store, by hand

  record(partition = 0): { readonly value: PartitionValue; readonly revision: number } {
    const key = this.keys.partition(TOPIC_ID, partition)
    const entry = this.stores.image.get(key)
    if (entry === undefined) throw new Error(`no record of partition ${partition}`)
    return { value: decodePartition(key, entry.value), revision: entry.modRevision }
  }

  put(...writes: StoreOperation[]): number {
    return this.stores.apply({ compare: [], then: writes }).revision
  }

  /** Makes the topic, led by the first broker, all others in sync. */
  createTopic(): void {
    const { partitions, minInSync, topicConfig, brokers } = this.options
    const value = { topicId: TOPIC_ID, partitions, config: topicConfig, state: 'READY' } as const
    const writes: StoreOperation[] = [
      { kind: 'put', key: this.keys.topic(TOPIC), value: encodeTopic(value) },
    ]
    for (let index = 0; index < partitions; index += 1) {
      const replicas = this.nodes.map((_, at) => {
        const node = this.nodes[(at + index) % brokers] as Node
        return { broker: node.nodeId, dataEpoch: this.dataEpoch(node.nodeId) }
      })
      const leader = this.node((replicas[0] as { broker: number }).broker)
      const record = initialPartition({
        replicas,
        leaderIncarnation: leader.running?.incarnation ?? '',
        minInSync,
        writer: { epoch: 1, counter: 0 },
      })
      const key = this.keys.partition(TOPIC_ID, index)
      writes.push({ kind: 'put', key, value: encodePartition(record) })
    }
    this.put(...writes)
  }

  dataEpoch(nodeId: number): number {
    return this.stores.image.get(this.keys.data(nodeId))?.modRevision ?? 0
  }

  views(): Map<number, BrokerView> {
    const views = new Map<number, BrokerView>()
    for (const { nodeId } of this.nodes) {
      const live = this.stores.image.get(this.keys.live(nodeId))
      const key = this.keys.registration(nodeId)
      const registration = this.stores.image.get(key)
      if (registration === undefined) continue
      const { state, incarnation } = decodeRegistration(key, registration.value)
      views.set(nodeId, {
        nodeId,
        live: live !== undefined,
        incarnation: live === undefined ? incarnation : decodeLive(key, live.value).incarnation,
        state,
        dataEpoch: this.dataEpoch(nodeId),
        directoryOnline: true,
      })
    }
    return views
  }

  /** The controller looks at every partition, and activates whoever has registered. */
  control(cause: 'event' | 'timeout' = 'event', unclean = false): void {
    this.#decide(cause, unclean)
    let activated = false
    for (const { nodeId } of this.nodes) {
      const key = this.keys.registration(nodeId)
      const entry = this.stores.image.get(key)
      if (entry === undefined || this.stores.image.get(this.keys.live(nodeId)) === undefined)
        continue
      const value = decodeRegistration(key, entry.value)
      if (value.state !== 'FENCED') continue
      this.put({ kind: 'put', key, value: encodeRegistration({ ...value, state: 'ACTIVE' }) })
      activated = true
    }
    if (activated) this.#decide(cause, unclean)
  }

  #decide(cause: 'event' | 'timeout', unclean: boolean): void {
    const logs = new Map<number, LogView>()
    for (let index = 0; index < this.options.partitions; index += 1) {
      if (this.stores.image.get(this.keys.partition(TOPIC_ID, index)) === undefined) return
      const { value } = this.record(index)
      for (const node of this.nodes) {
        const log = node.running?.table.get(TOPIC_ID, index)?.log
        if (log === undefined) continue
        logs.set(node.nodeId, {
          lastEpoch: log.lastBatchEpoch ?? -1,
          logEndOffset: log.logEndOffset,
        })
      }
      const config = {
        uncleanElection: unclean,
        commitFlush: this.options.topicConfig['flush.messages'] === undefined,
      }
      const decision = next(value, this.views(), logs, config, cause)
      if (!decision.changed) continue
      const key = this.keys.partition(TOPIC_ID, index)
      this.put({ kind: 'put', key, value: encodePartition(decision.partition) })
    }
  }

  /** Moves a leadership by hand to another in-sync replica. */
  elect(nodeId: number, partition = 0): void {
    const { value } = this.record(partition)
    const leaderIncarnation = this.views().get(nodeId)?.incarnation ?? ''
    const key = this.keys.partition(TOPIC_ID, partition)
    const changed = {
      ...value,
      leader: nodeId,
      leaderIncarnation,
      leaderEpoch: value.leaderEpoch + 1,
      partitionEpoch: value.partitionEpoch + 1,
    }
    this.put({ kind: 'put', key, value: encodePartition(changed) })
  }

  // --- brokers

  async startAll(): Promise<void> {
    for (const node of this.nodes) await this.start(node)
    this.createTopic()
    await this.until(() =>
      this.nodes.every((node) => node.running?.table.partitionCount === this.options.partitions),
    )
  }

  start(node: Node, lossy = false): Promise<void> {
    return this.settle(this.launch(node, lossy))
  }

  /** As start, beside the running world. */
  async launch(node: Node, lossy = false): Promise<void> {
    const { keys } = this
    const random = this.world.random.fork(`b${node.nodeId}.${node.boots}.${node.incarnations}`)
    const time = new SimTime(this.world, { name: node.host })
    const log = this.#log(node)
    const store = this.stores.connect()
    const directory = await DataDirectory.open(
      { time, random, disk: node.disk, log },
      {
        path: '/data',
        bootId: `boot${node.boots}`,
        clusterId: CLUSTER_ID,
        nodeId: node.nodeId,
        reserveBytesMax: this.options.reserveBytesMax,
        // Small, so that followers read from files as well.
        cacheBytesMax: 2000,
      },
    )
    const image = await MetadataImage.open({ store, time }, keys, log)
    node.incarnations += 1
    const incarnation = `${node.host}-${node.incarnations}`
    const config = new BrokerConfig(new Map(Object.entries(this.options.config)))
    const net = this.network.host(node.host)
    const replication = new Replication({
      nodeId: node.nodeId,
      time,
      net,
      log,
      config,
      image,
      store: { store, time },
      keys,
      refusesWrites: () => directory.refusesWrites(),
    })
    const table = new PartitionTable(
      { image, directory, config, log, replication },
      node.nodeId,
      incarnation,
    )
    const loss = await table.openAll()
    const isUnknown = directory.isNew || this.dataEpoch(node.nodeId) === 0
    const isLossy = lossy || loss !== undefined || isUnknown
    const sessionEpoch = this.#register(node, incarnation, isLossy)
    const session = { sessionEpoch, dataEpoch: this.dataEpoch(node.nodeId), fenced: false }
    node.running = {
      incarnation,
      time,
      store,
      directory,
      image,
      table,
      replication,
      session,
    }
    this.control()
    await image.waitFor(this.stores.image.revision)
    await this.#listen(node, node.running, config, log)
    const view: SessionView = {
      nodeId: node.nodeId,
      incarnation,
      get sessionEpoch() {
        return session.sessionEpoch
      },
      dataEpoch: session.dataEpoch,
      isSelfFenced: () => session.fenced,
      storeContact: undefined,
    }
    replication.start(view, table)
    image.onChange((change) => {
      for (const topicId of change.topicIds) {
        table.reconcile(topicId).catch((error: unknown) => {
          this.said.push(`${node.host} ${String(error)}`)
        })
      }
    })
    await table.leadAll()
  }

  #register(node: Node, incarnation: string, lossy: boolean): number {
    const { keys } = this
    const registration = encodeRegistration({
      incarnation,
      endpoints: [node.endpoint],
      rack: `rack-${node.nodeId}`,
      directories: [],
      state: 'FENCED',
    })
    const writes: StoreOperation[] = [
      { kind: 'put', key: keys.live(node.nodeId), value: encodeLive({ incarnation }) },
      { kind: 'put', key: keys.registration(node.nodeId), value: registration },
    ]
    if (lossy) {
      const value = encodeData({ incarnation, reason: 'test' })
      writes.push({ kind: 'put', key: keys.data(node.nodeId), value })
    }
    return this.put(...writes)
  }

  async #listen(node: Node, running: Running, config: BrokerConfig, log: Log): Promise<void> {
    const { time, table, image, directory, replication } = running
    const broker = {
      nodeId: node.nodeId,
      clusterId: CLUSTER_ID,
      table,
      image,
      config,
      directory,
      log,
      time,
      replication,
      isStopping: false,
      isEnding: false,
      session: { isSelfFenced: () => running.session.fenced },
      dataEpoch: running.session.dataEpoch,
    }
    const services = { broker, phase: 'A', parkedFetches: new ParkedFetches(1000) }
    const door: DoorOptions = {
      services: services as unknown as Services,
      endpoint: () => ({ host: node.endpoint, port: 0 }),
      admission: new Admission(
        time,
        { requestsMax: 1000, requestBytesMax: 1 << 26, queuedBytesMax: 1 << 26 },
        undefined,
      ),
      complaints: new Complaints(log),
      log,
      listed: new Map(listedRanges('zmq', 'A').map((range) => [range.apiKey, range])),
      queuedBytesMax: 1 << 26,
      requestsMax: 1000,
    }
    const limits = { messageBytesMax: 1 << 26, linksMax: 1000 }
    await this.network
      .host(node.host)
      .listen(node.endpoint, limits, (link) => new Session(link, zmqRules, door))
  }

  /** The process dies; with 'power' the machine does. The store notices when `expire` is called. */
  crash(node: Node, kind: 'process' | 'power' = 'power'): void {
    const { running } = node
    this.network.crash(node.host)
    if (running !== undefined) {
      running.time.halt()
      this.stores.crash(running.store)
    }
    const time = new SimTime(this.world, { name: `disk${node.nodeId}` })
    node.disk = node.disk.restart(kind, time)
    node.running = undefined
    if (kind === 'power') node.boots += 1
  }

  /** The session of a dead or cut-off broker has ended. */
  expire(node: Node): void {
    this.put({ kind: 'delete', key: this.keys.live(node.nodeId) })
    this.control()
  }

  // --- clients

  leader(partition = 0): Node | undefined {
    return this.nodes.find(
      (node) =>
        node.running?.table.get(TOPIC_ID, partition)?.notServing === undefined &&
        node.running?.table.get(TOPIC_ID, partition) !== undefined,
    )
  }

  /** Appends one batch at a broker that leads; what is acknowledged is remembered. */
  produce(node: Node, partition = 0, records = 1): Promise<'committed' | NotServing | 'refused'> {
    const target = node.partition(partition)
    if (target.notServing !== undefined || target.isUnderMinInSync)
      return Promise.resolve('refused')
    const values = Array.from({ length: records }, () => {
      this.#written += 1
      return `v${this.#written}`
    })
    const { firstOffset, nextOffset } = target.append(batchOf(values))
    return new Promise((resolve) => {
      target.whenCommitted({
        endOffset: nextOffset,
        onCommitted: () => {
          for (const [at, value] of values.entries()) {
            this.acked.push({ partition, offset: firstOffset + at, value })
          }
          resolve('committed')
        },
        onLost: (why) => resolve(why),
      })
    })
  }

  // --- what must hold

  /** Checks I5, I6, I8 and I10's consequence at this moment. */
  inspect(): void {
    for (let index = 0; index < this.options.partitions; index += 1) this.#inspect(index)
  }

  #inspect(index: number): void {
    const record = this.record(index).value
    for (const node of this.nodes) {
      const partition = node.running?.table.get(TOPIC_ID, index)
      if (partition === undefined || partition.notServing !== undefined) continue
      const { highWatermark, leaderEpoch } = partition
      const key = `${index} ${leaderEpoch}`
      const before = this.#shown.get(key) ?? 0
      if (highWatermark < before)
        this.#problem(`I8: ${key} fell from ${before} to ${highWatermark}`)
      this.#shown.set(key, highWatermark)
      const shown = this.trueHighWatermark[index] ?? 0
      if (highWatermark <= shown) continue
      this.trueHighWatermark[index] = highWatermark
      const holders = this.nodes.filter(
        (other) =>
          (other.running?.table.get(TOPIC_ID, index)?.log.durableOffset ?? 0) >= highWatermark,
      )
      const dead = this.nodes.filter((other) => other.running === undefined)
      if (holders.length + dead.length < record.minInSync) {
        this.#problem(`I6: ${highWatermark} of ${key} is durable on ${holders.length} brokers`)
      }
      const maximal = partition.replicas?.value.inSyncReplicas ?? record.inSyncReplicas
      const pending = partition.replicas?.pending?.follower?.nodeId
      if (record.leaderEpoch !== leaderEpoch) continue
      for (const { broker } of record.inSyncReplicas) {
        if (!maximal.some((member) => member.broker === broker) && broker !== pending) {
          this.#problem(`I5: ${broker} is in sync and does not count at ${node.nodeId}`)
        }
      }
    }
  }

  /** I3, I4, I7 once everything is at rest: every replica in sync holds every record that was acknowledged. */
  async compare(): Promise<void> {
    for (let index = 0; index < this.options.partitions; index += 1) {
      const contents = new Map<number, Map<number, string>>()
      for (const node of this.nodes) {
        const partition = node.running?.table.get(TOPIC_ID, index)
        if (partition === undefined) continue
        contents.set(node.nodeId, await this.read(partition.log, partition.highWatermark))
      }
      const [first, ...others] = [...contents]
      for (const [nodeId, content] of others) {
        for (const [offset, bytes] of content) {
          const theirs = first?.[1].get(offset)
          if (theirs !== undefined && theirs !== bytes) {
            this.#problem(`I3: brokers ${first?.[0]} and ${nodeId} differ at ${offset}`)
          }
        }
      }
      const { value } = this.record(index)
      for (const { broker } of value.inSyncReplicas) {
        const content = contents.get(broker)
        if (content === undefined) continue
        const found = new Map<number, string>()
        for (const bytes of content.values()) {
          const batch = Buffer.from(bytes, 'latin1')
          for (const { offset, value: text } of recordsOf(batch)) found.set(offset, text ?? '')
        }
        for (const { partition, offset, value: text } of this.acked) {
          if (partition === index && found.get(offset) !== text) {
            this.#problem(
              `I7: ${text} at ${offset} was acknowledged; broker ${broker} has ${found.get(offset)}`,
            )
          }
        }
      }
    }
  }

  /** Batches below `end`, by base offset. */
  async read(log: PartitionLog, end = log.logEndOffset): Promise<Map<number, string>> {
    const found = new Map<number, string>()
    let offset = log.logStartOffset
    while (offset < end) {
      const slice = await this.settle(log.read({ offset, maxBytes: 1, endOffset: end }))
      if (slice.nextOffset <= offset) break
      found.set(slice.firstOffset, Buffer.concat(slice.bytes as Uint8Array[]).toString('latin1'))
      offset = slice.nextOffset
    }
    return found
  }

  #problem(text: string): void {
    this.problems.push(`${this.world.now.toFixed(1)} ${text}`)
  }

  #log(node: Node): Log {
    const say = (level: string) => (message: string, fields?: object) => {
      this.said.push(
        `${this.world.now.toFixed(1)} ${node.host} ${level} ${message} ${JSON.stringify(fields ?? {})}`,
      )
    }
    return { debug: say('debug'), info: say('info'), warn: say('warn'), error: say('error') }
  }
}
