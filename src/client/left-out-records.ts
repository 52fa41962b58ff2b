/**
 * A batch that the broker refused because of single records, made anew: without them, or up to the first of them. Where it stands in
 * its partition and what may be sent when is partition-queue.ts's.
 *
 * Invariant: the records that stay are the same, in their order, and the batch knows the ordinal of each.
 */
import { BatchBuilder } from '../record/batch-builder.ts'
import { HEADER_BYTES } from '../record/batch-layout.ts'
import type { Codec } from '../record/compression.ts'
import { RecordCursor } from '../record/record-cursor.ts'
import type { Batch } from './producer-lane.ts'

/** What a record can grow by when its time is told from another one's. */
const GROWTH_BYTES_MAX = 16

export interface BatchForm {
  readonly codec: Codec
  readonly level: number | undefined
}

/** The ordinals of a batch's records; undefined where keys have spread them and nobody kept them. */
export function ordinalsOf(batch: Batch): readonly number[] | undefined {
  const { firstOrdinal, lastOrdinal, recordCount, ordinals } = batch
  if (ordinals !== undefined) return ordinals
  if (lastOrdinal - firstOrdinal !== recordCount - 1) return undefined
  return Array.from({ length: recordCount }, (_, index) => firstOrdinal + index)
}

/** Which records of a refused batch stay, which are told as refused, and which are given up behind the first of these. */
export function divide(
  recordCount: number,
  refusedIndexes: readonly number[],
  isStopping: boolean,
): {
  readonly kept: readonly number[]
  readonly told: readonly number[]
  readonly dropped: readonly number[]
} {
  const all = Array.from({ length: recordCount }, (_, index) => index)
  const [first = recordCount] = refusedIndexes
  if (isStopping) {
    const told = refusedIndexes.slice(0, 1)
    return { kept: all.slice(0, first), told, dropped: all.slice(first + 1) }
  }
  const refused = new Set(refusedIndexes)
  return { kept: all.filter((index) => !refused.has(index)), told: refusedIndexes, dropped: [] }
}

export function atIndexes(
  ordinals: readonly number[],
  indexes: readonly number[],
): readonly number[] {
  return indexes.map((index) => ordinals[index] ?? -1)
}

/** Those of `indexes` (rising, not empty) as a batch without a producer. */
export function pickRecords(
  bytes: Uint8Array,
  indexes: readonly number[],
  { codec, level }: BatchForm,
): Uint8Array {
  const cursor = new RecordCursor()
  cursor.reset(bytes)
  const recordBytes = cursor.recordsEnd - cursor.recordsStart
  const builder = new BatchBuilder(
    HEADER_BYTES + recordBytes + cursor.recordCount * GROWTH_BYTES_MAX,
  )
  builder.reset({ timestampMs: -1 })
  let next = 0
  for (let index = 0; next < indexes.length && cursor.next(); index += 1) {
    if (index !== indexes[next]) continue
    builder.appendCopy(cursor)
    next += 1
  }
  return builder.finish({ codec, ...(level === undefined ? {} : { level }) })
}
