/** `stream config list`. */

import type { RowShape } from '../src/text/rows.ts'
import { configValues } from './config-values.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { type CommandSpec, rowOptions } from './option-table.ts'
import { printRows } from './row-output.ts'
import { topicPattern } from './topic-names.ts'

export const configShape: RowShape = { kind: 'config', columns: ['KEY', 'VALUE', 'ORIGIN'] }

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'config list',
  summary: 'List the settings in force and where they come from',
  description: [
    'All client settings, and those of the daemon that a file or a variable sets. ORIGIN is the place that counts: a flag, a variable, FILE:LINE, a context, or default. Secrets are shown as ***.',
  ],
  operands: [{ name: 'GLOB', isOptional: true }],
  options: [
    { long: 'origin', help: 'a row for each place that speaks of a key, the one that counts first' },
    { long: 'fail-empty', help: 'exit 3 if there is none' },
    ...rowOptions,
  ],
  columns: configShape.columns,
  examples: [
    { line: 'stream config list' },
    { line: "stream config list '*.timeout.ms' --origin" },
  ],
}

export async function run(deps: CommandDeps, { flags, operands }: CommandArgs): Promise<number> {
  const patterns = operands.map((glob) => topicPattern(glob, false))
  const values = configValues(deps, flags)
    .filter(
      ([first]) =>
        patterns.length === 0 || patterns.some((pattern) => pattern.test(first?.name ?? '')),
    )
    .sort(([left], [right]) => ((left?.name ?? '') < (right?.name ?? '') ? -1 : 1))
  const rows = values
    .flatMap((places) => (flags.has('origin') ? places : places.slice(0, 1)))
    .map(({ name, text, origin }) => [name, text, origin])
  await printRows(deps, flags, configShape, rows)
  return rows.length === 0 && flags.has('fail-empty') ? 3 : 0
}
