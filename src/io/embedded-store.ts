/**
 * The metadata store of a single daemon, on lmdb in the data directory (replication.md, section 15).
 *
 * All entries are in memory; lmdb is written, never read after the opening. Transactions asked for in one turn of the loop are
 * evaluated one after the other and written as one lmdb transaction; only when that is flushed do reads and watches see them, and
 * their callers hear of them.
 *
 * The commit is synchronous and keeps the loop for one fdatasync (0.4 ms on an ordinary disk, once per group). lmdb's
 * asynchronous ways were rejected: after a failed commit they leave promises rejected that nobody can reach, which ends the process.
 *
 * Invariants: `head` is what has been evaluated, `served` what is durable; they are equal outside `commit`.
 * The lease is the process: opening drops all leased keys, nothing else ends a lease but revoke.
 */
import { mkdirSync, statfsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { RootDatabase } from 'lmdb'
import { isStreamError, StreamError } from '../base/errors.ts'
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
} from '../ports/metadata-store.ts'
import type { Time, Timer } from '../ports/time.ts'
import { writeFileAtomically } from './real-host.ts'
import { type AppliedTxn, deletionOf, StoreImage } from './store-image.ts'
import { damaged, decodeStoreRecord, encodeStoreRecord, type StoreRecord } from './store-record.ts'
import { formatSnapshot } from './store-snapshot.ts'
import { StoreWatchers } from './store-watchers.ts'
import { diskError } from './system-errors.ts'

export interface EmbeddedStoreOptions {
  /** Holds `metadata.lmdb` and `metadata.snapshot`; made when absent. Its lock is the caller's. */
  readonly directory: string
  /** A snapshot is exported so long after a change, and when the store is closed. */
  readonly snapshotIntervalMs?: number
  /** Makes room on a full disk until what it returns is called. */
  readonly lendRoom?: () => () => void
}

const SNAPSHOT_INTERVAL_MS = 60_000
/** Four pages of 4 KiB: deeper trees hold more than any cluster's metadata. */
const PATH_BYTES = 16 * 1024
const RESERVE_BYTES = 256 * 1024
/** Entries are stored under `k` + key in UTF-8, what belongs to the store itself under `m` + name. */
const ENTRY_PREFIX = 'k'
const FILE_NAME = 'metadata.lmdb'
const REVISION_NAME = 'revision'
const REVISION_KEY = Buffer.from(`m${REVISION_NAME}`)
const EMPTY = new Uint8Array(0)

type Database = RootDatabase<Buffer, Buffer>

interface Waiting {
  readonly txn: StoreTxn
  readonly resolve: (result: StoreTxnResult) => void
  readonly reject: (error: unknown) => void
}

interface Done extends AppliedTxn {
  readonly waiting: Waiting
}

export class EmbeddedStore implements MetadataStore {
  private readonly time: Time
  private readonly database: Database
  private readonly path: string
  private readonly snapshotPath: string
  private readonly snapshotIntervalMs: number
  private readonly lendRoom: (() => () => void) | undefined
  private head: StoreImage
  private readonly served: StoreImage
  private readonly watchers: StoreWatchers
  private readonly leases = new Set<string>()
  private queue: Waiting[] = []
  private running: Promise<void> | undefined
  private snapshotTimer: Timer | undefined
  private failure: StreamError | undefined
  private lastLease = 0

  private constructor(
    time: Time,
    database: Database,
    image: StoreImage,
    options: EmbeddedStoreOptions,
  ) {
    this.time = time
    this.database = database
    this.head = image
    this.served = image.copy()
    this.watchers = new StoreWatchers(image.revision)
    this.path = join(options.directory, FILE_NAME)
    this.snapshotPath = join(options.directory, 'metadata.snapshot')
    this.snapshotIntervalMs = options.snapshotIntervalMs ?? SNAPSHOT_INTERVAL_MS
    this.lendRoom = options.lendRoom
  }

  /**
   * Reads and checks everything; drops the keys of leases, in a transaction of its own.
   * @throws StreamError STORE_DAMAGED (naming the key), PERMISSION_DENIED, DISK_FULL, DISK_FAILED
   */
  static async open(time: Time, options: EmbeddedStoreOptions): Promise<EmbeddedStore> {
    const path = join(options.directory, FILE_NAME)
    const database = await openDatabase(options.directory, path)
    try {
      const { revision, records } = readAll(database)
      const image = new StoreImage(
        revision,
        records.map((record) => record.entry),
      )
      const store = new EmbeddedStore(time, database, image, options)
      const leased = records.filter((record) => record.isLeased)
      if (leased.length > 0) {
        await store.txn(deletionOf(leased.map(({ entry }) => entry.key)))
      }
      return store
    } catch (error) {
      await database.close()
      throw error
    }
  }

  txn(txn: StoreTxn): Promise<StoreTxnResult> {
    if (this.failure !== undefined) return Promise.reject(this.failure)
    for (const operation of txn.then) {
      const lease = operation.kind === 'put' ? operation.lease : undefined
      if (lease !== undefined && !this.leases.has(lease.id)) return Promise.reject(fenced())
    }
    return new Promise((resolve, reject) => {
      this.queue.push({ txn, resolve, reject })
      this.running ??= this.run()
    })
  }

  async get(key: string): Promise<StoreEntry | undefined> {
    this.checkUsable()
    return this.served.get(key)
  }

  async list(prefix: string): Promise<StoreListing> {
    this.checkUsable()
    return this.served.list(prefix)
  }

  watch(prefix: string, fromRevision: number, events: StoreWatchEvents): StoreWatch {
    this.checkUsable()
    return this.watchers.watch(prefix, fromRevision, events)
  }

  /** `ttlMs` is of no use here: the lease lives as long as the process. */
  async lease(_ttlMs: number): Promise<StoreLease> {
    this.checkUsable()
    this.lastLease += 1
    const id = `embedded-${this.lastLease}`
    this.leases.add(id)
    return {
      id,
      keepAlive: async () => {
        this.checkUsable()
        if (!this.leases.has(id)) throw fenced()
      },
      revoke: () => this.revoke(id),
    }
  }

  /** Waits for the transactions under way, exports a last snapshot. Idempotent. */
  async close(): Promise<void> {
    if (this.failure?.code === 'CLOSED') return
    while (this.running !== undefined) await this.running
    const wasUsable = this.failure === undefined
    this.failure = new StreamError('CLOSED', 'the metadata store is closed')
    this.snapshotTimer?.cancel()
    this.watchers.endAll(undefined)
    await this.database.close()
    if (wasUsable) this.writeSnapshot()
  }

  private checkUsable(): void {
    if (this.failure !== undefined) throw this.failure
  }

  private async revoke(id: string): Promise<void> {
    this.checkUsable()
    if (!this.leases.delete(id)) return
    // Puts that are still waiting under this lease are evaluated first; then their keys are known.
    while (this.running !== undefined) await this.running
    const keys = this.head.keysOfLease(id)
    if (keys.length === 0) return
    await this.txn(deletionOf(keys))
  }

  private async run(): Promise<void> {
    // One turn for whoever asks in the same breath: their transactions share a flush.
    await Promise.resolve()
    while (this.queue.length > 0) {
      const group = this.queue
      this.queue = []
      this.commit(group)
    }
    this.running = undefined
  }

  private commit(group: readonly Waiting[]): void {
    const done: Done[] = []
    for (const waiting of group) {
      try {
        done.push({ waiting, ...this.head.apply(waiting.txn) })
      } catch (error) {
        waiting.reject(error)
      }
    }
    if (this.failure !== undefined) {
      for (const { waiting } of done) waiting.reject(this.failure)
      return
    }
    try {
      if (done.some(({ changes }) => changes.length > 0)) this.write(done)
    } catch (error) {
      this.failed(error, done)
      return
    }
    for (const { waiting, result, changes } of done) {
      this.served.follow(this.head, result.revision, changes)
      this.watchers.publish(result.revision, changes)
      waiting.resolve(result)
    }
  }

  /** When it returns, the group's last state of each key is on the disk. @throws what lmdb threw */
  private write(done: readonly Done[]): void {
    const last = new Map<string, StoreChange>()
    for (const { changes } of done) for (const change of changes) last.set(change.key, change)
    const revision: StoreEntry = {
      key: REVISION_NAME,
      value: EMPTY,
      createRevision: 0,
      modRevision: this.head.revision,
    }
    const neededBytes = this.neededBytes(last.values())
    const giveBack = this.hasSpace(neededBytes) ? undefined : this.lendRoom?.()
    try {
      this.requireSpace(neededBytes)
      this.database.transactionSync(() => {
        for (const { key, entry } of last.values()) {
          if (entry === undefined) {
            this.database.removeSync(entryKey(key))
            continue
          }
          const isLeased = this.head.leaseOf(key) !== undefined
          const bytes = encodeStoreRecord({ entry, isLeased })
          this.database.putSync(entryKey(key), Buffer.from(bytes.buffer))
        }
        const record = encodeStoreRecord({ entry: revision, isLeased: false })
        this.database.putSync(REVISION_KEY, Buffer.from(record.buffer))
      })
    } finally {
      giveBack?.()
    }
    this.snapshotTimer ??= this.time.setTimer(this.snapshotIntervalMs, () => {
      this.snapshotTimer = undefined
      this.writeSnapshot()
    })
  }

  /**
   * Refused for want of space: nothing was written, and the store goes on when there is some again. After any other
   * error what is on the disk is unknown, and only a new opening can tell.
   */
  private failed(error: unknown, done: readonly Done[]): void {
    let failure = error
    if (isStreamError(error, 'DISK_FULL')) {
      this.head = this.served.copy()
    } else {
      this.failure = new StreamError('STORE_UNAVAILABLE', 'the metadata store cannot write', {
        cause: error,
      })
      this.watchers.endAll(this.failure)
      failure = this.failure
    }
    for (const { waiting } of done) waiting.reject(failure)
  }

  /**
   * lmdb must never meet a full disk itself: the way it reports that writes past the end of its own buffer (3.5.6, mdb.c,
   * last_error). So space for everything it could write is asked for before: the values, and a copy of each
   * changed key's path of pages, at most the whole file.
   */
  private neededBytes(changes: Iterable<StoreChange>): number {
    let valueBytes = 0
    let pathBytes = 0
    for (const { entry } of changes) {
      valueBytes += entry?.value.length ?? 0
      pathBytes += PATH_BYTES
    }
    const fileBytes = statSync(this.path).size
    return RESERVE_BYTES + 2 * valueBytes + Math.min(pathBytes, 2 * fileBytes)
  }

  private hasSpace(neededBytes: number): boolean {
    const stat = statfsSync(this.path)
    return stat.bavail * stat.bsize >= neededBytes
  }

  /** @throws StreamError DISK_FULL */
  private requireSpace(neededBytes: number): void {
    if (this.hasSpace(neededBytes)) return
    throw new StreamError('DISK_FULL', 'no space left for the metadata store', {
      target: this.path,
      hint: 'free some space on the file system of the data directory',
    })
  }

  private writeSnapshot(): void {
    const { revision, entries } = this.served.list('')
    const records = entries.map((entry) => ({
      entry,
      isLeased: this.served.leaseOf(entry.key) !== undefined,
    }))
    try {
      writeFileAtomically(this.snapshotPath, formatSnapshot({ revision, records }), 0o600)
    } catch {
      // A copy for the worst case must not harm the original; the next change tries again.
    }
  }
}

async function openDatabase(directory: string, path: string): Promise<Database> {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 })
    // Only the daemon needs it, and only when it starts.
    const { open } = await import('lmdb')
    return open<Buffer, Buffer>(path, {
      noSubdir: true,
      encoding: 'binary',
      keyEncoding: 'binary',
      // A commit is answered after its fdatasync, not before.
      overlappingSync: false,
    })
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error)
    if (/MDB_(INVALID|CORRUPTED|PAGE_NOTFOUND|VERSION_MISMATCH|PANIC)/.test(text)) {
      throw new StreamError('STORE_DAMAGED', `${path} cannot be opened: ${text}`, {
        target: path,
        cause: error,
      })
    }
    throw diskError(error, 'open', path)
  }
}

function readAll(database: Database): { revision: number; records: StoreRecord[] } {
  const revision = readRevision(database)
  const records: StoreRecord[] = []
  for (const { key, value } of database.getRange()) {
    const name = key.toString('utf8')
    if (!name.startsWith(ENTRY_PREFIX)) continue
    const record = decodeStoreRecord(name.slice(ENTRY_PREFIX.length), value)
    if (record.entry.modRevision > revision) {
      throw damaged(record.entry.key, `its revision is above the store's, ${revision}`)
    }
    records.push(record)
  }
  return { revision, records }
}

function readRevision(database: Database): number {
  const bytes = database.get(REVISION_KEY)
  return bytes === undefined ? 0 : decodeStoreRecord(REVISION_NAME, bytes).entry.modRevision
}

function entryKey(key: string): Buffer {
  return Buffer.from(ENTRY_PREFIX + key)
}

function fenced(): StreamError {
  return new StreamError('FENCED', 'the lease has ended')
}
