/**
 * One TCP connection as a link, in clear text or over TLS: Kafka's framing (kafka-protocol.md, section 1.3), int32 size, then
 * the message.
 *
 * Memory follows the bytes that have arrived, never what a header claims: the chunks of an unfinished message are kept as
 * they came, and put together once, when the last one is there. A message inside one chunk is not copied at all.
 */
import type { Socket } from 'node:net'
import { StreamError } from '../base/errors.ts'
import type { Link, LinkEvents } from '../ports/net.ts'
import { FrameReader } from './frame-reader.ts'
import { framesBytes, nextLinkId, QueueMeter } from './link-support.ts'

/** How long a closed link may go on sending what was queued. */
const CLOSE_LINGER_MS = 2000
const KEEP_ALIVE_MS = 30_000
const TLS_ALERT = 0x15
const TLS_MAJOR = 3

export interface TcpLinkOptions {
  readonly peer: string
  readonly messageBytesMax: number
  readonly state: 'connecting' | 'open'
  /** Looks for the cause of a link that has ended before anything was heard; undefined: it is what it seems. */
  readonly diagnose?: (seen: LinkEnd) => Promise<StreamError | undefined>
}

/** How a link ended on which no byte was heard, or none that could be read. */
export interface LinkEnd {
  readonly error: Error | undefined
  readonly isTlsAlert: boolean
}

export class TcpLink implements Link {
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
  private readonly diagnose: TcpLinkOptions['diagnose']
  private systemError: Error | undefined
  private hasHeard = false
  private isTlsAlert = false

  constructor(socket: Socket, options: TcpLinkOptions) {
    this.socket = socket
    this.peer = options.peer
    this.state = options.state
    this.diagnose = options.diagnose
    this.reader = new FrameReader(options.messageBytesMax)
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
      this.systemError ??= error
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

  limitMessages(bytesMax: number): void {
    this.reader.messageBytesMax = bytesMax
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
    if (!this.hasHeard) {
      this.hasHeard = true
      this.isTlsAlert = chunk[0] === TLS_ALERT && chunk[1] === TLS_MAJOR
    }
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
    const reason = this.reason ?? (wasOpen ? lost(this.peer, undefined) : undefined)
    const isOdd = reason !== undefined && (!this.hasHeard || this.isTlsAlert)
    if (this.diagnose === undefined || !isOdd) {
      this.events?.onClose(reason)
      return
    }
    const { systemError: error, isTlsAlert } = this
    void this.diagnose({ error, isTlsAlert }).then((found) => this.events?.onClose(found ?? reason))
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
