/** The kinds of address the Net port takes, taken apart. */
import { StreamError } from '../base/errors.ts'

export type Address =
  | { readonly kind: 'ipc'; readonly path: string }
  | { readonly kind: 'line'; readonly path: string }
  | { readonly kind: 'tcp' | 'kafka'; readonly host: string; readonly port: number }

/** Kafka's own default port; the native door has none. */
const KAFKA_PORT = 9092

/** sun_path of sockaddr_un holds 108 bytes with its final NUL on Linux, 104 on macOS. */
const IPC_PATH_BYTES_MAX = 103

/** @throws StreamError ADDRESS_INVALID */
export function parseAddress(address: string): Address {
  const match = /^(ipc|line|tcp|kafka):\/\/(.*)$/s.exec(address)
  if (match === null) throw invalid(address, 'it must begin with ipc://, tcp:// or kafka://')
  const kind = match[1] as Address['kind']
  const rest = match[2] as string
  if (kind === 'ipc' || kind === 'line') return { kind, path: parsePath(address, rest) }
  const place = /^(\[[0-9a-fA-F:.%]+\]|[^:/[\]\s]+)(?::(\d{1,5}|\*))?$/.exec(rest)
  if (place === null) throw invalid(address, `it must look like ${kind}://HOST:PORT`)
  const host = (place[1] as string).replace(/^\[(.*)\]$/, '$1')
  const portText = place[2] ?? (kind === 'kafka' ? String(KAFKA_PORT) : undefined)
  if (portText === undefined) throw invalid(address, 'a tcp:// address needs a port')
  const port = portText === '*' ? 0 : Number(portText)
  if (port > 65535) throw invalid(address, 'a port is at most 65535')
  return { kind, host, port }
}

/** The inverse of parseAddress. */
export function formatAddress(address: Address): string {
  if ('path' in address) return `${address.kind}://${address.path}`
  const host = address.host.includes(':') ? `[${address.host}]` : address.host
  return `${address.kind}://${host}:${address.port}`
}

function parsePath(address: string, path: string): string {
  if (path === '') throw invalid(address, 'it names no path')
  if (path.includes('\0')) throw invalid(address, 'a path holds no NUL')
  if (Buffer.byteLength(path) > IPC_PATH_BYTES_MAX) {
    throw invalid(address, `the path of a socket is at most ${IPC_PATH_BYTES_MAX} bytes long`)
  }
  return path
}

function invalid(address: string, why: string): StreamError {
  return new StreamError('ADDRESS_INVALID', `${address} is no address: ${why}`, { target: address })
}
