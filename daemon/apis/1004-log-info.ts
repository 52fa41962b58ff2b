/**
 * LogInfo (1004), version 0: how far this broker's replicas reach, for the controller (replication.md section 5.6). What
 * is not hosted here, or has failed, is left out. Errors: 56.
 */

import type { ResponseInput } from '../../src/protocol/api-table.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import type { Handler } from './handler.ts'

type TopicAnswer = ResponseInput<'LogInfo'>['topics'][number]

export const logInfo: Handler<'LogInfo'> = ({ broker }, _context, request) => {
  const { dataEpoch, directory, table } = broker
  if (directory.failure !== undefined) {
    return { errorCode: KafkaError.KAFKA_STORAGE_ERROR, dataEpoch, topics: [] }
  }
  const topics = request.topics.map(({ topicId, partitions }): TopicAnswer => {
    const known: TopicAnswer['partitions'][number][] = []
    for (const index of partitions) {
      const log = table.get(topicId, index)?.log
      if (log === undefined) continue
      known.push({
        partition: index,
        lastEpoch: log.lastBatchEpoch ?? -1,
        logEndOffset: log.logEndOffset,
        durableOffset: log.durableOffset,
        latestEpoch: log.latestEpoch ?? -1,
      })
    }
    return { topicId, partitions: known }
  })
  return { errorCode: 0, dataEpoch, topics }
}
