import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type BrokerView, type LogView, next } from '../../../daemon/metadata/controller.ts'
import type { Member, PartitionValue } from '../../../daemon/metadata/metadata-values.ts'

const config = { uncleanElection: false, commitFlush: true }

function view(nodeId: number, change: Partial<BrokerView> = {}): BrokerView {
  return {
    nodeId,
    live: true,
    incarnation: `inc-${nodeId}`,
    state: 'ACTIVE',
    dataEpoch: 10 + nodeId,
    directoryOnline: true,
    ...change,
  }
}

function brokers(...views: readonly BrokerView[]): ReadonlyMap<number, BrokerView> {
  return new Map(views.map((entry) => [entry.nodeId, entry]))
}

const whole = (broker: number): Member => ({ broker, dataEpoch: 10 + broker })
const stale = (broker: number): Member => ({ broker, dataEpoch: broker })

function record(change: Partial<PartitionValue> = {}): PartitionValue {
  return {
    replicas: [1, 2, 3],
    adding: [],
    removing: [],
    leader: 1,
    leaderIncarnation: 'inc-1',
    leaderEpoch: 5,
    partitionEpoch: 8,
    inSyncReplicas: [whole(1), whole(2), whole(3)],
    eligibleReplicas: [],
    known: [],
    lastLeader: null,
    minInSync: 2,
    uncleanEpoch: 0,
    recovering: false,
    writer: { epoch: 0, counter: 0 },
    ...change,
  }
}

const noLogs: ReadonlyMap<number, LogView> = new Map()
const all = brokers(view(1), view(2), view(3))

describe('next', () => {
  it('leaves a healthy partition alone', () => {
    const before = record()
    const decision = next(before, all, noLogs, config, 'event')
    expect(decision.changed).toBe(false)
    expect(decision.partition).toBe(before)
  })

  it('elects the first replica in sync when the leader dies, and raises both epochs', () => {
    const now = brokers(view(1, { live: false }), view(2), view(3))
    const { partition } = next(record(), now, noLogs, config, 'event')
    expect(partition).toMatchObject({
      leader: 2,
      leaderIncarnation: 'inc-2',
      leaderEpoch: 6,
      partitionEpoch: 9,
      inSyncReplicas: [whole(2), whole(3)],
    })
  })

  it('never lets a new incarnation lead at an epoch of the one before', () => {
    const now = brokers(view(1, { incarnation: 'again' }), view(2), view(3))
    const { partition } = next(record(), now, noLogs, config, 'event')
    expect(partition).toMatchObject({ leader: 1, leaderIncarnation: 'again', leaderEpoch: 6 })
  })

  it('a single broker leads again at each start with a higher epoch', () => {
    const before = record({ replicas: [1], inSyncReplicas: [whole(1)], minInSync: 1 })
    const now = brokers(view(1, { incarnation: 'second start' }))
    const { partition } = next(before, now, noLogs, config, 'event')
    expect(partition).toMatchObject({
      leader: 1,
      leaderEpoch: 6,
      uncleanEpoch: 0,
      recovering: false,
    })
  })

  it('a fenced broker is no leader: none is left, and the last one is remembered', () => {
    const before = record({ replicas: [1], inSyncReplicas: [whole(1)], minInSync: 1 })
    const now = brokers(view(1, { state: 'FENCED' }))
    const { partition } = next(before, now, noLogs, config, 'event')
    expect(partition).toMatchObject({
      leader: -1,
      leaderIncarnation: '',
      leaderEpoch: 6,
      inSyncReplicas: [],
      eligibleReplicas: [whole(1)],
      lastLeader: whole(1),
    })
  })

  it('takes an eligible replica when nobody is in sync', () => {
    const before = record({
      leader: -1,
      leaderIncarnation: '',
      inSyncReplicas: [],
      eligibleReplicas: [whole(2), whole(3)],
    })
    const { partition } = next(before, brokers(view(2), view(3)), noLogs, config, 'event')
    expect(partition).toMatchObject({ leader: 2, inSyncReplicas: [whole(2)], uncleanEpoch: 0 })
    expect(partition.eligibleReplicas).toEqual([whole(3)])
  })

  it('with a minimum of 1 nobody else stays eligible after an election', () => {
    const before = record({
      leader: -1,
      leaderIncarnation: '',
      minInSync: 1,
      inSyncReplicas: [],
      eligibleReplicas: [whole(2), whole(3)],
    })
    const { partition } = next(before, brokers(view(2), view(3)), noLogs, config, 'event')
    expect(partition).toMatchObject({ leader: 2, eligibleReplicas: [] })
  })

  it('never elects a member whose data epoch is stale (I11)', () => {
    const before = record({ inSyncReplicas: [stale(1), whole(2)] })
    const { partition } = next(before, all, noLogs, config, 'event')
    expect(partition).toMatchObject({ leader: 2, inSyncReplicas: [whole(2)] })
    expect(partition.known).toEqual([stale(1)])
  })

  it('a member that drops out below the minimum stays eligible', () => {
    const now = brokers(view(1), view(2, { live: false }), view(3, { live: false }))
    const { partition } = next(record(), now, noLogs, config, 'event')
    expect(partition).toMatchObject({ leader: 1, leaderEpoch: 5, inSyncReplicas: [whole(1)] })
    expect(partition.eligibleReplicas).toEqual([whole(2), whole(3)])
  })

  it('moves the leadership away from a draining broker, and keeps it in sync only where it is needed', () => {
    const now = brokers(view(1, { state: 'DRAINING' }), view(2), view(3))
    const moved = next(record(), now, noLogs, config, 'event').partition
    expect(moved).toMatchObject({ leader: 2, inSyncReplicas: [whole(2), whole(3)] })
    const needed = next(
      record({ inSyncReplicas: [whole(1), whole(2)] }),
      now,
      noLogs,
      config,
      'event',
    )
    expect(needed.partition).toMatchObject({ leader: 2, inSyncReplicas: [whole(1), whole(2)] })
    const alone = record({ replicas: [1], inSyncReplicas: [whole(1)], minInSync: 1 })
    const last = next(alone, now, noLogs, config, 'event')
    expect(last.partition.leader).toBe(1)
  })

  describe('balanced recovery', () => {
    const before = record({ inSyncReplicas: [stale(1), stale(2)], minInSync: 2 })

    it('asks everybody who may hold records before it elects', () => {
      const decision = next(before, all, noLogs, config, 'event')
      expect(decision.wantsLogs).toEqual([1, 2])
      expect(decision.partition.leader).toBe(-1)
    })

    it('elects the longest log, and says that records may be lost', () => {
      const logs = new Map([
        [1, { lastEpoch: 4, logEndOffset: 900 }],
        [2, { lastEpoch: 5, logEndOffset: 700 }],
      ])
      const { partition } = next(before, all, logs, config, 'event')
      expect(partition).toMatchObject({
        leader: 2,
        inSyncReplicas: [whole(2)],
        eligibleReplicas: [],
        known: [],
        uncleanEpoch: partition.leaderEpoch,
        recovering: true,
      })
    })

    it('leads above every epoch that a log knows, though the record is an old copy', () => {
      const logs = new Map([
        [1, { lastEpoch: 7, logEndOffset: 900, latestEpoch: 12 }],
        [2, { lastEpoch: 9, logEndOffset: 700 }],
      ])
      const { partition } = next(before, all, logs, config, 'event')
      expect(partition).toMatchObject({ leader: 2, leaderEpoch: 13, uncleanEpoch: 13 })
    })

    it('waits while one of them is away', () => {
      const logs = new Map([[1, { lastEpoch: 5, logEndOffset: 1 }]])
      const now = brokers(view(1), view(2, { live: false }), view(3))
      expect(next(before, now, logs, config, 'event').partition.leader).toBe(-1)
    })

    it('waits for a whole member that is merely away', () => {
      const partly = record({ inSyncReplicas: [stale(1), whole(2)] })
      const now = brokers(view(1), view(2, { live: false }), view(3))
      const logs = new Map([[1, { lastEpoch: 5, logEndOffset: 1 }]])
      expect(next(partly, now, logs, config, 'event').partition.leader).toBe(-1)
    })

    it('with async flush elects only a replica set of one: nothing better can come back', () => {
      const async = { ...config, commitFlush: false }
      const logs = new Map([
        [1, { lastEpoch: 5, logEndOffset: 1 }],
        [2, { lastEpoch: 5, logEndOffset: 2 }],
      ])
      expect(next(before, all, logs, async, 'event').partition.leader).toBe(-1)
      const single = record({ replicas: [1], inSyncReplicas: [stale(1)], minInSync: 1 })
      const { partition } = next(single, brokers(view(1)), logs, async, 'event')
      expect(partition).toMatchObject({
        leader: 1,
        leaderEpoch: 6,
        uncleanEpoch: 6,
        recovering: true,
      })
    })
  })

  it('elects uncleanly only where the topic allows it and the wait has run out', () => {
    const before = record({ inSyncReplicas: [whole(1)], leader: -1, leaderIncarnation: '' })
    const now = brokers(view(1, { live: false }), view(2), view(3))
    const logs = new Map([
      [2, { lastEpoch: 5, logEndOffset: 1 }],
      [3, { lastEpoch: 5, logEndOffset: 2 }],
    ])
    const allowed = { ...config, uncleanElection: true }
    expect(next(before, now, logs, config, 'timeout').partition.leader).toBe(-1)
    expect(next(before, now, logs, allowed, 'event').partition.leader).toBe(-1)
    const { partition } = next(before, now, logs, allowed, 'timeout')
    expect(partition).toMatchObject({ leader: 3, recovering: true })
    expect(partition.uncleanEpoch).toBe(partition.leaderEpoch)
  })

  const member = fc.record({ broker: fc.integer({ min: 1, max: 4 }), dataEpoch: fc.nat(3) })
  const members = fc.uniqueArray(member, { maxLength: 4, selector: (m) => m.broker })
  const partition = fc
    .record({
      replicas: fc.uniqueArray(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 4 }),
      leader: fc.constantFrom(-1, 1, 2, 3, 4),
      leaderIncarnation: fc.constantFrom('a', 'b'),
      leaderEpoch: fc.nat(9),
      partitionEpoch: fc.nat(9),
      inSyncReplicas: members,
      eligibleReplicas: members,
      known: members,
      lastLeader: fc.option(member),
      minInSync: fc.integer({ min: 1, max: 3 }),
      uncleanEpoch: fc.nat(3),
      recovering: fc.boolean(),
    })
    .map((value) => {
      const isReplica = (m: Member) => value.replicas.includes(m.broker)
      return record({
        ...value,
        uncleanEpoch: Math.min(value.uncleanEpoch, value.leaderEpoch),
        leaderIncarnation: value.leader < 0 ? '' : value.leaderIncarnation,
        inSyncReplicas: value.inSyncReplicas.filter(isReplica),
        eligibleReplicas: value.eligibleReplicas.filter(
          (m) => isReplica(m) && !value.inSyncReplicas.some((x) => x.broker === m.broker),
        ),
      })
    })
  const broker = (nodeId: number) =>
    fc.record({
      nodeId: fc.constant(nodeId),
      live: fc.boolean(),
      incarnation: fc.constantFrom('a', 'b'),
      state: fc.constantFrom('FENCED' as const, 'ACTIVE' as const, 'DRAINING' as const),
      dataEpoch: fc.nat(3),
      directoryOnline: fc.boolean(),
    })
  const world = fc
    .tuple(broker(1), broker(2), broker(3), broker(4))
    .map((views) => brokers(...views))
  const logs = fc
    .uniqueArray(
      fc.record({
        id: fc.integer({ min: 1, max: 4 }),
        lastEpoch: fc.nat(3),
        logEndOffset: fc.nat(9),
      }),
      { selector: (entry) => entry.id },
    )
    .map((entries) => new Map(entries.map((entry) => [entry.id, entry])))
  const settings = fc.record({ uncleanElection: fc.boolean(), commitFlush: fc.boolean() })
  const cause = fc.constantFrom('event' as const, 'timeout' as const)

  it('keeps its invariants for any partition, brokers and logs', () => {
    fc.assert(
      fc.property(partition, world, logs, settings, cause, (before, now, known, how, why) => {
        const { partition: after, changed } = next(before, now, known, how, why)
        // I2
        expect(after.leaderEpoch).toBeGreaterThanOrEqual(before.leaderEpoch)
        expect(after.partitionEpoch).toBe(before.partitionEpoch + (changed ? 1 : 0))
        const moved =
          after.leader !== before.leader || after.leaderIncarnation !== before.leaderIncarnation
        const recovered = after.uncleanEpoch !== before.uncleanEpoch
        const epochs = [...known.values()].map(({ lastEpoch }) => lastEpoch)
        const epochBefore = Math.max(before.leaderEpoch, ...(recovered ? epochs : []))
        expect(after.leaderEpoch).toBe(epochBefore + (moved || recovered ? 1 : 0))
        if (after.leader >= 0) {
          const leader = now.get(after.leader)
          expect(leader?.live && leader.state !== 'FENCED' && leader.directoryOnline).toBe(true)
          expect(leader?.incarnation).toBe(after.leaderIncarnation)
          // I11
          expect(after.inSyncReplicas).toContainEqual({
            broker: after.leader,
            dataEpoch: leader?.dataEpoch,
          })
          const wasMember = [...before.inSyncReplicas, ...before.eligibleReplicas].some(
            (m) => m.broker === after.leader && m.dataEpoch === leader?.dataEpoch,
          )
          // I4: an election outside of the members is marked.
          if (!wasMember) expect(after.uncleanEpoch).toBe(after.leaderEpoch)
        }
        for (const entry of after.inSyncReplicas) {
          expect(now.get(entry.broker)?.dataEpoch).toBe(entry.dataEpoch)
        }
        if (after.inSyncReplicas.length >= after.minInSync) {
          expect(after.eligibleReplicas).toEqual([])
          expect(after.known).toEqual([])
        }
        // Level-triggered: the same views change nothing more.
        const again = next(after, now, known, how, why)
        expect(again.changed).toBe(false)
      }),
      { numRuns: Number(process.env['FUZZ_RUNS'] ?? 3000) },
    )
  })
})
