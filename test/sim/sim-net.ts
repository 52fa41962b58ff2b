/**
 * A simulated network. `SimNetwork` is the wires, `host(name)` a process's Net port.
 *
 * What holds, as on real transports: messages of one link arrive in order, whole, once; a link that has lost one message delivers
 * nothing after it and dies. What varies with the seed: latency per message, how frames are cut, the moment a link is lost, and
 * whether a request is delivered a second time on another link (reliability.md, N8).
 *
 * It also checks senders: frames must not change between `send` and delivery.
 *
 * | fault | how | may break |
 * | --- | --- | --- |
 * | loseLink | odds per message; `loseLinks(host)` | every request in flight has an unknown outcome |
 * | duplicate | odds per request | a request runs twice |
 * | spike | odds per message, `spikeMs` more | deadlines, order between links |
 * | block | `block(from, to)`, one way | silence, until the link dies after `deadAfterMs` |
 * | crash | `crash(host)` | all of a process's links and listeners at once |
 */
import { StreamError } from '../../src/base/errors.ts'
import { parseAddress } from '../../src/io/address.ts'
import { DRAIN_PEAK_BYTES, framesBytes, nextLinkId, QueueMeter } from '../../src/io/link-support.ts'
import type { Link, LinkEvents, Listener, ListenOptions, Net } from '../../src/ports/net.ts'
import type { SimRandom } from './sim-random.ts'
import type { SimEvent, SimWorld } from './sim-world.ts'

export interface SimNetOptions {
  /** Bounds of the latency of one message, one way. */
  readonly latencyMs?: readonly [number, number]
  readonly bytesPerMs?: number
  /** How long a blocked link stays silent before both ends notice. */
  readonly deadAfterMs?: number
  readonly connectTimeoutMs?: number
}

export interface SimNetFaults {
  /** Odds per message that its link is lost with it. */
  loseLink: number
  /** Odds per message to a listener that it is delivered again, later, on a link of its own. */
  duplicate: number
  /** Odds per message of `spikeMs` more latency. */
  spike: number
  spikeMs: number
}

const DUPLICATE_DELAY_MS_MAX = 2000
const FIRST_PORT = 20_000
/** Whose links repeat others' requests. */
const NOBODY = 'nobody'

export class SimNetwork {
  readonly world: SimWorld
  readonly random: SimRandom
  readonly options: Required<SimNetOptions>
  readonly faults: SimNetFaults = { loseLink: 0, duplicate: 0, spike: 0, spikeMs: 1000 }
  /** How often each fault has fired. */
  readonly fired = { loseLink: 0, duplicate: 0, spike: 0, block: 0 }
  private readonly listeners = new Map<string, SimListener>()
  private readonly wires = new Set<Wire>()
  private readonly blocked = new Set<string>()
  private nextPort = FIRST_PORT

  constructor(world: SimWorld, options: SimNetOptions = {}) {
    this.world = world
    this.random = world.random.fork('net')
    this.options = {
      latencyMs: options.latencyMs ?? [0.05, 1],
      bytesPerMs: options.bytesPerMs ?? 1_000_000,
      deadAfterMs: options.deadAfterMs ?? 15_000,
      connectTimeoutMs: options.connectTimeoutMs ?? 10_000,
    }
  }

  /** The Net port of one process. A process that restarts asks for a new one. */
  host(name: string): SimHostNet {
    return new SimHostNet(this, name)
  }

  /** From now on nothing gets from one host to the other; the way back is not touched. */
  block(from: string, to: string): void {
    this.world.note(`net.block ${from} ${to}`)
    this.blocked.add(`${from}>${to}`)
  }

  blockBoth(left: string, right: string): void {
    this.block(left, right)
    this.block(right, left)
  }

  /** Lifts all blocks; links that lost something still die. */
  heal(): void {
    this.world.note('net.heal')
    this.blocked.clear()
  }

  /** No random fault any more. */
  calm(): void {
    this.faults.loseLink = 0
    this.faults.duplicate = 0
    this.faults.spike = 0
  }

  /** Loses all links of a host, or all there are. */
  loseLinks(host?: string): void {
    for (const wire of [...this.wires]) if (host === undefined || wire.touches(host)) wire.lose()
  }

  /** The process is gone: its own callbacks never come again, the others notice. */
  crash(host: string): void {
    this.world.note(`net.crash ${host}`)
    for (const [address, listener] of [...this.listeners]) {
      if (listener.hostName === host) this.listeners.delete(address)
      if (listener.hostName === host) listener.isGone = true
    }
    for (const wire of [...this.wires]) if (wire.touches(host)) wire.lose(host)
  }

  isBlocked(from: string, to: string): boolean {
    return this.blocked.has(`${from}>${to}`)
  }

  connect(host: string, address: string, events: LinkEvents): Link {
    const kind = parseAddress(address).kind
    const wire = new Wire(this, host, address, kind === 'kafka' || kind === 'line', events)
    this.wires.add(wire)
    wire.open(() => this.listeners.get(address))
    return wire.client
  }

  listen(
    host: string,
    address: string,
    options: ListenOptions,
    onLink: (link: Link) => LinkEvents,
  ): SimListener {
    const bound = parseAddress(address).kind === 'ipc' ? address : this.withPort(address)
    if (this.listeners.has(bound)) {
      throw new StreamError('ADDRESS_IN_USE', `${bound} is in use`, { target: bound })
    }
    const listener = new SimListener(this, host, bound, options, onLink)
    this.listeners.set(bound, listener)
    return listener
  }

  unlisten(listener: SimListener): void {
    if (this.listeners.get(listener.address) === listener) this.listeners.delete(listener.address)
  }

  remember(wire: Wire): void {
    this.wires.add(wire)
  }

  forget(wire: Wire): void {
    this.wires.delete(wire)
  }

  wiresOf(listener: SimListener): Wire[] {
    return [...this.wires].filter((wire) => wire.listener === listener)
  }

  latency(): number {
    const [low, high] = this.options.latencyMs
    let latency = this.random.between(low, high)
    if (this.random.chance(this.faults.spike)) {
      this.fired.spike += 1
      latency += this.faults.spikeMs
    }
    return latency
  }

  private withPort(address: string): string {
    if (!address.endsWith(':0')) return address
    this.nextPort += 1
    return address.replace(/:0$/, `:${this.nextPort}`)
  }
}

export class SimHostNet implements Net {
  private readonly network: SimNetwork
  private readonly name: string

  constructor(network: SimNetwork, name: string) {
    this.network = network
    this.name = name
  }

  connect(address: string, events: LinkEvents): Link {
    return this.network.connect(this.name, address, events)
  }

  async listen(
    address: string,
    options: ListenOptions,
    onLink: (link: Link) => LinkEvents,
  ): Promise<Listener> {
    return this.network.listen(this.name, address, options, onLink)
  }
}

class SimListener implements Listener {
  readonly address: string
  readonly hostName: string
  readonly options: ListenOptions
  readonly onLink: (link: Link) => LinkEvents
  linkCount = 0
  /** Its process has crashed. */
  isGone = false
  private readonly network: SimNetwork
  private isPaused = false
  private held: (() => void)[] = []

  constructor(
    network: SimNetwork,
    hostName: string,
    address: string,
    options: ListenOptions,
    onLink: (link: Link) => LinkEvents,
  ) {
    this.network = network
    this.hostName = hostName
    this.address = address
    this.options = options
    this.onLink = onLink
  }

  pause(): void {
    this.isPaused = true
  }

  resume(): void {
    this.isPaused = false
    const held = this.held
    this.held = []
    this.network.world.schedule(0, 'net.resume', () => {
      for (const deliver of held) this.whenReading(deliver)
    })
  }

  async close(graceMs: number): Promise<void> {
    this.network.unlisten(this)
    for (const wire of this.network.wiresOf(this)) wire.server?.finish()
    await new Promise<void>((resolve) => {
      this.network.world.schedule(Math.min(graceMs, 1), 'net.listener.close', resolve)
    })
    for (const wire of this.network.wiresOf(this)) wire.hangUp()
  }

  whenReading(deliver: () => void): void {
    if (this.isGone) return
    if (this.isPaused) this.held.push(deliver)
    else deliver()
  }
}

/** One connection: two ends, and what is on its way between them. */
class Wire {
  readonly client: End
  server: End | undefined
  listener: SimListener | undefined
  private readonly network: SimNetwork
  private readonly clientHost: string
  private readonly address: string
  private readonly isTcp: boolean
  private isDead = false

  constructor(
    network: SimNetwork,
    clientHost: string,
    address: string,
    isTcp: boolean,
    events: LinkEvents,
  ) {
    this.network = network
    this.clientHost = clientHost
    this.address = address
    this.isTcp = isTcp
    this.client = new End(network, this, 'client', clientHost, address, true)
    this.client.events = events
  }

  touches(host: string): boolean {
    return this.clientHost === host || this.listener?.hostName === host
  }

  open(find: () => SimListener | undefined): void {
    const { network } = this
    network.world.schedule(network.latency(), `net.connect ${this.address}`, () => {
      if (this.isDead) return
      const listener = find()
      if (listener === undefined) {
        this.refuse(`nothing answers at ${this.address}`, 0)
        return
      }
      const isCut =
        network.isBlocked(this.clientHost, listener.hostName) ||
        network.isBlocked(listener.hostName, this.clientHost)
      if (isCut) {
        network.fired.block += 1
        this.refuse(`no answer from ${this.address}`, network.options.connectTimeoutMs)
        return
      }
      if (listener.linkCount >= listener.options.linksMax) {
        this.refuse(`${this.address} takes no more links`, 0)
        return
      }
      this.listener = listener
      this.client.isOpen = true
      this.client.events?.onOpen?.()
      this.client.start()
    })
  }

  /** The other end of `from`; the server's is made by the first message, as a ROUTER does. */
  peerOf(from: End): End | undefined {
    if (from === this.server) return this.client
    if (from !== this.client) return undefined
    const listener = this.listener
    if (listener === undefined || listener.isGone) return undefined
    if (this.server === undefined || this.server.isClosed || this.server.isDeaf) {
      if (this.isDead) return undefined
      const server = new End(
        this.network,
        this,
        'server',
        listener.hostName,
        this.clientHost,
        this.isTcp,
      )
      server.isOpen = true
      this.server = server
      listener.linkCount += 1
      server.events = listener.onLink(server)
    }
    return this.server
  }

  /** When the last message on its way to `end` will be there. */
  arrivalAt(end: End): number {
    const sender = end === this.client ? this.server : this.client
    return sender?.lastArrivalMs ?? 0
  }

  hostOfPeer(from: End): string {
    return from === this.client ? (this.listener?.hostName ?? '') : this.clientHost
  }

  /** Both ends learn of it, each in its own time; a host that has crashed learns nothing. */
  lose(crashed?: string): void {
    if (this.isDead) return
    this.isDead = true
    this.network.forget(this)
    const error = new StreamError('CONNECTION_LOST', `the connection to ${this.address} was lost`)
    for (const end of [this.client, this.server]) {
      if (end === undefined) continue
      if (end.host === crashed) end.vanish()
      // What is on its way and comes after the end of this end is lost.
      else end.dieLater(error, this.network.latency())
    }
  }

  /** One end closes: what it has sent still arrives, then the other end closes too. */
  hangUp(): void {
    if (this.isDead) return
    this.isDead = true
    this.network.forget(this)
    for (const end of [this.client, this.server]) {
      // Whatever was sent before still arrives.
      end?.dieLater(undefined, Math.max(0, this.arrivalAt(end) - this.network.world.now))
    }
  }

  /** Fault N8: the same request, later, on a link of its own; nobody hears the answer. */
  replay(frames: readonly Uint8Array[]): void {
    const { network, listener } = this
    if (listener === undefined) return
    network.fired.duplicate += 1
    network.world.schedule(
      network.random.between(0, DUPLICATE_DELAY_MS_MAX),
      `net.duplicate ${this.address}`,
      () => {
        if (listener.isGone) return
        const ghost = new Wire(network, NOBODY, this.address, this.isTcp, {
          onMessage: () => undefined,
          onClose: () => undefined,
        })
        ghost.listener = listener
        ghost.client.isOpen = true
        network.remember(ghost)
        ghost.client.send(frames)
        network.world.schedule(DUPLICATE_DELAY_MS_MAX, 'net.ghost ends', () => ghost.hangUp())
      },
    )
  }

  private refuse(why: string, afterMs: number): void {
    this.isDead = true
    this.network.forget(this)
    this.client.dieLater(new StreamError('UNREACHABLE', why, { target: this.address }), afterMs)
  }
}

interface InFlight {
  readonly frames: readonly Uint8Array[]
  /** As they were when they were sent. */
  readonly bytes: Uint8Array
}

class End implements Link {
  readonly id = nextLinkId()
  readonly peer: string
  readonly closable: boolean
  readonly host: string
  events: LinkEvents | undefined
  isOpen = false
  isClosed = false
  /** Closed from this side: nothing is heard any more. */
  isDeaf = false
  private readonly network: SimNetwork
  private readonly wire: Wire
  private readonly side: 'client' | 'server'
  private readonly meter = new QueueMeter()
  /** What is on its way to the wire, in order. */
  private readonly taken: { readonly atMs: number; readonly bytes: number }[] = []
  /** Sent before the link stood. */
  private early: InFlight[] = []
  private arrivesMs = 0
  private takenMs = 0
  /** Something was lost on the way out: nothing may follow it. */
  private isCut = false
  private isFinished = false
  private deathEvent: SimEvent | undefined

  constructor(
    network: SimNetwork,
    wire: Wire,
    side: 'client' | 'server',
    host: string,
    peer: string,
    closable: boolean,
  ) {
    this.network = network
    this.wire = wire
    this.side = side
    this.host = host
    this.peer = peer
    this.closable = closable
  }

  get queuedBytes(): number {
    this.settle()
    return this.meter.bytes
  }

  /** What the wire has taken by now is queued no more. */
  private settle(): void {
    const { world } = this.network
    for (let first = this.taken[0]; first !== undefined; first = this.taken[0]) {
      if (first.atMs > world.now) return
      this.taken.shift()
      // Never told to somebody who only asks how much is queued.
      if (this.meter.remove(first.bytes)) world.schedule(0, 'net.drain', () => this.drained())
    }
  }

  private drained(): void {
    if (!this.isClosed) this.events?.onDrain?.()
  }

  send(frames: readonly Uint8Array[]): void {
    if (this.isClosed || this.isFinished) return
    this.settle()
    const message = { frames, bytes: join(frames) }
    this.meter.add(message.bytes.length)
    if (this.isOpen) this.transmit(message)
    else this.early.push(message)
  }

  close(): void {
    if (this.isClosed || this.isDeaf) return
    this.finish()
    this.isDeaf = true
    if (this.closable) {
      this.network.world.schedule(
        Math.max(0, this.arrivesMs - this.network.world.now),
        `net.close ${this.peer}`,
        () => this.wire.hangUp(),
      )
      return
    }
    // One peer of a ROUTER: forgotten here, and never told.
    this.dieLater(undefined, 0)
  }

  /** Nothing more is sent. */
  finish(): void {
    this.isFinished = true
  }

  start(): void {
    const early = this.early
    this.early = []
    for (const message of early) this.transmit(message)
  }

  /** Its process is gone. */
  vanish(): void {
    this.isClosed = true
    this.deathEvent?.cancel()
  }

  dieLater(reason: Error | undefined, afterMs: number): void {
    if (this.isClosed || this.deathEvent !== undefined) return
    this.isFinished = true
    this.deathEvent = this.network.world.schedule(
      afterMs,
      `net.end ${this.side} ${this.peer}`,
      () => {
        if (this.isClosed) return
        this.isClosed = true
        if (this.side === 'server' && this.wire.listener !== undefined) {
          this.wire.listener.linkCount -= 1
        }
        this.events?.onClose(reason)
      },
    )
  }

  get lastArrivalMs(): number {
    return this.arrivesMs
  }

  private transmit(message: InFlight): void {
    const { network } = this
    const bytes = message.bytes.length
    const now = network.world.now
    this.takenMs = Math.max(this.takenMs, now) + bytes / network.options.bytesPerMs
    this.taken.push({ atMs: this.takenMs, bytes })
    // Only a queue that has grown long tells when it is short again.
    if (this.meter.bytes > DRAIN_PEAK_BYTES) {
      network.world.schedule(this.takenMs - now, `net.taken ${this.side}`, () => this.settle())
    }
    if (this.isCut) return
    if (network.isBlocked(this.host, this.wire.hostOfPeer(this))) {
      this.isCut = true
      network.fired.block += 1
      const dead = network.options.deadAfterMs
      network.world.schedule(dead, 'net.heartbeat missed', () => this.wire.lose())
      return
    }
    if (network.random.chance(network.faults.loseLink)) {
      // Whether this message still arrives is a draw of its own: the sender cannot know.
      network.fired.loseLink += 1
      const isLost = network.random.chance(0.5)
      if (isLost) this.isCut = true
      else this.deliverLater(message)
      const lossMs = Math.max(0, this.arrivesMs - now)
      network.world.schedule(lossMs, 'net.link lost', () => this.wire.lose())
      return
    }
    this.deliverLater(message)
    const isRequest = this.side === 'client' && this.host !== NOBODY
    if (isRequest && network.random.chance(network.faults.duplicate)) {
      this.wire.replay([message.bytes.slice()])
    }
  }

  private deliverLater(message: InFlight): void {
    const { network } = this
    const now = network.world.now
    this.arrivesMs = Math.max(this.arrivesMs, this.takenMs + network.latency())
    network.world.schedule(
      this.arrivesMs - now,
      `net.message ${this.side} ${this.peer} ${message.bytes.length}`,
      () => this.arrive(message),
    )
  }

  private arrive(message: InFlight): void {
    if (!isAsSent(message)) {
      throw new Error(`frames sent by ${this.host} were changed before they arrived`)
    }
    const listener = this.wire.listener
    if (this.side === 'server' || listener === undefined) {
      const receiver = this.wire.peerOf(this)
      if (receiver !== undefined) receiver.receive(message)
      return
    }
    listener.whenReading(() => {
      const limit = listener.options.messageBytesMax
      if (message.bytes.length > limit) {
        this.wire.lose()
        return
      }
      this.wire.peerOf(this)?.receive(message)
    })
  }

  private receive(message: InFlight): void {
    if (this.isClosed || this.isDeaf) return
    // The copy that was made when it was sent: the receiver may keep it, and write into it, whatever the sender does with its own.
    const isWhole = this.network.random.chance(0.5)
    const frames = isWhole ? [message.bytes] : recut(message)
    this.events?.onMessage(frames)
  }
}

/** What was sent, cut where the sender cut it. */
function recut(message: InFlight): Uint8Array[] {
  const out: Uint8Array[] = []
  let at = 0
  for (const frame of message.frames) {
    out.push(message.bytes.subarray(at, at + frame.length))
    at += frame.length
  }
  return out
}

function join(frames: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(framesBytes(frames))
  let at = 0
  for (const frame of frames) {
    out.set(frame, at)
    at += frame.length
  }
  return out
}

function isAsSent({ frames, bytes }: InFlight): boolean {
  if (frames.length === 1) return Buffer.compare(frames[0] as Uint8Array, bytes) === 0
  return Buffer.compare(join(frames), bytes) === 0
}
