/** Why a batch was not delivered, in the user's words. */
import { StreamError } from '../base/errors.ts'
import type { Response } from '../protocol/api-table.ts'
import { KafkaError } from '../protocol/errors.ts'
import { kafkaFailure } from './kafka-failure.ts'
import type { Batch } from './producer-lane.ts'

/** The answer for one partition. */
export type ProduceRow = Response<'Produce'>['responses'][number]['partitionResponses'][number]

/**
 * A broker's refusal of a batch in the user's words: sizes where size is the matter, the record where one is to blame.
 * @param batchBytes  the limit the producer fills its batches to
 * @param index  of the record that is meant; default: the first that the answer names
 */
export function refusalOf(
  batch: Batch,
  row: ProduceRow,
  batchBytes: number,
  index?: number,
): StreamError {
  const { errorCode } = row
  const { target } = batch.lane
  const bytes = batch.bytes?.length ?? batch.sizeBytes
  if (errorCode === KafkaError.MESSAGE_TOO_LARGE) {
    const isAlone = batch.recordCount === 1
    return kafkaFailure(errorCode, {
      target,
      brokerMessage: isAlone
        ? `a record makes a batch of ${bytes} bytes, more than the topic's max.message.bytes`
        : `a batch of ${batch.recordCount} records has ${bytes} bytes, more than the topic's max.message.bytes`,
      hint: isAlone
        ? 'raise the limit: stream topics alter NAME --set max.message.bytes=N'
        : `lower --batch-size below the topic's max.message.bytes (now ${batchBytes})`,
    })
  }
  const record = row.recordErrors.find(
    ({ batchIndex }) => index === undefined || batchIndex === index,
  )
  const detail = record?.batchIndexErrorMessage ?? row.errorMessage
  const words =
    record === undefined || detail === null
      ? detail
      : `${detail} (record ${record.batchIndex + 1} of ${batch.recordCount} in its batch)`
  if (errorCode === KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER) {
    return kafkaFailure(errorCode, {
      target,
      brokerMessage: words ?? 'the broker has lost earlier records of this run, or their memory',
      hint: 'compare the end of the topic with the input, then run again from there',
    })
  }
  return kafkaFailure(errorCode, { target, brokerMessage: words })
}

/** The records that the answer names, from 0, rising; none where it blames the batch. */
export function refusedIndexesOf(batch: Batch, row: ProduceRow): readonly number[] {
  const named = row.recordErrors.map(({ batchIndex }) => batchIndex)
  return [...new Set(named)]
    .filter((index) => index >= 0 && index < batch.recordCount)
    .sort((left, right) => left - right)
}

/** Behind what has failed for good. */
export function notSent(target: string, cause: StreamError): StreamError {
  return new StreamError('NOT_DELIVERED', `not sent, because of: ${cause.message}`, {
    target,
    cause,
  })
}

/** NOT_DELIVERED: given up on this side. */
export function notDelivered(batch: Batch, why: string): StreamError {
  const { target } = batch.lane
  const count = batch.recordCount === 1 ? '1 record' : `${batch.recordCount} records`
  const tail = batch.outcomeUnknown || batch.state === 'inFlight' ? ', outcome unknown' : ''
  const last = batch.lastFailure === undefined ? '' : `; last: ${batch.lastFailure.message}`
  return new StreamError('NOT_DELIVERED', `${target}: ${count} ${why}${tail}${last}`, {
    target,
    ...(batch.lastFailure === undefined ? {} : { cause: batch.lastFailure }),
  })
}
