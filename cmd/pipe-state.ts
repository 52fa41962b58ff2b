/**
 * What a job of `pipe` keeps beside its positions, in `__stream_state`: the carry of each slot, written in the transaction
 * of the epoch that left it, and with --fixed the range of the epoch that was begun, durable before its child starts.
 *
 *     ["pipe",JOB,"carry",TOPIC,PARTITION]   bytes; ["pipe",JOB,"carry"] with --carry-by job
 *     ["pipe",JOB,"carry-of",TOPIC,PARTITION]  {"v":1,"topicId":…}: of which topic the carry is, where it is of a partition
 *     ["pipe",JOB,"epoch",TOPIC,PARTITION]   {"v":1,"topicId":…,"first":…,"end":…}
 */

import { knownTopicId } from '../src/client/topic-identity.ts'
import type { Broker } from './broker.ts'
import type { ProducerClient } from './clients.ts'
import type { CommandDeps } from './deps.ts'
import type { Epoch } from './pipe-epochs.ts'
import type { PipePlan } from './pipe-plan.ts'
import {
  appendStateBytes,
  prepareState,
  readState,
  readStateBytes,
  type StateKey,
} from './stream-state.ts'

export interface KnownPartition {
  readonly topic: string
  /** Empty: not known. */
  readonly topicId: string
  readonly partition: number
}

export class PipeState {
  readonly #deps: CommandDeps
  readonly #broker: Broker
  readonly #plan: PipePlan
  readonly #job: string
  /** The last carry of each slot: committed, or of an epoch that is committed before the next one of the slot. */
  readonly #carries = new Map<string, Uint8Array>()
  /** The job's one slot is read once, and again only after something of it was lost. */
  #isJobLoaded = false
  /** For what must be durable before a child starts. */
  #producer: ProducerClient | undefined

  constructor(deps: CommandDeps, broker: Broker, plan: PipePlan, job: string) {
    this.#deps = deps
    this.#broker = broker
    this.#plan = plan
    this.#job = job
  }

  get hasCarry(): boolean {
    return this.#plan.carry !== undefined
  }

  /** Where the epoch that was begun at `offset` must end. @throws StreamError of the broker */
  async fixedEnd(
    { topic, topicId, partition }: KnownPartition,
    offset: number,
  ): Promise<number | undefined> {
    if (!this.#plan.isFixed) return undefined
    const key = this.#epochKey(topic, partition)
    const found = (await readState(this.#deps, this.#broker, key)).get(JSON.stringify(key))
    const range = (found ?? {}) as { topicId?: unknown; first?: unknown; end?: unknown }
    const { first, end } = range
    // Of a topic that had the name before: the numbers are of another log.
    if (range.topicId !== undefined && topicId !== '' && range.topicId !== topicId) return undefined
    return first === offset && typeof end === 'number' && end > offset ? end : undefined
  }

  /** Reads the slot of a partition that was just taken. @throws StreamError of the broker */
  async load({ topic, topicId, partition }: KnownPartition): Promise<void> {
    if (!this.hasCarry) return
    const isOfJob = this.#plan.carry?.by === 'job'
    if (isOfJob && this.#isJobLoaded) return
    this.#isJobLoaded = isOfJob
    const name = JSON.stringify(this.#carryKey(topic, partition))
    const found = await readStateBytes(this.#deps, this.#broker, this.#carryKey(topic, partition))
    const carry = found.get(name)
    if (carry !== undefined && !isOfJob && (await this.#isOfOther(topic, topicId, partition))) {
      this.#carries.delete(name)
      this.#deps.console.warn(
        `${topic}: was deleted and created anew since; partition ${partition} begins without the carry of the former one`,
      )
    } else if (carry === undefined) this.#carries.delete(name)
    else this.#carries.set(name, carry)
  }

  async #isOfOther(topic: string, topicId: string, partition: number): Promise<boolean> {
    const key = this.#carryOfKey(topic, partition)
    const found = (await readState(this.#deps, this.#broker, key)).get(JSON.stringify(key))
    const { topicId: id } = (found ?? {}) as { topicId?: unknown }
    const before = typeof id === 'string' ? knownTopicId(id) : undefined
    const now = knownTopicId(topicId)
    return before !== undefined && now !== undefined && before !== now
  }

  /** Work of which the carry is known here was dropped: what is committed counts again. */
  forget(): void {
    this.#isJobLoaded = false
  }

  carryOf({ topic, partition }: Epoch): Uint8Array | undefined {
    return this.#carries.get(JSON.stringify(this.#carryKey(topic, partition)))
  }

  /** What the next epoch of the slot finds. */
  setCarry({ topic, partition }: Epoch, carry: Uint8Array): void {
    this.#carries.set(JSON.stringify(this.#carryKey(topic, partition)), carry)
  }

  /** The range of the epoch is durable when it resolves. @throws StreamError NOT_DELIVERED … */
  async recordBegun(epoch: Epoch, topicId: string): Promise<void> {
    if (!this.#plan.isFixed) return
    const producer = await this.#openProducer()
    const key = this.#epochKey(epoch.topic, epoch.partition)
    const { startOffset: first, endOffset: end } = epoch
    const value = Buffer.from(
      JSON.stringify({ v: 1, ...(topicId === '' ? {} : { topicId }), first, end }),
    )
    await this.#append(producer, key, value)
    await producer.flush()
  }

  /** Into the transaction of an epoch. @throws as append */
  async append(
    producer: ProducerClient,
    { topic, partition }: Epoch,
    carry: Uint8Array,
    topicId: string,
  ): Promise<void> {
    await this.#append(producer, this.#carryKey(topic, partition), carry)
    const id = knownTopicId(topicId)
    if (id === undefined || this.#plan.carry?.by === 'job') return
    const key = this.#carryOfKey(topic, partition)
    await this.#append(producer, key, Buffer.from(JSON.stringify({ v: 1, topicId: id })))
  }

  /** Before the first append of each transaction. @throws StreamError as making the topic */
  prepare(producer: ProducerClient): Promise<void> {
    return prepareState(this.#deps, this.#broker, producer)
  }

  close(): void {
    this.#producer?.close()
  }

  async #append(producer: ProducerClient, key: StateKey, value: Uint8Array): Promise<void> {
    const nowMs = this.#deps.time.wallMs()
    while (!appendStateBytes(producer, key, key, value, nowMs)) await producer.writable()
  }

  async #openProducer(): Promise<ProducerClient> {
    if (this.#producer !== undefined) return this.#producer
    const producer = await this.#deps.clients.producer(this.#broker.cluster, {
      acks: 'all',
      lingerMs: 0,
    })
    await this.prepare(producer)
    this.#producer = producer
    return producer
  }

  #epochKey(topic: string, partition: number): StateKey {
    return ['pipe', this.#job, 'epoch', topic, partition]
  }

  #carryOfKey(topic: string, partition: number): StateKey {
    return ['pipe', this.#job, 'carry-of', topic, partition]
  }

  #carryKey(topic: string, partition: number): StateKey {
    return this.#plan.carry?.by === 'job'
      ? ['pipe', this.#job, 'carry']
      : ['pipe', this.#job, 'carry', topic, partition]
  }
}

/** What a source has told by `state`: `["pipe",JOB,"state"]`, its JSON as it was. */
export class SourceState {
  readonly #deps: CommandDeps
  readonly #broker: Broker
  readonly #key: StateKey

  constructor(deps: CommandDeps, broker: Broker, job: string) {
    this.#deps = deps
    this.#broker = broker
    this.#key = ['pipe', job, 'state']
  }

  /** @throws StreamError of the broker */
  async read(): Promise<Uint8Array | undefined> {
    const found = await readStateBytes(this.#deps, this.#broker, this.#key)
    return found.get(JSON.stringify(this.#key))
  }

  /** Into the transaction of what lies before it. @throws as append; of making the topic */
  async append(producer: ProducerClient, state: Uint8Array): Promise<void> {
    await prepareState(this.#deps, this.#broker, producer)
    const nowMs = this.#deps.time.wallMs()
    while (!appendStateBytes(producer, this.#key, this.#key, state, nowMs)) {
      await producer.writable()
    }
  }
}
