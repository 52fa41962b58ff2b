/**
 * The brokers of the cluster as clients of one listener may reach them. This broker names itself by the address that the request
 * came through, the others by what they have registered for the same door.
 */

import type { Broker } from '../replica/broker.ts'
import type { Endpoint, RequestContext } from './handler.ts'

export interface BrokerEndpoint extends Endpoint {
  readonly nodeId: number
  readonly rack: string | null
}

/** Those that are live and not fenced, by rising id; this one always. */
export function brokerEndpoints(
  broker: Broker,
  context: Pick<RequestContext, 'door' | 'endpoint'>,
): readonly BrokerEndpoint[] {
  const found: BrokerEndpoint[] = []
  const ids = new Set([broker.nodeId, ...broker.liveBrokers()])
  for (const nodeId of [...ids].sort((a, b) => a - b)) {
    const endpoint = endpointOfBroker(broker, context, nodeId)
    if (endpoint !== undefined) found.push({ nodeId, ...endpoint })
  }
  return found
}

/** Those that are registered and take no part: they are down, or not let in. By rising id; never this one. */
export function fencedEndpoints(
  broker: Broker,
  { door }: Pick<RequestContext, 'door'>,
): readonly BrokerEndpoint[] {
  const found: BrokerEndpoint[] = []
  const live = new Set([broker.nodeId, ...broker.liveBrokers()])
  for (const nodeId of [...broker.image.brokers().keys()].sort((a, b) => a - b)) {
    if (live.has(nodeId)) continue
    const address = broker.registeredEndpointOf(nodeId, door)
    if (address !== undefined) found.push({ nodeId, ...asEndpoint(broker, door, nodeId, address) })
  }
  return found
}

/** undefined: it is not known, or not reachable through this door. */
export function endpointOfBroker(
  broker: Broker,
  { door, endpoint }: Pick<RequestContext, 'door' | 'endpoint'>,
  nodeId: number,
): (Endpoint & { readonly rack: string | null }) | undefined {
  if (nodeId === broker.nodeId) return { ...endpoint, rack: broker.config.text('broker.rack') }
  const address = broker.endpointOf(nodeId, door)
  return address === undefined ? undefined : asEndpoint(broker, door, nodeId, address)
}

function asEndpoint(
  broker: Broker,
  door: RequestContext['door'],
  nodeId: number,
  address: string,
): Endpoint & { readonly rack: string | null } {
  const rack = broker.image.registration(nodeId)?.value.rack ?? null
  if (door === 'zmq') return { host: address, port: 0, rack }
  const [, host = '', port = ''] = /^kafka:\/\/(.*):(\d+)$/.exec(address) ?? []
  return { host: host.replace(/^\[|\]$/g, ''), port: Number(port), rack }
}
