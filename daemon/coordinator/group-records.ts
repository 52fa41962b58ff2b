/**
 * The records of `__consumer_offsets`, byte for byte Kafka's own, so that Kafka's decoders and lag tools can read them:
 * kafka-protocol.md section 7.9. A key begins with the kind of its record (an int16), a value with its version.
 *
 * Here are offsets and classic groups; groups of the consumer protocol are consumer-group-records.ts.
 *
 * Read are all versions that Kafka has written; written are OffsetCommitValue v3 (v1 where the commit brings its own
 * time of expiry) and GroupMetadataValue v3. A null value is a tombstone.
 */

import { WireReader } from '../../src/protocol/wire-reader.ts'
import { WireWriter } from '../../src/protocol/wire-writer.ts'
import {
  type ConsumerChange,
  isConsumerKey,
  readConsumerChange,
  writeConsumerKey,
  writeConsumerValue,
} from './consumer-group-records.ts'

/** Of one partition, as it was committed. */
export interface CommittedOffset {
  readonly offset: number
  /** -1: not told. */
  readonly leaderEpoch: number
  readonly metadata: string
  /** Milliseconds since 1970. */
  readonly commitTimestampMs: number
  /** Of old clients that say how long theirs are kept; -1: as the broker says. */
  readonly expireTimestampMs: number
}

export interface StoredMember {
  readonly memberId: string
  readonly groupInstanceId: string | null
  readonly clientId: string
  readonly clientHost: string
  readonly rebalanceTimeoutMs: number
  readonly sessionTimeoutMs: number
  readonly subscription: Uint8Array
  readonly assignment: Uint8Array
}

/** A classic group as it is stored. */
export interface StoredGroup {
  readonly protocolType: string
  readonly generation: number
  readonly protocol: string | null
  readonly leader: string | null
  /** When its state last became Stable or Empty; -1: not told. */
  readonly stateTimestampMs: number
  readonly members: readonly StoredMember[]
}

export interface EncodedRecord {
  readonly key: Uint8Array
  /** null: a tombstone. */
  readonly value: Uint8Array | null
}

/** What a record says. `value` undefined: a tombstone. */
export type GroupRecord =
  | {
      readonly kind: 'offset'
      readonly group: string
      readonly topic: string
      readonly partition: number
      readonly value: CommittedOffset | undefined
    }
  | { readonly kind: 'group'; readonly group: string; readonly value: StoredGroup | undefined }
  /** Of a group of the consumer protocol. */
  | { readonly kind: 'consumer'; readonly group: string; readonly change: ConsumerChange }
  /** Of a kind that this version does not know, or keeps elsewhere. */
  | { readonly kind: 'other'; readonly type: number }

const OFFSET_KEY_V0 = 0
const OFFSET_KEY = 1
const GROUP_KEY = 2
const OFFSET_VALUE_VERSION = 3
const OFFSET_VALUE_WITH_EXPIRY_VERSION = 1
const GROUP_VALUE_VERSION = 3
/** From here on values are in flexible encoding. */
const FLEXIBLE_VALUE_VERSION = 4

export function encodeOffset(
  group: string,
  topic: string,
  partition: number,
  value: CommittedOffset | undefined,
): EncodedRecord {
  const key = write((writer) => {
    writer.int16(OFFSET_KEY)
    writer.string(group, false)
    writer.string(topic, false)
    writer.int32(partition)
  })
  return { key, value: value === undefined ? null : encodeOffsetValue(value) }
}

function encodeOffsetValue(value: CommittedOffset): Uint8Array {
  return write((writer) => {
    const hasExpiry = value.expireTimestampMs >= 0
    writer.int16(hasExpiry ? OFFSET_VALUE_WITH_EXPIRY_VERSION : OFFSET_VALUE_VERSION)
    writer.int64(value.offset)
    if (!hasExpiry) writer.int32(value.leaderEpoch)
    writer.string(value.metadata, false)
    writer.int64(value.commitTimestampMs)
    if (hasExpiry) writer.int64(value.expireTimestampMs)
  })
}

export function encodeGroup(group: string, value: StoredGroup | undefined): EncodedRecord {
  const key = write((writer) => {
    writer.int16(GROUP_KEY)
    writer.string(group, false)
  })
  return { key, value: value === undefined ? null : encodeGroupValue(value) }
}

function encodeGroupValue(value: StoredGroup): Uint8Array {
  return write((writer) => {
    writer.int16(GROUP_VALUE_VERSION)
    writer.string(value.protocolType, false)
    writer.int32(value.generation)
    writer.string(value.protocol, false)
    writer.string(value.leader, false)
    writer.int64(value.stateTimestampMs)
    writer.length(value.members.length, false)
    for (const member of value.members) {
      writer.string(member.memberId, false)
      writer.string(member.groupInstanceId, false)
      writer.string(member.clientId, false)
      writer.string(member.clientHost, false)
      writer.int32(member.rebalanceTimeoutMs)
      writer.int32(member.sessionTimeoutMs)
      writer.bytes(member.subscription, false)
      writer.bytes(member.assignment, false)
    }
  })
}

export function encodeConsumerChange(group: string, change: ConsumerChange): EncodedRecord {
  const key = write((writer) => writeConsumerKey(writer, group, change))
  if (change.value === undefined) return { key, value: null }
  return { key, value: write((writer) => writeConsumerValue(writer, change)) }
}

/** @throws StreamError MALFORMED_MESSAGE */
export function decodeRecord(key: Uint8Array, value: Uint8Array | null): GroupRecord {
  const reader = new WireReader([key], 'key of a group record')
  const type = reader.int16()
  if (type === OFFSET_KEY_V0 || type === OFFSET_KEY) {
    const group = reader.string(false) ?? ''
    const topic = reader.string(false) ?? ''
    const partition = reader.int32()
    const decoded = value === null ? undefined : decodeOffsetValue(value)
    return { kind: 'offset', group, topic, partition, value: decoded }
  }
  if (type === GROUP_KEY) {
    const group = reader.string(false) ?? ''
    return { kind: 'group', group, value: value === null ? undefined : decodeGroupValue(value) }
  }
  if (isConsumerKey(type)) {
    const valueReader = value === null ? undefined : new WireReader([value], 'group record')
    const { group, change } = readConsumerChange(type, reader, valueReader)
    return change === undefined ? { kind: 'other', type } : { kind: 'consumer', group, change }
  }
  return { kind: 'other', type }
}

function decodeOffsetValue(bytes: Uint8Array): CommittedOffset {
  const reader = new WireReader([bytes], 'committed offset')
  const version = reader.int16()
  const isFlexible = version >= FLEXIBLE_VALUE_VERSION
  const offset = reader.int64()
  const leaderEpoch = version >= 3 ? reader.int32() : -1
  const metadata = reader.string(isFlexible) ?? ''
  const commitTimestampMs = reader.int64()
  const expireTimestampMs = version === 1 ? reader.int64() : -1
  return { offset, leaderEpoch, metadata, commitTimestampMs, expireTimestampMs }
}

function decodeGroupValue(bytes: Uint8Array): StoredGroup {
  const reader = new WireReader([bytes], 'group metadata')
  const version = reader.int16()
  const isFlexible = version >= FLEXIBLE_VALUE_VERSION
  const protocolType = reader.string(isFlexible) ?? ''
  const generation = reader.int32()
  const protocol = reader.string(isFlexible)
  const leader = reader.string(isFlexible)
  const stateTimestampMs = version >= 2 ? reader.int64() : -1
  const members: StoredMember[] = []
  for (let left = reader.arrayLength(isFlexible); left > 0; left -= 1) {
    const memberId = reader.string(isFlexible) ?? ''
    const groupInstanceId = version >= 3 ? reader.string(isFlexible) : null
    const clientId = reader.string(isFlexible) ?? ''
    const clientHost = reader.string(isFlexible) ?? ''
    const rebalanceTimeoutMs = version >= 1 ? reader.int32() : -1
    const sessionTimeoutMs = reader.int32()
    const subscription = reader.byteRange(isFlexible) ?? NO_BYTES
    const assignment = reader.byteRange(isFlexible) ?? NO_BYTES
    if (isFlexible) reader.skipTags()
    members.push({
      memberId,
      groupInstanceId,
      clientId,
      clientHost,
      rebalanceTimeoutMs: rebalanceTimeoutMs < 0 ? sessionTimeoutMs : rebalanceTimeoutMs,
      sessionTimeoutMs,
      subscription: Uint8Array.from(subscription),
      assignment: Uint8Array.from(assignment),
    })
  }
  return { protocolType, generation, protocol, leader, stateTimestampMs, members }
}

const NO_BYTES = new Uint8Array(0)

const sharedWriter = new WireWriter()

function write(fill: (writer: WireWriter) => void): Uint8Array {
  sharedWriter.begin()
  fill(sharedWriter)
  const frames = sharedWriter.finish()
  return frames.length === 1 ? (frames[0] as Uint8Array) : Buffer.concat(frames)
}

/** Java's String.hashCode over UTF-16 units, and Kafka's abs: which partition of the internal topic keeps a group. */
export function partitionForGroup(group: string, partitions: number): number {
  let hash = 0
  for (let index = 0; index < group.length; index += 1) {
    hash = (Math.imul(hash, 31) + group.charCodeAt(index)) | 0
  }
  return (hash === -0x80000000 ? 0 : Math.abs(hash)) % partitions
}
