/**
 * The endpoints of etcd, a connection each, and which of them a call goes to: the one used last while it answers, else the first that
 * can be had. One that did not answer is passed over for a while, where another one is to be had.
 */
import { isIP } from 'node:net'
import type { ChannelCredentials, Client } from '@grpc/grpc-js'
import { StreamError } from '../base/errors.ts'
import type { Time } from '../ports/time.ts'
import { connectionDefect } from './etcd-errors.ts'
import type { EtcdAddress, EtcdOptions } from './etcd-options.ts'
import type { GrpcModule } from './etcd-schema.ts'

/** How long an endpoint that did not answer comes last. */
const SUSPECT_MS = 5000
/** How long a better endpoint than a suspect one is waited for. */
const BETTER_WAIT_MS = 500
/** Shorter and etcd (--grpc-keepalive-min-time, 5 s) would cut the connection. */
const KEEP_ALIVE_MS = 10_000
const KEEP_ALIVE_TIMEOUT_MS = 3000
const PROBE_MS = 300

export interface EtcdEndpoint {
  /** As it was given; for messages. */
  readonly url: string
  readonly client: Client
  suspectUntilMs: number
}

export class EtcdEndpoints {
  private readonly time: Time
  private readonly grpc: GrpcModule
  private readonly options: EtcdOptions
  private readonly endpoints: readonly EtcdEndpoint[]
  private readonly probe: (endpoint: EtcdEndpoint, timeoutMs: number) => Promise<void>
  private current = 0
  private isClosed = false

  /** @param probe  any call of an endpoint: gRPC tells why a connection failed only to a call that it refuses for it */
  constructor(
    time: Time,
    grpc: GrpcModule,
    options: EtcdOptions,
    probe: (endpoint: EtcdEndpoint, timeoutMs: number) => Promise<void>,
  ) {
    this.time = time
    this.grpc = grpc
    this.options = options
    this.probe = probe
    this.endpoints = options.endpoints.map((endpoint) => ({
      url: endpoint.url,
      client: this.connect(endpoint),
      suspectUntilMs: Number.NEGATIVE_INFINITY,
    }))
  }

  get count(): number {
    return this.endpoints.length
  }

  /** It did not answer, or not as it should: the next call goes to another one. */
  suspect(endpoint: EtcdEndpoint): void {
    endpoint.suspectUntilMs = this.time.monotonicMs() + SUSPECT_MS
    if (this.endpoints[this.current] === endpoint) {
      this.current = (this.current + 1) % this.endpoints.length
    }
  }

  close(): void {
    this.isClosed = true
    for (const { client } of this.endpoints) client.close()
  }

  /**
   * An endpoint that is connected. The one used last, if it answered; else the first that can be had.
   * @throws StreamError STORE_UNAVAILABLE when none is, and CLOSED
   */
  async pick(deadlineMs: number): Promise<EtcdEndpoint> {
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

  private async noEndpoint(): Promise<StreamError> {
    const defects = await Promise.all(
      this.endpoints.map((endpoint) =>
        this.probe(endpoint, PROBE_MS).then(
          () => `${endpoint.url}: it took too long`,
          (error: unknown) => `${endpoint.url}: ${connectionDefect(error)}`,
        ),
      ),
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

  private checkOpen(): void {
    if (this.isClosed) throw closed()
  }

  private connect({ url, target, isTls }: EtcdAddress): Client {
    const { grpc, options } = this
    const { tls } = options
    const bytes = (pem: Uint8Array | undefined): Buffer | null =>
      pem === undefined ? null : Buffer.from(pem)
    const credentials = isTls
      ? grpc.credentials.createSsl(bytes(tls?.ca), bytes(tls?.key), bytes(tls?.certificate))
      : grpc.credentials.createInsecure()
    if (isTls && isIP(new URL(url).hostname.replace(/^\[|\]$/g, '')) !== 0) {
      askForNoName(credentials)
    }
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

/**
 * An IP address is no server name in TLS (RFC 6066), and Node warns of one; gRPC has no option to leave it out. The certificate is
 * compared with the address then, as before.
 */
function askForNoName(credentials: ChannelCredentials): void {
  type Connector = { connectionOptions?: { servername?: string } }
  const inner = credentials as unknown as {
    _createSecureConnector?: (...args: readonly unknown[]) => Connector
  }
  const make = inner._createSecureConnector?.bind(credentials)
  if (make === undefined) return
  inner._createSecureConnector = (...args) => {
    const connector = make(...args)
    if (connector.connectionOptions !== undefined) connector.connectionOptions.servername = ''
    return connector
  }
}

export function closed(): StreamError {
  return new StreamError('CLOSED', 'the metadata store is closed')
}
