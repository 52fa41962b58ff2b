/**
 * What finished epochs come to: their outputs, dead letters and carries, and the positions behind them, in one transaction
 * for all that have finished by then. While one is under way the next ones gather.
 *
 * Invariants:
 * - Epochs of a partition are committed in their order: a transaction holds a prefix of what is waiting.
 * - A position is committed only with everything that was made of the records before it, in the name of the member and the
 *   generation that has the partition.
 * - Whatever a failure leaves unknown is settled before anything else is sent: by the next `init` of the transactional
 *   id, and then by the positions of the group, which moved with the transaction or not at all.
 */

import { isStreamError, StreamError } from '../src/base/errors.ts'
import type { GroupOffset } from '../src/client/group-offsets.ts'
import type { ProducerOptions } from '../src/client/producer.ts'
import { sleep, type Timer } from '../src/ports/time.ts'
import { KafkaError } from '../src/protocol/errors.ts'
import type { Broker } from './broker.ts'
import type { ProducerClient, TransactionClient } from './clients.ts'
import type { CommandDeps } from './deps.ts'
import type { DeadFailure } from './dlq-records.ts'
import type { Epoch, EpochLimits } from './pipe-epochs.ts'
import { PieceCursor } from './pipe-pieces.ts'
import { isOfMembership, mayPass, type PipeShare } from './pipe-share.ts'
import type { PipeState } from './pipe-state.ts'

/** A transaction is short; one that is left behind keeps readers waiting for so long. */
const TRANSACTION_TIMEOUT_MS = 60_000
const RETRY_FIRST_MS = 50
const RETRY_MAX_MS = 2000
/** Failures in a row that nobody knows to pass. */
const STRANGE_FAILURES_MAX = 5

export interface FinishedEpoch {
  /** Undefined: output that belongs to no epoch. */
  readonly epoch: Epoch | undefined
  /** Appends what the child made of it; may be called again for another transaction. */
  readonly append?: (producer: ProducerClient) => Promise<void>
  /** All of its records go to the dead letters. */
  readonly dead?: DeadFailure
  readonly carry?: Uint8Array | undefined
  /** It is resolved. */
  readonly drop?: () => void
  /** Committed only together with all others of the same group. */
  readonly group?: object
}

export interface TransactionPlan {
  readonly transactionalId: string
  readonly producerOptions: ProducerOptions
  /** Undefined: there is no output topic, or its names come with the records. */
  readonly outTopic: string | undefined
  readonly dlqTopic: string | undefined
  /** Finished epochs wait for others until they are so many, or so old; undefined: never. */
  readonly hold: EpochLimits | undefined
  /** Leader epoch of the record before an offset; −1: not known. */
  readonly epochBefore: (topic: string, partition: number, offset: number) => number
  /** Of the topic that is read under this name; empty: not known. */
  readonly topicId: (topic: string) => string
  readonly onCommitted: (epochs: readonly FinishedEpoch[]) => void
  /** They lost the others of their group, and are not committed. */
  readonly onSplit: (epochs: readonly FinishedEpoch[]) => void
  readonly onFailed: (error: unknown) => void
}

export class PipeTransactions {
  readonly #deps: CommandDeps
  readonly #broker: Broker
  readonly #share: PipeShare
  readonly #state: PipeState | undefined
  readonly #plan: TransactionPlan
  #waiting: FinishedEpoch[] = []
  #lost = new WeakSet<FinishedEpoch>()
  #client: TransactionClient | undefined
  #running: Promise<void> | undefined
  #timer: Timer | undefined
  #isHurried = false
  #isClosed = false
  #isFailed = false
  /** The decision to commit may have been taken. */
  #isEnding = false

  constructor(
    deps: CommandDeps,
    broker: Broker,
    share: PipeShare,
    state: PipeState | undefined,
    plan: TransactionPlan,
  ) {
    this.#deps = deps
    this.#broker = broker
    this.#share = share
    this.#state = state
    this.#plan = plan
  }

  /** Fences an earlier run of the slot, and settles what it left open. @throws StreamError as TransactionalProducer.init */
  async open(): Promise<void> {
    const transaction = {
      transactionalId: this.#plan.transactionalId,
      timeoutMs: TRANSACTION_TIMEOUT_MS,
    }
    const { cluster } = this.#broker
    const options = this.#plan.producerOptions
    const client = await this.#deps.clients.transactionalProducer(cluster, transaction, options)
    await client.init()
    this.#client = client
  }

  get isIdle(): boolean {
    return this.#running === undefined && this.#waiting.length === 0
  }

  add(...finished: readonly FinishedEpoch[]): void {
    this.#waiting.push(...finished)
    this.#pump()
  }

  /** What waits for others goes now, and so does all that comes. */
  hurry(): void {
    this.#isHurried = true
    this.#pump()
  }

  /** Others may wait again. */
  relax(): void {
    this.#isHurried = false
  }

  /** The partition is another's: what waits of it is not sent. */
  lose(topic: string, partition: number): void {
    for (const finished of this.#waiting) {
      const { epoch } = finished
      if (epoch?.topic === topic && epoch.partition === partition) this.#lost.add(finished)
    }
    this.#dropLost()
  }

  /** Everything that was added is committed, or the run has failed. */
  async settled(): Promise<void> {
    while (this.#running !== undefined) await this.#running
  }

  async close(): Promise<void> {
    this.#isClosed = true
    this.#timer?.cancel()
    await this.settled()
    for (const { drop } of this.#waiting) drop?.()
  }

  #dropLost(): void {
    const lost = this.#waiting.filter((each) => this.#lost.has(each))
    if (lost.length === 0) return
    const groups = new Set(lost.map(({ group }) => group).filter((group) => group !== undefined))
    const companions = this.#waiting.filter(
      (each) => !this.#lost.has(each) && each.group !== undefined && groups.has(each.group),
    )
    const gone = new Set([...lost, ...companions])
    for (const { drop } of gone) drop?.()
    this.#waiting = this.#waiting.filter((each) => !gone.has(each))
    if (companions.length > 0) this.#plan.onSplit(companions)
  }

  #pump(): void {
    if (this.#running !== undefined || this.#waiting.length === 0) return
    if (this.#isClosed || this.#isFailed || !this.#isDue()) return
    this.#timer?.cancel()
    this.#timer = undefined
    this.#running = this.#run()
  }

  #isDue(): boolean {
    const { hold } = this.#plan
    if (hold === undefined || this.#isHurried) return true
    let records = 0
    let bytes = 0
    for (const { epoch } of this.#waiting) {
      records += epoch?.records ?? 0
      bytes += epoch?.sizeBytes ?? 0
    }
    if (records >= hold.records || bytes >= hold.bytes) return true
    this.#timer ??= this.#deps.time.setTimer(hold.ms, () => {
      this.#timer = undefined
      if (this.#running !== undefined || this.#waiting.length === 0) return
      if (!this.#isClosed && !this.#isFailed) this.#running = this.#run()
    })
    return false
  }

  async #run(): Promise<void> {
    try {
      await this.#commitSoon()
    } catch (error) {
      this.#isFailed = true
      this.#plan.onFailed(error)
    }
    this.#running = undefined
    this.#pump()
  }

  /** All that waits now, however many attempts it takes. */
  async #commitSoon(): Promise<void> {
    const count = this.#waiting.length
    const last = this.#waiting[count - 1]
    let strange = 0
    for (let pauseMs = RETRY_FIRST_MS; !this.#isClosed; ) {
      this.#dropLost()
      const batch =
        last === undefined ? [] : this.#waiting.slice(0, this.#waiting.indexOf(last) + 1)
      if (batch.length === 0) return
      this.#isEnding = false
      try {
        await this.#commit(batch)
        this.#resolve(batch)
        return
      } catch (error) {
        if (isOfMembership(error)) await this.#abort()
        else {
          const isKnown = mayPass(error) || isStreamError(error, 'NOT_DELIVERED')
          if (!isStreamError(error) || isFinal(error)) throw error
          if (!isKnown) strange += 1
          if (strange >= STRANGE_FAILURES_MAX) throw error
          this.#deps.console.warn(`${error.message}; trying again`)
          await this.#recover(batch)
        }
      }
      const pause = sleep(this.#deps.time, pauseMs)
      await Promise.race([pause, this.#share.changed()])
      await sleep(this.#deps.time, 1)
      pauseMs = Math.min(pauseMs * 2, RETRY_MAX_MS)
    }
  }

  async #commit(batch: readonly FinishedEpoch[]): Promise<void> {
    const offsets = offsetsOf(batch, this.#plan)
    const needsTransaction = batch.some(
      ({ append, dead, carry }) =>
        append !== undefined || dead !== undefined || carry !== undefined,
    )
    if (!needsTransaction) {
      if (this.#share.hasGroup) await this.#share.commit(offsets)
      return
    }
    if (this.#client === undefined) await this.open()
    const client = this.#client as TransactionClient
    const producer = await client.begin()
    await this.#append(producer, batch)
    producer.flushSoon()
    if (this.#share.hasGroup && offsets.length > 0) {
      const identity = this.#share.offsetsOf(offsets)
      if (identity === undefined) throw notAMember()
      await client.sendOffsets(identity)
    }
    await producer.flush()
    this.#isEnding = true
    await client.commit()
  }

  async #append(producer: ProducerClient, batch: readonly FinishedEpoch[]): Promise<void> {
    const { outTopic, dlqTopic } = this.#plan
    if (outTopic !== undefined && batch.some(({ append }) => append !== undefined)) {
      await producer.prepare(outTopic)
    }
    if (dlqTopic !== undefined && batch.some(({ dead }) => dead !== undefined)) {
      await producer.prepare(dlqTopic)
    }
    if (batch.some(({ carry }) => carry !== undefined)) await this.#state?.prepare(producer)
    for (const { epoch, append, dead, carry } of batch) {
      await append?.(producer)
      if (epoch === undefined) continue
      if (dead !== undefined && dlqTopic !== undefined) {
        await this.#appendDead(producer, dlqTopic, epoch, dead)
      }
      if (carry !== undefined) {
        await this.#state?.append(producer, epoch, carry, this.#plan.topicId(epoch.topic))
      }
    }
  }

  async #appendDead(
    producer: ProducerClient,
    topic: string,
    epoch: Epoch,
    failure: DeadFailure,
  ): Promise<void> {
    const { appendWhenRoom, deadRecord } = await import('./dlq-records.ts')
    const cursor = new PieceCursor()
    cursor.reset(epoch.pieces)
    while (cursor.next()) {
      const record = deadRecord(cursor.record, epoch, failure, this.#deps.time.wallMs())
      await appendWhenRoom(producer, topic, record)
    }
  }

  #resolve(batch: readonly FinishedEpoch[]): void {
    const done = new Set(batch)
    this.#waiting = this.#waiting.filter((each) => !done.has(each))
    for (const { drop } of batch) drop?.()
    this.#plan.onCommitted(batch)
  }

  async #abort(): Promise<void> {
    try {
      await this.#client?.abort()
    } catch (error) {
      if (!isStreamError(error) || isFinal(error)) throw error
      this.#client = undefined
    }
  }

  /** After a failure of which nobody knows what it left: afterwards each epoch is committed or is still to be sent. */
  async #recover(batch: readonly FinishedEpoch[]): Promise<void> {
    const wasEnding = this.#isEnding
    if (!wasEnding) await this.#abort()
    else this.#client = undefined
    if (this.#client !== undefined) return
    for (let pauseMs = RETRY_FIRST_MS; ; pauseMs = Math.min(pauseMs * 2, RETRY_MAX_MS)) {
      try {
        await this.open()
        break
      } catch (error) {
        if (!mayPass(error) || this.#isClosed) throw error
      }
      await sleep(this.#deps.time, pauseMs)
    }
    if (!wasEnding) return
    if (!this.#share.hasGroup) {
      throw new StreamError('TIMED_OUT', 'the outcome of the last transaction is unknown', {
        hint: 'with -j JOB it would be known, and the run would go on',
      })
    }
    const offsets = offsetsOf(batch, this.#plan)
    const committed = await this.#share.committed(offsets)
    const isDone = offsets.every(
      ({ topic, partition, offset }) => (committed.get(`${topic}/${partition}`) ?? -1) >= offset,
    )
    if (isDone) this.#resolve(batch)
  }
}

/** No later attempt can end otherwise. */
function isFinal(error: StreamError): boolean {
  switch (error.code) {
    case 'FENCED':
    case 'NOT_ALLOWED':
    case 'CONFIG_INVALID':
    case 'UNSUPPORTED_BY_BROKER':
    case 'UNSUPPORTED_COMPRESSION':
    case 'RECORD_TOO_LARGE':
    case 'RECORD_INVALID':
    case 'TOPIC_UNKNOWN':
    case 'TOPIC_NAME_INVALID':
    case 'OUTPUT_FAILED':
    case 'CLOSED':
      return true
    // Of a topic that is another one now; else the broker has said it.
    case 'CONFLICT':
      return error.kafkaError === undefined
    default:
      return false
  }
}

/** As the coordinator would say it. */
function notAMember(): StreamError {
  return new StreamError('CONFLICT', 'no member of the group at present', {
    kafkaError: KafkaError.UNKNOWN_MEMBER_ID,
  })
}

function offsetsOf(
  batch: readonly FinishedEpoch[],
  { epochBefore, topicId }: Pick<TransactionPlan, 'epochBefore' | 'topicId'>,
): readonly GroupOffset[] {
  const offsets = new Map<string, GroupOffset>()
  for (const { epoch } of batch) {
    if (epoch === undefined) continue
    const { topic, partition, endOffset: offset } = epoch
    const leaderEpoch = epochBefore(topic, partition, offset)
    const row = { topic, topicId: topicId(topic), partition, offset, leaderEpoch }
    offsets.set(`${topic}/${partition}`, row)
  }
  return [...offsets.values()]
}
