/**
 * The files of one partition as they lie there: which of them are the log, what the data directory around it says of it.
 * Only looks. A compaction that a crash interrupted is read as its end would leave it (daemon/log/segment-swap.ts).
 */
import type { Disk } from '../../src/ports/disk.ts'
import { type LoadedCheckpoint, loadCheckpoint } from '../log/checkpoint.ts'
import {
  META_NAME,
  parsePartitionDirectory,
  parsePartitionMetadata,
} from '../log/directory-files.ts'
import { directoryOf } from '../log/file-writes.ts'
import { baseOffsetOfName, segmentName } from '../log/segment.ts'
import { CLEANED_SUFFIX, parseSwapPlan, SWAP_SUFFIX } from '../log/segment-swap.ts'
import { type Marks, readMarks } from './marks.ts'

export interface SegmentFile {
  readonly directory: string
  readonly path: string
  /** 0 for a file that is not named as a segment is. */
  readonly baseOffset: number
  readonly sizeBytes: number
  /** `''`, or that of a compaction under way. */
  readonly suffix: string
  /** Whether the name says that it is a segment; others stand alone. */
  readonly isNamed: boolean
}

export interface PartitionFiles {
  readonly directory: string
  readonly topic: string
  readonly partition: number
  readonly topicId: string | undefined
  /** In the order of their offsets. */
  readonly segments: readonly SegmentFile[]
  /** As the checkpoint says; undefined: unknown. */
  readonly logStartOffset: number | undefined
  readonly recoveryPoint: number | undefined
  /** Durable below it; undefined: unknown. */
  readonly durableOffset: number | undefined
  /** Below it offsets follow one another without gaps; undefined: unknown. */
  readonly denseEndOffset: number | undefined
}

export function nameOf(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1)
}

/** What a data directory says of all its partitions. */
export interface Surroundings {
  readonly checkpoint: LoadedCheckpoint
  readonly marks: Marks
}

export function readSurroundings(disk: Disk, dataDirectory: string): Surroundings {
  return {
    checkpoint: loadCheckpoint(disk, dataDirectory),
    marks: readMarks(disk, dataDirectory),
  }
}

/** @param surroundings  of the data directory; absent: looked for around the partition */
export function readPartitionFiles(
  disk: Disk,
  directory: string,
  surroundings?: Surroundings,
): PartitionFiles {
  const name = nameOf(directory)
  const parsed = parsePartitionDirectory(name)
  const metadata = disk.readFile(`${directory}/partition.metadata`)
  const topicId = metadata && parsePartitionMetadata(metadata)
  const topic = parsed?.topic ?? name
  const partition = parsed?.partition ?? 0
  const around = directoryOf(directory)
  const isInside = parsed !== undefined && disk.stat(`${around}/${META_NAME}`) !== undefined
  const known = surroundings ?? (isInside ? readSurroundings(disk, around) : undefined)
  const checkpoint = topicId && known?.checkpoint.find(topicId, topic, partition)
  const mark = topicId && known?.marks.find(topicId, partition)
  return {
    directory,
    topic,
    partition,
    topicId,
    segments: listSegments(disk, directory),
    logStartOffset: checkpoint ? checkpoint.logStartOffset : undefined,
    recoveryPoint: checkpoint ? checkpoint.recoveryPoint : undefined,
    durableOffset: mark
      ? Math.max(mark.durableOffset, checkpoint ? checkpoint.recoveryPoint : 0)
      : undefined,
    denseEndOffset: mark ? mark.denseEndOffset : undefined,
  }
}

function listSegments(disk: Disk, directory: string): SegmentFile[] {
  const names = disk.list(directory)
  const planBytes = disk.readFile(`${directory}/compaction-swap`)
  const plan = planBytes && parseSwapPlan(planBytes)
  const replaced = new Set<number>()
  const segments: SegmentFile[] = []
  const add = (name: string, baseOffset: number, suffix: string): void => {
    const path = `${directory}/${name}`
    const sizeBytes = disk.stat(path)?.sizeBytes ?? 0
    segments.push({ directory, path, baseOffset, sizeBytes, suffix, isNamed: true })
  }
  if (plan !== undefined) {
    const suffix = [CLEANED_SUFFIX, SWAP_SUFFIX].find((each) =>
      names.includes(`${segmentName(plan.baseOffset)}.log${each}`),
    )
    for (const offset of plan.replaced) replaced.add(offset)
    // Without such a file the renames were all done, and the one of that name is the new one.
    if (suffix === undefined) replaced.delete(plan.baseOffset)
    else add(`${segmentName(plan.baseOffset)}.log${suffix}`, plan.baseOffset, suffix)
  }
  for (const name of names) {
    const baseOffset = baseOffsetOfName(name, '.log')
    if (baseOffset !== undefined && !replaced.has(baseOffset)) add(name, baseOffset, '')
  }
  return segments.sort((a, b) => a.baseOffset - b.baseOffset)
}

/** A file given by its path: a segment of its directory, or something that stands alone. */
export function readSingleFile(disk: Disk, path: string): SegmentFile {
  const directory = directoryOf(path)
  const baseOffset = baseOffsetOfName(nameOf(path), '.log')
  return {
    directory,
    path,
    baseOffset: baseOffset ?? 0,
    sizeBytes: disk.stat(path)?.sizeBytes ?? 0,
    suffix: '',
    isNamed: baseOffset !== undefined,
  }
}
