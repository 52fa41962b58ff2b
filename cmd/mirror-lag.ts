/** `stream mirror lag`: of copies, whose NAME is their SOURCE, and of links. */

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
  description: ['One row for each topic; with --total one for all, whose TOPIC is -. NAME is the SOURCE of a copy, or a link. SECONDS is the age of the oldest record that is left; of a link: for so long there has been something that is not here. LAG is - where a link has not heard of its source yet, or not for 10 s and so does not follow it (it retries, or is paused), or has diverged from it, which is more than any --fail-above; promoted topics are left out. A source topic that was deleted, or made anew, is an error for a copy.'],
  operands: [{ name: 'NAME' }],
  options: [topicsOption, 
    { long: 'total', help: 'the sum over all topics' },
    { long: 'fail-above', argument: 'N', help: 'exit 1 if more than N records are left' },
    { long: 'wait-until', argument: 'N', help: 'wait until at most N records are left; 7 if --timeout comes first' },
    ...rowOptions],
  columns: shape.columns,
  examples: [{ line: 'stream mirror lag @east' }, { line: 'stream mirror lag west --total --fail-above 10000' }, { line: 'stream mirror lag @east --topics orders --wait-until 0 --timeout 5m' }],
  exits: [
    [1, 'more is left than --fail-above'],
    [3, 'nothing was ever copied from there; no such link, or no such topic of it'],
    [7, '--timeout came before --wait-until was reached'],
    [8, 'a source topic was made anew since it was copied'],
  ],
}

export async function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const name = oneOperand(args, 'NAME', spec.name)
  if (!isBrokerName(name)) {
    const { linkLag } = await import('./mirror-link-lag.ts')
    return linkLag(deps, args, name, shape)
  }
  const { copyLag } = await import('./mirror-copy-status.ts')
  return copyLag(deps, args, name, shape)
}
