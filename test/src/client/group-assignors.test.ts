import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  type Assignments,
  type AssignorMember,
  assignCooperatively,
  assignRange,
} from '../../../src/client/group-assignors.ts'

const topics = ['a', 'b', 'c']

const world = fc.record({
  counts: fc.array(fc.integer({ min: 0, max: 12 }), { minLength: 3, maxLength: 3 }),
  subscriptions: fc.array(fc.subarray(topics, { minLength: 1 }), { minLength: 1, maxLength: 6 }),
})

function membersOf(subscriptions: readonly string[][]): AssignorMember[] {
  return subscriptions.map((subscribed, index) => ({
    memberId: `m${index}`,
    groupInstanceId: null,
    topics: subscribed,
    ownedPartitions: [],
    generationId: -1,
  }))
}

function flat(assignments: Assignments): [string, string][] {
  return [...assignments].flatMap(([member, rows]) =>
    rows.flatMap(({ topic, partitions }) =>
      partitions.map((each) => [`${topic}${each}`, member] as [string, string]),
    ),
  )
}

/** One rebalance after the other, each member owning what it was given, until nothing changes. */
function settle(members: readonly AssignorMember[], partitionsOf: (topic: string) => number) {
  let now = members
  for (let generation = 1; generation < 10; generation += 1) {
    const assigned = assignCooperatively(now, partitionsOf)
    const next = now.map((member) => ({
      ...member,
      ownedPartitions: assigned.get(member.memberId) ?? [],
      generationId: generation,
    }))
    if (
      JSON.stringify(next.map((m) => m.ownedPartitions)) ===
      JSON.stringify(now.map((m) => m.ownedPartitions))
    ) {
      return { members: next, assigned, rounds: generation }
    }
    now = next
  }
  throw new Error('it never settles')
}

describe.each([
  ['range', assignRange],
  ['cooperative-sticky', assignCooperatively],
] as const)('%s', (_name, assign) => {
  it('gives each partition to one member that wants it, and leaves none that somebody wants', () => {
    void fc.assert(
      fc.property(world, ({ counts, subscriptions }) => {
        const members = membersOf(subscriptions)
        const partitionsOf = (topic: string) => counts[topics.indexOf(topic)] ?? 0
        const rows = flat(assign(members, partitionsOf))
        const places = rows.map(([place]) => place)
        expect(new Set(places).size).toBe(places.length)
        for (const [place, member] of rows) {
          expect(members.find((each) => each.memberId === member)?.topics).toContain(place[0])
        }
        const wanted = new Set(subscriptions.flat())
        const expected = [...wanted].reduce((sum, topic) => sum + partitionsOf(topic), 0)
        expect(places).toHaveLength(expected)
      }),
    )
  })
})

describe('range', () => {
  it('is what Kafka’s assignor does', () => {
    const members = membersOf([['a', 'b'], ['a', 'b'], ['a']])
    const counts: Record<string, number> = { a: 7, b: 3 }
    const assigned = assignRange(members, (topic) => counts[topic] ?? 0)
    expect(assigned.get('m0')).toEqual([
      { topic: 'a', partitions: [0, 1, 2] },
      { topic: 'b', partitions: [0, 1] },
    ])
    expect(assigned.get('m1')).toEqual([
      { topic: 'a', partitions: [3, 4] },
      { topic: 'b', partitions: [2] },
    ])
    expect(assigned.get('m2')).toEqual([{ topic: 'a', partitions: [5, 6] }])
  })
})

describe('cooperative-sticky', () => {
  it('with equal subscriptions shares differ by at most one, and nothing is given to two at any time', () => {
    void fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 8 }),
        fc.integer({ min: 0, max: 30 }),
        fc.integer({ min: 0, max: 7 }),
        (count, partitions, leaves) => {
          const partitionsOf = () => partitions
          const before = settle(membersOf(Array.from({ length: count }, () => ['a'])), partitionsOf)
          const left = before.members.filter((_, index) => index !== leaves % count || count === 1)
          const joined = [...left, { ...membersOf([['a']])[0]!, memberId: 'new' }]
          const first = assignCooperatively(joined, partitionsOf)
          const owner = new Map(
            left.flatMap((m) =>
              m.ownedPartitions.flatMap((row) =>
                row.partitions.map((p) => [p, m.memberId] as const),
              ),
            ),
          )
          for (const [place, member] of flat(first)) {
            const holder = owner.get(Number(place.slice(1)))
            expect(holder === undefined || holder === member).toBe(true)
          }
          const after = settle(joined, partitionsOf)
          const sizes = after.members.map((m) =>
            m.ownedPartitions.reduce((sum, row) => sum + row.partitions.length, 0),
          )
          expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1)
          // Who stays gives back no more than balance asks for.
          const share = Math.floor(partitions / joined.length)
          for (const member of left) {
            const had = member.ownedPartitions.flatMap((row) => row.partitions)
            const has = new Set(
              after.members
                .find((m) => m.memberId === member.memberId)
                ?.ownedPartitions.flatMap((row) => row.partitions),
            )
            const kept = had.filter((each) => has.has(each)).length
            expect(kept).toBeGreaterThanOrEqual(Math.min(had.length, share))
          }
        },
      ),
    )
  })

  it('of two claims the younger counts; of two of one generation neither', () => {
    const [a, b] = membersOf([['a'], ['a']]) as [AssignorMember, AssignorMember]
    const owned = [{ topic: 'a', partitions: [0] }]
    const young = assignCooperatively(
      [
        { ...a, ownedPartitions: owned, generationId: 1 },
        { ...b, ownedPartitions: owned, generationId: 2 },
      ],
      () => 1,
    )
    expect(young.get('m1')).toEqual(owned)
    const equal = assignCooperatively(
      [
        { ...a, ownedPartitions: owned, generationId: 2 },
        { ...b, ownedPartitions: owned, generationId: 2 },
      ],
      () => 1,
    )
    expect(flat(equal)).toHaveLength(1)
  })
})
