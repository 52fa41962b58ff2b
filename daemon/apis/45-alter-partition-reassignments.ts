/**
 * AlterPartitionReassignments (45), versions 0 and 1: moves partitions to other brokers, or with null replicas goes back from a
 * move under way. Answered when the move is begun; ListPartitionReassignments tells when it has ended. Errors, by
 * partition: 3, 38 (v1, where the number of replicas is to stay), 39, 85, 7; for all: 41, 7.
 */

import { isStreamError } from '../../src/base/errors.ts'
import type { ResponseInput } from '../../src/protocol/api-table.ts'
import type { Handler } from './handler.ts'
import { codeOfError, messageOfError } from './kafka-codes.ts'

type Row = ResponseInput<'AlterPartitionReassignments'>['responses'][number]

export const alterPartitionReassignments: Handler<'AlterPartitionReassignments'> = async (
  { broker },
  { apiVersion },
  request,
) => {
  const orders = request.topics.flatMap(({ name, partitions }) =>
    partitions.map(({ partitionIndex, replicas }) => ({
      topic: name,
      partition: partitionIndex,
      replicas,
    })),
  )
  const mayResize = apiVersion === 0 || request.allowReplicationFactorChange
  const answer = (errorCode: number, errorMessage: string | null, responses: Row[]) => ({
    throttleTimeMs: 0,
    allowReplicationFactorChange: mayResize,
    errorCode,
    errorMessage,
    responses,
  })
  try {
    const rows = new Map<string, Row['partitions'][number][]>()
    for (const { topic, partition, code, message } of await broker.topics.reassign(orders, {
      mayResize,
    })) {
      const row = rows.get(topic) ?? []
      rows.set(topic, row)
      row.push({ partitionIndex: partition, errorCode: code, errorMessage: message })
    }
    return answer(
      0,
      null,
      [...rows].map(([name, partitions]) => ({ name, partitions })),
    )
  } catch (error) {
    if (!isStreamError(error)) throw error
    return answer(codeOfError(error), messageOfError(error), [])
  }
}
