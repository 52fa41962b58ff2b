/**
 * From positions to offsets: where each partition is read from and to (commands.md, section 4).
 *
 * Invariant: all ends of one read are asked at one time, before anything is read; an end lies at or after its start.
 */

import { StreamError } from '../src/base/errors.ts'
import type { OffsetAnswer, OffsetPlace, OffsetQuestion } from '../src/client/offsets.ts'
import { type Position, type Positions, positionFor } from '../src/text/position.ts'

export interface PartitionName {
  readonly topic: string
  readonly partition: number
}

export interface PartitionRange extends PartitionName {
  readonly startOffset: number
  /** Exclusive; undefined: goes on. */
  readonly endOffset: number | undefined
  /** Offsets asked for that are gone already. */
  readonly gap: { readonly from: number; readonly to: number } | undefined
}

/** @param isUncommitted  the ends are the high watermarks, whatever the read's isolation */
export type AskOffsets = (
  questions: readonly OffsetQuestion[],
  isUncommitted?: boolean,
) => Promise<readonly OffsetAnswer[]>

/** Positions that somebody has stored and that win over the flags. */
export interface StoredPlaces {
  readonly has: (name: PartitionName) => boolean
  /** What to do about one that lies beyond the end. */
  readonly hint: string
}

/**
 * A stored position may lie behind the last stable offset: who committed it reads uncommitted records too.
 * @throws StreamError as the question; OFFSET_OUT_OF_RANGE for a start beyond a partition's end; where nothing is to be read
 *   of it anyway for a stored one only, for that log is not the one that it was stored of
 */
export async function resolveRanges(
  partitions: readonly PartitionName[],
  from: Positions,
  until: Positions | undefined,
  ask: AskOffsets,
  stored?: StoredPlaces,
): Promise<PartitionRange[]> {
  const wanted = partitions.map((name) => ({
    ...name,
    from: positionFor(from, name.topic, name.partition) ?? ({ kind: 'end' } as const),
    until: until === undefined ? undefined : endFor(until, name),
  }))
  const questions = new QuestionList()
  for (const row of wanted) {
    for (const place of placesOf(row.from)) questions.add(row, place)
    if (row.until !== undefined) {
      for (const place of placesOf(row.until)) questions.add(row, place)
    }
  }
  const answers = await questions.ask(ask)
  const ranges = wanted.map((row) => {
    const asked = offsetOf(row.from, row, answers, undefined)
    const earliest = answers(row, 'earliest')
    const startOffset = earliest === undefined ? asked : Math.max(asked, earliest)
    const endOffset =
      row.until === undefined ? undefined : offsetOf(row.until, row, answers, startOffset)
    return {
      topic: row.topic,
      partition: row.partition,
      startOffset,
      endOffset: endOffset === undefined ? undefined : Math.max(endOffset, startOffset),
      gap: asked < startOffset ? { from: asked, to: startOffset } : undefined,
    }
  })
  const isBeyond = (range: PartitionRange) => {
    const isEmpty = range.endOffset !== undefined && range.endOffset <= range.startOffset
    const latest = isEmpty && stored?.has(range) !== true ? undefined : answers(range, 'latest')
    return latest !== undefined && range.startOffset > latest
  }
  await checkBeyond(ranges.filter(isBeyond), ask, stored)
  return ranges
}

/** @param ranges  that begin behind the last stable offset @throws StreamError OFFSET_OUT_OF_RANGE, as the question */
async function checkBeyond(
  ranges: readonly PartitionRange[],
  ask: AskOffsets,
  stored: StoredPlaces | undefined,
): Promise<void> {
  if (ranges.length === 0) return
  const questions = new QuestionList()
  for (const range of ranges) questions.add(range, 'latest')
  const ends = await questions.ask((list) => ask(list, true))
  for (const range of ranges) {
    const { topic, partition, startOffset } = range
    const end = ends(range, 'latest') ?? 0
    if (startOffset <= end) continue
    throw new StreamError(
      'OFFSET_OUT_OF_RANGE',
      `${topic}: partition ${partition} ends at ${end}, before ${startOffset}`,
      { target: topic, ...(stored?.has(range) === true ? { hint: stored.hint } : {}) },
    )
  }
}

/** Of a group that has committed more than a partition has. */
export function seekHint(group: string): string {
  return `the log is not the one that was read; to read it: stream groups seek ${group} --to start`
}

/** A partition that `--until P=POS` does not name ends at its end: a bounded read is bounded everywhere. */
function endFor(until: Positions, name: PartitionName): Position {
  return positionFor(until, name.topic, name.partition) ?? { kind: 'end' }
}

/** What has to be asked about a partition to know where a position is in it. */
function placesOf(position: Position): readonly OffsetPlace[] {
  switch (position.kind) {
    case 'start':
      return ['earliest']
    case 'end':
      return ['latest']
    case 'offset':
    case 'before-end':
      return ['earliest', 'latest']
    case 'after-start':
      return ['earliest']
    case 'time':
      return [position.timeMs, 'latest']
    case 'committed':
      return []
  }
}

type Answers = (name: PartitionName, place: OffsetPlace) => number | undefined

function offsetOf(
  position: Position,
  name: PartitionName,
  answers: Answers,
  /** Of an end: where the read begins. */
  startOffset: number | undefined,
): number {
  const earliest = answers(name, 'earliest') ?? 0
  const latest = answers(name, 'latest') ?? 0
  switch (position.kind) {
    case 'start':
      return earliest
    case 'end':
      return latest
    case 'offset':
      return position.offset
    case 'after-start':
      return (startOffset ?? earliest) + position.count
    case 'before-end':
      return Math.max(earliest, latest - position.count)
    case 'time': {
      const offset = answers(name, position.timeMs) ?? -1
      return offset < 0 ? latest : offset
    }
    case 'committed':
      return latest
  }
}

class QuestionList {
  readonly #questions = new Map<string, OffsetQuestion>()

  add({ topic, partition }: PartitionName, at: OffsetPlace): void {
    this.#questions.set(nameOf(topic, partition, at), { topic, partition, at })
  }

  async ask(ask: AskOffsets): Promise<Answers> {
    const questions = [...this.#questions.values()]
    const rows = questions.length === 0 ? [] : await ask(questions)
    const offsets = new Map(
      rows.map(({ topic, partition, at, offset }) => [nameOf(topic, partition, at), offset]),
    )
    return ({ topic, partition }, place) => offsets.get(nameOf(topic, partition, place))
  }
}

function nameOf(topic: string, partition: number, at: OffsetPlace): string {
  return `${topic}/${partition}/${at}`
}
