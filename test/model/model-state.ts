/**
 * The state of one walk: brokers, store, messages and transactions in flight, and what the invariants remember. Objects are made once
 * and reset for each walk.
 */
import type { LogView } from '../../daemon/metadata/controller.ts'
import type { PartitionValue } from '../../daemon/metadata/metadata-values.ts'
import { LOG_MAX, ModelLog } from './model-log.ts'
import { BROKERS_MAX, ModelStore, type ModelTxn } from './model-store.ts'
import { ModelRandom } from './random.ts'
import type { Rules } from './rules.ts'

/** What a leader knows of one follower in its epoch (section 13). Positions are -1 until a fetch came. */
export class FollowerEntry {
  sessionEpoch = 0
  dataEpoch = 0
  number = 0
  end = -1
  durable = -1
  /** Largest position counted. */
  best = -1
  hasFetched = false
  isCaughtUp = false

  clear(): void {
    this.sessionEpoch = 0
    this.dataEpoch = 0
    this.number = 0
    this.end = -1
    this.durable = -1
    this.best = -1
    this.hasFetched = false
    this.isCaughtUp = false
  }
}

export class ModelBroker {
  readonly id: number
  readonly log = new ModelLog()
  readonly followers: readonly FollowerEntry[]

  /** The process runs. */
  isUp = true
  incarnation = 0
  /** E, 0: no session yet. */
  sessionEpoch = 0
  /** The process has noticed that its lease may be over. */
  isSelfFenced = false
  /** Lease that the last registration was sent with. */
  lease = 0
  /** The directory: D as recorded, and whether the last run lost data. */
  dataEpoch = 0
  hasLostData = false
  /** Leader epoch that took its replica away last; -1: none has. */
  strayEpoch = -1
  /** Revision of its view of the store. */
  image = 0
  /** It has seen itself active: fetchers and leaders run. */
  isStarted = false
  /** C, 0: not the controller as far as it knows. */
  controllerEpoch = 0
  readonly logViews = new Map<number, LogView>()

  /** The partition as taken in, and its revision R; 0: not yet. */
  part: PartitionValue | undefined = undefined
  partRevision = 0
  /** Leader epoch taken in; -1: none. */
  epoch = -1
  leads = false

  /** Leader. */
  epochStart = 0
  pendingNumber = 0
  pending: ModelTxn | undefined = undefined
  /** Bits of the brokers that count although the store has not confirmed them. */
  pendingExtra = 0
  /** Bits that a mutation leaves out too early. */
  pendingDropped = 0
  proposals = 0

  /** Follower. */
  fetchNumber = 0
  outstanding = 0
  /** Leader epoch in which its log was found to agree with the leader's. */
  reconciledEpoch = -1

  constructor(id: number) {
    this.id = id
    this.followers = Array.from({ length: BROKERS_MAX }, () => new FollowerEntry())
  }

  /** What a process forgets when it dies. */
  forget(): void {
    this.sessionEpoch = 0
    this.isSelfFenced = false
    this.image = 0
    this.isStarted = false
    this.controllerEpoch = 0
    this.logViews.clear()
    this.part = undefined
    this.partRevision = 0
    this.epoch = -1
    this.leads = false
    this.clearLeader()
    this.fetchNumber = 0
    this.outstanding = 0
    for (const entry of this.followers) entry.clear()
  }

  clearLeader(): void {
    this.pending = undefined
    this.pendingExtra = 0
    this.pendingDropped = 0
    this.pendingNumber = 0
  }
}

export type MessageKind = 'fetch' | 'data' | 'diverging' | 'outOfRange'
export const RECORDS_MAX = 3

/** A fetch or its answer. */
export class Message {
  kind: MessageKind = 'fetch'
  from = 0
  to = 0
  /** The follower's process, session and fetch. */
  incarnation = 0
  sessionEpoch = 0
  dataEpoch = 0
  number = 0
  leaderEpoch = 0
  /** Fetch position; of an answer: where its records begin. */
  offset = 0
  lastEpoch = -1
  durable = 0
  highWatermark = 0
  start = 0
  divergingEpoch = -1
  divergingEnd = 0
  count = 0
  readonly ids = new Int32Array(RECORDS_MAX)
  readonly epochs = new Int32Array(RECORDS_MAX)

  copyFrom(other: Message): void {
    this.kind = other.kind
    this.from = other.from
    this.to = other.to
    this.incarnation = other.incarnation
    this.sessionEpoch = other.sessionEpoch
    this.dataEpoch = other.dataEpoch
    this.number = other.number
    this.leaderEpoch = other.leaderEpoch
    this.offset = other.offset
    this.lastEpoch = other.lastEpoch
    this.durable = other.durable
    this.highWatermark = other.highWatermark
    this.start = other.start
    this.divergingEpoch = other.divergingEpoch
    this.divergingEnd = other.divergingEnd
    this.count = other.count
    this.ids.set(other.ids)
    this.epochs.set(other.epochs)
  }
}

/** What varies from walk to walk. */
export interface Profile {
  brokers: number
  replicas: number
  minInSync: number
  commitFlush: boolean
  uncleanElection: boolean
  duplicatePercent: number
  lossPercent: number
  /** A reassignment is ended by the leader with T4 where it stays; else the controller always ends it. */
  leaderCompletes: boolean
}

const MESSAGES_MAX = 24
/** Each step writes at most one record. */
export const STEPS_MAX = 4096
const TXNS_MAX = 24

export class ModelWorld {
  readonly random = new ModelRandom()
  readonly store = new ModelStore()
  readonly brokers: readonly ModelBroker[]
  readonly profile: Profile
  rules: Rules
  /** Wanted of the partition by the admin: replicas (undefined: nothing), and `min.insync.replicas`. */
  target: readonly number[] | 'cancel' | undefined = undefined
  minInSyncConfig = 1
  step = 0
  recordIds = 0
  incarnations = 0

  readonly messages: Message[] = []
  messageCount = 0
  /** The message that is being handled. */
  readonly inHand = new Message()
  readonly txns: ModelTxn[] = []
  readonly replies: ModelTxn[] = []

  /** The largest high watermark any leader exposed, and the records below it. */
  trueHighWatermark = 0
  readonly committed = new Int32Array(LOG_MAX)
  /** By record: a leader's retention has dropped it, so that nobody has to hold it any more. */
  readonly retired = new Uint8Array(STEPS_MAX)
  /** Leader epoch → incarnation that accepts writes in it. */
  readonly writers = new Map<number, number>()

  violation: string | undefined = undefined
  violationDetail = ''
  trace: string[] | undefined = undefined

  constructor(profile: Profile, rules: Rules) {
    this.profile = profile
    this.rules = rules
    this.brokers = Array.from({ length: BROKERS_MAX }, (_, id) => new ModelBroker(id))
    for (let at = 0; at < MESSAGES_MAX; at++) this.messages.push(new Message())
  }

  /** The beginning of a walk: all brokers run, the first replicas are in sync. */
  reset(): void {
    const { store, profile } = this
    store.reset()
    this.target = undefined
    this.minInSyncConfig = profile.minInSync
    this.step = 0
    this.recordIds = 0
    this.messageCount = 0
    this.txns.length = 0
    this.replies.length = 0
    this.trueHighWatermark = 0
    this.writers.clear()
    this.retired.fill(0)
    // Of offsets that no record has.
    this.retired[0] = 1
    this.violation = undefined
    this.violationDetail = ''
    for (const broker of this.brokers) {
      broker.forget()
      broker.log.clear()
      broker.isUp = broker.id < profile.brokers
      broker.incarnation = broker.id + 1
      broker.lease = 1
      broker.hasLostData = false
      broker.reconciledEpoch = -1
      broker.strayEpoch = -1
      broker.proposals = 0
      if (broker.isUp) store.install(broker.id, broker.incarnation)
      broker.sessionEpoch = store.revision
      broker.dataEpoch = store.revision
    }
    this.incarnations = profile.brokers
    store.putPart(firstPart(this))
  }

  broker(id: number): ModelBroker {
    return this.brokers[id] as ModelBroker
  }

  /** The record of the partition as it stands in the store. */
  stored(): PartitionValue {
    return this.store.part(this.store.revision)
  }

  /** A free slot for a message to be sent; undefined: the network is full, the message is lost. */
  newMessage(): Message | undefined {
    if (this.messageCount >= MESSAGES_MAX) return undefined
    const message = this.messages[this.messageCount] as Message
    this.messageCount += 1
    return message
  }

  dropMessage(at: number): void {
    this.messageCount -= 1
    const last = this.messages[this.messageCount] as Message
    this.messages[this.messageCount] = this.messages[at] as Message
    this.messages[at] = last
  }

  /** Sends to the store; a full queue loses it. */
  send(txn: ModelTxn): void {
    if (this.txns.length < TXNS_MAX) this.txns.push(txn)
  }

  fail(invariant: string, detail: string): void {
    if (this.violation !== undefined) return
    this.violation = invariant
    this.violationDetail = `step ${this.step}: ${detail}`
    this.trace?.push(`${this.step} VIOLATION ${invariant}: ${detail}`)
  }
}

export function hasMember(part: PartitionValue, broker: number): boolean {
  return memberEpoch(part, broker) >= 0
}

/** Data epoch of the broker's entry in the in-sync replicas; -1: not a member. */
export function memberEpoch(part: PartitionValue, broker: number): number {
  const members = part.inSyncReplicas
  for (let at = 0; at < members.length; at++) {
    const member = members[at]
    if (member !== undefined && member.broker === broker) return member.dataEpoch
  }
  return -1
}

export function inSyncBits(part: PartitionValue): number {
  let bits = 0
  for (const member of part.inSyncReplicas) bits |= 1 << member.broker
  return bits
}

function firstPart(world: ModelWorld): PartitionValue {
  const { profile, brokers } = world
  const replicas = brokers.slice(0, profile.replicas)
  return {
    replicas: replicas.map((broker) => broker.id),
    adding: [],
    removing: [],
    leader: 0,
    leaderIncarnation: String(world.broker(0).incarnation),
    leaderEpoch: 0,
    partitionEpoch: 0,
    inSyncReplicas: replicas.map(({ id, dataEpoch }) => ({ broker: id, dataEpoch })),
    eligibleReplicas: [],
    known: [],
    lastLeader: null,
    minInSync: profile.minInSync,
    uncleanEpoch: 0,
    recovering: false,
    writer: { epoch: 0, counter: 0 },
  }
}
