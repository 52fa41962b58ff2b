/**
 * Requests that only the controller can carry out, met at another broker: they go to the controller as they are and come back as it
 * answers (what Kafka's brokers do with Envelope). A request that another daemon forwarded is not forwarded again: then
 * the controller has just changed, and the client is told NOT_CONTROLLER by the handler.
 */

import { isStreamError } from '../../src/base/errors.ts'
import type { Request, RequestInput } from '../../src/protocol/api-table.ts'
import type { PeerCaller } from '../coordinator/peer-caller.ts'
import { PEER_CLIENT_PREFIX } from '../replica/peers.ts'
import type { Answer, RequestContext, Services } from './handler.ts'
import type { HandledApi } from './listed-ranges.ts'
import { UnansweredFailure } from './unanswered-failure.ts'

const controllerApis = [
  'CreateTopics',
  'DeleteTopics',
  'CreatePartitions',
  'AlterConfigs',
  'IncrementalAlterConfigs',
  'ElectLeaders',
  'AlterPartitionReassignments',
  'ListPartitionReassignments',
  'UnregisterBroker',
  'CreateLink',
  'AlterLink',
  'AlterUserScramCredentials',
] as const satisfies readonly HandledApi[]

type ControllerApi = (typeof controllerApis)[number]

const names: ReadonlySet<HandledApi> = new Set<HandledApi>(controllerApis)
const FORWARD_TIMEOUT_MS = 30_000
/** @returns undefined: it is to be handled here */
export function forwardToController<A extends HandledApi>(
  api: A,
  services: Services,
  context: RequestContext,
  body: Request<A>,
): Promise<Answer<A>> | undefined {
  const { broker, peers } = services
  if (peers === undefined || broker.isController || !names.has(api)) return undefined
  const { controllerId } = broker
  if (controllerId < 0 || context.clientId?.startsWith(PEER_CLIENT_PREFIX) === true)
    return undefined
  return forward(api as ControllerApi, peers, controllerId, context, body as never) as Promise<
    Answer<A>
  >
}

async function forward<A extends ControllerApi>(
  api: A,
  peers: PeerCaller,
  controllerId: number,
  context: RequestContext,
  body: RequestInput<A>,
): Promise<unknown> {
  try {
    return await peers.call(controllerId, api, context.apiVersion, body, {
      timeoutMs: FORWARD_TIMEOUT_MS,
    })
  } catch (error) {
    if (!isStreamError(error)) throw error
    throw new UnansweredFailure(`the controller, broker ${controllerId}: ${error.message}`)
  }
}
