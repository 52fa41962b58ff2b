/**
 * Whole batches out of partitions, in order, from given positions to given ends.
 *
 * - Pull: `poll()` gives the next event that is at hand, `wait()` sleeps until there is one, `next()` is both. Batches
 *   are given as the broker stored them; whoever asks decodes them.
 * - Pipelined: when an answer comes, the next Fetch leaves as soon as the last batch header is known, before anything
 *   of the answer is handed out. Where a little has come, and it is all there was, handing it out is more urgent: the
 *   next Fetch leaves when the reader waits again, or polls again and finds nothing. How many are outstanding at a
 *   broker is said in fetches-under-way.ts.
 * - Bounded: no Fetch leaves while prefetchBytesMax are waiting to be polled.
 * - With `rack`, a partition is fetched from the replica that its leader names as the nearest (KIP-392), and from the
 *   leader whenever that one is not at hand.
 * - With `localReads`, a partition of a broker on this machine that is far from its end is read from the files
 *   themselves (local-reads.ts); near its end, and after anything unexpected, it is fetched.
 *
 * Invariants:
 * - Per partition events come in offset order; a position is delivered at most once, and every gap that retention made
 *   is told before what follows it.
 * - An end is reached by position, never by counting: it is reached once nothing below it can come any more, even when
 *   compaction has taken the last batches before it (see `#concludeEmpty`).
 * - Every Fetch says the epoch of the last batch read: where the log was cut back meanwhile the partition fails, and never
 *   goes on with other records in the place of those that were read.
 * - A partition is read of one topic: the one it was assigned under. Fetch asks for it by id where the broker can (v13), so that
 *   an answer is never of another topic of its name; once the brokers describe another one the partition fails.
 * - Answers to a question that is no longer asked (after seek, unassign) are dropped, by generation.
 */
import { StreamError } from '../base/errors.ts'
import type { Random } from '../ports/random.ts'
import type { Time, Timer } from '../ports/time.ts'
import type { Response } from '../protocol/api-table.ts'
import { KafkaError, kafkaErrorIsRetriable } from '../protocol/errors.ts'
import { type AbortedTransaction, AbortedTransactions } from '../record/aborted-transactions.ts'
import { backoffMs } from './backoff.ts'
import type { Cluster } from './cluster.ts'
import type { Assignment, ConsumerEvent, ConsumerOptions, RecordsEvent } from './consumer-events.ts'
import { beyondEnd, cutBack, damaged, epochUnknown } from './consumer-failures.ts'
import { makePart, noteEpochs, type Part } from './consumer-part.ts'
import { makeFetchQuestion, nameIn, TOPIC_ID_VERSION } from './fetch-question.ts'
import { type Fetched, findBatches, judgeBatches } from './fetched-batches.ts'
import { type Asked, type Fetch, FetchesUnderWay } from './fetches-under-way.ts'
import { kafkaFailure } from './kafka-failure.ts'
import { type LocalBlock, type LocalReadOptions, LocalReads } from './local-reads.ts'
import { NearestReplicas } from './nearest-replica.ts'
import { type Isolation, listOffsets } from './offsets.ts'
import { PrefetchQueue } from './prefetch-queue.ts'
import { isTopicLost, judgeTopic, recreatedTopic } from './topic-identity.ts'

type FetchRow = Response<'Fetch'>['responses'][number]['partitions'][number]

const defaults = {
  maxWaitMs: 500,
  minBytes: 1,
  fetchBytesMax: 4 * 1024 * 1024,
  prefetchBytesMax: 8 * 1024 * 1024,
  unknownTopicMs: 5000,
}
/** Less than this at hand is little: it is printed in less time than a Fetch takes. */
const LITTLE_BYTES = 64 * 1024
/** A damaged batch may have been damaged on its way: it is asked for again this often. */
const DAMAGED_READS_MAX = 3
/** Where there are other replicas the damaged range is fetched from them: so long that is waited for. */
const REPAIR_MS_MAX = 30_000
/** A position beyond the end may be a leader that does not know its own yet. */
const BEYOND_END_MAX = 5
/** So much longer than an answer may take. */
const OUT_OF_TOUCH_MS = 1000
/** How long a partition is fetched after a damaged batch was read from its file. */
const LOCAL_DAMAGE_MS = 1000

export class Consumer {
  readonly #time: Time
  readonly #random: Random
  readonly #cluster: Cluster
  readonly #options: ConsumerOptions
  readonly #isolation: Isolation
  readonly #fetchBytesMax: number
  readonly #prefetchBytesMax: number
  /** In the order in which they are asked for: who got data goes to the back. */
  readonly #parts = new Map<string, Part>()
  readonly #ready = new PrefetchQueue()
  readonly #fetches = new FetchesUnderWay()
  readonly #nearest: NearestReplicas
  readonly #stopListening: () => void
  readonly #local: LocalReads<Part> | undefined
  /**
   * Polls that find nothing until the next Fetch leaves, unless a wait is first; 0: it has left. The first such poll says that
   * all was handed out, not that the reader is through with it: hence two.
   */
  #emptyPollsToPump = 0
  #waiters: (() => void)[] = []
  #isClosed = false

  constructor(time: Time, random: Random, cluster: Cluster, options: ConsumerOptions = {}) {
    this.#time = time
    this.#random = random
    this.#cluster = cluster
    this.#options = options
    this.#isolation = options.isolation ?? 'read_committed'
    this.#fetchBytesMax = options.fetchBytesMax ?? defaults.fetchBytesMax
    this.#prefetchBytesMax = options.prefetchBytesMax ?? defaults.prefetchBytesMax
    this.#nearest = new NearestReplicas(time, cluster, options.rack)
    this.#stopListening = cluster.onChange(() => {
      this.#checkTopics()
      this.#pump()
    })
    this.#local = this.#makeLocalReads(options.localReads)
  }

  /** Adds partitions. One that is assigned already is read anew from its start offset. */
  assign(assignments: readonly Assignment[]): void {
    for (const assignment of assignments) {
      const { topic, partition, startOffset } = assignment
      this.unassign(topic, partition)
      const part = makePart(assignment, this.#time.monotonicMs())
      this.#parts.set(keyOf(topic, partition), part)
      this.#cluster.addTopic(topic)
      judgeTopic(part, this.#cluster.metadata.topic(topic))
      if (startOffset >= part.endOffset) this.#end(part)
    }
    this.#pump()
  }

  /** What was fetched of it and not polled is dropped. Fine when it is not assigned. */
  unassign(topic: string, partition: number): void {
    const key = keyOf(topic, partition)
    const part = this.#parts.get(key)
    if (part === undefined) return
    this.#parts.delete(key)
    this.#forget(part)
    part.retryTimer?.cancel()
    this.#wake()
  }

  /** Reads on at `offset`; what was fetched and not polled is dropped. */
  seek(topic: string, partition: number, offset: number): void {
    const part = this.#parts.get(keyOf(topic, partition))
    if (part === undefined) return
    this.#forget(part)
    part.state = 'reading'
    part.fetchOffset = offset
    part.position = offset
    part.lastEpoch = -1
    if (offset >= part.endOffset) this.#end(part)
    this.#pump()
  }

  /** Neither asked for nor handed out until resume; what was fetched is kept. */
  pause(topic: string, partition: number): void {
    const part = this.#parts.get(keyOf(topic, partition))
    if (part === undefined) return
    part.isPaused = true
    this.#dropLocal(part)
    this.#pump()
  }

  resume(topic: string, partition: number): void {
    const part = this.#parts.get(keyOf(topic, partition))
    if (part === undefined) return
    part.isPaused = false
    this.#pump()
    this.#wake()
  }

  /** The offset after the last event handed out; undefined when not assigned. */
  position(topic: string, partition: number): number | undefined {
    return this.#parts.get(keyOf(topic, partition))?.position
  }

  /** Leader epoch of the last record read before `offset`; −1: not known, or not assigned. Commits carry it. */
  epochBefore(topic: string, partition: number, offset: number): number {
    const epochs = this.#parts.get(keyOf(topic, partition))?.epochs ?? []
    return epochs.findLast(({ fromOffset }) => fromOffset < offset)?.epoch ?? -1
  }

  /**
   * Of a partition whose topic is gone, or another one has taken its name: what was read of it must not be stored as a position in
   * that one.
   */
  isTopicLost(topic: string, partition: number): boolean {
    const part = this.#parts.get(keyOf(topic, partition))
    return part !== undefined && isTopicLost(part, this.#cluster.metadata.topic(topic))
  }

  /** Nothing will ever come: every partition has ended or failed, and that has been polled. */
  get isDone(): boolean {
    if (this.#isClosed) return true
    for (const part of this.#parts.values()) {
      if (part.queued > 0 || part.state === 'reading' || part.state === 'resolving') return false
    }
    return true
  }

  /** Of a partition that is being read nothing has been heard for long: whether it has new records is not known. */
  get isOutOfTouch(): boolean {
    const sinceMs =
      this.#time.monotonicMs() - (this.#options.maxWaitMs ?? defaults.maxWaitMs) - OUT_OF_TOUCH_MS
    for (const { state, isPaused, isLocal, heardMs } of this.#parts.values()) {
      if (state === 'reading' && !isPaused && !isLocal && heardMs < sinceMs) return true
    }
    return false
  }

  /** Fetched and not yet polled. */
  get prefetchedBytes(): number {
    return this.#ready.bytes
  }

  /** The next event at hand, or undefined. */
  poll(): ConsumerEvent | undefined {
    for (let next = this.#ready.take(); next !== undefined; next = this.#ready.take()) {
      const { part, item, bytes } = next
      const event = 'kind' in item ? this.#plainEvent(part, item) : this.#recordsEvent(part, item)
      if (bytes > 0 && this.#emptyPollsToPump === 0) this.#pump()
      if (event !== undefined) return event
    }
    if (this.#emptyPollsToPump > 0 && --this.#emptyPollsToPump === 0) this.#pump()
    return undefined
  }

  /**
   * @param timeoutMs  absent: as long as it takes
   * @returns  false when the time is over and nothing has come; true when there may be something to poll, or isDone
   */
  wait(timeoutMs?: number): Promise<boolean> {
    if (this.#emptyPollsToPump > 0) this.#pump()
    if (this.isDone || this.#ready.isReady) return Promise.resolve(true)
    return new Promise((resolve) => {
      let timer: Timer | undefined
      const onEvent = () => {
        timer?.cancel()
        resolve(true)
      }
      this.#waiters.push(onEvent)
      if (timeoutMs === undefined) return
      timer = this.#time.setTimer(timeoutMs, () => {
        this.#waiters = this.#waiters.filter((waiter) => waiter !== onEvent)
        resolve(false)
      })
    })
  }

  /** The next event; undefined once isDone. */
  async next(): Promise<ConsumerEvent | undefined> {
    for (;;) {
      const event = this.poll()
      if (event !== undefined) return event
      if (this.isDone) return undefined
      await this.wait()
    }
  }

  /** Idempotent; the cluster stays. */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#stopListening()
    for (const part of this.#parts.values()) part.retryTimer?.cancel()
    this.#local?.close()
    this.#ready.clear()
    this.#wake()
  }

  // --- asking

  #pump(): void {
    this.#emptyPollsToPump = 0
    if (this.#isClosed || this.#ready.isFilled(this.#prefetchBytesMax)) return
    const nowMs = this.#time.monotonicMs()
    const groups = new Map<number, Part[]>()
    for (const part of this.#parts.values()) {
      if (part.state !== 'reading' || part.isPaused || part.notBeforeMs > nowMs) continue
      if (part.isLocal || !this.#isSameTopic(part)) continue
      const leader = this.#cluster.leaderOf(part.topic, part.partition)
      if (leader === undefined) {
        this.#onNoLeader(part, nowMs)
        continue
      }
      part.unknownSinceMs = undefined
      const nodeId = this.#nearest.sourceOf(part, leader.leaderId)
      if (!this.#fetches.mayAsk(nodeId, part)) continue
      const group = groups.get(nodeId)
      if (group === undefined) groups.set(nodeId, [part])
      else group.push(part)
    }
    for (const [nodeId, parts] of groups) this.#fetch(nodeId, parts)
  }

  /** Also of those that are not asked for at present: they are paused, read from files, or enough of them is at hand. */
  #checkTopics(): void {
    if (this.#isClosed) return
    for (const part of this.#parts.values()) {
      if (part.state === 'reading' || part.state === 'resolving') this.#isSameTopic(part)
    }
  }

  /** @returns false: it is not to be asked for now, or has failed */
  #isSameTopic(part: Part): boolean {
    const verdict = judgeTopic(part, this.#cluster.metadata.topic(part.topic))
    if (verdict === 'same') return true
    if (verdict === 'doubtful') this.#cluster.requestRefresh()
    else {
      part.generation++
      this.#fetches.forget(part)
      this.#leaveFiles(part)
      this.#fail(part, recreatedTopic(part.topic))
    }
    return false
  }

  #onNoLeader(part: Part, nowMs: number): void {
    const topic = this.#cluster.metadata.topic(part.topic)
    // One that was unknown and is missing from an answer about all topics, as others ask for it, is unknown still.
    const isUnknown =
      topic === undefined
        ? part.unknownSinceMs !== undefined
        : topic.errorCode === KafkaError.UNKNOWN_TOPIC_OR_PARTITION ||
          (topic.errorCode === 0 && part.partition >= topic.partitions.length)
    if (!isUnknown) part.unknownSinceMs = undefined
    else {
      part.unknownSinceMs ??= nowMs
      const limitMs = this.#options.unknownTopicMs ?? defaults.unknownTopicMs
      if (nowMs - part.unknownSinceMs >= limitMs) {
        this.#fail(
          part,
          kafkaFailure(KafkaError.UNKNOWN_TOPIC_OR_PARTITION, { target: part.target }),
        )
        return
      }
    }
    const code = topic?.errorCode ?? 0
    if (code !== 0 && !kafkaErrorIsRetriable(code)) {
      this.#fail(part, kafkaFailure(code, { target: part.topic }))
      return
    }
    this.#cluster.requestRefresh()
  }

  #fetch(nodeId: number, parts: readonly Part[]): void {
    const connection = this.#cluster.connectionTo(nodeId)
    if (connection === undefined) {
      const refusal = this.#cluster.refusalOf(nodeId)
      if (refusal !== undefined) for (const part of parts) this.#fail(part, refusal)
      return
    }
    const { fetch, topics, maxWaitMs } = makeFetchQuestion(parts, {
      nodeId,
      takesIds: connection.supports('Fetch', TOPIC_ID_VERSION),
      isNative: this.#cluster.isNative,
      maxWaitMs: this.#options.maxWaitMs ?? defaults.maxWaitMs,
      leaderEpochOf: ({ topic, partition }) =>
        this.#cluster.leaderOf(topic, partition)?.leaderEpoch ?? -1,
      bytesMaxOf: (part) => this.#partitionBytesMax(part),
    })
    this.#fetches.begin(fetch)
    try {
      connection.request(
        'Fetch',
        {
          replicaId: -1,
          maxWaitMs,
          minBytes: this.#options.minBytes ?? defaults.minBytes,
          maxBytes: this.#fetchBytesMax,
          isolationLevel: this.#isolation === 'read_committed' ? 1 : 0,
          sessionId: 0,
          sessionEpoch: -1,
          topics,
          forgottenTopicsData: [],
          rackId: this.#nearest.rackFor(parts),
        },
        {
          timeoutMs: maxWaitMs + this.#cluster.requestTimeoutMs,
          versionMax: fetch.isById ? TOPIC_ID_VERSION : TOPIC_ID_VERSION - 1,
        },
        (failure, response) => this.#onAnswer(fetch, failure, response),
      )
    } catch (error) {
      if (!(error instanceof StreamError)) throw error
      this.#fetches.finish(fetch)
      if (error.code === 'CONNECTION_LOST') return
      for (const part of parts) this.#fail(part, error)
    }
  }

  /** Where files may be read, no more is fetched than shows whether that is worth while. */
  #partitionBytesMax(part: Part): number {
    const bytesMax = this.#options.partitionBytesMax ?? this.#fetchBytesMax
    const local = this.#local
    if (local === undefined || !this.#mayReadLocally(part)) return bytesMax
    return Math.min(bytesMax, local.bytesMin)
  }

  // --- answers

  #onAnswer(
    fetch: Fetch,
    failure: StreamError | undefined,
    response: Response<'Fetch'> | undefined,
  ): void {
    const { asked } = fetch
    this.#fetches.finish(fetch)
    if (this.#isClosed) return
    if (response === undefined) this.#onFailure(asked, failure)
    else if (response.errorCode !== 0) {
      for (const { part, generation } of asked) {
        if (part.generation !== generation) continue
        part.nearest = undefined
        this.#onError(part, response.errorCode)
      }
    } else this.#onResponse(fetch, response)
    const isLittle = this.#ready.bytes > 0 && this.#ready.bytes < LITTLE_BYTES
    if (isLittle && asked.every(({ part }) => part.isAtEnd)) this.#emptyPollsToPump = 2
    else this.#pump()
    this.#wake()
  }

  #onFailure(asked: readonly Asked[], failure: StreamError | undefined): void {
    const code = failure?.kafkaError
    for (const { part, generation } of asked) {
      if (part.generation !== generation) continue
      if (code !== undefined && !kafkaErrorIsRetriable(code) && failure !== undefined) {
        this.#fail(part, failure)
      } else if (code !== undefined || failure?.code === 'MALFORMED_MESSAGE') this.#backOff(part)
    }
  }

  #onResponse({ asked, isById }: Fetch, response: Response<'Fetch'>): void {
    const rows = new Map<string, FetchRow>()
    let isAllEmpty = true
    for (const { topic, topicId, partitions } of response.responses) {
      for (const row of partitions) {
        rows.set(keyOf(isById ? topicId : topic, row.partitionIndex), row)
        if ((row.records?.length ?? 0) > 0) isAllEmpty = false
      }
    }
    for (const question of asked) {
      const { part } = question
      if (part.generation !== question.generation || part.state !== 'reading') continue
      const row = rows.get(keyOf(nameIn(part, isById), part.partition))
      // Asked by name, another topic of that name might be the next to answer: not before the brokers have told its id.
      if (row?.errorCode === KafkaError.UNKNOWN_TOPIC_OR_PARTITION) {
        part.doubted = this.#cluster.metadata.topic(part.topic)
      }
      if (row === undefined) this.#backOff(part)
      else if (row.errorCode !== 0 && question.isNearest) this.#nearest.leave(part)
      else if (row.errorCode !== 0) {
        const { leaderId, leaderEpoch } = row.currentLeader
        const { metadata } = this.#cluster
        // The next leader is asked at once, where the last one has named it.
        if (!metadata.learnLeader(part.topic, part.partition, leaderId, leaderEpoch)) {
          this.#onError(part, row.errorCode)
        }
      } else if (row.divergingEpoch.endOffset >= 0) {
        this.#fail(part, cutBack(part, Math.min(row.divergingEpoch.endOffset, part.fetchOffset)))
      } else if (row.preferredReadReplica >= 0) this.#nearest.goTo(part, row.preferredReadReplica)
      else this.#onRow(question, row, isAllEmpty || question.isFirst)
    }
  }

  #onRow(question: Asked, row: FetchRow, isFullAnswer: boolean): void {
    const { part } = question
    part.failures = 0
    part.beyondEnd = 0
    part.heardMs = this.#time.monotonicMs()
    const bytes = row.records
    if (bytes === null || bytes.length === 0) {
      part.isAtEnd = part.fetchOffset >= row.highWatermark
      this.#concludeEmpty(question, row, isFullAnswer)
      return
    }
    const { starts, nextOffset: end, damage } = findBatches(bytes, part.fetchOffset, part.endOffset)
    if (damage !== undefined) {
      this.#onDamage(part, damaged(part, end, damage))
      return
    }
    if (starts.length === 0) {
      // Only batches beyond the end: done. Only a cut batch, or what lies before the position: do not ask in a circle.
      if (end >= part.endOffset) this.#end(part)
      else this.#backOff(part)
      return
    }
    const fetched: Fetched = {
      bytes,
      starts,
      fromOffset: part.fetchOffset,
      nextOffset: end,
      transactions: this.#transactionsOf(row.abortedTransactions ?? []),
      highWatermark: row.highWatermark,
      lastStableOffset: row.lastStableOffset,
      logStartOffset: row.logStartOffset,
    }
    part.fetchOffset = end
    part.isAtEnd = end >= row.highWatermark
    noteEpochs(part, bytes, starts)
    this.#ready.push(part, fetched, bytes.length)
    // To the back: the next request serves the others first.
    const key = keyOf(part.topic, part.partition)
    this.#parts.delete(key)
    this.#parts.set(key, part)
    if (part.fetchOffset >= part.endOffset) this.#end(part)
    else this.#considerFiles(part, fetched)
  }

  #transactionsOf(aborted: readonly AbortedTransaction[]): AbortedTransactions | undefined {
    return this.#isolation === 'read_committed' && aborted.length > 0
      ? new AbortedTransactions(aborted)
      : undefined
  }

  /**
   * Nothing came. That is the last word on everything below endOffset only if the broker could have sent something
   * (it was asked for first, or sent nothing to anyone), and if the log reached endOffset before the question was asked:
   * the answer's own high watermark may be younger than its data.
   */
  #concludeEmpty(question: Asked, row: FetchRow, isFullAnswer: boolean): void {
    const { part } = question
    const isCommitted = this.#isolation === 'read_committed'
    const readableEnd = isCommitted ? row.lastStableOffset : row.highWatermark
    if (readableEnd < part.endOffset) return
    if (question.wasEndWritten && isFullAnswer) {
      part.fetchOffset = part.endOffset
      this.#end(part)
    } else part.isEndWritten = true
  }

  #onError(part: Part, code: number): void {
    if (code === KafkaError.OFFSET_OUT_OF_RANGE) {
      void this.#resolveRange(part)
      return
    }
    if (code === KafkaError.CORRUPT_MESSAGE) {
      this.#onDamage(part, kafkaFailure(code, { target: part.target }))
      return
    }
    if (!kafkaErrorIsRetriable(code)) {
      this.#fail(part, kafkaFailure(code, { target: part.target }))
      return
    }
    this.#cluster.requestRefresh()
    this.#backOff(part)
  }

  #onDamage(part: Part, error: StreamError): void {
    const nowMs = this.#time.monotonicMs()
    if (part.damagedReads === 0) part.damagedSinceMs = nowMs
    part.damagedReads++
    const { topic, partition } = part
    const replicas = this.#cluster.metadata.partition(topic, partition)?.replicas.length ?? 1
    const isLasting =
      part.damagedReads >= DAMAGED_READS_MAX &&
      (replicas < 2 || nowMs - part.damagedSinceMs >= REPAIR_MS_MAX)
    if (isLasting) this.#fail(part, error)
    else this.#backOff(part)
  }

  /** The position is outside the log: below its start there is a gap to tell, beyond its end reading has failed. */
  async #resolveRange(part: Part): Promise<void> {
    const { generation } = part
    part.state = 'resolving'
    try {
      const { topic, partition } = part
      const [start, end] = await listOffsets(
        this.#time,
        this.#random,
        this.#cluster,
        [
          { topic, partition, at: 'earliest' },
          { topic, partition, at: 'latest' },
        ],
        { isolation: 'read_uncommitted' },
      )
      // They were asked for by name: only if the topic is the same afterwards they are of this one.
      if (part.topicId !== undefined) await this.#cluster.describeTopics([topic])
      if (part.generation !== generation || this.#isClosed) return
      part.state = 'reading'
      if (!this.#isSameTopic(part)) return
      if (this.isTopicLost(topic, partition)) {
        this.#backOff(part)
        return
      }
      this.#onRange(part, start?.offset ?? -1, end?.offset ?? -1)
    } catch (error) {
      if (!(error instanceof StreamError)) throw error
      if (part.generation !== generation || this.#isClosed) return
      part.state = 'reading'
      if (error.retriable && error.code !== 'TOPIC_UNKNOWN') this.#backOff(part)
      else this.#fail(part, error)
    }
    this.#pump()
    this.#wake()
  }

  #onRange(part: Part, logStart: number, logEnd: number): void {
    const from = part.fetchOffset
    if (from < logStart) {
      const to = Math.min(logStart, part.endOffset)
      part.fetchOffset = to
      part.lastEpoch = -1
      const { topic, partition } = part
      this.#ready.push(part, { kind: 'gap', topic, partition, from, to }, 0)
      if (to >= part.endOffset) this.#end(part)
      return
    }
    part.beyondEnd++
    const isBeyond = from > logEnd
    if (part.beyondEnd >= BEYOND_END_MAX && (isBeyond || part.lastEpoch >= 0)) {
      this.#fail(part, isBeyond ? beyondEnd(part, logEnd) : epochUnknown(part))
      return
    }
    this.#backOff(part)
  }

  #backOff(part: Part): void {
    part.failures++
    const delayMs = backoffMs(this.#random, this.#cluster.backoff, part.failures)
    part.notBeforeMs = this.#time.monotonicMs() + delayMs
    part.retryTimer?.cancel()
    part.retryTimer = this.#time.setTimer(delayMs, () => {
      part.retryTimer = undefined
      part.notBeforeMs = Number.NEGATIVE_INFINITY
      this.#pump()
    })
  }

  // --- files

  #makeLocalReads(options: LocalReadOptions | undefined): LocalReads<Part> | undefined {
    if (options === undefined) return undefined
    const isCommitted = this.#isolation === 'read_committed'
    return new LocalReads<Part>(
      this.#time,
      { ...options, isCommitted },
      {
        route: ({ topic, partition }) => {
          const leader = this.#cluster.leaderOf(topic, partition)
          const connection = leader && this.#cluster.connectionTo(leader.leaderId)
          return connection && { connection, leaderEpoch: leader.leaderEpoch }
        },
        onBlock: (part, block) => this.#onBlock(part, block),
        onRefused: (part, pauseMs) => {
          part.isLocal = false
          part.notLocalBeforeMs = this.#time.monotonicMs() + pauseMs
          this.#pump()
        },
      },
    )
  }

  #mayReadLocally(part: Part): boolean {
    if (this.#local === undefined || part.notLocalBeforeMs > this.#time.monotonicMs()) return false
    const leader = this.#cluster.leaderOf(part.topic, part.partition)
    const connection = leader && this.#cluster.connectionTo(leader.leaderId)
    return connection !== undefined && this.#local.isPossible(connection)
  }

  /** From the size of what has come it is guessed how much lies ahead. */
  #considerFiles(part: Part, fetched: Fetched): void {
    const local = this.#local
    if (local === undefined || part.isPaused || !this.#mayReadLocally(part)) return
    const { bytes, fromOffset, nextOffset } = fetched
    const isCommitted = this.#isolation === 'read_committed'
    const readableEnd = isCommitted ? fetched.lastStableOffset : fetched.highWatermark
    const records = Math.min(readableEnd, part.endOffset) - nextOffset
    if ((records * bytes.length) / (nextOffset - fromOffset) < local.bytesMin) return
    part.isLocal = true
    local.add(part)
  }

  #onBlock(part: Part, block: LocalBlock): void {
    part.fetchOffset = block.nextOffset
    noteEpochs(part, block.bytes, block.starts)
    if (block.starts.length > 0) this.#ready.push(part, block, block.bytes.length)
    if (part.fetchOffset >= part.endOffset) this.#end(part)
    this.#wake()
  }

  /** Gives the memory back in which batches of it wait that nobody may take now; they are read again. */
  #dropLocal(part: Part): void {
    this.#leaveFiles(part)
    const offset = this.#ready.dropLocal(part)
    if (offset === undefined) return
    part.generation++
    part.state = 'reading'
    part.fetchOffset = offset
    part.lastEpoch = -1
  }

  #leaveFiles(part: Part): void {
    part.isLocal = false
    this.#local?.remove(part)
  }

  // --- handing out

  #end(part: Part): void {
    part.state = 'ended'
    const { topic, partition, endOffset: offset } = part
    this.#ready.push(part, { kind: 'end', topic, partition, offset }, 0)
    this.#wake()
  }

  #fail(part: Part, error: StreamError): void {
    if (part.state === 'failed') return
    part.state = 'failed'
    const { topic, partition } = part
    this.#ready.push(part, { kind: 'failed', topic, partition, error }, 0)
    this.#wake()
  }

  /** Drops what is queued or under way. */
  #forget(part: Part): void {
    part.generation++
    this.#fetches.forget(part)
    part.lastEpoch = -1
    part.isEndWritten = false
    part.damagedReads = 0
    part.beyondEnd = 0
    this.#leaveFiles(part)
    this.#ready.drop(part)
  }

  #plainEvent<E extends Exclude<ConsumerEvent, RecordsEvent>>(part: Part, event: E): E {
    if (event.kind === 'gap') part.position = event.to
    if (event.kind === 'end') part.position = event.offset
    return event
  }

  /** Judges the batches of an answer at the last moment, when the next Fetch is on its way. */
  #recordsEvent(part: Part, fetched: Fetched): ConsumerEvent | undefined {
    const { bytes, fromOffset } = fetched
    const { batches, damage, ...judged } = judgeBatches(fetched, {
      verifyChecksums: this.#options.verifyChecksums !== false,
    })
    if (judged.nextOffset > fromOffset || damage === undefined) part.damagedReads = 0
    const nextOffset = Math.min(judged.nextOffset, part.endOffset)
    part.position = nextOffset
    if (damage !== undefined) {
      this.#rereadFrom(part, nextOffset, damaged(part, judged.nextOffset, damage), fetched)
    }
    if (batches.length === 0) {
      fetched.release?.()
      return undefined
    }
    return {
      kind: 'records',
      topic: part.topic,
      partition: part.partition,
      bytes,
      batches,
      fromOffset,
      untilOffset: part.endOffset,
      nextOffset,
      highWatermark: fetched.highWatermark,
      lastStableOffset: fetched.lastStableOffset,
      logStartOffset: fetched.logStartOffset,
      ...(fetched.release === undefined ? {} : { release: fetched.release }),
    }
  }

  /** What was fetched behind a damaged batch is dropped, and the batch asked for again. */
  #rereadFrom(part: Part, offset: number, damage: StreamError, fetched: Fetched): void {
    const { damagedReads } = part
    this.#forget(part)
    part.damagedReads = damagedReads
    part.state = 'reading'
    part.fetchOffset = offset
    if (fetched.release === undefined) {
      this.#onDamage(part, damage)
      return
    }
    // In the file: the broker looks itself when it is asked for, and says what is damaged.
    part.notLocalBeforeMs = this.#time.monotonicMs() + LOCAL_DAMAGE_MS
    this.#pump()
  }

  #wake(): void {
    const waiters = this.#waiters
    this.#waiters = []
    for (const waiter of waiters) waiter()
  }
}

function keyOf(topic: string, partition: number): string {
  return `${topic}/${partition}`
}
