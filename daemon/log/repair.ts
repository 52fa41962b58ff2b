/**
 * Puts the right bytes in the place of a damaged range, from another replica's copy (replication.md section 7.3).
 *
 *  1. the batches come piece by piece into `<start offset>.repair`; each has a sound CRC, stands at an offset and in an
 *     epoch that this log's own knowledge calls for, and together they fill the range
 *  2. they are put in place: byte for byte over the damaged bytes where they fit exactly, which is the rule, since
 *     replicas hold the same batches; else the segment is copied with them and swapped in (segment-swap.ts); what is
 *     missing between two files becomes segments of its own
 *  3. everything is synced, and only then the range is served again
 *
 * Invariants:
 * - Until step 3 has ended the range stays quarantined. A crash anywhere leaves damage that is found and repaired again,
 *   never wrong bytes that look right: every piece has its own checksum.
 * - Sound bytes outside the range are never changed.
 */
import { StreamError } from '../../src/base/errors.ts'
import { type DiskFile, isUnreadable } from '../../src/ports/disk.ts'
import {
  baseOffsetAt,
  batchBytesAt,
  findBatchDefect,
  HEADER_BYTES,
  lastOffsetAt,
  leaderEpochAt,
} from '../../src/record/batch-layout.ts'
import { BatchWalk, walkAll } from './batch-walk.ts'
import { rebuildEpochs } from './epoch-rebuild.ts'
import type { LogCore } from './log-core.ts'
import type { AbortedTransaction, DamagedRange } from './log-types.ts'
import { rollSegment } from './log-writer.ts'
import { rebuildProducerState, removeSnapshot, syncReplayed } from './producer-snapshots.ts'
import { Segment, segmentName } from './segment.ts'
import { CLEANED_SUFFIX, swapSegments } from './segment-swap.ts'

export const REPAIR_SUFFIX = '.repair'
const COPY_BYTES = 1024 * 1024

/** Whole batches of another replica. */
export interface RepairPiece {
  readonly records: Uint8Array
  /** Where the next piece begins; beyond the last batch where the other replica has a gap. */
  readonly nextOffset: number
}

/** Asks for batches from `offset` on, none at or beyond `endOffset`. @throws StreamError where there are none */
export type FetchPiece = (offset: number, endOffset: number) => Promise<RepairPiece>

export interface RepairResult {
  /** Bytes put in place. */
  readonly bytes: number
  /** `overwritten` byte for byte; `rewritten`: the segment was replaced; `inserted`: as a segment of its own. */
  readonly how: 'overwritten' | 'rewritten' | 'inserted'
}

/** Never acted upon: the range, or the log, is not what it was. */
class Overtaken extends StreamError {
  constructor(core: LogCore) {
    super('CONFLICT', `${core.directory}: the log has changed under a repair`)
  }
}

/**
 * @param range  one of core.damage
 * @throws StreamError CORRUPT_BATCH when what came does not fit; CONFLICT when the log has changed meanwhile; what
 *   `fetch` throws; DISK_*, CLOSED. The range stays quarantined then.
 */
export async function repairRange(
  core: LogCore,
  range: DamagedRange,
  fetch: FetchPiece,
): Promise<RepairResult> {
  core.assertUsable()
  const repair = new Repair(core, range)
  try {
    await repair.stage(fetch)
    return await repair.putInPlace()
  } finally {
    repair.clear()
  }
}

class Repair {
  readonly #core: LogCore
  readonly #range: DamagedRange
  readonly #generation: number
  readonly #path: string
  #file: DiskFile | undefined
  #bytes = 0
  /** Behind what was staged. */
  #endOffset: number
  #epoch: number

  constructor(core: LogCore, range: DamagedRange) {
    this.#core = core
    this.#range = range
    this.#generation = core.generation
    this.#path = `${core.directory}/${segmentName(range.startOffset)}${REPAIR_SUFFIX}`
    this.#endOffset = range.startOffset
    this.#epoch = core.epochs.epochAt(range.startOffset) ?? -1
  }

  // --- the pieces

  async stage(fetch: FetchPiece): Promise<void> {
    const { disk, guard } = this.#core.context
    const { endOffset } = this.#range
    this.#file = disk.open(this.#path, 'write')
    this.#file.truncate(0)
    while (this.#endOffset < endOffset && !this.#isSegmentFull) {
      const piece = await fetch(this.#endOffset, endOffset)
      this.#check()
      this.#verify(piece)
      const refusal = guard.refuses(piece.records.length)
      if (refusal !== undefined) throw refusal
      if (piece.records.length > 0) this.#file.write(this.#bytes, [piece.records])
      this.#bytes += piece.records.length
      if (piece.nextOffset <= this.#endOffset) throw this.#misfit('the copy ends there')
      this.#endOffset = piece.nextOffset
    }
  }

  /** A whole file, or several, are missing: one segment at a time. */
  get #isSegmentFull(): boolean {
    return this.#isMissing && this.#bytes >= this.#core.config.segmentBytes
  }

  /** Nothing stands where the range would begin. */
  get #isMissing(): boolean {
    const { startPosition, endPosition } = this.#range
    const segment = this.#segment
    return segment === undefined || (endPosition === Infinity && startPosition >= segment.sizeBytes)
  }

  get #segment(): Segment | undefined {
    const { segmentBaseOffset } = this.#range
    return this.#core.segments.find((segment) => segment.baseOffset === segmentBaseOffset)
  }

  #verify(piece: RepairPiece): void {
    const { records } = piece
    const core = this.#core
    const { endOffset } = this.#range
    let expected = this.#endOffset
    for (let at = 0; at < records.length; ) {
      const end = at + (records.length - at < HEADER_BYTES ? 0 : batchBytesAt(records, at))
      if (end <= at || end > records.length) throw this.#misfit('half a batch')
      const defect = findBatchDefect(records, at, end)
      if (defect !== undefined) throw this.#misfit(defect.detail)
      const baseOffset = baseOffsetAt(records, at)
      const lastOffset = lastOffsetAt(records, at)
      const epoch = leaderEpochAt(records, at)
      const isDense = expected < core.denseEndOffset
      if (baseOffset < expected || (isDense && baseOffset !== expected) || lastOffset >= endOffset)
        throw this.#misfit(`offsets ${baseOffset} to ${lastOffset} where ${expected} must follow`)
      const isOther = core.epochsAreWhole && core.epochs.differsAt(baseOffset, epoch)
      if (epoch < this.#epoch || isOther)
        throw this.#misfit(`leader epoch ${epoch} at offset ${baseOffset}`)
      this.#epoch = epoch
      expected = lastOffset + 1
      at = end
    }
    const { nextOffset } = piece
    if (nextOffset < expected || nextOffset > endOffset) throw this.#misfit(`then ${nextOffset}`)
    if (nextOffset > expected && expected < core.denseEndOffset)
      throw this.#misfit(`offsets ${expected} to ${nextOffset - 1} are missing there, too`)
  }

  #misfit(detail: string): StreamError {
    const { file, startOffset, endOffset } = this.#range
    return new StreamError(
      'CORRUPT_BATCH',
      `${file}: a copy of the offsets ${startOffset} to ${endOffset - 1} does not fit: ${detail}`,
      { target: file },
    )
  }

  // --- their place

  async putInPlace(): Promise<RepairResult> {
    const core = this.#core
    this.#check()
    await this.#noteUnclean()
    const staged = this.#file as DiskFile
    const segment = this.#segment
    let how: RepairResult['how']
    if (segment !== undefined && (await this.#fitsOver(segment))) how = 'overwritten'
    else how = this.#isMissing ? 'inserted' : 'rewritten'
    if (how === 'inserted') await core.exclusively(() => this.#insert(staged))
    if (how === 'overwritten' && !(await this.#overwritten(segment as Segment, staged)))
      how = 'rewritten'
    if (how === 'rewritten') await this.#rewrite(segment as Segment, staged)
    this.#settle(how)
    await syncReplayed(core, core.recoveryPoint)
    for (const { transactionIndex } of core.segments) {
      // Markers that were damaged are there again.
      transactionIndex.doubt()
    }
    if (how === 'overwritten') await this.#rebuildIndexes()
    return { bytes: this.#bytes, how }
  }

  /** The other replica may hold what was dropped here: on the medium before it is in place. */
  async #noteUnclean(): Promise<void> {
    const core = this.#core
    if (core.cleanOffset <= this.#range.startOffset) return
    core.cleanOffset = this.#range.startOffset
    await core.context.saveCleanOffsets()
    this.#check()
  }

  /** Whether the copy takes exactly the place of the damaged bytes. */
  async #fitsOver(segment: Segment): Promise<boolean> {
    const { startPosition, endPosition, endOffset } = this.#range
    const end = startPosition + this.#bytes
    if (this.#bytes === 0 || this.#endOffset !== endOffset) return false
    if (endPosition !== Infinity) return end === endPosition
    if (end >= segment.sizeBytes) return end === segment.sizeBytes
    // No way on was found behind the damage; with its true length known there is one.
    const { files } = this.#core.context
    const walk = new BatchWalk(files.pin(segment.handle), {
      start: end,
      end: segment.sizeBytes,
      mode: 'whole',
    })
    let follows = false
    try {
      await walkAll(walk, () => {
        follows = baseOffsetAt(walk.bytes, walk.at) === endOffset
        return false
      })
    } finally {
      files.unpin(segment.handle)
    }
    this.#check()
    return follows
  }

  /** @returns false where the kernel would have to read what cannot be read, around the end of a file */
  async #overwritten(segment: Segment, staged: DiskFile): Promise<boolean> {
    try {
      await this.#core.exclusively(() => this.#overwrite(segment, staged))
      return true
    } catch (error) {
      if (!isUnreadable(error) || this.#core.context.syncs.failure !== undefined) throw error
      return false
    }
  }

  async #overwrite(segment: Segment, staged: DiskFile): Promise<void> {
    const { files, syncs } = this.#core.context
    this.#check()
    const file = files.pin(segment.handle)
    try {
      copy(staged, 0, this.#bytes, (at, part) => file.write(this.#range.startPosition + at, [part]))
      await syncs.dataSync(file)
    } finally {
      files.unpin(segment.handle)
    }
    this.#check()
  }

  /** The staged file becomes a segment of its own. */
  async #insert(staged: DiskFile): Promise<void> {
    const core = this.#core
    const { disk, files, syncs, time } = core.context
    const { startOffset } = this.#range
    this.#check()
    if (this.#bytes === 0) throw this.#misfit('it holds nothing')
    if (startOffset > core.active.baseOffset) throw this.#misfit('the log is written to there')
    if (core.segments.some(({ baseOffset }) => baseOffset === startOffset)) {
      // An empty file of that name: the bytes go into it.
      const segment = core.segments.find(({ baseOffset }) => baseOffset === startOffset) as Segment
      const file = files.pin(segment.handle)
      try {
        copy(staged, 0, this.#bytes, (at, part) => file.write(at, [part]))
        await syncs.dataSync(file)
      } finally {
        files.unpin(segment.handle)
      }
      this.#check()
      segment.sizeBytes = this.#bytes
      segment.syncedBytes = this.#bytes
      await segment.rebuildIndexes(disk, files, core.config.indexIntervalBytes)
      return
    }
    await syncs.dataSync(staged)
    this.#check()
    const segment = new Segment(core.directory, startOffset, {
      sizeBytes: this.#bytes,
      createdMs: time.wallMs(),
      isNew: false,
    })
    segment.syncedBytes = this.#bytes
    disk.rename(this.#path, segment.path)
    await syncs.syncDirectory(core.directory)
    this.#check()
    core.segments = [...core.segments, segment].sort((a, b) => a.baseOffset - b.baseOffset)
    await segment.rebuildIndexes(disk, files, core.config.indexIntervalBytes)
  }

  /** The segment once more, with the copy where the damage is. */
  async #rewrite(damaged: Segment, staged: DiskFile): Promise<void> {
    const core = this.#core
    const { disk, files, syncs, time } = core.context
    const { startPosition, endPosition, endOffset } = this.#range
    if (damaged === core.active && core.logEndOffset > damaged.baseOffset)
      rollSegment(core, core.logEndOffset)
    const next = core.segments[core.segments.indexOf(damaged) + 1]
    // Where nobody knows how far the damage reaches, all that stands behind it must belong to the range.
    if (next === undefined || (endPosition === Infinity && next.baseOffset > endOffset))
      throw this.#misfit(`${this.#bytes} bytes`)
    const cleaned = new Segment(core.directory, damaged.baseOffset, {
      sizeBytes: 0,
      createdMs: time.wallMs(),
      isNew: true,
      suffix: CLEANED_SUFFIX,
    })
    cleaned.unlink(disk, CLEANED_SUFFIX)
    const source = files.pin(damaged.handle)
    const target = files.pin(cleaned.handle)
    try {
      const append = (_at: number, part: Uint8Array): void => {
        target.write(cleaned.sizeBytes, [part])
        cleaned.sizeBytes += part.length
      }
      copy(source, 0, startPosition, append)
      copy(staged, 0, this.#bytes, append)
      if (endPosition < damaged.sizeBytes) copy(source, endPosition, damaged.sizeBytes, append)
      await syncs.dataSync(target)
      cleaned.syncedBytes = cleaned.sizeBytes
    } catch (error) {
      files.retire(cleaned.handle)
      cleaned.unlink(disk, CLEANED_SUFFIX)
      throw error
    } finally {
      files.unpin(damaged.handle)
      files.unpin(cleaned.handle)
    }
    await cleaned.rebuildIndexes(disk, files, core.config.indexIntervalBytes)
    damaged.transactionIndex.load(disk)
    const aborted: AbortedTransaction[] = []
    damaged.transactionIndex.collect(0, Infinity, aborted)
    for (const transaction of aborted) cleaned.transactionIndex.append(transaction)
    cleaned.flushIndexes(disk)
    await swapSegments(core, [damaged], cleaned, () => this.#check())
    if (!core.segments.includes(cleaned)) throw new Overtaken(core)
  }

  // --- afterwards

  #settle(how: RepairResult['how']): void {
    const core = this.#core
    const { startOffset, endOffset, startPosition, endPosition, segmentBaseOffset } = this.#range
    const rest = core.damage.filter((range) => range !== this.#range)
    const moved = startPosition + this.#bytes - endPosition
    core.damage = rest.map((range) => {
      const isBehind =
        range.segmentBaseOffset === segmentBaseOffset && range.startPosition > startPosition
      if (how !== 'rewritten' || !isBehind) return range
      return {
        ...range,
        startPosition: range.startPosition + moved,
        endPosition: range.endPosition + moved,
      }
    })
    if (this.#endOffset < endOffset) this.#noteRest()
    core.hints.clear()
    if (!core.epochsAreWhole && core.damage.length === 0) rebuildEpochs(core)
    core.cleanOffset = Math.min(core.cleanOffset, startOffset)
    const wasReplayed = this.#range.foundAtStart === true && endOffset > core.replayedFrom
    if (how !== 'overwritten' || wasReplayed) this.#replay()
  }

  /** Of a long missing range one segment was put in place. */
  #noteRest(): void {
    const core = this.#core
    const { startOffset, endOffset } = this.#range
    const segment = core.segments.find((other) => other.baseOffset === startOffset) as Segment
    const rest: DamagedRange = {
      ...this.#range,
      file: segment.path,
      segmentBaseOffset: startOffset,
      startPosition: segment.sizeBytes,
      endPosition: Infinity,
      startOffset: this.#endOffset,
      endOffset,
    }
    core.damage = [...core.damage, rest].sort((a, b) => a.startOffset - b.startOffset)
  }

  /** What producers did in the range was not seen when the log was opened. */
  #replay(): void {
    const core = this.#core
    for (const offset of core.snapshotOffsets) {
      if (offset > this.#range.startOffset) removeSnapshot(core, offset)
    }
    rebuildProducerState(core, Infinity, Infinity)
    core.producers.forgetCompletedBelow(core.highWatermark)
  }

  async #rebuildIndexes(): Promise<void> {
    const core = this.#core
    const { disk, files } = core.context
    const intervalBytes = core.config.indexIntervalBytes
    const segment = this.#segment
    if (segment === undefined || segment === core.active) return
    // Beside other damage the entries that are there are right, and the walk would end at it.
    if (core.damageIn(segment, 0) !== undefined) return
    const isWhole = !core.damage.some((range) => range.segmentBaseOffset === segment.baseOffset)
    if (isWhole) await segment.rebuildIndexes(disk, files, intervalBytes)
  }

  /** After every wait. */
  #check(): void {
    const core = this.#core
    core.assertUsable()
    const isSame = core.generation === this.#generation && core.state === 'open'
    if (!isSame || !core.damage.includes(this.#range)) throw new Overtaken(core)
  }

  clear(): void {
    this.#file?.close()
    const { disk } = this.#core.context
    if (disk.stat(this.#path) !== undefined) disk.unlink(this.#path)
  }
}

function copy(
  source: DiskFile,
  start: number,
  end: number,
  write: (at: number, part: Uint8Array) => void,
): void {
  const buffer = new Uint8Array(Math.min(COPY_BYTES, Math.max(end - start, 1)))
  for (let at = start; at < end; ) {
    const count = source.read(at, buffer.subarray(0, Math.min(buffer.length, end - at)))
    if (count === 0) return
    write(at - start, buffer.subarray(0, count))
    at += count
  }
}
