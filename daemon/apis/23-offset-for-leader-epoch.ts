/**
 * OffsetForLeaderEpoch (23), versions 2 to 4: where an epoch of this log ends (replication.md section 2.5), for
 * consumers and tools. Errors: 3, 6, 31, 56, 74, 75.
 */

import type { ResponseInput } from '../../src/protocol/api-table.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import type { Handler } from './handler.ts'
import { findLeader } from './kafka-codes.ts'

type TopicAnswer = ResponseInput<'OffsetForLeaderEpoch'>['topics'][number]

/** What clients send; the field is missing below v3. */
const CLIENT_REPLICA_IDS: ReadonlySet<number> = new Set([-1, -2])

export const offsetForLeaderEpoch: Handler<'OffsetForLeaderEpoch'> = (
  { broker },
  _context,
  request,
) => {
  const isClient = CLIENT_REPLICA_IDS.has(request.replicaId)
  const topics = request.topics.map(
    ({ topic, partitions }): TopicAnswer => ({
      topic,
      partitions: partitions.map(({ partition: index, currentLeaderEpoch, leaderEpoch }) => {
        if (!isClient) {
          return { partition: index, errorCode: KafkaError.CLUSTER_AUTHORIZATION_FAILED }
        }
        const { partition, code } = findLeader(broker, topic, index, currentLeaderEpoch)
        if (code !== 0 || partition === undefined) return { partition: index, errorCode: code }
        const end = partition.log.endOffsetForEpoch(leaderEpoch)
        return {
          partition: index,
          errorCode: 0,
          leaderEpoch: end?.epoch ?? -1,
          endOffset: end?.endOffset ?? -1,
        }
      }),
    }),
  )
  return { throttleTimeMs: 0, topics }
}
