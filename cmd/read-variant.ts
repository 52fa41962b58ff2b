/** What commands that read do differently from consume: which partitions, from where, and what becomes of the records. */

import type { RecordWriter } from '../src/text/record-writer.ts'
import type { ConsumerClient } from './clients.ts'
import type { RecordOutput } from './read-output.ts'
import type { AskOffsets, PartitionName, PartitionRange } from './read-range.ts'

export interface ReadVariant {
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
  readonly openConsumer: (partitionCount: number) => Promise<ConsumerClient>
  readonly isStopped: () => boolean
}
