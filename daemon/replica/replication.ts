/**
 * Replication of one broker among others: the links, a fetcher for each leader that is followed, and the keeper of the
 * in-sync replicas. A single daemon has none of it.
 */

import { StreamError } from '../../src/base/errors.ts'
import type { Log } from '../../src/ports/log.ts'
import type { Net } from '../../src/ports/net.ts'
import type { Time, Timer } from '../../src/ports/time.ts'
import type { Store } from '../metadata/commit.ts'
import type { LogView } from '../metadata/controller.ts'
import type { MetadataImage, PartitionImage } from '../metadata/metadata-image.ts'
import type { MetadataKeys } from '../metadata/metadata-keys.ts'
import { decodePartition, type PartitionValue } from '../metadata/metadata-values.ts'
import { tellFull } from '../metadata/session.ts'
import { isInternalTopic } from '../metadata/topic-names.ts'
import type { BrokerConfig } from './broker-config.ts'
import { Comparer } from './comparer.ts'
import { FetchLanes, type FetchLanesPorts } from './fetch-lanes.ts'
import { FullDisk } from './full-disk.ts'
import { InSyncKeeper } from './in-sync-keeper.ts'
import { LeadershipResignation } from './leadership-resignation.ts'
import type { Partition, ReplicaHost } from './partition.ts'
import { PEER_CLIENT_PREFIX, type PeerAddress, Peers } from './peers.ts'
import { Repairer } from './repairer.ts'
import { isListed, ReplicationQuota } from './replication-quota.ts'
import type { SessionView } from './session-keeper.ts'

/** The partitions that this broker holds: partition-table.ts. */
export interface PartitionsHere {
  all(): Iterable<Partition>
  get(topicId: string, partition: number): Partition | undefined
}

export interface ReplicationPorts {
  readonly nodeId: number
  readonly time: Time
  readonly net: Net
  readonly log: Log
  readonly config: BrokerConfig
  readonly image: MetadataImage
  readonly store: Store
  readonly keys: MetadataKeys
  /** Why nothing can be written to the data directory now; undefined: it can. */
  readonly refusesWrites: () => StreamError | undefined
}

/** A partition record as a linearizable read has found it. */
export interface ConfirmedRecord {
  readonly value: PartitionValue
  readonly revision: number
}

const LOG_INFO_TIMEOUT_MS = 5000
const RACK_SELECTOR = /^rack$|RackAwareReplicaSelector$/
const DESERTED_LOOK_MS = 500

export class Replication implements ReplicaHost {
  readonly nodeId: number
  readonly peers: Peers
  /** Of what is sent to followers, and of what is copied from leaders. */
  readonly leaderQuota: ReplicationQuota
  readonly followerQuota: ReplicationQuota
  readonly #ports: ReplicationPorts
  readonly #fetchers = new Map<number, FetchLanes>()
  readonly #leaderOf = new Map<Partition, number>()
  readonly #resignation: LeadershipResignation
  #session: SessionView | undefined
  #keeper: InSyncKeeper | undefined
  #repairer: Repairer | undefined
  #fullDisk: FullDisk | undefined
  #comparer: Comparer | undefined
  #fetchNumber = 0
  #stopListening: (() => void) | undefined
  #deserted: Timer | undefined
  #isStopped = false

  constructor(ports: ReplicationPorts) {
    this.#ports = ports
    this.nodeId = ports.nodeId
    this.#resignation = new LeadershipResignation(ports)
    const { time, config } = ports
    this.leaderQuota = new ReplicationQuota(time, () =>
      config.number('leader.replication.throttled.rate'),
    )
    this.followerQuota = new ReplicationQuota(time, () =>
      config.number('follower.replication.throttled.rate'),
    )
    this.peers = new Peers({
      time: ports.time,
      net: ports.net,
      log: ports.log,
      clientId: `${PEER_CLIENT_PREFIX}${ports.nodeId}`,
      addressOf: (nodeId) => zmqAddressOf(ports.image, nodeId),
    })
  }

  /** Begins to follow and to keep in-sync replicas; what the table has done before counts. */
  start(session: SessionView, here: PartitionsHere): void {
    const { time, log, store, keys, image } = this.#ports
    const partitions = (): Iterable<Partition> => here.all()
    this.#session = session
    const lagMsMax = (): number => this.lagMsMax()
    this.#keeper = new InSyncKeeper({ store, keys, time, log, session, partitions, lagMsMax })
    this.#stopListening = image.onChange((change) => {
      if (!change.brokersChanged) return
      this.peers.brokersChanged()
      // Somebody may join, or must leave, now.
      for (const partition of partitions()) {
        if (partition.replicas !== undefined) this.#keeper?.consider(partition)
      }
    })
    const { clusterId } = keys
    const wake = (partition: Partition): void => this.#wake(partition)
    const shared = { time, log, image, peers: this.peers, clusterId, session }
    const repairer = new Repairer({ ...shared, partitions, wake })
    this.#repairer = repairer
    this.#comparer = new Comparer({
      ...shared,
      find: (topicId, partition) => here.get(topicId, partition),
      isHeld: (partition) => repairer.isHeld(partition),
    })
    this.#fullDisk = new FullDisk({
      nodeId: this.nodeId,
      time,
      log,
      image,
      partitions,
      refusesWrites: this.#ports.refusesWrites,
      tell: (isFull) => tellFull(store, keys, session, isFull),
      resign: async (record, isForWrites) => {
        if (session.isSelfFenced() || image.regressed !== undefined) return false
        const { nodeId, sessionEpoch } = session
        return this.#resignation.resignFull({ nodeId, sessionEpoch }, record, isForWrites)
      },
    })
    for (const partition of partitions()) this.followingChanged(partition)
    this.#keeper.start()
    repairer.start()
    this.#fullDisk.start()
    this.#lookForDeserted(session, partitions)
  }

  stop(): void {
    this.#isStopped = true
    this.#stopListening?.()
    this.#deserted?.cancel()
    this.#keeper?.stop()
    this.#repairer?.stop()
    this.#fullDisk?.stop()
    this.#comparer?.stop()
    for (const fetcher of this.#fetchers.values()) fetcher.stop()
    this.#fetchers.clear()
    this.peers.close()
  }

  /** Clients of a leader that nobody follows any more are sent elsewhere, those that wait as well. */
  #lookForDeserted(session: SessionView, partitions: () => Iterable<Partition>): void {
    if (this.#isStopped) return
    if (session.isSelfFenced()) {
      for (const partition of partitions()) {
        // Who appends to internal topics goes by the leader epoch alone.
        if (!isInternalTopic(partition.topic) && partition.isDeserted) partition.releaseDeserted()
      }
    }
    const look = (): void => this.#lookForDeserted(session, partitions)
    this.#deserted = this.#ports.time.setTimer(DESERTED_LOOK_MS, look)
  }

  // --- for the partitions

  nowMs(): number {
    return this.#ports.time.monotonicMs()
  }

  lagMsMax(): number {
    return this.#ports.config.number('replica.lag.time.max.ms')
  }

  isSelfFenced(): boolean {
    return this.#session?.isSelfFenced() ?? false
  }

  registrationOf(nodeId: number): number | undefined {
    const { image } = this.#ports
    const broker = image.broker(nodeId)
    if (broker?.live !== true || broker.state !== 'ACTIVE') return undefined
    return image.registration(nodeId)?.revision
  }

  dataEpochOf(nodeId: number): number {
    return this.#ports.image.broker(nodeId)?.dataEpoch ?? 0
  }

  isFull(nodeId: number): boolean {
    return this.#ports.image.broker(nodeId)?.isFull === true
  }

  mayPropose(partition: Partition): void {
    this.#keeper?.consider(partition)
  }

  followingChanged(partition: Partition): void {
    const session = this.#session
    if (session === undefined || this.#isStopped) return
    const before = this.#leaderOf.get(partition)
    if (before !== undefined) {
      this.#leaderOf.delete(partition)
      const fetcher = this.#fetchers.get(before)
      fetcher?.remove(partition)
      if (fetcher?.isIdle === true) {
        fetcher.stop()
        this.#fetchers.delete(before)
      }
    }
    const { follower } = partition
    if (follower === undefined) return
    const { leader } = follower.following
    if (leader < 0 || leader === this.nodeId) return
    let fetcher = this.#fetchers.get(leader)
    if (fetcher === undefined) {
      fetcher = new FetchLanes(this.#fetcherPorts(session), leader)
      this.#fetchers.set(leader, fetcher)
    }
    this.#leaderOf.set(partition, leader)
    fetcher.add(partition, follower)
  }

  #wake(partition: Partition): void {
    const leader = this.#leaderOf.get(partition)
    if (leader !== undefined) this.#fetchers.get(leader)?.wake()
  }

  /**
   * The record as it stands, by a linearizable read: before it is acted on as a leader for the first time.
   * @returns undefined when it is gone
   * @throws StreamError STORE_UNAVAILABLE
   */
  async confirm(topicId: string, partition: number): Promise<ConfirmedRecord | undefined> {
    const { store, keys } = this.#ports
    const key = keys.partition(topicId, partition)
    const entry = await store.store.get(key)
    if (entry === undefined) return undefined
    return { value: decodePartition(key, entry.value), revision: entry.modRevision }
  }

  /** The record names this broker, whose log cannot be opened. @throws StreamError STORE_UNAVAILABLE */
  async resign(topic: string, record: PartitionImage): Promise<void> {
    const session = this.#session
    if (session === undefined || this.#isStopped || this.#ports.image.regressed !== undefined)
      return
    const { nodeId, sessionEpoch } = session
    await this.#resignation.resign({ nodeId, sessionEpoch }, topic, record)
  }

  /** D of this broker, once it is known. */
  get dataEpoch(): number | undefined {
    return this.#session?.dataEpoch
  }

  /** Whether what is sent of a partition that is led here counts for the limit. */
  isLimitedAsLeader({ config, partition }: Partition): boolean {
    return isListed(config.leaderThrottledReplicas, partition, this.nodeId)
  }

  isLimitedAsFollower({ config, partition }: Partition): boolean {
    return isListed(config.followerThrottledReplicas, partition, this.nodeId)
  }

  /** How much this broker may ask for of a partition that it follows; 0 or less: nothing now. */
  bytesWanted(partition: Partition): number {
    if (!this.isLimitedAsFollower(partition)) return Number.POSITIVE_INFINITY
    const { topicId, partition: index } = partition
    const record = this.#ports.image.partition(topicId, index)?.value
    const isInSync = record?.inSyncReplicas.some(({ broker }) => broker === this.nodeId) === true
    return isInSync ? Number.POSITIVE_INFINITY : this.followerQuota.bytesLeft
  }

  /**
   * The replica in sync that stands in a consumer's rack and holds what it asks for, the furthest of them (KIP-392).
   * @returns undefined: the leader itself is as near, or nobody is
   */
  nearestReplica(partition: Partition, rack: string, offset: number): number | undefined {
    const { replicas } = partition
    const { image, config } = this.#ports
    if (replicas === undefined || !config.text('replica.selector.class')?.match(RACK_SELECTOR)) {
      return undefined
    }
    if (image.registration(this.nodeId)?.value.rack === rack) return undefined
    let nearest: number | undefined
    let furthest = -1
    for (const { broker } of replicas.value.inSyncReplicas) {
      if (broker === this.nodeId || image.registration(broker)?.value.rack !== rack) continue
      if (this.registrationOf(broker) === undefined) continue
      const position = replicas.position(broker)
      if (position === undefined || position.logEndOffset < offset) continue
      if (position.logStartOffset > offset || position.logEndOffset <= furthest) continue
      nearest = broker
      furthest = position.logEndOffset
    }
    return nearest
  }

  // --- for the controller

  /**
   * What another broker's logs hold; only what it hosts is answered. Key: `topicId/partition`.
   * @throws StreamError as Peers.call
   */
  async inquire(
    nodeId: number,
    partitions: readonly { readonly topicId: string; readonly partition: number }[],
  ): Promise<ReadonlyMap<string, LogView>> {
    const byTopic = new Map<string, number[]>()
    for (const { topicId, partition } of partitions) {
      byTopic.set(topicId, [...(byTopic.get(topicId) ?? []), partition])
    }
    const topics = [...byTopic].map(([topicId, indexes]) => ({ topicId, partitions: indexes }))
    const answer = await this.peers.call(
      nodeId,
      'LogInfo',
      0,
      { topics },
      { timeoutMs: LOG_INFO_TIMEOUT_MS },
    )
    if (answer.errorCode !== 0) {
      throw new StreamError('BROKER_ERROR', `broker ${nodeId}: no answer about its logs`, {
        kafkaError: answer.errorCode,
      })
    }
    const views = new Map<string, LogView>()
    for (const topic of answer.topics) {
      for (const { partition, lastEpoch, logEndOffset, latestEpoch } of topic.partitions) {
        views.set(`${topic.topicId}/${partition}`, { lastEpoch, logEndOffset, latestEpoch })
      }
    }
    return views
  }

  /** Compares what the scrubber reads with the leaders; undefined until start. */
  get comparer(): Comparer | undefined {
    return this.#comparer
  }

  /** Whether what producers did in a damaged range of its log is about to be learnt from another replica. */
  awaitsRepair(partition: Partition): boolean {
    return this.#repairer?.isAwaited(partition) ?? false
  }

  #fetcherPorts(session: SessionView): FetchLanesPorts {
    const { time, log, keys, config } = this.#ports
    return {
      time,
      log,
      peers: this.peers,
      session,
      clusterId: keys.clusterId,
      quota: {
        bytesWanted: (partition) => this.bytesWanted(partition),
        isLimited: (partition) => this.isLimitedAsFollower(partition),
        record: (bytes) => this.followerQuota.record(bytes),
        pauseMs: () => this.followerQuota.pauseMs,
      },
      isHeld: (partition) => this.#repairer?.isHeld(partition) ?? false,
      nextNumber: () => {
        this.#fetchNumber += 1
        return this.#fetchNumber
      },
      limits: () => ({
        partitionBytesMax: config.number('replica.fetch.max.bytes'),
        bytesMax: config.number('replica.fetch.response.max.bytes'),
        waitMs: config.number('replica.fetch.wait.max.ms'),
      }),
    }
  }
}

/** Where a broker's daemons' door is, as it has registered it. */
function zmqAddressOf(image: MetadataImage, nodeId: number): PeerAddress | undefined {
  const registration = image.registration(nodeId)?.value
  const endpoint = registration?.endpoints.find(
    (address) => address.startsWith('tcp://') || address.startsWith('ipc://'),
  )
  if (registration === undefined || endpoint === undefined) return undefined
  return { incarnation: registration.incarnation, endpoint }
}
