/**
 * One broker: data directory, metadata session, partitions, controller. Started in the order of replication.md section
 * 13 and section 15: in a cluster wait until nobody else has this broker's number; lock and recover the logs, judge the start,
 * register; alone: become controller, elect (leader epochs of all partitions rise in one transaction); in a cluster: campaign,
 * and wait until the controller has let it in; serve.
 *
 * Invariants:
 * - No partition leads at an epoch of a former incarnation.
 * - After a failed sync nothing is acknowledged any more: all partitions stop, the state says FAILED (section 7.2).
 */

import { StreamError } from '../../src/base/errors.ts'
import type { Log } from '../../src/ports/log.ts'
import type { Random } from '../../src/ports/random.ts'
import type { Time, Timer } from '../../src/ports/time.ts'
import type { DataDirectory } from '../log/data-directory.ts'
import { Scrubber } from '../log/scrubber.ts'
import type { Store } from '../metadata/commit.ts'
import type { LogView } from '../metadata/controller.ts'
import type { ImageChange, MetadataImage } from '../metadata/metadata-image.ts'
import type { MetadataKeys } from '../metadata/metadata-keys.ts'
import { refuseMovedHome } from '../metadata/moved-home.ts'
import { drain } from '../metadata/session.ts'
import { regressedStore } from '../metadata/session-file.ts'
import {
  WriterCounter,
  withoutRecovering,
  writeOwnPartition,
} from '../metadata/topic-transactions.ts'
import { BrokerConfig } from './broker-config.ts'
import type { BrokerOptions, BrokerPorts } from './broker-options.ts'
import {
  openDirectory,
  openHome,
  type Parts,
  prepare,
  sessionWaitMs,
  syncAncestors,
} from './broker-start.ts'
import type { LogInquiry, Reign } from './controller-pass.ts'
import { ControllerService, notController } from './controller-service.ts'
import { controllerSettings } from './controller-settings.ts'
import { awaitFreeNumber } from './free-number.ts'
import { Housekeeping } from './housekeeping.ts'
import type { PartitionTable } from './partition-table.ts'
import type { Peers } from './peers.ts'
import { ProducerIds } from './producer-ids.ts'
import type { Replication } from './replication.ts'
import type { SessionKeeper, SessionView } from './session-keeper.ts'
import { TopicController } from './topic-controller.ts'

export type { BrokerOptions, BrokerPorts, ClusterOptions } from './broker-options.ts'

/** etcd's limit of one transaction. */
const CLUSTER_OPERATIONS_MAX = 128
/** The longest wait for others to take over what a broker leads that is going. */
const DRAIN_MS = 30_000
const LOOK_AGAIN_MS = 10_000
const RECORD_PAUSE_MS = 5_000

export type BrokerState = 'RUNNING' | 'DISK_FULL' | 'FAILED' | 'STOPPING'

export class Broker {
  readonly nodeId: number
  readonly clusterId: string
  readonly config: BrokerConfig
  readonly directory: DataDirectory
  readonly image: MetadataImage
  readonly table: PartitionTable
  /** undefined: there are no other daemons. */
  readonly replication: Replication | undefined
  readonly topics: TopicController
  readonly producerIds: ProducerIds
  readonly scrubber: Scrubber
  readonly time: Time
  readonly random: Random
  readonly log: Log
  readonly startedMs: number
  /** Transactions and keys of the metadata store, for who writes its own partitions. */
  readonly store: Store
  readonly keys: MetadataKeys
  readonly #parts: Parts
  readonly #session: SessionKeeper
  /** undefined: the single daemon, which is the controller for its life. */
  readonly #controller: ControllerService | undefined
  readonly #housekeeping: Housekeeping
  readonly #stopListening: (() => void)[] = []
  #recordTimer: Timer | undefined
  #stopping = false
  #isEnding = false
  #stopped: Promise<void> | undefined

  private constructor(parts: Parts) {
    const { ports, config, directory, store, keys, image, table } = parts
    this.#parts = parts
    this.nodeId = parts.options.nodeId
    this.clusterId = directory.clusterId
    this.config = config
    this.directory = directory
    this.image = image
    this.table = table
    this.replication = parts.replication
    this.time = ports.time
    this.random = ports.random
    this.log = ports.log
    this.startedMs = ports.time.monotonicMs()
    this.store = store
    this.keys = keys
    this.#session = parts.session
    const { random, log, time } = ports
    const { cluster } = parts.options
    const operationsMax =
      parts.options.operationsMax ??
      (cluster === undefined ? Number.MAX_SAFE_INTEGER : CLUSTER_OPERATIONS_MAX)
    this.topics = new TopicController({
      nodeId: this.nodeId,
      store,
      keys,
      image,
      table,
      config,
      random,
      log,
      operationsMax,
      inquire: (nodeId, partitions) => this.#inquire(nodeId, partitions),
      reign: () => this.reign(),
    })
    if (cluster !== undefined) {
      this.#controller = new ControllerService({
        store,
        keys,
        image,
        session: parts.session,
        random,
        log,
        operationsMax,
        settings: controllerSettings(config),
        inquire: (nodeId, partitions) => this.#inquire(nodeId, partitions),
        finishInterrupted: () => this.topics.finishInterrupted(time.wallMs()),
      })
    }
    this.producerIds = new ProducerIds(store, keys, image, log)
    this.#housekeeping = new Housekeeping({
      time,
      log,
      table,
      directory,
      config,
      topics: this.topics,
      keepsAll: ({ topic, topicId, partition }) =>
        image.links.writerOf(topic, topicId, partition) !== undefined,
    })
    this.scrubber = new Scrubber({
      time,
      disk: ports.disk,
      log,
      directory,
      settings: () => ({
        intervalMs: config.number('stream.scrub.interval.ms'),
        bytesPerSecondMax: config.number('stream.scrub.max.bytes.per.second'),
      }),
      comparer: () => this.replication?.comparer,
    })
  }

  /**
   * @throws StreamError DIRECTORY_LOCKED, DATA_DIRECTORY_INVALID, CONFIG_INVALID, STORE_DAMAGED, STORE_UNAVAILABLE, FENCED, DISK_*
   */
  static async start(ports: BrokerPorts, options: BrokerOptions): Promise<Broker> {
    const config = new BrokerConfig(options.config)
    const expiration = config.number('producer.id.expiration.ms')
    refuseMovedHome(ports.disk, options.dataDirectory, options.cluster !== undefined)
    const shared = await openHome(ports, options)
    const undo: (() => Promise<void>)[] = []
    if (shared !== undefined) undo.push(() => shared.home.close())
    try {
      if (shared !== undefined) {
        const waitMs = sessionWaitMs(config.number('broker.session.timeout.ms'))
        const { nodeId, dataDirectory } = options
        const request = { nodeId, dataDirectory, clusterId: shared.clusterId, waitMs }
        await awaitFreeNumber(ports, shared.home, request)
      }
      const directory = await openDirectory(ports, {
        path: options.dataDirectory,
        bootId: options.bootId,
        nodeId: options.nodeId,
        reserveBytesMax: config.number('log.dir.reserve.bytes'),
        producerIdExpirationMs: expiration,
        hasBallast: options.hasBallast ?? false,
        ...(shared === undefined ? {} : { clusterId: shared.clusterId }),
        ...(options.cacheBytesMax === undefined ? {} : { cacheBytesMax: options.cacheBytesMax }),
        ...(options.openFilesMax === undefined ? {} : { openFilesMax: options.openFilesMax }),
      })
      undo.push(() => directory.close({ clean: false }))
      if (directory.isNew) await syncAncestors(ports.disk, directory.path)
      let home = shared?.home
      if (home === undefined) {
        const own =
          typeof ports.store === 'function'
            ? await ports.store(() => directory.lendRoom())
            : ports.store
        undo.push(() => own.close())
        home = own
      }
      const parts = await prepare(ports, options, config, directory, home, undo)
      const broker = new Broker(parts)
      undo.push(() => broker.#leave())
      await broker.#join()
      await broker.#serve()
      return broker
    } catch (error) {
      for (const step of undo.reverse()) await step().catch(() => undefined)
      throw error
    }
  }

  get dataEpoch(): number {
    return this.#session.dataEpoch
  }

  get incarnation(): string {
    return this.#session.incarnation
  }

  /** Its session in the metadata store, as it is now. */
  get session(): SessionView {
    return this.#session
  }

  get state(): BrokerState {
    if (this.directory.failure !== undefined) return 'FAILED'
    if (this.#session.failure !== undefined) return 'FAILED'
    if (this.#stopping) return 'STOPPING'
    return this.directory.refusesWrites() === undefined ? 'RUNNING' : 'DISK_FULL'
  }

  /** Requests to the other daemons; undefined: there are none. */
  get peers(): Peers | undefined {
    return this.replication?.peers
  }

  get isStopping(): boolean {
    return this.#stopping
  }

  /** Nothing waits here any more. In a cluster that is so once others lead what this broker led, not before. */
  get isEnding(): boolean {
    return this.#isEnding
  }

  /** Ids of the brokers that a client can talk to. */
  liveBrokers(): readonly number[] {
    const ids: number[] = []
    for (const broker of this.image.brokers().values()) {
      if (broker.live && broker.state !== 'FENCED') ids.push(broker.nodeId)
    }
    return ids.sort((a, b) => a - b)
  }

  /** −1: there is none, or none that this broker knows of: without a session its image may be of any age. */
  get controllerId(): number {
    if (this.#session.isSelfFenced()) return -1
    return this.image.controller?.brokerId ?? -1
  }

  /** Whether this broker may act as the controller now. */
  get isController(): boolean {
    return this.#controller?.isController ?? true
  }

  /** Where a live broker is reached, by its registration; undefined: it is not live, or has no such door. */
  endpointOf(nodeId: number, door: 'zmq' | 'kafka'): string | undefined {
    return this.image.session(nodeId) === undefined
      ? undefined
      : this.registeredEndpointOf(nodeId, door)
  }

  /** Where a broker was or is reached, live or not, as it has registered last. */
  registeredEndpointOf(nodeId: number, door: 'zmq' | 'kafka'): string | undefined {
    const endpoints = this.image.registration(nodeId)?.value.endpoints ?? []
    const scheme = door === 'zmq' ? 'tcp://' : 'kafka://'
    return endpoints.find((endpoint) => endpoint.startsWith(scheme))
  }

  sizeBytes(): number {
    let bytes = 0
    for (const partition of this.table.all()) bytes += partition.log.sizeBytes
    return bytes
  }

  /**
   * Says that it is going, and in a cluster waits until others lead what it led (at most 30 s); alone nothing moves. Requests in
   * work go on.
   */
  async beginStop(): Promise<void> {
    if (this.#stopping) return
    this.#stopping = true
    const { options } = this.#parts
    if (options.cluster === undefined) this.#isEnding = true
    // An older copy of the store is left as it is found.
    if (this.image.regressed !== undefined) {
      this.#isEnding = true
      return
    }
    const draining = drain(this.store, this.keys, this.#session.session)
      .then((revision) => (options.cluster === undefined ? undefined : this.#handOver(revision)))
      .catch((error: unknown) => {
        this.log.warn('the broker could not say that it leaves', { error: String(error) })
      })
    if (options.cluster === undefined) return void (await draining)
    const deadline = new AbortTimer(this.time, DRAIN_MS)
    await Promise.race([draining, deadline.passed])
    deadline.cancel()
    this.#isEnding = true
  }

  /** Writes everything down and lets go of directory and session. Idempotent. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop()
    return this.#stopped
  }

  async #stop(): Promise<void> {
    await this.beginStop()
    this.#isEnding = true
    await this.#controller?.stop()
    await this.topics.settled()
    await Promise.all([this.#housekeeping.stop(), this.scrubber.stop()])
    for (const remove of this.#stopListening) remove()
    this.#recordTimer?.cancel()
    this.replication?.stop()
    this.table.close()
    this.image.close()
    const { options, controllerLease, recordSeen } = this.#parts
    const clean = this.directory.failure === undefined
    try {
      if (options.cluster !== undefined && clean) await recordSeen()
      await this.directory.close({ clean, dataEpoch: this.dataEpoch })
    } finally {
      await controllerLease?.revoke().catch(() => undefined)
      await this.#session.end()
      await this.store.store.close()
    }
  }

  /**
   * What the controller's writes are guarded with now.
   * @throws StreamError NOT_CONTROLLER; STORE_UNAVAILABLE where the store does not answer this broker: who the controller is would be
   *   no help, for it is the store that it would have to write to
   */
  reign(): Reign {
    const reign = this.#parts.reign ?? this.#controller?.reign
    if (reign !== undefined) return reign
    const { nodeId, controllerId } = this
    throw this.#session.storeContact?.trouble ?? notController(controllerId, nodeId)
  }

  /** In a cluster: keeps the session, campaigns, and waits until a controller has let this broker in. */
  async #join(): Promise<void> {
    const controller = this.#controller
    if (controller === undefined) return
    const session = this.#session
    session.onFenced = (error) => this.#fence(error)
    session.onReturned = () => this.#bringInLine()
    this.#stopListening.push(this.image.onRegression((reason) => this.#refuseOldStore(reason)))
    session.start()
    controller.start()
    for (;;) {
      if (session.failure !== undefined) throw session.failure
      const view = this.image.broker(this.nodeId)
      const isIn = view?.state === 'ACTIVE' && view.incarnation === this.incarnation
      if (isIn && view.live) return
      const { controllerId } = this
      if (!(await this.#changeWithin(LOOK_AGAIN_MS))) {
        this.log.info('waiting for the controller to let this broker in', { controllerId })
      }
    }
  }

  async #leave(): Promise<void> {
    await this.#controller?.stop()
    await Promise.all([this.#housekeeping.stop(), this.scrubber.stop()])
    for (const remove of this.#stopListening) remove()
  }

  /** What it leads moves to others; the controller does that. */
  async #handOver(drainedAt: number): Promise<void> {
    if (drainedAt > 0) await this.image.catchUp(drainedAt)
    const mayHandOver = (): boolean =>
      this.#session.failure === undefined && this.image.regressed === undefined
    while (!this.#isEnding && mayHandOver() && this.#leadsForOthers()) {
      await this.#changeWithin(LOOK_AGAIN_MS)
    }
  }

  /** It leads a partition that another whole, active member in sync could lead. */
  #leadsForOthers(): boolean {
    const brokers = this.image.brokers()
    for (const topicId of this.image.partitionTopicIds()) {
      for (const { value } of this.image.partitions(topicId).values()) {
        if (value.leader !== this.nodeId) continue
        const hasOther = value.inSyncReplicas.some(({ broker, dataEpoch }) => {
          const view = broker === this.nodeId ? undefined : brokers.get(broker)
          return view?.live === true && view.state === 'ACTIVE' && view.dataEpoch === dataEpoch
        })
        if (hasOther) return true
      }
    }
    return false
  }

  /** @returns false: nothing has changed in this time */
  #changeWithin(delayMs: number): Promise<boolean> {
    return new Promise((resolve) => {
      const end = (hasChanged: boolean): void => {
        remove()
        removeSession()
        timer.cancel()
        resolve(hasChanged)
      }
      const timer = this.time.setTimer(delayMs, () => end(false))
      const remove = this.image.onChange(() => end(true))
      const removeSession = this.#session.onChange(() => end(true))
    })
  }

  /** Every leadership as the store has it now: after a lost session, before self-fencing ends. */
  async #bringInLine(): Promise<void> {
    const topicIds = new Set([...this.table.all()].map((partition) => partition.topicId))
    for (const topicId of topicIds) await this.table.reconcile(topicId)
  }

  /** The store has become an older copy of itself: nothing is served by its records until an operator has decided. */
  #refuseOldStore(reason: string): void {
    const error = regressedStore(this.directory.path, `the metadata store is old: ${reason}`, true)
    this.log.error('this daemon refuses the metadata store', {
      error: `${error.message}; ${error.hint}`,
    })
    this.#fence(error)
  }

  #fence(error: StreamError): void {
    for (const partition of this.table.all()) partition.stopServing('stopping')
    this.#parts.options.cluster?.onFenced?.(error)
  }

  /** Own logs are looked at; others are asked. */
  async #inquire(
    nodeId: number,
    partitions: Parameters<LogInquiry>[1],
  ): Promise<ReadonlyMap<string, LogView>> {
    if (nodeId !== this.nodeId) {
      if (this.replication === undefined) throw new StreamError('UNREACHABLE', 'no way to ask it')
      return this.replication.inquire(nodeId, partitions)
    }
    const found = new Map<string, LogView>()
    for (const { topicId, partition } of partitions) {
      const log = this.table.get(topicId, partition)?.log
      if (log === undefined) continue
      const { logEndOffset, lastBatchEpoch: lastEpoch = -1, latestEpoch = -1 } = log
      found.set(`${topicId}/${partition}`, { lastEpoch, logEndOffset, latestEpoch })
    }
    return found
  }

  async #serve(): Promise<void> {
    const { directory, image, table } = this
    this.#stopListening.push(
      directory.onFailure((failure) => this.#fail(failure)),
      image.onChange((change) => this.#follow(change)),
    )
    this.#applyBrokerConfig()
    if (directory.failure !== undefined) this.#fail(directory.failure)
    this.replication?.start(this.#session, table)
    await table.leadAll()
    if (this.#controller !== undefined) this.producerIds.prepare()
    else {
      await this.#clearRecovering()
      await this.topics.finishInterrupted(this.time.wallMs())
    }
    this.#housekeeping.start()
    this.scrubber.start()
  }

  #fail(failure: StreamError): void {
    this.log.error('the data directory has failed: nothing is acknowledged any more', {
      directory: this.directory.path,
      error: failure.message,
    })
    for (const partition of this.table.all()) partition.stopServing('storageFailed')
    if (this.#parts.options.cluster !== undefined) void this.#resign()
  }

  /**
   * It can lead and follow nothing any more: for the others it is dead, until it starts again, and what it has said of its
   * disk counts no more, whether or not the disk keeps that.
   */
  async #resign(): Promise<void> {
    await this.#controller?.stop().catch(() => undefined)
    await this.#session.resign('a sync has failed')
  }

  #follow(change: ImageChange): void {
    if (this.#isEnding) return
    this.#recordSoon()
    if (change.configScopes.size > 0) this.#applyBrokerConfig()
    for (const topicId of new Set([...change.topicIds, ...change.deletedTopicIds])) {
      this.table.reconcile(topicId).catch((error: unknown) => {
        if (this.#isEnding) return
        this.log.error('a topic could not be brought in line', { topicId, error: String(error) })
      })
    }
  }

  /** The largest revision seen is written down, so that the next start knows an older copy of the store. */
  #recordSoon(): void {
    if (this.#parts.options.cluster === undefined || this.#recordTimer !== undefined) return
    this.#recordTimer = this.time.setTimer(RECORD_PAUSE_MS, () => {
      this.#recordTimer = undefined
      if (this.#isEnding || this.image.regressed !== undefined) return
      this.#parts.recordSeen().catch((error: unknown) => {
        this.log.warn('what was seen of the metadata could not be written down', {
          error: String(error),
        })
      })
    })
  }

  #applyBrokerConfig(): void {
    const forAll = this.image.config('broker').value
    const forThis = this.image.config(`broker/${this.nodeId}`).value
    try {
      this.config.setDynamic(forAll, forThis)
    } catch (error) {
      this.log.error('broker configs of the store are left aside', { error: String(error) })
    }
    this.table.applyConfigToAll()
  }

  /** T5: a recovered leader serves, so followers may join again. */
  async #clearRecovering(): Promise<void> {
    const { store, keys } = this
    const { session } = this.#session
    const writers = new WriterCounter(session.sessionEpoch)
    for (const topicId of this.image.partitionTopicIds()) {
      for (const { partition, value, revision } of this.image.partitions(topicId).values()) {
        if (!value.recovering || value.leader !== this.nodeId) continue
        const change = {
          topicId,
          partition,
          revision,
          value: withoutRecovering(value, writers.next()),
        }
        await writeOwnPartition(store, keys, session, change)
      }
    }
  }
}

/** A wait that can be called off. */
class AbortTimer {
  readonly passed: Promise<void>
  readonly #timer: Timer

  constructor(time: Time, delayMs: number) {
    let pass: () => void = () => undefined
    this.passed = new Promise((resolve) => {
      pass = resolve
    })
    this.#timer = time.setTimer(delayMs, pass)
  }

  cancel(): void {
    this.#timer.cancel()
  }
}
