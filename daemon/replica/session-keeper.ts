/**
 * Keeps a broker's session in the metadata store alive (replication.md sections 5.4 and 5.5): keep-alives at a third of the
 * lease's life, a local deadline, and registering again (T1f) when the lease was lost although the process lives.
 *
 * Invariants:
 * - `isSelfFenced` is judged at the time of use, never by a timer: a paused process finds itself fenced when it goes on. It is a
 *   courtesy about staleness; safety rests on the epochs that every write is guarded by.
 * - While the thread stands still the lease is kept alive from another one, for as long as one life of the lease.
 * - After a lost session it ends only when the image has everything up to the new session.
 * - The data epoch D and the incarnation never change in the life of a process; E does.
 *
 * In the embedded home the lease is the process: nothing is kept alive and nothing expires.
 */

import { isStreamError, StreamError } from '../../src/base/errors.ts'
import type { Log } from '../../src/ports/log.ts'
import type { LeaseGuard, StoreLease } from '../../src/ports/metadata-store.ts'
import { sleep, type Timer } from '../../src/ports/time.ts'
import type { Store } from '../metadata/commit.ts'
import type { MetadataImage } from '../metadata/metadata-image.ts'
import type { MetadataKeys } from '../metadata/metadata-keys.ts'
import { RepeatedWarning } from '../metadata/repeated-warning.ts'
import {
  giveUpDataEpoch,
  registerAgain,
  registerSession,
  type Session,
  type SessionRequest,
} from '../metadata/session.ts'

const MARGIN_MS = 1000
const RETRY_PAUSE_MS = 500
/** So long it tries to take back its word before it ends. */
const RESIGN_MS = 2_000

/** What the parts of a broker may know of its session; the values are those of now. */
export interface SessionView {
  readonly nodeId: number
  readonly incarnation: string
  /** E */
  readonly sessionEpoch: number
  /** D */
  readonly dataEpoch: number
  /** Its lease may have ended: the tail of a log, and acks=0 and 1, are no longer its to serve. */
  isSelfFenced(): boolean
  /** undefined: the store is in this process, and always answers. */
  readonly storeContact: StoreContact | undefined
}

/** What the keep-alives of a session tell of the store. */
export interface StoreContact {
  /** Since the last one that was acknowledged was sent. */
  readonly silentMs: number
  /** Why the latest was not acknowledged; undefined: it was. */
  readonly trouble: StreamError | undefined
  /** Why the store takes no writes though it answers; undefined: it takes them, as far as is known. */
  readonly writeTrouble: StreamError | undefined
}

export interface SessionPorts {
  readonly store: Store
  readonly keys: MetadataKeys
  readonly image: MetadataImage
  readonly log: Log
  /** Writes down a lease before it is used: the next process of this directory ends it. */
  readonly recordLease: (leaseId: string) => Promise<void>
}

/** A session as the store has it, with the lease it stands on. */
export interface OpenSession {
  readonly session: Session
  readonly lease: StoreLease
  readonly ttlMs: number
  /** Of the clock's monotonic time: when the lease was asked for. */
  readonly grantedMs: number
}

/**
 * T1 or T7, with a lease of `ttlMs`. While another incarnation's lease lives it is tried again, for at most `waitMs`.
 * @param judge  what to register with; asked again when what it was judged by has changed
 * @throws StreamError FENCED when another daemon with this node id goes on living, STORE_UNAVAILABLE
 */
export async function openSession(
  ports: SessionPorts,
  judge: () => Promise<Omit<SessionRequest, 'lease'>>,
  { ttlMs, waitMs }: { readonly ttlMs: number; readonly waitMs: number },
): Promise<OpenSession> {
  const { store, keys } = ports
  const { time } = store
  const deadlineMs = time.monotonicMs() + waitMs
  let lease: StoreLease | undefined
  let grantedMs = 0
  const message = 'waiting for another session of this node to end'
  const waiting = new RepeatedWarning(time, ports.log, message)
  for (;;) {
    if (lease === undefined) {
      grantedMs = time.monotonicMs()
      lease = await store.store.lease(ttlMs)
      await ports.recordLease(lease.id)
    }
    try {
      const request = await judge()
      const session = await registerSession(store, keys, { ...request, lease })
      return { session, lease, ttlMs, grantedMs }
    } catch (error) {
      const mayPass = isStreamError(error, 'FENCED') || isStreamError(error, 'CONFLICT')
      if (!mayPass || time.monotonicMs() >= deadlineMs) {
        await lease.revoke().catch(() => undefined)
        throw error
      }
      if (isStreamError(error, 'FENCED')) waiting.tell(error)
      const sentMs = time.monotonicMs()
      if (await hasEnded(lease)) lease = undefined
      else {
        grantedMs = sentMs
        await sleep(time, RETRY_PAUSE_MS)
      }
    }
  }
}

export class SessionKeeper implements SessionView {
  readonly nodeId: number
  readonly incarnation: string
  readonly dataEpoch: number
  readonly #ports: SessionPorts
  /** Life of its lease. */
  readonly ttlMs: number
  readonly #expires: boolean
  readonly #listeners = new Set<() => void>()
  #session: Session
  #lease: StoreLease
  /** When the last acknowledged keep-alive of the lease was sent from this thread. */
  #renewedMs: number
  /** Of the lease, where it has one. */
  #guard: LeaseGuard | undefined
  #returning: Promise<void> | undefined
  #timer: Timer | undefined
  #stopListening: (() => void) | undefined
  /** A lease is being kept alive; false between a lost session and the next. */
  #isHeld = true
  #failure: StreamError | undefined
  /** The store did not answer what was sent then. */
  #unanswered: { readonly sentMs: number; readonly error: StreamError } | undefined
  #ended = false
  #isResigning = false
  /** Called once when another incarnation has taken this broker's place. */
  onFenced: ((error: StreamError) => void) | undefined
  /** What must be done between the new session and the end of self-fencing. */
  onReturned: (() => Promise<void>) | undefined

  /** @param expires  the lease ends by time and wants keeping alive */
  constructor(ports: SessionPorts, open: OpenSession, expires: boolean) {
    this.#ports = ports
    this.#session = open.session
    this.#lease = open.lease
    this.ttlMs = open.ttlMs
    this.#expires = expires
    this.#renewedMs = open.grantedMs
    this.nodeId = open.session.nodeId
    this.incarnation = open.session.incarnation
    this.dataEpoch = open.session.dataEpoch
  }

  get sessionEpoch(): number {
    return this.#session.sessionEpoch
  }

  /** The session as the store has it; its registration is that of the last (re-)registration. */
  get session(): Session {
    return this.#session
  }

  /** Another daemon has this node's place; final. */
  get failure(): StreamError | undefined {
    return this.#failure
  }

  isSelfFenced(): boolean {
    if (!this.#expires) return false
    if (this.#ended || this.#failure !== undefined || this.#returning !== undefined) return true
    if (this.#ports.image.regressed !== undefined) return true
    return this.#ports.store.time.monotonicMs() >= this.#answeredMs + this.ttlMs - MARGIN_MS
  }

  get storeContact(): StoreContact | undefined {
    if (!this.#expires) return undefined
    const answeredMs = this.#answeredMs
    const { sentMs, error } = this.#unanswered ?? {}
    return {
      silentMs: Math.max(0, this.#ports.store.time.monotonicMs() - answeredMs),
      // The other thread may have been answered since.
      trouble: sentMs !== undefined && sentMs >= answeredMs ? error : undefined,
      writeTrouble: this.#ports.store.store.writeTrouble,
    }
  }

  /** When the last acknowledged keep-alive was sent, from whichever thread. */
  get #answeredMs(): number {
    return Math.max(this.#renewedMs, this.#guard?.renewedMs ?? 0)
  }

  /** Told whenever the session has been lost or won again. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  start(): void {
    if (!this.#expires) return
    this.#stopListening = this.#ports.image.onChange((change) => {
      if (change.brokersChanged) this.#compare()
    })
    this.#guard = this.#lease.guard?.(this.ttlMs, this.#renewedMs)
    this.#schedule(this.ttlMs / 3)
    this.#compare()
  }

  /** Lets the session go; the broker is dead for the others from now on. Idempotent. */
  /**
   * Ends it, and takes back what this broker has said of its disk (giveUpDataEpoch), whether or not the disk keeps that. A store
   * that does not answer leaves it to the mark on the disk; the lease ends either way.
   */
  async resign(reason: string): Promise<void> {
    if (this.#ended || this.#isResigning) return
    this.#isResigning = true
    const { store, keys } = this.#ports
    await Promise.race([
      giveUpDataEpoch(store, keys, this.#session, reason).catch(() => undefined),
      sleep(store.time, RESIGN_MS),
    ])
    await this.end()
  }

  async end(): Promise<void> {
    if (this.#ended) return
    this.#ended = true
    this.#timer?.cancel()
    this.#stopListening?.()
    this.#listeners.clear()
    this.#guard?.stop()
    await this.#lease.revoke().catch(() => undefined)
  }

  #schedule(delayMs: number): void {
    this.#timer?.cancel()
    if (this.#ended || this.#failure !== undefined) return
    this.#timer = this.#ports.store.time.setTimer(delayMs, () => void this.#keepAlive())
  }

  async #keepAlive(): Promise<void> {
    if (this.#returning !== undefined && !this.#isHeld) return
    const lease = this.#lease
    const sentMs = this.#ports.store.time.monotonicMs()
    try {
      await lease.keepAlive()
    } catch (error) {
      if (isStreamError(error, 'FENCED')) this.#return('the lease has ended')
      else {
        this.#noteTrouble(sentMs, error)
        this.#schedule(RETRY_PAUSE_MS)
      }
      return
    }
    if (lease !== this.#lease) return
    this.#renewedMs = sentMs
    this.#guard?.renewed(sentMs)
    this.#schedule(this.ttlMs / 3)
  }

  #noteTrouble(sentMs: number, error: unknown): void {
    if (isStreamError(error)) this.#unanswered = { sentMs, error }
  }

  /** The store may have dropped the session although the lease is answered: what counts is the key. */
  #compare(): void {
    if (this.#ended || this.#returning !== undefined || this.#failure !== undefined) return
    // Its data epoch rises by its own hand.
    if (this.#isResigning) return
    const { image } = this.#ports
    if (image.revision < this.#session.sessionEpoch || image.regressed !== undefined) return
    if ((image.broker(this.nodeId)?.dataEpoch ?? 0) > this.dataEpoch) {
      this.#fail(
        new StreamError('FENCED', 'an operator has declared the metadata store restored', {
          hint: 'start this daemon again',
        }),
      )
      return
    }
    if (image.session(this.nodeId)?.sessionEpoch === this.#session.sessionEpoch) return
    this.#return('its key is gone from the store')
  }

  #return(why: string): void {
    if (this.#ended || this.#returning !== undefined || this.#failure !== undefined) return
    this.#isHeld = false
    this.#guard?.stop()
    this.#ports.log.warn('the session of this broker was lost, registering again', { why })
    this.#returning = this.#register()
      .catch((error: unknown) => this.#fail(error))
      .finally(() => {
        this.#returning = undefined
        this.#tell()
        this.#schedule(this.ttlMs / 3)
        this.#compare()
      })
    this.#tell()
  }

  async #register(): Promise<void> {
    const { store, keys, image, log } = this.#ports
    const { time } = store
    let lease: StoreLease | undefined
    while (!this.#ended) {
      // An older copy of the store may know another incarnation; its owner says what is to be done then.
      if (image.regressed !== undefined) return
      const sentMs = time.monotonicMs()
      try {
        if (lease === undefined) {
          await image.refresh()
          if (image.regressed !== undefined) return
          lease = await store.store.lease(this.ttlMs)
          await this.#ports.recordLease(lease.id)
        } else await lease.keepAlive()
        const session = await registerAgain(store, keys, this.#session, lease)
        if (this.#ended) {
          await lease.revoke().catch(() => undefined)
          return
        }
        this.#session = session
        this.#lease = lease
        this.#isHeld = true
        this.#renewedMs = sentMs
        this.#guard = lease.guard?.(this.ttlMs, sentMs)
        // From here on the lease lives whatever takes how long.
        this.#schedule(this.ttlMs / 3)
        await image.catchUp(session.sessionEpoch)
        await this.onReturned?.()
        log.info('the broker has registered again', { sessionEpoch: session.sessionEpoch })
        return
      } catch (error) {
        if (isStreamError(error, 'CLOSED')) return
        if (isStreamError(error, 'FENCED')) {
          if (lease !== undefined && !(await hasEnded(lease))) throw error
          lease = undefined
        } else this.#noteTrouble(sentMs, error)
        await sleep(time, RETRY_PAUSE_MS)
      }
    }
  }

  #fail(error: unknown): void {
    if (this.#ended) return
    const failure = isStreamError(error)
      ? error
      : new StreamError('FENCED', `the session could not be kept: ${String(error)}`, {
          cause: error,
        })
    this.#failure = failure
    this.#guard?.stop()
    this.#timer?.cancel()
    this.#ports.log.error('this broker is out of the cluster', {
      error: failure.message,
    })
    this.onFenced?.(failure)
  }

  #tell(): void {
    for (const listener of [...this.#listeners]) listener()
  }
}

/** Whether the store says that it has ended; false where it does not say. */
async function hasEnded(lease: StoreLease): Promise<boolean> {
  try {
    await lease.keepAlive()
    return false
  } catch (error) {
    return isStreamError(error, 'FENCED')
  }
}
