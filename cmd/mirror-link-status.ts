/** `stream mirror status` of links: how links do, partition by partition. */

import type { RowShape } from '../src/text/rows.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { chosenTopics, mirrorRows, withLinks } from './mirror-shared.ts'
import { printRows } from './row-output.ts'

export function linkStatus(
  deps: CommandDeps,
  args: CommandArgs,
  name: string | undefined,
  shape: RowShape,
): Promise<number> {
  const { flags } = args
  return withLinks(deps, args, async ({ links }) => {
    const found = name === undefined ? await links.describe() : [await links.describeOne(name)]
    const rows = found.flatMap((link) =>
      mirrorRows(link, flags.all('topics').length === 0 ? link.topics : chosenTopics(link, args)),
    )
    await printRows(deps, flags, shape, rows)
    return 0
  })
}
