/**
 * The controller (replication.md section 5.6): the project's own functions decide (`next()`, the begin and the cancel of a reassignment,
 * a change of minIsr, the preferred leader), from views that may be old; what they decide is written with T3, guarded. Beside it T2 and
 * T6.
 */
import {
  type BrokerView,
  beginReassignment,
  cancelReassignment,
  type Decision,
  isReassigning,
  next,
  preferLeader,
  settledReplicas,
  withMinInSync,
} from '../../daemon/metadata/controller.ts'
import type { BrokerState, Member, PartitionValue } from '../../daemon/metadata/metadata-values.ts'
import type { ModelBroker, ModelWorld } from './model-state.ts'
import { ABSENT, FENCED, type ModelTxn, newTxn } from './model-store.ts'
import { withRemovalEpoch } from './reassignment.ts'

type Writable<T> = { -readonly [key in keyof T]: T[key] }

const STATES: readonly BrokerState[] = ['FENCED', 'FENCED', 'ACTIVE', 'DRAINING']

export class ModelController {
  readonly #world: ModelWorld
  readonly #views = new Map<number, BrokerView>()
  readonly #all: readonly Writable<BrokerView>[]

  constructor(world: ModelWorld) {
    this.#world = world
    this.#all = world.brokers.map((broker) => ({
      nodeId: broker.id,
      live: false,
      incarnation: '',
      state: 'FENCED',
      dataEpoch: 0,
      directoryOnline: true,
    }))
  }

  /** T2. */
  take(broker: ModelBroker): void {
    if (!broker.isUp || broker.sessionEpoch === 0) return
    const { store } = this.#world
    if (store.controllerEpoch !== 0) return
    this.#world.send(
      newTxn({
        kind: 'take',
        broker: broker.id,
        incarnation: broker.incarnation,
        selfEpoch: broker.sessionEpoch,
      }),
    )
  }

  /**
   * Looks at the partition once. `brokersAt` and `partAt` are the revisions of the views, both perhaps old.
   * @returns whether something was sent
   */
  evaluate(
    broker: ModelBroker,
    brokersAt: number,
    partAt: number,
    cause: 'event' | 'timeout',
  ): boolean {
    if (!broker.isUp || broker.controllerEpoch === 0) return false
    const { store, profile, random, rules } = this.#world
    const part = store.part(partAt)
    const partRevision = store.partRevision(partAt)
    this.#look(brokersAt)
    if (!rules.leaderIncarnation && part.leader >= 0) {
      this.#view(part.leader).incarnation = part.leaderIncarnation
    }
    let activates = -1
    for (let id = 0; id < profile.brokers; id++) {
      if (store.state(brokersAt, id) !== FENCED || store.liveEpoch(brokersAt, id) === ABSENT)
        continue
      activates = id
      if (random.chance(50)) break
    }
    if (activates >= 0) {
      // What is evaluated must have been read after the registration.
      const isFresh = partAt >= store.registration(brokersAt, activates)
      if (!rules.activateAfterEvaluation) return this.#activate(broker, activates, brokersAt)
      const isAtOnce = random.chance(50)
      if (isAtOnce) this.#view(activates).state = 'ACTIVE'
      const decision = this.#decide(broker, part, cause)
      if (isFresh && !isAtOnce && !decision.changed)
        return this.#activate(broker, activates, brokersAt)
      if (isFresh || !isAtOnce) {
        const changed = decision.changed ? decision.partition : undefined
        const who = isAtOnce ? activates : -1
        return this.#write(broker, part, changed, partRevision, brokersAt, cause, who)
      }
      return false
    }
    const decision = this.#decide(broker, part, cause)
    if (!decision.changed) return this.#onDemand(broker, part, partRevision, brokersAt)
    return this.#write(broker, part, decision.partition, partRevision, brokersAt, cause, -1)
  }

  #view(id: number): Writable<BrokerView> {
    return this.#all[id] as Writable<BrokerView>
  }

  #look(at: number): void {
    const { store, profile } = this.#world
    this.#views.clear()
    for (let id = 0; id < profile.brokers; id++) {
      const view = this.#view(id)
      view.live = store.liveEpoch(at, id) !== ABSENT
      view.incarnation = String(
        view.live ? store.liveIncarnation(at, id) : store.registeredIncarnation(at, id),
      )
      view.state = STATES[store.state(at, id)] ?? 'FENCED'
      view.dataEpoch = store.dataEpoch(at, id)
      this.#views.set(id, view)
    }
  }

  /** The real decision function, and what of the ELR rules a mutation takes back. */
  #decide(broker: ModelBroker, part: PartitionValue, cause: 'event' | 'timeout'): Decision {
    const { profile, rules } = this.#world
    let seen = part
    if (!rules.electWholeOnly) seen = this.#asWhole(part)
    const config = {
      uncleanElection: profile.uncleanElection,
      commitFlush: profile.commitFlush,
      minInSync: (replicas: number): number => Math.min(this.#world.minInSyncConfig, replicas),
    }
    const decided = next(seen, this.#views, broker.logViews, config, cause)
    const decision = { ...decided, partition: withRemovalEpoch(part, decided.partition, rules) }
    if (decision.wantsLogs.length > 0) this.#askForLogs(broker, decision.wantsLogs)
    if (!decision.changed) return decision
    const after = decision.partition
    const isReached = after.inSyncReplicas.length >= after.minInSync
    const wasElected = part.inSyncReplicas.every((m) => m.broker !== after.leader)
    const keeps =
      !rules.eligibleClearedByController ||
      (!rules.eligibleClearedAfterElection && wasElected && after.leader >= 0)
    if (!keeps || !isReached || after.recovering) return decision
    const kept = [...part.eligibleReplicas, ...part.inSyncReplicas].filter(
      (m) => !after.inSyncReplicas.some((x) => x.broker === m.broker),
    )
    return { ...decision, partition: { ...after, eligibleReplicas: kept } }
  }

  #asWhole(part: PartitionValue): PartitionValue {
    const current = (m: Member): Member => ({
      broker: m.broker,
      dataEpoch: this.#view(m.broker).dataEpoch,
    })
    return {
      ...part,
      inSyncReplicas: part.inSyncReplicas.map(current),
      eligibleReplicas: part.eligibleReplicas.map(current),
    }
  }

  /** LogInfo: some answer, and their answers may be used later. */
  #askForLogs(broker: ModelBroker, wanted: readonly number[]): void {
    for (const id of wanted) {
      const { isStarted, log } = this.#world.broker(id)
      if (!isStarted || this.#world.random.chance(20)) continue
      broker.logViews.set(id, { lastEpoch: log.lastEpoch(), logEndOffset: log.end })
    }
  }

  /** T3, with T6 for `activates` in the same transaction where it is ≥ 0. */
  #write(
    broker: ModelBroker,
    before: PartitionValue,
    after: PartitionValue | undefined,
    partRevision: number,
    brokersAt: number,
    cause: 'event' | 'timeout',
    activates: number,
  ): boolean {
    const { store, rules } = this.#world
    if (after === undefined && activates < 0) return false
    const named =
      after !== undefined &&
      after.leader >= 0 &&
      (after.leader !== before.leader ||
        after.leaderIncarnation !== before.leaderIncarnation ||
        after.leaderEpoch !== before.leaderEpoch)
    const peer = named ? after.leader : -1
    const fields: Partial<ModelTxn> = {
      partRevision,
      part: after,
      peer,
      peerLive: named && rules.electGuardLive ? store.liveEpoch(brokersAt, peer) : -1,
      peerData: named && rules.electGuardData ? store.dataEpoch(brokersAt, peer) : -1,
      // Not compared; tells the invariants that waiting had run out.
      peerRegistration: cause === 'timeout' ? -2 : -1,
    }
    if (activates >= 0) {
      Object.assign(fields, {
        subject: activates,
        subjectLive: store.liveEpoch(brokersAt, activates),
        subjectRegistration: store.registration(brokersAt, activates),
      })
    }
    this.#world.trace?.push(
      `${this.#world.step} controller b${broker.id} (views ${brokersAt}, R ${partRevision})${after === undefined ? '' : ` wants leader ${after.leader} epoch ${after.leaderEpoch} isr ${membersText(after.inSyncReplicas)} elr ${membersText(after.eligibleReplicas)}`}${activates >= 0 ? ` activates b${activates}` : ''}`,
    )
    this.#sendAs(broker, fields)
    return true
  }

  #activate(broker: ModelBroker, subject: number, brokersAt: number): boolean {
    const { store } = this.#world
    this.#sendAs(broker, {
      subject,
      subjectLive: store.liveEpoch(brokersAt, subject),
      subjectRegistration: store.registration(brokersAt, subject),
    })
    return true
  }

  #sendAs(broker: ModelBroker, fields: Partial<ModelTxn>): void {
    broker.logViews.clear()
    this.#world.send(
      newTxn({
        kind: fields.part === undefined ? 'activate' : 'control',
        broker: broker.id,
        incarnation: broker.incarnation,
        number: broker.controllerEpoch,
        controllerEpoch: this.#world.rules.controllerGuard ? broker.controllerEpoch : -1,
        ...fields,
      }),
    )
  }

  /** What an admin asks for, and the balance of leaders, when nothing more urgent is to be done. */
  #onDemand(
    broker: ModelBroker,
    part: PartitionValue,
    partRevision: number,
    brokersAt: number,
  ): boolean {
    const { random } = this.#world
    const wanted = this.#reassigned(part) ?? this.#withMinInSync(part) ?? this.#preferred(part)
    if (wanted === undefined) return false
    // In one transaction with what follows from it, or in two; a leader that is no replica any more never stays.
    const isLeaderGone = wanted.leader >= 0 && !wanted.replicas.includes(wanted.leader)
    const isDecided = isLeaderGone || random.chance(50)
    const after = isDecided ? this.#decide(broker, wanted, 'event').partition : wanted
    return this.#write(broker, part, after, partRevision, brokersAt, 'event', -1)
  }

  #reassigned(part: PartitionValue): PartitionValue | undefined {
    const { target, rules } = this.#world
    if (target === undefined) return undefined
    if (target === 'cancel') {
      if (!isReassigning(part)) return undefined
      const cancelled = cancelReassignment(part)
      return cancelled && withRemovalEpoch(part, cancelled, rules)
    }
    const settled = part.replicas.filter((id) => !part.removing.includes(id))
    const isThere = settled.length === target.length && settled.every((id) => target.includes(id))
    if (isThere) return undefined
    return withRemovalEpoch(part, beginReassignment(part, target), rules)
  }

  #withMinInSync(part: PartitionValue): PartitionValue | undefined {
    const { minInSyncConfig, rules } = this.#world
    const after = withMinInSync(part, Math.min(minInSyncConfig, settledReplicas(part)))
    if (after === part) return undefined
    if (rules.eligibleClearedOnMinInSync) return after
    return { ...after, eligibleReplicas: part.eligibleReplicas, known: part.known }
  }

  #preferred(part: PartitionValue): PartitionValue | undefined {
    if (!this.#world.random.chance(20)) return undefined
    return preferLeader(part, this.#views)
  }
}

export function membersText(members: readonly Member[]): string {
  return `{${members.map((m) => `${m.broker}@${m.dataEpoch}`).join(' ')}}`
}
