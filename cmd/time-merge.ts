/**
 * `--order time`: the records of several partitions merged by timestamp, for bounded reads. Sorted if every partition is.
 *
 * A record is given only when each partition that has not ended shows its next one, so partitions that run ahead are
 * paused: of each at most AHEAD_BYTES and one answer are held.
 */

import type { RecordsEvent } from '../src/client/consumer-events.ts'
import { RecordCursor } from '../src/record/record-cursor.ts'
import type { PartitionEnds } from '../src/text/record-writer.ts'

const AHEAD_BYTES = 1024 * 1024
const unknownEnds: PartitionEnds = { logStartOffset: -1, lastStableOffset: -1, highWatermark: -1 }

export interface MergedPartition {
  readonly topic: string
  readonly partition: number
  /** Stands on the partition's next record. */
  readonly cursor: RecordCursor
  /** As the broker said them with that record. */
  readonly ends: PartitionEnds
}

interface Lane extends MergedPartition {
  ends: PartitionEnds
  readonly events: RecordsEvent[]
  heldBytes: number
  batchIndex: number
  /** The cursor stands on a record that has not been given. */
  hasRecord: boolean
  hasEnded: boolean
  isPaused: boolean
}

export interface MergeControl {
  pause(topic: string, partition: number): void
  resume(topic: string, partition: number): void
}

export class TimeMerge {
  readonly #lanes = new Map<string, Lane>()
  readonly #control: MergeControl

  constructor(
    partitions: readonly { readonly topic: string; readonly partition: number }[],
    control: MergeControl,
  ) {
    this.#control = control
    for (const { topic, partition } of partitions) {
      this.#lanes.set(`${topic}/${partition}`, {
        topic,
        partition,
        cursor: new RecordCursor(),
        ends: unknownEnds,
        events: [],
        heldBytes: 0,
        batchIndex: 0,
        hasRecord: false,
        hasEnded: false,
        isPaused: false,
      })
    }
  }

  add(event: RecordsEvent): void {
    const lane = this.#lanes.get(`${event.topic}/${event.partition}`)
    if (lane === undefined) return
    lane.events.push(event)
    lane.heldBytes += event.bytes.length
    if (lane.heldBytes <= AHEAD_BYTES || lane.isPaused) return
    lane.isPaused = true
    this.#control.pause(lane.topic, lane.partition)
  }

  /** Nothing more comes of this partition. */
  end(topic: string, partition: number): void {
    const lane = this.#lanes.get(`${topic}/${partition}`)
    if (lane !== undefined) lane.hasEnded = true
  }

  /**
   * The partition whose next record is the earliest; its cursor stands on it until take().
   * @returns undefined while a partition that has not ended shows no record, and at the end
   * @throws StreamError CORRUPT_BATCH
   */
  next(): MergedPartition | undefined {
    let earliest: Lane | undefined
    for (const lane of this.#lanes.values()) {
      if (!lane.hasRecord && !this.#advance(lane)) {
        if (lane.hasEnded) continue
        return undefined
      }
      if (earliest === undefined || lane.cursor.timestampMs < earliest.cursor.timestampMs) {
        earliest = lane
      }
    }
    return earliest
  }

  /** The record that next() showed has been used. */
  take(merged: MergedPartition): void {
    const lane = this.#lanes.get(`${merged.topic}/${merged.partition}`)
    if (lane !== undefined) lane.hasRecord = false
  }

  #advance(lane: Lane): boolean {
    for (;;) {
      const event = lane.events[0]
      if (event === undefined) return false
      if (this.#advanceIn(lane, event)) {
        lane.ends = event
        return true
      }
      lane.events.shift()
      lane.batchIndex = 0
      lane.heldBytes -= event.bytes.length
      if (lane.isPaused && lane.heldBytes <= AHEAD_BYTES / 2) {
        lane.isPaused = false
        this.#control.resume(lane.topic, lane.partition)
      }
    }
  }

  #advanceIn(lane: Lane, event: RecordsEvent): boolean {
    const { cursor } = lane
    for (;;) {
      if (lane.batchIndex > 0) {
        while (cursor.next()) {
          if (cursor.offset < event.fromOffset) continue
          if (cursor.offset >= event.untilOffset) break
          lane.hasRecord = true
          return true
        }
      }
      const at = event.batches[lane.batchIndex]
      if (at === undefined) return false
      cursor.reset(event.bytes, at)
      lane.batchIndex += 1
    }
  }
}
