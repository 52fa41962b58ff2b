/** `stream mirror lag`: of copies, whose NAME is their SOURCE. */

import { StreamError } from '../src/base/errors.ts'
import type { RowShape } from '../src/text/rows.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { oneOperand, topicsOption } from './mirror-plan.ts'
import { type CommandSpec, rowOptions } from './option-table.ts'
import { isBrokerName } from './other-broker.ts'

const shape: RowShape = { kind: 'lag', columns: ['NAME', 'TOPIC', 'LAG', 'SECONDS'] }

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'mirror lag',
  summary: 'Tell how many records are not mirrored yet',
  description: ['One row for each topic; with --total one for all, whose TOPIC is -. SECONDS is the age of the oldest record that is left.'],
  operands: [{ name: 'NAME' }],
  options: [topicsOption, 
    { long: 'total', help: 'the sum over all topics' },
    { long: 'fail-above', argument: 'N', help: 'exit 1 if more than N records are left' },
    { long: 'wait-until', argument: 'N', help: 'wait until at most N records are left; 7 if --timeout comes first' },
    ...rowOptions],
  columns: shape.columns,
  examples: [{ line: 'stream mirror lag @east' }, { line: 'stream mirror lag @east --topics orders --wait-until 0 --timeout 5m' }],
  exits: [
    [1, 'more is left than --fail-above'],
    [3, 'nothing was ever copied from there'],
    [7, '--timeout came before --wait-until was reached'],
  ],
}

export async function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const name = oneOperand(args, 'NAME', spec.name)
  if (!isBrokerName(name)) {
    throw new StreamError('NAME_UNKNOWN', `${name}: no such mirror`, {
      target: name,
      hint: 'of copies NAME is their SOURCE: an address or @CONTEXT',
    })
  }
  const { copyLag } = await import('./mirror-copy-status.ts')
  return copyLag(deps, args, name, shape)
}
