/**
 * `stream pipe`: topic → program → topic (commands.md, section 5). The flags here, what they mean in pipe-plan.ts, the runs in
 * pipe-job.ts (`--in`) and pipe-source.ts (only `--out`).
 */

import type { CommandArgs, CommandDeps } from './deps.ts'
import type { CommandSpec } from './option-table.ts'
import { readPipePlan } from './pipe-plan.ts'

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'pipe',
  summary: 'Run records of topics through a program into a topic, each exactly once',
  description: [
    'Reads records of the --in topics, gives them to CMD on its standard input, and sends what CMD prints to the --out topic. Only --in: a sink; only --out: a source; both: a processor. Prints nothing; the standard error of CMD is ours.',
    'Outputs, input positions (of the group JOB) and carry are committed in one transaction, so that a processor runs exactly once for readers of committed records, whatever is killed when. Processes with the same -j share the partitions.',
    'An epoch is an offset range of one partition, read by one run of CMD; STREAM_BATCH_ID names it, and a retry has the same range and name. With --barrier exit (default) it is done when CMD has read all of its input and exits 0, and what had come to its standard output until then is stored, also of one that closed it before. With line CMD lives on and answers each line by one line, unbuffered (an empty one drops it). With ack CMD says itself what is done. With none nothing is promised. One that lives on and ends when it has answered all that it was given is no failure, whatever its exit code but 255 and 126, 127, which stop the job: the next records start another. What it prints behind its last answer or ack is one, exit 9.',
    'CMD has STREAM_BROKER or STREAM_CONTEXT, STREAM_JOB STREAM_LANE STREAM_BARRIER STREAM_ATTEMPT STREAM_FENCE, and with exit STREAM_TOPIC STREAM_PARTITION STREAM_FIRST STREAM_LAST STREAM_COUNT STREAM_BATCH_ID STREAM_PARENT_BATCH_ID STREAM_CARRY_FILE. Exit 75 means: try again later, 255: stop everything.',
    'With ack CMD writes lines to standard output that begin with byte 0x1E (or, in a sink, to descriptor 3 without it): ack N; ack P:OFFSET…; nack N retry|dead REASON; state JSON; ready {"resume":{"P":OFFSET}}; error fatal|retry TEXT; beat.',
  ],
  operands: [{ name: 'CMD' }, { name: 'ARG', isOptional: true, isRepeatable: true }],
  options: [
    { long: 'in', argument: 'TOPIC', isRepeatable: true, help: 'read this topic, or those that match this glob' },
    { long: 'out', argument: 'TOPIC', help: 'send what CMD prints to this topic' },
    { long: 'job', short: 'j', argument: 'JOB', help: 'keep positions and carry under this name, and share the work with other runs of it' },
    { long: 'barrier', argument: 'HOW', choices: ['exit', 'line', 'ack', 'none'], help: 'how CMD says that it is done; default exit, for a source line' },
    { long: 'epoch', argument: 'LIMITS', default: '5000,8MiB,250ms', help: 'when an epoch (line, ack: a transaction) closes: records, bytes, time, each may be left out; without a number of records it grows until starting CMD takes under a tenth of the time' },
    { long: 'parallel', short: 'P', argument: 'N', help: 'lanes: children at once; default: the cores, at most the partitions' },
    { long: 'child-in', argument: 'FORM', choices: ['value', 'json', 'sized'], default: 'value', help: 'what CMD reads' },
    { long: 'child-out', argument: 'FORM', choices: ['value', 'json', 'sized'], default: 'value', help: 'what CMD prints' },
    { long: 'null', short: '0', help: 'records end with NUL, both ways' },
    { long: 'delim', short: 'D', argument: 'STR', help: 'records end with STR, both ways' },
    { long: 'keep-topic', help: 'take the topic from the envelopes that CMD prints; --out is a glob of what is allowed' },
    { long: 'key', short: 'k', argument: 'KEY', help: 'the key of outputs' },
    { long: 'key-sep', short: 'K', argument: 'STR', help: 'CMD prints KEY STR VALUE' },
    { long: 'key-json', argument: 'PATH', help: "the key is a member of the output's JSON, such as .user.id" },
    { long: 'same-partition', help: "outputs go to the partition of the input's number" },
    { long: 'success', argument: 'CODES', default: '0', help: 'exit codes that commit (0,1 for grep)' },
    { long: 'partial', help: 'CMD need not read all of its input' },
    { long: 'retry', argument: 'POLICY', default: '5,1s..1m', help: 'tries after the first, first and longest pause' },
    { long: 'on-fail', argument: 'WHAT', choices: ['bisect', 'dlq', 'stop'], help: 'then: halve the epoch until one record fails alone, and dead-letter that; dead-letter the epoch; stop. Default bisect with --out, else stop' },
    { long: 'dlq', argument: 'TOPIC', help: 'where dead letters go; default JOB.dlq' },
    { long: 'dlq-max', argument: 'SHARE', default: '1%/5m', help: 'with a larger share of dead letters in that time (and more than 10) the job stops' },
    { long: 'child-timeout', argument: 'DUR', default: '5m', help: 'for one run over an epoch' },
    { long: 'stall', argument: 'DUR', default: '30s', help: 'for an answer' },
    { long: 'grace', argument: 'DUR', default: '10s', help: 'from SIGTERM to SIGKILL' },
    { long: 'carry', argument: 'FILE', help: 'keep the bytes of FILE from epoch to epoch, committed with the outputs (STREAM_CARRY_FILE)' },
    { long: 'carry-by', argument: 'SLOT', choices: ['partition', 'job'], default: 'partition', help: 'one carry for each partition, or one for the job' },
    { long: 'carry-may-empty', help: 'an empty carry may replace one that is not' },
    { long: 'singleton', help: 'a second run of JOB is refused, exit 8' },
    { long: 'fixed', help: 'record the range of an epoch before CMD starts, so that not even a crash cuts it anew; default for sinks with -j' },
    { long: 'from', argument: 'POS', help: 'where to start, if JOB has no position yet' },
    { long: 'since', argument: 'TIME', help: 'where to start, for times only' },
    { long: 'until', argument: 'POS', help: 'where to stop, exclusive' },
    { long: 'until-end', help: 'stop at the end as it is now, when all is committed' },
    { long: 'count', short: 'n', argument: 'N', help: 'stop after so many records' },
    { long: 'on-gap', argument: 'WHAT', choices: ['warn', 'fail'], default: 'warn', help: 'when records are gone before they were read' },
    { long: 'wait-topic', help: 'wait for a topic that does not exist' },
    { long: 'create', help: 'create the --out topic if it is unknown' },
    { long: 'no-create', help: 'never create it' },
    { long: 'compression', short: 'z', argument: 'C', choices: ['none', 'gzip', 'snappy', 'lz4', 'zstd'], help: 'codec of the outputs; default none over ipc, else lz4' },
    { long: 'explain', help: 'print the guarantee in force, and stop' },
    { long: 'dry-run', help: 'run CMD on the last --count records (10), print what it prints, commit nothing' },
    { long: 'ctl', help: 'with ack: control lines to CMD' },
    { long: 'spool-dir', argument: 'DIR', help: 'where inputs and outputs of CMD are kept; default $XDG_STATE_HOME/stream/spool' },
    { long: 'spool-max', argument: 'SIZE', default: '10GiB', help: 'how much CMD may print over one epoch' },
    { long: 'fail-empty', help: 'exit 3 if there was no record' },
    { long: 'json', help: 'errors as JSON objects' },
    { long: 'report', argument: 'FILE', help: 'the summary as one JSON object' },
  ],
  examples: [
    { line: "stream pipe --in orders --out orders.big -j big --same-partition -- jq -c 'select(.total > 100)'" },
    { line: 'stream pipe --in orders --out totals -j totals --carry t.state -- awk -f add.awk' },
    { line: 'stream pipe --in orders --from -3d --until-end --out orders.v2 -j v2 -- ./clean.py' },
  ],
  exits: [
    [3, 'no such topic'],
    [5, 'some records were dead-lettered, or were gone before they were read'],
    [8, 'fenced by another run; --singleton'],
    [9, 'CMD failed for good'],
  ],
}

export async function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  if ((deps.host.environment['STREAM_TXN'] ?? '') !== '') {
    const { refuseCommand } = await import('./txn-client.ts')
    await refuseCommand(deps, spec.name)
  }
  const plan = readPipePlan(deps, args)
  if (args.flags.has('explain')) {
    const { explainPipe } = await import('./pipe-explain.ts')
    return explainPipe(deps, plan)
  }
  if (plan.read === undefined) {
    const { runSource } = await import('./pipe-source.ts')
    return runSource(deps, args, plan)
  }
  const { runPipe } = await import('./pipe-job.ts')
  return runPipe(deps, args, plan)
}
