/**
 * The controller of a cluster (replication.md section 5.6): campaigns for the `controller` key with a lease of its own, and while
 * it holds it brings every partition record in line with `next()`, lets registered brokers in, and moves leaderships back to
 * preferred replicas. What to decide is daemon/replica/controller-pass.ts; this is when.
 *
 * Invariants:
 * - It acts only while it holds the key by its own clock and by the image; every write is guarded by its epoch C besides (I12).
 * - Level-triggered: whatever woke it, it evaluates what is there, and everything is listed and evaluated again every 30 s.
 * - One pass at a time; a decision that met a conflict is never written again, but made anew.
 */

import { isStreamError, StreamError } from '../../src/base/errors.ts'
import type { Log } from '../../src/ports/log.ts'
import type { StoreLease } from '../../src/ports/metadata-store.ts'
import type { Random } from '../../src/ports/random.ts'
import { sleep, type Timer } from '../../src/ports/time.ts'
import type { Store } from '../metadata/commit.ts'
import type { ImageChange, MetadataImage } from '../metadata/metadata-image.ts'
import type { MetadataKeys } from '../metadata/metadata-keys.ts'
import { RepeatedWarning } from '../metadata/repeated-warning.ts'
import { becomeController, endFormerControl } from '../metadata/session.ts'
import { WriterCounter } from '../metadata/topic-transactions.ts'
import {
  ControllerPass,
  type ControllerSettings,
  type LogInquiry,
  type Reign,
} from './controller-pass.ts'
import type { SessionKeeper } from './session-keeper.ts'

/** At most; never longer than a session's, so that a dead controller is replaced before those that died with it are missed. */
const LEASE_MS_MAX = 5_000
const MARGIN_MS = 1000
const RELIST_MS = 30_000
const RETRY_PAUSE_MS = 500
const PASS_PAUSE_MS = 1
/** While something waits for time to pass: an unclean recovery, an answer about a log. */
const LOOK_AGAIN_MS = 1000

export interface ControllerPorts {
  readonly store: Store
  readonly keys: MetadataKeys
  readonly image: MetadataImage
  readonly session: SessionKeeper
  readonly random: Random
  readonly log: Log
  readonly settings: ControllerSettings
  readonly inquire: LogInquiry
  /** Largest transaction of the store. */
  readonly operationsMax: number
  /** Work of a new controller, and again at each full listing: topics that somebody left in the middle. */
  readonly finishInterrupted: () => Promise<void>
}

interface OwnReign extends Reign {
  readonly sessionEpoch: number
  readonly lease: StoreLease
  deadlineMs: number
  timer: Timer | undefined
  isLost: boolean
}

export class ControllerService {
  readonly #ports: ControllerPorts
  readonly #pass: ControllerPass
  readonly #leaseMs: number
  readonly #trouble: RepeatedWarning
  #reign: OwnReign | undefined
  #running: Promise<void> | undefined
  #closed = false
  #awake: (() => void) | undefined
  #isWoken = false
  #timer: Timer | undefined
  readonly #stopListening: (() => void)[] = []

  constructor(ports: ControllerPorts) {
    this.#ports = ports
    const message = 'the controller met an error and begins again'
    this.#trouble = new RepeatedWarning(ports.store.time, ports.log, message)
    this.#leaseMs = Math.min(LEASE_MS_MAX, ports.session.ttlMs)
    this.#pass = new ControllerPass({
      ...ports,
      reign: () => this.reign,
      wake: () => this.#wake(),
    })
  }

  /** undefined: this broker is not the controller, or can no longer be sure of it. */
  get reign(): Reign | undefined {
    return this.#mayAct(this.#reign) ? this.#reign : undefined
  }

  get isController(): boolean {
    return this.reign !== undefined
  }

  start(): void {
    const { image, session } = this.#ports
    this.#stopListening.push(
      image.onChange((change) => this.#follow(change)),
      session.onChange(() => this.#wake()),
    )
    this.#running = this.#run()
  }

  /** Ends its controllership, so that another takes over at once. */
  async stop(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    for (const remove of this.#stopListening) remove()
    this.#wake()
    await this.#running
  }

  #follow(change: ImageChange): void {
    if (change.controllerChanged) this.#wake()
    if (this.#reign === undefined) return
    if (change.brokersChanged || change.configScopes.size > 0) this.#pass.markAll()
    else if (change.topicIds.size > 0) this.#pass.mark(change.topicIds)
    else return
    this.#wake()
  }

  async #run(): Promise<void> {
    while (!this.#closed) {
      try {
        const reign = await this.#campaign()
        if (reign !== undefined) await this.#rule(reign)
      } catch (error) {
        if (isStreamError(error, 'CLOSED')) return
        this.#trouble.tell(error)
        await this.#nap(RETRY_PAUSE_MS)
      }
    }
  }

  /** @returns the reign won; undefined after a wait for the next occasion */
  async #campaign(): Promise<OwnReign | undefined> {
    const { store, keys, image, session, random } = this.#ports
    const { time } = store
    const isOut = session.isSelfFenced() || image.regressed !== undefined
    const holder = image.controller
    if (isOut || (holder !== undefined && !this.#isFormerSelf(holder))) {
      const isDue = await this.#nap(isOut ? RETRY_PAUSE_MS : RELIST_MS)
      // The watch may have lost the end of the controller.
      if (isDue && !isOut) await image.refresh()
      return undefined
    }
    if (holder !== undefined) {
      await endFormerControl(store, keys, session.session, holder.controllerEpoch)
      await image.refresh()
      return undefined
    }
    await sleep(time, random.fraction() * 20)
    const sentMs = time.monotonicMs()
    const lease = await store.store.lease(this.#leaseMs)
    const { sessionEpoch } = session
    try {
      const controllerEpoch = await becomeController(store, keys, session.session, lease)
      await image.catchUp(controllerEpoch)
      return {
        controllerEpoch,
        writers: new WriterCounter(controllerEpoch),
        sessionEpoch,
        lease,
        deadlineMs: sentMs + this.#leaseMs - MARGIN_MS,
        timer: undefined,
        isLost: false,
      }
    } catch (error) {
      await lease.revoke().catch(() => undefined)
      if (!isStreamError(error, 'CONFLICT')) throw error
      await this.#nap(RETRY_PAUSE_MS)
      return undefined
    }
  }

  /** The key of an earlier session of this broker: only this process has its identity. */
  #isFormerSelf(holder: { readonly brokerId: number; readonly sessionEpoch: number }): boolean {
    const { session } = this.#ports
    return holder.brokerId === session.nodeId && holder.sessionEpoch !== session.sessionEpoch
  }

  async #rule(reign: OwnReign): Promise<void> {
    const { store, image, log } = this.#ports
    this.#reign = reign
    this.#keepAlive(reign, this.#leaseMs / 3)
    log.info('this broker is the controller', { controllerEpoch: reign.controllerEpoch })
    try {
      let relistAtMs = Number.NEGATIVE_INFINITY
      this.#pass.begin()
      while (!this.#closed && this.#mayAct(reign)) {
        if (store.time.monotonicMs() >= relistAtMs) {
          await image.refresh()
          relistAtMs = store.time.monotonicMs() + RELIST_MS
          this.#pass.markAll()
          this.#finishInterrupted()
        }
        if (!this.#mayAct(reign)) break
        const isClear = await this.#pass.run()
        if (!isClear) {
          // What else came meanwhile has its turn.
          await sleep(store.time, PASS_PAUSE_MS)
          continue
        }
        const restMs = relistAtMs - store.time.monotonicMs()
        await this.#nap(Math.min(restMs, this.#pass.isWaiting ? LOOK_AGAIN_MS : restMs))
      }
    } finally {
      this.#reign = undefined
      reign.isLost = true
      log.info('this broker is no longer the controller', {
        controllerEpoch: reign.controllerEpoch,
      })
      reign.timer?.cancel()
      await reign.lease.revoke().catch(() => undefined)
    }
  }

  #finishInterrupted(): void {
    this.#ports.finishInterrupted().catch((error: unknown) => {
      if (isStreamError(error, 'CLOSED') || isStreamError(error, 'NOT_CONTROLLER')) return
      this.#ports.log.warn('an interrupted topic could not be finished yet', {
        error: String(error),
      })
    })
  }

  #mayAct(reign: OwnReign | undefined): boolean {
    const { store, image, session } = this.#ports
    if (reign === undefined || reign.isLost || this.#closed) return false
    if (image.regressed !== undefined) return false
    if (store.time.monotonicMs() >= reign.deadlineMs) return false
    if (session.isSelfFenced() || session.sessionEpoch !== reign.sessionEpoch) return false
    return image.controller?.controllerEpoch === reign.controllerEpoch
  }

  #keepAlive(reign: OwnReign, delayMs: number): void {
    if (reign.isLost) return
    reign.timer = this.#ports.store.time.setTimer(delayMs, () => void this.#renew(reign))
  }

  async #renew(reign: OwnReign): Promise<void> {
    const { time } = this.#ports.store
    const sentMs = time.monotonicMs()
    let pauseMs = this.#leaseMs / 3
    try {
      await reign.lease.keepAlive()
      reign.deadlineMs = sentMs + this.#leaseMs - MARGIN_MS
    } catch (error) {
      pauseMs = RETRY_PAUSE_MS
      if (isStreamError(error, 'FENCED') || isStreamError(error, 'CLOSED')) reign.isLost = true
    }
    if (this.#mayAct(reign)) {
      this.#keepAlive(reign, pauseMs)
      return
    }
    reign.isLost = true
    this.#wake()
  }

  #wake(): void {
    this.#isWoken = true
    this.#awake?.()
  }

  /** @returns whether the whole time has passed */
  async #nap(delayMs: number): Promise<boolean> {
    if (this.#closed) return false
    if (this.#isWoken || delayMs <= 0) {
      this.#isWoken = false
      return delayMs <= 0
    }
    const isDue = await new Promise<boolean>((resolve) => {
      this.#awake = () => resolve(false)
      this.#timer = this.#ports.store.time.setTimer(delayMs, () => resolve(true))
    })
    this.#timer?.cancel()
    this.#awake = undefined
    this.#isWoken = false
    return isDue
  }
}

/** What a broker that is not the controller answers to the controller's work. */
export function notController(controllerId: number, nodeId: number): StreamError {
  const hint = 'ask the controller, or try again'
  if (controllerId === nodeId) {
    const words = 'this broker cannot tell whether it still is the controller'
    return new StreamError('NOT_CONTROLLER', words, { hint })
  }
  const who = controllerId < 0 ? 'there is none at the moment' : `it is broker ${controllerId}`
  return new StreamError('NOT_CONTROLLER', `this broker is not the controller; ${who}`, { hint })
}
