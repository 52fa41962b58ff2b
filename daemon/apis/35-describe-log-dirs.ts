/**
 * DescribeLogDirs (35), versions 1 to 4: the one data directory, the sizes of the partitions in it, its file system. A
 * replica's lag is what it has not yet up to the high watermark that its leader has told; nothing moves between directories,
 * so no replica is a future one.
 */

import type { ResponseInput } from '../../src/protocol/api-table.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import type { Partition } from '../replica/partition.ts'
import type { Handler } from './handler.ts'

type PartitionAnswer =
  ResponseInput<'DescribeLogDirs'>['results'][number]['topics'][number]['partitions'][number]

export const describeLogDirs: Handler<'DescribeLogDirs'> = (services, _context, request) => {
  const { broker, host } = services
  const byTopic = new Map<string, PartitionAnswer[]>()
  const add = (partition: Partition): void => {
    const sizes = byTopic.get(partition.topic) ?? []
    byTopic.set(partition.topic, sizes)
    sizes.push({
      partitionIndex: partition.partition,
      partitionSize: partition.log.sizeBytes,
      offsetLag: lagOf(partition),
      isFutureKey: false,
    })
  }
  if (request.topics === null) for (const partition of broker.table.all()) add(partition)
  else {
    for (const { topic, partitions } of request.topics) {
      for (const index of partitions) {
        const partition = broker.table.find(topic, index)
        if (partition !== undefined) add(partition)
      }
    }
  }
  const { totalBytes, freeBytes } = host.space()
  return {
    throttleTimeMs: 0,
    errorCode: 0,
    results: [
      {
        errorCode: broker.directory.failure === undefined ? 0 : KafkaError.KAFKA_STORAGE_ERROR,
        logDir: broker.directory.path,
        topics: [...byTopic].map(([name, partitions]) => ({ name, partitions })),
        totalBytes,
        usableBytes: freeBytes,
      },
    ],
  }
}

function lagOf({ follower, log }: Partition): number {
  return follower === undefined ? 0 : Math.max(0, follower.leaderEnd - log.logEndOffset)
}
