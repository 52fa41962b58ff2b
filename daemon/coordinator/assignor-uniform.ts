/**
 * Uniform: as many partitions for each member as for any other, and as few moves as that allows.
 *
 * Where all members read the same topics the counts differ by one at most, and exactly those partitions move that are above
 * a member's share or whose member is gone. Where they read different topics, no single move could make two members' counts
 * more alike.
 */

import { assert } from '../../src/base/assert.ts'
import type { AssignedMember, Assignments, AssignorInput } from './assignor.ts'

/** A member while it is being served. */
class Share {
  readonly memberId: string
  readonly topicIds: ReadonlySet<string>
  readonly partitions = new Map<string, Set<number>>()
  count = 0

  constructor({ memberId, topicIds }: AssignedMember) {
    this.memberId = memberId
    this.topicIds = topicIds
  }

  add(topicId: string, partition: number): void {
    const set = this.partitions.get(topicId) ?? new Set()
    this.partitions.set(topicId, set)
    assert(!set.has(partition), 'a partition is given once')
    set.add(partition)
    this.count += 1
  }

  remove(topicId: string, partition: number): void {
    const set = this.partitions.get(topicId)
    assert(set?.delete(partition) === true, 'only what it has can be taken')
    if (set.size === 0) this.partitions.delete(topicId)
    this.count -= 1
  }
}

interface Place {
  readonly topicId: string
  readonly partition: number
}

export function assignUniform(input: AssignorInput): Assignments {
  const members = [...input.members].sort((a, b) => (a.memberId < b.memberId ? -1 : 1))
  const shares = members.map((member) => new Share(member))
  const free = keepPrevious(input, members, shares)
  if (shares.length > 0) {
    if (isHomogeneous(members)) shareEvenly(shares, free)
    else shareByReaders(shares, free)
  }
  return new Map(shares.map(({ memberId, partitions }) => [memberId, partitions]))
}

function isHomogeneous(members: readonly AssignedMember[]): boolean {
  const first = members[0]
  return members.every(
    ({ topicIds }) =>
      topicIds.size === first?.topicIds.size && [...topicIds].every((id) => first.topicIds.has(id)),
  )
}

/** Everybody has what it had and still may have. @returns what nobody has, partition by partition across the topics */
function keepPrevious(
  { topics }: AssignorInput,
  members: readonly AssignedMember[],
  shares: readonly Share[],
): Place[] {
  const taken = new Map<string, Set<number>>()
  for (const [index, { topicIds, previous }] of members.entries()) {
    for (const [topicId, set] of previous) {
      const count = topics.get(topicId) ?? 0
      if (!topicIds.has(topicId)) continue
      const used = taken.get(topicId) ?? new Set()
      taken.set(topicId, used)
      for (const partition of set) {
        if (partition >= count || used.has(partition)) continue
        used.add(partition)
        shares[index]?.add(topicId, partition)
      }
    }
  }
  const free: Place[] = []
  for (const [topicId, count] of [...topics].sort(([a], [b]) => (a < b ? -1 : 1))) {
    if (!members.some(({ topicIds }) => topicIds.has(topicId))) continue
    const used = taken.get(topicId)
    for (let partition = 0; partition < count; partition += 1) {
      if (used?.has(partition) !== true) free.push({ topicId, partition })
    }
  }
  return free
}

function shareEvenly(shares: readonly Share[], free: Place[]): void {
  if (shares[0]?.topicIds.size === 0) return
  const total = shares.reduce((sum, { count }) => sum + count, free.length)
  const least = Math.floor(total / shares.length)
  // The places for one more go to those that have it already.
  let more = total % shares.length
  const byCount = [...shares].sort((a, b) => b.count - a.count)
  const quotas = new Map<Share, number>()
  for (const share of byCount) {
    const quota = more > 0 ? least + 1 : least
    more -= more > 0 ? 1 : 0
    quotas.set(share, quota)
    for (const place of surplus(share, share.count - quota)) {
      share.remove(place.topicId, place.partition)
      free.push(place)
    }
  }
  // In turn, so that the partitions of one topic go to different members.
  let open = shares.filter((share) => share.count < (quotas.get(share) ?? 0))
  let at = 0
  for (const place of free) {
    const share = open[at % open.length]
    assert(share !== undefined, 'there is room for every partition')
    share.add(place.topicId, place.partition)
    at += 1
    if (at >= open.length) {
      open = open.filter((each) => each.count < (quotas.get(each) ?? 0))
      at = 0
    }
  }
}

/** Of the topics of which it has most. */
function surplus(share: Share, count: number): Place[] {
  const taken: Place[] = []
  if (count <= 0) return taken
  const left = new Map(
    [...share.partitions].map(([topicId, set]) => [topicId, [...set].sort(byNumber)]),
  )
  while (taken.length < count) {
    let widest: string | undefined
    for (const [topicId, list] of left) {
      if (list.length > (left.get(widest ?? '')?.length ?? 0)) widest = topicId
    }
    const partition = left.get(widest ?? '')?.pop()
    assert(widest !== undefined && partition !== undefined, 'it has more than its quota')
    taken.push({ topicId: widest, partition })
  }
  return taken
}

function byNumber(left: number, right: number): number {
  return left - right
}

function shareByReaders(shares: readonly Share[], free: readonly Place[]): void {
  const readers = new Map<string, Share[]>()
  for (const share of shares) {
    for (const topicId of share.topicIds) {
      const list = readers.get(topicId) ?? []
      readers.set(topicId, list)
      list.push(share)
    }
  }
  // Topics with few readers first: they have the least choice.
  const sorted = [...free].sort(
    (a, b) => (readers.get(a.topicId)?.length ?? 0) - (readers.get(b.topicId)?.length ?? 0),
  )
  for (const { topicId, partition } of sorted) {
    leastOf(readers.get(topicId) ?? [])?.add(topicId, partition)
  }
  // Each move makes the sum of the squares of all counts smaller, so it ends.
  let hasMoved = true
  while (hasMoved) {
    hasMoved = false
    for (const share of [...shares].sort((a, b) => b.count - a.count)) {
      if (moveOne(share, readers)) hasMoved = true
    }
  }
}

/** Gives one partition to the reader of its topic that has least, if that has two less. */
function moveOne(share: Share, readers: ReadonlyMap<string, readonly Share[]>): boolean {
  for (const [topicId, set] of share.partitions) {
    const other = leastOf(readers.get(topicId) ?? [])
    if (other === undefined || other.count + 1 >= share.count) continue
    const partition = Math.max(...set)
    share.remove(topicId, partition)
    other.add(topicId, partition)
    return true
  }
  return false
}

function leastOf(shares: readonly Share[]): Share | undefined {
  let least: Share | undefined
  for (const share of shares) if (least === undefined || share.count < least.count) least = share
  return least
}
