/**
 * One simulated run: a daemon on simulated ports, producers and a reader of src/client, and faults drawn from the seed.
 * First trouble, then calm: everything must be delivered, readable, and judged without an anomaly (history.ts), and
 * further restarts must change nothing.
 *
 * | fault | what it does | odds |
 * | --- | --- | --- |
 * | process crash | the daemon dies in the middle of any disk operation; the page cache survives | every run |
 * | power cut | the same, and unsynced sectors and names are lost, kept or torn | every run but those without |
 * | lost links | links break with the message on them | half of the runs |
 * | repeated requests | a whole request arrives again, later, on another link | half of the runs |
 * | delays | messages take up to seconds | half of the runs |
 * | full disk | writes that grow anything fail for a while | a third of the runs |
 * | failed sync | EIO, once; the directory fails and the daemon must be started again | a third of the runs |
 * | bit flips | in closed segments, while the daemon is down | a fifth of the runs, with an oracle of their own |
 */
import { type Daemon, type DaemonPorts, startDaemon } from '../../daemon/doors/daemon.ts'
import { Admin } from '../../src/client/admin.ts'
import type { LocalReadOptions } from '../../src/client/local-reads.ts'
import type { ProducerOptions } from '../../src/client/producer.ts'
import type { Disk } from '../../src/ports/disk.ts'
import type { MetadataStore } from '../../src/ports/metadata-store.ts'
import { type Anomaly, type FoundRecord, judge } from './history.ts'
import {
  type ClientWorld,
  produceLines,
  quiet,
  readTopic,
  type Sent,
  simClient,
} from './sim-clients.ts'
import { SimDisk } from './sim-disk.ts'
import { SimNetwork } from './sim-net.ts'
import type { SimRandom } from './sim-random.ts'
import { type SimStore, SimStoreServer } from './sim-store.ts'
import { SimTime } from './sim-time.ts'
import { SimWorld } from './sim-world.ts'

/** A bug put in on purpose, to prove that the oracles catch what the fault leads to. */
export interface PlantedBug {
  wrapDisk?(disk: Disk): Disk
  wrapStore?(store: MetadataStore): MetadataStore
  readonly producer?: ProducerOptions
}

export interface RunOptions {
  readonly plantedBug?: PlantedBug
  /** Leaves out every fault but these; all when absent. */
  readonly only?: readonly FaultName[]
  readonly keepsTrace?: boolean
  readonly records?: number
}

export type FaultName = 'crash' | 'power' | 'links' | 'repeat' | 'delay' | 'full' | 'sync' | 'flip'

export interface RunResult {
  readonly seed: number | string
  readonly traceHash: string
  readonly anomalies: readonly Anomaly[]
  /** How often each fault took effect. */
  readonly fired: Readonly<Record<string, number>>
  readonly records: number
  readonly events: number
  readonly trace: readonly string[]
}

const ADDRESS = 'tcp://daemon:7000'
const TOPIC = 'numbers'
const PLENTY_BYTES = 2 ** 40
/** Blocks and grants so small that a run of a few kilobytes needs many. */
function localReads(disk: SimDisk): LocalReadOptions {
  return {
    disk,
    blocks: () => [new Uint8Array(8000), new Uint8Array(8000)],
    bytesMin: 100,
    readBytes: 700,
    grantBytes: 3000,
    isLocal: () => true,
  }
}

export async function runDaemon(
  seed: number | string,
  options: RunOptions = {},
): Promise<RunResult> {
  const run = new DaemonRun(seed, options)
  await run.play()
  return run.result()
}

class DaemonRun {
  readonly #options: RunOptions
  readonly #world: SimWorld
  readonly #random: SimRandom
  readonly #network: SimNetwork
  readonly #stores: SimStoreServer
  readonly #fired: Record<string, number> = {}
  readonly #sent: Sent[] = []
  readonly #anomalies: Anomaly[] = []
  readonly #partitions: number
  readonly #flushMessages: number
  readonly #segmentBytes: number
  #disk: SimDisk
  #daemonTime: SimTime
  #store: SimStore | undefined
  #daemon: Daemon | undefined
  #isUp = false
  #boots = 0
  #readers = 0
  #troubled = true
  #found: FoundRecord[] = []

  constructor(seed: number | string, options: RunOptions) {
    this.#options = options
    this.#world = new SimWorld(seed, options.keepsTrace ?? false)
    this.#random = this.#world.random.fork('run')
    this.#network = new SimNetwork(this.#world)
    this.#stores = new SimStoreServer(this.#world)
    this.#disk = new SimDisk(
      this.#world.random.fork('disk'),
      new SimTime(this.#world, { name: 'disk' }),
    )
    this.#daemonTime = new SimTime(this.#world, { name: 'daemon' })
    this.#partitions = this.#random.pick([1, 1, 2, 3])
    this.#flushMessages = 1
    this.#segmentBytes = this.#random.pick([8_000, 8_000, 20_000, 1_000_000])
  }

  async play(): Promise<void> {
    await this.#startUntilUp()
    await this.#createTopic()
    this.#beginTrouble()
    const producers = Array.from({ length: this.#random.pick([1, 2, 3]) }, (_, index) =>
      this.#produce(`p${index}`),
    )
    const all = Promise.all(producers)
    await this.#world.settle(all)
    this.#calm()
    // What was under way (a death not noticed yet, a start, an operator on his way) comes to its end.
    await this.#world.run({ untilMs: this.#world.now + 10_000 })
    await this.#world.run({ until: () => this.#isUp })
    this.#found = await this.#readAll()
    this.#anomalies.push(...judge({ sent: this.#sent, found: this.#found }))
    for (const sent of this.#sent) {
      if (sent.acknowledged === undefined)
        this.#anomalies.push({
          kind: 'lost-write',
          detail: `${sent.value} was never delivered, although all was calm in the end`,
        })
    }
    await this.#restartChangesNothing()
    await this.#stopDaemon()
  }

  result(): RunResult {
    return {
      seed: this.#world.seed,
      traceHash: this.#world.traceHash,
      anomalies: this.#anomalies,
      fired: { ...this.#fired, ...this.#network.fired },
      records: this.#sent.length,
      events: this.#world.eventCount,
      trace: this.#world.trace,
    }
  }

  // --- the daemon and its end

  async #startUntilUp(): Promise<void> {
    for (let attempt = 0; !this.#isUp; attempt++) {
      if (attempt > 50) throw new Error(`seed ${this.#world.seed}: the daemon does not start`)
      await this.#start()
    }
  }

  /** One start; a crash planned for one of its disk operations makes it fail, and the next one follows. */
  async #start(): Promise<void> {
    let outcome: 'up' | 'failed' | undefined
    this.#launch().then(
      (daemon) => {
        this.#daemon = daemon
        outcome = 'up'
      },
      () => {
        outcome = 'failed'
      },
    )
    const disksBefore = this.#disk
    await this.#world.run({ until: () => outcome !== undefined || disksBefore.isDead })
    if (outcome === 'up') {
      this.#isUp = true
      return
    }
    this.#afterDeath(this.#random.pick(['process', 'power']))
    await this.#world.run({ untilMs: this.#world.now + 10 })
  }

  #launch(): Promise<Daemon> {
    // A dead process says nothing more, not even that something went wrong.
    this.#disk.onDeath = () => {
      this.#network.crash('daemon')
      this.#daemonTime.halt()
    }
    const plan = this.#options.plantedBug
    this.#store = undefined
    const ports: DaemonPorts = {
      time: this.#daemonTime,
      random: this.#world.random.fork(`daemon${this.#boots}`),
      disk: plan?.wrapDisk?.(this.#disk) ?? this.#disk,
      net: this.#network.host('daemon'),
      store: () => {
        this.#store = this.#stores.connect()
        return Promise.resolve(plan?.wrapStore?.(this.#store) ?? this.#store)
      },
      log: quiet,
    }
    return startDaemon(ports, {
      dataDirectory: '/data',
      listen: [ADDRESS],
      nodeId: 1,
      config: new Map([['log.dir.reserve.bytes', '0']]),
      bootId: `boot${this.#boots}`,
      restored: false,
      pid: 1,
      version: 'simulated',
      advertisedHost: 'daemon',
    })
  }

  /** What is left of the daemon is cleared away; the disk is as the next process finds it. */
  #afterDeath(kind: 'process' | 'power'): void {
    this.#isUp = false
    this.#daemon = undefined
    this.#network.crash('daemon')
    if (this.#store !== undefined) this.#stores.crash(this.#store)
    this.#daemonTime.halt()
    this.#disk = this.#disk.restart(this.#mayHappen('power') ? kind : 'process')
    if (kind === 'power' && this.#mayHappen('power')) this.#boots++
    this.#daemonTime = new SimTime(this.#world, { name: 'daemon' })
    this.#count(kind === 'power' ? 'power' : 'crash')
  }

  async #stopDaemon(): Promise<void> {
    if (this.#daemon === undefined) return
    await this.#world.settle(this.#daemon.stop({ graceMs: 100 }))
    this.#isUp = false
    this.#daemon = undefined
    if (this.#store !== undefined) this.#stores.crash(this.#store)
  }

  // --- trouble

  #mayHappen(fault: FaultName): boolean {
    return this.#options.only?.includes(fault) ?? true
  }

  #count(name: string): void {
    this.#fired[name] = (this.#fired[name] ?? 0) + 1
  }

  #beginTrouble(): void {
    const { faults } = this.#network
    if (this.#mayHappen('links') && this.#random.chance(0.5)) faults.loseLink = 0.02
    if (this.#mayHappen('repeat') && this.#random.chance(0.5)) faults.duplicate = 0.1
    if (this.#mayHappen('delay') && this.#random.chance(0.5)) faults.spike = 0.05
    const hasFull = this.#mayHappen('full') && this.#random.chance(0.33)
    const hasSync = this.#mayHappen('sync') && this.#random.chance(0.33)
    const hasCrash = this.#mayHappen('crash') || this.#mayHappen('power')
    const next = (): void => {
      if (!this.#troubled) return
      if (this.#isUp) {
        const kinds = [
          hasCrash ? 'crash' : undefined,
          hasFull ? 'full' : undefined,
          hasSync ? 'sync' : undefined,
        ].filter((kind) => kind !== undefined)
        if (kinds.length > 0) this.#strike(this.#random.pick(kinds))
      }
      this.#world.schedule(this.#random.between(200, 3000), 'trouble', next)
    }
    this.#world.schedule(this.#random.between(10, 500), 'trouble', next)
  }

  #strike(kind: string): void {
    if (kind === 'crash') {
      // In the middle of one of the next operations on the disk, or right away.
      this.#disk.crashAtOperation =
        this.#disk.operations + this.#random.pick([1, 1, 2, 3, 5, 10, 30])
      this.#watchForDeath()
    } else if (kind === 'full') {
      const disk = this.#disk
      disk.totalBytes =
        disk.files().reduce((sum, file) => sum + file.sizeBytes, 0) + this.#random.integer(3000)
      this.#count('full')
      this.#world.schedule(this.#random.between(50, 4000), 'space again', () => {
        disk.totalBytes = PLENTY_BYTES
        this.#disk.totalBytes = PLENTY_BYTES
      })
    } else {
      let left = 1
      this.#disk.failsSync = () => left-- > 0
      this.#count('sync')
      // The directory has failed for good: the operator starts the daemon again.
      const disk = this.#disk
      this.#world.schedule(this.#random.between(100, 2000), 'operator', () => {
        if (this.#disk === disk && this.#isUp) this.#dieAndRestart()
      })
    }
  }

  #watchForDeath(): void {
    const disk = this.#disk
    const look = (): void => {
      if (this.#disk !== disk) return
      if (disk.isDead) this.#dieAndRestart()
      else if (disk.crashAtOperation !== Infinity) this.#world.schedule(5, 'watch', look)
    }
    this.#world.schedule(1, 'watch', look)
  }

  #dieAndRestart(): void {
    if (!this.#isUp) return
    this.#disk.kill()
    this.#afterDeath(this.#random.pick(['process', 'power']))
    const again = (): void => {
      this.#begin()
    }
    this.#world.schedule(this.#random.between(1, 500), 'start', again)
  }

  /** Starts beside the running world: what `#start` does, driven by events. */
  #begin(): void {
    const disk = this.#disk
    this.#launch().then(
      (daemon) => {
        if (this.#disk !== disk) return
        this.#daemon = daemon
        this.#isUp = true
      },
      () => {
        if (this.#disk !== disk) return
        this.#world.schedule(50, 'start failed', () => {
          if (this.#disk !== disk || this.#isUp) return
          this.#disk.kill()
          this.#afterDeath('process')
          this.#begin()
        })
      },
    )
  }

  #calm(): void {
    this.#troubled = false
    this.#network.calm()
    this.#disk.crashAtOperation = Infinity
    this.#disk.failsSync = () => false
    this.#disk.totalBytes = PLENTY_BYTES
  }

  // --- clients

  #clients(): ClientWorld {
    return {
      world: this.#world,
      network: this.#network,
      random: this.#random,
      addresses: [ADDRESS],
      topic: TOPIC,
    }
  }

  async #createTopic(): Promise<void> {
    const { cluster, time, random } = simClient(this.#clients(), 'admin')
    const work = async (): Promise<void> => {
      await cluster.connect()
      const [outcome] = await new Admin(time, random, cluster).createTopics([
        {
          name: TOPIC,
          partitions: this.#partitions,
          configs: {
            'flush.messages': String(this.#flushMessages),
            'internal.segment.bytes': String(this.#segmentBytes),
            'index.interval.bytes': '512',
          },
        },
      ])
      if (outcome?.error !== undefined) throw outcome.error
      cluster.close()
    }
    await this.#world.settle(work())
  }

  #produce(name: string): Promise<void> {
    const { producer } = this.#options.plantedBug ?? {}
    return produceLines(this.#clients(), name, this.#sent, {
      records: this.#options.records ?? 60 + this.#random.integer(100),
      partitions: this.#partitions,
      ...(producer === undefined ? {} : { producer }),
    })
  }

  #readAll(): Promise<FoundRecord[]> {
    // Every second reader takes what it can from the files, as one on the daemon's machine does.
    const isLocal = this.#readers++ % 2 === 0
    const reads = isLocal ? localReads(this.#disk) : undefined
    const name = `reader${this.#world.eventCount}`
    return this.#world.settle(readTopic(this.#clients(), name, reads))
  }

  /** Recovery is idempotent: neither a clean restart, nor a dead process, nor another power cut changes what is read. */
  async #restartChangesNothing(): Promise<void> {
    for (const how of ['clean', 'process', 'power'] as const) {
      if (how === 'clean') {
        await this.#stopDaemon()
        this.#network.crash('daemon')
        this.#daemonTime.halt()
        this.#disk = this.#disk.restart('process')
        this.#daemonTime = new SimTime(this.#world, { name: 'daemon' })
      } else this.#afterDeath(how)
      await this.#startUntilUp()
      const again = await this.#readAll()
      if (JSON.stringify(again) !== JSON.stringify(this.#found)) {
        this.#anomalies.push({
          kind: 'inconsistent-offsets',
          detail: `after a ${how} restart ${again.length} records were read, before it ${this.#found.length}`,
        })
      }
    }
  }
}
