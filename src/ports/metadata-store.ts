/** The store behind all cluster metadata, as the daemon sees it. */

import type { StreamError } from '../base/errors.ts'

/**
 * The linearizable key-value store behind all cluster metadata (replication.md section 5.1). Homes: embedded
 * (src/io/embedded-store.ts), simulated (test/sim/sim-store.ts), etcd later. All pass one conformance suite.
 *
 * Every transaction that writes has one revision, larger than all before it. A key knows the revision that created it
 * and the one that changed it last; both are fencing tokens. A transaction is answered only when it is durable; when
 * it throws STORE_UNAVAILABLE its outcome is unknown (replication.md section 5.4).
 */
export interface MetadataStore {
  /** If all compares hold, `then` is applied atomically, else `otherwise`. Writes of one key twice are refused. */
  txn(txn: StoreTxn): Promise<StoreTxnResult>
  /** Linearizable. */
  get(key: string): Promise<StoreEntry | undefined>
  /** All keys that begin with `prefix`, in key order, of one revision. Linearizable. */
  list(prefix: string): Promise<StoreListing>
  /**
   * All changes of keys under `prefix` with revisions from `fromRevision` on, in revision order, each once; all
   * changes of one revision in one call. Ends with onEnd when the store can no longer tell (compacted, closed).
   */
  watch(prefix: string, fromRevision: number, events: StoreWatchEvents): StoreWatch
  /** A lease that deletes its keys when it ends. The embedded home ends it only with the process. */
  lease(ttlMs: number): Promise<StoreLease>
  /**
   * Ends a lease that a former process took, by its id; fine when it has ended. Absent where leases end with their process.
   */
  revokeLease?(leaseId: string): Promise<void>
  /** Why it takes no writes though it answers, as far as that is known; undefined: it takes them. */
  readonly writeTrouble?: StreamError | undefined
  close(): Promise<void>
}

export interface StoreEntry {
  readonly key: string
  readonly value: Uint8Array
  readonly createRevision: number
  readonly modRevision: number
}

export interface StoreListing {
  readonly revision: number
  readonly entries: readonly StoreEntry[]
}

/** 0 stands for "the key is absent". */
export type StoreCompare =
  | { readonly kind: 'createRevision'; readonly key: string; readonly equals: number }
  | { readonly kind: 'modRevision'; readonly key: string; readonly equals: number }

export type StoreOperation =
  | {
      readonly kind: 'put'
      readonly key: string
      readonly value: Uint8Array
      readonly lease?: StoreLease
    }
  | { readonly kind: 'delete'; readonly key: string }
  | { readonly kind: 'get'; readonly key: string }

export interface StoreTxn {
  readonly compare: readonly StoreCompare[]
  readonly then: readonly StoreOperation[]
  readonly otherwise?: readonly StoreOperation[]
}

export interface StoreTxnResult {
  readonly succeeded: boolean
  /** Of this transaction if it wrote, else of the store when it was read. */
  readonly revision: number
  /** Answers of the `get` operations of the branch taken, in order. */
  readonly gets: readonly (StoreEntry | undefined)[]
}

export interface StoreChange {
  readonly key: string
  /** undefined: deleted. */
  readonly entry: StoreEntry | undefined
}

export interface StoreWatchEvents {
  onChanges(revision: number, changes: readonly StoreChange[]): void
  /** The store was out of reach and is told of again, from where it was left. */
  onResumed?(): void
  /** No further calls; list again and watch from there. */
  onEnd(reason: Error | undefined): void
}

export interface StoreWatch {
  cancel(): void
}

export interface StoreLease {
  readonly id: string
  /** Extends it by its time to live. @throws StreamError STORE_UNAVAILABLE (unknown) or FENCED (it has ended) */
  keepAlive(): Promise<void>
  revoke(): Promise<void>
  /**
   * From now on it is also kept alive while this thread stands still, for as long as one life of `ttlMs`. Absent where leases end with
   * their process.
   * @param renewedMs  when the last acknowledged keep-alive was sent, in ms of the monotonic clock
   */
  guard?(ttlMs: number, renewedMs: number): LeaseGuard
}

export interface LeaseGuard {
  /** When the last acknowledged keep-alive was sent, whoever sent it. */
  readonly renewedMs: number
  /** A keep-alive that was sent then was acknowledged. */
  renewed(sentMs: number): void
  stop(): void
}
