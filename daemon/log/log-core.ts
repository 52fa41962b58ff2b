/**
 * The state of one partition log, shared by the files that work on it: the writer, the flusher, the reader, recovery,
 * truncation, retention, compaction. PartitionLog is the face that the rest of the daemon sees.
 *
 * Invariants:
 * - logStartOffset ≤ durableOffset ≤ logEndOffset, but for a log start that retention or an operator moved further.
 * - Segments are ordered by base offset; the last one is active: only it is appended to.
 * - `generation` counts the truncations. Whoever waits compares it afterwards: what was true of an offset before a
 *   truncation says nothing about it after.
 */
import { assert } from '../../src/base/assert.ts'
import { StreamError } from '../../src/base/errors.ts'
import type { LogCache } from './batch-cache.ts'
import type { MarkSlot } from './durable-marks.ts'
import { LeaderEpochs } from './leader-epochs.ts'
import type { LogConfig } from './log-config.ts'
import type { LogContext } from './log-context.ts'
import type { DamagedRange } from './log-types.ts'
import { ProducerState } from './producer-state.ts'
import type { Segment } from './segment.ts'

export interface LogIdentity {
  readonly topic: string
  readonly topicId: string
  readonly partition: number
  readonly directory: string
}

/** Where a sequential reader goes on. */
export interface ReadHint {
  readonly segment: Segment
  readonly position: number
  readonly batchBytes: number
}

const HINTS_MAX = 8

/**
 * What the numbers below begin as, before they are zero. V8 remembers of a field that it has held small integers only; the first
 * offset that comes as a double (from a file, from a batch, or above 2^31) would give every log another shape, and what was
 * compiled for logs would be thrown away under traffic: 12 functions of the way of a line at a daemon's first checkpoint.
 */
const AS_DOUBLE = Number.NaN

export class LogCore {
  readonly context: LogContext
  readonly identity: LogIdentity
  readonly mark: MarkSlot
  readonly cache: LogCache
  config: LogConfig
  segments: Segment[] = []
  logStartOffset = AS_DOUBLE
  logEndOffset = AS_DOUBLE
  durableOffset = AS_DOUBLE
  /** Below it offsets follow one another without gaps; Infinity while no gap is known. */
  denseEndOffset = Infinity
  highWatermark = AS_DOUBLE
  epochs = new LeaderEpochs()
  /** False: they were taken from the batches of a damaged log, and refuse nothing. */
  epochsAreWhole = true
  producers = new ProducerState()
  damage: DamagedRange[] = []
  generation = 0
  state: 'open' | 'truncating' | 'closed' = 'open'
  /** A segment file was created whose name is not durable yet. */
  directoryDirty = false
  /** Of the producer snapshots on disk, rising. */
  snapshotOffsets: number[] = []
  batchesSinceSnapshot = 0
  bytesSinceSnapshot = 0
  /** What lies below was not replayed when the log was opened: the producer state had it from a snapshot. */
  replayedFrom = AS_DOUBLE
  /** Below it data, indexes and a snapshot are on the medium; what the next checkpoint says. */
  recoveryPoint = AS_DOUBLE
  /** What the last checkpoint on the medium says. */
  savedRecoveryPoint = AS_DOUBLE
  /** Below it no key has an older duplicate. */
  cleanOffset = AS_DOUBLE
  /**
   * Below it no replica of the partition holds a record that a tombstone there deletes, so that the tombstone may go.
   * Only in memory: it is a permission, without it tombstones stay until the replicas have told of themselves again. One
   * that was stored too high, for records that were cut since or for another topic of that name, would bring keys back.
   */
  tombstoneFloor = AS_DOUBLE
  isCompacting = false
  readonly hints = new Map<number, ReadHint>()
  #epochVersionSaved = 0
  #exclusive: Promise<void> | undefined

  constructor(context: LogContext, identity: LogIdentity, config: LogConfig, mark: MarkSlot) {
    this.context = context
    this.identity = identity
    this.config = config
    this.mark = mark
    this.cache = context.cache.forLog()
    this.logStartOffset = 0
    this.logEndOffset = 0
    this.durableOffset = 0
    this.highWatermark = 0
    this.replayedFrom = 0
    this.recoveryPoint = 0
    this.savedRecoveryPoint = 0
    this.cleanOffset = 0
    this.tombstoneFloor = 0
  }

  get active(): Segment {
    const active = this.segments.at(-1)
    assert(active !== undefined, 'a log has a segment')
    return active
  }

  get directory(): string {
    return this.identity.directory
  }

  get sizeBytes(): number {
    let bytes = 0
    for (const segment of this.segments) bytes += segment.sizeBytes
    return bytes
  }

  /** @throws StreamError CLOSED, DISK_FAILED */
  assertUsable(): void {
    const failure = this.context.syncs.failure
    if (failure !== undefined) throw failure
    this.assertOpen()
  }

  /** @throws StreamError CLOSED */
  assertOpen(): void {
    if (this.state === 'closed') throw new StreamError('CLOSED', `${this.directory} is closed`)
  }

  /** Of the segment that holds `offset`, or would. −1: it lies before the first one. */
  segmentIndexOf(offset: number): number {
    let low = 0
    let high = this.segments.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.segments[middle] as Segment).baseOffset <= offset) low = middle + 1
      else high = middle
    }
    return low - 1
  }

  /** Work during which segments are neither cut nor removed at the front; appends and reads go on. */
  async exclusively<T>(work: () => Promise<T>): Promise<T> {
    while (this.#exclusive !== undefined) await this.#exclusive
    const done = work()
    this.#exclusive = done.then(
      () => {},
      () => {},
    )
    try {
      return await done
    } finally {
      this.#exclusive = undefined
    }
  }

  /** Set while such work is under way; it never rejects. Ask again after waiting for it. */
  get exclusiveWork(): Promise<void> | undefined {
    return this.#exclusive
  }

  damageAt(offset: number): DamagedRange | undefined {
    return this.damage.find((range) => range.startOffset <= offset && offset < range.endOffset)
  }

  /** The damaged range of a segment that covers a place in its file. */
  damageIn(segment: Segment, position: number): DamagedRange | undefined {
    if (this.damage.length === 0) return undefined
    return this.damage.find(
      (range) =>
        range.segmentBaseOffset === segment.baseOffset &&
        range.startPosition <= position &&
        position < range.endPosition,
    )
  }

  remember(offset: number, hint: ReadHint): void {
    if (hint.segment.detached) return
    this.hints.delete(offset)
    if (this.hints.size >= HINTS_MAX) {
      for (const oldest of this.hints.keys()) {
        this.hints.delete(oldest)
        break
      }
    }
    this.hints.set(offset, hint)
  }

  /** What the mark says of density: a log without gaps says "as far as I am durable". */
  get markedDenseEnd(): number {
    return Math.min(this.denseEndOffset, this.durableOffset)
  }

  get epochsNeedSaving(): boolean {
    return this.epochsAreWhole && this.#epochVersionSaved !== this.epochs.version
  }

  noteEpochsSaved(version: number): void {
    this.#epochVersionSaved = version
  }

  replaceEpochs(epochs: LeaderEpochs): void {
    this.epochs = epochs
    this.#epochVersionSaved = epochs.version
  }

  /** Walks the whole structure; for tests. */
  verify(): void {
    assert(this.durableOffset <= this.logEndOffset, 'durable ≤ log end')
    assert(this.logStartOffset <= this.logEndOffset, 'log start ≤ log end')
    for (let index = 1; index < this.segments.length; index++) {
      const [before, after] = this.segments.slice(index - 1, index + 1) as [Segment, Segment]
      assert(before.baseOffset < after.baseOffset, 'segments are ordered by base offset')
    }
    assert(this.active.baseOffset <= this.logEndOffset, 'the active segment ends the log')
    let epochBefore = -1
    for (const { epoch } of this.epochs.entries) {
      assert(epoch > epochBefore, 'leader epochs rise (I2)')
      epochBefore = epoch
    }
  }
}
