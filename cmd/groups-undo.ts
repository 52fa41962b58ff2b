/** `stream groups undo`: back to before the last seek, one seek further each time; asks. */

import { StreamError } from '../src/base/errors.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { type MoveKeeper, moveGroup, moveShape, movesTo } from './groups-move.ts'
import { expectGroup, offsetTable, oneGroup, withGroups } from './groups-shared.ts'
import { type FormerOffset, UndoLog, type UndoRecord } from './groups-undo-log.ts'
import { type CommandSpec, changeOptions, rowOptions, yesOption } from './option-table.ts'

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'groups undo',
  summary: 'Move a consumer group back to where it was before the last seek',
  description: [
    'Each undo goes one seek further back; of each group the last ten seeks are kept. --redo undoes the last undo, and each further one the undo before it; a new seek forgets what was undone.',
    'Prints what it changes, and asks first. Exit 3 if there is nothing more to undo or redo.',
  ],
  operands: [{ name: 'GROUP' }],
  options: [
    { long: 'redo', help: 'undo the last undo: to where the group was before it' },
    yesOption,
    ...changeOptions,
    ...rowOptions,
  ],
  columns: moveShape.columns,
  examples: [
    { line: 'stream groups undo nightly --dry-run' },
    { line: 'stream groups seek nightly --to yesterday -y && ./nightly.sh || stream groups undo nightly -y' },
    { line: 'stream groups undo nightly --redo -y' },
  ],
  exits: [
    [2, 'refused for want of -y'],
    [3, 'no such group, or nothing more to undo or redo'],
    [8, 'the group has live members'],
  ],
}

export function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const name = oneGroup(args, spec.name)
  const isRedo = args.flags.has('redo')
  return withGroups(deps, args, async (session) => {
    const group = await expectGroup(session.groups, name)
    const log = await UndoLog.read(deps, session.broker, name)
    const record = isRedo ? log.lastUndone : log.lastMove
    if (record === undefined) throw nothingMore(name, log, isRedo)
    const now = offsetTable(await session.groups.offsets(name))
    const targets = (isRedo ? (record.after ?? []) : record.offsets).map(
      ({ topic, partition, offset }) => ({ topic, partition, to: offset }),
    )
    const keeper = isRedo ? redoKeeper(log, record) : undoKeeper(log, record)
    return moveGroup(deps, args.flags, session, group, movesTo(now, targets), keeper)
  })
}

/** First where the group was, then that the move is undone: an undo that ends in between is done again, and no seek is skipped. */
function undoKeeper(log: UndoLog, record: UndoRecord): MoveKeeper {
  let after: readonly FormerOffset[] = record.after ?? []
  return {
    before: async (former) => {
      after = former
      await log.replace({ ...record, after })
    },
    after: () => log.replace({ ...record, after, isUndone: true }),
  }
}

function redoKeeper(log: UndoLog, { v, sequence, at, offsets }: UndoRecord): MoveKeeper {
  return {
    before: () => Promise.resolve(),
    after: () => log.replace({ v, sequence, at, offsets }),
  }
}

function nothingMore(name: string, log: UndoLog, isRedo: boolean): StreamError {
  const target = { target: name }
  if (isRedo) {
    return new StreamError('NAME_UNKNOWN', `${name}: there is no undo to undo`, target)
  }
  if (log.isEmpty) {
    return new StreamError('NAME_UNKNOWN', `${name}: was never moved by stream groups seek`, target)
  }
  return new StreamError('NAME_UNKNOWN', `${name}: there is no earlier seek to undo`, {
    ...target,
    hint: `to undo the last undo: stream groups undo ${name} --redo`,
  })
}
