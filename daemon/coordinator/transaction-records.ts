/**
 * The records of `__transaction_state`, byte for byte Kafka's own (TransactionLogKey, TransactionLogValue), so that
 * Kafka's decoders can read them: kafka-protocol.md section 7.9. A null value is a tombstone.
 *
 * Read are value versions 0 and 1; written is 1. Its tags: 0 previous producer id, 1 next producer id, 2 client
 * transaction version; and one of ours, which Kafka's readers skip: the last epoch, without which the retry of an
 * InitProducerId would be fenced after a restart (KAFKA-20310).
 */

import { StreamError } from '../../src/base/errors.ts'
import { WireReader } from '../../src/protocol/wire-reader.ts'
import { WireWriter } from '../../src/protocol/wire-writer.ts'
import type {
  TransactionState,
  TransactionValue,
  TransactionVersion,
} from './transaction-machine.ts'

/** The order is Kafka's: the index is the number in the record. 6 (Dead) and 7 (PrepareEpochFence) are never written. */
const STATES: readonly TransactionState[] = [
  'Empty',
  'Ongoing',
  'PrepareCommit',
  'PrepareAbort',
  'CompleteCommit',
  'CompleteAbort',
]
const TAG_PREVIOUS_PRODUCER_ID = 0
const TAG_NEXT_PRODUCER_ID = 1
const TAG_CLIENT_VERSION = 2
const TAG_LAST_EPOCH = 10_000

export function encodeKey(transactionalId: string): Uint8Array {
  const writer = new WireWriter()
  writer.begin()
  writer.int16(0)
  writer.string(transactionalId, false)
  return joined(writer)
}

export function encodeValue(value: TransactionValue): Uint8Array {
  const writer = new WireWriter()
  writer.begin()
  writer.int16(1)
  writer.int64(value.producerId)
  writer.int16(value.epoch)
  writer.int32(value.timeoutMs)
  writer.int8(STATES.indexOf(value.state))
  if (value.state === 'Empty') writer.uvarint(0)
  else {
    writer.length(value.partitions.size, true)
    for (const [topic, indexes] of value.partitions) {
      writer.string(topic, true)
      writer.length(indexes.size, true)
      for (const index of indexes) writer.int32(index)
      writer.uvarint(0)
    }
  }
  writer.int64(value.updateMs)
  writer.int64(value.startMs)
  const tags: [number, () => void][] = []
  if (value.previousProducerId >= 0) {
    tags.push([TAG_PREVIOUS_PRODUCER_ID, () => writer.int64(value.previousProducerId)])
  }
  if (value.nextProducerId >= 0) {
    tags.push([TAG_NEXT_PRODUCER_ID, () => writer.int64(value.nextProducerId)])
  }
  if (value.version === 2) tags.push([TAG_CLIENT_VERSION, () => writer.int16(value.version)])
  if (value.lastEpoch >= 0) tags.push([TAG_LAST_EPOCH, () => writer.int16(value.lastEpoch)])
  writer.uvarint(tags.length)
  for (const [tag, write] of tags) writer.tag(tag, write)
  return joined(writer)
}

/** @returns undefined for a kind of record that is not known here @throws StreamError MALFORMED_MESSAGE */
export function decodeKey(bytes: Uint8Array): string | undefined {
  const reader = new WireReader([bytes], 'a key of __transaction_state')
  if (reader.int16() !== 0) return undefined
  return reader.string(false) ?? undefined
}

/** @throws StreamError MALFORMED_MESSAGE */
export function decodeValue(transactionalId: string, bytes: Uint8Array): TransactionValue {
  const reader = new WireReader([bytes], `the state of transactional id ${transactionalId}`)
  const recordVersion = reader.int16()
  if (recordVersion !== 0 && recordVersion !== 1) {
    throw reader.malformed(`value version ${recordVersion}`)
  }
  const isFlexible = recordVersion === 1
  const producerId = reader.int64()
  const epoch = reader.int16()
  const timeoutMs = reader.int32()
  const state = STATES[reader.int8()]
  if (state === undefined) throw reader.malformed('an unknown state')
  const partitions = new Map<string, ReadonlySet<number>>()
  const topics = reader.arrayLength(isFlexible)
  for (let at = 0; at < topics; at += 1) {
    const topic = reader.string(isFlexible)
    const indexes = new Set<number>()
    const count = reader.arrayLength(isFlexible)
    for (let each = 0; each < count; each += 1) indexes.add(reader.int32())
    if (isFlexible) reader.skipTags()
    if (topic === null) throw reader.malformed('a topic without name')
    partitions.set(topic, indexes)
  }
  const updateMs = reader.int64()
  const startMs = reader.int64()
  let previousProducerId = -1
  let nextProducerId = -1
  let lastEpoch = -1
  let version: TransactionVersion = 1
  if (isFlexible) {
    reader.tags(reader.tagCount(), (tag) => {
      if (tag === TAG_PREVIOUS_PRODUCER_ID) previousProducerId = reader.int64()
      else if (tag === TAG_NEXT_PRODUCER_ID) nextProducerId = reader.int64()
      else if (tag === TAG_CLIENT_VERSION) version = reader.int16() >= 2 ? 2 : 1
      else if (tag === TAG_LAST_EPOCH) lastEpoch = reader.int16()
      else return false
      return true
    })
  }
  return {
    transactionalId,
    producerId,
    previousProducerId,
    nextProducerId,
    epoch,
    lastEpoch,
    timeoutMs,
    state,
    partitions,
    startMs,
    updateMs,
    version,
  }
}

/** The partition of an id: Java's hash of its text, so that Kafka's tools look in the same place. */
export function partitionOfId(id: string, partitions: number): number {
  let hash = 0
  for (let at = 0; at < id.length; at += 1) hash = (Math.imul(hash, 31) + id.charCodeAt(at)) | 0
  if (partitions < 1) throw new StreamError('CONFIG_INVALID', 'a topic without partitions')
  // Java's abs leaves the smallest integer negative, and Kafka takes that one for 0.
  return (hash === -0x8000_0000 ? 0 : Math.abs(hash)) % partitions
}

function joined(writer: WireWriter): Uint8Array {
  const frames = writer.finish()
  return frames.length === 1 ? (frames[0] as Uint8Array).slice() : Buffer.concat(frames)
}
