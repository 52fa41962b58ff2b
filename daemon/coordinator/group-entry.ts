/** One group with all that belongs to it, whichever protocol its members speak, and the questions that both answer. */

import type { Timer } from '../../src/ports/time.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import type { ClassicGroup } from './classic-group.ts'
import type { MemberName } from './classic-members.ts'
import type { ConsumerGroup } from './consumer-group.ts'
import type { GroupShard } from './group-shard.ts'
import type { OffsetTable } from './offset-table.ts'

export interface GroupEntry {
  readonly groupId: string
  readonly shard: GroupShard
  readonly offsets: OffsetTable
  readonly classic: ClassicGroup
  /** While it is of the consumer protocol; the classic one is empty then. */
  consumer: ConsumerGroup | undefined
  /** Whether the log holds a record of the classic group itself. */
  isStored: boolean
  /** Where the consumer group's last records end in the log. */
  endOffset: number
  timer: Timer | undefined
  timerMs: number
}

export type GroupType = 'classic' | 'consumer'

export function typeOf({ consumer }: GroupEntry): GroupType {
  return consumer === undefined ? 'classic' : 'consumer'
}

/** It is being deleted. */
export function isDead({ classic }: GroupEntry): boolean {
  return classic.state === 'Dead'
}

export function stateOf({ classic, consumer }: GroupEntry): string {
  return classic.state === 'Dead' ? 'Dead' : (consumer?.state.name ?? classic.state)
}

/** Empty: it never had members. */
export function protocolTypeOf({ classic, consumer }: GroupEntry): string {
  return consumer === undefined ? classic.protocolType : 'consumer'
}

/** Nothing but offsets may be left of it. */
export function isUnused({ classic, consumer }: GroupEntry): boolean {
  return classic.isUnused && (consumer === undefined || consumer.isEmpty)
}

/** When it lost its last member, milliseconds since 1970; -1: not known. */
export function emptySinceMs({ classic, consumer }: GroupEntry): number {
  return consumer === undefined ? classic.stateTimestampMs : consumer.emptySinceMs
}

/** By name; undefined: nobody can tell. */
export function subscribedTopicsOf({
  classic,
  consumer,
}: GroupEntry): ReadonlySet<string> | undefined {
  return consumer === undefined ? classic.subscribedTopics : consumer.subscribedTopics
}

export function wakeMsOf({ classic, consumer }: GroupEntry): number {
  return Math.min(classic.wakeMs, consumer?.wakeMs ?? Number.POSITIVE_INFINITY)
}

/** From here on members of consumer groups may commit. */
const MEMBER_EPOCH_VERSION = 9

/**
 * Whether such a commit may be made.
 * @param generation  or the member's epoch
 * @param apiVersion  of OffsetCommit; undefined: the offsets of a transaction, whose generation counts, while a rebalance
 *     under way does not (KIP-447)
 * @returns an error code
 */
export function checkCommit(
  entry: GroupEntry,
  nowMs: number,
  name: MemberName,
  generation: number,
  apiVersion: number | undefined,
): number {
  const { classic, consumer } = entry
  const isTransactional = apiVersion === undefined
  if (consumer === undefined || isDead(entry)) {
    return classic.checkCommit(nowMs, name, generation, isTransactional)
  }
  const isPlain = name.memberId === '' && name.groupInstanceId === null
  if (generation < 0 && (consumer.isEmpty || (isTransactional && isPlain))) return 0
  const isClassic = consumer.isClassicMember(name.memberId)
  const code = isClassic
    ? consumer.checkClassic(name, generation)
    : consumer.checkEpoch(name.memberId, generation)
  if (isTransactional) {
    // Its clients know generations only.
    return code === KafkaError.STALE_MEMBER_EPOCH ? KafkaError.ILLEGAL_GENERATION : code
  }
  const isOld =
    code !== KafkaError.UNKNOWN_MEMBER_ID && !isClassic && apiVersion < MEMBER_EPOCH_VERSION
  return isOld ? KafkaError.UNSUPPORTED_VERSION : code
}
