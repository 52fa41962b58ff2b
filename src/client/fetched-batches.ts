/**
 * The batches of one answer to a Fetch, or of one block of a file: where they begin, which of them a reader is shown, and
 * whether their bytes are right.
 */
import { StreamError } from '../base/errors.ts'
import type { AbortedTransactions } from '../record/aborted-transactions.ts'
import {
  attributesAt,
  baseOffsetAt,
  batchBytesAt,
  findBatchDefect,
  findHeaderDefect,
  isControl,
  lastOffsetAt,
} from '../record/batch-layout.ts'

export interface Fetched {
  readonly bytes: Uint8Array
  /** Where the batches begin, in offset order. */
  readonly starts: number[]
  readonly fromOffset: number
  readonly nextOffset: number
  /** undefined: nothing is aborted, or all is wanted. */
  readonly transactions: AbortedTransactions | undefined
  readonly highWatermark: number
  readonly lastStableOffset: number
  readonly logStartOffset: number
  /** Of what was read from a file. */
  readonly release?: () => void
}

export interface FoundBatches {
  /** Where the whole batches that reach the position begin; a cut one at the end is left for the next Fetch. */
  readonly starts: number[]
  /** The position after them; of the damage, where there is some. */
  readonly nextOffset: number
  /** What stands there cannot be batches: why. */
  readonly damage?: string
}

/** By their headers alone. @param position  the first offset wanted @param endOffset  the first one no longer wanted */
export function findBatches(bytes: Uint8Array, position: number, endOffset: number): FoundBatches {
  const starts: number[] = []
  let nextOffset = position
  for (let at = 0; at < bytes.length; at += batchBytesAt(bytes, at)) {
    const defect = findHeaderDefect(bytes, at)
    if (defect !== undefined) {
      if (defect.kind === 'truncated' || starts.length > 0) break
      return { starts, nextOffset, damage: defect.detail }
    }
    const lastOffset = lastOffsetAt(bytes, at)
    if (lastOffset < nextOffset) continue
    const baseOffset = baseOffsetAt(bytes, at)
    if (starts.length > 0 && baseOffset < nextOffset) {
      return { starts, nextOffset, damage: 'batches do not follow each other' }
    }
    if (baseOffset >= endOffset) return { starts, nextOffset: endOffset }
    starts.push(at)
    nextOffset = lastOffset + 1
    if (nextOffset >= endOffset) break
  }
  return { starts, nextOffset }
}

export interface JudgedBatches {
  /** Where the batches with records begin, without aborted and control batches. */
  readonly batches: readonly number[]
  /** The position after what is sound. */
  readonly nextOffset: number
  /** Why what stands there is not. */
  readonly damage: string | undefined
}

/** As a whole: checksums, and what its transactions have come to. */
export function judgeBatches(
  { bytes, starts, fromOffset, nextOffset, transactions }: Fetched,
  options: { readonly verifyChecksums: boolean },
): JudgedBatches {
  const batches: number[] = []
  let position = fromOffset
  for (const at of starts) {
    if (options.verifyChecksums) {
      const defect = findBatchDefect(bytes, at)
      if (defect !== undefined) return { batches, nextOffset: position, damage: defect.detail }
    }
    try {
      const isShown = transactions?.isVisible(bytes, at) ?? !isControl(attributesAt(bytes, at))
      if (isShown) batches.push(at)
    } catch (error) {
      if (!(error instanceof StreamError)) throw error
      return { batches, nextOffset: position, damage: error.message }
    }
    position = lastOffsetAt(bytes, at) + 1
  }
  return { batches, nextOffset, damage: undefined }
}
