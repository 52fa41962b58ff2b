/** A process that can be stopped for a while (SIGSTOP): its clock goes on, but nothing reaches it before it is let go on. */
import type {
  MetadataStore,
  StoreEntry,
  StoreLease,
  StoreListing,
  StoreTxn,
  StoreTxnResult,
  StoreWatch,
  StoreWatchEvents,
} from '../../src/ports/metadata-store.ts'
import type { Time, Timer } from '../../src/ports/time.ts'

export class Gate {
  private waiting: (() => void)[] | undefined

  get isShut(): boolean {
    return this.waiting !== undefined
  }

  shut(): void {
    this.waiting ??= []
  }

  /** What has come meanwhile comes now, in order. */
  open(): void {
    const waiting = this.waiting ?? []
    this.waiting = undefined
    for (const run of waiting) run()
  }

  pass(run: () => void): void {
    if (this.waiting === undefined) run()
    else this.waiting.push(run)
  }

  async answer<T>(promise: Promise<T>): Promise<T> {
    const settled = await promise.then(
      (value) => () => value,
      (error: unknown) => () => {
        throw error
      },
    )
    if (this.isShut) await new Promise<void>((resolve) => this.pass(resolve))
    return settled()
  }
}

export class GatedTime implements Time {
  private readonly gate: Gate
  private readonly time: Time

  constructor(gate: Gate, time: Time) {
    this.gate = gate
    this.time = time
  }

  wallMs(): number {
    return this.time.wallMs()
  }

  monotonicMs(): number {
    return this.time.monotonicMs()
  }

  setTimer(delayMs: number, callback: () => void): Timer {
    let isCancelled = false
    const timer = this.time.setTimer(delayMs, () =>
      this.gate.pass(() => {
        if (!isCancelled) callback()
      }),
    )
    return {
      cancel: () => {
        isCancelled = true
        timer.cancel()
      },
    }
  }
}

export class GatedStore implements MetadataStore {
  private readonly gate: Gate
  private readonly store: MetadataStore

  constructor(gate: Gate, store: MetadataStore) {
    this.gate = gate
    this.store = store
  }

  txn(txn: StoreTxn): Promise<StoreTxnResult> {
    return this.gate.answer(this.store.txn(txn))
  }

  get(key: string): Promise<StoreEntry | undefined> {
    return this.gate.answer(this.store.get(key))
  }

  list(prefix: string): Promise<StoreListing> {
    return this.gate.answer(this.store.list(prefix))
  }

  watch(prefix: string, fromRevision: number, events: StoreWatchEvents): StoreWatch {
    let isCancelled = false
    const watch = this.store.watch(prefix, fromRevision, {
      onChanges: (revision, changes) =>
        this.gate.pass(() => {
          if (!isCancelled) events.onChanges(revision, changes)
        }),
      onEnd: (reason) =>
        this.gate.pass(() => {
          if (!isCancelled) events.onEnd(reason)
        }),
    })
    return {
      cancel: () => {
        isCancelled = true
        watch.cancel()
      },
    }
  }

  async lease(ttlMs: number): Promise<StoreLease> {
    const lease = await this.gate.answer(this.store.lease(ttlMs))
    return {
      id: lease.id,
      keepAlive: () => this.gate.answer(lease.keepAlive()),
      revoke: () => this.gate.answer(lease.revoke()),
    }
  }

  revokeLease(leaseId: string): Promise<void> {
    return this.gate.answer(this.store.revokeLease?.(leaseId) ?? Promise.resolve())
  }

  close(): Promise<void> {
    return this.store.close()
  }
}
