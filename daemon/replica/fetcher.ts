/**
 * Follows one leader: one fetch carries all partitions that are led there; a second, empty one tells positions while the
 * first waits (replication.md sections 5.7, 7.1, 13).
 *
 * Invariants:
 * - An answer counts for a partition only while its log is as it was when the fetch was sent (FollowerLog.generation).
 * - At most one fetch waits at the leader; a newer one takes its place there. Numbers rise over all fetches of a process.
 * - A partition whose answer was an error is left out until its pause is over; the others go on.
 * - No failure leaves here: one that is not foreseen ends the partition it met, for the life of this process, since its
 *   log may have stopped half way.
 */

import { isStreamError } from '../../src/base/errors.ts'
import type { Log } from '../../src/ports/log.ts'
import type { Time, Timer } from '../../src/ports/time.ts'
import type { RequestInput, Response } from '../../src/protocol/api-table.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import { ZERO_UUID } from '../../src/protocol/schema.ts'
import type { FollowerLog } from './follower-log.ts'
import type { Partition } from './partition.ts'
import type { Peers } from './peers.ts'
import type { SessionView } from './session-keeper.ts'

export const REPLICA_FETCH_VERSION = 18

const PAUSE_MS_MIN = 20
const PAUSE_MS_MAX = 1000
/** A fetch names every partition, so what changes partition by partition must not send one for each of very many. */
const PARTITIONS_UNPACED = 100
const PACE_MS_PER_PARTITION = 0.02
/** Over what the leader waits at the longest. */
const ANSWER_GRACE_MS = 10_000

type PartitionAnswer = Response<'Fetch'>['responses'][number]['partitions'][number]

export interface FetcherPorts {
  /** Which of the fetches that wait at a leader at one time. */
  readonly lane: number
  /** Records of a partition have been worked in. */
  readonly onRecords: (partition: Partition) => void
  readonly time: Time
  readonly log: Log
  readonly peers: Peers
  readonly session: SessionView
  readonly clusterId: string
  /** The limit on copying (KIP-73). */
  readonly quota: {
    bytesWanted(partition: Partition): number
    isLimited(partition: Partition): boolean
    record(bytes: number): void
    pauseMs(): number
  }
  /** Its log is damaged, and what was copied now would make it count as whole. */
  readonly isHeld: (partition: Partition) => boolean
  /** Rises over all fetchers of the process. */
  readonly nextNumber: () => number
  readonly limits: () => {
    readonly partitionBytesMax: number
    readonly bytesMax: number
    readonly waitMs: number
  }
}

interface Followed {
  readonly partition: Partition
  readonly follower: FollowerLog
  readonly stopListening: () => void
  /** What the leader was told last. */
  toldDurable: number
  pauseMs: number
  isPaused: boolean
  /** An answer is being worked in. */
  isTaking: boolean
  /** Said once until it goes well again. */
  complaint: string | undefined
}

interface Sent {
  readonly number: number
  readonly generations: ReadonlyMap<Followed, number>
}

export class Fetcher {
  readonly #ports: FetcherPorts
  readonly #leaderId: number
  readonly #followed = new Map<string, Followed>()
  readonly #timers = new Set<Timer>()
  /** The fetch that waits at the leader. */
  #sent: Sent | undefined
  #positionsSent = false
  #isScheduled = false
  /** No further fetch before: paced by how many partitions the last one named. */
  #nextFetchMs = 0
  #paceTimer: Timer | undefined
  /** Partitions that are left out, by the time at which they are taken up again. */
  readonly #paused = new Map<number, Followed[]>()
  #failurePauseMs = PAUSE_MS_MIN
  #isPaused = false
  /** Until what is limited may be copied on. */
  #quotaTimer: Timer | undefined
  #turn = 0
  #isStopped = false

  constructor(ports: FetcherPorts, leaderId: number) {
    this.#ports = ports
    this.#leaderId = leaderId
  }

  /** Partitions that are followed. */
  get size(): number {
    return this.#followed.size
  }

  isTaking({ topicId, partition }: Partition): boolean {
    return this.#followed.get(keyOf(topicId, partition))?.isTaking === true
  }

  add(partition: Partition, follower: FollowerLog): void {
    this.remove(partition)
    const entry: Followed = {
      partition,
      follower,
      stopListening: partition.log.onDurable(() => this.#durableMoved()),
      toldDurable: -1,
      pauseMs: PAUSE_MS_MIN,
      isPaused: false,
      isTaking: false,
      complaint: undefined,
    }
    this.#followed.set(keyOf(partition.topicId, partition.partition), entry)
    this.#schedule()
  }

  /** A partition may be fetched again. */
  wake(): void {
    this.#schedule()
  }

  remove(partition: Partition): void {
    const key = keyOf(partition.topicId, partition.partition)
    const entry = this.#followed.get(key)
    if (entry === undefined) return
    entry.stopListening()
    this.#followed.delete(key)
  }

  stop(): void {
    this.#isStopped = true
    for (const timer of this.#timers) timer.cancel()
    this.#quotaTimer?.cancel()
    this.#paceTimer?.cancel()
    for (const entry of this.#followed.values()) entry.stopListening()
    this.#followed.clear()
  }

  /** Everything that changes in one turn goes into one fetch. */
  #schedule(): void {
    if (this.#isScheduled || this.#isStopped) return
    this.#isScheduled = true
    Promise.resolve()
      .then(() => {
        this.#isScheduled = false
        this.#send()
      })
      .catch((error: unknown) => this.#failed(this.#sent, error))
  }

  #durableMoved(): void {
    if (this.#sent === undefined || this.#positionsSent) return
    this.#schedule()
  }

  #send(): void {
    if (this.#isStopped || this.#isPaused) return
    const ready = this.#ready()
    const sent = this.#sent
    if (sent === undefined || ready.some((entry) => !isAsked(sent, entry))) {
      if (ready.length > 0) this.#fetchInPace(ready)
      return
    }
    if (this.#positionsSent) return
    const moved = ready.filter(
      ({ partition, toldDurable }) =>
        partition.config.flushMessages <= 1 && partition.log.durableOffset !== toldDurable,
    )
    if (moved.length > 0) this.#tellPositions(moved)
  }

  /** In turns, so that no partition always comes last in the bytes of an answer. */
  #ready(): Followed[] {
    const ready: Followed[] = []
    for (const entry of this.#followed.values()) {
      if (entry.isPaused || entry.isTaking || entry.follower.isBusy) continue
      if (this.#ports.isHeld(entry.partition)) continue
      if (this.#ports.quota.bytesWanted(entry.partition) > 0) ready.push(entry)
      else this.#awaitQuota()
    }
    if (ready.length < 2) return ready
    this.#turn = (this.#turn + 1) % ready.length
    return [...ready.slice(this.#turn), ...ready.slice(0, this.#turn)]
  }

  #fetchInPace(ready: readonly Followed[]): void {
    const { time } = this.#ports
    const waitMs = this.#nextFetchMs - time.monotonicMs()
    if (waitMs > 0) {
      this.#paceTimer ??= time.setTimer(waitMs, () => {
        this.#paceTimer = undefined
        this.#schedule()
      })
      return
    }
    const paced = Math.max(0, ready.length - PARTITIONS_UNPACED)
    this.#nextFetchMs = time.monotonicMs() + paced * PACE_MS_PER_PARTITION
    this.#fetch(ready)
  }

  #awaitQuota(): void {
    const { time, quota } = this.#ports
    this.#quotaTimer ??= time.setTimer(quota.pauseMs(), () => {
      this.#quotaTimer = undefined
      this.#schedule()
    })
  }

  #fetch(entries: readonly Followed[]): void {
    const { limits } = this.#ports
    const { bytesMax, waitMs, partitionBytesMax } = limits()
    const generations = new Map<Followed, number>()
    for (const entry of entries) generations.set(entry, entry.follower.generation)
    const request = this.#request(entries, { bytesMax, waitMs, partitionBytesMax })
    const sent: Sent = { number: request.fetchNumber as number, generations }
    this.#sent = sent
    this.#call(request, waitMs)
      .then(
        (answer) => this.#answered(sent, answer),
        (error: unknown) => this.#failed(sent, error),
      )
      .catch((error: unknown) => this.#failed(sent, error))
  }

  /** Without a wait and without bytes: it only says how far this replica is durable. */
  #tellPositions(entries: readonly Followed[]): void {
    this.#positionsSent = true
    const request = this.#request(entries, { bytesMax: 0, waitMs: 0, partitionBytesMax: 0 })
    const done = (): void => {
      this.#positionsSent = false
      this.#schedule()
    }
    // The fetch that waits meets the same fate, and sees to it.
    this.#call(request, 0).then(done, done)
  }

  #call(request: RequestInput<'Fetch'>, waitMs: number): Promise<Response<'Fetch'>> {
    const options = { timeoutMs: waitMs + ANSWER_GRACE_MS }
    return this.#ports.peers.call(this.#leaderId, 'Fetch', REPLICA_FETCH_VERSION, request, options)
  }

  #request(
    entries: readonly Followed[],
    limits: ReturnType<FetcherPorts['limits']>,
  ): RequestInput<'Fetch'> {
    const { session, clusterId, nextNumber, quota } = this.#ports
    type Topic = RequestInput<'Fetch'>['topics'][number]
    const byTopic = new Map<string, Topic['partitions'][number][]>()
    for (const entry of entries) {
      const { partition, follower } = entry
      const { log } = partition
      const durableOffset = log.durableOffset
      entry.toldDurable = durableOffset
      let partitions = byTopic.get(partition.topicId)
      if (partitions === undefined) {
        partitions = []
        byTopic.set(partition.topicId, partitions)
      }
      partitions.push({
        partition: partition.partition,
        currentLeaderEpoch: follower.following.leaderEpoch,
        fetchOffset: log.logEndOffset,
        lastFetchedEpoch: log.lastBatchEpoch ?? -1,
        logStartOffset: log.logStartOffset,
        partitionMaxBytes: Math.min(limits.partitionBytesMax, quota.bytesWanted(partition)),
        replicaDirectoryId: ZERO_UUID,
        highWatermark: follower.highWatermark,
        durableOffset,
        cleanOffset: log.cleanOffset,
        tombstoneFloor: log.tombstoneFloor,
        replicaSince: partition.since,
      })
    }
    return {
      clusterId,
      replicaState: { replicaId: session.nodeId, replicaEpoch: session.sessionEpoch },
      // The leader keeps no list of what was asked before: this tells which waiting fetch the new one takes the place of.
      sessionId: this.#ports.lane,
      maxWaitMs: limits.waitMs,
      minBytes: 1,
      maxBytes: limits.bytesMax,
      topics: [...byTopic].map(([topicId, partitions]) => ({ topicId, partitions })),
      forgottenTopicsData: [],
      dataEpoch: session.dataEpoch,
      fetchNumber: nextNumber(),
    }
  }

  #answered(sent: Sent, answer: Response<'Fetch'>): void {
    if (this.#isStopped) return
    const isCurrent = this.#sent === sent
    if (isCurrent) this.#sent = undefined
    if (answer.errorCode !== 0) {
      if (isCurrent) this.#pauseAll(`error ${answer.errorCode}`)
      return
    }
    this.#failurePauseMs = PAUSE_MS_MIN
    for (const { topicId, partitions } of answer.responses) {
      for (const partition of partitions) {
        const entry = this.#followed.get(keyOf(topicId, partition.partitionIndex))
        const generation = entry && sent.generations.get(entry)
        if (entry !== undefined && generation !== undefined) {
          this.#take(entry, generation, partition)
        }
      }
    }
    this.#schedule()
  }

  #failed(sent: Sent | undefined, error: unknown): void {
    const isCurrent = this.#sent === sent
    if (isCurrent) this.#sent = undefined
    if (this.#isStopped) return
    if (!isStreamError(error)) {
      this.#ports.log.error('following a leader failed', {
        leader: this.#leaderId,
        error: textOf(error),
      })
    } else if (!isCurrent) return
    this.#pauseAll(isStreamError(error) ? error.message : 'internal error')
  }

  #pauseAll(why: string): void {
    const { log } = this.#ports
    log.debug('a leader cannot be followed now', { leader: this.#leaderId, why })
    this.#isPaused = true
    const delayMs = this.#failurePauseMs
    this.#failurePauseMs = Math.min(PAUSE_MS_MAX, delayMs * 2)
    this.#after(delayMs, () => {
      this.#isPaused = false
      this.#schedule()
    })
  }

  #take(entry: Followed, generation: number, answer: PartitionAnswer): void {
    if (answer.errorCode !== 0) {
      this.#takeError(entry, generation, answer)
      return
    }
    const { quota } = this.#ports
    const bytes = answer.records?.length ?? 0
    if (bytes > 0 && quota.isLimited(entry.partition)) quota.record(bytes)
    const { epoch, endOffset } = answer.divergingEpoch
    const diverging = epoch < 0 && endOffset < 0 ? undefined : { epoch, endOffset }
    const taken = bytes > 0 ? (): void => this.#ports.onRecords(entry.partition) : undefined
    const work = (): boolean | Promise<boolean> =>
      entry.follower.take(
        {
          highWatermark: answer.highWatermark,
          logStartOffset: answer.logStartOffset,
          diverging,
          records: answer.records,
          tombstoneFloor: answer.tombstoneFloor,
        },
        generation,
      )
    const isCut = diverging !== undefined
    this.#settle(entry, isCut, isCut ? () => this.#cutBy(entry, epoch, work) : work, taken)
  }

  /** What was committed is cut after an unclean election alone: then this line says what it has cost. */
  async #cutBy(
    entry: Followed,
    epoch: number,
    work: () => boolean | Promise<boolean>,
  ): Promise<boolean> {
    const { follower } = entry
    const { highWatermark, logEndOffset } = follower
    if (!(await work())) return false
    const endOffset = follower.logEndOffset
    const fields = { ...nameOf(entry), epoch, endOffset, records: logEndOffset - endOffset }
    const committed = highWatermark - follower.highWatermark
    const { log } = this.#ports
    if (committed <= 0) log.info('a replica is cut back to its leader', fields)
    else log.warn('acknowledged records are cut off: the leader lacks them', fields)
    return true
  }

  #takeError(entry: Followed, generation: number, answer: PartitionAnswer): void {
    if (answer.errorCode === KafkaError.OFFSET_OUT_OF_RANGE && answer.logStartOffset >= 0) {
      const start = answer.logStartOffset
      this.#settle(entry, true, () => entry.follower.restart(start, generation))
      return
    }
    const isLoss = answer.errorCode === KafkaError.INELIGIBLE_REPLICA
    this.#pause(
      entry,
      isLoss
        ? 'the leader says that this replica has lost records: start it with --restored'
        : `error ${answer.errorCode}`,
      isLoss,
    )
  }

  /**
   * Runs what an answer asks for; the partition is fetched again once it is done.
   * @param mustChange  with the log as it is the next answer would be the same
   */
  #settle(
    entry: Followed,
    mustChange: boolean,
    work: () => boolean | Promise<boolean>,
    taken?: () => void,
  ): void {
    const done = (changed: boolean): void => {
      entry.isTaking = false
      if (mustChange && !changed) {
        this.#pause(entry, 'the logs cannot be brought together')
        return
      }
      entry.pauseMs = PAUSE_MS_MIN
      entry.complaint = undefined
      if (this.#isFollowed(entry)) taken?.()
      this.#schedule()
    }
    const failed = (error: unknown): void => {
      entry.isTaking = false
      if (!isStreamError(error)) this.#giveUp(entry, error)
      else if (error.code !== 'CLOSED') this.#pause(entry, error.message, true)
    }
    try {
      const result = work()
      if (typeof result === 'boolean') {
        entry.pauseMs = PAUSE_MS_MIN
        entry.complaint = undefined
        taken?.()
        return
      }
      entry.isTaking = true
      result.then(done, failed)
    } catch (error) {
      failed(error)
    }
  }

  #isFollowed(entry: Followed): boolean {
    const { topicId, partition } = entry.partition
    return this.#followed.get(keyOf(topicId, partition)) === entry
  }

  /** Nobody knows how far its log has come: it must be recovered before anything is done with it. */
  #giveUp(entry: Followed, error: unknown): void {
    this.#ports.log.error('a replica has failed: it takes no part until the daemon starts again', {
      ...nameOf(entry),
      error: textOf(error),
    })
    this.remove(entry.partition)
    entry.partition.stopServing('storageFailed')
  }

  #pause(entry: Followed, why: string, isTrouble = false): void {
    if (isTrouble && entry.complaint !== why) {
      this.#ports.log.error('a replica cannot follow its leader', { ...nameOf(entry), why })
      entry.complaint = why
    }
    entry.isPaused = true
    const delayMs = isTrouble ? PAUSE_MS_MAX : entry.pauseMs
    entry.pauseMs = Math.min(PAUSE_MS_MAX, entry.pauseMs * 2)
    const { time } = this.#ports
    // They end together, a grid apart: many partitions of one leader mostly have the same trouble.
    const endMs = Math.ceil((time.monotonicMs() + delayMs) / PAUSE_MS_MIN) * PAUSE_MS_MIN
    const others = this.#paused.get(endMs)
    if (others !== undefined) {
      others.push(entry)
      return
    }
    const paused = [entry]
    this.#paused.set(endMs, paused)
    this.#after(endMs - time.monotonicMs(), () => {
      this.#paused.delete(endMs)
      for (const one of paused) one.isPaused = false
      this.#schedule()
    })
  }

  #after(delayMs: number, run: () => void): void {
    const timer = this.#ports.time.setTimer(delayMs, () => {
      this.#timers.delete(timer)
      run()
    })
    this.#timers.add(timer)
  }
}

/** It stands in the fetch that waits, and its log has not changed since. */
function isAsked(sent: Sent, entry: Followed): boolean {
  return sent.generations.get(entry) === entry.follower.generation
}

function textOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error)
}

function keyOf(topicId: string, partition: number): string {
  return `${topicId}/${partition}`
}

function nameOf({ partition }: Followed): { readonly partition: string } {
  return { partition: `${partition.topic}-${partition.partition}` }
}
