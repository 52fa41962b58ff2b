/** `stream get`: the latest value of a key, or its history (commands.md, section 5). */

import { UsageError } from '../src/base/errors.ts'
import { partitionForKey } from '../src/client/partitioner.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { LatestOutput } from './latest-output.ts'
import type { CommandSpec } from './option-table.ts'
import { runRead } from './read-job.ts'
import { filterOptions, formOptions, type ReadPlan, readPlan } from './read-options.ts'
import type { ReadVariant } from './read-variant.ts'
import { isGlob } from './topic-names.ts'

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'get',
  summary: 'Print the latest value of a key',
  description: [
    "Reads the key's partition to its end as it is now and prints the last record with that key; nothing, and exit 3, if there is none or it is a tombstone (a null value).",
    'With --history it prints all of them, the oldest first, tombstones too.',
  ],
  operands: [{ name: 'TOPIC' }, { name: 'KEY' }],
  options: [
    { long: 'history', help: 'all records with the key, the oldest first' },
    { long: 'from', argument: 'POS', help: 'where to start: start, end, N, +N, -N or a TIME; default start' },
    { long: 'all-partitions', help: 'look in all partitions, for keys that another partitioner placed' },
    { long: 'partitioner', argument: 'HASH', choices: ['murmur2', 'crc32'], default: 'murmur2', help: 'how keys choose their partition' },
    ...formOptions,
    ...filterOptions,
    { long: 'uncommitted', help: 'records of open and aborted transactions too' },
    { long: 'report', argument: 'FILE', help: 'the summary as one JSON object' },
  ],
  examples: [
    { line: 'stream get users 42 | jq .email' },
    { line: "stream get users 42 --history -F '%d{iso} %o %v{null=deleted}\\n'" },
  ],
  exits: [
    [3, 'no such topic; no record with that key, or its value was deleted'],
    [5, 'records were gone before they were read; --strict'],
  ],
}

export function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const { flags, operands } = args
  const [topic, key, ...more] = operands
  if (topic === undefined) throw new UsageError('TOPIC is missing', 'try: stream get --help')
  if (key === undefined) throw new UsageError('KEY is missing', 'try: stream get --help')
  if (more.length > 0) throw new UsageError(`${more[0]}: one TOPIC and one KEY are all`)
  if (isGlob(topic)) throw new UsageError(`${topic}: one topic, not a pattern`)
  const keyBytes = Buffer.from(key, 'utf8')
  const base = readPlan(deps, { flags, operands: [topic] }, { command: 'get', follows: false })
  const isHistory = flags.has('history')
  const isEverywhere = flags.has('all-partitions')
  const plan: ReadPlan = {
    ...base,
    filter: { ...base.filter, key: keyBytes },
    isByTime: isHistory && isEverywhere,
    failEmpty: true,
  }
  const name = flags.text('partitioner') === 'crc32' ? 'crc32' : 'murmur2'
  const variant: ReadVariant = {
    ...(isEverywhere
      ? {}
      : {
          select: (partitions) => {
            const partition = partitionForKey(name, Math.max(1, partitions.length), keyBytes)
            return partitions.filter((candidate) => candidate.partition === partition)
          },
        }),
    ...(isHistory
      ? {}
      : { makeOutput: (writer) => new LatestOutput(deps.stdio.output, plan, writer) }),
  }
  return runRead(deps, args, plan, variant)
}
