/**
 * CreateTopics (19), versions 2 to 7. Each topic by itself; a topic is answered when its logs exist, are synced and are
 * served. −1 partitions or replicas: the broker's default. v5 echoes the configs, v7 the topic id.
 *
 * Errors: 17, 36, 37, 38, 39, 40, 42, 7 (outcome unknown), 56.
 */

import { isStreamError } from '../../src/base/errors.ts'
import { findKey } from '../../src/config/keys.ts'
import type { Request, ResponseInput } from '../../src/protocol/api-table.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import { ZERO_UUID } from '../../src/protocol/schema.ts'
import { findTopicNameDefect } from '../metadata/topic-names.ts'
import type { Broker } from '../replica/broker.ts'
import type { Texts } from '../replica/broker-config.ts'
import { findAssignmentDefect } from '../replica/replica-placement.ts'
import { checkTopicConfig, sourceOf } from './config-values.ts'
import type { Handler } from './handler.ts'
import { codeOfError, messageOfError } from './kafka-codes.ts'

type TopicRequest = Request<'CreateTopics'>['topics'][number]
type TopicAnswer = ResponseInput<'CreateTopics'>['topics'][number]

/** Of one topic: a bound on what one request can ask of the disk. */
const PARTITIONS_MAX = 100_000

export const createTopics: Handler<'CreateTopics'> = async ({ broker }, _context, request) => {
  const names = new Map<string, number>()
  for (const { name } of request.topics) names.set(name, (names.get(name) ?? 0) + 1)
  const topics: TopicAnswer[] = []
  for (const topic of request.topics) {
    if ((names.get(topic.name) ?? 0) > 1) {
      const message = 'the topic stands in the request twice'
      topics.push(refuse(topic.name, KafkaError.INVALID_REQUEST, message))
    } else topics.push(await create(broker, topic, request.validateOnly))
  }
  return { throttleTimeMs: 0, topics }
}

async function create(
  broker: Broker,
  topic: TopicRequest,
  validateOnly: boolean,
): Promise<TopicAnswer> {
  const { name } = topic
  const defect = findTopicNameDefect(name)
  if (defect !== undefined) return refuse(name, KafkaError.INVALID_TOPIC_EXCEPTION, defect)
  try {
    broker.topics.checkNewName(name)
    const plan = planAssignments(broker, topic)
    if ('code' in plan) return refuse(name, plan.code, plan.message)
    const config: Record<string, string> = {}
    for (const entry of topic.configs) {
      if (entry.value === null) {
        return refuse(name, KafkaError.INVALID_CONFIG, `${entry.name}: no value`)
      }
      config[entry.name] = entry.value
    }
    checkTopicConfig(broker.config, config)
    const assignments = plan.assignments
    const topicId = validateOnly
      ? ZERO_UUID
      : (await broker.topics.create({ name, assignments, config })).topicId
    return {
      name,
      topicId,
      errorCode: 0,
      errorMessage: null,
      numPartitions: assignments.length,
      replicationFactor: assignments[0]?.length ?? 0,
      configs: echo(broker, config, assignments[0]?.length ?? 1),
    }
  } catch (error) {
    if (!isStreamError(error)) throw error
    return refuse(name, codeOfError(error), messageOfError(error))
  }
}

function planAssignments(
  broker: Broker,
  topic: TopicRequest,
):
  | { readonly assignments: readonly (readonly number[])[] }
  | { readonly code: number; readonly message: string } {
  const brokers = broker.topics.placeable()
  const { numPartitions, replicationFactor } = topic
  if (topic.assignments.length > 0) {
    if (numPartitions !== -1 || replicationFactor !== -1) {
      const message = 'both an assignment and numbers of partitions or replicas'
      return { code: KafkaError.INVALID_REQUEST, message }
    }
    const inOrder = [...topic.assignments].sort((a, b) => a.partitionIndex - b.partitionIndex)
    const isConsecutive = inOrder.every((entry, index) => entry.partitionIndex === index)
    const assignments = inOrder.map((entry) => entry.brokerIds)
    const defect = isConsecutive
      ? findAssignmentDefect(assignments, brokers)
      : 'the partitions are not consecutive from 0'
    if (defect !== undefined) {
      return { code: KafkaError.INVALID_REPLICA_ASSIGNMENT, message: defect }
    }
    return { assignments }
  }
  const partitions = numPartitions === -1 ? broker.config.number('num.partitions') : numPartitions
  if (partitions < 1 || partitions > PARTITIONS_MAX) {
    const message = `${numPartitions} partitions; it must be 1 to ${PARTITIONS_MAX}, or -1`
    return { code: KafkaError.INVALID_PARTITIONS, message }
  }
  const replicas =
    replicationFactor === -1 ? broker.config.replicationFactor(brokers.length) : replicationFactor
  if (replicas < 1) {
    const message = `replication factor ${replicas}; it must be at least 1, or -1`
    return { code: KafkaError.INVALID_REPLICATION_FACTOR, message }
  }
  if (replicas > brokers.length) {
    const message = `replication factor ${replicas} is more than the ${brokers.length} live brokers`
    return { code: KafkaError.INVALID_REPLICATION_FACTOR, message }
  }
  return { assignments: broker.topics.place(partitions, replicas) }
}

function echo(broker: Broker, config: Texts, replicas: number): TopicAnswer['configs'] {
  return broker.config.describeTopic(config, replicas).map(({ name, text, origin }) => ({
    name,
    value: text,
    readOnly: false,
    configSource: sourceOf(origin),
    isSensitive: findKey('topic', name)?.type === 'secret',
  }))
}

function refuse(name: string, errorCode: number, errorMessage: string): TopicAnswer {
  return { name, topicId: ZERO_UUID, errorCode, errorMessage, configs: null }
}
