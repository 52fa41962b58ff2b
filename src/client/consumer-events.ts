/** What a Consumer is told, and what it gives. */
import type { StreamError } from '../base/errors.ts'
import type { LocalReadOptions } from './local-reads.ts'
import type { Isolation } from './offsets.ts'

export interface ConsumerOptions {
  /** Default read_committed. */
  readonly isolation?: Isolation
  /** How long the broker may hold an answer with less than minBytes. Default 500. */
  readonly maxWaitMs?: number
  /** Default 1. */
  readonly minBytes?: number
  /** Of one answer over all partitions; default 4 194 304. */
  readonly fetchBytesMax?: number
  /** Of one partition in one answer; default fetchBytesMax. */
  readonly partitionBytesMax?: number
  /** Answers waiting to be polled; default 8 388 608. One more answer may be on its way from each leader. */
  readonly prefetchBytesMax?: number
  /** Whether each batch's checksum is verified. Default true. */
  readonly verifyChecksums?: boolean
  /** How long a topic may be unknown to the brokers before it has failed. Default 5000. */
  readonly unknownTopicMs?: number
  /** Rack or zone of this consumer; absent: it reads from leaders. */
  readonly rack?: string
  /** Absent: everything is fetched. With it, events with `release` come, which must be called. */
  readonly localReads?: LocalReadOptions
}

export interface Assignment {
  readonly topic: string
  readonly partition: number
  /** First offset wanted. */
  readonly startOffset: number
  /** First offset no longer wanted; absent: goes on for ever. */
  readonly endOffset?: number
  /** Of the topic that startOffset is of; absent: the first that the brokers tell. If it is another one the partition fails. */
  readonly topicId?: string
  /** Of the last record read before startOffset, by whoever read it: if it was cut back meanwhile, the partition fails. */
  readonly leaderEpoch?: number
}

/** Batches of one answer for one partition. Only records with fromOffset ≤ offset < untilOffset are meant. */
export interface RecordsEvent {
  readonly kind: 'records'
  readonly topic: string
  readonly partition: number
  /** The answer's bytes: the caller's to keep, or only until `release` is called where there is such a function. */
  readonly bytes: Uint8Array
  /** Where the batches with records begin in `bytes`, in offset order; aborted and control batches are left out. */
  readonly batches: readonly number[]
  readonly fromOffset: number
  /** Infinity when the partition has no end. */
  readonly untilOffset: number
  /** The position after this event. */
  readonly nextOffset: number
  /** As the answer said; -1: it did not. */
  readonly highWatermark: number
  readonly lastStableOffset: number
  readonly logStartOffset: number
  /** Gives memory back that is read into again. To be called once, and soon: reading waits for it. */
  readonly release?: () => void
}

/** Everything below endOffset has been delivered; no further events of this partition. */
export interface EndEvent {
  readonly kind: 'end'
  readonly topic: string
  readonly partition: number
  readonly offset: number
}

export type ConsumerEvent =
  | RecordsEvent
  /** Offsets from ≤ offset < to are gone (retention, trim); reading goes on at `to`. */
  | {
      readonly kind: 'gap'
      readonly topic: string
      readonly partition: number
      readonly from: number
      readonly to: number
    }
  | EndEvent
  /** The partition cannot be read on: TOPIC_UNKNOWN, OFFSET_OUT_OF_RANGE (beyond the end, or the log was cut back), CORRUPT_BATCH, NOT_ALLOWED, CONFLICT (the topic was created again) … */
  | {
      readonly kind: 'failed'
      readonly topic: string
      readonly partition: number
      readonly error: StreamError
    }
