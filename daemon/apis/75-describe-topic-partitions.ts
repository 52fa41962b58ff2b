/**
 * DescribeTopicPartitions (75), version 0: topics by rising name, at most max.request.partition.size.limit partitions in
 * one answer; the cursor says where the next answer begins. An empty list asks for all topics.
 */

import type { ResponseInput } from '../../src/protocol/api-table.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import { ZERO_UUID } from '../../src/protocol/schema.ts'
import type { PartitionValue } from '../metadata/metadata-values.ts'
import { findTopicNameDefect, isInternalTopic } from '../metadata/topic-names.ts'
import type { Broker } from '../replica/broker.ts'
import { topicOperations } from './authorized-operations.ts'
import { brokerEndpoints, NamedLeaders } from './broker-endpoints.ts'
import type { Handler } from './handler.ts'

type Response = ResponseInput<'DescribeTopicPartitions'>
type PartitionAnswer = Response['topics'][number]['partitions'][number]

export const describeTopicPartitions: Handler<'DescribeTopicPartitions'> = (
  { broker },
  context,
  request,
) => {
  const asked = request.topics.map((topic) => topic.name)
  const names = asked.length > 0 ? [...new Set(asked)] : readyTopics(broker)
  names.sort((a, b) => (a < b ? -1 : a > b ? 1 : 0))
  let left = Math.min(
    Math.max(1, request.responsePartitionLimit),
    broker.config.number('max.request.partition.size.limit'),
  )
  const { cursor } = request
  const leaders = new NamedLeaders(broker, brokerEndpoints(broker, context))
  const topics: Response['topics'][number][] = []
  for (const name of names) {
    if (cursor !== null && name < cursor.topicName) continue
    const image = broker.image.topic(name)
    if (image === undefined || image.value.state !== 'READY') {
      const isLegal = findTopicNameDefect(name) === undefined
      const errorCode = isLegal
        ? KafkaError.UNKNOWN_TOPIC_OR_PARTITION
        : KafkaError.INVALID_TOPIC_EXCEPTION
      topics.push({ errorCode, name, topicId: ZERO_UUID, partitions: [] })
      continue
    }
    const first = cursor?.topicName === name ? Math.max(0, cursor.partitionIndex) : 0
    if (left === 0) return give(topics, { topicName: name, partitionIndex: first })
    const end = Math.min(image.value.partitions, first + left)
    const partitions: PartitionAnswer[] = []
    for (let index = first; index < end; index += 1) {
      partitions.push(describe(broker.image.partition(image.topicId, index)?.value, index, leaders))
    }
    left -= partitions.length
    topics.push({
      errorCode: 0,
      name,
      topicId: image.topicId,
      isInternal: isInternalTopic(name),
      partitions,
      topicAuthorizedOperations: topicOperations,
    })
    if (end < image.value.partitions) return give(topics, { topicName: name, partitionIndex: end })
  }
  return give(topics, null)
}

function readyTopics(broker: Broker): string[] {
  const names: string[] = []
  for (const topic of broker.image.topics()) {
    if (topic.value.state === 'READY') names.push(topic.name)
  }
  return names
}

function describe(
  record: PartitionValue | undefined,
  partitionIndex: number,
  leaders: NamedLeaders,
): PartitionAnswer {
  return {
    ...leaders.of(record?.leader ?? -1),
    partitionIndex,
    leaderEpoch: record?.leaderEpoch ?? -1,
    replicaNodes: record?.replicas ?? [],
    isrNodes: (record?.inSyncReplicas ?? []).map((member) => member.broker),
    eligibleLeaderReplicas: (record?.eligibleReplicas ?? []).map((member) => member.broker),
    lastKnownElr: [...new Set((record?.known ?? []).map((member) => member.broker))],
    offlineReplicas: (record?.replicas ?? []).filter((nodeId) => !leaders.isLive(nodeId)),
  }
}

function give(topics: Response['topics'], nextCursor: NonNullable<Response['nextCursor']> | null) {
  return { throttleTimeMs: 0, topics, nextCursor }
}
