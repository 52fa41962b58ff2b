/**
 * The library's entry: `connect`, over the client and the real ports. What it promises stands in public.d.ts.
 *
 * Invariant: nothing is kept outside the connection. No signal is taken, no handler set, nothing printed.
 */
import { join } from 'node:path'
import { isStreamError, StreamError } from '../base/errors.ts'
import { Admin as AdminClient } from '../client/admin.ts'
import { Cluster, type ClusterWarning, type Protection } from '../client/cluster.ts'
import { Consumer as ConsumerClient } from '../client/consumer.ts'
import { Producer as ProducerClient } from '../client/producer.ts'
import { RealHost } from '../io/real-host.ts'
import { RealNet } from '../io/real-net.ts'
import { RealRandom } from '../io/real-random.ts'
import { RealTime } from '../io/real-time.ts'
import type { Host } from '../ports/host.ts'
import { silentLog } from '../ports/log.ts'
import { LibraryAdmin } from './admin.ts'
import {
  type BrokerChoice,
  chooseBroker,
  daemonLogPath,
  dataDirectory,
  runtimeDirectory,
} from './broker-address.ts'
import { LibraryConsumer } from './consumer.ts'
import { checkConsumerOptions, checkProducerOptions } from './option-checks.ts'
import { LibraryProducer } from './producer.ts'
import type {
  Admin,
  Connection,
  ConnectOptions,
  Consumer,
  ConsumerOptions,
  Producer,
  ProducerOptions,
  Warning,
} from './public.d.ts'

export { StreamError } from '../base/errors.ts'

const START_MS_MAX = 10_000

export async function connect(options: ConnectOptions = {}): Promise<Connection> {
  const host = new RealHost()
  const choice = chooseBroker(host, options.broker)
  for (const addresses of choice.candidates) {
    const connection = new LibraryConnection(
      addresses,
      options,
      await protection(host, addresses, options),
    )
    try {
      await connection.open()
      return connection
    } catch (error) {
      await connection.close()
      if (choice.own === undefined || !isStreamError(error, 'UNREACHABLE')) throw error
    }
  }
  return await connectToOwn(host, choice, options)
}

async function protection(
  host: Host,
  addresses: readonly string[],
  options: ConnectOptions,
): Promise<Protection> {
  const { tls, login, curve } = options
  if (!tls && login === undefined && curve === undefined) return {}
  const { securityOf } = await import('./security.ts')
  return securityOf(host, addresses, options)
}

async function connectToOwn(
  host: Host,
  { own }: BrokerChoice,
  options: ConnectOptions,
): Promise<Connection> {
  if (own === undefined || options.autostart !== true) {
    throw new StreamError('UNREACHABLE', 'no daemon is running', {
      hint: 'start one: stream daemon start; or connect with { autostart: true } or { broker: ADDRESS }',
    })
  }
  const { ProcessLauncher } = await import('../io/daemon-process.ts')
  const here = import.meta.dirname
  const isBundle = here.endsWith('dist')
  const launcher = new ProcessLauncher({
    scriptPath: isBundle ? join(here, 'daemon.cjs') : join(here, '../../daemon/main.ts'),
  })
  host.makeDirectory(runtimeDirectory(host), 0o700)
  await launcher.launch({
    address: own,
    arguments: ['--data', dataDirectory(host), '--listen', own],
    logPath: daemonLogPath(host),
    readyMsMax: START_MS_MAX,
  })
  const security = await protection(host, [own], options)
  const connection = new LibraryConnection([own], options, security)
  try {
    await connection.open()
    return connection
  } catch (error) {
    await connection.close()
    throw error
  }
}

class LibraryConnection implements Connection {
  readonly broker: string
  readonly admin: Admin
  readonly #time = new RealTime()
  readonly #random = new RealRandom()
  readonly #cluster: Cluster
  readonly #options: ConnectOptions
  readonly #newCluster: () => Cluster
  readonly #parts = new Set<{ close(): Promise<void> }>()
  #adminClient: AdminClient | undefined
  #closing: Promise<void> | undefined

  constructor(addresses: readonly string[], options: ConnectOptions, security: Protection) {
    this.broker = addresses.join(',')
    this.#options = options
    const { clientId = 'stream-library', connectTimeoutMs, requestTimeoutMs } = options
    const net = new RealNet()
    this.#newCluster = () =>
      new Cluster(this.#time, this.#random, net, silentLog, {
        addresses,
        clientId,
        // A socket that is not there will not come by waiting.
        retryFirstContact: !addresses.every((address) => address.startsWith('ipc:')),
        onWarning: (warning) => this.#warn(warningOf(warning)),
        ...security,
        ...(connectTimeoutMs === undefined ? {} : { connectTimeoutMs }),
        ...(requestTimeoutMs === undefined ? {} : { requestTimeoutMs }),
      })
    this.#cluster = this.#newCluster()
    this.admin = new LibraryAdmin(() => this.#adminOfClient())
  }

  open(): Promise<void> {
    return this.#cluster.connect()
  }

  producer(options: ProducerOptions = {}): Producer {
    this.#assertOpen()
    checkProducerOptions(options)
    const { acks, compression, lingerMs, deliveryTimeoutMs, create } = options
    const producer = new LibraryProducer(
      (onDelivery) =>
        new ProducerClient(this.#time, this.#random, this.#cluster, {
          codec: compression ?? (this.broker.startsWith('ipc:') ? 'none' : 'lz4'),
          trackOrdinals: true,
          afterRefusal: 'continue',
          onDelivery,
          ...(acks === undefined ? {} : { acks }),
          ...(lingerMs === undefined ? {} : { lingerMs }),
          ...(deliveryTimeoutMs === undefined ? {} : { deliveryTimeoutMs }),
        }),
      {
        time: this.#time,
        create: create ?? false,
        admin: () => this.#adminOfClient(),
        onClose: () => this.#parts.delete(producer),
      },
    )
    this.#parts.add(producer)
    return producer
  }

  consumer(options: ConsumerOptions): Consumer {
    this.#assertOpen()
    checkConsumerOptions(options)
    const { isolation, rack = this.#options.rack } = options
    // Kafka answers a connection's requests one by one: a fetch that waits for records would hold up all that come after it.
    const own = this.#cluster.isNative ? undefined : this.#newCluster()
    const client = new ConsumerClient(this.#time, this.#random, own ?? this.#cluster, {
      ...(isolation === undefined ? {} : { isolation }),
      ...(rack === undefined ? {} : { rack }),
    })
    const consumer = new LibraryConsumer(client, {
      ...options,
      time: this.#time,
      admin: () => this.#adminOfClient(),
      onWarning: (warning) => this.#warn(warning),
      onClose: () => {
        own?.close()
        this.#parts.delete(consumer)
      },
    })
    this.#parts.add(consumer)
    return consumer
  }

  close(): Promise<void> {
    this.#closing ??= this.#end()
    return this.#closing
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  async #end(): Promise<void> {
    await Promise.all([...this.#parts].map((part) => part.close()))
    this.#cluster.close()
  }

  #adminOfClient(): AdminClient {
    this.#assertOpen()
    this.#adminClient ??= new AdminClient(this.#time, this.#random, this.#cluster)
    return this.#adminClient
  }

  #assertOpen(): void {
    if (this.#closing !== undefined) throw new StreamError('CLOSED', 'the connection is closed')
  }

  #warn(warning: Warning): void {
    this.#options.onWarning?.(warning)
  }
}

function warningOf(warning: ClusterWarning): Warning {
  if (warning.kind === 'refused' || warning.kind === 'taken') {
    const { topic, partition } = warning.partition
    const message = warning.kind === 'taken' ? 'records are taken again' : warning.error.message
    return { kind: warning.kind, topic, partition, message }
  }
  if (warning.kind === 'unanswered' || warning.kind === 'answered') {
    const message = warning.kind === 'answered' ? 'answered again' : warning.error.message
    return { kind: warning.kind, target: warning.target, message }
  }
  const { kind, address } = warning
  const message = warning.kind === 'regained' ? 'contact regained' : warning.error.message
  return { kind, broker: address, message }
}
