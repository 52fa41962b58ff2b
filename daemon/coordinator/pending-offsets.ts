/**
 * Offsets that open transactions have written to one partition of `__consumer_offsets`: held back until the marker
 * (replication.md section 9.5). Like everything in a shard a cache of its log: what the transactional batches without
 * a marker behind them say. They are here from their append on, before they are committed, so that whoever asks for
 * stable offsets cannot slip in between (KIP-447); a batch that is lost takes the whole shard with it.
 *
 * Invariants:
 * - A producer has one open transaction: what it wrote under another epoch belonged to one whose marker was lost to
 *   damage, and is dropped.
 * - Of one transaction the last offset for a partition counts.
 */

import type { CommittedOffset } from './group-records.ts'
import type { OffsetEntry } from './offset-table.ts'

export interface PendingOffset extends OffsetEntry {
  readonly group: string
  /** Where the log stood behind its record: of two commits the later record counts. */
  readonly position: number
}

interface OpenTransaction {
  readonly producerEpoch: number
  /** By group, topic and partition. */
  readonly offsets: Map<string, PendingOffset>
}

export class PendingOffsets {
  readonly #open = new Map<number, OpenTransaction>()

  add(
    producer: { readonly producerId: number; readonly producerEpoch: number },
    group: string,
    topic: string,
    partition: number,
    value: CommittedOffset,
    position: number,
  ): void {
    const { producerId, producerEpoch } = producer
    let open = this.#open.get(producerId)
    if (open?.producerEpoch !== producerEpoch) {
      open = { producerEpoch, offsets: new Map() }
      this.#open.set(producerId, open)
    }
    open.offsets.set(keyOf(group, topic, partition), { group, topic, partition, value, position })
  }

  /** A marker: the transaction of `producerId` is over. @returns what it had written here */
  end(producerId: number): readonly PendingOffset[] {
    const open = this.#open.get(producerId)
    this.#open.delete(producerId)
    return open === undefined ? [] : [...open.offsets.values()]
  }

  get producerIds(): readonly number[] {
    return [...this.#open.keys()]
  }

  /** What some open transaction would commit. */
  get(group: string, topic: string, partition: number): CommittedOffset | undefined {
    if (this.#open.size === 0) return undefined
    const key = keyOf(group, topic, partition)
    for (const { offsets } of this.#open.values()) {
      const pending = offsets.get(key)
      if (pending !== undefined) return pending.value
    }
    return undefined
  }

  holds(group: string, topic: string, partition: number): boolean {
    return this.get(group, topic, partition) !== undefined
  }

  hasGroup(group: string): boolean {
    for (const _each of this.ofGroup(group)) return true
    return false
  }

  /** A partition that several transactions have written to comes once for each of them. */
  *ofGroup(group: string): Iterable<PendingOffset> {
    for (const { offsets } of this.#open.values()) {
      for (const pending of offsets.values()) if (pending.group === group) yield pending
    }
  }

  /** A tombstone: what stands before it in the log is gone. */
  delete(group: string, topic: string, partition: number, position: number): void {
    const key = keyOf(group, topic, partition)
    for (const { offsets } of this.#open.values()) {
      if ((offsets.get(key)?.position ?? position) < position) offsets.delete(key)
    }
  }
}

function keyOf(group: string, topic: string, partition: number): string {
  // A topic's name has no slash.
  return `${partition}/${topic}/${group}`
}
