/** `stream daemon logs`: what the daemon that commands started has said. */

import { StreamError } from '../src/base/errors.ts'
import { sleep } from '../src/ports/time.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { BrokenPipe } from './exit-code.ts'
import type { CommandSpec } from './option-table.ts'
import { daemonLogPath } from './settings.ts'

const POLL_MS = 250

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'daemon logs',
  summary: 'Print what the daemon has logged',
  description: ['Of a daemon that was started in the background.'],
  operands: [],
  options: [
    { long: 'follow', short: 'f', help: 'go on as it grows' },
    { long: 'count', short: 'n', argument: 'N', help: 'only the last N lines' },
  ],
  examples: [{ line: 'stream daemon logs -n 20' }],
  exits: [[3, 'no log']],
}

export async function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const path = daemonLogPath(deps.host)
  const count = args.flags.wholeNumber('count')
  const bytes = deps.host.readFile(path)
  const follows = args.flags.has('follow')
  if (bytes === undefined && !follows) {
    throw new StreamError('FILE_NOT_FOUND', `${path}: no log`, { target: path })
  }
  const first = bytes ?? new Uint8Array(0)
  await print(deps, first.subarray(count === undefined ? 0 : lastLinesStart(first, count)))
  let printed = first.length
  while (follows) {
    await sleep(deps.time, POLL_MS)
    const size = deps.host.stat(path)?.sizeBytes ?? 0
    if (size === printed) continue
    // A log that became shorter was begun anew.
    if (size < printed) printed = 0
    const grown = deps.host.readFile(path) ?? new Uint8Array(0)
    await print(deps, grown.subarray(printed))
    printed = grown.length
  }
  return 0
}

async function print(deps: CommandDeps, bytes: Uint8Array): Promise<void> {
  if (bytes.length === 0) return
  if ((await deps.stdio.output.write(bytes)) === 'broken') throw new BrokenPipe()
}

/** Where the last `count` lines begin. */
export function lastLinesStart(bytes: Uint8Array, count: number): number {
  if (count === 0) return bytes.length
  let left = count
  for (let at = bytes.length - 2; at >= 0; at -= 1) {
    if (bytes[at] !== 10) continue
    left -= 1
    if (left === 0) return at + 1
  }
  return 0
}
