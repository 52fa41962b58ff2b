/**
 * OffsetForLeaderEpoch (23), versions 2 to 4: where an epoch of the leader's log ends (replication.md section 2.5), for
 * consumers that look whether the log was cut back (KIP-320), and for other daemons. The replica id −2 asks any replica,
 * for who looks for a fault. Errors: 3, 6, 31, 56, 74, 75.
 */

import type { ResponseInput } from '../../src/protocol/api-table.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import type { Handler } from './handler.ts'
import { findLeader, findReadable } from './kafka-codes.ts'

type TopicAnswer = ResponseInput<'OffsetForLeaderEpoch'>['topics'][number]

/** The field is missing below v3. */
const CONSUMER_ID = -1
const DEBUGGER_ID = -2

export const offsetForLeaderEpoch: Handler<'OffsetForLeaderEpoch'> = (
  { broker },
  context,
  request,
) => {
  const { replicaId } = request
  const isPeer =
    context.door === 'zmq' &&
    broker.replication !== undefined &&
    broker.image.registration(replicaId) !== undefined
  const mayAsk = replicaId === CONSUMER_ID || replicaId === DEBUGGER_ID || isPeer
  const find = replicaId === DEBUGGER_ID ? findReadable : findLeader
  const topics = request.topics.map(
    ({ topic, partitions }): TopicAnswer => ({
      topic,
      partitions: partitions.map(({ partition: index, currentLeaderEpoch, leaderEpoch }) => {
        if (!mayAsk) {
          return { partition: index, errorCode: KafkaError.CLUSTER_AUTHORIZATION_FAILED }
        }
        const { partition, code } = find(broker, topic, index, currentLeaderEpoch)
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
