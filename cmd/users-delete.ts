/** `stream users delete`: users that may no longer log in; asks. */

import { isStreamError, UsageError } from '../src/base/errors.ts'
import { isScramMechanism } from '../src/protocol/scram.ts'
import type { Row } from '../src/text/rows.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { type CommandSpec, changeOptions, rowOptions, yesOption } from './option-table.ts'
import { confirm } from './prompt.ts'
import { printRows } from './row-output.ts'
import { TargetFailures } from './topics-shared.ts'
import { mechanismOption, readMechanisms, userShape, withUsers } from './users-shared.ts'

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'users delete',
  summary: 'Delete users, and end their connections',
  description: ['A deleted user cannot log in again, and its connections end: at a daemon at once, in a cluster as soon as each daemon has heard of it. On a Kafka cluster connections that stand go on until they end or log in again.'],
  operands: [{ name: 'USER', isRepeatable: true }],
  options: [mechanismOption, yesOption, ...changeOptions, ...rowOptions],
  columns: userShape.columns,
  examples: [{ line: 'stream users delete etl -y' }],
  exits: [
    [2, 'refused for want of -y'],
    [3, 'no such user'],
  ],
}

export async function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const { flags, operands } = args
  if (operands.length === 0) {
    throw new UsageError('USER is missing', `try: stream ${spec.name} --help`)
  }
  const chosen = readMechanisms(flags)
  return withUsers(deps, args, async ({ users }) => {
    const failures = new TargetFailures(deps)
    const doomed = new Map<string, Row[]>()
    for (const { name, credentials, error } of await users.list([...new Set(operands)])) {
      if (error !== undefined) {
        failures.add(error, name)
        continue
      }
      const rows = credentials
        .filter(({ mechanism }) => chosen?.some((each) => each === mechanism) ?? true)
        .map(({ mechanism, iterations }): Row => [name, mechanism, iterations])
      doomed.set(name, rows)
    }
    const all = [...doomed.values()].flat()
    if (all.length === 0) return failures.exit
    if (flags.has('dry-run')) {
      await printRows(deps, flags, userShape, all)
      return failures.exit
    }
    const question = `delete ${doomed.size} users, and end their connections?`
    if (!(await confirm(deps, flags, question, 'y', { shape: userShape, rows: all }))) {
      deps.console.warn('nothing deleted')
      return 1
    }
    const deleted: Row[] = []
    for (const [name, rows] of doomed) {
      const mechanisms = rows.map(([, mechanism]) => String(mechanism)).filter(isScramMechanism)
      if (mechanisms.length === 0) continue
      try {
        await users.delete(name, mechanisms)
        deleted.push(...rows)
      } catch (error) {
        if (!isStreamError(error)) throw error
        failures.add(error, name)
      }
    }
    await printRows(deps, flags, userShape, deleted)
    return failures.exit
  })
}
