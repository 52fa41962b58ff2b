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
import { rangeOf, readShardLog, whenCommitted } from './shard-log.ts'

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

/** Called once: 0 when it is durable, else an error code; the outcome may then be either. */
export type Stored = (errorCode: number) => void

export class GroupShard {
  readonly index: number
  readonly partition: Partition
  readonly leaderEpoch: number
  readonly #ports: ShardPorts
  readonly #onRecord: (record: GroupRecord) => void
  readonly #builder = new BatchBuilder(BATCH_BYTES, { bytesMax: RECORD_BYTES_MAX })
  #state: 'loading' | 'ready' | 'closed' = 'loading'

  /** @param onRecord  called for each committed record, in order */
  constructor(
    index: number,
    partition: Partition,
    ports: ShardPorts,
    onRecord: (record: GroupRecord) => void,
  ) {
    this.index = index
    this.partition = partition
    this.leaderEpoch = partition.leaderEpoch
    this.#ports = ports
    this.#onRecord = onRecord
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
    if (!(await whenCommitted(partition, endOffset))) return
    await readShardLog(partition, {
      endOffset,
      log: this.#ports.log,
      what: 'committed offsets and groups',
      isWanted: () => this.#state === 'loading',
      onRecord: (key, value) => this.#onRecord(decodeRecord(key, value)),
    })
    if (this.#state === 'loading') this.#state = 'ready'
  }

  /** Why nothing can be appended now, as an error code; 0: it can. */
  get refusal(): number {
    if (this.#state !== 'ready' || !this.isCurrent) return KafkaError.NOT_COORDINATOR
    const isShut = this.#ports.refusesWrites() !== undefined || this.partition.isUnderMinInSync
    return isShut ? KafkaError.COORDINATOR_NOT_AVAILABLE : 0
  }

  /**
   * Writes records; when they are committed `apply` is called, then `stored`.
   * @param apply  called even where the wait was over before
   * @returns the end of what was written; undefined: it was refused, or not all of it is in the log
   */
  append(records: readonly EncodedRecord[], apply: () => void, stored: Stored): number | undefined {
    const { refusal } = this
    if (refusal !== 0) {
      stored(refusal)
      return undefined
    }
    let endOffset: number
    try {
      endOffset = this.#write(records)
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

  #write(records: readonly EncodedRecord[]): number {
    const builder = this.#builder
    const timestampMs = this.#ports.time.wallMs()
    let endOffset = this.partition.log.logEndOffset
    const flush = (): void => {
      if (builder.isEmpty) return
      // The log keeps what it is given.
      endOffset = this.partition.append(Uint8Array.from(builder.finish())).nextOffset
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
  readonly #apply: () => void
  #stored: Stored | undefined
  #timer: Timer | undefined

  constructor(shard: GroupShard, endOffset: number, apply: () => void, stored: Stored) {
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
    if (!this.#shard.isClosed) this.#apply()
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
