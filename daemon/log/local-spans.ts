/**
 * Finds where whole batches lie, for readers on this machine that read the segment files themselves.
 *
 * Invariants:
 * - A span begins and ends where a batch does; both ends come from the segments' bounds or from an index entry whose
 *   batch stands at its place.
 * - Nothing at or beyond `endOffset`, nothing that is not durable, and nothing of a range known to be damaged is in one.
 *
 * It only looks: an index that is missing or wrong is left to the next read (log-reader.ts), which rebuilds it.
 */
import {
  baseOffsetAt,
  batchBytesAt,
  findHeaderDefect,
  HEADER_BYTES,
  lastOffsetAt,
} from '../../src/record/batch-layout.ts'
import type { LogCore } from './log-core.ts'
import type { LocalSpan, SpansRequest } from './log-types.ts'
import type { Segment } from './segment.ts'

/** Where a batch stands. */
interface Place {
  readonly position: number
  readonly endPosition: number
  readonly baseOffset: number
  readonly lastOffset: number
}

/** @throws StreamError CLOSED, and what the disk throws */
export function findLocalSpans(core: LogCore, request: SpansRequest): LocalSpan[] {
  core.assertOpen()
  const endOffset = Math.min(request.endOffset, core.durableOffset)
  const spans: LocalSpan[] = []
  if (core.state !== 'open') return spans
  let offset = request.offset
  let room = request.maxBytes
  let index = Math.max(core.segmentIndexOf(offset), 0)
  while (offset < endOffset && room > 0 && core.damageAt(offset) === undefined) {
    const segment = core.segments[index]
    if (segment === undefined || segment.detached) break
    const endBound = core.segments[index + 1]?.baseOffset ?? core.logEndOffset
    const span = spanIn(core, segment, { offset, endOffset, endBound, room })
    if (span === undefined) break
    if (span.sizeBytes > 0) spans.push(span)
    room -= span.sizeBytes
    offset = span.nextOffset
    if (offset < endBound) break
    index++
  }
  return spans
}

interface Wanted {
  readonly offset: number
  readonly endOffset: number
  /** Where the next segment, or nothing, begins. */
  readonly endBound: number
  readonly room: number
}

/** @returns undefined where nothing can be said */
function spanIn(core: LogCore, segment: Segment, wanted: Wanted): LocalSpan | undefined {
  const { disk, files } = core.context
  const { offset, endOffset, endBound, room } = wanted
  const isWhole = offset <= segment.baseOffset && endBound <= endOffset && segment.sizeBytes <= room
  if (!isWhole && !segment.loadIndexes(disk)) return undefined
  if (!isWhole) core.context.indexes.touch(segment)
  let start = startPosition(core, segment, offset)
  if (start === undefined) return undefined
  for (const range of core.damage) {
    if (range.segmentBaseOffset !== segment.baseOffset || range.endOffset > offset) continue
    start = Math.max(start, range.endPosition)
  }
  let end = { position: segment.sizeBytes, offset: endBound }
  if (endBound > endOffset) {
    const entry = segment.offsetIndex.lookup(endOffset - 1)
    const place = entry === undefined ? undefined : placeAt(core, segment, entry.position)
    if (place === undefined || place.lastOffset >= endOffset) return undefined
    end = { position: place.endPosition, offset: place.lastOffset + 1 }
  }
  if (end.position - start > room) {
    for (const entry of segment.offsetIndex.entriesBehind(start + room)) {
      const place = placeAt(core, segment, entry.position)
      if (place === undefined) return undefined
      // Not before the first batch that is wanted.
      if (place.baseOffset <= offset) continue
      if (place.position < end.position)
        end = { position: place.position, offset: place.baseOffset }
      break
    }
  }
  for (const range of core.damage) {
    if (range.segmentBaseOffset !== segment.baseOffset || range.endPosition <= start) continue
    if (range.startPosition >= end.position) continue
    end = { position: range.startPosition, offset: range.startOffset }
    break
  }
  if (end.position < start || end.offset < offset) return undefined
  return {
    path: segment.path,
    fileId: files.use(segment.handle).fileId(),
    position: start,
    sizeBytes: end.position - start,
    nextOffset: end.offset,
  }
}

/** Where a batch begins at or before the one that holds `offset`. */
function startPosition(core: LogCore, segment: Segment, offset: number): number | undefined {
  if (offset <= segment.baseOffset) return 0
  const hint = core.hints.get(offset)
  if (hint !== undefined && hint.segment === segment) return hint.position
  const entry = segment.offsetIndex.lookup(offset)
  if (entry === undefined) return 0
  const place = placeAt(core, segment, entry.position)
  return place === undefined || place.lastOffset !== entry.offset ? undefined : place.position
}

/** The batch whose header stands at `position`, if one does. */
function placeAt(core: LogCore, segment: Segment, position: number): Place | undefined {
  const header = new Uint8Array(HEADER_BYTES)
  const count = core.context.files.use(segment.handle).read(position, header)
  const defect = findHeaderDefect(header, 0, count)
  if (count < HEADER_BYTES || (defect !== undefined && defect.kind !== 'truncated'))
    return undefined
  const endPosition = position + batchBytesAt(header, 0)
  if (endPosition > segment.sizeBytes) return undefined
  return {
    position,
    endPosition,
    baseOffset: baseOffsetAt(header, 0),
    lastOffset: lastOffsetAt(header, 0),
  }
}
