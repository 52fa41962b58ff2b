/**
 * The native half of the npm package zeromq, loaded without its JavaScript half: the classes below are all that the
 * transport needs, and loading the rest would cost a command several milliseconds at its start (performance.md, section 6).
 *
 * In a bundle the path of the addon is fixed when it is built (build/zeromq-plugin.mjs defines STREAM_ZEROMQ_ADDON, relative
 * to the bundle); from the sources, and where the package was installed elsewhere than it was built, the package's manifest
 * is searched.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { StreamError } from '../base/errors.ts'
import { requireFrom } from './lazy-modules.ts'
import { findZeromqAddon } from './zeromq-manifest.ts'

/** zmq.h: numbers of socket types and options. */
export const socketType = { dealer: 5, router: 6 } as const

export const socketOption = {
  linger: 17,
  reconnectIntervalMs: 18,
  sendHighWaterMark: 23,
  receiveHighWaterMark: 24,
  maxMessageBytes: 22,
  sendTimeoutMs: 28,
  lastEndpoint: 32,
  routerMandatory: 33,
  ipv6: 42,
  curveServer: 47,
  curvePublicKey: 48,
  curveSecretKey: 49,
  curveServerKey: 50,
  zapDomain: 55,
  handshakeTimeoutMs: 66,
  heartbeatIntervalMs: 75,
  heartbeatTimeToLiveMs: 76,
  heartbeatTimeoutMs: 77,
  connectTimeoutMs: 79,
  /** Without a ZAP handler nobody is let in. */
  zapEnforceDomain: 93,
  /** Draft of libzmq: 2 = an empty message when a peer has gone. */
  routerNotify: 97,
} as const

/** One event of a socket's monitor; `end` comes last, when the socket has let go of everything. */
export interface ZmqEvent {
  readonly type: string
  readonly address?: string
  /** Of a refused handshake: `code` is libzmq's name of a protocol error, `status` what ZAP said. */
  readonly error?: Error & { readonly code?: string; readonly status?: number }
}

export interface ZmqObserver {
  receive(): Promise<ZmqEvent | undefined>
  close(): void
}

export interface ZmqSocket {
  readonly closed: boolean
  readonly readable: boolean
  readonly writable: boolean
  readonly events: ZmqObserver
  bind(address: string): Promise<void>
  connect(address: string): void
  /** One at a time. Large parts are not copied: they must stay unchanged. */
  send(parts: readonly Uint8Array[]): Promise<void>
  /** One at a time. */
  receive(): Promise<Uint8Array[]>
  close(): void
  getStringOption(option: number): string | null
  setBoolOption(option: number, value: boolean): void
  setInt32Option(option: number, value: number): void
  setInt64Option(option: number, value: number): void
  setStringOption(option: number, value: string | null): void
}

/** Threads and `inproc://` names of its own; it lasts as long as its sockets. */
export type ZmqContext = object

export interface ZeromqAddon {
  readonly version: string
  readonly capability: { readonly draft?: boolean; readonly curve?: boolean }
  readonly Context: new (options: object) => ZmqContext
  readonly Socket: new (type: number, options?: { readonly context: ZmqContext }) => ZmqSocket
  curveKeyPair(): { publicKey: string; secretKey: string }
}

declare const STREAM_ZEROMQ_ADDON: string | undefined

let loaded: ZeromqAddon | undefined

/** @throws StreamError RUNTIME_MISSING when the package has no binary for this machine */
export function loadZeromq(): ZeromqAddon {
  if (loaded === undefined) {
    const path = addonPath()
    const holder: { exports: unknown } = { exports: {} }
    try {
      process.dlopen(holder, path)
    } catch (error) {
      throw new StreamError('RUNTIME_MISSING', `cannot load ${path}`, {
        target: path,
        hint: 'install again on this machine: ./install.sh',
        cause: error,
      })
    }
    loaded = holder.exports as ZeromqAddon
  }
  return loaded
}

function addonPath(): string {
  if (typeof STREAM_ZEROMQ_ADDON !== 'undefined') {
    const path = `${import.meta.dirname}/${STREAM_ZEROMQ_ADDON}`
    if (existsSync(path)) return path
  }
  const require = requireFrom(import.meta.url)
  return findZeromqAddon(join(require.resolve('zeromq'), '..', '..'))
}
