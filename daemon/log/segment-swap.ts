/**
 * Puts a compacted segment in the place of those it was made from, so that a crash at any point leaves either them or it.
 *
 *  1. the cleaned files are complete and synced under `.cleaned`
 *  2. `compaction-swap` names the segments that are replaced: written, synced, renamed into place (the point of no return)
 *  3. `.cleaned` → `.swap`, the old segments → `.deleted`, `.swap` → final names, directory synced
 *  4. `compaction-swap` is removed, directory synced
 *
 * Recovery: with a valid `compaction-swap` step 3 is carried to its end from wherever it stands; with a damaged one the
 * log is not opened, since nobody knows which files are the log; without it `.cleaned` files are removed. A `.swap` file
 * without it comes from a Kafka broker: it replaces what its batches cover.
 *
 * `compaction-swap` is text: `stream compaction swap 1`, the base offset of the new segment, the base offsets of the
 * replaced ones separated by blanks, and the CRC-32C, in hexadecimal, of the lines before.
 */
import { Buffer } from 'node:buffer'
import { StreamError } from '../../src/base/errors.ts'
import type { Disk } from '../../src/ports/disk.ts'
import { crc32c } from '../../src/record/crc32c.ts'
import { BatchWalk, walkAllNow } from './batch-walk.ts'
import { replaceFile, syncPath } from './file-writes.ts'
import type { LogCore } from './log-core.ts'
import { baseOffsetOfName, type Segment, segmentName } from './segment.ts'
import { DELETED_SUFFIX, discardSegment } from './segment-removal.ts'

export const CLEANED_SUFFIX = '.cleaned'
export const SWAP_SUFFIX = '.swap'
const PLAN_NAME = 'compaction-swap'
const HEADING = 'stream compaction swap 1'
const SEGMENT_SUFFIXES = ['.log', '.index', '.timeindex', '.txnindex'] as const

export interface SwapPlan {
  readonly baseOffset: number
  /** Rising; the first one equals baseOffset. */
  readonly replaced: readonly number[]
}

export function encodeSwapPlan(plan: SwapPlan): Uint8Array {
  const text = `${HEADING}\n${plan.baseOffset}\n${plan.replaced.join(' ')}\n`
  const crc = crc32c(Buffer.from(text)).toString(16).padStart(8, '0')
  return Buffer.from(`${text}${crc}\n`)
}

/** @returns undefined for anything but a whole valid plan */
export function parseSwapPlan(bytes: Uint8Array): SwapPlan | undefined {
  const text = Buffer.from(bytes).toString('latin1')
  const lines = text.split('\n')
  const [heading, base, replacedText, crc] = lines
  if (lines.length !== 5 || heading !== HEADING || crc === undefined) return undefined
  const covered = Buffer.from(text.slice(0, text.length - crc.length - 1), 'latin1')
  if (crc32c(covered).toString(16).padStart(8, '0') !== crc) return undefined
  const replaced = (replacedText ?? '').split(' ').map(Number)
  const baseOffset = Number(base)
  if (!Number.isSafeInteger(baseOffset) || !replaced.every(Number.isSafeInteger)) return undefined
  return { baseOffset, replaced }
}

/**
 * @param check  throws when the log has changed underneath; not called any more beyond the point of no return
 * @returns false: a segment of the group is gone, and nothing was swapped
 */
export async function swapSegments(
  core: LogCore,
  group: readonly Segment[],
  cleaned: Segment,
  check: () => void,
): Promise<boolean> {
  const { disk, syncs } = core.context
  for (const index of cleaned.indexFiles()) {
    await syncPath(disk, syncs, index.path)
    index.unsynced = false
  }
  // The cleaned files' names before the plan that relies on them.
  await syncs.syncDirectory(core.directory)
  check()
  if (group.some((segment) => segment.detached)) return false
  await core.exclusively(() => swapNames(core, group, cleaned))
  return true
}

async function swapNames(
  core: LogCore,
  group: readonly Segment[],
  cleaned: Segment,
): Promise<void> {
  const { disk, syncs } = core.context
  const replaced = group.map(({ baseOffset }) => baseOffset)
  const plan = encodeSwapPlan({ baseOffset: cleaned.baseOffset, replaced })
  await replaceFile(disk, syncs, `${core.directory}/${PLAN_NAME}`, plan)
  try {
    cleaned.rename(disk, CLEANED_SUFFIX, SWAP_SUFFIX)
    for (const segment of group) discardSegment(core, segment, '')
    cleaned.rename(disk, SWAP_SUFFIX, '')
  } catch (error) {
    // Between two states, and only a start knows the way out.
    throw syncs.fail(error, core.directory)
  }
  const first = core.segments.indexOf(group[0] as Segment)
  core.cache.dropBelow((core.segments[first + group.length] as Segment).baseOffset)
  core.segments = [
    ...core.segments.slice(0, first),
    cleaned,
    ...core.segments.slice(first + group.length),
  ]
  core.hints.clear()
  await syncs.syncDirectory(core.directory)
  disk.unlink(`${core.directory}/${PLAN_NAME}`)
  await syncs.syncDirectory(core.directory)
}

/**
 * Ends a swap that a crash interrupted, and removes what it left.
 * @returns whether the directory must be synced
 * @throws StreamError DATA_DAMAGED when the plan cannot be read
 */
export function finishSwap(disk: Disk, directory: string): boolean {
  const planPath = `${directory}/${PLAN_NAME}`
  const bytes = disk.readFile(planPath)
  if (bytes === undefined) {
    const finished = finishForeignSwaps(disk, directory)
    return removeLeftovers(disk, directory) || finished
  }
  const plan = parseSwapPlan(bytes)
  if (plan === undefined) {
    throw new StreamError(
      'DATA_DAMAGED',
      `${planPath}: an interrupted compaction cannot be ended`,
      {
        target: planPath,
        hint: 'the files beside it, with and without .deleted, hold all records; nothing was changed',
      },
    )
  }
  carryOut(disk, directory, plan)
  removeLeftovers(disk, directory)
  disk.unlink(planPath)
  return true
}

/** Kafka's own: a `.swap` file replaces the segments whose base offsets its batches cover. */
function finishForeignSwaps(disk: Disk, directory: string): boolean {
  const names = disk.list(directory)
  let finished = false
  for (const name of names) {
    const baseOffset = baseOffsetOfName(name, `.log${SWAP_SUFFIX}`)
    if (baseOffset === undefined) continue
    const endOffset = endOffsetOf(disk, `${directory}/${name}`, baseOffset)
    const bases = names.map((other) => baseOffsetOfName(other, '.log'))
    const replaced = bases.filter(
      (base): base is number => base !== undefined && base >= baseOffset && base < endOffset,
    )
    carryOut(disk, directory, { baseOffset, replaced })
    finished = true
  }
  return finished
}

function endOffsetOf(disk: Disk, path: string, baseOffset: number): number {
  const file = disk.open(path, 'read')
  try {
    const walk = new BatchWalk(file, { start: 0, end: file.sizeBytes(), mode: 'headers' })
    let endOffset = baseOffset + 1
    walkAllNow(walk, () => {
      endOffset = walk.lastOffset + 1
      return true
    })
    return endOffset
  } finally {
    file.close()
  }
}

function carryOut(disk: Disk, directory: string, plan: SwapPlan): void {
  const stem = `${directory}/${segmentName(plan.baseOffset)}`
  const hasNew = [CLEANED_SUFFIX, SWAP_SUFFIX].some(
    (suffix) => disk.stat(`${stem}.log${suffix}`) !== undefined,
  )
  // Without it the renames were all done, and the file of that name is the new one.
  if (hasNew) removeFiles(disk, directory, plan.baseOffset)
  for (const baseOffset of plan.replaced) {
    if (baseOffset !== plan.baseOffset) removeFiles(disk, directory, baseOffset)
  }
  for (const suffix of SEGMENT_SUFFIXES) {
    for (const from of [CLEANED_SUFFIX, SWAP_SUFFIX]) {
      const path = `${stem}${suffix}${from}`
      if (disk.stat(path) !== undefined) disk.rename(path, `${stem}${suffix}`)
    }
  }
}

function removeFiles(disk: Disk, directory: string, baseOffset: number): void {
  for (const suffix of SEGMENT_SUFFIXES) {
    disk.unlink(`${directory}/${segmentName(baseOffset)}${suffix}`)
  }
}

function removeLeftovers(disk: Disk, directory: string): boolean {
  let removed = false
  for (const name of disk.list(directory)) {
    if (!name.endsWith(CLEANED_SUFFIX) && !name.endsWith(DELETED_SUFFIX)) continue
    disk.unlink(`${directory}/${name}`)
    removed = true
  }
  return removed
}
