/** A whole daemon on simulated ports, and clients that speak the protocol to it message by message. */
import { type Daemon, type DaemonOptions, startDaemon } from '../../daemon/doors/daemon.ts'
import { StreamError } from '../../src/base/errors.ts'
import type { Disk } from '../../src/ports/disk.ts'
import type { Hashes } from '../../src/ports/hashes.ts'
import type { Log } from '../../src/ports/log.ts'
import type { Link } from '../../src/ports/net.ts'
import type { ApiName, Request, RequestInput, Response } from '../../src/protocol/api-table.ts'
import {
  decodeNotice,
  decodeResponse,
  encodeRequest,
  NOTICE_CORRELATION_ID,
  type Notice,
  readCorrelationId,
} from '../../src/protocol/codec.ts'
import { SimDisk } from '../sim/sim-disk.ts'
import { SimNetwork } from '../sim/sim-net.ts'
import { type SimStore, SimStoreServer } from '../sim/sim-store.ts'
import { SimTime } from '../sim/sim-time.ts'
import { SimWorld } from '../sim/sim-world.ts'

export const ZMQ = 'tcp://daemon:7000'
export const KAFKA = 'kafka://daemon:9092'

export interface StartOptions extends Partial<DaemonOptions> {
  readonly texts?: Readonly<Record<string, string>>
  /** For logins. */
  readonly hashes?: Hashes
}

export class DaemonWorld {
  readonly world: SimWorld
  time: SimTime
  disk: SimDisk
  readonly stores: SimStoreServer
  readonly network: SimNetwork
  /** What the daemon has said, level first. */
  readonly said: string[] = []
  store: SimStore
  stopAsked = 0
  /** What the daemon has in the place of its disk: a bug put in on purpose. */
  wrapDisk: (disk: Disk) => Disk = (disk) => disk
  /** A power cut boots the host anew. */
  #boots = 1

  constructor(seed: number | string = 1, keepsTrace = false) {
    this.world = new SimWorld(seed, keepsTrace)
    this.time = new SimTime(this.world)
    this.disk = new SimDisk(
      this.world.random.fork('disk'),
      new SimTime(this.world, { name: 'disk' }),
    )
    this.stores = new SimStoreServer(this.world)
    this.network = new SimNetwork(this.world)
    this.store = this.stores.connect()
  }

  settle<T>(promise: Promise<T>): Promise<T> {
    return this.world.settle(promise)
  }

  run(ms: number): Promise<void> {
    return this.world.run({ untilMs: this.world.now + ms })
  }

  async start(options: StartOptions = {}): Promise<Daemon> {
    const { texts, hashes, ...rest } = options
    return this.settle(
      startDaemon(
        {
          time: this.time,
          random: this.world.random.fork('daemon'),
          disk: this.wrapDisk(this.disk),
          net: this.network.host('daemon'),
          store: () => {
            this.store = this.stores.connect()
            return Promise.resolve(this.store)
          },
          log: this.#log(),
          ...(hashes === undefined ? {} : { hashes }),
        },
        {
          dataDirectory: '/data',
          listen: [ZMQ, KAFKA],
          nodeId: 1,
          config: new Map(Object.entries(texts ?? {})),
          bootId: `boot ${this.#boots}`,
          restored: false,
          pid: 42,
          version: '0.0.0-test',
          advertisedHost: 'daemon',
          onStopAsked: () => {
            this.stopAsked += 1
          },
          ...rest,
        },
      ),
    )
  }

  stop(daemon: Daemon): Promise<void> {
    return this.settle(daemon.stop({ graceMs: 1000 }))
  }

  /** The process dies: what was not synced is lost or torn, sessions and links end. */
  async crash(kind: 'power' | 'process' = 'power'): Promise<void> {
    this.network.crash('daemon')
    this.stores.crash(this.store)
    this.time.halt()
    this.disk.kill()
    await this.run(1)
    this.time = new SimTime(this.world)
    this.disk = this.disk.restart(kind, this.time)
    if (kind === 'power') this.#boots += 1
  }

  async crashAndRestart(
    options: StartOptions = {},
    kind: 'power' | 'process' = 'power',
  ): Promise<{ readonly daemon: Daemon; readonly client: Client }> {
    await this.crash(kind)
    const daemon = await this.start(options)
    return { daemon, client: this.client() }
  }

  client(address: string = ZMQ): Client {
    return new Client(this, address)
  }

  #log(): Log {
    const say = (level: string) => (message: string, fields?: object) => {
      this.said.push(`${level} ${message} ${JSON.stringify(fields ?? {})}`)
    }
    return { debug: say('debug'), info: say('info'), warn: say('warn'), error: say('error') }
  }
}

interface Pending {
  readonly api: ApiName
  readonly version: number
  readonly resolve: (body: never) => void
  readonly reject: (error: Error) => void
}

/** One connection. `call` sends at once and answers when the answer comes. */
export class Client {
  readonly link: Link
  readonly notices: Notice[] = []
  /** Correlation ids in the order of their answers. */
  readonly answered: number[] = []
  isClosed = false
  readonly #world: DaemonWorld
  /** Notices are of the ZeroMQ door alone: at Kafka's, -1 is the correlation id of whoever chose it. */
  readonly #hasNotices: boolean
  readonly #pending = new Map<number, Pending>()
  #correlationId = 0

  constructor(world: DaemonWorld, address: string) {
    this.#world = world
    this.#hasNotices = address !== KAFKA
    this.link = world.network.host('client').connect(address, {
      onMessage: (frames) => this.#receive(frames),
      onClose: () => {
        this.isClosed = true
        for (const pending of this.#pending.values()) {
          pending.reject(new StreamError('CONNECTION_LOST', 'closed'))
        }
        this.#pending.clear()
      },
    })
  }

  /** Sends without waiting. */
  begin<A extends ApiName>(
    api: A,
    version: number,
    body: RequestInput<A>,
    clientId: string | null = 'test',
  ): Promise<Response<A>> {
    const correlationId = this.#correlationId
    this.#correlationId += 1
    const answer = new Promise<Response<A>>((resolve, reject) => {
      this.#pending.set(correlationId, { api, version, resolve, reject })
    })
    answer.catch(() => undefined)
    this.link.send(encodeRequest(api, version, { correlationId, clientId }, body))
    return answer
  }

  call<A extends ApiName>(api: A, version: number, body: RequestInput<A>): Promise<Response<A>> {
    return this.#world.settle(this.begin(api, version, body))
  }

  send(bytes: Uint8Array): void {
    this.link.send([bytes])
  }

  // --- what most tests ask for

  async create(
    name: string,
    options: { partitions?: number; config?: Readonly<Record<string, string>> } = {},
  ): Promise<Response<'CreateTopics'>['topics'][number]> {
    const configs = Object.entries(options.config ?? {}).map(([name, value]) => ({ name, value }))
    const answer = await this.call('CreateTopics', 7, {
      topics: [
        {
          name,
          numPartitions: options.partitions ?? 1,
          replicationFactor: 1,
          assignments: [],
          configs,
        },
      ],
      timeoutMs: 1000,
    })
    return answer.topics[0]!
  }

  beginProduce(
    topic: string,
    records: Uint8Array | null,
    options: { acks?: number; partition?: number; version?: number; timeoutMs?: number } = {},
  ): Promise<Response<'Produce'>> {
    return this.begin('Produce', options.version ?? 9, {
      acks: options.acks ?? -1,
      timeoutMs: options.timeoutMs ?? 30_000,
      topicData: [{ name: topic, partitionData: [{ index: options.partition ?? 0, records }] }],
    })
  }

  async produce(
    topic: string,
    records: Uint8Array | null,
    options: { acks?: number; partition?: number; version?: number; timeoutMs?: number } = {},
  ): Promise<Response<'Produce'>['responses'][number]['partitionResponses'][number]> {
    const answer = await this.#world.settle(this.beginProduce(topic, records, options))
    return answer.responses[0]!.partitionResponses[0]!
  }

  beginFetch(topic: string, options: FetchOptions = {}): Promise<Response<'Fetch'>> {
    return this.begin('Fetch', options.version ?? 12, fetchBody(topic, options))
  }

  async fetch(
    topic: string,
    options: FetchOptions = {},
  ): Promise<Response<'Fetch'>['responses'][number]['partitions'][number]> {
    const answer = await this.#world.settle(this.beginFetch(topic, options))
    return answer.responses[0]!.partitions[0]!
  }

  async offset(
    topic: string,
    timestamp: number,
    options: { partition?: number; version?: number; isolationLevel?: number } = {},
  ): Promise<Response<'ListOffsets'>['topics'][number]['partitions'][number]> {
    const answer = await this.call('ListOffsets', options.version ?? 7, {
      replicaId: -1,
      isolationLevel: options.isolationLevel ?? 0,
      topics: [
        { name: topic, partitions: [{ partitionIndex: options.partition ?? 0, timestamp }] },
      ],
    })
    return answer.topics[0]!.partitions[0]!
  }

  #receive(frames: readonly Uint8Array[]): void {
    const correlationId = readCorrelationId(frames)
    if (this.#hasNotices && correlationId === NOTICE_CORRELATION_ID) {
      const notice = decodeNotice(frames)
      this.notices.push(notice)
      const pending = this.#pending.get(notice.correlationId)
      this.#pending.delete(notice.correlationId)
      pending?.reject(
        new StreamError('BROKER_ERROR', notice.message, { kafkaError: notice.errorCode }),
      )
      return
    }
    this.answered.push(correlationId)
    const pending = this.#pending.get(correlationId)
    this.#pending.delete(correlationId)
    if (pending === undefined) return
    const { body } = decodeResponse(pending.api, pending.version, frames)
    pending.resolve(body as never)
  }
}

export interface FetchOptions {
  offset?: number
  partition?: number
  version?: number
  maxWaitMs?: number
  minBytes?: number
  maxBytes?: number
  partitionMaxBytes?: number
  isolationLevel?: number
  currentLeaderEpoch?: number
  replicaId?: number
  sessionId?: number
}

export function fetchBody(topic: string, options: FetchOptions): RequestInput<'Fetch'> {
  return {
    replicaId: options.replicaId ?? -1,
    maxWaitMs: options.maxWaitMs ?? 0,
    minBytes: options.minBytes ?? 1,
    maxBytes: options.maxBytes ?? 1 << 26,
    isolationLevel: options.isolationLevel ?? 0,
    sessionId: options.sessionId ?? 0,
    topics: [
      {
        topic,
        partitions: [
          {
            partition: options.partition ?? 0,
            fetchOffset: options.offset ?? 0,
            partitionMaxBytes: options.partitionMaxBytes ?? 1 << 20,
            currentLeaderEpoch: options.currentLeaderEpoch ?? -1,
          },
        ],
      },
    ],
    forgottenTopicsData: [],
  }
}

export type AnyRequest = Request<ApiName>
