/**
 * Changes of dead letters: marks, and records back to the job, in the same transactions. Shared by replay and drop.
 *
 * Invariants: a record is marked as replayed if and only if it is in `JOB.retry`; of two runs at once the later fences the
 * earlier before it looks at the marks, so nothing is replayed twice.
 */

import { assert } from '../src/base/assert.ts'
import { isStreamError, StreamError } from '../src/base/errors.ts'
import type { TopicInfo } from '../src/client/metadata-cache.ts'
import type { RecordInput } from '../src/record/batch-builder.ts'
import type { Broker } from './broker.ts'
import type { ProducerClient, TransactionClient } from './clients.ts'
import type { CommandDeps } from './deps.ts'
import { DlqMarks } from './dlq-marks.ts'
import { dlqTopicOf, prepareDeadTopic, retryTopicOf } from './dlq-records.ts'
import type { Letter } from './dlq-shared.ts'
import { prepareState } from './stream-state.ts'

/** Records of one transaction: readers of the retry topic wait for its end. */
const CHUNK_RECORDS = 1000
const TRANSACTION_TIMEOUT_MS = 60_000

export class DlqChanges {
  /** Marked and committed. */
  changed = 0
  readonly #deps: CommandDeps
  readonly #broker: Broker
  readonly #job: string
  readonly #topic: TopicInfo
  readonly #retryTopic: string
  #transactions: TransactionClient | undefined
  #producer: ProducerClient | undefined
  #marks: DlqMarks | undefined
  #pending = 0

  constructor(deps: CommandDeps, broker: Broker, job: string, topic: TopicInfo) {
    this.#deps = deps
    this.#broker = broker
    this.#job = job
    this.#topic = topic
    this.#retryTopic = retryTopicOf(job)
  }

  /**
   * Becomes the only one that changes this job's dead letters.
   * @param letters  chosen by marks that may be old by now
   * @param options.takesAll  marked ones too
   * @param options.sends  records go to JOB.retry
   * @returns those that are still to be changed
   * @throws StreamError FENCED …
   */
  async open(
    letters: readonly Letter[],
    options: { readonly takesAll: boolean; readonly sends: boolean },
  ): Promise<Letter[]> {
    const { clients } = this.#deps
    const recordBytesMax = options.sends
      ? await prepareDeadTopic(this.#deps, this.#broker, this.#retryTopic, [dlqTopicOf(this.#job)])
      : undefined
    const transactions = await clients.transactionalProducer(
      this.#broker.cluster,
      { transactionalId: `stream.dlq.${this.#job}`, timeoutMs: TRANSACTION_TIMEOUT_MS },
      recordBytesMax === undefined ? {} : { recordBytesMax },
    )
    await transactions.init()
    this.#transactions = transactions
    const marks = await DlqMarks.read(this.#deps, this.#broker, this.#job, this.#topic.topicId)
    this.#marks = marks
    if (options.takesAll) return [...letters]
    return letters.filter(({ partition, offset }) => marks.stateOf(partition, offset) === 'open')
  }

  async replay(partition: number, offset: number, record: RecordInput): Promise<void> {
    const producer = await this.#begin(true)
    while (!producer.append(this.#retryTopic, undefined, record)) await producer.writable()
    await this.#mark(partition, offset, 'replayed')
  }

  async drop(partition: number, offset: number): Promise<void> {
    await this.#begin(false)
    await this.#mark(partition, offset, 'dropped')
  }

  /** Commits the rest. @throws StreamError: then abort() */
  async commit(): Promise<void> {
    const producer = this.#producer
    if (producer === undefined || this.#pending === 0) return
    await this.#marks?.store(producer, this.#deps.time.wallMs())
    await this.#transactions?.commit()
    this.#producer = undefined
    this.changed += this.#pending
    this.#pending = 0
  }

  /** What is not committed is undone. */
  async abort(): Promise<void> {
    if (this.#producer === undefined) return
    this.#producer = undefined
    // What cannot be aborted now is aborted by the next run, or by its timeout.
    await this.#transactions?.abort().catch(() => undefined)
  }

  /** Another run that began later has fenced this one: in the words of a run. */
  failureOf(error: unknown): unknown {
    if (!isStreamError(error, 'FENCED')) return error
    const rest =
      this.changed === 0 ? 'this one changed nothing' : `this one changed ${this.changed}`
    return new StreamError(
      'FENCED',
      `${this.#job}: another dlq replay or drop of it began meanwhile and took over; ${rest}`,
      {
        target: this.#job,
        cause: error,
        hint: `when it has ended see what is still open: stream dlq list ${this.#job}; then run this again`,
        ...(error.kafkaError === undefined ? {} : { kafkaError: error.kafkaError }),
      },
    )
  }

  async #begin(sends: boolean): Promise<ProducerClient> {
    if (this.#producer !== undefined) return this.#producer
    assert(this.#transactions !== undefined, 'changes are opened before they are made')
    const producer = await this.#transactions.begin()
    if (sends) await producer.prepare(this.#retryTopic)
    await prepareState(this.#deps, this.#broker, producer)
    this.#producer = producer
    return producer
  }

  async #mark(partition: number, offset: number, state: 'replayed' | 'dropped'): Promise<void> {
    this.#marks?.mark(partition, offset, state)
    this.#pending += 1
    if (this.#pending >= CHUNK_RECORDS) await this.commit()
  }
}
