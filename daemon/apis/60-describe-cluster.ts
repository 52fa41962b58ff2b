/** DescribeCluster (60), versions 0 and 1: cluster id, controller, brokers by the addresses of this door. */

import { KafkaError } from '../../src/protocol/errors.ts'
import { clusterOperations } from './authorized-operations.ts'
import { brokerEndpoints } from './broker-endpoints.ts'
import type { Handler } from './handler.ts'

const BROKERS = 1

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
  return {
    throttleTimeMs: 0,
    errorCode: 0,
    clusterId,
    controllerId: broker.controllerId,
    brokers: brokerEndpoints(broker, context).map(({ nodeId, ...rest }) => ({
      brokerId: nodeId,
      ...rest,
    })),
    ...(request.includeClusterAuthorizedOperations
      ? { clusterAuthorizedOperations: clusterOperations }
      : {}),
  }
}
