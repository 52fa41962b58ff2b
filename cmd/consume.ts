/** `stream consume`: print records and follow (commands.md, section 5). */

import type { CommandArgs, CommandDeps } from './deps.ts'
import type { CommandSpec } from './option-table.ts'
import { runRead } from './read-job.ts'
import { groupOptions, readOptions, readPlan } from './read-options.ts'

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'consume',
  summary: 'Print records of topics, and follow',
  description: [
    'Prints the values of all partitions, order kept within each, and goes on as records come; new topics that match a glob are included. A read that follows starts at the end, a bounded one (--until, --until-end) at the start.',
    'Output is flushed whenever no further record is at hand. If the reader goes away the command dies by SIGPIPE.',
    'With --group the partitions are shared out among all members of the group, and a position that the group has committed wins over --from. A bounded run takes one snapshot of all ends, and ends when the partitions that it holds are read.',
    'With --cursor-file a run goes on where the last one ended. --commit says what is stored: eof once when a bounded read was written; written every --commit-interval what was wholly written; ack what the reader acknowledges by lines on --ack-fd, N (the first N records of the run) or TOPIC PARTITION OFFSET (that record and all before it); none nothing.',
  ],
  operands: [{ name: 'TOPIC', isRepeatable: true }],
  options: [...groupOptions, ...readOptions],
  examples: [
    { line: 'stream consume clicks' },
    { line: 'stream consume clicks -g nightly --until-end | gzip > clicks.gz' },
    { line: 'stream consume orders --cursor-file ~/.orders.pos --until-end --json' },
    { line: 'stream consume clicks --since 1h --until-end | gzip > clicks.gz' },
    { line: "stream consume 'orders.*' --json --grep 'v:/error/i'" },
  ],
  exits: [
    [3, 'no such topic'],
    [5, 'records were gone before they were read, or not acknowledged; --strict'],
    [8, 'the cursor file is locked by another run, or of a topic that was created again; another process runs as --instance-id'],
  ],
}

export function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  return runRead(deps, args, readPlan(deps, args, { command: 'consume', follows: true }))
}
