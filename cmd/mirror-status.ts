/** `stream mirror status`: of copies, whose NAME is their SOURCE. */

import { StreamError } from '../src/base/errors.ts'
import type { RowShape } from '../src/text/rows.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { oneOperand, topicsOption } from './mirror-plan.ts'
import { type CommandSpec, rowOptions } from './option-table.ts'
import { isBrokerName } from './other-broker.ts'

const shape: RowShape = {
  kind: 'mirror',
  columns: ['NAME', 'TOPIC', 'PARTITION', 'STATE', 'SOURCE_END', 'HERE', 'LAG', 'SECONDS', 'ERROR'],
}

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'mirror status',
  summary: 'Tell how far mirrored topics are',
  description: [
    'One row for each partition that was ever copied from NAME, the SOURCE of a copy. HERE is how far it is copied, as an offset of the source; LAG what is left; SECONDS the age of the oldest record that is left. STATE: current, behind, failed (ERROR says why), leaderless, gone or recreated (the topic at the source).',
  ],
  operands: [{ name: 'NAME' }],
  options: [topicsOption, ...rowOptions],
  columns: shape.columns,
  examples: [{ line: 'stream mirror status @east' }, { line: "stream mirror status kafka://east:9092 --topics 'orders*' --json" }],
  exits: [[3, 'nothing was ever copied from there']],
}

export async function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const name = oneOperand(args, 'NAME', spec.name)
  if (!isBrokerName(name)) {
    throw new StreamError('NAME_UNKNOWN', `${name}: no such mirror`, {
      target: name,
      hint: 'of copies NAME is their SOURCE: an address or @CONTEXT',
    })
  }
  const { copyStatus } = await import('./mirror-copy-status.ts')
  return copyStatus(deps, args, name, shape)
}
