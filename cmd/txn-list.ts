/** `stream txn list`. */

import type { Row, RowShape } from '../src/text/rows.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { type CommandSpec, rowOptions } from './option-table.ts'
import { printRows } from './row-output.ts'
import { cellsOf, transactionColumns, withTransactions } from './txn-shared.ts'

const shape: RowShape = { kind: 'transaction', columns: transactionColumns }

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'txn list',
  summary: 'List transactional ids and what they have open',
  description: ['SECONDS is how long a transaction is open, PARTITIONS how many it has written to. A name of stream txn -j is the id stream.txn.NAME, an ID of stream produce --resume is stream.resume.ID.', 'An open transaction holds back the readers of what comes behind it. What a process leaves open that was killed while it sent (of produce --atomic: stream.produce.…) ends by its timeout, a minute or more, or at once by stream txn abort ID.'],
  operands: [],
  options: [
    { long: 'state', argument: 'S', help: 'only ids in this state: Empty, Ongoing, PrepareCommit, PrepareAbort, CompleteCommit, CompleteAbort' },
    { long: 'fail-empty', help: 'exit 3 if there is none' },
    ...rowOptions,
  ],
  columns: shape.columns,
  examples: [
    { line: 'stream txn list' },
    { line: 'stream txn list --state Ongoing --json | jq -r .id' },
  ],
}

export function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const { flags } = args
  const state = flags.text('state')?.toLowerCase()
  return withTransactions(deps, args, async ({ admin }) => {
    const rows: Row[] = []
    for (const listed of await admin.list()) {
      if (state !== undefined && listed.state.toLowerCase() !== state) continue
      // One that has expired since is left out.
      const found = await admin.describe(listed.transactionalId)
      if (found !== undefined) rows.push(cellsOf(deps, found))
    }
    await printRows(deps, flags, shape, rows)
    return rows.length === 0 && flags.has('fail-empty') ? 3 : 0
  })
}
