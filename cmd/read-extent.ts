/** How much of a read with known ends is done: for percent and time left. */

import type { ReadPlan } from './read-options.ts'
import type { PartitionRange } from './read-range.ts'
import type { Report } from './report.ts'

type Limits = Pick<ReadPlan, 'countMax' | 'bytesMax'>

/**
 * @returns 0 to 1, from the farthest of the ends that are known: offsets of every partition, records (`-n`), bytes (`--bytes`);
 *   undefined where none is
 */
export function readFraction(
  report: Report,
  ranges: readonly PartitionRange[],
  { countMax, bytesMax }: Limits,
): number | undefined {
  const parts = [report.records / countMax, report.bytes / bytesMax, offsetFraction(report, ranges)]
  const done = Math.max(...parts)
  return done > 0 ? Math.min(done, 1) : undefined
}

/** Offsets, not records: what a filter drops and what compaction took count as read. */
function offsetFraction(report: Report, ranges: readonly PartitionRange[]): number {
  let offsets = 0
  let passed = 0
  for (const { topic, partition, startOffset, endOffset } of ranges) {
    if (endOffset === undefined) return 0
    offsets += endOffset - startOffset
    passed += Math.max(0, report.nextOffset(topic, partition) - startOffset)
  }
  return offsets === 0 ? 0 : passed / offsets
}
