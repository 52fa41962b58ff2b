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
import type { Link, LinkEvents, Listener, ListenOptions, Net } from '../../src/ports/net.ts'
import type { Time, Timer } from '../../src/ports/time.ts'

/** What comes first to a process that is let go on: as it came, its timers, or its messages and answers. */
export type GateOrder = 'arrival' | 'timers' | 'messages'

interface Waiting {
  readonly kind: 'timer' | 'message'
  run(): void
}

export class Gate {
  private waiting: Waiting[] | undefined

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
    for (const { run } of waiting) run()
  }

  /** The same, each in an event of its own as `later` makes them; what comes before all is through waits behind it. */
  drain(order: GateOrder, later: (run: () => void) => void): void {
    const waiting = this.waiting ?? []
    const first = order === 'timers' ? 'timer' : 'message'
    const rank = ({ kind }: Waiting): number => Number(kind !== first)
    if (order !== 'arrival') waiting.sort((left, right) => rank(left) - rank(right))
    const next = (): void => {
      const one = waiting.shift()
      if (one === undefined) {
        this.waiting = undefined
        return
      }
      one.run()
      later(next)
    }
    later(next)
  }

  pass(run: () => void, kind: Waiting['kind'] = 'message'): void {
    if (this.waiting === undefined) run()
    else this.waiting.push({ kind, run })
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
      }, 'timer'),
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

export class GatedNet implements Net {
  private readonly gate: Gate
  private readonly net: Net

  constructor(gate: Gate, net: Net) {
    this.gate = gate
    this.net = net
  }

  connect(address: string, events: LinkEvents): Link {
    return this.net.connect(
      address,
      this.events(() => events),
    )
  }

  listen(
    address: string,
    options: ListenOptions,
    onLink: (link: Link) => LinkEvents,
  ): Promise<Listener> {
    const listening = this.net.listen(address, options, (link) => this.events(() => onLink(link)))
    return this.gate.answer(listening)
  }

  /** A link that comes while the process stands still is taken up afterwards, with its first message. */
  private events(make: () => LinkEvents): LinkEvents {
    const { gate } = this
    let made = gate.isShut ? undefined : make()
    const events = (): LinkEvents => {
      made ??= make()
      return made
    }
    return {
      onOpen: () => gate.pass(() => events().onOpen?.()),
      onMessage: (frames) => gate.pass(() => events().onMessage(frames)),
      onDrain: () => gate.pass(() => events().onDrain?.()),
      onEnd: () => gate.pass(() => events().onEnd?.()),
      onClose: (reason) => gate.pass(() => events().onClose(reason)),
    }
  }
}
