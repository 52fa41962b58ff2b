/** `stream context delete`. */

import { UsageError } from '../src/base/errors.ts'
import { ContextsFile, unknownContext } from '../src/client/contexts.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import type { CommandSpec } from './option-table.ts'

export const spec: CommandSpec = {
  name: 'context delete',
  summary: 'Forget a named broker',
  description: ['Nothing happens to the broker.'],
  operands: [{ name: 'NAME' }],
  options: [],
  examples: [{ line: 'stream context delete east' }],
  exits: [[3, 'no such context']],
}

export async function run(deps: CommandDeps, { operands }: CommandArgs): Promise<number> {
  const [name, extra] = operands
  if (name === undefined)
    throw new UsageError('NAME is missing', 'to see what there is: stream context list')
  if (extra !== undefined) throw new UsageError(`unexpected argument ${extra}`)
  const file = ContextsFile.read(deps.host)
  if (!file.names.includes(name)) throw unknownContext(name, file)
  file.delete(name)
  file.write(deps.host)
  return 0
}
