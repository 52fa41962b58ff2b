/**
 * FindCoordinator (10), versions 0 to 4: there are no groups and no transactions yet, so every key is refused with error
 * 42, which clients do not try again. It is listed nevertheless: librdkafka below 2.11.1 takes FindCoordinator 0 for the
 * sign that a broker understands lz4 (P1).
 */

import { KafkaError } from '../../src/protocol/errors.ts'
import type { Handler } from './handler.ts'

const BATCHED_VERSION = 4

export const findCoordinator: Handler<'FindCoordinator'> = (_services, context, request) => {
  const refusal = {
    nodeId: -1,
    host: '',
    port: -1,
    errorCode: KafkaError.INVALID_REQUEST,
    errorMessage: 'this broker has no group coordinator and no transaction coordinator',
  }
  if (context.apiVersion < BATCHED_VERSION) return { throttleTimeMs: 0, ...refusal }
  return {
    throttleTimeMs: 0,
    coordinators: request.coordinatorKeys.map((key) => ({ key, ...refusal })),
  }
}
