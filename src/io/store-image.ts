/**
 * The whole content of a metadata store in memory, and what a transaction does to it: a synchronous state machine without
 * any I/O, which the embedded home and the simulated store drive.
 *
 * Invariants: `revision` never falls; every entry has createRevision <= modRevision <= revision; a transaction that
 * changes nothing has no revision of its own.
 */
import { assert } from '../base/assert.ts'
import type {
  StoreChange,
  StoreCompare,
  StoreEntry,
  StoreListing,
  StoreOperation,
  StoreTxn,
  StoreTxnResult,
} from '../ports/metadata-store.ts'

export interface AppliedTxn {
  readonly result: StoreTxnResult
  /** Of result.revision; empty when nothing was written. */
  readonly changes: readonly StoreChange[]
}

export class StoreImage {
  private readonly entries: Map<string, StoreEntry>
  /** Which lease holds a key; keys without one are absent. */
  private readonly leases: Map<string, string>
  private currentRevision: number

  constructor(revision = 0, entries: Iterable<StoreEntry> = []) {
    this.currentRevision = revision
    this.entries = new Map()
    this.leases = new Map()
    for (const entry of entries) this.entries.set(entry.key, entry)
  }

  get revision(): number {
    return this.currentRevision
  }

  get size(): number {
    return this.entries.size
  }

  get(key: string): StoreEntry | undefined {
    return this.entries.get(key)
  }

  leaseOf(key: string): string | undefined {
    return this.leases.get(key)
  }

  list(prefix: string): StoreListing {
    const found: StoreEntry[] = []
    for (const entry of this.entries.values()) if (entry.key.startsWith(prefix)) found.push(entry)
    found.sort((left, right) => compareKeys(left.key, right.key))
    return { revision: this.currentRevision, entries: found }
  }

  keysOfLease(lease: string): string[] {
    const keys: string[] = []
    for (const [key, holder] of this.leases) if (holder === lease) keys.push(key)
    return keys.sort(compareKeys)
  }

  copy(): StoreImage {
    const copy = new StoreImage(this.currentRevision, this.entries.values())
    for (const [key, lease] of this.leases) copy.leases.set(key, lease)
    return copy
  }

  /** Compares, then applies one branch wholly. @throws AssertionError when a branch writes one key twice */
  apply(txn: StoreTxn): AppliedTxn {
    const succeeded = txn.compare.every((compare) => this.holds(compare))
    const operations = succeeded ? txn.then : (txn.otherwise ?? [])
    assertKeysDiffer(operations)
    const revision = this.currentRevision + 1
    const gets: (StoreEntry | undefined)[] = []
    const changes: StoreChange[] = []
    for (const operation of operations) {
      if (operation.kind === 'get') {
        gets.push(this.entries.get(operation.key))
        continue
      }
      const change = this.changeOf(operation, revision)
      if (change !== undefined) changes.push(change)
    }
    // Gets of a branch that also writes see the state before it: one rule, whatever the order they are written in.
    for (const change of changes) this.take(change)
    for (const operation of operations) {
      if (operation.kind !== 'put') continue
      if (operation.lease === undefined) this.leases.delete(operation.key)
      else this.leases.set(operation.key, operation.lease.id)
    }
    if (changes.length > 0) this.currentRevision = revision
    return { result: { succeeded, revision: this.currentRevision, gets }, changes }
  }

  /** Takes over what a transaction of `source` did, and which leases hold the changed keys there. */
  follow(source: StoreImage, revision: number, changes: readonly StoreChange[]): void {
    assert(revision >= this.currentRevision, 'revisions rise')
    for (const change of changes) {
      this.take(change)
      const lease = source.leases.get(change.key)
      if (lease === undefined) this.leases.delete(change.key)
      else this.leases.set(change.key, lease)
    }
    this.currentRevision = revision
  }

  private holds(compare: StoreCompare): boolean {
    const entry = this.entries.get(compare.key)
    const found = compare.kind === 'createRevision' ? entry?.createRevision : entry?.modRevision
    return (found ?? 0) === compare.equals
  }

  private changeOf(
    operation: Exclude<StoreOperation, { kind: 'get' }>,
    revision: number,
  ): StoreChange | undefined {
    const key = operation.key
    const old = this.entries.get(key)
    if (operation.kind === 'delete')
      return old === undefined ? undefined : { key, entry: undefined }
    const entry: StoreEntry = {
      key,
      // A copy (Buffer.slice is none): the caller may go on using its memory.
      value: new Uint8Array(operation.value),
      createRevision: old?.createRevision ?? revision,
      modRevision: revision,
    }
    return { key, entry }
  }

  private take(change: StoreChange): void {
    if (change.entry === undefined) {
      this.entries.delete(change.key)
      this.leases.delete(change.key)
    } else {
      this.entries.set(change.key, change.entry)
    }
  }
}

/** Deletes all these keys, whatever they hold. */
export function deletionOf(keys: readonly string[]): StoreTxn {
  return { compare: [], then: keys.map((key) => ({ kind: 'delete', key })) }
}

function assertKeysDiffer(operations: readonly StoreOperation[]): void {
  const written = new Set<string>()
  for (const operation of operations) {
    if (operation.kind === 'get') continue
    assert(!written.has(operation.key), 'a transaction writes a key once')
    written.add(operation.key)
  }
}

/** By UTF-16 units; equal to byte order for the ASCII keys of this project. */
export function compareKeys(left: string, right: string): number {
  return left < right ? -1 : left > right ? 1 : 0
}
