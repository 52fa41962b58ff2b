/** `stream daemon start`: in the background; returns when it answers. */

import { StreamError, UsageError } from '../src/base/errors.ts'
import { askStatus, daemonArguments, startOptions } from './daemon-shared.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import type { Flags } from './flags.ts'
import type { CommandSpec } from './option-table.ts'
import { printText } from './row-output.ts'
import { absolutePath, daemonLogPath, runtimeDirectory, userDaemonAddress } from './settings.ts'

const START_MS_MAX = 30_000

export const spec: CommandSpec = {
  name: 'daemon start',
  summary: 'Start the daemon in the background',
  description: [
    'Returns when it answers. Fine when it is running already, but not with other data.',
  ],
  operands: [],
  options: startOptions,
  examples: [{ line: 'stream daemon start' }, { line: 'stream daemon start --data /srv/stream' }],
  exits: [
    [8, "running already with other data, the data is in use, or its node id is another daemon's"],
  ],
}

export async function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const { flags } = args
  if (args.operands.length > 0) throw new UsageError(`unexpected argument ${args.operands[0]}`)
  if (flags.has('ephemeral')) return startEphemeral(deps, args)
  // -X is for the daemon here. One that has another socket is another daemon.
  const socket = flags.all('listen').find((address) => address.startsWith('ipc://'))
  const asked = flags.without('option')
  const running = await askStatus(deps, {
    ...args,
    flags: socket === undefined ? asked : asked.without('context').with('broker', socket),
  })
  const data = flags.text('data')
  if (running !== undefined) {
    const isOther = data !== undefined && running.dataDirectory !== absolutePath(deps.host, data)
    if (!isOther) return 0
    throw new StreamError('CONFLICT', `running already with the data in ${running.dataDirectory}`, {
      hint: 'stop it first: stream daemon stop',
    })
  }
  const address = flags.all('listen').find(isNative) ?? userDaemonAddress(deps.host)
  await launch(deps, flags, address)
  return 0
}

async function startEphemeral(deps: CommandDeps, { flags }: CommandArgs): Promise<number> {
  const given = flags.all('listen').find(isNative)
  const name = Buffer.from(deps.random.bytes(6)).toString('hex')
  const address = given ?? `ipc://${deps.host.temporaryDirectory}/stream-${name}.sock`
  await launch(deps, given === undefined ? flags.with('listen', address) : flags, address)
  await printText(deps.stdio.output, `${address}\n`)
  return 0
}

async function launch(deps: CommandDeps, flags: Flags, address: string): Promise<void> {
  deps.host.makeDirectory(runtimeDirectory(deps.host), 0o700)
  await deps.launcher.launch({
    address,
    arguments: daemonArguments(deps, flags),
    logPath: daemonLogPath(deps.host),
    readyMsMax: START_MS_MAX,
  })
}

function isNative(address: string): boolean {
  return address.startsWith('ipc://') || address.startsWith('tcp://')
}
