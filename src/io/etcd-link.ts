/**
 * Calls to etcd: which endpoint, deadlines, the token of a login.
 *
 * Invariants:
 * - A call that may not be repeated is sent once. gRPC's own retries are off.
 * - Every call ends by its deadline, whatever the endpoint does; streams that stand have gRPC's keep-alive.
 * - An endpoint that did not answer is passed over for a while, where another one is to be had.
 */
import type { Client, ClientDuplexStream, Metadata } from '@grpc/grpc-js'
import { StreamError } from '../base/errors.ts'
import type { Log } from '../ports/log.ts'
import { sleep, type Time } from '../ports/time.ts'
import { connectionDefect, isAuthOff, isTokenRefused, storeError } from './etcd-errors.ts'
import type { EtcdOptions } from './etcd-options.ts'
import { type EtcdMethods, type GrpcModule, loadEtcdMethods } from './etcd-schema.ts'

type Method<Request, Response> = {
  readonly path: string
  requestSerialize(value: Request): Buffer
  responseDeserialize(bytes: Buffer): Response
}

/** How long an endpoint that did not answer comes last. */
const SUSPECT_MS = 5000
/** How long a better endpoint than a suspect one is waited for. */
const BETTER_WAIT_MS = 500
/** Shorter and etcd (--grpc-keepalive-min-time, 5 s) would cut the connection. */
const KEEP_ALIVE_MS = 10_000
const KEEP_ALIVE_TIMEOUT_MS = 3000
const ATTEMPT_MS_MIN = 1000
const PAUSE_MS = 50
const PROBE_MS = 300

export interface EtcdEndpoint {
  /** As it was given; for messages. */
  readonly url: string
  readonly client: Client
  suspectUntilMs: number
}

export interface EtcdCallOptions {
  /** It changes nothing, or changes nothing more when it is done twice: tried at the next endpoint too. */
  readonly isRepeatable: boolean
}

export class EtcdLink {
  readonly methods: EtcdMethods
  private readonly time: Time
  private readonly log: Log
  private readonly grpc: GrpcModule
  private readonly options: EtcdOptions
  private readonly endpoints: readonly EtcdEndpoint[]
  private readonly open = new Set<{ cancel(): void }>()
  private current = 0
  private token: Promise<string | undefined> | undefined
  private isClosed = false

  constructor(time: Time, log: Log, grpc: GrpcModule, options: EtcdOptions) {
    this.time = time
    this.log = log
    this.grpc = grpc
    this.options = options
    // It would write to the console.
    grpc.setLogVerbosity(grpc.logVerbosity.NONE)
    this.methods = loadEtcdMethods(grpc)
    this.endpoints = options.endpoints.map((endpoint) => ({
      url: endpoint.url,
      client: this.connect(endpoint.target, endpoint.isTls),
      suspectUntilMs: Number.NEGATIVE_INFINITY,
    }))
  }

  /**
   * @throws StreamError STORE_UNAVAILABLE (unknown outcome), FENCED, DISK_FULL, NOT_ALLOWED, CONFIG_INVALID (nothing was done),
   * CLOSED; what `storeError` leaves to the caller to look at is in `cause`
   */
  async call<Request, Response>(
    method: Method<Request, Response>,
    request: Request,
    { isRepeatable }: EtcdCallOptions,
  ): Promise<Response> {
    // Before anything is waited for: the caller may go on using its memory.
    const bytes = method.requestSerialize(request)
    return this.attempts(isRepeatable, (endpoint, metadata, timeoutMs) =>
      this.unary(endpoint, method, bytes, metadata, timeoutMs),
    )
  }

  /** One request and its one answer, on a stream of their own. */
  async exchange<Request, Response>(
    method: Method<Request, Response>,
    request: Request,
  ): Promise<Response> {
    return this.attempts(
      true,
      (endpoint, metadata, timeoutMs) =>
        new Promise<Response>((resolve, reject) => {
          const stream = this.duplex(endpoint, method, metadata, timeoutMs)
          stream.on('data', resolve)
          stream.on('error', reject)
          stream.on('end', () => reject(new Error('the stream has ended without an answer')))
          stream.write(request)
          stream.end()
        }),
    )
  }

  /**
   * A stream that stands until one side ends it; the caller listens to `data`, `error` and `end`.
   * @throws StreamError STORE_UNAVAILABLE, NOT_ALLOWED, CLOSED
   */
  async stream<Request, Response>(
    method: Method<Request, Response>,
  ): Promise<{ endpoint: EtcdEndpoint; stream: ClientDuplexStream<Request, Response> }> {
    const deadlineMs = this.time.monotonicMs() + this.options.requestTimeoutMs
    const endpoint = await this.pick(deadlineMs)
    try {
      const metadata = await this.metadata(endpoint, deadlineMs)
      return { endpoint, stream: this.duplex(endpoint, method, metadata, undefined) }
    } catch (error) {
      this.checkOpen()
      const failure = storeError(error, endpoint.url)
      if (failure.code === 'STORE_UNAVAILABLE') this.suspect(endpoint)
      throw failure
    }
  }

  /** It did not answer, or not as it should: the next call goes to another one. */
  suspect(endpoint: EtcdEndpoint): void {
    endpoint.suspectUntilMs = this.time.monotonicMs() + SUSPECT_MS
    if (this.endpoints[this.current] === endpoint) {
      this.current = (this.current + 1) % this.endpoints.length
    }
  }

  /** The token was refused: the next call logs in again. */
  forgetToken(): void {
    this.token = undefined
  }

  /** Calls under way end with CLOSED. Idempotent. */
  close(): void {
    this.isClosed = true
    for (const call of this.open) call.cancel()
    for (const { client } of this.endpoints) client.close()
  }

  checkOpen(): void {
    if (this.isClosed) throw closed()
  }

  private async attempts<Response>(
    isRepeatable: boolean,
    attempt: (endpoint: EtcdEndpoint, metadata: Metadata, timeoutMs: number) => Promise<Response>,
  ): Promise<Response> {
    const deadlineMs = this.time.monotonicMs() + this.options.requestTimeoutMs
    const partMs = Math.max(
      ATTEMPT_MS_MIN,
      this.options.requestTimeoutMs / (isRepeatable ? this.endpoints.length : 1),
    )
    let mayLogIn = true
    for (;;) {
      const endpoint = await this.pick(deadlineMs)
      try {
        const metadata = await this.metadata(endpoint, deadlineMs)
        const leftMs = Math.max(1, deadlineMs - this.time.monotonicMs())
        return await attempt(endpoint, metadata, Math.min(partMs, leftMs))
      } catch (error) {
        if (this.isClosed) throw closed()
        if (mayLogIn && this.options.auth !== undefined && isTokenRefused(error)) {
          mayLogIn = false
          this.forgetToken()
          continue
        }
        const failure = storeError(error, endpoint.url)
        if (failure.code !== 'STORE_UNAVAILABLE') throw failure
        this.suspect(endpoint)
        if (!isRepeatable || this.time.monotonicMs() + PAUSE_MS >= deadlineMs) throw failure
        await sleep(this.time, PAUSE_MS)
      }
    }
  }

  /**
   * An endpoint that is connected. The one used last, if it answered; else the first that can be had.
   * @throws StreamError STORE_UNAVAILABLE when none is, and CLOSED
   */
  private async pick(deadlineMs: number): Promise<EtcdEndpoint> {
    this.checkOpen()
    const now = this.time.monotonicMs()
    const inOrder = this.endpoints.map(
      (_, index) => this.endpoints[(this.current + index) % this.endpoints.length] as EtcdEndpoint,
    )
    const [first] = inOrder
    if (first !== undefined && first.suspectUntilMs <= now && this.isReady(first)) return first
    const trusted = inOrder.filter(({ suspectUntilMs }) => suspectUntilMs <= now)
    const doubtful = inOrder.filter((endpoint) => !trusted.includes(endpoint))
    const fallback = doubtful.find((endpoint) => this.isReady(endpoint))
    const waitMs = fallback === undefined ? deadlineMs - now : BETTER_WAIT_MS
    const found = (await this.firstReady(trusted, waitMs)) ?? fallback
    const chosen = found ?? (await this.firstReady(doubtful, deadlineMs - this.time.monotonicMs()))
    this.checkOpen()
    if (chosen === undefined) throw await this.noEndpoint()
    this.current = this.endpoints.indexOf(chosen)
    return chosen
  }

  private isReady({ client }: EtcdEndpoint): boolean {
    const state = client.getChannel().getConnectivityState(true)
    return state === this.grpc.connectivityState.READY
  }

  /** The first that gets connected; undefined when all have failed, or the time is over. */
  private firstReady(
    endpoints: readonly EtcdEndpoint[],
    waitMs: number,
  ): Promise<EtcdEndpoint | undefined> {
    return new Promise((resolve) => {
      let waiting = endpoints.length
      if (waiting === 0) resolve(undefined)
      for (const endpoint of endpoints) {
        void this.whenSettled(endpoint, Date.now() + Math.max(1, waitMs)).then((isReady) => {
          waiting -= 1
          if (isReady) resolve(endpoint)
          else if (waiting === 0) resolve(undefined)
        })
      }
    })
  }

  private whenSettled({ client }: EtcdEndpoint, deadlineWallMs: number): Promise<boolean> {
    const { connectivityState } = this.grpc
    const channel = client.getChannel()
    return new Promise((resolve) => {
      const look = (): void => {
        const state = this.isClosed
          ? connectivityState.SHUTDOWN
          : channel.getConnectivityState(true)
        switch (state) {
          case connectivityState.READY:
            resolve(true)
            break
          case connectivityState.TRANSIENT_FAILURE:
          case connectivityState.SHUTDOWN:
            resolve(false)
            break
          default:
            channel.watchConnectivityState(state, deadlineWallMs, (error) =>
              error === undefined ? look() : resolve(false),
            )
        }
      }
      look()
    })
  }

  /** gRPC tells why a connection failed only to a call that it refuses for it. */
  private async noEndpoint(): Promise<StreamError> {
    const defects = await Promise.all(
      this.endpoints.map(async (endpoint) => {
        const { status } = this.methods
        const bytes = status.requestSerialize({})
        try {
          await this.unary(endpoint, status, bytes, new this.grpc.Metadata(), PROBE_MS)
          return `${endpoint.url}: it took too long`
        } catch (error) {
          return `${endpoint.url}: ${connectionDefect(error)}`
        }
      }),
    )
    return new StreamError(
      'STORE_UNAVAILABLE',
      `no endpoint of etcd is reached: ${defects.join('; ')}`,
      {
        target: this.endpoints.map(({ url }) => url).join(','),
        hint: this.endpoints.some(({ url }) => url.startsWith('https:'))
          ? 'check that etcd runs at these addresses, and the certificates'
          : 'check that etcd runs at these addresses, without TLS',
      },
    )
  }

  private async metadata(endpoint: EtcdEndpoint, deadlineMs: number): Promise<Metadata> {
    const metadata = new this.grpc.Metadata()
    // A member that has lost its quorum says so at once.
    metadata.set('hasleader', 'true')
    if (this.options.auth === undefined) return metadata
    this.token ??= this.logIn(endpoint, deadlineMs)
    const asked = this.token
    try {
      const token = await asked
      if (token !== undefined) metadata.set('token', token)
      return metadata
    } catch (error) {
      if (this.token === asked) this.token = undefined
      throw error
    }
  }

  /** @returns undefined where passwords are switched off */
  private async logIn(endpoint: EtcdEndpoint, deadlineMs: number): Promise<string | undefined> {
    const { authenticate } = this.methods
    const { user: name = '', password = '' } = this.options.auth ?? {}
    const bytes = authenticate.requestSerialize({ name, password })
    const timeoutMs = Math.max(1, deadlineMs - this.time.monotonicMs())
    try {
      const metadata = new this.grpc.Metadata()
      return (await this.unary(endpoint, authenticate, bytes, metadata, timeoutMs)).token
    } catch (error) {
      if (!isAuthOff(error)) throw error
      this.log.warn('etcd has authentication switched off: everybody who reaches it may write', {
        endpoint: endpoint.url,
      })
      return undefined
    }
  }

  private unary<Request, Response>(
    { client }: EtcdEndpoint,
    method: Method<Request, Response>,
    bytes: Buffer,
    metadata: Metadata,
    timeoutMs: number,
  ): Promise<Response> {
    return new Promise((resolve, reject) => {
      const call = client.makeUnaryRequest<Buffer, Response>(
        method.path,
        (ready) => ready,
        (answer) => method.responseDeserialize(answer),
        bytes,
        metadata,
        { deadline: Date.now() + timeoutMs },
        (error, response) => {
          this.open.delete(call)
          if (error !== null) reject(error)
          else resolve(response as Response)
        },
      )
      this.open.add(call)
    })
  }

  private duplex<Request, Response>(
    { client }: EtcdEndpoint,
    method: Method<Request, Response>,
    metadata: Metadata,
    timeoutMs: number | undefined,
  ): ClientDuplexStream<Request, Response> {
    const stream = client.makeBidiStreamRequest<Request, Response>(
      method.path,
      (request) => method.requestSerialize(request),
      (answer) => method.responseDeserialize(answer),
      metadata,
      timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs },
    )
    this.open.add(stream)
    stream.on('status', () => this.open.delete(stream))
    return stream
  }

  private connect(target: string, isTls: boolean): Client {
    const { grpc, options } = this
    const { tls } = options
    const bytes = (pem: Uint8Array | undefined): Buffer | null =>
      pem === undefined ? null : Buffer.from(pem)
    const credentials = isTls
      ? grpc.credentials.createSsl(bytes(tls?.ca), bytes(tls?.key), bytes(tls?.certificate))
      : grpc.credentials.createInsecure()
    return new grpc.Client(target, credentials, {
      'grpc.enable_retries': 0,
      'grpc.enable_http_proxy': 0,
      'grpc.service_config_disable_resolution': 1,
      'grpc.use_local_subchannel_pool': 1,
      'grpc.max_receive_message_length': -1,
      'grpc.initial_reconnect_backoff_ms': 100,
      'grpc.max_reconnect_backoff_ms': 1000,
      'grpc.keepalive_time_ms': KEEP_ALIVE_MS,
      'grpc.keepalive_timeout_ms': KEEP_ALIVE_TIMEOUT_MS,
      ...(isTls && tls?.serverName !== undefined
        ? {
            'grpc.ssl_target_name_override': tls.serverName,
            'grpc.default_authority': tls.serverName,
          }
        : {}),
    })
  }
}

export function closed(): StreamError {
  return new StreamError('CLOSED', 'the metadata store is closed')
}
