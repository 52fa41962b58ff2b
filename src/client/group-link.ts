/**
 * Calls to the coordinator of one group: finds it, and finds it anew when it has moved.
 *
 * It must not know what is asked: an answer says by its error codes whether to look again.
 */
import { isStreamError, StreamError } from '../base/errors.ts'
import type { Random } from '../ports/random.ts'
import { sleep, type Time } from '../ports/time.ts'
import type { ApiName, RequestInput, Response } from '../protocol/api-table.ts'
import { KafkaError, kafkaErrorIsRetriable } from '../protocol/errors.ts'
import { backoffMs } from './backoff.ts'
import type { Cluster } from './cluster.ts'
import type { Connection } from './connection.ts'
import { kafkaFailure } from './kafka-failure.ts'
import { CoordinatorNotices } from './refusal-notices.ts'

const BATCHED_VERSION = 4

export interface GroupCallOptions {
  /** On the monotonic clock; default: the cluster's requestTimeoutMs from now. */
  readonly deadlineMs?: number
  /** The wait for one answer; default: what is left. */
  readonly timeoutMs?: number
  /** false: a lost answer fails the call, for its outcome is unknown. Default true. */
  readonly resend?: boolean
  /** Do not go above this version. */
  readonly versionMax?: number
}

export class GroupLink {
  readonly groupId: string
  readonly #time: Time
  readonly #random: Random
  readonly #cluster: Cluster
  readonly #notices: CoordinatorNotices
  #nodeId: number | undefined

  constructor(time: Time, random: Random, cluster: Cluster, groupId: string) {
    this.#time = time
    this.#random = random
    this.#cluster = cluster
    this.groupId = groupId
    this.#notices = new CoordinatorNotices(time, cluster, `group ${groupId}`)
  }

  /** The coordinator is another one, or not there: it is looked for at the next call. */
  forget(): void {
    this.#nodeId = undefined
  }

  /** @throws StreamError as Cluster.call; BROKER_ERROR, NOT_ALLOWED */
  async connection(deadlineMs: number): Promise<Connection> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.#cluster.connection(await this.#find(deadlineMs), deadlineMs)
      } catch (error) {
        if (!isStreamError(error, 'BROKER_GONE')) throw error
        this.forget()
        await this.#pause(attempt, deadlineMs, KafkaError.COORDINATOR_NOT_AVAILABLE)
      }
    }
  }

  /** The version in which `api` is spoken with the coordinator. */
  async versionOf(api: ApiName): Promise<number> {
    const deadlineMs = this.#deadlineMs({})
    return (await this.connection(deadlineMs)).versionOf(api)
  }

  /**
   * Asks until an answer says something else than that the coordinator has moved, is loading or is not there, or that a transaction
   * with offsets is open.
   * @param errorOf  the error code of an answer that decides about that
   * @throws StreamError as Cluster.call; TIMED_OUT with the last error code
   */
  async call<A extends ApiName>(
    api: A,
    body: RequestInput<A>,
    errorOf: (response: Response<A>) => number,
    options: GroupCallOptions = {},
  ): Promise<Response<A>> {
    const deadlineMs = this.#deadlineMs(options)
    for (let attempt = 1; ; attempt += 1) {
      let code: number
      try {
        const nodeId = await this.#find(deadlineMs)
        const leftMs = Math.max(1, deadlineMs - this.#time.monotonicMs())
        const timeoutMs = Math.min(options.timeoutMs ?? leftMs, leftMs)
        const response = await this.#cluster.call(nodeId, api, body, {
          deadlineMs,
          timeoutMs,
          resend: false,
          ...(options.versionMax === undefined ? {} : { versionMax: options.versionMax }),
        })
        code = errorOf(response)
        if (!isPassing(code)) {
          this.#notices.onAnswered()
          return response
        }
      } catch (error) {
        const isGone = isStreamError(error, 'BROKER_GONE')
        const isLost = isStreamError(error, 'CONNECTION_LOST') && options.resend !== false
        if (!(isGone || isLost) || this.#cluster.isClosed) throw error
        code = KafkaError.COORDINATOR_NOT_AVAILABLE
      }
      if (hasMoved(code)) this.forget()
      await this.#pause(attempt, deadlineMs, code)
    }
  }

  async #find(deadlineMs: number): Promise<number> {
    for (let attempt = 1; this.#nodeId === undefined; attempt += 1) {
      const connection = await this.#cluster.connection('any', deadlineMs)
      const isBatched = connection.versionOf('FindCoordinator') >= BATCHED_VERSION
      const leftMs = Math.max(1, deadlineMs - this.#time.monotonicMs())
      const response = await this.#cluster.call(
        'any',
        'FindCoordinator',
        (isBatched
          ? { keyType: 0, coordinatorKeys: [this.groupId] }
          : { keyType: 0, key: this.groupId }) as RequestInput<'FindCoordinator'>,
        { deadlineMs, timeoutMs: leftMs },
      )
      const [row] = isBatched ? response.coordinators : [response]
      const code = row?.errorCode ?? KafkaError.COORDINATOR_NOT_AVAILABLE
      if (code === 0 && row !== undefined) {
        this.#nodeId = row.nodeId
        if (!this.#cluster.metadata.brokers.has(row.nodeId)) {
          await this.#cluster.describeTopics([], { deadlineMs })
        }
        break
      }
      if (!kafkaErrorIsRetriable(code)) {
        const brokerMessage = row?.errorMessage
        throw kafkaFailure(code, { target: `group ${this.groupId}`, brokerMessage })
      }
      await this.#pause(attempt, deadlineMs, code)
    }
    return this.#nodeId
  }

  async #pause(attempt: number, deadlineMs: number, code: number): Promise<void> {
    const delayMs = backoffMs(this.#random, this.#cluster.backoff, attempt)
    const cause = kafkaFailure(code, { target: `group ${this.groupId}` })
    this.#notices.onRefused(cause)
    if (this.#time.monotonicMs() + delayMs > deadlineMs) {
      throw new StreamError('TIMED_OUT', `${cause.message}: no answer in time`, {
        target: this.groupId,
        kafkaError: code,
        cause,
      })
    }
    await sleep(this.#time, delayMs)
  }

  #deadlineMs(options: GroupCallOptions): number {
    return options.deadlineMs ?? this.#time.monotonicMs() + this.#cluster.requestTimeoutMs
  }
}

/** Another answer comes by waiting. */
function isPassing(code: number): boolean {
  return (
    hasMoved(code) ||
    code === KafkaError.COORDINATOR_LOAD_IN_PROGRESS ||
    code === KafkaError.UNSTABLE_OFFSET_COMMIT
  )
}

function hasMoved(code: number): boolean {
  return code === KafkaError.NOT_COORDINATOR || code === KafkaError.COORDINATOR_NOT_AVAILABLE
}
