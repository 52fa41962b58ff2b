/** `stream daemon status`. */

import type { RowShape } from '../src/text/rows.ts'
import { formatTime } from '../src/text/time.ts'
import { askStatus, dataOption, notRunning } from './daemon-shared.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { type CommandSpec, rowOptions } from './option-table.ts'
import { printRows } from './row-output.ts'
import { storeContact } from './store-contact.ts'
import type { TableDisplay } from './table-fit.ts'

const shape: RowShape = {
  kind: 'daemon',
  columns: [
    ...['PID', 'VERSION', 'NODE', 'ADDRESSES', 'DATA', 'UPTIME', 'TOPICS', 'BYTES', 'STATE'],
    ...['DAMAGED', 'SCRUBBED', 'SCRUBBING', 'DIFFERING', 'STORE'],
  ],
}

const display: TableDisplay = {
  sizes: ['BYTES'],
  durations: ['UPTIME'],
  shrink: ['ADDRESSES', 'DATA'],
  drop: ['STORE', 'SCRUBBING', 'SCRUBBED', 'DIFFERING', 'DAMAGED', 'NODE', 'VERSION', 'DATA'],
}

export const spec: CommandSpec = {
  name: 'daemon status',
  summary: 'Tell whether the daemon runs, and how it does',
  description: [
    'UPTIME is in milliseconds, BYTES in bytes; tables show both rounded.',
    'DAMAGED counts ranges of logs that are not served. SCRUBBED is when a search of all logs for damage ended last, SCRUBBING how far the one under way is, in percent.',
    'DIFFERING counts batches that differ from the copy of the leader although both are sound; the log of the daemon names each with its offsets. Nothing is changed by itself, for nobody knows which copy is right.',
    'STORE tells in a cluster whether the metadata store (etcd) answers the daemon; silent: not now; read-only: it answers, and takes no writes, as when its quota is used up; lost: for longer than its session, so that it does not know what has become of the others.',
  ],
  operands: [],
  options: [dataOption, ...rowOptions],
  columns: shape.columns,
  examples: [{ line: 'stream daemon status' }, { line: 'stream daemon status --json | jq .pid' }],
  exits: [[4, 'not running']],
}

export async function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const status = await askStatus(deps, args)
  if (status === undefined) throw notRunning(deps, args)
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
    status.damagedRanges,
    status.scrubbedMs > 0 ? formatTime(status.scrubbedMs) : null,
    status.scrubPercent < 0 ? null : status.scrubPercent,
    status.differingBatches,
    status.storeState === '' ? null : status.storeState.toLowerCase().replace('_', '-'),
  ]
  await printRows(deps, args.flags, shape, [row], display)
  const trouble = storeContact(status)?.trouble
  if (trouble !== undefined) deps.console.warn(`the metadata store is ${trouble}`)
  return 0
}
