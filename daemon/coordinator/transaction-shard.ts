/**
 * The transactional ids of one partition of `__transaction_state`: read from its log when this broker begins to lead it,
 * and written to it.
 *
 * State is applied when it is appended, and acted upon when it is committed: whoever answers a client, lets a batch into
 * a partition or writes a marker waits for `committed` first. All records of an id stand in one log, so what is committed
 * covers everything before it.
 *
 * Invariants:
 * - Nothing is appended before the whole log, up to its end when the leadership began, is read and committed.
 * - A shard belongs to one leader epoch, which is the coordinator epoch of its markers; with that it ends.
 */

import { StreamError } from '../../src/base/errors.ts'
import type { Log } from '../../src/ports/log.ts'
import type { Time } from '../../src/ports/time.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import { BatchBuilder } from '../../src/record/batch-builder.ts'
import type { Partition } from '../replica/partition.ts'
import { rangeOf, readShardLog, whenCommitted } from './shard-log.ts'
import type { TransactionValue } from './transaction-machine.ts'
import { decodeKey, decodeValue, encodeKey, encodeValue } from './transaction-records.ts'

const BATCH_BYTES = 16 * 1024
/** A client is told to come again where its commit takes longer; Kafka does so too. */
const COMMIT_WAIT_MS = 5000
/** A transaction over very many partitions. */
const RECORD_BYTES_MAX = 16 * 1024 * 1024

export interface TransactionEntry {
  readonly value: TransactionValue
  /** Of its record in the log: what the high watermark must reach before anybody may rely on it. */
  readonly endOffset: number
}

export interface ShardPorts {
  readonly time: Time
  readonly log: Log
  /** Why nothing can be written now; undefined: it can. */
  readonly refusesWrites: () => StreamError | undefined
}

export class TransactionShard {
  readonly index: number
  readonly partition: Partition
  readonly coordinatorEpoch: number
  readonly #ports: ShardPorts
  readonly #entries = new Map<string, TransactionEntry>()
  readonly #builder = new BatchBuilder(BATCH_BYTES, { bytesMax: RECORD_BYTES_MAX })
  #state: 'loading' | 'ready' | 'closed' = 'loading'

  constructor(index: number, partition: Partition, ports: ShardPorts) {
    this.index = index
    this.partition = partition
    this.coordinatorEpoch = partition.leaderEpoch
    this.#ports = ports
  }

  get isReady(): boolean {
    return this.#state === 'ready' && this.isCurrent
  }

  /** Whether the partition is still led, in the epoch that this shard was made for. */
  get isCurrent(): boolean {
    const { partition } = this
    if (this.#state === 'closed') return false
    return partition.notServing === undefined && partition.leaderEpoch === this.coordinatorEpoch
  }

  close(): void {
    this.#state = 'closed'
  }

  entry(transactionalId: string): TransactionEntry | undefined {
    return this.#entries.get(transactionalId)
  }

  entries(): Iterable<TransactionEntry> {
    return this.#entries.values()
  }

  /**
   * Reads the whole log. Resolves when the ids may be served; at once when the shard is closed meanwhile.
   * @throws StreamError what the log throws
   */
  async load(): Promise<void> {
    const endOffset = this.partition.log.logEndOffset
    if (!(await this.committed(endOffset))) return
    await readShardLog(this.partition, {
      endOffset,
      log: this.#ports.log,
      what: 'the state of transactions',
      isWanted: () => this.#state === 'loading',
      onRecord: (key, value, offset) => this.#load(key, value, offset),
    })
    if (this.#state === 'loading') this.#state = 'ready'
  }

  #load(key: Uint8Array, value: Uint8Array | null, offset: number): void {
    const id = decodeKey(key)
    if (id === undefined) return
    if (value === null) this.#entries.delete(id)
    else this.#entries.set(id, { value: decodeValue(id, value), endOffset: offset + 1 })
  }

  /** Resolves when the high watermark has reached `endOffset`. @returns false when it never will here */
  async committed(endOffset: number): Promise<boolean> {
    return (await whenCommitted(this.partition, endOffset)) && this.#state !== 'closed'
  }

  /** As committed, for a client that waits for its answer: the code of that; 0: it is. */
  committedInTime(endOffset: number): Promise<number> {
    return new Promise((resolve, reject) => {
      const timer = this.#ports.time.setTimer(COMMIT_WAIT_MS, () =>
        resolve(KafkaError.COORDINATOR_NOT_AVAILABLE),
      )
      this.committed(endOffset).then((isKept) => {
        timer.cancel()
        resolve(isKept ? 0 : KafkaError.NOT_COORDINATOR)
      }, reject)
    })
  }

  /** Whether the high watermark has reached `endOffset`. */
  isCommitted(endOffset: number): boolean {
    return this.partition.highWatermark >= endOffset
  }

  /**
   * Appends the id's new state and applies it.
   * @returns what the high watermark must reach for it to be committed
   * @throws StreamError DISK_FULL, DISK_FAILED, BROKER_ERROR (too few in sync) …: nothing was appended, nothing changed
   */
  write(next: TransactionValue): number {
    const endOffset = this.#append(next.transactionalId, encodeValue(next))
    this.#entries.set(next.transactionalId, { value: next, endOffset })
    return endOffset
  }

  /** Forgets an id. @throws StreamError as write */
  remove(transactionalId: string): number {
    const endOffset = this.#append(transactionalId, null)
    this.#entries.delete(transactionalId)
    return endOffset
  }

  #append(transactionalId: string, value: Uint8Array | null): number {
    const { partition } = this
    if (!this.isReady) throw new StreamError('CLOSED', 'the transaction partition is not led here')
    const refusal = this.#ports.refusesWrites()
    if (refusal !== undefined) throw refusal
    // It could not be committed, and whoever asked would wait for that.
    if (partition.isUnderMinInSync) {
      throw new StreamError(
        'BROKER_ERROR',
        'too few replicas of the state of transactions are in sync',
      )
    }
    const builder = this.#builder
    builder.reset({ timestampMs: this.#ports.time.wallMs() })
    builder.append({
      key: rangeOf(encodeKey(transactionalId)),
      value: value === null ? null : rangeOf(value),
    })
    // The log keeps what it is given.
    return partition.append(Uint8Array.from(builder.finish())).nextOffset
  }
}
