/**
 * The partitions of this broker: brings the logs on disk and who leads them in line with the metadata image.
 *
 * Invariants:
 * - A log is deleted only when a tombstone names its topic id (I13); nothing is deleted because a key is absent.
 * - A log of a partition whose committed record leaves this broker out is set aside, and never taken back (section 5.7);
 *   it is removed after the tombstone, or STRAY_GRACE_MS later. So is one that was left out and given again meanwhile.
 * - A log of a topic that the metadata do not know is left alone, until another topic claims its place: then it is set aside,
 *   and stays (of an etcd that was put back it may be all there is). At a start not before the store has been judged.
 * - A partition leads only at an epoch that names this broker and this incarnation (replication.md section 5.3, 3), among
 *   other brokers only after a linearizable read has confirmed the record (section 5.7). Else it follows.
 * - Changes of one topic are applied one after the other.
 */

import { isStreamError, StreamError } from '../../src/base/errors.ts'
import type { Log } from '../../src/ports/log.ts'
import type { DataDirectory, PartitionId, PartitionOnDisk } from '../log/data-directory.ts'
import type { MetadataImage, PartitionImage, TopicImage } from '../metadata/metadata-image.ts'
import type { PartitionValue } from '../metadata/metadata-values.ts'
import type { BrokerConfig } from './broker-config.ts'
import { inParallel } from './in-parallel.ts'
import { Partition } from './partition.ts'
import type { Replication } from './replication.ts'

const LOGS_AT_ONCE = 16
/** How long a log that was set aside is kept, counted within one process. */
const STRAY_GRACE_MS = 3_600_000

export interface PartitionTablePorts {
  readonly image: MetadataImage
  readonly directory: DataDirectory
  readonly config: BrokerConfig
  readonly log: Log
  /** Among other brokers; undefined: this one is alone. */
  readonly replication?: Replication
}

/** A partition that the image gives to this broker. */
interface Wanted {
  readonly topic: TopicImage
  readonly partition: PartitionImage
  /** Its log is there. */
  readonly exists: boolean
}

export class PartitionTable {
  readonly #ports: PartitionTablePorts
  readonly #nodeId: number
  readonly #incarnation: string
  readonly #byTopicId = new Map<string, Partition[]>()
  /** Topics whose last turn has failed. */
  readonly #unfinished = new Set<string>()
  readonly #chains = new Map<string, Promise<void>>()
  /** Runs that have not begun: they will see the image of then, so one is enough for all who ask meanwhile. */
  readonly #queued = new Map<string, Promise<void>>()
  /** Records of topics whose configs all partitions have. */
  readonly #configured = new Map<string, TopicImage>()
  /** Revision of the record that a partition was brought in line with. */
  readonly #inLine = new WeakMap<Partition, number>()
  /** Partitions whose place another topic's log has, until the store is known to count. */
  #postponed: readonly Wanted[] = []
  readonly #leadershipListeners = new Set<(partition: Partition) => void>()
  /** When a log that was set aside was seen first. */
  readonly #straysSince = new Map<string, number>()
  #count = 0
  #leads = false

  constructor(ports: PartitionTablePorts, nodeId: number, incarnation: string) {
    this.#ports = ports
    this.#nodeId = nodeId
    this.#incarnation = incarnation
  }

  get partitionCount(): number {
    return this.#count
  }

  /** A partition that clients may see: of a READY topic, below its partition count. */
  find(topic: string, index: number): Partition | undefined {
    const image = this.#ports.image.topic(topic)
    if (image === undefined || image.value.state !== 'READY') return undefined
    if (index < 0 || index >= image.value.partitions) return undefined
    return this.#byTopicId.get(image.topicId)?.[index]
  }

  /** Whether clients may see it or not. */
  get(topicId: string, index: number): Partition | undefined {
    return this.#byTopicId.get(topicId)?.[index]
  }

  ofTopic(topicId: string): readonly Partition[] {
    return (this.#byTopicId.get(topicId) ?? []).filter((partition) => partition !== undefined)
  }

  *all(): Iterable<Partition> {
    for (const partitions of this.#byTopicId.values()) {
      for (const partition of partitions) if (partition !== undefined) yield partition
    }
  }

  /**
   * Opens or makes the logs of all partitions the image gives to this broker, but those that openRest is for; before it leads
   * anything.
   * @returns what is missing or damaged, for the judgement of the start; undefined: nothing
   * @throws StreamError when the disk fails
   */
  async openAll(): Promise<string | undefined> {
    const { image, directory, log } = this.#ports
    let loss: string | undefined
    const onDisk = new Map<string, PartitionOnDisk>()
    for (const found of directory.partitionsOnDisk()) {
      const name = `${found.topic}-${found.partition}`
      if (found.metadata === 'missing') await directory.removePartial(found.topic, found.partition)
      else onDisk.set(name, found)
    }
    const wanted: Wanted[] = []
    for (const topic of image.topics()) {
      for (const partition of image.partitions(topic.topicId).values()) {
        if (!partition.value.replicas.includes(this.#nodeId)) continue
        const name = nameOf(topic, partition)
        const found = onDisk.get(name)
        const isOfTopic = found?.topicId === topic.topicId
        const exists = isOfTopic && !this.#isOutdated(found.since, partition.value)
        if (isOfTopic) onDisk.delete(name)
        const isServed =
          topic.value.state === 'READY' && partition.partition < topic.value.partitions
        if (!exists && isServed && isMember(partition.value, this.#nodeId)) {
          loss = `the log of ${name} is missing from the data directory`
          log.error('a log is missing: an empty one takes its place', { partition: name })
        }
        wanted.push({ topic, partition, exists })
      }
    }
    const claimed = new Set(wanted.map(({ topic, partition }) => nameOf(topic, partition)))
    await this.#removeDeleted(onDisk, claimed)
    const isTaken = ({ topic, partition, exists }: Wanted): boolean =>
      !exists && this.#isStrange(directory.topicIdAt(topic.name, partition.partition), topic)
    this.#postponed = wanted.filter(isTaken)
    const free = wanted.filter((each) => !this.#postponed.includes(each))
    await inParallel(free, LOGS_AT_ONCE, async ({ topic, partition, exists }) => {
      const opened = exists
        ? await this.#open(topic, partition.partition, true)
        : await this.#makeIfRoom(topic, partition.partition)
      if (opened?.log.recovery.damagedBelowMark) {
        loss ??= `the log of ${topic.name}-${partition.partition} is damaged below its durable mark`
      }
    })
    return loss
  }

  /** What openAll has postponed: the store counts, and whoever is not in it makes way. @throws StreamError as openAll */
  async openRest(): Promise<void> {
    const postponed = this.#postponed
    this.#postponed = []
    await inParallel(postponed, LOGS_AT_ONCE, async ({ topic, partition: { partition } }) => {
      const { image } = this.#ports
      const record = image.partition(topic.topicId, partition)
      const isOurs = record?.value.replicas.includes(this.#nodeId) === true
      if (isOurs && image.topicById(topic.topicId) !== undefined) {
        await this.#makeIfRoom(topic, partition)
      }
    })
  }

  /**
   * From now on the table follows the image's leaderships. Resolves when everything is served; the epochs become
   * durable meanwhile, and nothing new is acknowledged before its own is.
   */
  async leadAll(): Promise<void> {
    this.#leads = true
    const { image } = this.#ports
    const topicIds = new Set(this.#byTopicId.keys())
    // Since the logs were opened, other topics may have been given to this broker: it may have waited long for its session.
    for (const { topicId } of image.topics()) {
      const records = [...image.partitions(topicId).values()]
      if (records.some(({ value }) => value.replicas.includes(this.#nodeId))) topicIds.add(topicId)
    }
    await inParallel([...topicIds], LOGS_AT_ONCE * 4, async (id) => {
      try {
        await this.#inTurn(id, false)
      } catch (error) {
        // It is unfinished, and retried: what is here already is served meanwhile.
        if (!isStreamError(error, 'DISK_FULL')) throw error
      }
    })
  }

  /**
   * Tries again where a leadership could not be taken, and what a store that gave no answer has kept from being done: nothing may
   * change there any more that would bring it up.
   * @throws StreamError the last one of those that fail again; the others are done
   */
  async retry(): Promise<void> {
    const topicIds = new Set(this.#unfinished)
    for (const partition of this.all()) {
      const isIdle = partition.notServing === 'notLeader' && partition.follower === undefined
      if (isIdle) topicIds.add(partition.topicId)
    }
    let failure: unknown
    for (const topicId of topicIds) {
      await this.reconcile(topicId).catch((error: unknown) => {
        failure = error
      })
    }
    if (failure !== undefined) throw failure
  }

  /**
   * Brings one topic in line with the image: deletes its logs after a tombstone, else makes what is missing and takes
   * or leaves leaderships. Repeatable.
   * @throws StreamError when the disk refuses
   */
  reconcile(topicId: string): Promise<void> {
    const queued = this.#queued.get(topicId)
    if (queued !== undefined) return queued
    const run = this.#inTurn(topicId, true)
    this.#queued.set(topicId, run)
    return run
  }

  #inTurn(topicId: string, waits: boolean): Promise<void> {
    const before = this.#chains.get(topicId) ?? Promise.resolve()
    const run = before
      .catch(() => undefined)
      .then(() => {
        if (waits) this.#queued.delete(topicId)
        return this.#reconcile(topicId, waits)
      })
    this.#chains.set(topicId, run)
    run.then(
      () => this.#unfinished.delete(topicId),
      () => this.#unfinished.add(topicId),
    )
    const forget = (): void => {
      if (this.#chains.get(topicId) === run) this.#chains.delete(topicId)
    }
    run.then(forget, forget)
    return run
  }

  /** Calls `listener` whenever this broker has begun or ceased to lead a partition, or leads in another epoch. */
  onLeadership(listener: (partition: Partition) => void): () => void {
    this.#leadershipListeners.add(listener)
    return () => this.#leadershipListeners.delete(listener)
  }

  /** The broker's or a topic's configs have changed. */
  applyConfig(topicId: string): void {
    const topic = this.#ports.image.topicById(topicId)
    if (topic === undefined) return
    this.#giveConfig(topic, this.ofTopic(topicId))
    this.#configured.set(topicId, topic)
  }

  #giveConfig(topic: TopicImage, partitions: readonly Partition[]): void {
    // Of partitions with as many replicas they are the same.
    const configs = new Map<number, Partition['config']>()
    for (const partition of partitions) {
      const replicas = this.#replicasOf(topic, partition.partition)
      const config = configs.get(replicas) ?? this.#configOf(topic, replicas)
      configs.set(replicas, config)
      partition.applyConfig(config)
    }
  }

  applyConfigToAll(): void {
    for (const topicId of this.#byTopicId.keys()) this.applyConfig(topicId)
  }

  close(): void {
    for (const partition of this.all()) partition.close()
  }

  async #reconcile(topicId: string, waits: boolean): Promise<void> {
    const { image } = this.#ports
    if (image.deletedTopic(topicId) !== undefined) {
      await this.#remove(topicId)
      return
    }
    const topic = image.topicById(topicId)
    if (topic === undefined || !this.#leads) return
    const held = this.#byTopicId.get(topicId)
    const records = [...image.partitions(topicId).values()].filter((record) => {
      if (!record.value.replicas.includes(this.#nodeId)) return false
      const partition = held?.[record.partition]
      return partition === undefined || !this.#isInLine(partition, record)
    })
    await inParallel(records, LOGS_AT_ONCE, async (record) => {
      let partition = this.#byTopicId.get(topicId)?.[record.partition]
      // It was left out and given again, and this broker saw but the end of it.
      if (partition !== undefined && this.#isOutdated(partition.since, record.value)) {
        await this.#leave(partition)
        partition = undefined
      }
      partition ??= await this.#openOrResign(topic, record)
      await this.#bringInLine(partition, record, waits)
    })
    await this.#leaveOthers(topicId)
    if (this.#configured.get(topicId) === topic) {
      const changed = records.map((record) => held?.[record.partition])
      this.#giveConfig(
        topic,
        changed.filter((partition) => partition !== undefined),
      )
    } else this.applyConfig(topicId)
  }

  /** A leader without a log would keep the others from leading for as long as it lives. */
  async #openOrResign(topic: TopicImage, record: PartitionImage): Promise<Partition> {
    try {
      return await this.#open(topic, record.partition, false)
    } catch (error) {
      const { replication, directory } = this.#ports
      // With a disk that has failed the whole broker resigns.
      const mayResign = directory.failure === undefined && this.#isNamed(record.value)
      if (mayResign) await replication?.resign(topic.name, record).catch(() => undefined)
      throw error
    }
  }

  async #bringInLine(partition: Partition, record: PartitionImage, waits: boolean): Promise<void> {
    const { replication } = this.#ports
    let { value, revision } = record
    const isNew = value.leaderEpoch > partition.leaderEpoch || partition.notServing !== undefined
    if (replication !== undefined && isNew && this.#isNamed(value)) {
      const found = await replication.confirm(partition.topicId, partition.partition)
      if (found === undefined) return
      value = found.value
      revision = found.revision
    }
    if (!this.#isNamed(value)) {
      const hasLed = partition.notServing === undefined
      if (replication === undefined) partition.stopServing('notLeader')
      else await partition.follow(value)
      this.#inLine.set(partition, record.revision)
      if (hasLed) this.#tellLeadership(partition)
      return
    }
    if (partition.follower !== undefined) await partition.stopFollowing()
    const durable = partition.lead(value, revision).then(() => {
      this.#inLine.set(partition, record.revision)
    })
    if (isNew) this.#tellLeadership(partition)
    if (waits) await durable
    else durable.catch((error: unknown) => this.#reportLead(partition, error))
  }

  /** With many partitions in a topic nearly all are, whenever one has changed. */
  #isInLine(partition: Partition, record: PartitionImage): boolean {
    const isSettled = partition.notServing === undefined || partition.follower !== undefined
    return isSettled && this.#inLine.get(partition) === record.revision
  }

  /** This very process is the leader, with the data it had as a member (section 5.3). */
  #isNamed(value: PartitionValue): boolean {
    if (value.leader !== this.#nodeId || value.leaderIncarnation !== this.#incarnation) return false
    const dataEpoch = this.#ports.replication?.dataEpoch
    if (dataEpoch === undefined) return true
    return value.inSyncReplicas.some(
      (member) => member.broker === this.#nodeId && member.dataEpoch === dataEpoch,
    )
  }

  /** Partitions that this broker holds no more: they are neither served nor followed. */
  async #leaveOthers(topicId: string): Promise<void> {
    const { image, replication } = this.#ports
    if (replication === undefined) return
    for (const partition of this.ofTopic(topicId)) {
      const record = image.partition(topicId, partition.partition)
      if (record === undefined || record.value.replicas.includes(this.#nodeId)) continue
      await this.#leave(partition)
    }
  }

  async #leave(partition: Partition): Promise<void> {
    const hasLed = partition.notServing === undefined
    partition.stopServing('notLeader')
    if (hasLed) this.#tellLeadership(partition)
    await partition.stopFollowing()
    partition.close()
    await this.#setAside(partition)
    delete this.#byTopicId.get(partition.topicId)?.[partition.partition]
    this.#count -= 1
  }

  /** A log from before the replica was given here. One that is newer than the record means an old store, and stays. */
  #isOutdated(since: number | undefined, value: PartitionValue): boolean {
    return since !== undefined && since < sinceOf(value, this.#nodeId)
  }

  async #setAside(id: PartitionId): Promise<void> {
    const { directory, log } = this.#ports
    const { topic, topicId, partition } = id
    await directory.setAside({ topic, topicId, partition })
    log.warn('a log was set aside: its partition has no replica here any more', {
      partition: `${topic}-${partition}`,
    })
  }

  /**
   * Removes logs that were set aside: after the tombstone of their topic, or an hour after they were seen first where
   * the record still leaves this broker out, or has it in sync again.
   */
  removeStrays(nowMs: number): void {
    const { image, directory, log } = this.#ports
    for (const { name, topicId, partition } of directory.strays()) {
      if (topicId === undefined) continue
      const sinceMs = this.#straysSince.get(name) ?? nowMs
      this.#straysSince.set(name, sinceMs)
      const record = partition === undefined ? undefined : image.partition(topicId, partition)
      const isNoReplica = record?.value.replicas.includes(this.#nodeId) === false
      const isInSync = record?.value.inSyncReplicas.some(({ broker }) => broker === this.#nodeId)
      const isOver = (isNoReplica || isInSync === true) && nowMs - sinceMs >= STRAY_GRACE_MS
      if (image.deletedTopic(topicId) === undefined && !isOver) continue
      directory.removeStray(name)
      this.#straysSince.delete(name)
      log.info('a log that was set aside is removed', { directory: name })
    }
  }

  #tellLeadership(partition: Partition): void {
    for (const listener of this.#leadershipListeners) listener(partition)
  }

  #reportLead({ topic, partition }: Partition, error: unknown): void {
    this.#ports.log.error('a leadership could not be taken', {
      partition: `${topic}-${partition}`,
      error: String(error),
    })
  }

  /**
   * A log that is not here yet waits for room on a full disk, and keeps nobody from being served: see retry. Where it should have
   * been here that is a loss all the same, as of an empty one.
   */
  async #makeIfRoom(topic: TopicImage, partition: number): Promise<Partition | undefined> {
    try {
      return await this.#open(topic, partition, false)
    } catch (error) {
      if (!isStreamError(error, 'DISK_FULL')) throw error
      this.#ports.log.warn('a log cannot be made on the full disk, and waits for room', {
        partition: `${topic.name}-${partition}`,
        error: error.message,
      })
      this.#unfinished.add(topic.topicId)
      return undefined
    }
  }

  async #open(topic: TopicImage, index: number, exists: boolean): Promise<Partition> {
    const { directory } = this.#ports
    const config = this.#configOf(topic, this.#replicasOf(topic, index))
    const identity = { topic: topic.name, topicId: topic.topicId, partition: index }
    const value = this.#ports.image.partition(topic.topicId, index)?.value
    const since = value === undefined ? 0 : sinceOf(value, this.#nodeId)
    if (!exists) await this.#makeWay(topic, index, since)
    const log = exists
      ? await directory.openPartitionLog({ ...identity, config })
      : await directory.createPartitionLog({ ...identity, config, since })
    const partition = new Partition(log, identity, config, this.#ports.replication)
    partition.since = directory.sinceOf(identity) ?? since
    let partitions = this.#byTopicId.get(topic.topicId)
    if (partitions === undefined) {
      partitions = []
      this.#byTopicId.set(topic.topicId, partitions)
    }
    partitions[index] = partition
    this.#count += 1
    if (directory.failure !== undefined) partition.stopServing('storageFailed')
    return partition
  }

  /** Takes away what lies in the place of a log that is to be made: of an earlier replica, or of an earlier topic of its name. */
  async #makeWay(topic: TopicImage, partition: number, since: number): Promise<void> {
    const { directory, image, log } = this.#ports
    const identity = { topic: topic.name, topicId: topic.topicId, partition }
    if ((directory.sinceOf(identity) ?? since) < since) await this.#setAside(identity)
    const topicId = directory.topicIdAt(topic.name, partition)
    if (topicId === undefined || topicId === topic.topicId) return
    // Deleted a moment ago, and being taken away.
    if (image.deletedTopic(topicId) !== undefined) {
      await this.#chains.get(topicId)?.catch(() => undefined)
    }
    // An open one has an owner.
    if (directory.log(topic.name, partition) !== undefined) return
    if (directory.topicIdAt(topic.name, partition) !== topicId) return
    if (image.deletedTopic(topicId) !== undefined) {
      await directory.deletePartitionLog({ ...identity, topicId })
    } else if (this.#isStrange(topicId, topic)) {
      const path = await directory.setAside({ ...identity, topicId })
      log.warn(
        'a log of a topic that the metadata do not know was set aside: another has its name',
        {
          partition: `${topic.name}-${partition}`,
          topicId,
          newTopicId: topic.topicId,
          path,
        },
      )
    }
  }

  /** A log of another topic, of which the metadata have nothing, not even that it was deleted. */
  #isStrange(topicId: string | undefined, topic: TopicImage): boolean {
    if (topicId === undefined || topicId === topic.topicId) return false
    const { image } = this.#ports
    const isKnown = image.topicById(topicId) !== undefined || image.partitions(topicId).size > 0
    return !isKnown && image.deletedTopic(topicId) === undefined
  }

  async #remove(topicId: string): Promise<void> {
    const { directory } = this.#ports
    const partitions = this.ofTopic(topicId)
    this.#byTopicId.delete(topicId)
    this.#configured.delete(topicId)
    this.#count -= partitions.length
    for (const partition of partitions) {
      partition.stopServing('deleted')
      await partition.stopFollowing()
      partition.close()
    }
    await inParallel(partitions, LOGS_AT_ONCE, (partition) =>
      directory.deletePartitionLog({
        topic: partition.topic,
        topicId,
        partition: partition.partition,
      }),
    )
  }

  /** Directories that no topic of the image claims: deleted after a tombstone, else left alone and reported. */
  async #removeDeleted(
    onDisk: ReadonlyMap<string, PartitionOnDisk>,
    claimed: ReadonlySet<string>,
  ): Promise<void> {
    const { image, directory, log } = this.#ports
    for (const [name, { topicId }] of onDisk) {
      const cut = name.lastIndexOf('-')
      const topic = name.slice(0, cut)
      const partition = Number(name.slice(cut + 1))
      if (topicId !== undefined && image.deletedTopic(topicId) !== undefined) {
        await directory.deletePartitionLog({ topic, topicId, partition })
      } else if (topicId !== undefined && this.#isLeftOut(topicId, partition)) {
        await this.#setAside({ topic, topicId, partition })
      } else if (!claimed.has(name)) {
        log.warn('a log belongs to no known topic; it is left alone', { partition: name, topicId })
      }
    }
  }

  /** The committed record names other brokers only. Alone, a daemon holds what it holds. */
  #isLeftOut(topicId: string, partition: number): boolean {
    const { image, replication } = this.#ports
    const record = replication && image.partition(topicId, partition)
    return record !== undefined && !record.value.replicas.includes(this.#nodeId)
  }

  #replicasOf({ topicId }: TopicImage, index: number): number {
    return this.#ports.image.partition(topicId, index)?.value.replicas.length ?? 1
  }

  #configOf(topic: TopicImage, replicas: number): Partition['config'] {
    try {
      return this.#ports.config.topicConfig(topic.value.config, replicas)
    } catch (error) {
      if (!isStreamError(error, 'CONFIG_INVALID')) throw error
      throw new StreamError('STORE_DAMAGED', `${topic.name}: ${error.message}`, {
        target: topic.name,
        cause: error,
      })
    }
  }
}

function nameOf(topic: TopicImage, { partition }: PartitionImage): string {
  return `${topic.name}-${partition}`
}

/** Partition epoch at which the broker was given its replica; 0: it had one from the beginning. */
function sinceOf(value: PartitionValue, nodeId: number): number {
  return value.since?.[nodeId] ?? 0
}

/** It may hold what was acknowledged: an empty log in its place is a loss. */
function isMember(value: PartitionValue, nodeId: number): boolean {
  return [
    ...value.inSyncReplicas,
    ...value.eligibleReplicas,
    ...value.known,
    ...(value.lastLeader === null ? [] : [value.lastLeader]),
  ].some((member) => member.broker === nodeId)
}
