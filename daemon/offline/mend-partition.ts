/**
 * What `fsck --repair` does to one partition.
 *
 * Invariants:
 * - No byte is thrown away: a damaged range is copied to `set-aside/PARTITION/` in the data directory, and synced there,
 *   before it leaves its segment.
 * - Killed between any two steps, the next start of the daemon and the next fsck find a log that is not worse than before:
 *   the dense end is lowered before a gap is made; a segment is replaced by a rename; indexes go before it.
 * - Offsets do not change, and none is ever given out twice: the log end does not fall below the durable mark.
 */
import { Buffer } from 'node:buffer'
import { assert } from '../../src/base/assert.ts'
import type { Disk, DiskFile } from '../../src/ports/disk.ts'
import { decodeCheckpoint, encodeCheckpoint, type StoredEntry } from '../log/checkpoint.ts'
import type { LeaderEpochs } from '../log/leader-epochs.ts'
import { defaultLogConfig } from '../log/log-config.ts'
import type { AbortedTransaction } from '../log/log-types.ts'
import { OpenFiles } from '../log/open-files.ts'
import { Segment, segmentName } from '../log/segment.ts'
import { encodeEpochFile } from '../log/text-checkpoint.ts'
import { Mend } from './findings.ts'
import { readMarks, writeMark } from './marks.ts'
import { nameOf, type PartitionFiles, type SegmentFile } from './partition-files.ts'
import { replaceNow, syncFile } from './write-files.ts'

export const SET_ASIDE = 'set-aside'
const COPY_BYTES = 1024 * 1024
const INDEX_ENDINGS = ['.index', '.timeindex', '.txnindex'] as const

export interface DamagedBytes {
  readonly segment: SegmentFile
  readonly position: number
  /** Exclusive. */
  readonly endPosition: number
  readonly startOffset: number
}

export class PartitionMender {
  readonly #disk: Disk
  readonly #dataDirectory: string
  readonly #files: PartitionFiles
  readonly #damage: DamagedBytes[] = []
  readonly #aborted = new Map<string, readonly AbortedTransaction[]>()
  readonly #indexMends = new Map<string, Mend>()
  readonly #after: Mend[] = []
  readonly #setAside = new Mend('set-aside', () => this.#setAsideAll())

  constructor(disk: Disk, dataDirectory: string, files: PartitionFiles) {
    this.#disk = disk
    this.#dataDirectory = dataDirectory
    this.#files = files
  }

  /** What the transaction index of a segment is made from. */
  noteAborted(segment: SegmentFile, aborted: readonly AbortedTransaction[]): void {
    this.#aborted.set(segment.path, aborted)
  }

  setAside(damage: DamagedBytes): Mend {
    this.#damage.push(damage)
    return this.#setAside
  }

  /** Done with the damaged ranges, behind them. */
  alsoAfterSetAside(mend: Mend): void {
    this.#after.push(mend)
  }

  /** From `offset` on gaps are legal. */
  acceptGap(offset: number): Mend {
    return new Mend('repaired', () => this.#lowerDenseEnd(offset))
  }

  /** The log goes on at the durable mark, behind records that are gone. */
  acceptEnd(endOffset: number, durableOffset: number): Mend {
    return new Mend('gone', async () => {
      await this.#lowerDenseEnd(endOffset)
      const { directory } = this.#files
      const path = `${directory}/${segmentName(durableOffset)}.log`
      const file = this.#disk.open(path, 'write')
      try {
        await file.sync()
      } finally {
        file.close()
      }
      // An empty segment that does not continue the log would be taken for its end.
      for (const segment of this.#files.segments) {
        const isLeftOver = segment.path !== path && this.#disk.stat(segment.path)?.sizeBytes === 0
        if (isLeftOver) this.#removeSegment(segment)
      }
      await this.#disk.syncDirectory(directory)
    })
  }

  rebuildIndexes(segment: SegmentFile): Mend {
    let mend = this.#indexMends.get(segment.path)
    if (mend === undefined) {
      mend = new Mend('repaired', () => this.#rebuild(segment))
      this.#indexMends.set(segment.path, mend)
    }
    return mend
  }

  rewriteEpochs(epochs: LeaderEpochs): Mend {
    return new Mend('repaired', () =>
      replaceNow(
        this.#disk,
        `${this.#files.directory}/leader-epoch-checkpoint`,
        encodeEpochFile(epochs.entries),
      ),
    )
  }

  remove(path: string): Mend {
    return new Mend('repaired', async () => {
      this.#disk.unlink(path)
      await this.#disk.syncDirectory(this.#files.directory)
    })
  }

  /** No offset of the checkpoint lies beyond `endOffset`. */
  clampCheckpoint(endOffset: number): Mend {
    return new Mend('repaired', async () => {
      const { topicId, partition } = this.#files
      for (const copy of ['a', 'b'] as const) {
        const path = `${this.#dataDirectory}/stream-checkpoint.${copy}`
        const bytes = this.#disk.readFile(path)
        const decoded = bytes && decodeCheckpoint(bytes)
        if (decoded === undefined) continue
        const entries = decoded.entries.map((entry): StoredEntry => {
          if (entry.topicId !== topicId || entry.partition !== partition) return entry
          return {
            ...entry,
            logStartOffset: Math.min(entry.logStartOffset, endOffset),
            recoveryPoint: Math.min(entry.recoveryPoint, endOffset),
            highWatermark: Math.min(entry.highWatermark, endOffset),
          }
        })
        await replaceNow(this.#disk, path, encodeCheckpoint(decoded.generation, entries))
      }
    })
  }

  async #lowerDenseEnd(offset: number): Promise<void> {
    const { topicId, partition } = this.#files
    if (topicId === undefined) return
    const mark = readMarks(this.#disk, this.#dataDirectory).find(topicId, partition)
    if (mark === undefined || mark.denseEndOffset <= offset) return
    await writeMark(this.#disk, this.#dataDirectory, { ...mark, denseEndOffset: offset })
  }

  async #setAsideAll(): Promise<void> {
    const first = Math.min(...this.#damage.map((each) => each.startOffset))
    const bySegment = new Map<string, DamagedBytes[]>()
    for (const each of this.#damage) {
      const list = bySegment.get(each.segment.path) ?? []
      list.push(each)
      bySegment.set(each.segment.path, list)
    }
    const directory = `${this.#dataDirectory}/${SET_ASIDE}/${nameOf(this.#files.directory)}`
    this.#disk.makeDirectory(directory, 0o700)
    for (const ranges of bySegment.values()) await this.#copyRanges(directory, ranges)
    await this.#disk.syncDirectory(directory)
    await this.#disk.syncDirectory(`${this.#dataDirectory}/${SET_ASIDE}`)
    await this.#disk.syncDirectory(this.#dataDirectory)
    await this.#lowerDenseEnd(first)
    for (const ranges of bySegment.values()) await this.#cutOut(ranges)
    for (const mend of this.#after) await mend.run()
  }

  async #copyRanges(directory: string, ranges: readonly DamagedBytes[]): Promise<void> {
    for (const { segment, position, endPosition } of ranges) {
      const path = `${directory}/${nameOf(segment.path)}.${position}-${endPosition - 1}`
      const source = this.#disk.open(segment.path, 'read')
      const target = this.#disk.open(path, 'write')
      try {
        target.truncate(0)
        copy(source, { start: position, end: endPosition }, target, 0)
        await target.sync()
      } finally {
        source.close()
        target.close()
      }
    }
  }

  /** The segment without its damaged ranges, by way of a file beside it, which a start would remove. */
  async #cutOut(ranges: readonly DamagedBytes[]): Promise<void> {
    const segment = ranges[0]?.segment as SegmentFile
    const temporary = `${segment.path}.tmp`
    const source = this.#disk.open(segment.path, 'read')
    const target = this.#disk.open(temporary, 'write')
    let to = 0
    try {
      target.truncate(0)
      let from = 0
      for (const { position, endPosition } of ranges) {
        assert(position >= from, 'damaged ranges of a segment come in order')
        to = copy(source, { start: from, end: position }, target, to)
        from = endPosition
      }
      to = copy(source, { start: from, end: segment.sizeBytes }, target, to)
      await target.sync()
    } finally {
      source.close()
      target.close()
    }
    const stem = segment.path.slice(0, -'.log'.length - segment.suffix.length)
    for (const ending of INDEX_ENDINGS) this.#disk.unlink(`${stem}${ending}${segment.suffix}`)
    const isLast = segment.path === this.#files.segments.at(-1)?.path
    if (to === 0 && !isLast) {
      this.#disk.unlink(temporary)
      this.#removeSegment(segment)
    } else this.#disk.rename(temporary, segment.path)
    await this.#disk.syncDirectory(segment.directory)
    if (to > 0) await this.rebuildIndexes({ ...segment, sizeBytes: to }).run()
  }

  #removeSegment(segment: SegmentFile): void {
    const stem = segment.path.slice(0, -'.log'.length - segment.suffix.length)
    for (const ending of ['.log', ...INDEX_ENDINGS]) {
      this.#disk.unlink(`${stem}${ending}${segment.suffix}`)
    }
  }

  async #rebuild(file: SegmentFile): Promise<void> {
    const disk = this.#disk
    const { directory, baseOffset, sizeBytes, suffix } = file
    const segment = new Segment(directory, baseOffset, {
      sizeBytes,
      createdMs: 0,
      isNew: false,
      suffix,
    })
    const files = new OpenFiles(disk, { filesMax: 1 })
    try {
      await segment.rebuildIndexes(disk, files, defaultLogConfig.indexIntervalBytes)
    } finally {
      files.retire(segment.handle)
    }
    const transactions = segment.transactionIndex
    transactions.file.reset(disk)
    for (const aborted of this.#aborted.get(file.path) ?? []) transactions.append(aborted)
    transactions.file.flush(disk)
    if (transactions.file.count === 0) disk.unlink(transactions.file.path)
    for (const index of segment.indexFiles()) await syncFile(disk, index.path)
    await disk.syncDirectory(directory)
  }
}

/** @returns where the copy ends in `target` */
function copy(
  source: DiskFile,
  range: { readonly start: number; readonly end: number },
  target: DiskFile,
  to: number,
): number {
  const buffer = Buffer.allocUnsafeSlow(COPY_BYTES)
  let end = to
  for (let at = range.start; at < range.end; ) {
    const part = buffer.subarray(0, Math.min(COPY_BYTES, range.end - at))
    const count = source.read(at, part)
    if (count === 0) break
    target.write(end, [part.subarray(0, count)])
    at += count
    end += count
  }
  return end
}
