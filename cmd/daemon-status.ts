/** `stream daemon status`. */

import type { RowShape } from '../src/text/rows.ts'
import { askStatus, notRunning } from './daemon-shared.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { type CommandSpec, rowOptions } from './option-table.ts'
import { printRows } from './row-output.ts'
import type { TableDisplay } from './table-fit.ts'

const shape: RowShape = {
  kind: 'daemon',
  columns: ['PID', 'VERSION', 'NODE', 'ADDRESSES', 'DATA', 'UPTIME', 'TOPICS', 'BYTES', 'STATE'],
}

const display: TableDisplay = {
  sizes: ['BYTES'],
  durations: ['UPTIME'],
  shrink: ['ADDRESSES', 'DATA'],
  drop: ['NODE', 'VERSION', 'DATA'],
}

export const spec: CommandSpec = {
  name: 'daemon status',
  summary: 'Tell whether the daemon runs, and how it does',
  description: ['UPTIME is in milliseconds, BYTES in bytes; tables show both rounded.'],
  operands: [],
  options: rowOptions,
  columns: shape.columns,
  examples: [{ line: 'stream daemon status' }, { line: 'stream daemon status --json | jq .pid' }],
  exits: [[4, 'not running']],
}

export async function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const status = await askStatus(deps, args)
  if (status === undefined) throw notRunning()
  const row = [
    status.pid,
    status.version,
    status.nodeId,
    status.addresses,
    status.dataDirectory,
    status.uptimeMs,
    status.topics,
    status.bytes,
    status.state,
  ]
  await printRows(deps, args.flags, shape, [row], display)
  return 0
}
