/**
 * Watches over a store's revisions: a bounded history, and one ordered queue of calls per watch.
 *
 * Invariants: a watch gets each revision at most once, rising; all changes of a revision in one call; never a call from inside
 * `watch`, `publish` or `cancel`.
 */
import { StreamError } from '../base/errors.ts'
import type { StoreChange, StoreWatch, StoreWatchEvents } from '../ports/metadata-store.ts'

/** Revisions kept for watches that begin in the past; an older one must list again. */
const HISTORY_REVISIONS_MAX = 10_000

interface Revision {
  readonly revision: number
  readonly changes: readonly StoreChange[]
}

export class StoreWatchers {
  private history: Revision[] = []
  private readonly watches = new Set<Watch>()
  /** Changes up to this revision are no longer known. */
  private forgotten: number

  constructor(revision: number) {
    this.forgotten = revision
  }

  watch(prefix: string, fromRevision: number, events: StoreWatchEvents): StoreWatch {
    const watch = new Watch(prefix, fromRevision, events)
    if (fromRevision <= this.forgotten) {
      watch.end(
        new StreamError('STORE_UNAVAILABLE', `changes since ${fromRevision} are no longer known`),
      )
      return watch
    }
    for (const known of this.history) watch.offer(known)
    this.watches.add(watch)
    watch.onCancel = () => this.watches.delete(watch)
    return watch
  }

  publish(revision: number, changes: readonly StoreChange[]): void {
    if (changes.length === 0) return
    const next = { revision, changes }
    this.history.push(next)
    if (this.history.length > 2 * HISTORY_REVISIONS_MAX) {
      this.history = this.history.slice(-HISTORY_REVISIONS_MAX)
      this.forgotten = (this.history[0] as Revision).revision - 1
    }
    for (const watch of this.watches) watch.offer(next)
  }

  /** Forgets all history, as a compaction does. Watches that stand go on. */
  forget(revision: number): void {
    this.history = []
    this.forgotten = Math.max(this.forgotten, revision)
  }

  endAll(reason: Error | undefined): void {
    for (const watch of [...this.watches]) watch.end(reason)
    this.watches.clear()
  }
}

class Watch implements StoreWatch {
  onCancel: (() => void) | undefined
  private readonly prefix: string
  private readonly fromRevision: number
  private readonly events: StoreWatchEvents
  private queue: (() => void)[] = []
  private isCancelled = false
  private isRunning = false

  constructor(prefix: string, fromRevision: number, events: StoreWatchEvents) {
    this.prefix = prefix
    this.fromRevision = fromRevision
    this.events = events
  }

  cancel(): void {
    this.isCancelled = true
    this.queue = []
    this.onCancel?.()
  }

  offer(next: Revision): void {
    if (next.revision < this.fromRevision) return
    const changes = next.changes.filter((change) => change.key.startsWith(this.prefix))
    if (changes.length > 0) this.later(() => this.events.onChanges(next.revision, changes))
  }

  end(reason: Error | undefined): void {
    this.later(() => {
      this.cancel()
      this.events.onEnd(reason)
    })
  }

  private later(call: () => void): void {
    if (this.isCancelled) return
    this.queue.push(call)
    if (this.isRunning) return
    this.isRunning = true
    void Promise.resolve().then(() => {
      this.isRunning = false
      for (let call = this.queue.shift(); call !== undefined; call = this.queue.shift()) call()
    })
  }
}
