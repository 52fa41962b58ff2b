/**
 * Positions as flags spell them (commands.md, section 4), as tagged values; the reading side turns them into offsets.
 *
 *     POS = start | end | committed | N | +N | -N | TIME | P=POS[,P=POS]… | TOPIC/P=POS…
 */

import { parseTime } from './time.ts'
import { parseDuration } from './units.ts'

export type Position =
  | { readonly kind: 'start' }
  | { readonly kind: 'end' }
  | { readonly kind: 'committed' }
  | { readonly kind: 'offset'; readonly offset: number }
  /** So many records after the log start (in --until: after where the read began). */
  | { readonly kind: 'after-start'; readonly count: number }
  | { readonly kind: 'before-end'; readonly count: number }
  /** The first record stamped at or after `timeMs`. */
  | { readonly kind: 'time'; readonly timeMs: number }

export interface PartitionPosition {
  /** undefined: of every topic read. */
  readonly topic: string | undefined
  readonly partition: number
  readonly position: Position
}

/** Where a read starts or stops: one place for all partitions, or places for some of them. */
export interface Positions {
  /** Of partitions that `places` does not name; undefined: the default of the command. */
  readonly all: Position | undefined
  readonly places: readonly PartitionPosition[]
}

const words: Readonly<Record<string, Position>> = {
  start: { kind: 'start' },
  beginning: { kind: 'start' },
  earliest: { kind: 'start' },
  end: { kind: 'end' },
  latest: { kind: 'end' },
  committed: { kind: 'committed' },
  stored: { kind: 'committed' },
}

/** One place, without partitions. @returns undefined if `text` is none */
export function parsePosition(text: string, nowMs: number): Position | undefined {
  const word = Object.hasOwn(words, text) ? words[text] : undefined
  if (word !== undefined) return word
  const match = /^([+-]?)(\d{1,16})$/.exec(text)
  if (match !== null) {
    const count = Number(match[2])
    if (!Number.isSafeInteger(count)) return undefined
    switch (match[1]) {
      case '+':
        return { kind: 'after-start', count }
      case '-':
        return { kind: 'before-end', count }
      default:
        return { kind: 'offset', offset: count }
    }
  }
  const timeMs = parseTime(text, nowMs)
  return timeMs === undefined ? undefined : { kind: 'time', timeMs }
}

/** A POS of any form. @returns undefined if `text` is none */
export function parsePositions(text: string, nowMs: number): Positions | undefined {
  if (!text.includes('=')) {
    const all = parsePosition(text, nowMs)
    return all === undefined ? undefined : { all, places: [] }
  }
  const places: PartitionPosition[] = []
  for (const part of text.split(',')) {
    const match = /^(?:([^/=]+)\/)?(\d{1,9})=(.+)$/.exec(part)
    if (match === null) return undefined
    const position = parsePosition(match[3] ?? '', nowMs)
    if (position === undefined) return undefined
    places.push({ topic: match[1], partition: Number(match[2]), position })
  }
  return { all: undefined, places }
}

/** `--since`: a TIME, or a bare duration, which means ago. */
export function parseSince(text: string, nowMs: number): number | undefined {
  const agoMs = parseDuration(text)
  return agoMs === undefined ? parseTime(text, nowMs) : nowMs - agoMs
}

/** The place of one partition, the later of two that name it; undefined: the default of the command. */
export function positionFor(
  positions: Positions,
  topic: string,
  partition: number,
): Position | undefined {
  const place = positions.places.findLast(
    (candidate) =>
      candidate.partition === partition &&
      (candidate.topic === undefined || candidate.topic === topic),
  )
  return place?.position ?? positions.all
}
