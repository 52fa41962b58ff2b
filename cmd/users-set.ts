/** `stream users set`: makes a user that may log in at kafka://, or gives one another password. */

import { UsageError } from '../src/base/errors.ts'
import {
  SCRAM_ITERATIONS_MAX,
  SCRAM_ITERATIONS_MIN,
  scramMechanisms,
} from '../src/protocol/scram.ts'
import type { Row } from '../src/text/rows.ts'
import type { UserAdminClient } from './clients.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { type CommandSpec, rowOptions } from './option-table.ts'
import { passwordFileOption, readNewPassword } from './password.ts'
import { printRows } from './row-output.ts'
import { mechanismOption, readMechanisms, userShape, withUsers } from './users-shared.ts'

const ITERATIONS = 8192

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'users set',
  summary: 'Make a user that may log in at kafka://, or change its password',
  description: [
    'The password comes from standard input, from a file, or from a prompt; never from a flag. It does not leave this process: the broker gets what SCRAM stores, and keeps it with its metadata, for the whole cluster.',
    'Users count where a daemon asks for logins: -X sasl.enabled.mechanisms=SCRAM-SHA-512 (or PLAIN, which wants TLS). There are no access rules: every user may do everything, these commands included. All connections of the user end, wherever they are, even if the password is the one that it had; its programs log in again with what counts now.',
  ],
  operands: [{ name: 'USER' }],
  options: [
    passwordFileOption,
    mechanismOption,
    { long: 'iterations', argument: 'N', default: String(ITERATIONS), help: `how slow a guess is made: ${SCRAM_ITERATIONS_MIN} to ${SCRAM_ITERATIONS_MAX}` },
    ...rowOptions,
  ],
  columns: userShape.columns,
  examples: [
    { line: 'stream users set etl --password-file etl.pw' },
    { line: 'openssl rand -hex 20 | tee etl.pw | stream users set etl' },
  ],
  exits: [
    [2, 'no password, or one that would go over a network in clear text'],
    [6, 'not allowed'],
  ],
}

export async function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const { flags, operands } = args
  const [user, extra] = operands
  if (user === undefined || user === '') {
    throw new UsageError('USER is missing', `try: stream ${spec.name} --help`)
  }
  if (extra !== undefined) {
    throw new UsageError(
      'unexpected argument after USER',
      'a password is never an argument: standard input, or --password-file FILE',
    )
  }
  const mechanisms = readMechanisms(flags) ?? scramMechanisms
  const iterations = flags.wholeNumber('iterations') ?? ITERATIONS
  if (iterations < SCRAM_ITERATIONS_MIN || iterations > SCRAM_ITERATIONS_MAX) {
    throw new UsageError(
      `--iterations ${iterations}: must be from ${SCRAM_ITERATIONS_MIN} to ${SCRAM_ITERATIONS_MAX}`,
    )
  }
  return withUsers(deps, args, async ({ broker, users }) => {
    if (!broker.isPrivate) {
      throw new UsageError(
        `${broker.address}: what proves a password would be sent in clear text`,
        'use TLS (-X security.protocol=SSL or SASL_SSL), or run it on the host of the broker',
      )
    }
    const password = await readNewPassword(deps, flags, user)
    await users.set(user, { password, mechanisms, iterations })
    const rows = mechanisms.map((mechanism): Row => [user, mechanism, iterations])
    await printRows(deps, flags, userShape, rows)
    if (mechanisms.length < scramMechanisms.length)
      await warnOfFormer(deps, users, user, mechanisms)
    return 0
  })
}

/** Who changes a password wants the former one to be worth nothing. */
async function warnOfFormer(
  deps: CommandDeps,
  users: UserAdminClient,
  user: string,
  changed: readonly string[],
): Promise<void> {
  const [found] = await users.list([user])
  const [former] = (found?.credentials ?? []).filter(
    ({ mechanism }) => !changed.includes(mechanism),
  )
  if (former === undefined) return
  deps.console.warn(
    `${user}: with ${former.mechanism} and PLAIN the former password counts as before; to end that: stream users delete ${user} --mechanism ${former.mechanism}`,
  )
}
