/** DescribeTransactions (65): the state of transactional ids. Errors, for each: 14, 16, 42 (an empty id), 105. */

import { KafkaError } from '../../src/protocol/errors.ts'
import type { Handler } from './handler.ts'

export const describeTransactions: Handler<'DescribeTransactions'> = (
  { transactions },
  _context,
  request,
) => ({
  throttleTimeMs: 0,
  transactionStates: request.transactionalIds.map((transactionalId) => {
    const found =
      transactionalId === ''
        ? { code: KafkaError.INVALID_REQUEST }
        : transactions.describe(transactionalId)
    if (!('value' in found)) {
      return {
        errorCode: found.code,
        transactionalId,
        transactionState: '',
        transactionTimeoutMs: 0,
        transactionStartTimeMs: -1,
        producerId: -1,
        producerEpoch: -1,
        topics: [],
      }
    }
    const { value } = found
    return {
      errorCode: 0,
      transactionalId,
      transactionState: value.state,
      transactionTimeoutMs: value.timeoutMs,
      transactionStartTimeMs: value.startMs,
      producerId: value.producerId,
      producerEpoch: value.epoch,
      topics: [...value.partitions].map(([topic, indexes]) => ({
        topic,
        partitions: [...indexes].sort((a, b) => a - b),
      })),
    }
  }),
})
