/** Splits what a source has answered into whole sound batches; what is cut off at the end comes again. */

import { StreamError } from '../../src/base/errors.ts'
import {
  baseOffsetAt,
  batchBytesAt,
  findBatchDefect,
  HEADER_BYTES,
  lastOffsetAt,
  leaderEpochAt,
} from '../../src/record/batch-layout.ts'
import type { SourceEpoch } from '../metadata/link-values.ts'

export interface SourceBatches {
  readonly batches: readonly Uint8Array[]
  readonly bytes: number
  /** Epochs that begin in these batches, in order. */
  readonly newEpochs: readonly SourceEpoch[]
}

/**
 * @param from  where this log ends; batches wholly before it are passed over
 * @param before  nothing at or beyond the source's last stable offset is taken
 * @param latestEpoch  the source's epoch that is known last; −1: none
 * @throws StreamError CORRUPT_BATCH
 */
export function splitSourceBatches(
  records: Uint8Array,
  from: number,
  before: number,
  latestEpoch: number,
): SourceBatches {
  const batches: Uint8Array[] = []
  const newEpochs: SourceEpoch[] = []
  let next = from
  let epoch = latestEpoch
  let total = 0
  for (let at = 0; at < records.length; ) {
    const left = records.length - at
    const bytes = left < HEADER_BYTES ? left : batchBytesAt(records, at)
    if (left < HEADER_BYTES || bytes > left) break
    const defect = findBatchDefect(records, at, at + bytes)
    if (defect !== undefined) throw damaged(`a batch of the source: ${defect.detail}`)
    const batch = records.subarray(at, at + bytes)
    at += bytes
    const baseOffset = baseOffsetAt(batch, 0)
    const lastOffset = lastOffsetAt(batch, 0)
    if (lastOffset < from) continue
    if (lastOffset >= before) break
    if (baseOffset < next && !(batches.length === 0 && baseOffset < from)) {
      throw damaged(`a batch of the source at offset ${baseOffset} where ${next} comes next`)
    }
    const batchEpoch = leaderEpochAt(batch, 0)
    if (batchEpoch >= 0 && batchEpoch < epoch) {
      throw damaged(`the source's leader epoch falls to ${batchEpoch} at offset ${baseOffset}`)
    }
    if (batchEpoch > epoch) {
      newEpochs.push({ epoch: batchEpoch, startOffset: Math.max(baseOffset, from) })
      epoch = batchEpoch
    }
    batches.push(batch)
    total += bytes
    next = lastOffset + 1
  }
  return { batches, bytes: total, newEpochs }
}

function damaged(what: string): StreamError {
  return new StreamError('CORRUPT_BATCH', what)
}
