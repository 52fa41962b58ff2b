/**
 * Reads one log from its files, piece by piece, for the scrubber (replication.md section 7.3): every batch below what is
 * durable, its checksum, its offset, its leader epoch. What was sound is handed over range by range with its hash
 * (range-hash.ts), for whoever compares it with another replica: so nothing is read twice for that.
 *
 * It judges nothing by itself. At whatever looks wrong a reader is sent to that offset, and what the reader finds is
 * quarantined, said and repaired as if a consumer had come upon it; what the reader takes for sound is passed over.
 *
 * Invariants:
 * - One piece is one block of a file, or one batch where that is larger; nothing of it is kept.
 * - Nothing is concluded from a segment that was replaced or a log that was cut meanwhile: the walk begins anew there.
 */
import { isStreamError } from '../../src/base/errors.ts'
import { BatchWalk } from './batch-walk.ts'
import type { LogCore } from './log-core.ts'
import { findOrderDefect, type LogReader, readableParts } from './log-reader.ts'
import { type SoundRange, SoundRanges } from './range-hash.ts'
import type { Segment } from './segment.ts'

const PIECE_BYTES = 256 * 1024

/** Where the scrubber stands in a segment. */
interface Place {
  readonly segment: Segment
  readonly generation: number
  /** Where the next segment, or nothing, begins. */
  readonly endBound: number
  readonly isActive: boolean
  readonly walk: BatchWalk
  /** The offset that must come next; undefined: not known, since the walk began inside the segment. */
  expected: number | undefined
  /** Where a reader was sent to, and found nothing wrong. */
  excused: number
}

export interface ScrubPiece {
  /** Read from the file. */
  readonly bytes: number
  /** Everything that was durable has been read. */
  readonly isDone: boolean
}

export class LogScrub {
  readonly #core: LogCore
  readonly #reader: LogReader
  /** What is appended from the beginning on is for the next pass. */
  readonly #endOffset: number
  #offset: number
  #place: Place | undefined
  readonly #ranges: SoundRanges | undefined
  #isCompared = false

  /**
   * @param offset  to begin at; what lies before it in the same segment is read once more
   * @param give  takes the ranges that were found sound; never called but from next()
   */
  constructor(
    core: LogCore,
    reader: LogReader,
    offset: number,
    give?: (range: SoundRange) => void,
  ) {
    this.#core = core
    this.#reader = reader
    this.#endOffset = core.durableOffset
    this.#offset = offset
    this.#ranges = give && new SoundRanges(offset, give)
  }

  /** Everything below was read. */
  get offset(): number {
    return this.#offset
  }

  /**
   * @param isCompared  whether somebody wants the ranges now; what was begun and is not wanted any more is forgotten
   * @throws StreamError CLOSED, and what the disk throws: next() goes on behind that segment then
   */
  async next(isCompared = false): Promise<ScrubPiece> {
    const core = this.#core
    core.assertOpen()
    this.#isCompared = isCompared
    if (!isCompared) this.#ranges?.drop()
    if (this.#offset >= this.#endOffset) return this.#done()
    if (core.state === 'truncating') return { bytes: 0, isDone: false }
    const place = this.#standing() ?? this.#settle()
    if (place === undefined) return this.#done()
    const { files } = core.context
    const { handle } = place.segment
    files.pin(handle)
    try {
      return { bytes: await this.#piece(place), isDone: false }
    } catch (error) {
      if (this.#holds(place)) this.#leave(place)
      throw error
    } finally {
      files.unpin(handle)
    }
  }

  #done(): ScrubPiece {
    this.#ranges?.end()
    return { bytes: 0, isDone: true }
  }

  #standing(): Place | undefined {
    const place = this.#place
    return place !== undefined && this.#holds(place) ? place : undefined
  }

  #holds({ segment, generation }: Place): boolean {
    return !segment.detached && this.#core.generation === generation
  }

  /** @returns undefined where the log was cut, so that nothing is left to read */
  #settle(): Place | undefined {
    const core = this.#core
    this.#place = undefined
    this.#offset = Math.max(this.#offset, core.logStartOffset)
    if (this.#offset >= core.durableOffset) return undefined
    const index = Math.max(core.segmentIndexOf(this.#offset), 0)
    const segment = core.segments[index] as Segment
    const { handle, sizeBytes, baseOffset } = segment
    const { files } = core.context
    // Between two pieces its descriptor may be closed.
    const file = readableParts(core, {
      path: handle.path,
      read: (position, target) => files.use(handle).read(position, target),
      readAsync: (position, target) => files.use(handle).readAsync(position, target),
    })
    const start = this.#startIn(segment)
    const walk = new BatchWalk(file, { start, end: sizeBytes, mode: 'whole' })
    walk.blockBytes = PIECE_BYTES
    this.#place = {
      segment,
      generation: core.generation,
      endBound: core.segments[index + 1]?.baseOffset ?? core.logEndOffset,
      isActive: segment === core.active,
      walk,
      expected: start === 0 ? baseOffset : undefined,
      excused: -1,
    }
    return this.#place
  }

  /** What lies below the log start is nobody's any more. */
  #startIn(segment: Segment): number {
    const { logStartOffset, context } = this.#core
    if (logStartOffset <= segment.baseOffset || !segment.loadIndexes(context.disk)) return 0
    context.indexes.touch(segment)
    const entry = segment.offsetIndex.lookup(logStartOffset)
    return entry !== undefined && segment.stands(context.files, entry) ? entry.position : 0
  }

  /** @returns bytes read */
  async #piece(place: Place): Promise<number> {
    const { walk } = place
    let bytes = 0
    for (;;) {
      if (this.#stepOverDamage(place)) continue
      const step = walk.step()
      if (step === 'more') {
        // The block is used again.
        this.#ranges?.settle()
        if (bytes > 0) return bytes
        await walk.fill()
        bytes = walk.bytes.length
        if (!this.#holds(place)) return bytes
        continue
      }
      if (step === 'end') {
        await this.#checkEnd(place)
        return bytes
      }
      if (step === 'defect' || this.#isOutOfOrder(place)) {
        await this.#judge(place, walk.position)
        return bytes
      }
      if (this.#isCompared) this.#ranges?.add(walk.bytes, walk.at, this.#core)
      place.expected = walk.lastOffset + 1
      this.#offset = Math.max(this.#offset, place.expected)
      if (this.#offset >= this.#endOffset) return bytes
    }
  }

  #stepOverDamage(place: Place): boolean {
    const { walk, segment } = place
    const range = this.#core.damageIn(segment, walk.nextPosition)
    if (range === undefined) return false
    this.#ranges?.end()
    walk.moveTo(Math.min(range.endPosition, walk.end))
    place.expected = range.endOffset
    this.#offset = Math.max(this.#offset, range.endOffset)
    return walk.nextPosition < walk.end
  }

  #isOutOfOrder(place: Place): boolean {
    return findOrderDefect(this.#core, place.walk, place) !== undefined
  }

  /** A closed segment of a dense log ends where the next one begins. */
  async #checkEnd(place: Place): Promise<void> {
    const core = this.#core
    const { expected = place.endBound, endBound, isActive, walk } = place
    const isShort = !isActive && expected < endBound && expected < core.denseEndOffset
    if (isShort && core.damageAt(expected) === undefined) await this.#judge(place, walk.end)
    else if (this.#holds(place)) this.#leave(place)
  }

  /** Lets a reader find what is wrong at `position`. */
  async #judge(place: Place, position: number): Promise<void> {
    const core = this.#core
    const { logStartOffset } = core
    const offset = Math.max(place.expected ?? logStartOffset, logStartOffset)
    try {
      await this.#reader.readStored({ offset, maxBytes: 1 })
    } catch (error) {
      const isFound = isStreamError(error, 'DATA_DAMAGED')
      if (!isFound && !isStreamError(error, 'OFFSET_OUT_OF_RANGE')) throw error
    }
    if (!this.#holds(place) || core.damageIn(place.segment, position) !== undefined) return
    // A fault on the way is looked at once more; what no reader minds is left alone with its segment.
    if (place.excused === position) this.#leave(place)
    else {
      place.excused = position
      place.walk.moveTo(position)
    }
  }

  #leave(place: Place): void {
    this.#place = undefined
    this.#offset = Math.max(this.#offset, place.endBound)
  }
}
