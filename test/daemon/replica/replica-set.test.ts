import { describe, expect, it } from 'vitest'
import type { PartitionValue } from '../../../daemon/metadata/metadata-values.ts'
import { initialPartition } from '../../../daemon/metadata/topic-transactions.ts'
import {
  type FollowerFetch,
  type LeaderLog,
  ReplicaSet,
  type Surroundings,
} from '../../../daemon/replica/replica-set.ts'

const LEADER = 1

/** Brokers 1 to 3, all in sync with data epoch 10 × id; 1 leads at epoch 5. */
function recordOf(change: Partial<PartitionValue> = {}): PartitionValue {
  const replicas = [1, 2, 3].map((broker) => ({ broker, dataEpoch: broker * 10 }))
  const value = initialPartition({
    replicas,
    leaderIncarnation: 'i',
    minInSync: 2,
    writer: { epoch: 1, counter: 1 },
  })
  return { ...value, leaderEpoch: 5, partitionEpoch: 5, ...change }
}

const inSync = (...brokers: number[]) =>
  brokers.map((broker) => ({ broker, dataEpoch: broker * 10 }))

class Bench {
  readonly set: ReplicaSet
  logStartOffset = 0
  logEndOffset = 100
  highWatermark = 0
  nowMs = 1000
  isCommitFlush = true
  inactive = new Set<number>()
  full = new Set<number>()
  dataEpochs = new Map<number, number>()
  #number = 0

  constructor(value = recordOf(), epochStart = 0) {
    this.set = new ReplicaSet(LEADER, value, 7, epochStart, this.nowMs)
  }

  get log(): LeaderLog {
    const { logStartOffset, logEndOffset } = this
    return {
      logStartOffset,
      logEndOffset,
      endOffsetForEpoch: (epoch) =>
        epoch >= 5
          ? epoch === 5
            ? { epoch, endOffset: logEndOffset }
            : undefined
          : { epoch: Math.min(epoch, 3), endOffset: 50 },
    }
  }

  get around(): Surroundings {
    return {
      nowMs: this.nowMs,
      lagMsMax: 30_000,
      highWatermark: this.highWatermark,
      logEndOffset: this.logEndOffset,
      isCommitFlush: this.isCommitFlush,
      registrationOf: (nodeId) => (this.inactive.has(nodeId) ? undefined : 1000 + nodeId),
      dataEpochOf: (nodeId) => this.dataEpochs.get(nodeId) ?? nodeId * 10,
      isFull: (nodeId) => this.full.has(nodeId),
    }
  }

  fetch(replicaId: number, offset: number, change: Partial<FollowerFetch> = {}) {
    this.#number += 1
    return this.set.onFetch(
      {
        replicaId,
        sessionEpoch: 100 + replicaId,
        dataEpoch: replicaId * 10,
        fetchNumber: this.#number,
        leaderEpoch: 5,
        fetchOffset: offset,
        logStartOffset: 0,
        lastFetchedEpoch: 5,
        cleanOffset: 0,
        durableOffset: offset,
        since: -1,
        ...change,
      },
      this.log,
      this.around,
    )
  }

  candidate(own = this.logEndOffset): number | undefined {
    return this.set.highWatermarkCandidate(own, this.around)
  }

  propose() {
    return this.set.propose(this.around)
  }
}

const read = { kind: 'read' }

describe('a fetch of a follower', () => {
  it('is answered only in this epoch', () => {
    const bench = new Bench()
    expect(bench.fetch(2, 0, { leaderEpoch: 4 })).toEqual({ kind: 'refused', why: 'fencedEpoch' })
    expect(bench.fetch(2, 0, { leaderEpoch: 6 })).toEqual({ kind: 'refused', why: 'unknownEpoch' })
    expect(bench.fetch(4, 0)).toEqual({ kind: 'refused', why: 'notReplica' })
    expect(bench.set.position(2)).toBeUndefined()
  })

  it('of an older session of the broker, or an older one of this, is ignored', () => {
    const bench = new Bench()
    expect(bench.fetch(2, 40, { fetchNumber: 9 })).toEqual(read)
    expect(bench.fetch(2, 80, { sessionEpoch: 1, fetchNumber: 20 })).toMatchObject({
      why: 'staleFetch',
    })
    expect(bench.fetch(2, 80, { fetchNumber: 8 })).toMatchObject({ why: 'staleFetch' })
    expect(bench.set.position(2)?.logEndOffset).toBe(40)
    expect(bench.fetch(2, 80, { sessionEpoch: 500, fetchNumber: 1 })).toEqual(read)
    expect(bench.set.position(2)?.logEndOffset).toBe(80)
  })

  it('with the log of before it was left out and given again counts for nothing', () => {
    const bench = new Bench(recordOf({ partitionEpoch: 9, since: { 2: 8 } }))
    const why = 'staleFetch'
    expect(bench.fetch(2, 80, { since: 0 })).toMatchObject({ why })
    expect(bench.fetch(2, 80, { since: 7 })).toMatchObject({ why })
    expect(bench.set.position(2)).toBeUndefined()
    // What it is given now begins anew, and has lost nothing.
    expect(bench.fetch(2, 0, { since: 8, lastFetchedEpoch: -1 })).toEqual(read)
    expect(bench.fetch(3, 80, { since: 0 })).toEqual(read)
  })

  it('of who was left out and given again between two records that are seen is not held against what it had', () => {
    const bench = new Bench()
    expect(bench.fetch(2, 80, { since: 0 })).toEqual(read)
    const record = recordOf({ partitionEpoch: 9, inSyncReplicas: inSync(1, 3), since: { 2: 8 } })
    bench.set.adopt(record, 8, bench.nowMs)
    expect(bench.set.position(2)).toBeUndefined()
    expect(bench.propose()).toBeUndefined()
    expect(bench.fetch(2, 0, { since: 8, lastFetchedEpoch: -1 })).toEqual(read)
    // Numbers go on rising: what was sent before is still old.
    expect(bench.fetch(2, 0, { since: 8, fetchNumber: 1 })).toMatchObject({ why: 'staleFetch' })
  })

  it('that diverges counts for nothing', () => {
    const bench = new Bench()
    expect(bench.fetch(2, 60, { lastFetchedEpoch: 3 })).toEqual({
      kind: 'diverging',
      end: { epoch: 3, endOffset: 50 },
    })
    expect(bench.fetch(2, 50, { lastFetchedEpoch: 4 })).toEqual({
      kind: 'diverging',
      end: { epoch: 3, endOffset: 50 },
    })
    expect(bench.fetch(2, 101)).toEqual({
      kind: 'diverging',
      end: { epoch: 5, endOffset: 100 },
    })
    expect(bench.set.position(2)).toBeUndefined()
    expect(bench.fetch(2, 50, { lastFetchedEpoch: 3 })).toEqual(read)
  })

  it('below the log start is told so before it is told to cut', () => {
    const bench = new Bench()
    bench.logStartOffset = 60
    expect(bench.fetch(2, 10, { lastFetchedEpoch: 4 })).toMatchObject({ why: 'belowLogStart' })
  })

  it('whose last epoch ended at the log start begins anew there: what was here at its offsets is forgotten', () => {
    const bench = new Bench()
    bench.logStartOffset = 50
    expect(bench.fetch(2, 50, { lastFetchedEpoch: 3 })).toMatchObject({ why: 'startsOver' })
    expect(bench.set.position(2)).toBeUndefined()
    expect(bench.fetch(2, 50, { lastFetchedEpoch: -1 })).toEqual(read)
  })

  it('with an empty log above the log start begins anew there, but for who has been compared', () => {
    const bench = new Bench(recordOf({ inSyncReplicas: inSync(1, 3) }))
    const isEmpty = { lastFetchedEpoch: -1 }
    expect(bench.fetch(2, 40, isEmpty)).toMatchObject({ why: 'startsOver' })
    expect(bench.set.position(2)).toBeUndefined()
    expect(bench.fetch(3, 40, isEmpty)).toEqual(read)
    expect(bench.fetch(3, 45, { ...isEmpty, dataEpoch: 31, sessionEpoch: 800 })).toMatchObject({
      why: 'startsOver',
    })
    expect(bench.fetch(2, 0, isEmpty)).toEqual(read)
    expect(bench.fetch(2, 10)).toEqual(read)
    expect(bench.fetch(2, 10, isEmpty)).toEqual(read)
  })

  it('that lacks what it had counted with is refused: it has lost data without saying so', () => {
    const bench = new Bench()
    bench.fetch(2, 40)
    expect(bench.fetch(2, 39)).toMatchObject({ why: 'lostData' })
    // Not durable was never counted.
    bench.fetch(2, 80, { durableOffset: 50 })
    expect(bench.fetch(2, 60, { durableOffset: 60, sessionEpoch: 900 })).toEqual(read)
    // It says so: another data epoch.
    expect(bench.fetch(2, 10, { dataEpoch: 77, sessionEpoch: 901 })).toEqual(read)
  })
})

describe('the high watermark', () => {
  it('needs all in-sync replicas, and what they have made durable', () => {
    const bench = new Bench()
    bench.fetch(2, 100)
    expect(bench.candidate()).toBe(Number.NEGATIVE_INFINITY)
    bench.fetch(3, 100, { durableOffset: 60 })
    expect(bench.candidate()).toBe(60)
    expect(bench.candidate(55)).toBe(55)
  })

  it('with async flush counts what is written', () => {
    const bench = new Bench()
    bench.isCommitFlush = false
    bench.fetch(2, 100, { durableOffset: 0 })
    bench.fetch(3, 90, { durableOffset: 0 })
    expect(bench.candidate()).toBe(90)
  })

  it('stands still while fewer than minInSync are in sync (strict)', () => {
    const bench = new Bench(recordOf({ inSyncReplicas: inSync(1) }))
    expect(bench.candidate()).toBeUndefined()
  })

  it('counts nobody who is there with other data than the record names', () => {
    const bench = new Bench()
    bench.fetch(2, 100, { dataEpoch: 99 })
    bench.fetch(3, 100)
    expect(bench.candidate()).toBe(Number.NEGATIVE_INFINITY)
  })

  it('waits for a follower that is about to join, not for one that lags or may not', () => {
    const bench = new Bench(recordOf({ inSyncReplicas: inSync(1, 2) }))
    bench.fetch(2, 100)
    expect(bench.candidate()).toBe(100)
    bench.fetch(3, 70)
    // It was never caught up.
    expect(bench.candidate()).toBe(100)
    bench.fetch(3, 100)
    bench.logEndOffset = 120
    bench.fetch(2, 120)
    expect(bench.candidate()).toBe(100)
    bench.inactive.add(3)
    expect(bench.candidate()).toBe(120)
  })

  it('counts a follower from the moment its joining is proposed, and one until its leaving is confirmed', () => {
    const bench = new Bench(recordOf({ inSyncReplicas: inSync(1, 2) }))
    bench.fetch(2, 100)
    bench.fetch(3, 100)
    expect(bench.propose()?.kind).toBe('expand')
    bench.inactive.add(3)
    bench.logEndOffset = 120
    bench.fetch(2, 120)
    expect(bench.candidate()).toBe(100)

    const other = new Bench()
    other.fetch(2, 100)
    other.fetch(3, 40)
    other.nowMs += 31_000
    other.fetch(2, 100)
    const shrink = other.propose()
    expect(shrink?.value.inSyncReplicas).toEqual(inSync(1, 2))
    expect(other.candidate()).toBe(40)
    other.set.adopt(shrink?.value as PartitionValue, 8, other.nowMs)
    expect(other.candidate()).toBe(100)
  })
})

describe('joining the in-sync replicas', () => {
  const alone = () => new Bench(recordOf({ inSyncReplicas: inSync(1, 2), minInSync: 1 }), 80)

  it('proposes a follower with the guards of T4', () => {
    const bench = alone()
    bench.fetch(3, 100)
    const proposal = bench.propose()
    expect(proposal).toMatchObject({
      kind: 'expand',
      revision: 7,
      follower: { nodeId: 3, sessionEpoch: 103, dataEpoch: 30, registrationRevision: 1003 },
    })
    expect(proposal?.value).toMatchObject({
      inSyncReplicas: inSync(1, 2, 3),
      partitionEpoch: 6,
      leaderEpoch: 5,
    })
  })

  it('rule 1: not while a change is pending, nor while recovering', () => {
    const bench = alone()
    bench.fetch(3, 100)
    expect(bench.propose()).toBeDefined()
    expect(bench.propose()).toBeUndefined()
    const recovering = new Bench(recordOf({ inSyncReplicas: inSync(1), recovering: true }))
    recovering.fetch(3, 100)
    expect(recovering.propose()).toMatchObject({ kind: 'recovered', value: { recovering: false } })
  })

  it('rule 2: not below the high watermark, in what is durable', () => {
    const bench = alone()
    bench.highWatermark = 90
    bench.fetch(3, 100, { durableOffset: 89 })
    expect(bench.propose()).toBeUndefined()
    bench.fetch(3, 100, { durableOffset: 90 })
    expect(bench.propose()?.kind).toBe('expand')
  })

  it('rule 3: not below the start of this epoch', () => {
    const bench = alone()
    bench.fetch(3, 79)
    expect(bench.propose()).toBeUndefined()
    bench.fetch(3, 80)
    expect(bench.propose()?.kind).toBe('expand')
  })

  it('rule 4: only after a fetch in this epoch', () => {
    const bench = new Bench(recordOf({ inSyncReplicas: inSync(1, 2), minInSync: 1 }))
    bench.fetch(2, 100)
    expect(bench.propose()).toBeUndefined()
  })

  it('rule 5: only an active broker', () => {
    const bench = alone()
    bench.inactive.add(3)
    bench.fetch(3, 100)
    expect(bench.propose()).toBeUndefined()
  })

  it('rule 6: below minInSync only one that is caught up', () => {
    const bench = new Bench(recordOf({ inSyncReplicas: inSync(1) }))
    bench.fetch(3, 60)
    expect(bench.propose()).toBeUndefined()
    bench.fetch(3, 100)
    expect(bench.propose()?.kind).toBe('expand')
  })

  it('ends the eligible replicas once enough are in sync, else takes out the one that joined', () => {
    const few = { inSyncReplicas: inSync(1), eligibleReplicas: inSync(2, 3), known: inSync(3) }
    const enough = new Bench(recordOf(few))
    enough.fetch(3, 100)
    expect(enough.propose()?.value).toMatchObject({ eligibleReplicas: [], known: [] })
    const tooFew = new Bench(recordOf({ ...few, minInSync: 3 }))
    tooFew.fetch(3, 100)
    expect(tooFew.propose()?.value).toMatchObject({
      eligibleReplicas: inSync(2),
      known: inSync(3),
    })
  })
})

describe('leaving the in-sync replicas', () => {
  it('takes out who was not caught up for replica.lag.time.max.ms', () => {
    const bench = new Bench()
    bench.fetch(2, 100)
    bench.fetch(3, 60)
    bench.nowMs += 30_000
    expect(bench.propose()).toBeUndefined()
    bench.nowMs += 1
    const proposal = bench.propose()
    expect(proposal).toMatchObject({ kind: 'shrink', follower: undefined })
    expect(proposal?.value.inSyncReplicas).toEqual(inSync(1, 2))
  })

  it('keeps who follows a moving end at some distance', () => {
    const bench = new Bench()
    for (let round = 0; round < 100; round += 1) {
      bench.nowMs += 1000
      bench.logEndOffset += 100
      bench.fetch(2, bench.logEndOffset)
      bench.fetch(3, bench.logEndOffset - 100)
    }
    expect(bench.propose()).toBeUndefined()
  })

  it('takes out at once who has other data than the record names', () => {
    const bench = new Bench()
    bench.fetch(2, 100)
    bench.fetch(3, 0, { dataEpoch: 99 })
    bench.dataEpochs.set(3, 99)
    expect(bench.set.maybeHasProposal(3)).toBe(true)
    expect(bench.propose()?.value.inSyncReplicas).toEqual(inSync(1, 2))
  })

  it('below minInSync the leavers stay eligible; those with other data are only known', () => {
    const bench = new Bench()
    bench.dataEpochs.set(3, 99)
    bench.nowMs += 31_000
    const proposal = bench.propose()
    expect(proposal?.value).toMatchObject({
      inSyncReplicas: inSync(1),
      eligibleReplicas: inSync(2),
      known: inSync(3),
    })
  })
})

describe('a pending proposal', () => {
  it('is decided by a later record, by its refusal, by nothing else', () => {
    const bench = new Bench()
    bench.nowMs += 31_000
    const proposal = bench.propose()
    bench.set.adopt(recordOf({ partitionEpoch: 9 }), 7, bench.nowMs)
    expect(bench.set.pending).toBe(proposal)
    bench.set.adopt(recordOf({ partitionEpoch: 9 }), 8, bench.nowMs)
    expect(bench.set.pending).toBeUndefined()
    const second = bench.propose()
    expect(second?.revision).toBe(8)
    if (proposal !== undefined) bench.set.refused(proposal)
    expect(bench.set.pending).toBe(second)
    if (second !== undefined) bench.set.refused(second)
    expect(bench.set.pending).toBeUndefined()
  })
})
