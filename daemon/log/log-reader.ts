/**
 * Reading a log: whole batches from an offset on. Recent ones come from memory; the others from the files in blocks of
 * at most 1 MiB, each batch checked with its CRC before it is handed out.
 *
 * Invariants:
 * - Nothing damaged leaves: a bad batch ends a read before it, and a read that begins at it fails with DATA_DAMAGED
 *   naming file and position. The damaged range is remembered; what lies behind it is served.
 * - A batch is of the leader epoch that was in force at its offset (I2); its checksum does not cover that.
 * - Where the log is known to be dense, an offset that is missing is damage, not a gap.
 * - An index entry is believed only when the batch it names stands at its place.
 */
import { StreamError } from '../../src/base/errors.ts'
import { baseOffsetAt, HEADER_BYTES, leaderEpochAt } from '../../src/record/batch-layout.ts'
import { BatchWalk, type WalkedFile, walkAll } from './batch-walk.ts'
import { findWayOn } from './damage.ts'
import type { LogCore } from './log-core.ts'
import type { DamagedRange, LogSlice, ReadRequest } from './log-types.ts'
import { damagedError, type Segment } from './segment.ts'
import { ReadableParts } from './unreadable.ts'

/** One read, one buffer, one frame: an answer in several pieces would be joined by its reader. */
const BLOCK_BYTES_MAX = 4 * 1024 * 1024
const BLOCK_BYTES_MIN = 16 * 1024
/** A read that a truncation or a swap got in the way of begins anew; more than this cannot happen by chance. */
const ATTEMPTS_MAX = 8

interface Wanted {
  readonly offset: number
  /** Exclusive. */
  readonly endOffset: number
  readonly maxBytes: number
  readonly minOneBatch: boolean
}

/** The log changed under a read. */
class Overtaken extends Error {}

export class LogReader {
  readonly #core: LogCore

  constructor(core: LogCore) {
    this.#core = core
  }

  /** @throws StreamError OFFSET_OUT_OF_RANGE, CLOSED */
  readCached(request: ReadRequest): LogSlice | undefined {
    const wanted = this.#wanted(request)
    return this.#fromCache(wanted)
  }

  /** @throws StreamError OFFSET_OUT_OF_RANGE, DATA_DAMAGED, CLOSED, and what the disk throws */
  read(request: ReadRequest): Promise<LogSlice> {
    return this.#untilWhole(async () => {
      const wanted = this.#wanted(request)
      return this.#fromCache(wanted) ?? (await this.#readFiles(wanted))
    })
  }

  /** As read, from the files alone: what is in memory says nothing of them. */
  async readStored(request: ReadRequest): Promise<LogSlice> {
    return this.#untilWhole(() => this.#readFiles(this.#wanted(request)))
  }

  async #untilWhole<T>(work: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await work()
      } catch (error) {
        if (!(error instanceof Overtaken) || attempt === ATTEMPTS_MAX) throw error
      }
    }
  }

  #wanted(request: ReadRequest): Wanted {
    const core = this.#core
    core.assertOpen()
    const { offset, maxBytes } = request
    if (offset < core.logStartOffset || offset > core.logEndOffset) {
      throw new StreamError(
        'OFFSET_OUT_OF_RANGE',
        `offset ${offset} is outside ${core.logStartOffset} to ${core.logEndOffset}`,
        { target: `${core.identity.topic}-${core.identity.partition}` },
      )
    }
    const endOffset = Math.min(request.endOffset ?? core.logEndOffset, core.logEndOffset)
    return { offset, endOffset, maxBytes, minOneBatch: request.minOneBatch ?? true }
  }

  #fromCache(wanted: Wanted): LogSlice | undefined {
    const { offset, endOffset, maxBytes, minOneBatch } = wanted
    if (offset >= endOffset) return emptySlice(offset)
    return this.#core.cache.read(offset, endOffset, maxBytes, minOneBatch)
  }

  async #readFiles(wanted: Wanted): Promise<LogSlice> {
    const core = this.#core
    const segments = core.segments
    let offset = wanted.offset
    for (let index = Math.max(core.segmentIndexOf(offset), 0); ; index++) {
      const range = core.damageAt(offset)
      if (range !== undefined) {
        throw damagedError(range.file, range.startPosition, range.startOffset, range.detail)
      }
      const segment = segments[index]
      // A gap up to the end: compaction may leave one, and it may end where nothing was appended since.
      if (segment === undefined || offset >= wanted.endOffset) {
        return {
          bytes: [],
          sizeBytes: 0,
          firstOffset: offset,
          nextOffset: Math.max(wanted.offset, offset),
        }
      }
      const endBound = segments[index + 1]?.baseOffset ?? core.logEndOffset
      const slice = await new SegmentRead(core, segment, endBound).run({ ...wanted, offset })
      if (slice !== undefined) return slice
      // Nothing at or behind the offset in this segment.
      offset = Math.max(offset, endBound)
    }
  }
}

/** One read of one segment. */
class SegmentRead {
  readonly #core: LogCore
  readonly #segment: Segment
  readonly #generation: number
  /** Where the next segment, or nothing, begins. */
  readonly #endBound: number
  readonly #bytes: Uint8Array[] = []
  #sizeBytes = 0
  #firstOffset = -1
  #nextOffset = -1
  /** Of the run in the current block that was collected and not yet cut out. */
  #runStart = -1
  #runEnd = -1
  #runBlock: Uint8Array = EMPTY
  /** The offset that must come next; undefined: not known, since the read began inside the segment. */
  #expected: number | undefined

  constructor(core: LogCore, segment: Segment, endBound: number) {
    this.#core = core
    this.#segment = segment
    this.#generation = core.generation
    this.#endBound = endBound
  }

  /** @returns undefined when the segment holds nothing at or behind the offset */
  async run(wanted: Wanted): Promise<LogSlice | undefined> {
    const { files } = this.#core.context
    const segment = this.#segment
    if (segment.detached) throw new Overtaken()
    const hint = this.#core.hints.get(wanted.offset)
    const isHinted = hint !== undefined && hint.segment === segment
    const start = isHinted ? hint.position : await this.#startPosition(wanted.offset)
    if (segment.detached || this.#core.generation !== this.#generation) throw new Overtaken()
    const file = readableParts(this.#core, files.pin(segment.handle))
    try {
      const walk = new BatchWalk(file, {
        start,
        end: segment.sizeBytes,
        mode: 'whole',
        fresh: true,
      })
      if (isHinted) this.#expected = wanted.offset
      else if (start === 0) this.#expected = segment.baseOffset
      return await this.#collect(walk, file, wanted, isHinted ? hint.batchBytes : 0)
    } finally {
      files.unpin(segment.handle)
    }
  }

  async #startPosition(offset: number): Promise<number> {
    const core = this.#core
    const segment = this.#segment
    const { disk, files, indexes } = core.context
    if (offset <= segment.baseOffset) return 0
    if (!segment.loadIndexes(disk)) await this.#rebuildIndexes()
    indexes.touch(segment)
    let entry = segment.offsetIndex.lookup(offset)
    if (entry === undefined) return 0
    if (!segment.stands(files, entry)) {
      // Either the index is wrong or the batch is: a walk from the start of the segment tells.
      core.context.log.warn('an offset index does not fit its segment; it is rebuilt', {
        file: segment.offsetIndex.file.path,
      })
      await this.#rebuildIndexes()
      entry = segment.offsetIndex.lookup(offset)
      if (entry === undefined || !segment.stands(files, entry)) return 0
    }
    return entry.position
  }

  async #rebuildIndexes(): Promise<void> {
    const core = this.#core
    const { disk, files } = core.context
    if (this.#segment === core.active) {
      // Appends go on: no await may come between the walk and them.
      for (const index of [this.#segment.offsetIndex, this.#segment.timeIndex]) {
        index.file.reset(disk)
      }
      const intervalBytes = core.config.indexIntervalBytes
      this.#segment.completeIndexes(disk, files, { intervalBytes, trustedOffset: Infinity })
      return
    }
    await this.#segment.rebuildIndexes(disk, files, core.config.indexIntervalBytes)
  }

  async #collect(
    walk: BatchWalk,
    file: WalkedFile,
    wanted: Wanted,
    typicalBatchBytes: number,
  ): Promise<LogSlice | undefined> {
    let batchBytesTypical = typicalBatchBytes
    for (;;) {
      if (this.#stepOverDamage(walk, wanted)) continue
      if (this.#isSkippingDamage) return this.#finish(walk, wanted, batchBytesTypical)
      const step = walk.step()
      if (step === 'more') {
        const room = wanted.maxBytes - this.#sizeBytes
        if (this.#sizeBytes > 0 && Math.max(walk.neededBytes, batchBytesTypical) > room) {
          return this.#finish(walk, wanted, batchBytesTypical)
        }
        this.#cutRun()
        walk.blockBytes = blockBytesFor(room, batchBytesTypical)
        await walk.fill()
        continue
      }
      if (step === 'end') return this.#finish(walk, wanted, batchBytesTypical)
      const defect = step === 'defect' ? (walk.defect?.detail ?? '') : this.#orderDefect(walk)
      if (defect !== undefined) {
        if (this.#sizeBytes > 0) return this.#finish(walk, wanted, batchBytesTypical)
        await this.#quarantine(file, walk, defect, wanted)
        continue
      }
      batchBytesTypical = walk.batchBytes
      const lastOffset = walk.lastOffset
      this.#expected = lastOffset + 1
      if (lastOffset < wanted.offset) continue
      if (!this.#take(walk, wanted, lastOffset)) {
        return this.#finish(walk, wanted, batchBytesTypical)
      }
    }
  }

  /** @returns false when the batch does not belong to the answer any more */
  #take(walk: BatchWalk, wanted: Wanted, lastOffset: number): boolean {
    if (lastOffset >= wanted.endOffset) return false
    const size = this.#sizeBytes + walk.batchBytes
    if (size > wanted.maxBytes && (this.#sizeBytes > 0 || !wanted.minOneBatch)) return false
    if (this.#runStart < 0 || this.#runBlock !== walk.bytes || this.#runEnd !== walk.at) {
      this.#cutRun()
      this.#runBlock = walk.bytes
      this.#runStart = walk.at
    }
    this.#runEnd = walk.at + walk.batchBytes
    if (this.#sizeBytes === 0) this.#firstOffset = baseOffsetAt(walk.bytes, walk.at)
    this.#sizeBytes = size
    this.#nextOffset = lastOffset + 1
    this.#nextPosition = walk.nextPosition
    return true
  }

  #nextPosition = 0

  #cutRun(): void {
    if (this.#runStart < 0) return
    this.#bytes.push(this.#runBlock.subarray(this.#runStart, this.#runEnd))
    this.#runStart = -1
  }

  #finish(walk: BatchWalk, wanted: Wanted, batchBytes: number): LogSlice | undefined {
    this.#cutRun()
    if (this.#core.generation !== this.#generation) throw new Overtaken()
    if (this.#sizeBytes > 0) {
      const hint = { segment: this.#segment, position: this.#nextPosition, batchBytes }
      this.#core.remember(this.#nextOffset, hint)
      return {
        bytes: this.#bytes,
        sizeBytes: this.#sizeBytes,
        firstOffset: this.#firstOffset,
        nextOffset: this.#nextOffset,
      }
    }
    if (walk.position >= walk.end && !this.#isSkippingDamage) {
      this.#checkSegmentEnd(wanted)
      return undefined
    }
    return emptySlice(wanted.offset)
  }

  /** A closed segment of a dense log ends where the next one begins. */
  #checkSegmentEnd(wanted: Wanted): void {
    const core = this.#core
    const segment = this.#segment
    const endOffset = this.#expected ?? segment.baseOffset
    if (segment.detached) throw new Overtaken()
    if (endOffset >= this.#endBound || endOffset >= core.denseEndOffset) return
    if (wanted.offset >= this.#endBound) return
    const range: DamagedRange = {
      file: segment.path,
      segmentBaseOffset: segment.baseOffset,
      startPosition: segment.sizeBytes,
      endPosition: Infinity,
      startOffset: endOffset,
      endOffset: this.#endBound,
      detail: `offsets ${endOffset} to ${this.#endBound - 1} are missing`,
    }
    noteDamage(core, range)
    throw damagedError(range.file, range.startPosition, range.startOffset, range.detail)
  }

  #orderDefect(walk: BatchWalk): string | undefined {
    const place = { segment: this.#segment, endBound: this.#endBound, expected: this.#expected }
    return findOrderDefect(this.#core, walk, place)
  }

  #isSkippingDamage = false

  /** @returns true when the walk was moved behind a known damage */
  #stepOverDamage(walk: BatchWalk, wanted: Wanted): boolean {
    this.#isSkippingDamage = false
    const range = this.#core.damageIn(this.#segment, walk.nextPosition)
    if (range === undefined) return false
    if (this.#sizeBytes > 0) {
      this.#isSkippingDamage = true
      return false
    }
    if (wanted.offset < range.endOffset) {
      throw damagedError(range.file, range.startPosition, range.startOffset, range.detail)
    }
    walk.moveTo(Math.min(range.endPosition, walk.end))
    this.#expected = range.endOffset
    return true
  }

  /** The offset that must stand at `position`, where the read did not come from the batch before. */
  async #offsetAt(file: WalkedFile, position: number): Promise<number> {
    const walk = new BatchWalk(file, { start: 0, end: position, mode: 'headers' })
    let offset = this.#segment.baseOffset
    await walkAll(walk, () => {
      offset = walk.lastOffset + 1
      return true
    })
    return offset
  }

  /** The bytes at the walk's place are no batch: looks again, finds where the log goes on, remembers the range. */
  async #quarantine(
    file: WalkedFile,
    walk: BatchWalk,
    detail: string,
    wanted: Wanted,
  ): Promise<void> {
    const core = this.#core
    const segment = this.#segment
    const position = walk.position
    // What is appended to the segment from here on has nothing to do with the damage.
    const isActive = segment === core.active
    const endPosition = isActive ? segment.sizeBytes : Infinity
    const endOffset = isActive ? core.logEndOffset : this.#endBound
    const expected = this.#expected ?? (await this.#offsetAt(file, position))
    const again = new BatchWalk(file, { start: position, end: walk.end, mode: 'whole' })
    again.blockBytes = HEADER_BYTES
    let step = again.step()
    while (step === 'more') {
      await again.fill()
      step = again.step()
    }
    if (segment.detached || core.generation !== this.#generation) throw new Overtaken()
    // Read well this time: a fault on the way, not on the medium.
    if (step === 'batch' && walk.defect !== undefined) {
      walk.moveTo(position)
      return
    }
    const wayOn = await findWayOn(file, segment, {
      position,
      endPosition: Math.min(endPosition, segment.sizeBytes),
      offsetMin: expected,
      offsetEnd: endOffset,
      epochMin: core.epochs.epochAt(expected) ?? -1,
      epochMax: (core.epochsAreWhole ? core.epochs.latest?.epoch : undefined) ?? 0x7fffffff,
    })
    if (segment.detached || core.generation !== this.#generation) throw new Overtaken()
    noteDamage(core, {
      file: segment.path,
      segmentBaseOffset: segment.baseOffset,
      startPosition: position,
      endPosition: wayOn?.position ?? endPosition,
      startOffset: expected,
      endOffset: wayOn?.offset ?? endOffset,
      detail,
    })
    walk.moveTo(position)
    this.#stepOverDamage(walk, wanted)
  }
}

/**
 * What is wrong with the place of the walk's current batch in its log; the batch itself is sound.
 * @param place.endBound  where the next segment, or nothing, begins
 * @param place.expected  the offset that must come next; undefined: not known
 */
export function findOrderDefect(
  core: LogCore,
  walk: BatchWalk,
  place: {
    readonly segment: Segment
    readonly endBound: number
    readonly expected: number | undefined
  },
): string | undefined {
  const { segment, endBound, expected } = place
  const baseOffset = baseOffsetAt(walk.bytes, walk.at)
  if (walk.lastOffset >= endBound) {
    return `offset ${walk.lastOffset} where the segment ends below ${endBound}`
  }
  if (baseOffset < segment.baseOffset) return `offset ${baseOffset} before its segment`
  // Its checksum does not cover the epoch: followers would take a changed one for another history.
  const epoch = leaderEpochAt(walk.bytes, walk.at)
  if (core.epochsAreWhole && core.epochs.differsAt(baseOffset, epoch)) {
    return `leader epoch ${epoch} where ${core.epochs.epochAt(baseOffset)} was in force`
  }
  if (expected === undefined) return undefined
  if (baseOffset < expected) return `offset ${baseOffset} behind ${expected - 1}`
  if (baseOffset > expected && expected < core.denseEndOffset) {
    return `offset ${baseOffset} where ${expected} must follow`
  }
  return undefined
}

/** For readers of a log: it says which places are lost. */
export function readableParts(
  core: LogCore,
  file: WalkedFile & { readonly path: string },
): WalkedFile {
  const said = new Set<number>()
  return new ReadableParts(file, (position) => {
    if (said.has(position)) return
    said.add(position)
    core.context.log.error('the disk cannot read a part of a segment: it counts as damaged', {
      file: file.path,
      position,
    })
  })
}

/** Remembers a range and says so once. */
export function noteDamage(core: LogCore, range: DamagedRange): void {
  const known = core.damage.some(
    (other) =>
      other.segmentBaseOffset === range.segmentBaseOffset &&
      other.startPosition === range.startPosition,
  )
  if (known) return
  core.damage = [...core.damage, range].sort((a, b) => a.startOffset - b.startOffset)
  core.context.log.error('damaged bytes in a log: the range is not served', {
    file: range.file,
    position: range.startPosition,
    offsets: `${range.startOffset} to ${range.endOffset - 1}`,
    detail: range.detail,
  })
}

function emptySlice(offset: number): LogSlice {
  return { bytes: [], sizeBytes: 0, firstOffset: offset, nextOffset: offset }
}

/** As much as is asked for, in whole batches of the size seen last, so that little is read twice. */
function blockBytesFor(room: number, batchBytesTypical: number): number {
  const wanted = Math.min(Math.max(room, BLOCK_BYTES_MIN), BLOCK_BYTES_MAX)
  if (batchBytesTypical === 0 || batchBytesTypical > wanted) return wanted
  return Math.floor(wanted / batchBytesTypical) * batchBytesTypical
}

const EMPTY = new Uint8Array(0)
