/** The target of a whole group: what each member is to have in the end, by the assignor that most of them want. */

import { assert } from '../../src/base/assert.ts'
import type { AssignedMember } from './assignor.ts'
import { assignorOf } from './assignors.ts'
import type { ConsumerChange } from './consumer-group-records.ts'
import type { ConsumerGroupState } from './consumer-group-state.ts'
import type { GroupTopics } from './group-topics.ts'
import { isSame, NO_PARTITIONS } from './partition-sets.ts'

/** By the votes of the members that have a wish; else the broker's first. */
export function chooseAssignor(state: ConsumerGroupState, served: readonly string[]): string {
  const votes = new Map<string, number>()
  for (const { metadata } of state.members()) {
    const wish = metadata.serverAssignor
    if (wish !== null && served.includes(wish)) votes.set(wish, (votes.get(wish) ?? 0) + 1)
  }
  let best: string | undefined
  for (const name of served) {
    const count = votes.get(name) ?? 0
    if (count > 0 && count > (votes.get(best ?? '') ?? 0)) best = name
  }
  const chosen = best ?? served[0]
  assert(chosen !== undefined, 'the broker serves an assignor')
  return chosen
}

/** @returns what differs from the target before */
export function newTargets(
  state: ConsumerGroupState,
  topics: GroupTopics,
  assignor: string,
): readonly ConsumerChange[] {
  const counts = new Map<string, number>()
  const members: AssignedMember[] = []
  for (const { memberId, metadata } of state.members()) {
    const topicIds = topics.idsOf(metadata)
    for (const topicId of topicIds) counts.set(topicId, topics.partitionsOf(topicId))
    members.push({
      memberId,
      instanceId: metadata.instanceId,
      topicIds,
      previous: state.targetOf(memberId),
    })
  }
  const assign = assignorOf(assignor)
  assert(assign !== undefined, 'the assignor is known')
  const changes: ConsumerChange[] = []
  for (const [memberId, value] of assign({ members, topics: counts })) {
    const before = state.targets().get(memberId)
    const isKnown = before !== undefined && isSame(before, value)
    if (!isKnown) changes.push({ kind: 'target', memberId, value: value ?? NO_PARTITIONS })
  }
  return changes
}
