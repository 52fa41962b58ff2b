/**
 * The membership of one group of the classic protocol: a deterministic, synchronous state machine (replication.md section
 * 10.2; Kafka's ClassicGroup and GroupMetadataManager). Time and new ids come in as arguments, answers leave through the
 * callbacks that came with the requests, and what must be durable leaves through `store`.
 *
 *     Empty → PreparingRebalance → CompletingRebalance → Stable → …; Dead is the end
 *
 * Invariants:
 * - Each request is answered exactly once; a parked join or sync at the latest when its member is removed.
 * - A member is in `members` under one id; a static member's instance id stands for one member id.
 * - The generation rises by one at each completed join. All members of a generation have the same protocol.
 * - An assignment is handed out only after it is stored, and only in the generation that it was made for.
 * - `wakeMs` is never later than the next moment at which `tick` has something to do.
 */

import { assert } from '../../src/base/assert.ts'
import { decodeSubscription } from '../../src/protocol/consumer-metadata.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import {
  type GroupMember,
  type JoinAnswer,
  type JoinRequest,
  joinRefusal,
  matchesProtocols,
  type SyncAnswer,
  type SyncRequest,
  sameTopics,
  syncRefusal,
} from './group-member.ts'
import type { StoredGroup } from './group-records.ts'

export type ClassicState =
  | 'Empty'
  | 'PreparingRebalance'
  | 'CompletingRebalance'
  | 'Stable'
  | 'Dead'

/** Who asks, in heartbeats, leaves and commits. */
export interface MemberName {
  readonly memberId: string
  readonly groupInstanceId: string | null
}

export interface ClassicGroupOptions {
  readonly initialRebalanceDelayMs: number
  readonly sizeMax: number
}

/** Makes a group's state durable. `done` is called once: 0, or the error for those who wait for it, and the time then. */
export type StoreGroup = (
  group: StoredGroup,
  done: (errorCode: number, nowMs: number) => void,
) => void

/** A member that never shows itself again after its first join, and is waited for. */
const NEW_MEMBER_JOIN_TIMEOUT_MS = 5 * 60_000
const NO_BYTES = new Uint8Array(0)

export class ClassicGroup {
  readonly groupId: string
  readonly #options: () => ClassicGroupOptions
  readonly #store: StoreGroup
  readonly #wallMs: () => number
  #state: ClassicState = 'Empty'
  #protocolType: string | undefined
  #protocolName: string | null = null
  #generation = 0
  #leader: string | undefined
  #stateTimestampMs = -1
  readonly #members = new Map<string, GroupMember>()
  readonly #staticMembers = new Map<string, string>()
  /** Given an id and not joined yet, with the end of the wait for them. */
  readonly #pendingMembers = new Map<string, number>()
  /** Joined this generation and have not asked for their assignment. */
  readonly #pendingSync = new Set<string>()
  #syncDeadlineMs = Number.POSITIVE_INFINITY
  #joinDeadlineMs = Number.POSITIVE_INFINITY
  /** Of the first rebalance after Empty: how much longer it may be put off; undefined: an ordinary one. */
  #initialRemainingMs: number | undefined
  #hasNewMember = false
  #wakeMs = Number.POSITIVE_INFINITY
  /** Of the protocol type `consumer`, when the generation was made; undefined: not known. */
  #subscribedTopics: ReadonlySet<string> | undefined

  constructor(
    groupId: string,
    options: () => ClassicGroupOptions,
    store: StoreGroup,
    wallMs: () => number,
  ) {
    this.groupId = groupId
    this.#options = options
    this.#store = store
    this.#wallMs = wallMs
  }

  /** Becomes what was stored; undefined: nothing was. Members have their session time to show themselves. */
  restore(stored: StoredGroup | undefined, nowMs: number): void {
    this.#members.clear()
    this.#staticMembers.clear()
    this.#protocolType = stored?.protocolType || undefined
    this.#generation = stored?.generation ?? 0
    this.#protocolName = stored?.protocol ?? null
    this.#stateTimestampMs = stored?.stateTimestampMs ?? -1
    for (const member of stored?.members ?? []) {
      const { memberId, groupInstanceId } = member
      this.#members.set(memberId, {
        ...member,
        protocols: [{ name: this.#protocolName ?? '', metadata: member.subscription }],
        isNew: false,
        deadlineMs: nowMs + member.sessionTimeoutMs,
        joinReply: undefined,
        syncReply: undefined,
      })
      if (groupInstanceId !== null) this.#staticMembers.set(groupInstanceId, memberId)
      this.#wakeAt(nowMs + member.sessionTimeoutMs)
    }
    this.#state = this.#members.size > 0 ? 'Stable' : 'Empty'
    const leader = stored?.leader ?? undefined
    const isLeaderThere = leader !== undefined && this.#members.has(leader)
    this.#leader = isLeaderThere ? leader : this.#members.keys().next().value
    this.#readSubscriptions()
  }

  get state(): ClassicState {
    return this.#state
  }

  get generation(): number {
    return this.#generation
  }

  /** Empty: it never had members. */
  get protocolType(): string {
    return this.#protocolType ?? ''
  }

  get protocolName(): string {
    return this.#protocolName ?? ''
  }

  get leader(): string | undefined {
    return this.#leader
  }

  /** When its state last became Stable or Empty, milliseconds since 1970; -1: not known. */
  get stateTimestampMs(): number {
    return this.#stateTimestampMs
  }

  get members(): Iterable<GroupMember> {
    return this.#members.values()
  }

  get memberCount(): number {
    return this.#members.size
  }

  /** undefined: nobody can tell. */
  get subscribedTopics(): ReadonlySet<string> | undefined {
    return this.#subscribedTopics
  }

  /** When tick is due, on the clock of `nowMs`. */
  get wakeMs(): number {
    return this.#wakeMs
  }

  /** Nothing but offsets may be left of it. */
  get isUnused(): boolean {
    return this.#state === 'Empty' && this.#pendingMembers.size === 0
  }

  // --- requests

  join(nowMs: number, request: JoinRequest, reply: (answer: JoinAnswer) => void): void {
    const wrong = this.#checkJoin(request)
    if (wrong !== 0) reply(joinRefusal(wrong, request.memberId))
    else if (request.memberId === '') this.#joinUnknown(nowMs, request, reply)
    else this.#joinKnown(nowMs, request, reply)
  }

  sync(nowMs: number, request: SyncRequest, reply: (answer: SyncAnswer) => void): void {
    const wrong = this.#checkSync(request)
    const member = this.#members.get(request.memberId)
    if (wrong !== 0 || member === undefined) {
      reply(syncRefusal(wrong))
      return
    }
    this.#pendingSync.delete(member.memberId)
    if (this.#state === 'Stable') {
      this.#touch(nowMs, member)
      reply(this.#syncAnswer(member))
      return
    }
    // An earlier sync of the same member waits no longer for anything.
    member.syncReply?.(syncRefusal(KafkaError.REBALANCE_IN_PROGRESS))
    member.syncReply = reply
    if (member.memberId === this.#leader) this.#storeAssignment(request.assignments)
  }

  /** @returns an error code */
  heartbeat(nowMs: number, name: MemberName, generationId: number): number {
    if (this.#state === 'Dead') return KafkaError.COORDINATOR_NOT_AVAILABLE
    const wrong = this.#checkMember(name, generationId)
    if (wrong !== 0) return wrong
    if (this.#state === 'Empty') return KafkaError.UNKNOWN_MEMBER_ID
    this.#touch(nowMs, this.#members.get(name.memberId) as GroupMember)
    return this.#state === 'PreparingRebalance' ? KafkaError.REBALANCE_IN_PROGRESS : 0
  }

  /** @returns an error code per member, in order */
  leave(nowMs: number, names: readonly MemberName[]): readonly number[] {
    if (this.#state === 'Dead') return names.map(() => KafkaError.COORDINATOR_NOT_AVAILABLE)
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
    if (this.#state === 'Dead') return KafkaError.COORDINATOR_NOT_AVAILABLE
    const isPlain = generationId < 0 && name.memberId === '' && name.groupInstanceId === null
    if (isPlain && (this.#state === 'Empty' || isTransactional)) return 0
    if (generationId < 0 && this.#state === 'Empty') return 0
    const wrong = this.#checkMember(name, generationId)
    if (wrong !== 0) return wrong
    if (isTransactional) return 0
    if (this.#state === 'CompletingRebalance') return KafkaError.REBALANCE_IN_PROGRESS
    this.#touch(nowMs, this.#members.get(name.memberId) as GroupMember)
    return 0
  }

  /** Whoever waits is told; the machine refuses everything from now on. */
  die(errorCode: number = KafkaError.COORDINATOR_NOT_AVAILABLE): void {
    this.#state = 'Dead'
    for (const member of this.#members.values()) answerParked(member, errorCode)
    this.#members.clear()
    this.#staticMembers.clear()
    this.#pendingMembers.clear()
    this.#pendingSync.clear()
    this.#wakeMs = Number.POSITIVE_INFINITY
  }

  /** Whoever waits is told; the group stays as it is (the broker ends, or is no longer the coordinator). */
  answerAllParked(errorCode: number): void {
    for (const member of this.#members.values()) answerParked(member, errorCode)
  }

  /** Sessions, rebalances and waits that are over by now. */
  tick(nowMs: number): void {
    if (nowMs < this.#wakeMs) return
    this.#wakeMs = Number.POSITIVE_INFINITY
    for (const [memberId, deadlineMs] of this.#pendingMembers) {
      if (deadlineMs <= nowMs) this.#removePending(nowMs, memberId)
    }
    for (const member of [...this.#members.values()]) {
      if (member.deadlineMs <= nowMs && !isExcused(member)) this.#removeMember(nowMs, member)
    }
    if (this.#syncDeadlineMs <= nowMs) this.#expireSync(nowMs)
    if (this.#joinDeadlineMs <= nowMs) this.#expireJoin(nowMs)
    for (const deadlineMs of this.#pendingMembers.values()) this.#wakeAt(deadlineMs)
    for (const member of this.#members.values()) {
      // Whoever is excused now gets a new deadline with its answer.
      if (!isExcused(member)) this.#wakeAt(member.deadlineMs)
    }
    this.#wakeAt(this.#syncDeadlineMs)
    this.#wakeAt(this.#joinDeadlineMs)
  }

  /** For tests: what must hold between two inputs. */
  verify(): void {
    for (const [instance, memberId] of this.#staticMembers) {
      assert(
        this.#members.get(memberId)?.groupInstanceId === instance,
        'a static id has its member',
      )
    }
    for (const member of this.#members.values()) {
      const { syncReply, joinReply } = member
      assert(
        syncReply === undefined || this.#state === 'CompletingRebalance',
        'syncs wait only for an assignment',
      )
      assert(
        joinReply === undefined || this.#state === 'PreparingRebalance',
        'joins wait only in a rebalance',
      )
    }
    const mustLead = this.#state === 'CompletingRebalance' || this.#state === 'Stable'
    assert(
      !mustLead || (this.#leader !== undefined && this.#members.has(this.#leader)),
      'a generation has a leader',
    )
    assert(this.#state !== 'Empty' || this.#members.size === 0, 'Empty means no members')
  }

  // --- joining

  #checkJoin(request: JoinRequest): number {
    if (this.#state === 'Dead') return KafkaError.COORDINATOR_NOT_AVAILABLE
    if (!this.#accepts(request)) return KafkaError.GROUP_MAX_SIZE_REACHED
    return this.#supports(request) ? 0 : KafkaError.INCONSISTENT_GROUP_PROTOCOL
  }

  #checkSync(request: SyncRequest): number {
    if (this.#state === 'Dead') return KafkaError.COORDINATOR_NOT_AVAILABLE
    const wrong = this.#checkMember(request, request.generationId)
    if (wrong !== 0) return wrong
    const { protocolType, protocolName } = request
    const isOther =
      (protocolType !== null && protocolType !== this.#protocolType) ||
      (protocolName !== null && protocolName !== this.#protocolName)
    if (isOther) return KafkaError.INCONSISTENT_GROUP_PROTOCOL
    return this.#state === 'PreparingRebalance' ? KafkaError.REBALANCE_IN_PROGRESS : 0
  }

  #accepts(request: JoinRequest): boolean {
    const { sizeMax } = this.#options()
    const { memberId } = request
    if (this.#members.has(memberId) || this.#pendingMembers.has(memberId)) return true
    const instance = request.groupInstanceId
    if (instance !== null && this.#staticMembers.has(instance)) return true
    return this.#members.size + this.#pendingMembers.size < sizeMax
  }

  #supports({ protocolType, protocols }: JoinRequest): boolean {
    if (protocolType === '' || protocols.length === 0) return false
    if (this.#members.size === 0) return true
    if (protocolType !== this.#protocolType) return false
    const common = this.#commonProtocols()
    return protocols.some(({ name }) => common.has(name))
  }

  #joinUnknown(nowMs: number, request: JoinRequest, reply: (answer: JoinAnswer) => void): void {
    const { groupInstanceId, newMemberSuffix } = request
    if (groupInstanceId !== null) {
      const memberId = `${groupInstanceId}-${newMemberSuffix}`
      if (this.#staticMembers.has(groupInstanceId)) this.#replace(nowMs, memberId, request, reply)
      else this.#addMember(nowMs, memberId, request, reply)
      return
    }
    const memberId = `${request.clientId}-${newMemberSuffix}`
    if (!request.requiresKnownMemberId) {
      this.#addMember(nowMs, memberId, request, reply)
      return
    }
    const deadlineMs = nowMs + request.sessionTimeoutMs
    this.#pendingMembers.set(memberId, deadlineMs)
    this.#wakeAt(deadlineMs)
    reply(joinRefusal(KafkaError.MEMBER_ID_REQUIRED, memberId))
  }

  #joinKnown(nowMs: number, request: JoinRequest, reply: (answer: JoinAnswer) => void): void {
    const { memberId } = request
    if (this.#pendingMembers.has(memberId) && request.groupInstanceId === null) {
      this.#addMember(nowMs, memberId, request, reply)
      return
    }
    const wrong = this.#checkName(request)
    if (wrong !== 0) {
      reply(joinRefusal(wrong, memberId))
      return
    }
    const member = this.#members.get(memberId) as GroupMember
    const isUnchanged = matchesProtocols(member.protocols, request.protocols)
    switch (this.#state) {
      case 'PreparingRebalance':
        this.#update(nowMs, member, request, reply)
        return
      case 'CompletingRebalance':
        // Its answer got lost: it joins anew what it has joined already.
        if (isUnchanged) reply(this.#joinAnswer(member))
        else this.#update(nowMs, member, request, reply)
        return
      case 'Stable':
        if (isUnchanged && memberId !== this.#leader) {
          this.#touch(nowMs, member)
          reply(this.#joinAnswer(member))
        } else this.#update(nowMs, member, request, reply)
        return
      case 'Empty':
      case 'Dead':
        reply(joinRefusal(KafkaError.UNKNOWN_MEMBER_ID, memberId))
    }
  }

  #addMember(
    nowMs: number,
    memberId: string,
    request: JoinRequest,
    reply: (answer: JoinAnswer) => void,
  ): void {
    this.#pendingMembers.delete(memberId)
    const { groupInstanceId } = request
    if (this.#members.size === 0) this.#protocolType = request.protocolType
    this.#members.set(memberId, {
      memberId,
      groupInstanceId,
      clientId: request.clientId,
      clientHost: request.clientHost,
      rebalanceTimeoutMs: request.rebalanceTimeoutMs,
      sessionTimeoutMs: request.sessionTimeoutMs,
      protocols: request.protocols,
      assignment: NO_BYTES,
      isNew: true,
      deadlineMs: nowMs + NEW_MEMBER_JOIN_TIMEOUT_MS,
      joinReply: reply,
      syncReply: undefined,
    })
    this.#wakeAt(nowMs + NEW_MEMBER_JOIN_TIMEOUT_MS)
    if (groupInstanceId !== null) this.#staticMembers.set(groupInstanceId, memberId)
    this.#leader ??= memberId
    if (this.#state === 'PreparingRebalance') this.#hasNewMember = true
    this.#rebalance(nowMs)
  }

  #update(
    nowMs: number,
    member: GroupMember,
    request: JoinRequest,
    reply: (answer: JoinAnswer) => void,
  ): void {
    member.protocols = request.protocols
    member.rebalanceTimeoutMs = request.rebalanceTimeoutMs
    member.sessionTimeoutMs = request.sessionTimeoutMs
    // An earlier join of the same member waits no longer for anything.
    const earlier = member.joinReply
    member.joinReply = reply
    earlier?.(joinRefusal(KafkaError.REBALANCE_IN_PROGRESS, member.memberId))
    this.#rebalance(nowMs)
  }

  /** A static member came back under a new member id (KIP-345): the old one is fenced. */
  #replace(
    nowMs: number,
    memberId: string,
    request: JoinRequest,
    reply: (answer: JoinAnswer) => void,
  ): void {
    const instance = request.groupInstanceId as string
    const oldId = this.#staticMembers.get(instance) as string
    const member = this.#members.get(oldId) as GroupMember
    answerParked(member, KafkaError.FENCED_INSTANCE_ID)
    const wasLeader = this.#leader === oldId
    const protocol = this.#protocolName
    const before = member.protocols.find(({ name }) => name === protocol)
    // Its place among the members stays, since assignors go by it.
    const entries = [...this.#members]
    this.#members.clear()
    for (const [id, each] of entries) this.#members.set(id === oldId ? memberId : id, each)
    this.#staticMembers.set(instance, memberId)
    member.memberId = memberId
    member.clientId = request.clientId
    member.clientHost = request.clientHost
    member.protocols = request.protocols
    member.rebalanceTimeoutMs = request.rebalanceTimeoutMs
    member.sessionTimeoutMs = request.sessionTimeoutMs
    if (wasLeader) this.#leader = memberId
    if (this.#pendingSync.delete(oldId)) this.#pendingSync.add(memberId)
    this.#touch(nowMs, member)
    const after = request.protocols.find(({ name }) => name === protocol)
    const isSame =
      before !== undefined &&
      after !== undefined &&
      this.#selectProtocol() === protocol &&
      sameTopics(this.protocolType, before.metadata, after.metadata)
    if (this.#state !== 'Stable' || !isSame) {
      member.joinReply = reply
      this.#rebalance(nowMs)
      return
    }
    const answer = this.#joinAnswer(member)
    this.#store(this.toStored(), (errorCode) => {
      if (errorCode !== 0) {
        reply(joinRefusal(errorCode, memberId))
        return
      }
      if (!wasLeader) reply(answer)
      else if (request.canSkipAssignment) {
        reply({ ...answer, members: this.#memberList(), skipAssignment: true })
      } else {
        // It would assign anew if it were told that it leads; an old client cannot be told not to.
        reply({ ...answer, leader: oldId, members: [] })
      }
    })
  }

  // --- rebalances

  /** Begins one, or sees whether the one under way is complete. */
  #rebalance(nowMs: number): void {
    if (this.#state === 'PreparingRebalance') {
      this.#tryComplete(nowMs)
      return
    }
    if (this.#state === 'CompletingRebalance') this.#failSyncs(nowMs)
    this.#pendingSync.clear()
    this.#syncDeadlineMs = Number.POSITIVE_INFINITY
    const wasEmpty = this.#state === 'Empty'
    this.#state = 'PreparingRebalance'
    this.#hasNewMember = false
    const { initialRebalanceDelayMs } = this.#options()
    if (wasEmpty && initialRebalanceDelayMs > 0) {
      const limitMs = this.#rebalanceTimeoutMs()
      this.#initialRemainingMs = Math.max(0, limitMs - initialRebalanceDelayMs)
      this.#joinDeadlineMs = nowMs + initialRebalanceDelayMs
    } else {
      this.#initialRemainingMs = undefined
      this.#joinDeadlineMs = nowMs + this.#rebalanceTimeoutMs()
    }
    this.#wakeAt(this.#joinDeadlineMs)
    this.#tryComplete(nowMs)
  }

  #tryComplete(nowMs: number): void {
    if (this.#state !== 'PreparingRebalance' || this.#initialRemainingMs !== undefined) return
    if (this.#pendingMembers.size > 0) return
    for (const member of this.#members.values()) if (member.joinReply === undefined) return
    this.#completeJoin(nowMs)
  }

  #expireJoin(nowMs: number): void {
    const remainingMs = this.#initialRemainingMs
    if (remainingMs !== undefined && remainingMs > 0 && this.#hasNewMember) {
      this.#hasNewMember = false
      const delayMs = Math.min(this.#options().initialRebalanceDelayMs, remainingMs)
      this.#initialRemainingMs = remainingMs - delayMs
      this.#joinDeadlineMs = nowMs + delayMs
      return
    }
    this.#completeJoin(nowMs)
  }

  #completeJoin(nowMs: number): void {
    this.#initialRemainingMs = undefined
    this.#joinDeadlineMs = Number.POSITIVE_INFINITY
    for (const member of [...this.#members.values()]) {
      // Static members have their session time to come back.
      if (member.joinReply === undefined && member.groupInstanceId === null) this.#drop(member)
    }
    if (this.#members.size === 0) {
      this.#becomeEmpty()
      return
    }
    const joined = [...this.#members.values()].filter(({ joinReply }) => joinReply !== undefined)
    const first = joined[0]
    if (first === undefined) {
      this.#joinDeadlineMs = nowMs + this.#rebalanceTimeoutMs()
      this.#wakeAt(this.#joinDeadlineMs)
      return
    }
    if (!joined.some(({ memberId }) => memberId === this.#leader)) this.#leader = first.memberId
    this.#generation = nextGeneration(this.#generation)
    this.#protocolName = this.#selectProtocol() ?? null
    this.#state = 'CompletingRebalance'
    this.#stateTimestampMs = this.#wallMs()
    this.#readSubscriptions()
    this.#pendingSync.clear()
    this.#syncDeadlineMs = nowMs + this.#rebalanceTimeoutMs()
    this.#wakeAt(this.#syncDeadlineMs)
    const answers = joined.map((member) => this.#joinAnswer(member))
    for (const [index, member] of joined.entries()) {
      const reply = member.joinReply
      member.joinReply = undefined
      member.isNew = false
      this.#pendingSync.add(member.memberId)
      this.#touch(nowMs, member)
      reply?.(answers[index] as JoinAnswer)
    }
  }

  #becomeEmpty(): void {
    this.#generation = nextGeneration(this.#generation)
    this.#protocolName = null
    this.#leader = undefined
    this.#state = 'Empty'
    this.#stateTimestampMs = this.#wallMs()
    this.#subscribedTopics = new Set()
    this.#store(this.toStored(), () => undefined)
  }

  #storeAssignment(assignments: ReadonlyMap<string, Uint8Array>): void {
    const generation = this.#generation
    this.#store(this.toStored(assignments), (errorCode, nowMs) => {
      const isCurrent = this.#state === 'CompletingRebalance' && this.#generation === generation
      if (!isCurrent) return
      if (errorCode !== 0) {
        this.#failSyncs(nowMs, errorCode)
        this.#rebalance(nowMs)
        return
      }
      this.#state = 'Stable'
      for (const member of this.#members.values()) {
        member.assignment = assignments.get(member.memberId) ?? NO_BYTES
      }
      for (const member of this.#members.values()) {
        const reply = member.syncReply
        if (reply === undefined) continue
        member.syncReply = undefined
        this.#touch(nowMs, member)
        reply(this.#syncAnswer(member))
      }
    })
  }

  /** The assignment of this generation will not come. */
  #failSyncs(nowMs: number, errorCode: number = KafkaError.REBALANCE_IN_PROGRESS): void {
    for (const member of this.#members.values()) {
      const reply = member.syncReply
      member.syncReply = undefined
      member.assignment = NO_BYTES
      if (reply === undefined) continue
      this.#touch(nowMs, member)
      reply(syncRefusal(errorCode))
    }
  }

  #expireSync(nowMs: number): void {
    this.#syncDeadlineMs = Number.POSITIVE_INFINITY
    const silent = [...this.#pendingSync]
    this.#pendingSync.clear()
    if (this.#state !== 'CompletingRebalance' && this.#state !== 'Stable') return
    if (silent.length === 0) return
    for (const memberId of silent) {
      const member = this.#members.get(memberId)
      if (member !== undefined) this.#drop(member)
    }
    this.#rebalance(nowMs)
  }

  // --- leaving

  #leaveOne(nowMs: number, name: MemberName): number {
    if (name.memberId === '' && name.groupInstanceId !== null) {
      // An administrator removes a static member by its instance id.
      const memberId = this.#staticMembers.get(name.groupInstanceId)
      if (memberId === undefined) return KafkaError.UNKNOWN_MEMBER_ID
      this.#removeMember(nowMs, this.#members.get(memberId) as GroupMember)
      return 0
    }
    if (this.#pendingMembers.has(name.memberId)) {
      this.#removePending(nowMs, name.memberId)
      return 0
    }
    const wrong = this.#checkName(name)
    if (wrong !== 0) return wrong
    this.#removeMember(nowMs, this.#members.get(name.memberId) as GroupMember)
    return 0
  }

  #removePending(nowMs: number, memberId: string): void {
    this.#pendingMembers.delete(memberId)
    this.#tryComplete(nowMs)
  }

  #removeMember(nowMs: number, member: GroupMember): void {
    this.#drop(member)
    this.#rebalance(nowMs)
  }

  #drop(member: GroupMember): void {
    this.#members.delete(member.memberId)
    this.#pendingSync.delete(member.memberId)
    const { groupInstanceId } = member
    if (groupInstanceId !== null) this.#staticMembers.delete(groupInstanceId)
    if (this.#leader === member.memberId) {
      this.#leader = this.#members.keys().next().value
    }
    answerParked(member, KafkaError.UNKNOWN_MEMBER_ID)
  }

  // --- shared

  /** @returns an error code */
  #checkName({ memberId, groupInstanceId }: MemberName): number {
    if (groupInstanceId !== null) {
      const known = this.#staticMembers.get(groupInstanceId)
      if (known === undefined) return KafkaError.UNKNOWN_MEMBER_ID
      if (known !== memberId) return KafkaError.FENCED_INSTANCE_ID
    }
    return this.#members.has(memberId) ? 0 : KafkaError.UNKNOWN_MEMBER_ID
  }

  #checkMember(name: MemberName, generationId: number): number {
    const wrong = this.#checkName(name)
    if (wrong !== 0) return wrong
    return generationId === this.#generation ? 0 : KafkaError.ILLEGAL_GENERATION
  }

  #touch(nowMs: number, member: GroupMember): void {
    member.deadlineMs = nowMs + member.sessionTimeoutMs
    this.#wakeAt(member.deadlineMs)
  }

  #wakeAt(ms: number): void {
    if (ms < this.#wakeMs) this.#wakeMs = ms
  }

  #rebalanceTimeoutMs(): number {
    let timeoutMs = 0
    for (const member of this.#members.values()) {
      timeoutMs = Math.max(timeoutMs, member.rebalanceTimeoutMs)
    }
    return timeoutMs
  }

  #commonProtocols(): ReadonlySet<string> {
    let common: Set<string> | undefined
    for (const { protocols } of this.#members.values()) {
      const names = protocols.map(({ name }) => name)
      const before = common
      common = new Set(before === undefined ? names : names.filter((name) => before.has(name)))
    }
    return common ?? new Set()
  }

  /** The one that all support with the most votes; each member votes for its first. */
  #selectProtocol(): string | undefined {
    const common = this.#commonProtocols()
    const votes = new Map<string, number>()
    for (const { protocols } of this.#members.values()) {
      const choice = protocols.find(({ name }) => common.has(name))
      if (choice !== undefined) votes.set(choice.name, (votes.get(choice.name) ?? 0) + 1)
    }
    let best: string | undefined
    for (const [name, count] of votes) {
      if (best === undefined || count > (votes.get(best) ?? 0)) best = name
    }
    return best
  }

  #readSubscriptions(): void {
    this.#subscribedTopics = undefined
    if (this.#protocolType !== 'consumer') return
    const topics = new Set<string>()
    for (const member of this.#members.values()) {
      const subscription = decodeSubscription(this.#metadataOf(member))
      // Something else under that name: which topics it reads nobody can tell.
      if (subscription === undefined) return
      for (const topic of subscription.topics) topics.add(topic)
    }
    this.#subscribedTopics = topics
  }

  #metadataOf(member: GroupMember): Uint8Array {
    return member.protocols.find(({ name }) => name === this.#protocolName)?.metadata ?? NO_BYTES
  }

  #memberList(): JoinAnswer['members'] {
    return [...this.#members.values()].map((member) => ({
      memberId: member.memberId,
      groupInstanceId: member.groupInstanceId,
      metadata: this.#metadataOf(member),
    }))
  }

  #joinAnswer(member: GroupMember): JoinAnswer {
    const isLeader = member.memberId === this.#leader
    return {
      errorCode: 0,
      generationId: this.#generation,
      protocolType: this.#protocolType ?? null,
      protocolName: this.#protocolName,
      leader: this.#leader ?? '',
      skipAssignment: false,
      memberId: member.memberId,
      members: isLeader ? this.#memberList() : [],
    }
  }

  #syncAnswer(member: GroupMember): SyncAnswer {
    return {
      errorCode: 0,
      protocolType: this.#protocolType ?? null,
      protocolName: this.#protocolName,
      assignment: member.assignment,
    }
  }

  /** @param assignments  in place of those in force */
  toStored(assignments?: ReadonlyMap<string, Uint8Array>): StoredGroup {
    return {
      protocolType: this.#protocolType ?? '',
      generation: this.#generation,
      protocol: this.#protocolName,
      leader: this.#leader ?? null,
      stateTimestampMs: this.#stateTimestampMs,
      members: [...this.#members.values()].map((member) => ({
        memberId: member.memberId,
        groupInstanceId: member.groupInstanceId,
        clientId: member.clientId,
        clientHost: member.clientHost,
        rebalanceTimeoutMs: member.rebalanceTimeoutMs,
        sessionTimeoutMs: member.sessionTimeoutMs,
        subscription: this.#metadataOf(member),
        assignment:
          assignments === undefined
            ? member.assignment
            : (assignments.get(member.memberId) ?? NO_BYTES),
      })),
    }
  }
}

/** Parked requests keep a member alive, but a new one's first join only for so long. */
function isExcused({ joinReply, syncReply, isNew }: GroupMember): boolean {
  return (joinReply !== undefined && !isNew) || syncReply !== undefined
}

function answerParked(member: GroupMember, errorCode: number): void {
  const { joinReply, syncReply } = member
  member.joinReply = undefined
  member.syncReply = undefined
  joinReply?.(joinRefusal(errorCode, member.memberId))
  syncReply?.(syncRefusal(errorCode))
}

function nextGeneration(generation: number): number {
  return generation >= 0x7fffffff ? 1 : generation + 1
}
