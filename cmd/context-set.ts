/** `stream context set`: makes a named broker, or changes one. */

import { UsageError } from '../src/base/errors.ts'
import { ContextsFile } from '../src/client/contexts.ts'
import { readOptionFlags } from './config-layers.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import type { CommandSpec } from './option-table.ts'
import { parseSecretFlag } from './secrets.ts'
import { splitAddress } from './settings.ts'

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'context set',
  summary: 'Make a named broker, or change one',
  description: [
    'What is not given stays as it is. -X sets a client setting of the context. A secret is never given itself: --secret names the file, the variable or the command (run by sh) that has it; it is asked for when a connection needs it.',
  ],
  operands: [{ name: 'NAME' }],
  options: [
    { long: 'secret', argument: 'KEY=SOURCE', isRepeatable: true, help: 'where a secret is: file:PATH, env:NAME or command:CMD' },
    { long: 'unset', argument: 'KEY', isRepeatable: true, help: 'take a setting or a secret out' },
  ],
  examples: [
    { line: 'stream context set east --broker kafka://east:9092 -X sasl.username=etl --secret sasl.password=file:/etc/etl.pw' },
    { line: 'stream context set dev --broker tcp://dev:7100 -X linger.ms=0' },
  ],
  exits: [[2, 'no broker, a bad setting, or a secret that was given itself']],
}

export async function run(deps: CommandDeps, { flags, operands }: CommandArgs): Promise<number> {
  const [name, extra] = operands
  if (name === undefined || name === '' || name === '-') {
    throw new UsageError('NAME is missing', 'try: stream context set --help')
  }
  if (extra !== undefined) throw new UsageError(`unexpected argument ${extra}`)
  const set = readOptionFlags(flags.all('option'), '-X')
  const secrets = flags.all('secret').map(parseSecretFlag)
  for (const key of ['broker', 'context']) {
    if (set.has(key))
      throw new UsageError(`-X ${key}: no setting of a context`, 'give --broker ADDRESS')
  }
  const file = ContextsFile.read(deps.host)
  const before = file.get(name)
  const broker = flags.text('broker') ?? before?.broker
  if (broker === undefined) {
    throw new UsageError(`${name}: a new context needs a broker`, 'give --broker ADDRESS')
  }
  splitAddress(broker, '--broker')
  const options = new Map(before?.options)
  const sources = new Map(before?.secrets)
  for (const [key, { text }] of set) options.set(key, text)
  for (const { key, source } of secrets) sources.set(key, source)
  for (const key of flags.all('unset')) {
    if (!options.delete(key) && !sources.delete(key)) {
      throw new UsageError(`--unset ${key}: ${name} does not set it`)
    }
  }
  file.set({ name, broker, options, secrets: sources })
  file.write(deps.host)
  return 0
}
