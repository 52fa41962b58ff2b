/** The faults of a simulated cluster, drawn from the seed: begun, and ended when calm comes. The table is in cluster-run.ts. */
import { flipBit } from './cluster-damage.ts'
import type { ClusterTruth } from './cluster-truth.ts'
import type { GateOrder } from './gate.ts'
import type { SimBroker } from './sim-broker.ts'
import type { SimNetwork } from './sim-net.ts'
import type { SimRandom } from './sim-random.ts'
import type { SimStoreServer } from './sim-store.ts'
import type { SimWorld } from './sim-world.ts'

export type ClusterFault = Strike | 'links' | 'repeat' | 'delay' | 'unknown' | 'orders'

const strikes = [
  ...(['crash', 'power', 'cut', 'store', 'lease', 'sync', 'clock', 'pause', 'flip'] as const),
]
type Strike = (typeof strikes)[number]

const DAY_MS = 86_400_000
/** Odds, and how long a message is late. The later, the rarer: what is behind it on its link waits as well. */
const SPIKES = [
  [0.02, 1000],
  [0.01, 6000],
  [0.004, 20_000],
] as const

export interface TroubleWorld {
  readonly world: SimWorld
  readonly random: SimRandom
  readonly network: SimNetwork
  readonly stores: SimStoreServer
  readonly brokers: readonly SimBroker[]
  readonly truth: ClusterTruth
  readonly partitions: number
  /** Leaves out every fault but these. */
  readonly only: readonly ClusterFault[] | undefined
}

export class ClusterTrouble {
  isOver = false
  readonly fired: Record<string, number> = {}
  readonly #world: SimWorld
  readonly #random: SimRandom
  readonly #network: SimNetwork
  readonly #stores: SimStoreServer
  readonly #brokers: readonly SimBroker[]
  readonly #truth: ClusterTruth
  readonly #partitions: number
  readonly #only: readonly ClusterFault[] | undefined
  /** What lets those go on that stand still. */
  readonly #paused = new Set<(order: GateOrder) => void>()

  constructor(world: TroubleWorld) {
    this.#world = world.world
    this.#random = world.random
    this.#network = world.network
    this.#stores = world.stores
    this.#brokers = world.brokers
    this.#truth = world.truth
    this.#partitions = world.partitions
    this.#only = world.only
  }

  #mayHappen(fault: ClusterFault): boolean {
    return this.#only?.includes(fault) ?? true
  }

  count(name: string): void {
    this.fired[name] = (this.fired[name] ?? 0) + 1
  }

  begin(): void {
    const { faults } = this.#network
    if (this.#mayHappen('links') && this.#random.chance(0.5)) faults.loseLink = 0.01
    if (this.#mayHappen('repeat') && this.#random.chance(0.5)) faults.duplicate = 0.1
    if (this.#mayHappen('delay') && this.#random.chance(0.5)) {
      // From slow to so late that whoever waits has asked again, and the first question arrives after all.
      const [odds, lateMs] = this.#random.pick(SPIKES)
      faults.spike = odds
      faults.spikeMs = lateMs
    }
    if (this.#mayHappen('unknown') && this.#random.chance(0.5)) {
      this.#stores.faults.answerLost = 0.05
      this.#stores.faults.requestLost = 0.05
      this.#stores.faults.appliedLate = 0.05
    }
    const kinds = strikes.filter(
      // Each run has its own selection: all faults at once hide each other.
      (kind) => this.#mayHappen(kind) && this.#random.chance(0.6),
    )
    if (kinds.length === 0) return
    const next = (): void => {
      if (this.isOver) return
      this.#strike(this.#random.pick(kinds))
      this.#world.schedule(this.#random.between(500, 15_000), 'trouble', next)
    }
    this.#world.schedule(this.#random.between(10, 2000), 'trouble', next)
  }

  #strike(kind: Strike): void {
    if (kind !== 'flip') this.count(kind)
    switch (kind) {
      case 'crash':
        this.#killSoon(this.#random.pick(this.#brokers), 'process')
        return
      case 'power': {
        // Of one, of a minority, of all at once.
        const count = this.#random.pick([1, 1, 1, 2, this.#brokers.length])
        for (const broker of this.#shuffled().slice(0, count)) this.#killSoon(broker, 'power')
        return
      }
      case 'cut':
        this.#cut()
        return
      case 'store': {
        const { store } = this.#random.pick(this.#brokers)
        if (store === undefined) return
        store.isCutOff = true
        this.#world.schedule(this.#random.between(100, 30_000), 'store again', () => {
          store.isCutOff = false
        })
        return
      }
      case 'lease':
        this.#stores.expireAny()
        return
      case 'sync': {
        // Disks of one make fail together.
        const count = this.#random.pick([1, 1, 1, 2, this.#brokers.length])
        this.#failSyncs(this.#shuffled().slice(0, count))
        return
      }
      case 'clock':
        this.#random.pick(this.#brokers).jumpClock(this.#random.between(-DAY_MS, DAY_MS))
        return
      case 'pause':
        this.#pause()
        return
      case 'flip':
        if (flipBit(this.#truth, this.#brokers, this.#partitions, this.#random)) this.count(kind)
        return
    }
  }

  #shuffled(): SimBroker[] {
    const rest = [...this.#brokers]
    const order: SimBroker[] = []
    while (rest.length > 0) order.push(...rest.splice(this.#random.integer(rest.length), 1))
    return order
  }

  /** In the middle of one of its next operations on the disk; it comes back after a while. */
  #killSoon(broker: SimBroker, kind: 'process' | 'power'): void {
    if (broker.daemon === undefined) return
    const { disk } = broker
    disk.crashAtOperation = disk.operations + this.#random.pick([1, 1, 2, 3, 5, 10, 30])
    const giveUpMs = this.#world.now + 2000
    const look = (): void => {
      // What has not happened when calm comes never does.
      if (broker.disk !== disk || !(!this.isOver || disk.isDead)) return
      if (!disk.isDead && this.#world.now < giveUpMs) {
        this.#world.schedule(5, 'watch', look)
        return
      }
      broker.kill(kind)
      const awayMs = this.#random.pick([10, 500, 5000, 20_000])
      this.#world.schedule(this.#random.between(1, awayMs), `start ${broker.host}`, () => {
        if (broker.daemon === undefined) broker.start()
      })
    }
    this.#world.schedule(1, 'watch', look)
  }

  /** One stands still, or with it the machine that it runs on; its lease may end meanwhile. */
  #pause(): void {
    const broker = this.#random.pick(this.#brokers)
    if (broker.daemon === undefined || broker.isPaused) return
    const goOn = broker.pause(this.#random.pick(['process', 'machine']))
    this.#paused.add(goOn)
    const longMs = this.#random.pick([300, 3000, 15_000, 40_000])
    this.#world.schedule(this.#random.between(10, longMs), 'go on', () => {
      this.#paused.delete(goOn)
      goOn(this.#random.pick(['arrival', 'timers', 'messages']))
    })
  }

  /**
   * As a kernel does it: the bytes are not on the medium, and the next sync says that all is well. Who is started in their place
   * finds the page cache as it was, or, where the machines were turned off, only what the media have.
   */
  #failSyncs(brokers: readonly SimBroker[]): void {
    const struck = brokers.map((broker) => ({ broker, disk: broker.disk, hasFailed: false }))
    for (const one of struck) {
      one.disk.failsSync = () => {
        const fails = !one.hasFailed
        one.hasFailed = true
        return fails
      }
    }
    const kind = this.#random.pick(['process', 'power'] as const)
    this.#world.schedule(this.#random.between(500, 10_000), 'after the failed sync', () => {
      // Also those that are still about to start: nobody would end one that fails later.
      const same = struck.filter(({ broker, disk }) => broker.disk === disk)
      for (const { disk } of same) disk.failsSync = () => false
      const failed = same.filter(({ hasFailed }) => hasFailed)
      for (const { broker } of failed) broker.kill(kind)
      for (const { broker } of failed) broker.start()
    })
  }

  #cut(): void {
    const hosts = [...this.#brokers.map(({ host }) => host), 'p0']
    const from = this.#random.pick(hosts)
    const others = hosts.filter((host) => host !== from)
    const isolates = this.#random.chance(0.4)
    for (const to of isolates ? others : [this.#random.pick(others)]) {
      if (this.#random.chance(0.5)) this.#network.blockBoth(from, to)
      else this.#network.block(from, to)
    }
    this.#world.schedule(this.#random.between(200, 30_000), 'heal', () => this.#network.heal())
  }

  /** Nothing new happens, and what happens now ends. */
  calm(): void {
    this.isOver = true
    for (const goOn of this.#paused) goOn('arrival')
    this.#network.heal()
    this.#network.calm()
    this.#stores.calm()
    for (const { disk } of this.#brokers) {
      disk.crashAtOperation = Number.POSITIVE_INFINITY
      disk.failsSync = () => false
    }
  }
}
