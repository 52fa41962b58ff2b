/**
 * Holds transaction indexes against the log before anybody acts on them. Their layout has no checksum; a wrong entry would show
 * records of an aborted transaction, or hide committed ones, and compaction would make that last.
 *
 * What a segment's index must say follows from its batches and the producer snapshot at its base, which has a checksum, as
 * markers have. It is done once for what lies in a file; an index that this process has made, or has held against the log
 * before, is believed.
 *
 * Invariants:
 * - An index that differs is replaced by what the log says, in memory and in the file. Compaction leaves entries of transactions
 *   of which nothing is left: they go silently.
 * - Where the log itself is damaged the index stays as it is: it may know more than what is left of the log.
 */
import { isStreamError } from '../../src/base/errors.ts'
import { BatchWalk, walkAll } from './batch-walk.ts'
import { syncPath } from './file-writes.ts'
import type { LogCore } from './log-core.ts'
import type { AbortedTransaction } from './log-types.ts'
import { applyBatch, newestState } from './producer-snapshots.ts'
import type { ProducerState } from './producer-state.ts'
import type { Segment } from './segment.ts'
import type { TransactionIndex } from './transaction-index.ts'

/** @returns undefined: all that a question about [fromOffset, endOffset) looks at is proven already */
export function proveTransactions(
  core: LogCore,
  fromOffset: number,
  endOffset: number,
): Promise<void> | undefined {
  const segment = firstUnproven(core, fromOffset, endOffset)
  return segment === undefined ? undefined : proveAll(core, fromOffset, endOffset)
}

async function proveAll(core: LogCore, fromOffset: number, endOffset: number): Promise<void> {
  for (;;) {
    if (core.state === 'closed') return
    const segment = firstUnproven(core, fromOffset, endOffset)
    if (segment === undefined) return
    const index = segment.transactionIndex
    index.proof ??= prove(core, segment).finally(() => {
      index.proof = undefined
    })
    await index.proof
  }
}

/** Goes through the indexes as a lookup does. */
function firstUnproven(core: LogCore, fromOffset: number, endOffset: number): Segment | undefined {
  const first = Math.max(core.segmentIndexOf(fromOffset), 0)
  for (let at = first; at < core.segments.length; at++) {
    const segment = core.segments[at] as Segment
    const index = segment.transactionIndex
    index.load(core.context.disk)
    if (!index.isProven) return segment
    if (index.collect(fromOffset, endOffset, [])) return undefined
  }
  return undefined
}

async function prove(core: LogCore, segment: Segment): Promise<void> {
  const { disk, log } = core.context
  const { generation } = core
  const index = segment.transactionIndex
  const file = index.file.path
  const sizeBytes = segment.sizeBytes
  // Those behind are of batches that are written meanwhile.
  const { count } = index.file
  let found = await derive(core, segment, sizeBytes, 'headers')
  if (found !== undefined && !isSame(index, count, found)) {
    // Headers of data are not checked one by one: whoever contradicts the index must be sound.
    found = await derive(core, segment, sizeBytes, 'whole')
  }
  if (core.generation !== generation || segment.detached || core.state === 'closed') return
  index.load(disk)
  if (found === undefined) {
    log.warn('a transaction index cannot be held against its segment, which is damaged', { file })
  } else if (!isSame(index, count, found)) {
    if (!isOfCompaction(core, index, count, found)) {
      log.warn('a transaction index is damaged and is made anew', { file })
    }
    index.replace([...found, ...index.entries().slice(count)])
  }
  index.noteProven()
  await save(core, segment)
}

/** It stays in memory where it cannot be written. */
async function save(core: LogCore, segment: Segment): Promise<void> {
  const { disk, syncs } = core.context
  const { file } = segment.transactionIndex
  if (!file.hasUnwritten) return
  try {
    file.flush(disk)
    await syncPath(disk, syncs, file.path)
  } catch (error) {
    if (!isStreamError(error)) throw error
  }
}

function isSame(
  index: TransactionIndex,
  count: number,
  found: readonly AbortedTransaction[],
): boolean {
  const stored = index.entries().slice(0, count)
  const isEqualLong = stored.length === found.length && index.isWellFormed
  return isEqualLong && stored.every((entry, at) => isEqual(entry, found[at]))
}

/** Whether nothing is different but what compaction leaves: entries of which there is nothing any more. */
function isOfCompaction(
  core: LogCore,
  index: TransactionIndex,
  count: number,
  found: readonly AbortedTransaction[],
): boolean {
  const known = new Map(found.map((entry) => [entry.lastOffset, entry]))
  const stored = index.entries().slice(0, count)
  const right = stored.filter((entry) => isEqual(entry, known.get(entry.lastOffset)))
  const others = stored.filter(({ lastOffset }) => !known.has(lastOffset))
  return (
    index.isWellFormed &&
    right.length === found.length &&
    right.length + others.length === stored.length &&
    others.every(({ lastOffset }) => lastOffset < core.cleanOffset)
  )
}

function isEqual(one: AbortedTransaction, other: AbortedTransaction | undefined): boolean {
  return (
    one.producerId === other?.producerId &&
    one.firstOffset === other.firstOffset &&
    one.lastOffset === other.lastOffset &&
    one.lastStableOffset === other.lastStableOffset
  )
}

/** @returns what the index of a segment must hold; undefined where the log is damaged or cannot be read */
async function derive(
  core: LogCore,
  target: Segment,
  targetBytes: number,
  mode: 'headers' | 'whole',
): Promise<AbortedTransaction[] | undefined> {
  const { state, fromOffset } = newestState(core, target.baseOffset)
  const last = core.segments.indexOf(target)
  const first = Math.max(core.segmentIndexOf(fromOffset), 0)
  const found: AbortedTransaction[] = []
  for (const segment of core.segments.slice(first, last + 1)) {
    const isTarget = segment === target
    if (core.damage.some((range) => range.segmentBaseOffset === segment.baseOffset))
      return undefined
    const walk = { end: isTarget ? targetBytes : segment.sizeBytes, mode }
    const aborted = await replay(core, segment, { ...walk, state, fromOffset })
    if (aborted === undefined) return undefined
    if (isTarget) found.push(...aborted)
  }
  return found
}

async function replay(
  core: LogCore,
  segment: Segment,
  options: {
    readonly end: number
    readonly mode: 'headers' | 'whole'
    readonly state: ProducerState
    readonly fromOffset: number
  },
): Promise<AbortedTransaction[] | undefined> {
  const { files } = core.context
  const { end, mode, state, fromOffset } = options
  const aborted: AbortedTransaction[] = []
  try {
    const file = files.pin(segment.handle)
    try {
      const walk = new BatchWalk(file, { start: 0, end, mode })
      const outcome = await walkAll(walk, () => {
        if (walk.lastOffset < fromOffset) return true
        const each = applyBatch(core, state, walk.bytes, walk.at)
        if (each !== undefined) aborted.push(each)
        return true
      })
      return outcome === 'end' ? aborted : undefined
    } finally {
      files.unpin(segment.handle)
    }
  } catch (error) {
    if (!isStreamError(error)) throw error
    return undefined
  }
}
