/**
 * What may still be delivered of a batch that the broker has refused: smaller batches where it was too large, the records beside those
 * to blame where single ones are. split-batch.ts and left-out-records.ts make the bytes, partition-queue.ts says what may be done when.
 *
 * Invariant: every record of a refused batch is in what goes on, or is told as failed, once.
 */
import type { StreamError } from '../base/errors.ts'
import { KafkaError } from '../protocol/errors.ts'
import type { Codec } from '../record/compression.ts'
import type { BatchFiller } from './batch-filler.ts'
import { type Delivery, failureOfRecords } from './delivery.ts'
import { atIndexes, divide, ordinalsOf, pickRecords } from './left-out-records.ts'
import type { StepResult } from './partition-queue.ts'
import { notSent, type ProduceRow, refusalOf } from './produce-failure.ts'
import type { Batch } from './producer-lane.ts'
import { splitBatch } from './split-batch.ts'

const saysTooLarge: ReadonlySet<number> = new Set([
  KafkaError.MESSAGE_TOO_LARGE,
  KafkaError.RECORD_LIST_TOO_LARGE,
])

export interface RefusedBatchesOptions {
  readonly codec: Codec
  readonly level: number | undefined
  /** A transaction is all or nothing: no record is left out of it. */
  readonly isTransactional: boolean
  /** Nothing behind the first record to blame is sent any more. */
  readonly stopsAtFirst: boolean
  /** The limit that the producer fills its batches to. */
  readonly batchBytes: number
}

export interface RefusedBatchesHooks {
  /** Gives the batch's new bytes their producer and sequence. */
  readonly stamp: (batch: Batch) => void
  readonly onDelivery: (delivery: Delivery) => void
  /** Nothing from the first of these on can count as delivered. */
  readonly onGap: (ordinals: readonly number[]) => void
}

export class RefusedBatches {
  readonly #filler: BatchFiller
  readonly #options: RefusedBatchesOptions
  readonly #hooks: RefusedBatchesHooks

  constructor(filler: BatchFiller, options: RefusedBatchesOptions, hooks: RefusedBatchesHooks) {
    this.#filler = filler
    this.#options = options
    this.#hooks = hooks
  }

  /** @returns undefined: it is refused as a whole */
  remake(batch: Batch, row: ProduceRow, refusal: StreamError): StepResult<Batch> | undefined {
    return this.#split(batch, row, refusal) ?? this.#shrink(batch, row, refusal)
  }

  /**
   * It is more than the topic takes: it goes on as smaller ones, and the next batches of the topic are made no larger.
   * @returns undefined: that is not the matter, or it holds one record
   */
  #split(batch: Batch, row: ProduceRow, refusal: StreamError): StepResult<Batch> | undefined {
    const { lane } = batch
    if (!saysTooLarge.has(row.errorCode) || batch.recordCount < 2) return undefined
    if (!lane.queue.maySplit(batch)) return undefined
    const { codec, level, isTransactional } = this.#options
    const bytesMax = this.#filler.limitBatches(lane.topic, Math.floor(batch.sizeBytes / 2))
    const parts = splitBatch(batch, bytesMax, {
      codec,
      isTransactional,
      ...(level === undefined ? {} : { level }),
    })
    if (parts === undefined) return undefined
    const result = lane.queue.split(batch, parts, refusal)
    for (const part of parts) this.#hooks.stamp(part)
    this.#filler.release(batch, batch.sends === 1)
    return result
  }

  /**
   * Single records are to blame: they are told, and what may still be delivered of the batch is sent again.
   * @returns undefined: none is named, or nothing would be left
   */
  #shrink(batch: Batch, row: ProduceRow, refusal: StreamError): StepResult<Batch> | undefined {
    const { lane, bytes, refusedIndexes } = batch
    const { isTransactional, stopsAtFirst, batchBytes } = this.#options
    if (isTransactional || bytes === undefined) return undefined
    const ordinals = ordinalsOf(batch)
    if (ordinals === undefined || !lane.queue.mayShrink(batch, row.errorCode)) return undefined
    const { kept, told, dropped } = divide(batch.recordCount, refusedIndexes, stopsAtFirst)
    if (told.length === 0 || kept.length === 0) return undefined
    // Their words are made of the batch as it was sent.
    const errors = told.map((index) => refusalOf(batch, row, batchBytes, index))
    this.#keep(batch, atIndexes(ordinals, kept), this.#pick(bytes, kept))
    const result = lane.queue.shrink(batch, refusal)
    if (stopsAtFirst) this.#hooks.onGap(atIndexes(ordinals, told))
    for (const [at, error] of errors.entries()) {
      const indexes = told.slice(at, at + 1)
      // One at a time: each may be as large as a batch.
      const alone = this.#pick(bytes, indexes)
      this.#hooks.onDelivery(failureOfRecords(lane, atIndexes(ordinals, indexes), error, alone))
    }
    if (dropped.length > 0) {
      const behind = atIndexes(ordinals, dropped)
      const error = notSent(lane.target, refusal)
      this.#hooks.onDelivery(failureOfRecords(lane, behind, error, undefined))
    }
    return result
  }

  #pick(bytes: Uint8Array, indexes: readonly number[]): Uint8Array {
    return pickRecords(bytes, indexes, this.#options)
  }

  /** The batch is these records from now on. */
  #keep(batch: Batch, ordinals: readonly number[], bytes: Uint8Array): void {
    batch.ordinals = ordinals
    batch.recordCount = ordinals.length
    batch.firstOrdinal = ordinals[0] ?? batch.firstOrdinal
    batch.lastOrdinal = ordinals.at(-1) ?? batch.lastOrdinal
    batch.refusedIndexes = []
    batch.bytes = bytes
    this.#hooks.stamp(batch)
  }
}
