/**
 * One broker: data directory, metadata session, partitions, controller. Started in the order of replication.md section
 * 13 and section 15: lock and recover the logs, judge the start, register, become controller, elect (leader epochs of
 * all partitions rise in one transaction), serve.
 *
 * Invariants:
 * - No partition leads at an epoch of a former incarnation.
 * - After a failed sync nothing is acknowledged any more: all partitions stop, the state says FAILED (section 7.2).
 */

import { isStreamError, StreamError } from '../../src/base/errors.ts'
import type { Disk } from '../../src/ports/disk.ts'
import type { Log } from '../../src/ports/log.ts'
import type { MetadataStore, StoreLease } from '../../src/ports/metadata-store.ts'
import type { Net } from '../../src/ports/net.ts'
import type { Random } from '../../src/ports/random.ts'
import type { Time } from '../../src/ports/time.ts'
import { DataDirectory, type DataDirectoryOptions } from '../log/data-directory.ts'
import type { Store } from '../metadata/commit.ts'
import { type BrokerView, type LogView, next } from '../metadata/controller.ts'
import { judgeStart } from '../metadata/lossy-start.ts'
import { type ImageChange, MetadataImage } from '../metadata/metadata-image.ts'
import { clusterOfKey, MetadataKeys, STORE_PREFIX } from '../metadata/metadata-keys.ts'
import {
  becomeController,
  drain,
  ensureMeta,
  registerSession,
  type Session,
} from '../metadata/session.ts'
import { refuseRegressedStore, SessionFile, type SessionRecord } from '../metadata/session-file.ts'
import { newUuid } from '../metadata/topic-names.ts'
import {
  chunkPartitionChanges,
  type PartitionChange,
  WriterCounter,
  withoutRecovering,
  writeOwnPartition,
  writePartitions,
} from '../metadata/topic-transactions.ts'
import { BrokerConfig } from './broker-config.ts'
import { Housekeeping } from './housekeeping.ts'
import { PartitionTable } from './partition-table.ts'
import { ProducerIds } from './producer-ids.ts'
import { Replication } from './replication.ts'
import { TopicController } from './topic-controller.ts'

const SESSION_LEASE_MS = 10_000
const CONTROLLER_LEASE_MS = 5_000

export interface BrokerPorts {
  readonly time: Time
  readonly random: Random
  readonly disk: Disk
  /** A function is called once the data directory is locked: a home inside of it must not be opened before. */
  readonly store: MetadataStore | (() => Promise<MetadataStore>)
  readonly log: Log
  /** For links to other daemons; only in a cluster. */
  readonly net?: Net
}

export interface BrokerOptions {
  /** Among other daemons; absent: this one is alone. */
  readonly cluster?: {
    /** Where the others and clients reach this one. */
    readonly endpoints: readonly string[]
  }
  readonly dataDirectory: string
  readonly nodeId: number
  /** Broker configs by name, as set by flags, environment and files. */
  readonly config: ReadonlyMap<string, string>
  readonly bootId: string | undefined
  /** The data is an old copy: nothing in it counts as acknowledged. */
  readonly restored: boolean
  /** Largest transaction of the store; the embedded home has no limit. */
  readonly operationsMax?: number
  /** Recent batches kept in memory over all logs. */
  readonly cacheBytesMax?: number
}

export type BrokerState = 'RUNNING' | 'DISK_FULL' | 'FAILED' | 'STOPPING'

interface Parts {
  readonly ports: BrokerPorts
  readonly options: BrokerOptions
  readonly config: BrokerConfig
  readonly directory: DataDirectory
  readonly store: Store
  readonly keys: MetadataKeys
  readonly image: MetadataImage
  readonly session: Session
  readonly leases: readonly StoreLease[]
  readonly controllerEpoch: number
  readonly table: PartitionTable
  readonly replication: Replication | undefined
  readonly writers: WriterCounter
}

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
  readonly time: Time
  readonly random: Random
  readonly log: Log
  readonly startedMs: number
  readonly #parts: Parts
  readonly #housekeeping: Housekeeping
  readonly #stopListening: (() => void)[] = []
  #stopping = false
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
    const { random, log, time } = ports
    this.topics = new TopicController(
      { store, keys, image, table, config, random, log },
      { controllerEpoch: parts.controllerEpoch },
      parts.writers,
      parts.session,
      parts.options.operationsMax ?? Number.MAX_SAFE_INTEGER,
    )
    this.producerIds = new ProducerIds(store, keys)
    this.#housekeeping = new Housekeeping({
      time,
      log,
      table,
      directory,
      config,
      topics: this.topics,
    })
  }

  /**
   * @throws StreamError DIRECTORY_LOCKED, DATA_DIRECTORY_INVALID, CONFIG_INVALID, STORE_DAMAGED, FENCED, DISK_*
   */
  static async start(ports: BrokerPorts, options: BrokerOptions): Promise<Broker> {
    const config = new BrokerConfig(options.config)
    const expiration = config.number('producer.id.expiration.ms')
    const directory = await openDirectory(ports, {
      path: options.dataDirectory,
      bootId: options.bootId,
      nodeId: options.nodeId,
      reserveBytesMax: config.number('log.dir.reserve.bytes'),
      producerIdExpirationMs: expiration,
      ...(options.cacheBytesMax === undefined ? {} : { cacheBytesMax: options.cacheBytesMax }),
    })
    const undo: (() => Promise<void>)[] = [() => directory.close({ clean: false })]
    try {
      if (directory.isNew) await syncAncestors(ports.disk, directory.path)
      const home = typeof ports.store === 'function' ? await ports.store() : ports.store
      undo.push(() => home.close())
      const parts = await prepare(ports, options, config, directory, home, undo)
      const broker = new Broker(parts)
      await broker.#serve()
      return broker
    } catch (error) {
      for (const step of undo.reverse()) await step().catch(() => undefined)
      throw error
    }
  }

  get dataEpoch(): number {
    return this.#parts.session.dataEpoch
  }

  get incarnation(): string {
    return this.#parts.session.incarnation
  }

  get state(): BrokerState {
    if (this.directory.failure !== undefined) return 'FAILED'
    if (this.#stopping) return 'STOPPING'
    return this.directory.refusesWrites() === undefined ? 'RUNNING' : 'DISK_FULL'
  }

  get isStopping(): boolean {
    return this.#stopping
  }

  /** Ids of the brokers that a client can talk to. */
  liveBrokers(): readonly number[] {
    const ids: number[] = []
    for (const broker of this.image.brokers().values()) {
      if (broker.live && broker.state !== 'FENCED') ids.push(broker.nodeId)
    }
    return ids.sort((a, b) => a - b)
  }

  get controllerId(): number {
    return this.image.controller?.brokerId ?? -1
  }

  sizeBytes(): number {
    let bytes = 0
    for (const partition of this.table.all()) bytes += partition.log.sizeBytes
    return bytes
  }

  /** Hands over what it leads (with one broker nothing moves) and lets nobody new in; requests in work go on. */
  async beginStop(): Promise<void> {
    if (this.#stopping) return
    this.#stopping = true
    const { store, keys, session } = this.#parts
    await drain(store, keys, session).catch((error: unknown) => {
      this.log.warn('the broker could not say that it leaves', { error: String(error) })
    })
  }

  /** Writes everything down and lets go of directory and session. Idempotent. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop()
    return this.#stopped
  }

  async #stop(): Promise<void> {
    await this.beginStop()
    await this.topics.settled()
    await this.#housekeeping.stop()
    for (const remove of this.#stopListening) remove()
    this.replication?.stop()
    this.table.close()
    this.image.close()
    const { session, leases, store } = this.#parts
    const clean = this.directory.failure === undefined
    try {
      await this.directory.close({ clean, dataEpoch: session.dataEpoch })
    } finally {
      for (const lease of leases) await lease.revoke().catch(() => undefined)
      await store.store.close()
    }
  }

  async #serve(): Promise<void> {
    const { directory, image, table } = this
    this.#stopListening.push(
      directory.onFailure((failure) => this.#fail(failure)),
      image.onChange((change) => this.#follow(change)),
    )
    this.#applyBrokerConfig()
    if (directory.failure !== undefined) this.#fail(directory.failure)
    const { nodeId, incarnation, sessionEpoch, dataEpoch } = this.#parts.session
    this.replication?.start(
      { nodeId, incarnation, sessionEpoch, dataEpoch, isSelfFenced: () => false },
      () => table.all(),
    )
    await table.leadAll()
    await this.#clearRecovering()
    await this.topics.finishInterrupted(this.time.wallMs())
    this.#housekeeping.start()
  }

  #fail(failure: StreamError): void {
    this.log.error('the data directory has failed: nothing is acknowledged any more', {
      directory: this.directory.path,
      error: failure.message,
    })
    for (const partition of this.table.all()) partition.stopServing('storageFailed')
  }

  #follow(change: ImageChange): void {
    if (this.#stopping) return
    if (change.configScopes.size > 0) this.#applyBrokerConfig()
    for (const topicId of new Set([...change.topicIds, ...change.deletedTopicIds])) {
      this.table.reconcile(topicId).catch((error: unknown) => {
        this.log.error('a topic could not be brought in line', { topicId, error: String(error) })
      })
    }
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
    const { store, keys, session } = this.#parts
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

/** Everything up to the election; what it opens is pushed on `undo`. */
async function prepare(
  ports: BrokerPorts,
  options: BrokerOptions,
  config: BrokerConfig,
  directory: DataDirectory,
  home: MetadataStore,
  undo: (() => Promise<void>)[],
): Promise<Parts> {
  const { time, random, disk, log } = ports
  const { nodeId } = options
  const store: Store = { store: home, time }
  const keys = new MetadataKeys(directory.clusterId)
  await refuseForeignStore(home, keys, directory.path)
  await ensureMeta(store, keys)
  const image = await MetadataImage.open(store, keys, log)
  undo.push(async () => image.close())

  const incarnation = newUuid(random)
  config.setDynamic(image.config('broker').value, image.config(`broker/${nodeId}`).value)
  const replication =
    options.cluster === undefined || ports.net === undefined
      ? undefined
      : new Replication({ nodeId, time, net: ports.net, log, config, image, store, keys })
  const table = new PartitionTable(
    { image, directory, config, log, ...(replication === undefined ? {} : { replication }) },
    nodeId,
    incarnation,
  )
  undo.push(async () => table.close())
  const recoveryLoss = await table.openAll()

  const sessionFile = new SessionFile(disk, directory.path)
  const found = sessionFile.read()
  const record: SessionRecord =
    found.kind === 'found' ? found.record : { incarnations: [], dataEpoch: undefined, revision: 0 }
  const verdict = judgeStart({
    directoryIsNew: directory.isNew,
    cleanDataEpoch: directory.cleanShutdown?.dataEpoch,
    recordedDataEpoch: record.dataEpoch,
    recordedIncarnations: record.incarnations,
    sameBoot: directory.sameBoot === true,
    hostsAsyncFlush: [...table.all()].some((partition) => partition.config.flushMessages > 1),
    recoveryLoss,
    syncFailed: directory.failedBefore,
    storedDataEpoch: image.broker(nodeId)?.dataEpoch || undefined,
    storedIncarnation: image.registration(nodeId)?.value.incarnation,
    recordedRevision: record.revision,
    storeRevision: image.revision,
    restored: options.restored,
  })
  if (verdict.kind === 'storeRegressed') refuseRegressedStore(directory.path, verdict.reason)
  const isFirst = image.registration(nodeId) === undefined
  if (verdict.kind === 'lossy' && !isFirst) {
    log.warn('acknowledged records may be missing', { reason: verdict.reason })
  }

  const withOwn = (registered: boolean): SessionRecord['incarnations'] => [
    ...record.incarnations,
    { incarnation, registered },
  ]
  await sessionFile.write({ ...record, incarnations: withOwn(false) })
  const lease = await home.lease(SESSION_LEASE_MS)
  undo.push(() => lease.revoke())
  const session = await registerSession(store, keys, {
    nodeId,
    incarnation,
    endpoints: [],
    rack: config.text('broker.rack'),
    directories: [directory.directoryId],
    lease,
    lossyReason: verdict.kind === 'lossy' ? verdict.reason : undefined,
  })
  await sessionFile.write({
    incarnations: withOwn(true),
    dataEpoch: session.dataEpoch,
    revision: session.registrationRevision,
  })
  const controllerLease = await home.lease(CONTROLLER_LEASE_MS)
  undo.push(() => controllerLease.revoke())
  const controllerEpoch = await becomeController(store, keys, session, controllerLease)
  await image.waitFor(controllerEpoch)
  const writers = new WriterCounter(controllerEpoch)
  const parts: Parts = {
    ports,
    options,
    config,
    directory,
    store,
    keys,
    image,
    session,
    leases: [controllerLease, lease],
    controllerEpoch,
    table,
    replication,
    writers,
  }
  await activate(parts)
  return parts
}

/**
 * Evaluates all partitions against this registration and writes them together with ACTIVE. Where the store's limit does
 * not allow one transaction, first as fenced (which ends every leadership of a former incarnation), then ACTIVE, then
 * the elections.
 */
async function activate(parts: Parts): Promise<void> {
  const { store, keys, image, session, controllerEpoch } = parts
  const hold = { controllerEpoch }
  const operationsMax = parts.options.operationsMax ?? Number.MAX_SAFE_INTEGER
  const guard = {
    nodeId: session.nodeId,
    sessionEpoch: session.sessionEpoch,
    dataEpoch: session.dataEpoch,
  }
  const write = async (
    changes: readonly PartitionChange[],
    leads: boolean,
    activates: boolean,
  ): Promise<void> => {
    const result = await writePartitions(
      store,
      keys,
      hold,
      changes,
      leads ? [guard] : [],
      activates ? session : undefined,
    )
    if (!result.succeeded) {
      throw new StreamError('FENCED', 'another daemon has taken this broker’s place')
    }
    await image.waitFor(result.revision)
  }
  const elected = evaluate(parts, true)
  if (elected.length + 8 <= operationsMax) {
    await write(elected, true, true)
    return
  }
  for (const chunk of chunkPartitionChanges(evaluate(parts, false), operationsMax)) {
    await write(chunk, false, false)
  }
  await write([], false, true)
  for (const chunk of chunkPartitionChanges(evaluate(parts, true), operationsMax)) {
    await write(chunk, true, false)
  }
}

/** The controller's decisions on all partitions, with this broker taken as active or as fenced. */
function evaluate(parts: Parts, isActive: boolean): readonly PartitionChange[] {
  const { image, session, table, writers } = parts
  const brokers = new Map<number, BrokerView>(image.brokers())
  brokers.set(session.nodeId, {
    nodeId: session.nodeId,
    live: true,
    incarnation: session.incarnation,
    state: isActive ? 'ACTIVE' : 'FENCED',
    dataEpoch: session.dataEpoch,
    directoryOnline: parts.directory.failure === undefined,
  })
  const changes: PartitionChange[] = []
  for (const topic of image.topics()) {
    for (const { partition, value, revision } of image.partitions(topic.topicId).values()) {
      const own = table.get(topic.topicId, partition)
      const logs = new Map<number, LogView>()
      if (own !== undefined) {
        logs.set(session.nodeId, {
          lastEpoch: own.log.latestEpoch ?? -1,
          logEndOffset: own.log.logEndOffset,
        })
      }
      const config = {
        uncleanElection: own?.config.uncleanLeaderElectionEnable ?? false,
        commitFlush: own?.config.flushMessages === 1,
      }
      const decision = next(value, brokers, logs, config, 'event')
      if (!decision.changed) continue
      const changed = { ...decision.partition, writer: writers.next() }
      changes.push({ topicId: topic.topicId, partition, revision, value: changed })
    }
  }
  return changes
}

/** @throws StreamError as DataDirectory.open; DATA_DIRECTORY_INVALID where there can be no directory */
async function openDirectory(
  ports: BrokerPorts,
  options: DataDirectoryOptions,
): Promise<DataDirectory> {
  try {
    return await DataDirectory.open(ports, options)
  } catch (error) {
    if (!isStreamError(error, 'FILE_NOT_FOUND')) throw error
    throw new StreamError('DATA_DIRECTORY_INVALID', error.message, {
      target: options.path,
      cause: error,
    })
  }
}

/** A new directory must not vanish with its name in a power cut, after records in it were acknowledged. */
async function syncAncestors(disk: Disk, path: string): Promise<void> {
  for (let end = path.lastIndexOf('/'); end >= 0; end = path.lastIndexOf('/', end - 1)) {
    try {
      await disk.syncDirectory(end === 0 ? '/' : path.slice(0, end))
    } catch (error) {
      // Where we may not even look we have made nothing.
      if (!isStreamError(error, 'PERMISSION_DENIED')) throw error
    }
    if (end === 0) return
  }
}

/** A store that already belongs to another cluster is not ours to write. */
async function refuseForeignStore(
  home: MetadataStore,
  keys: MetadataKeys,
  directory: string,
): Promise<void> {
  if ((await home.get(keys.meta())) !== undefined) return
  const listing = await home.list(STORE_PREFIX)
  for (const { key } of listing.entries) {
    const cluster = clusterOfKey(key)
    if (cluster !== undefined && cluster !== keys.clusterId) {
      throw new StreamError(
        'DATA_DIRECTORY_INVALID',
        `${directory}: its metadata belongs to cluster ${cluster}, its data to ${keys.clusterId}`,
        { target: directory },
      )
    }
  }
}
