/**
 * Transactions from outside: which ids there are, what is open, and an end to what is. Every broker tells of the ids that
 * it coordinates; one that is loading is asked again.
 */
import { StreamError } from '../base/errors.ts'
import type { Random } from '../ports/random.ts'
import { sleep, type Time } from '../ports/time.ts'
import { KafkaError } from '../protocol/errors.ts'
import type { Cluster } from './cluster.ts'
import { kafkaFailure } from './kafka-failure.ts'
import { TransactionalProducer } from './transactional-producer.ts'

export interface TransactionListing {
  readonly transactionalId: string
  readonly producerId: number
  /** Empty, Ongoing, PrepareCommit, PrepareAbort, CompleteCommit, CompleteAbort … */
  readonly state: string
}

export interface TransactionDescription extends TransactionListing {
  readonly producerEpoch: number
  readonly timeoutMs: number
  /** Milliseconds since 1970; -1: no transaction is open. */
  readonly startMs: number
  readonly partitions: readonly { readonly topic: string; readonly partition: number }[]
}

const RETRY_PAUSE_MS = 100
/** What is waited for with the first transaction that it may abort. */
const ABORT_TIMEOUT_MS = 60_000

export class TransactionAdmin {
  readonly #time: Time
  readonly #random: Random
  readonly #cluster: Cluster

  constructor(time: Time, random: Random, cluster: Cluster) {
    this.#time = time
    this.#random = random
    this.#cluster = cluster
  }

  /** All ids of all brokers, sorted. @throws StreamError as Cluster.call; UNSUPPORTED_BY_BROKER */
  async list(): Promise<readonly TransactionListing[]> {
    const body = { stateFilters: [], producerIdFilters: [] }
    const answers = await this.#cluster.ofEachBroker((nodeId) =>
      this.#again(
        () => this.#cluster.call(nodeId, 'ListTransactions', body),
        ({ errorCode }) => errorCode,
      ),
    )
    const found = new Map<string, TransactionListing>()
    for (const answer of answers) {
      if (answer.errorCode !== 0) throw kafkaFailure(answer.errorCode, { target: 'transactions' })
      for (const { transactionalId, producerId, transactionState } of answer.transactionStates) {
        found.set(transactionalId, { transactionalId, producerId, state: transactionState })
      }
    }
    return [...found.values()].sort((a, b) => (a.transactionalId < b.transactionalId ? -1 : 1))
  }

  /** @returns undefined: there is no such id @throws StreamError as list */
  async describe(transactionalId: string): Promise<TransactionDescription | undefined> {
    const answer = await this.#again(
      async () => {
        const { nodeId, errorCode } = await this.#cluster.call(
          'any',
          'FindCoordinator',
          { key: transactionalId, keyType: 1 },
          { versionMax: 3 },
        )
        if (errorCode !== 0) return { transactionStates: [], errorCode }
        if (!this.#cluster.metadata.brokers.has(nodeId)) await this.#cluster.describeTopics([])
        const transactionalIds = [transactionalId]
        const body = { transactionalIds }
        return (
          (await this.#cluster.callUnlessGone(nodeId, 'DescribeTransactions', body)) ?? {
            transactionStates: [],
            errorCode: KafkaError.COORDINATOR_NOT_AVAILABLE,
          }
        )
      },
      (response) =>
        'errorCode' in response
          ? response.errorCode
          : (response.transactionStates[0]?.errorCode ?? 0),
    )
    const row = answer.transactionStates[0]
    const code = 'errorCode' in answer ? answer.errorCode : (row?.errorCode ?? 0)
    if (code === KafkaError.TRANSACTIONAL_ID_NOT_FOUND) return undefined
    if (code !== 0 || row === undefined) {
      throw kafkaFailure(code === 0 ? KafkaError.UNKNOWN_SERVER_ERROR : code, {
        target: transactionalId,
      })
    }
    return {
      transactionalId,
      producerId: row.producerId,
      state: row.transactionState,
      producerEpoch: row.producerEpoch,
      timeoutMs: row.transactionTimeoutMs,
      startMs: row.transactionStartTimeMs,
      partitions: row.topics.flatMap(({ topic, partitions }) =>
        partitions.map((partition) => ({ topic, partition })),
      ),
    }
  }

  /** Becomes the owner of the id: whoever has it is fenced, and what it has open is aborted. @throws StreamError */
  async fence(transactionalId: string): Promise<void> {
    const options = { transactionalId, timeoutMs: ABORT_TIMEOUT_MS }
    await new TransactionalProducer(this.#time, this.#random, this.#cluster, options).init()
  }

  async #again<T>(ask: () => Promise<T>, codeOf: (answer: T) => number): Promise<T> {
    const deadlineMs = this.#time.monotonicMs() + this.#cluster.requestTimeoutMs
    for (;;) {
      const answer = await ask()
      const code = codeOf(answer)
      const mayPass =
        code === KafkaError.COORDINATOR_LOAD_IN_PROGRESS ||
        code === KafkaError.COORDINATOR_NOT_AVAILABLE ||
        code === KafkaError.NOT_COORDINATOR
      if (!mayPass) return answer
      if (this.#time.monotonicMs() >= deadlineMs) {
        throw new StreamError('TIMED_OUT', 'the coordinator is not there yet', { kafkaError: code })
      }
      await sleep(this.#time, RETRY_PAUSE_MS)
    }
  }
}
