/**
 * A producer whose records go into transactions: what a command appends is delivered when `commit` resolves, and not
 * before. To the sinks it is a producer like any other; behind it each transaction has one of its own. A record that a
 * commit adds (where the input stands) is not counted: ordinals are those of the input's records.
 */

import { assert } from '../src/base/assert.ts'
import type { Delivery } from '../src/client/delivery.ts'
import type { TopicInfo } from '../src/client/metadata-cache.ts'
import type { RecordInput } from '../src/record/batch-builder.ts'
import type { ProducerClient, TransactionClient } from './clients.ts'

export class AtomicProducer implements ProducerClient {
  #transactions: TransactionClient
  readonly #topics = new Set<string>()
  #inner: ProducerClient | undefined
  /** Of earlier transactions, however they ended. */
  #before = 0
  #committed = 0
  #hasGap = false
  /** Records that are not of the input, in the transaction at hand. */
  #extra = 0

  constructor(transactions: TransactionClient) {
    this.#transactions = transactions
  }

  /** The open transaction is empty. */
  get isEmpty(): boolean {
    return this.#inner === undefined || this.#inner.appendedCount === 0
  }

  /** @throws StreamError as TransactionalProducer.begin */
  async begin(): Promise<void> {
    this.#before = this.appendedCount
    this.#extra = 0
    this.#inner = await this.#transactions.begin()
    for (const topic of this.#topics) await this.#inner.prepare(topic)
  }

  /** Nothing has been appended yet: the transactions are those of another client from now on. */
  async useInstead(transactions: TransactionClient): Promise<void> {
    assert(this.isEmpty, 'a transaction with records is ended first')
    this.#inner?.close()
    this.#transactions = transactions
    await this.begin()
  }

  /** @param appendClosing  appends the last record of the transaction; false: no room @throws StreamError: then abort() */
  async commit(appendClosing?: () => boolean): Promise<void> {
    if (appendClosing !== undefined) {
      while (!appendClosing()) await this.#open.writable()
      this.#extra += 1
    }
    await this.#transactions.commit()
    if (!this.#hasGap) this.#committed = this.appendedCount
  }

  /** @throws StreamError as TransactionalProducer.abort */
  async abort(): Promise<void> {
    if (!this.isEmpty) this.#hasGap = true
    await this.#transactions.abort()
  }

  /** Ordinals of all transactions, as the caller counts them. */
  shifted(delivery: Delivery): Delivery {
    const before = this.#before
    if (before === 0) return delivery
    return {
      ...delivery,
      firstOrdinal: delivery.firstOrdinal + before,
      lastOrdinal: delivery.lastOrdinal + before,
      ordinals: delivery.ordinals?.map((ordinal) => ordinal + before),
    }
  }

  get isFull(): boolean {
    return this.#open.isFull
  }

  get consumedBytes(): number {
    return this.#open.consumedBytes
  }

  get appendedCount(): number {
    return this.#before + (this.#inner?.appendedCount ?? 0) - this.#extra
  }

  get failure(): ProducerClient['failure'] {
    return this.#inner?.failure
  }

  /** What is committed: all before this ordinal. */
  deliveredThrough(): number {
    return this.#committed
  }

  async prepare(topic: string): Promise<TopicInfo> {
    const info = await this.#open.prepare(topic)
    this.#topics.add(topic)
    return info
  }

  partitionCount(topic: string): number {
    return this.#open.partitionCount(topic)
  }

  partitionForKey(topic: string, bytes: Uint8Array, start = 0, end = bytes.length): number {
    return this.#open.partitionForKey(topic, bytes, start, end)
  }

  appendLines(
    topic: string,
    partition: number | undefined,
    chunk: Uint8Array,
    start: number,
    end: number,
  ): number {
    return this.#open.appendLines(topic, partition, chunk, start, end)
  }

  append(topic: string, partition: number | undefined, record: RecordInput): boolean {
    return this.#open.append(topic, partition, record)
  }

  flushSoon(): void {
    this.#open.flushSoon()
  }

  writable(): Promise<void> {
    return this.#open.writable()
  }

  flush(): Promise<void> {
    return this.#open.flush()
  }

  close(): void {
    this.#inner?.close()
  }

  get #open(): ProducerClient {
    assert(this.#inner !== undefined, 'a transaction is begun before it is written to')
    return this.#inner
  }
}
