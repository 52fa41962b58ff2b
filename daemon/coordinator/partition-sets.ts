/** Sets of partitions by topic id, as groups of the consumer protocol own and exchange them. They are never changed. */

/** Partitions by topic id; no topic is there without partitions. */
export type Partitions = ReadonlyMap<string, ReadonlySet<number>>

/** As the wire and the records have it. */
export interface TopicIdPartitions {
  readonly topicId: string
  readonly partitions: readonly number[]
}

export const NO_PARTITIONS: Partitions = new Map()

export function partitionsOf(rows: readonly TopicIdPartitions[]): Partitions {
  const sets = new Map<string, Set<number>>()
  for (const { topicId, partitions } of rows) {
    if (partitions.length === 0) continue
    const set = sets.get(topicId) ?? new Set()
    sets.set(topicId, set)
    for (const partition of partitions) set.add(partition)
  }
  return sets
}

/** Sorted, so that equal sets have equal bytes. */
export function rowsOf(partitions: Partitions): readonly TopicIdPartitions[] {
  return [...partitions]
    .sort(([left], [right]) => (left < right ? -1 : 1))
    .map(([topicId, set]) => ({ topicId, partitions: [...set].sort((a, b) => a - b) }))
}

export function countOf(partitions: Partitions): number {
  let count = 0
  for (const set of partitions.values()) count += set.size
  return count
}

export function has(partitions: Partitions, topicId: string, partition: number): boolean {
  return partitions.get(topicId)?.has(partition) ?? false
}

export function select(
  partitions: Partitions,
  wanted: (topicId: string, partition: number) => boolean,
): Partitions {
  const selected = new Map<string, ReadonlySet<number>>()
  for (const [topicId, set] of partitions) {
    const rest = new Set<number>()
    for (const partition of set) if (wanted(topicId, partition)) rest.add(partition)
    if (rest.size > 0) selected.set(topicId, rest)
  }
  return selected
}

export function union(left: Partitions, right: Partitions): Partitions {
  if (right.size === 0) return left
  const all = new Map<string, ReadonlySet<number>>(left)
  for (const [topicId, set] of right) {
    const known = all.get(topicId)
    all.set(topicId, known === undefined ? set : new Set([...known, ...set]))
  }
  return all
}

export function isSubset(part: Partitions, whole: Partitions): boolean {
  for (const [topicId, set] of part) {
    for (const partition of set) if (!has(whole, topicId, partition)) return false
  }
  return true
}

export function isSame(left: Partitions, right: Partitions): boolean {
  return countOf(left) === countOf(right) && isSubset(left, right)
}

export function overlaps(left: Partitions, right: Partitions): boolean {
  for (const [topicId, set] of left) {
    for (const partition of set) if (has(right, topicId, partition)) return true
  }
  return false
}
