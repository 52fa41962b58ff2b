/** `stream mirror verify`: of copies, whose NAME is their SOURCE, and of links. */

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
    'Of a copy, whose NAME is its SOURCE: compares what was copied with what was written of it, record by record: key, value, headers, timestamp. Prints how many records each side has and how many are equal; the first difference as two envelopes on standard error, and exit 1.',
    'Of a link: offsets too, from the log start up to what is here (of a promoted topic: up to where the records of the source ended). Both sides are read from here, so the source has to be reached from here too.',
    'What retention has taken from the front of one side is left out on the other. Of compacted topics the cleaner may have come further on one side: that is a difference.',
  ],
  operands: [{ name: 'NAME' }],
  options: [topicsOption, ...rowOptions],
  columns: shape.columns,
  examples: [{ line: 'stream mirror verify @east' }, { line: 'stream mirror verify west' }, { line: 'stream mirror verify @east --topics orders' }],
  exits: [
    [1, 'they differ'],
    [2, 'a copy that a filter or --append has made another'],
    [3, 'nothing was ever copied from there; no such link, or no such topic of it'],
    [8, 'a source topic was made anew since it was copied'],
  ],
}

export async function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const name = oneOperand(args, 'NAME', spec.name)
  if (!isBrokerName(name)) {
    const { linkVerify } = await import('./mirror-link-verify.ts')
    return linkVerify(deps, args, name, shape)
  }
  const { copyVerify } = await import('./mirror-copy-verify.ts')
  return copyVerify(deps, args, name, shape)
}
