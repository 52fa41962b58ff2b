/**
 * The metadata store of one partition: linearizable transactions (section 5.4), each with one revision. Every revision is kept as a
 * row, so an image that lags is just the number of an earlier revision, and a watch that is late is an image that stands still.
 * Leases are explicit: an expiry is a step of the walk.
 */
import type { PartitionValue } from '../../daemon/metadata/metadata-values.ts'

const REVISIONS_MAX = 1200
const FIELDS = 6
export const BROKERS_MAX = 5
const ROW = FIELDS * BROKERS_MAX

/** Fields of a row, per broker. */
const LIVE_EPOCH = 0
const LIVE_INCARNATION = 1
const REG_INCARNATION = 2
const REG_STATE = 3
const REG_REVISION = 4
const DATA_EPOCH = 5

export const ABSENT = 0
export const FENCED = 1
export const ACTIVE = 2
export const DRAINING = 3

export type TxnKind = 'control' | 'activate' | 'leader' | 'register' | 'again' | 'drain' | 'take'

/** A transaction in flight, or its reply on the way back. A guard that is -1 is not compared. */
export interface ModelTxn {
  readonly kind: TxnKind
  /** Who sent it: a late copy outlives the process. */
  readonly broker: number
  readonly incarnation: number
  /** Distinguishes the proposals of one process. */
  readonly number: number
  /** cr(controller) */
  readonly controllerEpoch: number
  /** mr(part), and what is put there. */
  readonly partRevision: number
  readonly part: PartitionValue | undefined
  /** cr(live/broker); 0: absent */
  readonly selfEpoch: number
  /** The follower of T4, or the new leader of T3. */
  readonly peer: number
  readonly peerLive: number
  readonly peerData: number
  readonly peerRegistration: number
  /** The broker of T6, T1, T1f and drain: cr(live) for T6, mr(reg). */
  readonly subject: number
  readonly subjectLive: number
  readonly subjectRegistration: number
  readonly lease: number
  readonly writesData: boolean
  /** Filled by the store. */
  applied: boolean
  revision: number
}

export class ModelStore {
  revision = 0
  controllerEpoch = 0
  controllerBroker = -1
  readonly leases = new Int32Array(BROKERS_MAX)
  readonly #rows = new Int32Array(ROW * REVISIONS_MAX)
  readonly #parts: PartitionValue[] = []
  readonly #partRevisions = new Int32Array(REVISIONS_MAX)

  reset(): void {
    this.revision = 0
    this.#rows.fill(0, 0, ROW)
    this.controllerEpoch = 0
    this.controllerBroker = -1
    this.leases.fill(0)
    this.#partRevisions[0] = 0
  }

  get isFull(): boolean {
    return this.revision >= REVISIONS_MAX - 200
  }

  #get(revision: number, broker: number, field: number): number {
    return this.#rows[revision * ROW + broker * FIELDS + field] ?? 0
  }

  #put(broker: number, field: number, value: number): void {
    this.#rows[this.revision * ROW + broker * FIELDS + field] = value
  }

  #begin(): number {
    const from = this.revision
    this.revision += 1
    if (this.revision >= REVISIONS_MAX) throw new Error('the model ran out of revisions')
    this.#rows.copyWithin(this.revision * ROW, from * ROW, from * ROW + ROW)
    this.#parts[this.revision] = this.#parts[from] as PartitionValue
    this.#partRevisions[this.revision] = this.#partRevisions[from] ?? 0
    return this.revision
  }

  liveEpoch(revision: number, broker: number): number {
    return this.#get(revision, broker, LIVE_EPOCH)
  }
  liveIncarnation(revision: number, broker: number): number {
    return this.#get(revision, broker, LIVE_INCARNATION)
  }
  registeredIncarnation(revision: number, broker: number): number {
    return this.#get(revision, broker, REG_INCARNATION)
  }
  state(revision: number, broker: number): number {
    return this.#get(revision, broker, REG_STATE)
  }
  registration(revision: number, broker: number): number {
    return this.#get(revision, broker, REG_REVISION)
  }
  dataEpoch(revision: number, broker: number): number {
    return this.#get(revision, broker, DATA_EPOCH)
  }
  part(revision: number): PartitionValue {
    return this.#parts[revision] as PartitionValue
  }
  partRevision(revision: number): number {
    return this.#partRevisions[revision] ?? 0
  }

  /** The state before the walk: a broker that is registered and active. */
  install(broker: number, incarnation: number): void {
    const revision = this.#begin()
    this.leases[broker] = 1
    this.#put(broker, LIVE_EPOCH, revision)
    this.#put(broker, LIVE_INCARNATION, incarnation)
    this.#put(broker, REG_INCARNATION, incarnation)
    this.#put(broker, REG_STATE, ACTIVE)
    this.#put(broker, REG_REVISION, revision)
    this.#put(broker, DATA_EPOCH, revision)
  }

  putPart(part: PartitionValue): void {
    const revision = this.#begin()
    this.#parts[revision] = part
    this.#partRevisions[revision] = revision
  }

  /** The lease ends, by expiry or by being revoked: its key goes. */
  endLease(broker: number): void {
    this.leases[broker] = 0
    if (this.liveEpoch(this.revision, broker) === 0) return
    this.#begin()
    this.#put(broker, LIVE_EPOCH, 0)
    this.#put(broker, LIVE_INCARNATION, 0)
  }

  endControllerLease(): void {
    if (this.controllerEpoch === 0) return
    this.#begin()
    this.controllerEpoch = 0
    this.controllerBroker = -1
  }

  /** Compares and writes; `applied` and `revision` say what happened. @returns applied */
  apply(txn: ModelTxn): boolean {
    txn.applied = this.#holds(txn)
    if (txn.applied) this.#write(txn)
    txn.revision = this.revision
    return txn.applied
  }

  #holds(txn: ModelTxn): boolean {
    const now = this.revision
    if (txn.kind === 'take' && this.controllerEpoch !== 0) return false
    if (txn.controllerEpoch >= 0 && this.controllerEpoch !== txn.controllerEpoch) return false
    if (txn.partRevision >= 0 && this.partRevision(now) !== txn.partRevision) return false
    if (txn.selfEpoch >= 0 && this.liveEpoch(now, txn.broker) !== txn.selfEpoch) return false
    if (txn.peer >= 0) {
      if (txn.peerLive >= 0 && this.liveEpoch(now, txn.peer) !== txn.peerLive) return false
      if (txn.peerData >= 0 && this.dataEpoch(now, txn.peer) !== txn.peerData) return false
      const registration = this.registration(now, txn.peer)
      if (txn.peerRegistration >= 0 && registration !== txn.peerRegistration) return false
    }
    if (txn.subject >= 0) {
      if (txn.subjectLive >= 0 && this.liveEpoch(now, txn.subject) !== txn.subjectLive) return false
      const registration = this.registration(now, txn.subject)
      if (txn.subjectRegistration >= 0 && registration !== txn.subjectRegistration) return false
    }
    return txn.lease < 0 || this.leases[txn.broker] === txn.lease
  }

  #write(txn: ModelTxn): void {
    const revision = this.#begin()
    if (txn.part !== undefined) {
      this.#parts[revision] = txn.part
      this.#partRevisions[revision] = revision
    }
    if (txn.kind === 'take') {
      this.controllerEpoch = revision
      this.controllerBroker = txn.broker
    }
    if (txn.subject < 0) return
    if (txn.kind === 'register' || txn.kind === 'again') {
      this.#put(txn.broker, LIVE_EPOCH, revision)
      this.#put(txn.broker, LIVE_INCARNATION, txn.incarnation)
    }
    if (txn.kind === 'register') {
      this.#put(txn.broker, REG_INCARNATION, txn.incarnation)
      this.#put(txn.broker, REG_STATE, FENCED)
      if (txn.writesData) this.#put(txn.broker, DATA_EPOCH, revision)
    } else if (txn.kind === 'drain') this.#put(txn.subject, REG_STATE, DRAINING)
    else if (txn.kind !== 'again') this.#put(txn.subject, REG_STATE, ACTIVE)
    if (txn.kind !== 'again') this.#put(txn.subject, REG_REVISION, revision)
  }
}

const NONE: ModelTxn = {
  kind: 'control',
  broker: -1,
  incarnation: 0,
  number: 0,
  controllerEpoch: -1,
  partRevision: -1,
  part: undefined,
  selfEpoch: -1,
  peer: -1,
  peerLive: -1,
  peerData: -1,
  peerRegistration: -1,
  subject: -1,
  subjectLive: -1,
  subjectRegistration: -1,
  lease: -1,
  writesData: false,
  applied: false,
  revision: 0,
}

export function newTxn(fields: Partial<ModelTxn> & { kind: TxnKind; broker: number }): ModelTxn {
  return { ...NONE, ...fields }
}
