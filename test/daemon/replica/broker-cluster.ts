/** Real brokers on one simulated store with leases by time; their data plane is not looked at. */
import { Broker } from '../../../daemon/replica/broker.ts'
import type { StreamError } from '../../../src/base/errors.ts'
import { SimDisk } from '../../sim/sim-disk.ts'
import { type SimStore, SimStoreServer } from '../../sim/sim-store.ts'
import { SimTime } from '../../sim/sim-time.ts'
import { SimWorld } from '../../sim/sim-world.ts'
import { silent } from '../metadata/store-world.ts'

interface Host {
  disk: SimDisk
  time: SimTime
  store: SimStore | undefined
  broker: Broker | undefined
}

export class BrokerCluster {
  readonly world = new SimWorld('cluster of brokers')
  readonly server = new SimStoreServer(this.world, { leases: 'time' })
  readonly hosts = new Map<number, Host>()
  readonly fenced: StreamError[] = []

  async start(nodeId: number, asHost = nodeId, texts: Record<string, string> = {}) {
    return this.world.settle(this.starting(nodeId, asHost, texts))
  }

  /** With the operator's word that what there is counts. */
  startRestored(nodeId: number): Promise<Broker> {
    return this.world.settle(this.starting(nodeId, nodeId, {}, true))
  }

  starting(
    nodeId: number,
    asHost = nodeId,
    texts: Record<string, string> = {},
    restored = false,
  ): Promise<Broker> {
    const host = this.#host(asHost)
    const store = this.server.connect()
    host.store = store
    return Broker.start(
      {
        time: host.time,
        random: this.world.random.fork(`broker ${asHost} ${this.world.eventCount}`),
        disk: host.disk,
        store,
        log: silent,
      },
      {
        dataDirectory: '/data',
        nodeId,
        config: new Map(
          Object.entries({
            'log.dir.reserve.bytes': '0',
            'broker.rack': `rack-${nodeId}`,
            ...texts,
          }),
        ),
        bootId: 'boot',
        restored,
        cluster: {
          endpoints: [`tcp://host-${nodeId}:7000`, `kafka://host-${nodeId}:9092`],
          onFenced: (error) => this.fenced.push(error),
        },
      },
    ).then((broker) => {
      host.broker = broker
      return broker
    })
  }

  crash(nodeId: number): void {
    const host = this.#host(nodeId)
    host.disk.kill()
    host.time.halt()
    if (host.store !== undefined) this.server.crash(host.store)
    host.disk = host.disk.restart('process')
    host.time = new SimTime(this.world, { name: `host ${nodeId}` })
    host.broker = undefined
  }

  async end(nodeId: number): Promise<void> {
    const host = this.#host(nodeId)
    if (host.broker !== undefined) await this.world.settle(host.broker.stop())
    host.broker = undefined
  }

  async all(): Promise<readonly Broker[]> {
    const starts = [1, 2, 3].map((nodeId) => this.starting(nodeId))
    return this.world.settle(Promise.all(starts))
  }

  run(ms: number): Promise<void> {
    return this.world.run({ untilMs: this.world.now + ms })
  }

  controller(): Broker {
    for (const { broker } of this.hosts.values()) if (broker?.isController === true) return broker
    throw new Error('nobody is the controller')
  }

  #host(nodeId: number): Host {
    let host = this.hosts.get(nodeId)
    if (host === undefined) {
      host = {
        disk: new SimDisk(
          this.world.random.fork(`disk ${nodeId}`),
          new SimTime(this.world, { name: 'disk' }),
        ),
        time: new SimTime(this.world, { name: `host ${nodeId}` }),
        store: undefined,
        broker: undefined,
      }
      this.hosts.set(nodeId, host)
    }
    return host
  }
}
