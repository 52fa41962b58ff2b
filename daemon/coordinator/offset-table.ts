/**
 * The committed offsets of one group: what is durable, by topic and partition. Each has its place in the log, for of two
 * commits the later record counts, whenever its transaction ends; so compaction leaves what counts.
 */

import type { CommittedOffset } from './group-records.ts'

export interface OffsetEntry {
  readonly topic: string
  readonly partition: number
  readonly value: CommittedOffset
}

interface Placed {
  readonly value: CommittedOffset
  readonly position: number
}

export class OffsetTable {
  readonly #topics = new Map<string, Map<number, Placed>>()

  get isEmpty(): boolean {
    return this.#topics.size === 0
  }

  get(topic: string, partition: number): CommittedOffset | undefined {
    return this.#topics.get(topic)?.get(partition)?.value
  }

  /** @param position  where the log stood behind the record; an earlier one than the known changes nothing */
  set(topic: string, partition: number, value: CommittedOffset, position: number): void {
    let partitions = this.#topics.get(topic)
    if (partitions === undefined) {
      partitions = new Map()
      this.#topics.set(topic, partitions)
    }
    const known = partitions.get(partition)
    if (known === undefined || known.position <= position) {
      partitions.set(partition, { value, position })
    }
  }

  /** Takes over all of another table. */
  setAll(other: OffsetTable): void {
    for (const [topic, partitions] of other.#topics) {
      for (const [partition, { value, position }] of partitions) {
        this.set(topic, partition, value, position)
      }
    }
  }

  delete(topic: string, partition: number): void {
    const partitions = this.#topics.get(topic)
    if (partitions?.delete(partition) === true && partitions.size === 0) this.#topics.delete(topic)
  }

  *all(): Iterable<OffsetEntry> {
    for (const [topic, partitions] of this.#topics) {
      for (const [partition, { value }] of partitions) yield { topic, partition, value }
    }
  }

  *ofTopic(topic: string): Iterable<OffsetEntry> {
    for (const [partition, { value }] of this.#topics.get(topic) ?? []) {
      yield { topic, partition, value }
    }
  }
}

export interface ExpiryRules {
  readonly wallMs: number
  readonly retentionMs: number
  readonly state: 'Empty' | 'active'
  /** Empty: offsets were committed without members. */
  readonly protocolType: string
  /** When the group became empty; -1: not known. */
  readonly emptySinceMs: number
  /** Read by an active group; undefined: nobody can tell. */
  readonly subscribedTopics: ReadonlySet<string> | undefined
}

/** Offsets that are over (replication.md section 10.4). */
export function expiredOffsets(table: OffsetTable, rules: ExpiryRules): readonly OffsetEntry[] {
  const expired: OffsetEntry[] = []
  for (const entry of table.all()) if (isExpired(entry, rules)) expired.push(entry)
  return expired
}

function isExpired({ topic, value }: OffsetEntry, rules: ExpiryRules): boolean {
  const { wallMs, retentionMs, subscribedTopics } = rules
  if (rules.state === 'active') {
    if (subscribedTopics === undefined || subscribedTopics.has(topic)) return false
    return isPast(value, value.commitTimestampMs)
  }
  const isPlain = rules.protocolType === ''
  return isPast(
    value,
    isPlain ? value.commitTimestampMs : Math.max(rules.emptySinceMs, value.commitTimestampMs),
  )

  function isPast(offset: CommittedOffset, sinceMs: number): boolean {
    if (offset.expireTimestampMs >= 0) return wallMs >= offset.expireTimestampMs
    return wallMs - sinceMs >= retentionMs
  }
}
