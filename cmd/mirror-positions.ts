/**
 * How far copies have come: one value in `__stream_state` of the target for each partition of each pair of topics, written in the
 * transaction that holds the records.
 */

import type { Broker } from './broker.ts'
import type { CommandDeps } from './deps.ts'
import { readState, type StateKey } from './stream-state.ts'

/** No record was copied yet. */
export const NONE_YET = -1
/** The broker did not say where records went (it knew them for duplicates, and not for which). */
export const NOT_TOLD = -2

export interface TopicPair {
  readonly source: string
  readonly target: string
}

export interface MirrorPosition {
  /** Of the topics that it is about: made anew they are others. */
  readonly sourceId: string
  readonly targetId: string
  /** The first offset of the source that was wanted. */
  readonly first: number
  /** The next offset of the source. */
  readonly next: number
  /** Offsets of the target: its first record of this copy, and one after the last; NONE_YET, NOT_TOLD. */
  readonly hereFirst: number
  readonly here: number
  /** What runs did that a comparison has to know of. */
  readonly traits: readonly MirrorTrait[]
  /** Why the last run could not go on. */
  readonly error: string | undefined
}

/** Records were left out; records got their origin; the target has records of something else. */
export type MirrorTrait = 'filtered' | 'tagged' | 'mixed'
const allTraits: readonly MirrorTrait[] = ['filtered', 'tagged', 'mixed']

export interface FoundPosition extends MirrorPosition {
  readonly pair: TopicPair
  readonly partition: number
}

/** As it is stored, under `["mirror", CLUSTER, SOURCE TOPIC, TARGET TOPIC, PARTITION]`. */
interface StoredPosition {
  readonly v: 1
  readonly from: string
  readonly to: string
  readonly first: number
  readonly next: number
  readonly hereFirst: number
  readonly here: number
  readonly traits?: readonly string[]
  readonly error?: string
}

export function mirrorPrefix(clusterId: string): StateKey {
  return ['mirror', clusterId]
}

export function positionKey(clusterId: string, pair: TopicPair, partition: number): StateKey {
  return [...mirrorPrefix(clusterId), pair.source, pair.target, partition]
}

export function storedPosition(position: MirrorPosition): StoredPosition {
  const { sourceId: from, targetId: to, first, next, hereFirst, here, error } = position
  const { traits } = position
  return {
    ...{ v: 1, from, to, first, next, hereFirst, here },
    ...(traits.length === 0 ? {} : { traits }),
    ...(error === undefined ? {} : { error }),
  }
}

/** All positions of copies from that cluster. @throws StreamError of the broker */
export async function readPositions(
  deps: CommandDeps,
  target: Broker,
  clusterId: string,
): Promise<readonly FoundPosition[]> {
  const found: FoundPosition[] = []
  for (const [key, value] of await readState(deps, target, mirrorPrefix(clusterId))) {
    const position = parsePosition(key, value)
    if (position !== undefined) found.push(position)
  }
  return found
}

function parsePosition(key: string, value: unknown): FoundPosition | undefined {
  const [, , source, target, partition, ...more] = JSON.parse(key) as unknown[]
  const stored = value as Partial<StoredPosition> | null
  if (more.length > 0 || typeof source !== 'string' || typeof target !== 'string') return undefined
  if (!Number.isSafeInteger(partition) || stored === null || stored.v !== 1) return undefined
  const { first, next, hereFirst, here, from = '', to = '', error } = stored
  const { traits } = stored
  if (!Number.isSafeInteger(first) || !Number.isSafeInteger(next)) return undefined
  return {
    pair: { source, target },
    partition: partition as number,
    sourceId: from,
    targetId: to,
    first: first as number,
    next: next as number,
    hereFirst: hereFirst ?? NOT_TOLD,
    here: here ?? NOT_TOLD,
    traits: allTraits.filter((trait) => traits?.includes(trait) === true),
    error,
  }
}

/** The positions of one pair, by partition. */
export function ofPair(
  positions: readonly FoundPosition[],
  { source, target }: TopicPair,
): Map<number, MirrorPosition> {
  const rows = positions.filter(({ pair }) => pair.source === source && pair.target === target)
  return new Map(rows.map((row) => [row.partition, row]))
}
