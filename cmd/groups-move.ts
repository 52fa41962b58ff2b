/** Moving a group: the plan, the question, what is kept of it, the commit. Shared by seek and undo. */

import type { GroupDescription } from '../src/client/group-admin.ts'
import type { GroupPartition } from '../src/client/group-offsets.ts'
import type { Row, RowShape } from '../src/text/rows.ts'
import type { CommandDeps } from './deps.ts'
import type { Flags } from './flags.ts'
import { byPlace, type GroupsSession, nameOf, refuseLive } from './groups-shared.ts'
import type { FormerOffset } from './groups-undo-log.ts'
import { confirm } from './prompt.ts'
import { printRows } from './row-output.ts'

export const moveShape: RowShape = {
  kind: 'group-move',
  columns: ['TOPIC', 'PARTITION', 'OLD', 'NEW', 'DELTA'],
}

export interface Move extends GroupPartition {
  /** null: nothing is committed. */
  readonly from: number | null
  /** null: nothing is to be committed any more. */
  readonly to: number | null
}

/** What a move leaves behind for undo. */
export interface MoveKeeper {
  /** @param former  where the group is, of partitions that change; not called if none does */
  readonly before: (former: readonly FormerOffset[]) => Promise<void>
  readonly after: () => Promise<void>
}

/** @throws StreamError CONFLICT where the group has live members, UsageError without a terminal and without -y */
export async function moveGroup(
  deps: CommandDeps,
  flags: Flags,
  { groups }: GroupsSession,
  group: GroupDescription,
  moves: readonly Move[],
  keeper: MoveKeeper,
): Promise<number> {
  const { groupId } = group
  const changes = moves.filter(({ from, to }) => from !== to).sort(byPlace)
  const rows = changes.map(rowOf)
  if (flags.has('dry-run')) {
    await printRows(deps, flags, moveShape, rows)
    return 0
  }
  refuseLive(group, 'move it')
  if (changes.length === 0) {
    deps.console.warn(`${groupId}: is there already`)
    await keeper.after()
    return 0
  }
  const question = `move ${groupId} in ${changes.length} partitions?`
  if (!(await confirm(deps, flags, question, 'y', { shape: moveShape, rows }))) {
    deps.console.warn('nothing moved')
    return 1
  }
  const former = changes.map(({ topic, partition, from }) => ({ topic, partition, offset: from }))
  await keeper.before(former)
  const dropped = changes.filter(({ to }) => to === null)
  if (dropped.length > 0) await groups.deleteOffsets(groupId, dropped)
  await groups.commit(
    groupId,
    changes.flatMap(({ topic, partition, to }) =>
      to === null ? [] : [{ topic, partition, offset: to }],
    ),
  )
  await keeper.after()
  await printRows(deps, flags, moveShape, rows)
  return 0
}

/** What stays where it is, too. */
export function movesTo(
  from: ReadonlyMap<string, number>,
  targets: readonly (GroupPartition & { readonly to: number | null })[],
): Move[] {
  return targets.map((target) => ({ ...target, from: from.get(nameOf(target)) ?? null }))
}

function rowOf({ topic, partition, from, to }: Move): Row {
  return [topic, partition, from, to, from === null || to === null ? null : to - from]
}
