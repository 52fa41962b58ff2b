/**
 * One member of a consumer group (the classic protocol, replication.md section 10.2): joins, beats, rejoins, and tells
 * its caller by events which partitions it may read. What is read and how far stays the caller's.
 *
 * Invariants:
 * - A partition is told `assigned` before it may be read, and `revoked` before anybody else is given it; the member goes
 *   on only when the caller has said `released`.
 * - Commits carry the generation in which they are made: one that is over is refused by the coordinator.
 * - With cooperative-sticky what stays in the same hands is never told anew.
 * - A group that turns eager takes one cooperative step more: what changes hands is given back, and its position committed,
 *   in a generation in which nobody has it.
 */
import { StreamError } from '../base/errors.ts'
import type { Random } from '../ports/random.ts'
import { sleep, type Time, type Timer } from '../ports/time.ts'
import type { RequestInput, Response } from '../protocol/api-table.ts'
import {
  decodeAssignment,
  decodeSubscription,
  encodeAssignment,
  encodeSubscription,
  type TopicPartitions,
} from '../protocol/consumer-metadata.ts'
import { KafkaError } from '../protocol/errors.ts'
import { backoffMs } from './backoff.ts'
import { type Cluster, isRefusal } from './cluster.ts'
import {
  type Assignments,
  type Assignor,
  assignCooperatively,
  assignRange,
  withoutHeld,
} from './group-assignors.ts'
import { GroupLink } from './group-link.ts'
import { fetchGroupOffsets, type GroupOffset, type GroupPartition } from './group-offsets.ts'
import { kafkaFailure } from './kafka-failure.ts'
import { commitAsMember } from './member-commit.ts'

export interface GroupMemberOptions {
  readonly groupId: string
  /** Static membership: a restart within the session keeps the partitions. */
  readonly instanceId?: string
  /** A static member that leaves as others do, so that nobody waits for the end of its session. */
  readonly leavesForGood?: boolean
  /** Whoever has the instance id is put out before the first join, so that the generation rises. */
  readonly startsAnew?: boolean
  readonly topics: readonly string[]
  /** Silence after which the coordinator takes the member for dead; default 45 000. */
  readonly sessionTimeoutMs?: number
  /** Default 3000. */
  readonly heartbeatIntervalMs?: number
  /** How long a rebalance waits for a member, and a member may take to give partitions back; default 300 000. */
  readonly rebalanceTimeoutMs?: number
  /** In the order of preference; default cooperative-sticky, range. */
  readonly assignors?: readonly AssignorName[]
}

export type AssignorName = 'cooperative-sticky' | 'range'

export type GroupEvent =
  /** The caller reads them no longer, stores what it wants stored, and calls released(). */
  | {
      readonly kind: 'revoked'
      readonly partitions: readonly GroupPartition[]
      /** They may belong to another member already: nothing of them can be committed. */
      readonly isLost: boolean
    }
  /** `partitions`: those that were added; perhaps none. */
  | { readonly kind: 'assigned'; readonly partitions: readonly GroupPartition[] }
  /** The membership is over: fenced, refused, not allowed. */
  | { readonly kind: 'failed'; readonly error: StreamError }

const assignors: Readonly<Record<AssignorName, Assignor>> = {
  'cooperative-sticky': assignCooperatively,
  range: assignRange,
}
const PROTOCOL_TYPE = 'consumer'
const METADATA_PAUSE_MS = 5000
/** An answer to a join may come so much later than the rebalance may take. */
const JOIN_GRACE_MS = 5000
const LEAVE_TIMEOUT_MS = 5000
const BATCHED_LEAVE_VERSION = 3
const STATIC_VERSIONS = { JoinGroup: 5, SyncGroup: 3, Heartbeat: 3 } as const

export class GroupMember {
  readonly link: GroupLink
  readonly #time: Time
  readonly #random: Random
  readonly #cluster: Cluster
  readonly #options: GroupMemberOptions
  readonly #instanceId: string | null
  readonly #sessionTimeoutMs: number
  readonly #events: GroupEvent[] = []
  #topics: readonly string[]
  #memberId = ''
  #generation = -1
  /** Of the last generation; decides whether partitions are kept over a rebalance. */
  #protocol: string | undefined
  #owned = new Map<string, GroupPartition>()
  #isLeader = false
  /** As the leader, in the assignment before: what members had not given back. */
  #hasHeldBack = false
  /** Partition counts that the last assignment was made from, by the leader. */
  #counts = new Map<string, number>()
  #mustRejoin = false
  /** From the first question until one is answered with a generation: the coordinator may be in it already. */
  #isJoining = false
  #mustEvict = false
  #isSettled = false
  #hasHadCompany = false
  #isClosed = false
  #isBeating = false
  #beatTimer: Timer | undefined
  #lastBeatMs = 0
  #wake: (() => void)[] = []
  #change: Promise<void> | undefined
  /** Of the `revoked` that were told, in order. */
  readonly #onReleased: (() => void)[] = []

  /** @param cluster  whose connections the joins may hold up: at a Kafka door not the one that records come through */
  constructor(time: Time, random: Random, cluster: Cluster, options: GroupMemberOptions) {
    this.#time = time
    this.#random = random
    this.#cluster = cluster
    this.#options = options
    this.#instanceId = options.instanceId ?? null
    this.#sessionTimeoutMs = options.sessionTimeoutMs ?? 45_000
    this.#topics = options.topics
    this.link = new GroupLink(time, random, cluster, options.groupId)
  }

  /** Empty before the first join. */
  get memberId(): string {
    return this.#memberId
  }

  /** −1: no member of any generation now. */
  get generation(): number {
    return this.#generation
  }

  /** It has its assignment, and nothing is about to change as far as it knows. */
  get isSettled(): boolean {
    return this.#isSettled && !this.#mustRejoin && this.#events.length === 0
  }

  get owned(): readonly GroupPartition[] {
    return [...this.#owned.values()]
  }

  /** Whether any generation that it was in had other members; told when its assignment is. */
  get hasHadCompany(): boolean {
    return this.#hasHadCompany
  }

  /** Joins, and stays until leave(). */
  start(): void {
    this.#mustEvict = this.#options.startsAnew === true && this.#instanceId !== null
    void this.#run()
  }

  poll(): GroupEvent | undefined {
    return this.#events.shift()
  }

  get hasEvents(): boolean {
    return this.#events.length > 0
  }

  /** Resolves at the next event, at once if there is one. */
  changed(): Promise<void> {
    if (this.#events.length > 0) return Promise.resolve()
    this.#change ??= new Promise((resolve) => {
      this.#wake.push(() => {
        this.#change = undefined
        resolve()
      })
    })
    return this.#change
  }

  /** The partitions of the oldest `revoked` that was not answered so are given back. */
  released(): void {
    this.#onReleased.shift()?.()
  }

  setTopics(topics: readonly string[]): void {
    const before = new Set(this.#topics)
    if (topics.length === before.size && topics.every((topic) => before.has(topic))) return
    this.#topics = topics
    this.#askRejoin()
  }

  /** @throws StreamError as fetchGroupOffsets */
  fetchOffsets(partitions: readonly GroupPartition[]): Promise<readonly GroupOffset[]> {
    return fetchGroupOffsets(this.link, partitions)
  }

  /**
   * In the name of the member and its generation. Once a commit is refused for them the partitions are lost; one that a
   * join has overtaken is REBALANCE_IN_PROGRESS, and may be made again.
   * @throws StreamError as commitAsMember; UNKNOWN_MEMBER_ID, unasked, while it is no member
   */
  async commit(offsets: readonly GroupOffset[]): Promise<void> {
    const generationId = this.#generation
    const target = `group ${this.#options.groupId}`
    // Without a name it would be a commit by hand, which a group that has become empty takes from anybody.
    if (generationId < 0) throw kafkaFailure(KafkaError.UNKNOWN_MEMBER_ID, { target })
    try {
      await commitAsMember(
        { time: this.#time, random: this.#random, cluster: this.#cluster, link: this.link },
        offsets,
        { memberId: this.#memberId, groupInstanceId: this.#instanceId, generationId },
      )
    } catch (error) {
      if (!(error instanceof StreamError) || error.kafkaError === undefined) throw error
      if (isUnknownMembership(error.kafkaError) && this.#hasJoinedSince(generationId)) {
        throw kafkaFailure(KafkaError.REBALANCE_IN_PROGRESS, { target })
      }
      this.#judge(error.kafkaError)
      throw error
    }
  }

  /** Or is about to: whether what it owns is lost is then for the join to say. */
  #hasJoinedSince(generation: number): boolean {
    return this.#isJoining || this.#generation !== generation
  }

  /** Ends the membership; a static member stays in the group until its session ends. Idempotent. */
  async leave(): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#beatTimer?.cancel()
    this.#releaseAll()
    this.#notify()
    if (this.#memberId === '') return
    if (this.#instanceId !== null && this.#options.leavesForGood !== true) return
    try {
      await this.#askToLeave(this.#memberId, this.#instanceId)
    } catch (error) {
      // Its session ends by itself.
      if (!(error instanceof StreamError)) throw error
    }
  }

  async #askToLeave(memberId: string, groupInstanceId: string | null): Promise<void> {
    const version = await this.link.versionOf('LeaveGroup')
    const { groupId } = this.#options
    const member = { memberId, groupInstanceId, reason: 'the consumer ends' }
    const body =
      version >= BATCHED_LEAVE_VERSION ? { groupId, members: [member] } : { groupId, memberId }
    const deadlineMs = this.#time.monotonicMs() + LEAVE_TIMEOUT_MS
    await this.link.call(
      'LeaveGroup',
      body as RequestInput<'LeaveGroup'>,
      ({ errorCode }) => errorCode,
      { deadlineMs },
    )
  }

  // --- the life of a member

  async #run(): Promise<void> {
    for (let failures = 0; !this.#isClosed; ) {
      try {
        const isMember = await this.#join()
        failures = isMember ? 0 : failures + 1
        if (isMember && !this.#mustRejoin) await this.#stay()
        else if (!isMember && failures > 1) await this.#pause(failures)
      } catch (error) {
        if (this.#isClosed) return
        if (!(error instanceof StreamError)) throw error
        if (!error.retriable || this.#cluster.isClosed) {
          this.#fail(error)
          return
        }
        failures += 1
        await this.#pause(failures)
      }
    }
  }

  /** Until a rejoin is wanted; the leader looks after the topics meanwhile. */
  async #stay(): Promise<void> {
    while (!this.#mustRejoin && !this.#isClosed) {
      await this.#woken(METADATA_PAUSE_MS)
      if (this.#mustRejoin || this.#isClosed || !this.#isLeader) continue
      if (await this.#haveTopicsChanged()) this.#askRejoin()
    }
  }

  async #haveTopicsChanged(): Promise<boolean> {
    try {
      const topics = await this.#cluster.describeTopics([...this.#counts.keys()])
      return topics.some(({ name, partitions }) => this.#counts.get(name) !== partitions.length)
    } catch (error) {
      if (!(error instanceof StreamError)) throw error
      return false
    }
  }

  /** @returns whether it is a member of a generation with its assignment; false: it must be tried again */
  async #join(): Promise<boolean> {
    this.#mustRejoin = false
    if (!this.#isCooperative) await this.#giveBack(this.owned, false)
    if (this.#isClosed) return false
    this.#isSettled = false
    this.#stopBeating()
    await this.#checkStatic()
    if (this.#mustEvict) await this.#askToLeave('', this.#instanceId)
    this.#mustEvict = false
    this.#isJoining = true
    const joined = await this.#askToJoin()
    if (joined === undefined || this.#isClosed) return false
    this.#isJoining = false
    this.#memberId = joined.memberId
    this.#generation = joined.generationId
    this.#protocol = joined.protocolName ?? ''
    this.#isLeader = joined.leader === joined.memberId
    if (!this.#isLeader) this.#hasHeldBack = false
    // Only the leader is told who is there; who is not the leader is not alone.
    this.#hasHadCompany ||= !this.#isLeader || joined.members.length > 1
    this.#startBeating()
    const assignments =
      this.#isLeader && !joined.skipAssignment ? await this.#share(joined) : new Map()
    const assigned = await this.#askForAssignment(assignments)
    if (assigned === undefined || this.#isClosed) return false
    await this.#take(assigned)
    return true
  }

  get #isCooperative(): boolean {
    return this.#protocol === 'cooperative-sticky'
  }

  async #askToJoin(): Promise<Response<'JoinGroup'> | undefined> {
    const { groupId } = this.#options
    const rebalanceTimeoutMs = this.#options.rebalanceTimeoutMs ?? 300_000
    const timeoutMs = rebalanceTimeoutMs + JOIN_GRACE_MS
    const owned = this.#isCooperative ? toTopics(this.#owned.values()) : []
    const metadata = encodeSubscription({
      topics: this.#topics,
      userData: null,
      ownedPartitions: owned,
      generationId: this.#isCooperative ? this.#generation : -1,
    })
    const names = this.#options.assignors ?? (['cooperative-sticky', 'range'] as const)
    const response = await this.link.call(
      'JoinGroup',
      {
        groupId,
        sessionTimeoutMs: this.#sessionTimeoutMs,
        rebalanceTimeoutMs,
        memberId: this.#memberId,
        ...this.#instance(),
        protocolType: PROTOCOL_TYPE,
        protocols: names.map((name) => ({ name, metadata })),
      },
      ({ errorCode }) => errorCode,
      { deadlineMs: this.#time.monotonicMs() + timeoutMs * 2, timeoutMs },
    )
    const code = response.errorCode
    if (code === 0) return response
    if (code === KafkaError.MEMBER_ID_REQUIRED) {
      this.#memberId = response.memberId
      return this.#isClosed ? undefined : this.#askToJoin()
    }
    await this.#refused(code)
    return undefined
  }

  async #askForAssignment(
    assignments: Assignments,
  ): Promise<readonly GroupPartition[] | undefined> {
    const { groupId } = this.#options
    const response = await this.link.call(
      'SyncGroup',
      {
        groupId,
        generationId: this.#generation,
        memberId: this.#memberId,
        ...this.#instance(),
        protocolType: PROTOCOL_TYPE,
        protocolName: this.#protocol ?? '',
        assignments: [...assignments].map(([memberId, partitions]) => ({
          memberId,
          assignment: encodeAssignment({ partitions, userData: null }),
        })),
      },
      ({ errorCode }) => errorCode,
      { deadlineMs: this.#time.monotonicMs() + (this.#options.rebalanceTimeoutMs ?? 300_000) },
    )
    if (response.errorCode !== 0) {
      await this.#refused(response.errorCode)
      return undefined
    }
    const decoded = decodeAssignment(response.assignment)
    if (decoded === undefined) {
      throw new StreamError('MALFORMED_MESSAGE', `group ${groupId}: an assignment cannot be read`)
    }
    return decoded.partitions.flatMap(({ topic, partitions }) =>
      partitions.map((partition) => ({ topic, partition })),
    )
  }

  /** As the leader: who reads what. */
  async #share(joined: Response<'JoinGroup'>): Promise<Assignments> {
    const members = joined.members.map(({ memberId, groupInstanceId, metadata }) => {
      const subscription = decodeSubscription(metadata)
      return {
        memberId,
        groupInstanceId,
        topics: subscription?.topics ?? [],
        ownedPartitions: subscription?.ownedPartitions ?? [],
        generationId: subscription?.generationId ?? -1,
      }
    })
    const topics = [...new Set(members.flatMap((member) => member.topics))]
    const described = topics.length === 0 ? [] : await this.#cluster.describeTopics(topics)
    this.#counts = new Map(topics.map((topic) => [topic, 0]))
    for (const { name, partitions } of described) this.#counts.set(name, partitions.length)
    const assignor = assignors[(joined.protocolName ?? '') as AssignorName] ?? assignRange
    const partitionsOf = (topic: string): number => this.#counts.get(topic) ?? 0
    const shared = assignor(members, partitionsOf)
    if (assignor === assignCooperatively || this.#hasHeldBack) {
      this.#hasHeldBack = false
      return shared
    }
    const { assignments, isComplete } = withoutHeld(shared, members, partitionsOf)
    // What is held back is shared out in one more rebalance, in which all join with empty hands. One only: a client that
    // names what it no longer has would else keep the group in rebalances for ever.
    this.#hasHeldBack = !isComplete
    if (!isComplete) this.#mustRejoin = true
    return assignments
  }

  /** The assignment of this generation: tells what goes, then what comes. */
  async #take(assigned: readonly GroupPartition[]): Promise<void> {
    const next = new Map(assigned.map((each) => [keyOf(each), each]))
    const gone = this.owned.filter((each) => !next.has(keyOf(each)))
    const added = assigned.filter((each) => !this.#owned.has(keyOf(each)))
    if (gone.length > 0) {
      await this.#giveBack(gone, false)
      // What was given back is shared out in one more rebalance.
      if (this.#isCooperative) this.#mustRejoin = true
    }
    if (this.#isClosed) return
    for (const each of added) this.#owned.set(keyOf(each), each)
    this.#isSettled = true
    this.#push({ kind: 'assigned', partitions: added })
  }

  /** Resolves when the caller has released them. */
  async #giveBack(partitions: readonly GroupPartition[], isLost: boolean): Promise<void> {
    if (partitions.length === 0 || this.#isClosed) return
    const released = new Promise<void>((resolve) => {
      this.#onReleased.push(resolve)
    })
    this.#push({ kind: 'revoked', partitions, isLost })
    await released
    for (const each of partitions) this.#owned.delete(keyOf(each))
  }

  /** What an error code of join, sync or heartbeat means. @throws StreamError when the membership is over */
  async #refused(code: number): Promise<void> {
    switch (code) {
      case KafkaError.REBALANCE_IN_PROGRESS:
        this.#mustRejoin = true
        return
      case KafkaError.UNKNOWN_MEMBER_ID:
      case KafkaError.ILLEGAL_GENERATION: {
        if (code === KafkaError.UNKNOWN_MEMBER_ID) this.#memberId = ''
        this.#generation = -1
        this.#mustRejoin = true
        await this.#giveBack(this.owned, true)
        return
      }
      default:
        throw kafkaFailure(code, { target: `group ${this.#options.groupId}` })
    }
  }

  // --- heartbeats

  #startBeating(): void {
    this.#lastBeatMs = this.#time.monotonicMs()
    this.#beatLater()
  }

  #stopBeating(): void {
    this.#beatTimer?.cancel()
    this.#beatTimer = undefined
  }

  #beatLater(): void {
    this.#stopBeating()
    if (this.#isClosed) return
    const intervalMs = this.#options.heartbeatIntervalMs ?? 3000
    this.#beatTimer = this.#time.setTimer(intervalMs, () => {
      this.#beatTimer = undefined
      void this.#beat()
    })
  }

  async #beat(): Promise<void> {
    if (this.#isBeating) return
    const generation = this.#generation
    const { groupId } = this.#options
    this.#isBeating = true
    let code: number | undefined
    try {
      const response = await this.link.call(
        'Heartbeat',
        { groupId, generationId: generation, memberId: this.#memberId, ...this.#instance() },
        ({ errorCode }) => errorCode,
        { deadlineMs: this.#time.monotonicMs() + this.#sessionTimeoutMs },
      )
      code = response.errorCode
    } catch (error) {
      if (!(error instanceof StreamError)) throw error
      if (isRefusal(error)) this.#fail(error)
    }
    this.#isBeating = false
    if (this.#isClosed || this.#generation !== generation) return
    const nowMs = this.#time.monotonicMs()
    if (code === 0 || code === KafkaError.REBALANCE_IN_PROGRESS) this.#lastBeatMs = nowMs
    if (code !== undefined && code !== 0) this.#judge(code)
    else if (nowMs - this.#lastBeatMs >= this.#sessionTimeoutMs) {
      // Nobody has heard of it for so long: it counts as dead.
      this.#judge(KafkaError.ILLEGAL_GENERATION)
    }
    this.#beatLater()
  }

  /** An error code outside of a join: of a heartbeat or a commit. */
  #judge(code: number): void {
    switch (code) {
      case KafkaError.REBALANCE_IN_PROGRESS:
        this.#askRejoin()
        return
      case KafkaError.UNKNOWN_MEMBER_ID:
      case KafkaError.ILLEGAL_GENERATION:
        if (this.#generation < 0) return
        if (code === KafkaError.UNKNOWN_MEMBER_ID) this.#memberId = ''
        this.#generation = -1
        this.#isSettled = false
        this.#stopBeating()
        void this.#giveBack(this.owned, true).then(() => this.#askRejoin())
        return
      case KafkaError.FENCED_INSTANCE_ID:
        this.#fail(kafkaFailure(code, { target: `group ${this.#options.groupId}` }))
        return
      default:
    }
  }

  #askRejoin(): void {
    this.#mustRejoin = true
    this.#notify()
  }

  // --- shared

  async #checkStatic(): Promise<void> {
    if (this.#instanceId === null) return
    for (const [api, versionMin] of Object.entries(STATIC_VERSIONS)) {
      const version = await this.link.versionOf(api as keyof typeof STATIC_VERSIONS)
      if (version >= versionMin) continue
      throw new StreamError('UNSUPPORTED_BY_BROKER', 'the broker is too old for --instance-id')
    }
  }

  #instance(): { readonly groupInstanceId?: string } {
    return this.#instanceId === null ? {} : { groupInstanceId: this.#instanceId }
  }

  #push(event: GroupEvent): void {
    this.#events.push(event)
    this.#notify()
  }

  #fail(error: StreamError): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#stopBeating()
    this.#push({ kind: 'failed', error })
    this.#releaseAll()
  }

  #releaseAll(): void {
    for (const onReleased of this.#onReleased.splice(0)) onReleased()
  }

  #notify(): void {
    const wake = this.#wake
    this.#wake = []
    for (const each of wake) each()
  }

  async #woken(timeoutMs: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = this.#time.setTimer(timeoutMs, resolve)
      this.#wake.push(() => {
        timer.cancel()
        resolve()
      })
    })
  }

  #pause(failures: number): Promise<void> {
    return sleep(this.#time, backoffMs(this.#random, this.#cluster.backoff, failures))
  }
}

function isUnknownMembership(code: number): boolean {
  return code === KafkaError.UNKNOWN_MEMBER_ID || code === KafkaError.ILLEGAL_GENERATION
}

function keyOf({ topic, partition }: GroupPartition): string {
  return `${topic}/${partition}`
}

function toTopics(partitions: Iterable<GroupPartition>): readonly TopicPartitions[] {
  const topics = new Map<string, number[]>()
  for (const { topic, partition } of partitions) {
    const known = topics.get(topic)
    if (known === undefined) topics.set(topic, [partition])
    else known.push(partition)
  }
  return [...topics].map(([topic, rows]) => ({ topic, partitions: rows }))
}
