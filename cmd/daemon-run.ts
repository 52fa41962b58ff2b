/** `stream daemon run`: in the foreground, in the place of this process. */

import { UsageError } from '../src/base/errors.ts'
import { daemonArguments, startOptions } from './daemon-shared.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import type { CommandSpec } from './option-table.ts'
import { runtimeDirectory } from './settings.ts'

export const spec: CommandSpec = {
  name: 'daemon run',
  summary: 'Run the daemon in the foreground',
  description: ['Ends with SIGTERM or SIGINT, after a clean close.'],
  operands: [],
  options: startOptions,
  examples: [
    {
      line: 'stream daemon run --listen kafka://0.0.0.0:9092 --listen ipc:///run/stream/daemon.sock',
    },
    { line: 'stream daemon run --ephemeral > addr &' },
  ],
  exits: [[8, 'the data is in use']],
}

export async function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  if (args.operands.length > 0) throw new UsageError(`unexpected argument ${args.operands[0]}`)
  deps.host.makeDirectory(runtimeDirectory(deps.host), 0o700)
  return deps.runDaemon(daemonArguments(deps, args.flags))
}
