/**
 * A simulated metadata store. `SimStoreServer` is what survives, `connect()` gives a process its MetadataStore.
 *
 * Linearizable: a transaction takes effect at one moment between call and answer. The faults are those of replication.md,
 * section 5.4: the answer is lost although the transaction took effect, the transaction is lost, or it takes effect after its
 * caller was told that the outcome is unknown. Watches are delayed, never reordered, never incomplete.
 */
import { StreamError } from '../../src/base/errors.ts'
import { deletionOf, StoreImage } from '../../src/io/store-image.ts'
import { StoreWatchers } from '../../src/io/store-watchers.ts'
import type {
  MetadataStore,
  StoreChange,
  StoreEntry,
  StoreLease,
  StoreListing,
  StoreTxn,
  StoreTxnResult,
  StoreWatch,
  StoreWatchEvents,
} from '../../src/ports/metadata-store.ts'
import type { SimRandom } from './sim-random.ts'
import type { SimEvent, SimWorld } from './sim-world.ts'

export interface SimStoreOptions {
  /** Bounds of one way between a process and the store. */
  readonly latencyMs?: readonly [number, number]
  /**
   * `process`: a lease ends with the connection that took it (the embedded home). `time`: when it is not renewed, and connections may
   * come and go (etcd).
   */
  readonly leases?: 'process' | 'time'
}

export interface SimStoreFaults {
  /** Odds that a transaction takes effect and its answer is lost. */
  answerLost: number
  /** Odds that a transaction never arrives. */
  requestLost: number
  /** Odds that it takes effect only after its caller has been told "unknown". */
  appliedLate: number
}

const LATE_MS_MAX = 5000
const CONTACT_PAUSE_MS = 50

interface Lease {
  readonly id: string
  readonly ttlMs: number
  readonly owner: SimStore
  expiry: SimEvent | undefined
}

export class SimStoreServer {
  readonly world: SimWorld
  readonly random: SimRandom
  readonly faults: SimStoreFaults = { answerLost: 0, requestLost: 0, appliedLate: 0 }
  readonly fired = { answerLost: 0, requestLost: 0, appliedLate: 0 }
  image = new StoreImage()
  private readonly latencyMs: readonly [number, number]
  private readonly leaseKind: 'process' | 'time'
  private readonly leases = new Map<string, Lease>()
  private readonly homes = new Set<SimStore>()
  private lastLease = 0

  constructor(world: SimWorld, options: SimStoreOptions = {}) {
    this.world = world
    this.random = world.random.fork('store')
    this.latencyMs = options.latencyMs ?? [0.1, 2]
    this.leaseKind = options.leases ?? 'process'
  }

  connect(): SimStore {
    const store = new SimStore(this, new StoreWatchers(this.image.revision))
    this.homes.add(store)
    return store
  }

  /** The process of this connection has died; its leases too, where they are the process. */
  crash(store: SimStore): void {
    this.homes.delete(store)
    store.vanish()
    if (this.leaseKind !== 'process') return
    for (const lease of [...this.leases.values()]) if (lease.owner === store) this.end(lease.id)
  }

  /** The store forgets its history: watches that begin in the past must list again. */
  compact(): void {
    this.world.note('store.compact')
    for (const home of this.homes) home.watchers.forget(this.image.revision)
  }

  /** It becomes an older copy of itself (`image.copy()`): all leases are lost, and watches wait for revisions to come. */
  restore(copy: StoreImage): void {
    this.world.note('store.restore')
    for (const lease of this.leases.values()) lease.expiry?.cancel()
    this.leases.clear()
    this.image = copy.copy()
    const { image } = this
    const leased = image
      .list('')
      .entries.flatMap(({ key }) => (image.leaseOf(key) === undefined ? [] : [key]))
    if (leased.length > 0) image.apply(deletionOf(leased))
  }

  /** A lease ends before its time, as an etcd leader's mistake may make it. */
  expire(leaseId: string): void {
    this.end(leaseId)
  }

  /** Some lease ends before its time, while its holder lives. @returns false when there is none */
  expireAny(): boolean {
    const ids = [...this.leases.keys()]
    if (ids.length === 0) return false
    this.end(this.random.pick(ids))
    return true
  }

  calm(): void {
    for (const home of this.homes) home.isCutOff = false
    this.faults.answerLost = 0
    this.faults.requestLost = 0
    this.faults.appliedLate = 0
  }

  latency(): number {
    return this.random.between(this.latencyMs[0], this.latencyMs[1])
  }

  apply(txn: StoreTxn): StoreTxnResult {
    for (const operation of txn.then) {
      const lease = operation.kind === 'put' ? operation.lease : undefined
      if (lease !== undefined && !this.leases.has(lease.id)) throw fenced()
    }
    const { result, changes } = this.image.apply(txn)
    this.world.note(`store.txn ${result.succeeded} ${result.revision} ${changes.length}`)
    this.publish(result.revision, changes)
    return result
  }

  grant(owner: SimStore, ttlMs: number): Lease {
    this.lastLease += 1
    const lease: Lease = { id: `lease-${this.lastLease}`, ttlMs, owner, expiry: undefined }
    this.leases.set(lease.id, lease)
    this.renew(lease.id)
    return lease
  }

  /** @throws StreamError FENCED */
  renew(id: string): void {
    const lease = this.leases.get(id)
    if (lease === undefined) throw fenced()
    if (this.leaseKind === 'process') return
    lease.expiry?.cancel()
    lease.expiry = this.world.schedule(lease.ttlMs, `store.expire ${id}`, () => this.end(id))
  }

  end(id: string): void {
    const lease = this.leases.get(id)
    if (lease === undefined) return
    lease.expiry?.cancel()
    this.leases.delete(id)
    const keys = this.image.keysOfLease(id)
    if (keys.length > 0) this.apply(deletionOf(keys))
  }

  private publish(revision: number, changes: readonly StoreChange[]): void {
    if (changes.length === 0) return
    for (const home of this.homes) home.publishLater(revision, changes)
  }
}

/** One process's connection. */
export class SimStore implements MetadataStore {
  readonly watchers: StoreWatchers
  private readonly server: SimStoreServer
  private watchesArriveMs = 0
  /** Nothing reaches the store from here, and no change comes: calls fail, changes wait. */
  isCutOff = false
  private isClosed = false
  private isGone = false

  constructor(server: SimStoreServer, watchers: StoreWatchers) {
    this.server = server
    this.watchers = watchers
  }

  txn(txn: StoreTxn): Promise<StoreTxnResult> {
    const { server } = this
    const { random, faults, fired } = server
    if (this.isCutOff || random.chance(faults.requestLost)) {
      fired.requestLost += 1
      return this.fail()
    }
    if (random.chance(faults.answerLost)) {
      fired.answerLost += 1
      void this.call(() => server.apply(txn)).catch(() => undefined)
      return this.fail()
    }
    if (random.chance(faults.appliedLate)) {
      fired.appliedLate += 1
      const lateMs = random.between(0, LATE_MS_MAX)
      server.world.schedule(lateMs, 'store.late', () => {
        try {
          server.apply(txn)
        } catch {
          // Refused (its lease has ended): nobody waits for the answer.
        }
      })
      return this.fail()
    }
    return this.call(() => server.apply(txn))
  }

  get(key: string): Promise<StoreEntry | undefined> {
    return this.call(() => this.server.image.get(key))
  }

  list(prefix: string): Promise<StoreListing> {
    return this.call(() => this.server.image.list(prefix))
  }

  watch(prefix: string, fromRevision: number, events: StoreWatchEvents): StoreWatch {
    if (this.isClosed) throw closed()
    return this.watchers.watch(prefix, fromRevision, events)
  }

  async lease(ttlMs: number): Promise<StoreLease> {
    const lease = await this.call(() => this.server.grant(this, ttlMs))
    return {
      id: lease.id,
      keepAlive: () => this.call(() => this.server.renew(lease.id)),
      revoke: () => this.call(() => this.server.end(lease.id)),
    }
  }

  revokeLease(leaseId: string): Promise<void> {
    return this.call(() => this.server.end(leaseId))
  }

  async close(): Promise<void> {
    if (this.isClosed) return
    this.isClosed = true
    this.watchers.endAll(undefined)
    this.server.crash(this)
  }

  /** The process has died: no answer and no change reaches it. */
  vanish(): void {
    if (!this.isClosed) this.isGone = true
    this.isClosed = true
  }

  publishLater(revision: number, changes: readonly StoreChange[]): void {
    const { world } = this.server
    this.watchesArriveMs = Math.max(this.watchesArriveMs, world.now + this.server.latency())
    const deliver = (): void => {
      if (this.isClosed) return
      if (this.waiting.length > 0 || this.isCutOff) this.waitForContact(deliver)
      else this.watchers.publish(revision, changes)
    }
    world.schedule(this.watchesArriveMs - world.now, `store.watch ${revision}`, deliver)
  }

  /** Changes that came while cut off, in their order. */
  private readonly waiting: (() => void)[] = []

  private waitForContact(deliver: () => void): void {
    this.waiting.push(deliver)
    if (this.waiting.length > 1) return
    const look = (): void => {
      if (this.isCutOff && !this.isClosed) {
        this.server.world.schedule(CONTACT_PAUSE_MS, 'store.contact', look)
        return
      }
      const waiting = this.waiting.splice(0)
      for (const next of waiting) next()
    }
    this.server.world.schedule(CONTACT_PAUSE_MS, 'store.contact', look)
  }

  /** The moment of effect lies one way after the call, the answer another way later. */
  private call<T>(effect: () => T): Promise<T> {
    if (this.isGone) return new Promise(() => undefined)
    if (this.isCutOff) return this.fail()
    if (this.isClosed) return Promise.reject(closed())
    const { world } = this.server
    return new Promise((resolve, reject) => {
      world.schedule(this.server.latency(), 'store.arrive', () => {
        // A request of a process that died in between is still on its way: it takes effect.
        let answer: () => void
        try {
          const value = effect()
          answer = () => resolve(value)
        } catch (error) {
          answer = () => reject(error)
        }
        world.schedule(this.server.latency(), 'store.answer', () => {
          if (!this.isGone) answer()
        })
      })
    })
  }

  private fail(): Promise<never> {
    if (this.isGone) return new Promise(() => undefined)
    if (this.isClosed) return Promise.reject(closed())
    return new Promise((_, reject) => {
      this.server.world.schedule(this.server.latency() * 2, 'store.unknown', () => {
        if (!this.isGone) {
          reject(new StreamError('STORE_UNAVAILABLE', 'no answer: the outcome is unknown'))
        }
      })
    })
  }
}

function closed(): StreamError {
  return new StreamError('CLOSED', 'the metadata store is closed')
}

function fenced(): StreamError {
  return new StreamError('FENCED', 'the lease has ended')
}
