/**
 * Calls to etcd: deadlines, what is tried again, the token of a login.
 *
 * Invariants:
 * - A call that may not be repeated is sent once. gRPC's own retries are off.
 * - Every call ends by its deadline, whatever the endpoint does; streams that stand have gRPC's keep-alive.
 */
import type { ClientDuplexStream, Metadata } from '@grpc/grpc-js'
import type { Log } from '../ports/log.ts'
import { sleep, type Time } from '../ports/time.ts'
import { closed, type EtcdEndpoint, EtcdEndpoints } from './etcd-endpoints.ts'
import { isAuthOff, isTokenRefused, storeError } from './etcd-errors.ts'
import { currentPassword, type EtcdOptions } from './etcd-options.ts'
import { type EtcdMethods, type GrpcModule, loadEtcdMethods } from './etcd-schema.ts'

type Method<Request, Response> = {
  readonly path: string
  requestSerialize(value: Request): Buffer
  responseDeserialize(bytes: Buffer): Response
}

const ATTEMPT_MS_MIN = 1000
const PAUSE_MS = 50

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
  private readonly endpoints: EtcdEndpoints
  private readonly open = new Set<{ cancel(): void }>()
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
    this.endpoints = new EtcdEndpoints(time, grpc, options, async (endpoint, timeoutMs) => {
      const { status } = this.methods
      const bytes = status.requestSerialize({})
      await this.unary(endpoint, status, bytes, new grpc.Metadata(), timeoutMs)
    })
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
    const endpoint = await this.endpoints.pick(deadlineMs)
    try {
      const metadata = await this.metadata(endpoint, deadlineMs)
      return { endpoint, stream: this.duplex(endpoint, method, metadata, undefined) }
    } catch (error) {
      this.checkOpen()
      const failure = storeError(error, endpoint.url)
      if (failure.code === 'STORE_UNAVAILABLE') this.endpoints.suspect(endpoint)
      throw failure
    }
  }

  /** It did not answer, or not as it should: the next call goes to another one. */
  suspect(endpoint: EtcdEndpoint): void {
    this.endpoints.suspect(endpoint)
  }

  /** The token was refused: the next call logs in again. */
  forgetToken(): void {
    this.token = undefined
  }

  /** Calls under way end with CLOSED. Idempotent. */
  close(): void {
    this.isClosed = true
    for (const call of this.open) call.cancel()
    this.endpoints.close()
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
      this.options.requestTimeoutMs / (isRepeatable ? this.endpoints.count : 1),
    )
    let mayLogIn = true
    for (;;) {
      const endpoint = await this.endpoints.pick(deadlineMs)
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
        this.endpoints.suspect(endpoint)
        if (!isRepeatable || this.time.monotonicMs() + PAUSE_MS >= deadlineMs) throw failure
        await sleep(this.time, PAUSE_MS)
      }
    }
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
    const { auth } = this.options
    const password = auth === undefined ? '' : currentPassword(auth)
    const bytes = authenticate.requestSerialize({ name: auth?.user ?? '', password })
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
}
