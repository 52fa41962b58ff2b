/**
 * One partition directory held against itself and against what the data directory says of it.
 *
 * What is wrong, in the words of recovery (daemon/log/recovery.ts):
 * - bytes that are no batch below the durable mark, or with sound batches behind them: damage;
 * - such bytes at or above the mark with nothing behind: a torn tail, which the next start cuts;
 * - offsets that are missing below the dense end: damage; above it gaps are legal.
 * What lies wholly below the log start is nobody's loss.
 */
import { Buffer } from 'node:buffer'
import { isStreamError } from '../../src/base/errors.ts'
import type { Disk } from '../../src/ports/disk.ts'
import {
  attributesAt,
  baseOffsetAt,
  baseSequenceAt,
  isControl,
  isTransactional,
  lastOffsetAt,
  lastOffsetDeltaAt,
  leaderEpochAt,
  maxTimestampAt,
  producerEpochAt,
  producerIdAt,
} from '../../src/record/batch-layout.ts'
import { readControlBatch } from '../../src/record/control-batch.ts'
import type { BatchWalk } from '../log/batch-walk.ts'
import { LeaderEpochs } from '../log/leader-epochs.ts'
import type { AbortedTransaction } from '../log/log-types.ts'
import { snapshotOffsetsIn } from '../log/producer-snapshots.ts'
import { ProducerState } from '../log/producer-state.ts'
import { segmentName } from '../log/segment.ts'
import { parseEpochFile } from '../log/text-checkpoint.ts'
import type { Finding } from './findings.ts'
import { IndexChecks } from './index-checks.ts'
import { PartitionMender } from './mend-partition.ts'
import type { PartitionFiles, SegmentFile } from './partition-files.ts'
import { LogOrder, type ScanDefect, scanSegment } from './segment-scan.ts'

export interface PartitionTotals {
  segments: number
  batches: number
  bytes: number
  /** Behind the last sound batch. */
  endOffset: number
}

/** Told for each: a hopeless file must not fill the memory. */
const FINDINGS_PER_SEGMENT_MAX = 10_000

export async function checkPartition(
  disk: Disk,
  dataDirectory: string,
  files: PartitionFiles,
  onFinding: (finding: Finding) => void,
): Promise<PartitionTotals> {
  return await new PartitionCheck(disk, dataDirectory, files, onFinding).run()
}

class PartitionCheck {
  readonly #disk: Disk
  readonly #files: PartitionFiles
  readonly #report: (finding: Finding) => void
  readonly #mender: PartitionMender
  readonly #order = new LogOrder()
  readonly #producers = new ProducerState()
  /** As the batches say. */
  readonly #epochs = new LeaderEpochs()
  readonly #epochFile: LeaderEpochs | undefined
  readonly #totals: PartitionTotals = { segments: 0, batches: 0, bytes: 0, endOffset: 0 }
  #epochFault: number | undefined
  #defects = 0
  #hasDamage = false

  constructor(
    disk: Disk,
    dataDirectory: string,
    files: PartitionFiles,
    report: (finding: Finding) => void,
  ) {
    this.#disk = disk
    this.#files = files
    this.#report = report
    this.#mender = new PartitionMender(disk, dataDirectory, files)
    this.#epochFile = this.#readEpochs()
  }

  async run(): Promise<PartitionTotals> {
    const { segments, logStartOffset, directory } = this.#files
    const alive = segments.filter(
      (_segment, index) => (segments[index + 1]?.baseOffset ?? Infinity) > (logStartOffset ?? 0),
    )
    this.#checkStart(alive[0])
    for (const [index, segment] of alive.entries()) await this.#checkSegment(segment, alive, index)
    this.#checkEnd(alive.at(-1))
    this.#checkEpochs()
    this.#checkSnapshots(directory)
    this.#checkCheckpoint()
    this.#totals.endOffset = this.#order.expected
    return this.#totals
  }

  get #durable(): number | undefined {
    return this.#files.durableOffset
  }

  /** Gaps below it are damage. */
  get #denseEnd(): number {
    const { durableOffset, denseEndOffset } = this.#files
    return Math.min(durableOffset ?? 0, denseEndOffset ?? 0)
  }

  #checkStart(first: SegmentFile | undefined): void {
    const { logStartOffset, directory } = this.#files
    if (first === undefined) return
    this.#order.expected = first.baseOffset
    if (logStartOffset === undefined || logStartOffset >= first.baseOffset) return
    if (logStartOffset >= this.#denseEnd) return
    this.#missing(
      `${directory}/${segmentName(logStartOffset)}.log`,
      logStartOffset,
      first.baseOffset,
    )
  }

  async #checkSegment(
    segment: SegmentFile,
    alive: readonly SegmentFile[],
    index: number,
  ): Promise<void> {
    const next = alive[index + 1]
    const { expected } = this.#order
    if (index > 0 && segment.baseOffset > expected && expected < this.#denseEnd && !this.#isTold) {
      this.#missing(segment.path, expected, segment.baseOffset)
    }
    this.#isTold = false
    const isSettled = next !== undefined && next.baseOffset <= (this.#files.recoveryPoint ?? 0)
    const indexes = new IndexChecks(this.#disk, segment, { isSettled })
    this.#totals.segments += 1
    this.#totals.bytes += segment.sizeBytes
    this.#defects = 0
    const options = {
      mode: 'whole',
      nextBaseOffset: next?.baseOffset,
      epochMax: this.#epochFile?.latest?.epoch,
    } as const
    await scanSegment(this.#disk, segment, this.#order, options, {
      onBatch: (walk) => this.#onBatch(walk, segment, indexes),
      onDefect: (defect) => this.#onDefect(segment, next, defect),
    })
    this.#mender.noteAborted(segment, indexes.aborted)
    // Indexes of a damaged segment are made anew with it.
    if (this.#defects > 0) return
    indexes.finish()
    for (const fault of indexes.faults) {
      this.#report({ ...fault, mend: this.#mender.rebuildIndexes(segment) })
    }
  }

  /** Offsets that are missing before the next segment were told with the damage at the end of this one. */
  #isTold = false

  #onBatch(walk: BatchWalk, segment: SegmentFile, indexes: IndexChecks): void {
    const { bytes, at } = walk
    const baseOffset = baseOffsetAt(bytes, at)
    const { expected } = this.#order
    if (baseOffset > expected && expected < this.#denseEnd && !this.#isTold) {
      this.#missing(segment.path, expected, baseOffset)
    }
    this.#isTold = false
    this.#totals.batches += 1
    this.#checkEpoch(leaderEpochAt(bytes, at), baseOffset, lastOffsetAt(bytes, at))
    indexes.onBatch(walk)
    this.#noteProducer(bytes, at, indexes)
  }

  #onDefect(segment: SegmentFile, next: SegmentFile | undefined, defect: ScanDefect): void {
    this.#defects += 1
    const { kind, position, endPosition, startOffset, detail } = defect
    const endOffset = defect.endOffset ?? next?.baseOffset
    this.#isTold = true
    if (endOffset !== undefined && endOffset <= (this.#files.logStartOffset ?? 0)) return
    const durable = this.#durable
    const isTail = defect.endOffset === undefined && next === undefined
    const isTorn = isTail && (durable === undefined || startOffset >= durable)
    const file = segment.path
    const place = `bytes ${position} to ${endPosition - 1}: ${detail}`
    if (isTorn) {
      this.#report({ file, offset: startOffset, check: 'tail', state: 'torn', detail: place })
      return
    }
    this.#hasDamage = true
    const mend = this.#mender.setAside({ segment, position, endPosition, startOffset })
    if (this.#defects > FINDINGS_PER_SEGMENT_MAX) return
    this.#report({ file, offset: startOffset, check: kind, state: 'damaged', detail: place, mend })
  }

  #missing(file: string, startOffset: number, endOffset: number): void {
    this.#hasDamage = true
    this.#report({
      file,
      offset: startOffset,
      check: 'offsets',
      state: 'damaged',
      detail: `offsets ${startOffset} to ${endOffset - 1} are missing`,
      mend: this.#mender.acceptGap(startOffset).as('gone'),
    })
  }

  /** What was durable must be there. */
  #checkEnd(last: SegmentFile | undefined): void {
    const durable = this.#durable
    const end = Math.max(this.#order.expected, this.#files.logStartOffset ?? 0)
    if (durable === undefined || end >= durable) return
    const mend = this.#mender.acceptEnd(end, durable)
    if (this.#isTold) {
      // The bytes that held them were told already: their repair needs this too.
      this.#mender.alsoAfterSetAside(mend)
      return
    }
    this.#hasDamage = true
    const file = last?.path ?? `${this.#files.directory}/${segmentName(end)}.log`
    const detail = `offsets ${end} to ${durable - 1} were durable and are missing`
    this.#report({ file, offset: end, check: 'offsets', state: 'damaged', detail, mend })
  }

  #readEpochs(): LeaderEpochs | undefined {
    const bytes = this.#disk.readFile(this.#epochPath)
    const entries = bytes && parseEpochFile(Buffer.from(bytes).toString('utf8'))
    return entries && new LeaderEpochs(entries)
  }

  get #epochPath(): string {
    return `${this.#files.directory}/leader-epoch-checkpoint`
  }

  #checkEpoch(epoch: number, baseOffset: number, lastOffset: number): void {
    if (epoch > (this.#epochs.latest?.epoch ?? -1)) this.#epochs.assign(epoch, baseOffset)
    if (this.#epochFile === undefined || this.#epochFault !== undefined) return
    // Above the mark a start takes the epochs from the batches.
    if (baseOffset >= (this.#durable ?? 0)) return
    // Below the start of a log that was trimmed the file says nothing any more.
    const logStartOffset = this.#files.logStartOffset ?? 0
    if (lastOffset < logStartOffset) return
    const offset = Math.max(baseOffset, logStartOffset)
    if (this.#epochFile.epochAt(offset) !== epoch) this.#epochFault = baseOffset
  }

  #checkEpochs(): void {
    const file = this.#epochPath
    const mend = this.#mender.rewriteEpochs(this.#epochs)
    const exists = this.#disk.stat(file) !== undefined
    if (this.#epochFile === undefined) {
      if (!exists && this.#totals.batches === 0) return
      const detail = exists ? 'cannot be read' : 'no such file'
      const state = exists ? 'bad' : 'missing'
      this.#report({ file, offset: null, check: 'epochs', state, detail, mend })
    } else if (this.#epochFault !== undefined) {
      const detail = 'says another epoch than the batch has'
      const offset = this.#epochFault
      this.#report({ file, offset, check: 'epochs', state: 'bad', detail, mend })
    }
  }

  #noteProducer(bytes: Uint8Array, at: number, indexes: IndexChecks): void {
    const producerId = producerIdAt(bytes, at)
    if (producerId < 0) return
    if (isControl(attributesAt(bytes, at))) {
      this.#noteMarker(bytes, at, indexes)
      return
    }
    const baseOffset = baseOffsetAt(bytes, at)
    const lastOffsetDelta = lastOffsetDeltaAt(bytes, at)
    this.#producers.append(
      {
        baseOffset,
        lastOffset: baseOffset + lastOffsetDelta,
        lastOffsetDelta,
        maxTimestamp: maxTimestampAt(bytes, at),
        producerId,
        producerEpoch: producerEpochAt(bytes, at),
        baseSequence: baseSequenceAt(bytes, at),
        isTransactional: isTransactional(attributesAt(bytes, at)),
      },
      0,
    )
  }

  #noteMarker(bytes: Uint8Array, at: number, indexes: IndexChecks): void {
    let record: ReturnType<typeof readControlBatch>
    try {
      record = readControlBatch(bytes, at)
    } catch (error) {
      if (!isStreamError(error)) throw error
      return
    }
    if (record?.kind !== 'marker') return
    const { producerId, producerEpoch, coordinatorEpoch, offset, timestampMs } = record
    const commit = record.type === 'commit'
    const marker = { producerId, producerEpoch, coordinatorEpoch, offset, timestampMs, commit }
    const aborted: AbortedTransaction | undefined = this.#producers.applyMarker(marker, 0)
    if (!commit) indexes.onAbort(offset, aborted)
  }

  #checkSnapshots(directory: string): void {
    for (const offset of snapshotOffsetsIn(this.#disk.list(directory))) {
      const file = `${directory}/${segmentName(offset)}.snapshot`
      const detail = this.#snapshotFault(file, offset)
      if (detail === undefined) continue
      const mend = this.#mender.remove(file)
      this.#report({ file, offset, check: 'snapshot', state: 'bad', detail, mend })
    }
  }

  #snapshotFault(file: string, offset: number): string | undefined {
    const bytes = this.#disk.readFile(file)
    const state = bytes && ProducerState.decodeSnapshot(bytes, 0)
    if (state === undefined) return 'its checksum is wrong'
    for (const { producerId } of state.summaries()) {
      const lastOffset = state.lastBatchOf(producerId)?.lastOffset ?? -1
      if (lastOffset >= offset) return `speaks of offset ${lastOffset}, beyond its own`
    }
    const end = Math.max(this.#order.expected, this.#durable ?? 0)
    // A start removes it; while there is damage the end is not known well enough.
    if (offset > end && !this.#hasDamage) return `is beyond the end of the log at ${end}`
    return undefined
  }

  #checkCheckpoint(): void {
    const { recoveryPoint, logStartOffset, directory } = this.#files
    const end = Math.max(this.#order.expected, this.#durable ?? 0)
    if (this.#hasDamage) return
    for (const [name, offset] of [
      ['recovery point', recoveryPoint],
      ['log start', logStartOffset],
    ] as const) {
      if (offset === undefined || offset <= end) continue
      this.#report({
        file: directory,
        offset,
        check: 'checkpoint',
        state: 'bad',
        detail: `the ${name} of the checkpoint is beyond the end of the log at ${end}`,
        mend: this.#mender.clampCheckpoint(end),
      })
    }
  }
}
