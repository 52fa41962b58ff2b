/**
 * The records of groups of the consumer protocol (KIP-848) in `__consumer_offsets`, byte for byte Kafka's own:
 * kafka-protocol.md section 7.9. Keys are an int16 with the kind, the group and where it is about one member its id;
 * values are version 0 in flexible encoding. These numbers are permanent.
 *
 *     kind  key                value
 *     3     group              epoch i32, tag 0: metadata hash i64
 *     5     group, member id   instance, rack, client id, client host, topics, expression, rebalance timeout, assignor,
 *                              tag 0: session timeout and protocols of a member of the classic protocol
 *     6     group              assignment epoch i32
 *     7     group, member id   target: [topic id, partitions]
 *     8     group, member id   epoch i32, previous epoch i32, state i8, assigned, to be revoked: [topic id, partitions]
 *
 * Kinds 4 (the metadata of topics, by Kafka up to 4.0) and 16 (what expressions stood for) are read over: both are worked
 * out anew from the topics that there are.
 */

import type { WireReader } from '../../src/protocol/wire-reader.ts'
import type { WireWriter } from '../../src/protocol/wire-writer.ts'
import type { Protocol } from './group-member.ts'
import { type Partitions, partitionsOf, rowsOf, type TopicIdPartitions } from './partition-sets.ts'

/** What a member has said of itself. */
export interface MemberMetadata {
  readonly instanceId: string | null
  readonly rackId: string | null
  readonly clientId: string
  readonly clientHost: string
  readonly rebalanceTimeoutMs: number
  /** Sorted. */
  readonly topicNames: readonly string[]
  /** null: none. */
  readonly topicRegex: string | null
  readonly serverAssignor: string | null
  /** null: it speaks the consumer protocol. */
  readonly classic: ClassicMetadata | null
}

/** What a member of the classic protocol has said besides. */
export interface ClassicMetadata {
  readonly sessionTimeoutMs: number
  /** In the order of its preference; at least one. */
  readonly protocols: readonly Protocol[]
}

/** `unrevoked`: has to give partitions back first; `unreleased`: waits for partitions that others still have. */
export type MemberState = 'stable' | 'unrevoked' | 'unreleased'

/** How far a member has come. */
export interface MemberProgress {
  /** −2: a static member that has left for a while. */
  readonly epoch: number
  readonly previousEpoch: number
  readonly state: MemberState
  readonly assigned: Partitions
  readonly pendingRevocation: Partitions
}

/** One fact of a group. Without a value: it is forgotten. */
export type ConsumerChange =
  | {
      readonly kind: 'epoch'
      readonly value: { readonly epoch: number; readonly metadataHash: string } | undefined
    }
  | {
      readonly kind: 'member'
      readonly memberId: string
      readonly value: MemberMetadata | undefined
    }
  | { readonly kind: 'targetEpoch'; readonly value: number | undefined }
  | { readonly kind: 'target'; readonly memberId: string; readonly value: Partitions | undefined }
  | {
      readonly kind: 'progress'
      readonly memberId: string
      readonly value: MemberProgress | undefined
    }

/** 16 hexadecimal digits. */
export const NO_HASH = '0'.repeat(16)

const EPOCH_KEY = 3
const TOPICS_KEY = 4
const MEMBER_KEY = 5
const TARGET_EPOCH_KEY = 6
const TARGET_KEY = 7
const PROGRESS_KEY = 8
const EXPRESSION_KEY = 16
const VALUE_VERSION = 0
const HASH_TAG = 0
const CLASSIC_TAG = 0
/** A struct that could be null and is not. */
const PRESENT = 1
const STATES: readonly MemberState[] = ['stable', 'unrevoked', 'unreleased']

/** Of this protocol, known or read over. */
export function isConsumerKey(type: number): boolean {
  return (type >= EPOCH_KEY && type <= PROGRESS_KEY) || type === EXPRESSION_KEY
}

const keys: Readonly<Record<ConsumerChange['kind'], number>> = {
  epoch: EPOCH_KEY,
  member: MEMBER_KEY,
  targetEpoch: TARGET_EPOCH_KEY,
  target: TARGET_KEY,
  progress: PROGRESS_KEY,
}

export function writeConsumerKey(writer: WireWriter, group: string, change: ConsumerChange): void {
  writer.int16(keys[change.kind])
  writer.string(group, false)
  if ('memberId' in change) writer.string(change.memberId, false)
}

/** A change without a value has none: its record is a tombstone. */
export function writeConsumerValue(writer: WireWriter, change: ConsumerChange): void {
  if (change.value === undefined) return
  writer.int16(VALUE_VERSION)
  switch (change.kind) {
    case 'epoch':
      writeEpoch(writer, change.value)
      break
    case 'member':
      writeMember(writer, change.value)
      break
    case 'targetEpoch':
      writer.int32(change.value)
      writer.uvarint(0)
      break
    case 'target':
      writePartitions(writer, change.value)
      writer.uvarint(0)
      break
    case 'progress':
      writer.int32(change.value.epoch)
      writer.int32(change.value.previousEpoch)
      writer.int8(STATES.indexOf(change.value.state))
      writePartitions(writer, change.value.assigned)
      writePartitions(writer, change.value.pendingRevocation)
      writer.uvarint(0)
  }
}

function writeEpoch(
  writer: WireWriter,
  value: { readonly epoch: number; readonly metadataHash: string },
): void {
  writer.int32(value.epoch)
  if (value.metadataHash === NO_HASH) {
    writer.uvarint(0)
    return
  }
  writer.uvarint(1)
  writer.tag(HASH_TAG, () => {
    writer.int32(Number.parseInt(value.metadataHash.slice(0, 8), 16) | 0)
    writer.int32(Number.parseInt(value.metadataHash.slice(8), 16) | 0)
  })
}

function writeMember(writer: WireWriter, value: MemberMetadata): void {
  writer.string(value.instanceId, true)
  writer.string(value.rackId, true)
  writer.string(value.clientId, true)
  writer.string(value.clientHost, true)
  writer.length(value.topicNames.length, true)
  for (const name of value.topicNames) writer.string(name, true)
  writer.string(value.topicRegex, true)
  writer.int32(value.rebalanceTimeoutMs)
  writer.string(value.serverAssignor, true)
  writer.uvarint(value.classic === null ? 0 : 1)
  if (value.classic !== null) writeClassic(writer, value.classic)
}

function writeClassic(writer: WireWriter, value: ClassicMetadata): void {
  writer.tag(CLASSIC_TAG, () => {
    writer.int8(PRESENT)
    writer.int32(value.sessionTimeoutMs)
    writer.length(value.protocols.length, true)
    for (const { name, metadata } of value.protocols) {
      writer.string(name, true)
      writer.bytes(metadata, true)
      writer.uvarint(0)
    }
    writer.uvarint(0)
  })
}

function writePartitions(writer: WireWriter, partitions: Partitions): void {
  writer.length(partitions.size, true)
  for (const { topicId, partitions: indexes } of rowsOf(partitions)) {
    writer.uuid(topicId)
    writer.length(indexes.length, true)
    for (const index of indexes) writer.int32(index)
    writer.uvarint(0)
  }
}

/**
 * @param reader  behind the kind of the key
 * @returns no change: a kind that is read over
 * @throws StreamError MALFORMED_MESSAGE
 */
export function readConsumerChange(
  type: number,
  reader: WireReader,
  value: WireReader | undefined,
): { readonly group: string; readonly change: ConsumerChange | undefined } {
  const group = reader.string(false) ?? ''
  if (type === TOPICS_KEY || type === EXPRESSION_KEY) return { group, change: undefined }
  value?.int16()
  if (type === EPOCH_KEY) {
    return { group, change: { kind: 'epoch', value: value && readEpoch(value) } }
  }
  if (type === TARGET_EPOCH_KEY) {
    return { group, change: { kind: 'targetEpoch', value: value?.int32() } }
  }
  const memberId = reader.string(false) ?? ''
  if (type === MEMBER_KEY) {
    return { group, change: { kind: 'member', memberId, value: value && readMember(value) } }
  }
  if (type === TARGET_KEY) {
    return { group, change: { kind: 'target', memberId, value: value && readPartitions(value) } }
  }
  return { group, change: { kind: 'progress', memberId, value: value && readProgress(value) } }
}

function readEpoch(reader: WireReader): { epoch: number; metadataHash: string } {
  const epoch = reader.int32()
  let metadataHash = NO_HASH
  reader.tags(reader.tagCount(), (tag) => {
    if (tag !== HASH_TAG) return false
    metadataHash = hexOf(reader.int32()) + hexOf(reader.int32())
    return true
  })
  return { epoch, metadataHash }
}

function hexOf(word: number): string {
  return (word >>> 0).toString(16).padStart(8, '0')
}

function readMember(reader: WireReader): MemberMetadata {
  const instanceId = reader.string(true)
  const rackId = reader.string(true)
  const clientId = reader.string(true) ?? ''
  const clientHost = reader.string(true) ?? ''
  const topicNames: string[] = []
  for (let left = reader.arrayLength(true); left > 0; left -= 1) {
    topicNames.push(reader.string(true) ?? '')
  }
  const topicRegex = reader.string(true) || null
  const rebalanceTimeoutMs = reader.int32()
  const serverAssignor = reader.string(true)
  let classic: ClassicMetadata | null = null
  reader.tags(reader.tagCount(), (tag) => {
    if (tag !== CLASSIC_TAG) return false
    classic = readClassic(reader)
    return true
  })
  return {
    instanceId,
    rackId,
    clientId,
    clientHost,
    rebalanceTimeoutMs,
    topicNames,
    topicRegex,
    serverAssignor,
    classic,
  }
}

function readClassic(reader: WireReader): ClassicMetadata | null {
  if (reader.int8() !== PRESENT) return null
  const sessionTimeoutMs = reader.int32()
  const protocols: Protocol[] = []
  for (let left = reader.arrayLength(true); left > 0; left -= 1) {
    const name = reader.string(true) ?? ''
    // The message that it is read from does not last.
    const metadata = Uint8Array.from(reader.byteRange(true) ?? [])
    reader.skipTags()
    protocols.push({ name, metadata })
  }
  reader.skipTags()
  return { sessionTimeoutMs, protocols }
}

function readProgress(reader: WireReader): MemberProgress {
  const epoch = reader.int32()
  const previousEpoch = reader.int32()
  // A state of a later Kafka: whatever it means, the next heartbeat works it out from the partitions.
  const state = STATES[reader.int8()] ?? 'unrevoked'
  const assigned = readPartitions(reader)
  const pendingRevocation = readPartitions(reader)
  return { epoch, previousEpoch, state, assigned, pendingRevocation }
}

function readPartitions(reader: WireReader): Partitions {
  const rows: TopicIdPartitions[] = []
  for (let left = reader.arrayLength(true); left > 0; left -= 1) {
    const topicId = reader.uuid()
    const partitions: number[] = []
    for (let more = reader.arrayLength(true); more > 0; more -= 1) partitions.push(reader.int32())
    reader.skipTags()
    rows.push({ topicId, partitions })
  }
  return partitionsOf(rows)
}
