import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { AssignedMember, Assignments } from '../../../daemon/coordinator/assignor.ts'
import { assignorOf } from '../../../daemon/coordinator/assignors.ts'
import {
  countOf,
  has,
  NO_PARTITIONS,
  type Partitions,
} from '../../../daemon/coordinator/partition-sets.ts'

const uniform = assignorOf('uniform')!
const range = assignorOf('range')!

function member(
  memberId: string,
  topics: readonly string[],
  previous?: Partitions,
): AssignedMember {
  return {
    memberId,
    instanceId: null,
    topicIds: new Set(topics),
    previous: previous ?? NO_PARTITIONS,
  }
}

function next(members: readonly AssignedMember[], before: Assignments): AssignedMember[] {
  return members.map((each) => ({ ...each, previous: before.get(each.memberId) ?? NO_PARTITIONS }))
}

/** Every partition that somebody reads has one reader, who reads its topic. */
function check(
  members: readonly AssignedMember[],
  topics: ReadonlyMap<string, number>,
  assigned: Assignments,
): void {
  expect([...assigned.keys()].sort()).toEqual(members.map(({ memberId }) => memberId).sort())
  for (const [topicId, count] of topics) {
    const readers = members.filter(({ topicIds }) => topicIds.has(topicId))
    for (let partition = 0; partition < count; partition += 1) {
      const owners = members.filter(({ memberId }) =>
        has(assigned.get(memberId) ?? NO_PARTITIONS, topicId, partition),
      )
      expect(owners.length).toBe(readers.length === 0 ? 0 : 1)
      expect(owners.every((owner) => readers.includes(owner))).toBe(true)
    }
  }
}

function moved(before: Assignments, after: Assignments): number {
  let count = 0
  for (const [memberId, partitions] of before) {
    for (const [topicId, set] of partitions) {
      for (const partition of set) {
        if (!has(after.get(memberId) ?? NO_PARTITIONS, topicId, partition)) count += 1
      }
    }
  }
  return count
}

const topicsArbitrary = fc
  .uniqueArray(fc.nat(12), { minLength: 1, maxLength: 5 })
  .map((counts) => new Map(counts.map((count, index) => [`t${index}`, count + 1])))

describe('uniform', () => {
  it('shares evenly, and only what must move does when members come and go', () => {
    fc.assert(
      fc.property(
        topicsArbitrary,
        fc.array(fc.tuple(fc.boolean(), fc.nat()), { maxLength: 20 }),
        (topics, steps) => {
          let names = 0
          let members: AssignedMember[] = []
          let before: Assignments = new Map()
          const all = [...topics.keys()]
          const total = [...topics.values()].reduce((sum, count) => sum + count, 0)
          for (const [joins, pick] of steps) {
            const goes = members[pick % Math.max(1, members.length)]
            const isJoin = joins || goes === undefined
            if (isJoin) members.push(member(`m${names++}`, all))
            else members = members.filter((each) => each !== goes)
            const after = uniform({ members: next(members, before), topics })
            check(members, topics, after)
            const counts = [...after.values()].map(countOf)
            if (counts.length > 0) expect(Math.max(...counts) - Math.min(...counts)).toBeLessThan(2)
            // A join takes one share; a leave moves nothing but what the leaver had.
            const left = new Map(
              [...before].filter(([id]) => members.some((m) => m.memberId === id)),
            )
            const must = isJoin ? Math.floor(total / members.length) : 0
            expect(moved(left, after)).toBe(left.size === 0 ? 0 : must)
            before = after
          }
        },
      ),
      { numRuns: 200 },
    )
  })

  it('different subscriptions: everything has a reader, and no single move could even it out', () => {
    fc.assert(
      fc.property(
        topicsArbitrary,
        fc.array(fc.array(fc.nat(4), { maxLength: 5 }), { minLength: 1, maxLength: 8 }),
        (topics, wishes) => {
          const names = [...topics.keys()]
          const members = wishes.map((wish, index) =>
            member(`m${index}`, [...new Set(wish.flatMap((n) => names[n] ?? []))]),
          )
          const assigned = uniform({ members, topics })
          check(members, topics, assigned)
          const count = (id: string) => countOf(assigned.get(id) ?? NO_PARTITIONS)
          for (const from of members) {
            for (const topicId of (assigned.get(from.memberId) ?? NO_PARTITIONS).keys()) {
              for (const to of members) {
                if (!to.topicIds.has(topicId)) continue
                expect(count(from.memberId) - count(to.memberId)).toBeLessThan(2)
              }
            }
          }
          const again = uniform({ members: next(members, assigned), topics })
          expect(moved(assigned, again)).toBe(0)
        },
      ),
      { numRuns: 200 },
    )
  })

  it('says the same in whatever order the members stand', () => {
    const topics = new Map([['t', 7]])
    const members = ['a', 'b', 'c'].map((name) => member(name, ['t']))
    const assigned = uniform({ members, topics })
    const other = uniform({ members: [...members].reverse(), topics })
    for (const { memberId } of members) expect(other.get(memberId)).toEqual(assigned.get(memberId))
  })

  it('forgets what is no longer there: a topic that shrank, one that is gone, one not read any more', () => {
    const previous = new Map([
      ['t', new Set([0, 5])],
      ['gone', new Set([0])],
      ['other', new Set([0])],
    ])
    const topics = new Map([
      ['t', 2],
      ['other', 1],
    ])
    const members = [member('a', ['t'], previous), member('b', ['t', 'other'])]
    const assigned = uniform({ members, topics })
    check(members, topics, assigned)
    expect(has(assigned.get('a')!, 't', 0)).toBe(true)
  })

  it('ten thousand partitions for a hundred members: one more takes its share and no more', () => {
    const topics = new Map([['t', 10_000]])
    const members = Array.from({ length: 100 }, (_, index) => member(`m${index}`, ['t']))
    const before = uniform({ members, topics })
    const more = [...next(members, before), member('new', ['t'])]
    const after = uniform({ members: more, topics })
    expect(moved(before, after)).toBe(Math.floor(10_000 / 101))
  })
})

describe('range', () => {
  it('gives runs of neighbours in the order of the names, the same runs in topics of one size', () => {
    const topics = new Map([
      ['t', 7],
      ['u', 7],
    ])
    const members = ['c', 'a', 'b'].map((name) => member(name, ['t', 'u']))
    const assigned = range({ members, topics })
    check(members, topics, assigned)
    for (const topic of ['t', 'u']) {
      expect([...(assigned.get('a')?.get(topic) ?? [])]).toEqual([0, 1, 2])
      expect([...(assigned.get('b')?.get(topic) ?? [])]).toEqual([3, 4])
      expect([...(assigned.get('c')?.get(topic) ?? [])]).toEqual([5, 6])
    }
  })

  it('goes by the instance id of static members, and leaves out whom there is nothing for', () => {
    const topics = new Map([['t', 1]])
    const members = [
      { ...member('a', ['t']), instanceId: 'z' },
      { ...member('b', ['t']), instanceId: 'y' },
    ]
    const assigned = range({ members, topics })
    expect(countOf(assigned.get('b')!)).toBe(1)
    expect(countOf(assigned.get('a')!)).toBe(0)
  })
})
