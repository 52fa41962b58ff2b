/** `stream config get`. */

import { StreamError, UsageError } from '../src/base/errors.ts'
import { findKey } from '../src/config/keys.ts'
import { configShape } from './config-list.ts'
import { unknownConfigKey } from './config-shared.ts'
import { configValues } from './config-values.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { type CommandSpec, rowOptions } from './option-table.ts'
import { printRows, printText, rowForm } from './row-output.ts'

export const spec: CommandSpec = {
  name: 'config get',
  summary: 'Print the value of a setting',
  description: ['The value alone, on a line; with --json the whole row.'],
  operands: [{ name: 'KEY' }],
  options: rowOptions,
  columns: configShape.columns,
  examples: [{ line: 'stream config get linger.ms' }],
  exits: [[3, 'no such key, or it has no value']],
}

export async function run(deps: CommandDeps, { flags, operands }: CommandArgs): Promise<number> {
  const [name, extra] = operands
  if (name === undefined)
    throw new UsageError('KEY is missing', 'to see what there is: stream config keys')
  if (extra !== undefined) throw new UsageError(`unexpected argument ${extra}`)
  const [value] = configValues(deps, flags).find(([first]) => first?.name === name) ?? []
  const { text, origin } = value ?? { text: findKey('broker', name)?.default, origin: 'default' }
  if (text === undefined) throw unknownConfigKey(name)
  if (text === null) {
    throw new StreamError('NAME_UNKNOWN', `${name}: it has no value`, { target: name })
  }
  if (rowForm(deps, flags) === 'json')
    await printRows(deps, flags, configShape, [[name, text, origin]])
  else await printText(deps.stdio.output, `${text}\n`)
  return 0
}
