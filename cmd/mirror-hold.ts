/** What `stream mirror pause` and `resume` do: an order for a link, or for some topics of it. */

import type { Row, RowShape } from '../src/text/rows.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { chosenTopics, orderedTopics, requireLinkName, withLinks } from './mirror-shared.ts'
import { printRows } from './row-output.ts'

/** One row for each topic that the order was for. */
export const holdShape: RowShape = { kind: 'mirror', columns: ['NAME', 'TOPIC'] }

export function runHold(
  deps: CommandDeps,
  args: CommandArgs,
  order: 'pause' | 'resume',
): Promise<number> {
  const name = requireLinkName(args, `mirror ${order}`)
  return withLinks(deps, args, async ({ links }) => {
    const link = await links.describeOne(name)
    await links.alter(name, order, orderedTopics(link, args))
    const topics = chosenTopics(link, args).filter(({ state }) => state !== 'promoted')
    const rows = topics.map((topic): Row => [name, topic.name])
    await printRows(deps, args.flags, holdShape, rows)
    return 0
  })
}
