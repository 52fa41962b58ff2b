/**
 * A batch that the broker refused as too large, made anew as several: the same records, in their order, each part within `bytesMax`
 * unless a single record is larger. Where the parts stand in their partition, and with which sequences, is partition-queue.ts's.
 */
import { BatchBuilder, type FinishOptions } from '../record/batch-builder.ts'
import { RecordCursor } from '../record/record-cursor.ts'
import type { Batch } from './producer-lane.ts'

/**
 * @param bytesMax  of each part, uncompressed
 * @returns  two or more, with their bytes and without sequences; undefined: it cannot be divided
 */
export function splitBatch(
  batch: Batch,
  bytesMax: number,
  form: Pick<FinishOptions, 'codec' | 'level' | 'isTransactional'>,
): readonly Batch[] | undefined {
  const { bytes, recordCount, sizeBytes } = batch
  if (bytes === undefined || recordCount < 2) return undefined
  const parts: Batch[] = []
  const cursor = new RecordCursor()
  cursor.reset(bytes)
  let builder = newBuilder(bytesMax, sizeBytes)
  let from = 0
  const finish = (end: number): void => {
    parts.push({
      ...batch,
      ...ordinalsBetween(batch, from, end),
      recordCount: end - from,
      builder: undefined,
      prepared: undefined,
      bytes: builder.finish(form),
      sizeBytes: builder.sizeBytes,
      refusedIndexes: [],
    })
    from = end
  }
  for (let index = 0; cursor.next(); index += 1) {
    if (builder.appendCopy(cursor)) continue
    finish(index)
    // Its bytes are those of the part: the next one needs memory of its own.
    builder = newBuilder(bytesMax, sizeBytes)
    builder.appendCopy(cursor)
  }
  finish(recordCount)
  return parts.length > 1 ? parts : undefined
}

function newBuilder(bytesMax: number, recordBytesMax: number): BatchBuilder {
  const builder = new BatchBuilder(bytesMax, { bytesMax: recordBytesMax })
  builder.reset({ timestampMs: -1 })
  return builder
}

/** Where keys have spread the records over partitions, and nobody kept their ordinals, a part may be anywhere in the batch. */
function ordinalsBetween(
  { firstOrdinal, lastOrdinal, recordCount, ordinals }: Batch,
  from: number,
  end: number,
): Pick<Batch, 'firstOrdinal' | 'lastOrdinal' | 'ordinals'> {
  if (ordinals !== undefined) {
    const own = ordinals.slice(from, end)
    return {
      firstOrdinal: own[0] ?? firstOrdinal,
      lastOrdinal: own.at(-1) ?? lastOrdinal,
      ordinals: own,
    }
  }
  if (lastOrdinal - firstOrdinal !== recordCount - 1) return { firstOrdinal, lastOrdinal, ordinals }
  return { firstOrdinal: firstOrdinal + from, lastOrdinal: firstOrdinal + end - 1, ordinals }
}
