/**
 * The state of one partition on its log: leader epoch, high watermark, parked produces, waiting fetches; with several
 * replicas also the followers' positions (replica-set.ts), or the leader that is followed (follower-log.ts).
 * A synchronous state machine. Its driver is the log: an append writes at once, the log's flusher syncs, and only
 * `onDurable` moves the high watermark where the topic is durable before the ack; nothing is answered earlier.
 *
 * Invariants:
 * - The high watermark never falls while this process leads, and is at most the log end offset (I8).
 * - With commit flush (flush.messages = 1) it is at most the durable offset (I6): nothing above it is acknowledged or
 *   shown to a consumer.
 * - A produce is answered `committed` only when the high watermark has reached its end (I7), a duplicate like a new one.
 * - The high watermark stays at the start of the leader's epoch until that epoch is on the disk: every batch that was
 *   acknowledged has its epoch in the log's epoch file, or above what a recovery scans.
 * - Every parked produce and every waiting fetch is told exactly once: committed, or why not.
 */

import { assert } from '../../src/base/assert.ts'
import type { TopicConfig } from '../../src/config/topic-config.ts'
import type { BatchHeader } from '../../src/record/batch-layout.ts'
import type { AppendResult, ProducerCheck } from '../log/log-types.ts'
import type { PartitionLog } from '../log/partition-log.ts'
import type { PartitionValue } from '../metadata/metadata-values.ts'
import { FollowerLog, type Following } from './follower-log.ts'
import {
  type FetchVerdict,
  type FollowerFetch,
  type Proposal,
  ReplicaSet,
  type Surroundings,
} from './replica-set.ts'

/** Why a partition does not serve (any more). The apis map these to Kafka's error numbers. */
export type NotServing = 'notLeader' | 'deleted' | 'storageFailed' | 'stopping'

/** Waits until the high watermark reaches `endOffset`. */
export interface CommitWaiter {
  readonly endOffset: number
  onCommitted(): void
  onLost(why: NotServing): void
}

/** Waits for anything that may change what a fetch of this partition answers. */
export interface ReadWaiter {
  onChanged(partition: Partition): void
}

/** What a partition with several replicas needs of its broker. */
export interface ReplicaHost {
  readonly nodeId: number
  nowMs(): number
  /** replica.lag.time.max.ms */
  lagMsMax(): number
  /** This broker's lease may have ended. */
  isSelfFenced(): boolean
  /** Revision of the registration of an active broker; undefined: it may not join. */
  registrationOf(nodeId: number): number | undefined
  /** D as the store shows it; 0: unknown. */
  dataEpochOf(nodeId: number): number
  /** It has said that its disk is full. */
  isFull(nodeId: number): boolean
  /** There may be something to propose for a partition that is led here. */
  mayPropose(partition: Partition): void
  /** It follows another leader from now on, or none. */
  followingChanged(partition: Partition): void
}

export interface PartitionIdentity {
  readonly topic: string
  readonly topicId: string
  readonly partition: number
}

export class Partition {
  readonly topic: string
  readonly topicId: string
  readonly partition: number
  readonly log: PartitionLog
  #config: TopicConfig
  #leaderEpoch = -1
  #partitionEpoch = -1
  #inSyncCount = 0
  #minInSync = 1
  #highWatermark: number
  #lastStableOffset: number
  #notServing: NotServing | undefined = 'notLeader'
  #parked: CommitWaiter[] = []
  /** Of acks=1, where there are other replicas. */
  #parkedForOwn: CommitWaiter[] = []
  readonly #waiting = new Set<ReadWaiter>()
  /** Fetches of followers: what is written is for them, not only what is committed. */
  readonly #waitingFollowers = new Set<ReadWaiter>()
  readonly #stopListening: () => void
  readonly #host: ReplicaHost | undefined
  /** Only while it leads with other replicas. */
  #replicas: ReplicaSet | undefined
  #follower: FollowerLog | undefined
  #appendedBytes = 0
  /** Where the epoch being made durable begins; undefined: it is durable. */
  #epochStart: number | undefined
  /** LESO: the log end when the epoch that is led began. */
  #epochStartOffset = 0
  #cuts = 0

  /** @param host  undefined: it is the only replica, always */
  /** Partition epoch at which the replica was given to this broker, when its log was made. */
  since = 0

  constructor(
    log: PartitionLog,
    identity: PartitionIdentity,
    config: TopicConfig,
    host?: ReplicaHost,
  ) {
    this.topic = identity.topic
    this.topicId = identity.topicId
    this.partition = identity.partition
    this.log = log
    this.#config = config
    this.#host = host
    this.#highWatermark = Math.min(log.highWatermarkHint, log.durableOffset)
    this.#lastStableOffset = log.lastStableOffset(this.#highWatermark)
    this.#stopListening = log.onDurable(() => this.#advance())
  }

  get config(): TopicConfig {
    return this.#config
  }

  /** -1 until it has led. */
  get leaderEpoch(): number {
    return this.#leaderEpoch
  }

  get partitionEpoch(): number {
    return this.#partitionEpoch
  }

  get highWatermark(): number {
    return this.#highWatermark
  }

  /** A new leader's high watermark may lie below what was committed until it has reached its epoch's start (KIP-207). */
  get isHighWatermarkFresh(): boolean {
    return this.#replicas === undefined || this.#highWatermark >= this.#replicas.epochStart
  }

  get lastStableOffset(): number {
    return this.#lastStableOffset
  }

  /** How often its log was cut while it led: what was asked for before says nothing any more. */
  get cuts(): number {
    return this.#cuts
  }

  /** What is known of the other replicas; undefined: there are none, or it does not lead. */
  get replicas(): ReplicaSet | undefined {
    return this.#replicas
  }

  /** The log as a follower's; undefined: it leads, or nobody does. */
  get follower(): FollowerLog | undefined {
    return this.#follower
  }

  /** undefined: it leads and serves. */
  get notServing(): NotServing | undefined {
    return this.#notServing
  }

  /**
   * It leads as far as it knows, but its broker's lease may have ended and its followers are not heard of: somebody else may
   * lead, whose records it does not know. While followers fetch in its epoch nobody does.
   */
  get isDeserted(): boolean {
    const host = this.#host
    if (this.#replicas === undefined || host === undefined || !host.isSelfFenced()) return false
    return this.#replicas.isDeserted(host.nowMs())
  }

  /** Fewer in-sync replicas than acks=all asks for. */
  get isUnderMinInSync(): boolean {
    return this.#inSyncCount < this.#minInSync
  }

  /** As isUnderMinInSync, with a follower whose joining is not confirmed yet. */
  get isUnderMinInSyncAfterAppend(): boolean {
    return (this.#replicas?.maximalCount ?? this.#inSyncCount) < this.#minInSync
  }

  /** Bytes appended since this process opened the log: tells a fetch how much may have come. */
  get appendedBytes(): number {
    return this.#appendedBytes
  }

  get parkedCount(): number {
    return this.#parked.length
  }

  /**
   * Takes the leadership of `value`'s epoch, or its changes within that epoch, and serves from this call on. What it
   * appends is acknowledged only once the epoch is durable; that is when the promise resolves. A step that failed can
   * be repeated (KAFKA-9307): the partition then does not lead. One that follows is told to stop before
   * (`stopFollowing`).
   * @param revision  of the record in the store
   * @throws StreamError DISK_FAILED, DISK_FULL
   */
  async lead(value: PartitionValue, revision = 0): Promise<void> {
    if (value.leaderEpoch < this.#leaderEpoch) return
    if (value.leaderEpoch === this.#leaderEpoch && value.partitionEpoch < this.#partitionEpoch)
      return
    assert(this.#follower === undefined, 'a replica that follows does not lead')
    const before = this.#leaderEpoch
    let durable: Promise<void> | undefined
    if (value.leaderEpoch > before) {
      this.#epochStart = this.log.logEndOffset
      this.#epochStartOffset = this.#epochStart
      this.#replicas = undefined
      this.log.limitTombstoneFloor()
      durable = this.log.beginEpoch(value.leaderEpoch)
      this.#leaderEpoch = value.leaderEpoch
    }
    this.#adopt(value, revision)
    if (this.#notServing === 'notLeader') this.#notServing = undefined
    this.#advance()
    this.#wakeReaders()
    if (durable === undefined) return
    try {
      await durable
    } catch (error) {
      if (this.#leaderEpoch === value.leaderEpoch) {
        this.#leaderEpoch = before
        this.stopServing('notLeader')
      }
      throw error
    }
    if (this.#leaderEpoch !== value.leaderEpoch) return
    this.#epochStart = undefined
    this.#advance()
    this.#host?.mayPropose(this)
  }

  /** A later record of the epoch that is led: read by the image, or written by this leader. */
  adopt(value: PartitionValue, revision: number): void {
    if (this.#notServing !== undefined || value.leaderEpoch !== this.#leaderEpoch) return
    if (value.partitionEpoch < this.#partitionEpoch) return
    this.#adopt(value, revision)
    this.#advance()
  }

  #adopt(value: PartitionValue, revision: number): void {
    const host = this.#host
    this.#partitionEpoch = value.partitionEpoch
    this.#inSyncCount = value.inSyncReplicas.length
    this.#minInSync = value.minInSync
    if (host === undefined) return
    const isAlone = value.replicas.length === 1 && !value.recovering
    if (isAlone) this.#replicas = undefined
    else if (this.#replicas !== undefined) this.#replicas.adopt(value, revision, host.nowMs())
    else {
      const { nodeId } = host
      this.#replicas = new ReplicaSet(nodeId, value, revision, this.#epochStartOffset, host.nowMs())
    }
  }

  /**
   * Takes over `value`'s leader, or that there is none, and from now on only what that leader says. Repeatable; the epoch
   * is recorded last (KAFKA-9307).
   * @throws StreamError DISK_FAILED
   */
  async follow(value: PartitionValue): Promise<void> {
    if (value.leaderEpoch < this.#leaderEpoch || value.leaderEpoch < this.#followedEpoch) return
    if (this.#follower !== undefined && value.leaderEpoch === this.#followedEpoch) return
    this.stopServing('notLeader')
    await this.stopFollowing()
    this.#replicas = undefined
    this.#epochStart = undefined
    if (this.#notServing !== 'notLeader') return
    const following: Following = {
      leader: value.leader,
      leaderEpoch: value.leaderEpoch,
      uncleanEpoch: value.uncleanEpoch,
    }
    const follower = new FollowerLog(this.log, following, this.#highWatermark, (offset) =>
      this.#followHighWatermark(offset),
    )
    await follower.prepare()
    this.log.limitTombstoneFloor()
    this.#follower = follower
    this.#leaderEpoch = value.leaderEpoch
    this.#partitionEpoch = value.partitionEpoch
    this.#host?.followingChanged(this)
  }

  /** Resolves when no answer of a leader takes effect any more and the log is at rest. */
  async stopFollowing(): Promise<void> {
    const follower = this.#follower
    if (follower === undefined) return
    this.#follower = undefined
    this.#host?.followingChanged(this)
    await follower.drop()
  }

  get #followedEpoch(): number {
    return this.#follower?.following.leaderEpoch ?? -1
  }

  #followHighWatermark(offset: number): void {
    this.#highWatermark = offset
    this.#lastStableOffset = this.log.lastStableOffset(offset)
    this.#wakeReaders()
  }

  /** A follower's fetch of this partition: where it stands now, and what it gets. */
  takeFetch(fetch: FollowerFetch): FetchVerdict {
    const host = this.#host
    const replicas = this.#replicas
    if (replicas === undefined || host === undefined) return { kind: 'refused', why: 'notReplica' }
    const verdict = replicas.onFetch(fetch, this.log, this.#surroundings(host))
    if (verdict.kind !== 'read') return verdict
    const { replicaId } = fetch
    if (replicas.maybeHasProposal(replicaId) || host.isFull(replicaId)) host.mayPropose(this)
    this.#advance()
    if (this.#config.cleanupCompact) this.#raiseTombstoneFloor(replicas)
    return verdict
  }

  /**
   * It never falls within an epoch: a replica that begins anew copies from one that is rid of what tombstones below it
   * delete. Followers take it only from the leader of the epoch they follow, with whose answer it comes.
   */
  #raiseTombstoneFloor(replicas: ReplicaSet): void {
    const { log } = this
    const floor = replicas.cleanOffset(log.cleanOffset)
    if (floor <= log.tombstoneFloor) return
    log.raiseTombstoneFloor(floor)
    this.#wakeReaders()
  }

  /**
   * Below which offset compaction may drop tombstones that are old enough; undefined: there is no other replica to ask.
   */
  get removalFloor(): number | undefined {
    const isAlone = this.#replicas === undefined && this.#follower === undefined
    return isAlone ? undefined : this.log.tombstoneFloor
  }

  /** Every replica compacts its own log; not while it changes its role. */
  get isCompactable(): boolean {
    return this.#notServing === undefined || this.#follower !== undefined
  }

  /** The change of its record that is called for; it is pending from now on. */
  propose(): Proposal | undefined {
    if (this.#notServing !== undefined || this.#host === undefined) return undefined
    // A proposal in flight would say that this epoch serves, and it is not recorded yet.
    if (this.#epochStart !== undefined) return undefined
    return this.#replicas?.propose(this.#surroundings(this.#host))
  }

  #surroundings(host: ReplicaHost): Surroundings {
    return {
      nowMs: host.nowMs(),
      lagMsMax: host.lagMsMax(),
      highWatermark: this.#highWatermark,
      logEndOffset: this.log.logEndOffset,
      isCommitFlush: this.#config.flushMessages <= 1,
      registrationOf: (nodeId) => host.registrationOf(nodeId),
      dataEpochOf: (nodeId) => host.dataEpochOf(nodeId),
      isFull: (nodeId) => host.isFull(nodeId),
    }
  }

  /** Parked produces are not kept waiting: they have an unknown outcome. It goes on answering followers. */
  releaseDeserted(): void {
    const parked = this.#parked
    this.#parked = []
    for (const waiter of parked) waiter.onLost('notLeader')
  }

  /** Stops serving; parked produces have an unknown outcome, waiting fetches are told. Final but for `notLeader`. */
  stopServing(why: NotServing): void {
    if (this.#notServing !== undefined && this.#notServing !== 'notLeader') return
    if (this.#notServing === why) return
    this.#notServing = why
    const parked = [...this.#parked, ...this.#parkedForOwn]
    this.#parked = []
    this.#parkedForOwn = []
    for (const waiter of parked) waiter.onLost(why)
    this.#wakeReaders()
    // What is final ends following as well.
    if (why !== 'notLeader') this.stopFollowing().catch(() => undefined)
  }

  close(): void {
    this.stopServing('stopping')
    this.#stopListening()
  }

  applyConfig(config: TopicConfig): void {
    this.#config = config
    this.log.applyConfig(config)
    this.#advance()
  }

  checkProducer(header: BatchHeader, transactionVersion = 0): ProducerCheck {
    return this.log.checkProducer(header, transactionVersion)
  }

  /**
   * Appends one batch at the log's end, with its base offset and the leader epoch stamped into it.
   * @throws StreamError DISK_FULL, DISK_FAILED: nothing was appended
   */
  append(batch: Uint8Array): AppendResult {
    assert(this.#notServing === undefined, 'only a serving leader appends')
    const result = this.log.append([batch], { leaderEpoch: this.#leaderEpoch })
    assert(result.nextOffset > result.firstOffset, 'an append takes at least one offset')
    this.#appendedBytes += batch.length
    if (this.#config.flushMessages > 1) this.#advance()
    if (this.#waitingFollowers.size > 0) wake(this.#waitingFollowers, this)
    return result
  }

  /**
   * Appends batches of a mirrored partition's source at their own offsets; only the leader epoch is this log's, which is
   * outside of what the checksum covers.
   * @throws StreamError CORRUPT_BATCH, DISK_FULL, DISK_FAILED: nothing was appended
   */
  appendMirrored(batches: readonly Uint8Array[]): AppendResult {
    assert(this.#notServing === undefined, 'only a serving leader appends')
    const result = this.log.appendPlaced(batches, { leaderEpoch: this.#leaderEpoch })
    for (const batch of batches) this.#appendedBytes += batch.length
    if (this.#config.flushMessages > 1) this.#advance()
    if (this.#waitingFollowers.size > 0) wake(this.#waitingFollowers, this)
    return result
  }

  /**
   * The source of a mirrored partition begins at `offset`, and has nothing of what is here: everything is dropped, and the log
   * begins there. Followers do the same, since their leader's log starts behind their end.
   * @throws StreamError DISK_FAILED, CLOSED
   */
  async restartMirrored(offset: number): Promise<void> {
    assert(this.#notServing === undefined, 'only a serving leader restarts its log')
    assert(offset >= this.log.logEndOffset, 'a mirror restarts behind what it has (I8, I14)')
    const epoch = this.#leaderEpoch
    await this.log.resetTo(offset)
    await this.log.beginEpoch(epoch)
    if (this.#notServing !== undefined || this.#leaderEpoch !== epoch) return
    this.#highWatermark = offset
    this.#lastStableOffset = offset
    this.log.setHighWatermark(offset)
    this.#wakeReaders()
  }

  /**
   * Drops everything from `offset` on, committed or not. Other replicas do the same when they fetch next, since this epoch, or one
   * since their records, is an unclean one (I10; uncleanEpoch); until `isEven` one of them may be elected that has not.
   * @throws StreamError DISK_FAILED, CLOSED
   */
  async cutMirrored(offset: number): Promise<void> {
    assert(this.#notServing === undefined, 'only a serving leader cuts its log')
    const epoch = this.#leaderEpoch
    const { log } = this
    if (offset >= log.logEndOffset) return
    if (offset <= log.logStartOffset) await log.resetTo(offset)
    else await log.truncateTo(offset)
    await log.beginEpoch(epoch)
    if (this.#notServing !== undefined || this.#leaderEpoch !== epoch) return
    const host = this.#host
    const replicas = this.#replicas
    this.#epochStartOffset = log.logEndOffset
    this.#cuts += 1
    if (replicas !== undefined && host !== undefined) {
      replicas.forgetPositions(log.logEndOffset, host.nowMs())
    }
    this.#highWatermark = Math.min(this.#highWatermark, log.logEndOffset)
    log.setHighWatermark(this.#highWatermark)
    this.#lastStableOffset = log.lastStableOffset(this.#highWatermark)
    this.#wakeReaders()
  }

  /** No replica that may be elected has anything that is not here. */
  get isEven(): boolean {
    return this.#replicas === undefined || this.#replicas.hasHeardInSync
  }

  /** Tells `waiter` once: at once where it is already so, hence never from inside of this call where it is not. */
  whenCommitted(waiter: CommitWaiter): void {
    if (this.#notServing !== undefined) waiter.onLost(this.#notServing)
    else if (waiter.endOffset <= this.#highWatermark) waiter.onCommitted()
    else this.#parked.push(waiter)
  }

  /** As whenCommitted, for acks=1: as soon as the leader's own copy is as safe as the topic asks for. */
  whenSafeHere(waiter: CommitWaiter): void {
    if (this.#replicas === undefined) this.whenCommitted(waiter)
    else if (this.#notServing !== undefined) waiter.onLost(this.#notServing)
    else if (waiter.endOffset <= this.#ownOffset) waiter.onCommitted()
    else this.#parkedForOwn.push(waiter)
  }

  addReader(waiter: ReadWaiter): void {
    this.#waiting.add(waiter)
  }

  removeReader(waiter: ReadWaiter): void {
    this.#waiting.delete(waiter)
    this.#waitingFollowers.delete(waiter)
  }

  /** As addReader, and told of what is appended too. */
  addFollower(waiter: ReadWaiter): void {
    this.#waiting.add(waiter)
    this.#waitingFollowers.add(waiter)
  }

  /** @throws StreamError DISK_FAILED, DISK_FULL */
  async deleteRecordsBefore(offset: number): Promise<void> {
    assert(
      offset <= this.#highWatermark,
      'records above the high watermark are not deleted (I13, I14)',
    )
    await this.log.deleteRecordsBefore(offset)
    this.#wakeReaders()
  }

  /** Retention or compaction may have moved the log start. */
  logStartMoved(): void {
    this.#wakeReaders()
  }

  /** For tests: checks what must hold between two inputs. */
  verify(): void {
    assert(this.#highWatermark <= this.log.logEndOffset, 'high watermark ≤ log end (I8)')
    assert(this.#lastStableOffset <= this.#highWatermark, 'last stable offset ≤ high watermark')
    assert(
      this.#parked.every((waiter) => waiter.endOffset > this.#highWatermark),
      'nobody waits for what is committed',
    )
  }

  /** What this replica counts with for the high watermark. */
  get #ownOffset(): number {
    const end = this.log.logEndOffset
    const written = this.#config.flushMessages > 1 ? end : Math.min(this.log.durableOffset, end)
    return Math.min(written, this.#epochStart ?? written)
  }

  #advance(): void {
    // Whoever does not lead learns it from the leader.
    if (this.#notServing !== undefined) return
    const { log } = this
    const own = this.#ownOffset
    if (this.#parkedForOwn.length > 0) this.#releaseOwn(own)
    const committed = this.#replicas === undefined ? own : this.#candidate(this.#replicas, own)
    if (committed <= this.#highWatermark) return
    this.#highWatermark = committed
    log.setHighWatermark(committed)
    this.#lastStableOffset = log.lastStableOffset(committed)
    if (this.#parked.length > 0) this.#release(committed)
    if (this.#waiting.size > 0) this.#wakeReaders()
  }

  #candidate(replicas: ReplicaSet, own: number): number {
    const host = this.#host as ReplicaHost
    return replicas.highWatermarkCandidate(own, this.#surroundings(host)) ?? this.#highWatermark
  }

  #release(committed: number): void {
    const parked = this.#parked
    const still: CommitWaiter[] = []
    this.#parked = still
    for (const waiter of parked) {
      if (waiter.endOffset <= committed) waiter.onCommitted()
      else still.push(waiter)
    }
  }

  #releaseOwn(own: number): void {
    const parked = this.#parkedForOwn
    const still: CommitWaiter[] = []
    this.#parkedForOwn = still
    for (const waiter of parked) {
      if (waiter.endOffset <= own) waiter.onCommitted()
      else still.push(waiter)
    }
  }

  #wakeReaders(): void {
    wake(this.#waiting, this)
  }
}

function wake(waiting: ReadonlySet<ReadWaiter>, partition: Partition): void {
  for (const waiter of [...waiting]) {
    if (waiting.has(waiter)) waiter.onChanged(partition)
  }
}
