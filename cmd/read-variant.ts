/** What commands that read do differently from consume: which partitions, from where, and what becomes of the records. */

import type { RecordWriter } from '../src/text/record-writer.ts'
import type { Acknowledgements } from './acknowledgements.ts'
import type { ConsumerClient } from './clients.ts'
import type { RecordOutput } from './read-output.ts'
import type { AskOffsets, PartitionName, PartitionRange } from './read-range.ts'

/** Where it is kept how far a read has come. */
export interface ReadProgress {
  readonly acknowledgements: Acknowledgements | undefined
  /** Everything of a partition below `offset` was read. @param leaderEpoch  of the record before it, where it is known */
  take(topic: string, partition: number, offset: number, leaderEpoch?: number): void
  /** All that was taken has been written. */
  onWritten(): void
  /** Waits for what is still to be said about it. */
  settle(stopped: Promise<void>, mayNotWait: () => boolean): Promise<void>
  /** The run is over. @param isProper  it came to its end, and no write met a hang-up */
  end(isProper: boolean): void | Promise<void>
  cutShort(): void | Promise<void>
  close(): void | Promise<void>
}

export interface ReadVariant {
  /** In place of a cursor file or a group. It needs to know the end only, not every write. */
  readonly progress?: ReadProgress
  /** Of the partitions found those that are read. */
  readonly select?: (partitions: readonly PartitionName[]) => readonly PartitionName[]
  /** Ranges in place of those that the plan's positions give. */
  readonly findRanges?: (
    partitions: readonly PartitionName[],
    tools: RangeTools,
  ) => Promise<PartitionRange[]>
  /** In place of printing as it comes. */
  readonly makeOutput?: (writer: RecordWriter) => VariantOutput
  /** In place of the writer of the plan's form. */
  readonly makeWriter?: () => Promise<RecordWriter | undefined>
  /** Merged by time up to the ranges' ends, then on from there as it comes. */
  readonly goesOn?: boolean
}

export interface VariantOutput extends RecordOutput {
  /** All was read: what is to be printed only now. */
  finish(): void
}

export interface RangeTools {
  readonly ask: AskOffsets
  readonly clusterId: string | undefined
  /** Of a topic as it was found first; empty: not known. */
  readonly topicId: (topic: string) => string
  readonly openConsumer: (partitionCount: number) => Promise<ConsumerClient>
  readonly isStopped: () => boolean
}
