/** ListGroups (16), versions 0 to 5: the groups of this broker, by state (v4) and type (v5) if wanted. Errors: 14, 15, 16. */

import { KafkaError } from '../../src/protocol/errors.ts'
import { protocolTypeOf, stateOf, typeOf } from '../coordinator/group-entry.ts'
import type { Handler } from './handler.ts'

export const listGroups: Handler<'ListGroups'> = ({ groups }, _context, request) => {
  const states = lowerCase(request.statesFilter)
  const types = lowerCase(request.typesFilter)
  const listed: {
    groupId: string
    protocolType: string
    groupState: string
    groupType: string
  }[] = []
  for (const entry of groups.groups) {
    const groupState = stateOf(entry)
    const groupType = typeOf(entry)
    if (groupState === 'Dead') continue
    if (states.size > 0 && !states.has(groupState.toLowerCase())) continue
    if (types.size > 0 && !types.has(groupType)) continue
    const { groupId } = entry
    listed.push({ groupId, protocolType: protocolTypeOf(entry), groupState, groupType })
  }
  const errorCode = groups.isLoading ? KafkaError.COORDINATOR_LOAD_IN_PROGRESS : 0
  return { throttleTimeMs: 0, errorCode, groups: listed }
}

function lowerCase(names: readonly string[]): ReadonlySet<string> {
  return new Set(names.map((name) => name.toLowerCase()))
}
