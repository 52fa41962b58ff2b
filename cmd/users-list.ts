/** `stream users list`: who may log in at kafka://. */

import type { Row } from '../src/text/rows.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { type CommandSpec, rowOptions } from './option-table.ts'
import { printRows } from './row-output.ts'
import { TargetFailures } from './topics-shared.ts'
import { userShape, withUsers } from './users-shared.ts'

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'users list',
  summary: 'List the users that may log in at kafka://',
  description: ['A row for each user and mechanism. Nothing of a password is shown: the broker tells nobody what it keeps.'],
  operands: [{ name: 'USER', isOptional: true, isRepeatable: true }],
  options: [{ long: 'fail-empty', help: 'exit 3 if there is none' }, ...rowOptions],
  columns: userShape.columns,
  examples: [{ line: 'stream users list' }],
  exits: [[3, 'no such user; with --fail-empty, no user']],
}

export function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const { flags, operands } = args
  return withUsers(deps, args, async ({ users }) => {
    const failures = new TargetFailures(deps)
    const names = operands.length === 0 ? undefined : [...new Set(operands)]
    const rows: Row[] = []
    for (const { name, credentials, error } of await users.list(names)) {
      if (error !== undefined) failures.add(error, name)
      for (const { mechanism, iterations } of credentials) rows.push([name, mechanism, iterations])
    }
    await printRows(deps, flags, userShape, rows)
    return rows.length === 0 && flags.has('fail-empty') ? 3 : failures.exit
  })
}
