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

import { isStreamError, StreamError } from '../../src/base/errors.ts'
import type { Log } from '../../src/ports/log.ts'
import type { Time } from '../../src/ports/time.ts'
import { BatchBuilder } from '../../src/record/batch-builder.ts'
import { attributesAt, batchBytesAt, isControl } from '../../src/record/batch-layout.ts'
import { RecordCursor } from '../../src/record/record-cursor.ts'
import type { Partition } from '../replica/partition.ts'
import type { TransactionValue } from './transaction-machine.ts'
import { decodeKey, decodeValue, encodeKey, encodeValue } from './transaction-records.ts'

const READ_BYTES = 1024 * 1024
const BATCH_BYTES = 16 * 1024
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
    const { log } = this.partition
    const endOffset = log.logEndOffset
    if (!(await this.committed(endOffset))) return
    const cursor = new RecordCursor()
    let offset = log.logStartOffset
    while (offset < endOffset && this.#state === 'loading') {
      offset = await this.#loadSome(cursor, offset, endOffset)
    }
    if (this.#state === 'loading') this.#state = 'ready'
  }

  /** @returns where to go on */
  async #loadSome(cursor: RecordCursor, offset: number, endOffset: number): Promise<number> {
    const { log } = this.partition
    let slice: Awaited<ReturnType<typeof log.read>>
    try {
      slice = await log.read({ offset, maxBytes: READ_BYTES, endOffset })
    } catch (error) {
      const next = this.#afterDamage(error, offset)
      if (next === undefined) throw error
      return next
    }
    for (const bytes of slice.bytes) {
      for (let at = 0; at < bytes.length; at += batchBytesAt(bytes, at)) {
        if (!isControl(attributesAt(bytes, at))) this.#loadBatch(cursor, bytes, at)
      }
    }
    return slice.nextOffset > offset ? slice.nextOffset : endOffset
  }

  /** Where the log goes on behind damage: the ids beside it are still wanted. */
  #afterDamage(error: unknown, offset: number): number | undefined {
    if (!isStreamError(error, 'DATA_DAMAGED')) return undefined
    const range = this.partition.log.damage.find(
      ({ startOffset, endOffset }) => startOffset <= offset && offset < endOffset,
    )
    if (range === undefined || !Number.isFinite(range.endOffset)) return undefined
    this.#ports.log.error('the state of transactions is damaged and left out', {
      partition: this.index,
      from: offset,
      to: range.endOffset,
    })
    return range.endOffset
  }

  #loadBatch(cursor: RecordCursor, bytes: Uint8Array, at: number): void {
    cursor.reset(bytes, at)
    while (cursor.next()) {
      const { keyStart, keyEnd, valueStart, valueEnd, offset } = cursor
      if (keyStart < 0) continue
      try {
        const id = decodeKey(cursor.bytes.subarray(keyStart, keyEnd))
        if (id === undefined) continue
        if (valueStart < 0) this.#entries.delete(id)
        else {
          const value = decodeValue(id, cursor.bytes.subarray(valueStart, valueEnd))
          this.#entries.set(id, { value, endOffset: offset + 1 })
        }
      } catch (error) {
        if (!isStreamError(error)) throw error
        this.#ports.log.error('a record of the transaction topic cannot be read and is left out', {
          partition: this.index,
          offset,
          error: error.message,
        })
      }
    }
  }

  /** Resolves when the high watermark has reached `endOffset`. @returns false when it never will here */
  committed(endOffset: number): Promise<boolean> {
    return new Promise((resolve) => {
      this.partition.whenCommitted({
        endOffset,
        onCommitted: () => resolve(this.#state !== 'closed'),
        onLost: () => resolve(false),
      })
    })
  }

  /** Whether the high watermark has reached `endOffset`. */
  isCommitted(endOffset: number): boolean {
    return this.partition.highWatermark >= endOffset
  }

  /**
   * Appends the id's new state and applies it.
   * @returns what the high watermark must reach for it to be committed
   * @throws StreamError DISK_FULL, DISK_FAILED, NOT_LEADER …: nothing was appended, nothing changed
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

function rangeOf(bytes: Uint8Array) {
  return { bytes, start: 0, end: bytes.length }
}
