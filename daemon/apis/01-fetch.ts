/**
 * Fetch (1), versions 4 to 13; what followers send is in replica-fetch.ts. Whole batches from the log, referenced and never copied; tail reads are answered from
 * the log's cache in this very call, cold ones after the disk. A fetch that finds less than min_bytes waits on all its
 * partitions until enough has come, an error shows, or max_wait_ms has passed.
 *
 * A follower serves consumers too, up to the high watermark it knows (from v11 on, KIP-392): what it lacks it says is not
 * available yet. A leader that is asked with a rack names the replica in sync there that has the offset, and sends nothing.
 * Who says which epoch it has read last is told where its history and this log part (v12, KIP-320), and gets nothing else.
 *
 * From v13 on topics are named by id, so that whoever reads one is never answered from another of its name: a deleted one is
 * unknown, whatever has come in its place.
 *
 * Sessions are answered with id 0: every client goes on with full fetches (P4). Partitions are served in the order of
 * the request (P5). Errors: 1, 2, 3, 6, 31 (a replica id without cluster rights), 56, 70, 74, 75, 76, 78, 100 (v13).
 */

import { isStreamError } from '../../src/base/errors.ts'
import type { Timer } from '../../src/ports/time.ts'
import type { Request, ResponseInput } from '../../src/protocol/api-table.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import { attributesAt, batchBytesAt, codecOf } from '../../src/record/batch-layout.ts'
import { codecId } from '../../src/record/compression.ts'
import type { LogSlice } from '../log/log-types.ts'
import type { Partition, ReadWaiter } from '../replica/partition.ts'
import type { Handler, RequestContext, Services } from './handler.ts'
import { codeOfError, findLeader, findReadable, leaderElsewhere } from './kafka-codes.ts'
import { shownHighWatermark } from './read-only.ts'
import { replicaFetch } from './replica-fetch.ts'

type TopicAnswer = ResponseInput<'Fetch'>['responses'][number]
type PartitionAnswer = TopicAnswer['partitions'][number]
type TopicRequest = Request<'Fetch'>['topics'][number]
type PartitionRequest = TopicRequest['partitions'][number]

/** Later versions are for followers (replica-fetch.ts). */
const CLIENT_VERSION_MAX = 13
const TOPIC_ID_VERSION = 13
/** From here on a consumer may read from followers. */
const NEAREST_VERSION = 11
const READ_COMMITTED = 1
const ZSTD = codecId('zstd')
/** First Fetch version that may carry zstd (KIP-110). */
const ZSTD_FETCH_VERSION = 10
const NO_RECORDS: readonly Uint8Array[] = []
const NO_ABORTED: readonly { readonly producerId: number; readonly firstOffset: number }[] = []

export const fetch: Handler<'Fetch'> = (services, context, request) => {
  if (request.replicaState.replicaId >= 0) return replicaFetch(services, context, request)
  if (context.apiVersion > CLIENT_VERSION_MAX) {
    return { errorCode: KafkaError.UNSUPPORTED_VERSION, sessionId: 0, responses: [] }
  }
  if (request.sessionId !== 0) {
    return { errorCode: KafkaError.FETCH_SESSION_ID_NOT_FOUND, sessionId: 0, responses: [] }
  }
  return new FetchRun(services, context, request).start()
}

class FetchRun implements ReadWaiter {
  readonly #services: Services
  readonly #context: RequestContext
  readonly #request: Request<'Fetch'>
  readonly #wantedBytesMax: number
  #bytesMax = 0
  #topics: TopicAnswer[] = []
  #bytes = 0
  #mustAnswer = false
  readonly #partitions = new Set<Partition>()
  #appendedBefore = 0
  #resolve: ((answer: ResponseInput<'Fetch'>) => void) | undefined
  #reject: ((error: unknown) => void) | undefined
  #timer: Timer | undefined
  #isReading = false
  #changedMeanwhile = false
  #expired = false

  constructor(services: Services, context: RequestContext, request: Request<'Fetch'>) {
    this.#services = services
    this.#context = context
    this.#request = request
    this.#wantedBytesMax = Math.min(
      Math.max(0, request.maxBytes),
      services.broker.config.number('fetch.max.bytes'),
    )
  }

  start(): ReturnType<Handler<'Fetch'>> {
    const reading = this.#read()
    if (reading === undefined) {
      if (this.#isEnough() || !this.#mayPark()) return this.#answer()
      return this.#park()
    }
    return reading.then(() => {
      if (this.#isEnough() || !this.#mayPark()) return this.#answer()
      const parked = this.#park()
      // Something may have come while the disk was read, before anybody listened.
      this.#readAgain()
      return parked
    })
  }

  onChanged(partition: Partition): void {
    if (this.#isReading) {
      this.#changedMeanwhile = true
      return
    }
    if (partition.notServing === undefined && !this.#mayHaveEnough()) return
    this.#readAgain()
  }

  #readAgain(): void {
    const reading = this.#read()
    if (reading === undefined) this.#settleOrWait()
    else {
      this.#isReading = true
      reading.then(() => {
        this.#isReading = false
        this.#settleOrWait()
      }, this.#fail)
    }
  }

  #settleOrWait(): void {
    if (this.#resolve === undefined) return
    if (this.#isEnough() || this.#expired) {
      this.#finish(this.#answer())
      return
    }
    // It is read anew when there is more.
    this.#context.releaseAnswer()
    if (this.#changedMeanwhile) {
      this.#changedMeanwhile = false
      this.#readAgain()
    }
  }

  readonly #fail = (error: unknown): void => {
    this.#isReading = false
    const reject = this.#reject
    if (this.#leave() !== undefined) reject?.(error)
  }

  #isEnough(): boolean {
    return (
      this.#mustAnswer ||
      this.#bytes >= Math.min(this.#request.minBytes, Math.max(1, this.#bytesMax))
    )
  }

  #mayPark(): boolean {
    if (this.#request.maxWaitMs <= 0 || this.#services.broker.isEnding) return false
    return this.#services.parkedFetches.enter()
  }

  #park(): Promise<ResponseInput<'Fetch'>> {
    this.#context.park()
    for (const topic of this.#request.topics) {
      const name = this.#nameOf(topic) ?? ''
      for (const { partition: index } of topic.partitions) {
        const partition = this.#services.broker.table.find(name, index)
        if (partition !== undefined) this.#partitions.add(partition)
      }
    }
    for (const partition of this.#partitions) partition.addReader(this)
    this.#appendedBefore = this.#appended() - this.#bytes
    this.#context.releaseAnswer()
    this.#timer = this.#services.broker.time.setTimer(this.#request.maxWaitMs, () => {
      this.#timer = undefined
      this.#expired = true
      // What came below min_bytes is given now.
      if (!this.#isReading) this.#readAgain()
    })
    this.#context.answerNow = () => this.#finish(this.#answer())
    return new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
  }

  #finish(answer: ResponseInput<'Fetch'>): void {
    this.#leave()?.(answer)
  }

  /** Ends the wait, once. @returns what takes the answer */
  #leave(): ((answer: ResponseInput<'Fetch'>) => void) | undefined {
    const resolve = this.#resolve
    if (resolve === undefined) return undefined
    this.#resolve = undefined
    this.#reject = undefined
    this.#context.answerNow = undefined
    this.#timer?.cancel()
    for (const partition of this.#partitions) partition.removeReader(this)
    this.#services.parkedFetches.leave()
    return resolve
  }

  /** A cheap upper bound, so that a large min_bytes does not read at every append. */
  #mayHaveEnough(): boolean {
    if (this.#request.minBytes <= 1) return true
    return this.#appended() - this.#appendedBefore >= this.#request.minBytes
  }

  #appended(): number {
    let bytes = 0
    for (const partition of this.#partitions) bytes += partition.appendedBytes
    return bytes
  }

  /** Reads all partitions anew, in order. @returns undefined when no disk was needed */
  #read(): Promise<void> | undefined {
    this.#topics = []
    this.#bytes = 0
    this.#bytesMax = this.#context.reserveAnswer(this.#wantedBytesMax)
    this.#mustAnswer = false
    const { topics } = this.#request
    for (let t = 0; t < topics.length; t += 1) {
      const topic = topics[t] as TopicRequest
      const partitions: PartitionAnswer[] = []
      this.#topics.push({ topic: topic.topic, topicId: topic.topicId, partitions })
      for (let p = 0; p < topic.partitions.length; p += 1) {
        const asked = topic.partitions[p] as PartitionRequest
        const answer = this.#readPartition(topic, asked)
        if (answer instanceof Promise) return this.#readRest(answer, partitions, t, p)
        partitions.push(answer)
      }
    }
    return undefined
  }

  async #readRest(
    pending: Promise<PartitionAnswer>,
    partitions: PartitionAnswer[],
    topicAt: number,
    partitionAt: number,
  ): Promise<void> {
    partitions.push(await pending)
    const { topics } = this.#request
    let into = partitions
    for (let t = topicAt; t < topics.length; t += 1) {
      const topic = topics[t] as TopicRequest
      if (t > topicAt) {
        into = []
        this.#topics.push({ topic: topic.topic, topicId: topic.topicId, partitions: into })
      }
      for (let p = t === topicAt ? partitionAt + 1 : 0; p < topic.partitions.length; p += 1) {
        into.push(await this.#readPartition(topic, topic.partitions[p] as PartitionRequest))
      }
    }
  }

  /** undefined: there is no topic of that id any more, or not yet. */
  #nameOf({ topic, topicId }: TopicRequest): string | undefined {
    if (this.#context.apiVersion < TOPIC_ID_VERSION) return topic
    const image = this.#services.broker.image.topicById(topicId)
    return image?.topicId === topicId && image.value.state === 'READY' ? image.name : undefined
  }

  #readPartition(
    named: TopicRequest,
    asked: PartitionRequest,
  ): PartitionAnswer | Promise<PartitionAnswer> {
    const { broker } = this.#services
    if (this.#request.replicaId >= 0) {
      return this.#refuse(asked, undefined, KafkaError.CLUSTER_AUTHORIZATION_FAILED)
    }
    const topic = this.#nameOf(named)
    if (topic === undefined) return this.#refuse(asked, undefined, KafkaError.UNKNOWN_TOPIC_ID)
    const find = this.#context.apiVersion < NEAREST_VERSION ? findLeader : findReadable
    const found = find(broker, topic, asked.partition, asked.currentLeaderEpoch)
    const { partition } = found
    if (found.code !== 0 || partition === undefined) {
      const refusal = this.#refuse(asked, partition, found.code)
      const currentLeader = leaderElsewhere(broker, topic, asked.partition, found.code)
      return currentLeader === undefined ? refusal : { ...refusal, currentLeader }
    }
    const { log } = partition
    const offset = asked.fetchOffset
    const elsewhere = this.#judgePosition(asked, partition)
    if (elsewhere !== undefined) return elsewhere
    const isCommitted = this.#request.isolationLevel === READ_COMMITTED
    const endOffset = isCommitted
      ? partition.lastStableOffset
      : shownHighWatermark(broker, partition)
    const bytesLeft = this.#bytesMax - this.#bytes
    const isFirst = this.#bytes === 0
    if (offset >= endOffset || (bytesLeft <= 0 && !isFirst)) {
      return this.#give(asked, partition, undefined)
    }
    const read = {
      offset,
      maxBytes: Math.max(0, Math.min(asked.partitionMaxBytes, bytesLeft)),
      endOffset,
      minOneBatch: isFirst,
    }
    const cached = log.readCached(read)
    if (cached !== undefined) return this.#giveSlice(asked, partition, cached)
    return log.read(read).then(
      (slice) => this.#giveSlice(asked, partition, slice),
      (error: unknown) => {
        if (!isStreamError(error)) throw error
        if (error.code === 'OFFSET_OUT_OF_RANGE') {
          return this.#refuse(asked, partition, KafkaError.OFFSET_OUT_OF_RANGE)
        }
        broker.log.error('a read failed', {
          partition: `${topic}-${asked.partition}`,
          offset,
          error: error.message,
        })
        return this.#refuse(asked, partition, codeOfError(error))
      },
    )
  }

  /** What is answered in place of records; undefined: the position is one to read from. */
  #judgePosition(asked: PartitionRequest, partition: Partition): PartitionAnswer | undefined {
    const { log } = partition
    const { fetchOffset: offset, lastFetchedEpoch } = asked
    const leads = partition.notServing === undefined
    const { OFFSET_OUT_OF_RANGE, OFFSET_NOT_AVAILABLE } = KafkaError
    if (offset < log.logStartOffset) return this.#refuse(asked, partition, OFFSET_OUT_OF_RANGE)
    if (!leads && offset > log.logEndOffset) {
      return this.#refuse(asked, partition, OFFSET_NOT_AVAILABLE)
    }
    // A follower's log may still be cut above its high watermark: only what lies below says something.
    if (lastFetchedEpoch >= 0 && (leads || offset <= partition.highWatermark)) {
      const end = log.endOffsetForEpoch(lastFetchedEpoch)
      if (end === undefined) {
        return this.#refuse(asked, partition, leads ? OFFSET_OUT_OF_RANGE : OFFSET_NOT_AVAILABLE)
      }
      if (end.epoch < lastFetchedEpoch || end.endOffset < offset) {
        const divergingEpoch = { epoch: end.epoch, endOffset: end.endOffset }
        return { ...this.#refuse(asked, partition, 0), divergingEpoch }
      }
    }
    if (offset > log.logEndOffset) return this.#refuse(asked, partition, OFFSET_OUT_OF_RANGE)
    const preferredReadReplica = leads ? this.#nearestTo(partition, offset) : undefined
    if (preferredReadReplica === undefined) return undefined
    return { ...this.#refuse(asked, partition, 0), preferredReadReplica }
  }

  #nearestTo(partition: Partition, offset: number): number | undefined {
    const { rackId } = this.#request
    if (rackId === '' || this.#context.apiVersion < NEAREST_VERSION) return undefined
    return this.#services.broker.replication?.nearestReplica(partition, rackId, offset)
  }

  #giveSlice(
    asked: PartitionRequest,
    partition: Partition,
    slice: LogSlice,
  ): PartitionAnswer | Promise<PartitionAnswer> {
    const isCommitted = this.#request.isolationLevel === READ_COMMITTED
    const proof =
      isCommitted && slice.sizeBytes > 0
        ? partition.log.proveTransactions(asked.fetchOffset, slice.nextOffset)
        : undefined
    if (proof === undefined) return this.#give(asked, partition, slice)
    return proof.then(() => this.#give(asked, partition, slice))
  }

  #give(
    asked: PartitionRequest,
    partition: Partition,
    slice: LogSlice | undefined,
  ): PartitionAnswer {
    const isCommitted = this.#request.isolationLevel === READ_COMMITTED
    const records = slice?.bytes ?? NO_RECORDS
    if (this.#context.apiVersion < ZSTD_FETCH_VERSION && records.some(holdsZstd)) {
      return this.#refuse(asked, partition, KafkaError.UNSUPPORTED_COMPRESSION_TYPE)
    }
    this.#bytes += slice?.sizeBytes ?? 0
    return {
      partitionIndex: asked.partition,
      errorCode: 0,
      highWatermark: shownHighWatermark(this.#services.broker, partition),
      lastStableOffset: partition.lastStableOffset,
      logStartOffset: partition.log.logStartOffset,
      abortedTransactions: isCommitted
        ? slice === undefined || slice.sizeBytes === 0
          ? NO_ABORTED
          : partition.log.abortedTransactions(asked.fetchOffset, slice.nextOffset)
        : null,
      records,
    }
  }

  /** With what is known of the partition's positions: a high watermark of −1 confuses clients (P6). */
  #refuse(
    asked: PartitionRequest,
    partition: Partition | undefined,
    errorCode: number,
  ): PartitionAnswer {
    this.#mustAnswer = true
    return {
      partitionIndex: asked.partition,
      errorCode,
      highWatermark:
        partition === undefined ? -1 : shownHighWatermark(this.#services.broker, partition),
      lastStableOffset: partition?.lastStableOffset ?? -1,
      logStartOffset: partition?.log.logStartOffset ?? -1,
      abortedTransactions: this.#request.isolationLevel === READ_COMMITTED ? NO_ABORTED : null,
      records: NO_RECORDS,
    }
  }

  #answer(): ResponseInput<'Fetch'> {
    return { errorCode: 0, sessionId: 0, responses: this.#topics }
  }
}

/** Whether any of the whole batches in `bytes` is compressed with zstd. */
function holdsZstd(bytes: Uint8Array): boolean {
  for (let at = 0; at < bytes.length; at += batchBytesAt(bytes, at)) {
    if (codecOf(attributesAt(bytes, at)) === ZSTD) return true
  }
  return false
}
