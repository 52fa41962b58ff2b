/**
 * ListOffsets (2), versions 1 to 7. By timestamp: the first record at or after it, with that record's own timestamp
 * (P7); −1 the end (of what is committed; under read_committed of what is stable), −2 the start, −3 (v7) the record with
 * the largest timestamp. None found: offset −1, timestamp −1.
 *
 * Errors: 3, 5 or 78 (a new leader does not know yet how far is committed), 6, 31, 35 (a special value that is not
 * served), 56, 74, 75.
 */

import { isStreamError } from '../../src/base/errors.ts'
import type { Request, ResponseInput } from '../../src/protocol/api-table.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import type { Handler, RequestContext, Services } from './handler.ts'
import { codeOfError, findLeader } from './kafka-codes.ts'
import { shownHighWatermark } from './read-only.ts'

type PartitionAnswer = ResponseInput<'ListOffsets'>['topics'][number]['partitions'][number]
type PartitionRequest = Request<'ListOffsets'>['topics'][number]['partitions'][number]

const LATEST = -1
const EARLIEST = -2
const MAX_TIMESTAMP = -3
const MAX_TIMESTAMP_VERSION = 7
/** Before it, clients are told to ask again as after an election (KIP-207). */
const OFFSET_NOT_AVAILABLE_VERSION = 5
const READ_COMMITTED = 1

export const listOffsets: Handler<'ListOffsets'> = async (services, context, request) => {
  const topics: ResponseInput<'ListOffsets'>['topics'][number][] = []
  for (const topic of request.topics) {
    const partitions: PartitionAnswer[] = []
    for (const asked of topic.partitions) {
      partitions.push(await listPartition(services, context, request, topic.name, asked))
    }
    topics.push({ name: topic.name, partitions })
  }
  return { throttleTimeMs: 0, topics }
}

async function listPartition(
  { broker }: Services,
  context: RequestContext,
  request: Request<'ListOffsets'>,
  topic: string,
  asked: PartitionRequest,
): Promise<PartitionAnswer> {
  const partitionIndex = asked.partitionIndex
  if (request.replicaId >= 0) {
    return { partitionIndex, errorCode: KafkaError.CLUSTER_AUTHORIZATION_FAILED }
  }
  const found = findLeader(broker, topic, partitionIndex, asked.currentLeaderEpoch)
  const { partition } = found
  if (found.code !== 0 || partition === undefined) return { partitionIndex, errorCode: found.code }
  const { log, leaderEpoch } = partition
  const end =
    request.isolationLevel === READ_COMMITTED
      ? partition.lastStableOffset
      : shownHighWatermark(broker, partition)
  try {
    if (asked.timestamp === LATEST) {
      if (!partition.isHighWatermarkFresh) {
        const isNamed = context.apiVersion >= OFFSET_NOT_AVAILABLE_VERSION
        const errorCode = isNamed
          ? KafkaError.OFFSET_NOT_AVAILABLE
          : KafkaError.LEADER_NOT_AVAILABLE
        return { partitionIndex, errorCode }
      }
      return { partitionIndex, errorCode: 0, offset: end, leaderEpoch }
    }
    if (asked.timestamp === EARLIEST) {
      return { partitionIndex, errorCode: 0, offset: log.logStartOffset, leaderEpoch }
    }
    if (asked.timestamp === MAX_TIMESTAMP && context.apiVersion >= MAX_TIMESTAMP_VERSION) {
      return give(partitionIndex, await log.offsetOfMaxTimestamp(end))
    }
    if (asked.timestamp < 0) {
      return { partitionIndex, errorCode: KafkaError.UNSUPPORTED_VERSION }
    }
    return give(partitionIndex, await log.offsetForTimestamp(asked.timestamp, end))
  } catch (error) {
    if (!isStreamError(error)) throw error
    broker.log.error('offsets could not be listed', {
      partition: `${topic}-${partitionIndex}`,
      error: error.message,
    })
    return { partitionIndex, errorCode: codeOfError(error) }
  }
}

function give(
  partitionIndex: number,
  found:
    | { readonly offset: number; readonly timestampMs: number; readonly leaderEpoch: number }
    | undefined,
): PartitionAnswer {
  if (found === undefined) return { partitionIndex, errorCode: 0 }
  return {
    partitionIndex,
    errorCode: 0,
    offset: found.offset,
    timestamp: found.timestampMs,
    leaderEpoch: found.leaderEpoch,
  }
}
