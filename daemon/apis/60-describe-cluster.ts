/**
 * DescribeCluster (60), versions 0 to 2: cluster id, controller, brokers by the addresses of this door; from v2 on request also those
 * that are registered and take no part.
 */

import { KafkaError } from '../../src/protocol/errors.ts'
import { clusterOperations } from './authorized-operations.ts'
import { brokerEndpoints, fencedEndpoints } from './broker-endpoints.ts'
import type { Handler } from './handler.ts'

const BROKERS = 1
const FENCED_VERSION = 2

export const describeCluster: Handler<'DescribeCluster'> = ({ broker }, context, request) => {
  const { clusterId } = broker
  if (request.endpointType !== BROKERS) {
    return {
      throttleTimeMs: 0,
      errorCode: KafkaError.UNSUPPORTED_ENDPOINT_TYPE,
      errorMessage: 'only brokers have endpoints',
      endpointType: request.endpointType,
      clusterId,
      brokers: [],
    }
  }
  const isFull = context.apiVersion >= FENCED_VERSION && request.includeFencedBrokers
  const live = brokerEndpoints(broker, context).map((row) => ({ ...row, isFenced: false }))
  const fenced = fencedEndpoints(broker, context).map((row) => ({ ...row, isFenced: true }))
  return {
    throttleTimeMs: 0,
    errorCode: 0,
    clusterId,
    controllerId: broker.controllerId,
    brokers: [...live, ...(isFull ? fenced : [])].map(({ nodeId, ...rest }) => ({
      brokerId: nodeId,
      ...rest,
    })),
    ...(request.includeClusterAuthorizedOperations
      ? { clusterAuthorizedOperations: clusterOperations }
      : {}),
  }
}
