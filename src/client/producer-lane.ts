/**
 * What the producer keeps per partition: the batch being filled, and the queue of those sealed. Data and its plain
 * questions only; producer.ts moves it.
 */
import type { Timer } from '../ports/time.ts'
import type { BatchBuilder } from '../record/batch-builder.ts'
import type { PartitionQueue, QueuedBatch } from './partition-queue.ts'
import type { Identity } from './producer-identity.ts'

export interface Batch extends QueuedBatch {
  readonly lane: Lane
  builder: BatchBuilder | undefined
  /** Made by the caller (appendBatch); it becomes `bytes` when it has its sequence. */
  readonly prepared: Uint8Array | undefined
  bytes: Uint8Array | undefined
  readonly sizeBytes: number
  ordinals: readonly number[] | undefined
  baseOffset: number
  /** Those that the broker has named in its refusal, from 0, rising. */
  refusedIndexes: readonly number[]
}

/** One partition that has been written to. */
export interface Lane {
  readonly topic: string
  readonly partition: number
  readonly target: string
  readonly queue: PartitionQueue<Batch>
  builder: BatchBuilder | undefined
  firstOrdinal: number
  lastOrdinal: number
  ordinals: number[] | undefined
  openedMs: number
  /** The open batch should leave at the next chance: the input is idle or lingerMs are over. */
  isUrgent: boolean
  /** Of its own after a batch was left out (afterRefusal); else the producer's. */
  identity: Identity | undefined
  /** Failures in a row that were not failures: the leader had moved, and the answer said where to. */
  failuresForgiven: number
  /** Since when the broker has refused all that was sent, if it does. */
  refusedSinceMs: number | undefined
  /** The user knows. */
  isRefusalTold: boolean
  /** Back-off after an error. */
  notBeforeMs: number
  pauseTimer: Timer | undefined
}

export interface TopicState {
  readonly name: string
  readonly lanes: (Lane | undefined)[]
  sticky: number
  /** Of a batch of several records, uncompressed. */
  bytesMax: number
}

/** Whether a batch with records is being filled. */
export function hasRecords(lane: Lane): boolean {
  return lane.builder !== undefined && !lane.builder.isEmpty
}

/** Whether sealed batches wait for their first or next send. */
export function hasUnsent(lane: Lane): boolean {
  return lane.queue.batches.length > lane.queue.inFlight
}

/** One Produce request's partitions; each batch is of another partition. */
export function groupByTopic(batches: readonly Batch[]): {
  name: string
  partitionData: { index: number; records: Uint8Array | null }[]
}[] {
  const topics = new Map<string, { index: number; records: Uint8Array | null }[]>()
  for (const { lane, bytes } of batches) {
    const row = { index: lane.partition, records: bytes ?? null }
    const rows = topics.get(lane.topic)
    if (rows === undefined) topics.set(lane.topic, [row])
    else rows.push(row)
  }
  return [...topics].map(([name, partitionData]) => ({ name, partitionData }))
}
