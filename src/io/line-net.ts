/**
 * Plain bytes over a UNIX socket, for the line protocol (daemon/doors/line-session.ts): a listener whose links hand on what
 * arrives in the chunks the kernel gives.
 *
 * Invariants:
 * - The socket is its owner's alone (mode 0600); a living daemon's is never taken away.
 * - A client that has sent its end may still read: its link stays until the session closes it.
 * - A paused link reads nothing: what its client sends waits in the kernel, at the client's cost.
 */
import { chmodSync, mkdirSync, unlinkSync } from 'node:fs'
import type { Server, Socket } from 'node:net'
import { dirname } from 'node:path'
import { StreamError } from '../base/errors.ts'
import type { Link, LinkEvents, Listener, ListenOptions } from '../ports/net.ts'
import { netModule } from './lazy-modules.ts'
import { framesBytes, nextLinkId, QueueMeter } from './link-support.ts'
import { systemCode } from './system-errors.ts'

const SOCKET_MODE = 0o600
const BACKLOG = 511
/** How long a closed link may go on sending what was queued. */
const CLOSE_LINGER_MS = 2000

/** @throws StreamError ADDRESS_IN_USE, ADDRESS_INVALID, PERMISSION_DENIED */
export async function listenForLines(
  path: string,
  options: ListenOptions,
  onLink: (link: Link) => LinkEvents,
): Promise<Listener> {
  const listener = new LineListener(path, options, onLink)
  await listener.bind()
  return listener
}

class LineListener implements Listener {
  readonly address: string
  private readonly path: string
  private readonly options: ListenOptions
  private readonly server: Server
  private readonly links = new Set<LineLink>()
  private isPaused = false
  private closing: Promise<void> | undefined

  constructor(path: string, options: ListenOptions, onLink: (link: Link) => LinkEvents) {
    this.path = path
    this.address = `line://${path}`
    this.options = options
    this.server = netModule().createServer({ allowHalfOpen: true }, (socket) =>
      this.accept(socket, onLink),
    )
  }

  async bind(): Promise<void> {
    try {
      mkdirSync(dirname(this.path), { recursive: true, mode: 0o700 })
    } catch (error) {
      throw this.bindError(error)
    }
    try {
      await this.listen()
    } catch (error) {
      if (systemCode(error) !== 'EADDRINUSE' || (await isAnswering(this.path))) {
        throw this.bindError(error)
      }
      // The socket of a daemon that was killed.
      unlinkSync(this.path)
      await this.listen().catch((again: unknown) => {
        throw this.bindError(again)
      })
    }
    chmodSync(this.path, SOCKET_MODE)
    // A failed accept (no descriptors left) drops that connection only; the ones that stand go on.
    this.server.on('error', () => undefined)
  }

  pause(): void {
    this.isPaused = true
    for (const link of this.links) link.hold('listener', true)
  }

  resume(): void {
    this.isPaused = false
    for (const link of this.links) link.hold('listener', false)
  }

  close(graceMs: number): Promise<void> {
    this.closing ??= this.shut(graceMs)
    return this.closing
  }

  private listen(): Promise<void> {
    return new Promise((resolve, reject) => {
      const failed = (error: Error): void => reject(error)
      this.server.once('error', failed)
      this.server.listen({ path: this.path, backlog: BACKLOG }, () => {
        this.server.removeListener('error', failed)
        resolve()
      })
    })
  }

  private accept(socket: Socket, onLink: (link: Link) => LinkEvents): void {
    if (this.links.size >= this.options.linksMax || this.closing !== undefined) {
      socket.destroy()
      return
    }
    const link = new LineLink(socket, this.address)
    this.links.add(link)
    socket.once('close', () => this.links.delete(link))
    link.start(onLink(link))
    if (this.isPaused) link.hold('listener', true)
  }

  private async shut(graceMs: number): Promise<void> {
    const stopped = new Promise<void>((resolve) => this.server.close(() => resolve()))
    for (const link of this.links) link.close()
    const timer = setTimeout(() => {
      for (const link of this.links) link.destroy()
    }, graceMs)
    await stopped
    clearTimeout(timer)
  }

  private bindError(error: unknown): StreamError {
    const details = { target: this.address, cause: error }
    switch (systemCode(error)) {
      case 'EADDRINUSE':
        return new StreamError('ADDRESS_IN_USE', `${this.address} is in use`, {
          ...details,
          hint: 'another daemon listens there: choose another address, or stop it',
        })
      case 'EACCES':
      case 'EPERM':
      case 'EROFS': {
        const message = `not allowed to listen at ${this.address}`
        return new StreamError('PERMISSION_DENIED', message, details)
      }
      default:
        return new StreamError('ADDRESS_INVALID', `cannot listen at ${this.address}`, details)
    }
  }
}

function isAnswering(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = netModule().connect(path)
    probe.once('connect', () => {
      probe.destroy()
      resolve(true)
    })
    probe.once('error', () => resolve(false))
  })
}

type Reason = 'listener' | 'session'

class LineLink implements Link {
  readonly id = nextLinkId()
  readonly peer: string
  readonly closable = true
  private readonly socket: Socket
  private readonly meter = new QueueMeter()
  private readonly holds = new Set<Reason>()
  private events: LinkEvents | undefined
  private isOpen = true
  private reason: Error | undefined
  private closeTimer: NodeJS.Timeout | undefined

  constructor(socket: Socket, peer: string) {
    this.socket = socket
    this.peer = peer
  }

  get queuedBytes(): number {
    return this.socket.writableLength
  }

  start(events: LinkEvents): void {
    this.events = events
    this.socket.on('data', (chunk: Buffer) => {
      if (this.isOpen) events.onMessage([chunk])
    })
    this.socket.on('drain', () => this.settle())
    this.socket.on('error', (error) => {
      this.reason ??= new StreamError('CONNECTION_LOST', 'a client has gone', { cause: error })
    })
    this.socket.once('end', () => {
      if (this.isOpen) events.onEnd?.()
    })
    this.socket.once('close', () => {
      clearTimeout(this.closeTimer)
      this.isOpen = false
      events.onClose(this.reason)
    })
  }

  send(frames: readonly Uint8Array[]): void {
    if (!this.isOpen) return
    this.socket.cork()
    for (const frame of frames) this.socket.write(frame, this.onWritten)
    this.socket.uncork()
    this.meter.add(framesBytes(frames))
  }

  close(): void {
    if (!this.isOpen) return
    this.isOpen = false
    this.socket.end()
    // Reading goes on, unheard: bytes in flight must not turn our end into a reset that eats answers.
    this.holds.clear()
    this.socket.resume()
    this.closeTimer = setTimeout(() => this.socket.destroy(), CLOSE_LINGER_MS)
    this.socket.once('finish', () => this.socket.destroySoon())
  }

  destroy(): void {
    this.socket.destroy()
  }

  pause(): void {
    this.hold('session', true)
  }

  resume(): void {
    this.hold('session', false)
  }

  hold(reason: Reason, isHeld: boolean): void {
    if (!this.isOpen) return
    if (isHeld) this.holds.add(reason)
    else this.holds.delete(reason)
    if (this.holds.size > 0) this.socket.pause()
    else this.socket.resume()
  }

  private readonly onWritten = (): void => this.settle()

  private settle(): void {
    if (this.meter.settle(this.socket.writableLength) && this.isOpen) this.events?.onDrain?.()
  }
}
