/** `stream daemon status`. */

import type { RowShape } from '../src/text/rows.ts'
import { formatDuration, formatSize } from '../src/text/units.ts'
import { askStatus, notRunning } from './daemon-shared.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { type CommandSpec, rowOptions } from './option-table.ts'
import { printRows, rowForm } from './row-output.ts'

const shape: RowShape = {
  kind: 'daemon',
  columns: ['PID', 'VERSION', 'NODE', 'ADDRESSES', 'DATA', 'UPTIME', 'TOPICS', 'BYTES', 'STATE'],
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
  const form = rowForm(deps, args.flags)
  const isForPeople = form === 'table' || form === 'wide'
  await printRows(deps, args.flags, shape, [
    [
      status.pid,
      status.version,
      status.nodeId,
      status.addresses,
      status.dataDirectory,
      isForPeople ? formatDuration(status.uptimeMs) : status.uptimeMs,
      status.topics,
      isForPeople ? formatSize(status.bytes) : status.bytes,
      status.state,
    ],
  ])
  return 0
}
