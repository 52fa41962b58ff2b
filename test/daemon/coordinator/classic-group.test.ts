import { describe, expect, it } from 'vitest'
import {
  ClassicGroup,
  type ClassicGroupOptions,
} from '../../../daemon/coordinator/classic-group.ts'
import type {
  JoinAnswer,
  JoinRequest,
  SyncAnswer,
} from '../../../daemon/coordinator/group-member.ts'
import type { StoredGroup } from '../../../daemon/coordinator/group-records.ts'
import { encodeSubscription } from '../../../src/protocol/consumer-metadata.ts'
import { KafkaError } from '../../../src/protocol/errors.ts'

const bytes = (text: string) => Uint8Array.from(Buffer.from(text))

/** One group with a hand on its clock and its store. */
class Bench {
  nowMs = 0
  readonly stores: { group: StoredGroup; done: (errorCode: number, nowMs: number) => void }[] = []
  readonly group: ClassicGroup
  holdsStores = false
  #ids = 0

  constructor(options: Partial<ClassicGroupOptions> = {}) {
    this.group = new ClassicGroup(
      'g',
      () => ({ initialRebalanceDelayMs: 0, sizeMax: 100, ...options }),
      (group, done) => {
        if (this.holdsStores) this.stores.push({ group, done })
        else done(0, this.nowMs)
      },
      () => 1_790_000_000_000 + this.nowMs,
    )
  }

  join(change: Partial<JoinRequest> = {}): JoinAnswer[] {
    const answers: JoinAnswer[] = []
    this.group.join(
      this.nowMs,
      {
        memberId: '',
        groupInstanceId: null,
        clientId: 'c',
        clientHost: '/h',
        sessionTimeoutMs: 10_000,
        rebalanceTimeoutMs: 30_000,
        protocolType: 'consumer',
        protocols: [{ name: 'range', metadata: bytes('m') }],
        requiresKnownMemberId: false,
        canSkipAssignment: true,
        newMemberSuffix: `${++this.#ids}`,
        ...change,
      },
      (answer) => answers.push(answer),
    )
    this.group.verify()
    return answers
  }

  sync(
    memberId: string,
    generationId: number,
    assignments: Record<string, string> = {},
    change = {},
  ): SyncAnswer[] {
    const answers: SyncAnswer[] = []
    this.group.sync(
      this.nowMs,
      {
        memberId,
        groupInstanceId: null,
        generationId,
        protocolType: null,
        protocolName: null,
        assignments: new Map(Object.entries(assignments).map(([id, text]) => [id, bytes(text)])),
        ...change,
      },
      (answer) => answers.push(answer),
    )
    this.group.verify()
    return answers
  }

  beat(memberId: string, generationId: number, groupInstanceId: string | null = null): number {
    return this.group.heartbeat(this.nowMs, { memberId, groupInstanceId }, generationId)
  }

  leave(memberId: string, groupInstanceId: string | null = null): number {
    const [code] = this.group.leave(this.nowMs, [{ memberId, groupInstanceId }])
    this.group.verify()
    return code as number
  }

  commit(memberId: string, generation: number): number {
    return this.group.checkCommit(this.nowMs, { memberId, groupInstanceId: null }, generation)
  }

  run(ms: number): void {
    const end = this.nowMs + ms
    while (this.group.wakeMs <= end) {
      this.nowMs = Math.max(this.nowMs, this.group.wakeMs)
      this.group.tick(this.nowMs)
      this.group.verify()
    }
    this.nowMs = end
  }
}

/** A group of two in the state wanted: `a` leads, `b` follows. */
function inState(state: ClassicGroup['state']): {
  bench: Bench
  a: string
  b: string
  generation: number
} {
  const bench = new Bench()
  if (state === 'Empty') return { bench, a: 'c-a', b: 'c-b', generation: 0 }
  const first = bench.join()
  const a = first[0]!.memberId
  const second = bench.join()
  const again = bench.join({ memberId: a })
  const b = second[0]!.memberId
  const generation = again[0]!.generationId
  expect(bench.group.state).toBe('CompletingRebalance')
  if (state === 'CompletingRebalance') return { bench, a, b, generation }
  bench.sync(b, generation)
  bench.sync(a, generation, { [a]: 'to a', [b]: 'to b' })
  expect(bench.group.state).toBe('Stable')
  if (state === 'PreparingRebalance') bench.join({ memberId: a })
  if (state === 'Dead') bench.group.die()
  expect(bench.group.state).toBe(state)
  return { bench, a, b, generation }
}

const E = KafkaError

describe('each state and each request', () => {
  it.each([
    ['Empty', E.UNKNOWN_MEMBER_ID, E.UNKNOWN_MEMBER_ID, E.UNKNOWN_MEMBER_ID, E.UNKNOWN_MEMBER_ID],
    ['PreparingRebalance', 'parked', E.REBALANCE_IN_PROGRESS, E.REBALANCE_IN_PROGRESS, 0],
    ['CompletingRebalance', 0, 'parked', 0, E.REBALANCE_IN_PROGRESS],
    ['Stable', 0, 0, 0, 0],
    [
      'Dead',
      E.COORDINATOR_NOT_AVAILABLE,
      E.COORDINATOR_NOT_AVAILABLE,
      E.COORDINATOR_NOT_AVAILABLE,
      E.COORDINATOR_NOT_AVAILABLE,
    ],
  ] as const)(
    '%s: join %s, sync %s, heartbeat %s, commit %s of a member',
    (state, join, sync, beat, commit) => {
      const codeOf = (answers: readonly { errorCode: number }[]) =>
        answers[0]?.errorCode ?? 'parked'
      const place = () => inState(state)
      const one = place()
      // `b` joins unchanged; in PreparingRebalance that completes the rebalance, so `a` is the one that has to wait there.
      if (state === 'PreparingRebalance') {
        one.bench.join()
        expect(codeOf(one.bench.join({ memberId: one.a }))).toBe(join)
      } else expect(codeOf(one.bench.join({ memberId: one.b }))).toBe(join)
      const two = place()
      expect(codeOf(two.bench.sync(two.b, two.generation))).toBe(sync)
      const three = place()
      expect(three.bench.beat(three.b, three.generation)).toBe(beat)
      const four = place()
      expect(four.bench.commit(four.b, Math.max(four.generation, 1))).toBe(commit)
    },
  )

  it.each(['PreparingRebalance', 'CompletingRebalance', 'Stable'] as const)(
    '%s: who is unknown, of another generation, or another protocol is refused',
    (state) => {
      const { bench, b, generation } = inState(state)
      expect(bench.beat('x', generation)).toBe(E.UNKNOWN_MEMBER_ID)
      expect(bench.beat(b, generation - 1)).toBe(E.ILLEGAL_GENERATION)
      expect(bench.sync('x', generation)[0]?.errorCode).toBe(E.UNKNOWN_MEMBER_ID)
      expect(bench.sync(b, generation + 1)[0]?.errorCode).toBe(E.ILLEGAL_GENERATION)
      expect(bench.sync(b, generation, {}, { protocolName: 'other' })[0]?.errorCode).toBe(
        E.INCONSISTENT_GROUP_PROTOCOL,
      )
      expect(bench.commit('x', generation)).toBe(E.UNKNOWN_MEMBER_ID)
      expect(bench.commit('', -1)).toBe(E.UNKNOWN_MEMBER_ID)
      expect(bench.commit(b, generation - 1)).toBe(E.ILLEGAL_GENERATION)
      expect(bench.leave('x')).toBe(E.UNKNOWN_MEMBER_ID)
      expect(bench.join({ memberId: 'x' })[0]?.errorCode).toBe(E.UNKNOWN_MEMBER_ID)
      expect(bench.join({ protocols: [{ name: 'mine', metadata: bytes('') }] })[0]?.errorCode).toBe(
        E.INCONSISTENT_GROUP_PROTOCOL,
      )
      expect(bench.join({ protocolType: 'connect' })[0]?.errorCode).toBe(
        E.INCONSISTENT_GROUP_PROTOCOL,
      )
    },
  )
})

describe('rebalances', () => {
  it('the leader alone gets the members; each gets its assignment, once it is stored', () => {
    const { bench, a, b, generation } = inState('CompletingRebalance')
    bench.holdsStores = true
    const follower = bench.sync(b, generation)
    const leader = bench.sync(a, generation, { [a]: 'to a', [b]: 'to b' })
    expect([follower, leader]).toEqual([[], []])
    expect(
      bench.stores[0]?.group.members.map((each) => Buffer.from(each.assignment).toString()),
    ).toEqual(['to a', 'to b'])
    bench.stores[0]?.done(0, bench.nowMs)
    expect(Buffer.from(follower[0]!.assignment).toString()).toBe('to b')
    expect(Buffer.from(leader[0]!.assignment).toString()).toBe('to a')
    expect(bench.group.state).toBe('Stable')
  })

  it('an assignment that could not be stored is handed to nobody, and all join anew', () => {
    const { bench, a, b, generation } = inState('CompletingRebalance')
    bench.holdsStores = true
    const follower = bench.sync(b, generation)
    const leader = bench.sync(a, generation, { [a]: 'x', [b]: 'y' })
    bench.stores[0]?.done(E.COORDINATOR_NOT_AVAILABLE, bench.nowMs)
    expect([follower[0]?.errorCode, leader[0]?.errorCode]).toEqual([
      E.COORDINATOR_NOT_AVAILABLE,
      E.COORDINATOR_NOT_AVAILABLE,
    ])
    expect(bench.group.state).toBe('PreparingRebalance')
  })

  it('an assignment of a generation that is over is handed to nobody', () => {
    const { bench, a, b, generation } = inState('CompletingRebalance')
    bench.holdsStores = true
    const leader = bench.sync(a, generation, { [a]: 'x', [b]: 'y' })
    bench.join()
    expect(leader[0]?.errorCode).toBe(E.REBALANCE_IN_PROGRESS)
    bench.stores[0]?.done(0, bench.nowMs)
    expect(bench.group.state).toBe('PreparingRebalance')
  })

  it('who does not join in time is dropped; static members stay until their session ends', () => {
    const bench = new Bench()
    const fixed = bench.join({ groupInstanceId: 'one', sessionTimeoutMs: 60_000 })[0]!
    bench.sync(fixed.memberId, fixed.generationId, {}, { groupInstanceId: 'one' })
    const loose = bench.join()
    bench.join({ memberId: fixed.memberId, groupInstanceId: 'one', sessionTimeoutMs: 60_000 })
    expect(loose[0]?.errorCode).toBe(0)
    bench.sync(fixed.memberId, loose[0]!.generationId, {}, { groupInstanceId: 'one' })
    bench.sync(loose[0]!.memberId, loose[0]!.generationId)
    // A third joins; the others are silent.
    const third = bench.join()
    bench.run(30_000)
    expect(third[0]?.errorCode).toBe(0)
    expect([...bench.group.members].map((each) => each.groupInstanceId)).toEqual(['one', null])
    expect(bench.group.leader).toBe(third[0]?.memberId)
    bench.sync(third[0]!.memberId, third[0]!.generationId)
    bench.nowMs += 1
    bench.run(5000)
    bench.beat(third[0]!.memberId, third[0]!.generationId)
    bench.run(60_000)
    expect([...bench.group.members]).toHaveLength(0)
    expect(bench.group.state).toBe('Empty')
  })

  it('the first rebalance waits for more members, at most for the rebalance timeout', () => {
    const bench = new Bench({ initialRebalanceDelayMs: 3000 })
    const first = bench.join()
    bench.run(2000)
    const second = bench.join()
    bench.run(1500)
    expect(first).toEqual([])
    bench.run(2600)
    expect(first[0]).toMatchObject({ errorCode: 0, generationId: 1, members: [{}, {}] })
    expect(second[0]).toMatchObject({ errorCode: 0, members: [] })
  })

  it('who joined and never asks for its assignment is dropped', () => {
    const { bench, a, b, generation } = inState('CompletingRebalance')
    bench.sync(a, generation, { [a]: 'x', [b]: 'y' })
    for (let step = 0; step < 5; step += 1) {
      bench.run(6500)
      bench.beat(a, generation)
      bench.beat(b, generation)
    }
    expect([...bench.group.members].map((each) => each.memberId)).toEqual([a])
    expect(bench.group.state).toBe('PreparingRebalance')
  })

  it('a member whose session ends is dropped; waiting for others keeps it alive', () => {
    const { bench, a, b, generation } = inState('Stable')
    const rejoined = bench.join({ memberId: a })
    bench.run(9000)
    expect(bench.beat(b, generation)).toBe(E.REBALANCE_IN_PROGRESS)
    bench.run(9000)
    expect(rejoined).toEqual([])
    bench.run(2000)
    // b was silent too long; a had waited longer, and is there.
    expect(rejoined[0]).toMatchObject({ errorCode: 0, members: [{ memberId: a }] })
  })

  it('the id given to a member that never joins is forgotten', () => {
    const bench = new Bench()
    const first = bench.join({ requiresKnownMemberId: true })[0]!
    expect(first.errorCode).toBe(E.MEMBER_ID_REQUIRED)
    expect(bench.group.isUnused).toBe(false)
    bench.run(10_000)
    expect(bench.group.isUnused).toBe(true)
    expect(bench.join({ memberId: first.memberId })[0]?.errorCode).toBe(E.UNKNOWN_MEMBER_ID)
  })

  it('the protocol is one that all support, with the most first votes', () => {
    const bench = new Bench({ initialRebalanceDelayMs: 10 })
    const of = (...names: string[]) => ({
      protocols: names.map((name) => ({ name, metadata: bytes(name) })),
    })
    const answers = [
      bench.join(of('x', 'y', 'z')),
      bench.join(of('y', 'z')),
      bench.join(of('z', 'y')),
    ]
    bench.run(100)
    expect(answers.map((answer) => answer[0]?.protocolName)).toEqual(['y', 'y', 'y'])
    expect(Buffer.from(answers[0]![0]!.members[2]!.metadata).toString()).toBe('y')
  })

  it('a full group takes nobody', () => {
    const bench = new Bench({ sizeMax: 1 })
    bench.join()
    expect(bench.join()[0]?.errorCode).toBe(E.GROUP_MAX_SIZE_REACHED)
  })
})

describe('static members', () => {
  const subscribe = (topics: string[], generationId = -1) => ({
    protocols: [
      {
        name: 'range',
        metadata: encodeSubscription({ topics, userData: null, ownedPartitions: [], generationId }),
      },
    ],
  })

  function stable() {
    const bench = new Bench({ initialRebalanceDelayMs: 10 })
    const one = bench.join({ groupInstanceId: 'one', ...subscribe(['t']) })
    const two = bench.join({ groupInstanceId: 'two', ...subscribe(['t']) })
    bench.run(100)
    const generation = one[0]!.generationId
    const [a, b] = [one[0]!.memberId, two[0]!.memberId]
    bench.sync(b, generation, {}, { groupInstanceId: 'two' })
    bench.sync(a, generation, { [a]: 'to a', [b]: 'to b' }, { groupInstanceId: 'one' })
    expect(bench.group.state).toBe('Stable')
    return { bench, a, b, generation }
  }

  it('one that comes back gets its assignment again, without a rebalance; the old id is fenced', () => {
    const { bench, b, generation } = stable()
    const back = bench.join({ groupInstanceId: 'two', ...subscribe(['t'], 4) })[0]!
    expect(back).toMatchObject({ errorCode: 0, generationId: generation, members: [] })
    expect(back.memberId).not.toBe(b)
    expect(bench.group.state).toBe('Stable')
    const synced = bench.sync(back.memberId, generation, {}, { groupInstanceId: 'two' })
    expect(Buffer.from(synced[0]!.assignment).toString()).toBe('to b')
    expect(bench.beat(b, generation, 'two')).toBe(E.FENCED_INSTANCE_ID)
    expect(bench.beat(back.memberId, generation, 'two')).toBe(0)
  })

  it('a leader that comes back is told to skip the assignment, an old client that it follows', () => {
    const { bench, a } = stable()
    const back = bench.join({ groupInstanceId: 'one', ...subscribe(['t']) })[0]!
    expect(back).toMatchObject({ errorCode: 0, skipAssignment: true, leader: back.memberId })
    expect(back.members).toHaveLength(2)
    const old = bench.join({
      groupInstanceId: 'one',
      canSkipAssignment: false,
      ...subscribe(['t']),
    })[0]!
    expect(old).toMatchObject({
      errorCode: 0,
      skipAssignment: false,
      leader: back.memberId,
      members: [],
    })
    expect(old.memberId).not.toBe(a)
  })

  it('one that comes back for other topics makes a rebalance', () => {
    const { bench } = stable()
    expect(bench.join({ groupInstanceId: 'two', ...subscribe(['u']) })).toEqual([])
    expect(bench.group.state).toBe('PreparingRebalance')
  })

  it('leaves by its instance id when an administrator says so', () => {
    const { bench } = stable()
    expect(bench.leave('', 'two')).toBe(0)
    expect(bench.leave('', 'two')).toBe(E.UNKNOWN_MEMBER_ID)
    expect(bench.leave('wrong', 'one')).toBe(E.FENCED_INSTANCE_ID)
  })
})

it('a group that was stored is there again, with its members, leader and generation', () => {
  const { bench, a, b, generation } = inState('Stable')
  const stored = bench.group.toStored()
  const again = new Bench()
  again.group.restore(stored, again.nowMs)
  expect(again.group).toMatchObject({
    state: 'Stable',
    generation,
    leader: a,
    protocolName: 'range',
  })
  expect(again.beat(b, generation)).toBe(0)
  expect(Buffer.from(again.sync(b, generation)[0]!.assignment).toString()).toBe('to b')
  // An unchanged follower stays where it is.
  expect(again.join({ memberId: b })[0]).toMatchObject({ errorCode: 0, generationId: generation })
})
