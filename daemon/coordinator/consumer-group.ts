/**
 * One group of the consumer protocol (KIP-848): a deterministic, synchronous machine (replication.md section 10.3;
 * Kafka's GroupMetadataManager). Members send heartbeats and nothing else; the group makes a target for all of them, and
 * each member comes to its own part step by step (member-reconciliation.ts).
 *
 * The group's epoch rises when members, subscriptions or topics change; the target is made for an epoch; a member's own
 * epoch follows when it has given back what the target takes from it.
 *
 * Members of the classic protocol may be among them (mixed-groups.ts): their joins come as heartbeats, their generation is
 * their epoch.
 *
 * What must be durable is collected in `takeChanges`, and the answer may go out only when it is. Time comes in as an
 * argument; the clock of sessions begins anew with `begin` after a start.
 *
 * Invariants:
 * - A partition is given to a member only when nobody has it (consumer-group-state.ts).
 * - Every change of the state is in `takeChanges` once, in order.
 * - `wakeMs` is never later than the next moment at which `tick` has something to do.
 */

import { KafkaError } from '../../src/protocol/errors.ts'
import type { MemberName } from './classic-members.ts'
import { checkInstance, findMember, isRefused, unknownMember } from './consumer-admission.ts'
import type { ConsumerChange, MemberMetadata } from './consumer-group-records.ts'
import { ConsumerGroupState, type ConsumerMember } from './consumer-group-state.ts'
import {
  type HeartbeatAnswer,
  type HeartbeatRefusal,
  type HeartbeatRequest,
  JOIN_EPOCH,
  LEAVE_EPOCH,
  LEAVE_FOR_A_WHILE_EPOCH,
  refuse,
} from './consumer-heartbeat.ts'
import { GroupTopics, type TopicsView } from './group-topics.ts'
import { isSameMetadata, isSameSubscription, updated } from './member-metadata.ts'
import { reconcile } from './member-reconciliation.ts'
import { has, isSame, NO_PARTITIONS } from './partition-sets.ts'
import { chooseAssignor, newTargets } from './target-assignment.ts'

export interface ConsumerGroupOptions {
  readonly sessionTimeoutMs: number
  readonly sizeMax: number
  /** The first is the default. */
  readonly assignors: readonly string[]
  /** Once only members of the classic protocol are left. */
  readonly mayBecomeClassic: boolean
}

const NEVER = Number.POSITIVE_INFINITY
const EPOCH_MAX = 0x7fffffff

export class ConsumerGroup {
  readonly groupId: string
  readonly state = new ConsumerGroupState()
  readonly #options: () => ConsumerGroupOptions
  readonly #topics: GroupTopics
  readonly #wallMs: () => number
  #changes: ConsumerChange[] = []
  /** Ends of sessions, by member id. */
  readonly #sessions = new Map<string, number>()
  /** Ends of the time to give partitions back, or to rejoin and fetch the assignment as classic members do. */
  readonly #waits = new Map<string, number>()
  #wakeMs = NEVER
  #areTopicsNew = true
  #emptySinceMs = -1

  constructor(
    groupId: string,
    options: () => ConsumerGroupOptions,
    topics: TopicsView,
    wallMs: () => number,
  ) {
    this.groupId = groupId
    this.#options = options
    this.#topics = new GroupTopics(topics)
    this.#wallMs = wallMs
  }

  /** A record of the log. */
  restore(change: ConsumerChange): void {
    this.state.apply(change)
  }

  /** All records are read: members have their session time to show themselves. */
  begin(nowMs: number): void {
    for (const { memberId, progress } of this.state.members()) {
      this.#extendSession(nowMs, memberId)
      if (progress.state === 'unrevoked') this.#await(nowMs, memberId)
    }
  }

  /** Members that a classic group had, with what they had in it. */
  adopt(nowMs: number, changes: readonly ConsumerChange[]): void {
    for (const change of changes) this.#change(change)
    for (const memberId of this.state.memberIds()) this.#extendSession(nowMs, memberId)
  }

  /** Topics came, went or grew. */
  noteTopics(): void {
    this.#areTopicsNew = true
  }

  get isEmpty(): boolean {
    return this.state.size === 0
  }

  /** Milliseconds since 1970; -1: since before this process. */
  get emptySinceMs(): number {
    return this.#emptySinceMs
  }

  /** Nobody is left who needs the consumer protocol. */
  get mustBecomeClassic(): boolean {
    return this.#options().mayBecomeClassic && this.state.isAllClassic
  }

  get wakeMs(): number {
    return this.#wakeMs
  }

  /** What this group reads, by name. */
  get subscribedTopics(): ReadonlySet<string> {
    const names = new Set<string>()
    for (const { metadata } of this.state.members()) {
      for (const name of this.#topics.namesOf(metadata)) names.add(name)
    }
    return names
  }

  get assignor(): string {
    return chooseAssignor(this.state, this.#options().assignors)
  }

  /** What has changed since the last call, to be stored in this order. */
  takeChanges(): readonly ConsumerChange[] {
    const changes = this.#changes
    this.#changes = []
    return changes
  }

  // --- requests

  /** The request alone is in order (findRequestDefect). */
  heartbeat(nowMs: number, request: HeartbeatRequest): HeartbeatAnswer | HeartbeatRefusal {
    if (request.memberEpoch < JOIN_EPOCH) return this.#leave(request)
    const found = findMember(this.state, request, this.#options().sizeMax)
    if (isRefused(found)) return found
    const { topicRegex } = request
    if (topicRegex !== null && topicRegex !== '') {
      const defect = this.#topics.learn(topicRegex)
      if (defect !== undefined) {
        return refuse(
          KafkaError.INVALID_REGULAR_EXPRESSION,
          `SubscribedTopicRegex ${topicRegex} is not a valid regular expression: ${defect}.`,
        )
      }
    }
    const { memberId } = request
    if (found !== undefined && found.memberId !== memberId) this.#replace(found, memberId)
    const assignedBefore = this.state.progressOf(memberId).assigned
    const isSubscriptionNew = this.#update(request, found?.metadata)
    if (this.state.epoch > this.state.targetEpoch) this.#makeTarget()
    this.#reconcile(nowMs, request, isSubscriptionNew)
    this.#extendSession(nowMs, memberId)
    if (request.classic !== null) this.#await(nowMs, memberId)
    const { epoch, assigned, state } = this.state.progressOf(memberId)
    // A full request asks for a full answer: the one before may have got lost.
    const isFull =
      request.memberEpoch === JOIN_EPOCH ||
      (request.rebalanceTimeoutMs >= 0 &&
        (request.topicNames !== null || topicRegex !== null) &&
        request.owned !== undefined)
    const isTold = !isFull && isSame(assignedBefore, assigned)
    return {
      memberId,
      memberEpoch: epoch,
      assigned: isTold ? null : assigned,
      isWaiting: state === 'unreleased',
    }
  }

  /**
   * Whether a member may commit or fetch offsets.
   * @param memberEpoch  negative: not of a member
   * @returns an error code
   */
  checkEpoch(memberId: string, memberEpoch: number): number {
    const member = this.state.get(memberId)
    if (member === undefined) return KafkaError.UNKNOWN_MEMBER_ID
    if (member.progress.epoch === memberEpoch) return 0
    const isClassic = member.metadata.classic !== null
    return isClassic ? KafkaError.ILLEGAL_GENERATION : KafkaError.STALE_MEMBER_EPOCH
  }

  isClassicMember(memberId: string): boolean {
    return (this.state.get(memberId)?.metadata.classic ?? null) !== null
  }

  /** Whether a classic member may speak. @returns an error code */
  checkClassic({ memberId, groupInstanceId }: MemberName, generationId: number): number {
    const wrong =
      groupInstanceId === null ? undefined : checkInstance(this.state, groupInstanceId, memberId)
    if (wrong !== undefined) return wrong.errorCode
    if (!this.isClassicMember(memberId)) return KafkaError.UNKNOWN_MEMBER_ID
    return this.checkEpoch(memberId, generationId)
  }

  /** Of a member of the classic protocol. @returns an error code */
  classicHeartbeat(nowMs: number, name: MemberName, generationId: number): number {
    const wrong = this.checkClassic(name, generationId)
    if (wrong !== 0) return wrong
    const { memberId } = name
    this.#extendSession(nowMs, memberId)
    if (!this.#mustRejoin(memberId)) return 0
    if (!this.#waits.has(memberId)) this.#await(nowMs, memberId)
    return KafkaError.REBALANCE_IN_PROGRESS
  }

  /** Whether it may be told what it has (`state.progressOf`). @returns an error code */
  classicSync(nowMs: number, name: MemberName, generationId: number): number {
    const wrong = this.checkClassic(name, generationId)
    if (wrong !== 0) return wrong
    const { memberId } = name
    this.#extendSession(nowMs, memberId)
    const { epoch, state } = this.state.progressOf(memberId)
    // Who has to give back first does that before it joins the newer epoch.
    if (epoch < this.state.epoch && state !== 'unrevoked') return KafkaError.REBALANCE_IN_PROGRESS
    if (state !== 'unrevoked') this.#waits.delete(memberId)
    return 0
  }

  /** Of members of the classic protocol, also static ones by the instance id alone. @returns an error code */
  classicLeave({ memberId, groupInstanceId }: MemberName): number {
    const holderId = groupInstanceId === null ? memberId : this.state.idOfInstance(groupInstanceId)
    if (holderId === undefined || !this.state.has(holderId)) return KafkaError.UNKNOWN_MEMBER_ID
    if (memberId !== '' && memberId !== holderId) return KafkaError.FENCED_INSTANCE_ID
    this.#remove(holderId)
    return 0
  }

  /** Nothing can be stored now: what is due waits. */
  postpone(untilMs: number): void {
    this.#wakeMs = untilMs
  }

  /** Sessions and waits that are over by now. */
  tick(nowMs: number): void {
    if (nowMs < this.#wakeMs) return
    this.#wakeMs = NEVER
    for (const deadlines of [this.#sessions, this.#waits]) {
      for (const [memberId, deadlineMs] of deadlines) {
        if (deadlineMs <= nowMs && this.state.has(memberId)) this.#remove(memberId)
      }
    }
    for (const deadlines of [this.#sessions, this.#waits]) {
      for (const deadlineMs of deadlines.values()) this.#wakeAt(deadlineMs)
    }
  }

  /** All that the log has of this group, as what takes it away; members may be there no more. */
  tombstones(): readonly ConsumerChange[] {
    const gone: ConsumerChange[] = []
    for (const memberId of this.state.memberIds()) {
      gone.push(...tombstonesOf(memberId))
    }
    gone.push({ kind: 'targetEpoch', value: undefined }, { kind: 'epoch', value: undefined })
    return gone
  }

  // --- members

  /** A static member is back under a new id: it gets what the old one had, and nobody else notices. */
  #replace({ memberId: oldId, metadata, progress }: ConsumerMember, memberId: string): void {
    const target = this.state.targetOf(oldId)
    this.#forget(oldId)
    this.#change({ kind: 'member', memberId, value: metadata })
    this.#change({ kind: 'target', memberId, value: target })
    this.#change({
      kind: 'progress',
      memberId,
      value: { ...progress, epoch: JOIN_EPOCH, previousEpoch: JOIN_EPOCH },
    })
  }

  /** @returns whether its subscription is another one than before */
  #update(request: HeartbeatRequest, before: MemberMetadata | undefined): boolean {
    const { state } = this
    const metadata = updated(request, before)
    const isWishNew = (before?.serverAssignor ?? null) !== metadata.serverAssignor
    const assignorBefore = isWishNew ? this.assignor : undefined
    if (before === undefined || !isSameMetadata(before, metadata)) {
      this.#change({ kind: 'member', memberId: request.memberId, value: metadata })
    }
    const isSubscriptionNew =
      before === undefined
        ? metadata.topicNames.length > 0 || metadata.topicRegex !== null
        : !isSameSubscription(before, metadata)
    if (isSubscriptionNew) this.#forgetPatterns()
    const mustRaise =
      state.epoch === 0 || isSubscriptionNew || (isWishNew && assignorBefore !== this.assignor)
    if (mustRaise || (this.#areTopicsNew && this.#hash() !== state.metadataHash)) this.#raiseEpoch()
    this.#areTopicsNew = false
    return isSubscriptionNew
  }

  /** A classic member learns of what is new for it by a join alone. */
  #mustRejoin(memberId: string): boolean {
    const { epoch, state, assigned } = this.state.progressOf(memberId)
    if (epoch < this.state.epoch || state === 'unrevoked') return true
    if (state === 'stable') return false
    for (const [topicId, partitions] of this.state.targetOf(memberId)) {
      for (const partition of partitions) {
        if (has(assigned, topicId, partition)) continue
        if (this.state.ownerOf(topicId, partition) !== undefined) return false
      }
    }
    return true
  }

  #leave(request: HeartbeatRequest): HeartbeatAnswer | HeartbeatRefusal {
    const { memberId, memberEpoch, instanceId } = request
    const wrong = instanceId === null ? undefined : checkInstance(this.state, instanceId, memberId)
    if (wrong !== undefined) return wrong
    if (!this.state.has(memberId)) return unknownMember(memberId)
    if (memberEpoch === LEAVE_EPOCH) this.#remove(memberId)
    else {
      // Its session runs on: whoever comes back under its instance id finds all in its place.
      this.#waits.delete(memberId)
      this.#change({
        kind: 'progress',
        memberId,
        value: {
          ...this.state.progressOf(memberId),
          epoch: LEAVE_FOR_A_WHILE_EPOCH,
          state: 'stable',
          pendingRevocation: NO_PARTITIONS,
        },
      })
    }
    return { memberId, memberEpoch, assigned: null, isWaiting: false }
  }

  /** It has left, or is fenced: nobody waits for what it has. */
  #remove(memberId: string): void {
    this.#forget(memberId)
    this.#forgetPatterns()
    // As a classic group it rebalances by itself, and those who are left keep their generation until then.
    if (!this.mustBecomeClassic) this.#raiseEpoch()
    if (this.isEmpty) this.#emptySinceMs = this.#wallMs()
  }

  #forget(memberId: string): void {
    this.#sessions.delete(memberId)
    this.#waits.delete(memberId)
    for (const change of tombstonesOf(memberId)) this.#change(change)
  }

  #forgetPatterns(): void {
    const sources = new Set<string>()
    for (const { metadata } of this.state.members()) {
      if (metadata.topicRegex !== null) sources.add(metadata.topicRegex)
    }
    this.#topics.forgetAllBut(sources)
  }

  // --- epochs and targets

  #hash(): string {
    const all = [...this.state.members()].map(({ metadata }) => metadata)
    return this.#topics.hashOf(all)
  }

  #raiseEpoch(): void {
    const { epoch } = this.state
    const next = epoch >= EPOCH_MAX ? 1 : epoch + 1
    this.#change({ kind: 'epoch', value: { epoch: next, metadataHash: this.#hash() } })
  }

  #makeTarget(): void {
    for (const change of newTargets(this.state, this.#topics, this.assignor)) this.#change(change)
    this.#change({ kind: 'targetEpoch', value: this.state.epoch })
  }

  #reconcile(
    nowMs: number,
    { memberId, owned }: HeartbeatRequest,
    isSubscriptionNew: boolean,
  ): void {
    const { state } = this
    const member = state.get(memberId) as ConsumerMember
    const { metadata } = member
    let subscribed: ReadonlySet<string> | undefined
    const progress = reconcile({
      progress: member.progress,
      targetEpoch: state.targetEpoch,
      target: state.targetOf(memberId),
      owned,
      isSubscribed: (topicId) => {
        subscribed ??= this.#topics.idsOf(metadata)
        return subscribed.has(topicId)
      },
      isSubscriptionNew,
      isHeldByOther: (topicId, partition) => {
        const owner = state.ownerOf(topicId, partition)
        return owner !== undefined && owner !== memberId
      },
    })
    if (progress === member.progress) return
    this.#change({ kind: 'progress', memberId, value: progress })
    if (progress.state === 'unrevoked') this.#await(nowMs, memberId)
    else this.#waits.delete(memberId)
  }

  #change(change: ConsumerChange): void {
    this.state.apply(change)
    this.#changes.push(change)
  }

  // --- waits

  #extendSession(nowMs: number, memberId: string): void {
    const classic = this.state.get(memberId)?.metadata.classic
    const deadlineMs = nowMs + (classic?.sessionTimeoutMs ?? this.#options().sessionTimeoutMs)
    this.#sessions.set(memberId, deadlineMs)
    this.#wakeAt(deadlineMs)
  }

  #await(nowMs: number, memberId: string): void {
    const deadlineMs = nowMs + (this.state.get(memberId)?.metadata.rebalanceTimeoutMs ?? 0)
    this.#waits.set(memberId, deadlineMs)
    this.#wakeAt(deadlineMs)
  }

  #wakeAt(ms: number): void {
    if (ms < this.#wakeMs) this.#wakeMs = ms
  }
}

function tombstonesOf(memberId: string): readonly ConsumerChange[] {
  return [
    { kind: 'progress', memberId, value: undefined },
    { kind: 'target', memberId, value: undefined },
    { kind: 'member', memberId, value: undefined },
  ]
}
