/** `stream mirror verify`: of copies, whose NAME is their SOURCE. */

import { StreamError } from '../src/base/errors.ts'
import type { RowShape } from '../src/text/rows.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { oneOperand, topicsOption } from './mirror-plan.ts'
import { type CommandSpec, rowOptions } from './option-table.ts'
import { isBrokerName } from './other-broker.ts'

const shape: RowShape = {
  kind: 'comparison',
  columns: ['NAME', 'TOPIC', 'PARTITION', 'SOURCE', 'HERE', 'EQUAL'],
}

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'mirror verify',
  summary: 'Compare mirrored topics with their source',
  description: [
    'Compares what was copied with what was written of it, record by record: key, value, headers, timestamp. Prints how many records each side has and how many are equal; the first difference as two envelopes on standard error, and exit 1.',
    'What retention has taken from the front of one side is left out on the other. Of compacted topics the cleaner may have come further on one side: that is a difference.',
  ],
  operands: [{ name: 'NAME' }],
  options: [topicsOption, ...rowOptions],
  columns: shape.columns,
  examples: [{ line: 'stream mirror verify @east' }, { line: 'stream mirror verify @east --topics orders' }],
  exits: [
    [1, 'they differ'],
    [2, 'a copy that a filter or --append has made another'],
    [3, 'nothing was ever copied from there'],
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
  const { copyVerify } = await import('./mirror-copy-verify.ts')
  return copyVerify(deps, args, name, shape)
}
