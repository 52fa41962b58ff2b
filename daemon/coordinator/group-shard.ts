/**
 * The groups of one partition of `__consumer_offsets`: read from its log when this broker begins to lead it, and written
 * to it. Memory is a cache of the log: what is shown was committed (it is below the high watermark).
 *
 * Invariants:
 * - What was appended is applied in the order of the log, each once, and only when it is committed.
 * - Nothing is appended before the whole log, up to its end when the leadership began, is read and committed.
 * - A shard belongs to one leader epoch; with that it ends, and everything that waits is told (KAFKA-20634).
 */

import { isStreamError, type StreamError } from '../../src/base/errors.ts'
import type { Log } from '../../src/ports/log.ts'
import type { Time, Timer } from '../../src/ports/time.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import { BatchBuilder } from '../../src/record/batch-builder.ts'
import type { NotServing, Partition } from '../replica/partition.ts'
import { decodeRecord, type EncodedRecord, type GroupRecord } from './group-records.ts'
import { PendingOffsets } from './pending-offsets.ts'
import { rangeOf, readShardLog, type TransactionOwner, whenCommitted } from './shard-log.ts'

const BATCH_BYTES = 256 * 1024
/** One group's metadata, with the subscriptions and assignments of all members. */
const RECORD_BYTES_MAX = 64 * 1024 * 1024

export interface ShardPorts {
  readonly time: Time
  readonly log: Log
  readonly commitTimeoutMs: () => number
  /** Why nothing can be written now; undefined: it can. */
  readonly refusesWrites: () => StreamError | undefined
}

/** Told of the log as it is loaded, in its order. */
export interface ShardReader {
  /**
   * @param position  where the log stands behind the record
   * @param owner  whose transaction it belongs to: it counts from its marker on
   */
  readonly onRecord: (
    record: GroupRecord,
    position: number,
    owner: TransactionOwner | undefined,
  ) => void
  readonly onMarker: (producerId: number, isCommit: boolean) => void
}

/** Called once: 0 when it is durable, else an error code; the outcome may then be either. */
export type Stored = (errorCode: number) => void

export class GroupShard {
  readonly index: number
  readonly partition: Partition
  readonly leaderEpoch: number
  readonly pending = new PendingOffsets()
  readonly #ports: ShardPorts
  readonly #reader: ShardReader
  readonly #builder = new BatchBuilder(BATCH_BYTES, { bytesMax: RECORD_BYTES_MAX })
  /** Markers that were written while the log was being read. */
  readonly #early: { readonly producerId: number; readonly isCommit: boolean }[] = []
  #state: 'loading' | 'ready' | 'closed' = 'loading'

  constructor(index: number, partition: Partition, ports: ShardPorts, reader: ShardReader) {
    this.index = index
    this.partition = partition
    this.leaderEpoch = partition.leaderEpoch
    this.#ports = ports
    this.#reader = reader
  }

  get isReady(): boolean {
    return this.#state === 'ready'
  }

  /** Whether the partition is still led, in the epoch that this shard was made for. */
  get isCurrent(): boolean {
    const { partition } = this
    return partition.notServing === undefined && partition.leaderEpoch === this.leaderEpoch
  }

  close(): void {
    this.#state = 'closed'
  }

  /**
   * Reads the whole log. Resolves when the groups may be served; at once when the shard is closed meanwhile.
   * @throws StreamError what the log throws
   */
  async load(): Promise<void> {
    const { partition } = this
    const endOffset = partition.log.logEndOffset
    const open = this.#openTransactions()
    if (!(await whenCommitted(partition, endOffset))) return
    await readShardLog(partition, {
      endOffset,
      log: this.#ports.log,
      what: 'committed offsets and groups',
      isWanted: () => this.#state === 'loading',
      onRecord: (key, value, offset, owner) =>
        this.#reader.onRecord(decodeRecord(key, value), offset + 1, owner),
      onMarker: this.#reader.onMarker,
    })
    if (this.#state !== 'loading') return
    this.#dropOthers(open)
    this.#state = 'ready'
    for (const { producerId, isCommit } of this.#early) this.#reader.onMarker(producerId, isCommit)
  }

  /** A marker that is committed in this partition, after everything that was appended before it was applied. */
  takeMarker(producerId: number, isCommit: boolean): void {
    if (this.#state === 'ready') this.#reader.onMarker(producerId, isCommit)
    // The reading of the log may or may not come upon it; the second time it finds nothing.
    else if (this.#state === 'loading') this.#early.push({ producerId, isCommit })
  }

  #openTransactions(): ReadonlySet<number> {
    const open = new Set<number>()
    for (const producer of this.partition.log.activeProducers()) {
      if (producer.currentTransactionFirstOffset >= 0) open.add(producer.producerId)
    }
    return open
  }

  /** Transactions that the log holds for ended: their markers were lost to damage, and nobody knows what they said. */
  #dropOthers(open: ReadonlySet<number>): void {
    for (const producerId of this.pending.producerIds) {
      if (open.has(producerId)) continue
      const offsets = this.pending.end(producerId)
      this.#ports.log.error('offsets of a transaction without an end are left out', {
        partition: this.index,
        producerId,
        offsets: offsets.length,
      })
    }
  }

  /** Why nothing can be appended now, as an error code; 0: it can. */
  get refusal(): number {
    if (this.#state !== 'ready' || !this.isCurrent) return KafkaError.NOT_COORDINATOR
    const isShut = this.#ports.refusesWrites() !== undefined || this.partition.isUnderMinInSync
    return isShut ? KafkaError.COORDINATOR_NOT_AVAILABLE : 0
  }

  /**
   * Writes records; when they are committed `apply` is called, then `stored`.
   * @param apply  called even where the wait was over before, with where the log stands behind the records
   * @param owner  whose transaction they belong to
   * @returns where the log stands behind the records; undefined: it was refused, or not all of it is in the log
   */
  append(
    records: readonly EncodedRecord[],
    apply: (position: number) => void,
    stored: Stored,
    owner?: TransactionOwner,
  ): number | undefined {
    const { refusal } = this
    if (refusal !== 0) {
      stored(refusal)
      return undefined
    }
    let endOffset: number
    try {
      endOffset = this.#write(records, owner)
    } catch (error) {
      if (!isStreamError(error)) throw error
      this.#ports.log.warn('a group could not be written', { error: error.message })
      stored(codeOfWriteError(error))
      return undefined
    }
    new PendingWrite(this, endOffset, apply, stored).wait(this.#ports)
    return endOffset
  }

  /** As append, of nothing more: when all below an offset is committed. */
  whenCommitted(endOffset: number, stored: Stored): void {
    new PendingWrite(this, endOffset, () => undefined, stored).wait(this.#ports)
  }

  #write(records: readonly EncodedRecord[], owner: TransactionOwner | undefined): number {
    const builder = this.#builder
    const finish = owner === undefined ? {} : { ...owner, isTransactional: true }
    const timestampMs = this.#ports.time.wallMs()
    let endOffset = this.partition.log.logEndOffset
    const flush = (): void => {
      if (builder.isEmpty) return
      // The log keeps what it is given.
      endOffset = this.partition.append(Uint8Array.from(builder.finish(finish))).nextOffset
      builder.reset({ timestampMs })
    }
    builder.reset({ timestampMs })
    for (const { key, value } of records) {
      const record = { key: rangeOf(key), value: value === null ? null : rangeOf(value) }
      if (builder.append(record)) continue
      flush()
      builder.append(record)
    }
    flush()
    return endOffset
  }

  get isClosed(): boolean {
    return this.#state === 'closed'
  }
}

/** Waits for the commit of one append. */
class PendingWrite {
  readonly endOffset: number
  readonly #shard: GroupShard
  readonly #apply: (position: number) => void
  #stored: Stored | undefined
  #timer: Timer | undefined

  constructor(
    shard: GroupShard,
    endOffset: number,
    apply: (position: number) => void,
    stored: Stored,
  ) {
    this.#shard = shard
    this.endOffset = endOffset
    this.#apply = apply
    this.#stored = stored
  }

  wait({ time, commitTimeoutMs }: ShardPorts): void {
    this.#shard.partition.whenCommitted(this)
    if (this.#stored === undefined) return
    this.#timer = time.setTimer(commitTimeoutMs(), () =>
      this.#settle(KafkaError.COORDINATOR_NOT_AVAILABLE),
    )
  }

  onCommitted(): void {
    if (!this.#shard.isClosed) this.#apply(this.endOffset)
    this.#settle(this.#shard.isClosed ? KafkaError.NOT_COORDINATOR : 0)
  }

  onLost(_why: NotServing): void {
    this.#settle(KafkaError.NOT_COORDINATOR)
  }

  #settle(errorCode: number): void {
    const stored = this.#stored
    this.#stored = undefined
    this.#timer?.cancel()
    stored?.(errorCode)
  }
}

function codeOfWriteError(error: StreamError): number {
  switch (error.code) {
    case 'RECORD_TOO_LARGE':
    case 'MALFORMED_MESSAGE':
      return KafkaError.UNKNOWN_SERVER_ERROR
    case 'DISK_FULL':
      return KafkaError.COORDINATOR_NOT_AVAILABLE
    default:
      return KafkaError.NOT_COORDINATOR
  }
}
