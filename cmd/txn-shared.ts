/** What the verbs of `stream txn` share: ids, and how a transaction is shown. */

import { StreamError, UsageError } from '../src/base/errors.ts'
import type { TransactionDescription } from '../src/client/transaction-admin.ts'
import type { Cell } from '../src/text/rows.ts'
import { type Broker, openBroker } from './broker.ts'
import type { TransactionAdminClient } from './clients.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { transactionalIdOf } from './txn-state.ts'

export interface TxnSession {
  readonly broker: Broker
  readonly admin: TransactionAdminClient
}

export async function withTransactions(
  deps: CommandDeps,
  args: CommandArgs,
  use: (session: TxnSession) => Promise<number>,
): Promise<number> {
  const broker = await openBroker(deps, args)
  try {
    return await use({ broker, admin: await deps.clients.transactionAdmin(broker.cluster) })
  } finally {
    broker.cluster.close()
  }
}

/** @throws UsageError unless there is exactly one */
export function oneId({ operands }: CommandArgs, command: string): string {
  const [id, ...more] = operands
  if (id === undefined || id === '') {
    throw new UsageError('ID is missing', `try: stream ${command} --help`)
  }
  if (more.length > 0) throw new UsageError(`${more[0]}: one ID is all`)
  return id
}

/** ID is the id itself, or a name of stream txn -j. @throws StreamError NAME_UNKNOWN */
export async function expectTransaction(
  admin: TransactionAdminClient,
  id: string,
): Promise<TransactionDescription> {
  const found = (await admin.describe(id)) ?? (await admin.describe(transactionalIdOf(id)))
  if (found !== undefined) return found
  throw new StreamError(
    'NAME_UNKNOWN',
    `${id}: no such transactional id (TRANSACTIONAL_ID_NOT_FOUND)`,
    { target: id, hint: 'to see what there is: stream txn list' },
  )
}

/** ID STATE PRODUCER SECONDS PARTITIONS. */
export function cellsOf(deps: CommandDeps, row: TransactionDescription): Cell[] {
  const { transactionalId, state, producerId, startMs, partitions } = row
  const isOpen = startMs > 0 && state === 'Ongoing'
  const seconds = isOpen ? Math.max(0, Math.round((deps.time.wallMs() - startMs) / 1000)) : null
  return [transactionalId, state, producerId, seconds, partitions.length]
}

export const transactionColumns = ['ID', 'STATE', 'PRODUCER', 'SECONDS', 'PARTITIONS'] as const
