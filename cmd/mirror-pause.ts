/** `stream mirror pause`. */

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
  name: 'mirror pause',
  summary: 'Stop following a link, or some topics of it, for now',
  description: ['Nothing is fetched any more until stream mirror resume; the topics stay read-only, and the topics of a paused link are not added to.'],
  operands: [{ name: 'NAME' }],
  options: [topicsOption, ...rowOptions],
  columns: shape.columns,
  examples: [{ line: 'stream mirror pause west' }, { line: "stream mirror pause west --topics 'orders*'" }],
  exits: [[3, 'no such link, or no such topic of it']],
}

export function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const name = requireLinkName(args, spec.name)
  return withLinks(deps, args, async ({ links }) => {
    const link = await links.describeOne(name)
    await links.alter(name, 'pause', orderedTopics(link, args))
    const topics = chosenTopics(link, args).filter(({ state }) => state !== 'promoted')
    const rows = topics.map((topic): Row => [name, topic.name])
    await printRows(deps, args.flags, shape, rows)
    return 0
  })
}
