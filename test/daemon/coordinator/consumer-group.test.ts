import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  ConsumerGroup,
  type ConsumerGroupOptions,
} from '../../../daemon/coordinator/consumer-group.ts'
import type { ConsumerChange } from '../../../daemon/coordinator/consumer-group-records.ts'
import {
  findRequestDefect,
  type HeartbeatAnswer,
  type HeartbeatRequest,
  isRefusal,
} from '../../../daemon/coordinator/consumer-heartbeat.ts'
import { decodeRecord, encodeConsumerChange } from '../../../daemon/coordinator/group-records.ts'
import {
  isSame,
  NO_PARTITIONS,
  type Partitions,
  partitionsOf,
  rowsOf,
} from '../../../daemon/coordinator/partition-sets.ts'
import { KafkaError } from '../../../src/protocol/errors.ts'

const SESSION_MS = 10_000

/** One group with a hand on its clock and its topics; every change goes through its record and back. */
class Bench {
  nowMs = 0
  readonly counts = new Map<string, number>()
  readonly log: ConsumerChange[] = []
  group: ConsumerGroup
  readonly #options: ConsumerGroupOptions

  constructor(
    topics: Readonly<Record<string, number>>,
    options: Partial<ConsumerGroupOptions> = {},
  ) {
    for (const [name, count] of Object.entries(topics)) this.counts.set(name, count)
    this.#options = {
      sessionTimeoutMs: SESSION_MS,
      sizeMax: 100,
      assignors: ['uniform', 'range'],
      mayBecomeClassic: true,
      ...options,
    }
    this.group = this.#make()
  }

  #make(): ConsumerGroup {
    return new ConsumerGroup(
      'g',
      () => this.#options,
      {
        find: (name) => {
          const partitions = this.counts.get(name)
          return partitions === undefined ? undefined : { topicId: idOf(name), partitions }
        },
        nameOf: (topicId) => [...this.counts.keys()].find((name) => idOf(name) === topicId),
        names: () => this.counts.keys(),
      },
      () => this.nowMs,
    )
  }

  beat(memberId: string, memberEpoch: number, change: Partial<HeartbeatRequest> = {}) {
    const result = this.group.heartbeat(this.nowMs, request(memberId, memberEpoch, change))
    this.keep()
    return result
  }

  join(
    memberId: string,
    topics: readonly string[] = ['t'],
    change: Partial<HeartbeatRequest> = {},
  ) {
    return this.beat(memberId, 0, {
      topicNames: topics,
      owned: NO_PARTITIONS,
      rebalanceTimeoutMs: 30_000,
      ...change,
    })
  }

  tick(ms: number): void {
    this.nowMs += ms
    this.group.tick(this.nowMs)
    this.keep()
  }

  topics(change: Readonly<Record<string, number | undefined>>): void {
    for (const [name, count] of Object.entries(change)) {
      if (count === undefined) this.counts.delete(name)
      else this.counts.set(name, count)
    }
    this.group.noteTopics()
  }

  keep(): void {
    for (const change of this.group.takeChanges()) {
      const { key, value } = encodeConsumerChange('g', change)
      const record = decodeRecord(key, value)
      if (record.kind !== 'consumer') throw new Error('it is a record of a consumer group')
      expect(record).toEqual({ kind: 'consumer', group: 'g', change })
      this.log.push(record.change)
    }
    this.group.state.verify()
  }

  /** Another process, with what the log holds; compacted: only the last record of each key, and no tombstones. */
  restart(isCompacted: boolean): void {
    const last = new Map<string, number>()
    for (const [index, change] of this.log.entries()) last.set(keyOf(change), index)
    this.group = this.#make()
    for (const [index, change] of this.log.entries()) {
      if (isCompacted && (last.get(keyOf(change)) !== index || change.value === undefined)) continue
      this.group.restore(change)
    }
    this.group.begin(this.nowMs)
    this.group.state.verify()
  }
}

function keyOf(change: ConsumerChange): string {
  return `${change.kind}/${'memberId' in change ? change.memberId : ''}`
}

function idOf(name: string): string {
  return Buffer.from(name.padEnd(16, '.')).toString('base64url')
}

function request(
  memberId: string,
  memberEpoch: number,
  change: Partial<HeartbeatRequest>,
): HeartbeatRequest {
  return {
    memberId,
    memberEpoch,
    instanceId: null,
    rackId: null,
    clientId: 'c',
    clientHost: '/h',
    rebalanceTimeoutMs: -1,
    topicNames: null,
    topicRegex: null,
    serverAssignor: null,
    owned: undefined,
    classic: null,
    ...change,
  }
}

/** As `t 0 1, u 3`; null where it was not told. */
function shown(partitions: Partitions | null): string | null {
  if (partitions === null) return null
  return rowsOf(partitions)
    .map(({ topicId, partitions: list }) => {
      const name = Buffer.from(topicId, 'base64url').toString().replace(/\.+$/, '')
      return [name, ...list].join(' ')
    })
    .join(', ')
}

function owned(text: string): Partitions {
  return partitionsOf(
    text
      .split(', ')
      .filter((each) => each !== '')
      .map((each) => {
        const [name, ...list] = each.split(' ')
        return { topicId: idOf(name ?? ''), partitions: list.map(Number) }
      }),
  )
}

function told(result: ReturnType<Bench['beat']>): [epoch: number, assigned: string | null] {
  if (isRefusal(result)) throw new Error(result.errorMessage)
  return [result.memberEpoch, shown(result.assigned)]
}

function code(result: ReturnType<Bench['beat']>): number {
  return isRefusal(result) ? result.errorCode : 0
}

describe('a group of the consumer protocol', () => {
  it('a lone member has everything with its first heartbeat', () => {
    const bench = new Bench({ t: 3 })
    expect(bench.group.state.name).toBe('Empty')
    expect(told(bench.join('a'))).toEqual([1, 't 0 1 2'])
    expect(bench.group.state.name).toBe('Stable')
    expect(told(bench.beat('a', 1))).toEqual([1, null])
  })

  it('who joins gets partitions only when their owner has said that it gave them back', () => {
    const bench = new Bench({ t: 4 })
    bench.join('a')
    expect(told(bench.join('b'))).toEqual([2, ''])
    expect(bench.group.state.name).toBe('Reconciling')
    // a stays in its epoch and is told what it may keep.
    expect(told(bench.beat('a', 1))).toEqual([1, 't 0 1'])
    expect(told(bench.beat('b', 2))).toEqual([2, null])
    // Silence and a claim of all are no release.
    expect(told(bench.beat('a', 1))).toEqual([1, null])
    expect(told(bench.beat('a', 1, { owned: owned('t 0 1 2 3') }))).toEqual([1, null])
    expect(told(bench.beat('b', 2))).toEqual([2, null])
    expect(told(bench.beat('a', 1, { owned: owned('t 0 1') }))).toEqual([2, null])
    expect(told(bench.beat('b', 2))).toEqual([2, 't 2 3'])
    expect(bench.group.state.name).toBe('Stable')
  })

  it('who leaves frees its partitions at once, and the others keep theirs', () => {
    const bench = new Bench({ t: 4 })
    bench.join('a')
    bench.join('b')
    bench.beat('a', 1, { owned: owned('t 0 1 2 3') })
    bench.beat('a', 1, { owned: owned('t 0 1') })
    bench.beat('b', 2)
    expect(bench.beat('b', -1)).toEqual({
      memberId: 'b',
      memberEpoch: -1,
      assigned: null,
      isWaiting: false,
    })
    expect(bench.group.state.name).toBe('Assigning')
    expect(told(bench.beat('a', 2))).toEqual([3, 't 0 1 2 3'])
    expect(code(bench.beat('b', 2))).toBe(KafkaError.UNKNOWN_MEMBER_ID)
  })

  it('the last member leaves an empty group, the next one begins with the next epoch', () => {
    const bench = new Bench({ t: 1 })
    bench.join('a')
    bench.beat('a', -1)
    expect(bench.group.state.name).toBe('Empty')
    expect(bench.group.isEmpty).toBe(true)
    expect(told(bench.join('b'))).toEqual([3, 't 0'])
  })

  it('a member that falls silent is removed after its session, not before', () => {
    const bench = new Bench({ t: 2 })
    bench.join('a')
    bench.tick(SESSION_MS - 1)
    expect(bench.group.state.size).toBe(1)
    expect(told(bench.beat('a', 1))).toEqual([1, null])
    bench.tick(SESSION_MS - 1)
    expect(bench.group.state.size).toBe(1)
    bench.tick(1)
    expect(bench.group.state.size).toBe(0)
    expect(bench.group.wakeMs).toBe(Number.POSITIVE_INFINITY)
    expect(code(bench.beat('a', 1))).toBe(KafkaError.UNKNOWN_MEMBER_ID)
  })

  it('a member that beats but does not give back is removed after its rebalance timeout', () => {
    const bench = new Bench({ t: 2 })
    bench.join('a', ['t'], { rebalanceTimeoutMs: 5000 })
    bench.join('b')
    bench.beat('a', 1)
    bench.tick(4999)
    expect(told(bench.beat('a', 1))).toEqual([1, null])
    bench.tick(1)
    expect(code(bench.beat('a', 1))).toBe(KafkaError.UNKNOWN_MEMBER_ID)
    expect(told(bench.beat('b', 2))).toEqual([3, 't 0 1'])
  })

  it('another epoch than its own fences a member; the one before counts if what it has is its own', () => {
    const bench = new Bench({ t: 4 })
    bench.join('a')
    bench.join('b')
    bench.beat('a', 1, { owned: owned('t 0 1 2 3') })
    expect(told(bench.beat('a', 1, { owned: owned('t 0 1') }))).toEqual([2, null])
    expect(code(bench.beat('a', 3))).toBe(KafkaError.FENCED_MEMBER_EPOCH)
    expect(code(bench.beat('a', 1))).toBe(KafkaError.FENCED_MEMBER_EPOCH)
    expect(code(bench.beat('a', 1, { owned: owned('t 0 2') }))).toBe(KafkaError.FENCED_MEMBER_EPOCH)
    expect(told(bench.beat('a', 1, { owned: owned('t 0 1') }))).toEqual([2, null])
    // Joining anew it says that it has nothing, and gets what is meant for it.
    expect(told(bench.join('a'))).toEqual([2, 't 0 1'])
  })

  it('a lost answer: a full heartbeat tells the assignment again', () => {
    const bench = new Bench({ t: 2 })
    bench.join('a')
    const full = { topicNames: ['t'], rebalanceTimeoutMs: 30_000, owned: NO_PARTITIONS }
    expect(told(bench.beat('a', 1, full))).toEqual([1, 't 0 1'])
  })

  it('commits and fetches are of the epoch of the member', () => {
    const bench = new Bench({ t: 2 })
    bench.join('a')
    expect(bench.group.checkEpoch('a', 1)).toBe(0)
    expect(bench.group.checkEpoch('a', 0)).toBe(KafkaError.STALE_MEMBER_EPOCH)
    expect(bench.group.checkEpoch('a', 2)).toBe(KafkaError.STALE_MEMBER_EPOCH)
    expect(bench.group.checkEpoch('x', 1)).toBe(KafkaError.UNKNOWN_MEMBER_ID)
  })

  it('is full at its greatest size, but for members that are in it', () => {
    const bench = new Bench({ t: 2 }, { sizeMax: 1 })
    bench.join('a')
    expect(code(bench.join('b'))).toBe(KafkaError.GROUP_MAX_SIZE_REACHED)
    expect(code(bench.join('a'))).toBe(0)
  })
})

describe('subscriptions', () => {
  it('a topic that comes, grows or goes makes a new target with the next heartbeat', () => {
    const bench = new Bench({ t: 1 })
    expect(told(bench.join('a', ['t', 'u']))).toEqual([1, 't 0'])
    bench.topics({ u: 2 })
    expect(told(bench.beat('a', 1))).toEqual([2, 't 0, u 0 1'])
    bench.topics({ t: 3 })
    expect(told(bench.beat('a', 2))).toEqual([3, 't 0 1 2, u 0 1'])
    bench.topics({ other: 3 })
    expect(told(bench.beat('a', 3))).toEqual([3, null])
    bench.topics({ u: undefined })
    expect(told(bench.beat('a', 3))).toEqual([3, 't 0 1 2'])
    expect(told(bench.beat('a', 3, { owned: owned('t 0 1 2') }))).toEqual([4, null])
  })

  it('what a member no longer subscribes to it gives back before others get it', () => {
    const bench = new Bench({ t: 2, u: 2 })
    bench.join('a', ['t', 'u'])
    expect(told(bench.beat('a', 1, { topicNames: ['t'] }))).toEqual([1, 't 0 1'])
    expect(told(bench.join('b', ['u']))).toEqual([3, ''])
    expect(told(bench.beat('a', 1, { owned: owned('t 0 1') }))).toEqual([3, null])
    expect(told(bench.beat('b', 3))).toEqual([3, 'u 0 1'])
    expect([...bench.group.subscribedTopics].sort()).toEqual(['t', 'u'])
  })

  it('a regular expression follows the topics, and one that is none is refused', () => {
    const bench = new Bench({ 'orders-eu': 1, other: 1 })
    const wrong = bench.join('a', [], { topicRegex: 'orders-(' })
    expect(code(wrong)).toBe(KafkaError.INVALID_REGULAR_EXPRESSION)
    expect(bench.group.state.size).toBe(0)
    expect(told(bench.join('a', [], { topicRegex: 'orders-.*' }))).toEqual([1, 'orders-eu 0'])
    bench.topics({ 'orders-us': 1 })
    expect(told(bench.beat('a', 1))).toEqual([2, 'orders-eu 0, orders-us 0'])
    bench.restart(true)
    bench.topics({ 'orders-us': 2 })
    expect(told(bench.beat('a', 2))).toEqual([3, 'orders-eu 0, orders-us 0 1'])
    // An empty one takes it away.
    const full = {
      topicRegex: '',
      topicNames: ['other'],
      rebalanceTimeoutMs: 1,
      owned: NO_PARTITIONS,
    }
    expect(told(bench.beat('a', 3, full))).toEqual([4, 'other 0'])
  })

  it('a member without a subscription is a member and has nothing', () => {
    const bench = new Bench({ t: 2 })
    bench.join('a')
    expect(told(bench.join('b', []))).toEqual([1, ''])
    expect(told(bench.beat('a', 1))).toEqual([1, null])
  })

  it('the assignor is the one that most members with a wish want', () => {
    const bench = new Bench({ t: 4, u: 4 })
    bench.join('a', ['t', 'u'], { serverAssignor: 'range' })
    expect(bench.group.assignor).toBe('range')
    expect(told(bench.join('b', ['t', 'u']))).toEqual([2, ''])
    expect(told(bench.beat('a', 1))).toEqual([1, 't 0 1, u 0 1'])
    bench.beat('b', 2, { serverAssignor: 'uniform' })
    expect(bench.group.assignor).toBe('uniform')
    bench.join('c', ['t', 'u'], { serverAssignor: 'range' })
    expect(bench.group.assignor).toBe('range')
  })
})

describe('static members', () => {
  const one = { instanceId: 'one' }

  it('one that goes for a while comes back to what it had; nobody else notices', () => {
    const bench = new Bench({ t: 2 })
    bench.join('a', ['t'], one)
    bench.join('b')
    bench.beat('a', 1, { ...one, owned: owned('t 0 1') })
    bench.beat('a', 1, { ...one, owned: owned('t 0') })
    bench.beat('b', 2)
    expect(bench.beat('a', -2, one)).toEqual({
      memberId: 'a',
      memberEpoch: -2,
      assigned: null,
      isWaiting: false,
    })
    expect(told(bench.beat('b', 2))).toEqual([2, null])
    const epoch = bench.group.state.epoch
    expect(told(bench.join('a2', ['t'], one))).toEqual([2, 't 0'])
    expect(bench.group.state.epoch).toBe(epoch)
    expect(told(bench.beat('b', 2))).toEqual([2, null])
    expect(code(bench.beat('a', 2, one))).toBe(KafkaError.FENCED_INSTANCE_ID)
    expect(bench.group.state.name).toBe('Stable')
  })

  it('one that does not come back within its session is removed', () => {
    const bench = new Bench({ t: 2 })
    bench.join('a', ['t'], one)
    bench.beat('a', -2, one)
    bench.tick(SESSION_MS)
    expect(bench.group.isEmpty).toBe(true)
  })

  it('an instance id that is in use is not given away', () => {
    const bench = new Bench({ t: 2 })
    bench.join('a', ['t'], one)
    expect(code(bench.join('b', ['t'], one))).toBe(KafkaError.UNRELEASED_INSTANCE_ID)
    expect(code(bench.beat('x', 1, { instanceId: 'two' }))).toBe(KafkaError.UNKNOWN_MEMBER_ID)
    expect(code(bench.beat('x', -1, one))).toBe(KafkaError.FENCED_INSTANCE_ID)
    expect(told(bench.join('a', ['t'], one))).toEqual([1, 't 0 1'])
    bench.beat('a', -1, one)
    expect(told(bench.join('b', ['t'], one))).toEqual([3, 't 0 1'])
  })
})

describe('requests that are wrong in themselves', () => {
  const assignors = ['uniform', 'range']
  const join = { topicNames: ['t'], owned: NO_PARTITIONS, rebalanceTimeoutMs: 1 }
  it.each<[string, HeartbeatRequest, boolean, number]>([
    ['no id', request('', 1, {}), false, KafkaError.INVALID_REQUEST],
    ['no id of its own', request('', 0, join), true, KafkaError.INVALID_REQUEST],
    ['an empty instance id', request('a', 1, { instanceId: '' }), true, KafkaError.INVALID_REQUEST],
    ['an empty rack', request('a', 1, { rackId: '' }), true, KafkaError.INVALID_REQUEST],
    ['an epoch of -3', request('a', -3, {}), true, KafkaError.INVALID_REQUEST],
    ['-2 without an instance id', request('a', -2, {}), true, KafkaError.INVALID_REQUEST],
    ['a join without timeout', request('a', 0, { ...join, rebalanceTimeoutMs: -1 }), true, 42],
    ['a join that owns', request('a', 0, { ...join, owned: owned('t 0') }), true, 42],
    ['a join that does not say', request('a', 0, { ...join, owned: undefined }), true, 42],
    ['a join without topics', request('a', 0, { ...join, topicNames: null }), true, 42],
    ['an unknown assignor', request('a', 1, { serverAssignor: 'x' }), true, 112],
    ['nothing', request('a', 0, join), true, 0],
    ['nothing, the id is made for it', request('', 0, join), false, 0],
  ])('%s', (_, each, makesOwnId, expected) => {
    const defect = findRequestDefect(each, makesOwnId, assignors)
    expect(defect?.errorCode ?? 0).toBe(expected)
    if (expected !== 0) expect(defect?.errorMessage).not.toBe('')
  })
})

describe('after a start', () => {
  it.each([false, true])('the state is what it was, compacted: %s', (isCompacted) => {
    const bench = new Bench({ t: 4 })
    bench.join('a')
    bench.join('b')
    bench.beat('a', 1)
    bench.restart(isCompacted)
    expect(bench.group.state.name).toBe('Reconciling')
    expect(told(bench.beat('b', 2))).toEqual([2, null])
    expect(told(bench.beat('a', 1, { owned: owned('t 0 1') }))).toEqual([2, null])
    bench.restart(isCompacted)
    expect(told(bench.beat('b', 2))).toEqual([2, 't 2 3'])
    bench.beat('b', -1)
    bench.restart(isCompacted)
    expect(told(bench.beat('a', 2))).toEqual([3, 't 0 1 2 3'])
    // Whoever had to give back and does not show itself goes with its session.
    bench.tick(SESSION_MS)
    expect(bench.group.isEmpty).toBe(true)
  })

  it('its tombstones leave nothing', () => {
    const bench = new Bench({ t: 4 })
    bench.join('a')
    bench.beat('a', -1)
    for (const change of bench.group.tombstones()) bench.log.push(change)
    bench.restart(true)
    expect(bench.group.state.epoch).toBe(0)
    expect(bench.group.state.name).toBe('Empty')
  })
})

// --- members that behave as clients do, lose answers, die, come back

type Step =
  | readonly ['beat' | 'lose' | 'release' | 'leave' | 'die' | 'rejoin', number]
  | readonly ['join' | 'restart' | 'wait' | 'grow', number]

class Clients {
  readonly bench: Bench
  readonly all: {
    id: string
    epoch: number
    owned: Partitions
    mustTell: boolean
    isGone: boolean
  }[] = []

  constructor(bench: Bench) {
    this.bench = bench
  }

  run([what, pick]: Step): void {
    const { bench } = this
    const alive = this.all.filter(({ isGone }) => !isGone)
    const one = alive[pick % Math.max(1, alive.length)]
    if (what === 'join') {
      if (alive.length >= 6) return
      this.all.push({
        id: `m${this.all.length}`,
        epoch: 0,
        owned: NO_PARTITIONS,
        mustTell: true,
        isGone: false,
      })
      this.#beat(this.all.at(-1)!, false)
    } else if (what === 'restart') bench.restart(pick % 2 === 0)
    else if (what === 'wait') bench.tick((pick % 20) * 1000)
    else if (what === 'grow') bench.topics({ t: Math.min(20, (bench.counts.get('t') ?? 0) + 1) })
    else if (one === undefined) return
    else if (what === 'leave') {
      bench.beat(one.id, -1)
      one.isGone = true
      one.owned = NO_PARTITIONS
    } else if (what === 'die') {
      one.isGone = true
      // Whoever is dead reads nothing; the group may only find out later.
      one.owned = NO_PARTITIONS
    } else if (what === 'rejoin') {
      one.owned = NO_PARTITIONS
      one.epoch = 0
      this.#beat(one, false)
    } else if (what === 'lose') this.#beat(one, true)
    else this.#beat(one, false)
    this.check()
  }

  #beat(one: Clients['all'][number], isLost: boolean): void {
    const isFull = one.epoch === 0 || one.mustTell
    const result = this.bench.beat(one.id, one.epoch, {
      ...(isFull ? { topicNames: ['t'], rebalanceTimeoutMs: 15_000, owned: one.owned } : {}),
    })
    if (isLost) {
      one.mustTell = true
      return
    }
    if (isRefusal(result)) {
      one.owned = NO_PARTITIONS
      one.epoch = 0
      one.mustTell = true
      return
    }
    this.#take(one, result)
  }

  #take(one: Clients['all'][number], { memberEpoch, assigned }: HeartbeatAnswer): void {
    one.epoch = memberEpoch
    // What it gives back and takes it tells of with its next heartbeat.
    one.mustTell = assigned !== null && !isSame(assigned, one.owned)
    if (assigned !== null) one.owned = assigned
  }

  /** As those see it that read: nobody has what another one has, as long as the group holds it to be a member. */
  check(): void {
    const owners = new Map<string, string>()
    for (const { id, owned: partitions, isGone } of this.all) {
      if (isGone || !this.bench.group.state.has(id)) continue
      for (const [topicId, set] of partitions) {
        for (const partition of set) {
          const place = `${topicId}/${partition}`
          if (owners.has(place)) throw new Error(`${place} of ${owners.get(place)} and ${id}`)
          owners.set(place, id)
        }
      }
    }
  }

  settle(): void {
    for (let round = 0; round < 40; round += 1) {
      this.bench.tick(1000)
      for (const each of this.all) if (!each.isGone) this.run(['beat', this.all.indexOf(each)])
      for (const [index] of this.all.entries()) this.run(['beat', index])
    }
  }
}

const stepArbitrary = fc.tuple(
  fc.constantFrom(
    'join',
    'join',
    'beat',
    'beat',
    'beat',
    'beat',
    'lose',
    'leave',
    'die',
    'rejoin',
    'restart',
    'wait',
    'grow',
  ),
  fc.nat(1000),
) as fc.Arbitrary<Step>

describe('members that come, go, die and lose answers', () => {
  it('never share a partition, and in the end all partitions are read', () => {
    fc.assert(
      fc.property(fc.array(stepArbitrary, { maxLength: 120 }), (steps) => {
        const clients = new Clients(new Bench({ t: 7 }))
        for (const step of steps) clients.run(step)
        clients.run(['join', 0])
        clients.settle()
        const alive = clients.all.filter(({ isGone }) => !isGone)
        const read = alive.flatMap(
          ({ owned: partitions }) => rowsOf(partitions)[0]?.partitions ?? [],
        )
        const count = clients.bench.counts.get('t') ?? 0
        expect([...read].sort((a, b) => a - b)).toEqual(Array.from({ length: count }, (_, n) => n))
        expect(clients.bench.group.state.name).toBe('Stable')
      }),
      { numRuns: 300 },
    )
  })

  it.each<[string, (bench: Bench) => void]>([
    [
      'takes partitions for free that somebody has',
      (bench) => {
        bench.group.state.ownerOf = () => undefined
      },
    ],
    [
      'takes silence for a release',
      (bench) => {
        const { heartbeat } = bench.group
        bench.group.heartbeat = function (nowMs, each) {
          return heartbeat.call(this, nowMs, { ...each, owned: each.owned ?? NO_PARTITIONS })
        }
      },
    ],
  ])('a planted bug is seen: the group %s', (_, plant) => {
    let seen = 0
    for (let seed = 0; seed < 100 && seen === 0; seed += 1) {
      const steps = fc.sample(fc.array(stepArbitrary, { minLength: 60, maxLength: 60 }), {
        seed,
        numRuns: 1,
      })[0]
      const clients = new Clients(new Bench({ t: 7 }))
      plant(clients.bench)
      try {
        for (const step of steps ?? []) if (step[0] !== 'restart') clients.run(step)
      } catch {
        seen += 1
      }
    }
    expect(seen).toBe(1)
  })
})
