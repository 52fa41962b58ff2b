/**
 * How a broker comes up (replication.md sections 13 and 15): recover the logs, judge the start, register. A single daemon then
 * becomes the controller and elects itself for all partitions in one transaction; in a cluster the controller lets it in.
 */

import { isStreamError, StreamError } from '../../src/base/errors.ts'
import type { Disk } from '../../src/ports/disk.ts'
import type { MetadataStore, StoreLease } from '../../src/ports/metadata-store.ts'
import { DataDirectory, type DataDirectoryOptions } from '../log/data-directory.ts'
import { commit, type Store } from '../metadata/commit.ts'
import { type BrokerView, type LogView, next } from '../metadata/controller.ts'
import { findRegression, judgeStart, type StartFacts } from '../metadata/lossy-start.ts'
import { MetadataImage } from '../metadata/metadata-image.ts'
import { clusterOfKey, MetadataKeys, STORE_PREFIX } from '../metadata/metadata-keys.ts'
import { declareStoreRestored } from '../metadata/restored-store.ts'
import { becomeController, ensureMeta, type SessionRequest } from '../metadata/session.ts'
import {
  type PartitionEpochs,
  regressedStore,
  SessionFile,
  type SessionRecord,
} from '../metadata/session-file.ts'
import { newUuid } from '../metadata/topic-names.ts'
import {
  chunkPartitionChanges,
  type PartitionChange,
  WriterCounter,
  writePartitions,
} from '../metadata/topic-transactions.ts'
import type { BrokerConfig } from './broker-config.ts'
import type { BrokerOptions, BrokerPorts } from './broker-options.ts'
import type { Reign } from './controller-pass.ts'
import { PartitionTable } from './partition-table.ts'
import { Replication } from './replication.ts'
import { openSession, SessionKeeper, type SessionPorts } from './session-keeper.ts'
import { assertWelcome, type PeerDoor } from './welcome.ts'

/** Beyond twice a session's life: a dead predecessor's lease, begun anew by a new leader of the store, has ended by then. */
const SESSION_WAIT_MS = 5_000

/** So long another session of this node is waited for: it may be that of a dead daemon. */
export function sessionWaitMs(ttlMs: number): number {
  return 2 * ttlMs + SESSION_WAIT_MS
}

/** The key that names the cluster of a store, for brokers that were not told. */
const CLUSTER_KEY = `${STORE_PREFIX}cluster`

export interface Parts {
  readonly ports: BrokerPorts
  readonly options: BrokerOptions
  readonly config: BrokerConfig
  readonly directory: DataDirectory
  readonly store: Store
  readonly keys: MetadataKeys
  readonly image: MetadataImage
  readonly session: SessionKeeper
  readonly table: PartitionTable
  /** undefined: the single daemon. */
  readonly replication: Replication | undefined
  /** The single daemon's, for its life; undefined in a cluster. */
  readonly reign: Reign | undefined
  readonly controllerLease: StoreLease | undefined
  /** Writes down how far the store was seen, so that the next start knows an older copy of it. */
  readonly recordSeen: () => Promise<void>
}

/** The store's home where it must be known before the data directory, and the cluster that the directory belongs to. */
export async function openHome(
  ports: BrokerPorts,
  options: BrokerOptions,
): Promise<{ readonly home: MetadataStore; readonly clusterId: string } | undefined> {
  const { cluster } = options
  if (cluster === undefined) return undefined
  const home =
    typeof ports.store === 'function' ? await ports.store(() => () => undefined) : ports.store
  try {
    const clusterId = cluster.clusterId ?? (await findCluster(home, ports, options.dataDirectory))
    return { home, clusterId }
  } catch (error) {
    await home.close().catch(() => undefined)
    throw error
  }
}

/** Of the first broker of an empty store: that of its data directory, else a new one. */
async function findCluster(
  home: MetadataStore,
  { disk, random, time }: BrokerPorts,
  directory: string,
): Promise<string> {
  const bytes = disk.readFile(`${directory}/meta.properties`)
  const known = /^cluster\.id=(.+)$/m.exec(bytes === undefined ? '' : textOf(bytes))?.[1]?.trim()
  const own = known ?? newUuid(random)
  const result = await commit(
    { store: home, time },
    {
      compare: [{ kind: 'createRevision', key: CLUSTER_KEY, equals: 0 }],
      writes: [{ kind: 'put', key: CLUSTER_KEY, value: Buffer.from(own, 'utf8') }],
      otherwise: [{ kind: 'get', key: CLUSTER_KEY }],
    },
  )
  const found = result.gets[0]
  return found === undefined ? own : textOf(found.value)
}

function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('utf8')
}

/** Everything up to the registration; what it opens is pushed on `undo`. */
export async function prepare(
  ports: BrokerPorts,
  options: BrokerOptions,
  config: BrokerConfig,
  directory: DataDirectory,
  home: MetadataStore,
  undo: (() => Promise<void>)[],
): Promise<Parts> {
  const { time, random, log } = ports
  const { nodeId, cluster } = options
  const store: Store = { store: home, time }
  const keys = new MetadataKeys(directory.clusterId)
  if (cluster === undefined) await refuseForeignStore(home, keys, directory.path)
  await ensureMeta(store, keys)
  const image = await MetadataImage.open(store, keys, log)
  undo.push(async () => image.close())
  if (cluster?.asksForWelcome === true && ports.net !== undefined) {
    await assertWelcome(time, ports.net, otherDoors(image, nodeId))
  }

  const incarnation = newUuid(random)
  config.setDynamic(image.config('broker').value, image.config(`broker/${nodeId}`).value)
  const replication =
    options.cluster === undefined || ports.net === undefined
      ? undefined
      : new Replication({
          nodeId,
          time,
          net: ports.net,
          log,
          config,
          image,
          store,
          keys,
          refusesWrites: () => directory.refusesWrites(),
        })
  const table = new PartitionTable(
    { image, directory, config, log, ...(replication === undefined ? {} : { replication }) },
    nodeId,
    incarnation,
  )
  undo.push(async () => table.close())
  if (hasLostItsWord(ports.disk, directory, image, nodeId)) directory.distrustPageCache()
  const recoveryLoss = await table.openAll()

  const { session, recordSeen } = await register(
    { ports, options, config, directory, store, keys, image, table, replication },
    incarnation,
    recoveryLoss,
  )
  undo.push(() => session.end())
  await table.openRest()
  const common = {
    ports,
    options,
    config,
    directory,
    store,
    keys,
    image,
    session,
    table,
    replication,
    recordSeen,
  }
  if (cluster !== undefined) return { ...common, reign: undefined, controllerLease: undefined }
  const controllerLease = await home.lease(session.ttlMs)
  undo.push(() => controllerLease.revoke())
  const controllerEpoch = await becomeController(store, keys, session.session, controllerLease)
  await image.waitFor(controllerEpoch)
  const reign = { controllerEpoch, writers: new WriterCounter(controllerEpoch) }
  await activateAlone({ ...common, reign })
  return { ...common, reign, controllerLease }
}

/** The store has taken back what this directory knows of itself: its disk has failed, or it is an old copy. */
function hasLostItsWord(
  disk: Disk,
  directory: DataDirectory,
  image: MetadataImage,
  nodeId: number,
): boolean {
  const found = new SessionFile(disk, directory.path).read()
  const recorded = found.kind === 'found' ? found.record.dataEpoch : undefined
  return recorded !== undefined && recorded < (image.broker(nodeId)?.dataEpoch ?? 0)
}

function otherDoors(image: MetadataImage, nodeId: number): readonly PeerDoor[] {
  const doors: PeerDoor[] = []
  for (const broker of image.brokers().values()) {
    if (broker.nodeId === nodeId || !broker.live) continue
    const endpoints = image.registration(broker.nodeId)?.value.endpoints ?? []
    const endpoint = endpoints.find((address) => address.startsWith('tcp://'))
    if (endpoint !== undefined) doors.push({ nodeId: broker.nodeId, endpoint })
  }
  return doors
}

type Unregistered = Omit<Parts, 'session' | 'reign' | 'controllerLease' | 'recordSeen'>

/** T1 or T7, as the directory and the store judge the start. */
async function register(
  parts: Unregistered,
  incarnation: string,
  recoveryLoss: string | undefined,
): Promise<Pick<Parts, 'session' | 'recordSeen'>> {
  const { ports, options, config, directory, store, keys, image } = parts
  const { nodeId, cluster } = options
  const sessionFile = new SessionFile(ports.disk, directory.path)
  const found = sessionFile.read()
  const before: SessionRecord =
    found.kind === 'found' ? found.record : { incarnations: [], dataEpoch: undefined, revision: 0 }
  let record: SessionRecord = {
    ...before,
    incarnations: [...before.incarnations, { incarnation, registered: false }],
  }
  // This process holds the directory's lock, so the one before is gone, and its session need not be waited for.
  if (cluster !== undefined && before.leaseId !== undefined) {
    await store.store.revokeLease?.(before.leaseId).catch(() => undefined)
    await image.refresh()
  }
  // Writes come one after the other: what is recorded last must be what stands in the file.
  let writing: Promise<void> = Promise.resolve()
  const write = (change: Partial<SessionRecord>): Promise<void> => {
    record = { ...record, ...change }
    const whole = record
    writing = writing
      .catch(() => undefined)
      .then(() => directory.withRoom(() => sessionFile.write(whole)))
    return writing
  }
  if (cluster === undefined) await write({})
  let isJudged = false
  let restoredId = before.restoredId
  const judge = async (): Promise<Omit<SessionRequest, 'lease'>> => {
    if (isJudged) await image.refresh()
    isJudged = true
    const facts = factsNow(parts, before, recoveryLoss)
    if (cluster !== undefined && options.restored && !facts.storeDeclared) {
      const regression = findRegression(facts)
      if (regression !== undefined) {
        ports.log.warn('the metadata store counts from now on although it is an old copy', {
          regression,
        })
        await declareStoreRestored(store, keys, image, newUuid(ports.random))
      }
    }
    const verdict = judgeStart(factsNow(parts, before, recoveryLoss))
    if (verdict.kind === 'storeRegressed') {
      throw regressedStore(directory.path, verdict.reason, cluster !== undefined)
    }
    restoredId = image.restored?.id
    const registration = image.registration(nodeId)
    if (verdict.kind === 'lossy' && registration !== undefined) {
      ports.log.warn('acknowledged records may be missing', { reason: verdict.reason })
    }
    return {
      nodeId,
      incarnation,
      endpoints: cluster?.endpoints ?? [],
      rack: config.text('broker.rack'),
      directories: [directory.directoryId],
      lossyReason: verdict.kind === 'lossy' ? verdict.reason : undefined,
      judged: {
        dataEpoch: image.broker(nodeId)?.dataEpoch ?? 0,
        registrationRevision: registration?.revision ?? 0,
      },
    }
  }
  const sessionPorts: SessionPorts = {
    store,
    keys,
    image,
    log: ports.log,
    recordLease: async (leaseId) => {
      if (cluster !== undefined) await write({ leaseId })
    },
  }
  const ttlMs = config.number('broker.session.timeout.ms')
  const open = await openSession(sessionPorts, judge, {
    ttlMs,
    waitMs: cluster === undefined ? 0 : sessionWaitMs(ttlMs),
  })
  await write({
    incarnations: [...before.incarnations, { incarnation, registered: true }],
    dataEpoch: open.session.dataEpoch,
    revision: open.session.registrationRevision,
    restoredId,
    ...(cluster === undefined ? {} : { partitionEpochs: epochsSeen(image, nodeId) }),
  })
  return {
    session: new SessionKeeper(sessionPorts, open, cluster !== undefined),
    recordSeen: () =>
      write({
        revision: Math.max(image.revision, record.revision),
        partitionEpochs: epochsSeen(image, nodeId),
      }),
  }
}

function factsNow(
  { options, directory, image, table }: Unregistered,
  record: SessionRecord,
  recoveryLoss: string | undefined,
): StartFacts {
  const { nodeId } = options
  const sharesStore = options.cluster !== undefined
  return {
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
    sharesStore,
    epochAhead: sharesStore ? findEpochAhead(image, table, record.partitionEpochs) : undefined,
    storeDeclared:
      sharesStore && image.restored !== undefined && image.restored.id !== record.restoredId,
  }
}

function epochsSeen(image: MetadataImage, nodeId: number): PartitionEpochs {
  const seen: Record<string, number[]> = {}
  for (const topicId of image.partitionTopicIds()) {
    for (const { partition, value } of image.partitions(topicId).values()) {
      if (!value.replicas.includes(nodeId)) continue
      const epochs = seen[topicId] ?? []
      seen[topicId] = epochs
      while (epochs.length < partition) epochs.push(-1)
      epochs[partition] = value.partitionEpoch
    }
  }
  return seen
}

/**
 * A partition whose epochs the store has not reached: its leader epoch by the log, its partition epoch by what was seen last. Revisions
 * alone do not tell: after a restore they rise again. Records older than the operator's word on the store are known to be old.
 */
function findEpochAhead(
  image: MetadataImage,
  table: PartitionTable,
  seen: PartitionEpochs = {},
): string | undefined {
  for (const { topic, topicId, partition, log } of table.all()) {
    const record = image.partition(topicId, partition)
    if (record === undefined || record.revision <= (image.restored?.revision ?? 0)) continue
    const { leaderEpoch, partitionEpoch } = record.value
    const { latestEpoch = -1 } = log
    if (latestEpoch > leaderEpoch) {
      return `${topic}-${partition} was led at epoch ${latestEpoch}, the store knows ${leaderEpoch}`
    }
    const seenEpoch = seen[topicId]?.[partition] ?? -1
    if (seenEpoch > partitionEpoch) {
      return `${topic}-${partition} was at partition epoch ${seenEpoch}, the store knows ${partitionEpoch}`
    }
  }
  return undefined
}

type AloneParts = Omit<Parts, 'controllerLease' | 'reign'> & { readonly reign: Reign }

/**
 * Evaluates all partitions against this registration and writes them together with ACTIVE. Where the store's limit does
 * not allow one transaction, first as fenced (which ends every leadership of a former incarnation), then ACTIVE, then
 * the elections.
 */
async function activateAlone(parts: AloneParts): Promise<void> {
  const { store, keys, image, reign } = parts
  const { session } = parts.session
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
      reign,
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
function evaluate(parts: AloneParts, isActive: boolean): readonly PartitionChange[] {
  const { image, session, table, reign } = parts
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
      const changed = { ...decision.partition, writer: reign.writers.next() }
      changes.push({ topicId: topic.topicId, partition, revision, value: changed })
    }
  }
  return changes
}

/** @throws StreamError as DataDirectory.open; DATA_DIRECTORY_INVALID where there can be no directory */
export async function openDirectory(
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
export async function syncAncestors(disk: Disk, path: string): Promise<void> {
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
