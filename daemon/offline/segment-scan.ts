/**
 * Goes through one segment file from its first byte to its last: sound batches, and between them ranges that are none.
 * The way behind such a range is found as recovery finds it (daemon/log/damage.ts).
 *
 * Invariant: every byte of the file belongs to exactly one batch or one defect.
 */
import type { Disk, DiskFile } from '../../src/ports/disk.ts'
import { baseOffsetAt, leaderEpochAt } from '../../src/record/batch-layout.ts'
import { BatchWalk } from '../log/batch-walk.ts'
import { findWayOn } from '../log/damage.ts'
import { RELATIVE_OFFSET_MAX, Segment } from '../log/segment.ts'
import type { SegmentFile } from './partition-files.ts'

export type DefectKind = 'checksum' | 'structure' | 'offset' | 'epoch'

export interface ScanDefect {
  readonly kind: DefectKind
  readonly detail: string
  readonly position: number
  /** Exclusive. */
  readonly endPosition: number
  readonly startOffset: number
  /** Where the log goes on in this segment; undefined: it does not. */
  readonly endOffset: number | undefined
}

export interface ScanVisitor {
  /** `walk` stands on the batch; a promise is waited for. */
  onBatch(walk: BatchWalk): void | Promise<void>
  onDefect(defect: ScanDefect): void | Promise<void>
}

/** What is carried from segment to segment: the log end so far, and its leader epoch. */
export class LogOrder {
  expected = 0
  epoch = -1
}

export interface ScanOptions {
  readonly mode: 'headers' | 'whole'
  /** Of the segment behind. */
  readonly nextBaseOffset: number | undefined
  /** The latest leader epoch of the log; undefined: unknown. */
  readonly epochMax: number | undefined
}

export async function scanSegment(
  disk: Disk,
  segment: SegmentFile,
  order: LogOrder,
  options: ScanOptions,
  visitor: ScanVisitor,
): Promise<void> {
  if (segment.baseOffset > order.expected) order.expected = segment.baseOffset
  if (segment.sizeBytes === 0) return
  const file = disk.open(segment.path, 'read')
  try {
    await new Scan(disk, file, segment, order, options, visitor).run()
  } finally {
    file.close()
  }
}

class Scan {
  readonly #disk: Disk
  readonly #file: DiskFile
  readonly #segment: SegmentFile
  readonly #order: LogOrder
  readonly #options: ScanOptions
  readonly #visitor: ScanVisitor

  constructor(
    disk: Disk,
    file: DiskFile,
    segment: SegmentFile,
    order: LogOrder,
    options: ScanOptions,
    visitor: ScanVisitor,
  ) {
    this.#disk = disk
    this.#file = file
    this.#segment = segment
    this.#order = order
    this.#options = options
    this.#visitor = visitor
  }

  async run(): Promise<void> {
    const { sizeBytes } = this.#segment
    const walk = new BatchWalk(this.#file, { start: 0, end: sizeBytes, mode: this.#options.mode })
    for (;;) {
      const step = walk.step()
      if (step === 'more') {
        await walk.fill()
        continue
      }
      if (step === 'end') return
      const defect =
        step === 'defect'
          ? { kind: kindOf(walk), detail: walk.defect?.detail ?? '' }
          : this.#misplaced(walk)
      if (defect === undefined) {
        const waits = this.#visitor.onBatch(walk)
        if (waits !== undefined) await waits
        this.#order.expected = walk.lastOffset + 1
        this.#order.epoch = Math.max(this.#order.epoch, leaderEpochAt(walk.bytes, walk.at))
        continue
      }
      const { position } = walk
      const wayOn = await this.#findWayOn(position)
      await this.#visitor.onDefect({
        ...defect,
        position,
        endPosition: wayOn?.position ?? sizeBytes,
        startOffset: this.#order.expected,
        endOffset: wayOn?.offset,
      })
      if (wayOn === undefined) return
      walk.moveTo(wayOn.position)
    }
  }

  /** A sound batch that cannot stand here. */
  #misplaced(walk: BatchWalk): { kind: DefectKind; detail: string } | undefined {
    const { expected, epoch: epochBefore } = this.#order
    const { nextBaseOffset } = this.#options
    const baseOffset = baseOffsetAt(walk.bytes, walk.at)
    const epoch = leaderEpochAt(walk.bytes, walk.at)
    if (epoch < epochBefore) {
      return { kind: 'epoch', detail: `leader epoch ${epoch} behind ${epochBefore}` }
    }
    if (baseOffset < expected) {
      return { kind: 'offset', detail: `offset ${baseOffset} behind ${expected - 1}` }
    }
    if (!this.#segment.isNamed) return undefined
    if (walk.lastOffset - this.#segment.baseOffset > RELATIVE_OFFSET_MAX) {
      const detail = `offset ${walk.lastOffset} in the segment ${this.#segment.baseOffset}`
      return { kind: 'offset', detail }
    }
    if (nextBaseOffset !== undefined && walk.lastOffset >= nextBaseOffset) {
      const detail = `offset ${walk.lastOffset} where the next segment begins at ${nextBaseOffset}`
      return { kind: 'offset', detail }
    }
    return undefined
  }

  #findWayOn(position: number): ReturnType<typeof findWayOn> {
    return findWayOn(this.#file, this.#indexed(), {
      position,
      endPosition: this.#segment.sizeBytes,
      offsetMin: this.#order.expected,
      offsetEnd: this.#options.nextBaseOffset ?? Number.POSITIVE_INFINITY,
      epochMin: this.#order.epoch,
      epochMax: this.#options.epochMax ?? 0x7fffffff,
    })
  }

  /** The segment with its offset index, where that can be right; else with none. */
  #indexed(): Segment {
    const { directory, baseOffset, sizeBytes, suffix, isNamed } = this.#segment
    const make = (ending: string): Segment =>
      new Segment(directory, baseOffset, {
        sizeBytes,
        createdMs: 0,
        isNew: false,
        suffix: ending,
      })
    const segment = make(isNamed ? suffix : '.none')
    if (segment.offsetIndex.load(this.#disk, sizeBytes)) return segment
    const without = make('.none')
    without.offsetIndex.load(this.#disk, sizeBytes)
    return without
  }
}

function kindOf(walk: BatchWalk): DefectKind {
  return walk.defect?.kind === 'crc' ? 'checksum' : 'structure'
}
