/**
 * DeleteTopics (20), versions 1 to 6 (v6 by name or id). Answered when the tombstone is durable and the logs have left
 * their place. Errors: 3, 100, 42 (twice, or neither name nor id), 73 where delete.topic.enable is false, 7, 41.
 */

import { isStreamError } from '../../src/base/errors.ts'
import type { ResponseInput } from '../../src/protocol/api-table.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import { ZERO_UUID } from '../../src/protocol/schema.ts'
import type { Broker } from '../replica/broker.ts'
import type { Handler } from './handler.ts'
import { codeOfError, messageOfError } from './kafka-codes.ts'
import { readOnlyTopic } from './read-only.ts'

type TopicAnswer = ResponseInput<'DeleteTopics'>['responses'][number]

const DISABLED_VERSION = 3

export const deleteTopics: Handler<'DeleteTopics'> = async ({ broker }, context, request) => {
  const asked = [
    ...request.topics,
    ...request.topicNames.map((name) => ({ name, topicId: ZERO_UUID })),
  ]
  const isEnabled = broker.config.boolean('delete.topic.enable')
  const seen = new Set<string>()
  const responses: TopicAnswer[] = []
  for (const { name, topicId } of asked) {
    const key = name ?? topicId
    if (!isEnabled) {
      const errorCode =
        context.apiVersion < DISABLED_VERSION
          ? KafkaError.INVALID_REQUEST
          : KafkaError.TOPIC_DELETION_DISABLED
      responses.push({ name, topicId, errorCode, errorMessage: 'delete.topic.enable is false' })
    } else if (seen.has(key) || (name === null) === (topicId === ZERO_UUID)) {
      const errorMessage = 'a topic is named once, by its name or by its id'
      responses.push({ name, topicId, errorCode: KafkaError.INVALID_REQUEST, errorMessage })
    } else {
      seen.add(key)
      responses.push(await remove(broker, name, topicId))
    }
  }
  return { throttleTimeMs: 0, responses }
}

async function remove(broker: Broker, name: string | null, topicId: string): Promise<TopicAnswer> {
  const topic = name === null ? broker.image.topicById(topicId) : broker.image.topic(name)
  if (topic === undefined || topic.value.state !== 'READY') {
    const errorCode =
      name === null ? KafkaError.UNKNOWN_TOPIC_ID : KafkaError.UNKNOWN_TOPIC_OR_PARTITION
    return { name, topicId, errorCode, errorMessage: 'no such topic' }
  }
  const found = { name: topic.name, topicId: topic.topicId }
  const readOnly = readOnlyTopic(broker, topic.name)
  if (readOnly !== undefined) {
    return { ...found, errorCode: KafkaError.POLICY_VIOLATION, errorMessage: readOnly }
  }
  try {
    await broker.topics.delete(topic.name)
    return { ...found, errorCode: 0 }
  } catch (error) {
    if (!isStreamError(error)) throw error
    return { ...found, errorCode: codeOfError(error), errorMessage: messageOfError(error) }
  }
}
