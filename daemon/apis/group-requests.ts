/** What the handlers of group requests share. */

import { KafkaError } from '../../src/protocol/errors.ts'
import type { FoundGroup } from '../coordinator/group-coordinator.ts'
import type { RequestContext, Services } from './handler.ts'

/** The place of a group that a request names. @returns its errorCode is 24 for an empty id, else as find says */
export function findGroup({ groups }: Services, groupId: string): FoundGroup {
  if (groupId === '') {
    return { shard: undefined, entry: undefined, errorCode: KafkaError.INVALID_GROUP_ID }
  }
  return groups.find(groupId)
}

/** As Kafka shows it: the address without its port, after a slash; of a socket on this host its name. */
export function clientHostOf({ peer }: RequestContext): string {
  const match = /^[a-z]+:\/\/(\[[^\]]*\]|[^:/]*):\d+$/.exec(peer)
  if (match !== null) return `/${match[1]}`
  return peer.startsWith('ipc:') ? '/localhost' : peer
}
