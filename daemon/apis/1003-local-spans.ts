/**
 * LocalSpans (1002), private: where the batches lie that a Fetch at the same offset would give, so that a consumer on
 * this machine reads the segment files itself (as HDFS's short-circuit reads do). No spans is a good answer: the
 * consumer then fetches. Errors: 1, 3, 6, 56, 74, 76.
 */

import { isStreamError } from '../../src/base/errors.ts'
import type { Request, ResponseInput } from '../../src/protocol/api-table.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import type { Broker } from '../replica/broker.ts'
import type { Partition } from '../replica/partition.ts'
import type { Handler } from './handler.ts'
import { codeOfError, findLeader } from './kafka-codes.ts'
import { shownHighWatermark } from './read-only.ts'

type SpansAnswer = ResponseInput<'LocalSpans'>

const READ_COMMITTED = 1

export const localSpans: Handler<'LocalSpans'> = async ({ broker }, _context, request) => {
  const { topic, partition: index, currentLeaderEpoch, fetchOffset } = request
  const { partition, code } = findLeader(broker, topic, index, currentLeaderEpoch)
  if (code !== 0 || partition === undefined) return refuse(partition, code)
  const { log } = partition
  if (fetchOffset < log.logStartOffset || fetchOffset > log.logEndOffset) {
    return refuse(partition, KafkaError.OFFSET_OUT_OF_RANGE)
  }
  try {
    const answer = give(broker, partition, request)
    return answer instanceof Promise ? await answer : answer
  } catch (error) {
    if (!isStreamError(error)) throw error
    broker.log.warn('the place of batches could not be told', {
      partition: `${topic}-${index}`,
      offset: fetchOffset,
      error: error.message,
    })
    return refuse(partition, codeOfError(error))
  }
}

function give(
  broker: Broker,
  partition: Partition,
  request: Request<'LocalSpans'>,
): SpansAnswer | Promise<SpansAnswer> {
  const { log } = partition
  const { fetchOffset } = request
  const isCommitted = request.isolationLevel === READ_COMMITTED
  const highWatermark = shownHighWatermark(broker, partition)
  const spans = log.localSpans({
    offset: fetchOffset,
    endOffset: isCommitted ? partition.lastStableOffset : highWatermark,
    maxBytes: request.maxBytes,
  })
  const nextOffset = spans.at(-1)?.nextOffset ?? fetchOffset
  const proof =
    isCommitted && nextOffset > fetchOffset
      ? log.proveTransactions(fetchOffset, nextOffset)
      : undefined
  if (proof !== undefined) return proof.then(() => give(broker, partition, request))
  return {
    ...positions(partition),
    highWatermark,
    errorCode: 0,
    topicId: partition.topicId,
    abortedTransactions:
      isCommitted && nextOffset > fetchOffset
        ? log.abortedTransactions(fetchOffset, nextOffset)
        : [],
    spans,
  }
}

function refuse(partition: Partition | undefined, errorCode: number): SpansAnswer {
  return { ...positions(partition), errorCode, abortedTransactions: [], spans: [] }
}

function positions(partition: Partition | undefined) {
  return {
    highWatermark: partition?.highWatermark ?? -1,
    lastStableOffset: partition?.lastStableOffset ?? -1,
    logStartOffset: partition?.log.logStartOffset ?? -1,
    leaderEpoch: partition?.leaderEpoch ?? -1,
    denseEndOffset: partition === undefined ? -1 : finite(partition.log.denseEndOffset),
  }
}

function finite(offset: number): number {
  return Number.isFinite(offset) ? offset : Number.MAX_SAFE_INTEGER
}
