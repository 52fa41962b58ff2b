/**
 * The brokers of the cluster as clients of one listener may reach them. This broker names itself by the address that the request
 * came through, the others by what they have registered for the same door.
 */

import { KafkaError } from '../../src/protocol/errors.ts'
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

/** Leaders of partitions as clients of one listener may know them. */
export class NamedLeaders {
  readonly #listed: ReadonlySet<number>
  readonly #live: ReadonlySet<number>
  readonly #unlistedError: number

  /** @param unlistedError  for a leader that is live and not reachable through this door */
  constructor(
    broker: Broker,
    listed: readonly BrokerEndpoint[],
    unlistedError: number = KafkaError.LISTENER_NOT_FOUND,
  ) {
    this.#listed = new Set(listed.map(({ nodeId }) => nodeId))
    this.#live = new Set(broker.liveBrokers())
    this.#unlistedError = unlistedError
  }

  isLive(nodeId: number): boolean {
    return this.#live.has(nodeId)
  }

  /**
   * One that is not listed among the brokers is none, as Kafka's brokers answer (KRaftMetadataCache): between the death of a leader
   * and the next election its record still names it. kafkajs has nobody to ask for the partition of such a leader, so nothing
   * fails either, and it does not look again before its metadata have expired, after five minutes.
   */
  of(leaderId: number): { readonly leaderId: number; readonly errorCode: number } {
    if (this.#listed.has(leaderId)) return { leaderId, errorCode: 0 }
    const isLive = this.#live.has(leaderId)
    return {
      leaderId: -1,
      errorCode: isLive ? this.#unlistedError : KafkaError.LEADER_NOT_AVAILABLE,
    }
  }
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
