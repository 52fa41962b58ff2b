/**
 * The transaction coordinator: drives the machine of each transactional id (transaction-machine.ts) over its log
 * (transaction-shard.ts), carries decisions out (transaction-markers.ts), ends what has run out of time.
 *
 * Invariants:
 * - The commit point is the durable Prepare record: markers are written only behind it, and nobody is told of a commit
 *   before it. A transaction that a crash found without it is aborted when its time is over, or by its next owner.
 * - A transactional batch enters a partition only in the same turn in which its transaction is found open, with the
 *   partition in it, durably (`enter`). So no batch can come behind the marker, and no transaction can hang.
 * - Whoever ends a transaction is answered when the markers are in the partitions (within MARKERS_WAIT_MS), so that what
 *   is committed can be read by whom he tells.
 */

import { isStreamError } from '../../src/base/errors.ts'
import { sleep, type Timer } from '../../src/ports/time.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import type { ImageChange } from '../metadata/metadata-image.ts'
import type { Broker } from '../replica/broker.ts'
import { ensureTransactionTopic, TRANSACTION_TOPIC } from './internal-topic.ts'
import { MarkerWriter, type WrittenMarker } from './marker-writer.ts'
import type { PeerCaller } from './peer-caller.ts'
import { RemoteAdmission } from './remote-admission.ts'
import {
  type AddRequest,
  addPartitions,
  complete,
  type Decision,
  endTransaction,
  fencingAbort,
  initProducer,
  isExpired,
  isPrepared,
  isTimedOut,
  type ProducerIdentity,
  type TransactionValue,
  type TransactionVersion,
  verifyPartition,
} from './transaction-machine.ts'
import { writeMarkers } from './transaction-markers.ts'
import { partitionOfId } from './transaction-records.ts'
import { type TransactionEntry, TransactionShard } from './transaction-shard.ts'
import type { TransactionalBatch } from './transactional-batch.ts'

/** A request that meets a transaction being ended waits so long before it is told to come again. */
const BUSY_WAIT_MS = 1000
const MARKERS_WAIT_MS = 5000
const COMPLETE_RETRY_MS = 100
const EXPIRY_PAUSE_MS = 3_600_000
const NOBODY: ProducerIdentity = { producerId: -1, epoch: -1 }

export interface Outcome {
  readonly code: number
  readonly identity: ProducerIdentity
}

/** Where the state of a transactional id is kept. */
type Place =
  | { readonly shard: TransactionShard }
  | { readonly code: number; readonly leader?: number }

export class TransactionCoordinator {
  /** For markers that other daemons decided as well. */
  readonly markers: MarkerWriter
  readonly #broker: Broker
  readonly #peers: PeerCaller | undefined
  readonly #remote: RemoteAdmission | undefined
  #topicId: string | undefined
  #shards: (TransactionShard | undefined)[] = []
  /** Decisions being carried out, by transactional id. */
  readonly #finishing = new Map<string, Promise<void>>()
  /** Batches that wait, by partition and producer: what comes behind them waits too. */
  readonly #parked = new Map<string, Promise<void>>()
  readonly #timers = new Set<Timer>()
  readonly #markerListeners: ((marker: WrittenMarker) => void)[] = []
  readonly #stopListening: (() => void)[] = []
  #isStopped = false

  /** @param peers  undefined: the single daemon */
  constructor(broker: Broker, peers?: PeerCaller) {
    this.#broker = broker
    this.#peers = peers
    const { time, log, table } = broker
    this.markers = new MarkerWriter({
      time,
      log,
      onMarker: (marker) => {
        for (const listener of this.#markerListeners) listener(marker)
      },
      mirrorStateOf: ({ topic, topicId, partition }) => {
        const { links } = broker.image
        if (links.writerOf(topic, topicId, partition) === undefined) return undefined
        return links.isMirrored(topic, topicId, partition) ? 'theirs' : 'fenced'
      },
    })
    if (peers !== undefined) this.#remote = new RemoteAdmission(table, peers, this.markers)
  }

  /** Begins to read the log; ids are served as soon as their partition is read. */
  start(): void {
    const { config, image, table } = this.#broker
    this.#stopListening.push(
      image.onChange((change) => this.#follow(change)),
      // Among other brokers a leadership begins and ends later than the image says.
      table.onLeadership(({ topicId }) => {
        if (topicId === this.#topicId) this.#lookForShards()
      }),
    )
    this.#lookForShards()
    const pauseMs = config.number('transaction.abort.timed.out.transaction.cleanup.interval.ms')
    this.#every(pauseMs, () => this.abortTimedOut())
    this.#every(EXPIRY_PAUSE_MS, () => this.expire())
  }

  /** Carries nothing further; what is decided is carried out by the next start. */
  async stop(): Promise<void> {
    this.#isStopped = true
    for (const stop of this.#stopListening) stop()
    for (const timer of this.#timers) timer.cancel()
    this.#timers.clear()
    await Promise.allSettled(this.#finishing.values())
    for (const shard of this.#shards) shard?.close()
  }

  /** Told of every marker that is committed in a partition; for what else is kept by transactions (group offsets). */
  onMarker(listener: (marker: WrittenMarker) => void): void {
    this.#markerListeners.push(listener)
  }

  // --- requests

  /** @param expected  what the producer believes to be; undefined: it begins */
  async initProducer(
    transactionalId: string,
    timeoutMs: number,
    expected: ProducerIdentity | undefined,
  ): Promise<Outcome> {
    const maxMs = this.#broker.config.number('transaction.max.timeout.ms')
    if (timeoutMs < 1 || timeoutMs > maxMs) return refused(KafkaError.INVALID_TRANSACTION_TIMEOUT)
    if (this.#shards.length === 0) {
      if (!(await this.#ensureTopic())) return refused(KafkaError.COORDINATOR_NOT_AVAILABLE)
      await this.#loaded(transactionalId)
    }
    return this.#settle(transactionalId, (value, freshProducerId) =>
      initProducer(value, {
        transactionalId,
        timeoutMs,
        expected,
        freshProducerId,
        nowMs: this.#broker.time.wallMs(),
      }),
    )
  }

  /**
   * The broker that coordinates an id; the first question of a cluster makes the topic.
   * @returns −1: nobody can be told now
   */
  async locate(transactionalId: string): Promise<number> {
    const { nodeId } = this.#broker
    if (this.#peers === undefined) return nodeId
    if (this.#shards.length === 0 && !(await this.#ensureTopic())) return -1
    const partitions = this.#shards.length
    return partitions === 0 ? -1 : this.#leaderOf(partitionOfId(transactionalId, partitions))
  }

  /** @returns whether the topic is there */
  async #ensureTopic(): Promise<boolean> {
    try {
      await ensureTransactionTopic(this.#broker, this.#peers)
    } catch (error) {
      if (!isStreamError(error)) throw error
      this.#broker.log.error('the transaction topic could not be made', { error: error.message })
      return false
    }
    this.#lookForShards()
    return true
  }

  /** Whether a transaction of the producer is open and holds the partition; for the leader of that partition. */
  verify(
    transactionalId: string,
    request: ProducerIdentity & { readonly topic: string; readonly partition: number },
  ): Promise<Outcome> {
    return this.#settle(transactionalId, (value) => verifyPartition(value, request))
  }

  addPartitions(transactionalId: string, request: Omit<AddRequest, 'nowMs'>): Promise<Outcome> {
    return this.#settle(transactionalId, (value) =>
      addPartitions(value, { ...request, nowMs: this.#broker.time.wallMs() }),
    )
  }

  endTransaction(
    transactionalId: string,
    request: ProducerIdentity & {
      readonly isCommit: boolean
      readonly version: TransactionVersion
    },
  ): Promise<Outcome> {
    return this.#settle(transactionalId, (value, freshProducerId) =>
      endTransaction(value, {
        ...request,
        freshProducerId,
        nowMs: this.#broker.time.wallMs(),
      }),
    )
  }

  /**
   * Lets a batch into its partition: calls `append` with 0 where its transaction is open and holds the partition, with
   * an error code where it is not to be appended. Batches of one producer for one partition keep their order.
   * @returns undefined when it was called at once, else resolves when it has been called
   */
  enter(batch: TransactionalBatch, append: (code: number) => void): Promise<void> | undefined {
    const key = `${batch.topic}/${batch.partition}/${batch.producerId}`
    const before = this.#parked.get(key)
    if (before === undefined) {
      const code = this.#admitNow(batch)
      if (code !== undefined) {
        append(code)
        return undefined
      }
    }
    const run = (before ?? Promise.resolve()).then(() => this.#admitLater(batch, append))
    this.#parked.set(key, run)
    const forget = (): void => {
      if (this.#parked.get(key) === run) this.#parked.delete(key)
    }
    run.then(forget, forget)
    return run
  }

  /** As known and committed. The code says why it is not known. */
  describe(
    transactionalId: string,
  ): { readonly value: TransactionValue } | { readonly code: number } {
    const found = this.#find(transactionalId)
    if ('code' in found) {
      const isUnknown = found.code === KafkaError.INVALID_PRODUCER_ID_MAPPING
      return isUnknown ? { code: KafkaError.TRANSACTIONAL_ID_NOT_FOUND } : found
    }
    const entry = found.shard.entry(transactionalId)
    if (entry === undefined) return { code: KafkaError.TRANSACTIONAL_ID_NOT_FOUND }
    return { value: entry.value }
  }

  /** Every id of the partitions that are served; `isLoading`: not all are read yet. */
  list(): { readonly values: readonly TransactionValue[]; readonly isLoading: boolean } {
    const values: TransactionValue[] = []
    let isLoading = false
    for (const shard of this.#shards) {
      if (shard === undefined || !shard.isCurrent) continue
      if (!shard.isReady) isLoading = true
      else for (const { value } of shard.entries()) values.push(value)
    }
    return { values, isLoading }
  }

  // --- time

  /** Aborts what is open longer than its owner asked for, and fences the owner. */
  abortTimedOut(): void {
    const nowMs = this.#broker.time.wallMs()
    this.#forEach((shard, { value }) => {
      if (!isTimedOut(value, nowMs)) return
      this.#broker.log.warn('a transaction has run out of time and is aborted', {
        transactionalId: value.transactionalId,
        timeoutMs: value.timeoutMs,
      })
      this.#write(shard, fencingAbort(value, nowMs))
    })
  }

  /** Forgets ids that nobody has used for transactional.id.expiration.ms. */
  expire(): void {
    const nowMs = this.#broker.time.wallMs()
    const expirationMs = this.#broker.config.number('transactional.id.expiration.ms')
    this.#forEach((shard, { value }) => {
      if (!isExpired(value, nowMs, expirationMs)) return
      shard.remove(value.transactionalId)
    })
  }

  /** A step that cannot be written now is taken the next time. */
  #forEach(step: (shard: TransactionShard, entry: TransactionEntry) => void): void {
    for (const shard of this.#shards) {
      if (shard === undefined || !shard.isReady) continue
      try {
        for (const entry of [...shard.entries()]) step(shard, entry)
      } catch (error) {
        if (!isStreamError(error)) throw error
        this.#broker.log.warn('transactions could not be written', { error: error.message })
      }
    }
  }

  #every(pauseMs: number, job: () => void): void {
    const timer = this.#broker.time.setTimer(pauseMs, () => {
      this.#timers.delete(timer)
      if (this.#isStopped) return
      job()
      this.#every(pauseMs, job)
    })
    this.#timers.add(timer)
  }

  // --- decisions

  /** Decides, again and again while somebody else's transaction is in the way, and sees it written. */
  async #settle(
    transactionalId: string,
    decide: (value: TransactionValue | undefined, freshProducerId: number | undefined) => Decision,
  ): Promise<Outcome> {
    const { time, producerIds } = this.#broker
    const busyUntilMs = time.monotonicMs() + BUSY_WAIT_MS
    let freshProducerId: number | undefined
    for (;;) {
      const found = this.#find(transactionalId)
      if ('code' in found) return refused(found.code)
      const { shard } = found
      const entry = shard.entry(transactionalId)
      const decision = decide(entry?.value, freshProducerId)
      if (decision.kind === 'answer') {
        if (decision.code !== 0 || entry === undefined) return decision
        if (shard.isCommitted(entry.endOffset)) return decision
        const code = await shard.committedInTime(entry.endOffset)
        return code === 0 ? decision : refused(code)
      }
      if (decision.kind === 'needsProducerId') {
        try {
          freshProducerId = await producerIds.take()
        } catch (error) {
          if (!isStreamError(error)) throw error
          return refused(KafkaError.COORDINATOR_NOT_AVAILABLE)
        }
        continue
      }
      if (decision.kind !== 'busy') {
        const written = this.#tryWrite(shard, decision.next)
        if (typeof written !== 'number') return written
        if (decision.kind === 'write') {
          return this.#answerWritten(shard, written, decision)
        }
      }
      const waitMs = busyUntilMs - time.monotonicMs()
      const isFree = waitMs > 0 && (await this.#finished(transactionalId, waitMs))
      if (!isFree) return refused(KafkaError.CONCURRENT_TRANSACTIONS)
    }
  }

  async #answerWritten(
    shard: TransactionShard,
    endOffset: number,
    { next, identity }: { readonly next: TransactionValue; readonly identity: ProducerIdentity },
  ): Promise<Outcome> {
    const code = await shard.committedInTime(endOffset)
    if (code !== 0) return refused(code)
    if (isPrepared(next)) await this.#finished(next.transactionalId, MARKERS_WAIT_MS)
    return { code: 0, identity }
  }

  #tryWrite(shard: TransactionShard, next: TransactionValue): number | Outcome {
    try {
      return this.#write(shard, next)
    } catch (error) {
      if (!isStreamError(error)) throw error
      this.#broker.log.warn('a transaction could not be written', {
        transactionalId: next.transactionalId,
        error: error.message,
      })
      return refused(KafkaError.COORDINATOR_NOT_AVAILABLE)
    }
  }

  /** @throws StreamError of the log: nothing has changed then */
  #write(shard: TransactionShard, next: TransactionValue): number {
    const endOffset = shard.write(next)
    if (isPrepared(next)) this.#finish(shard, next, endOffset)
    return endOffset
  }

  /** Carries a decision out once it is durable. */
  #finish(shard: TransactionShard, value: TransactionValue, endOffset: number): void {
    const id = value.transactionalId
    const run = this.#carryOut(shard, value, endOffset)
      .catch((error: unknown) => {
        this.#broker.log.error('a transaction could not be ended', {
          transactionalId: id,
          error: String(error),
        })
      })
      .finally(() => {
        if (this.#finishing.get(id) === run) this.#finishing.delete(id)
      })
    this.#finishing.set(id, run)
  }

  async #carryOut(
    shard: TransactionShard,
    value: TransactionValue,
    endOffset: number,
  ): Promise<void> {
    const { time, log, table, image, nodeId } = this.#broker
    if (!(await shard.committed(endOffset))) return
    const isWanted = (): boolean => !this.#isStopped && shard.isCurrent
    const isWritten = await writeMarkers(value, shard.coordinatorEpoch, {
      time,
      log,
      table,
      nodeId,
      isWanted,
      writer: this.markers,
      peers: this.#peers,
      leaderOf: (topic, partition) => {
        const known = image.topic(topic)
        if (known === undefined || partition >= known.value.partitions) return undefined
        return image.partition(known.topicId, partition)?.value.leader ?? -1
      },
    })
    if (!isWritten) return
    while (isWanted()) {
      try {
        // Its record need not be durable before the next transaction's: both stand in one log.
        shard.write(complete(value, time.wallMs()))
        return
      } catch (error) {
        if (!isStreamError(error)) throw error
        await sleep(time, COMPLETE_RETRY_MS)
      }
    }
  }

  /** Resolves when no decision of this id is being carried out. @returns false when that took longer than `waitMs` */
  #finished(transactionalId: string, waitMs: number): Promise<boolean> {
    const run = this.#finishing.get(transactionalId)
    if (run === undefined) return Promise.resolve(false)
    return new Promise((resolve) => {
      const timer = this.#broker.time.setTimer(waitMs, () => resolve(false))
      void run.then(() => {
        timer.cancel()
        resolve(true)
      })
    })
  }

  // --- batches

  /** What is known without waiting; undefined: something must be written or waited for. */
  #admitNow(batch: TransactionalBatch): number | undefined {
    const found = this.#find(batch.transactionalId)
    if ('code' in found) {
      if (this.#remote === undefined || found.leader === undefined)
        return codeForProduce(found.code)
      return this.#remote.isOpen(batch) ? 0 : undefined
    }
    const entry = found.shard.entry(batch.transactionalId)
    const decision = verifyPartition(entry?.value, batch)
    if (decision.kind !== 'answer') return undefined
    if (decision.code === 0 && entry !== undefined) {
      return found.shard.isCommitted(entry.endOffset) ? 0 : undefined
    }
    const mayAdd = batch.isImplicit && decision.code === KafkaError.TRANSACTION_ABORTABLE
    return mayAdd ? undefined : codeForProduce(decision.code)
  }

  async #admitLater(batch: TransactionalBatch, append: (code: number) => void): Promise<void> {
    for (;;) {
      const code = this.#admitNow(batch)
      if (code !== undefined) {
        append(code)
        return
      }
      const found = this.#find(batch.transactionalId)
      if ('leader' in found && found.leader !== undefined && this.#remote !== undefined) {
        await this.#remote.ask(found.leader, batch, (asked) => append(codeForProduce(asked)))
        return
      }
      const { transactionalId, topic, partition, producerId, epoch } = batch
      const partitions = new Map([[topic, new Set([partition])]])
      const outcome = await this.#settle(transactionalId, (value) =>
        batch.isImplicit
          ? addPartitions(value, {
              producerId,
              epoch,
              partitions,
              version: 2,
              nowMs: this.#broker.time.wallMs(),
            })
          : verifyPartition(value, batch),
      )
      if (outcome.code !== 0) {
        append(codeForProduce(outcome.code))
        return
      }
    }
  }

  // --- shards

  /** `leader` is given where another daemon leads the id's partition; −1: nobody does now. */
  #find(transactionalId: string): Place {
    if (this.#isStopped || this.#broker.isStopping) return { code: KafkaError.NOT_COORDINATOR }
    if (this.#shards.length === 0) {
      // Where there is no topic there is no id either. While it is being made, by a request beside this one, that is not said.
      const isBeingMade = this.#broker.image.topic(TRANSACTION_TOPIC) !== undefined
      return {
        code: isBeingMade
          ? KafkaError.COORDINATOR_LOAD_IN_PROGRESS
          : KafkaError.INVALID_PRODUCER_ID_MAPPING,
      }
    }
    const index = partitionOfId(transactionalId, this.#shards.length)
    const shard = this.#shards[index]
    if (shard === undefined || !shard.isCurrent) {
      const leader = this.#leaderOf(index)
      const code = KafkaError.NOT_COORDINATOR
      return leader === this.#broker.nodeId ? { code } : { code, leader }
    }
    return shard.isReady ? { shard } : { code: KafkaError.COORDINATOR_LOAD_IN_PROGRESS }
  }

  #leaderOf(index: number): number {
    const { image } = this.#broker
    if (this.#topicId === undefined) return -1
    return image.partition(this.#topicId, index)?.value.leader ?? -1
  }

  #follow(change: ImageChange): void {
    const topicId = this.#topicId
    const concerns =
      topicId === undefined || change.topicIds.has(topicId) || change.deletedTopicIds.has(topicId)
    if (concerns) this.#lookForShards()
  }

  /** Opens what is led here and not open yet; lets go of a topic that is gone. */
  #lookForShards(): void {
    if (this.#isStopped) return
    const { image, table, time, log, directory } = this.#broker
    const topic = image.topic(TRANSACTION_TOPIC)
    if (topic?.topicId !== this.#topicId) {
      for (const shard of this.#shards) shard?.close()
      this.#shards = []
      this.#topicId = topic?.topicId
    }
    if (topic === undefined || topic.value.state !== 'READY') return
    const ports = { time, log, refusesWrites: () => directory.refusesWrites() }
    for (let index = 0; index < topic.value.partitions; index += 1) {
      const partition = table.find(TRANSACTION_TOPIC, index)
      if (this.#shards[index]?.isCurrent === true) continue
      this.#shards[index]?.close()
      this.#shards[index] = undefined
      if (partition === undefined || partition.notServing !== undefined) continue
      const shard = new TransactionShard(index, partition, ports)
      this.#shards[index] = shard
      this.#load(shard)
    }
  }

  #load(shard: TransactionShard): void {
    shard.load().then(
      () => {
        if (!shard.isReady) return
        for (const { value, endOffset } of shard.entries()) {
          if (isPrepared(value)) this.#finish(shard, value, endOffset)
        }
      },
      (error: unknown) => {
        // Its ids stay "loading": an id must not begin anew while its decisions cannot be read.
        this.#broker.log.error('the state of transactions could not be read', {
          partition: shard.index,
          error: String(error),
        })
      },
    )
  }

  /** Waits a little for the partition of an id to be read, so that a first request need not come again. */
  async #loaded(transactionalId: string): Promise<void> {
    const { time } = this.#broker
    const deadlineMs = time.monotonicMs() + BUSY_WAIT_MS
    while (time.monotonicMs() < deadlineMs) {
      const found = this.#find(transactionalId)
      if (!('code' in found) || found.code !== KafkaError.COORDINATOR_LOAD_IN_PROGRESS) return
      await sleep(time, 1)
    }
  }
}

function refused(code: number): Outcome {
  return { code, identity: NOBODY }
}

/** What a producer understands, that asks the leader of a partition and not the coordinator. */
function codeForProduce(code: number): number {
  switch (code) {
    case KafkaError.PRODUCER_FENCED:
      return KafkaError.INVALID_PRODUCER_EPOCH
    case KafkaError.CONCURRENT_TRANSACTIONS:
    case KafkaError.COORDINATOR_LOAD_IN_PROGRESS:
    case KafkaError.COORDINATOR_NOT_AVAILABLE:
    case KafkaError.NOT_COORDINATOR:
      return KafkaError.NOT_ENOUGH_REPLICAS
    default:
      return code
  }
}
