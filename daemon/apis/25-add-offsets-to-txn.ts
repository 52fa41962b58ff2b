/**
 * AddOffsetsToTxn (25), versions 0 to 4: the partition of a group's offsets joins the transaction of a classic client.
 * The first question makes the offsets topic. Errors: 14, 15, 16, 24 (an empty group), 47, 49, 51, 90.
 */

import { isStreamError } from '../../src/base/errors.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import { ensureOffsetsTopic, OFFSETS_TOPIC } from '../coordinator/internal-topic.ts'
import { partitionOfId } from '../coordinator/transaction-records.ts'
import type { Handler } from './handler.ts'

export const addOffsetsToTxn: Handler<'AddOffsetsToTxn'> = async (
  { broker, peers, transactions },
  _context,
  request,
) => {
  const { groupId, producerId, producerEpoch, transactionalId } = request
  if (groupId === '') return { throttleTimeMs: 0, errorCode: KafkaError.INVALID_GROUP_ID }
  try {
    const topic = await ensureOffsetsTopic(broker, peers)
    const index = partitionOfId(groupId, topic.value.partitions)
    const { code } = await transactions.addPartitions(transactionalId, {
      producerId,
      epoch: producerEpoch,
      partitions: new Map([[OFFSETS_TOPIC, new Set([index])]]),
      version: 1,
    })
    return { throttleTimeMs: 0, errorCode: code }
  } catch (error) {
    if (!isStreamError(error)) throw error
    broker.log.warn('the offsets topic could not be made', { error: error.message })
    return { throttleTimeMs: 0, errorCode: KafkaError.COORDINATOR_NOT_AVAILABLE }
  }
}
