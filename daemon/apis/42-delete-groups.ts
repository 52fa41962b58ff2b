/** DeleteGroups (42), versions 0 to 2: groups without members, with all their offsets. Errors: 14, 15, 16, 24, 68, 69. */

import { KafkaError } from '../../src/protocol/errors.ts'
import { isDead, isUnused } from '../coordinator/group-entry.ts'
import { findGroup } from './group-requests.ts'
import type { Handler, Services } from './handler.ts'

export const deleteGroups: Handler<'DeleteGroups'> = async (services, _context, request) => {
  const names = [...new Set(request.groupsNames)]
  const results = await Promise.all(
    names.map(async (groupId) => ({ groupId, errorCode: await remove(services, groupId) })),
  )
  return { throttleTimeMs: 0, results }
}

function remove(services: Services, groupId: string): Promise<number> | number {
  const { shard, entry, errorCode } = findGroup(services, groupId)
  if (shard === undefined) {
    return services.groups.isWithoutTopic && groupId !== ''
      ? KafkaError.GROUP_ID_NOT_FOUND
      : errorCode
  }
  if (entry === undefined || isDead(entry)) return KafkaError.GROUP_ID_NOT_FOUND
  if (!isUnused(entry)) return KafkaError.NON_EMPTY_GROUP
  return new Promise((resolve) => {
    services.groups.delete(entry, resolve)
  })
}
