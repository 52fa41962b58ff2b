/** `stream config keys`: the table of config keys. */

import type { ConfigKey, ConfigScope } from '../src/config/config-key.ts'
import { keysOf } from '../src/config/keys.ts'
import type { Row, RowShape } from '../src/text/rows.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { type CommandSpec, rowOptions } from './option-table.ts'
import { printRows } from './row-output.ts'
import { topicPattern } from './topic-names.ts'

const scopes = ['client', 'broker', 'topic'] as const satisfies readonly ConfigScope[]

const shape: RowShape = {
  kind: 'config-key',
  columns: ['KEY', 'TYPE', 'UNIT', 'DEFAULT', 'LIMITS', 'HELP', 'SCOPE'],
}

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'config keys',
  summary: 'List all config keys',
  description: ['SCOPE is client (-X, config files, contexts), broker (config files of the daemon, daemon run -X) or topic (topics create --set). Keys of one name in two scopes are two rows.'],
  operands: [{ name: 'GLOB', isOptional: true }],
  options: [
    { long: 'scope', argument: 'SCOPE', choices: scopes, help: 'only keys of this scope' },
    ...rowOptions,
  ],
  columns: shape.columns,
  examples: [
    { line: 'stream config keys --scope topic' },
    { line: "stream config keys 'retention.*' --json | jq -r .help" },
  ],
}

export async function run(deps: CommandDeps, { flags, operands }: CommandArgs): Promise<number> {
  const wanted = flags.choice('scope', scopes)
  const patterns = operands.map((glob) => topicPattern(glob, false))
  const rows = scopes
    .filter((scope) => wanted === undefined || scope === wanted)
    .flatMap((scope) =>
      keysOf(scope)
        .filter((key) => key.hidden !== true)
        .filter(
          ({ name }) => patterns.length === 0 || patterns.some((pattern) => pattern.test(name)),
        )
        .map((key) => rowOf(key, scope)),
    )
  await printRows(deps, flags, shape, rows, { shrink: ['HELP', 'LIMITS'], drop: ['SCOPE', 'UNIT'] })
  return 0
}

function rowOf(key: ConfigKey, scope: ConfigScope): Row {
  return [
    key.name,
    key.type,
    key.unit ?? null,
    key.default === null || key.default === '' ? null : key.default,
    limitsOf(key),
    key.help,
    scope,
  ]
}

/** `1..5`, `>=1`, `<=5`, or the words that are allowed. */
export function limitsOf({ min, max, values }: ConfigKey): string | null {
  if (values !== undefined) return values.join('|')
  if (min !== undefined && max !== undefined) return `${min}..${max}`
  if (min !== undefined) return `>=${min}`
  return max === undefined ? null : `<=${max}`
}
