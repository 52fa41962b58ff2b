/** What a daemon of a cluster registers: where its peers and the clients of others reach it, one address for each door. */

import { StreamError } from '../../src/base/errors.ts'
import { endpointOf } from './daemon.ts'
import { kafkaRules } from './kafka.ts'
import { zmqRules } from './zmq.ts'

/**
 * @param listen  as given to the daemon; `ipc://` and `line://` are for this host alone and left out
 * @param advertise  what stands in the place of the listener of the same scheme
 * @param hostName  for listeners that are bound to all addresses
 * @throws StreamError ADDRESS_INVALID: no address for peers, or a port that is not known before it is bound
 */
export function advertisedEndpoints(
  listen: readonly string[],
  advertise: readonly string[],
  hostName: string,
): readonly string[] {
  const endpoints: string[] = []
  for (const scheme of ['tcp', 'kafka'] as const) {
    const isOf = (address: string): boolean => address.startsWith(`${scheme}://`)
    const own = advertise.find(isOf)
    const bound = listen.find(isOf)
    if (own !== undefined && bound === undefined) {
      throw new StreamError('ADDRESS_INVALID', `--advertise ${own}: no --listen ${scheme}://`, {
        target: own,
      })
    }
    if (bound === undefined) continue
    const address = own ?? reachable(bound, scheme, hostName)
    if (!/:[1-9]\d*$/.test(address)) {
      throw new StreamError('ADDRESS_INVALID', `${address}: a daemon of a cluster needs a port`, {
        target: address,
        hint: `for example --listen ${scheme}://0.0.0.0:${scheme === 'tcp' ? 7000 : 9092}`,
      })
    }
    endpoints.push(address)
  }
  if (!endpoints.some((address) => address.startsWith('tcp://'))) {
    throw new StreamError('ADDRESS_INVALID', 'the other daemons of the cluster need an address', {
      hint: 'for example --listen tcp://0.0.0.0:7000',
    })
  }
  return endpoints
}

function reachable(address: string, scheme: 'tcp' | 'kafka', hostName: string): string {
  const rules = scheme === 'tcp' ? zmqRules : kafkaRules
  const { host, port } = endpointOf(address, rules, hostName)
  if (scheme === 'tcp') return host
  return `kafka://${host.includes(':') ? `[${host}]` : host}:${port}`
}
