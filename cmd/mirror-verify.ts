/** `stream mirror verify`: whether what is mirrored is what the source has, record by record with offsets. */

import type { MirrorTopic } from '../src/client/link-admin.ts'
import type { Row, RowShape } from '../src/text/rows.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { chosenTopics, requireLinkName, topicsOption, withLinks } from './mirror-shared.ts'
import { type CommandSpec, rowOptions } from './option-table.ts'
import { printRows } from './row-output.ts'
import { compareSides } from './verify.ts'

const shape: RowShape = {
  kind: 'comparison',
  columns: ['NAME', 'TOPIC', 'PARTITION', 'HERE', 'SOURCE', 'EQUAL'],
}

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'mirror verify',
  summary: 'Compare what a link has mirrored with its source',
  description: [
    'Compares key, value, headers, timestamp and offset of each record, from the log start up to what is here (of a promoted topic: up to where the records of the source ended). HERE and SOURCE count records. The first difference is shown as two envelopes on standard error, exit 1.',
    'Reads both sides from here, so the source has to be reached from here too. Of a compacted topic each side compacts its own log at its own time, which shows as a difference: compare what is latest of each key instead.',
  ],
  operands: [{ name: 'NAME' }],
  options: [topicsOption, ...rowOptions],
  columns: shape.columns,
  examples: [{ line: 'stream mirror verify west' }, { line: 'stream mirror verify west --topics orders' }],
  exits: [
    [1, 'they differ'],
    [3, 'no such link, or no such topic of it'],
  ],
}

export function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const name = requireLinkName(args, spec.name)
  return withLinks(deps, args, async ({ links }) => {
    const link = await links.describeOne(name)
    const rows: Row[] = []
    let exit = 0
    const place = link.source
      .map((address, index) => (index === 0 ? address : address.replace(/^[a-z]+:\/\//, '')))
      .join(',')
    for (const topic of chosenTopics(link, args)) {
      const flags = args.flags.without('topics').with('offsets', '').with('until', untilOf(topic))
      const theirs = `${place}/${topic.name}`
      const outcome = await compareSides(deps, { ...args, flags }, topic.name, theirs)
      for (const row of outcome.rows) rows.push([name, topic.name, ...row])
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
    .map(({ partition, promotedOffset, highWatermark }) => {
      const end = promotedOffset >= 0 ? promotedOffset : highWatermark
      return `${partition}=${end}`
    })
    .join(',')
}
