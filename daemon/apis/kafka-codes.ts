/** From what the core says (errors of the closed table, reasons of a partition) to Kafka's error numbers. */

import { isStreamError } from '../../src/base/errors.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import type { Broker } from '../replica/broker.ts'
import type { NotServing, Partition } from '../replica/partition.ts'

export function codeOfNotServing(why: NotServing): number {
  switch (why) {
    case 'notLeader':
    case 'stopping':
      return KafkaError.NOT_LEADER_OR_FOLLOWER
    case 'deleted':
      return KafkaError.UNKNOWN_TOPIC_OR_PARTITION
    case 'storageFailed':
      return KafkaError.KAFKA_STORAGE_ERROR
  }
}

/** Never UNKNOWN_SERVER_ERROR where a producer would see it: clients mishandle that (Redpanda #5355). */
export function codeOfError(error: unknown): number {
  if (!isStreamError(error)) return KafkaError.UNKNOWN_SERVER_ERROR
  switch (error.code) {
    case 'DISK_FULL':
    case 'DISK_FAILED':
    case 'DISK_READ_ONLY':
    case 'PERMISSION_DENIED':
    case 'FILE_NOT_FOUND':
      return KafkaError.KAFKA_STORAGE_ERROR
    case 'DATA_DAMAGED':
    case 'CORRUPT_BATCH':
    case 'DECOMPRESSION_LIMIT':
      return KafkaError.CORRUPT_MESSAGE
    case 'UNSUPPORTED_COMPRESSION':
    case 'RUNTIME_MISSING':
      return KafkaError.UNSUPPORTED_COMPRESSION_TYPE
    case 'RECORD_TOO_LARGE':
      return KafkaError.MESSAGE_TOO_LARGE
    case 'RECORD_INVALID':
      return KafkaError.INVALID_RECORD
    case 'TOPIC_EXISTS':
      return KafkaError.TOPIC_ALREADY_EXISTS
    case 'TOPIC_UNKNOWN':
      return KafkaError.UNKNOWN_TOPIC_OR_PARTITION
    case 'TOPIC_NAME_INVALID':
      return KafkaError.INVALID_TOPIC_EXCEPTION
    case 'CONFIG_INVALID':
      return KafkaError.INVALID_CONFIG
    case 'FENCED':
    case 'CONFLICT':
    case 'NOT_CONTROLLER':
      return KafkaError.NOT_CONTROLLER
    case 'STORE_UNAVAILABLE':
    case 'TIMED_OUT':
      return KafkaError.REQUEST_TIMED_OUT
    case 'CLOSED':
      return KafkaError.NOT_LEADER_OR_FOLLOWER
    case 'OFFSET_OUT_OF_RANGE':
      return KafkaError.OFFSET_OUT_OF_RANGE
    default:
      return KafkaError.UNKNOWN_SERVER_ERROR
  }
}

export function messageOfError(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** The partition if this broker serves it, else why not. */
export type FoundPartition =
  | { readonly partition: Partition; readonly code: 0 }
  | { readonly partition: Partition | undefined; readonly code: number }

/**
 * @param leaderEpoch  what the client believes, −1: nothing; an old one is fenced, a newer one unknown (KIP-320)
 */
export function findLeader(
  broker: Broker,
  topic: string,
  index: number,
  leaderEpoch = -1,
): FoundPartition {
  const partition = broker.table.find(topic, index)
  if (partition === undefined) {
    const image = broker.image.topic(topic)
    const isKnown = image?.value.state === 'READY' && index >= 0 && index < image.value.partitions
    const code = isKnown ? KafkaError.NOT_LEADER_OR_FOLLOWER : KafkaError.UNKNOWN_TOPIC_OR_PARTITION
    return { partition, code }
  }
  const { notServing } = partition
  if (notServing !== undefined) return { partition, code: codeOfNotServing(notServing) }
  if (partition.isDeserted) return { partition, code: KafkaError.NOT_LEADER_OR_FOLLOWER }
  return { partition, code: codeOfEpoch(partition, leaderEpoch) }
}

/**
 * As findLeader, or the partition as a follower holds it, for who may read from the nearest replica (KIP-392). A broker
 * that may have been left behind by the others serves nobody as a follower.
 */
export function findReadable(
  broker: Broker,
  topic: string,
  index: number,
  leaderEpoch: number,
): FoundPartition {
  const found = findLeader(broker, topic, index, leaderEpoch)
  const { partition } = found
  const leader = partition?.follower?.following.leader ?? -1
  if (partition === undefined || leader < 0 || partition.notServing !== 'notLeader') return found
  if (broker.session.isSelfFenced()) return found
  return { partition, code: codeOfEpoch(partition, leaderEpoch) }
}

/**
 * Who leads a partition instead, for an answer that says that this broker does not (KIP-951): the client need not ask.
 * @returns undefined: nothing to tell
 */
export function leaderElsewhere(
  { image, nodeId }: Broker,
  topic: string,
  index: number,
  errorCode: number,
): { readonly leaderId: number; readonly leaderEpoch: number } | undefined {
  const { NOT_LEADER_OR_FOLLOWER, FENCED_LEADER_EPOCH } = KafkaError
  if (errorCode !== NOT_LEADER_OR_FOLLOWER && errorCode !== FENCED_LEADER_EPOCH) return undefined
  const value = image.partition(image.topic(topic)?.topicId ?? '', index)?.value
  if (value === undefined || value.leader < 0) return undefined
  if (value.leader === nodeId && errorCode === NOT_LEADER_OR_FOLLOWER) return undefined
  return { leaderId: value.leader, leaderEpoch: value.leaderEpoch }
}

function codeOfEpoch(partition: Partition, leaderEpoch: number): number {
  if (leaderEpoch < 0 || leaderEpoch === partition.leaderEpoch) return 0
  return leaderEpoch < partition.leaderEpoch
    ? KafkaError.FENCED_LEADER_EPOCH
    : KafkaError.UNKNOWN_LEADER_EPOCH
}
