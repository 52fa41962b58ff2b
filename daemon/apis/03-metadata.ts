/**
 * Metadata (3), versions 0 to 12. v0: an empty list asks for all topics; from v1: null for all, empty for none. Names
 * (from v10 also ids) that do not exist are answered one by one with error 3 (100); where auto.create.topics.enable is
 * set and the client allows it they are created and answered at once (P8).
 *
 * Brokers are named by the addresses of the door that the request came through.
 */

import { isStreamError } from '../../src/base/errors.ts'
import type { ResponseInput } from '../../src/protocol/api-table.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import { ZERO_UUID } from '../../src/protocol/schema.ts'
import { createTopic } from '../coordinator/topic-creation.ts'
import type { TopicImage } from '../metadata/metadata-image.ts'
import { findTopicNameDefect, isInternalTopic } from '../metadata/topic-names.ts'
import type { Broker } from '../replica/broker.ts'
import { clusterOperations, topicOperations } from './authorized-operations.ts'
import { brokerEndpoints, NamedLeaders } from './broker-endpoints.ts'
import type { Handler, Services } from './handler.ts'
import { codeOfError } from './kafka-codes.ts'

/** From which version on clients know LISTENER_NOT_FOUND. */
const LISTENER_ERROR_VERSION = 6

type TopicAnswer = ResponseInput<'Metadata'>['topics'][number]

/** What the description of every topic needs. */
interface Look {
  readonly broker: Broker
  readonly leaders: NamedLeaders
  readonly withOperations: boolean
}

export const metadata: Handler<'Metadata'> = async (services, context, request) => {
  const { broker } = services
  const { topics: asked } = request
  const wantsAll = asked === null || (asked.length === 0 && context.apiVersion === 0)
  // Looked at once: topics that are created meanwhile are led by brokers of this list, or by nobody for this answer.
  const brokers = brokerEndpoints(broker, context)
  const isOld = context.apiVersion < LISTENER_ERROR_VERSION
  const look: Look = {
    broker,
    leaders: new NamedLeaders(
      broker,
      brokers,
      isOld ? KafkaError.LEADER_NOT_AVAILABLE : KafkaError.LISTENER_NOT_FOUND,
    ),
    withOperations: request.includeTopicAuthorizedOperations,
  }
  const topics: TopicAnswer[] = []
  if (wantsAll) {
    for (const topic of broker.image.topics()) {
      if (topic.value.state === 'READY') topics.push(describe(look, topic))
    }
  } else {
    for (const { name, topicId } of asked) {
      if (name === null) {
        topics.push(describeById(look, topicId))
        continue
      }
      const isName = findTopicNameDefect(name) === undefined
      const known = isName ? await broker.image.lookUpTopic(name) : undefined
      const answer =
        known?.value.state === 'READY'
          ? undefined
          : await findOrCreate(services, name, request.allowAutoTopicCreation)
      const topic = broker.image.topic(name)
      if (answer !== undefined || topic === undefined) {
        const errorCode = answer ?? KafkaError.UNKNOWN_TOPIC_OR_PARTITION
        topics.push({ errorCode, name, topicId: ZERO_UUID, partitions: [] })
      } else topics.push(describe(look, topic))
    }
  }
  return {
    throttleTimeMs: 0,
    brokers: [...brokers],
    clusterId: broker.clusterId,
    controllerId: broker.controllerId,
    topics,
    ...(request.includeClusterAuthorizedOperations
      ? { clusterAuthorizedOperations: clusterOperations }
      : {}),
  }
}

/** @returns the error for the topic; undefined: it is there now */
async function findOrCreate(
  services: Services,
  name: string,
  mayCreate: boolean,
): Promise<number | undefined> {
  if (findTopicNameDefect(name) !== undefined) return KafkaError.INVALID_TOPIC_EXCEPTION
  const { broker, peers } = services
  if (!mayCreate || !broker.config.boolean('auto.create.topics.enable') || isInternalTopic(name)) {
    return KafkaError.UNKNOWN_TOPIC_OR_PARTITION
  }
  try {
    const partitions = broker.config.number('num.partitions')
    const brokers = broker.topics.placeable()
    const replicas = broker.config.replicationFactor(brokers.length)
    const assignments = broker.topics.place(partitions, replicas)
    await createTopic(broker, peers, { name, assignments, config: {} })
    return undefined
  } catch (error) {
    if (!isStreamError(error)) throw error
    broker.log.warn('a topic could not be created', { topic: name, error: error.message })
    const code = codeOfError(error)
    return code === KafkaError.INVALID_TOPIC_EXCEPTION ? code : KafkaError.LEADER_NOT_AVAILABLE
  }
}

function describeById(look: Look, topicId: string): TopicAnswer {
  const topic = look.broker.image.topicById(topicId)
  if (topic === undefined || topic.value.state !== 'READY') {
    return { errorCode: KafkaError.UNKNOWN_TOPIC_ID, name: null, topicId, partitions: [] }
  }
  return describe(look, topic)
}

function describe({ broker, leaders, withOperations }: Look, topic: TopicImage): TopicAnswer {
  const partitions: TopicAnswer['partitions'][number][] = []
  for (let index = 0; index < topic.value.partitions; index += 1) {
    const record = broker.image.partition(topic.topicId, index)?.value
    partitions.push({
      ...leaders.of(record?.leader ?? -1),
      partitionIndex: index,
      leaderEpoch: record?.leaderEpoch ?? -1,
      replicaNodes: record?.replicas ?? [],
      isrNodes: (record?.inSyncReplicas ?? []).map((member) => member.broker),
      offlineReplicas: (record?.replicas ?? []).filter((nodeId) => !leaders.isLive(nodeId)),
    })
  }
  return {
    errorCode: 0,
    name: topic.name,
    topicId: topic.topicId,
    isInternal: isInternalTopic(topic.name),
    partitions,
    ...(withOperations ? { topicAuthorizedOperations: topicOperations } : {}),
  }
}
