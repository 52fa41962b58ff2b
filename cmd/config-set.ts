/** `stream config set`: writes the user's file. */

import { UsageError } from '../src/base/errors.ts'
import { ContextsFile, unknownContext } from '../src/client/contexts.ts'
import { configVariable, findConfigDefect } from '../src/config/config-key.ts'
import { readLayers, refuseSecret, userConfigPath } from './config-layers.ts'
import { ConfigFile, findFileKey, unknownConfigKey } from './config-shared.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import type { CommandSpec } from './option-table.ts'
import { splitAddress } from './settings.ts'

export const spec: CommandSpec = {
  name: 'config set',
  summary: "Set a setting in the user's config file",
  description: [
    'The file is $XDG_CONFIG_HOME/stream/stream.conf, or what --config-file or STREAM_CONFIG_FILE names. Its comments and order stay. Keys of the daemon take effect when it starts again.',
  ],
  operands: [{ name: 'KEY' }, { name: 'VALUE' }],
  options: [],
  examples: [
    { line: 'stream config set linger.ms 20' },
    { line: 'stream config set compression.type zstd' },
  ],
  exits: [
    [2, 'a bad value, or a secret'],
    [3, 'no such key'],
  ],
}

export async function run(deps: CommandDeps, { flags, operands }: CommandArgs): Promise<number> {
  const [name, text, extra] = operands
  if (name === undefined || text === undefined) {
    throw new UsageError('KEY and VALUE are needed', 'to see the keys: stream config keys')
  }
  const key = findFileKey(name)
  if (key === undefined) throw unknownConfigKey(name)
  // Before anything that names what was typed: the value may be the secret.
  refuseSecret(key)
  if (extra !== undefined) throw new UsageError(`unexpected argument ${extra}`)
  const defect = findConfigDefect(key, text) ?? findTextDefect(text)
  if (defect !== undefined) throw new UsageError(`${name}: ${text} ${defect}`)
  if (name === 'broker') splitAddress(text, name)
  if (name === 'context') {
    const contexts = ContextsFile.read(deps.host)
    if (contexts.get(text) === undefined) throw unknownContext(text, contexts)
  }
  const file = ConfigFile.read(deps.host, userConfigPath(flags, deps.host))
  file.set(name, text)
  file.write(deps.host)
  warnIfHidden(deps, { flags, operands }, name, file.path)
  return 0
}

/** What the file's form cannot hold. */
function findTextDefect(text: string): string | undefined {
  if (/[\n\r]/.test(text)) return 'must be one line'
  if (text !== text.trim() || /\s#/.test(text)) {
    return 'cannot stand in a config file: blanks around it, or a # behind a blank'
  }
  return undefined
}

/** A value that something else stands over would seem to be without effect. */
function warnIfHidden(deps: CommandDeps, { flags }: CommandArgs, name: string, path: string): void {
  const isClient = readLayers(flags, deps.host).find(({ entries }) => entries.has(name))
  const variable = configVariable(name)
  if (isClient !== undefined && isClient.origin !== path) {
    deps.console.warn(`${name} is set in ${path}, but ${isClient.origin} stands over it`)
  } else if (isClient === undefined && deps.host.environment[variable] !== undefined) {
    deps.console.warn(`${name} is set in ${path}, but ${variable} stands over it`)
  }
}
