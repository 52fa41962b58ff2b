/**
 * What a follower does to its log with what its leader answers (replication.md sections 2.5, 5.7, 13): appends batches
 * byte for byte at their own offsets, cuts where the logs diverge, takes over high watermark and log start.
 *
 * Invariants:
 * - Every answer is matched with the state of the log it was asked in (`generation`): whatever has changed the log since
 *   makes it void. So a delayed or repeated answer, above all "diverging at", takes no effect.
 * - Nothing below the high watermark known here is cut, unless a later unclean election says so (I10).
 * - Batches never fall in epoch and never exceed the leader's (I2); their checksums are right.
 */

import { StreamError } from '../../src/base/errors.ts'
import {
  baseOffsetAt,
  batchBytesAt,
  findBatchDefect,
  HEADER_BYTES,
  lastOffsetAt,
  leaderEpochAt,
} from '../../src/record/batch-layout.ts'
import type { EpochEnd } from '../log/log-types.ts'
import type { PartitionLog } from '../log/partition-log.ts'

/** One partition of the leader's answer, without its error. */
export interface LeaderAnswer {
  readonly highWatermark: number
  readonly logStartOffset: number
  readonly diverging: EpochEnd | undefined
  /** −1: it says nothing of it. */
  readonly tombstoneFloor: number
  /** Whole batches, one behind the other. */
  readonly records: Uint8Array | null
}

export interface Following {
  /** -1: nobody leads. */
  readonly leader: number
  readonly leaderEpoch: number
  /** Leader epoch of the last election that could lose data; 0: never. */
  readonly uncleanEpoch: number
}

export class FollowerLog {
  readonly following: Following
  readonly #log: PartitionLog
  #highWatermark: number
  /** High watermark as the leader has told it last, beyond this log's end where it lags. */
  #leaderEnd = 0
  #generation = 0
  #work: Promise<void> | undefined
  #isDropped = false

  readonly #onHighWatermark: (offset: number) => void

  constructor(
    log: PartitionLog,
    following: Following,
    highWatermark: number,
    onHighWatermark: (offset: number) => void,
  ) {
    this.#log = log
    this.following = following
    this.#highWatermark = highWatermark
    this.#onHighWatermark = onHighWatermark
  }

  get highWatermark(): number {
    return this.#highWatermark
  }

  get logEndOffset(): number {
    return this.#log.logEndOffset
  }

  /** What the leader has told to be committed, whether it is here or not. */
  get leaderEnd(): number {
    return this.#leaderEnd
  }

  /** Changes with everything that an answer under way was not asked for. */
  get generation(): number {
    return this.#generation
  }

  /** The log is being cut: nothing is fetched meanwhile. */
  get isBusy(): boolean {
    return this.#work !== undefined
  }

  /** Another role begins: no answer takes effect any more. Resolves when the log is at rest. */
  async drop(): Promise<void> {
    this.#isDropped = true
    this.#generation += 1
    while (this.#work !== undefined) await this.#work.catch(() => undefined)
  }

  /** Epochs that began here without a batch are nobody's: the next leader's batches may be older. */
  async prepare(): Promise<void> {
    await this.#exclusively(() => this.#log.truncateTo(this.#log.logEndOffset))
  }

  /**
   * Appends what came; synchronous where nothing has to be cut.
   * @returns whether anything changed
   * @throws StreamError CORRUPT_BATCH, DATA_DAMAGED (I10: it may not be cut), DISK_*, CLOSED
   */
  take(answer: LeaderAnswer, generation: number): boolean | Promise<boolean> {
    if (this.#isDropped || generation !== this.#generation || this.isBusy) return false
    if (answer.diverging !== undefined) return this.#cut(answer.diverging)
    const records = answer.records
    let changed = false
    if (records !== null && records.length > 0) {
      const batches = this.#split(records)
      const first = batches[0]
      if (first !== undefined && baseOffsetAt(first, 0) < this.#log.logEndOffset) {
        return this.#restartAt(baseOffsetAt(first, 0), batches, answer)
      }
      if (first !== undefined) {
        this.#generation += 1
        this.#log.appendPlaced(batches)
        changed = true
      }
    }
    return this.#follow(answer) || changed
  }

  /**
   * Gives up everything from `offset` on, where nobody counts on this replica: it is copied again, as an empty one's.
   * @throws StreamError DISK_*, CLOSED
   */
  async dropFrom(offset: number): Promise<void> {
    if (this.#isDropped || this.isBusy) return
    this.#generation += 1
    const log = this.#log
    await this.#exclusively(() =>
      offset <= log.logStartOffset ? log.resetTo(log.logStartOffset) : log.truncateTo(offset),
    )
    this.#setHighWatermark(Math.min(this.#highWatermark, log.logEndOffset))
  }

  /**
   * Begins anew where the leader's log starts: it no longer has what comes next here, or nothing that is held here can be
   * compared with it. Records at and beyond that offset are never dropped so.
   */
  async restart(logStartOffset: number, generation: number): Promise<boolean> {
    if (this.#isDropped || generation !== this.#generation || this.isBusy) return false
    const { logEndOffset } = this.#log
    const isEmpty = logEndOffset === this.#log.logStartOffset
    if (isEmpty ? logStartOffset === logEndOffset : logStartOffset < logEndOffset) return false
    this.#generation += 1
    await this.#exclusively(() => this.#log.resetTo(logStartOffset))
    this.#setHighWatermark(logStartOffset)
    return true
  }

  /** High watermark and log start of the leader, as far as this log reaches. */
  #follow(answer: LeaderAnswer): boolean {
    const log = this.#log
    this.#leaderEnd = Math.max(0, answer.highWatermark)
    log.raiseTombstoneFloor(answer.tombstoneFloor)
    const highWatermark = Math.min(answer.highWatermark, log.logEndOffset)
    let changed = false
    if (highWatermark >= 0 && highWatermark !== this.#highWatermark) {
      this.#setHighWatermark(Math.max(highWatermark, log.logStartOffset))
      changed = true
    }
    const start = Math.min(answer.logStartOffset, this.#highWatermark)
    if (start <= log.logStartOffset) return changed
    // Nothing waits for it: what is below it is not asked for any more.
    log.deleteRecordsBefore(start).catch(() => undefined)
    return true
  }

  async #cut(diverging: EpochEnd): Promise<boolean> {
    const log = this.#log
    const own = log.endOffsetForEpoch(diverging.epoch)
    const end = log.logEndOffset
    if (end === log.logStartOffset && diverging.endOffset < end) {
      return this.#restartBelow(diverging.endOffset)
    }
    const cut = Math.max(
      log.logStartOffset,
      own === undefined
        ? Math.min(diverging.endOffset, end)
        : own.epoch === diverging.epoch
          ? Math.min(diverging.endOffset, own.endOffset, end)
          : Math.min(own.endOffset, end),
    )
    if (cut < this.#highWatermark) this.#refuseCommitted(cut)
    this.#generation += 1
    await this.#exclusively(() => log.truncateTo(cut))
    this.#setHighWatermark(Math.min(this.#highWatermark, log.logEndOffset))
    return cut < end
  }

  /** Nothing is held here, and the leader ends before it: legal after an unclean election alone. */
  async #restartBelow(offset: number): Promise<boolean> {
    if (offset < this.#highWatermark) this.#refuseCommitted(offset)
    this.#generation += 1
    await this.#exclusively(() => this.#log.resetTo(offset))
    this.#setHighWatermark(offset)
    return true
  }

  /** I10. @throws StreamError DATA_DAMAGED */
  #refuseCommitted(cut: number): void {
    const { uncleanEpoch } = this.following
    const epoch = this.#log.epochAt(this.#highWatermark - 1) ?? -1
    if (uncleanEpoch > 0 && uncleanEpoch > epoch) return
    throw new StreamError(
      'DATA_DAMAGED',
      `the leader of epoch ${this.following.leaderEpoch} lacks committed records from offset ${cut} on ` +
        `(high watermark ${this.#highWatermark}); they are kept, and this replica takes no part`,
    )
  }

  /** The leader's log starts inside of a batch: an empty log takes the whole of it. */
  async #restartAt(
    baseOffset: number,
    batches: readonly Uint8Array[],
    answer: LeaderAnswer,
  ): Promise<boolean> {
    const log = this.#log
    if (
      log.logEndOffset > log.logStartOffset ||
      lastOffsetAt(batches[0] as Uint8Array, 0) < log.logEndOffset
    ) {
      throw new StreamError(
        'CORRUPT_BATCH',
        `the leader sent offset ${baseOffset} where ${log.logEndOffset} comes next`,
      )
    }
    this.#generation += 1
    const generation = this.#generation
    await this.#exclusively(() => log.resetTo(baseOffset))
    if (this.#isDropped || generation !== this.#generation) return true
    this.#generation += 1
    log.appendPlaced(batches)
    this.#follow(answer)
    return true
  }

  /** @throws StreamError CORRUPT_BATCH */
  #split(records: Uint8Array): Uint8Array[] {
    const batches: Uint8Array[] = []
    let next = -1
    for (let at = 0; at < records.length; ) {
      const left = records.length - at
      const bytes = left < HEADER_BYTES ? left : batchBytesAt(records, at)
      // An answer is cut at its size limit: the rest comes again.
      if (bytes > left || left < HEADER_BYTES) break
      const defect = findBatchDefect(records, at, at + bytes)
      if (defect !== undefined) {
        throw new StreamError('CORRUPT_BATCH', `a batch of the leader: ${defect.detail}`)
      }
      const batch = records.subarray(at, at + bytes)
      const epoch = leaderEpochAt(batch, 0)
      if (epoch > this.following.leaderEpoch || baseOffsetAt(batch, 0) < next) {
        throw new StreamError(
          'CORRUPT_BATCH',
          `a batch of the leader at offset ${baseOffsetAt(batch, 0)} with epoch ${epoch} has no place here`,
        )
      }
      next = lastOffsetAt(batch, 0) + 1
      batches.push(batch)
      at += bytes
    }
    return batches
  }

  #setHighWatermark(offset: number): void {
    this.#highWatermark = offset
    this.#log.setHighWatermark(offset)
    this.#onHighWatermark(offset)
  }

  async #exclusively(work: () => Promise<void>): Promise<void> {
    while (this.#work !== undefined) await this.#work.catch(() => undefined)
    const run = work()
    this.#work = run
    try {
      await run
    } finally {
      if (this.#work === run) this.#work = undefined
    }
  }
}
