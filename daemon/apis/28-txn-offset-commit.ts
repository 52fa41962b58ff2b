/**
 * TxnOffsetCommit (28), versions 0 to 5: offsets that count when the transaction commits (replication.md section 9.5).
 * From version 5 on the partition of the group joins the transaction here (KIP-890); before, AddOffsetsToTxn did it. The
 * generation and the member are checked in the very turn in which the offsets are appended, so that neither a zombie of
 * the group nor a late request of an ended transaction gets in. Answered when they are durable.
 *
 * Errors, for each partition: 3 and 12 (it alone), 14, 15, 16, 22, 24, 25, 28, 47, 49, 82, 120 (48 before version 4).
 */

import type { Request, ResponseInput } from '../../src/protocol/api-table.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import { checkCommit } from '../coordinator/group-entry.ts'
import { OFFSETS_TOPIC } from '../coordinator/internal-topic.ts'
import type { OffsetEntry } from '../coordinator/offset-table.ts'
import { findGroup } from './group-requests.ts'
import type { Handler, Services } from './handler.ts'

type TxnOffsetCommitRequest = Request<'TxnOffsetCommit'>
type TopicAnswer = ResponseInput<'TxnOffsetCommit'>['topics'][number]

/** From here on the broker adds the group's partition, and each transaction has an epoch of its own. */
const IMPLICIT_VERSION = 5
/** The first that knows TRANSACTION_ABORTABLE; the codec translates top-level codes alone. */
const ABORTABLE_VERSION = 4

export const txnOffsetCommit: Handler<'TxnOffsetCommit'> = async (services, context, request) => {
  const { apiVersion } = context
  const { commits, failures } = readCommits(services, request)
  const code = codeFor(await commit(services, apiVersion, request, commits), apiVersion)
  return {
    throttleTimeMs: 0,
    topics: request.topics.map(
      ({ name, partitions }): TopicAnswer => ({
        name,
        partitions: partitions.map(({ partitionIndex }) => ({
          partitionIndex,
          errorCode: code === 0 ? (failures.get(keyOf(name, partitionIndex)) ?? 0) : code,
        })),
      }),
    ),
  }
}

/** @returns an error code, also where there is nothing to commit: a stranger is told so in any case */
async function commit(
  services: Services,
  apiVersion: number,
  request: TxnOffsetCommitRequest,
  commits: readonly OffsetEntry[],
): Promise<number> {
  const { groupId, producerId, producerEpoch, transactionalId } = request
  const { shard, errorCode } = findGroup(services, groupId)
  if (shard === undefined) return errorCode
  const refusal = checkMember(services, request)
  if (refusal !== 0) return refusal
  let stored: Promise<number> = Promise.resolve(0)
  await services.transactions.enter(
    {
      transactionalId,
      producerId,
      epoch: producerEpoch,
      topic: OFFSETS_TOPIC,
      partition: shard.index,
      isImplicit: apiVersion >= IMPLICIT_VERSION,
    },
    (code) => {
      stored = code === 0 ? append(services, request, commits) : Promise.resolve(code)
    },
  )
  return stored
}

/** In one turn with what was found of the transaction; the group may have gone on while that was waited for. */
function append(
  services: Services,
  request: TxnOffsetCommitRequest,
  commits: readonly OffsetEntry[],
): Promise<number> {
  const { groupId, producerEpoch, producerId } = request
  const refusal = checkMember(services, request)
  if (refusal !== 0 || commits.length === 0) return Promise.resolve(refusal)
  const { groups } = services
  const { shard, errorCode } = findGroup(services, groupId)
  if (shard === undefined) return Promise.resolve(errorCode)
  const entry = groups.entryIn(shard, groupId)
  return new Promise((resolve) => {
    groups.appendPending(entry, { producerId, producerEpoch }, commits, resolve)
  })
}

/** @returns an error code */
function checkMember(services: Services, request: TxnOffsetCommitRequest): number {
  const { groups, broker } = services
  const { groupId, generationId } = request
  const { shard, entry, errorCode } = findGroup(services, groupId)
  if (shard === undefined) return errorCode
  if (entry === undefined && generationId >= 0) return KafkaError.ILLEGAL_GENERATION
  const known = entry ?? groups.entryIn(shard, groupId)
  return checkCommit(known, broker.time.monotonicMs(), request, generationId, undefined)
}

function readCommits(
  { broker }: Services,
  request: TxnOffsetCommitRequest,
): { readonly commits: readonly OffsetEntry[]; readonly failures: ReadonlyMap<string, number> } {
  const commits: OffsetEntry[] = []
  const failures = new Map<string, number>()
  const metadataBytesMax = broker.config.number('offset.metadata.max.bytes')
  const commitTimestampMs = broker.time.wallMs()
  for (const { name, partitions } of request.topics) {
    const image = broker.image.topic(name)
    const count = image?.value.state === 'READY' ? image.value.partitions : 0
    for (const row of partitions) {
      const { partitionIndex: partition } = row
      const metadata = row.committedMetadata ?? ''
      if (partition < 0 || partition >= count) {
        failures.set(keyOf(name, partition), KafkaError.UNKNOWN_TOPIC_OR_PARTITION)
      } else if (Buffer.byteLength(metadata) > metadataBytesMax) {
        failures.set(keyOf(name, partition), KafkaError.OFFSET_METADATA_TOO_LARGE)
      } else {
        const value = {
          offset: row.committedOffset,
          leaderEpoch: row.committedLeaderEpoch,
          metadata,
          commitTimestampMs,
          expireTimestampMs: -1,
        }
        commits.push({ topic: name, partition, value })
      }
    }
  }
  return { commits, failures }
}

function codeFor(code: number, apiVersion: number): number {
  switch (code) {
    // Of a transaction coordinator that is busy or not there yet: the group's client comes again at once.
    case KafkaError.NOT_ENOUGH_REPLICAS:
      return KafkaError.COORDINATOR_LOAD_IN_PROGRESS
    case KafkaError.UNKNOWN_SERVER_ERROR:
      return KafkaError.INVALID_COMMIT_OFFSET_SIZE
    case KafkaError.TRANSACTION_ABORTABLE:
      return apiVersion >= ABORTABLE_VERSION ? code : KafkaError.INVALID_TXN_STATE
    default:
      return code
  }
}

function keyOf(topic: string, partition: number): string {
  return `${partition}/${topic}`
}
