/** Which broker a script means, from what it says and where it runs. */
import { StreamError } from '../base/errors.ts'
import type { Host } from '../ports/host.ts'

const HOST_SOCKET = '/run/stream/daemon.sock'
const GROUP_AND_OTHERS = 0o077

export interface BrokerChoice {
  /** Tried in this order; each is one or more addresses of one broker. */
  readonly candidates: readonly (readonly string[])[]
  /** The user's own socket, where no broker was named. */
  readonly own: string | undefined
}

/** @throws StreamError ADDRESS_INVALID; PERMISSION_DENIED for a directory in /tmp that is not the user's alone */
export function chooseBroker(host: Host, named: string | undefined): BrokerChoice {
  const address = named ?? (host.environment['STREAM_BROKER'] || undefined)
  if (address !== undefined) return { candidates: [splitAddress(address)], own: undefined }
  const directory = runtimeDirectory(host)
  const stat = host.stat(directory)
  const isShared = directory.startsWith('/tmp/') && stat !== undefined
  if (isShared && (stat.userId !== host.userId || (stat.mode & GROUP_AND_OTHERS) !== 0)) {
    throw new StreamError(
      'PERMISSION_DENIED',
      `${directory}: not a directory of yours with mode 0700`,
      { target: directory, hint: `chmod 700 ${directory}, or set XDG_RUNTIME_DIR` },
    )
  }
  const own = `ipc://${directory}/daemon.sock`
  const candidates = [`${directory}/daemon.sock`, HOST_SOCKET]
    .filter((path) => host.stat(path)?.kind === 'socket')
    .map((path) => [`ipc://${path}`])
  return { candidates, own }
}

export function runtimeDirectory(host: Host): string {
  const directory = host.environment['XDG_RUNTIME_DIR']
  return directory ? `${directory}/stream` : `/tmp/stream-${host.userId}`
}

/** Where a daemon that is started puts its data and its log: as the commands do it. */
export function dataDirectory(host: Host): string {
  const { environment } = host
  if (environment['STREAM_DATA']) return environment['STREAM_DATA']
  if (environment['XDG_DATA_HOME']) return `${environment['XDG_DATA_HOME']}/stream`
  return host.userId === 0 ? '/var/lib/stream' : `${host.homeDirectory}/.local/share/stream`
}

export function daemonLogPath(host: Host): string {
  const base = host.environment['XDG_STATE_HOME'] || `${host.homeDirectory}/.local/state`
  return `${base}/stream/daemon.log`
}

function splitAddress(address: string): string[] {
  const [, scheme, rest = ''] = /^(ipc|tcp|kafka):\/\/(.+)$/.exec(address) ?? []
  if (scheme === undefined || rest.includes('@')) {
    throw new StreamError('ADDRESS_INVALID', 'not an address of a broker', {
      hint: 'ipc://PATH, tcp://HOST:PORT or kafka://HOST[:PORT]; credentials do not belong in it',
    })
  }
  if (scheme === 'ipc') return [address]
  return rest.split(',').map((place) => {
    const hasPort = /:\d+$/.test(place)
    if (place === '' || (!hasPort && scheme === 'tcp')) {
      throw new StreamError('ADDRESS_INVALID', `${scheme}://${place}: a port is missing`)
    }
    return `${scheme}://${hasPort ? place : `${place}:9092`}`
  })
}
