/**
 * An operator who changes the membership of a simulated cluster while records flow: a broker joins, partitions move on to it, one is
 * drained and filled again, leaders are elected, a broker is forgotten and comes back, a disk is replaced by an empty one.
 *
 * Orders come one after the other, each with its end: done, refused, or given up after a time. What an order has begun the
 * cluster must bring to its end without him.
 */
import { isStreamError } from '../../src/base/errors.ts'
import { ClusterAdmin, type ReplicaOrder } from '../../src/client/cluster-admin.ts'
import { type ClusterTruth, partitionOf, TOPIC } from './cluster-truth.ts'
import type { SimBroker } from './sim-broker.ts'
import { type ClientWorld, simClient } from './sim-clients.ts'
import type { SimRandom } from './sim-random.ts'

const ORDER_MS = 60_000
const PAUSE_MS = 300

export interface OrdersWorld {
  readonly clients: ClientWorld
  readonly truth: ClusterTruth
  /** All there may be; the last one has not been started. */
  readonly brokers: readonly SimBroker[]
  readonly random: SimRandom
  readonly isOver: () => boolean
  readonly count: (order: string) => void
}

type Order = 'join' | 'reassign' | 'cancel' | 'drain' | 'elect' | 'forget' | 'replace'

const orders: readonly Order[] = [
  ...(['join', 'reassign', 'reassign', 'cancel', 'drain', 'elect', 'forget', 'replace'] as const),
]

export class ClusterOrders {
  readonly #world: OrdersWorld
  readonly #joined: Set<number>

  constructor(world: OrdersWorld) {
    this.#world = world
    this.#joined = new Set(world.brokers.slice(0, -1).map(({ nodeId }) => nodeId))
  }

  /** Until the trouble is over, and the last order has its end. */
  async work(): Promise<void> {
    const { random, isOver, count } = this.#world
    while (!isOver()) {
      await this.#sleep(random.between(500, 8000))
      if (isOver()) return
      const order = random.pick(orders)
      if (await this.#give(order)) count(order)
    }
  }

  /** @returns whether it came to something */
  async #give(order: Order): Promise<boolean> {
    switch (order) {
      case 'join':
        return this.#join()
      case 'reassign':
        return this.#move(this.#anyMove())
      case 'cancel':
        return this.#cancel()
      case 'drain':
        return this.#drain()
      case 'elect':
        return this.#ask((admin) => admin.electLeaders('preferred', this.#names()))
      case 'forget':
        return this.#forget()
      case 'replace':
        return this.#replace()
    }
  }

  #join(): boolean {
    const newcomer = this.#world.brokers.at(-1)
    if (newcomer === undefined || this.#joined.has(newcomer.nodeId)) return false
    this.#joined.add(newcomer.nodeId)
    newcomer.start()
    return true
  }

  #names(): { topic: string; partition: number }[] {
    return this.#world.truth.partitions().map((_, partition) => ({ topic: TOPIC, partition }))
  }

  #anyMove(): ReplicaOrder[] {
    const { random, truth } = this.#world
    const records = truth.partitions()
    const partition = random.integer(records.length)
    const count = records[partition]?.replicas.length ?? 0
    const rest = [...this.#joined]
    const replicas: number[] = []
    // A move under way counts more of them than will stay.
    while (replicas.length < Math.min(3, count) && rest.length > 0) {
      replicas.push(...rest.splice(random.integer(rest.length), 1))
    }
    return [{ topic: TOPIC, partition, replicas }]
  }

  async #cancel(): Promise<boolean> {
    const moving = this.#anyMove()
    if (!(await this.#move(moving))) return false
    await this.#sleep(this.#world.random.pick([0, 5, 50, 500]))
    return this.#move(moving.map((move) => ({ ...move, replicas: null })))
  }

  #move(moves: readonly ReplicaOrder[]): Promise<boolean> {
    if (moves.length === 0) return Promise.resolve(false)
    return this.#ask(async (admin) => {
      for (const { error } of await admin.reassign(moves)) if (error !== undefined) throw error
    })
  }

  async #drain(): Promise<boolean> {
    const broker = this.#world.random.pick(this.#world.brokers)
    const { moves, back } = this.#planDrain(broker.nodeId)
    if (!(await this.#move(moves))) return false
    await this.#sleep(this.#world.random.between(0, 20_000))
    return this.#move(back)
  }

  /** For each partition on it another broker, and what puts it back. */
  #planDrain(nodeId: number): { moves: ReplicaOrder[]; back: ReplicaOrder[] } {
    const moves: ReplicaOrder[] = []
    const back: ReplicaOrder[] = []
    for (const [partition, { replicas }] of this.#world.truth.partitions().entries()) {
      const others = [...this.#joined].filter((id) => !replicas.includes(id))
      if (!replicas.includes(nodeId) || others.length === 0) continue
      const other = this.#world.random.pick(others)
      const drained = replicas.map((id) => (id === nodeId ? other : id))
      moves.push({ topic: TOPIC, partition, replicas: drained })
      back.push({ topic: TOPIC, partition, replicas })
    }
    return { moves, back }
  }

  /** Its replicas go, it stops, is forgotten, and comes back: as it was, or with an empty disk. */
  async #forget(): Promise<boolean> {
    const { random, brokers, truth } = this.#world
    const broker = random.pick(brokers)
    const { nodeId } = broker
    if (this.#joined.size < 4 || broker.daemon === undefined) return false
    const { moves } = this.#planDrain(nodeId)
    if (moves.length > 0 && !(await this.#move(moves))) return false
    const holds = (): boolean =>
      truth.partitions().some(({ replicas }) => replicas.includes(nodeId))
    if (!(await this.#until(() => !holds())) || broker.daemon === undefined) return false
    if (random.chance(0.5)) broker.kill('process')
    else broker.replaceDisk()
    this.#joined.delete(nodeId)
    // Its session outlives it for a while; until then the answer is that it lives.
    const isForgotten = await this.#ask((admin) => admin.unregister(nodeId), ['NAME_UNKNOWN'])
    await this.#sleep(random.between(0, 5000))
    this.#joined.add(nodeId)
    if (broker.daemon === undefined) broker.start()
    return isForgotten
  }

  /** Only where a majority of every partition that it holds stays unharmed. */
  async #replace(): Promise<boolean> {
    const { random, brokers, truth } = this.#world
    const broker = random.pick(brokers)
    const held = truth
      .partitions()
      .flatMap(({ replicas }, index) => (replicas.includes(broker.nodeId) ? [index] : []))
    if (held.length === 0 || !held.every((index) => truth.mayHarm(broker, index))) return false
    if (held.some((index) => partitionOf(broker, index) === undefined)) return false
    broker.replaceDisk()
    await this.#sleep(random.between(1, 20_000))
    if (broker.daemon === undefined) broker.start()
    return true
  }

  /** Again and again, until it is done or refused. @returns whether it is done */
  async #ask(
    order: (admin: ClusterAdmin) => Promise<unknown>,
    refusals: readonly string[] = ['CONFLICT', 'CONFIG_INVALID', 'NAME_UNKNOWN'],
  ): Promise<boolean> {
    const { clients, random } = this.#world
    const { cluster, time } = simClient(clients, 'operator')
    const admin = new ClusterAdmin(time, random, cluster, { timeoutMs: 5000 })
    const deadlineMs = clients.world.now + ORDER_MS
    try {
      for (;;) {
        try {
          await cluster.connect()
          await order(admin)
          return true
        } catch (error) {
          if (!isStreamError(error)) throw error
          const isRefused = refusals.includes(error.code)
          if (isRefused || clients.world.now >= deadlineMs) return false
          await this.#sleep(PAUSE_MS)
        }
      }
    } finally {
      cluster.close()
    }
  }

  async #until(isSo: () => boolean): Promise<boolean> {
    const deadlineMs = this.#world.clients.world.now + ORDER_MS
    while (!isSo()) {
      if (this.#world.clients.world.now >= deadlineMs) return false
      await this.#sleep(PAUSE_MS)
    }
    return true
  }

  #sleep(ms: number): Promise<void> {
    const { world } = this.#world.clients
    return new Promise((resolve) => {
      world.schedule(ms, 'operator', resolve)
    })
  }
}
