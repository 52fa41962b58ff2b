/**
 * Kafka's framing over TCP (kafka-protocol.md, section 1.3): int32 size, then the message.
 *
 * Memory follows the bytes that have arrived, never what a header claims: the chunks of an unfinished message are kept as
 * they came, and put together once, when the last one is there. A message inside one chunk is not copied at all.
 */
import type { Server, Socket } from 'node:net'
import { StreamError } from '../base/errors.ts'
import type { Link, LinkEvents, Listener, ListenOptions } from '../ports/net.ts'
import { type Address, formatAddress } from './address.ts'
import { FrameReader } from './frame-reader.ts'
import { netModule } from './lazy-modules.ts'
import { framesBytes, nextLinkId, QueueMeter } from './link-support.ts'
import { systemCode } from './system-errors.ts'

export type TcpAddress = Extract<Address, { host: string }>

/** How long a closed link may go on sending what was queued. */
const CLOSE_LINGER_MS = 2000
const CONNECT_TIMEOUT_MS = 10_000
const KEEP_ALIVE_MS = 30_000
/** What a client accepts of a broker: Kafka's own default limit of a request, doubled. */
const CLIENT_MESSAGE_BYTES_MAX = 200 * 1024 * 1024
const BACKLOG = 511

export class TcpNet {
  connect(address: TcpAddress, events: LinkEvents): Link {
    const socket = netModule().connect({ host: address.host, port: address.port })
    const link = new TcpLink(socket, formatAddress(address), CLIENT_MESSAGE_BYTES_MAX, 'connecting')
    socket.setTimeout(CONNECT_TIMEOUT_MS, () => socket.destroy(timedOut(link.peer)))
    socket.once('connect', () => {
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
    const listener = new TcpListener(options, onLink)
    await listener.bind(address)
    return listener
  }
}

class TcpListener implements Listener {
  private readonly server: Server
  private readonly options: ListenOptions
  private readonly links = new Set<TcpLink>()
  private isPaused = false
  private boundAddress = ''
  private idleTimer: NodeJS.Timeout | undefined
  private closing: Promise<void> | undefined

  constructor(options: ListenOptions, onLink: (link: Link) => LinkEvents) {
    this.options = options
    this.server = netModule().createServer((socket) => this.accept(socket, onLink))
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
    if (this.links.size >= this.options.linksMax || this.closing !== undefined) {
      socket.destroy()
      return
    }
    const peer = formatAddress({
      kind: 'kafka',
      host: socket.remoteAddress ?? 'unknown',
      port: socket.remotePort ?? 0,
    })
    const link = new TcpLink(socket, peer, this.options.messageBytesMax, 'open')
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

class TcpLink implements Link {
  readonly id = nextLinkId()
  readonly peer: string
  readonly closable = true
  lastHeardMs = performance.now()
  private readonly socket: Socket
  private readonly reader: FrameReader
  private readonly meter = new QueueMeter()
  private state: 'connecting' | 'open' | 'closing' | 'closed'
  private reason: Error | undefined
  private events: LinkEvents | undefined
  private closeTimer: NodeJS.Timeout | undefined
  private isPaused = false

  constructor(socket: Socket, peer: string, messageBytesMax: number, state: 'connecting' | 'open') {
    this.socket = socket
    this.peer = peer
    this.state = state
    this.reader = new FrameReader(messageBytesMax)
    socket.setNoDelay(true)
    socket.setKeepAlive(true, KEEP_ALIVE_MS)
  }

  get queuedBytes(): number {
    return this.socket.writableLength
  }

  start(events: LinkEvents): void {
    this.events = events
    this.socket.on('data', (chunk: Buffer) => this.receive(chunk))
    this.socket.on('drain', () => this.settle())
    this.socket.on('error', (error) => {
      this.reason ??= this.linkError(error)
    })
    this.socket.once('end', () => {
      this.reason ??= lost(this.peer, undefined)
      this.close()
    })
    this.socket.once('close', () => this.ended())
  }

  opened(): void {
    if (this.state !== 'connecting') return
    this.state = 'open'
    this.events?.onOpen?.()
  }

  send(frames: readonly Uint8Array[]): void {
    if (this.state === 'closing' || this.state === 'closed') return
    const bytes = framesBytes(frames)
    const size = new Uint8Array(4)
    new DataView(size.buffer).setInt32(0, bytes)
    this.socket.cork()
    this.socket.write(size)
    for (const frame of frames) this.socket.write(frame, this.onWritten)
    this.socket.uncork()
    this.meter.add(bytes + size.length)
  }

  close(): void {
    if (this.state === 'closing' || this.state === 'closed') return
    if (this.state === 'connecting') {
      this.state = 'closing'
      this.socket.destroy()
      return
    }
    this.state = 'closing'
    this.socket.end()
    // Reading goes on, unheard, so that the peer's bytes in flight do not turn our end into a reset that eats answers.
    this.socket.resume()
    this.closeTimer = setTimeout(() => this.socket.destroy(), CLOSE_LINGER_MS)
    this.socket.once('finish', () => this.socket.destroySoon())
  }

  destroy(): void {
    this.socket.destroy()
  }

  pause(): void {
    this.isPaused = true
    this.socket.pause()
  }

  resume(): void {
    this.isPaused = false
    this.socket.resume()
    // What was read before the pause; never from inside this call.
    setImmediate(() => this.deliver())
  }

  private receive(chunk: Buffer): void {
    if (this.state !== 'open') return
    this.lastHeardMs = performance.now()
    this.reader.push(chunk)
    this.deliver()
  }

  private deliver(): void {
    while (this.state === 'open' && !this.isPaused) {
      let message: Uint8Array | undefined
      try {
        message = this.reader.next()
      } catch (error) {
        this.reason = error as Error
        this.state = 'closing'
        this.socket.destroy()
        return
      }
      if (message === undefined) return
      this.events?.onMessage([message])
    }
  }

  private readonly onWritten = (): void => this.settle()

  private settle(): void {
    if (this.meter.settle(this.socket.writableLength) && this.state === 'open') {
      this.events?.onDrain?.()
    }
  }

  private ended(): void {
    clearTimeout(this.closeTimer)
    const wasOpen = this.state === 'open'
    this.state = 'closed'
    this.events?.onClose(this.reason ?? (wasOpen ? lost(this.peer, undefined) : undefined))
  }

  private linkError(error: Error): StreamError {
    if (error instanceof StreamError) return error
    if (this.state !== 'connecting') return lost(this.peer, error)
    return new StreamError('UNREACHABLE', `nothing answers at ${this.peer}`, {
      target: this.peer,
      cause: error,
    })
  }
}

function lost(peer: string, cause: unknown): StreamError {
  return new StreamError('CONNECTION_LOST', `the connection to ${peer} was lost`, {
    target: peer,
    cause,
  })
}

function timedOut(peer: string): StreamError {
  return new StreamError('UNREACHABLE', `no answer from ${peer} in ${CONNECT_TIMEOUT_MS} ms`, {
    target: peer,
  })
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
