/** `kafka://` over TCP, in clear text or over TLS: connections (src/io/tcp-link.ts) and listeners. */
import type { Server, Socket } from 'node:net'
import { StreamError } from '../base/errors.ts'
import {
  ANSWER_BYTES_MAX,
  type Link,
  type LinkEvents,
  type Listener,
  type ListenOptions,
  type TlsClient,
} from '../ports/net.ts'
import { type Address, formatAddress } from './address.ts'
import { netModule } from './lazy-modules.ts'
import { systemCode } from './system-errors.ts'
import { type LinkEnd, TcpLink } from './tcp-link.ts'
import type { RealTlsClient } from './tls-client.ts'
import type { TlsServerKeys } from './tls-server.ts'

export type TcpAddress = Extract<Address, { host: string }>

const CONNECT_TIMEOUT_MS = 10_000
const BACKLOG = 511

export class TcpNet {
  private readonly serverKeys: TlsServerKeys | undefined

  /** @param serverKeys  with them every listener speaks only TLS */
  constructor(serverKeys?: TlsServerKeys) {
    this.serverKeys = serverKeys
  }

  connect(address: TcpAddress, events: LinkEvents, tls?: TlsClient): Link {
    const { host, port } = address
    const peer = formatAddress(address)
    // This transport's own: nobody else makes any.
    const ready = tls as RealTlsClient | undefined
    const socket = ready?.connect(address) ?? netModule().connect({ host, port })
    const link = new TcpLink(socket, {
      peer,
      messageBytesMax: ANSWER_BYTES_MAX,
      state: 'connecting',
      diagnose: (seen) =>
        ready?.whyEnded(address, peer, seen.error) ?? whyEnded(address, peer, seen),
    })
    socket.setTimeout(CONNECT_TIMEOUT_MS, () => socket.destroy(timedOut(peer)))
    socket.once(ready !== undefined ? 'secureConnect' : 'connect', () => {
      socket.setTimeout(0)
      link.opened()
    })
    link.start(events)
    return link
  }

  async listen(
    address: TcpAddress,
    options: ListenOptions,
    onLink: (link: Link) => LinkEvents,
  ): Promise<Listener> {
    const listener = new TcpListener(options, onLink, this.serverKeys)
    await listener.bind(address)
    return listener
  }
}

async function whyEnded(
  address: TcpAddress,
  peer: string,
  { error, isTlsAlert }: LinkEnd,
): Promise<StreamError | undefined> {
  const code = systemCode(error)
  const hungUp = error === undefined || code === 'ECONNRESET' || code === 'EPIPE'
  if (!isTlsAlert && !hungUp) return undefined
  const { onlyTlsFailure, speaksTls } = await import('./tls-client.ts')
  return isTlsAlert || (await speaksTls(address)) ? onlyTlsFailure(peer) : undefined
}

class TcpListener implements Listener {
  private readonly server: Server
  private readonly options: ListenOptions
  private readonly links = new Set<TcpLink>()
  private isPaused = false
  private boundAddress = ''
  private idleTimer: NodeJS.Timeout | undefined
  private closing: Promise<void> | undefined

  constructor(
    options: ListenOptions,
    onLink: (link: Link) => LinkEvents,
    serverKeys: TlsServerKeys | undefined,
  ) {
    this.options = options
    const accept = (socket: Socket): void => this.accept(socket, onLink)
    this.server =
      serverKeys === undefined
        ? netModule().createServer(accept)
        : serverKeys.createServer(accept, {
            newcomersMax: options.newcomersMax ?? options.linksMax,
            mayAccept: () => this.mayAccept,
            onRefused: (refusal) => options.onRefused?.(refusal),
          })
  }

  private get mayAccept(): boolean {
    return this.links.size < this.options.linksMax && this.closing === undefined
  }

  get address(): string {
    return this.boundAddress
  }

  async bind(address: TcpAddress): Promise<void> {
    const host = address.host === '*' ? '::' : address.host
    await new Promise<void>((resolve, reject) => {
      this.server.once('error', (error) => reject(bindError(error, address)))
      this.server.listen({ host, port: address.port, backlog: BACKLOG }, resolve)
    })
    this.server.removeAllListeners('error')
    // A failed accept (no descriptors left) drops that connection only; the ones that stand go on.
    this.server.on('error', () => undefined)
    const bound = this.server.address()
    const port = typeof bound === 'object' && bound !== null ? bound.port : address.port
    this.boundAddress = formatAddress({ ...address, port })
    const idleMsMax = this.options.idleMsMax
    if (idleMsMax !== undefined) {
      this.idleTimer = setInterval(() => this.closeIdle(idleMsMax), Math.max(10, idleMsMax / 4))
      this.idleTimer.unref()
    }
  }

  pause(): void {
    this.isPaused = true
    for (const link of this.links) link.pause()
  }

  resume(): void {
    this.isPaused = false
    for (const link of this.links) link.resume()
  }

  close(graceMs: number): Promise<void> {
    this.closing ??= this.shut(graceMs)
    return this.closing
  }

  private accept(socket: Socket, onLink: (link: Link) => LinkEvents): void {
    if (!this.mayAccept) {
      socket.destroy()
      return
    }
    const peer = formatAddress({
      kind: 'kafka',
      host: socket.remoteAddress ?? 'unknown',
      port: socket.remotePort ?? 0,
    })
    const { messageBytesMax } = this.options
    const link = new TcpLink(socket, { peer, messageBytesMax, state: 'open' })
    this.links.add(link)
    socket.once('close', () => this.links.delete(link))
    link.start(onLink(link))
    if (this.isPaused) link.pause()
  }

  private closeIdle(idleMsMax: number): void {
    const oldest = performance.now() - idleMsMax
    for (const link of this.links) if (link.lastHeardMs < oldest) link.close()
  }

  private async shut(graceMs: number): Promise<void> {
    clearInterval(this.idleTimer)
    const stopped = new Promise<void>((resolve) => this.server.close(() => resolve()))
    for (const link of this.links) link.close()
    const timer = setTimeout(() => {
      for (const link of this.links) link.destroy()
    }, graceMs)
    // The server reports its end only after the last connection's.
    await stopped
    clearTimeout(timer)
  }
}

function bindError(error: unknown, address: TcpAddress): StreamError {
  const text = formatAddress(address)
  const details = { target: text, cause: error }
  switch (systemCode(error)) {
    case 'EADDRINUSE':
      return new StreamError('ADDRESS_IN_USE', `${text} is in use`, {
        ...details,
        hint: 'choose another port, or stop what listens there',
      })
    case 'EACCES':
      return new StreamError('PERMISSION_DENIED', `not allowed to listen at ${text}`, details)
    default:
      return new StreamError('ADDRESS_INVALID', `cannot listen at ${text}`, details)
  }
}

function timedOut(peer: string): StreamError {
  return new StreamError('UNREACHABLE', `no answer from ${peer} in ${CONNECT_TIMEOUT_MS} ms`, {
    target: peer,
  })
}
