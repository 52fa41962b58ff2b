/**
 * Range: of each topic every reader gets one run of neighbouring partitions, in the order of the members' names, so that
 * the same partitions of topics with the same readers go to one member (for joins). Runs move when members come and go.
 */

import type { AssignedMember, Assignments, AssignorInput } from './assignor.ts'

export function assignRange({ members, topics }: AssignorInput): Assignments {
  const assigned = new Map(
    members.map(({ memberId }) => [memberId, new Map<string, Set<number>>()]),
  )
  const sorted = [...members].sort(byName)
  for (const [topicId, count] of topics) {
    const readers = sorted.filter(({ topicIds }) => topicIds.has(topicId))
    if (readers.length === 0) continue
    const share = Math.floor(count / readers.length)
    const extra = count % readers.length
    let next = 0
    for (const [index, { memberId }] of readers.entries()) {
      const end = next + share + (index < extra ? 1 : 0)
      const run = new Set<number>()
      for (; next < end; next += 1) run.add(next)
      if (run.size > 0) assigned.get(memberId)?.set(topicId, run)
    }
  }
  return assigned
}

/** A static member keeps its place when it comes back under another id. */
function byName(left: AssignedMember, right: AssignedMember): number {
  const a = left.instanceId ?? left.memberId
  const b = right.instanceId ?? right.memberId
  if (a === b) return 0
  return a < b ? -1 : 1
}
