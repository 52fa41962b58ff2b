/** `stream context use`. */

import { StreamError, UsageError } from '../src/base/errors.ts'
import { ContextsFile, unknownContext } from '../src/client/contexts.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import type { CommandSpec } from './option-table.ts'

export const spec: CommandSpec = {
  name: 'context use',
  summary: 'Make a named broker the one that commands use',
  description: ['- is the one used before.'],
  operands: [{ name: 'NAME|-' }],
  options: [],
  examples: [{ line: 'stream context use east && stream topics list; stream context use -' }],
  exits: [[3, 'no such context, or none was used before']],
}

export async function run(deps: CommandDeps, { operands }: CommandArgs): Promise<number> {
  const [word, extra] = operands
  if (word === undefined)
    throw new UsageError('NAME is missing', 'to see what there is: stream context list')
  if (extra !== undefined) throw new UsageError(`unexpected argument ${extra}`)
  const file = ContextsFile.read(deps.host)
  const name = word === '-' ? file.previous : word
  if (name === undefined) throw new StreamError('NAME_UNKNOWN', 'no context was used before')
  if (file.get(name) === undefined) throw unknownContext(name, file)
  file.use(name)
  file.write(deps.host)
  if (deps.console.wantsSummary) deps.console.warn(`${name} is in use now`)
  return 0
}
