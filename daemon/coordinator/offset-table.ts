/** The committed offsets of one group: what is durable, by topic and partition. */

import type { CommittedOffset } from './group-records.ts'

export interface OffsetEntry {
  readonly topic: string
  readonly partition: number
  readonly value: CommittedOffset
}

export class OffsetTable {
  readonly #topics = new Map<string, Map<number, CommittedOffset>>()

  get isEmpty(): boolean {
    return this.#topics.size === 0
  }

  get(topic: string, partition: number): CommittedOffset | undefined {
    return this.#topics.get(topic)?.get(partition)
  }

  set(topic: string, partition: number, value: CommittedOffset): void {
    let partitions = this.#topics.get(topic)
    if (partitions === undefined) {
      partitions = new Map()
      this.#topics.set(topic, partitions)
    }
    partitions.set(partition, value)
  }

  delete(topic: string, partition: number): void {
    const partitions = this.#topics.get(topic)
    if (partitions?.delete(partition) === true && partitions.size === 0) this.#topics.delete(topic)
  }

  *all(): Iterable<OffsetEntry> {
    for (const [topic, partitions] of this.#topics) {
      for (const [partition, value] of partitions) yield { topic, partition, value }
    }
  }

  *ofTopic(topic: string): Iterable<OffsetEntry> {
    for (const [partition, value] of this.#topics.get(topic) ?? []) {
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
