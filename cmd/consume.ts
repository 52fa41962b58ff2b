/** `stream consume`: print records and follow (commands.md, section 5). */

import { UsageError } from '../src/base/errors.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { execOptions } from './exec-options.ts'
import type { Flags } from './flags.ts'
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
    'With --cursor-file a run goes on where the last one ended. --commit says what is stored: eof once when a bounded read was written (a partition that goes to another member before is read there from where the group stands); written every --commit-interval what was wholly written; ack what the reader acknowledges by lines on --ack-fd, N (the first N records of the run) or TOPIC PARTITION OFFSET (that record and all before it); none nothing.',
    'With --exec each record is given to a command of its own: sh -c CMD with the record on standard input in the form asked for, STREAM_TOPIC, STREAM_PARTITION, STREAM_OFFSET, STREAM_TS, STREAM_KEY (STREAM_KEY_B64 if the key is no text), STREAM_HEADERS (JSON) and STREAM_ATTEMPT in its environment; with --batch up to N records of one partition, and STREAM_FIRST, STREAM_LAST, STREAM_COUNT in place of what is of one record. A record is committed when its command has exited 0, and all before it; what is done is stored every 100 ms, or --commit-interval. Exit 75 is tried again without end, 255 ends the run at once; so do 126 and 127, by which sh says that it could not run the command.',
    'What commands print is passed on as it comes, with -P above 1 in whole lines. When the run ends, or a partition goes to another member, commands have --grace to finish; those that do not are ended, and their records are done again. --on-fail dlq puts a record aside in GROUP.dlq in one transaction with the skip; stream dlq lists, shows and replays what is there. What is replayed comes back by GROUP.retry, which a run with --exec reads by itself.',
  ],
  operands: [{ name: 'TOPIC', isRepeatable: true }],
  options: [...groupOptions, ...execOptions, ...readOptions],
  examples: [
    { line: 'stream consume clicks' },
    { line: 'stream consume clicks -g nightly --until-end | gzip > clicks.gz' },
    { line: 'stream consume orders --cursor-file ~/.orders.pos --until-end --json' },
    { line: `stream consume mails -g mailer --exec './send "$STREAM_KEY"' -P 4 --on-fail dlq` },
    { line: "stream consume clicks -g load --batch 1000 --exec 'psql -qc \"copy clicks from stdin\"'" },
    { line: 'stream consume clicks --since 1h --until-end | gzip > clicks.gz' },
    { line: "stream consume 'orders.*' --json --grep 'v:/error/i'" },
  ],
  exits: [
    [3, 'no such topic'],
    [5, 'records were gone before they were read, not acknowledged, or put aside; --strict'],
    [8, 'the topic was deleted and created again, while it was read or since the cursor file was written; the cursor file is locked by another run; another process runs as --instance-id'],
    [9, 'the command of --exec failed for good'],
  ],
}

export async function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const transaction = deps.host.environment['STREAM_TXN'] ?? ''
  const keepsProgress = ['group', 'cursor-file', 'exec'].some((name) => args.flags.has(name))
  if (transaction !== '' && keepsProgress) {
    const { consumeInTransaction } = await import('./txn-consume.ts')
    return consumeInTransaction(deps, args, transaction)
  }
  const plan = readPlan(deps, args, { command: 'consume', follows: true })
  if (args.flags.has('exec')) {
    const { runExec } = await import('./exec-job.ts')
    return runExec(deps, args, plan)
  }
  refuseExecFlags(args.flags)
  return runRead(deps, args, plan)
}

/** @throws UsageError for flags of --exec without it */
function refuseExecFlags(flags: Flags): void {
  for (const { long } of execOptions) {
    if (flags.has(long)) throw new UsageError(`--${long} needs --exec CMD`)
  }
}
