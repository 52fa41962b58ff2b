/** What a group has committed: asking, committing, deleting; of members and of everybody else. */
import { StreamError } from '../base/errors.ts'
import type { RequestInput, Response } from '../protocol/api-table.ts'
import { KafkaError, kafkaErrorIsRetriable } from '../protocol/errors.ts'
import { ZERO_UUID } from '../protocol/schema.ts'
import type { GroupCallOptions, GroupLink } from './group-link.ts'
import { kafkaFailure } from './kafka-failure.ts'
import { knownTopicId, recreatedTopic } from './topic-identity.ts'

export interface GroupOffset {
  readonly topic: string
  /** Nothing is committed for another topic of that name, where the broker can be asked so (v10); absent: not known. */
  readonly topicId?: string
  readonly partition: number
  /** The next offset to read. */
  readonly offset: number
  /** Of the record before it; absent or −1: not known. */
  readonly leaderEpoch?: number
  readonly metadata?: string
}

export interface GroupPartition {
  readonly topic: string
  readonly partition: number
}

/** In whose name a commit is made; none: by hand, of a group without members. */
export interface CommitIdentity {
  readonly memberId: string
  readonly groupInstanceId: string | null
  readonly generationId: number
}

const STABLE_VERSION = 7
const GROUPS_VERSION = 8
const TOPIC_ID_VERSION = 10
const NOBODY: CommitIdentity = { memberId: '', groupInstanceId: null, generationId: -1 }

export interface OffsetFetchOptions extends GroupCallOptions {
  /** Waits for transactions that are about to change them (KIP-447); for whoever goes on from there. Default true. */
  readonly requireStable?: boolean
}

/**
 * @param partitions  undefined: all that the group has committed
 * @returns only partitions that have an offset
 * @throws StreamError as GroupLink.call; BROKER_ERROR, NOT_ALLOWED
 */
export async function fetchGroupOffsets(
  link: GroupLink,
  partitions: readonly GroupPartition[] | undefined,
  options: OffsetFetchOptions = {},
): Promise<readonly GroupOffset[]> {
  const topics =
    partitions === undefined
      ? null
      : byTopic(partitions).map(([name, rows]) => ({
          name,
          partitionIndexes: rows.map(({ partition }) => partition),
        }))
  const version = await link.versionOf('OffsetFetch')
  const { groupId } = link
  const { requireStable = true } = options
  const body =
    version >= GROUPS_VERSION
      ? { groups: [{ groupId, topics }], requireStable }
      : { groupId, topics, requireStable: requireStable && version >= STABLE_VERSION }
  const response = await link.call(
    'OffsetFetch',
    body as RequestInput<'OffsetFetch'>,
    (answer) => waitedFor(answer, version),
    options,
  )
  const { errorCode, topics: found } = rowsOf(response, version)
  if (errorCode !== 0) throw kafkaFailure(errorCode, { target: `group ${groupId}` })
  const offsets: GroupOffset[] = []
  for (const { name: topic, partitions: rows } of found) {
    for (const row of rows) {
      const { partitionIndex: partition, committedOffset: offset } = row
      // Below v5 there is none.
      const leaderEpoch = row.committedLeaderEpoch
      if (row.errorCode !== 0) {
        throw kafkaFailure(row.errorCode, { target: `${topic} partition ${partition}` })
      }
      if (offset < 0) continue
      offsets.push({ topic, partition, offset, leaderEpoch, metadata: row.metadata ?? '' })
    }
  }
  return offsets
}

/** An offset in an open transaction is no answer yet: what stands there now may be read a second time. */
function waitedFor(response: Response<'OffsetFetch'>, version: number): number {
  const { errorCode, topics } = rowsOf(response, version)
  const isUnstable = topics.some(({ partitions }) =>
    partitions.some((row) => row.errorCode === KafkaError.UNSTABLE_OFFSET_COMMIT),
  )
  return errorCode === 0 && isUnstable ? KafkaError.UNSTABLE_OFFSET_COMMIT : errorCode
}

function rowsOf(response: Response<'OffsetFetch'>, version: number) {
  if (version < GROUPS_VERSION) return response
  return response.groups[0] ?? { errorCode: KafkaError.UNKNOWN_SERVER_ERROR, topics: [] }
}

/**
 * All or an error: which of them are stored is then unknown.
 * @throws StreamError with `kafkaError`: REBALANCE_IN_PROGRESS, ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID,
 *   FENCED_INSTANCE_ID …; CONFLICT where the group has members and the commit is made by hand; as GroupLink.call
 */
export async function commitGroupOffsets(
  link: GroupLink,
  offsets: readonly GroupOffset[],
  identity: CommitIdentity = NOBODY,
  options: GroupCallOptions = {},
): Promise<void> {
  if (offsets.length === 0) return
  const isById = offsets.every(({ topicId }) => knownTopicId(topicId) !== undefined)
  const body = {
    groupId: link.groupId,
    generationIdOrMemberEpoch: identity.generationId,
    memberId: identity.memberId,
    ...(identity.groupInstanceId === null ? {} : { groupInstanceId: identity.groupInstanceId }),
    // Of the two names each version has one.
    topics: byTopic(offsets).map(([name, rows]) => ({
      name,
      topicId: rows[0]?.topicId ?? ZERO_UUID,
      partitions: rows.map(({ partition, offset, leaderEpoch, metadata }) => ({
        partitionIndex: partition,
        committedOffset: offset,
        committedLeaderEpoch: leaderEpoch ?? -1,
        committedMetadata: metadata ?? '',
      })),
    })),
  }
  const response = await link.call(
    'OffsetCommit',
    body as RequestInput<'OffsetCommit'>,
    (answer) => firstCode(answer),
    isById ? options : { ...options, versionMax: TOPIC_ID_VERSION - 1 },
  )
  for (const { name: answered, topicId, partitions } of response.topics) {
    const name = answered || offsets.find((row) => row.topicId === topicId)?.topic
    for (const { partitionIndex, errorCode } of partitions) {
      if (errorCode === 0) continue
      if (errorCode === KafkaError.UNKNOWN_MEMBER_ID && identity.memberId === '') {
        throw new StreamError(
          'CONFLICT',
          `group ${link.groupId}: it has members (UNKNOWN_MEMBER_ID)`,
          {
            target: link.groupId,
            kafkaError: errorCode,
          },
        )
      }
      // What was read under that id is no more.
      if (errorCode === KafkaError.UNKNOWN_TOPIC_ID && name) throw recreatedTopic(name, errorCode)
      throw kafkaFailure(errorCode, {
        target: `group ${link.groupId}: ${name} partition ${partitionIndex}`,
      })
    }
  }
}

function firstCode({ topics }: Response<'OffsetCommit'>): number {
  for (const { partitions } of topics) {
    for (const { errorCode } of partitions) if (errorCode !== 0) return errorCode
  }
  return 0
}

/** @throws StreamError GROUP… as kafkaFailure says; per partition the first error */
export async function deleteGroupOffsets(
  link: GroupLink,
  partitions: readonly GroupPartition[],
): Promise<void> {
  const response = await link.call(
    'OffsetDelete',
    {
      groupId: link.groupId,
      topics: byTopic(partitions).map(([name, rows]) => ({
        name,
        partitions: rows.map(({ partition }) => ({ partitionIndex: partition })),
      })),
    },
    ({ errorCode }) => errorCode,
  )
  const target = `group ${link.groupId}`
  if (response.errorCode !== 0) throw kafkaFailure(response.errorCode, { target })
  for (const { name, partitions: rows } of response.topics) {
    for (const { errorCode } of rows) {
      if (errorCode !== 0) throw kafkaFailure(errorCode, { target: `${target}: ${name}` })
    }
  }
}

/** Whether a commit that failed so may be tried again by the same member of the same generation. */
export function isRetriableCommit(error: unknown): boolean {
  return (
    error instanceof StreamError &&
    (error.retriable || (error.kafkaError !== undefined && kafkaErrorIsRetriable(error.kafkaError)))
  )
}

function byTopic<R extends GroupPartition>(
  rows: readonly R[],
): readonly (readonly [string, R[]])[] {
  const topics = new Map<string, R[]>()
  for (const row of rows) {
    const known = topics.get(row.topic)
    if (known === undefined) topics.set(row.topic, [row])
    else known.push(row)
  }
  return [...topics]
}
