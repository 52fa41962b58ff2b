/**
 * OffsetFetch (9), versions 1 to 10: what groups have committed; from v8 on of several groups, in v10 by topic id. A
 * partition without offset is answered with -1 and no error (P9). Who asks for what is stable (v7) is told to come again
 * for partitions that an open transaction has an offset for. A member of a consumer group that gives its epoch (v9) has it
 * checked. Errors: 14, 15, 16, 24, 25, 88, 100, 113.
 */

import type { Request, ResponseInput } from '../../src/protocol/api-table.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import { ZERO_UUID } from '../../src/protocol/schema.ts'
import type { GroupEntry } from '../coordinator/group-entry.ts'
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
  const rules = { byId: apiVersion >= TOPIC_ID_VERSION, requireStable: request.requireStable }
  if (apiVersion >= GROUPS_VERSION) {
    const groups = request.groups.map((group) => fetchGroup(services, group, rules))
    return { throttleTimeMs: 0, topics: [], groups }
  }
  const topics = request.topics?.map((topic) => ({ ...topic, topicId: ZERO_UUID })) ?? null
  const { groupId } = request
  const group = { groupId, memberId: null, memberEpoch: -1, topics }
  const answer = fetchGroup(services, group, rules)
  const { errorCode = 0 } = answer
  if (errorCode === 0 || apiVersion >= TOP_ERROR_VERSION) {
    return { throttleTimeMs: 0, errorCode, topics: answer.topics, groups: [] }
  }
  // v1 has no place for it but the partitions.
  const rows = (topics ?? []).map(({ name, partitionIndexes }) => ({
    name,
    partitions: partitionIndexes.map((index) => refusedRow(index, errorCode)),
  }))
  return { throttleTimeMs: 0, errorCode, topics: rows, groups: [] }
}

interface FetchRules {
  readonly byId: boolean
  /** Not what an open transaction may change. */
  readonly requireStable: boolean
}

function fetchGroup(services: Services, request: GroupRequest, rules: FetchRules): GroupAnswer {
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
  if (asked === null) return fetchAll(services, groupId, entry, rules)
  const topics = asked.map(({ name, topicId, partitionIndexes }) => {
    const topic = rules.byId ? broker.image.topicById(topicId)?.name : name
    const partitions = partitionIndexes.map((index) => {
      if (topic === undefined) return refusedRow(index, KafkaError.UNKNOWN_TOPIC_ID)
      const isUnstable = rules.requireStable && shard?.pending.holds(groupId, topic, index)
      return isUnstable === true
        ? refusedRow(index, KafkaError.UNSTABLE_OFFSET_COMMIT)
        : rowOf(index, entry?.offsets.get(topic, index))
    })
    return { name, topicId, partitions }
  })
  return { groupId, topics, errorCode: 0 }
}

function fetchAll(
  { broker }: Services,
  groupId: string,
  entry: GroupEntry | undefined,
  { byId, requireStable }: FetchRules,
): GroupAnswer {
  const rows = new Map<string, Map<number, PartitionAnswer>>()
  const put = (topic: string, partition: number, row: PartitionAnswer): void => {
    const partitions = rows.get(topic) ?? new Map<number, PartitionAnswer>()
    rows.set(topic, partitions)
    partitions.set(partition, row)
  }
  for (const { topic, partition, value } of entry?.offsets.all() ?? []) {
    put(topic, partition, rowOf(partition, value))
  }
  if (requireStable) {
    for (const { topic, partition } of entry?.shard.pending.ofGroup(groupId) ?? []) {
      put(topic, partition, refusedRow(partition, KafkaError.UNSTABLE_OFFSET_COMMIT))
    }
  }
  const topics = [...rows].flatMap(([name, partitions]) => {
    const topicId = broker.image.topic(name)?.topicId
    // By id only topics that exist can be told.
    if (byId && topicId === undefined) return []
    return { name, topicId: topicId ?? ZERO_UUID, partitions: [...partitions.values()] }
  })
  return { groupId, topics, errorCode: 0 }
}

function refusedRow(partitionIndex: number, errorCode: number): PartitionAnswer {
  return { ...rowOf(partitionIndex, undefined), errorCode }
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
