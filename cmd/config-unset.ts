/** `stream config unset`: takes settings out of the user's file. */

import { UsageError } from '../src/base/errors.ts'
import { userConfigPath } from './config-layers.ts'
import { ConfigFile, findFileKey, unknownConfigKey } from './config-shared.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import type { CommandSpec } from './option-table.ts'

export const spec: CommandSpec = {
  name: 'config unset',
  summary: "Take a setting out of the user's config file",
  description: [
    'Fine when the file does not set it. A key that this version does not know can be taken out too.',
  ],
  operands: [{ name: 'KEY' }],
  options: [],
  examples: [{ line: 'stream config unset linger.ms' }],
  exits: [[3, 'no such key']],
}

export async function run(deps: CommandDeps, { flags, operands }: CommandArgs): Promise<number> {
  const [name, extra] = operands
  if (name === undefined)
    throw new UsageError('KEY is missing', 'to see what is set: stream config list')
  if (extra !== undefined) throw new UsageError(`unexpected argument ${extra}`)
  const file = ConfigFile.read(deps.host, userConfigPath(flags, deps.host))
  if (!file.has(name)) {
    if (findFileKey(name) === undefined) throw unknownConfigKey(name)
    return 0
  }
  file.unset(name)
  file.write(deps.host)
  return 0
}
