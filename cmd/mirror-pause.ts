/** `stream mirror pause`. */

import type { CommandArgs, CommandDeps } from './deps.ts'
import { holdShape, runHold } from './mirror-hold.ts'
import { topicsOption } from './mirror-shared.ts'
import { type CommandSpec, rowOptions } from './option-table.ts'

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'mirror pause',
  summary: 'Stop following a link, or some topics of it, for now',
  description: ['Nothing is fetched any more until stream mirror resume; the topics stay read-only, and the topics of a paused link are not added to.'],
  operands: [{ name: 'NAME' }],
  options: [topicsOption, ...rowOptions],
  columns: holdShape.columns,
  examples: [{ line: 'stream mirror pause west' }, { line: "stream mirror pause west --topics 'orders*'" }],
  exits: [[3, 'no such link, or no such topic of it']],
}

export function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  return runHold(deps, args, 'pause')
}
