/**
 * The generations of one group of the classic protocol: its states, the two waits of a rebalance (for all to join, for
 * the leader's assignment), and what is stored. Requests come in by classic-group.ts.
 *
 *     Empty → PreparingRebalance → CompletingRebalance → Stable → …; Dead is the end
 *
 * Invariants:
 * - The generation rises by one at each completed join. All members of a generation have the same protocol.
 * - An assignment is handed out only after it is stored, and only in the generation that it was made for.
 * - Joins wait only while a rebalance is prepared, syncs only while it is completed.
 * - `wakeMs` is never later than the next moment at which `expire` has something to do.
 */

import { assert } from '../../src/base/assert.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import type { ClassicMembers } from './classic-members.ts'
import {
  answerParked,
  type GroupMember,
  type JoinAnswer,
  type SyncAnswer,
  syncRefusal,
} from './group-member.ts'
import type { StoredGroup } from './group-records.ts'

export type ClassicState =
  | 'Empty'
  | 'PreparingRebalance'
  | 'CompletingRebalance'
  | 'Stable'
  | 'Dead'

/** Makes a group's state durable. `done` is called once: 0, or the error for those who wait for it, and the time then. */
export type StoreGroup = (
  group: StoredGroup,
  done: (errorCode: number, nowMs: number) => void,
) => void

export interface RebalancePorts {
  /** How long the first rebalance of an empty group waits for more members. */
  readonly initialRebalanceDelayMs: () => number
  readonly store: StoreGroup
  readonly wallMs: () => number
}

const NO_BYTES = new Uint8Array(0)

export class ClassicRebalance {
  readonly #members: ClassicMembers
  readonly #ports: RebalancePorts
  #state: ClassicState = 'Empty'
  #generation = 0
  #stateTimestampMs = -1
  /** Joined this generation and have not asked for their assignment. */
  readonly #pendingSync = new Set<string>()
  #syncDeadlineMs = Number.POSITIVE_INFINITY
  #joinDeadlineMs = Number.POSITIVE_INFINITY
  /** Of the first rebalance after Empty: how much longer it may be put off; undefined: an ordinary one. */
  #initialRemainingMs: number | undefined
  #hasNewMember = false
  #wakeMs = Number.POSITIVE_INFINITY
  /** When the generation was made; undefined: not known. */
  #subscribedTopics: ReadonlySet<string> | undefined

  constructor(members: ClassicMembers, ports: RebalancePorts) {
    this.#members = members
    this.#ports = ports
  }

  get state(): ClassicState {
    return this.#state
  }

  get generation(): number {
    return this.#generation
  }

  /** When its state last became Stable or Empty, milliseconds since 1970; -1: not known. */
  get stateTimestampMs(): number {
    return this.#stateTimestampMs
  }

  get subscribedTopics(): ReadonlySet<string> | undefined {
    return this.#subscribedTopics
  }

  get wakeMs(): number {
    return this.#wakeMs
  }

  wakeAt(ms: number): void {
    if (ms < this.#wakeMs) this.#wakeMs = ms
  }

  /** The members are there already. */
  restore(stored: StoredGroup | undefined): void {
    this.#generation = stored?.generation ?? 0
    this.#stateTimestampMs = stored?.stateTimestampMs ?? -1
    this.#state = this.#members.size > 0 ? 'Stable' : 'Empty'
    this.#subscribedTopics = this.#members.subscribedTopics()
    this.#initialRemainingMs = undefined
    this.#joinDeadlineMs = Number.POSITIVE_INFINITY
    this.#syncDeadlineMs = Number.POSITIVE_INFINITY
  }

  /** The members are there already, and have an assignment of that generation. */
  adopt(generation: number): void {
    this.#generation = generation
    this.#stateTimestampMs = this.#ports.wallMs()
    this.#state = 'Stable'
    this.#subscribedTopics = this.#members.subscribedTopics()
  }

  die(): void {
    this.#state = 'Dead'
    this.#pendingSync.clear()
    this.#wakeMs = Number.POSITIVE_INFINITY
  }

  // --- members

  touch(nowMs: number, member: GroupMember): void {
    member.deadlineMs = nowMs + member.sessionTimeoutMs
    this.wakeAt(member.deadlineMs)
  }

  /** A member has come: the first rebalance may wait for more. */
  noteNewMember(): void {
    if (this.#state === 'PreparingRebalance') this.#hasNewMember = true
  }

  /** Whoever it leaves waiting is told. No rebalance begins. */
  drop(member: GroupMember): void {
    this.#members.delete(member)
    this.#pendingSync.delete(member.memberId)
    answerParked(member, KafkaError.UNKNOWN_MEMBER_ID)
  }

  rename(member: GroupMember, memberId: string): void {
    if (this.#pendingSync.delete(member.memberId)) this.#pendingSync.add(memberId)
    this.#members.rename(member, memberId)
  }

  // --- joins

  /** Begins a rebalance, or sees whether the one under way is complete. */
  begin(nowMs: number): void {
    if (this.#state === 'PreparingRebalance') {
      this.tryComplete(nowMs)
      return
    }
    if (this.#state === 'CompletingRebalance') this.#failSyncs(nowMs)
    this.#pendingSync.clear()
    this.#syncDeadlineMs = Number.POSITIVE_INFINITY
    const wasEmpty = this.#state === 'Empty'
    this.#state = 'PreparingRebalance'
    this.#hasNewMember = false
    const initialRebalanceDelayMs = this.#ports.initialRebalanceDelayMs()
    if (wasEmpty && initialRebalanceDelayMs > 0) {
      const limitMs = this.#members.rebalanceTimeoutMs
      this.#initialRemainingMs = Math.max(0, limitMs - initialRebalanceDelayMs)
      this.#joinDeadlineMs = nowMs + initialRebalanceDelayMs
    } else {
      this.#initialRemainingMs = undefined
      this.#joinDeadlineMs = nowMs + this.#members.rebalanceTimeoutMs
    }
    this.wakeAt(this.#joinDeadlineMs)
    this.tryComplete(nowMs)
  }

  tryComplete(nowMs: number): void {
    if (this.#state !== 'PreparingRebalance' || this.#initialRemainingMs !== undefined) return
    if (this.#members.pendingSize > 0) return
    for (const member of this.#members.values()) if (member.joinReply === undefined) return
    this.#completeJoin(nowMs)
  }

  /** What is over by now; to be called with each tick. Afterwards wakeMs knows the deadlines of rebalances only. */
  expire(nowMs: number): void {
    if (this.#syncDeadlineMs <= nowMs) this.#expireSync(nowMs)
    if (this.#joinDeadlineMs <= nowMs) this.#expireJoin(nowMs)
    this.wakeAt(this.#syncDeadlineMs)
    this.wakeAt(this.#joinDeadlineMs)
  }

  /** A tick begins: nothing is known to be due. */
  forgetWake(): void {
    this.#wakeMs = Number.POSITIVE_INFINITY
  }

  #expireJoin(nowMs: number): void {
    const remainingMs = this.#initialRemainingMs
    if (remainingMs !== undefined && remainingMs > 0 && this.#hasNewMember) {
      this.#hasNewMember = false
      const delayMs = Math.min(this.#ports.initialRebalanceDelayMs(), remainingMs)
      this.#initialRemainingMs = remainingMs - delayMs
      this.#joinDeadlineMs = nowMs + delayMs
      return
    }
    this.#completeJoin(nowMs)
  }

  #completeJoin(nowMs: number): void {
    const members = this.#members
    this.#initialRemainingMs = undefined
    this.#joinDeadlineMs = Number.POSITIVE_INFINITY
    for (const member of members.copy()) {
      // Static members have their session time to come back.
      if (member.joinReply === undefined && member.groupInstanceId === null) this.drop(member)
    }
    if (members.size === 0) {
      this.#becomeEmpty()
      return
    }
    const joined = members.copy().filter(({ joinReply }) => joinReply !== undefined)
    const first = joined[0]
    if (first === undefined) {
      this.#joinDeadlineMs = nowMs + members.rebalanceTimeoutMs
      this.wakeAt(this.#joinDeadlineMs)
      return
    }
    if (!joined.some(({ memberId }) => memberId === members.leader)) {
      members.leader = first.memberId
    }
    this.#generation = nextGeneration(this.#generation)
    members.protocolName = members.selectProtocol() ?? null
    this.#state = 'CompletingRebalance'
    this.#stateTimestampMs = this.#ports.wallMs()
    this.#subscribedTopics = members.subscribedTopics()
    this.#pendingSync.clear()
    this.#syncDeadlineMs = nowMs + members.rebalanceTimeoutMs
    this.wakeAt(this.#syncDeadlineMs)
    const answers = joined.map((member) => this.joinAnswer(member))
    for (const [index, member] of joined.entries()) {
      const reply = member.joinReply
      member.joinReply = undefined
      member.isNew = false
      this.#pendingSync.add(member.memberId)
      this.touch(nowMs, member)
      reply?.(answers[index] as JoinAnswer)
    }
  }

  #becomeEmpty(): void {
    const members = this.#members
    this.#generation = nextGeneration(this.#generation)
    members.protocolName = null
    members.leader = undefined
    this.#state = 'Empty'
    this.#stateTimestampMs = this.#ports.wallMs()
    this.#subscribedTopics = new Set()
    this.#ports.store(this.toStored(), () => undefined)
  }

  // --- assignments

  /** A member asks for its assignment: it joined this generation with success. */
  noteSync(member: GroupMember): void {
    this.#pendingSync.delete(member.memberId)
  }

  storeAssignment(assignments: ReadonlyMap<string, Uint8Array>): void {
    const generation = this.#generation
    this.#ports.store(this.toStored(assignments), (errorCode, nowMs) => {
      const isCurrent = this.#state === 'CompletingRebalance' && this.#generation === generation
      if (!isCurrent) return
      if (errorCode !== 0) {
        this.#failSyncs(nowMs, errorCode)
        this.begin(nowMs)
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
        this.touch(nowMs, member)
        reply(this.syncAnswer(member))
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
      this.touch(nowMs, member)
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
      if (member !== undefined) this.drop(member)
    }
    this.begin(nowMs)
  }

  // --- answers

  joinAnswer(member: GroupMember): JoinAnswer {
    const { leader, protocolType, protocolName } = this.#members
    return {
      errorCode: 0,
      generationId: this.#generation,
      protocolType: protocolType ?? null,
      protocolName,
      leader: leader ?? '',
      skipAssignment: false,
      memberId: member.memberId,
      members: member.memberId === leader ? this.#members.list() : [],
    }
  }

  syncAnswer(member: GroupMember): SyncAnswer {
    const { protocolType, protocolName } = this.#members
    return {
      errorCode: 0,
      protocolType: protocolType ?? null,
      protocolName,
      assignment: member.assignment,
    }
  }

  /** @param assignments  in place of those in force */
  toStored(assignments?: ReadonlyMap<string, Uint8Array>): StoredGroup {
    const { protocolType, protocolName, leader } = this.#members
    return {
      protocolType: protocolType ?? '',
      generation: this.#generation,
      protocol: protocolName,
      leader: leader ?? null,
      stateTimestampMs: this.#stateTimestampMs,
      members: this.#members.toStored(assignments),
    }
  }

  /** For tests: what must hold between two inputs. */
  verify(): void {
    for (const { syncReply, joinReply } of this.#members.values()) {
      assert(
        syncReply === undefined || this.#state === 'CompletingRebalance',
        'syncs wait only for an assignment',
      )
      assert(
        joinReply === undefined || this.#state === 'PreparingRebalance',
        'joins wait only in a rebalance',
      )
    }
    const { leader } = this.#members
    const mustLead = this.#state === 'CompletingRebalance' || this.#state === 'Stable'
    assert(
      !mustLead || (leader !== undefined && this.#members.has(leader)),
      'a generation has a leader',
    )
    assert(this.#state !== 'Empty' || this.#members.size === 0, 'Empty means no members')
  }
}

function nextGeneration(generation: number): number {
  return generation >= 0x7fffffff ? 1 : generation + 1
}
