/**
 * What members of groups of the protocol type `consumer` tell each other: subscriptions (to the group's leader) and
 * assignments (from it). Kafka's ConsumerProtocolSubscription v0 to v3 and ConsumerProtocolAssignment v0 to v3; classic
 * encodings. For the broker they are opaque bytes, but where it must know which topics a group reads.
 */
import { isStreamError } from '../base/errors.ts'
import { WireReader } from './wire-reader.ts'
import { WireWriter } from './wire-writer.ts'

export interface TopicPartitions {
  readonly topic: string
  readonly partitions: readonly number[]
}

export interface Subscription {
  readonly topics: readonly string[]
  readonly userData: Uint8Array | null
  /** Version 1 on; empty before. */
  readonly ownedPartitions: readonly TopicPartitions[]
  /** In which `ownedPartitions` were owned: version 2 on; -1: not known. */
  readonly generationId: number
  /** Version 3 on. */
  readonly rackId: string | null
}

export interface MemberAssignment {
  readonly partitions: readonly TopicPartitions[]
  readonly userData: Uint8Array | null
}

const SUBSCRIPTION_VERSION = 2
const ASSIGNMENT_VERSION = 0

const writer = new WireWriter()

export function encodeSubscription(subscription: Omit<Subscription, 'rackId'>): Uint8Array {
  writer.begin()
  writer.int16(SUBSCRIPTION_VERSION)
  writer.length(subscription.topics.length, false)
  for (const topic of subscription.topics) writer.string(topic, false)
  writer.bytes(subscription.userData, false)
  writeTopics(subscription.ownedPartitions)
  writer.int32(subscription.generationId)
  return whole()
}

export function encodeAssignment(assignment: MemberAssignment): Uint8Array {
  writer.begin()
  writer.int16(ASSIGNMENT_VERSION)
  writeTopics(assignment.partitions)
  writer.bytes(assignment.userData, false)
  return whole()
}

/** undefined: these bytes are none. Versions not known yet are read as the newest known one: they only add fields. */
export function decodeSubscription(bytes: Uint8Array): Subscription | undefined {
  return attempt(() => {
    const reader = new WireReader([bytes], 'subscription')
    const version = reader.int16()
    const topics: string[] = []
    for (let left = reader.arrayLength(false); left > 0; left -= 1) {
      topics.push(reader.string(false) ?? '')
    }
    const userData = reader.byteRange(false)
    const ownedPartitions = version >= 1 ? readTopics(reader) : []
    const generationId = version >= 2 ? reader.int32() : -1
    const rackId = version >= 3 ? reader.string(false) : null
    return { topics, userData, ownedPartitions, generationId, rackId }
  })
}

/** undefined: these bytes are none. No bytes at all stand for nothing assigned. */
export function decodeAssignment(bytes: Uint8Array): MemberAssignment | undefined {
  if (bytes.length === 0) return { partitions: [], userData: null }
  return attempt(() => {
    const reader = new WireReader([bytes], 'assignment')
    reader.int16()
    const partitions = readTopics(reader)
    return { partitions, userData: reader.byteRange(false) }
  })
}

function writeTopics(topics: readonly TopicPartitions[]): void {
  writer.length(topics.length, false)
  for (const { topic, partitions } of topics) {
    writer.string(topic, false)
    writer.length(partitions.length, false)
    for (const partition of partitions) writer.int32(partition)
  }
}

function readTopics(reader: WireReader): TopicPartitions[] {
  const topics: TopicPartitions[] = []
  for (let left = reader.arrayLength(false); left > 0; left -= 1) {
    const topic = reader.string(false) ?? ''
    const partitions: number[] = []
    for (let more = reader.arrayLength(false); more > 0; more -= 1) partitions.push(reader.int32())
    topics.push({ topic, partitions })
  }
  return topics
}

function whole(): Uint8Array {
  const frames = writer.finish()
  return frames.length === 1 ? Uint8Array.from(frames[0] as Uint8Array) : Buffer.concat(frames)
}

function attempt<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch (error) {
    if (isStreamError(error)) return undefined
    throw error
  }
}
