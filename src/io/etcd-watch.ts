/**
 * A watch over etcd's changes that outlives its streams: a broken one is taken up again behind the last revision delivered.
 *
 * Invariants: each revision at most once, rising, all its changes in one call; nothing after `onEnd` or `cancel`. etcd sends the
 * changes of a revision in one answer; an answer too long for a message comes in fragments, which are joined here.
 */
import type { ClientDuplexStream } from '@grpc/grpc-js'
import { assert } from '../base/assert.ts'
import { isStreamError, StreamError } from '../base/errors.ts'
import type { StoreChange, StoreWatch, StoreWatchEvents } from '../ports/metadata-store.ts'
import type { Time, Timer } from '../ports/time.ts'
import type { EtcdEndpoint } from './etcd-endpoints.ts'
import { entryOf, keyText, prefixEnd, prefixStart, revisionOf } from './etcd-keys.ts'
import type { EtcdLink } from './etcd-link.ts'
import { EVENT_DELETE, type WatchRequest, type WatchResponse } from './etcd-schema.ts'

const BACKOFF_MS_MIN = 50
const BACKOFF_MS_MAX = 2000

type Stream = ClientDuplexStream<WatchRequest, WatchResponse>
type Events = NonNullable<WatchResponse['events']>

export interface EtcdWatchOptions {
  readonly prefix: string
  readonly fromRevision: number
  /** A stream that has not begun by then is given up. */
  readonly requestTimeoutMs: number
}

export class EtcdWatch implements StoreWatch {
  onFinished: (() => void) | undefined
  private readonly time: Time
  private readonly link: EtcdLink
  private readonly options: EtcdWatchOptions
  private readonly events: StoreWatchEvents
  /** The first revision that was not delivered yet. */
  private next: number
  private stream: Stream | undefined
  private timer: Timer | undefined
  private backoffMs = BACKOFF_MS_MIN
  /** Of an answer that comes in fragments. */
  private fragments: Events[number][] = []
  private isRefused = false
  /** A stream has begun before. */
  private hasBegun = false
  private isOver = false

  constructor(time: Time, link: EtcdLink, options: EtcdWatchOptions, events: StoreWatchEvents) {
    assert(options.fromRevision >= 1, 'a watch begins at a revision')
    this.time = time
    this.link = link
    this.options = options
    this.events = events
    this.next = options.fromRevision
    void this.begin()
  }

  cancel(): void {
    if (this.isOver) return
    this.isOver = true
    this.drop()
    this.onFinished?.()
  }

  end(reason: Error | undefined): void {
    if (this.isOver) return
    this.cancel()
    // Never from inside a call of the owner.
    void Promise.resolve().then(() => this.events.onEnd(reason))
  }

  private async begin(): Promise<void> {
    try {
      const { endpoint, stream } = await this.link.stream(this.link.methods.watch)
      if (this.isOver) {
        stream.on('error', () => undefined)
        stream.cancel()
        return
      }
      this.follow(endpoint, stream)
    } catch (error) {
      if (isStreamError(error, 'NOT_ALLOWED')) this.end(error)
      else this.again()
    }
  }

  private follow(endpoint: EtcdEndpoint, stream: Stream): void {
    const lost = (): void => {
      if (this.stream !== stream) return
      this.link.suspect(endpoint)
      this.again()
    }
    this.stream = stream
    this.fragments = []
    stream.on('data', (response: WatchResponse) => {
      if (this.stream === stream) this.take(response)
    })
    stream.on('error', lost)
    stream.on('end', lost)
    const { prefix, requestTimeoutMs } = this.options
    this.timer = this.time.setTimer(requestTimeoutMs, lost)
    stream.write({
      createRequest: {
        key: prefixStart(prefix),
        rangeEnd: prefixEnd(prefix),
        startRevision: this.next,
        // Tells how far a quiet watch has come, so that a compaction before it takes nothing from it.
        progressNotify: true,
        fragment: true,
      },
    })
  }

  private take(response: WatchResponse): void {
    if (response.canceled === true) {
      this.refused(response)
      return
    }
    if (response.created === true) {
      this.timer?.cancel()
      // A member that is behind, or all of etcd put back to an older state, which would be silent until it has come so far again.
      const revision = revisionOf(response.header?.revision)
      if (revision < this.next - 1) {
        this.end(
          new StreamError(
            'STORE_UNAVAILABLE',
            `etcd is at revision ${revision}, behind ${this.next - 1}`,
            {
              target: this.options.prefix,
              hint: 'list again',
            },
          ),
        )
        return
      }
      this.backoffMs = BACKOFF_MS_MIN
      this.isRefused = false
      if (this.hasBegun) this.events.onResumed?.()
      this.hasBegun = true
      return
    }
    const { events = [] } = response
    for (const event of events) this.fragments.push(event)
    if (response.fragment === true) return
    const whole = this.fragments
    this.fragments = []
    if (whole.length > 0) {
      this.deliver(whole)
      return
    }
    // Nothing is under way up to here.
    this.next = Math.max(this.next, revisionOf(response.header?.revision) + 1)
  }

  private deliver(events: Events): void {
    let at = 0
    while (at < events.length && !this.isOver) {
      const revision = revisionOf(events[at]?.kv?.modRevision)
      const changes: StoreChange[] = []
      for (; at < events.length; at += 1) {
        const event = events[at]
        if (event?.kv === undefined || revisionOf(event.kv.modRevision) !== revision) break
        const isDeleted = event.type === EVENT_DELETE
        changes.push({
          key: keyText(event.kv.key),
          entry: isDeleted ? undefined : entryOf(event.kv),
        })
      }
      assert(changes.length > 0, 'a change has a key and a revision')
      // A member that is behind may tell again what another one has told.
      if (revision < this.next) continue
      this.next = revision + 1
      this.events.onChanges(revision, changes)
    }
  }

  private refused(response: WatchResponse): void {
    const { prefix } = this.options
    const why = response.cancelReason ?? ''
    if (revisionOf(response.compactRevision) > 0) {
      this.end(
        new StreamError('STORE_UNAVAILABLE', `changes since ${this.next} are no longer known`, {
          target: prefix,
          hint: 'they were compacted: list again',
        }),
      )
      return
    }
    // Up to 3.4 a token that has expired is refused in these words too.
    if (/permission denied|invalid auth token|auth store is old/.test(why)) {
      this.link.forgetToken()
      if (this.isRefused) {
        this.end(new StreamError('NOT_ALLOWED', `etcd refuses to watch ${prefix}: ${why}`))
        return
      }
      this.isRefused = true
    }
    this.again()
  }

  /** Tries again after a pause that grows. */
  private again(): void {
    this.drop()
    if (this.isOver) return
    this.timer = this.time.setTimer(this.backoffMs, () => void this.begin())
    this.backoffMs = Math.min(this.backoffMs * 2, BACKOFF_MS_MAX)
  }

  private drop(): void {
    this.timer?.cancel()
    const { stream } = this
    this.stream = undefined
    stream?.cancel()
  }
}
