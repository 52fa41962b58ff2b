/** `stream txn`: the exit status of a whole pipeline commits what it read and produced (commands.md, section 5). */

import { openBroker } from './broker.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import type { CommandSpec } from './option-table.ts'
import { refuseCommand } from './txn-client.ts'
import { readTxnPlan } from './txn-plan.ts'
import { TxnRun } from './txn-run.ts'

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'txn',
  summary: 'Run a pipeline whose exit status commits what it reads and produces',
  description: [
    'Runs the PIPELINE: one argument by bash -o pipefail -c, several as they are. Inside of it stream consume -g reads from what its group has committed to the end as it is now, unless its flags say less, and stream produce keeps its records on disk. When the pipeline exits 0, and each of these commands has come to its proper end, one transaction commits all records and all offsets; else nothing happens. The end of input alone commits nothing.',
    'While it runs, stream txn is the only member of the groups: a group with live members is refused, and if another member joins nothing is committed. A reader that hangs up before it has read all is a failure, unless --partial.',
    'STREAM_TXN names the transaction to the commands inside, and STREAM_BATCH_ID is there for effects outside of the broker: with --fixed a run after one that did not commit has the same ranges and the same id, NAME/N where N counts the commits. Inside, --exec, --cursor-file, --atomic, --txn-per-file, --resume, --receipts and --expect-offset are refused, and so are groups and topics of another broker.',
  ],
  operands: [{ name: 'PIPELINE', isRepeatable: true }],
  options: [
    { long: 'job', short: 'j', argument: 'NAME', help: 'names the transaction: one run of a name at a time; default: a name of its own for each run' },
    { long: 'fixed', help: 'the ranges of a run that did not commit are used again; needs --job' },
    { long: 'partial', help: 'a reader that hangs up early is no failure' },
    { long: 'shell', argument: 'SHELL', default: 'bash', help: 'runs a PIPELINE of one argument, with -o pipefail -c' },
    { long: 'spool-dir', argument: 'DIR', help: 'where produced records wait for the end; default $XDG_STATE_HOME/stream/spool' },
    { long: 'spool-max', argument: 'SIZE', default: '10GiB', help: 'so much may wait there' },
    { long: 'txn-timeout', argument: 'DUR', default: '15m', help: 'the longest that the final transaction may take; the broker must allow it' },
    { long: 'grace', argument: 'DUR', default: '10s', help: 'from SIGTERM to SIGKILL, where the pipeline is stopped' },
    { long: 'fail-empty', help: 'exit 3 if nothing was read; what was produced is committed' },
  ],
  examples: [
    { line: "stream txn -j daily -- 'stream consume orders -g daily | jq -c .item | sort -u | stream produce items'" },
    { line: `stream txn -j load --fixed -- 'stream consume orders -g load | psql -qf load.sql -v batch="$STREAM_BATCH_ID"'` },
  ],
  exits: [
    [7, '--timeout; or contact was lost in the commit and its outcome is not known'],
    [8, 'the name runs already; a group has live members, or got one'],
    [9, 'the pipeline failed, or a command in it did not come to its end'],
  ],
}

export async function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  await refuseCommand(deps, spec.name)
  const plan = readTxnPlan(deps, args)
  const broker = await openBroker(deps, args)
  try {
    const set = args.flags.text('broker') ?? deps.host.environment['STREAM_BROKER'] ?? ''
    const address = { STREAM_BROKER: set === '' ? broker.address : set }
    const context = args.flags.text('context') ?? deps.host.environment['STREAM_CONTEXT']
    const hasContext = !args.flags.has('broker') && context !== undefined && context !== ''
    const named = hasContext
      ? { STREAM_CONTEXT: context, STREAM_BROKER: undefined }
      : { ...address, STREAM_CONTEXT: undefined }
    return await new TxnRun(deps, broker, { ...plan, environment: named }).run()
  } finally {
    broker.cluster.close()
  }
}
