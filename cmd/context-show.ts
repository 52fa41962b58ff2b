/** `stream context show`. */

import { StreamError, UsageError } from '../src/base/errors.ts'
import { type Context, ContextsFile, unknownContext } from '../src/client/contexts.ts'
import { describeSource, resolveSecret } from '../src/client/secrets.ts'
import type { Row, RowShape } from '../src/text/rows.ts'
import { HIDDEN_SECRET } from './config-values.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { commonExitCode, exitCodeOf } from './exit-code.ts'
import { type CommandSpec, rowOptions } from './option-table.ts'
import { printRows } from './row-output.ts'

const shape: RowShape = { kind: 'context', columns: ['NAME', 'KEY', 'VALUE', 'SOURCE'] }

export const spec: CommandSpec = {
  name: 'context show',
  summary: 'Show the settings of a named broker',
  description: [
    'Without a name the current one. Secrets are shown as ***, with where they come from.',
  ],
  operands: [{ name: 'NAME', isOptional: true }],
  options: [
    { long: 'check', help: 'get each secret, without printing it; what cannot be had is an error' },
    ...rowOptions,
  ],
  columns: shape.columns,
  examples: [{ line: 'stream context show' }, { line: 'stream context show east --check' }],
  exits: [
    [3, 'no such context, or none is in use'],
    [6, 'a secret cannot be had'],
  ],
}

export async function run(deps: CommandDeps, { flags, operands }: CommandArgs): Promise<number> {
  const file = ContextsFile.read(deps.host)
  const [name = file.current, extra] = operands
  if (extra !== undefined) throw new UsageError(`unexpected argument ${extra}`)
  if (name === undefined) {
    throw new StreamError('NAME_UNKNOWN', 'no context is in use', {
      hint: 'to use one: stream context use NAME',
    })
  }
  const context = file.get(name)
  if (context === undefined) throw unknownContext(name, file)
  await printRows(deps, flags, shape, rowsOf(context), {
    shrink: ['SOURCE', 'VALUE'],
    drop: ['NAME'],
  })
  return flags.has('check') ? checkSecrets(deps, context) : 0
}

function rowsOf({ name, broker, options, secrets }: Context): Row[] {
  return [
    [name, 'broker', broker, null],
    ...[...options].map(([key, text]): Row => [name, key, text, null]),
    ...[...secrets].map(([key, source]): Row => [name, key, HIDDEN_SECRET, describeSource(source)]),
  ]
}

async function checkSecrets(deps: CommandDeps, { secrets }: Context): Promise<number> {
  const codes: number[] = []
  for (const [key, source] of secrets) {
    try {
      await resolveSecret(deps, key, source)
    } catch (error) {
      deps.console.error(error, key)
      codes.push(exitCodeOf(error))
    }
  }
  return commonExitCode(codes)
}
