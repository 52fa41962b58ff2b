/**
 * The whole daemon on its ports: broker, doors, their end. Startable in the simulation as it stands; daemon/main.ts adds
 * the real ports and the process.
 *
 * Invariants:
 * - It listens only when it can serve, and stops listening before it writes down its end.
 * - A stop that finds the data directory sound ends cleanly: everything synced, marker written.
 */

import { StreamError } from '../../src/base/errors.ts'
import type { Hashes } from '../../src/ports/hashes.ts'
import type { Listener, Net } from '../../src/ports/net.ts'
import type { Timer } from '../../src/ports/time.ts'
import type { Phase, ServedRange } from '../../src/protocol/served.ts'
import type { DaemonHost, Endpoint, Services } from '../apis/handler.ts'
import { listedRanges } from '../apis/listed-ranges.ts'
import { ParkedFetches } from '../apis/parked-fetches.ts'
import { GroupCoordinator } from '../coordinator/group-coordinator.ts'
import { TransactionCoordinator } from '../coordinator/transaction-coordinator.ts'
import { LinkService, type OpenContext } from '../links/link-service.ts'
import {
  Broker,
  type BrokerOptions,
  type BrokerPorts,
  type BrokerState,
} from '../replica/broker.ts'
import { Admission } from './admission.ts'
import { Complaints } from './complaints.ts'
import type { DoorOptions, DoorRules } from './door.ts'
import { kafkaRules } from './kafka.ts'
import { LineSession } from './line-session.ts'
import { type DoorMechanism, type Logins, Newcomers } from './login.ts'
import { LoginDelays } from './login-delays.ts'
import { Passwords } from './passwords.ts'
import { Refusals } from './refusals.ts'
import { Session } from './session.ts'
import { zmqRules } from './zmq.ts'

export interface DaemonPorts extends BrokerPorts {
  readonly net: Net
  /** For users and their logins; without it there are none. */
  readonly hashes?: Hashes
  /** Contexts of the user that it runs as, for the sources of links; without it there are none. */
  readonly openContext?: OpenContext
}

export interface DaemonOptions extends BrokerOptions {
  /** `ipc://…`, `tcp://…`, `kafka://…` or `line://…`; at least one. */
  readonly listen: readonly string[]
  readonly pid: number
  readonly version: string
  /** What clients are told where a listener is bound to all addresses of the host. */
  readonly advertisedHost: string
  /** Of a listener that can refuse connections, below max.connections: what the process's descriptors allow. */
  readonly connectionsMax?: number
  readonly residentBytes?: () => number
  /** Called after each 32 MiB received. */
  readonly collectGarbage?: () => void
  /** A client asked for the daemon's end (DaemonStop); the caller stops it. */
  readonly onStopAsked?: () => void
}

export interface Daemon {
  readonly broker: Broker
  /** As clients connect to them, in the order of `listen`. */
  readonly addresses: readonly string[]
  readonly state: BrokerState
  /** Requests in work, for tests and status. */
  readonly requests: number
  /**
   * Lets requests in work end within `graceMs`, then writes everything down. Idempotent.
   * @throws StreamError DISK_FAILED when the end could not be written; the next start recovers
   */
  stop(options: { readonly graceMs: number }): Promise<void>
}

const STOP_POLL_MS = 5
/** After this a record counts as not known to be durable. */
const LINE_REQUEST_TIMEOUT_MS = 30_000

/**
 * @throws StreamError CONFIG_INVALID, ADDRESS_INVALID, ADDRESS_IN_USE, PERMISSION_DENIED, and as Broker.start
 */
export async function startDaemon(ports: DaemonPorts, options: DaemonOptions): Promise<Daemon> {
  if (options.listen.length === 0) {
    throw new StreamError('ADDRESS_INVALID', 'the daemon listens nowhere: no address was given')
  }
  const broker = await Broker.start(ports, options)
  const daemon = new RunningDaemon(ports, options, broker)
  try {
    daemon.startCoordinators()
    for (const place of localLast(options.listen)) await daemon.listen(place)
  } catch (error) {
    await daemon.stop({ graceMs: 0 }).catch(() => undefined)
    throw error
  }
  return daemon
}

/** Places in the list. Whoever starts a daemon waits for its local socket: once that answers, all others are open too. */
function localLast(addresses: readonly string[]): readonly number[] {
  const isLocal = (place: number): boolean => addresses[place]?.startsWith('ipc:') ?? false
  return [...addresses.keys()].toSorted((a, b) => Number(isLocal(a)) - Number(isLocal(b)))
}

class RunningDaemon implements Daemon {
  readonly broker: Broker
  readonly #ports: DaemonPorts
  readonly #options: DaemonOptions
  readonly #services: Services
  readonly #admission: Admission
  readonly #complaints: Complaints
  readonly #refusals: Refusals
  /** By their places in `listen`. */
  readonly #listeners = new Map<number, Listener>()
  readonly #sessions = new Set<Session | LineSession>()
  readonly #logins: Omit<Logins, 'onRefused'> | undefined
  #stopped: Promise<void> | undefined

  constructor(ports: DaemonPorts, options: DaemonOptions, broker: Broker) {
    this.broker = broker
    this.#ports = ports
    this.#options = options
    const { config } = broker
    const { peers } = broker
    const groups = new GroupCoordinator(broker, peers)
    const transactions = new TransactionCoordinator(broker, peers)
    transactions.onMarker((marker) => groups.takeMarker(marker))
    const host: DaemonHost = {
      pid: options.pid,
      version: options.version,
      addresses: () => this.addresses,
      residentBytes: options.residentBytes ?? (() => 0),
      space: () => ports.disk.space(broker.directory.path),
      requestStop: () => options.onStopAsked?.(),
    }
    this.#services = {
      broker,
      phase: (config.text('stream.kafka.phase') ?? 'A') as Phase,
      parkedFetches: new ParkedFetches(config.number('stream.fetch.parked.max')),
      groups,
      transactions,
      links: new LinkService(broker, ports.net, groups, ports.openContext),
      peers,
      host,
      hashes: ports.hashes,
    }
    this.#admission = new Admission(
      ports.time,
      {
        requestsMax: config.number('queued.max.requests'),
        requestBytesMax: config.number('queued.max.request.bytes'),
        queuedBytesMax: config.number('stream.queued.max.bytes'),
      },
      options.collectGarbage,
    )
    this.#complaints = new Complaints(ports.log)
    this.#refusals = new Refusals(ports.time, ports.log)
    this.#logins = makeLogins(ports, broker)
    if (this.#logins === undefined) return
    broker.image.onChange(({ userNames }) => {
      if (userNames.size === 0) return
      for (const session of [...this.#sessions]) {
        if (session instanceof Session) session.endIfRevoked()
      }
    })
  }

  get addresses(): readonly string[] {
    return this.#options.listen.flatMap((_, place) => this.#listeners.get(place)?.address ?? [])
  }

  get state(): BrokerState {
    return this.broker.state
  }

  /** A ROUTER can refuse nobody: what it did not answer would hold its descriptor all the same. */
  #linksMax(address: string): number {
    const configured = this.broker.config.number('max.connections')
    const canRefuse = address.startsWith('kafka:') || address.startsWith('line:')
    return canRefuse ? Math.min(configured, this.#options.connectionsMax ?? Infinity) : configured
  }

  get requests(): number {
    return this.#admission.requests
  }

  startCoordinators(): void {
    this.#services.groups.start()
    this.#services.transactions.start()
    this.#services.links.start()
  }

  async listen(place: number): Promise<void> {
    const address = this.#options.listen[place] ?? ''
    const listener = address.startsWith('line:')
      ? await this.#listenForLines(address)
      : await this.#listenForRequests(address)
    this.#listeners.set(place, listener)
    this.#admission.add(listener)
    this.broker.log.debug('listening', { address: listener.address })
  }

  /** The line protocol: local programs that may be silent for days, so nobody is closed for it. */
  #listenForLines(address: string): Promise<Listener> {
    const { config } = this.broker
    const recordBytesMax = config.number('socket.request.max.bytes')
    const door = {
      services: this.#services,
      admission: this.#admission,
      requestsMax: config.number('stream.connection.queued.max.requests'),
      requestTimeoutMs: LINE_REQUEST_TIMEOUT_MS,
      recordBytesMax,
    }
    const options = { messageBytesMax: recordBytesMax, linksMax: this.#linksMax(address) }
    return this.#ports.net.listen(address, options, (link) => {
      const session = new LineSession(link, door, (ended) => this.#sessions.delete(ended))
      this.#sessions.add(session)
      return session
    })
  }

  /** What is registered of this listener (advertised.ts): others may reach it elsewhere than where it is bound. */
  #advertised(address: string): string | undefined {
    const { cluster, listen } = this.#options
    const scheme = address.slice(0, address.indexOf('://') + 3)
    if (listen.find((each) => each.startsWith(scheme)) !== address) return undefined
    return cluster?.endpoints.find((endpoint) => endpoint.startsWith(scheme))
  }

  async #listenForRequests(address: string): Promise<Listener> {
    const { config, log } = this.broker
    const rules: DoorRules = address.startsWith('kafka:') ? kafkaRules : zmqRules
    const idleMs = config.number('connections.max.idle.ms')
    let listener: Listener | undefined
    let endpoint: Endpoint | undefined
    const door: DoorOptions = {
      services: this.#services,
      endpoint: () => {
        const own = this.#advertised(address) ?? listener?.address ?? address
        endpoint ??= endpointOf(own, rules, this.#options.advertisedHost)
        return endpoint
      },
      admission: this.#admission,
      complaints: this.#complaints,
      log,
      listed: rangesByKey(rules, this.#services.phase),
      queuedBytesMax: config.number('stream.connection.queued.max.bytes'),
      requestsMax: config.number('stream.connection.queued.max.requests'),
      logins:
        rules.door === 'kafka' && this.#logins !== undefined
          ? {
              ...this.#logins,
              onRefused: (why, peer) => this.#refusals.tell(address, { why, peer }),
            }
          : undefined,
    }
    listener = await this.#ports.net.listen(
      address,
      {
        messageBytesMax: config.number('socket.request.max.bytes'),
        linksMax: this.#linksMax(address),
        newcomersMax: config.number('stream.newcomers.max'),
        onRefused: (refusal) => this.#refusals.tell(address, refusal),
        ...(rules.door === 'kafka' && idleMs > 0 && Number.isFinite(idleMs)
          ? { idleMsMax: idleMs }
          : {}),
      },
      (link) => {
        const session = new Session(link, rules, door, (ended) => this.#sessions.delete(ended))
        this.#sessions.add(session)
        return session
      },
    )
    return listener
  }

  stop({ graceMs }: { readonly graceMs: number }): Promise<void> {
    this.#stopped ??= this.#stop(graceMs)
    return this.#stopped
  }

  async #stop(graceMs: number): Promise<void> {
    const { log } = this.broker
    log.debug('stopping')
    await this.broker.beginStop()
    this.#services.links.stop()
    this.#services.groups.stop()
    for (const session of this.#sessions) session.releaseParked()
    this.#logins?.delays.stop()
    await this.#workEnds(graceMs)
    await Promise.all([...this.#listeners.values()].map((listener) => listener.close(graceMs)))
    await this.#services.transactions.stop()
    await this.broker.stop()
    log.debug('stopped')
  }

  /** Resolves when no request is in work any more, at the latest after `graceMs`. */
  #workEnds(graceMs: number): Promise<void> {
    const { time } = this.#ports
    const deadline = time.monotonicMs() + graceMs
    return new Promise((resolve) => {
      const look = (): Timer | undefined => {
        const isDone = this.#admission.requests === 0 || time.monotonicMs() >= deadline
        if (isDone) {
          resolve()
          return undefined
        }
        return time.setTimer(STOP_POLL_MS, look)
      }
      // Not at once: answers to what was parked are on their way to their links.
      time.setTimer(0, look)
    })
  }
}

/** @throws StreamError CONFIG_INVALID */
function makeLogins(
  { time, random, hashes }: DaemonPorts,
  { config, image }: Broker,
): Omit<Logins, 'onRefused'> | undefined {
  const mechanisms = config.list('sasl.enabled.mechanisms') as readonly DoorMechanism[]
  if (mechanisms.length === 0) return undefined
  if (hashes === undefined) {
    throw new StreamError('CONFIG_INVALID', 'sasl.enabled.mechanisms: this daemon takes no logins')
  }
  const lifetimeMs = config.number('connections.max.reauth.ms')
  return {
    mechanisms,
    user: (name) => image.user(name)?.value,
    time,
    random,
    hashes,
    passwords: new Passwords(hashes, random),
    delays: new LoginDelays(time, config.number('connection.failed.authentication.delay.ms')),
    newcomers: new Newcomers(config.number('stream.newcomers.max')),
    timeoutMs: config.number('stream.login.timeout.ms'),
    messageBytesMax: config.number('sasl.server.max.receive.size'),
    requestBytesMax: config.number('socket.request.max.bytes'),
    lifetimeMs: Number.isFinite(lifetimeMs) ? lifetimeMs : 0,
  }
}

function rangesByKey(rules: DoorRules, phase: Phase): ReadonlyMap<number, ServedRange> {
  return new Map(listedRanges(rules.door, phase).map((range) => [range.apiKey, range]))
}

/** On the ZeroMQ door the host holds the whole endpoint and the port is 0 (kafka-protocol.md section 1.4). */
export function endpointOf(address: string, rules: DoorRules, advertisedHost: string): Endpoint {
  const match = /^(kafka|tcp):\/\/(\[[^\]]*\]|[^:]*):(\d+)$/.exec(address)
  if (match === null) return { host: address, port: 0 }
  const bound = (match[2] ?? '').replace(/^\[|\]$/g, '')
  const isWildcard = bound === '0.0.0.0' || bound === '::' || bound === '*' || bound === ''
  const host = isWildcard ? advertisedHost : bound
  const port = Number(match[3])
  if (rules.door === 'kafka') return { host, port }
  return { host: `tcp://${host.includes(':') ? `[${host}]` : host}:${port}`, port: 0 }
}
