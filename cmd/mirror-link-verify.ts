/** `stream mirror verify` of links: whether what is mirrored is what the source has, record by record with offsets. */

import type { MirrorTopic } from '../src/client/link-admin.ts'
import type { Row, RowShape } from '../src/text/rows.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { chosenTopics, sourcePlace, withLinks } from './mirror-shared.ts'
import { printRows } from './row-output.ts'
import { compareSides } from './verify.ts'

export function linkVerify(
  deps: CommandDeps,
  args: CommandArgs,
  name: string,
  shape: RowShape,
): Promise<number> {
  return withLinks(deps, args, async ({ links }) => {
    const link = await links.describeOne(name)
    const rows: Row[] = []
    let exit = 0
    const place = sourcePlace(link)
    for (const topic of chosenTopics(link, args)) {
      const flags = args.flags.without('topics').with('offsets', '').with('until', untilOf(topic))
      const theirs = `${place}/${topic.name}`
      const apart = topic.partitions.find(({ state }) => state === 'diverged')
      if (apart !== undefined) deps.console.warn(`${topic.name}: diverged: ${apart.error}`)
      const outcome = await compareSides(deps, { ...args, flags }, topic.name, theirs)
      for (const [partition, here, source, isEqual] of outcome.rows) {
        rows.push([
          name,
          topic.name,
          partition ?? null,
          source ?? null,
          here ?? null,
          isEqual ?? null,
        ])
      }
      if (outcome.isEqual) continue
      exit = 1
      break
    }
    await printRows(deps, args.flags, shape, rows)
    return exit
  })
}

function untilOf({ partitions }: MirrorTopic): string {
  return partitions
    .map(({ partition, promotedOffset, settledOffset, highWatermark }) => {
      // Beyond it what was open at the promotion is aborted here, and may not be at the source.
      const point = settledOffset < 0 ? promotedOffset : settledOffset
      const end = point >= 0 ? point : highWatermark
      return `${partition}=${end}`
    })
    .join(',')
}
