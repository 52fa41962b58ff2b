/** One daemon of a simulated cluster as a process: its disk, its clock, its place in the network, its deaths and starts. */
import { type Daemon, type DaemonPorts, startDaemon } from '../../daemon/doors/daemon.ts'
import type { Broker } from '../../daemon/replica/broker.ts'
import type { Disk } from '../../src/ports/disk.ts'
import type { Log } from '../../src/ports/log.ts'
import type { MetadataStore } from '../../src/ports/metadata-store.ts'
import { Gate, GatedNet, GatedStore, GatedTime, type GateOrder } from './gate.ts'
import { quiet } from './sim-clients.ts'
import { SimDisk } from './sim-disk.ts'
import type { SimNetwork } from './sim-net.ts'
import type { SimStore, SimStoreServer } from './sim-store.ts'
import { SimTime } from './sim-time.ts'
import type { SimWorld } from './sim-world.ts'

export interface SimBrokerWorld {
  readonly world: SimWorld
  readonly network: SimNetwork
  readonly stores: SimStoreServer
  readonly config: ReadonlyMap<string, string>
  wrapDisk?(disk: Disk): Disk
  wrapStore?(store: MetadataStore): MetadataStore
  /** What a daemon says; nobody listens when absent. */
  log?(host: string): Log
}

const START_AGAIN_MS = 200

export class SimBroker {
  readonly nodeId: number
  readonly host: string
  readonly address: string
  disk: SimDisk
  /** Its way to the metadata store; undefined until it has asked for it. */
  store: SimStore | undefined
  /** At any time; false: nobody has made it part of the cluster yet. */
  wasStarted = false
  daemon: (Daemon & { readonly broker: Broker }) | undefined
  readonly #shared: SimBrokerWorld
  #time: SimTime
  #gate = new Gate()
  #boots = 0
  #starts = 0
  #isWanted = false

  constructor(shared: SimBrokerWorld, nodeId: number) {
    this.#shared = shared
    this.nodeId = nodeId
    this.host = `b${nodeId}`
    this.address = `tcp://${this.host}:7000`
    const { world } = shared
    this.disk = this.#newDisk('')
    this.#time = new SimTime(world, { name: this.host })
  }

  #newDisk(name: string): SimDisk {
    const { world } = this.#shared
    return new SimDisk(world.random.fork(`disk${this.nodeId}${name}`), this.#diskTime())
  }

  /** The kernel's work goes on while the process stands still, which hears of it afterwards. */
  #diskTime(): GatedTime {
    return new GatedTime(
      this.#gate,
      new SimTime(this.#shared.world, { name: `disk${this.nodeId}` }),
    )
  }

  /** Starts, again and again until it is up or killed; driven by the events of the world. */
  start(): void {
    if (this.#isWanted) return
    this.#isWanted = true
    this.wasStarted = true
    this.#begin()
  }

  #begin(): void {
    const { disk } = this
    disk.onDeath = () => {
      this.#shared.network.crash(this.host)
      this.#time.halt()
    }
    this.#launch().then(
      (daemon) => {
        if (this.disk === disk) this.daemon = daemon as Daemon & { readonly broker: Broker }
      },
      () => {
        if (this.disk !== disk) return
        this.#clear('process')
        this.#shared.world.schedule(START_AGAIN_MS, `${this.host} starts again`, () => {
          if (this.#isWanted && this.daemon === undefined) this.#begin()
        })
      },
    )
  }

  #launch(): Promise<Daemon> {
    const { world, network, stores, config, wrapDisk, wrapStore, log } = this.#shared
    this.#starts += 1
    const gate = this.#gate
    const ports: DaemonPorts = {
      time: new GatedTime(gate, this.#time),
      random: world.random.fork(`${this.host}/${this.#starts}`),
      disk: wrapDisk?.(this.disk) ?? this.disk,
      net: new GatedNet(gate, network.host(this.host)),
      store: () => {
        this.store = stores.connect()
        const store = wrapStore?.(this.store) ?? this.store
        return Promise.resolve(new GatedStore(gate, store))
      },
      log: log?.(this.host) ?? quiet,
    }
    return startDaemon(ports, {
      dataDirectory: '/data',
      listen: [this.address],
      nodeId: this.nodeId,
      config,
      bootId: `boot${this.#boots}`,
      restored: false,
      pid: this.nodeId,
      version: 'simulated',
      advertisedHost: this.host,
      cluster: { endpoints: [this.address] },
    })
  }

  /** Somebody sets its clock. */
  jumpClock(deltaMs: number): void {
    this.#time.jumpWall(deltaMs)
  }

  get isPaused(): boolean {
    return this.#gate.isShut
  }

  /**
   * It stands still: nothing reaches it until what this returns is called.
   * @param kind  `process`: SIGSTOP, its clocks go on; `machine`: the monotonic clock and timers stand still, too
   */
  pause(kind: 'process' | 'machine'): (order: GateOrder) => void {
    const gate = this.#gate
    const time = this.#time
    gate.shut()
    if (kind === 'machine') time.freeze()
    let isOver = false
    return (order) => {
      // A process that died meanwhile never goes on.
      if (isOver || gate !== this.#gate) return
      isOver = true
      time.thaw()
      gate.drain(order, (run) => {
        this.#shared.world.schedule(0, `${this.host} goes on`, () => {
          if (gate === this.#gate) run()
        })
      })
    }
  }

  /** It dies, and what is started in its place finds an empty disk. */
  replaceDisk(): void {
    this.kill('power')
    this.disk = this.#newDisk(`/${this.#boots}`)
  }

  /** It dies here and now. */
  kill(kind: 'process' | 'power'): void {
    this.#isWanted = false
    if (!this.disk.isDead) this.disk.kill()
    this.#clear(kind)
  }

  #clear(kind: 'process' | 'power'): void {
    const { world, network, stores } = this.#shared
    this.daemon = undefined
    network.crash(this.host)
    if (this.store !== undefined) stores.crash(this.store)
    this.store = undefined
    this.#time.halt()
    this.#gate = new Gate()
    this.disk = this.disk.restart(kind, this.#diskTime())
    if (kind === 'power') this.#boots += 1
    this.#time = new SimTime(world, { name: this.host })
  }
}
