/**
 * The native door's transport (kafka-protocol.md, section 1.4): a DEALER per client link, one ROUTER per listener.
 *
 * One zeromq socket allows one send at a time, so each socket has one queue and one pump. A send that can be taken at
 * once is handed over inside Link.send; only what comes while another send is unfinished waits for its microtask.
 *
 * How a peer's end is learnt:
 * - Client: the socket's monitor. libzmq never gets to connect again, so `disconnect` (or `close`, for a connection that
 *   never came to be) is final; a link never goes silently on over a second connection.
 * - Server: libzmq's ROUTER_NOTIFY puts an empty message behind the last one of a peer that has gone. Its numbers are a draft
 *   of libzmq, which the package's binaries include; against one without it, a client says goodbye by an empty
 *   message of its own when it closes, and the mandatory flag makes an answer to a dead peer fail (EHOSTUNREACH), which
 *   ends its link. On tcp:// both sides send heartbeats, so that a peer that has lost its power or its cable ends too.
 *   Only a peer that dies while 64 messages of it wait unread can be missed by the notice; its link ends with the first answer.
 */
import { mkdirSync, rmSync } from 'node:fs'
import { dirname } from 'node:path'
import type { CurveClientKeys } from '../base/curve-keys.ts'
import { StreamError } from '../base/errors.ts'
import type { Link, LinkEvents, Listener, ListenOptions } from '../ports/net.ts'
import { type Address, formatAddress } from './address.ts'
import { netModule } from './lazy-modules.ts'
import { framesBytes, nextLinkId, QueueMeter } from './link-support.ts'
import { monotonicMs } from './monotonic.ts'
import { systemCode, uninterrupted } from './system-errors.ts'
import {
  loadZeromq,
  socketOption,
  socketType,
  type ZeromqAddon,
  type ZmqEvent,
  type ZmqSocket,
} from './zeromq-addon.ts'
import {
  askMechanism,
  CurveGate,
  type CurveServer,
  refusalOfEvent,
  refusalOfMechanism,
  refusalOfPeer,
  showKeys,
} from './zmq-curve.ts'

/** CURVE on tcp://; what is left out is clear text. */
export interface ZmqOptions {
  /** Of links that bring none of their own. */
  readonly client?: CurveClientKeys
  /** Of all listeners. */
  readonly server?: CurveServer
}

export type ZmqAddress = Exclude<Address, { kind: 'line' }>

/** How long a closed link may go on sending what was queued. */
const CLOSE_LINGER_MS = 2000
const CONNECT_TIMEOUT_MS = 10_000
const HEARTBEAT_INTERVAL_MS = 5000
const HEARTBEAT_TIMEOUT_MS = 15_000
/** Messages per peer that libzmq reads ahead while the loop is busy, and takes for sending. */
const RECEIVE_MESSAGES_MAX = 64
const SEND_MESSAGES_MAX = 1000
/** A peer whose send queue is full is tried again after so long: libzmq tells nobody when one peer of a ROUTER has room. */
const STALL_RETRY_MS = 5
const NOTIFY_DISCONNECT = 2
/**
 * Eleven days: the link is closed long before libzmq would connect again. Its own way of saying never (-1) takes the pipe away at
 * the disconnect, with all messages in it that have come but have not been read.
 */
const NEVER_MS = 1_000_000_000

export class ZmqNet {
  private readonly options: ZmqOptions

  constructor(options: ZmqOptions) {
    this.options = options
  }

  connect(address: ZmqAddress, events: LinkEvents, curve?: CurveClientKeys): Link {
    return new DealerLink(loadZeromq(), address, curve ?? this.options.client, events)
  }

  async listen(
    address: ZmqAddress,
    options: ListenOptions,
    onLink: (link: Link) => LinkEvents,
  ): Promise<Listener> {
    if (address.kind === 'ipc') await prepareSocketPath(address.path)
    const { server } = this.options
    const gate =
      address.kind === 'tcp' && server !== undefined
        ? await CurveGate.open(loadZeromq(), server, (refusal) => options.onRefused?.(refusal))
        : undefined
    const socket =
      gate === undefined
        ? new (loadZeromq().Socket)(socketType.router)
        : gate.newSocket(socketType.router)
    socket.setBoolOption(socketOption.routerMandatory, true)
    socket.setInt32Option(socketOption.routerNotify, NOTIFY_DISCONNECT)
    // Zero: a full peer is an error at once (EAGAIN) instead of a wait that would hold up the others.
    socket.setInt32Option(socketOption.sendTimeoutMs, 0)
    socket.setInt64Option(socketOption.maxMessageBytes, options.messageBytesMax)
    setCommonOptions(socket, address)
    try {
      await socket.bind(bindAddress(address))
    } catch (error) {
      socket.close()
      gate?.close()
      throw bindError(error, address)
    }
    return new RouterListener(socket, gate, boundAddress(socket, address), options, onLink)
  }
}

function setCommonOptions(socket: ZmqSocket, address: ZmqAddress): void {
  socket.setInt32Option(socketOption.linger, 0)
  socket.setInt32Option(socketOption.sendHighWaterMark, SEND_MESSAGES_MAX)
  socket.setInt32Option(socketOption.receiveHighWaterMark, RECEIVE_MESSAGES_MAX)
  if (address.kind === 'ipc') return
  socket.setBoolOption(socketOption.ipv6, true)
  socket.setInt32Option(socketOption.heartbeatIntervalMs, HEARTBEAT_INTERVAL_MS)
  socket.setInt32Option(socketOption.heartbeatTimeToLiveMs, HEARTBEAT_TIMEOUT_MS)
  socket.setInt32Option(socketOption.heartbeatTimeoutMs, HEARTBEAT_TIMEOUT_MS)
}

/** One message in a queue: its frames as zeromq takes them, and its size for the books. */
interface Outgoing {
  readonly parts: readonly Uint8Array[]
  readonly bytes: number
}

class DealerLink implements Link {
  readonly id = nextLinkId()
  readonly peer: string
  readonly closable = true
  private readonly address: ZmqAddress
  private readonly curve: CurveClientKeys | undefined
  private readonly socket: ZmqSocket
  private readonly events: LinkEvents
  private readonly queue: Outgoing[] = []
  private readonly meter = new QueueMeter()
  private state: 'connecting' | 'open' | 'lost' | 'closing' | 'closed' = 'connecting'
  private sending = false
  /** Whether the reading of what came before the end has begun; it ends the link then. */
  private heardAfterEnd = false
  private reason: StreamError | undefined
  private closeTimer: NodeJS.Timeout | undefined

  constructor(
    addon: ZeromqAddon,
    address: ZmqAddress,
    curve: CurveClientKeys | undefined,
    events: LinkEvents,
  ) {
    this.peer = formatAddress(address)
    this.address = address
    this.curve = address.kind === 'tcp' ? curve : undefined
    this.events = events
    const socket = new addon.Socket(socketType.dealer)
    this.socket = socket
    setCommonOptions(socket, address)
    socket.setInt32Option(socketOption.reconnectIntervalMs, NEVER_MS)
    if (address.kind === 'tcp') {
      socket.setInt32Option(socketOption.connectTimeoutMs, CONNECT_TIMEOUT_MS)
      if (curve !== undefined) showKeys(socket, curve)
    }
    void this.watch()
    try {
      uninterrupted(() => socket.connect(this.peer))
    } catch (error) {
      socket.close()
      throw new StreamError('ADDRESS_INVALID', `cannot connect to ${this.peer}`, {
        target: this.peer,
        cause: error,
      })
    }
    void this.receiveAll()
  }

  get queuedBytes(): number {
    return this.meter.bytes
  }

  send(frames: readonly Uint8Array[]): void {
    if (this.state !== 'connecting' && this.state !== 'open') return
    const bytes = framesBytes(frames)
    this.queue.push({ parts: frames, bytes })
    this.meter.add(bytes)
    if (!this.sending) this.pump()
  }

  close(): void {
    if (this.state !== 'connecting' && this.state !== 'open') return
    const wasOpen = this.state === 'open'
    this.state = 'closing'
    if (!wasOpen) {
      this.release(0)
      return
    }
    // The goodbye; libzmq's own notice follows it and finds the link gone.
    this.queue.push({ parts: [new Uint8Array(0)], bytes: 0 })
    this.closeTimer = setTimeout(() => this.release(0), CLOSE_LINGER_MS)
    if (!this.sending) this.pump()
  }

  private pump(): void {
    const next = this.queue[0]
    if (next === undefined) {
      if (this.state === 'closing') this.release(CLOSE_LINGER_MS)
      return
    }
    this.sending = true
    this.socket.send(next.parts).then(this.onSent, this.onSendFailed)
  }

  private readonly onSent = (): void => {
    this.sending = false
    const sent = this.queue.shift()
    if (sent === undefined || this.socket.closed) return
    const drained = this.meter.remove(sent.bytes)
    this.pump()
    if (drained && this.state === 'open') this.events.onDrain?.()
  }

  /** Only a socket that is being closed refuses: what is queued goes down with it. */
  private readonly onSendFailed = (): void => {
    this.sending = false
  }

  private async receiveAll(): Promise<void> {
    while (!this.socket.closed) {
      let frames: Uint8Array[]
      try {
        frames = await this.socket.receive()
      } catch {
        return
      }
      if (this.state === 'connecting') this.opened()
      if (this.state !== 'open' && this.state !== 'lost') return
      this.events.onMessage(frames)
      if (this.state !== 'lost') continue
      this.heardAfterEnd = true
      if (!this.socket.readable) {
        this.release(0)
        return
      }
    }
  }

  /** Follows the monitor until `end`, the last word of libzmq on this socket. */
  private async watch(): Promise<void> {
    const observer = uninterrupted(() => this.socket.events)
    for (;;) {
      const event = await observer.receive().catch(() => undefined)
      if (event === undefined || event.type === 'end') break
      if (event.type === 'handshake') this.opened()
      else if (event.type.startsWith('handshake:error')) this.refused(event)
      else if (isEnd(event.type)) this.lost(event.error)
    }
    this.ended()
  }

  private opened(): void {
    if (this.state !== 'connecting') return
    this.state = 'open'
    this.events.onOpen?.()
  }

  /** libzmq knows why only sometimes, and its door still less: then the peer is asked what it wants. */
  private refused(event: ZmqEvent): void {
    if (this.state !== 'connecting') {
      this.lost(event.error)
      return
    }
    this.state = 'lost'
    const { address, curve } = this
    const known = refusalOfEvent(event, this.peer, curve)
    this.reason =
      known ??
      new StreamError('UNREACHABLE', `${this.peer} does not speak this protocol`, {
        target: this.peer,
        cause: event.error,
      })
    const isOther = event.error?.code === 'ERR_ZMTP_MECHANISM_MISMATCH'
    if (address.kind !== 'tcp' || (known !== undefined && !isOther)) {
      this.release(0)
      return
    }
    void askMechanism(address, curve === undefined ? 'NULL' : 'CURVE').then((mechanism) => {
      this.reason = refusalOfMechanism(mechanism, this.peer, curve) ?? this.reason
      this.release(0)
    })
  }

  private lost(cause: Error | undefined): void {
    if (this.state === 'closing') {
      this.release(0)
      return
    }
    if (this.state !== 'connecting' && this.state !== 'open') return
    const details = { target: this.peer, ...(cause === undefined ? {} : { cause }) }
    this.reason =
      this.state === 'open'
        ? new StreamError('CONNECTION_LOST', `the connection to ${this.peer} was lost`, details)
        : new StreamError('UNREACHABLE', `nothing answers at ${this.peer}`, details)
    this.state = 'lost'
    // Messages that came before the end are still in the socket, and are delivered first: the receive that waits wakes in the next
    // turn of the loop. To ask `readable` meanwhile would take that wake-up away, and nobody would hear of either.
    setImmediate(() => setImmediate(() => this.releaseUnlessHeard()))
  }

  private releaseUnlessHeard(): void {
    if (!this.heardAfterEnd) this.release(0)
  }

  private release(lingerMs: number): void {
    clearTimeout(this.closeTimer)
    if (this.socket.closed) return
    this.socket.setInt32Option(socketOption.linger, lingerMs)
    this.socket.close()
  }

  private ended(): void {
    clearTimeout(this.closeTimer)
    if (this.state === 'closed') return
    this.state = 'closed'
    this.events.onClose(this.reason)
  }
}

function isEnd(event: string): boolean {
  return event === 'disconnect' || event === 'close'
}

class RouterListener implements Listener {
  readonly address: string
  private readonly socket: ZmqSocket
  private readonly gate: CurveGate | undefined
  private readonly options: ListenOptions
  private readonly onLink: (link: Link) => LinkEvents
  private readonly links = new Map<number | string, RouterLink>()
  private queue: RouterOutgoing[] = []
  private queueHead = 0
  private sending: RouterOutgoing | undefined
  private readonly stalled = new Set<RouterLink>()
  private stallTimer: NodeJS.Timeout | undefined
  private idleTimer: NodeJS.Timeout | undefined
  private resumed: (() => void) | undefined
  private paused: Promise<void> | undefined
  private closing: Promise<void> | undefined
  private readonly ended: Promise<void>

  constructor(
    socket: ZmqSocket,
    gate: CurveGate | undefined,
    address: string,
    options: ListenOptions,
    onLink: (link: Link) => LinkEvents,
  ) {
    this.socket = socket
    this.gate = gate
    this.address = address
    this.options = options
    this.onLink = onLink
    this.ended = this.watch()
    const idleMsMax = options.idleMsMax
    if (idleMsMax !== undefined) {
      this.idleTimer = setInterval(() => this.closeIdle(idleMsMax), Math.max(10, idleMsMax / 4))
      this.idleTimer.unref()
    }
    void this.receiveAll()
  }

  pause(): void {
    if (this.paused !== undefined) return
    this.paused = new Promise((resolve) => {
      this.resumed = resolve
    })
  }

  resume(): void {
    this.paused = undefined
    this.resumed?.()
    this.resumed = undefined
  }

  close(graceMs: number): Promise<void> {
    this.closing ??= this.shut(graceMs)
    return this.closing
  }

  /** Hands one message over; called by the links. */
  enqueue(message: RouterOutgoing): void {
    this.queue.push(message)
    if (this.sending === undefined) this.pump()
  }

  forget(link: RouterLink): void {
    if (this.links.get(link.key) === link) this.links.delete(link.key)
    this.stalled.delete(link)
  }

  private async receiveAll(): Promise<void> {
    while (!this.socket.closed && this.closing === undefined) {
      if (this.paused !== undefined) {
        await this.paused
        continue
      }
      let frames: Uint8Array[]
      try {
        frames = await this.socket.receive()
      } catch {
        return
      }
      if (this.closing === undefined) this.deliver(frames)
    }
  }

  private deliver(frames: Uint8Array[]): void {
    const routingId = frames.shift()
    if (routingId === undefined) return
    const key = routingKey(routingId)
    let link = this.links.get(key)
    const first = frames[0]
    if (first === undefined || (frames.length === 1 && first.length === 0)) {
      link?.end(undefined)
      return
    }
    if (link === undefined) {
      // Beyond the limit a peer gets no link and no answer: a ROUTER cannot hang up on one peer.
      if (this.links.size >= this.options.linksMax) return
      link = new RouterLink(this, key, routingId, this.address)
      this.links.set(key, link)
      link.events = this.onLink(link)
    }
    link.lastHeardMs = monotonicMs()
    // libzmq bounds one frame; the whole message is bounded here.
    if (frames.length > 1 && framesBytes(frames) > this.options.messageBytesMax) {
      link.end(new StreamError('MALFORMED_MESSAGE', 'a message longer than the limit'))
      return
    }
    link.events?.onMessage(frames)
  }

  private pump(): void {
    for (;;) {
      const message = this.takeNext()
      if (message === undefined) return
      const link = message.link
      if (link.isClosed) continue
      if (this.stalled.has(link)) {
        link.backlog.push(message)
        continue
      }
      this.sending = message
      this.socket.send(message.parts).then(this.onSent, this.onSendFailed)
      return
    }
  }

  private takeNext(): RouterOutgoing | undefined {
    const message = this.queue[this.queueHead]
    if (message === undefined) {
      this.queue = []
      this.queueHead = 0
      return undefined
    }
    this.queueHead += 1
    if (this.queueHead > 1024) {
      this.queue = this.queue.slice(this.queueHead)
      this.queueHead = 0
    }
    return message
  }

  private readonly onSent = (): void => {
    const sent = this.sending
    this.sending = undefined
    if (this.socket.closed) return
    this.pump()
    sent?.link.taken(sent.bytes)
  }

  private readonly onSendFailed = (error: unknown): void => {
    const failed = this.sending
    this.sending = undefined
    if (this.socket.closed || failed === undefined) return
    if (systemCode(error) === 'EAGAIN') this.stall(failed)
    else failed.link.end(lostError(failed.link.peer, error))
    this.pump()
  }

  private stall(message: RouterOutgoing): void {
    message.link.backlog.unshift(message)
    this.stalled.add(message.link)
    this.stallTimer ??= setTimeout(() => this.retryStalled(), STALL_RETRY_MS)
  }

  private retryStalled(): void {
    this.stallTimer = undefined
    const links = [...this.stalled]
    this.stalled.clear()
    for (const link of links) {
      const backlog = link.backlog
      link.backlog = []
      // Behind what is queued of other links, but in their own order: while stalled they had nothing in the queue.
      for (const message of backlog) this.queue.push(message)
    }
    if (this.sending === undefined) this.pump()
  }

  private closeIdle(idleMsMax: number): void {
    const oldest = monotonicMs() - idleMsMax
    for (const link of [...this.links.values()]) {
      if (link.lastHeardMs < oldest) link.end(undefined)
    }
  }

  private async watch(): Promise<void> {
    const observer = uninterrupted(() => this.socket.events)
    for (;;) {
      const event = await observer.receive().catch(() => undefined)
      if (event === undefined || event.type === 'end') return
      const refusal = refusalOfPeer(event, this.gate !== undefined)
      if (refusal !== undefined) this.options.onRefused?.(refusal)
    }
  }

  private async shut(graceMs: number): Promise<void> {
    this.resume()
    const deadline = monotonicMs() + graceMs
    while (this.isSending() && monotonicMs() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
    clearInterval(this.idleTimer)
    clearTimeout(this.stallTimer)
    const lingerMs = Math.max(0, Math.ceil(deadline - monotonicMs()))
    this.socket.setInt32Option(socketOption.linger, lingerMs)
    this.socket.close()
    // libzmq would do it in a thread of its own, which the end of the process overtakes.
    if (this.address.startsWith('ipc://')) removeSocket(this.address.slice('ipc://'.length))
    await this.ended
    this.gate?.close()
    for (const link of [...this.links.values()]) link.end(undefined)
    await Promise.resolve()
  }

  private isSending(): boolean {
    return this.sending !== undefined || this.queueHead < this.queue.length || this.stalled.size > 0
  }
}

interface RouterOutgoing extends Outgoing {
  readonly link: RouterLink
}

/** One peer of a ROUTER. It cannot be hung up on: closing only forgets it. */
class RouterLink implements Link {
  readonly id = nextLinkId()
  readonly peer: string
  readonly closable = false
  readonly key: number | string
  events: LinkEvents | undefined
  lastHeardMs = monotonicMs()
  isClosed = false
  /** Messages of a peer whose queue in libzmq is full. */
  backlog: RouterOutgoing[] = []
  private readonly listener: RouterListener
  private readonly routingId: Uint8Array
  private readonly meter = new QueueMeter()

  constructor(
    listener: RouterListener,
    key: number | string,
    routingId: Uint8Array,
    address: string,
  ) {
    this.listener = listener
    this.key = key
    this.routingId = routingId
    this.peer = `${address}#${key}`
  }

  get queuedBytes(): number {
    return this.meter.bytes
  }

  send(frames: readonly Uint8Array[]): void {
    if (this.isClosed) return
    const bytes = framesBytes(frames)
    this.meter.add(bytes)
    this.listener.enqueue({ link: this, parts: [this.routingId, ...frames], bytes })
  }

  close(): void {
    this.end(undefined)
  }

  taken(bytes: number): void {
    if (this.meter.remove(bytes) && !this.isClosed) this.events?.onDrain?.()
  }

  /** onClose comes in a microtask, never from inside a call of the link. */
  end(reason: Error | undefined): void {
    if (this.isClosed) return
    this.isClosed = true
    this.backlog = []
    this.listener.forget(this)
    void Promise.resolve().then(() => this.events?.onClose(reason))
  }
}

/** Routing ids that libzmq makes are a zero byte and a number; a peer that chose its own gets a key of text. */
function routingKey(routingId: Uint8Array): number | string {
  if (routingId.length !== 5 || routingId[0] !== 0) return Buffer.from(routingId).toString('hex')
  return new DataView(routingId.buffer, routingId.byteOffset).getUint32(1)
}

function lostError(peer: string, cause: unknown): StreamError {
  return new StreamError('CONNECTION_LOST', `${peer} has gone`, { target: peer, cause })
}

/**
 * libzmq unlinks whatever is at the path before it binds, a living daemon's socket included; so that is asked first.
 * @throws StreamError ADDRESS_IN_USE, PERMISSION_DENIED
 */
async function prepareSocketPath(path: string): Promise<void> {
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  } catch (error) {
    throw bindError(error, { kind: 'ipc', path })
  }
  const isTaken = await new Promise<boolean>((resolve) => {
    const probe = netModule().connect(path)
    probe.once('connect', () => {
      probe.destroy()
      resolve(true)
    })
    probe.once('error', () => resolve(false))
  })
  if (isTaken) throw inUse(`ipc://${path}`)
}

/** Its directory may be gone by now; what stays behind is no daemon's, and the next one finds that out. */
function removeSocket(path: string): void {
  try {
    rmSync(path, { force: true })
  } catch {
    // Nobody listens at it.
  }
}

function bindAddress(address: ZmqAddress): string {
  if (address.kind === 'ipc') return formatAddress(address)
  return address.port === 0 ? formatAddress(address).replace(/:0$/, ':*') : formatAddress(address)
}

function boundAddress(socket: ZmqSocket, address: ZmqAddress): string {
  if (address.kind === 'ipc' || address.port !== 0) return formatAddress(address)
  const port = /:(\d+)$/.exec(socket.getStringOption(socketOption.lastEndpoint) ?? '')?.[1]
  return formatAddress({ ...address, port: Number(port ?? 0) })
}

function inUse(address: string, cause?: unknown): StreamError {
  return new StreamError('ADDRESS_IN_USE', `${address} is in use`, {
    target: address,
    hint: 'another daemon listens there: choose another address, or stop it',
    cause,
  })
}

function bindError(error: unknown, address: ZmqAddress): StreamError {
  if (error instanceof StreamError) return error
  const text = formatAddress(address)
  switch (systemCode(error)) {
    case 'EADDRINUSE':
      return inUse(text, error)
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return new StreamError('PERMISSION_DENIED', `not allowed to listen at ${text}`, {
        target: text,
        cause: error,
      })
    default:
      return new StreamError('ADDRESS_INVALID', `cannot listen at ${text}`, {
        target: text,
        cause: error,
      })
  }
}
