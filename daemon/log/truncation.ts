/**
 * Cutting a log: at its end (a follower that diverged), as a whole (a new start), and raising its start (DeleteRecords).
 *
 * Order of a cut at the end, each step synced before the next begins: the durable mark is lowered in both copies; the
 * later segments go, last first; the file is cut; indexes, epochs, snapshots follow; file and directory are synced. Only
 * then is anything appended again, or an old segment or an old tail could come back behind new records.
 */
import { assert } from '../../src/base/assert.ts'
import { StreamError } from '../../src/base/errors.ts'
import { BatchWalk, walkAll } from './batch-walk.ts'
import type { EpochFile } from './epoch-file.ts'
import type { LogCore } from './log-core.ts'
import type { LogFlusher } from './log-flusher.ts'
import { rebuildProducerState, removeSnapshot, syncReplayed } from './producer-snapshots.ts'
import { Segment } from './segment.ts'
import { removeFirstSegments } from './segment-removal.ts'

/** The parts of a log that a cut has to stop and start again. */
export interface CutParts {
  readonly core: LogCore
  readonly flusher: LogFlusher
  readonly epochFile: EpochFile
}

/**
 * Removes everything at or beyond `offset`. Where it lies inside a batch, that whole batch goes.
 * @throws StreamError OFFSET_OUT_OF_RANGE below the log start; DISK_FAILED; CLOSED
 */
export async function truncateTo(parts: CutParts, offset: number): Promise<void> {
  const { core } = parts
  core.assertUsable()
  if (offset < core.logStartOffset) {
    throw new StreamError(
      'OFFSET_OUT_OF_RANGE',
      `cannot cut at ${offset}, before the log start ${core.logStartOffset}`,
    )
  }
  if (offset >= core.logEndOffset) {
    // An epoch that began at the end without a batch is dead all the same.
    core.epochs.truncateEnd(core.logEndOffset)
    if (core.epochsNeedSaving) await parts.epochFile.save()
    return
  }
  await stopped(parts, async () => {
    const cut = await placeOf(core, offset)
    // The batch that goes reached below the log start: nothing is left, and no offset below the start is given again.
    if (cut.endOffset < core.logStartOffset) {
      await dropAll(parts, core.logStartOffset)
      return
    }
    await lowerMarks(core, cut.endOffset)
    cutFiles(core, cut)
    await settleCut(parts)
  })
}

/** Drops everything: the log is empty then, and starts at `offset`. @throws StreamError DISK_FAILED, CLOSED */
export async function resetTo(parts: CutParts, offset: number): Promise<void> {
  const { core } = parts
  core.assertUsable()
  await stopped(parts, () => dropAll(parts, offset))
}

async function dropAll(parts: CutParts, offset: number): Promise<void> {
  const { core } = parts
  const { disk, files, indexes, time } = core.context
  await lowerMarks(core, 0)
  for (const segment of core.segments.slice().reverse()) {
    segment.detached = true
    indexes.forget(segment)
    files.retire(segment.handle)
    segment.unlink(disk, '')
  }
  for (const old of core.snapshotOffsets.slice()) removeSnapshot(core, old)
  const segment = new Segment(core.directory, offset, {
    sizeBytes: 0,
    createdMs: time.wallMs(),
    isNew: true,
  })
  files.use(segment.handle).truncate(0)
  core.segments = [segment]
  core.logStartOffset = offset
  core.logEndOffset = offset
  core.durableOffset = 0
  core.denseEndOffset = Infinity
  core.damage = []
  core.epochs.clear()
  await settleCut(parts)
  await core.context.saveCheckpoint()
}

/** Nothing is appended, synced or compacted while `work` runs; readers notice by the generation. */
async function stopped(parts: CutParts, work: () => Promise<void>): Promise<void> {
  const { core, flusher } = parts
  while (core.exclusiveWork !== undefined) await core.exclusiveWork
  assert(core.state === 'open', 'one truncation at a time')
  core.state = 'truncating'
  core.generation++
  try {
    await flusher.quiesce()
    await work()
  } catch (error) {
    // Half cut, in memory and on disk: nobody may go on with it. The next start finds its way.
    const failure = core.context.syncs.fail(error, core.directory)
    flusher.fail(failure)
    throw failure
  } finally {
    core.generation++
    if (core.state === 'truncating') core.state = 'open'
  }
  flusher.resume()
}

/** The durable mark first: it must never lie above the truth. */
async function lowerMarks(core: LogCore, endOffset: number): Promise<void> {
  core.durableOffset = Math.min(core.durableOffset, endOffset)
  core.highWatermark = Math.min(core.highWatermark, endOffset)
  core.recoveryPoint = Math.min(core.recoveryPoint, endOffset)
  core.tombstoneFloor = Math.min(core.tombstoneFloor, endOffset)
  if (core.cleanOffset > endOffset) {
    core.cleanOffset = endOffset
    // Or a start would take what is written there next for clean.
    await core.context.saveCleanOffsets()
  }
  await core.context.marks.lower(core.mark, core.durableOffset, core.markedDenseEnd)
  if (core.savedRecoveryPoint > endOffset) await core.context.saveCheckpoint()
}

interface CutPlace {
  readonly segmentIndex: number
  readonly position: number
  /** The log end after the cut. */
  readonly endOffset: number
}

async function placeOf(core: LogCore, offset: number): Promise<CutPlace> {
  const { files } = core.context
  const segmentIndex = Math.max(core.segmentIndexOf(offset), 0)
  const segment = core.segments[segmentIndex] as Segment
  if (offset <= segment.baseOffset) return { segmentIndex, position: 0, endOffset: offset }
  segment.loadIndexes(core.context.disk)
  // An entry below the cut names a batch that stays, so that its end is known.
  const entry = segment.offsetIndex.lookup(offset - 1)
  const start = entry !== undefined && segment.stands(files, entry) ? entry.position : 0
  const file = files.pin(segment.handle)
  try {
    const walk = new BatchWalk(file, { start, end: segment.sizeBytes, mode: 'headers' })
    let endOffset = segment.baseOffset
    await walkAll(walk, () => {
      if (walk.lastOffset >= offset) return false
      endOffset = walk.lastOffset + 1
      return true
    })
    return { segmentIndex, position: walk.position, endOffset }
  } finally {
    files.unpin(segment.handle)
  }
}

function cutFiles(core: LogCore, cut: CutPlace): void {
  const { disk, files, indexes } = core.context
  for (const segment of core.segments.slice(cut.segmentIndex + 1).reverse()) {
    segment.detached = true
    indexes.forget(segment)
    files.retire(segment.handle)
    segment.unlink(disk, '')
  }
  core.segments = core.segments.slice(0, cut.segmentIndex + 1)
  const segment = core.active
  files.use(segment.handle).truncate(cut.position)
  segment.sizeBytes = cut.position
  segment.syncedBytes = Math.min(segment.syncedBytes, cut.position)
  if (cut.position === 0) segment.firstTimestampMs = undefined
  segment.cutIndexes(disk, cut.endOffset)
  core.logEndOffset = cut.endOffset
  if (core.denseEndOffset >= cut.endOffset) core.denseEndOffset = Infinity
  core.epochs.truncateEnd(cut.endOffset)
  core.damage = core.damage.filter((range) => range.startOffset < cut.endOffset)
  for (const offset of core.snapshotOffsets) {
    if (offset > cut.endOffset) removeSnapshot(core, offset)
  }
}

/** What the new end needs before anything is appended to it. */
async function settleCut(parts: CutParts): Promise<void> {
  const { core, epochFile } = parts
  const { files, syncs } = core.context
  core.cache.clear()
  core.hints.clear()
  const segment = core.active
  const file = files.pin(segment.handle)
  try {
    await syncs.dataSync(file)
  } finally {
    files.unpin(segment.handle)
  }
  segment.syncedBytes = segment.sizeBytes
  await syncs.syncDirectory(core.directory)
  core.directoryDirty = false
  completeActive(core)
  rebuildProducerState(core, Infinity, Infinity)
  await syncReplayed(core, core.recoveryPoint)
  core.producers.forgetCompletedBelow(core.highWatermark)
  await epochFile.save()
}

/** The indexes of the active segment, complete in memory. */
export function completeActive(core: LogCore, trustedOffset = Infinity): void {
  const { disk, files, indexes } = core.context
  const intervalBytes = core.config.indexIntervalBytes
  core.active.completeIndexes(disk, files, { intervalBytes, trustedOffset })
  indexes.touch(core.active)
}

/**
 * Nothing below `offset` is readable any more; segments that lie wholly below it go. Resolves when that is durable.
 * @throws StreamError OFFSET_OUT_OF_RANGE beyond the log end; DISK_FAILED; CLOSED
 */
export async function deleteRecordsBefore(parts: CutParts, offset: number): Promise<void> {
  const { core, epochFile } = parts
  core.assertUsable()
  if (offset > core.logEndOffset || offset < 0) {
    throw new StreamError(
      'OFFSET_OUT_OF_RANGE',
      `cannot delete before ${offset}: the log ends at ${core.logEndOffset}`,
    )
  }
  if (offset <= core.logStartOffset) return
  await raiseLogStart(core, epochFile, offset)
}

/** @returns what went with it */
export async function raiseLogStart(
  core: LogCore,
  epochFile: EpochFile,
  offset: number,
): Promise<{ readonly segments: number; readonly bytes: number }> {
  core.logStartOffset = Math.max(core.logStartOffset, offset)
  core.highWatermark = Math.max(core.highWatermark, core.logStartOffset)
  core.cleanOffset = Math.max(core.cleanOffset, core.logStartOffset)
  core.epochs.truncateStart(core.logStartOffset)
  // Deleted records are nobody's loss.
  core.damage = core.damage.filter((range) => range.endOffset > core.logStartOffset)
  // Before a file goes: a start that falls back would show records that were deleted (I14).
  await core.context.saveCheckpoint()
  await epochFile.save()
  while (core.exclusiveWork !== undefined) await core.exclusiveWork
  core.assertUsable()
  // A truncation has begun meanwhile: the next retention takes the segments away.
  if (core.state !== 'open') return { segments: 0, bytes: 0 }
  let count = 0
  let bytes = 0
  for (const segment of core.segments.slice(0, -1)) {
    const next = core.segments[count + 1] as Segment
    if (next.baseOffset > core.logStartOffset) break
    count++
    bytes += segment.sizeBytes
  }
  if (count > 0) removeFirstSegments(core, count)
  return { segments: count, bytes }
}
