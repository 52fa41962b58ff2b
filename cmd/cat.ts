/** `stream cat`: consume --from start --until-end; with -f it goes on at the end (commands.md, section 5). */

import { UsageError } from '../src/base/errors.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import type { CommandSpec } from './option-table.ts'
import { runRead } from './read-job.ts'
import { readOptions, readPlan } from './read-options.ts'

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'cat',
  summary: 'Print the records of topics from the start to the end',
  description: [
    'The same as consume --from start --until-end: all records that are there when the command starts. With -f it goes on at the end.',
  ],
  operands: [{ name: 'TOPIC', isRepeatable: true }],
  options: [
    { long: 'follow', short: 'f', help: 'go on at the end' },
    ...readOptions,
  ],
  examples: [
    { line: 'stream cat orders | wc -l' },
    { line: 'stream cat orders --since yesterday --until today --json | jq -r .value' },
    { line: 'stream cat orders --json | stream produce copy --json --keep-partition' },
  ],
  exits: [
    [3, 'no such topic'],
    [5, 'records were gone before they were read; --strict'],
  ],
}

export function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const { flags, operands } = args
  const hasStart = flags.has('from') || flags.has('since')
  if (flags.has('follow') && flags.text('order') === 'time') {
    throw new UsageError('--follow and --order time cannot be used together')
  }
  const started = hasStart ? flags : flags.with('from', 'start')
  return runRead(
    deps,
    { flags: started, operands },
    readPlan(deps, { flags: started, operands }, { command: 'cat', follows: false }),
  )
}
