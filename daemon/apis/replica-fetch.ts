/**
 * Fetch (1), version 18, of a follower: it says where its replicas stand and gets what comes next, up to the log's end
 * (replication.md sections 2.2, 7.1, 13). Positions are taken over at once, before anything is read. The fetch waits
 * until something was appended, the follower's high watermark is stale (at most one such answer in 5 ms), a newer fetch
 * of the same follower and lane (session_id) waits in its place, or max_wait_ms has passed. Partitions with nothing new
 * are left out, and those that a limit holds back (KIP-73), which are looked at again when it allows.
 *
 * Errors: 1, 3, 6, 31 (not a broker of this cluster), 56, 74, 75, 100, 104; 107: the follower lacks what it had said
 * it holds.
 */

import { isStreamError } from '../../src/base/errors.ts'
import type { Timer } from '../../src/ports/time.ts'
import type { Request, ResponseInput } from '../../src/protocol/api-table.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import type { LogSlice } from '../log/log-types.ts'
import { BUSY_LANE } from '../replica/fetch-lanes.ts'
import type { Partition, ReadWaiter } from '../replica/partition.ts'
import type { FetchRefusal } from '../replica/replica-set.ts'
import type { RequestContext, Services } from './handler.ts'
import { codeOfError, codeOfNotServing } from './kafka-codes.ts'
import type { FollowerSlot } from './parked-fetches.ts'

type TopicAnswer = ResponseInput<'Fetch'>['responses'][number]
type PartitionAnswer = TopicAnswer['partitions'][number]
type PartitionRequest = Request<'Fetch'>['topics'][number]['partitions'][number]
type FetchAnswer = ResponseInput<'Fetch'>

const EARLY_ANSWER_MS = 5
const NO_RECORDS: readonly Uint8Array[] = []

interface Asked {
  readonly topicId: string
  readonly request: PartitionRequest
  readonly partition: Partition | undefined
  /** As Partition.cuts was when its position was taken. */
  readonly cuts: number
  /** Decided when its position was taken; it is not read. */
  readonly decided: PartitionAnswer | undefined
}

export function replicaFetch(
  services: Services,
  context: RequestContext,
  request: Request<'Fetch'>,
): FetchAnswer | Promise<FetchAnswer> {
  const { broker } = services
  const isPeer = context.door === 'zmq' && broker.replication !== undefined
  if (!isPeer || broker.image.registration(request.replicaState.replicaId) === undefined) {
    return { errorCode: KafkaError.CLUSTER_AUTHORIZATION_FAILED, sessionId: 0, responses: [] }
  }
  if (request.clusterId !== broker.clusterId) {
    return { errorCode: KafkaError.INCONSISTENT_CLUSTER_ID, sessionId: 0, responses: [] }
  }
  return new ReplicaFetchRun(services, context, request).start()
}

class ReplicaFetchRun implements ReadWaiter {
  readonly #services: Services
  readonly #context: RequestContext
  readonly #request: Request<'Fetch'>
  readonly #slot: FollowerSlot
  readonly #asked: Asked[] = []
  readonly #parked = new Map<Partition, Asked>()
  #answers: { topicId: string; answer: PartitionAnswer }[] = []
  #bytes = 0
  #bytesMax = 0
  #resolve: ((answer: FetchAnswer) => void) | undefined
  #reject: ((error: unknown) => void) | undefined
  #timer: Timer | undefined
  #earlyTimer: Timer | undefined
  #limitTimer: Timer | undefined
  #isHeldBack = false
  #isReading = false
  #isDirty = false

  constructor(services: Services, context: RequestContext, request: Request<'Fetch'>) {
    this.#services = services
    this.#context = context
    this.#request = request
    const isBusyLane = request.sessionId === BUSY_LANE
    this.#slot = services.parkedFetches.ofFollower(request.replicaState.replicaId, isBusyLane)
  }

  start(): FetchAnswer | Promise<FetchAnswer> {
    for (const topic of this.#request.topics) {
      for (const request of topic.partitions) this.#take(topic.topicId, request)
    }
    const reading = this.#read()
    if (reading !== undefined) return reading.then(() => this.#answerOrPark())
    return this.#answerOrPark()
  }

  /** A newer fetch of the same follower waits in its place. */
  supersede(): void {
    this.#answers = []
    this.#finish(this.#answer())
  }

  onChanged(partition: Partition): void {
    const asked = this.#parked.get(partition)
    if (asked === undefined) return
    const { request } = asked
    const hasMore =
      partition.notServing !== undefined ||
      partition.log.logEndOffset > request.fetchOffset ||
      partition.cuts !== asked.cuts
    if (hasMore) this.#readSoon()
    else if (isStale(partition, request)) this.#readEarly()
  }

  #answerOrPark(): FetchAnswer | Promise<FetchAnswer> {
    const { maxWaitMs } = this.#request
    if (this.#answers.length > 0 || maxWaitMs <= 0 || this.#services.broker.isEnding) {
      return this.#answer()
    }
    return this.#park(maxWaitMs)
  }

  #park(waitMs: number): Promise<FetchAnswer> {
    this.#context.park()
    const before = this.#slot.waiting
    this.#slot.waiting = this
    before?.supersede()
    for (const asked of this.#asked) {
      const { partition } = asked
      if (partition === undefined) continue
      this.#parked.set(partition, asked)
      partition.addFollower(this)
    }
    this.#timer = this.#services.broker.time.setTimer(waitMs, () => {
      this.#timer = undefined
      this.#finish(this.#answer())
    })
    this.#awaitLimit()
    this.#context.answerNow = () => this.#finish(this.#answer())
    return new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
  }

  /** Once all of this turn is appended: a produce brings several partitions. */
  #readSoon(): void {
    if (this.#isDirty) return
    this.#isDirty = true
    if (this.#isReading) return
    void Promise.resolve().then(() => this.#readAgain())
  }

  #readEarly(): void {
    if (this.#earlyTimer !== undefined) return
    const { time } = this.#services.broker
    const dueMs = this.#slot.lastEarlyMs + EARLY_ANSWER_MS - time.monotonicMs()
    this.#earlyTimer = time.setTimer(Math.max(0, dueMs), () => {
      this.#earlyTimer = undefined
      this.#slot.lastEarlyMs = time.monotonicMs()
      this.#readSoon()
    })
  }

  #awaitLimit(): void {
    if (!this.#isHeldBack || this.#limitTimer !== undefined) return
    const { time, replication } = this.#services.broker
    this.#limitTimer = time.setTimer(replication?.leaderQuota.pauseMs ?? 0, () => {
      this.#limitTimer = undefined
      this.#readSoon()
    })
  }

  #readAgain(): void {
    if (this.#resolve === undefined || this.#isReading) return
    this.#isDirty = false
    const reading = this.#read()
    if (reading === undefined) {
      this.#settle()
      return
    }
    this.#isReading = true
    reading.then(
      () => {
        this.#isReading = false
        this.#settle()
      },
      (error: unknown) => {
        this.#isReading = false
        const reject = this.#reject
        if (this.#leave() !== undefined) reject?.(error)
      },
    )
  }

  #settle(): void {
    if (this.#resolve === undefined) return
    if (this.#answers.length > 0) {
      this.#finish(this.#answer())
      return
    }
    this.#context.releaseAnswer()
    if (this.#isDirty) this.#readAgain()
    else this.#awaitLimit()
  }

  #finish(answer: FetchAnswer): void {
    this.#leave()?.(answer)
  }

  #leave(): ((answer: FetchAnswer) => void) | undefined {
    const resolve = this.#resolve
    if (resolve === undefined) return undefined
    this.#resolve = undefined
    this.#reject = undefined
    this.#context.answerNow = undefined
    this.#timer?.cancel()
    this.#earlyTimer?.cancel()
    this.#limitTimer?.cancel()
    if (this.#slot.waiting === this) this.#slot.waiting = undefined
    for (const partition of this.#parked.keys()) partition.removeReader(this)
    return resolve
  }

  /** Takes over where the follower stands; what cannot be served is decided now. */
  #take(topicId: string, request: PartitionRequest): void {
    const { broker } = this.#services
    const partition = broker.table.get(topicId, request.partition)
    const refuse = (errorCode: number): void => {
      const decided = refusal(request, partition, errorCode)
      this.#asked.push({ topicId, request, partition: undefined, cuts: 0, decided })
    }
    if (partition === undefined) {
      const isKnown = broker.image.partition(topicId, request.partition) !== undefined
      refuse(isKnown ? KafkaError.NOT_LEADER_OR_FOLLOWER : KafkaError.UNKNOWN_TOPIC_ID)
      return
    }
    if (partition.notServing !== undefined) {
      refuse(codeOfNotServing(partition.notServing))
      return
    }
    const { replicaState, dataEpoch, fetchNumber } = this.#request
    const verdict = partition.takeFetch({
      replicaId: replicaState.replicaId,
      sessionEpoch: replicaState.replicaEpoch,
      dataEpoch,
      fetchNumber,
      leaderEpoch: request.currentLeaderEpoch,
      fetchOffset: request.fetchOffset,
      logStartOffset: request.logStartOffset,
      lastFetchedEpoch: request.lastFetchedEpoch,
      durableOffset: request.durableOffset,
      cleanOffset: request.cleanOffset,
      since: request.replicaSince,
    })
    switch (verdict.kind) {
      case 'refused':
        refuse(codeOfRefusal(verdict.why))
        return
      case 'diverging': {
        const { epoch, endOffset } = verdict.end
        const decided = {
          ...refusal(request, partition, 0),
          divergingEpoch: { epoch, endOffset },
        }
        this.#asked.push({ topicId, request, partition: undefined, cuts: 0, decided })
        return
      }
      case 'read':
        this.#asked.push({ topicId, request, partition, cuts: partition.cuts, decided: undefined })
    }
  }

  /** @returns undefined when no disk was needed */
  #read(): Promise<void> | undefined {
    this.#answers = []
    this.#bytes = 0
    this.#isHeldBack = false
    this.#bytesMax =
      this.#request.maxBytes <= 0 ? 0 : this.#context.reserveAnswer(this.#request.maxBytes)
    return this.#readFrom(0)
  }

  #readFrom(start: number): Promise<void> | undefined {
    for (let at = start; at < this.#asked.length; at += 1) {
      const asked = this.#asked[at] as Asked
      const answer = this.#readOne(asked)
      if (answer instanceof Promise) {
        return answer.then((read) => {
          if (read !== undefined) this.#answers.push({ topicId: asked.topicId, answer: read })
          return this.#readFrom(at + 1)
        })
      }
      if (answer !== undefined) this.#answers.push({ topicId: asked.topicId, answer })
    }
    return undefined
  }

  /** undefined: nothing new. */
  #readOne({
    request,
    partition,
    cuts,
    decided,
  }: Asked): PartitionAnswer | undefined | Promise<PartitionAnswer | undefined> {
    if (partition === undefined) return decided
    if (partition.notServing !== undefined) {
      return refusal(request, partition, codeOfNotServing(partition.notServing))
    }
    // What its position said was of the log before it was cut: it has to ask anew.
    if (partition.leaderEpoch !== request.currentLeaderEpoch || partition.cuts !== cuts) {
      return refusal(request, partition, KafkaError.FENCED_LEADER_EPOCH)
    }
    const { log } = partition
    const offset = request.fetchOffset
    if (offset < log.logStartOffset) {
      return refusal(request, partition, KafkaError.OFFSET_OUT_OF_RANGE)
    }
    const bytesAllowed = this.#bytesAllowed(partition)
    const isFull = this.#bytesMax - this.#bytes <= 0 || bytesAllowed <= 0
    if (offset >= log.logEndOffset || isFull) return this.#give(request, partition, undefined)
    const bytesLeft = this.#bytesMax - this.#bytes
    const read = {
      offset,
      maxBytes: Math.min(request.partitionMaxBytes, bytesLeft, bytesAllowed),
      minOneBatch: this.#bytes === 0,
    }
    const cached = log.readCached(read)
    if (cached !== undefined) return this.#give(request, partition, cached)
    return log.read(read).then(
      (slice) => this.#give(request, partition, slice),
      (error: unknown) => {
        if (!isStreamError(error)) throw error
        this.#services.broker.log.error('a read for a follower failed', {
          partition: `${partition.topic}-${partition.partition}`,
          offset,
          error: error.message,
        })
        return refusal(request, partition, codeOfError(error))
      },
    )
  }

  /** What the limit on copying leaves of a partition; a follower in sync is never held back. */
  #bytesAllowed(partition: Partition): number {
    const { replication } = this.#services.broker
    if (replication === undefined || !replication.isLimitedAsLeader(partition)) {
      return Number.POSITIVE_INFINITY
    }
    const { replicaId } = this.#request.replicaState
    const isInSync = partition.replicas?.value.inSyncReplicas.some((m) => m.broker === replicaId)
    if (isInSync !== false) return Number.POSITIVE_INFINITY
    const left = replication.leaderQuota.bytesLeft
    if (left <= 0) this.#isHeldBack = true
    return left
  }

  #give(
    request: PartitionRequest,
    partition: Partition,
    slice: LogSlice | undefined,
  ): PartitionAnswer | undefined {
    const bytes = slice?.sizeBytes ?? 0
    if (bytes === 0 && !isStale(partition, request)) return undefined
    this.#bytes += bytes
    const { replication } = this.#services.broker
    if (bytes > 0 && replication?.isLimitedAsLeader(partition))
      replication.leaderQuota.record(bytes)
    return { ...refusal(request, partition, 0), records: slice?.bytes ?? NO_RECORDS }
  }

  #answer(): FetchAnswer {
    const topics = new Map<string, PartitionAnswer[]>()
    for (const { topicId, answer } of this.#answers) {
      const partitions = topics.get(topicId)
      if (partitions === undefined) topics.set(topicId, [answer])
      else partitions.push(answer)
    }
    const responses = [...topics].map(([topicId, partitions]) => ({ topicId, partitions }))
    return { errorCode: 0, sessionId: 0, responses }
  }
}

/** The follower would learn something from the high watermark, the log start or the floor of tombstones. */
function isStale(partition: Partition, request: PartitionRequest): boolean {
  const known = Math.min(partition.highWatermark, request.fetchOffset)
  const { logStartOffset, tombstoneFloor } = partition.log
  return (
    known > request.highWatermark ||
    logStartOffset > request.logStartOffset ||
    (request.tombstoneFloor >= 0 && tombstoneFloor > request.tombstoneFloor)
  )
}

function refusal(
  request: PartitionRequest,
  partition: Partition | undefined,
  errorCode: number,
): PartitionAnswer {
  return {
    partitionIndex: request.partition,
    errorCode,
    highWatermark: partition?.highWatermark ?? -1,
    lastStableOffset: partition?.lastStableOffset ?? -1,
    logStartOffset: partition?.log.logStartOffset ?? -1,
    abortedTransactions: null,
    records: NO_RECORDS,
    tombstoneFloor: errorCode === 0 ? (partition?.log.tombstoneFloor ?? -1) : -1,
  }
}

function codeOfRefusal(why: FetchRefusal): number {
  switch (why) {
    case 'fencedEpoch':
      return KafkaError.FENCED_LEADER_EPOCH
    case 'unknownEpoch':
      return KafkaError.UNKNOWN_LEADER_EPOCH
    case 'notReplica':
      return KafkaError.UNKNOWN_TOPIC_OR_PARTITION
    case 'belowLogStart':
    case 'startsOver':
      return KafkaError.OFFSET_OUT_OF_RANGE
    case 'staleFetch':
      return KafkaError.NOT_LEADER_OR_FOLLOWER
    case 'lostData':
      return KafkaError.INELIGIBLE_REPLICA
  }
}
