/** `stream topics create`. */

import { isStreamError } from '../src/base/errors.ts'
import type { NewTopic } from '../src/client/admin.ts'
import type { Row, RowShape } from '../src/text/rows.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import type { Flags } from './flags.ts'
import { type CommandSpec, changeOptions, rowOptions } from './option-table.ts'
import { printRows } from './row-output.ts'
import { readConfigFlags, requireNames, TargetFailures, withAdmin } from './topics-shared.ts'

const shape: RowShape = { kind: 'topic', columns: ['NAME'] }

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'topics create',
  summary: 'Create topics',
  description: ['Returns when all partitions have a leader.'],
  operands: [{ name: 'NAME', isRepeatable: true }],
  options: [
    { long: 'partitions', argument: 'N', default: '1', help: 'how many' },
    { long: 'replicas', short: 'r', argument: 'N', help: "how many; default the broker's" },
    { long: 'compact', help: 'keep the last value of each key' },
    { long: 'retention', argument: 'DUR|SIZE', help: 'how long, or how much of a partition, is kept' },
    { long: 'set', argument: 'K=V', isRepeatable: true, help: 'a setting of the topic' },
    { long: 'if-not-exists', help: 'fine when it is there already' },
    ...changeOptions,
    ...rowOptions,
  ],
  columns: shape.columns,
  examples: [
    { line: 'stream topics create orders --partitions 12 --retention 7d --if-not-exists' },
    { line: 'stream topics create events -r 1 --partitions 3' },
    { line: 'stream topics create users --compact --set min.compaction.lag.ms=60000' },
  ],
  exits: [[8, 'exists already']],
}

export function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  requireNames(args, spec.name)
  const { flags } = args
  const settings = topicSettings(flags)
  return withAdmin(deps, args, async ({ admin }) => {
    const failures = new TargetFailures(deps)
    const isTrial = flags.has('dry-run')
    const names = [...new Set(args.operands)]
    const outcomes = await admin.createTopics(
      names.map((name): NewTopic => ({ name, ...settings })),
      { isTrial },
    )
    const rows: Row[] = []
    for (const { name, error } of outcomes) {
      const isThere = isStreamError(error, 'TOPIC_EXISTS') && flags.has('if-not-exists')
      if (error !== undefined && !isThere) {
        failures.add(error, name)
        continue
      }
      try {
        if (!isTrial) await admin.awaitTopic(name)
        if (!isThere) rows.push([name])
      } catch (failure) {
        failures.add(failure, name)
      }
    }
    await printRows(deps, flags, shape, rows)
    return failures.exit
  })
}

function topicSettings(flags: Flags): Omit<NewTopic, 'name'> {
  const configs = readConfigFlags(flags)
  const replicas = flags.wholeNumber('replicas')
  return {
    partitions: flags.wholeNumber('partitions') ?? 1,
    ...(replicas === undefined ? {} : { replicas }),
    ...(configs.size === 0 ? {} : { configs: Object.fromEntries(configs) }),
  }
}
