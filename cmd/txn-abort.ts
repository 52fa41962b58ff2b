/** `stream txn abort`: fences the owner of an id, which ends what it has open; asks. */

import type { RowShape } from '../src/text/rows.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { type CommandSpec, changeOptions, rowOptions, yesOption } from './option-table.ts'
import { confirm } from './prompt.ts'
import { printRows } from './row-output.ts'
import {
  cellsOf,
  expectTransaction,
  oneId,
  transactionColumns,
  withTransactions,
} from './txn-shared.ts'

const shape: RowShape = { kind: 'transaction', columns: transactionColumns }

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'txn abort',
  summary: 'Abort an open transaction by fencing its owner',
  description: ['ID is a transactional id, or a NAME of stream txn -j. Whoever has the id now can write nothing more with it; what it has open is aborted, unless its commit is decided already.'],
  operands: [{ name: 'ID' }],
  options: [yesOption, ...changeOptions, ...rowOptions],
  columns: shape.columns,
  examples: [{ line: 'stream txn abort daily -y' }],
  exits: [
    [2, 'refused for want of -y'],
    [3, 'no such id'],
  ],
}

export function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const id = oneId(args, spec.name)
  const { flags } = args
  return withTransactions(deps, args, async ({ admin }) => {
    const found = await expectTransaction(admin, id)
    const plan = { shape, rows: [cellsOf(deps, found)] }
    if (flags.has('dry-run')) {
      await printRows(deps, flags, shape, plan.rows)
      return 0
    }
    const question = `fence ${found.transactionalId}, and abort what it has open?`
    if (!(await confirm(deps, flags, question, 'y', plan))) {
      deps.console.warn('nothing aborted')
      return 1
    }
    await admin.fence(found.transactionalId)
    const after = (await admin.describe(found.transactionalId)) ?? found
    await printRows(deps, flags, shape, [cellsOf(deps, after)])
    return 0
  })
}
