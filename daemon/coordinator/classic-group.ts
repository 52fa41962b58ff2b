/**
 * One group of the classic protocol: a deterministic, synchronous state machine (replication.md section 10.2; Kafka's
 * ClassicGroup and GroupMetadataManager). Time and new ids come in as arguments, answers leave through the callbacks that
 * came with the requests, and what must be durable leaves through `store`.
 *
 * Here are the requests and the end of sessions; who is in it is classic-members.ts, how one comes into it
 * classic-joins.ts, generations are classic-rebalance.ts.
 *
 * Invariants:
 * - Each request is answered exactly once; a parked join or sync at the latest when its member is removed.
 * - `wakeMs` is never later than the next moment at which `tick` has something to do.
 */

import { KafkaError } from '../../src/protocol/errors.ts'
import { ClassicJoins } from './classic-joins.ts'
import { ClassicMembers, type MemberName } from './classic-members.ts'
import { ClassicRebalance, type ClassicState, type StoreGroup } from './classic-rebalance.ts'
import {
  answerParked,
  type GroupMember,
  type JoinAnswer,
  type JoinRequest,
  joinRefusal,
  type SyncAnswer,
  type SyncRequest,
  syncRefusal,
} from './group-member.ts'
import type { StoredGroup } from './group-records.ts'

export interface ClassicGroupOptions {
  readonly initialRebalanceDelayMs: number
  readonly sizeMax: number
}

/** As another protocol's group had it. */
export type AdoptedMember = Pick<
  GroupMember,
  | 'memberId'
  | 'groupInstanceId'
  | 'clientId'
  | 'clientHost'
  | 'rebalanceTimeoutMs'
  | 'sessionTimeoutMs'
  | 'protocols'
  | 'assignment'
>

const CONSUMER_TYPE = 'consumer'

export class ClassicGroup {
  readonly groupId: string
  readonly #members = new ClassicMembers()
  readonly #rebalance: ClassicRebalance
  readonly #joins: ClassicJoins

  constructor(
    groupId: string,
    options: () => ClassicGroupOptions,
    store: StoreGroup,
    wallMs: () => number,
  ) {
    this.groupId = groupId
    this.#rebalance = new ClassicRebalance(this.#members, {
      initialRebalanceDelayMs: () => options().initialRebalanceDelayMs,
      store,
      wallMs,
    })
    this.#joins = new ClassicJoins(this.#members, this.#rebalance, {
      sizeMax: () => options().sizeMax,
      store,
    })
  }

  /** Becomes what was stored; undefined: nothing was. Members have their session time to show themselves. */
  restore(stored: StoredGroup | undefined, nowMs: number): void {
    const members = this.#members
    members.clear()
    members.protocolType = stored?.protocolType || undefined
    members.protocolName = stored?.protocol ?? null
    for (const member of stored?.members ?? []) {
      const deadlineMs = nowMs + member.sessionTimeoutMs
      members.add({
        ...member,
        protocols: [{ name: members.protocolName ?? '', metadata: member.subscription }],
        isNew: false,
        deadlineMs,
        joinReply: undefined,
        syncReply: undefined,
      })
      this.#rebalance.wakeAt(deadlineMs)
    }
    const leader = stored?.leader ?? undefined
    members.leader = leader !== undefined && members.has(leader) ? leader : members.first
    this.#rebalance.restore(stored)
  }

  /**
   * Takes over the members of a group of the consumer protocol, who then rebalance among themselves.
   * @param members  all of the protocol type `consumer`; with a protocol that all know
   * @returns what is to be stored
   */
  adopt(nowMs: number, generation: number, adopted: readonly AdoptedMember[]): StoredGroup {
    const members = this.#members
    this.restore(undefined, nowMs)
    members.protocolType = CONSUMER_TYPE
    for (const member of adopted) {
      const deadlineMs = nowMs + member.sessionTimeoutMs
      const waiting = { joinReply: undefined, syncReply: undefined }
      members.add({ ...member, isNew: false, deadlineMs, ...waiting })
      this.#rebalance.wakeAt(deadlineMs)
    }
    members.protocolName = members.selectProtocol() ?? null
    members.leader = members.first
    this.#rebalance.adopt(generation)
    const stored = this.toStored()
    this.#rebalance.begin(nowMs)
    return stored
  }

  get state(): ClassicState {
    return this.#rebalance.state
  }

  get generation(): number {
    return this.#rebalance.generation
  }

  /** Empty: it never had members. */
  get protocolType(): string {
    return this.#members.protocolType ?? ''
  }

  get protocolName(): string {
    return this.#members.protocolName ?? ''
  }

  get leader(): string | undefined {
    return this.#members.leader
  }

  /** When its state last became Stable or Empty, milliseconds since 1970; -1: not known. */
  get stateTimestampMs(): number {
    return this.#rebalance.stateTimestampMs
  }

  get members(): Iterable<GroupMember> {
    return this.#members.values()
  }

  get memberCount(): number {
    return this.#members.size
  }

  /** undefined: nobody can tell. */
  get subscribedTopics(): ReadonlySet<string> | undefined {
    return this.#rebalance.subscribedTopics
  }

  /** When tick is due, on the clock of `nowMs`. */
  get wakeMs(): number {
    return this.#rebalance.wakeMs
  }

  /** Nothing but offsets may be left of it. */
  get isUnused(): boolean {
    return this.state === 'Empty' && this.#members.pendingSize === 0
  }

  /** @param assignments  in place of those in force */
  toStored(assignments?: ReadonlyMap<string, Uint8Array>): StoredGroup {
    return this.#rebalance.toStored(assignments)
  }

  // --- requests

  join(nowMs: number, request: JoinRequest, reply: (answer: JoinAnswer) => void): void {
    if (this.state === 'Dead') {
      reply(joinRefusal(KafkaError.COORDINATOR_NOT_AVAILABLE, request.memberId))
    } else this.#joins.join(nowMs, request, reply)
  }

  sync(nowMs: number, request: SyncRequest, reply: (answer: SyncAnswer) => void): void {
    const wrong = this.#checkSync(request)
    const member = this.#members.get(request.memberId)
    if (wrong !== 0 || member === undefined) {
      reply(syncRefusal(wrong))
      return
    }
    const rebalance = this.#rebalance
    rebalance.noteSync(member)
    if (this.state === 'Stable') {
      rebalance.touch(nowMs, member)
      reply(rebalance.syncAnswer(member))
      return
    }
    // An earlier sync of the same member waits no longer for anything.
    member.syncReply?.(syncRefusal(KafkaError.REBALANCE_IN_PROGRESS))
    member.syncReply = reply
    if (member.memberId === this.#members.leader) rebalance.storeAssignment(request.assignments)
  }

  /** @returns an error code */
  heartbeat(nowMs: number, name: MemberName, generationId: number): number {
    if (this.state === 'Dead') return KafkaError.COORDINATOR_NOT_AVAILABLE
    const wrong = this.#checkMember(name, generationId)
    if (wrong !== 0) return wrong
    if (this.state === 'Empty') return KafkaError.UNKNOWN_MEMBER_ID
    this.#rebalance.touch(nowMs, this.#members.expect(name.memberId))
    return this.state === 'PreparingRebalance' ? KafkaError.REBALANCE_IN_PROGRESS : 0
  }

  /** @returns an error code per member, in order */
  leave(nowMs: number, names: readonly MemberName[]): readonly number[] {
    if (this.state === 'Dead') return names.map(() => KafkaError.COORDINATOR_NOT_AVAILABLE)
    return names.map((name) => this.#leaveOne(nowMs, name))
  }

  /**
   * Whether such a commit may be made.
   * @param isTransactional  its generation counts, a rebalance under way does not (KIP-447)
   * @returns an error code
   */
  checkCommit(
    nowMs: number,
    name: MemberName,
    generationId: number,
    isTransactional = false,
  ): number {
    if (this.state === 'Dead') return KafkaError.COORDINATOR_NOT_AVAILABLE
    const isPlain = generationId < 0 && name.memberId === '' && name.groupInstanceId === null
    if (isPlain && (this.state === 'Empty' || isTransactional)) return 0
    if (generationId < 0 && this.state === 'Empty') return 0
    const wrong = this.#checkMember(name, generationId)
    if (wrong !== 0) return wrong
    if (isTransactional) return 0
    if (this.state === 'CompletingRebalance') return KafkaError.REBALANCE_IN_PROGRESS
    this.#rebalance.touch(nowMs, this.#members.expect(name.memberId))
    return 0
  }

  /** Whoever waits is told; the machine refuses everything from now on. */
  die(errorCode: number = KafkaError.COORDINATOR_NOT_AVAILABLE): void {
    const members = this.#members.copy()
    this.#rebalance.die()
    for (const member of members) answerParked(member, errorCode)
    this.#members.clear()
  }

  /** Sessions, rebalances and waits that are over by now. */
  tick(nowMs: number): void {
    if (nowMs < this.wakeMs) return
    const members = this.#members
    const rebalance = this.#rebalance
    rebalance.forgetWake()
    for (const [memberId, deadlineMs] of members.pending()) {
      if (deadlineMs <= nowMs) this.#removePending(nowMs, memberId)
    }
    for (const member of members.copy()) {
      if (member.deadlineMs <= nowMs && !isExcused(member)) this.#removeMember(nowMs, member)
    }
    rebalance.expire(nowMs)
    for (const [, deadlineMs] of members.pending()) rebalance.wakeAt(deadlineMs)
    for (const member of members.values()) {
      // Whoever is excused now gets a new deadline with its answer.
      if (!isExcused(member)) rebalance.wakeAt(member.deadlineMs)
    }
  }

  /** For tests: what must hold between two inputs. */
  verify(): void {
    this.#members.verify()
    this.#rebalance.verify()
  }

  // --- checks and leaving

  #checkSync(request: SyncRequest): number {
    if (this.state === 'Dead') return KafkaError.COORDINATOR_NOT_AVAILABLE
    const wrong = this.#checkMember(request, request.generationId)
    if (wrong !== 0) return wrong
    const { protocolType, protocolName } = request
    const isOther =
      (protocolType !== null && protocolType !== this.#members.protocolType) ||
      (protocolName !== null && protocolName !== this.#members.protocolName)
    if (isOther) return KafkaError.INCONSISTENT_GROUP_PROTOCOL
    return this.state === 'PreparingRebalance' ? KafkaError.REBALANCE_IN_PROGRESS : 0
  }

  #leaveOne(nowMs: number, name: MemberName): number {
    const members = this.#members
    if (name.memberId === '' && name.groupInstanceId !== null) {
      // An administrator removes a static member by its instance id.
      const memberId = members.idOfInstance(name.groupInstanceId)
      if (memberId === undefined) return KafkaError.UNKNOWN_MEMBER_ID
      this.#removeMember(nowMs, members.expect(memberId))
      return 0
    }
    if (members.isPending(name.memberId)) {
      this.#removePending(nowMs, name.memberId)
      return 0
    }
    const wrong = members.checkName(name)
    if (wrong !== 0) return wrong
    this.#removeMember(nowMs, members.expect(name.memberId))
    return 0
  }

  #removePending(nowMs: number, memberId: string): void {
    this.#members.deletePending(memberId)
    this.#rebalance.tryComplete(nowMs)
  }

  #removeMember(nowMs: number, member: GroupMember): void {
    this.#rebalance.drop(member)
    this.#rebalance.begin(nowMs)
  }

  /** @returns an error code */
  #checkMember(name: MemberName, generationId: number): number {
    const wrong = this.#members.checkName(name)
    if (wrong !== 0) return wrong
    return generationId === this.generation ? 0 : KafkaError.ILLEGAL_GENERATION
  }
}

/** Parked requests keep a member alive, but a new one's first join only for so long. */
function isExcused({ joinReply, syncReply, isNew }: GroupMember): boolean {
  return (joinReply !== undefined && !isNew) || syncReply !== undefined
}
