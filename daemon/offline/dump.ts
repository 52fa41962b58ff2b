/**
 * The batches of a partition, or of single files of one, to a sink: `stream dump`.
 *
 * 1. One pass over the headers tells where the log ends, what was aborted, where times lie (log-facts.ts).
 * 2. Positions become offsets.
 * 3. A second pass reads every batch of the range whole and judges it; what cannot be read is told and stepped over.
 */
import { UsageError } from '../../src/base/errors.ts'
import type { Disk } from '../../src/ports/disk.ts'
import type {
  DumpRequest,
  DumpSink,
  DumpSummary,
  OfflineBatchState,
  OfflinePlace,
} from '../../src/ports/offline.ts'
import {
  attributesAt,
  baseOffsetAt,
  isControl,
  isTransactional,
  producerIdAt,
} from '../../src/record/batch-layout.ts'
import type { BatchWalk } from '../log/batch-walk.ts'
import { parsePartitionDirectory } from '../log/directory-files.ts'
import { type LogFacts, readLogFacts } from './log-facts.ts'
import {
  type PartitionFiles,
  readPartitionFiles,
  readSingleFile,
  type SegmentFile,
} from './partition-files.ts'
import { LogOrder, type ScanDefect, scanSegment } from './segment-scan.ts'

/** @throws as Offline.dump */
export async function dump(disk: Disk, request: DumpRequest, sink: DumpSink): Promise<DumpSummary> {
  const scope = findScope(disk, request.path)
  return await new DumpRun(disk, request, sink, scope).run()
}

interface Scope {
  readonly files: PartitionFiles
  /** Of the log as a whole. */
  readonly segments: readonly SegmentFile[]
  /** What is to be given. */
  readonly wanted: readonly SegmentFile[]
}

function findScope(disk: Disk, path: string): Scope {
  if (disk.stat(path)?.isDirectory === true) {
    const files = readPartitionFiles(disk, path)
    if (files.segments.length === 0) throw noLog(disk, path)
    return { files, segments: files.segments, wanted: files.segments }
  }
  // Says why it cannot be read, where it cannot.
  disk.open(path, 'read').close()
  const single = readSingleFile(disk, path)
  const files = readPartitionFiles(disk, single.directory)
  const isOfLog = files.segments.some((segment) => segment.path === path)
  return { files, segments: isOfLog ? files.segments : [single], wanted: [single] }
}

function noLog(disk: Disk, path: string): UsageError {
  const partition = disk
    .list(path)
    .find(
      (name) =>
        parsePartitionDirectory(name) !== undefined && disk.stat(`${path}/${name}`)?.isDirectory,
    )
  return partition === undefined
    ? new UsageError(
        `${path}: no partition is here: no file is named as a segment`,
        'name the directory of a partition, or a file',
      )
    : new UsageError(
        `${path}: a data directory, not a partition`,
        `try: stream dump ${path}/${partition}`,
      )
}

class DumpRun {
  readonly #disk: Disk
  readonly #request: DumpRequest
  readonly #sink: DumpSink
  readonly #scope: Scope
  #fromOffset = 0
  #untilOffset = Number.POSITIVE_INFINITY

  constructor(disk: Disk, request: DumpRequest, sink: DumpSink, scope: Scope) {
    this.#disk = disk
    this.#request = request
    this.#sink = sink
    this.#scope = scope
  }

  async run(): Promise<DumpSummary> {
    const { files, segments } = this.#scope
    const from = this.#request.from(files.topic, files.partition) ?? ({ kind: 'start' } as const)
    const until = this.#request.until(files.topic, files.partition)
    const timesMs = [from, until].flatMap((place) => (place?.kind === 'time' ? [place.timeMs] : []))
    const facts = await readLogFacts(this.#disk, segments, timesMs)
    this.#fromOffset = this.#offsetOf(from, facts, undefined)
    if (until !== undefined) this.#untilOffset = this.#offsetOf(until, facts, this.#fromOffset)
    const heldBackFrom = this.#request.isUncommitted ? undefined : facts.openFrom
    const isHeldBack = heldBackFrom !== undefined && heldBackFrom < this.#untilOffset
    if (isHeldBack) this.#untilOffset = heldBackFrom
    await this.#readAll(facts)
    return { heldBackFrom: isHeldBack ? heldBackFrom : undefined }
  }

  #offsetOf(place: OfflinePlace, facts: LogFacts, startOffset: number | undefined): number {
    const start = Math.max(this.#scope.files.logStartOffset ?? 0, facts.firstOffset)
    switch (place.kind) {
      case 'start':
        return start
      case 'end':
        return facts.endOffset
      case 'offset':
        return place.offset
      case 'after-start':
        return (startOffset ?? start) + place.count
      case 'before-end':
        return Math.max(start, facts.endOffset - place.count)
      case 'time':
        return facts.offsetOfTime(place.timeMs) ?? facts.endOffset
    }
  }

  async #readAll(facts: LogFacts): Promise<void> {
    const { segments, wanted } = this.#scope
    const order = new LogOrder()
    for (const [index, segment] of segments.entries()) {
      const nextBaseOffset = segments[index + 1]?.baseOffset
      const isBefore = nextBaseOffset !== undefined && nextBaseOffset <= this.#fromOffset
      if (isBefore || !wanted.some((each) => each.path === segment.path)) continue
      if (segment.isNamed && segment.baseOffset >= this.#untilOffset) return
      const isLast = index === segments.length - 1
      const options = { mode: 'whole', nextBaseOffset, epochMax: facts.epochMax } as const
      await scanSegment(this.#disk, segment, order, options, {
        onBatch: (walk) => this.#give(segment, walk, facts),
        onDefect: (defect) => this.#tell(segment, defect, isLast, nextBaseOffset),
      })
    }
  }

  #give(segment: SegmentFile, walk: BatchWalk, facts: LogFacts): void | Promise<void> {
    const { bytes, at } = walk
    if (walk.lastOffset < this.#fromOffset || baseOffsetAt(bytes, at) >= this.#untilOffset) return
    const { topic, partition } = this.#scope.files
    return this.#sink.onBatch({
      file: segment.path,
      topic,
      partition,
      position: walk.position,
      state: stateOf(bytes, at, facts),
      bytes,
      at,
      fromOffset: this.#fromOffset,
      untilOffset: this.#untilOffset,
    })
  }

  #tell(
    segment: SegmentFile,
    defect: ScanDefect,
    isLast: boolean,
    nextBaseOffset: number | undefined,
  ): void | Promise<void> {
    const endOffset = defect.endOffset ?? nextBaseOffset
    if (endOffset !== undefined && endOffset <= this.#fromOffset) return
    if (defect.startOffset >= this.#untilOffset) return
    const { durableOffset } = this.#scope.files
    const isTorn =
      isLast &&
      defect.endOffset === undefined &&
      durableOffset !== undefined &&
      defect.startOffset >= durableOffset
    const { position, endPosition, startOffset, detail } = defect
    return this.#sink.onDamage({
      file: segment.path,
      position,
      endPosition,
      startOffset,
      endOffset,
      detail,
      isTorn,
    })
  }
}

function stateOf(bytes: Uint8Array, at: number, facts: LogFacts): OfflineBatchState {
  const attributes = attributesAt(bytes, at)
  if (isControl(attributes)) return 'control'
  if (!isTransactional(attributes)) return 'ok'
  const producerId = producerIdAt(bytes, at)
  const offset = baseOffsetAt(bytes, at)
  if (facts.isAborted(producerId, offset)) return 'aborted'
  return facts.isOpen(producerId, offset) ? 'open' : 'ok'
}
