/**
 * CreatePartitions (37), versions 0 to 3: grows topics to `count` partitions. The answer names every topic asked for.
 * Errors: 3, 37 (not more than now), 38, 39, 42 (one topic twice), 7, 41, 56.
 */

import { isStreamError } from '../../src/base/errors.ts'
import type { Request, ResponseInput } from '../../src/protocol/api-table.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import type { Broker } from '../replica/broker.ts'
import { findAssignmentDefect } from '../replica/replica-placement.ts'
import type { Handler } from './handler.ts'
import { codeOfError, messageOfError } from './kafka-codes.ts'
import { readOnlyTopic } from './read-only.ts'

type TopicRequest = Request<'CreatePartitions'>['topics'][number]
type Result = ResponseInput<'CreatePartitions'>['results'][number]

const PARTITIONS_MAX = 100_000

export const createPartitions: Handler<'CreatePartitions'> = async (
  { broker },
  _context,
  request,
) => {
  const seen = new Set<string>()
  const results: Result[] = []
  for (const topic of request.topics) {
    const { name } = topic
    if (seen.has(name)) {
      const errorMessage = 'the topic stands in the request twice'
      results.push({ name, errorCode: KafkaError.INVALID_REQUEST, errorMessage })
    } else {
      seen.add(name)
      results.push(await grow(broker, topic, request.validateOnly))
    }
  }
  return { throttleTimeMs: 0, results }
}

async function grow(broker: Broker, topic: TopicRequest, validateOnly: boolean): Promise<Result> {
  const { name, count } = topic
  const refuse = (errorCode: number, errorMessage: string): Result => ({
    name,
    errorCode,
    errorMessage,
  })
  const image = broker.image.topic(name)
  if (image === undefined || image.value.state !== 'READY') {
    return refuse(KafkaError.UNKNOWN_TOPIC_OR_PARTITION, 'no such topic')
  }
  const readOnly = readOnlyTopic(broker, name)
  if (readOnly !== undefined) return refuse(KafkaError.POLICY_VIOLATION, readOnly)
  const before = image.value.partitions
  const added = count - before
  if (added < 1 || count > PARTITIONS_MAX) {
    const message = `the topic has ${before} partitions; it must be more, at most ${PARTITIONS_MAX}`
    return refuse(KafkaError.INVALID_PARTITIONS, message)
  }
  const brokers = broker.topics.placeable()
  const factor = broker.image.partition(image.topicId, 0)?.value.replicas.length ?? 1
  if (topic.assignments === null && factor > brokers.length) {
    const message = `replication factor ${factor} is more than the ${brokers.length} live brokers`
    return refuse(KafkaError.INVALID_REPLICATION_FACTOR, message)
  }
  let assignments = broker.topics.place(added, factor, before)
  if (topic.assignments !== null) {
    assignments = topic.assignments.map((entry) => entry.brokerIds)
    const isWhole =
      assignments.length === added && assignments.every((replicas) => replicas.length === factor)
    const defect = isWhole
      ? findAssignmentDefect(assignments, brokers)
      : `${added} new partitions of ${factor} replicas are to be assigned`
    if (defect !== undefined) return refuse(KafkaError.INVALID_REPLICA_ASSIGNMENT, defect)
  }
  try {
    if (!validateOnly) await broker.topics.grow(name, assignments)
    return { name, errorCode: 0 }
  } catch (error) {
    if (!isStreamError(error)) throw error
    return refuse(codeOfError(error), messageOfError(error))
  }
}
