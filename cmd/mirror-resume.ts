/** `stream mirror resume`. */

import type { CommandArgs, CommandDeps } from './deps.ts'
import { holdShape, runHold } from './mirror-hold.ts'
import { topicsOption } from './mirror-shared.ts'
import { type CommandSpec, rowOptions } from './option-table.ts'

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'mirror resume',
  summary: 'Follow a link, or some topics of it, again',
  description: ['Goes on where it stopped. Of a promoted topic nothing changes.'],
  operands: [{ name: 'NAME' }],
  options: [topicsOption, ...rowOptions],
  columns: holdShape.columns,
  examples: [{ line: 'stream mirror resume west' }, { line: "stream mirror resume west --topics 'orders*'" }],
  exits: [[3, 'no such link, or no such topic of it']],
}

export function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  return runHold(deps, args, 'resume')
}
