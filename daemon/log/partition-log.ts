/**
 * One partition log: the face of daemon/log towards the replica. Appending is synchronous; reading from memory too.
 *
 * A log is made by DataDirectory. Whoever appends has found the batches sound (record/batch-layout.ts findBatchDefect)
 * and has asked checkProducer() for batches of clients. Offsets may have gaps.
 */

import { isStreamError } from '../../src/base/errors.ts'
import type { BatchHeader } from '../../src/record/batch-layout.ts'
import { isTransactional } from '../../src/record/batch-layout.ts'
import { type CompactionOptions, compact, compactionNeed } from './compaction.ts'
import { EpochFile } from './epoch-file.ts'
import { syncPath } from './file-writes.ts'
import { findLocalSpans } from './local-spans.ts'
import type { LogConfig } from './log-config.ts'
import type { LogCore } from './log-core.ts'
import { LogFlusher } from './log-flusher.ts'
import { LogReader } from './log-reader.ts'
import { LogScrub } from './log-scrub.ts'
import type {
  AbortedTransaction,
  AppendResult,
  CompactionNeed,
  CompactionResult,
  DamagedRange,
  EpochEnd,
  LocalSpan,
  LogSlice,
  ProducerCheck,
  ProducerSummary,
  ReadRequest,
  RecoveryReport,
  RetentionResult,
  SpansRequest,
  TimestampOffset,
} from './log-types.ts'
import { LogWriter } from './log-writer.ts'
import { snapshotPath, takeSnapshot } from './producer-snapshots.ts'
import type { MarkerCheck } from './producer-state.ts'
import { type HashAnswer, type HashRequest, hashRange, type SoundRange } from './range-hash.ts'
import { type FetchPiece, type RepairResult, repairRange } from './repair.ts'
import { enforceRetention } from './retention.ts'
import type { Segment } from './segment.ts'
import { offsetForTimestamp, offsetOfMaxTimestamp } from './time-lookup.ts'
import { proveTransactions } from './transaction-proof.ts'
import { type CutParts, deleteRecordsBefore, resetTo, truncateTo } from './truncation.ts'

export class PartitionLog {
  /** What opening it had to do. */
  readonly recovery: RecoveryReport
  readonly #core: LogCore
  readonly #writer: LogWriter
  readonly #reader: LogReader
  readonly #flusher: LogFlusher
  readonly #epochFile: EpochFile
  readonly #parts: CutParts
  #preparing: Promise<void> | undefined

  /** @internal Made by DataDirectory. */
  constructor(core: LogCore, recovery: RecoveryReport) {
    this.#core = core
    this.recovery = recovery
    this.#epochFile = new EpochFile(core)
    this.#flusher = new LogFlusher(core, this.#epochFile)
    this.#reader = new LogReader(core)
    this.#writer = new LogWriter(core, (records) => this.#flusher.afterAppend(records))
    this.#parts = { core, flusher: this.#flusher, epochFile: this.#epochFile }
  }

  get topic(): string {
    return this.#core.identity.topic
  }

  /** 22 characters of base64url. */
  get topicId(): string {
    return this.#core.identity.topicId
  }

  get partition(): number {
    return this.#core.identity.partition
  }

  get directory(): string {
    return this.#core.directory
  }

  get config(): LogConfig {
    return this.#core.config
  }

  get logStartOffset(): number {
    return this.#core.logStartOffset
  }

  get logEndOffset(): number {
    return this.#core.logEndOffset
  }

  /** Everything below is on the medium. Falls only with a truncation. */
  get durableOffset(): number {
    return this.#core.durableOffset
  }

  /** From the checkpoint at open, then what setHighWatermark said; never above logEndOffset. */
  get highWatermarkHint(): number {
    return Math.min(this.#core.highWatermark, this.#core.logEndOffset)
  }

  /** Below it offsets follow one another without gaps; Infinity while no gap is known. */
  get denseEndOffset(): number {
    return this.#core.denseEndOffset
  }

  get latestEpoch(): number | undefined {
    return this.#core.epochs.latest?.epoch
  }

  /** Of the last batch, which an epoch without batches does not change; undefined: the log holds none. */
  get lastBatchEpoch(): number | undefined {
    const { logStartOffset, logEndOffset } = this.#core
    return logEndOffset > logStartOffset ? this.epochAt(logEndOffset - 1) : undefined
  }

  get sizeBytes(): number {
    return this.#core.sizeBytes
  }

  /** Of the segments that lie wholly below `offset`. */
  sizeBytesBelow(offset: number): number {
    const { segments } = this.#core
    let bytes = 0
    for (let index = 0; index + 1 < segments.length; index++) {
      if ((segments[index + 1] as Segment).baseOffset <= offset) {
        bytes += (segments[index] as Segment).sizeBytes
      }
    }
    return bytes
  }

  get segmentCount(): number {
    return this.#core.segments.length
  }

  /** How often it was cut, counted twice: what was true of an offset before a cut says nothing about it after. */
  get generation(): number {
    return this.#core.generation
  }

  /** Ranges that are not served, as far as they are known. */
  get damage(): readonly DamagedRange[] {
    return this.#core.damage
  }

  /** Below it no key has an older duplicate (compacted topics). */
  get cleanOffset(): number {
    return this.#core.cleanOffset
  }

  /** Compaction has been here, so that other replicas may hold records that are gone, or that are not yet. */
  get wasCompacted(): boolean {
    const { config, cleanOffset, logStartOffset } = this.#core
    return config.cleanupCompact || cleanOffset > logStartOffset
  }

  /** Below it tombstones may go, as far as all replicas have told (replication.md section 11). */
  get tombstoneFloor(): number {
    return this.#core.tombstoneFloor
  }

  raiseTombstoneFloor(offset: number): void {
    this.#core.tombstoneFloor = Math.max(this.#core.tombstoneFloor, offset)
  }

  /** An epoch begins: what was said of offsets that are not here may not be true of what is written there next. */
  limitTombstoneFloor(): void {
    this.#core.tombstoneFloor = Math.min(this.#core.tombstoneFloor, this.#core.logEndOffset)
  }

  // --- writing

  /**
   * The check of a client's batch before it is appended (replication.md section 8, P14). Changes nothing.
   * @param transactionVersion  of a transactional batch; 2: each transaction has an epoch of its own (KIP-890)
   */
  checkProducer(header: BatchHeader, transactionVersion = 0): ProducerCheck {
    return this.#core.producers.check(
      {
        lastOffsetDelta: header.lastOffsetDelta,
        producerId: header.producerId,
        producerEpoch: header.producerEpoch,
        baseSequence: header.baseSequence,
        isTransactional: isTransactional(header.attributes),
      },
      transactionVersion,
    )
  }

  /** Whether a transaction of this producer, in this epoch, is open in this log. */
  isInTransaction(producerId: number, epoch: number): boolean {
    return this.#core.producers.isInTransaction(producerId, epoch)
  }

  /** The check of a transaction marker before it is appended. Changes nothing. */
  checkMarker(marker: MarkerCheck): 'append' | 'repeat' | 'refused' {
    return this.#core.producers.checkMarker(marker)
  }

  /**
   * Assigns offsets from logEndOffset on, stamps them and the leader epoch into the batches, writes them at once.
   * @param batches  each one whole sound batch; stamped in place, and kept by reference for readers at the tail
   * @throws StreamError DISK_FULL, DISK_READ_ONLY, DISK_FAILED, CLOSED; nothing was appended then (a call whose batches
   *   exceed a segment may have filled segments before the one that failed)
   */
  append(batches: readonly Uint8Array[], options: { readonly leaderEpoch: number }): AppendResult {
    return this.#writer.append(batches, options.leaderEpoch)
  }

  /**
   * Batches keep their own offsets: they must rise and may leave gaps (mirrors, replicas).
   * @param options.leaderEpoch  stamped into them; their own when absent
   * @throws StreamError as append, and CORRUPT_BATCH when offsets or epochs do not rise
   */
  appendPlaced(
    batches: readonly Uint8Array[],
    options: { readonly leaderEpoch?: number } = {},
  ): AppendResult {
    return this.#writer.appendPlaced(batches, options.leaderEpoch)
  }

  /** Called whenever durableOffset has risen. @returns a function that removes the listener */
  onDurable(listener: (durableOffset: number) => void): () => void {
    return this.#flusher.onDurable(listener)
  }

  /** Resolves when everything appended before the call is durable. @throws StreamError DISK_FAILED, CLOSED */
  flush(): Promise<void> {
    return this.#flusher.flush()
  }

  // --- reading

  /** Whole batches. @throws StreamError OFFSET_OUT_OF_RANGE, DATA_DAMAGED, CLOSED, and what the disk throws */
  read(request: ReadRequest): Promise<LogSlice> {
    return this.#reader.read(request)
  }

  /** As read, from the files alone: what is in memory says nothing of them. */
  readStored(request: ReadRequest): Promise<LogSlice> {
    return this.#reader.readStored(request)
  }

  /**
   * What this log holds of a range of offsets, as its files say (range-hash.ts).
   * @throws StreamError OFFSET_OUT_OF_RANGE, DATA_DAMAGED, CLOSED, and what the disk throws
   */
  hashRange(request: HashRequest): Promise<HashAnswer> {
    return hashRange(this.#reader, request)
  }

  /** As read, from memory alone; undefined where the offset is not in memory. @throws OFFSET_OUT_OF_RANGE, CLOSED */
  readCached(request: ReadRequest): LogSlice | undefined {
    return this.#reader.readCached(request)
  }

  /** Where batches lie, for readers of the files; none where it cannot be told. @throws StreamError CLOSED, DISK_* */
  localSpans(request: SpansRequest): LocalSpan[] {
    return findLocalSpans(this.#core, request)
  }

  /**
   * The first record with a timestamp at or behind `timestampMs`, and its own timestamp (P7).
   * @param endOffset  records from here on do not count; the log end when absent
   * @throws StreamError DATA_DAMAGED, CORRUPT_BATCH, CLOSED, and what the disk throws
   */
  offsetForTimestamp(
    timestampMs: number,
    endOffset: number = this.#core.logEndOffset,
  ): Promise<TimestampOffset | undefined> {
    this.#core.assertOpen()
    return offsetForTimestamp(this.#core, this.#reader, timestampMs, endOffset)
  }

  /** The first of the records with the largest timestamp. As offsetForTimestamp. */
  offsetOfMaxTimestamp(
    endOffset: number = this.#core.logEndOffset,
  ): Promise<TimestampOffset | undefined> {
    this.#core.assertOpen()
    return offsetOfMaxTimestamp(this.#core, this.#reader, endOffset)
  }

  // --- epochs, high watermark, transactions

  /** Rule of replication.md section 2.5. undefined: this log knows no epoch so late, or none at all. */
  endOffsetForEpoch(epoch: number): EpochEnd | undefined {
    return this.#core.epochs.endOffsetFor(epoch, this.#core.logEndOffset)
  }

  /** Of the batch at `offset`, as far as it is known. */
  epochAt(offset: number): number | undefined {
    return this.#core.epochs.epochAt(offset)
  }

  /** `epoch` begins at the log end: in memory at once, on the medium when it resolves. @throws StreamError DISK_* */
  beginEpoch(epoch: number): Promise<void> {
    this.#core.assertUsable()
    this.#core.epochs.assign(epoch, this.#core.logEndOffset)
    return this.#epochFile.save()
  }

  /** For the checkpoint, and for transactions: those whose marker is below it are stable. */
  setHighWatermark(offset: number): void {
    this.#core.highWatermark = offset
    this.#core.producers.forgetCompletedBelow(offset)
  }

  /** min(highWatermark, first unstable offset). */
  lastStableOffset(highWatermark: number): number {
    const unstable = this.#core.producers.firstUnstableOffset(highWatermark)
    return unstable === undefined ? highWatermark : Math.min(highWatermark, unstable)
  }

  /**
   * What abortedTransactions would look at is held against the log, where it was only read from a file.
   * @returns undefined: there is nothing to be waited for
   */
  proveTransactions(fromOffset: number, endOffset: number): Promise<void> | undefined {
    this.#core.assertOpen()
    return proveTransactions(this.#core, fromOffset, endOffset)
  }

  /** Aborted transactions that overlap [fromOffset, endOffset), for read_committed fetches (P6); proveTransactions comes first. */
  abortedTransactions(fromOffset: number, endOffset: number): readonly AbortedTransaction[] {
    const core = this.#core
    core.assertOpen()
    const found: AbortedTransaction[] = []
    for (const segment of core.segments.slice(Math.max(core.segmentIndexOf(fromOffset), 0))) {
      segment.transactionIndex.load(core.context.disk)
      if (segment.transactionIndex.collect(fromOffset, endOffset, found)) break
    }
    return found
  }

  /** Producers whose last batch is below `offset` are not this cluster's, and are forgotten. */
  forgetProducersBelow(offset: number): void {
    this.#core.producers.forgetBelow(offset)
  }

  activeProducers(): readonly ProducerSummary[] {
    return this.#core.producers.summaries()
  }

  // --- housekeeping

  /**
   * Puts another replica's bytes in the place of a damaged range (one of `damage`); it is served again when that is
   * durable. @throws StreamError CORRUPT_BATCH when they do not fit; CONFLICT, DISK_*, CLOSED, and what `fetch` throws:
   *   the range stays quarantined
   */
  repair(range: DamagedRange, fetch: FetchPiece): Promise<RepairResult> {
    return repairRange(this.#core, range, fetch)
  }

  /** For reading all that is durable, slowly, from `offset` on. @param give  takes what was found sound */
  scrub(offset: number, give?: (range: SoundRange) => void): LogScrub {
    return new LogScrub(this.#core, this.#reader, offset, give)
  }

  /** Raises the log start; resolves when that is durable. @throws StreamError OFFSET_OUT_OF_RANGE, DISK_*, CLOSED */
  deleteRecordsBefore(offset: number): Promise<void> {
    return deleteRecordsBefore(this.#parts, offset)
  }

  /**
   * Removes everything at or beyond `offset`; a batch that holds it goes as a whole. Nothing may be appended until it
   * resolves. Legal below the high watermark only as replication.md section 2.5 says: the caller decides.
   * @throws StreamError OFFSET_OUT_OF_RANGE, DISK_FAILED, CLOSED
   */
  truncateTo(offset: number): Promise<void> {
    return truncateTo(this.#parts, offset)
  }

  /** Drops everything; the log is then empty and starts at `offset`. As truncateTo. */
  resetTo(offset: number): Promise<void> {
    return resetTo(this.#parts, offset)
  }

  /** In force from the next append on. From async to commit: what is not durable yet is synced first. */
  applyConfig(config: LogConfig): void {
    this.#core.config = config
    if (config.flushMessages <= 1 && this.#core.state === 'open') this.#flusher.startIfDirty()
  }

  /** Removes whole segments by time and size, never at or above the high watermark. */
  enforceRetention(nowMs: number, highWatermark: number): Promise<RetentionResult> {
    return enforceRetention(this.#core, this.#epochFile, { nowMs, highWatermark })
  }

  compactionNeed(nowMs: number, lastStableOffset: number): CompactionNeed {
    return compactionNeed(this.#core, nowMs, lastStableOffset)
  }

  /** One run; gives the loop back every few milliseconds. @throws StreamError of the disk: the log stands as it was */
  compact(options: CompactionOptions): Promise<CompactionResult> {
    return compact(this.#core, options)
  }

  /** Walks the whole structure; for tests. */
  verify(): void {
    this.#core.verify()
  }

  // --- for DataDirectory

  /** @internal Makes indexes and a snapshot durable up to durableOffset, so that the checkpoint may say so. */
  async prepareCheckpoint(): Promise<void> {
    while (this.#preparing !== undefined) await this.#preparing.catch(() => undefined)
    this.#preparing = this.#prepareCheckpoint()
    try {
      await this.#preparing
    } finally {
      this.#preparing = undefined
    }
  }

  async #prepareCheckpoint(): Promise<void> {
    const core = this.#core
    const { disk, syncs } = core.context
    const target = core.durableOffset
    if (core.state !== 'open' || core.recoveryPoint >= target) return
    const generation = core.generation
    // The segment that ends at the recovery point too: it may have been rolled since.
    const first = Math.max(core.segmentIndexOf(core.recoveryPoint - 1), 0)
    try {
      if (core.batchesSinceSnapshot > 0) takeSnapshot(core)
      const snapshots = core.snapshotOffsets.filter((offset) => offset >= core.recoveryPoint)
      for (const segment of core.segments.slice(first)) {
        if (segment.detached || !segment.offsetIndex.file.isLoaded) continue
        segment.tryTimeEntry()
        segment.flushIndexes(disk)
      }
      for (const offset of snapshots) await syncPath(disk, syncs, snapshotPath(core, offset))
      for (const segment of core.segments.slice(first)) {
        for (const index of segment.indexFiles()) {
          if (!index.unsynced || segment.detached) continue
          index.unsynced = false
          await syncPath(disk, syncs, index.path)
        }
      }
      await syncs.syncDirectory(core.directory)
    } catch (error) {
      // The recovery point stays where it is: a start has more to look at.
      if (isStreamError(error, 'DISK_FULL')) return
      throw error
    }
    if (core.generation === generation && core.state === 'open') core.recoveryPoint = target
  }

  /** @internal */
  get checkpoint(): {
    readonly logStartOffset: number
    readonly recoveryPoint: number
    readonly highWatermark: number
    readonly cleanOffset: number
  } {
    const { logStartOffset, recoveryPoint, cleanOffset } = this.#core
    return { logStartOffset, recoveryPoint, highWatermark: this.highWatermarkHint, cleanOffset }
  }

  /** @internal What the checkpoint on the medium says now. */
  noteCheckpointSaved(recoveryPoint: number): void {
    this.#core.savedRecoveryPoint = recoveryPoint
  }

  /** @internal */
  get core(): LogCore {
    return this.#core
  }

  /** @internal `clean`: everything is durable and complete when it resolves. @throws StreamError DISK_* */
  async close(options: { readonly clean: boolean }): Promise<void> {
    const core = this.#core
    if (core.state === 'closed') return
    try {
      while (core.exclusiveWork !== undefined) await core.exclusiveWork
      if (options.clean && core.context.syncs.failure === undefined) await this.#settle()
    } finally {
      core.state = 'closed'
      await this.#flusher.quiesce()
      // Whoever closes it may take the directory away: a sync that did not find it would count as a failure of the disk.
      await this.#preparing?.catch(() => undefined)
      this.#flusher.close()
      core.context.removals.cancel(core)
      for (const segment of core.segments) {
        core.context.files.close(segment.handle)
        core.context.indexes.forget(segment)
      }
      core.cache.clear()
    }
  }

  async #settle(): Promise<void> {
    const core = this.#core
    await this.#flusher.flush()
    await this.#epochFile.save()
    core.active.finishIndexes(core.context.disk)
    if (core.snapshotOffsets.at(-1) !== core.logEndOffset) takeSnapshot(core)
    await this.prepareCheckpoint()
    core.context.marks.raise(core.mark, core.durableOffset, core.markedDenseEnd)
  }
}
