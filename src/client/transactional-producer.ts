/**
 * A producer whose records become visible together or not at all. One transaction after the other: begin, append, then
 * commit or abort.
 *
 * Each transaction has an epoch of its own, so that nothing of an earlier one can be taken for a later one's: with
 * brokers of KIP-890 the end of a transaction hands out the next epoch, with older ones it is asked for before each
 * transaction after the first (KIP-360). Hence each transaction is sent by a Producer of its own, from sequence 0 on.
 *
 * Invariants:
 * - `commit` resolves only when the decision is durable at the coordinator; what fails before it leaves the transaction
 *   to be aborted: by `abort`, by the next owner of the id, or by its timeout.
 * - Where `commit` ends with TIMED_OUT the outcome is not known; the next `init` with the same id settles it.
 */
import { assert } from '../base/assert.ts'
import { StreamError } from '../base/errors.ts'
import type { Random } from '../ports/random.ts'
import { sleep, type Time } from '../ports/time.ts'
import type { RequestInput, Response } from '../protocol/api-table.ts'
import { KafkaError, kafkaErrorIsRetriable } from '../protocol/errors.ts'
import { backoffMs } from './backoff.ts'
import type { Cluster } from './cluster.ts'
import { kafkaFailure } from './kafka-failure.ts'
import { Producer, type ProducerOptions } from './producer.ts'
import type { Identity } from './producer-identity.ts'
import { CoordinatorNotices } from './refusal-notices.ts'
import { judgeTopic, knownTopicId, recreatedTopic, type TopicIdentity } from './topic-identity.ts'

export interface TransactionOptions {
  readonly transactionalId: string
  /** The broker aborts what is open longer; at most what it allows (Kafka: 15 minutes). */
  readonly timeoutMs: number
  /** Keeps to the protocol of Kafka before version 4, whatever the broker can. */
  readonly classic?: boolean
  /** For beginning and ending a transaction, with all retries. Default 60 000. */
  readonly coordinationTimeoutMs?: number
}

/** Positions of a group that are committed with the records. */
export interface TransactionOffsets {
  readonly groupId: string
  /** -1 and '' for a group without members. */
  readonly generationId: number
  readonly memberId: string
  readonly groupInstanceId: string | null
  readonly offsets: readonly {
    readonly topic: string
    /** Of the topic that was read: nothing is committed for another one of its name. Absent or empty: not known. */
    readonly topicId?: string
    readonly partition: number
    /** The next one to read. */
    readonly offset: number
    readonly leaderEpoch?: number
    readonly metadata?: string
  }[]
}

const TRANSACTION_KEY = 1
const GROUP_KEY = 0
const IMPLICIT_PRODUCE_VERSION = 12
const EPOCH_PER_TRANSACTION_VERSION = 5
const FEATURE = 'transaction.version'

const findsAnew: ReadonlySet<number> = new Set([
  KafkaError.NOT_COORDINATOR,
  KafkaError.COORDINATOR_NOT_AVAILABLE,
])

/** What a coordinator that is down counts as having answered. */
const awayAnswer = { errorCode: KafkaError.COORDINATOR_NOT_AVAILABLE }
const awayCodes: readonly number[] = [KafkaError.COORDINATOR_NOT_AVAILABLE]

export class TransactionalProducer {
  readonly #time: Time
  readonly #random: Random
  readonly #cluster: Cluster
  readonly #options: TransactionOptions
  readonly #producerOptions: ProducerOptions
  readonly #notices: CoordinatorNotices
  #identity: Identity | undefined
  #timeoutMs: number
  #coordinator: number | undefined
  /** KIP-890: the broker adds partitions, and hands out the epoch of the next transaction. */
  #isImplicit = false
  #producer: Producer | undefined
  /** Of the open transaction, by `topic/partition`: added, or being added. */
  readonly #partitions = new Map<string, 'added' | 'adding'>()
  readonly #adding = new Set<Promise<void>>()
  #addFailure: StreamError | undefined
  /** Whether the broker may know of the open transaction. */
  #isBegun = false
  /** Its epoch was used by a transaction of the classic kind. */
  #isUsed = false

  constructor(
    time: Time,
    random: Random,
    cluster: Cluster,
    options: TransactionOptions,
    producerOptions: ProducerOptions = {},
  ) {
    this.#time = time
    this.#random = random
    this.#cluster = cluster
    this.#options = options
    this.#timeoutMs = options.timeoutMs
    this.#producerOptions = producerOptions
    const target = `transactional id ${options.transactionalId}`
    this.#notices = new CoordinatorNotices(time, cluster, target)
  }

  /** The records of the open transaction go in here. */
  get producer(): Producer {
    assert(this.#producer !== undefined, 'a transaction is begun before it is written to')
    return this.#producer
  }

  /**
   * Becomes the owner of the id: whoever had it is fenced, and what it left open is aborted.
   * @throws StreamError CONFIG_INVALID (the timeout), NOT_ALLOWED, UNSUPPORTED_BY_BROKER, UNREACHABLE, TIMED_OUT
   */
  async init(): Promise<void> {
    const deadlineMs = this.#deadlineMs()
    const connection = await this.#cluster.connection('any', deadlineMs)
    this.#isImplicit =
      this.#options.classic !== true &&
      connection.supports('EndTxn', EPOCH_PER_TRANSACTION_VERSION) &&
      connection.supports('Produce', IMPLICIT_PRODUCE_VERSION) &&
      connection.featureLevel(FEATURE) >= 2
    this.#identity = await this.#requestIdentity(undefined, deadlineMs)
  }

  /**
   * Between transactions: the next ones may take so long. Unlike `init` it takes the id from nobody.
   * @throws StreamError FENCED: somebody else has become the owner; as init
   */
  async allow(timeoutMs: number): Promise<void> {
    assert(this.#producer === undefined && !this.#isBegun, 'between transactions')
    this.#timeoutMs = timeoutMs
    this.#identity = await this.#requestIdentity(this.#ownIdentity, this.#deadlineMs())
    this.#isUsed = false
  }

  /** @returns the producer of the new transaction @throws StreamError as init; FENCED */
  async begin(): Promise<Producer> {
    assert(
      this.#identity !== undefined && this.#producer === undefined,
      'one at a time, after init',
    )
    if (this.#isUsed) {
      this.#identity = await this.#requestIdentity(this.#identity, this.#deadlineMs())
      this.#isUsed = false
    }
    this.#partitions.clear()
    this.#addFailure = undefined
    this.#isBegun = false
    const identity = this.#identity
    this.#producer = new Producer(this.#time, this.#random, this.#cluster, {
      ...this.#producerOptions,
      acks: 'all',
      afterRefusal: 'stop',
      transaction: {
        transactionalId: this.#options.transactionalId,
        identity,
        produceVersionMax: this.#isImplicit
          ? IMPLICIT_PRODUCE_VERSION
          : IMPLICIT_PRODUCE_VERSION - 1,
        admit: (topic, partition, retry) => this.#admit(topic, partition, retry),
      },
    })
    return this.#producer
  }

  /**
   * Commits positions of a group with the transaction.
   * @throws StreamError FENCED, CONFLICT (the member is no longer of the group; the topic was created anew),
   *   UNSUPPORTED_BY_BROKER, TIMED_OUT
   */
  async sendOffsets(offsets: TransactionOffsets): Promise<void> {
    const { transactionalId } = this.#options
    const deadlineMs = this.#deadlineMs()
    const { groupId } = offsets
    if (!this.#isImplicit) {
      await this.#callCoordinator('AddOffsetsToTxn', deadlineMs, () => ({
        transactionalId,
        ...this.#ownIdentity,
        groupId,
      }))
    }
    this.#isBegun = true
    const topics = new Map<string, TransactionOffsets['offsets'][number][]>()
    for (const row of offsets.offsets) {
      const rows = topics.get(row.topic)
      if (rows === undefined) topics.set(row.topic, [row])
      else rows.push(row)
    }
    const body = {
      transactionalId,
      ...this.#ownIdentity,
      groupId,
      generationId: offsets.generationId,
      memberId: offsets.memberId,
      groupInstanceId: offsets.groupInstanceId,
      topics: [...topics].map(([name, rows]) => ({
        name,
        partitions: rows.map(({ partition, offset, leaderEpoch, metadata }) => ({
          partitionIndex: partition,
          committedOffset: offset,
          committedLeaderEpoch: leaderEpoch ?? -1,
          committedMetadata: metadata ?? '',
        })),
      })),
    }
    const identities = identitiesOf(offsets.offsets)
    for (let attempt = 1; ; attempt++) {
      await this.#checkTopics(identities, deadlineMs)
      const node = await this.#find(GROUP_KEY, groupId, deadlineMs)
      const versionMax = this.#isImplicit ? 5 : 4
      const answer = await this.#cluster.callUnlessGone(node, 'TxnOffsetCommit', body, {
        deadlineMs,
        versionMax,
      })
      const codes =
        answer?.topics.flatMap((topic) => topic.partitions.map((row) => row.errorCode)) ?? awayCodes
      const code = codes.find((each) => each !== 0)
      if (code === undefined) {
        this.#notices.onAnswered()
        return
      }
      await this.#again(code, attempt, deadlineMs, groupId)
    }
  }

  /** The request names topics by their names alone. @throws StreamError CONFLICT */
  async #checkTopics(
    identities: ReadonlyMap<string, TopicIdentity>,
    deadlineMs: number,
  ): Promise<void> {
    let doubtful = [...identities.keys()]
    while (doubtful.length > 0) {
      await this.#cluster.describeTopics(doubtful, { deadlineMs })
      doubtful = doubtful.filter((topic) => {
        const identity = identities.get(topic) as TopicIdentity
        const verdict = judgeTopic(identity, this.#cluster.metadata.topic(topic))
        if (verdict === 'other') throw recreatedTopic(topic)
        return verdict === 'doubtful'
      })
    }
  }

  /**
   * Sends what was appended, and commits.
   * @throws StreamError what kept a batch from being delivered (then abort); FENCED; TIMED_OUT: the outcome is unknown
   */
  async commit(): Promise<void> {
    const { producer } = this
    await producer.flush()
    await Promise.all(this.#adding)
    if (this.#addFailure !== undefined) throw this.#addFailure
    await this.#end(true)
    producer.close()
    this.#producer = undefined
  }

  /** Drops the transaction. @throws StreamError FENCED (it is gone anyway), TIMED_OUT, UNREACHABLE */
  async abort(): Promise<void> {
    this.#producer?.close()
    this.#producer = undefined
    await Promise.all(this.#adding)
    await this.#end(false)
  }

  // --- coordination

  get #ownIdentity(): Identity {
    assert(this.#identity !== undefined, 'init comes first')
    return this.#identity
  }

  #deadlineMs(): number {
    return this.#time.monotonicMs() + (this.#options.coordinationTimeoutMs ?? 60_000)
  }

  async #requestIdentity(expected: Identity | undefined, deadlineMs: number): Promise<Identity> {
    const { producerId, producerEpoch } = await this.#callCoordinator(
      'InitProducerId',
      deadlineMs,
      () => ({
        transactionalId: this.#options.transactionalId,
        transactionTimeoutMs: this.#timeoutMs,
        ...(expected ?? {}),
      }),
    )
    return { producerId, producerEpoch }
  }

  async #end(committed: boolean): Promise<void> {
    if (!this.#isBegun) return
    const answer = await this.#callCoordinator(
      'EndTxn',
      this.#deadlineMs(),
      () => ({ transactionalId: this.#options.transactionalId, ...this.#ownIdentity, committed }),
      this.#isImplicit ? EPOCH_PER_TRANSACTION_VERSION : EPOCH_PER_TRANSACTION_VERSION - 1,
    )
    this.#isBegun = false
    if (this.#isImplicit) {
      this.#identity = { producerId: answer.producerId, producerEpoch: answer.producerEpoch }
    } else this.#isUsed = true
  }

  /** Whether a batch for this partition may leave; else `retry` is called when that has changed. */
  #admit(topic: string, partition: number, retry: (failure?: StreamError) => void): boolean {
    if (this.#isImplicit) {
      this.#isBegun = true
      return true
    }
    const key = `${topic}/${partition}`
    const state = this.#partitions.get(key)
    if (state !== undefined) return state === 'added'
    this.#partitions.set(key, 'adding')
    this.#isBegun = true
    const run = this.#add(topic, partition).then(
      () => {
        this.#partitions.set(key, 'added')
        retry()
      },
      (error: unknown) => {
        if (!(error instanceof StreamError)) throw error
        this.#addFailure ??= error
        retry(error)
      },
    )
    this.#adding.add(run)
    void run.finally(() => this.#adding.delete(run))
    return false
  }

  async #add(topic: string, partition: number): Promise<void> {
    const deadlineMs = this.#deadlineMs()
    for (let attempt = 1; ; attempt++) {
      const node = await this.#coordinatorNode(deadlineMs)
      const { producerId, producerEpoch } = this.#ownIdentity
      const answer = await this.#cluster.callUnlessGone(
        node,
        'AddPartitionsToTxn',
        {
          v3AndBelowTransactionalId: this.#options.transactionalId,
          v3AndBelowProducerId: producerId,
          v3AndBelowProducerEpoch: producerEpoch,
          v3AndBelowTopics: [{ name: topic, partitions: [partition] }],
        },
        { deadlineMs, versionMax: 3 },
      )
      const row = answer?.resultsByTopicV3AndBelow[0]?.resultsByPartition[0]
      if (row?.partitionErrorCode === 0) {
        this.#notices.onAnswered()
        return
      }
      const code =
        answer === undefined
          ? KafkaError.COORDINATOR_NOT_AVAILABLE
          : (row?.partitionErrorCode ?? KafkaError.UNKNOWN_SERVER_ERROR)
      await this.#again(code, attempt, deadlineMs, `${topic} partition ${partition}`)
    }
  }

  async #callCoordinator<A extends 'InitProducerId' | 'EndTxn' | 'AddOffsetsToTxn'>(
    api: A,
    deadlineMs: number,
    body: () => RequestInput<A>,
    versionMax?: number,
  ): Promise<Response<A>> {
    for (let attempt = 1; ; attempt++) {
      const node = await this.#coordinatorNode(deadlineMs)
      const answer = await this.#cluster.callUnlessGone(node, api, body(), {
        deadlineMs,
        ...(versionMax === undefined ? {} : { versionMax }),
      })
      const { errorCode } = (answer ?? awayAnswer) as { readonly errorCode: number }
      if (answer !== undefined && errorCode === 0) {
        this.#notices.onAnswered()
        return answer
      }
      await this.#again(errorCode, attempt, deadlineMs, this.#options.transactionalId)
    }
  }

  /** Waits for another attempt. @throws StreamError where none can help, or none is left */
  async #again(code: number, attempt: number, deadlineMs: number, target: string): Promise<void> {
    if (!kafkaErrorIsRetriable(code)) {
      if (code === KafkaError.INVALID_TRANSACTION_TIMEOUT) {
        throw new StreamError(
          'CONFIG_INVALID',
          `${target}: a transaction of ${this.#timeoutMs} ms is longer than the broker allows`,
          { target, kafkaError: code, hint: 'raise transaction.max.timeout.ms of the broker' },
        )
      }
      throw kafkaFailure(code, { target })
    }
    if (findsAnew.has(code)) this.#coordinator = undefined
    const failure = kafkaFailure(code, { target })
    this.#notices.onRefused(failure)
    const pauseMs = backoffMs(this.#random, this.#cluster.backoff, attempt)
    if (this.#time.monotonicMs() + pauseMs >= deadlineMs) {
      throw new StreamError('TIMED_OUT', `${failure.message}, again and again`, {
        target,
        cause: failure,
      })
    }
    await sleep(this.#time, pauseMs)
  }

  async #coordinatorNode(deadlineMs: number): Promise<number> {
    const { transactionalId } = this.#options
    this.#coordinator ??= await this.#find(TRANSACTION_KEY, transactionalId, deadlineMs)
    return this.#coordinator
  }

  async #find(keyType: number, key: string, deadlineMs: number): Promise<number> {
    for (let attempt = 1; ; attempt++) {
      const found = await this.#cluster.call(
        'any',
        'FindCoordinator',
        { key, keyType },
        // Later versions ask for several keys at once.
        { deadlineMs, versionMax: 3 },
      )
      if (found.errorCode === 0) {
        // Brokers are known by metadata: the coordinator may be one that no topic has led to yet.
        if (!this.#cluster.metadata.brokers.has(found.nodeId))
          await this.#cluster.describeTopics([])
        return found.nodeId
      }
      await this.#again(found.errorCode, attempt, deadlineMs, key)
    }
  }
}

function identitiesOf(rows: TransactionOffsets['offsets']): ReadonlyMap<string, TopicIdentity> {
  const identities = new Map<string, TopicIdentity>()
  for (const row of rows) {
    const topicId = knownTopicId(row.topicId)
    if (topicId !== undefined) identities.set(row.topic, { topicId, doubted: undefined })
  }
  return identities
}
