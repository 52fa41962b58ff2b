/**
 * Whether a broker's number is free, asked before its data directory is claimed: one that was made for a number that another
 * daemon has could not be used for any other.
 *
 * Invariants:
 * - Nothing is written, neither on the disk nor in the store.
 * - The session of a former process of this very directory is not waited for: who holds the directory's lock ends it.
 * - Another one is waited for as long as a dead daemon's lease can live. It is refused at once when the daemon at the address that
 *   goes with the session says that it has this number: that proves life, which the renewal of a lease does not (a new leader of
 *   etcd renews them all).
 * - It is no lock: who registers is decided by the store, later (registerSession).
 */

import type { MetadataStore } from '../../src/ports/metadata-store.ts'
import { sleep } from '../../src/ports/time.ts'
import { MetadataKeys } from '../metadata/metadata-keys.ts'
import { decodeLive, decodeRegistration } from '../metadata/metadata-values.ts'
import { RepeatedWarning } from '../metadata/repeated-warning.ts'
import { numberTaken } from '../metadata/session.ts'
import { SessionFile } from '../metadata/session-file.ts'
import type { BrokerPorts } from './broker-options.ts'
import { PEER_CLIENT_PREFIX, Peers } from './peers.ts'

const ANSWER_MS_MAX = 2000
const PAUSE_MS = 500

export interface NumberRequest {
  readonly nodeId: number
  readonly clusterId: string
  readonly dataDirectory: string
  /** So long a dead daemon's session may last. */
  readonly waitMs: number
}

/** @throws StreamError FENCED: another daemon has the number; STORE_UNAVAILABLE */
export async function awaitFreeNumber(
  ports: BrokerPorts,
  home: MetadataStore,
  request: NumberRequest,
): Promise<void> {
  const { time, disk, log } = ports
  const { nodeId, clusterId, dataDirectory, waitMs } = request
  const keys = new MetadataKeys(clusterId)
  const key = keys.live(nodeId)
  const deadlineMs = time.monotonicMs() + waitMs
  const waiting = new RepeatedWarning(time, log, 'waiting for another session of this node to end')
  for (;;) {
    const live = await home.get(key)
    if (live === undefined) return
    const { incarnation } = decodeLive(key, live.value)
    const own = new SessionFile(disk, dataDirectory).read()
    const isOwn = (known: { readonly incarnation: string }): boolean =>
      known.incarnation === incarnation
    if (own.kind === 'found' && own.record.incarnations.some(isOwn)) return
    const endpoint = await endpointOf(home, keys, nodeId, incarnation)
    if (endpoint !== undefined && (await isAlive(ports, request, { incarnation, endpoint }))) {
      throw numberTaken(key, nodeId, endpoint)
    }
    if (time.monotonicMs() >= deadlineMs) throw numberTaken(key, nodeId)
    waiting.tell(numberTaken(key, nodeId))
    await sleep(time, PAUSE_MS)
  }
}

/** Where this process is reached; undefined: it has not said so, or is going and may be waited for. */
async function endpointOf(
  home: MetadataStore,
  keys: MetadataKeys,
  nodeId: number,
  incarnation: string,
): Promise<string | undefined> {
  const key = keys.registration(nodeId)
  const found = await home.get(key)
  if (found === undefined) return undefined
  const registration = decodeRegistration(key, found.value)
  if (registration.incarnation !== incarnation || registration.state === 'DRAINING') {
    return undefined
  }
  return registration.endpoints.find((address) => address.startsWith('tcp://'))
}

/** Whether a daemon of this number and cluster answers there; one that is silent may be dead, or stand still. */
async function isAlive(
  { time, net, log }: BrokerPorts,
  { nodeId, clusterId }: NumberRequest,
  address: { readonly incarnation: string; readonly endpoint: string },
): Promise<boolean> {
  if (net === undefined) return false
  const clientId = `${PEER_CLIENT_PREFIX}${nodeId}`
  const peers = new Peers({ time, net, log, addressOf: () => address, clientId })
  try {
    const status = await peers.call(nodeId, 'DaemonStatus', 0, {}, { timeoutMs: ANSWER_MS_MAX })
    return status.nodeId === nodeId && status.clusterId === clusterId
  } catch {
    return false
  } finally {
    peers.close()
  }
}
