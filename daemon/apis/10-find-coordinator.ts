/**
 * FindCoordinator (10), versions 0 to 4: who coordinates a transactional id: with one broker this one. Groups are refused
 * with error 42, which clients do not try again: there is no coordinator of groups yet.
 *
 * FindCoordinator 0 is also the sign by which librdkafka below 2.11.1 knows a broker that understands lz4 (P1).
 * Errors: 42.
 */

import { KafkaError } from '../../src/protocol/errors.ts'
import type { Handler, RequestContext, Services } from './handler.ts'

const BATCHED_VERSION = 4
const TRANSACTION = 1

interface Found {
  readonly nodeId: number
  readonly host: string
  readonly port: number
  readonly errorCode: number
  readonly errorMessage: string | null
}

export const findCoordinator: Handler<'FindCoordinator'> = (services, context, request) => {
  const { keyType } = request
  if (context.apiVersion < BATCHED_VERSION) {
    return { throttleTimeMs: 0, ...find(services, context, keyType, request.key) }
  }
  const coordinators = request.coordinatorKeys.map((key) => ({
    key,
    ...find(services, context, keyType, key),
  }))
  return { throttleTimeMs: 0, coordinators }
}

function find({ broker }: Services, context: RequestContext, keyType: number, key: string): Found {
  if (keyType !== TRANSACTION) {
    return refusal(
      KafkaError.INVALID_REQUEST,
      'this broker coordinates transactions and nothing else',
    )
  }
  if (key === '') {
    return refusal(KafkaError.INVALID_REQUEST, 'a transactional id must not be empty')
  }
  const { host, port } = context.endpoint
  return { nodeId: broker.nodeId, host, port, errorCode: 0, errorMessage: null }
}

function refusal(errorCode: number, errorMessage: string): Found {
  return { nodeId: -1, host: '', port: -1, errorCode, errorMessage }
}
