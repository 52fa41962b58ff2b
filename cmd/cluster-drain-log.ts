/** Where partitions were before a broker was drained, in the state topic, so that it can be undone. */

import type { PlannedPartition, PlanPartition } from '../src/client/replica-plan.ts'
import type { Broker } from './broker.ts'
import type { CommandDeps } from './deps.ts'
import { findStateTrouble, readState, type StateKey, writeState } from './stream-state.ts'

/** So that a record stays far below what a broker takes. */
const PARTITIONS_PER_RECORD = 2000

interface DrainRecord {
  readonly v: 1
  readonly at: number
  readonly partitions: readonly FormerReplicas[]
}

export type FormerReplicas = Pick<PlanPartition, 'topic' | 'partition' | 'replicas'>

const prefixOf = (nodeId: number): StateKey => ['cluster', 'drain', nodeId]

/**
 * Those of a drain that was not undone stay: the first place counts, however often it is drained again. Where they cannot be
 * written down it is told, and no reason to leave the partitions on a broker that has to go.
 * @throws as writeState
 */
export async function keepDrain(
  deps: CommandDeps,
  broker: Broker,
  nodeId: number,
  moves: readonly PlannedPartition[],
): Promise<void> {
  const trouble = await findStateTrouble(deps, broker, prefixOf(nodeId))
  if (trouble !== undefined) {
    deps.console.warn(`${trouble.message}; --undo will not know what this drain moves`)
    return
  }
  const known = await latestDrain(deps, broker, nodeId)
  const names = new Set(known.map(nameOf))
  const partitions: readonly FormerReplicas[] = [
    ...known,
    ...moves
      .filter((move) => !names.has(nameOf(move)))
      .map(({ topic, partition, replicas }) => ({ topic, partition, replicas })),
  ]
  for (
    let from = 0, index = 0;
    from < partitions.length;
    from += PARTITIONS_PER_RECORD, index += 1
  ) {
    const record: DrainRecord = {
      v: 1,
      at: deps.time.wallMs(),
      partitions: partitions.slice(from, from + PARTITIONS_PER_RECORD),
    }
    await writeState(deps, broker, prefixOf(nodeId), [...prefixOf(nodeId), index], record)
  }
}

/** Empty: there is nothing to go back to. @throws as readState */
export async function latestDrain(
  deps: CommandDeps,
  broker: Broker,
  nodeId: number,
): Promise<readonly FormerReplicas[]> {
  const records = await readState(deps, broker, prefixOf(nodeId))
  return [...records.values()].flatMap((value) => {
    const record = value as DrainRecord
    return record.v === 1 && Array.isArray(record.partitions) ? record.partitions : []
  })
}

/** @throws as writeState */
export async function forgetDrain(
  deps: CommandDeps,
  broker: Broker,
  nodeId: number,
): Promise<void> {
  const prefix = prefixOf(nodeId)
  for (const key of (await readState(deps, broker, prefix)).keys()) {
    await writeState(deps, broker, prefix, JSON.parse(key) as StateKey, undefined)
  }
}

function nameOf({ topic, partition }: FormerReplicas): string {
  return `${topic}/${partition}`
}
