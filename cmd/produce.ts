/**
 * `stream produce`: records from standard input, files or a flag into a topic (commands.md, section 5). The flags here,
 * what they mean in produce-plan.ts, the run in produce-job.ts.
 */

import { openBroker } from './broker.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import type { CommandSpec } from './option-table.ts'
import { ProduceJob } from './produce-job.ts'
import { readPlan } from './produce-plan.ts'

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'produce',
  summary: 'Send records from standard input or files to a topic',
  description: [
    'Sends each line of standard input, or of the FILEs in order (.gz and .zst unpacked), as a record; prints nothing. Exit 0 means that every record read is durable as --acks says.',
    'The topic is looked up first. An unknown one is created with the defaults of the broker if that was reached by ipc, or with --create.',
    '-k, -p and --ts stand in for what the input does not say; -H adds.',
  ],
  operands: [{ name: 'TOPIC' }, { name: 'FILE', isOptional: true, isRepeatable: true }],
  options: [
    { long: 'value', argument: 'V', help: 'one record, V; standard input is never touched' },
    { long: 'key', short: 'k', argument: 'KEY', help: 'the key of records whose input has none' },
    { long: 'key-sep', short: 'K', argument: 'STR', help: String.raw`each line is KEY STR VALUE (escapes \n \t \r \0 \\ \xHH)` },
    { long: 'key-json', argument: 'PATH', help: "the key is a member of the value's JSON, such as .user.id" },
    { long: 'header', short: 'H', argument: 'NAME=VALUE', isRepeatable: true, help: 'add a header; NAME alone has a null value' },
    { long: 'partition', short: 'p', argument: 'N', help: 'a fixed partition' },
    { long: 'partitioner', argument: 'HASH', choices: ['murmur2', 'crc32'], default: 'murmur2', help: 'how a key chooses the partition' },
    { long: 'ts', argument: 'TIME', help: 'the timestamp of records whose input has none; default now' },
    { long: 'ts-json', argument: 'PATH', help: "the timestamp is a member of the value's JSON" },
    { long: 'input', short: 'i', argument: 'FORM', choices: ['value', 'json', 'sized', 'raw'], default: 'value', help: 'form of the input' },
    { long: 'json', help: 'input is envelopes, the same as -i json; errors as JSON' },
    { long: 'raw', help: 'each input is one record, the same as -i raw' },
    { long: 'format', short: 'F', argument: 'FMT', help: "form of the input in the format language, such as '%k\\t%v\\n' (stream help formats)" },
    { long: 'null', short: '0', help: 'records end with NUL' },
    { long: 'delim', short: 'D', argument: 'STR', help: 'records end with STR' },
    { long: 'null-value', argument: 'TOKEN', help: 'a value that is TOKEN is null' },
    { long: 'strip-cr', help: 'a carriage return before the end of a line is no part of the value' },
    { long: 'require', argument: 'FORM', choices: ['json', 'utf8'], help: 'other values are errors' },
    { long: 'max-bytes', argument: 'SIZE', help: 'the longest record; default: what the topic takes' },
    { long: 'keep-topic', help: "take the envelope's topic; TOPIC may be a glob of what is allowed (also where -F has %t)" },
    { long: 'keep-partition', help: "take the envelope's partition" },
    { long: 'acks', argument: 'N', choices: ['all', '1', '0'], default: 'all', help: '1 and 0 give up durability and idempotence' },
    { long: 'compression', short: 'z', argument: 'C', choices: ['none', 'gzip', 'snappy', 'lz4', 'zstd'], help: 'codec; default none over ipc, where it costs more than it saves, else lz4' },
    { long: 'linger', argument: 'DUR', default: '5ms', help: 'longest wait for a batch to fill; it leaves early when the input is idle' },
    { long: 'batch-size', argument: 'SIZE', default: '1000KiB', help: 'size at which a batch leaves' },
    { long: 'rate', argument: 'R', help: 'at most so much: 1000/s, 5MiB/s' },
    { long: 'delivery-timeout', argument: 'DUR', default: '2m', help: 'after this a record counts as not delivered' },
    { long: 'atomic', help: 'all of the input or nothing: one transaction, after the input has ended well' },
    { long: 'txn-per-file', help: 'all of each FILE or nothing of it' },
    { long: 'resume', argument: 'ID', help: 'a resumable import: chunks, each committed together with the position of the input; run again, it goes on there' },
    { long: 'chunk', argument: 'N,SIZE', default: '10000,16MiB', help: 'with --resume, size of its transactions in records and bytes of input' },
    { long: 'restart', help: 'with --resume, forget the position: all of the input is sent' },
    { long: 'expect-offset', argument: 'N', help: "append only if the partition's end is N, all as one batch; else exit 8 (not on a Kafka cluster)" },
    { long: 'on-error', argument: 'WHAT', default: 'stop', help: 'for a record that does not parse or is refused: stop, skip or dead-letter=FILE' },
    { long: 'allow-errors', argument: 'N', default: '0', help: 'so many such records still exit 0 (not with stop)' },
    { long: 'create', help: 'create the topic if it is unknown' },
    { long: 'no-create', help: 'never create it' },
    { long: 'tee', help: 'copy the input to standard output' },
    { long: 'receipts', argument: 'FILE', help: 'TOPIC, PARTITION, OFFSET of each record once it is durable, in input order' },
    { long: 'fail-empty', help: 'exit 3 if there was no record' },
    { long: 'report', argument: 'FILE', help: 'the summary as one JSON object' },
  ],
  examples: [
    { line: 'tail -F access.log | stream produce clicks' },
    { line: "jq -c '{key:.id,value:.}' orders.json | stream produce orders --json" },
    { line: 'stream produce archive dump/*.ndjson.gz --key-json .user.id' },
    { line: String.raw`stream cat orders -F '%k{hex} %v{base64}\n' | stream produce copy -F '%k{hex} %v{base64}\n'` },
    { line: 'stream produce archive --resume 2026-03 dump/*.ndjson.gz', help: 'however often it is run: each record once' },
    { line: 'stream produce jobs --value "$line" -k "$id"', help: 'safe inside while read' },
  ],
  exits: [
    [3, 'no such topic, and it was not to be created'],
    [5, 'a record did not parse or was not delivered; the message names its line'],
    [8, 'fenced; --resume: another input than before, the topic was made anew, or another run of the ID; --expect-offset: the partition ends elsewhere, nothing was appended'],
  ],
}

export async function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const plan = await readPlan(deps, args)
  const broker = await openBroker(deps, args, { needs: 'producer' })
  const job = new ProduceJob(deps, args.flags, plan, broker)
  try {
    return await job.run()
  } finally {
    broker.cluster.close()
  }
}
