/** The positions that groups had before they were moved: ten of each group, in the state topic. */

import type { GroupPartition } from '../src/client/group-offsets.ts'
import type { Broker } from './broker.ts'
import type { CommandDeps } from './deps.ts'
import { readState, type StateKey, writeState } from './stream-state.ts'

const KEPT = 10

/** A position of before; null: nothing was committed. */
export interface FormerOffset extends GroupPartition {
  readonly offset: number | null
}

interface UndoRecord {
  readonly v: 1
  readonly sequence: number
  readonly at: number
  readonly offsets: readonly FormerOffset[]
}

const prefixOf = (group: string): StateKey => ['groups', 'undo', group]

/** The latest; undefined: there is nothing to go back to. @throws as readState */
export async function latestUndo(
  deps: CommandDeps,
  broker: Broker,
  group: string,
): Promise<UndoRecord | undefined> {
  let latest: UndoRecord | undefined
  for (const value of (await readState(deps, broker, prefixOf(group))).values()) {
    const record = value as UndoRecord
    if (record.v !== 1 || !Array.isArray(record.offsets)) continue
    if (latest === undefined || record.sequence > latest.sequence) latest = record
  }
  return latest
}

/** Keeps where the group was, in place of the oldest of ten. @throws as writeState */
export async function keepUndo(
  deps: CommandDeps,
  broker: Broker,
  group: string,
  offsets: readonly FormerOffset[],
): Promise<void> {
  const sequence = ((await latestUndo(deps, broker, group))?.sequence ?? 0) + 1
  const prefix = prefixOf(group)
  const record: UndoRecord = { v: 1, sequence, at: deps.time.wallMs(), offsets }
  await writeState(deps, broker, prefix, [...prefix, sequence % KEPT], record)
}
