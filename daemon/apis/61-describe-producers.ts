/** DescribeProducers (61): who has written to a partition lately, and whose transaction is open. Errors: 3, 6, 56. */

import { KafkaError } from '../../src/protocol/errors.ts'
import type { Handler } from './handler.ts'
import { findLeader } from './kafka-codes.ts'

export const describeProducers: Handler<'DescribeProducers'> = ({ broker }, _context, request) => ({
  throttleTimeMs: 0,
  topics: request.topics.map(({ name, partitionIndexes }) => ({
    name,
    partitions: partitionIndexes.map((partitionIndex) => {
      const { code, partition } = findLeader(broker, name, partitionIndex)
      if (code !== 0 || partition === undefined) {
        const errorCode = code === 0 ? KafkaError.UNKNOWN_TOPIC_OR_PARTITION : code
        const errorMessage = `${name}-${partitionIndex} is not served here`
        return { partitionIndex, errorCode, errorMessage, activeProducers: [] }
      }
      return {
        partitionIndex,
        errorCode: 0,
        errorMessage: null,
        activeProducers: partition.log.activeProducers().map((producer) => ({
          producerId: producer.producerId,
          producerEpoch: producer.producerEpoch,
          lastSequence: producer.lastSequence,
          lastTimestamp: producer.lastTimestampMs,
          coordinatorEpoch: producer.coordinatorEpoch,
          currentTxnStartOffset: producer.currentTransactionFirstOffset,
        })),
      }
    }),
  })),
})
