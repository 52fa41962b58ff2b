/** `stream context list`. */

import { ContextsFile } from '../src/client/contexts.ts'
import type { RowShape } from '../src/text/rows.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { type CommandSpec, rowOptions } from './option-table.ts'
import { printRows } from './row-output.ts'

const shape: RowShape = { kind: 'context', columns: ['NAME', 'CURRENT', 'BROKER'] }

export const spec: CommandSpec = {
  name: 'context list',
  summary: 'List the named brokers',
  description: ['CURRENT says which one commands use that name no broker.'],
  operands: [],
  options: [{ long: 'fail-empty', help: 'exit 3 if there is none' }, ...rowOptions],
  columns: shape.columns,
  examples: [{ line: 'stream context list' }],
}

export async function run(deps: CommandDeps, { flags }: CommandArgs): Promise<number> {
  const file = ContextsFile.read(deps.host)
  const rows = file.names.map((name) => [
    name,
    name === file.current,
    file.get(name)?.broker ?? null,
  ])
  await printRows(deps, flags, shape, rows)
  return rows.length === 0 && flags.has('fail-empty') ? 3 : 0
}
