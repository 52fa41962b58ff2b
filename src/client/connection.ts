/**
 * One link to one broker: negotiation, correlation of answers, deadlines, notices.
 *
 * Invariants:
 * - Every request is answered exactly once to its caller: by a response, or by an error. After the link has gone, all
 *   in flight have ended with CONNECTION_LOST, which means *outcome unknown*.
 * - Requests leave in the order of `request` calls, so that batches of one partition arrive in order.
 * - A request that misses its deadline ends the whole connection: a broker that is late once cannot be told from one
 *   that will never answer, and a late answer must not reach anyone (the same rule as in Kafka's clients).
 * - Where a login is asked for, nothing but ApiVersions is sent before it, and nothing but its own messages while it is
 *   renewed: requests wait, and leave in their order.
 * - Answers are delivered from the link's own callbacks, from timers, and from inside close(); never inside request().
 */
import { isStreamError, StreamError } from '../base/errors.ts'
import {
  ANSWER_BYTES_MAX,
  type Link,
  type LinkEvents,
  type LinkSecurity,
  type Net,
} from '../ports/net.ts'
import type { Time, Timer } from '../ports/time.ts'
import { type ApiName, apiTable, type RequestInput, type Response } from '../protocol/api-table.ts'
import {
  decodeNotice,
  decodeResponse,
  encodeRequest,
  NOTICE_CORRELATION_ID,
  readCorrelationId,
} from '../protocol/codec.ts'
import { KafkaError } from '../protocol/errors.ts'
import { kafkaFailure } from './kafka-failure.ts'
import type { Login } from './login.ts'
import { clientVersions, commonVersion, type VersionRange } from './versions.ts'

/** Correlation ids of one process: they go on over reconnections, so that a late answer is told from a new one. */
export class CorrelationIds {
  #next = 0

  take(): number {
    const id = this.#next
    this.#next = id === 0x7fffffff ? 0 : id + 1
    return id
  }
}

export interface ConnectionOptions {
  readonly address: string
  readonly clientId: string
  readonly correlationIds: CorrelationIds
  /** From connect to the end of negotiation. */
  readonly connectTimeoutMs: number
  /** Default deadline of a request. */
  readonly requestTimeoutMs: number
  /** Default: that of the Net. */
  readonly security?: LinkSecurity | undefined
  /** How it logs in; undefined: not at all. */
  readonly login?: Login | undefined
}

export interface ConnectionEvents {
  /** Negotiation and login are done; requests may be sent. */
  onOpen(): void
  /** UNREACHABLE when it never opened, else CONNECTION_LOST or CLOSED. No events afterwards. */
  onClose(reason: StreamError): void
  /** What was queued for sending has fallen low again (ports/net.ts). */
  onDrain?(): void
  /** The broker told something that belongs to no request in flight. */
  onNotice?(failure: StreamError): void
}

export interface CallOptions {
  /** Default: the connection's requestTimeoutMs. */
  readonly timeoutMs?: number
  /** Do not go above this version. */
  readonly versionMax?: number
  /** Exactly this one, listed or not: among daemons, which accept more than they tell clients. */
  readonly version?: number
}

export type OnAnswer<A extends ApiName> = (
  failure: StreamError | undefined,
  response: Response<A> | undefined,
) => void

interface InFlight {
  readonly api: ApiName
  readonly version: number
  readonly sentMs: number
  readonly deadlineMs: number
  readonly settle: (failure: StreamError | undefined, response: unknown) => void
}

/** `ending`: the link has gone, and why is being asked. */
type State = 'negotiating' | 'open' | 'ending' | 'closed'

/** A login is renewed when so much of its life is over (KIP-368): early enough for a slow answer. */
const LOGIN_LIFE = 0.85
/** The longest message that is taken of a broker before it has answered the greeting and let this client in. */
const GREETING_BYTES_MAX = 1024 * 1024

export class Connection {
  readonly address: string
  readonly #time: Time
  readonly #net: Net
  readonly #options: ConnectionOptions
  readonly #events: ConnectionEvents
  readonly #link: Link
  readonly #inFlight = new Map<number, InFlight>()
  readonly #ranges = new Map<number, VersionRange>()
  readonly #features = new Map<string, number>()
  #state: State = 'negotiating'
  #connectTimer: Timer | undefined
  #deadlineTimer: Timer | undefined
  #deadlineTimerMs = Number.POSITIVE_INFINITY
  #loginTimer: Timer | undefined
  /** A broker that wants a login answers nothing else before it. */
  #hasServed = false
  /** Requests that wait for the end of a login that is being renewed; undefined: none is. */
  #waiting: (readonly Uint8Array[])[] | undefined

  /** Starts connecting at once; `events.onOpen` or `events.onClose` follows. @throws StreamError ADDRESS_INVALID */
  constructor(time: Time, net: Net, options: ConnectionOptions, events: ConnectionEvents) {
    this.#time = time
    this.#net = net
    this.#options = options
    this.#events = events
    this.address = options.address
    const linkEvents: LinkEvents = {
      onMessage: (frames) => this.#onMessage(frames),
      onDrain: () => events.onDrain?.(),
      onClose: (reason) => this.#onLinkClose(reason),
    }
    this.#link = net.connect(options.address, linkEvents, options.security)
    this.#link.limitMessages?.(GREETING_BYTES_MAX)
    this.#connectTimer = time.setTimer(options.connectTimeoutMs, () => {
      this.#end(
        new StreamError('UNREACHABLE', `${this.address}: no answer`, { target: this.address }),
      )
    })
    // The link keeps it until it is open, which saves the way of the news that it is.
    this.#negotiate(clientVersions('ApiVersions').max)
  }

  get isOpen(): boolean {
    return this.#state === 'open'
  }

  get isClosed(): boolean {
    return this.#state === 'closed'
  }

  /** It has answered a request that only those who are let in may ask. */
  get hasServed(): boolean {
    return this.#hasServed
  }

  get requestsInFlight(): number {
    return this.#inFlight.size
  }

  /** For how long the oldest request has waited for its answer; 0: none does. */
  get oldestWaitMs(): number {
    for (const { sentMs } of this.#inFlight.values()) return this.#time.monotonicMs() - sentMs
    return 0
  }

  /** Bytes given to the transport that it has not taken yet. */
  get queuedBytes(): number {
    return this.#link.queuedBytes
  }

  /** Whether both sides know some version of `api`, at least `versionMin`. Meaningful once open. */
  supports(api: ApiName, versionMin = 0): boolean {
    const version = this.#version(api, undefined)
    return version !== undefined && version >= versionMin
  }

  /** The finalised level of a broker's feature, 0 where it has none. Meaningful once open. */
  featureLevel(name: string): number {
    return this.#features.get(name) ?? 0
  }

  /** The version `request` would use. @throws StreamError UNSUPPORTED_BY_BROKER */
  versionOf(api: ApiName, versionMax?: number): number {
    const version = this.#version(api, versionMax)
    if (version === undefined) {
      throw new StreamError(
        'UNSUPPORTED_BY_BROKER',
        `${this.address}: the broker does not offer ${api} in a version known here`,
        { target: this.address },
      )
    }
    return version
  }

  /**
   * Sends one request. `onAnswer` is called once, later: with the response, or with CONNECTION_LOST (outcome unknown),
   * TIMED_OUT (outcome unknown, the connection is gone), MALFORMED_MESSAGE, or what a notice of the broker said.
   * Record frames must stay unchanged until then, and for ever when the answer was an error (ports/net.ts).
   * @throws StreamError UNSUPPORTED_BY_BROKER, CONNECTION_LOST when it is not open
   */
  request<A extends ApiName>(
    api: A,
    body: RequestInput<A>,
    options: CallOptions,
    onAnswer: OnAnswer<A>,
  ): void {
    if (this.#state !== 'open') throw this.#lost()
    const version = options.version ?? this.versionOf(api, options.versionMax)
    this.#send(api, version, body, options.timeoutMs ?? this.#options.requestTimeoutMs, onAnswer)
  }

  /** For what is never answered: Produce with acks=0. @throws as `request` */
  requestOneWay<A extends ApiName>(api: A, body: RequestInput<A>): void {
    if (this.#state !== 'open') throw this.#lost()
    const correlationId = this.#options.correlationIds.take()
    const header = { correlationId, clientId: this.#options.clientId }
    this.#transmit(encodeRequest(api, this.versionOf(api), header, body))
  }

  /** `request` as a promise. */
  call<A extends ApiName>(
    api: A,
    body: RequestInput<A>,
    options: CallOptions = {},
  ): Promise<Response<A>> {
    return new Promise((resolve, reject) => {
      this.request(api, body, options, (failure, response) => {
        if (response === undefined) reject(failure)
        else resolve(response)
      })
    })
  }

  /** Idempotent. All in flight end with `reason` (CLOSED when none is given). */
  close(reason?: StreamError): void {
    this.#end(
      reason ?? new StreamError('CLOSED', `${this.address}: closed`, { target: this.address }),
    )
  }

  #version(api: ApiName, versionMax: number | undefined): number | undefined {
    const theirs = this.#ranges.get(apiTable[api].key)
    if (theirs === undefined) return undefined
    const ours = clientVersions(api)
    const max = versionMax === undefined ? ours.max : Math.min(ours.max, versionMax)
    return commonVersion({ min: ours.min, max }, theirs)
  }

  #send<A extends ApiName>(
    api: A,
    version: number,
    body: RequestInput<A>,
    timeoutMs: number,
    onAnswer: OnAnswer<A>,
  ): void {
    const correlationId = this.#options.correlationIds.take()
    const header = { correlationId, clientId: this.#options.clientId }
    const frames = encodeRequest(api, version, header, body)
    const sentMs = this.#time.monotonicMs()
    const deadlineMs = sentMs + timeoutMs
    const settle = onAnswer as InFlight['settle']
    this.#inFlight.set(correlationId, { api, version, sentMs, deadlineMs, settle })
    this.#armDeadline(deadlineMs)
    const isOfLogin = api === 'SaslHandshake' || api === 'SaslAuthenticate'
    if (isOfLogin) this.#link.send(frames)
    else this.#transmit(frames)
  }

  #transmit(frames: readonly Uint8Array[]): void {
    if (this.#waiting === undefined) this.#link.send(frames)
    else this.#waiting.push(frames)
  }

  /** kafka-protocol.md section 1.2: a broker that finds the version too new says so in a body of version 0. */
  #negotiate(version: number): void {
    const body = { clientSoftwareName: 'stream', clientSoftwareVersion: '1' }
    this.#send(
      'ApiVersions',
      version,
      body,
      this.#options.connectTimeoutMs,
      (failure, response) => {
        if (failure !== undefined || response === undefined) {
          if (failure !== undefined && this.#state !== 'closed') this.#end(failure)
          return
        }
        if (response.errorCode === KafkaError.UNSUPPORTED_VERSION && version > 0) {
          const key = apiTable.ApiVersions.key
          const listed = response.apiKeys.find((row) => row.apiKey === key)
          this.#negotiate(listed === undefined ? 0 : Math.min(listed.maxVersion, version - 1))
          return
        }
        if (response.errorCode !== 0) {
          this.#end(kafkaFailure(response.errorCode, { target: this.address }))
          return
        }
        for (const row of response.apiKeys) {
          this.#ranges.set(row.apiKey, { min: row.minVersion, max: row.maxVersion })
        }
        for (const row of response.finalizedFeatures) {
          this.#features.set(row.name, row.maxVersionLevel)
        }
        if (this.#options.login === undefined) this.#opened()
        else void this.#logIn(this.#options.login)
      },
    )
  }

  #opened(): void {
    this.#state = 'open'
    this.#connectTimer?.cancel()
    this.#link.limitMessages?.(ANSWER_BYTES_MAX)
    this.#events.onOpen()
  }

  async #logIn(login: Login): Promise<void> {
    const call = <A extends ApiName>(api: A, body: RequestInput<A>): Promise<Response<A>> =>
      new Promise((resolve, reject) => {
        const timeoutMs = this.#options.requestTimeoutMs
        this.#send(api, this.versionOf(api), body, timeoutMs, (failure, response) => {
          if (response === undefined) reject(failure)
          else resolve(response)
        })
      })
    let lifetimeMs: number
    try {
      lifetimeMs = await login.logIn(call, this.address)
    } catch (error) {
      if (isStreamError(error)) this.#end(error)
      else this.#endMalformed(error)
      return
    }
    if (this.isClosed) return
    if (lifetimeMs > 0) {
      this.#loginTimer = this.#time.setTimer(lifetimeMs * LOGIN_LIFE, () => {
        this.#waiting = []
        void this.#logIn(login)
      })
    }
    if (this.#state === 'negotiating') this.#opened()
    const waiting = this.#waiting ?? []
    this.#waiting = undefined
    for (const frames of waiting) this.#link.send(frames)
  }

  #onMessage(frames: readonly Uint8Array[]): void {
    if (this.#state === 'closed') return
    let correlationId: number
    try {
      correlationId = readCorrelationId(frames)
      if (correlationId === NOTICE_CORRELATION_ID) {
        this.#onNotice(frames)
        return
      }
    } catch (error) {
      this.#endMalformed(error)
      return
    }
    const entry = this.#inFlight.get(correlationId)
    // An answer nobody waits for: of a request that a notice has ended already.
    if (entry === undefined) return
    this.#inFlight.delete(correlationId)
    let response: unknown
    try {
      const version = entry.api === 'ApiVersions' && refusesVersion(frames) ? 0 : entry.version
      response = decodeResponse(entry.api, version, frames).body
    } catch (error) {
      const failure = malformed(this.address, error)
      entry.settle(failure, undefined)
      this.#end(failure)
      return
    }
    this.#hasServed ||= this.#state === 'open'
    entry.settle(undefined, response)
  }

  /** kafka-protocol.md section 1.4: where a Kafka broker would close the socket. Ends one request, or all of them. */
  #onNotice(frames: readonly Uint8Array[]): void {
    const notice = decodeNotice(frames)
    const failure = kafkaFailure(notice.errorCode, {
      target: this.address,
      brokerMessage: notice.message,
    })
    if (notice.correlationId !== -1) {
      const entry = this.#inFlight.get(notice.correlationId)
      this.#inFlight.delete(notice.correlationId)
      if (entry === undefined) this.#events.onNotice?.(failure)
      else entry.settle(failure, undefined)
      return
    }
    this.#events.onNotice?.(failure)
    this.#settleAll(failure)
  }

  /** Ends it, as a link that has gone: what is in flight has an unknown outcome. */
  giveUp(why: string): void {
    this.#end(
      new StreamError('CONNECTION_LOST', `${this.address}: ${why}`, { target: this.address }),
    )
  }

  #onLinkClose(reason: Error | undefined): void {
    if (this.#state === 'closed') return
    const { login } = this.#options
    const isKafka = this.address.startsWith('kafka://')
    if (this.#state === 'open' && isKafka && !this.#hasServed && login === undefined) {
      this.#state = 'ending'
      void this.#askForLogin(reason)
      return
    }
    this.#endOfLink(reason)
  }

  async #askForLogin(reason: Error | undefined): Promise<void> {
    const { clientId, security } = this.#options
    const { wantsLogin } = await import('./login-question.ts')
    const question = { address: this.address, clientId, security }
    this.#endOfLink((await wantsLogin(this.#time, this.#net, question)) ?? reason)
  }

  #endOfLink(reason: Error | undefined): void {
    const wasOpen = this.#state === 'open' || this.#state === 'ending'
    const words = reason === undefined ? '' : `: ${reason.message}`
    const cause = reason === undefined ? {} : { cause: reason }
    if (
      isStreamError(reason) &&
      (reason.code === 'NOT_ALLOWED' || reason.code === 'PERMISSION_DENIED')
    ) {
      this.#end(reason)
      return
    }
    if (!wasOpen && isStreamError(reason, 'MALFORMED_MESSAGE')) {
      this.#end(oversized(this.address, reason))
      return
    }
    this.#end(
      new StreamError(
        wasOpen ? 'CONNECTION_LOST' : 'UNREACHABLE',
        wasOpen
          ? `${this.address}: connection lost${words}`
          : `${this.address}: unreachable${words}`,
        { target: this.address, ...cause },
      ),
    )
  }

  #endMalformed(error: unknown): void {
    this.#end(malformed(this.address, error))
  }

  #lost(): StreamError {
    return new StreamError('CONNECTION_LOST', `${this.address}: not connected`, {
      target: this.address,
    })
  }

  #end(reason: StreamError): void {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    this.#connectTimer?.cancel()
    this.#deadlineTimer?.cancel()
    this.#loginTimer?.cancel()
    this.#waiting = undefined
    this.#link.close()
    this.#settleAll(
      reason.code === 'CLOSED' || reason.code === 'UNREACHABLE'
        ? reason
        : new StreamError('CONNECTION_LOST', reason.message, {
            target: this.address,
            cause: reason,
          }),
    )
    this.#events.onClose(reason)
  }

  #settleAll(failure: StreamError): void {
    const entries = [...this.#inFlight.values()]
    this.#inFlight.clear()
    for (const entry of entries) entry.settle(failure, undefined)
  }

  #armDeadline(deadlineMs: number): void {
    if (deadlineMs >= this.#deadlineTimerMs) return
    this.#deadlineTimer?.cancel()
    this.#deadlineTimerMs = deadlineMs
    const delayMs = Math.max(0, deadlineMs - this.#time.monotonicMs())
    this.#deadlineTimer = this.#time.setTimer(delayMs, () => this.#onDeadline())
  }

  #onDeadline(): void {
    this.#deadlineTimerMs = Number.POSITIVE_INFINITY
    const nowMs = this.#time.monotonicMs()
    let earliestMs = Number.POSITIVE_INFINITY
    for (const [correlationId, entry] of this.#inFlight) {
      if (entry.deadlineMs <= nowMs) {
        this.#inFlight.delete(correlationId)
        const failure = new StreamError(
          this.#state === 'open' ? 'TIMED_OUT' : 'UNREACHABLE',
          `${this.address}: no answer to ${entry.api} in time`,
          { target: this.address },
        )
        entry.settle(failure, undefined)
        this.#end(failure)
        return
      }
      earliestMs = Math.min(earliestMs, entry.deadlineMs)
    }
    if (earliestMs < Number.POSITIVE_INFINITY) this.#armDeadline(earliestMs)
  }
}

function malformed(address: string, error: unknown): StreamError {
  return new StreamError('MALFORMED_MESSAGE', `${address}: the broker's answer cannot be read`, {
    target: address,
    cause: error,
  })
}

/** Nothing that is spoken to is trusted with more memory than a greeting takes. */
function oversized(address: string, cause: StreamError): StreamError {
  return new StreamError(
    'NOT_ALLOWED',
    `${address}: what answers there does not greet as a broker does: ${cause.message}`,
    { target: address, hint: 'check host and port: is it a Kafka listener?', cause },
  )
}

/** Whether an ApiVersions answer is error 35, whose body is of version 0 whatever was asked (header v0: no tags). */
function refusesVersion(frames: readonly Uint8Array[]): boolean {
  let skip = 4
  const code: number[] = []
  for (const frame of frames) {
    for (; skip < frame.length && code.length < 2; skip++) code.push(frame[skip] ?? 0)
    skip -= frame.length
    if (code.length === 2) break
  }
  return code[0] === 0 && code[1] === KafkaError.UNSUPPORTED_VERSION
}
