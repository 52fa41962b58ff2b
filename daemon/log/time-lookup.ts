/**
 * Offsets by time (kafka-protocol.md P7): the first record with a timestamp at or behind a time, and the record with the
 * largest one. The only read path that opens batches.
 *
 * What the headers say of a batch's largest timestamp is believed; which record of it is asked for is looked up.
 */
import { batchBytesAt, lastOffsetAt, leaderEpochAt } from '../../src/record/batch-layout.ts'
import { RecordCursor } from '../../src/record/record-cursor.ts'
import { BatchWalk, recordTimestampAt } from './batch-walk.ts'
import type { LogCore } from './log-core.ts'
import { type LogReader, readableParts } from './log-reader.ts'
import type { TimestampOffset } from './log-types.ts'
import type { Segment } from './segment.ts'

const READ_BYTES = 256 * 1024

/**
 * @param endOffset  records at or beyond it do not count (exclusive)
 * @returns undefined when no record is so late
 * @throws StreamError DATA_DAMAGED when the place where it would be is damaged; CORRUPT_BATCH; what the disk throws
 */
export async function offsetForTimestamp(
  core: LogCore,
  reader: LogReader,
  timestampMs: number,
  endOffset: number,
): Promise<TimestampOffset | undefined> {
  for (const segment of core.segments.slice()) {
    if (segment.detached || segment.baseOffset >= endOffset) continue
    if ((await largestTimestamp(core, segment)) < timestampMs) continue
    const endBound = boundOf(core, segment, endOffset)
    const found = await firstRecord(core, reader, {
      fromOffset: await startOffsetFor(core, segment, timestampMs),
      endOffset: endBound,
      timestampMs,
    })
    if (found !== undefined) return found
  }
  return undefined
}

/** @returns undefined for a log without timestamps below `endOffset` */
export async function offsetOfMaxTimestamp(
  core: LogCore,
  reader: LogReader,
  endOffset: number,
): Promise<TimestampOffset | undefined> {
  let best: { readonly segment: Segment; readonly timestampMs: number } | undefined
  for (const segment of core.segments.slice()) {
    if (segment.detached || segment.baseOffset >= endOffset) continue
    const timestampMs = await largestTimestampBelow(core, segment, endOffset)
    if (timestampMs >= 0 && timestampMs > (best?.timestampMs ?? -1)) best = { segment, timestampMs }
  }
  if (best === undefined) return undefined
  return await firstRecord(core, reader, {
    fromOffset: await startOffsetFor(core, best.segment, best.timestampMs),
    endOffset: boundOf(core, best.segment, endOffset),
    timestampMs: best.timestampMs,
  })
}

/** −1: the segment is empty, or its records have no timestamps. */
export async function largestTimestamp(core: LogCore, segment: Segment): Promise<number> {
  if (!segment.timesKnown) await learnTimes(core, segment)
  return segment.maxTimestampMs
}

/** From the last time entry of a closed segment, if it is sound, else from all its headers. */
async function learnTimes(core: LogCore, segment: Segment): Promise<void> {
  const { disk, files, indexes } = core.context
  if (segment.sizeBytes === 0) return
  const loaded = segment.loadIndexes(disk)
  const last = loaded ? segment.timeIndex.last : undefined
  if (last === undefined || !(await holdsTimestamp(core, segment, last))) {
    await segment.rebuildIndexes(disk, files, core.config.indexIntervalBytes)
  } else {
    segment.maxTimestampMs = last.timestampMs
    segment.maxTimestampOffset = last.offset
    segment.timesKnown = true
  }
  indexes.touch(segment)
}

/** Whether the batch that a time entry names has the timestamp it says. */
async function holdsTimestamp(
  core: LogCore,
  segment: Segment,
  entry: { readonly timestampMs: number; readonly offset: number },
): Promise<boolean> {
  const position = segment.offsetIndex.lookup(entry.offset)?.position ?? 0
  let found = -1
  await walkHeaders(core, segment, position, (walk) => {
    if (walk.lastOffset < entry.offset) return true
    if (walk.lastOffset === entry.offset) found = recordTimestampAt(walk.bytes, walk.at)
    return false
  })
  return found === entry.timestampMs
}

async function largestTimestampBelow(
  core: LogCore,
  segment: Segment,
  endOffset: number,
): Promise<number> {
  const largest = await largestTimestamp(core, segment)
  if (boundOf(core, segment, Infinity) <= endOffset || segment.maxTimestampOffset < endOffset) {
    return largest
  }
  // The largest one lies beyond the end: the headers below it have to be looked at.
  let found = -1
  await walkHeaders(core, segment, 0, (walk) => {
    if (walk.lastOffset >= endOffset) return false
    found = Math.max(found, recordTimestampAt(walk.bytes, walk.at))
    return true
  })
  return found
}

/** No record before this offset, in the segment, is so late. */
async function startOffsetFor(
  core: LogCore,
  segment: Segment,
  timestampMs: number,
): Promise<number> {
  const { disk, indexes } = core.context
  if (!segment.loadIndexes(disk)) {
    await segment.rebuildIndexes(disk, core.context.files, core.config.indexIntervalBytes)
  }
  indexes.touch(segment)
  const entry = segment.timeIndex.lookupBelow(timestampMs)
  const offset =
    entry !== undefined && (await holdsTimestamp(core, segment, entry))
      ? entry.offset + 1
      : segment.baseOffset
  return Math.max(offset, core.logStartOffset)
}

async function walkHeaders(
  core: LogCore,
  segment: Segment,
  start: number,
  visit: (walk: BatchWalk) => boolean,
): Promise<void> {
  const { files } = core.context
  const file = files.pin(segment.handle)
  try {
    const walk = new BatchWalk(readableParts(core, file), {
      start,
      end: segment.sizeBytes,
      mode: 'headers',
    })
    for (;;) {
      const step = walk.step()
      if (step === 'more') await walk.fill()
      else if (step !== 'batch' || !visit(walk)) return
    }
  } finally {
    files.unpin(segment.handle)
  }
}

interface RecordWanted {
  readonly fromOffset: number
  readonly endOffset: number
  readonly timestampMs: number
}

async function firstRecord(
  core: LogCore,
  reader: LogReader,
  wanted: RecordWanted,
): Promise<TimestampOffset | undefined> {
  const cursor = new RecordCursor()
  let offset = wanted.fromOffset
  while (offset < Math.min(wanted.endOffset, core.logEndOffset)) {
    const slice = await reader.read({
      offset,
      maxBytes: READ_BYTES,
      endOffset: wanted.endOffset,
    })
    for (const bytes of slice.bytes) {
      const found = firstRecordIn(cursor, bytes, offset, wanted.timestampMs)
      if (found !== undefined) return found
    }
    if (slice.nextOffset <= offset) return undefined
    offset = slice.nextOffset
  }
  return undefined
}

function firstRecordIn(
  cursor: RecordCursor,
  bytes: Uint8Array,
  fromOffset: number,
  timestampMs: number,
): TimestampOffset | undefined {
  let at = 0
  while (at < bytes.length) {
    // Only a batch that can hold it is opened, which may mean to decompress it.
    if (recordTimestampAt(bytes, at) >= timestampMs && lastOffsetAt(bytes, at) >= fromOffset) {
      const leaderEpoch = leaderEpochAt(bytes, at)
      cursor.reset(bytes, at)
      while (cursor.next()) {
        if (cursor.timestampMs >= timestampMs && cursor.offset >= fromOffset) {
          return { offset: cursor.offset, timestampMs: cursor.timestampMs, leaderEpoch }
        }
      }
    }
    at += batchBytesAt(bytes, at)
  }
  return undefined
}

function boundOf(core: LogCore, segment: Segment, endOffset: number): number {
  const next = core.segments.find((other) => other.baseOffset > segment.baseOffset)
  return Math.min(next?.baseOffset ?? core.logEndOffset, endOffset)
}
