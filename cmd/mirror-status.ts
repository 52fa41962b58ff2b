/** `stream mirror status`: how links do, partition by partition. */

import type { CommandArgs, CommandDeps } from './deps.ts'
import { chosenTopics, mirrorRows, mirrorShape, topicsOption, withLinks } from './mirror-shared.ts'
import { type CommandSpec, rowOptions } from './option-table.ts'
import { printRows } from './row-output.ts'

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'mirror status',
  summary: 'Tell how links do',
  description: [
    'One row for each partition; without NAME of all links. STATE is following, retrying (ERROR says why; it goes on by itself), diverged (the source lacks what is here), paused, promoting, promoted, unled or starting; refused is a topic that is not mirrored.',
    'SOURCE_END is where the committed records of the source end, HERE where those that are here end (of a promoted partition: where those of the source ended). SECONDS: for so long there has been something that is not here.',
  ],
  operands: [{ name: 'NAME', isRepeatable: true }],
  options: [topicsOption, ...rowOptions],
  columns: mirrorShape.columns,
  examples: [{ line: 'stream mirror status' }, { line: "stream mirror status west --topics 'orders*'" }],
  exits: [[3, 'no such link']],
}

export function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const { flags, operands } = args
  return withLinks(deps, args, async ({ links }) => {
    const found =
      operands.length === 0
        ? await links.describe()
        : await Promise.all(operands.map((name) => links.describeOne(name)))
    const rows = found.flatMap((link) =>
      mirrorRows(link, flags.all('topics').length === 0 ? link.topics : chosenTopics(link, args)),
    )
    await printRows(deps, flags, mirrorShape, rows)
    return 0
  })
}
