/**
 * AddPartitionsToTxn (24). Versions 0 to 3: partitions join the transaction of a classic client, or none of them does.
 * Versions 4 and 5, between daemons: the leader of a partition asks for many transactions at once, to add it or to be told
 * whether it is in (verifyOnly).
 * Errors, for each partition: 3 (this one is unknown), 55 (another one is), 14, 15, 16, 47, 49, 51, 90, 120.
 */

import type { Request, ResponseInput } from '../../src/protocol/api-table.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import { isCoordinatorTopic } from '../metadata/topic-names.ts'
import type { Handler, Services } from './handler.ts'
import { readOnlyTopic } from './read-only.ts'

type TopicAnswer = NonNullable<
  ResponseInput<'AddPartitionsToTxn'>['resultsByTopicV3AndBelow']
>[number]

type AskedTransaction = Request<'AddPartitionsToTxn'>['transactions'][number]

/** The first version that knows PRODUCER_FENCED; the codec translates top-level codes alone. */
const FENCED_VERSION = 2
const BETWEEN_DAEMONS_VERSION = 4

export const addPartitionsToTxn: Handler<'AddPartitionsToTxn'> = async (
  services,
  context,
  request,
) => {
  if (context.apiVersion >= BETWEEN_DAEMONS_VERSION) {
    return {
      throttleTimeMs: 0,
      errorCode: 0,
      resultsByTransaction: await Promise.all(
        request.transactions.map((asked) => answerLeader(services, asked)),
      ),
    }
  }
  const topics = request.v3AndBelowTopics
  const isUnknown = (name: string, index: number): boolean => !exists(services, name, index)
  const hasUnknown = topics.some(({ name, partitions }) =>
    partitions.some((index) => isUnknown(name, index)),
  )
  const answer = (codeOf: (name: string, index: number) => number) => ({
    throttleTimeMs: 0,
    resultsByTopicV3AndBelow: topics.map(
      ({ name, partitions }): TopicAnswer => ({
        name,
        resultsByPartition: partitions.map((partitionIndex) => ({
          partitionIndex,
          partitionErrorCode: codeOf(name, partitionIndex),
        })),
      }),
    ),
  })
  if (hasUnknown) {
    return answer((name, index) =>
      isUnknown(name, index)
        ? KafkaError.UNKNOWN_TOPIC_OR_PARTITION
        : KafkaError.OPERATION_NOT_ATTEMPTED,
    )
  }
  const isReadOnly = (name: string): boolean => readOnlyTopic(services.broker, name) !== undefined
  if (topics.some(({ name }) => isReadOnly(name))) {
    return answer((name) =>
      isReadOnly(name) ? KafkaError.POLICY_VIOLATION : KafkaError.OPERATION_NOT_ATTEMPTED,
    )
  }
  const partitions = new Map(topics.map(({ name, partitions }) => [name, new Set(partitions)]))
  const { code } = await services.transactions.addPartitions(request.v3AndBelowTransactionalId, {
    producerId: request.v3AndBelowProducerId,
    epoch: request.v3AndBelowProducerEpoch,
    partitions,
    version: 1,
  })
  const isOld = context.apiVersion < FENCED_VERSION && code === KafkaError.PRODUCER_FENCED
  return answer(() => (isOld ? KafkaError.INVALID_PRODUCER_EPOCH : code))
}

/** The partitions are the asker's own, so they exist; the offsets of groups are among them. */
async function answerLeader(
  { transactions }: Services,
  { transactionalId, producerId, producerEpoch, verifyOnly, topics }: AskedTransaction,
) {
  const identity = { producerId, epoch: producerEpoch }
  let codeOf: (topic: string, partition: number) => Promise<number>
  if (verifyOnly) {
    codeOf = async (topic, partition) =>
      (await transactions.verify(transactionalId, { ...identity, topic, partition })).code
  } else {
    const partitions = new Map(topics.map(({ name, partitions }) => [name, new Set(partitions)]))
    const added = transactions.addPartitions(transactionalId, {
      ...identity,
      partitions,
      version: 2,
    })
    codeOf = async () => (await added).code
  }
  const topicResults = topics.map(async ({ name, partitions }) => ({
    name,
    resultsByPartition: await Promise.all(
      partitions.map(async (partitionIndex) => ({
        partitionIndex,
        partitionErrorCode: await codeOf(name, partitionIndex),
      })),
    ),
  }))
  return { transactionalId, topicResults: await Promise.all(topicResults) }
}

function exists({ broker }: Services, name: string, index: number): boolean {
  if (isCoordinatorTopic(name)) return false
  const topic = broker.image.topic(name)
  if (topic === undefined || topic.value.state !== 'READY') return false
  return index >= 0 && index < topic.value.partitions
}
