/**
 * ElectLeaders (43), versions 0 to 2: gives the lead to the preferred replica, or (from v1, election type 1) elects where
 * nobody leads whoever is alive, though records may be lost. Without a list: all partitions, and the answer leaves out those
 * that needed no election. Errors: 3, 80, 83, 84, 42 (an unknown election type), 7, 41.
 */

import { isStreamError } from '../../src/base/errors.ts'
import type { Request, ResponseInput } from '../../src/protocol/api-table.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import type { ElectionKind, PartitionName, PartitionOutcome } from '../replica/partition-orders.ts'
import type { Handler } from './handler.ts'
import { codeOfError, messageOfError } from './kafka-codes.ts'

type Result = ResponseInput<'ElectLeaders'>['replicaElectionResults'][number]

const kinds: ReadonlyMap<number, ElectionKind> = new Map([
  [0, 'preferred'],
  [1, 'unclean'],
])

export const electLeaders: Handler<'ElectLeaders'> = async (
  { broker },
  { apiVersion },
  request,
) => {
  const names = namesOf(request)
  const refuseAll = (code: number, message: string): ResponseInput<'ElectLeaders'> => ({
    throttleTimeMs: 0,
    errorCode: code,
    // v0 has no error of its own.
    replicaElectionResults:
      apiVersion > 0 ? [] : byTopic((names ?? []).map((name) => ({ ...name, code, message }))),
  })
  const kind = apiVersion === 0 ? 'preferred' : kinds.get(request.electionType)
  if (kind === undefined) {
    return refuseAll(KafkaError.INVALID_REQUEST, `no election type ${request.electionType}`)
  }
  try {
    const outcomes = await broker.topics.electLeaders(kind, names)
    return { throttleTimeMs: 0, errorCode: 0, replicaElectionResults: byTopic(outcomes) }
  } catch (error) {
    if (!isStreamError(error)) throw error
    return refuseAll(codeOfError(error), messageOfError(error))
  }
}

function namesOf({ topicPartitions }: Request<'ElectLeaders'>): PartitionName[] | undefined {
  return topicPartitions?.flatMap(({ topic, partitions }) =>
    partitions.map((partition) => ({ topic, partition })),
  )
}

function byTopic(outcomes: readonly PartitionOutcome[]): Result[] {
  const rows = new Map<string, Result['partitionResult'][number][]>()
  for (const { topic, partition, code, message } of outcomes) {
    const row = rows.get(topic) ?? []
    rows.set(topic, row)
    row.push({ partitionId: partition, errorCode: code, errorMessage: message })
  }
  return [...rows].map(([topic, partitionResult]) => ({ topic, partitionResult }))
}
