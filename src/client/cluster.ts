/**
 * The way to every broker of one cluster: first contact, one connection per address, reconnection, metadata.
 *
 * Invariants:
 * - At most one connection per address exists, and attempts at one address are spaced by a jittered back-off.
 * - Metadata refreshes are coalesced: one in flight, and one more wanted at most.
 * - A broker that owes an answer is not waited for longer than the others call it live: they know of its death when its lease
 *   ends, while a paused process or a dead cable ends no connection.
 * - Whoever waits is woken by `onChange`: a connection opened or closed, or metadata came. Nobody polls.
 *
 * It must not know what producers and consumers do with the answers.
 */
import { isStreamError, StreamError, UsageError } from '../base/errors.ts'
import type { Log } from '../ports/log.ts'
import type { LinkSecurity, Net } from '../ports/net.ts'
import type { Random } from '../ports/random.ts'
import type { Time, Timer } from '../ports/time.ts'
import type { ApiName, RequestInput, Response } from '../protocol/api-table.ts'
import { KafkaError, kafkaErrorIsRetriable } from '../protocol/errors.ts'
import { ZERO_UUID } from '../protocol/schema.ts'
import { type BackoffOptions, backoffMs } from './backoff.ts'
import { type CallOptions, Connection, CorrelationIds } from './connection.ts'
import { kafkaFailure } from './kafka-failure.ts'
import type { Login } from './login.ts'
import { MetadataCache, type PartitionInfo, type TopicInfo } from './metadata-cache.ts'

/** What protects one connection. */
export type Protection = Pick<ClusterOptions, 'security' | 'login'>

export interface ClusterOptions {
  /** `ipc://PATH`, `tcp://HOST:PORT` or `kafka://HOST:PORT`, at least one, all of one scheme. */
  readonly addresses: readonly string[]
  /** Default `stream`. */
  readonly clientId?: string
  /** How long `connect` tries; default 10 000. */
  readonly connectTimeoutMs?: number
  /** false: `connect` fails once every address has refused, without waiting for connectTimeoutMs. Default true. */
  readonly retryFirstContact?: boolean
  /** Default deadline of one request; default 30 000. */
  readonly requestTimeoutMs?: number
  /** Between attempts to reconnect and to refresh metadata; default 50 to 1000. */
  readonly backoff?: BackoffOptions
  /** Keys for the links to all brokers; default: those of the Net. */
  readonly security?: LinkSecurity | undefined
  /** How connections log in; default: not at all. */
  readonly login?: Login | undefined
  /**
   * In the place of `security` and `login`: asked before each connection, so that what has been exchanged since counts. Where it
   * fails the broker counts as one that has refused.
   */
  readonly protect?: (() => Promise<Protection>) | undefined
  /** For the user: contact lost, waited for, regained. */
  readonly onWarning?: (warning: ClusterWarning) => void
}

export type ClusterWarning =
  /** First contact fails so far; tried again until connectTimeoutMs. */
  | { readonly kind: 'waiting'; readonly address: string; readonly error: StreamError }
  /** A broker that was connected is gone; reconnection goes on. Once per outage. */
  | { readonly kind: 'lost'; readonly address: string; readonly error: StreamError }
  | { readonly kind: 'regained'; readonly address: string }
  | { readonly kind: 'notice'; readonly address: string; readonly error: StreamError }
  /** A partition takes no records for now, for so long; they are sent again until their delivery timeout. Once until it does. */
  | {
      readonly kind: 'refused'
      readonly partition: PartitionName
      readonly error: StreamError
      readonly forMs: number
    }
  | { readonly kind: 'taken'; readonly partition: PartitionName; readonly forMs: number }
  /** The coordinator of a group or a transactional id refuses for now, for so long; it is asked again. Once until it answers. */
  | {
      readonly kind: 'unanswered'
      readonly target: string
      readonly error: StreamError
      readonly forMs: number
    }
  | { readonly kind: 'answered'; readonly target: string; readonly forMs: number }

export interface PartitionName {
  readonly topic: string
  readonly partition: number
}

export type Target = 'any' | 'controller' | number

export interface ClusterCallOptions extends CallOptions {
  /** The whole call, with waiting and retries; default: requestTimeoutMs of the cluster. */
  readonly deadlineMs?: number
  /** Whether to send again after a lost connection, when the outcome is unknown. Default true. */
  readonly resend?: boolean
}

interface Endpoint {
  readonly address: string
  connection: Connection | undefined
  /** What is to protect the next connection is being asked for. */
  isPreparing: boolean
  /** Attempts failed in a row, or connections lost since the last that worked. */
  failures: number
  notBeforeMs: number
  timer: Timer | undefined
  /** Whether it has ever been open: decides between `waiting` and `lost`. */
  wasOpen: boolean
  outage: boolean
  /** In the words of the last refusal, since it was open. */
  toldRefusal: string | undefined
  /** Since it has last let this client in. */
  refusals: number
  refusal: StreamError | undefined
  lastError: StreamError | undefined
}

const REFRESH_ROW_MS = 5000
/** A request that waits longer makes the client ask the other brokers; nobody is waited for longer to say what it knows. */
const SILENT_MS = 1500
const SILENCE_LOOK_MS = 500
const REFUSED_PAUSE_MS = 5000
/** Whoever was let in before is refused once while a password, a token or a certificate is being exchanged; the second time is final. */
const REFUSALS_MAX = 2
const TELL_REFUSAL_MS = 1000

const defaults = {
  clientId: 'stream',
  connectTimeoutMs: 10_000,
  requestTimeoutMs: 30_000,
  backoff: { firstMs: 50, maxMs: 1000 },
}

export class Cluster {
  readonly metadata: MetadataCache
  readonly #time: Time
  readonly #random: Random
  readonly #net: Net
  readonly #log: Log
  readonly #options: ClusterOptions
  readonly #endpoints = new Map<string, Endpoint>()
  readonly #correlationIds = new CorrelationIds()
  readonly #listeners = new Set<() => void>()
  readonly #topicsOfInterest = new Set<string>()
  #nextBootstrap = 0
  #warnedWaiting = false
  #refreshing = false
  #refreshWanted = false
  #refreshesInRow = 0
  #lastRefreshMs = Number.NEGATIVE_INFINITY
  #refreshTimer: Timer | undefined
  #silenceTimer: Timer | undefined
  /** All that metadata has ever named: a bootstrap address may be none. */
  readonly #brokerAddresses = new Set<string>()
  #lastAsked: Connection | undefined
  /** By any broker, ever. */
  #wasLetIn = false
  #closed = false

  constructor(time: Time, random: Random, net: Net, log: Log, options: ClusterOptions) {
    if (options.addresses.length === 0) {
      throw new StreamError('ADDRESS_INVALID', 'no broker address given')
    }
    this.#time = time
    this.#random = random
    this.#net = net
    this.#log = log
    this.#options = options
    this.metadata = new MetadataCache(schemeOf(options.addresses[0] ?? ''))
  }

  get requestTimeoutMs(): number {
    return this.#options.requestTimeoutMs ?? defaults.requestTimeoutMs
  }

  get backoff(): BackoffOptions {
    return this.#options.backoff ?? defaults.backoff
  }

  get isClosed(): boolean {
    return this.#closed
  }

  /** Whether the brokers are our daemons, met at their native door. */
  get isNative(): boolean {
    return this.metadata.scheme !== 'kafka'
  }

  /**
   * First contact: resolves once any bootstrap address has answered.
   * @throws StreamError UNREACHABLE naming the addresses after connectTimeoutMs, NOT_ALLOWED, PERMISSION_DENIED,
   *   ADDRESS_INVALID
   */
  async connect(): Promise<void> {
    const timeoutMs = this.#options.connectTimeoutMs ?? defaults.connectTimeoutMs
    const deadlineMs = this.#time.monotonicMs() + timeoutMs
    await this.#connectionFor('any', deadlineMs, true)
  }

  /**
   * The open connection to a broker, or undefined; then an attempt is under way or due, and `onChange` listeners hear
   * of its success. Never blocks.
   */
  connectionTo(nodeId: number): Connection | undefined {
    const broker = this.metadata.brokers.get(nodeId)
    if (broker !== undefined) return this.#openAt(broker.address)
    // It was away when metadata came; it, or whoever took its place, may be there by now.
    this.requestRefresh()
    return undefined
  }

  /** Why a broker does not let this client in, once that is final; undefined: it does, or may yet. */
  refusalOf(nodeId: number): StreamError | undefined {
    const broker = this.metadata.brokers.get(nodeId)
    const endpoint = this.#endpoints.get(broker?.address ?? '')
    return this.#isFinal(endpoint) ? endpoint?.refusal : undefined
  }

  /** Why no broker lets this client in any more; undefined: one does, or may yet. */
  get refusal(): StreamError | undefined {
    let refusal: StreamError | undefined
    for (const address of this.#addresses()) {
      const endpoint = this.#endpoints.get(address)
      if (endpoint?.lastError === undefined) return undefined
      if (this.#isFinal(endpoint)) refusal ??= endpoint.refusal
    }
    return refusal
  }

  #isFinal(endpoint: Endpoint | undefined): boolean {
    if (endpoint === undefined || endpoint.refusals === 0) return false
    return !this.#wasLetIn || endpoint.refusals >= REFUSALS_MAX
  }

  /** Any open connection; else attempts are started and undefined is returned. */
  anyConnection(): Connection | undefined {
    let silent: Connection | undefined
    for (const { connection } of this.#endpoints.values()) {
      if (connection?.isOpen !== true) continue
      if (connection.oldestWaitMs < SILENT_MS) return connection
      silent ??= connection
    }
    if (silent !== undefined) return silent
    const addresses = this.#addresses()
    // One attempt at a time, in turn: a dead first address must not hide a living second one.
    for (const address of addresses) {
      const endpoint = this.#endpoints.get(address)
      if (endpoint?.isPreparing === true) return undefined
      const connection = endpoint?.connection
      if (connection !== undefined && !connection.isClosed) return undefined
    }
    for (let step = 0; step < addresses.length; step++) {
      const address = addresses[(this.#nextBootstrap + step) % addresses.length]
      if (address === undefined) continue
      const endpoint = this.#endpoint(address)
      if (endpoint.notBeforeMs <= this.#time.monotonicMs()) {
        this.#nextBootstrap = (this.#nextBootstrap + step + 1) % addresses.length
        return this.#openAt(address)
      }
    }
    for (const address of addresses) this.#openAt(address)
    return undefined
  }

  /** Leader of a partition as last heard, or undefined when unknown or without leader. */
  leaderOf(topic: string, partition: number): PartitionInfo | undefined {
    const info = this.metadata.partition(topic, partition)
    if (info === undefined || info.leaderId < 0) return undefined
    return info
  }

  /**
   * Sends one request to a broker, waiting for the connection and sending again when it is lost.
   * @throws StreamError UNREACHABLE (no contact within the deadline), CONNECTION_LOST (`resend: false`), TIMED_OUT,
   *   BROKER_GONE (the others say that this one is down), UNSUPPORTED_BY_BROKER, and what a notice said
   */
  async call<A extends ApiName>(
    target: Target,
    api: A,
    body: RequestInput<A>,
    options: ClusterCallOptions = {},
  ): Promise<Response<A>> {
    const deadlineMs = options.deadlineMs ?? this.#time.monotonicMs() + this.requestTimeoutMs
    for (;;) {
      const connection = await this.#connectionFor(target, deadlineMs, false)
      const remainingMs = Math.max(1, deadlineMs - this.#time.monotonicMs())
      const timeoutMs = Math.min(remainingMs, options.timeoutMs ?? this.requestTimeoutMs)
      try {
        return await connection.call(api, body, { ...options, timeoutMs })
      } catch (error) {
        const isLost = isStreamError(error, 'CONNECTION_LOST')
        // Another broker may answer where this one is cut off from us.
        const isSilent = isStreamError(error, 'TIMED_OUT') && target === 'any'
        if (!(isLost || isSilent) || options.resend === false || this.#closed) throw error
        if (this.#time.monotonicMs() >= deadlineMs) throw error
        if (isSilent) connection.giveUp('no answer in time')
      }
    }
  }

  /** As `call`, for what others may take over. @returns undefined: that broker is down */
  async callUnlessGone<A extends ApiName>(
    nodeId: number,
    api: A,
    body: RequestInput<A>,
    options: ClusterCallOptions = {},
  ): Promise<Response<A> | undefined> {
    try {
      return await this.call(nodeId, api, body, options)
    } catch (error) {
      if (isStreamError(error, 'BROKER_GONE')) return undefined
      throw error
    }
  }

  /** An open connection to a broker. @throws StreamError UNREACHABLE after the deadline (monotonic clock), BROKER_GONE */
  connection(target: Target, deadlineMs: number): Promise<Connection> {
    return this.#connectionFor(target, deadlineMs, false)
  }

  /**
   * Asks every live broker. Where one goes away meanwhile, all are asked again: the others have taken over its part.
   * @throws StreamError as `call`
   */
  async ofEachBroker<T>(ask: (nodeId: number) => Promise<T>): Promise<readonly T[]> {
    for (;;) {
      await this.describeTopics([])
      const answers: T[] = []
      try {
        for (const nodeId of [...this.metadata.brokers.keys()]) answers.push(await ask(nodeId))
        return answers
      } catch (error) {
        if (!isStreamError(error, 'BROKER_GONE')) throw error
      }
    }
  }

  /** Calls `listener` after each change of connections or metadata, until the returned function is called. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => {
      this.#listeners.delete(listener)
    }
  }

  /** Resolves at the next change, or after `delayMs`. */
  changed(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        timer.cancel()
        stop()
        resolve()
      }
      const timer = this.#time.setTimer(delayMs, done)
      const stop = this.onChange(done)
    })
  }

  /** Keeps `topic` in every refresh from now on. */
  addTopic(topic: string): void {
    this.#topicsOfInterest.add(topic)
  }

  removeTopic(topic: string): void {
    this.#topicsOfInterest.delete(topic)
  }

  /** Asks for a refresh of the topics of interest soon, spaced by the back-off. Idempotent; never blocks. */
  requestRefresh(): void {
    if (this.#closed) return
    if (this.#refreshing || this.#refreshTimer !== undefined) {
      this.#refreshWanted = this.#refreshing
      return
    }
    const nowMs = this.#time.monotonicMs()
    // Refreshes that follow each other closely have not helped so far.
    if (nowMs - this.#lastRefreshMs > REFRESH_ROW_MS) this.#refreshesInRow = 0
    const pauseMs = backoffMs(this.#random, this.backoff, Math.max(1, this.#refreshesInRow))
    const delayMs = Math.max(0, this.#lastRefreshMs + pauseMs - nowMs)
    this.#refreshTimer = this.#time.setTimer(delayMs, () => {
      this.#refreshTimer = undefined
      void this.#refresh()
    })
  }

  /**
   * Asks a broker about topics now and updates the cache.
   * @param topics  names, or undefined for all topics of the cluster
   * @returns  one row per name asked for, as the broker answered; errors stay in the rows
   * @throws StreamError as `call`
   */
  async describeTopics(
    topics: readonly string[] | undefined,
    options: { readonly allowAutoCreation?: boolean; readonly deadlineMs?: number } = {},
  ): Promise<readonly TopicInfo[]> {
    const response = await this.call(
      'any',
      'Metadata',
      metadataRequest(topics, options.allowAutoCreation ?? false),
      options.deadlineMs === undefined ? {} : { deadlineMs: options.deadlineMs },
    )
    this.#learn(response, topics === undefined)
    const names = topics ?? response.topics.flatMap(({ name }) => (name === null ? [] : [name]))
    return names.flatMap((name) => this.metadata.topic(name) ?? [])
  }

  /**
   * A topic with a leader for every partition. Waits while the broker says that this is about to come.
   * @throws StreamError TOPIC_UNKNOWN at once, TOPIC_NAME_INVALID, NOT_ALLOWED, BROKER_ERROR; TIMED_OUT; as `call`
   */
  async awaitTopic(
    name: string,
    options: { readonly allowAutoCreation?: boolean; readonly deadlineMs?: number } = {},
  ): Promise<TopicInfo> {
    const deadlineMs = options.deadlineMs ?? this.#time.monotonicMs() + this.requestTimeoutMs
    for (let attempt = 1; ; attempt++) {
      const [info] = await this.describeTopics([name], { ...options, deadlineMs })
      const code = info?.errorCode ?? 0
      const led = info?.partitions.every((row) => row.leaderId >= 0) === true
      if (info !== undefined && code === 0 && info.partitions.length > 0 && led) return info
      const retriable = code === 0 || (kafkaErrorIsRetriable(code) && code !== 3)
      if (!retriable) throw kafkaFailure(code, { target: name })
      const delayMs = backoffMs(this.#random, this.backoff, attempt)
      if (this.#time.monotonicMs() + delayMs > deadlineMs) {
        throw new StreamError('TIMED_OUT', `${name}: a partition has no leader`, { target: name })
      }
      await this.#pause(delayMs)
    }
  }

  /** Closes all connections; calls in flight end with CLOSED. Idempotent. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#refreshTimer?.cancel()
    this.#silenceTimer?.cancel()
    for (const endpoint of this.#endpoints.values()) {
      endpoint.timer?.cancel()
      endpoint.connection?.close()
    }
    this.#notify()
    this.#listeners.clear()
  }

  #pause(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.#time.setTimer(delayMs, resolve)
    })
  }

  /** Bootstrap addresses first, then brokers heard of. */
  #addresses(): readonly string[] {
    const addresses = new Set(this.#options.addresses)
    for (const { address } of this.metadata.brokers.values()) addresses.add(address)
    return [...addresses]
  }

  #endpoint(address: string): Endpoint {
    let endpoint = this.#endpoints.get(address)
    if (endpoint === undefined) {
      endpoint = {
        address,
        connection: undefined,
        isPreparing: false,
        failures: 0,
        notBeforeMs: Number.NEGATIVE_INFINITY,
        timer: undefined,
        wasOpen: false,
        outage: false,
        toldRefusal: undefined,
        refusals: 0,
        refusal: undefined,
        lastError: undefined,
      }
      this.#endpoints.set(address, endpoint)
    }
    return endpoint
  }

  #openAt(address: string): Connection | undefined {
    if (this.#closed) return undefined
    const endpoint = this.#endpoint(address)
    if (endpoint.connection !== undefined) {
      return endpoint.connection.isOpen ? endpoint.connection : undefined
    }
    if (endpoint.isPreparing) return undefined
    const delayMs = endpoint.notBeforeMs - this.#time.monotonicMs()
    if (delayMs > 0) {
      endpoint.timer ??= this.#time.setTimer(delayMs, () => {
        endpoint.timer = undefined
        this.#openAt(address)
        // An attempt that is due again is a change: whoever waits for any broker takes the next address then.
        this.#notify()
      })
      return undefined
    }
    const { protect } = this.#options
    if (protect === undefined) this.#connect(endpoint, this.#options)
    else void this.#prepare(endpoint, protect)
    return undefined
  }

  async #prepare(endpoint: Endpoint, protect: () => Promise<Protection>): Promise<void> {
    endpoint.isPreparing = true
    let protection: Protection | undefined
    let failure: StreamError | undefined
    try {
      protection = await protect()
    } catch (error) {
      if (!isStreamError(error) && !(error instanceof UsageError)) throw error
      failure = isStreamError(error) ? error : new StreamError('CONFIG_INVALID', error.message)
    }
    endpoint.isPreparing = false
    if (this.#closed) return
    if (protection !== undefined) this.#connect(endpoint, protection)
    else if (failure !== undefined) this.#onClose(endpoint, failure, true)
  }

  #connect(endpoint: Endpoint, { security, login }: Protection): void {
    const { address } = endpoint
    endpoint.connection = new Connection(
      this.#time,
      this.#net,
      {
        address,
        clientId: this.#options.clientId ?? defaults.clientId,
        correlationIds: this.#correlationIds,
        connectTimeoutMs: this.#attemptTimeoutMs(),
        security,
        login,
        requestTimeoutMs: this.requestTimeoutMs,
      },
      {
        onOpen: () => this.#onOpen(endpoint, login !== undefined),
        onClose: (reason) => this.#onClose(endpoint, reason),
        onDrain: () => this.#notify(),
        onNotice: (error) => {
          this.#options.onWarning?.({ kind: 'notice', address, error })
          this.requestRefresh()
        },
      },
    )
  }

  /** With several addresses one that swallows packets may not use up the time of all. */
  #attemptTimeoutMs(): number {
    const timeoutMs = this.#options.connectTimeoutMs ?? defaults.connectTimeoutMs
    const count = this.#options.addresses.length
    return count === 1 ? timeoutMs : Math.max(Math.min(1000, timeoutMs), timeoutMs / count)
  }

  #onOpen(endpoint: Endpoint, hasLogin: boolean): void {
    endpoint.failures = 0
    endpoint.wasOpen = true
    endpoint.toldRefusal = undefined
    endpoint.lastError = undefined
    // Without a login it is told only by the answer to the first request.
    if (hasLogin) this.#letIn(endpoint)
    this.#log.debug('connected', { address: endpoint.address })
    if (endpoint.outage) {
      endpoint.outage = false
      this.#options.onWarning?.({ kind: 'regained', address: endpoint.address })
    }
    this.#notify()
  }

  #letIn(endpoint: Endpoint): void {
    endpoint.refusals = 0
    endpoint.refusal = undefined
    this.#wasLetIn = true
  }

  #onClose(endpoint: Endpoint, reason: StreamError, isRefused = isRefusal(reason)): void {
    if (endpoint.connection?.hasServed === true) this.#letIn(endpoint)
    endpoint.connection = undefined
    if (this.#closed) return
    endpoint.failures++
    endpoint.lastError = reason
    const pauseMs = backoffMs(this.#random, this.backoff, endpoint.failures)
    // Who is refused and comes again at once looks like somebody who guesses.
    if (isRefused) {
      endpoint.refusals++
      endpoint.refusal = reason
    }
    endpoint.notBeforeMs =
      this.#time.monotonicMs() + (isRefused ? Math.max(REFUSED_PAUSE_MS, pauseMs) : pauseMs)
    this.#log.debug('connection ended', { address: endpoint.address, reason: reason.message })
    const isOwnToTell = endpoint.wasOpen || this.#options.protect !== undefined
    const isPutOff = reason.kafkaError === KafkaError.THROTTLING_QUOTA_EXCEEDED
    if (isPutOff || (isOwnToTell && isRefused)) this.#tellRefusal(endpoint, reason)
    if (endpoint.wasOpen && !endpoint.outage) {
      endpoint.outage = true
      if (!isRefused) {
        this.#options.onWarning?.({ kind: 'lost', address: endpoint.address, error: reason })
      }
    }
    // The broker may be gone for good and its partitions led by others.
    if (this.#topicsOfInterest.size > 0) this.requestRefresh()
    this.#notify()
  }

  /** Later: who asks something of that broker ends with this very reason, and has it told by then. */
  #tellRefusal(endpoint: Endpoint, error: StreamError): void {
    if (endpoint.toldRefusal === error.message) return
    endpoint.toldRefusal = error.message
    endpoint.outage = true
    const { address } = endpoint
    this.#time.setTimer(TELL_REFUSAL_MS, () => {
      if (!this.#closed && endpoint.outage)
        this.#options.onWarning?.({ kind: 'notice', address, error })
    })
  }

  /** For the user, by whoever sends over this cluster. */
  warn(warning: ClusterWarning): void {
    this.#options.onWarning?.(warning)
  }

  #notify(): void {
    for (const listener of [...this.#listeners]) listener()
  }

  async #connectionFor(
    target: Target,
    deadlineMs: number,
    isFirstContact: boolean,
  ): Promise<Connection> {
    const { brokersHeard } = this.metadata
    for (;;) {
      if (this.#closed) throw new StreamError('CLOSED', 'the client is closed')
      const connection = this.#connectionOf(target)
      if (connection !== undefined) return connection
      if (typeof target === 'number') this.#checkIsAlive(target, brokersHeard)
      else if (target === 'controller') this.#doubt(this.metadata.controllerId)
      const refused = this.#refusal(target, isFirstContact)
      if (refused !== undefined) throw refused
      const remainingMs = deadlineMs - this.#time.monotonicMs()
      if (remainingMs <= 0) throw this.#unreachable(target)
      await this.changed(remainingMs)
    }
  }

  /**
   * A broker that cannot be reached may be dead: the others are asked, and know it once its lease is over.
   * @param brokersHeard  how often brokers had been heard of when the caller began to wait
   */
  #checkIsAlive(nodeId: number, brokersHeard: number): void {
    const { metadata } = this
    const broker = metadata.brokers.get(nodeId)
    if (broker === undefined) {
      if (metadata.brokersHeard === brokersHeard) return
      throw new StreamError('BROKER_GONE', `broker ${nodeId} is down`, { target: `${nodeId}` })
    }
    this.#doubt(nodeId)
  }

  /** Of a broker that was not reached the others are asked: whether it is dead, and who is the controller in its place. */
  #doubt(nodeId: number): void {
    const address = this.metadata.brokers.get(nodeId)?.address ?? ''
    if ((this.#endpoints.get(address)?.failures ?? 0) > 0) this.requestRefresh()
  }

  #connectionOf(target: Target): Connection | undefined {
    if (target === 'any') return this.anyConnection()
    const nodeId = target === 'controller' ? this.metadata.controllerId : target
    if (this.metadata.brokers.has(nodeId)) return this.connectionTo(nodeId)
    if (target === 'controller' && this.metadata.brokers.size > 0) return this.anyConnection()
    this.requestRefresh()
    this.anyConnection()
    return undefined
  }

  /** An error that waiting cannot cure, or (first contact without retries) that all addresses have refused. */
  #refusal(target: Target, isFirstContact: boolean): StreamError | undefined {
    const nodeId = target === 'controller' ? this.metadata.controllerId : target
    const ofBroker = nodeId === 'any' ? undefined : this.refusalOf(nodeId)
    if (ofBroker !== undefined) return ofBroker
    let failed = 0
    let last: { readonly address: string; readonly error: StreamError } | undefined
    for (const address of this.#options.addresses) {
      const endpoint = this.#endpoints.get(address)
      const error = endpoint?.lastError
      if (error === undefined) continue
      if (this.#isFinal(endpoint)) return endpoint?.refusal
      failed++
      last = { address, error }
    }
    const all = failed === this.#options.addresses.length
    // While another address may still answer there is nothing to tell.
    const tells = isFirstContact && all && this.#options.retryFirstContact !== false
    if (tells && last !== undefined && !this.#warnedWaiting) {
      this.#warnedWaiting = true
      this.#options.onWarning?.({ kind: 'waiting', ...last })
    }
    if (isFirstContact && all && this.#options.retryFirstContact === false) {
      return this.#unreachable()
    }
    return undefined
  }

  #unreachable(target: Target = 'any'): StreamError {
    const nodeId = target === 'controller' ? this.metadata.controllerId : target
    const wanted = typeof nodeId === 'number' ? this.metadata.brokers.get(nodeId) : undefined
    if (wanted !== undefined) {
      const { address } = wanted
      const what =
        target === 'controller' ? `the controller, broker ${nodeId},` : `broker ${nodeId}`
      const cause = this.#endpoints.get(address)?.lastError
      return new StreamError('UNREACHABLE', `${what} is not reached at ${address}`, {
        target: address,
        ...(cause === undefined ? {} : { cause }),
      })
    }
    const addresses = this.#options.addresses.join(', ')
    const cause = [...this.#endpoints.values()].find(
      (row) => row.lastError !== undefined,
    )?.lastError
    return new StreamError('UNREACHABLE', `no broker reached at ${addresses}`, {
      target: addresses,
      ...(cause === undefined ? {} : { cause }),
    })
  }

  async #isAnsweredSoon(asking: Promise<unknown>): Promise<boolean> {
    let timer: Timer | undefined
    const late = new Promise<boolean>((resolve) => {
      timer = this.#time.setTimer(SILENT_MS, () => resolve(false))
    })
    try {
      return await Promise.race([asking.then(() => true), late])
    } finally {
      timer?.cancel()
    }
  }

  async #ask(connection: Connection): Promise<void> {
    this.#lastAsked = connection
    const response = await connection.call(
      'Metadata',
      metadataRequest([...this.#topicsOfInterest], false),
    )
    this.#learn(response, false)
    this.#endDead(connection)
  }

  /**
   * Whom to ask about the others: one that owes no answer, and not the same as last time where there is a choice, since one that is
   * cut off says the same again. undefined: any.
   */
  #connectionToAsk(): Connection | undefined {
    const { brokers } = this.metadata
    if (brokers.size < 2) return undefined
    const open = [...this.#endpoints.values()].flatMap(({ connection }) =>
      connection?.isOpen === true && connection.oldestWaitMs < SILENT_MS ? [connection] : [],
    )
    const other = open.find((connection) => connection !== this.#lastAsked)
    if (other !== undefined) return other
    // For the next time.
    if (this.#refreshesInRow > 1 || open.length === 0) {
      for (const { address } of brokers.values()) this.#openAt(address)
    }
    return open[0]
  }

  #learn(response: Response<'Metadata'>, all: boolean): void {
    this.metadata.update(response, all)
    for (const { address } of this.metadata.brokers.values()) this.#brokerAddresses.add(address)
    if (this.metadata.brokers.size > 1) this.#lookForSilence()
    this.#notify()
  }

  #lookForSilence(): void {
    if (this.#closed) return
    this.#silenceTimer ??= this.#time.setTimer(SILENCE_LOOK_MS, () => {
      this.#silenceTimer = undefined
      for (const { connection } of this.#endpoints.values()) {
        if (connection !== undefined && connection.oldestWaitMs >= SILENT_MS) this.requestRefresh()
      }
      this.#lookForSilence()
    })
  }

  /** @param witness  who has just named the live brokers */
  #endDead(witness: Connection): void {
    const live = new Set([...this.metadata.brokers.values()].map(({ address }) => address))
    for (const { address, connection } of this.#endpoints.values()) {
      if (connection === undefined || connection === witness || live.has(address)) continue
      if (!this.#brokerAddresses.has(address) || connection.oldestWaitMs < SILENT_MS) continue
      connection.giveUp('no answer, and the other brokers say that it is down')
    }
  }

  async #refresh(): Promise<void> {
    if (this.#closed) return
    this.#refreshing = true
    this.#refreshWanted = false
    this.#refreshesInRow++
    this.#lastRefreshMs = this.#time.monotonicMs()
    try {
      const connection = this.#connectionToAsk()
      const asking =
        connection === undefined
          ? this.describeTopics([...this.#topicsOfInterest])
          : this.#ask(connection)
      const isAnswered = await this.#isAnsweredSoon(asking)
      // Its answer counts when it comes; meanwhile another one is asked.
      asking.catch(() => undefined)
      if (!isAnswered) this.#refreshWanted = true
    } catch (error) {
      // Not lost: whoever needs the topic has its own deadline and asks again.
      this.#log.debug('metadata refresh failed', { error: String(error) })
      this.#refreshWanted = true
    }
    this.#refreshing = false
    if (this.#refreshWanted) this.requestRefresh()
  }
}

function metadataRequest(
  topics: readonly string[] | undefined,
  allowAutoTopicCreation: boolean,
): RequestInput<'Metadata'> {
  return {
    topics: topics?.map((name) => ({ name, topicId: ZERO_UUID })) ?? null,
    allowAutoTopicCreation,
    includeClusterAuthorizedOperations: false,
    includeTopicAuthorizedOperations: false,
  }
}

/** Who asks is not let in. */
export function isRefusal({ code }: StreamError): boolean {
  return code === 'NOT_ALLOWED' || code === 'PERMISSION_DENIED' || code === 'SECRET_UNAVAILABLE'
}

function schemeOf(address: string): string {
  const end = address.indexOf('://')
  if (end <= 0) throw new StreamError('ADDRESS_INVALID', `${address}: not an address`)
  return address.slice(0, end)
}
