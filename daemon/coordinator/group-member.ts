/** Members of classic groups: what they ask and are answered, and how their protocols are compared. */

import { decodeSubscription } from '../../src/protocol/consumer-metadata.ts'

const NO_BYTES = new Uint8Array(0)

export interface Protocol {
  readonly name: string
  readonly metadata: Uint8Array
}

export interface JoinRequest {
  /** Empty: a new member. */
  readonly memberId: string
  readonly groupInstanceId: string | null
  readonly clientId: string
  readonly clientHost: string
  readonly sessionTimeoutMs: number
  readonly rebalanceTimeoutMs: number
  readonly protocolType: string
  readonly protocols: readonly Protocol[]
  /** A new dynamic member gets MEMBER_ID_REQUIRED and its id first (KIP-394). */
  readonly requiresKnownMemberId: boolean
  /** The client understands skip_assignment (KIP-814). */
  readonly canSkipAssignment: boolean
  /** Makes the id of a new member unique. */
  readonly newMemberSuffix: string
}

export interface JoinAnswer {
  readonly errorCode: number
  readonly generationId: number
  readonly protocolType: string | null
  readonly protocolName: string | null
  readonly leader: string
  readonly skipAssignment: boolean
  readonly memberId: string
  /** Of the leader alone. */
  readonly members: readonly {
    readonly memberId: string
    readonly groupInstanceId: string | null
    readonly metadata: Uint8Array
  }[]
}

export interface SyncRequest {
  readonly memberId: string
  readonly groupInstanceId: string | null
  readonly generationId: number
  /** null: not told (before v5). */
  readonly protocolType: string | null
  readonly protocolName: string | null
  /** Of the leader; by member id. */
  readonly assignments: ReadonlyMap<string, Uint8Array>
}

export interface SyncAnswer {
  readonly errorCode: number
  readonly protocolType: string | null
  readonly protocolName: string | null
  readonly assignment: Uint8Array
}

export interface GroupMember {
  memberId: string
  readonly groupInstanceId: string | null
  clientId: string
  clientHost: string
  rebalanceTimeoutMs: number
  sessionTimeoutMs: number
  /** In the order of its preference. */
  protocols: readonly Protocol[]
  assignment: Uint8Array
  /** Has not completed a join yet. */
  isNew: boolean
  /** End of its session, on the clock of the machine's `nowMs`. */
  deadlineMs: number
  /** Its join waits for the others. */
  joinReply: ((answer: JoinAnswer) => void) | undefined
  /** Its sync waits for the leader's. */
  syncReply: ((answer: SyncAnswer) => void) | undefined
}

/** Its parked requests, if it has any, end here. */
export function answerParked(member: GroupMember, errorCode: number): void {
  const { joinReply, syncReply } = member
  member.joinReply = undefined
  member.syncReply = undefined
  joinReply?.(joinRefusal(errorCode, member.memberId))
  syncReply?.(syncRefusal(errorCode))
}

export function matchesProtocols(left: readonly Protocol[], right: readonly Protocol[]): boolean {
  return (
    left.length === right.length &&
    left.every((protocol, index) => {
      const other = right[index]
      return protocol.name === other?.name && sameBytes(protocol.metadata, other.metadata)
    })
  )
}

/**
 * Whether two subscriptions ask for the same topics. What a member owned changes by itself (a restarted one owns nothing),
 * and is no reason to assign anew; of other protocol types the bytes must be the same.
 */
export function sameTopics(protocolType: string, left: Uint8Array, right: Uint8Array): boolean {
  if (sameBytes(left, right)) return true
  if (protocolType !== 'consumer') return false
  const before = decodeSubscription(left)
  const after = decodeSubscription(right)
  if (before === undefined || after === undefined) return false
  const topics = new Set(before.topics)
  const others = new Set(after.topics)
  return topics.size === others.size && [...topics].every((topic) => others.has(topic))
}

function sameBytes(left: Uint8Array, right: Uint8Array): boolean {
  return Buffer.compare(left, right) === 0
}

export function joinRefusal(errorCode: number, memberId: string): JoinAnswer {
  return {
    errorCode,
    generationId: -1,
    protocolType: null,
    protocolName: null,
    leader: '',
    skipAssignment: false,
    memberId,
    members: [],
  }
}

export function syncRefusal(errorCode: number): SyncAnswer {
  return { errorCode, protocolType: null, protocolName: null, assignment: NO_BYTES }
}
