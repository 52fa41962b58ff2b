/**
 * WriteTxnMarkers (27), versions 1 and 2, between daemons: a coordinator's decision enters the partitions that are led here.
 * Answered when the markers are committed. Errors, for each partition: 3, 6 (try again), 47 (the marker is late).
 */

import { KafkaError } from '../../src/protocol/errors.ts'
import type { MarkerOutcome, TransactionMarker } from '../coordinator/marker-writer.ts'
import type { Handler, Services } from './handler.ts'

export const writeTxnMarkers: Handler<'WriteTxnMarkers'> = async (services, _context, request) => {
  const markers = request.markers.map(async (entry) => {
    const { producerId, producerEpoch, coordinatorEpoch, transactionVersion, topics } = entry
    const marker: TransactionMarker = {
      producerId,
      producerEpoch,
      coordinatorEpoch,
      transactionVersion,
      isCommit: entry.transactionResult,
    }
    const rows = topics.map(async ({ name, partitionIndexes }) => ({
      name,
      partitions: await Promise.all(
        partitionIndexes.map(async (partitionIndex) => ({
          partitionIndex,
          errorCode: await write(services, name, partitionIndex, marker),
        })),
      ),
    }))
    return { producerId, topics: await Promise.all(rows) }
  })
  return { markers: await Promise.all(markers) }
}

async function write(
  { broker, transactions }: Services,
  topic: string,
  index: number,
  marker: TransactionMarker,
): Promise<number> {
  const partition = broker.table.find(topic, index)
  if (partition === undefined) return KafkaError.UNKNOWN_TOPIC_OR_PARTITION
  return codeOf(await transactions.markers.write(partition, marker))
}

function codeOf(outcome: MarkerOutcome): number {
  switch (outcome) {
    case 'written':
      return 0
    case 'refused':
      return KafkaError.INVALID_PRODUCER_EPOCH
    case 'failed':
      return KafkaError.NOT_LEADER_OR_FOLLOWER
  }
}
