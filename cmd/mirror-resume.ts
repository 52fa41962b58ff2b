/** `stream mirror resume`. */

import type { Row, RowShape } from '../src/text/rows.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import {
  chosenTopics,
  orderedTopics,
  requireLinkName,
  topicsOption,
  withLinks,
} from './mirror-shared.ts'
import { type CommandSpec, rowOptions } from './option-table.ts'
import { printRows } from './row-output.ts'

const shape: RowShape = { kind: 'mirror', columns: ['NAME', 'TOPIC'] }

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'mirror resume',
  summary: 'Follow a link, or some topics of it, again',
  description: ['Goes on where it stopped. Of a promoted topic nothing changes.'],
  operands: [{ name: 'NAME' }],
  options: [topicsOption, ...rowOptions],
  columns: shape.columns,
  examples: [{ line: 'stream mirror resume west' }, { line: "stream mirror resume west --topics 'orders*'" }],
  exits: [[3, 'no such link, or no such topic of it']],
}

export function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const name = requireLinkName(args, spec.name)
  return withLinks(deps, args, async ({ links }) => {
    const link = await links.describeOne(name)
    await links.alter(name, 'resume', orderedTopics(link, args))
    const topics = chosenTopics(link, args).filter(({ state }) => state !== 'promoted')
    const rows = topics.map((topic): Row => [name, topic.name])
    await printRows(deps, args.flags, shape, rows)
    return 0
  })
}
