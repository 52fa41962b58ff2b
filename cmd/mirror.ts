/** `stream mirror`: copies topics of another broker (commands.md, section 5). Its verbs have files of their own, mirror-*.ts. */

import type { CommandArgs, CommandDeps } from './deps.ts'
import { copyOptions, mirrorPlan } from './mirror-plan.ts'
import type { CommandSpec } from './option-table.ts'

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'mirror',
  summary: 'Copy topics of another broker, each record exactly once',
  description: [
    'SOURCE is an address or @CONTEXT, the target is --broker. Copies what is committed up to the end as it is at the start, with keys, values, headers, timestamps, compression and partitions as they are; offsets are new. Missing topics are made with the partitions and settings of the source.',
    "Positions are kept in the target's transactions: a rerun continues, also after a kill, and copies nothing twice. --from counts only for partitions that were never copied. A newer copy of the same topics fences the older one.",
    'A topic is not copied into one that has records of something else, unless --append is given, and never back to where its records came from: each topic remembers the clusters that it came through. Copies of one topic both ways need --tag-origin on both.',
    'A partition that fails does not stop the others; the rerun takes it up where it stood.',
  ],
  operands: [{ name: 'SOURCE' }],
  options: copyOptions,
  examples: [
    { line: "stream mirror kafka://east:9092 --topics 'orders*'" },
    { line: "stream mirror @east --topics clicks --rename '{cluster}.{topic}' -f", help: 'go on at the end, into east.clicks' },
    { line: 'stream mirror @east --topics orders --since 3d --until today --rate 20MiB/s --rename backfill', help: 'a range of the past' },
    { line: "stream mirror @east --topics users --grep 'h:country=/^(DE|AT)$/' --report r.json" },
    { line: 'stream mirror @east --topics prices --tag-origin', help: 'one of two ways' },
  ],
  exits: [
    [3, 'no such topic'],
    [5, 'records were gone before they were copied, or could not be copied'],
    [8, 'another copy of a topic has taken over; a topic has records of something else, or was made anew; a ring'],
  ],
}

export async function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  if ((deps.host.environment['STREAM_TXN'] ?? '') !== '') {
    const { refuseCommand } = await import('./txn-client.ts')
    await refuseCommand(deps, spec.name)
  }
  const plan = mirrorPlan(deps, args)
  const { MirrorCopy } = await import('./mirror-copy.ts')
  return MirrorCopy.run(deps, args, plan)
}
