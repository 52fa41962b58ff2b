/**
 * ListPartitionReassignments (46), version 0: the moves under way, of the partitions asked for or of all. The controller knows
 * best; while there is none, any broker tells what it has heard.
 */

import type { ResponseInput } from '../../src/protocol/api-table.ts'
import type { Handler } from './handler.ts'

type Row = ResponseInput<'ListPartitionReassignments'>['topics'][number]

export const listPartitionReassignments: Handler<'ListPartitionReassignments'> = (
  { broker },
  _context,
  request,
) => {
  const names = request.topics?.flatMap(({ name, partitionIndexes }) =>
    partitionIndexes.map((partition) => ({ topic: name, partition })),
  )
  const rows = new Map<string, Row['partitions'][number][]>()
  for (const running of broker.topics.reassignments(names)) {
    const row = rows.get(running.topic) ?? []
    rows.set(running.topic, row)
    row.push({
      partitionIndex: running.partition,
      replicas: running.replicas,
      addingReplicas: running.adding,
      removingReplicas: running.removing,
    })
  }
  const topics = [...rows].map(([name, partitions]) => ({ name, partitions }))
  return { throttleTimeMs: 0, errorCode: 0, errorMessage: null, topics }
}
