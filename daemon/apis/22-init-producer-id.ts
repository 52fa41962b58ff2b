/**
 * InitProducerId (22), versions 0 to 5. Without a transactional id: a fresh producer id with epoch 0, whatever the client
 * had before. With one: the id's producer with its epoch raised, after an open transaction of it was aborted; whoever
 * used it before is fenced. Errors: 14, 15, 16, 42 (an empty id), 47, 50, 51, 90.
 */

import { isStreamError } from '../../src/base/errors.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import type { Handler } from './handler.ts'

export const initProducerId: Handler<'InitProducerId'> = async (
  { broker, transactions },
  _context,
  request,
) => {
  const answer = (errorCode: number, producerId = -1, producerEpoch = -1) => ({
    throttleTimeMs: 0,
    errorCode,
    producerId,
    producerEpoch,
  })
  const { transactionalId } = request
  if (transactionalId === '') return answer(KafkaError.INVALID_REQUEST)
  if (transactionalId !== null) {
    const { producerId, producerEpoch } = request
    if (producerId < 0 !== producerEpoch < 0) return answer(KafkaError.INVALID_REQUEST)
    const expected = producerId < 0 ? undefined : { producerId, epoch: producerEpoch }
    const { transactionTimeoutMs } = request
    const { code, identity } = await transactions.initProducer(
      transactionalId,
      transactionTimeoutMs,
      expected,
    )
    return code === 0 ? answer(0, identity.producerId, identity.epoch) : answer(code)
  }
  try {
    return answer(0, await broker.producerIds.take(), 0)
  } catch (error) {
    if (!isStreamError(error)) throw error
    return answer(KafkaError.COORDINATOR_NOT_AVAILABLE)
  }
}
