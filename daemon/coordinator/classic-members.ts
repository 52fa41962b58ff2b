/**
 * Who is in one group of the classic protocol, and what they agree on: members under their ids, static ones also under
 * their instance ids, those that were only given an id, the leader, the choice of the protocol. No clock, no answers, no
 * states: those are classic-rebalance.ts and classic-group.ts.
 *
 * Invariants:
 * - A member is there under one id; a static member's instance id stands for one member id.
 * - The order of the members is that of their joining, because assignors go by it.
 */

import { assert } from '../../src/base/assert.ts'
import { decodeSubscription } from '../../src/protocol/consumer-metadata.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import type { GroupMember, JoinAnswer, Protocol } from './group-member.ts'
import type { StoredMember } from './group-records.ts'

/** Who asks, in heartbeats, leaves and commits. */
export interface MemberName {
  readonly memberId: string
  readonly groupInstanceId: string | null
}

const NO_BYTES = new Uint8Array(0)

export class ClassicMembers {
  protocolType: string | undefined
  /** Of the generation. */
  protocolName: string | null = null
  leader: string | undefined
  readonly #members = new Map<string, GroupMember>()
  readonly #staticMembers = new Map<string, string>()
  /** Given an id and not joined yet, with the end of the wait for them. */
  readonly #pending = new Map<string, number>()

  get size(): number {
    return this.#members.size
  }

  get pendingSize(): number {
    return this.#pending.size
  }

  has(memberId: string): boolean {
    return this.#members.has(memberId)
  }

  get(memberId: string): GroupMember | undefined {
    return this.#members.get(memberId)
  }

  /** Of a member that is known to be there. */
  expect(memberId: string): GroupMember {
    const member = this.#members.get(memberId)
    assert(member !== undefined, 'the member is in the group')
    return member
  }

  /** Live: who removes members while going through them takes a copy. */
  values(): Iterable<GroupMember> {
    return this.#members.values()
  }

  copy(): GroupMember[] {
    return [...this.#members.values()]
  }

  idOfInstance(groupInstanceId: string): string | undefined {
    return this.#staticMembers.get(groupInstanceId)
  }

  clear(): void {
    this.#members.clear()
    this.#staticMembers.clear()
    this.#pending.clear()
  }

  add(member: GroupMember): void {
    const { memberId, groupInstanceId } = member
    this.#pending.delete(memberId)
    this.#members.set(memberId, member)
    if (groupInstanceId !== null) this.#staticMembers.set(groupInstanceId, memberId)
  }

  delete(member: GroupMember): void {
    const { memberId, groupInstanceId } = member
    this.#members.delete(memberId)
    if (groupInstanceId !== null) this.#staticMembers.delete(groupInstanceId)
    if (this.leader === memberId) this.leader = this.first
  }

  /** A static member came back under a new id. Its place among the members stays. */
  rename(member: GroupMember, memberId: string): void {
    const { memberId: oldId, groupInstanceId } = member
    assert(groupInstanceId !== null, 'only static members change their ids')
    const entries = [...this.#members]
    this.#members.clear()
    for (const [id, each] of entries) this.#members.set(id === oldId ? memberId : id, each)
    this.#staticMembers.set(groupInstanceId, memberId)
    member.memberId = memberId
    if (this.leader === oldId) this.leader = memberId
  }

  get first(): string | undefined {
    return this.#members.keys().next().value
  }

  // --- those without a join

  isPending(memberId: string): boolean {
    return this.#pending.has(memberId)
  }

  pending(): Iterable<readonly [memberId: string, deadlineMs: number]> {
    return this.#pending
  }

  addPending(memberId: string, deadlineMs: number): void {
    this.#pending.set(memberId, deadlineMs)
  }

  deletePending(memberId: string): void {
    this.#pending.delete(memberId)
  }

  // --- what they agree on

  /** @returns an error code */
  checkName({ memberId, groupInstanceId }: MemberName): number {
    if (groupInstanceId !== null) {
      const known = this.#staticMembers.get(groupInstanceId)
      if (known === undefined) return KafkaError.UNKNOWN_MEMBER_ID
      if (known !== memberId) return KafkaError.FENCED_INSTANCE_ID
    }
    return this.#members.has(memberId) ? 0 : KafkaError.UNKNOWN_MEMBER_ID
  }

  supports(protocolType: string, protocols: readonly Protocol[]): boolean {
    if (protocolType === '' || protocols.length === 0) return false
    if (this.#members.size === 0) return true
    if (protocolType !== this.protocolType) return false
    const common = this.#commonProtocols()
    return protocols.some(({ name }) => common.has(name))
  }

  get rebalanceTimeoutMs(): number {
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
  selectProtocol(): string | undefined {
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

  /** What members of the protocol type `consumer` read; undefined: nobody can tell. */
  subscribedTopics(): ReadonlySet<string> | undefined {
    if (this.protocolType !== 'consumer') return undefined
    const topics = new Set<string>()
    for (const member of this.#members.values()) {
      const subscription = decodeSubscription(this.metadataOf(member))
      // Something else under that name: which topics it reads nobody can tell.
      if (subscription === undefined) return undefined
      for (const topic of subscription.topics) topics.add(topic)
    }
    return topics
  }

  metadataOf(member: GroupMember): Uint8Array {
    return member.protocols.find(({ name }) => name === this.protocolName)?.metadata ?? NO_BYTES
  }

  /** As the leader is told it. */
  list(): JoinAnswer['members'] {
    return this.copy().map((member) => ({
      memberId: member.memberId,
      groupInstanceId: member.groupInstanceId,
      metadata: this.metadataOf(member),
    }))
  }

  /** @param assignments  in place of those in force */
  toStored(assignments?: ReadonlyMap<string, Uint8Array>): readonly StoredMember[] {
    return this.copy().map((member) => ({
      memberId: member.memberId,
      groupInstanceId: member.groupInstanceId,
      clientId: member.clientId,
      clientHost: member.clientHost,
      rebalanceTimeoutMs: member.rebalanceTimeoutMs,
      sessionTimeoutMs: member.sessionTimeoutMs,
      subscription: this.metadataOf(member),
      assignment:
        assignments === undefined
          ? member.assignment
          : (assignments.get(member.memberId) ?? NO_BYTES),
    }))
  }

  /** For tests. */
  verify(): void {
    for (const [instance, memberId] of this.#staticMembers) {
      assert(
        this.#members.get(memberId)?.groupInstanceId === instance,
        'a static id has its member',
      )
    }
  }
}
