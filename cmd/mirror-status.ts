/** `stream mirror status`: of copies, whose NAME is their SOURCE, and of links. */

import type { CommandArgs, CommandDeps } from './deps.ts'
import { oneOperand, topicsOption } from './mirror-plan.ts'
import { mirrorShape } from './mirror-shared.ts'
import { type CommandSpec, rowOptions } from './option-table.ts'
import { isBrokerName } from './other-broker.ts'

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'mirror status',
  summary: 'Tell how far mirrored topics are',
  description: [
    'Of a copy, whose NAME is its SOURCE: one row for each partition that was ever copied from there. HERE is how far it is copied, as an offset of the source; LAG what is left; SECONDS the age of the oldest record that is left. STATE: current, behind, failed (ERROR says why), leaderless, gone or recreated (the topic at the source).',
    'Of a link, and without NAME of all links: STATE is following, retrying (ERROR says why; it goes on by itself), diverged (the source lacks what is here), ring (it has come to come from this cluster itself, and is not followed any more), paused, promoting, promoted, unled or starting; refused is a topic that is not mirrored. SOURCE_END is where the committed records of the source end, as it was heard of last; HERE where those that are here end (of a promoted partition: where those of the source ended). LAG is - where it is not known: the source was not heard of yet, or not for 10 s by one that does not follow. SECONDS: for so long there has been something that is not here.',
  ],
  operands: [{ name: 'NAME', isOptional: true }],
  options: [topicsOption, ...rowOptions],
  columns: mirrorShape.columns,
  examples: [{ line: 'stream mirror status' }, { line: 'stream mirror status west' }, { line: 'stream mirror status @east' }, { line: "stream mirror status kafka://east:9092 --topics 'orders*' --json" }],
  exits: [[3, 'nothing was ever copied from there, or no such link']],
}

export async function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const name = args.operands.length === 0 ? undefined : oneOperand(args, 'NAME', spec.name)
  if (name === undefined || !isBrokerName(name)) {
    const { linkStatus } = await import('./mirror-link-status.ts')
    return linkStatus(deps, args, name, mirrorShape)
  }
  const { copyStatus } = await import('./mirror-copy-status.ts')
  return copyStatus(deps, args, name, mirrorShape)
}
