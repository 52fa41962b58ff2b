/**
 * Producer snapshots of one log on disk, and the replay of batch headers behind them.
 *
 * Invariants:
 * - A snapshot named N holds the state of all batches below N. Those beyond the log end are removed before anything is
 *   appended, or they would one day speak for other batches.
 * - At least the newest two are kept, and the one from which a start after a power cut goes on; those at segment bases go with
 *   their segments.
 * - Behind a snapshot no aborted transaction below it is missing in an index, as far as the page cache goes; on the medium only
 *   those below the recovery point are certain.
 */
import { StreamError } from '../../src/base/errors.ts'
import {
  attributesAt,
  baseOffsetAt,
  baseSequenceAt,
  findBatchDefect,
  isControl,
  isTransactional,
  lastOffsetDeltaAt,
  maxTimestampAt,
  producerEpochAt,
  producerIdAt,
} from '../../src/record/batch-layout.ts'
import { readControlBatch } from '../../src/record/control-batch.ts'
import { BatchWalk, walkAllNow } from './batch-walk.ts'
import { overwriteFile, syncPath } from './file-writes.ts'
import type { LogCore } from './log-core.ts'
import { noteDamage } from './log-reader.ts'
import type { AbortedTransaction } from './log-types.ts'
import { type ProducerBatch, ProducerState } from './producer-state.ts'
import { baseOffsetOfName, type Segment, segmentName } from './segment.ts'

const SUFFIX = '.snapshot'
/**
 * A replay after a crash reads the headers of so many batches, one read each, or of ten times as many that lie close together. A
 * snapshot is a file made and one deleted, half a millisecond in which nobody is answered: where records come one by one there
 * is one for every 2,500 of them.
 */
const SNAPSHOT_BATCHES = 250
const SNAPSHOT_SMALL_BATCHES = 2500
const SMALL_BATCHES_BYTES = 1024 * 1024
const SNAPSHOTS_KEPT_MIN = 2
const NO_PRODUCER_ID = -1

export function snapshotPath(core: LogCore, offset: number): string {
  return `${core.directory}/${segmentName(offset)}${SUFFIX}`
}

export function snapshotOffsetsIn(names: readonly string[]): number[] {
  const offsets = names.map((name) => baseOffsetOfName(name, SUFFIX))
  return offsets.filter((offset) => offset !== undefined).sort((a, b) => a - b)
}

/**
 * Takes a snapshot at the log end. It is not synced here: a torn one is refused by its checksum.
 * Without producers there is nothing to keep, but an empty one at a roll, as Kafka writes it.
 */
export function takeSnapshot(core: LogCore): void {
  const offset = core.logEndOffset
  core.batchesSinceSnapshot = 0
  core.bytesSinceSnapshot = 0
  try {
    // Nobody replays what lies below a snapshot: aborted transactions that were only noted in memory would be forgotten.
    for (const segment of core.segments.slice(-2)) {
      if (segment.transactionIndex.file.isLoaded)
        segment.transactionIndex.file.flush(core.context.disk)
    }
    overwriteFile(core.context.disk, snapshotPath(core, offset), core.producers.encodeSnapshot())
  } catch (error) {
    // A replay from the one before gives the same state; but half a file must not stay.
    if (!(error instanceof StreamError)) throw error
    core.context.disk.unlink(snapshotPath(core, offset))
    return
  }
  if (core.snapshotOffsets.at(-1) !== offset) core.snapshotOffsets.push(offset)
  removeSurplus(core)
}

/** Called after each append: a snapshot now and then bounds the replay. */
export function maybeTakeSnapshot(core: LogCore, batches: number, bytes: number): void {
  core.batchesSinceSnapshot += batches
  core.bytesSinceSnapshot += bytes
  const isSmall = core.bytesSinceSnapshot < SMALL_BATCHES_BYTES
  const batchesMax = isSmall ? SNAPSHOT_SMALL_BATCHES : SNAPSHOT_BATCHES
  if (core.batchesSinceSnapshot < Math.max(batchesMax, core.producers.count)) return
  core.producers.expire(core.context.time.wallMs(), core.context.producerIdExpirationMs)
  takeSnapshot(core)
}

/** Between segment bases only the newest two are of use, and after a power cut the newest that is on the medium. */
function removeSurplus(core: LogCore): void {
  const kept = new Set(core.segments.map((segment) => segment.baseOffset))
  for (const point of [core.recoveryPoint, core.savedRecoveryPoint]) {
    const sound = core.snapshotOffsets.findLast((offset) => offset <= point)
    if (sound !== undefined) kept.add(sound)
  }
  const older = core.snapshotOffsets.slice(0, -SNAPSHOTS_KEPT_MIN)
  for (const offset of older) if (!kept.has(offset)) removeSnapshot(core, offset)
}

export function removeSnapshot(core: LogCore, offset: number): void {
  core.context.disk.unlink(snapshotPath(core, offset))
  core.snapshotOffsets = core.snapshotOffsets.filter((other) => other !== offset)
}

/** After segments went away at the front: the snapshots below serve nobody, but the newest two stay. */
export function removeSnapshotsBelow(core: LogCore, offset: number): void {
  for (const old of core.snapshotOffsets.slice(0, -SNAPSHOTS_KEPT_MIN)) {
    if (old < offset) removeSnapshot(core, old)
  }
}

/**
 * Brings the producer state in line with the log: the newest valid snapshot, then the headers behind it. Snapshots
 * beyond the log end and bad ones are removed; aborted transactions of the replayed part are indexed again.
 * @param soundBelow  snapshots named below it are on the medium, and need no look unless they are used
 * @param trustedOffset  entries of transaction indexes at or beyond it may be lost or torn (after a power cut), so the replay
 *   begins there or before
 */
export function rebuildProducerState(
  core: LogCore,
  soundBelow: number,
  trustedOffset = Infinity,
): void {
  const { disk } = core.context
  core.snapshotOffsets = snapshotOffsetsIn(disk.list(core.directory))
  for (const offset of core.snapshotOffsets.slice()) {
    if (offset > core.logEndOffset) removeSnapshot(core, offset)
  }
  let start = newestState(core, trustedOffset)
  const segment = core.segments[core.segmentIndexOf(start.fromOffset)]
  // Damage in front of the replay's begin: what stood there is found again by a replay of the whole segment.
  if (segment !== undefined && !segment.transactionIndex.loadSoundPart(disk)) {
    start = newestState(core, Math.min(trustedOffset, segment.baseOffset))
  }
  for (const offset of core.snapshotOffsets.slice()) {
    // Kafka's tools look at all of them.
    if (offset >= soundBelow && offset !== start.fromOffset) readSnapshot(core, offset)
  }
  core.producers = start.state
  core.replayedFrom = start.fromOffset
  replay(core, start.fromOffset)
  core.batchesSinceSnapshot = 0
  core.bytesSinceSnapshot = 0
}

/** @internal The newest that can be read, of those named at or below an offset; nothing known at the log's begin where there is none. */
export function newestState(
  core: LogCore,
  offsetMax: number,
): { readonly state: ProducerState; readonly fromOffset: number } {
  const begin = core.segments[0]?.baseOffset ?? 0
  for (const offset of core.snapshotOffsets.slice().reverse()) {
    if (offset > Math.max(offsetMax, begin)) continue
    const state = readSnapshot(core, offset)
    if (state !== undefined) return { state, fromOffset: Math.max(begin, offset) }
  }
  return { state: new ProducerState(), fromOffset: begin }
}

/** @returns undefined for a bad one, which is removed */
function readSnapshot(core: LogCore, offset: number): ProducerState | undefined {
  const { disk, log, time } = core.context
  const path = snapshotPath(core, offset)
  const bytes = disk.readFile(path)
  const state = bytes && ProducerState.decodeSnapshot(bytes, time.wallMs())
  if (state !== undefined) return state
  log.warn('a producer snapshot is damaged and is removed', { file: path })
  removeSnapshot(core, offset)
  return undefined
}

function replay(core: LogCore, fromOffset: number): void {
  if (fromOffset >= core.logEndOffset) return
  const first = Math.max(core.segmentIndexOf(fromOffset), 0)
  for (const segment of core.segments.slice(first)) replaySegment(core, segment, fromOffset)
}

function replaySegment(core: LogCore, segment: Segment, fromOffset: number): void {
  const { disk } = core.context
  segment.transactionIndex.loadSoundPart(disk)
  segment.transactionIndex.truncateToOffset(disk, fromOffset)
  if (segment.sizeBytes > 0) replayBatches(core, segment, fromOffset)
  // The next snapshot stands for it, and the end of this process writes the last segment's only.
  segment.transactionIndex.file.flush(disk)
}

/** What a replay has written below the recovery point is on the medium when it resolves: no checkpoint looks there again. */
export async function syncReplayed(core: LogCore, recoveryPoint: number): Promise<void> {
  const { disk, syncs } = core.context
  let isAny = false
  for (const segment of core.segments) {
    const { file } = segment.transactionIndex
    if (segment.baseOffset >= recoveryPoint || !file.unsynced) continue
    file.unsynced = false
    isAny = true
    await syncPath(disk, syncs, file.path)
  }
  if (isAny) await syncs.syncDirectory(core.directory)
}

function replayBatches(core: LogCore, segment: Segment, fromOffset: number): void {
  const { disk, files } = core.context
  let start = 0
  if (segment.baseOffset < fromOffset) {
    segment.loadIndexes(disk)
    core.context.indexes.touch(segment)
    const entry = segment.offsetIndex.lookup(fromOffset)
    if (entry !== undefined && segment.stands(files, entry)) start = entry.position
  }
  const walk = new BatchWalk(files.use(segment.handle), {
    start,
    end: segment.sizeBytes,
    mode: 'headers',
  })
  for (;;) {
    // Known damage is stepped over; what lies in it cannot be replayed.
    const range = core.damageIn(segment, walk.nextPosition)
    if (range !== undefined) {
      if (range.endPosition >= segment.sizeBytes) return
      walk.moveTo(range.endPosition)
    }
    const outcome = walkAllNow(walk, () => {
      if (walk.lastOffset >= fromOffset && isBelievable(core, segment, walk)) {
        noteProducer(core, segment, walk.bytes, walk.at)
      }
      return core.damageIn(segment, walk.nextPosition) === undefined
    })
    if (outcome !== 'stopped') return
  }
}

/**
 * A header that goes on where its producer was is taken as it is. Any other is believed only with the whole batch: a flipped bit in
 * an id, an epoch or a sequence would shut its producer out.
 */
function isBelievable(core: LogCore, segment: Segment, walk: BatchWalk): boolean {
  const hasProducer = producerIdAt(walk.bytes, walk.at) !== NO_PRODUCER_ID
  if (!hasProducer || isControl(attributesAt(walk.bytes, walk.at))) return true
  if (core.producers.isContinuedBy(producerBatchAt(walk.bytes, walk.at))) return true
  const whole = new Uint8Array(walk.batchBytes)
  core.context.files.use(segment.handle).read(walk.position, whole)
  const defect = findBatchDefect(whole, 0, whole.length)
  if (defect === undefined) return true
  noteDamage(core, {
    file: segment.path,
    segmentBaseOffset: segment.baseOffset,
    startPosition: walk.position,
    endPosition: walk.nextPosition,
    startOffset: baseOffsetAt(walk.bytes, walk.at),
    endOffset: walk.lastOffset + 1,
    detail: defect.detail,
    foundAtStart: true,
  })
  return false
}

/** Feeds one batch of the log into the producer state, and an aborted transaction into the segment's index. */
export function noteProducer(core: LogCore, segment: Segment, bytes: Uint8Array, at: number): void {
  const aborted = applyBatch(core, core.producers, bytes, at)
  if (aborted === undefined) return
  segment.transactionIndex.load(core.context.disk)
  segment.transactionIndex.append(aborted)
}

/** @returns the transaction that the batch aborts, if it is a marker that does */
export function applyBatch(
  core: LogCore,
  producers: ProducerState,
  bytes: Uint8Array,
  at: number,
): AbortedTransaction | undefined {
  const producerId = producerIdAt(bytes, at)
  if (producerId < 0) return undefined
  const attributes = attributesAt(bytes, at)
  const nowMs = core.context.time.wallMs()
  if (isControl(attributes)) return applyControl(core, producers, bytes, at, nowMs)
  producers.append(producerBatchAt(bytes, at), nowMs)
  return undefined
}

function producerBatchAt(bytes: Uint8Array, at: number): ProducerBatch {
  const baseOffset = baseOffsetAt(bytes, at)
  const lastOffsetDelta = lastOffsetDeltaAt(bytes, at)
  return {
    baseOffset,
    lastOffset: baseOffset + lastOffsetDelta,
    lastOffsetDelta,
    maxTimestamp: maxTimestampAt(bytes, at),
    producerId: producerIdAt(bytes, at),
    producerEpoch: producerEpochAt(bytes, at),
    baseSequence: baseSequenceAt(bytes, at),
    isTransactional: isTransactional(attributesAt(bytes, at)),
  }
}

function applyControl(
  core: LogCore,
  producers: ProducerState,
  bytes: Uint8Array,
  at: number,
  nowMs: number,
): AbortedTransaction | undefined {
  let record: ReturnType<typeof readControlBatch>
  try {
    record = readControlBatch(bytes, at)
  } catch (error) {
    if (!(error instanceof StreamError)) throw error
    core.context.log.warn('a control batch that cannot be read ends no transaction', {
      partition: `${core.identity.topic}-${core.identity.partition}`,
      offset: baseOffsetAt(bytes, at),
    })
    return undefined
  }
  if (record === undefined || record.kind === 'other') return undefined
  const { producerId, producerEpoch, coordinatorEpoch, offset, timestampMs } = record
  const commit = record.type === 'commit'
  return producers.applyMarker(
    { producerId, producerEpoch, coordinatorEpoch, offset, timestampMs, commit },
    nowMs,
  )
}
