/**
 * Appending to a log: offsets, one vectored write, indexes, producer state, cache. Synchronous, and nothing is done per
 * record (bench: produce).
 *
 * Invariants:
 * - Memory follows the file: state changes only after the write succeeded. A write that failed is cut off again, so that
 *   the file ends with its last whole batch; where even that fails the directory is FAILED.
 * - A segment's name is the log end offset at its creation, so that between two segments nothing can be missing unseen
 *   (recovery.ts relies on it), but where a gap exceeds what a relative offset can hold.
 */
import { assert } from '../../src/base/assert.ts'
import { isStreamError, StreamError } from '../../src/base/errors.ts'
import {
  baseOffsetAt,
  lastOffsetDeltaAt,
  leaderEpochAt,
  maxTimestampAt,
  recordCountAt,
  stampBatch,
} from '../../src/record/batch-layout.ts'
import { recordTimestampAt } from './batch-walk.ts'
import type { LogCore } from './log-core.ts'
import type { AppendResult } from './log-types.ts'
import { maybeTakeSnapshot, noteProducer, takeSnapshot } from './producer-snapshots.ts'
import { RELATIVE_OFFSET_MAX, Segment } from './segment.ts'

/** Called after every append, with the records it brought. */
export type AfterAppend = (records: number) => void

export class LogWriter {
  readonly #core: LogCore
  readonly #afterAppend: AfterAppend

  constructor(core: LogCore, afterAppend: AfterAppend) {
    this.#core = core
    this.#afterAppend = afterAppend
  }

  /**
   * Assigns offsets from the log end on and stamps them, with the leader epoch, into the batches.
   * @param batches  each one whole batch that was found sound; changed in place, and kept by the cache
   * @throws StreamError DISK_FULL, DISK_READ_ONLY, DISK_FAILED, CLOSED. Nothing was appended then, but for batches of
   *   one call that together exceed a segment: those that filled earlier segments stay.
   */
  append(batches: readonly Uint8Array[], leaderEpoch: number): AppendResult {
    const core = this.#core
    assert(
      leaderEpoch >= (core.epochs.latest?.epoch ?? 0),
      'batches of a log never fall in epoch (I2)',
    )
    let offset = core.logEndOffset
    for (const batch of batches) {
      stampBatch(batch, 0, { baseOffset: offset, leaderEpoch })
      offset += lastOffsetDeltaAt(batch, 0) + 1
    }
    return this.#appendStamped(batches)
  }

  /**
   * Batches keep their own offsets, which must rise and may leave gaps (mirrors, replicas).
   * @param leaderEpoch  stamped into them; their own when undefined
   * @throws StreamError as append, and CORRUPT_BATCH when offsets or epochs do not rise; nothing was appended then
   */
  appendPlaced(batches: readonly Uint8Array[], leaderEpoch: number | undefined): AppendResult {
    const core = this.#core
    let offset = core.logEndOffset
    let epoch = core.epochs.latest?.epoch ?? -1
    for (const batch of batches) {
      const baseOffset = baseOffsetAt(batch, 0)
      const batchEpoch = leaderEpoch ?? leaderEpochAt(batch, 0)
      if (baseOffset < offset || batchEpoch < epoch) {
        throw new StreamError(
          'CORRUPT_BATCH',
          `a batch placed at offset ${baseOffset}, epoch ${batchEpoch}, behind offset ${offset - 1}, epoch ${epoch}`,
        )
      }
      if (leaderEpoch !== undefined) stampBatch(batch, 0, { baseOffset, leaderEpoch })
      offset = baseOffset + lastOffsetDeltaAt(batch, 0) + 1
      epoch = batchEpoch
    }
    return this.#appendStamped(batches)
  }

  #appendStamped(batches: readonly Uint8Array[]): AppendResult {
    const core = this.#core
    core.assertUsable()
    assert(core.state === 'open', 'nothing is appended while the log is truncated')
    assert(batches.length > 0, 'an append brings a batch')
    let bytes = 0
    for (const batch of batches) bytes += batch.length
    const refusal = core.context.refusesWrites(bytes)
    if (refusal !== undefined) throw refusal
    const first = batches[0] as Uint8Array
    const firstOffset = baseOffsetAt(first, 0)
    let records = 0
    if (bytes <= core.config.segmentBytes) {
      records = this.#writeGroup(batches, bytes)
    } else {
      for (const batch of batches) records += this.#writeGroup([batch], batch.length)
    }
    maybeTakeSnapshot(core, batches.length, bytes)
    this.#afterAppend(records)
    return { firstOffset, lastOffset: core.logEndOffset - 1, nextOffset: core.logEndOffset }
  }

  /** All batches go into one segment. @returns the records written */
  #writeGroup(batches: readonly Uint8Array[], bytes: number): number {
    const core = this.#core
    const first = batches[0] as Uint8Array
    const last = batches.at(-1) as Uint8Array
    const lastOffset = baseOffsetAt(last, 0) + lastOffsetDeltaAt(last, 0)
    if (this.#mustRoll(bytes, maxTimestampAt(first, 0), lastOffset)) {
      const fits = lastOffset - core.logEndOffset <= RELATIVE_OFFSET_MAX
      rollSegment(core, fits ? core.logEndOffset : baseOffsetAt(first, 0))
    }
    const segment = core.active
    const start = segment.sizeBytes
    const file = core.context.files.use(segment.handle)
    try {
      file.write(start, batches)
    } catch (error) {
      this.#undoWrite(error, start)
    }
    return this.#noteWritten(segment, batches, start)
  }

  #noteWritten(segment: Segment, batches: readonly Uint8Array[], start: number): number {
    const core = this.#core
    const { disk, indexes } = core.context
    if (!segment.offsetIndex.file.isLoaded) segment.loadIndexes(disk)
    let position = start
    let records = 0
    for (const batch of batches) {
      const baseOffset = baseOffsetAt(batch, 0)
      const lastOffset = baseOffset + lastOffsetDeltaAt(batch, 0)
      if (baseOffset > core.logEndOffset) {
        core.denseEndOffset = Math.min(core.denseEndOffset, core.logEndOffset)
      }
      const epoch = leaderEpochAt(batch, 0)
      if (epoch >= 0) core.epochs.assign(epoch, baseOffset)
      segment.noteBatch(
        position,
        lastOffset,
        recordTimestampAt(batch, 0),
        core.config.indexIntervalBytes,
      )
      noteProducer(core, segment, batch, 0)
      core.cache.add(batch, baseOffset, lastOffset)
      core.logEndOffset = lastOffset + 1
      position += batch.length
      records += recordCountAt(batch, 0)
    }
    segment.sizeBytes = position
    indexes.touch(segment)
    flushIndexesIfDue(core, segment)
    return records
  }

  #undoWrite(error: unknown, sizeBytes: number): never {
    const core = this.#core
    const { files, guard, syncs } = core.context
    const segment = core.active
    if (!isStreamError(error)) throw error
    try {
      files.use(segment.handle).truncate(sizeBytes)
    } catch (truncateError) {
      throw syncs.fail(truncateError, segment.path)
    }
    if (error.code === 'DISK_FULL') guard.noteFull(error)
    if (error.code === 'DISK_FAILED') throw syncs.fail(error, segment.path)
    throw error
  }

  #mustRoll(bytes: number, timestampMs: number, lastOffset: number): boolean {
    const core = this.#core
    const { config, active } = core
    if (lastOffset - active.baseOffset > RELATIVE_OFFSET_MAX) return true
    if (active.sizeBytes === 0) return false
    if (active.sizeBytes + bytes > config.segmentBytes) return true
    if (active.isIndexFull(config.segmentIndexBytes)) return true
    return mustRollByTime(core, timestampMs)
  }
}

/** kafka-protocol.md section 7.6, rule 6. */
export function mustRollByTime(core: LogCore, timestampMs: number): boolean {
  const { config, active } = core
  const limitMs =
    (config.cleanupCompact
      ? Math.min(config.segmentMs, config.maxCompactionLagMs)
      : config.segmentMs) - active.rollJitterMs
  if (limitMs === Infinity) return false
  const firstMs = active.readFirstTimestamp(core.context.files)
  if (firstMs >= 0 && timestampMs >= 0) return timestampMs - firstMs > limitMs
  return core.context.time.wallMs() - active.createdMs > limitMs
}

function flushIndexesIfDue(core: LogCore, segment: Segment): void {
  try {
    for (const file of segment.indexFiles()) file.flushIfDue(core.context.disk)
  } catch (error) {
    // They can be rebuilt, and the next flush tries again: the append itself has succeeded.
    if (!isStreamError(error, 'DISK_FULL')) throw error
  }
}

/** Closes the active segment and begins a new one. @throws StreamError of the disk; the old one stays active then */
export function rollSegment(core: LogCore, baseOffset: number): void {
  const { disk, files, random, time } = core.context
  const old = core.active
  assert(baseOffset > old.baseOffset, 'segments are ordered by base offset')
  try {
    if (!old.offsetIndex.file.isLoaded) old.loadIndexes(disk)
    old.finishIndexes(disk)
  } catch (error) {
    if (!isStreamError(error, 'DISK_FULL')) throw error
  }
  const segment = new Segment(core.directory, baseOffset, {
    sizeBytes: 0,
    createdMs: time.wallMs(),
    isNew: true,
  })
  const file = files.use(segment.handle)
  if (file.sizeBytes() > 0) file.truncate(0)
  for (const index of segment.indexFiles()) index.reset(disk)
  const jitterMsMax = Math.min(core.config.segmentJitterMs, core.config.segmentMs)
  segment.rollJitterMs = Math.floor(random.fraction() * jitterMsMax)
  core.segments.push(segment)
  core.directoryDirty = true
  takeSnapshot(core)
}
