import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  isMoved,
  type PlanBroker,
  type PlannedPartition,
  type PlanPartition,
  planDemotion,
  planReplicas,
} from '../../../src/client/replica-plan.ts'

const brokers = (...racks: (string | null)[]): PlanBroker[] =>
  racks.map((rack, index) => ({ nodeId: index + 1, rack }))

const partitions = (...replicas: number[][]): PlanPartition[] =>
  replicas.map((list, partition) => ({ topic: 't', partition, replicas: list, bytes: 10 }))

const planned = (rows: readonly PlannedPartition[]): (readonly number[])[] =>
  rows.map((row) => row.planned)

function counts(
  rows: readonly PlannedPartition[],
  allowed: readonly PlanBroker[],
  of: (row: readonly number[]) => readonly number[],
): number[] {
  const found = rows.flatMap((row) => of(row.planned))
  return allowed.map(({ nodeId }) => found.filter((each) => each === nodeId).length)
}

const spread = (list: readonly number[]): number => Math.max(...list) - Math.min(...list)

interface Situation {
  readonly brokers: PlanBroker[]
  readonly partitions: PlanPartition[]
  readonly replicas: number
}

const situations = (racks: readonly (string | null)[]) =>
  fc
    .record({
      racks: fc.array(fc.constantFrom(...racks), { minLength: 1, maxLength: 7 }),
      replicas: fc.integer({ min: 1, max: 4 }),
      seeds: fc.array(fc.tuple(fc.nat(), fc.nat(), fc.nat(), fc.nat({ max: 1000 })), {
        maxLength: 25,
      }),
    })
    .map(({ racks: list, replicas, seeds }): Situation => {
      const allowed = brokers(...list)
      return {
        brokers: allowed,
        replicas: Math.min(replicas, allowed.length),
        // Some brokers of before are not allowed any more.
        partitions: seeds.map(([a, b, c, bytes], partition) => ({
          topic: `t${partition % 3}`,
          partition,
          bytes,
          replicas: [...new Set([a, b, c].map((each) => (each % (allowed.length + 2)) + 1))],
        })),
      }
    })

describe('the plan of replicas', () => {
  it('leaves alone what is as it should be', () => {
    const rows = partitions([1, 2], [2, 3], [3, 1])
    expect(
      planned(
        planReplicas({ brokers: brokers(null, null, null), partitions: rows, balances: true }),
      ),
    ).toEqual([
      [1, 2],
      [2, 3],
      [3, 1],
    ])
  })

  it('grows to three replicas without moving any', () => {
    const rows = planReplicas({
      brokers: brokers(null, null, null),
      partitions: partitions([1], [1], [2]),
      replicas: 3,
      balances: false,
    })
    expect(rows.map(({ planned: list }) => list[0])).toEqual([1, 1, 2])
    expect(rows.every(({ planned: list }) => new Set(list).size === 3)).toBe(true)
  })

  it('goes to the rack that has none', () => {
    const [row] = planReplicas({
      brokers: brokers('a', 'a', 'b', 'b'),
      partitions: partitions([1, 2]),
      replicas: 3,
      balances: false,
    })
    expect([3, 4]).toContain(row?.planned[2])
  })

  it('puts the leader of a broker that leaves on one that is in sync', () => {
    const rows = planReplicas({
      brokers: brokers(null, null, null),
      partitions: [{ topic: 't', partition: 0, replicas: [9, 1, 2], bytes: 1, inSync: [9, 2] }],
      balances: false,
    })
    expect(planned(rows)).toEqual([[2, 1, 3]])
  })

  it('property: factor, brokers and racks hold, whatever was there', () => {
    fc.assert(
      fc.property(situations([null, 'a', 'b', 'c']), fc.boolean(), (situation, balances) => {
        const rows = planReplicas({ ...situation, balances })
        const rackOf = new Map(
          situation.brokers.map(({ nodeId, rack }) => [nodeId, rack ?? `own ${nodeId}`]),
        )
        const rackCount = new Set(rackOf.values()).size
        expect(rows.map(({ partition }) => partition)).toEqual(
          situation.partitions.map(({ partition }) => partition),
        )
        for (const { planned: list, replicas } of rows) {
          expect(new Set(list).size).toBe(situation.replicas)
          for (const nodeId of list) expect(rackOf.has(nodeId)).toBe(true)
          const span = new Set(list.map((nodeId) => rackOf.get(nodeId))).size
          if (balances) expect(span).toBe(Math.min(rackCount, situation.replicas))
          else {
            const kept = replicas.filter((nodeId) => rackOf.has(nodeId))
            if (kept.length <= situation.replicas) {
              for (const nodeId of kept) expect(list).toContain(nodeId)
            }
            if (kept.includes(replicas[0] ?? -1)) expect(list[0]).toBe(replicas[0])
          }
        }
      }),
      { numRuns: 500 },
    )
  })

  it('property: without racks replicas and leaders are even, and a second plan moves nothing', () => {
    fc.assert(
      fc.property(situations([null]), (situation) => {
        const rows = planReplicas({ ...situation, balances: true })
        expect(spread(counts(rows, situation.brokers, (list) => list))).toBeLessThanOrEqual(1)
        const leads = counts(rows, situation.brokers, ([first = -1]) => [first])
        expect(spread(leads)).toBeLessThanOrEqual(1)
        const again = planReplicas({
          brokers: situation.brokers,
          partitions: rows.map((row) => ({ ...row, replicas: row.planned })),
          balances: true,
        })
        expect(again.filter(isMoved)).toEqual([])
      }),
      { numRuns: 500 },
    )
  })

  it('property: without racks each topic is even, whatever stays out of it', () => {
    fc.assert(
      fc.property(situations([null]), fc.nat({ max: 7 }), (situation, busy) => {
        const rows = planReplicas({
          ...situation,
          balances: true,
          others: Array.from({ length: 40 }, (_, partition) => ({
            topic: 'other',
            partition,
            replicas: [(busy % situation.brokers.length) + 1],
            bytes: 0,
          })),
        })
        for (const topic of ['t0', 't1', 't2']) {
          const own = rows.filter((row) => row.topic === topic)
          expect(spread(counts(own, situation.brokers, (list) => list))).toBeLessThanOrEqual(1)
          const leads = counts(own, situation.brokers, ([first = -1]) => [first])
          expect(spread(leads)).toBeLessThanOrEqual(1)
        }
      }),
      { numRuns: 500 },
    )
  })

  it('gives new brokers of each topic, not of the smallest ones alone', () => {
    const rows = planReplicas({
      brokers: brokers(null, null, null, null, null, null),
      partitions: ['__consumer_offsets', 'busy'].flatMap((topic, index) =>
        Array.from({ length: index === 0 ? 50 : 6 }, (_, partition) => ({
          topic,
          partition,
          replicas: [1, 2, 3],
          bytes: index * 1_000_000,
        })),
      ),
      balances: true,
    })
    const busy = rows.filter(({ topic }) => topic === 'busy')
    const all = brokers(null, null, null, null, null, null)
    expect(counts(busy, all, (list) => list)).toEqual([3, 3, 3, 3, 3, 3])
    expect(counts(busy, all, ([first = -1]) => [first])).toEqual([1, 1, 1, 1, 1, 1])
    expect(counts(rows, all, (list) => list)).toEqual([28, 28, 28, 28, 28, 28])
  })

  it('property: to even out a topic moves no more replicas than are too many', () => {
    fc.assert(
      fc.property(situations([null]), (situation) => {
        // All on allowed brokers, all with the same factor: only evening out is left to do.
        const allowed = situation.brokers.length
        const rows = situation.partitions.map((row, index) => ({
          ...row,
          topic: 't',
          replicas: Array.from(
            { length: situation.replicas },
            (_, at) => ((at + (index % 2)) % allowed) + 1,
          ),
        }))
        const before = counts(
          rows.map((row) => ({ ...row, planned: row.replicas })),
          situation.brokers,
          (list) => list,
        )
        const total = before.reduce((sum, each) => sum + each, 0)
        const low = Math.floor(total / allowed)
        const moves = planReplicas({
          brokers: situation.brokers,
          partitions: rows,
          balances: true,
        }).reduce(
          (sum, { replicas, planned: list }) =>
            sum + list.filter((nodeId) => !replicas.includes(nodeId)).length,
          0,
        )
        const tooMany = before
          .toSorted((a, b) => b - a)
          .reduce(
            (sum, each, index) => sum + Math.max(0, each - low - (index < total % allowed ? 1 : 0)),
            0,
          )
        expect(moves).toBeLessThanOrEqual(tooMany)
      }),
      { numRuns: 300 },
    )
  })

  it('counts what stays out of it', () => {
    const [row] = planReplicas({
      brokers: brokers(null, null, null),
      partitions: partitions([1]),
      others: partitions([2, 1], [2, 1]),
      replicas: 2,
      balances: false,
    })
    expect(row?.planned).toEqual([1, 3])
  })

  it('is done with 5,000 partitions in a moment', () => {
    const many = Array.from({ length: 5000 }, (_, partition) => ({
      topic: `t${partition % 50}`,
      partition,
      replicas: [(partition % 3) + 1, ((partition + 1) % 3) + 1],
      bytes: partition,
    }))
    const rows = planReplicas({
      brokers: brokers('a', 'b', 'c', 'a', 'b', 'c'),
      partitions: many,
      balances: true,
    })
    expect(spread(counts(rows, brokers(...Array(6).fill(null)), (list) => list))).toBeLessThan(2)
  }, 20_000)
})

describe('the plan that takes the lead from a broker', () => {
  it('puts it last, and the least busy one in sync first', () => {
    const rows = planDemotion(
      [
        ...partitions([1, 2, 3], [1, 3, 2], [2, 1, 3]),
        { topic: 'u', partition: 0, replicas: [1, 2], bytes: 0, inSync: [1] },
        { topic: 'u', partition: 1, replicas: [1], bytes: 0 },
      ],
      1,
    )
    expect(planned(rows)).toEqual([[3, 2, 1], [3, 2, 1], [1, 2], [1]])
    expect(rows.filter(isMoved)).toHaveLength(2)
  })
})
