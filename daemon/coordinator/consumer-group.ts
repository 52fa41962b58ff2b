/**
 * One group of the consumer protocol (KIP-848): a deterministic, synchronous machine (replication.md section 10.3;
 * Kafka's GroupMetadataManager). Members send heartbeats and nothing else; the group makes a target for all of them, and
 * each member comes to its own part step by step (member-reconciliation.ts).
 *
 * The group's epoch rises when members, subscriptions or topics change; the target is made for an epoch; a member's own
 * epoch follows when it has given back what the target takes from it.
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
import { isSame, NO_PARTITIONS } from './partition-sets.ts'
import { chooseAssignor, newTargets } from './target-assignment.ts'

export interface ConsumerGroupOptions {
  readonly sessionTimeoutMs: number
  readonly sizeMax: number
  /** The first is the default. */
  readonly assignors: readonly string[]
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
  /** Ends of the time to give partitions back. */
  readonly #revocations = new Map<string, number>()
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
    for (const { memberId, metadata, progress } of this.state.members()) {
      this.#extendSession(nowMs, memberId)
      if (progress.state === 'unrevoked') this.#awaitRevocation(nowMs, memberId, metadata)
    }
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
    return member.progress.epoch === memberEpoch ? 0 : KafkaError.STALE_MEMBER_EPOCH
  }

  /** Nothing can be stored now: what is due waits. */
  postpone(untilMs: number): void {
    this.#wakeMs = untilMs
  }

  /** Sessions and revocations that are over by now. */
  tick(nowMs: number): void {
    if (nowMs < this.#wakeMs) return
    this.#wakeMs = NEVER
    for (const deadlines of [this.#sessions, this.#revocations]) {
      for (const [memberId, deadlineMs] of deadlines) {
        if (deadlineMs <= nowMs && this.state.has(memberId)) this.#remove(memberId)
      }
    }
    for (const deadlines of [this.#sessions, this.#revocations]) {
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

  #leave(request: HeartbeatRequest): HeartbeatAnswer | HeartbeatRefusal {
    const { memberId, memberEpoch, instanceId } = request
    const wrong = instanceId === null ? undefined : checkInstance(this.state, instanceId, memberId)
    if (wrong !== undefined) return wrong
    if (!this.state.has(memberId)) return unknownMember(memberId)
    if (memberEpoch === LEAVE_EPOCH) this.#remove(memberId)
    else {
      // Its session runs on: whoever comes back under its instance id finds all in its place.
      this.#revocations.delete(memberId)
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
    this.#raiseEpoch()
    if (this.isEmpty) this.#emptySinceMs = this.#wallMs()
  }

  #forget(memberId: string): void {
    this.#sessions.delete(memberId)
    this.#revocations.delete(memberId)
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
    if (progress.state === 'unrevoked') this.#awaitRevocation(nowMs, memberId, metadata)
    else this.#revocations.delete(memberId)
  }

  #change(change: ConsumerChange): void {
    this.state.apply(change)
    this.#changes.push(change)
  }

  // --- waits

  #extendSession(nowMs: number, memberId: string): void {
    const deadlineMs = nowMs + this.#options().sessionTimeoutMs
    this.#sessions.set(memberId, deadlineMs)
    this.#wakeAt(deadlineMs)
  }

  #awaitRevocation(nowMs: number, memberId: string, metadata: MemberMetadata): void {
    const deadlineMs = nowMs + metadata.rebalanceTimeoutMs
    this.#revocations.set(memberId, deadlineMs)
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
