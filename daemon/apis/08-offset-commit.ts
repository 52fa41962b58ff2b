/**
 * OffsetCommit (8), versions 2 to 10 (v10 by topic id). Answered when the offsets are durable. A partition that is not
 * known fails alone, and so does a text that is too long.
 *
 * Errors: 3, 12, 14, 15, 16, 22, 24, 25, 27, 28, 35 (a member of a consumer group below v9), 69, 82, 100, 113.
 */

import type { Request, ResponseInput } from '../../src/protocol/api-table.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import { checkCommit, type GroupEntry } from '../coordinator/group-entry.ts'
import { type CommittedOffset, encodeOffset } from '../coordinator/group-records.ts'
import type { GroupShard } from '../coordinator/group-shard.ts'
import type { Handler, Services } from './handler.ts'

type TopicAnswer = ResponseInput<'OffsetCommit'>['topics'][number]
type TopicRequest = Request<'OffsetCommit'>['topics'][number]

const MEMBER_EPOCH_VERSION = 9
const TOPIC_ID_VERSION = 10

interface Commit {
  readonly topic: string
  readonly partition: number
  readonly value: CommittedOffset
}

export const offsetCommit: Handler<'OffsetCommit'> = (services, context, request) => {
  const { groupId, generationIdOrMemberEpoch: generation } = request
  const refuseAll = (errorCode: number) => answerOf(request.topics, () => errorCode)
  // Kafka allows the empty group here: very old clients keep offsets in it.
  const { shard, entry: known, errorCode } = services.groups.find(groupId)
  if (shard === undefined) return refuseAll(errorCode)
  if (known === undefined && generation >= 0) {
    const isEpoch = context.apiVersion >= MEMBER_EPOCH_VERSION
    return refuseAll(isEpoch ? KafkaError.GROUP_ID_NOT_FOUND : KafkaError.ILLEGAL_GENERATION)
  }
  const entry = services.groups.entryIn(shard, groupId)
  const nowMs = services.broker.time.monotonicMs()
  const refusal = checkCommit(entry, nowMs, request, generation, context.apiVersion)
  services.groups.arm(entry)
  if (refusal !== 0) return refuseAll(refusal)
  const { commits, failures } = readCommits(services, request, context.apiVersion)
  const answer = (stored: number) =>
    answerOf(request.topics, (topic, partition) => failures.get(keyOf(topic, partition)) ?? stored)
  if (commits.length === 0) return answer(0)
  return store(services, shard, entry, commits).then(answer)
}

function store(
  { groups }: Services,
  shard: GroupShard,
  entry: GroupEntry,
  commits: readonly Commit[],
): Promise<number> {
  const { groupId } = entry
  const records = commits.map(({ topic, partition, value }) =>
    encodeOffset(groupId, topic, partition, value),
  )
  const apply = (position: number): void => {
    const { offsets } = groups.entryIn(shard, groupId)
    for (const { topic, partition, value } of commits) {
      offsets.set(topic, partition, value, position)
    }
  }
  return new Promise((resolve) => {
    groups.append(shard, records, apply, (errorCode) => {
      const isTooLarge = errorCode === KafkaError.UNKNOWN_SERVER_ERROR
      resolve(isTooLarge ? KafkaError.INVALID_COMMIT_OFFSET_SIZE : errorCode)
    })
  })
}

function readCommits(
  { broker }: Services,
  request: Request<'OffsetCommit'>,
  apiVersion: number,
): { readonly commits: readonly Commit[]; readonly failures: ReadonlyMap<string, number> } {
  const commits: Commit[] = []
  const failures = new Map<string, number>()
  const metadataBytesMax = broker.config.number('offset.metadata.max.bytes')
  const wallMs = broker.time.wallMs()
  const { retentionTimeMs } = request
  for (const topic of request.topics) {
    const image =
      apiVersion >= TOPIC_ID_VERSION
        ? broker.image.topicById(topic.topicId)
        : broker.image.topic(topic.name)
    const unknown =
      apiVersion >= TOPIC_ID_VERSION && image === undefined
        ? KafkaError.UNKNOWN_TOPIC_ID
        : KafkaError.UNKNOWN_TOPIC_OR_PARTITION
    const count = image?.value.state === 'READY' ? image.value.partitions : 0
    for (const row of topic.partitions) {
      const { partitionIndex: partition } = row
      const metadata = row.committedMetadata ?? ''
      if (image === undefined || partition < 0 || partition >= count) {
        failures.set(keyOf(topic, partition), unknown)
      } else if (Buffer.byteLength(metadata) > metadataBytesMax) {
        failures.set(keyOf(topic, partition), KafkaError.OFFSET_METADATA_TOO_LARGE)
      } else {
        const value = {
          offset: row.committedOffset,
          leaderEpoch: row.committedLeaderEpoch,
          metadata,
          commitTimestampMs: wallMs,
          expireTimestampMs: retentionTimeMs >= 0 ? wallMs + retentionTimeMs : -1,
        }
        commits.push({ topic: image.name, partition, value })
      }
    }
  }
  return { commits, failures }
}

function answerOf(
  topics: readonly TopicRequest[],
  codeOf: (topic: TopicRequest, partition: number) => number,
): ResponseInput<'OffsetCommit'> {
  return {
    throttleTimeMs: 0,
    topics: topics.map(
      (topic): TopicAnswer => ({
        name: topic.name,
        topicId: topic.topicId,
        partitions: topic.partitions.map(({ partitionIndex }) => ({
          partitionIndex,
          errorCode: codeOf(topic, partitionIndex),
        })),
      }),
    ),
  }
}

function keyOf({ name, topicId }: TopicRequest, partition: number): string {
  return `${name}/${topicId}/${partition}`
}
