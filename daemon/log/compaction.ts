/**
 * Compaction of one log (replication.md section 11): of several records with one key the latest stays; tombstones go
 * when their delete horizon has passed. Two passes over closed segments below the last stable offset: (1) a map from key
 * to its latest offset, bounded in memory; (2) a copy of what stays, group by group of segments.
 *
 * Invariants:
 * - Offsets, and the last batch of every active producer (empty if need be), stay. So do records without a key, which
 *   Kafka drops: nothing acknowledged is dropped without being superseded.
 * - What was committed in a transaction is a plain batch once it has been copied: nobody who copies it waits for the marker.
 * - A transaction marker goes only when its transaction has no batch left in the log and its delete horizon has passed.
 * - Damage is never cleaned away: a log with a damaged range is left alone.
 * - The swap survives a crash at any point (segment-swap.ts). A truncation underneath aborts the run.
 * - Between slices of SLICE_MS the loop is given back, so that produce is not starved.
 */
import { Buffer } from 'node:buffer'
import { StreamError } from '../../src/base/errors.ts'
import { sleep } from '../../src/ports/time.ts'
import {
  attributesAt,
  baseOffsetAt,
  baseTimestampAt,
  hasDeleteHorizon,
  isControl,
  isTransactional,
  lastOffsetAt,
  producerEpochAt,
  producerIdAt,
  stampCrc,
  stampTransactional,
} from '../../src/record/batch-layout.ts'
import { readControlBatch } from '../../src/record/control-batch.ts'
import { RecordCursor } from '../../src/record/record-cursor.ts'
import { BatchRewriter } from './batch-rewriter.ts'
import { BatchWalk, recordTimestampAt } from './batch-walk.ts'
import type { LogCore } from './log-core.ts'
import { readableParts } from './log-reader.ts'
import type { AbortedTransaction, CompactionNeed, CompactionResult } from './log-types.ts'
import { Segment } from './segment.ts'
import { CLEANED_SUFFIX, swapSegments } from './segment-swap.ts'
import { largestTimestamp } from './time-lookup.ts'
import { proveTransactions } from './transaction-proof.ts'

const SLICE_MS = 4
const MAP_BYTES_MAX = 64 * 1024 * 1024
/** What a map entry costs beside the bytes of its key. */
const MAP_ENTRY_BYTES = 96
const WRITE_BYTES = 1024 * 1024

export interface CompactionOptions {
  readonly nowMs: number
  readonly lastStableOffset: number
  /** Memory for the keys of one run; what does not fit waits for the next one. */
  readonly mapBytesMax?: number
  /**
   * Given where there are other replicas: tombstones and markers at or beyond it stay, whatever their age (replication.md
   * section 11). Below it no replica holds a record that belongs to a transaction, so none that begins anew copies one, stands
   * still, and waits for an end that is gone. Default: cleanOffset.
   */
  readonly removalFloor?: number
}

/** How much there is to compact. Cheap: it knows sizes only. */
export function compactionNeed(
  core: LogCore,
  nowMs: number,
  lastStableOffset: number,
): CompactionNeed {
  const { cleanupCompact, minCleanableDirtyRatio, maxCompactionLagMs } = core.config
  let cleanBytes = 0
  let dirtyBytes = 0
  let oldestDirtyMs = Infinity
  const end = cleanableEnd(core, lastStableOffset)
  for (const segment of core.segments.slice(0, end)) {
    if (segment.baseOffset < core.cleanOffset) cleanBytes += segment.sizeBytes
    else {
      dirtyBytes += segment.sizeBytes
      oldestDirtyMs = Math.min(oldestDirtyMs, segment.firstTimestampMs ?? segment.createdMs)
    }
  }
  const dirtyRatio = dirtyBytes === 0 ? 0 : dirtyBytes / (cleanBytes + dirtyBytes)
  const isAllowed =
    cleanupCompact && core.state === 'open' && !core.isCompacting && core.damage.length === 0
  const isOverdue = nowMs - oldestDirtyMs > maxCompactionLagMs
  const due = isAllowed && dirtyBytes > 0 && (dirtyRatio >= minCleanableDirtyRatio || isOverdue)
  return { dirtyRatio, dirtyBytes, due }
}

/** Number of segments at the front that lie wholly below the last stable offset, without the active one. */
function cleanableEnd(core: LogCore, lastStableOffset: number): number {
  const { segments } = core
  const bound = Math.min(lastStableOffset, core.durableOffset)
  let end = 0
  while (end < segments.length - 1 && (segments[end + 1] as Segment).baseOffset <= bound) end++
  return end
}

/** @throws StreamError of the disk: the log stands as it was; CLOSED, DISK_FAILED */
export async function compact(
  core: LogCore,
  options: CompactionOptions,
): Promise<CompactionResult> {
  core.assertUsable()
  const nothing = result('nothing', core.cleanOffset)
  if (core.isCompacting || core.state !== 'open' || core.damage.length > 0) return nothing
  core.isCompacting = true
  const run = new CompactionRun(core, options)
  try {
    return await run.run()
  } catch (error) {
    if (error instanceof Aborted) return result('aborted', core.cleanOffset)
    throw error
  } finally {
    run.removeLeftovers()
    core.isCompacting = false
  }
}

/** The log was truncated, closed or damaged underneath. */
class Aborted extends Error {}

function result(kind: CompactionResult['kind'], cleanOffset: number): CompactionResult {
  return { kind, bytesBefore: 0, bytesAfter: 0, recordsDropped: 0, cleanOffset }
}

class CompactionRun {
  readonly #core: LogCore
  readonly #nowMs: number
  readonly #lastStableOffset: number
  readonly #mapBytesMax: number
  readonly #generation: number
  /** Exact keys: a hash that collides would drop a record. */
  readonly #latest = new Map<string, number>()
  readonly #cursor = new RecordCursor()
  readonly #rewriter = new BatchRewriter()
  readonly #cleaned: Segment[] = []
  #aborted: AbortedWindow
  #sliceStartMs: number
  readonly #removalFloor: number
  readonly #droppedMarkers = new Set<number>()
  #recordsDropped = 0

  constructor(core: LogCore, options: CompactionOptions) {
    this.#core = core
    this.#nowMs = options.nowMs
    this.#lastStableOffset = options.lastStableOffset
    this.#mapBytesMax = options.mapBytesMax ?? MAP_BYTES_MAX
    this.#removalFloor = options.removalFloor ?? core.cleanOffset
    this.#generation = core.generation
    this.#sliceStartMs = core.context.time.monotonicMs()
    this.#aborted = new AbortedWindow([])
  }

  async run(): Promise<CompactionResult> {
    const core = this.#core
    const segments = await this.#cleanableSegments()
    const last = segments.at(-1)
    if (last === undefined) return result('nothing', core.cleanOffset)
    const endOffset = (core.segments[segments.length] as Segment).baseOffset
    if (endOffset <= core.cleanOffset) return result('nothing', core.cleanOffset)
    const mapped = await this.#mapKeys(segments, endOffset)
    if (mapped <= core.cleanOffset) return result('nothing', core.cleanOffset)
    // The gaps must be allowed on the medium before there are any.
    core.denseEndOffset = Math.min(core.denseEndOffset, core.logStartOffset)
    await core.context.marks.lower(core.mark, core.durableOffset, core.markedDenseEnd)
    this.#checkpoint()
    this.#aborted = new AbortedWindow(await this.#abortedBelow(endOffset))
    let bytesBefore = 0
    let bytesAfter = 0
    for (const group of groupSegments(segments, core.config.segmentBytes, mapped)) {
      const cleaned = await this.#copyGroup(group)
      for (const segment of group) bytesBefore += segment.sizeBytes
      bytesAfter += cleaned.sizeBytes
      const isSwapped = await swapSegments(core, group, cleaned, () => this.#checkpoint())
      // Retention took some of them away: the others are as they were, and what is said of them must be true.
      if (!isSwapped && group.some((segment) => !segment.detached)) throw new Aborted()
    }
    core.cleanOffset = Math.max(core.cleanOffset, mapped)
    const recordsDropped = this.#recordsDropped
    return { kind: 'done', bytesBefore, bytesAfter, recordsDropped, cleanOffset: core.cleanOffset }
  }

  removeLeftovers(): void {
    for (const segment of this.#cleaned) {
      if (!segment.path.endsWith(CLEANED_SUFFIX)) continue
      segment.detached = true
      this.#core.context.files.retire(segment.handle)
      segment.unlink(this.#core.context.disk, CLEANED_SUFFIX)
    }
  }

  async #cleanableSegments(): Promise<Segment[]> {
    const core = this.#core
    const segments = core.segments.slice(0, cleanableEnd(core, this.#lastStableOffset))
    const lagMs = core.config.minCompactionLagMs
    if (lagMs <= 0) return segments
    const old: Segment[] = []
    for (const segment of segments) {
      if (segment.baseOffset >= core.cleanOffset) {
        const timestampMs = await largestTimestamp(core, segment)
        if ((timestampMs < 0 ? segment.createdMs : timestampMs) > this.#nowMs - lagMs) break
      }
      old.push(segment)
    }
    this.#checkpoint()
    return old
  }

  /** Pass 1. @returns the offset up to which the map speaks (a segment's end, unless one segment fills the map) */
  async #mapKeys(segments: readonly Segment[], endOffset: number): Promise<number> {
    const core = this.#core
    let bytes = 0
    let mapped = core.cleanOffset
    this.#aborted = new AbortedWindow(await this.#abortedBelow(endOffset))
    for (const [index, segment] of segments.entries()) {
      const segmentEnd = segments[index + 1]?.baseOffset ?? endOffset
      if (segmentEnd <= core.cleanOffset) continue
      let isFull = false
      await this.#eachBatch(segment, (block, at, lastOffset) => {
        if (isFull || lastOffset < core.cleanOffset) return
        if (this.#aborted.dropsBatch(block, at)) return
        if (isControl(attributesAt(block, at))) return
        this.#cursor.reset(block, at)
        while (this.#cursor.next()) {
          const { keyStart, keyEnd, offset } = this.#cursor
          if (keyStart < 0) continue
          const key = keyText(this.#cursor.bytes, keyStart, keyEnd)
          if (!this.#latest.has(key)) bytes += key.length + MAP_ENTRY_BYTES
          this.#latest.set(key, offset)
        }
        isFull = bytes > this.#mapBytesMax
        mapped = lastOffset + 1
      })
      if (isFull) return mapped
      mapped = segmentEnd
    }
    return mapped
  }

  /** Pass 2 for one group: a new segment with what stays. */
  async #copyGroup(group: readonly Segment[]): Promise<Segment> {
    const core = this.#core
    const { disk, files, syncs, time } = core.context
    const first = group[0] as Segment
    const cleaned = new Segment(core.directory, first.baseOffset, {
      sizeBytes: 0,
      createdMs: time.wallMs(),
      isNew: true,
      suffix: CLEANED_SUFFIX,
    })
    cleaned.unlink(disk, CLEANED_SUFFIX)
    this.#cleaned.push(cleaned)
    const file = files.pin(cleaned.handle)
    try {
      const output = new CleanedOutput(core, cleaned, (parts) =>
        file.write(cleaned.sizeBytes, parts),
      )
      for (const segment of group) {
        await this.#eachBatch(segment, (block, at, _lastOffset, batchBytes) => {
          this.#copyBatch(block, at, batchBytes, output)
        })
        this.#copyAborted(segment, cleaned)
      }
      output.flush()
      cleaned.finishIndexes(disk)
      await syncs.dataSync(file)
      cleaned.syncedBytes = cleaned.sizeBytes
    } finally {
      files.unpin(cleaned.handle)
    }
    return cleaned
  }

  #copyBatch(block: Uint8Array, at: number, batchBytes: number, output: CleanedOutput): void {
    const batch = block.subarray(at, at + batchBytes)
    const attributes = attributesAt(batch, 0)
    const horizonMs = hasDeleteHorizon(attributes) ? baseTimestampAt(batch, 0) : undefined
    if (isControl(attributes)) {
      this.#copyControl(batch, horizonMs, output)
      return
    }
    const isAborted = this.#aborted.dropsBatch(batch, 0)
    const keepsRecord = (cursor: RecordCursor): boolean => {
      if (isAborted) return false
      if (cursor.keyStart < 0) return true
      const key = keyText(cursor.bytes, cursor.keyStart, cursor.keyEnd)
      const latest = this.#latest.get(key)
      if (latest !== undefined && cursor.offset < latest) return false
      return cursor.valueStart >= 0 || !this.#mayRemove(cursor.offset, horizonMs)
    }
    const rewritten = this.#rewriter.rewrite(batch, keepsRecord, {
      keepEmpty: this.#isLastOfProducer(batch),
      horizonForTombstonesMs: this.#nowMs + this.#core.config.deleteRetentionMs,
    })
    this.#recordsDropped += rewritten.recordsDropped
    if (rewritten.batch === undefined) return
    // An empty one too: whoever reads the log anew would take it for the beginning of a transaction.
    if (isTransactional(attributes)) {
      stampTransactional(rewritten.batch, 0, false)
      stampCrc(rewritten.batch, 0)
    }
    output.add(rewritten.batch)
  }

  #copyControl(batch: Uint8Array, horizonMs: number | undefined, output: CleanedOutput): void {
    const control = readControlBatch(batch)
    const isMarker = control?.kind === 'marker'
    // Every run begins with the log's first segment: what is left of the transaction is plain by now.
    if (isMarker) this.#aborted.endTransaction(producerIdAt(batch, 0))
    if (!isMarker || this.#isLastOfProducer(batch)) {
      output.add(batch)
    } else if (horizonMs === undefined) {
      const deleteAtMs = this.#nowMs + this.#core.config.deleteRetentionMs
      output.add(this.#rewriter.withHorizon(batch, deleteAtMs))
    } else if (this.#mayRemove(baseOffsetAt(batch, 0), horizonMs)) {
      this.#droppedMarkers.add(baseOffsetAt(batch, 0))
      this.#recordsDropped++
    } else {
      output.add(batch)
    }
  }

  #mayRemove(offset: number, horizonMs: number | undefined): boolean {
    return horizonMs !== undefined && this.#nowMs >= horizonMs && offset < this.#removalFloor
  }

  #copyAborted(segment: Segment, cleaned: Segment): void {
    const { disk } = this.#core.context
    segment.transactionIndex.load(disk)
    cleaned.transactionIndex.load(disk)
    for (let index = 0; index < segment.transactionIndex.file.count; index++) {
      const entry = segment.transactionIndex.entry(index)
      if (!this.#droppedMarkers.has(entry.lastOffset)) cleaned.transactionIndex.append(entry)
    }
  }

  #isLastOfProducer(batch: Uint8Array): boolean {
    const producerId = producerIdAt(batch, 0)
    if (producerId < 0) return false
    const last = this.#core.producers.lastBatchOf(producerId)
    if (last === undefined) return false
    if (isControl(attributesAt(batch, 0))) {
      return last.lastOffset < 0 && last.epoch === producerEpochAt(batch, 0)
    }
    return last.lastOffset === lastOffsetAt(batch, 0)
  }

  /** Of all segments: the marker that ends a transaction may lie beyond what is compacted. */
  async #abortedBelow(endOffset: number): Promise<AbortedTransaction[]> {
    await proveTransactions(this.#core, 0, Infinity)
    const all: AbortedTransaction[] = []
    for (const segment of this.#core.segments) {
      segment.transactionIndex.load(this.#core.context.disk)
      segment.transactionIndex.collect(0, endOffset, all)
    }
    return all
  }

  /** Whole batches with a sound CRC. @throws Aborted where bytes are damaged: a reader will find and name them */
  async #eachBatch(
    segment: Segment,
    visit: (block: Uint8Array, at: number, lastOffset: number, batchBytes: number) => void,
  ): Promise<void> {
    const { files } = this.#core.context
    if (segment.detached) throw new Aborted()
    const file = files.pin(segment.handle)
    try {
      const walk = new BatchWalk(readableParts(this.#core, file), {
        start: 0,
        end: segment.sizeBytes,
        mode: 'whole',
        fresh: true,
      })
      for (;;) {
        const step = walk.step()
        if (step === 'more') {
          await walk.fill()
          this.#checkpoint()
        } else if (step === 'batch') {
          this.#visitSound(walk, visit)
          await this.#yieldIfDue()
        } else if (step === 'end') {
          return
        } else {
          this.#core.context.log.error('compaction met damaged bytes and stops', {
            file: segment.path,
            position: walk.position,
          })
          throw new Aborted()
        }
      }
    } finally {
      files.unpin(segment.handle)
    }
  }

  #visitSound(
    walk: BatchWalk,
    visit: (block: Uint8Array, at: number, lastOffset: number, batchBytes: number) => void,
  ): void {
    try {
      visit(walk.bytes, walk.at, walk.lastOffset, walk.batchBytes)
    } catch (error) {
      // A producer's nonsense inside a sound CRC: the log keeps what it was given.
      if (!(error instanceof StreamError) || error.code === 'DISK_FULL') throw error
      if (error.code === 'DISK_FAILED' || error.code === 'DISK_READ_ONLY') throw error
      this.#core.context.log.error('compaction met a batch it cannot read and stops', {
        partition: `${this.#core.identity.topic}-${this.#core.identity.partition}`,
        offset: baseOffsetAt(walk.bytes, walk.at),
        error: error.message,
      })
      throw new Aborted()
    }
  }

  async #yieldIfDue(): Promise<void> {
    const { time } = this.#core.context
    if (time.monotonicMs() - this.#sliceStartMs < SLICE_MS) return
    await sleep(time, 1)
    this.#sliceStartMs = time.monotonicMs()
    this.#checkpoint()
  }

  /** After every wait. */
  #checkpoint(): void {
    const core = this.#core
    if (core.generation !== this.#generation || core.state !== 'open') throw new Aborted()
    core.assertUsable()
  }
}

/** Consecutive segments that together fit into one again. Those beyond the mapped offset are left as they are. */
function groupSegments(
  segments: readonly Segment[],
  segmentBytes: number,
  mapped: number,
): Segment[][] {
  const groups: Segment[][] = []
  let group: Segment[] = []
  let bytes = 0
  for (const segment of segments) {
    if (segment.baseOffset >= mapped) break
    const first = group[0]
    const fits =
      first === undefined ||
      (bytes + segment.sizeBytes <= segmentBytes &&
        segment.baseOffset - first.baseOffset < 0x4000_0000)
    if (!fits) {
      groups.push(group)
      group = []
      bytes = 0
    }
    group.push(segment)
    bytes += segment.sizeBytes
  }
  if (group.length > 0) groups.push(group)
  return groups
}

/** Collects batches and writes them in large pieces; keeps the indexes of the cleaned segment. */
class CleanedOutput {
  readonly #core: LogCore
  readonly #segment: Segment
  readonly #write: (parts: readonly Uint8Array[]) => void
  #parts: Uint8Array[] = []
  #bytes = 0

  constructor(core: LogCore, segment: Segment, write: (parts: readonly Uint8Array[]) => void) {
    this.#core = core
    this.#segment = segment
    this.#write = write
  }

  add(batch: Uint8Array): void {
    const position = this.#segment.sizeBytes + this.#bytes
    const intervalBytes = this.#core.config.indexIntervalBytes
    this.#segment.noteBatch(
      position,
      lastOffsetAt(batch, 0),
      recordTimestampAt(batch, 0),
      intervalBytes,
    )
    this.#parts.push(batch)
    this.#bytes += batch.length
    if (this.#bytes >= WRITE_BYTES) this.flush()
  }

  flush(): void {
    if (this.#parts.length === 0) return
    const refusal = this.#core.context.refusesWrites(this.#bytes)
    if (refusal !== undefined) throw refusal
    this.#write(this.#parts)
    this.#segment.sizeBytes += this.#bytes
    this.#parts = []
    this.#bytes = 0
  }
}

/** Which batches of the log belong to aborted transactions, asked in the order of the log. */
class AbortedWindow {
  /** Latest first, so that the next one is popped. */
  readonly #coming: AbortedTransaction[]
  readonly #now = new Map<number, AbortedTransaction>()

  constructor(aborted: readonly AbortedTransaction[]) {
    this.#coming = [...aborted].sort((a, b) => b.firstOffset - a.firstOffset)
  }

  dropsBatch(bytes: Uint8Array, at: number): boolean {
    const offset = baseOffsetAt(bytes, at)
    for (let next = this.#coming.at(-1); next !== undefined; next = this.#coming.at(-1)) {
      if (next.firstOffset > offset) break
      this.#now.set(next.producerId, next)
      this.#coming.pop()
    }
    if (!isTransactional(attributesAt(bytes, at))) return false
    const transaction = this.#now.get(producerIdAt(bytes, at))
    return transaction !== undefined && offset <= transaction.lastOffset
  }

  endTransaction(producerId: number): void {
    this.#now.delete(producerId)
  }
}

function keyText(bytes: Uint8Array, start: number, end: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString('latin1')
}
