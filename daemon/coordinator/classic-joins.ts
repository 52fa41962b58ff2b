/**
 * How members come into a group of the classic protocol: as new ones (KIP-394 gives them an id first), again in a
 * rebalance, or back under a new id (static members, KIP-345).
 */

import { KafkaError } from '../../src/protocol/errors.ts'
import type { ClassicMembers } from './classic-members.ts'
import type { ClassicRebalance, StoreGroup } from './classic-rebalance.ts'
import {
  answerParked,
  type GroupMember,
  type JoinAnswer,
  type JoinRequest,
  joinRefusal,
  matchesProtocols,
  sameTopics,
} from './group-member.ts'

type Reply = (answer: JoinAnswer) => void

export interface JoinPorts {
  readonly sizeMax: () => number
  readonly store: StoreGroup
}

/** A member that never shows itself again after its first join, and is waited for. */
const NEW_MEMBER_JOIN_TIMEOUT_MS = 5 * 60_000
const NO_BYTES = new Uint8Array(0)

export class ClassicJoins {
  readonly #members: ClassicMembers
  readonly #rebalance: ClassicRebalance
  readonly #ports: JoinPorts

  constructor(members: ClassicMembers, rebalance: ClassicRebalance, ports: JoinPorts) {
    this.#members = members
    this.#rebalance = rebalance
    this.#ports = ports
  }

  /** The group is not dead. */
  join(nowMs: number, request: JoinRequest, reply: Reply): void {
    const wrong = this.#check(request)
    if (wrong !== 0) reply(joinRefusal(wrong, request.memberId))
    else if (request.memberId === '') this.#joinNew(nowMs, request, reply)
    else this.#joinKnown(nowMs, request, reply)
  }

  #check(request: JoinRequest): number {
    if (!this.#accepts(request)) return KafkaError.GROUP_MAX_SIZE_REACHED
    const isSupported = this.#members.supports(request.protocolType, request.protocols)
    return isSupported ? 0 : KafkaError.INCONSISTENT_GROUP_PROTOCOL
  }

  #accepts({ memberId, groupInstanceId }: JoinRequest): boolean {
    const members = this.#members
    if (members.has(memberId) || members.isPending(memberId)) return true
    if (groupInstanceId !== null && members.idOfInstance(groupInstanceId) !== undefined) return true
    return members.size + members.pendingSize < this.#ports.sizeMax()
  }

  #joinNew(nowMs: number, request: JoinRequest, reply: Reply): void {
    const { groupInstanceId, newMemberSuffix } = request
    if (groupInstanceId !== null) {
      const memberId = `${groupInstanceId}-${newMemberSuffix}`
      const oldId = this.#members.idOfInstance(groupInstanceId)
      if (oldId === undefined) this.#addMember(nowMs, memberId, request, reply)
      else this.#replace(nowMs, this.#members.expect(oldId), memberId, request, reply)
      return
    }
    const memberId = `${request.clientId}-${newMemberSuffix}`
    if (!request.requiresKnownMemberId) {
      this.#addMember(nowMs, memberId, request, reply)
      return
    }
    const deadlineMs = nowMs + request.sessionTimeoutMs
    this.#members.addPending(memberId, deadlineMs)
    this.#rebalance.wakeAt(deadlineMs)
    reply(joinRefusal(KafkaError.MEMBER_ID_REQUIRED, memberId))
  }

  #joinKnown(nowMs: number, request: JoinRequest, reply: Reply): void {
    const { memberId } = request
    if (this.#members.isPending(memberId) && request.groupInstanceId === null) {
      this.#addMember(nowMs, memberId, request, reply)
      return
    }
    const wrong = this.#members.checkName(request)
    if (wrong !== 0) {
      reply(joinRefusal(wrong, memberId))
      return
    }
    const member = this.#members.expect(memberId)
    const isUnchanged = matchesProtocols(member.protocols, request.protocols)
    switch (this.#rebalance.state) {
      case 'PreparingRebalance':
        this.#update(nowMs, member, request, reply)
        return
      case 'CompletingRebalance':
        // Its answer got lost: it joins anew what it has joined already.
        if (isUnchanged) reply(this.#rebalance.joinAnswer(member))
        else this.#update(nowMs, member, request, reply)
        return
      case 'Stable':
        if (isUnchanged && memberId !== this.#members.leader) {
          this.#rebalance.touch(nowMs, member)
          reply(this.#rebalance.joinAnswer(member))
        } else this.#update(nowMs, member, request, reply)
        return
      case 'Empty':
      case 'Dead':
        reply(joinRefusal(KafkaError.UNKNOWN_MEMBER_ID, memberId))
    }
  }

  #addMember(nowMs: number, memberId: string, request: JoinRequest, reply: Reply): void {
    const members = this.#members
    const deadlineMs = nowMs + NEW_MEMBER_JOIN_TIMEOUT_MS
    if (members.size === 0) members.protocolType = request.protocolType
    members.add({
      memberId,
      groupInstanceId: request.groupInstanceId,
      clientId: request.clientId,
      clientHost: request.clientHost,
      rebalanceTimeoutMs: request.rebalanceTimeoutMs,
      sessionTimeoutMs: request.sessionTimeoutMs,
      protocols: request.protocols,
      assignment: NO_BYTES,
      isNew: true,
      deadlineMs,
      joinReply: reply,
      syncReply: undefined,
    })
    members.leader ??= memberId
    this.#rebalance.wakeAt(deadlineMs)
    this.#rebalance.noteNewMember()
    this.#rebalance.begin(nowMs)
  }

  #update(nowMs: number, member: GroupMember, request: JoinRequest, reply: Reply): void {
    member.protocols = request.protocols
    member.rebalanceTimeoutMs = request.rebalanceTimeoutMs
    member.sessionTimeoutMs = request.sessionTimeoutMs
    // An earlier join of the same member waits no longer for anything.
    const earlier = member.joinReply
    member.joinReply = reply
    earlier?.(joinRefusal(KafkaError.REBALANCE_IN_PROGRESS, member.memberId))
    this.#rebalance.begin(nowMs)
  }

  /** A static member came back under a new member id (KIP-345): the old one is fenced. */
  #replace(
    nowMs: number,
    member: GroupMember,
    memberId: string,
    request: JoinRequest,
    reply: Reply,
  ): void {
    const members = this.#members
    const oldId = member.memberId
    answerParked(member, KafkaError.FENCED_INSTANCE_ID)
    const wasLeader = members.leader === oldId
    const protocol = members.protocolName
    const before = member.protocols.find(({ name }) => name === protocol)
    this.#rebalance.rename(member, memberId)
    member.clientId = request.clientId
    member.clientHost = request.clientHost
    member.protocols = request.protocols
    member.rebalanceTimeoutMs = request.rebalanceTimeoutMs
    member.sessionTimeoutMs = request.sessionTimeoutMs
    this.#rebalance.touch(nowMs, member)
    const after = request.protocols.find(({ name }) => name === protocol)
    const isSame =
      before !== undefined &&
      after !== undefined &&
      members.selectProtocol() === protocol &&
      sameTopics(members.protocolType ?? '', before.metadata, after.metadata)
    if (this.#rebalance.state !== 'Stable' || !isSame) {
      member.joinReply = reply
      this.#rebalance.begin(nowMs)
      return
    }
    const answer = this.#rebalance.joinAnswer(member)
    this.#ports.store(this.#rebalance.toStored(), (errorCode) => {
      if (errorCode !== 0) {
        reply(joinRefusal(errorCode, memberId))
        return
      }
      if (!wasLeader) reply(answer)
      else if (request.canSkipAssignment) {
        reply({ ...answer, members: members.list(), skipAssignment: true })
      } else {
        // It would assign anew if it were told that it leads; an old client cannot be told not to.
        reply({ ...answer, leader: oldId, members: [] })
      }
    })
  }
}
