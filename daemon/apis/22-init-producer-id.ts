/**
 * InitProducerId (22), versions 0 to 4, for idempotent producers: a fresh id with epoch 0, whatever the client had
 * before. Transactional ids are refused until transactions are served. Errors: 42, 15 (store not available; retriable).
 */

import { isStreamError } from '../../src/base/errors.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import type { Handler } from './handler.ts'

export const initProducerId: Handler<'InitProducerId'> = async ({ broker }, _context, request) => {
  const refuse = (errorCode: number) => ({
    throttleTimeMs: 0,
    errorCode,
    producerId: -1,
    producerEpoch: -1,
  })
  if (request.transactionalId !== null) return refuse(KafkaError.INVALID_REQUEST)
  try {
    const producerId = await broker.producerIds.take()
    return { throttleTimeMs: 0, errorCode: 0, producerId, producerEpoch: 0 }
  } catch (error) {
    if (!isStreamError(error)) throw error
    broker.log.warn('no producer id could be taken', { error: error.message })
    return refuse(KafkaError.COORDINATOR_NOT_AVAILABLE)
  }
}
