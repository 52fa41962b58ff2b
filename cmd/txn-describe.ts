/** `stream txn describe`: one transaction, and the ranges that a run of the name has frozen and not committed. */

import type { RowShape } from '../src/text/rows.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { type CommandSpec, rowOptions } from './option-table.ts'
import { printRows } from './row-output.ts'
import {
  cellsOf,
  expectTransaction,
  oneId,
  transactionColumns,
  withTransactions,
} from './txn-shared.ts'
import { nameOfTransaction, readTxnState } from './txn-state.ts'

const shape: RowShape = {
  kind: 'transaction',
  columns: [...transactionColumns, 'COMMITS', 'RANGES'],
}

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'txn describe',
  summary: 'Describe a transaction and its ranges',
  description: ['ID is a transactional id, or a NAME of stream txn -j. COMMITS is how often runs of that name have committed, RANGES what a run with --fixed has frozen and not committed: GROUP:TOPIC/PARTITION=START-END, the end exclusive. To learn how a commit ended whose outcome was not known: COMMITS has grown, or it has not.'],
  operands: [{ name: 'ID' }],
  options: [...rowOptions],
  columns: shape.columns,
  examples: [{ line: 'stream txn describe daily' }],
  exits: [[3, 'no such id']],
}

export function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const id = oneId(args, spec.name)
  return withTransactions(deps, args, async ({ admin, broker }) => {
    const found = await expectTransaction(admin, id)
    const name = nameOfTransaction(found.transactionalId)
    const state = name === undefined ? undefined : await readTxnState(deps, broker, name)
    const ranges = (state?.ranges ?? []).map(
      ({ group, topic, partition, start, end }) => `${group}:${topic}/${partition}=${start}-${end}`,
    )
    const row = [...cellsOf(deps, found), state?.commits ?? null, ranges]
    await printRows(deps, args.flags, shape, [row])
    return 0
  })
}
