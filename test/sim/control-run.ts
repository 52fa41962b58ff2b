/**
 * One simulated run of a cluster's control plane: brokers with sessions, controllers and topics on one store whose leases end by
 * time; their data plane is played (ControlBroker). First trouble, then calm; control-history.ts judges every transaction, and
 * after a minute of health every partition must be led and whole (I15).
 *
 * | fault | what it does |
 * | --- | --- |
 * | crash | a broker dies; its lease runs out, or the next process of its directory ends it |
 * | lossy | it comes back with another data epoch |
 * | pause | it is stopped for up to 20 s and goes on in the middle of what it did |
 * | lease | the store drops a session, or the controller's lease, before its time |
 * | store | answers are lost, requests too, and transactions take effect after their caller was told "unknown" |
 * | drain | a broker leaves in order, and comes back |
 * | forget | the store forgets its history: watches end |
 * | admin | topics are made, grown, configured, deleted |
 * | order | partitions are moved to other brokers, moves are cancelled, leaders are elected, uncleanly as well |
 */
import { settledReplicas } from '../../daemon/metadata/controller.ts'
import { MetadataKeys } from '../../daemon/metadata/metadata-keys.ts'
import type { MetadataStore } from '../../src/ports/metadata-store.ts'
import { ControlBroker } from './control-broker.ts'
import { ControlHistory } from './control-history.ts'
import type { SimRandom } from './sim-random.ts'
import { SimStoreServer } from './sim-store.ts'
import { SimWorld } from './sim-world.ts'

export interface ControlOptions {
  readonly brokers: number
  /** A bug put in on purpose. */
  readonly wrapStore?: (store: MetadataStore, keys: MetadataKeys) => MetadataStore
  readonly keepsTrace?: boolean
}

export interface ControlResult {
  readonly anomalies: readonly string[]
  readonly seen: Readonly<Record<string, number>>
  readonly traceHash: string
  readonly trace: readonly string[]
}

const TROUBLE_MS = 60_000
const HEALTH_MS = 60_000

export async function runControl(
  seed: number | string,
  options: ControlOptions,
): Promise<ControlResult> {
  return new ControlRun(seed, options).play()
}

class ControlRun {
  readonly #world: SimWorld
  readonly #random: SimRandom
  readonly #server: SimStoreServer
  readonly #keys = new MetadataKeys('cluster')
  readonly #history: ControlHistory
  readonly #brokers: ControlBroker[] = []
  readonly #anomalies: string[] = []
  readonly #fired: Record<string, number> = {}
  #troubled = true
  #topics = 0

  constructor(seed: number | string, options: ControlOptions) {
    this.#world = new SimWorld(seed, options.keepsTrace ?? false)
    this.#random = this.#world.random.fork('run')
    const latencyMs: readonly [number, number] = this.#random.pick([
      [0.1, 2],
      [0.1, 20],
      [1, 200],
    ])
    this.#server = new SimStoreServer(this.#world, { leases: 'time', latencyMs })
    this.#history = new ControlHistory(this.#server, this.#keys)
    this.#history.maximalInSync = (key, value) =>
      this.#brokers.find((broker) => broker.nodeId === value.leader)?.maximalInSync(key, value)
    for (let nodeId = 1; nodeId <= options.brokers; nodeId += 1) {
      this.#brokers.push(
        new ControlBroker({
          world: this.#world,
          server: this.#server,
          keys: this.#keys,
          nodeId,
          rack: this.#random.pick([null, 'a', 'b']),
          wrapStore: options.wrapStore ?? ((store) => store),
          peers: () => this.#brokers,
        }),
      )
    }
  }

  async play(): Promise<ControlResult> {
    for (const broker of this.#brokers) broker.start(false)
    await this.#world.run({ until: () => this.#brokers.every((broker) => broker.isActive) })
    for (let count = 0; count < 3; count += 1) await this.#world.settle(this.#createTopic())
    this.#trouble()
    await this.#world.run({ untilMs: this.#world.now + TROUBLE_MS })
    this.#calm()
    await this.#world.run({ untilMs: this.#world.now + HEALTH_MS + 30_000 })
    this.#judgeEnd()
    for (const broker of this.#brokers) broker.crash()
    return {
      anomalies: [...this.#history.anomalies, ...this.#anomalies],
      seen: { ...this.#history.seen, ...this.#fired, ...this.#server.fired },
      traceHash: this.#world.traceHash,
      trace: this.#world.trace,
    }
  }

  #count(name: string): void {
    this.#fired[name] = (this.#fired[name] ?? 0) + 1
  }

  async #createTopic(): Promise<void> {
    const broker = this.#brokers.find((each) => each.isController)
    if (broker === undefined) return
    const placeable = broker.topics.placeable().length
    if (placeable === 0) return
    const replicas = Math.min(placeable, this.#random.pick([1, 2, 3, 3]))
    this.#topics += 1
    await broker.topics
      .create({
        name: `t${this.#topics}`,
        assignments: broker.topics.place(this.#random.pick([1, 3, 10]), replicas),
        config: this.#random.chance(0.2) ? { 'unclean.leader.election.enable': 'true' } : {},
      })
      .catch(() => undefined)
  }

  #trouble(): void {
    const { faults } = this.#server
    const rate = this.#random.pick([0, 0.02, 0.1])
    faults.answerLost = rate
    faults.requestLost = rate
    faults.appliedLate = rate
    const next = (): void => {
      if (!this.#troubled) return
      this.#strike(this.#random.pick(this.#brokers))
      this.#world.schedule(this.#random.between(100, 6000), 'trouble', next)
    }
    this.#world.schedule(this.#random.between(10, 500), 'trouble', next)
  }

  #strike(broker: ControlBroker): void {
    const kind = this.#random.pick([
      'crash',
      'crash',
      'lossy',
      'lossy',
      'pause',
      'lease',
      'control',
      'drain',
      'forget',
      'admin',
      'admin',
      'order',
      'order',
    ] as const)
    this.#count(kind)
    switch (kind) {
      case 'crash':
      case 'lossy':
        if (broker.isUp) this.#crash(broker, kind === 'lossy')
        break
      case 'pause':
        broker.gate.shut()
        this.#world.schedule(this.#random.between(10, 20_000), 'go on', () => broker.gate.open())
        break
      case 'lease':
        if (broker.leaseId !== undefined) this.#server.expire(broker.leaseId)
        break
      case 'control': {
        const lease = this.#server.image.leaseOf(this.#keys.controller())
        if (lease !== undefined) this.#server.expire(lease)
        break
      }
      case 'drain':
        if (broker.isUp) this.#drain(broker)
        break
      case 'forget':
        this.#server.compact()
        break
      case 'admin':
        this.#administer()
        break
      case 'order':
        this.#order()
        break
    }
  }

  #crash(broker: ControlBroker, isLossy: boolean): void {
    broker.crash()
    const delayMs = this.#random.pick([1, 20, 500, 15_000])
    this.#world.schedule(this.#random.between(0, delayMs), 'start', () => broker.start(isLossy))
  }

  #drain(broker: ControlBroker): void {
    broker.stop().then(
      () => {
        this.#world.schedule(this.#random.between(1, 3000), 'start', () => broker.start(false))
      },
      () => undefined,
    )
  }

  #administer(): void {
    const broker = this.#brokers.find((each) => each.isController)
    if (broker === undefined) return
    const topic = this.#random.pick([...broker.image.topics(), undefined])
    const ignore = (): void => undefined
    if (topic === undefined || this.#random.chance(0.2)) {
      this.#createTopic().catch(ignore)
    } else if (this.#random.chance(0.15)) broker.topics.delete(topic.name).catch(ignore)
    else if (this.#random.chance(0.3)) {
      const minimum = String(1 + this.#random.integer(3))
      broker.topics
        .configure(topic.name, (before) => ({ ...before, 'min.insync.replicas': minimum }))
        .catch(ignore)
    } else {
      const { replicas } = broker.image.partition(topic.topicId, 0)?.value ?? { replicas: [] }
      const placeable = broker.topics.placeable().length
      if (replicas.length === 0 || replicas.length > placeable) return
      broker.topics.grow(topic.name, broker.topics.place(2, replicas.length)).catch(ignore)
    }
  }

  #order(): void {
    const broker = this.#brokers.find((each) => each.isController)
    const known = broker === undefined ? [] : [...broker.image.topics()]
    const topic = known.length === 0 ? undefined : this.#random.pick(known)
    if (broker === undefined || topic === undefined) return
    const { topics, image } = broker
    const names = [...image.partitions(topic.topicId).keys()].map((partition) => ({
      topic: topic.name,
      partition,
    }))
    const ignore = (): void => undefined
    const kind = this.#random.pick(['move', 'move', 'cancel', 'preferred', 'unclean'] as const)
    this.#count(kind)
    if (kind === 'preferred' || kind === 'unclean') topics.electLeaders(kind, names).catch(ignore)
    else {
      const orders = names.map((name) => ({
        ...name,
        replicas: kind === 'cancel' ? null : this.#target(topics.placeable()),
      }))
      topics.reassign(orders).catch(ignore)
    }
  }

  #target(placeable: readonly number[]): readonly number[] {
    const count = Math.min(placeable.length, this.#random.pick([1, 2, 3, 3]))
    return this.#random.shuffle(placeable).slice(0, count)
  }

  #calm(): void {
    this.#troubled = false
    this.#server.calm()
    for (const broker of this.#brokers) {
      broker.gate.open()
      broker.isCalm = true
    }
  }

  /** I15, and that everybody knows what the store has. */
  #judgeEnd(): void {
    const report = (text: string): void => {
      this.#anomalies.push(`I15: ${text}`)
    }
    if (this.#history.controllerNode() === undefined) report('nobody is the controller')
    for (const broker of this.#brokers) {
      if (!broker.isActive) report(`broker ${broker.nodeId} is not active (${broker.failure})`)
    }
    for (const { key, value } of this.#history.partitions()) {
      if (value.leader < 0) report(`${key} has no leader`)
      else if (value.inSyncReplicas.length < settledReplicas(value)) {
        report(`${key}: ${value.inSyncReplicas.length} of ${value.replicas.length} are in sync`)
      }
      if (value.adding.length + value.removing.length > 0) {
        report(`${key}: the reassignment has not ended`)
      }
    }
    for (const broker of this.#brokers) {
      for (const topic of broker.image.topics()) {
        if (topic.value.state !== 'READY') report(`${topic.name} is still being created`)
      }
      if (broker.isActive && broker.image.revision < this.#server.image.revision) {
        report(`broker ${broker.nodeId} is behind the store`)
      }
    }
  }
}
