/**
 * First contact: from the settings to a connected cluster, and the start of the user's daemon where no broker was named
 * and none answers (commands.md, section 2).
 *
 * A daemon is never started for a broker that was named, nor with STREAM_AUTOSTART=0. However many commands start at
 * the same time, one daemon comes up (ports/daemon-launcher.ts).
 */

import { isStreamError, StreamError } from '../src/base/errors.ts'
import type { ClusterOptions, ClusterWarning } from '../src/client/cluster.ts'
import { linkSecurity } from '../src/client/link-security.ts'
import type { ConfigSet } from '../src/config/config-key.ts'
import type { ClientKeyName } from '../src/config/keys.ts'
import type { ClientPart, ClusterClient } from './clients.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import {
  absolutePath,
  daemonLogPath,
  dataDirectory,
  isOfThisHost,
  readSettings,
  runtimeDirectory,
  type Settings,
} from './settings.ts'

export interface Broker {
  readonly cluster: ClusterClient
  readonly settings: ConfigSet<ClientKeyName>
  /** `ipc`, `tcp` or `kafka`. */
  readonly scheme: string
  readonly address: string
  /** Nobody on the way can read what is sent: it stays on this host, or is encrypted. */
  readonly isPrivate: boolean
  /** One more cluster, with connections of its own. @throws as first contact */
  openAnother(): Promise<ClusterClient>
}

const START_MS_MAX = 10_000

export interface OpenOptions {
  /** false: of a command that never starts a daemon. */
  readonly mayStart?: boolean
  /** What is asked of the client first: loaded while the broker is greeted. */
  readonly needs?: ClientPart
}

/**
 * @throws StreamError UNREACHABLE (exit 4) and what first contact may end with; UsageError for settings
 */
export async function openBroker(
  deps: CommandDeps,
  args: CommandArgs,
  options: OpenOptions = {},
): Promise<Broker> {
  const inForce = readSettings(args.flags, deps.host)
  const { broker: choice, client: settings, mayStart } = inForce
  const connectTimeoutMs =
    args.flags.durationMs('connect-timeout') ?? settings.number('connect.timeout.ms')
  const open = (addresses: readonly string[], waits: boolean): Promise<Broker> =>
    connect(deps, inForce, addresses, { connectTimeoutMs, waits, needs: options.needs })
  if (choice.kind === 'named') {
    // A socket that is not there will not come by waiting: a script should know at once.
    return open(choice.addresses, !choice.addresses.every((address) => address.startsWith('ipc:')))
  }
  assertOwnDirectory(deps)
  for (const address of [choice.userAddress, choice.hostAddress]) {
    if (deps.host.stat(address.slice('ipc://'.length))?.kind !== 'socket') continue
    try {
      return await open([address], false)
    } catch (error) {
      if (!isStreamError(error, 'UNREACHABLE')) throw error
    }
  }
  if (!mayStart || options.mayStart === false) {
    throw new StreamError('UNREACHABLE', 'no daemon is running', {
      hint: 'start one: stream daemon start; or name a broker: --broker ADDRESS',
    })
  }
  await startDaemon(deps, choice.userAddress)
  return open([choice.userAddress], true)
}

async function connect(
  deps: CommandDeps,
  { client: settings, secrets }: Settings,
  addresses: readonly string[],
  options: {
    readonly connectTimeoutMs: number
    readonly waits: boolean
    readonly needs: ClientPart | undefined
  },
): Promise<Broker> {
  const address = addresses[0] ?? ''
  const protection = await linkSecurity(deps, addresses, settings, secrets)
  const open = (needs?: ClientPart): Promise<ClusterClient> =>
    openCluster(deps, needs, {
      addresses,
      clientId: settings.text('client.id') ?? 'stream',
      connectTimeoutMs: options.connectTimeoutMs,
      retryFirstContact: options.waits,
      requestTimeoutMs: settings.number('request.timeout.ms'),
      ...protection,
      backoff: {
        firstMs: settings.number('reconnect.backoff.ms'),
        maxMs: settings.number('reconnect.backoff.max.ms'),
      },
      onWarning: (warning) => warn(deps, warning),
    })
  const cluster = await open(options.needs)
  const scheme = address.slice(0, address.indexOf(':'))
  const isPrivate = protection.security !== undefined || addresses.every(isOfThisHost)
  return { cluster, settings, scheme, address, isPrivate, openAnother: () => open() }
}

async function openCluster(
  deps: CommandDeps,
  needs: ClientPart | undefined,
  options: ClusterOptions,
): Promise<ClusterClient> {
  const cluster = await deps.clients.cluster(deps.console.log, options)
  try {
    const connected = cluster.connect()
    if (needs !== undefined) deps.clients.preload(needs)
    await connected
  } catch (error) {
    cluster.close()
    throw error
  }
  return cluster
}

function warn(deps: CommandDeps, warning: ClusterWarning): void {
  deps.console.warn(wordsOf(warning))
}

function wordsOf(warning: ClusterWarning): string {
  switch (warning.kind) {
    case 'waiting':
      return `no contact with ${warning.address} yet; trying again`
    case 'lost':
      return `contact with ${warning.address} lost; waiting for it`
    case 'regained':
      return `contact with ${warning.address} regained`
    case 'notice': {
      const { message } = warning.error
      return message.startsWith(warning.address) ? message : `${warning.address}: ${message}`
    }
    case 'refused': {
      const seconds = Math.round(warning.forMs / 1000)
      return `${warning.error.message}; for ${seconds} s now, trying again until the delivery timeout`
    }
    case 'taken': {
      const { topic, partition } = warning.partition
      const seconds = Math.round(warning.forMs / 1000)
      return `${topic} partition ${partition}: records are taken again, after ${seconds} s`
    }
    case 'unanswered': {
      const seconds = Math.round(warning.forMs / 1000)
      return `${warning.error.message}; for ${seconds} s now, asking again`
    }
    case 'answered':
      return `${warning.target}: answered again, after ${Math.round(warning.forMs / 1000)} s`
  }
}

const GROUP_AND_OTHERS = 0o077

/** The directory of the user's socket in /tmp could be another's, who would then see every record. */
function assertOwnDirectory(deps: CommandDeps): void {
  const { host } = deps
  const directory = runtimeDirectory(host)
  const stat = host.stat(directory)
  if (stat === undefined || host.userId < 0) return
  if (stat.kind === 'directory' && stat.userId === host.userId) {
    if ((stat.mode & GROUP_AND_OTHERS) === 0 || !directory.startsWith('/tmp/')) return
  }
  throw new StreamError(
    'PERMISSION_DENIED',
    `${directory}: not a directory of yours with mode 0700`,
    {
      target: directory,
      hint: `chmod 700 ${directory}, or set XDG_RUNTIME_DIR`,
    },
  )
}

/** Brings the user's daemon up; fine when it is there already. */
export async function startDaemon(
  deps: CommandDeps,
  address: string,
  extraArguments: readonly string[] = [],
): Promise<void> {
  deps.host.makeDirectory(runtimeDirectory(deps.host), 0o700)
  await deps.launcher.launch({
    address,
    arguments: [
      '--data',
      absolutePath(deps.host, dataDirectory(deps.host)),
      '--listen',
      address,
      ...extraArguments,
    ],
    logPath: daemonLogPath(deps.host),
    readyMsMax: START_MS_MAX,
  })
}
