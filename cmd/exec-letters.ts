/**
 * Dead letters of `consume --exec`: the records and the position behind them are committed in one transaction, so that a
 * record is either put aside and skipped, or neither.
 *
 * The group's generation fences the offsets, so the transactional id is of this run alone; of a static member it is the same
 * at each start, so that a transaction that a killed run left open holds up nobody. Where the outcome of a commit is not
 * known, the next init settles it, and the group's position tells it.
 */

import { isStreamError, StreamError } from '../src/base/errors.ts'
import type { GroupOffset } from '../src/client/group-offsets.ts'
import type { ProducerOptions } from '../src/client/producer.ts'
import type { RecordInput } from '../src/record/batch-builder.ts'
import type { Broker } from './broker.ts'
import type { ClusterClient, GroupMemberClient, TransactionClient } from './clients.ts'
import type { CommandDeps } from './deps.ts'
import { appendWhenRoom, deadRecord, dlqTopicOf, prepareDeadTopic } from './dlq-records.ts'
import type { ExecQueue } from './exec-queue.ts'
import type { Work } from './exec-work.ts'

/** What a run that was killed leaves open holds up its successor for so long. */
const TRANSACTION_TIMEOUT_MS = 10_000
const ID_BYTES = 6

export interface LettersOptions {
  readonly job: string
  readonly instanceId: string | undefined
  /** The topics that are read. */
  readonly sources: () => readonly string[]
  readonly onLetters: (work: Work) => void
}

export class ExecLetters {
  readonly #deps: CommandDeps
  readonly #broker: Broker
  readonly #queue: ExecQueue
  readonly #options: LettersOptions
  readonly #topic: string
  readonly #id: string
  #ownCluster: ClusterClient | undefined
  #client: TransactionClient | undefined
  /** Whether the last transaction was committed is not known. */
  #isInDoubt = false
  /** One commit at a time. */
  #committing: Promise<void> = Promise.resolve()

  constructor(deps: CommandDeps, broker: Broker, queue: ExecQueue, options: LettersOptions) {
    this.#deps = deps
    this.#broker = broker
    this.#queue = queue
    this.#options = options
    this.#topic = dlqTopicOf(options.job)
    const { job, instanceId } = options
    const random = Buffer.from(deps.random.bytes(ID_BYTES)).toString('hex')
    this.#id = `stream.exec.${job}.${instanceId ?? random}`
  }

  /** Ends what an earlier run of a static member has left open. @throws StreamError as TransactionalProducer.init */
  async takeOver(): Promise<void> {
    if (this.#options.instanceId !== undefined) await (await this.#makeClient({})).init()
  }

  /**
   * Commits positions of the group, with the dead letters below them.
   * @throws StreamError as GroupMember.commit and TransactionalProducer; nothing is committed then, or it is in doubt
   */
  commit(offsets: readonly GroupOffset[], member: GroupMemberClient): Promise<void> {
    const run = this.#committing.then(() => this.#commit(offsets, member))
    this.#committing = run.catch(() => undefined)
    return run
  }

  close(): void {
    this.#ownCluster?.close()
  }

  async #commit(offsets: readonly GroupOffset[], member: GroupMemberClient): Promise<void> {
    if (this.#isInDoubt) await this.#settle(member)
    const works = offsets.flatMap(
      ({ topic, partition, offset }) => this.#queue.part(topic, partition)?.deadBelow(offset) ?? [],
    )
    if (works.length === 0) {
      await member.commit(offsets)
      return
    }
    const client = await this.#open()
    try {
      const producer = await client.begin()
      await producer.prepare(this.#topic)
      for (const work of works) {
        for (const record of this.#recordsOf(work)) {
          await appendWhenRoom(producer, this.#topic, record)
        }
      }
      await client.sendOffsets({
        groupId: this.#options.job,
        generationId: member.generation,
        memberId: member.memberId,
        groupInstanceId: this.#options.instanceId ?? null,
        offsets,
      })
      await client.commit()
    } catch (error) {
      throw await this.#abort(client, error)
    }
    this.#committed(works)
  }

  /** @returns what has happened, in the caller's terms */
  async #abort(client: TransactionClient, error: unknown): Promise<unknown> {
    // Of an id that nobody else can have: the broker has given the transaction up, for it took too long.
    const isOutOfTime = isStreamError(error, 'FENCED') && this.#options.instanceId === undefined
    if (isOutOfTime || isStreamError(error, 'TIMED_OUT')) {
      this.#isInDoubt = true
      this.#client = undefined
      return isOutOfTime ? new StreamError('TIMED_OUT', error.message, { cause: error }) : error
    }
    // What cannot be aborted now is aborted by the next owner of the id, or by its timeout.
    await client.abort().catch(() => {
      this.#client = undefined
    })
    return error
  }

  #committed(works: readonly Work[]): void {
    for (const work of works) {
      work.part.dead.delete(work)
      this.#options.onLetters(work)
    }
  }

  /** What the group has stored says whether the transaction in doubt was committed. */
  async #settle(member: GroupMemberClient): Promise<void> {
    await this.#open()
    const parts = [...this.#queue.parts.values()].filter(({ dead }) => dead.size > 0)
    for (const { topic, partition, offset } of await member.fetchOffsets(parts)) {
      this.#committed(this.#queue.part(topic, partition)?.deadBelow(offset) ?? [])
    }
    this.#isInDoubt = false
  }

  async #open(): Promise<TransactionClient> {
    if (this.#client !== undefined) return this.#client
    const recordBytesMax = await prepareDeadTopic(
      this.#deps,
      this.#broker,
      this.#topic,
      this.#options.sources(),
    )
    const client = await this.#makeClient({ recordBytesMax })
    await client.init()
    this.#client = client
    return client
  }

  async #makeClient(options: ProducerOptions): Promise<TransactionClient> {
    // A Kafka door answers in order: what is produced would wait behind the fetches of the records.
    if (this.#broker.scheme === 'kafka') this.#ownCluster ??= await this.#broker.openAnother()
    const transaction = { transactionalId: this.#id, timeoutMs: TRANSACTION_TIMEOUT_MS }
    const cluster = this.#ownCluster ?? this.#broker.cluster
    return this.#deps.clients.transactionalProducer(cluster, transaction, options)
  }

  #recordsOf(work: Work): RecordInput[] {
    const { failure, part } = work
    const records: RecordInput[] = []
    if (failure === undefined) return records
    const nowMs = this.#deps.time.wallMs()
    this.#queue.walk(work, (cursor) => records.push(deadRecord(cursor, part, failure, nowMs)))
    return records
  }
}
