/**
 * Opening a log (replication.md section 7.3): what of its files is the log, where it ends, what is damaged.
 *
 * With d = the durable mark:
 *   - a bad batch below d is corruption: nothing is cut, the range is quarantined, the rest is served, the log end does
 *     not fall below d;
 *   - at or above d, after a power cut: a torn tail. It is cut there and kept aside, whatever stands behind it, for the
 *     kernel writes unsynced pages in any order;
 *   - at or above d, after the mere death of the process, or where d is unknown: a torn tail only if nothing sound
 *     stands behind it, else corruption.
 * A missing piece between two segments is judged like a bad batch. A sound batch whose epoch cannot be right is quarantined
 * wherever it stands, for no write that was torn leaves one.
 *
 * Invariants:
 * - Recovering twice is recovering once. Whatever a crash leaves of a recovery is recovered by the same rules.
 * - Before durable := log end, what was scanned is written once more and synced: after the death of a process it may be
 *   in page cache alone, and a sync that failed may have marked its pages clean. That a sync failed is not always known:
 *   the process may have died before it could note it, or while the kernel still wrote.
 * - The work is bounded by what lies above the mark, the headers since the last producer snapshot, and the headers
 *   behind the last index entry.
 */
import { isStreamError } from '../../src/base/errors.ts'
import type { DiskFile } from '../../src/ports/disk.ts'
import { baseOffsetAt, leaderEpochAt } from '../../src/record/batch-layout.ts'
import { BatchWalk, walkAll, walkAllNow } from './batch-walk.ts'
import { findWayOn, type WayOn } from './damage.ts'
import { removeOrTell } from './delayed-removals.ts'
import { readEpochFile } from './epoch-file.ts'
import { rebuildEpochs } from './epoch-rebuild.ts'
import { rewriteInPlace } from './file-writes.ts'
import type { LogCore } from './log-core.ts'
import { noteDamage } from './log-reader.ts'
import type { DamagedRange, RecoveryReport } from './log-types.ts'
import { rebuildProducerState, syncReplayed } from './producer-snapshots.ts'
import { REPAIR_SUFFIX } from './repair.ts'
import { baseOffsetOfName, RELATIVE_OFFSET_MAX, Segment, segmentName } from './segment.ts'
import { finishSwap } from './segment-swap.ts'

export const TORN_SUFFIX = '.torn'
const TORN_FILES_MAX = 8
const COPY_BYTES = 1024 * 1024
const INDEX_SUFFIXES = ['.index', '.timeindex', '.txnindex'] as const

export interface RecoveryFacts {
  /** The last run ended with a clean shutdown. */
  readonly clean: boolean
  /** False or undefined: page cache may be lost. */
  readonly sameBoot: boolean | undefined
  /** The last run ended with a failed sync: page cache may hold what the medium does not, and say that it is clean. */
  readonly failedBefore: boolean
  /** undefined: no valid copy. */
  readonly mark: { readonly durableOffset: number; readonly denseEndOffset: number } | undefined
  readonly checkpoint:
    | {
        readonly logStartOffset: number
        readonly recoveryPoint: number
        readonly highWatermark: number
      }
    | undefined
  readonly cleanOffset: number
}

/** @throws StreamError of the disk; DATA_DAMAGED when an interrupted compaction cannot be ended */
export async function recoverLog(core: LogCore, facts: RecoveryFacts): Promise<RecoveryReport> {
  return await new Recovery(core, facts).run()
}

class Recovery {
  readonly #core: LogCore
  readonly #facts: RecoveryFacts
  readonly #mark: number | undefined
  readonly #isPowerCut: boolean
  /** Below it indexes were synced. */
  readonly #recoveryPoint: number
  /** Segments whose bytes have to be synced before they count, and from where on they were read. */
  readonly #scanned = new Map<Segment, number>()
  readonly #cutFiles: string[] = []
  #scannedBytes = 0
  #cutBytes = 0
  #directoryChanged = false
  #damagedBelowMark = false
  /** The log end so far. */
  #expected = 0
  #epoch = -1
  #epochsAreRebuilt = false

  constructor(core: LogCore, facts: RecoveryFacts) {
    this.#core = core
    this.#facts = facts
    this.#recoveryPoint = facts.checkpoint?.recoveryPoint ?? 0
    // What was durable at a checkpoint still is, where the mark that said so was lost by less than MARK_SYNC_MS.
    this.#mark = facts.mark && Math.max(facts.mark.durableOffset, this.#recoveryPoint)
    this.#isPowerCut = this.#mark !== undefined && facts.sameBoot !== true
  }

  async run(): Promise<RecoveryReport> {
    const core = this.#core
    this.#loadSegments()
    core.logStartOffset = Math.max(
      this.#facts.checkpoint?.logStartOffset ?? 0,
      core.segments[0]?.baseOffset ?? 0,
    )
    this.#removeDead()
    const { mark } = this.#facts
    if (mark === undefined) core.denseEndOffset = 0
    else if (mark.denseEndOffset < mark.durableOffset) core.denseEndOffset = mark.denseEndOffset
    this.#loadEpochs()
    const isClean = this.#facts.clean && this.#endsAtMark()
    if (!isClean) {
      this.#directoryChanged = true
      await this.#scan()
    }
    this.#settleEnd()
    this.#settleEpochs()
    await this.#syncScanned()
    this.#completeIndexes(isClean)
    core.epochs.truncateEnd(core.logEndOffset)
    core.epochs.truncateStart(core.logStartOffset)
    if (isClean) rebuildProducerState(core, Infinity)
    else rebuildProducerState(core, this.#recoveryPoint, this.#trustedOffset)
    await syncReplayed(core, this.#recoveryPoint)
    core.highWatermark = clamp(
      this.#facts.checkpoint?.highWatermark ?? 0,
      core.logStartOffset,
      core.logEndOffset,
    )
    core.recoveryPoint = Math.min(this.#recoveryPoint, core.logEndOffset)
    core.savedRecoveryPoint = this.#facts.checkpoint?.recoveryPoint ?? 0
    core.cleanOffset = Math.min(this.#facts.cleanOffset, core.active.baseOffset)
    // What was removed must not come back behind new records.
    if (this.#directoryChanged) await core.context.syncs.syncDirectory(core.directory)
    await this.#settleMark()
    return {
      clean: isClean,
      scannedBytes: this.#scannedBytes,
      cutBytes: this.#cutBytes,
      cutFiles: this.#cutFiles,
      damage: core.damage,
      damagedBelowMark: this.#damagedBelowMark,
    }
  }

  #loadSegments(): void {
    const core = this.#core
    const { disk, time } = core.context
    if (finishSwap(disk, core.directory)) this.#directoryChanged = true
    const nowMs = time.wallMs()
    const names = disk.list(core.directory)
    const present = new Set(names)
    for (const name of names) {
      const isOrphan = isIndexName(name) && !present.has(`${name.slice(0, 20)}.log`)
      const isLeft = name.endsWith('.tmp') || name.endsWith(REPAIR_SUFFIX)
      if (isOrphan || isLeft) disk.unlink(`${core.directory}/${name}`)
      const baseOffset = baseOffsetOfName(name, '.log')
      if (baseOffset === undefined) continue
      const stat = disk.stat(`${core.directory}/${name}`)
      if (stat === undefined) continue
      const options = { sizeBytes: stat.sizeBytes, createdMs: nowMs, isNew: false }
      core.segments.push(new Segment(core.directory, baseOffset, options))
    }
    core.segments.sort((a, b) => a.baseOffset - b.baseOffset)
  }

  /** Segments that were deleted and came back with a crash, perhaps not all of them: no hole in the log is theirs. */
  #removeDead(): void {
    const core = this.#core
    const { disk, files, log } = core.context
    const firstAlive = Math.max(core.segmentIndexOf(core.logStartOffset), 0)
    for (const segment of core.segments.slice(0, firstAlive)) {
      files.retire(segment.handle)
      removeOrTell(log, segment.path, () => segment.unlink(disk, ''))
      this.#directoryChanged = true
    }
    core.segments = core.segments.slice(firstAlive)
  }

  #loadEpochs(): void {
    const core = this.#core
    const epochs = readEpochFile(core.context.disk, core.directory)
    if (epochs !== undefined) {
      core.replaceEpochs(epochs)
      return
    }
    rebuildEpochs(core)
    this.#epochsAreRebuilt = true
  }

  /** What the scan has cut was no batch; what it has found missing had epochs. */
  #settleEpochs(): void {
    const core = this.#core
    if (!this.#epochsAreRebuilt) return
    if (core.damage.length > 0) core.epochsAreWhole = false
    else if (!core.epochsAreWhole) rebuildEpochs(core)
  }

  /** After a clean shutdown: whether the last segment ends exactly at the mark. */
  #endsAtMark(): boolean {
    const core = this.#core
    const active = core.segments.at(-1)
    if (active === undefined || this.#mark === undefined) return false
    const { outcome, endOffset } = this.#complete(active, Infinity)
    if (outcome !== 'end' || endOffset !== this.#mark) return false
    this.#expected = endOffset
    return true
  }

  // --- the scan

  async #scan(): Promise<void> {
    const core = this.#core
    const from = Math.max(
      this.#facts.mark?.durableOffset ?? this.#recoveryPoint,
      core.logStartOffset,
    )
    const firstIndex = Math.max(core.segmentIndexOf(from), 0)
    const first = core.segments[firstIndex]
    if (first === undefined) return
    this.#expected = first.baseOffset
    let position = this.#placeOf(first, from)
    for (let index = firstIndex; index < core.segments.length; index++) {
      const segment = core.segments[index] as Segment
      if (index > firstIndex) {
        position = 0
        if (!this.#acceptStart(segment, index)) return
      }
      if (!(await this.#scanSegment(segment, index, position))) return
    }
  }

  /**
   * Hops over headers to the place of `offset`. A header is believed only where it follows the one before: of a torn batch whose
   * first sector was lost the rest, and so the CRC, may be sound. Where one does not follow, nobody knows yet which of the two is
   * wrong: then all of them are checked, from where the hops began.
   */
  #placeOf(segment: Segment, offset: number): number {
    const { disk, files } = this.#core.context
    segment.loadTrustedIndexes(disk, this.#trustedOffset)
    const entry = segment.offsetIndex.lookup(offset - 1)
    const start = entry !== undefined && segment.stands(files, entry) ? entry.position : 0
    const walk = this.#walk(segment, start, 'headers')
    const epoch = this.#epoch
    let expected = this.#expected
    let isOrdered = true
    const outcome = walkAllNow(walk, () => {
      const baseOffset = baseOffsetAt(walk.bytes, walk.at)
      // The batch that an index entry names, and that ends as the entry says.
      if (walk.position === start && start > 0) {
        expected = baseOffset
        this.#expected = baseOffset
      }
      const index = this.#core.segments.indexOf(segment)
      isOrdered = this.#orderDefect(walk, index) === undefined
      if (!isOrdered || walk.lastOffset >= offset) return false
      this.#noteBatch(walk)
      return true
    })
    if (outcome !== 'defect' && isOrdered) return walk.position
    this.#expected = expected
    this.#epoch = epoch
    return start
  }

  get #trustedOffset(): number {
    const { clean, failedBefore, sameBoot } = this.#facts
    return (sameBoot === true && !failedBefore) || clean ? Infinity : this.#recoveryPoint
  }

  /** Whether a segment may follow what was found so far; false: the log was cut. */
  #acceptStart(segment: Segment, index: number): boolean {
    const expected = this.#expected
    if (segment.baseOffset === expected) return true
    if (segment.baseOffset < expected) {
      // Only the batches decide: an older file of the same range is damage below the mark, a leftover above it.
      if (!this.#isBelowMark(expected) && !this.#hasSoundBatch(segment, expected)) {
        this.#cut(index, 0, 'a segment that begins before the end of the one before')
        return false
      }
      return true
    }
    const gap = segment.baseOffset - expected
    const isLegal = expected >= this.#denseBelowMark || gap > RELATIVE_OFFSET_MAX
    if (this.#isBelowMark(expected)) {
      if (!isLegal) this.#noteMissing(index - 1, segment.baseOffset)
    } else if (gap <= RELATIVE_OFFSET_MAX) {
      if (this.#isPowerCut || !this.#hasSoundBatch(segment, expected)) {
        this.#cut(index, 0, `offsets ${expected} to ${segment.baseOffset - 1} are missing`)
        return false
      }
      this.#noteMissing(index - 1, segment.baseOffset)
    }
    this.#expected = segment.baseOffset
    return true
  }

  #noteMissing(index: number, endOffset: number): void {
    const segment = this.#core.segments[index] as Segment
    this.#noteDamage({
      file: segment.path,
      segmentBaseOffset: segment.baseOffset,
      startPosition: segment.sizeBytes,
      endPosition: Infinity,
      startOffset: this.#expected,
      endOffset,
      detail: `offsets ${this.#expected} to ${endOffset - 1} are missing`,
    })
  }

  /** @returns false when the log was cut in this segment */
  async #scanSegment(segment: Segment, index: number, start: number): Promise<boolean> {
    const core = this.#core
    const { files } = core.context
    this.#scanned.set(segment, start)
    const walk = this.#walk(segment, start, 'whole')
    const file = files.pin(segment.handle)
    try {
      for (;;) {
        const step = walk.step()
        if (step === 'more') {
          await walk.fill()
          continue
        }
        if (step === 'end') return true
        const defect = step === 'defect' ? walk.defect?.detail : this.#orderDefect(walk, index)
        const flipped = defect === undefined ? await this.#flippedEpoch(file, walk) : undefined
        if (flipped !== undefined) {
          this.#noteFlipped(segment, walk, flipped)
          continue
        }
        if (defect === undefined) {
          this.#noteBatch(walk)
          this.#scannedBytes += walk.batchBytes
          continue
        }
        const wayOn = await this.#judge(file, index, walk.position, defect)
        if (wayOn === 'cut') return false
        if (wayOn === undefined) return true
        walk.moveTo(wayOn.position)
        this.#expected = wayOn.offset
      }
    } finally {
      files.unpin(segment.handle)
    }
  }

  #noteBatch(walk: BatchWalk): void {
    const core = this.#core
    const baseOffset = baseOffsetAt(walk.bytes, walk.at)
    if (baseOffset > this.#expected) {
      core.denseEndOffset = Math.min(core.denseEndOffset, this.#expected)
    }
    const epoch = leaderEpochAt(walk.bytes, walk.at)
    if (epoch > (core.epochs.latest?.epoch ?? -1)) core.epochs.assign(epoch, baseOffset)
    this.#epoch = Math.max(this.#epoch, epoch)
    this.#expected = walk.lastOffset + 1
  }

  #orderDefect(walk: BatchWalk, index: number): string | undefined {
    const core = this.#core
    const baseOffset = baseOffsetAt(walk.bytes, walk.at)
    const epoch = leaderEpochAt(walk.bytes, walk.at)
    const nextBase = core.segments[index + 1]?.baseOffset ?? Infinity
    const segment = core.segments[index] as Segment
    // Below the mark their file is on the medium, and says which of two batches is the wrong one.
    if (this.#isBelowMark(baseOffset) && core.epochsAreWhole) {
      if (core.epochs.differsAt(baseOffset, epoch)) {
        return `leader epoch ${epoch} where ${core.epochs.epochAt(baseOffset)} was in force`
      }
    }
    if (epoch < this.#epoch) return `leader epoch ${epoch} behind ${this.#epoch}`
    if (baseOffset < this.#expected) return `offset ${baseOffset} behind ${this.#expected - 1}`
    if (walk.lastOffset - segment.baseOffset > RELATIVE_OFFSET_MAX) {
      return `offset ${walk.lastOffset} in the segment ${segment.baseOffset}`
    }
    if (walk.lastOffset >= nextBase && this.#isBelowMark(this.#expected)) {
      return `offset ${walk.lastOffset} where the next segment begins at ${nextBase}`
    }
    if (baseOffset > this.#expected && this.#expected < this.#denseBelowMark) {
      return `offset ${baseOffset} where ${this.#expected} must follow`
    }
    return undefined
  }

  /**
   * A batch that begins an epoch which only its own header knows of, before sound batches of an older one: epochs never fall,
   * so the bits of its epoch, which its checksum does not cover, have changed. No torn write leaves that.
   */
  async #flippedEpoch(file: DiskFile, walk: BatchWalk): Promise<string | undefined> {
    const latest = this.#core.epochs.latest?.epoch ?? -1
    const epoch = leaderEpochAt(walk.bytes, walk.at)
    if (epoch <= latest) return undefined
    const { lastOffset, nextPosition: start } = walk
    const next = new BatchWalk(file, { start, end: walk.end, mode: 'whole' })
    let epochBehind = epoch
    await walkAll(next, () => {
      if (baseOffsetAt(next.bytes, next.at) === lastOffset + 1) {
        epochBehind = leaderEpochAt(next.bytes, next.at)
      }
      return false
    })
    if (epochBehind >= epoch || epochBehind < this.#epoch) return undefined
    return `leader epoch ${epoch} before batches of ${epochBehind}`
  }

  #noteFlipped(segment: Segment, walk: BatchWalk, detail: string): void {
    const endOffset = walk.lastOffset + 1
    this.#noteDamage({
      file: segment.path,
      segmentBaseOffset: segment.baseOffset,
      startPosition: walk.position,
      endPosition: walk.nextPosition,
      startOffset: this.#expected,
      endOffset,
      detail,
    })
    this.#expected = endOffset
  }

  /** Below the mark the log is dense up to here; above it gaps are not known yet. */
  get #denseBelowMark(): number {
    return Math.min(this.#core.denseEndOffset, this.#facts.mark?.durableOffset ?? 0)
  }

  #isBelowMark(offset: number): boolean {
    return this.#mark !== undefined && offset < this.#mark
  }

  /** What a bad batch means. @returns where to go on; undefined: nowhere in this segment */
  async #judge(
    file: DiskFile,
    index: number,
    position: number,
    detail: string,
  ): Promise<WayOn | 'cut' | undefined> {
    const core = this.#core
    const segment = core.segments[index] as Segment
    const isBelow = this.#isBelowMark(this.#expected)
    if (!isBelow && this.#isPowerCut) {
      this.#cut(index, position, detail)
      return 'cut'
    }
    const endBound = core.segments[index + 1]?.baseOffset ?? Infinity
    const wayOn = await findWayOn(file, segment, {
      position,
      endPosition: segment.sizeBytes,
      offsetMin: this.#expected,
      offsetEnd: endBound,
      epochMin: this.#epoch,
      epochMax: core.epochs.latest?.epoch ?? 0x7fffffff,
    })
    const later = core.segments.slice(index + 1)
    if (!isBelow && wayOn === undefined) {
      if (!later.some((other) => this.#hasSoundBatch(other, this.#expected))) {
        this.#cut(index, position, detail)
        return 'cut'
      }
    }
    const endOffset =
      wayOn?.offset ??
      (endBound === Infinity ? Math.max(this.#mark ?? 0, this.#expected) : endBound)
    this.#noteDamage({
      file: segment.path,
      segmentBaseOffset: segment.baseOffset,
      startPosition: position,
      endPosition: wayOn?.position ?? Infinity,
      startOffset: this.#expected,
      endOffset,
      detail,
    })
    if (wayOn === undefined && endBound !== Infinity) this.#expected = endBound
    return wayOn
  }

  #noteDamage(range: DamagedRange): void {
    // Deleted records are nobody's loss.
    if (range.endOffset <= this.#core.logStartOffset) return
    if (this.#isBelowMark(range.startOffset)) this.#damagedBelowMark = true
    noteDamage(this.#core, { ...range, foundAtStart: true })
  }

  /** Whether a segment begins with a sound batch at or beyond `offset`. */
  #hasSoundBatch(segment: Segment, offset: number): boolean {
    const walk = this.#walk(segment, 0, 'whole')
    let found = false
    walkAllNow(walk, () => {
      found = baseOffsetAt(walk.bytes, walk.at) >= offset
      return false
    })
    return found
  }

  #walk(segment: Segment, start: number, mode: 'headers' | 'whole'): BatchWalk {
    const file = this.#core.context.files.use(segment.handle)
    return new BatchWalk(file, { start, end: segment.sizeBytes, mode })
  }

  // --- the cut

  /** Everything from a place on is no part of the log: it is kept aside and removed. */
  #cut(index: number, position: number, detail: string): void {
    const core = this.#core
    const { disk, files, log } = core.context
    const segment = core.segments[index] as Segment
    const bytes = segment.sizeBytes - position
    this.#keepAside(segment, position)
    for (const later of core.segments.slice(index + 1).reverse()) {
      this.#cutBytes += later.sizeBytes
      files.retire(later.handle)
      if (later.sizeBytes > 0) {
        const path = `${core.directory}/${segmentName(later.baseOffset)}${TORN_SUFFIX}`
        disk.rename(later.path, path)
        this.#cutFiles.push(path)
      }
      later.unlink(disk, '')
      this.#scanned.delete(later)
    }
    core.segments = core.segments.slice(0, index + 1)
    files.use(segment.handle).truncate(position)
    segment.sizeBytes = position
    segment.cutIndexes(disk, this.#expected)
    if (position === 0 && index > 0 && segment.baseOffset !== this.#expected) {
      // A name that does not continue the log must not stay, not even on an empty file.
      files.retire(segment.handle)
      segment.unlink(disk, '')
      core.segments = core.segments.slice(0, index)
      this.#scanned.delete(segment)
    }
    this.#cutBytes += bytes
    this.#directoryChanged = true
    this.#removeSurplusTorn()
    log.warn('a torn tail was cut off', {
      file: segment.path,
      position,
      offset: this.#expected,
      bytes: this.#cutBytes,
      detail,
      kept: this.#cutFiles.join(', '),
    })
  }

  #keepAside(segment: Segment, position: number): void {
    const { disk, files } = this.#core.context
    const path = `${this.#core.directory}/${segmentName(this.#expected)}${TORN_SUFFIX}`
    const source = files.pin(segment.handle)
    const target = disk.open(path, 'write')
    let isWorthKeeping = false
    try {
      target.truncate(0)
      const buffer = new Uint8Array(COPY_BYTES)
      for (let at = position; at < segment.sizeBytes; at += COPY_BYTES) {
        const part = buffer.subarray(0, source.read(at, buffer))
        target.write(at - position, [part])
        if (!isWorthKeeping) isWorthKeeping = !part.every((byte) => byte === 0)
      }
    } catch (error) {
      // Without space the bytes, which nobody was promised, are not worth refusing to start.
      if (!isStreamError(error, 'DISK_FULL')) throw error
      isWorthKeeping = false
    } finally {
      target.close()
      files.unpin(segment.handle)
    }
    if (isWorthKeeping) this.#cutFiles.push(path)
    else disk.unlink(path)
  }

  #removeSurplusTorn(): void {
    const core = this.#core
    const { disk } = core.context
    const torn = disk.list(core.directory).filter((name) => name.endsWith(TORN_SUFFIX))
    for (const name of torn.slice(0, -TORN_FILES_MAX)) disk.unlink(`${core.directory}/${name}`)
  }

  // --- after the scan

  /** The log end, and a segment that can be appended to there. */
  #settleEnd(): void {
    const core = this.#core
    const last = core.segments.at(-1)
    let endOffset = this.#expected
    if (this.#mark !== undefined && endOffset < this.#mark) {
      if (core.logStartOffset < this.#mark) this.#noteLost(last, endOffset, this.#mark)
      endOffset = this.#mark
    }
    endOffset = Math.max(endOffset, core.logStartOffset)
    core.logEndOffset = endOffset
    const mustBegin = last === undefined || this.#expected !== endOffset || this.#endsDamaged(last)
    if (!mustBegin) return
    if (last !== undefined && last.baseOffset >= endOffset) {
      // An empty segment at the wrong place, or one whose first batch is damaged beyond use: it keeps its bytes.
      core.logEndOffset = Math.max(endOffset, last.baseOffset + 1)
    }
    this.#beginSegment(core.logEndOffset)
  }

  #noteLost(last: Segment | undefined, startOffset: number, endOffset: number): void {
    const core = this.#core
    const covered = core.damage.some((range) => range.endOffset >= endOffset)
    if (covered) return
    const from = Math.max(startOffset, core.logStartOffset)
    this.#noteDamage({
      file: last?.path ?? `${core.directory}/${segmentName(from)}.log`,
      segmentBaseOffset: last?.baseOffset ?? from,
      startPosition: last?.sizeBytes ?? 0,
      endPosition: Infinity,
      startOffset: from,
      endOffset,
      detail: `offsets ${from} to ${endOffset - 1} were durable and are missing`,
    })
  }

  #endsDamaged(last: Segment): boolean {
    return this.#core.damage.some(
      (range) =>
        range.segmentBaseOffset === last.baseOffset &&
        range.endPosition === Infinity &&
        range.startPosition < last.sizeBytes,
    )
  }

  #beginSegment(baseOffset: number): void {
    const core = this.#core
    const { disk, files, time } = core.context
    const segment = new Segment(core.directory, baseOffset, {
      sizeBytes: 0,
      createdMs: time.wallMs(),
      isNew: true,
    })
    files.use(segment.handle).truncate(0)
    for (const index of segment.indexFiles()) index.reset(disk)
    core.segments.push(segment)
    this.#directoryChanged = true
  }

  async #syncScanned(): Promise<void> {
    const core = this.#core
    const { files, syncs } = core.context
    // Always: a truncation of the dead process may be in page cache alone, and what it cut would come back.
    for (const [segment, start] of this.#scanned) {
      const file = files.pin(segment.handle)
      try {
        rewriteInPlace(file, start, segment.sizeBytes)
        await syncs.dataSync(file)
      } finally {
        files.unpin(segment.handle)
      }
    }
    for (const segment of core.segments) segment.syncedBytes = segment.sizeBytes
    core.durableOffset = core.logEndOffset
  }

  /** Indexes above the recovery point, and those of the segment that is appended to. */
  #completeIndexes(isClean: boolean): void {
    const core = this.#core
    for (const [index, segment] of core.segments.entries()) {
      const next = core.segments[index + 1]
      if (next === undefined) {
        this.#complete(segment, isClean ? Infinity : this.#trustedOffset)
      } else if (!isClean && next.baseOffset >= this.#recoveryPoint) {
        this.#complete(segment, this.#trustedOffset)
        segment.finishIndexes(core.context.disk)
      }
    }
  }

  #complete(segment: Segment, trustedOffset: number): ReturnType<Segment['completeIndexes']> {
    const core = this.#core
    const { disk, files, indexes } = core.context
    const end = segment.completeIndexes(disk, files, {
      intervalBytes: core.config.indexIntervalBytes,
      trustedOffset,
      wayOn: (position) => core.damageIn(segment, position)?.endPosition,
    })
    indexes.touch(segment)
    // What a dead process wrote of them was perhaps never synced; the next checkpoint does it.
    for (const index of segment.indexFiles()) index.unsynced = true
    return end
  }

  async #settleMark(): Promise<void> {
    const core = this.#core
    const { marks } = core.context
    if (this.#mark === undefined || core.logEndOffset < this.#mark) {
      await marks.lower(core.mark, core.durableOffset, core.markedDenseEnd)
    } else if (core.durableOffset !== this.#mark) {
      marks.raise(core.mark, core.durableOffset, core.markedDenseEnd)
    }
  }
}

function isIndexName(name: string): boolean {
  return INDEX_SUFFIXES.some((suffix) => baseOffsetOfName(name, suffix) !== undefined)
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(Math.max(value, low), high)
}
