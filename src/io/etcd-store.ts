/**
 * The metadata store of a cluster, on etcd (replication.md, section 5.1).
 *
 * A transaction is sent once: when its answer does not come it throws STORE_UNAVAILABLE, and whether it took effect, or will, is
 * unknown. Reads are linearizable and are tried at several endpoints; so are the calls of leases that change nothing more when they
 * are done twice. Keys are UTF-8, their order is that of bytes.
 */
import { assert } from '../base/assert.ts'
import { isStreamError, StreamError } from '../base/errors.ts'
import type { Log } from '../ports/log.ts'
import type {
  MetadataStore,
  StoreCompare,
  StoreEntry,
  StoreLease,
  StoreListing,
  StoreOperation,
  StoreTxn,
  StoreTxnResult,
  StoreWatch,
  StoreWatchEvents,
} from '../ports/metadata-store.ts'
import type { Time, Timer } from '../ports/time.ts'
import { closed } from './etcd-endpoints.ts'
import { isCompacted, spaceExceeded } from './etcd-errors.ts'
import { entryOf, keyBytes, prefixEnd, prefixStart, revisionOf } from './etcd-keys.ts'
import { EtcdLink } from './etcd-link.ts'
import type { EtcdOptions } from './etcd-options.ts'
import {
  COMPARE_CREATE,
  COMPARE_EQUAL,
  COMPARE_MOD,
  type EtcdCompare,
  type EtcdMethods,
  type GrpcModule,
  type RequestOp,
} from './etcd-schema.ts'
import { EtcdWatch } from './etcd-watch.ts'
import { LeaseGuards } from './lease-guard.ts'

/** etcd's own limit unless it is started with --max-txn-ops: of compares, and of the operations of either branch. */
export const ETCD_OPERATIONS_MAX = 128
/** Keys a page; values are below 4 KiB. */
const PAGE_KEYS = 2000
/** How often a list is begun again whose revision was compacted while it was read. */
const LISTINGS_MAX = 5

/** An alarm is looked for so often: nothing else tells of one before a write is refused. */
const ALARM_LOOK_MS = 10_000

const REPEATABLE = { isRepeatable: true }
const ONCE = { isRepeatable: false }

export class EtcdStore implements MetadataStore {
  readonly operationsMax = ETCD_OPERATIONS_MAX
  private readonly time: Time
  private readonly link: EtcdLink
  private readonly methods: EtcdMethods
  private readonly options: EtcdOptions
  private readonly guards: LeaseGuards
  private readonly watches = new Set<EtcdWatch>()
  private readonly log: Log
  private isClosed = false
  private spaceTrouble: StreamError | undefined
  private alarmTimer: Timer | undefined

  private constructor(time: Time, log: Log, link: EtcdLink, options: EtcdOptions) {
    this.time = time
    this.log = log
    this.guards = new LeaseGuards(options, log)
    this.link = link
    this.methods = link.methods
    this.options = options
  }

  /**
   * Waits until an endpoint answers, and looks at its version.
   * @throws StreamError STORE_UNAVAILABLE, NOT_ALLOWED (user or password), UNSUPPORTED_BY_BROKER (older than 3.4)
   */
  static async open(time: Time, log: Log, options: EtcdOptions): Promise<EtcdStore> {
    // Only here: a daemon without a cluster does not load it.
    const loaded: GrpcModule & { readonly default?: GrpcModule } = await import('./grpc.ts')
    const link = new EtcdLink(time, log, loaded.default ?? loaded, options)
    try {
      const { version = '', errors = [] } = await link.call(link.methods.status, {}, REPEATABLE)
      checkVersion(log, version)
      const store = new EtcdStore(time, log, link, options)
      store.noteAlarms(errors)
      store.lookForAlarmsLater()
      return store
    } catch (error) {
      link.close()
      throw error
    }
  }

  get writeTrouble(): StreamError | undefined {
    return this.spaceTrouble
  }

  async txn(txn: StoreTxn): Promise<StoreTxnResult> {
    this.checkUsable()
    const otherwise = txn.otherwise ?? []
    for (const part of [txn.compare, txn.then, otherwise]) {
      assert(part.length <= ETCD_OPERATIONS_MAX, 'a transaction stays below the limit of etcd')
    }
    const response = await this.link.call(
      this.methods.txn,
      {
        compare: txn.compare.map(compareOf),
        success: operationsOf(txn.then),
        failure: operationsOf(otherwise),
      },
      ONCE,
    )
    const succeeded = response.succeeded === true
    const gets: (StoreEntry | undefined)[] = []
    const asked = (succeeded ? txn.then : otherwise).filter(({ kind }) => kind === 'get').length
    for (let index = 0; index < asked; index += 1) {
      const found = response.responses?.[index]?.responseRange?.kvs?.[0]
      gets.push(found === undefined ? undefined : entryOf(found))
    }
    return { succeeded, revision: revisionOf(response.header?.revision), gets }
  }

  async get(key: string): Promise<StoreEntry | undefined> {
    this.checkUsable()
    const { kvs } = await this.link.call(this.methods.range, { key: keyBytes(key) }, REPEATABLE)
    return kvs?.[0] === undefined ? undefined : entryOf(kvs[0])
  }

  async list(prefix: string): Promise<StoreListing> {
    this.checkUsable()
    for (let left = LISTINGS_MAX - 1; ; left -= 1) {
      try {
        return await this.listOnce(prefix)
      } catch (error) {
        const cause = isStreamError(error) ? error.cause : error
        if (left === 0 || !isCompacted(cause)) throw error
      }
    }
  }

  watch(prefix: string, fromRevision: number, events: StoreWatchEvents): StoreWatch {
    this.checkUsable()
    const { requestTimeoutMs } = this.options
    const options = { prefix, fromRevision, requestTimeoutMs }
    const watch = new EtcdWatch(this.time, this.link, options, events)
    this.watches.add(watch)
    watch.onFinished = () => this.watches.delete(watch)
    return watch
  }

  /** etcd counts in seconds, and gives no less than its election takes: the lease may live longer than asked. */
  async lease(ttlMs: number): Promise<StoreLease> {
    this.checkUsable()
    const request = { TTL: Math.ceil(ttlMs / 1000) }
    const { ID } = await this.link.call(this.methods.leaseGrant, request, ONCE)
    assert(ID !== undefined, 'a lease has an id')
    return this.leaseOf(ID)
  }

  revokeLease(leaseId: string): Promise<void> {
    return this.revoke(leaseId)
  }

  private leaseOf(id: string): StoreLease {
    return {
      id,
      keepAlive: () => this.keepAlive(id),
      revoke: () => this.revoke(id),
      guard: (ttlMs, renewedMs) => this.guards.guard(id, ttlMs, renewedMs),
    }
  }

  /** Calls under way end with CLOSED; leases live on until their time is over. Idempotent. */
  async close(): Promise<void> {
    if (this.isClosed) return
    this.isClosed = true
    this.alarmTimer?.cancel()
    for (const watch of [...this.watches]) watch.end(undefined)
    this.link.close()
    await this.guards.close()
  }

  private lookForAlarmsLater(): void {
    this.alarmTimer = this.time.setTimer(ALARM_LOOK_MS, () => void this.lookForAlarms())
  }

  private async lookForAlarms(): Promise<void> {
    try {
      const { errors = [] } = await this.link.call(this.methods.status, {}, REPEATABLE)
      this.noteAlarms(errors)
    } catch (error) {
      // That it does not answer is told by those who need it to.
      if (!isStreamError(error)) throw error
    }
    if (!this.isClosed) this.lookForAlarmsLater()
  }

  /** @param alarms  of all members, as etcd's status has them: "memberID:1 alarm:NOSPACE" */
  private noteAlarms(alarms: readonly string[]): void {
    const isFull = alarms.some((alarm) => alarm.includes('NOSPACE'))
    const wasFull = this.spaceTrouble !== undefined
    if (isFull === wasFull) return
    this.spaceTrouble = isFull ? spaceExceeded('etcd') : undefined
    if (isFull) this.log.warn('etcd raises an alarm', { alarms: alarms.join('; ') })
    else this.log.info('etcd takes writes again')
  }

  private checkUsable(): void {
    if (this.isClosed) throw closed()
  }

  /** All pages are of the revision of the first. */
  private async listOnce(prefix: string): Promise<StoreListing> {
    const rangeEnd = prefixEnd(prefix)
    const entries: StoreEntry[] = []
    let key = prefixStart(prefix)
    let revision = 0
    for (;;) {
      const request = { key, rangeEnd, limit: PAGE_KEYS, revision }
      const {
        header,
        kvs = [],
        more,
      } = await this.link.call(this.methods.range, request, REPEATABLE)
      if (revision === 0) revision = revisionOf(header?.revision)
      for (const found of kvs) entries.push(entryOf(found))
      const last = kvs.at(-1)
      if (more !== true || last === undefined) return { revision, entries }
      key = Buffer.concat([last.key, Uint8Array.of(0)])
    }
  }

  private async keepAlive(id: string): Promise<void> {
    this.checkUsable()
    const { TTL } = await this.link.exchange(this.methods.leaseKeepAlive, { ID: id })
    if (Number(TTL ?? 0) <= 0) throw new StreamError('FENCED', 'the lease has ended')
  }

  private async revoke(id: string): Promise<void> {
    this.checkUsable()
    try {
      await this.link.call(this.methods.leaseRevoke, { ID: id }, REPEATABLE)
    } catch (error) {
      if (!isStreamError(error, 'FENCED')) throw error
    }
  }
}

function compareOf(compare: StoreCompare): EtcdCompare {
  const common = { result: COMPARE_EQUAL, key: keyBytes(compare.key) }
  return compare.kind === 'createRevision'
    ? { ...common, target: COMPARE_CREATE, createRevision: compare.equals }
    : { ...common, target: COMPARE_MOD, modRevision: compare.equals }
}

/** Gets come first: they see the state before the branch, whatever the order they are written in. */
function operationsOf(operations: readonly StoreOperation[]): RequestOp[] {
  const gets: RequestOp[] = []
  const writes: RequestOp[] = []
  const written = new Set<string>()
  for (const operation of operations) {
    const key = keyBytes(operation.key)
    if (operation.kind === 'get') {
      gets.push({ requestRange: { key } })
      continue
    }
    assert(!written.has(operation.key), 'a transaction writes a key once')
    written.add(operation.key)
    if (operation.kind === 'delete') {
      writes.push({ requestDeleteRange: { key } })
      continue
    }
    const { value, lease } = operation
    writes.push({
      requestPut: { key, value, ...(lease === undefined ? {} : { lease: lease.id }) },
    })
  }
  return [...gets, ...writes]
}

/** @throws StreamError UNSUPPORTED_BY_BROKER */
function checkVersion(log: Log, version: string): void {
  const [major = 0, minor = 0, patch = 0] = version.split('.').map(Number)
  if (major < 3 || (major === 3 && minor < 4)) {
    throw new StreamError('UNSUPPORTED_BY_BROKER', `etcd ${version} is too old`, {
      hint: 'use 3.5.13 or later',
    })
  }
  const warn = (why: string): void =>
    log.warn(`etcd ${version} is known to ${why}: use a late 3.5 or newer`, { version })
  if (major === 3 && minor === 4) {
    warn('lose watch events and leases, and to answer stale reads after a pause')
  } else if (major === 3 && minor === 5 && patch < 3) {
    warn('get inconsistent data when it is killed')
  }
}
