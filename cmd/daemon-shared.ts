/** Which daemon the verbs of `stream daemon` mean, and how to reach it without starting one. */

import { isStreamError, StreamError, UsageError } from '../src/base/errors.ts'
import { linkSecurity } from '../src/client/link-security.ts'
import { STARTING_NAME } from '../src/ports/daemon-launcher.ts'
import type { Host } from '../src/ports/host.ts'
import type { Response } from '../src/protocol/api-table.ts'
import type { AdminClient, ClusterClient } from './clients.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import type { Flags } from './flags.ts'
import type { OptionSpec } from './option-table.ts'
import { absolutePath, dataDirectory, readSettings, userDaemonAddress } from './settings.ts'

// biome-ignore format: one row, one line
export const startOptions: readonly OptionSpec[] = [
  { long: 'data', argument: 'DIR', help: 'data directory; default $XDG_DATA_HOME/stream, of root /var/lib/stream' },
  { long: 'listen', argument: 'ADDRESS', isRepeatable: true, help: "where to answer; default the user's socket" },
  { long: 'node-id', argument: 'N', help: 'number of this node' },
  { long: 'etcd', argument: 'URL,...', help: 'join a cluster that keeps its metadata in this etcd' },
  { long: 'cluster', argument: 'NAME', help: 'which cluster of that etcd; default `default`' },
  { long: 'advertise', argument: 'ADDRESS', isRepeatable: true, help: 'what others are told in the place of a --listen address' },
  { long: 'ephemeral', help: 'own temporary data and socket, removed at the end; prints its address' },
  { long: 'restored', help: 'the data is an old copy, or in a cluster etcd is one: nothing in it counts as acknowledged' },
]

// biome-ignore format: one row, one line
/** For a daemon that cannot be asked where its data are. */
export const dataOption: OptionSpec = { long: 'data', argument: 'DIR', help: 'its data directory, where that is not the default: for a daemon that does not answer yet' }

export interface DaemonLink {
  readonly cluster: ClusterClient
  readonly admin: AdminClient
  readonly address: string
}

/** @returns undefined if none is running. @throws StreamError for a daemon that answers wrongly, UNSUPPORTED_BY_BROKER, NOT_ALLOWED … */
export async function reachDaemon(
  deps: CommandDeps,
  args: CommandArgs,
): Promise<DaemonLink | undefined> {
  const { broker: choice, client: settings, secrets } = readSettings(args.flags, deps.host)
  if (choice.kind === 'named') refuseKafka(deps.host, choice.addresses)
  const addresses =
    choice.kind === 'named' ? choice.addresses : [choice.userAddress, choice.hostAddress]
  const connectTimeoutMs =
    args.flags.durationMs('connect-timeout') ?? settings.number('connect.timeout.ms')
  for (const address of addresses) {
    const path = address.startsWith('ipc://') ? address.slice('ipc://'.length) : undefined
    if (path !== undefined && deps.host.stat(path)?.kind !== 'socket') continue
    const cluster = await deps.clients.cluster(deps.console.log, {
      addresses: [address],
      connectTimeoutMs,
      retryFirstContact: false,
      ...(await linkSecurity(deps, [address], settings, secrets)),
    })
    try {
      await cluster.connect()
      return { cluster, admin: await deps.clients.admin(cluster), address }
    } catch (error) {
      cluster.close()
      if (!isStreamError(error, 'UNREACHABLE')) throw error
    }
  }
  return undefined
}

function refuseKafka(host: Host, [address = '']: readonly string[]): void {
  if (!address.startsWith('kafka://')) return
  throw new StreamError(
    'UNSUPPORTED_BY_BROKER',
    `${address}: a daemon is asked about itself only at its native door (ipc:// or tcp://)`,
    { target: address, hint: `for your own: -b ${userDaemonAddress(host)}` },
  )
}

export type DaemonState = Response<'DaemonStatus'>

/** @returns undefined if none is running */
export async function askStatus(
  deps: CommandDeps,
  args: CommandArgs,
): Promise<DaemonState | undefined> {
  const link = await reachDaemon(deps, args)
  if (link === undefined) return undefined
  try {
    return await link.admin.daemonStatus()
  } finally {
    link.cluster.close()
  }
}

/** The daemon's own command line, after the flags of `start` and `run`. Paths are made absolute: it runs elsewhere. */
export function daemonArguments(deps: CommandDeps, flags: Flags): string[] {
  const { host } = deps
  const words: string[] = []
  const nodeId = flags.wholeNumber('node-id')
  if (nodeId !== undefined) words.push('--node-id', String(nodeId))
  if (flags.has('restored')) words.push('--restored')
  for (const name of ['etcd', 'cluster']) {
    const value = flags.text(name)
    if (value !== undefined) words.push(`--${name}`, value)
  }
  for (const address of flags.all('advertise')) words.push('--advertise', address)
  for (const setting of flags.all('option')) words.push('-X', absoluteSetting(host, setting))
  const isEphemeral = flags.has('ephemeral')
  const data = flags.text('data')
  if (isEphemeral) {
    if (data !== undefined) throw new UsageError('--ephemeral and --data cannot be used together')
    words.push('--ephemeral')
  } else {
    words.push('--data', absolutePath(host, data ?? dataDirectory(host)))
  }
  const listens = flags.all('listen')
  const addresses = listens.length > 0 || isEphemeral ? listens : [userDaemonAddress(host)]
  for (const address of addresses) words.push('--listen', absoluteAddress(host, address))
  return words
}

/** Keys that name a file end in `.file`. */
function absoluteSetting(host: Host, setting: string): string {
  const match = /^([^=]+\.file)=(.+)$/s.exec(setting)
  return match === null ? setting : `${match[1]}=${absolutePath(host, match[2] ?? '')}`
}

export function absoluteAddress(host: Host, address: string): string {
  const match = /^(ipc|line):\/\/(.+)$/.exec(address)
  return match === null ? address : `${match[1]}://${absolutePath(host, match[2] ?? '')}`
}

/** A daemon that does not answer yet. */
export interface StartingDaemon {
  readonly processId: number
  /** Of Host.processMark. */
  readonly mark: string
}

/** Of the user's own daemon, or of the data that --data names: whoever named a broker means that one. */
export function findStarting(
  { host }: CommandDeps,
  { flags }: CommandArgs,
): StartingDaemon | undefined {
  const data = flags.text('data')
  if (data === undefined && readSettings(flags, host).broker.kind === 'named') return undefined
  const directory = absolutePath(host, data ?? dataDirectory(host))
  const content = host.readFile(`${directory}/${STARTING_NAME}`)
  if (content === undefined) return undefined
  const mark = Buffer.from(content).toString('latin1').trimEnd()
  const processId = Number(mark.split('@')[0])
  if (!Number.isInteger(processId) || processId <= 1) return undefined
  return host.processMark(processId) === mark ? { processId, mark } : undefined
}

/** Where nothing has answered. */
export function notRunning(deps: CommandDeps, args: CommandArgs): StreamError {
  const starting = findStarting(deps, args)
  if (starting !== undefined) {
    const { processId } = starting
    return new StreamError(
      'UNREACHABLE',
      `the daemon (process ${processId}) is starting, and does not answer yet`,
      { hint: 'what it waits for: stream daemon logs -n 5; to end it: stream daemon stop' },
    )
  }
  return new StreamError('UNREACHABLE', 'no daemon is running', {
    hint: 'start one: stream daemon start',
  })
}
