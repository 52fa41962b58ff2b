/**
 * OffsetFetch (9), versions 1 to 10: what groups have committed; from v8 on of several groups, in v10 by topic id. A
 * partition without offset is answered with -1 and no error (P9). A member of a consumer group that gives its epoch (v9)
 * has it checked. Errors: 14, 15, 16, 24, 25, 100, 113.
 */

import type { Request, ResponseInput } from '../../src/protocol/api-table.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import { ZERO_UUID } from '../../src/protocol/schema.ts'
import type { CommittedOffset } from '../coordinator/group-records.ts'
import type { Handler, Services } from './handler.ts'

type GroupRequest = Request<'OffsetFetch'>['groups'][number]
type GroupAnswer = NonNullable<ResponseInput<'OffsetFetch'>['groups']>[number]
type PartitionAnswer = NonNullable<NonNullable<GroupAnswer['topics']>[number]['partitions']>[number]

const TOP_ERROR_VERSION = 2
const GROUPS_VERSION = 8
const TOPIC_ID_VERSION = 10

export const offsetFetch: Handler<'OffsetFetch'> = (services, context, request) => {
  const { apiVersion } = context
  if (apiVersion >= GROUPS_VERSION) {
    const groups = request.groups.map((group) => fetchGroup(services, group, apiVersion))
    return { throttleTimeMs: 0, topics: [], groups }
  }
  const topics = request.topics?.map((topic) => ({ ...topic, topicId: ZERO_UUID })) ?? null
  const { groupId } = request
  const group = { groupId, memberId: null, memberEpoch: -1, topics }
  const answer = fetchGroup(services, group, apiVersion)
  const errorCode = answer.errorCode ?? 0
  if (errorCode === 0 || apiVersion >= TOP_ERROR_VERSION) {
    return { throttleTimeMs: 0, errorCode, topics: answer.topics, groups: [] }
  }
  // v1 has no place for it but the partitions.
  const rows = (topics ?? []).map(({ name, partitionIndexes }) => ({
    name,
    partitions: partitionIndexes.map((index) => ({ ...rowOf(index, undefined), errorCode })),
  }))
  return { throttleTimeMs: 0, errorCode, topics: rows, groups: [] }
}

function fetchGroup(services: Services, request: GroupRequest, apiVersion: number): GroupAnswer {
  const { groupId, topics: asked } = request
  const { broker, groups } = services
  const { shard, entry, errorCode } = groups.find(groupId)
  if (shard === undefined && !groups.isWithoutTopic) {
    return { groupId, topics: [], errorCode }
  }
  const { memberId, memberEpoch } = request
  if (entry?.consumer !== undefined && memberId !== null && memberEpoch >= 0) {
    const code = entry.consumer.checkEpoch(memberId, memberEpoch)
    if (code !== 0) return { groupId, topics: [], errorCode: code }
  }
  const byId = apiVersion >= TOPIC_ID_VERSION
  if (asked === null) {
    const rows = new Map<string, PartitionAnswer[]>()
    for (const { topic, partition, value } of entry?.offsets.all() ?? []) {
      const partitions = rows.get(topic) ?? []
      rows.set(topic, partitions)
      partitions.push(rowOf(partition, value))
    }
    const topics = [...rows].flatMap(([name, partitions]) => {
      const topicId = broker.image.topic(name)?.topicId
      // By id only topics that exist can be told.
      return byId && topicId === undefined
        ? []
        : { name, topicId: topicId ?? ZERO_UUID, partitions }
    })
    return { groupId, topics, errorCode: 0 }
  }
  const topics = asked.map(({ name, topicId, partitionIndexes }) => {
    const topic = byId ? broker.image.topicById(topicId)?.name : name
    const partitions = partitionIndexes.map((index) =>
      topic === undefined
        ? { ...rowOf(index, undefined), errorCode: KafkaError.UNKNOWN_TOPIC_ID }
        : rowOf(index, entry?.offsets.get(topic, index)),
    )
    return { name, topicId, partitions }
  })
  return { groupId, topics, errorCode: 0 }
}

function rowOf(partitionIndex: number, value: CommittedOffset | undefined): PartitionAnswer {
  return {
    partitionIndex,
    committedOffset: value?.offset ?? -1,
    committedLeaderEpoch: value?.leaderEpoch ?? -1,
    metadata: value?.metadata ?? '',
    errorCode: 0,
  }
}
