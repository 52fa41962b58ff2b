/** `stream version`, and `-V` of every command. */

import type { CommandArgs, CommandDeps } from './deps.ts'
import type { CommandSpec } from './option-table.ts'
import { printText } from './row-output.ts'

export const spec: CommandSpec = {
  name: 'version',
  summary: 'Print the version',
  description: [],
  operands: [],
  options: [],
  examples: [{ line: 'stream version' }],
}

export async function run(deps: CommandDeps, _args: CommandArgs): Promise<number> {
  await printText(deps.stdio.output, `stream ${deps.readVersion()}\n`)
  return 0
}
