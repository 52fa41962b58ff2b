/**
 * FindCoordinator (10), versions 0 to 6: who coordinates a group or a transactional id. The first question about a group makes the
 * offsets topic, in a cluster that about a transactional id the topic of transactions; with one broker it is this one. Keys of share groups are refused with error 42, which
 * clients do not try again.
 *
 * FindCoordinator 0 is also the sign by which librdkafka below 2.11.1 knows a broker that understands lz4 (P1).
 * Errors: 15 (tried again), 24, 42.
 */

import { KafkaError } from '../../src/protocol/errors.ts'
import { endpointOfBroker } from './broker-endpoints.ts'
import type { Handler, RequestContext, Services } from './handler.ts'

const BATCHED_VERSION = 4
const GROUP = 0
const TRANSACTION = 1

interface Found {
  readonly nodeId: number
  readonly host: string
  readonly port: number
  readonly errorCode: number
  readonly errorMessage: string | null
}

export const findCoordinator: Handler<'FindCoordinator'> = async (services, context, request) => {
  const { keyType } = request
  if (context.apiVersion < BATCHED_VERSION) {
    const found = await find(services, context, keyType, request.key)
    return { throttleTimeMs: 0, ...found }
  }
  const coordinators: (Found & { readonly key: string })[] = []
  for (const key of request.coordinatorKeys) {
    coordinators.push({ key, ...(await find(services, context, keyType, key)) })
  }
  return { throttleTimeMs: 0, coordinators }
}

async function find(
  services: Services,
  context: RequestContext,
  keyType: number,
  key: string,
): Promise<Found> {
  if (keyType === TRANSACTION) return findForTransaction(services, context, key)
  if (keyType !== GROUP) {
    return refusal(
      KafkaError.INVALID_REQUEST,
      'this broker coordinates groups and transactions, and nothing else',
    )
  }
  if (key === '') return refusal(KafkaError.INVALID_GROUP_ID, 'a group id must not be empty')
  const { nodeId, errorCode } = await services.groups.locate(key)
  if (errorCode !== 0) return refusal(errorCode, 'the offsets topic is not available')
  return found(services, context, nodeId, 'the group')
}

async function findForTransaction(
  services: Services,
  context: RequestContext,
  key: string,
): Promise<Found> {
  if (key === '') {
    return refusal(KafkaError.INVALID_REQUEST, 'a transactional id must not be empty')
  }
  const nodeId = await services.transactions.locate(key)
  if (nodeId < 0) {
    return refusal(KafkaError.COORDINATOR_NOT_AVAILABLE, 'the topic of transactions is not led')
  }
  return found(services, context, nodeId, 'the transactional id')
}

function found({ broker }: Services, context: RequestContext, nodeId: number, what: string): Found {
  const endpoint = endpointOfBroker(broker, context, nodeId)
  if (endpoint === undefined) {
    const message = `broker ${nodeId} coordinates ${what} and is not reachable through this door`
    return refusal(KafkaError.COORDINATOR_NOT_AVAILABLE, message)
  }
  const { host, port } = endpoint
  return { nodeId, host, port, errorCode: 0, errorMessage: null }
}

function refusal(errorCode: number, errorMessage: string): Found {
  return { nodeId: -1, host: '', port: -1, errorCode, errorMessage }
}
