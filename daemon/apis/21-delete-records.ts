/**
 * DeleteRecords (21), versions 0 to 2. Raises the log start; −1: to the high watermark. Answered when the new start is
 * durable. Errors: 1 (above the high watermark), 3, 6, 56.
 */

import { isStreamError } from '../../src/base/errors.ts'
import type { ResponseInput } from '../../src/protocol/api-table.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import type { Broker } from '../replica/broker.ts'
import type { Handler } from './handler.ts'
import { codeOfError, findLeader } from './kafka-codes.ts'
import { readOnlyReason } from './read-only.ts'

type PartitionAnswer = ResponseInput<'DeleteRecords'>['topics'][number]['partitions'][number]

const HIGH_WATERMARK = -1

export const deleteRecords: Handler<'DeleteRecords'> = async ({ broker }, _context, request) => {
  const topics: ResponseInput<'DeleteRecords'>['topics'][number][] = []
  for (const topic of request.topics) {
    const partitions: PartitionAnswer[] = []
    for (const { partitionIndex, offset } of topic.partitions) {
      partitions.push(await trim(broker, topic.name, partitionIndex, offset))
    }
    topics.push({ name: topic.name, partitions })
  }
  return { throttleTimeMs: 0, topics }
}

async function trim(
  broker: Broker,
  topic: string,
  partitionIndex: number,
  offset: number,
): Promise<PartitionAnswer> {
  const refuse = (errorCode: number): PartitionAnswer => ({
    partitionIndex,
    lowWatermark: -1,
    errorCode,
  })
  const { partition, code } = findLeader(broker, topic, partitionIndex)
  if (code !== 0 || partition === undefined) return refuse(code)
  if (readOnlyReason(broker, topic, partition.topicId, partitionIndex) !== undefined) {
    return refuse(KafkaError.POLICY_VIOLATION)
  }
  const target = offset === HIGH_WATERMARK ? partition.highWatermark : offset
  if (target < 0 || target > partition.highWatermark) return refuse(KafkaError.OFFSET_OUT_OF_RANGE)
  try {
    if (target > partition.log.logStartOffset) await partition.deleteRecordsBefore(target)
    return { partitionIndex, lowWatermark: partition.log.logStartOffset, errorCode: 0 }
  } catch (error) {
    if (!isStreamError(error)) throw error
    broker.log.error('records could not be deleted', {
      partition: `${topic}-${partitionIndex}`,
      error: error.message,
    })
    return refuse(codeOfError(error))
  }
}
