/**
 * One segment of a log: a file of batches and its indexes. Owns the file names, the rules by which indexes grow, and
 * finding a place in the file. It does not know what is durable, nor the segments beside it.
 *
 * Invariants:
 * - `sizeBytes` is the end of the last whole batch; what may lie behind it in the file was not appended.
 * - An index of a closed segment is loaded when it is first needed and may be forgotten again; a bad one is rebuilt.
 */
import { StreamError } from '../../src/base/errors.ts'
import type { Disk } from '../../src/ports/disk.ts'
import { baseOffsetAt, HEADER_BYTES } from '../../src/record/batch-layout.ts'
import { BatchWalk, recordTimestampAt, walkAll, walkAllNow } from './batch-walk.ts'
import type { IndexFile } from './index-file.ts'
import { OffsetIndex } from './offset-index.ts'
import { FileHandle, type OpenFiles } from './open-files.ts'
import { TIME_ENTRY_BYTES, TimeIndex } from './time-index.ts'
import { TransactionIndex } from './transaction-index.ts'
import { ReadableParts } from './unreadable.ts'

export const RELATIVE_OFFSET_MAX = 0x7fff_ffff

export interface CompleteOptions {
  readonly intervalBytes: number
  readonly trustedOffset: number
  /** Where to go on when a place lies in a damaged range. */
  readonly wayOn?: (position: number) => number | undefined
}

export interface WalkEnd {
  readonly outcome: 'end' | 'defect' | 'stopped'
  /** Behind the last batch walked; the base offset where there was none. */
  readonly endOffset: number
  /** Where the walk stopped. */
  readonly position: number
}

export function segmentName(baseOffset: number): string {
  return String(baseOffset).padStart(20, '0')
}

/** @returns undefined when the name is not 20 digits followed by `suffix` */
export function baseOffsetOfName(name: string, suffix: string): number | undefined {
  if (name.length !== 20 + suffix.length || !name.endsWith(suffix)) return undefined
  const digits = name.slice(0, 20)
  const value = Number(digits)
  return /^\d{20}$/.test(digits) && Number.isSafeInteger(value) ? value : undefined
}

export class Segment {
  readonly baseOffset: number
  readonly directory: string
  readonly handle: FileHandle
  readonly offsetIndex: OffsetIndex
  readonly timeIndex: TimeIndex
  readonly transactionIndex: TransactionIndex
  sizeBytes: number
  /** Of these bytes the first so many are on the medium. */
  syncedBytes = 0
  /** Wall time at which it became the active one in this process. */
  createdMs: number
  /** Largest timestamp of the first batch, for rolling by time; undefined: not read yet; −1: it has none. */
  firstTimestampMs: number | undefined
  rollJitterMs = 0
  /** True once the two fields below speak for every batch. */
  timesKnown: boolean
  maxTimestampMs = -1
  maxTimestampOffset = -1
  #lastEntryPosition = 0
  /** True once both indexes speak for every batch: always so for the segment that is appended to. */
  indexesComplete: boolean
  /** Replaced or deleted: nobody may conclude anything from it any more. */
  detached = false

  constructor(
    directory: string,
    baseOffset: number,
    options: {
      readonly sizeBytes: number
      readonly createdMs: number
      readonly isNew: boolean
      readonly suffix?: string
    },
  ) {
    this.directory = directory
    this.baseOffset = baseOffset
    this.sizeBytes = options.sizeBytes
    this.createdMs = options.createdMs
    this.timesKnown = options.isNew
    this.indexesComplete = options.isNew
    const stem = `${directory}/${segmentName(baseOffset)}`
    const suffix = options.suffix ?? ''
    this.handle = new FileHandle(`${stem}.log${suffix}`)
    this.offsetIndex = new OffsetIndex(`${stem}.index${suffix}`, baseOffset)
    this.timeIndex = new TimeIndex(`${stem}.timeindex${suffix}`, baseOffset)
    this.transactionIndex = new TransactionIndex(`${stem}.txnindex${suffix}`)
  }

  get path(): string {
    return this.handle.path
  }

  get isDirty(): boolean {
    return this.syncedBytes < this.sizeBytes
  }

  indexFiles(): readonly IndexFile[] {
    return [this.offsetIndex.file, this.timeIndex.file, this.transactionIndex.file]
  }

  /** After a batch was written at `position`; keeps the indexes by the rules of kafka-protocol.md section 7.6. */
  noteBatch(
    position: number,
    lastOffset: number,
    maxTimestampMs: number,
    intervalBytes: number,
  ): void {
    if (position === 0) this.firstTimestampMs = maxTimestampMs
    if (maxTimestampMs > this.maxTimestampMs) {
      this.maxTimestampMs = maxTimestampMs
      this.maxTimestampOffset = lastOffset
    }
    if (position - this.#lastEntryPosition > intervalBytes) {
      this.offsetIndex.append(lastOffset, position)
      this.timeIndex.maybeAppend(this.maxTimestampMs, this.maxTimestampOffset)
      this.#lastEntryPosition = position
    }
  }

  /**
   * At a checkpoint: what is added later is the time of a later batch, so that entries below the recovery point are
   * known to have been synced.
   */
  tryTimeEntry(): void {
    if (this.indexesComplete)
      this.timeIndex.maybeAppend(this.maxTimestampMs, this.maxTimestampOffset)
  }

  /** Whether an index has no room for another entry; the time index keeps one for the roll. */
  isIndexFull(indexBytesMax: number): boolean {
    return (
      this.offsetIndex.file.usedBytes + 8 > indexBytesMax ||
      this.timeIndex.file.usedBytes + 2 * TIME_ENTRY_BYTES > indexBytesMax
    )
  }

  /** The last entries, at roll and at a clean end. @throws StreamError of the disk; tried again by the next flush */
  finishIndexes(disk: Disk): void {
    if (!this.indexesComplete) return
    this.tryTimeEntry()
    this.flushIndexes(disk)
    // Kafka's tools look for both files beside every segment.
    for (const file of [this.offsetIndex.file, this.timeIndex.file]) {
      if (disk.stat(file.path) === undefined) disk.open(file.path, 'write').close()
    }
  }

  flushIndexes(disk: Disk): void {
    for (const file of this.indexFiles()) file.flush(disk)
  }

  /**
   * Makes the indexes complete in memory: loads them, and walks the headers behind their last entry. Where they cannot
   * be right they are rebuilt from the segment. For the segment that is appended to, and after a crash.
   * @param options.trustedOffset  entries at or beyond it may be lost or torn, and are dropped (after a power cut)
   */
  completeIndexes(disk: Disk, files: OpenFiles, options: CompleteOptions): WalkEnd {
    this.#loadTrusted(disk, files, options.trustedOffset)
    const end = this.#walkOn(files, options)
    const lastTime = this.timeIndex.last
    // A time entry beyond the last batch belongs to a tail that is gone.
    if (lastTime === undefined || lastTime.offset < end.endOffset) return end
    this.#resetIndexes(disk)
    return this.#walkOn(files, options)
  }

  /** Rebuilds the indexes of a closed segment without blocking the loop for long. */
  async rebuildIndexes(disk: Disk, files: OpenFiles, intervalBytes: number): Promise<void> {
    const file = files.pin(this.handle)
    try {
      this.#resetIndexes(disk)
      const walk = new BatchWalk(new ReadableParts(file), {
        start: 0,
        end: this.sizeBytes,
        mode: 'whole',
      })
      const index = this.#indexer(intervalBytes)
      await walkAll(walk, () => {
        index.visit(walk)
        return true
      })
    } finally {
      files.unpin(this.handle)
    }
    this.timesKnown = true
    this.indexesComplete = true
    if (!this.detached) this.finishIndexes(disk)
  }

  #loadTrusted(disk: Disk, files: OpenFiles, trustedOffset: number): void {
    this.loadTrustedIndexes(disk, trustedOffset)
    const last = this.offsetIndex.last
    if (last !== undefined && !this.stands(files, last)) this.#resetIndexes(disk)
  }

  /** Indexes what lies behind the last offset entry. */
  #walkOn(files: OpenFiles, options: CompleteOptions): WalkEnd {
    const last = this.offsetIndex.last
    const lastTime = this.timeIndex.last
    this.maxTimestampMs = lastTime?.timestampMs ?? -1
    this.maxTimestampOffset = lastTime?.offset ?? -1
    this.#lastEntryPosition = last?.position ?? 0
    const walk = new BatchWalk(files.use(this.handle), {
      start: last?.position ?? 0,
      end: this.sizeBytes,
      // After a power cut more than the last few kilobytes is indexed anew: a header alone is not believed then.
      mode: options.trustedOffset === Infinity ? 'headers' : 'whole',
    })
    const index = this.#indexer(options.intervalBytes)
    for (;;) {
      const wayOn = options.wayOn?.(walk.nextPosition)
      if (wayOn !== undefined) walk.moveTo(Math.min(wayOn, this.sizeBytes))
      const outcome = walkAllNow(walk, () => {
        index.visit(walk)
        return options.wayOn?.(walk.nextPosition) === undefined
      })
      if (outcome === 'stopped') continue
      this.indexesComplete = true
      this.timesKnown = true
      return { outcome, endOffset: index.endOffset(), position: walk.position }
    }
  }

  /** Indexes batches as they come; one that does not follow is damage which a reader will find, and is left out. */
  #indexer(intervalBytes: number): { visit(walk: BatchWalk): void; endOffset(): number } {
    let expected = this.baseOffset
    return {
      visit: (walk) => {
        const baseOffset = baseOffsetAt(walk.bytes, walk.at)
        const lastOffset = walk.lastOffset
        if (baseOffset < expected || lastOffset - this.baseOffset > RELATIVE_OFFSET_MAX) return
        expected = lastOffset + 1
        const maxTimestampMs = recordTimestampAt(walk.bytes, walk.at)
        if (walk.position <= this.#lastEntryPosition && walk.position > 0) return
        this.noteBatch(walk.position, lastOffset, maxTimestampMs, intervalBytes)
      },
      endOffset: () => expected,
    }
  }

  /** Loads both indexes; what cannot be right is dropped, and false says so. */
  loadIndexes(disk: Disk): boolean {
    const sound =
      this.offsetIndex.load(disk, Math.max(this.sizeBytes, 1)) && this.timeIndex.load(disk)
    if (!sound) this.#resetIndexes(disk)
    return sound
  }

  /**
   * After a power cut: what lies at or beyond `trustedOffset` was perhaps never synced, and is dropped. Of the rest the
   * part before the first bad entry is right.
   */
  loadTrustedIndexes(disk: Disk, trustedOffset: number): void {
    if (trustedOffset === Infinity) {
      this.loadIndexes(disk)
      return
    }
    this.offsetIndex.loadSoundPart(disk, Math.max(this.sizeBytes, 1))
    const isTimeSound = this.timeIndex.loadSoundPart(disk)
    this.offsetIndex.truncateToOffset(disk, trustedOffset)
    this.timeIndex.truncateToOffset(disk, trustedOffset)
    // Times that were lost are found again only by a walk over their batches.
    if (!isTimeSound) {
      this.offsetIndex.truncateToOffset(disk, (this.timeIndex.last?.offset ?? this.baseOffset) + 1)
    }
  }

  /** The segment now ends at `position`, and its last offset lies below `endOffset`. */
  cutIndexes(disk: Disk, endOffset: number): void {
    this.offsetIndex.truncateToOffset(disk, endOffset)
    this.timeIndex.truncateToOffset(disk, endOffset)
    this.transactionIndex.truncateToOffset(disk, endOffset)
    this.indexesComplete = false
    this.timesKnown = false
  }

  #resetIndexes(disk: Disk): void {
    this.offsetIndex.file.reset(disk)
    this.timeIndex.file.reset(disk)
    this.#lastEntryPosition = 0
    this.maxTimestampMs = -1
    this.maxTimestampOffset = -1
  }

  /** Whether the batch that an index entry names stands at its position. */
  stands(files: OpenFiles, entry: { readonly offset: number; readonly position: number }): boolean {
    const walk = new BatchWalk(new ReadableParts(files.use(this.handle)), {
      start: entry.position,
      end: this.sizeBytes,
      mode: 'headers',
    })
    walk.blockBytes = HEADER_BYTES
    let found = -1
    walkAllNow(walk, () => {
      found = walk.lastOffset
      return false
    })
    return found === entry.offset
  }

  /** Largest timestamp of its first batch, read once; −1: none, or an empty segment. */
  readFirstTimestamp(files: OpenFiles): number {
    if (this.firstTimestampMs !== undefined) return this.firstTimestampMs
    if (this.sizeBytes === 0) return -1
    const end = this.sizeBytes
    const walk = new BatchWalk(files.use(this.handle), { start: 0, end, mode: 'headers' })
    walk.blockBytes = HEADER_BYTES
    let timestampMs = -1
    walkAllNow(walk, () => {
      timestampMs = recordTimestampAt(walk.bytes, walk.at)
      return false
    })
    this.firstTimestampMs = timestampMs
    return timestampMs
  }

  /** Gives file names another suffix or back: '' → '.deleted', '.cleaned' → '.swap' → ''. */
  rename(disk: Disk, from: string, to: string): void {
    for (const name of this.#names()) {
      const path = `${this.directory}/${name}${from}`
      if (disk.stat(path) !== undefined) disk.rename(path, `${this.directory}/${name}${to}`)
    }
    const stem = `${this.directory}/${segmentName(this.baseOffset)}`
    this.handle.path = `${stem}.log${to}`
    this.offsetIndex.file.path = `${stem}.index${to}`
    this.timeIndex.file.path = `${stem}.timeindex${to}`
    this.transactionIndex.file.path = `${stem}.txnindex${to}`
  }

  unlink(disk: Disk, suffix: string): void {
    for (const name of this.#names()) disk.unlink(`${this.directory}/${name}${suffix}`)
  }

  #names(): readonly string[] {
    const stem = segmentName(this.baseOffset)
    return [`${stem}.log`, `${stem}.index`, `${stem}.timeindex`, `${stem}.txnindex`]
  }
}

/** What every reader of a damaged place throws. */
export function damagedError(
  file: string,
  position: number,
  offset: number,
  detail: string,
): StreamError {
  return new StreamError(
    'DATA_DAMAGED',
    `${file}: damaged at byte ${position} (offset ${offset}): ${detail}`,
    {
      target: file,
      hint: 'the rest of the partition is served; read on behind the damage, or restore the file from a backup',
    },
  )
}
