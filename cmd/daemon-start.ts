/** `stream daemon start`: in the background; returns when it answers. */

import { StreamError, UsageError } from '../src/base/errors.ts'
import { sleep } from '../src/ports/time.ts'
import {
  absoluteAddress,
  askStatus,
  daemonArguments,
  findStarting,
  notRunning,
  startOptions,
} from './daemon-shared.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import type { Flags } from './flags.ts'
import type { CommandSpec } from './option-table.ts'
import { printText } from './row-output.ts'
import { absolutePath, daemonLogPath, runtimeDirectory, userDaemonAddress } from './settings.ts'

const START_MS_MAX = 30_000
const POLL_MS = 20

export const spec: CommandSpec = {
  name: 'daemon start',
  summary: 'Start the daemon in the background',
  description: [
    'Returns when it answers. Fine when it is running already, but not with other data. What a running daemon cannot take up any more, another --listen address and every -X, is said on standard error; to have it: stream daemon stop, then start.',
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
  const question = {
    ...args,
    flags: socket === undefined ? asked : asked.without('context').with('broker', socket),
  }
  const running = await askStatus(deps, question)
  const data = flags.text('data')
  if (running !== undefined) {
    const isOther = data !== undefined && running.dataDirectory !== absolutePath(deps.host, data)
    if (!isOther) {
      warnOfUnheeded(deps, flags, running.addresses)
      return 0
    }
    throw new StreamError('CONFLICT', `running already with the data in ${running.dataDirectory}`, {
      hint: 'stop it first: stream daemon stop',
    })
  }
  const address = flags.all('listen').find(isNative) ?? userDaemonAddress(deps.host)
  if (await awaitStarting(deps, question, address)) return 0
  await launch(deps, flags, address)
  return 0
}

/** Who asks for a door, or for logins at it, must not take a daemon without them for one that has them. */
function warnOfUnheeded(deps: CommandDeps, flags: Flags, addresses: readonly string[]): void {
  const listens = flags
    .all('listen')
    .filter((address) => !addresses.includes(absoluteAddress(deps.host, address)))
  const unheeded = [
    ...listens.map((address) => `--listen ${address}`),
    ...flags.all('option').map((setting) => `-X ${setting}`),
  ]
  if (unheeded.length === 0) return
  deps.console.warn(
    `running already, so this counts only from its next start: ${unheeded.join(', ')}; for that: stream daemon stop, then start`,
  )
}

/**
 * One that was started before and does not answer yet is waited for: a second one would wait beside it.
 * @returns false if there is none, or it has ended
 * @throws StreamError UNREACHABLE
 */
async function awaitStarting(
  deps: CommandDeps,
  args: CommandArgs,
  address: string,
): Promise<boolean> {
  const deadlineMs = deps.time.monotonicMs() + START_MS_MAX
  if (findStarting(deps, args) === undefined) return false
  while (findStarting(deps, args) !== undefined) {
    if (deps.time.monotonicMs() > deadlineMs) throw notRunning(deps, args)
    await sleep(deps.time, POLL_MS)
  }
  return deps.launcher.isAnswering(address)
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
