/** What the verbs of `stream users` share. */

import { UsageError } from '../src/base/errors.ts'
import { splitList } from '../src/config/config-key.ts'
import { isScramMechanism, type ScramMechanism, scramMechanisms } from '../src/protocol/scram.ts'
import type { RowShape } from '../src/text/rows.ts'
import { type Broker, openBroker } from './broker.ts'
import type { UserAdminClient } from './clients.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import type { Flags } from './flags.ts'
import type { OptionSpec } from './option-table.ts'

export const userShape: RowShape = { kind: 'user', columns: ['USER', 'MECHANISM', 'ITERATIONS'] }

// biome-ignore format: one row, one line
export const mechanismOption: OptionSpec = { long: 'mechanism', argument: 'LIST', help: `${scramMechanisms.join(', ')}, or both; default both. PLAIN takes the password of either` }

export interface UsersSession {
  readonly broker: Broker
  readonly users: UserAdminClient
}

export async function withUsers(
  deps: CommandDeps,
  args: CommandArgs,
  use: (session: UsersSession) => Promise<number>,
): Promise<number> {
  const broker = await openBroker(deps, args)
  try {
    const users = await deps.clients.userAdmin(broker.cluster, await deps.loadHashes())
    return await use({ broker, users })
  } finally {
    broker.cluster.close()
  }
}

/** @throws UsageError */
export function readMechanisms(flags: Flags): readonly ScramMechanism[] | undefined {
  const text = flags.text('mechanism')
  if (text === undefined) return undefined
  const names = splitList(text.toUpperCase())
  const unknown = names.find((name) => !isScramMechanism(name))
  if (unknown !== undefined || names.length === 0) {
    throw new UsageError(
      `--mechanism ${text}: not a mechanism with a password that a broker keeps`,
      scramMechanisms.join(' or '),
    )
  }
  return [...new Set(names)] as readonly ScramMechanism[]
}
