/** `stream groups undo`: back to before the last seek; asks. */

import { StreamError } from '../src/base/errors.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { moveGroup, moveShape, movesTo } from './groups-move.ts'
import { expectGroup, offsetTable, oneGroup, withGroups } from './groups-shared.ts'
import { latestUndo } from './groups-undo-log.ts'
import { type CommandSpec, changeOptions, rowOptions, yesOption } from './option-table.ts'

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'groups undo',
  summary: 'Move a consumer group back to where it was before the last seek',
  description: ['Prints what it changes, and asks first. An undo can be undone: it keeps where the group was, as a seek does.'],
  operands: [{ name: 'GROUP' }],
  options: [yesOption, ...changeOptions, ...rowOptions],
  columns: moveShape.columns,
  examples: [
    { line: 'stream groups undo nightly --dry-run' },
    { line: 'stream groups seek nightly --to yesterday -y && ./nightly.sh || stream groups undo nightly -y' },
  ],
  exits: [
    [2, 'refused for want of -y'],
    [3, 'no such group, or it was never moved'],
    [8, 'the group has live members'],
  ],
}

export function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const name = oneGroup(args, spec.name)
  return withGroups(deps, args, async (session) => {
    const group = await expectGroup(session.groups, name)
    const last = await latestUndo(deps, session.broker, name)
    if (last === undefined) {
      throw new StreamError('NAME_UNKNOWN', `${name}: was never moved by stream groups seek`, {
        target: name,
      })
    }
    const now = offsetTable(await session.groups.offsets(name))
    const targets = last.offsets.map(({ topic, partition, offset }) => ({
      topic,
      partition,
      to: offset,
    }))
    return moveGroup(deps, args.flags, session, group, movesTo(now, targets))
  })
}
