/**
 * Links to the other daemons: one per live broker, made when something is to be sent, at the endpoint that the broker has
 * registered (replication.md section 12).
 *
 * Invariants:
 * - A link belongs to one incarnation of its peer. When another one registers, the link ends and with it all that is in
 *   flight or waits: what was meant for the old process never reaches the new one.
 * - What waits and what is in flight is bounded; beyond that a call fails at once.
 * - Every call ends: with the answer, or with an error that leaves the outcome unknown.
 */

import { StreamError } from '../../src/base/errors.ts'
import { Connection, CorrelationIds } from '../../src/client/connection.ts'
import type { Log } from '../../src/ports/log.ts'
import type { Net } from '../../src/ports/net.ts'
import type { Time, Timer } from '../../src/ports/time.ts'
import type { ApiName, RequestInput, Response } from '../../src/protocol/api-table.ts'

/** How the links between daemons name themselves, before the node id. */
export const PEER_CLIENT_PREFIX = 'stream-daemon-'
const BACK_OFF_MS_MIN = 50
const BACK_OFF_MS_MAX = 1000
const CONNECT_TIMEOUT_MS = 5000
const CALL_TIMEOUT_MS = 30_000
const WAITING_MAX = 1000
/** At most one warning in this time that a peer does not let this daemon in. */
const REFUSAL_PAUSE_MS = 60_000
const QUEUED_BYTES_MAX = 64 * 1024 * 1024

/** A broker as its registration shows it. */
export interface PeerAddress {
  readonly incarnation: string
  readonly endpoint: string
}

export interface PeersPorts {
  readonly time: Time
  readonly net: Net
  readonly log: Log
  /** undefined: nothing is known of it, or it has no endpoint for daemons. */
  readonly addressOf: (nodeId: number) => PeerAddress | undefined
  /** Shown to the other side. */
  readonly clientId: string
}

export interface PeerCallOptions {
  /** Until the answer, connecting included. Default: 30 s. */
  readonly timeoutMs?: number
  /** Nothing is sent to a broker that does not list this version: an older one, while a cluster is brought up to date. */
  readonly ifListed?: boolean
}

interface Waiting {
  readonly deadlineMs: number
  readonly start: (connection: Connection) => void
  readonly fail: (error: StreamError) => void
}

export class Peers {
  readonly #ports: PeersPorts
  readonly #correlationIds = new CorrelationIds()
  readonly #peers = new Map<number, Peer>()
  #isClosed = false

  constructor(ports: PeersPorts) {
    this.#ports = ports
  }

  /**
   * Sends one request to a broker, in exactly this version.
   * @throws StreamError UNREACHABLE, UNSUPPORTED_BY_BROKER (nothing was sent), CONNECTION_LOST, TIMED_OUT (outcome
   *   unknown), CLOSED
   */
  call<A extends ApiName>(
    nodeId: number,
    api: A,
    version: number,
    body: RequestInput<A>,
    options: PeerCallOptions = {},
  ): Promise<Response<A>> {
    const address = this.#ports.addressOf(nodeId)
    if (this.#isClosed) return Promise.reject(new StreamError('CLOSED', 'the daemon is stopping'))
    if (address === undefined) {
      return Promise.reject(
        new StreamError('UNREACHABLE', `broker ${nodeId} has no endpoint for other daemons`),
      )
    }
    let peer = this.#peers.get(nodeId)
    if (peer !== undefined && !peer.isAt(address)) {
      this.#peers.delete(nodeId)
      peer.close()
      peer = undefined
    }
    if (peer === undefined) {
      peer = new Peer(this.#ports, this.#correlationIds, address)
      this.#peers.set(nodeId, peer)
    }
    return peer.call(api, version, body, options)
  }

  /** The brokers' registrations have changed: links to processes that are gone end. */
  brokersChanged(): void {
    for (const [nodeId, peer] of this.#peers) {
      const address = this.#ports.addressOf(nodeId)
      if (address !== undefined && peer.isAt(address)) continue
      this.#peers.delete(nodeId)
      peer.close()
    }
  }

  close(): void {
    this.#isClosed = true
    for (const peer of this.#peers.values()) peer.close()
    this.#peers.clear()
  }
}

class Peer {
  readonly #ports: PeersPorts
  readonly #correlationIds: CorrelationIds
  readonly #address: PeerAddress
  #connection: Connection | undefined
  #waiting: Waiting[] = []
  #backOffMs = BACK_OFF_MS_MIN
  #refusalToldMs = Number.NEGATIVE_INFINITY
  #retry: Timer | undefined
  #deadline: Timer | undefined
  #isClosed = false

  constructor(ports: PeersPorts, correlationIds: CorrelationIds, address: PeerAddress) {
    this.#ports = ports
    this.#correlationIds = correlationIds
    this.#address = address
  }

  isAt(address: PeerAddress): boolean {
    const { incarnation, endpoint } = this.#address
    return incarnation === address.incarnation && endpoint === address.endpoint
  }

  call<A extends ApiName>(
    api: A,
    version: number,
    body: RequestInput<A>,
    { timeoutMs = CALL_TIMEOUT_MS, ifListed = false }: PeerCallOptions,
  ): Promise<Response<A>> {
    const deadlineMs = this.#ports.time.monotonicMs() + timeoutMs
    return new Promise((resolve, reject) => {
      const start = (connection: Connection): void => {
        const left = deadlineMs - this.#ports.time.monotonicMs()
        if (connection.queuedBytes > QUEUED_BYTES_MAX) {
          reject(this.#unreachable('it takes nothing in'))
          return
        }
        if (ifListed && !connection.supports(api, version)) {
          reject(this.#unlisted(api, version))
          return
        }
        const options = { version, timeoutMs: Math.max(1, left) }
        connection.request(api, body, options, (failure, response) => {
          if (response === undefined) reject(failure)
          else resolve(response)
        })
      }
      const connection = this.#connection
      if (connection?.isOpen === true) start(connection)
      else this.#wait({ deadlineMs, start, fail: reject })
    })
  }

  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#retry?.cancel()
    this.#deadline?.cancel()
    this.#connection?.close()
    this.#failAll('its process has gone')
  }

  #wait(waiting: Waiting): void {
    if (this.#waiting.length >= WAITING_MAX) {
      waiting.fail(this.#unreachable('too much waits for it'))
      return
    }
    this.#waiting.push(waiting)
    this.#armDeadline()
    if (this.#connection === undefined && this.#retry === undefined) this.#connect()
  }

  #connect(): void {
    const { time, net, clientId } = this.#ports
    const options = {
      address: this.#address.endpoint,
      clientId,
      correlationIds: this.#correlationIds,
      connectTimeoutMs: CONNECT_TIMEOUT_MS,
      requestTimeoutMs: CALL_TIMEOUT_MS,
    }
    try {
      const connection = new Connection(time, net, options, {
        onOpen: () => this.#opened(connection),
        onClose: (reason) => this.#closed(reason),
      })
      this.#connection = connection
    } catch (error) {
      this.#closed(error as StreamError)
    }
  }

  #opened(connection: Connection): void {
    this.#backOffMs = BACK_OFF_MS_MIN
    const waiting = this.#waiting
    this.#waiting = []
    this.#deadline?.cancel()
    this.#deadline = undefined
    for (const entry of waiting) {
      // An earlier one may have ended the connection.
      if (connection.isOpen) entry.start(connection)
      else entry.fail(this.#unreachable('the link has broken'))
    }
  }

  #closed(reason: StreamError): void {
    this.#connection = undefined
    if (this.#isClosed) return
    const { endpoint } = this.#address
    if (reason.code === 'NOT_ALLOWED') this.#tellRefusal(reason)
    else {
      const { message } = reason
      this.#ports.log.debug('a link to another daemon has ended', { endpoint, reason: message })
    }
    this.#failAll(reason.message)
    const delayMs = this.#backOffMs
    this.#backOffMs = Math.min(BACK_OFF_MS_MAX, this.#backOffMs * 2)
    this.#retry = this.#ports.time.setTimer(delayMs, () => {
      this.#retry = undefined
      if (this.#waiting.length > 0) this.#connect()
    })
  }

  /** It goes on trying: the other daemon may get the key. */
  #tellRefusal(reason: StreamError): void {
    const { time, log } = this.#ports
    const nowMs = time.monotonicMs()
    if (nowMs - this.#refusalToldMs < REFUSAL_PAUSE_MS) return
    this.#refusalToldMs = nowMs
    log.warn('another daemon does not let this one in: they need the same key file', {
      endpoint: this.#address.endpoint,
      reason: reason.message,
      key: 'stream.curve.key.file',
    })
  }

  #armDeadline(): void {
    if (this.#deadline !== undefined) return
    const { time } = this.#ports
    let earliestMs = Number.POSITIVE_INFINITY
    for (const { deadlineMs } of this.#waiting) earliestMs = Math.min(earliestMs, deadlineMs)
    if (earliestMs === Number.POSITIVE_INFINITY) return
    this.#deadline = time.setTimer(Math.max(0, earliestMs - time.monotonicMs()), () => {
      this.#deadline = undefined
      const nowMs = time.monotonicMs()
      const late = this.#waiting.filter((entry) => entry.deadlineMs <= nowMs)
      this.#waiting = this.#waiting.filter((entry) => entry.deadlineMs > nowMs)
      for (const entry of late) entry.fail(this.#unreachable('no link in time'))
      this.#armDeadline()
    })
  }

  #failAll(why: string): void {
    const waiting = this.#waiting
    this.#waiting = []
    this.#deadline?.cancel()
    this.#deadline = undefined
    for (const entry of waiting) entry.fail(this.#unreachable(why))
  }

  #unlisted(api: ApiName, version: number): StreamError {
    const { endpoint } = this.#address
    const message = `${endpoint}: ${api} in version ${version} is not known there`
    return new StreamError('UNSUPPORTED_BY_BROKER', message, { target: endpoint })
  }

  #unreachable(why: string): StreamError {
    const { endpoint } = this.#address
    return new StreamError('UNREACHABLE', `${endpoint}: ${why}`, { target: endpoint })
  }
}
