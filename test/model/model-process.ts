/**
 * A broker's process (replication.md sections 5.3 to 5.5): start, registration with and without lost data (T1, T7), registration again
 * after a lost lease (T1f), drain, crash; and what it does with the store's replies.
 */
import { adopt, takeIn } from './model-replica.ts'
import type { ModelBroker, ModelWorld } from './model-state.ts'
import { ABSENT, ACTIVE, DRAINING, type ModelTxn, newTxn } from './model-store.ts'

/** The process dies. It keeps what is stable and a random part of what is not; `isLossy`: not even that. */
export function crash(world: ModelWorld, broker: ModelBroker, isLossy: boolean): void {
  if (!broker.isUp) return
  const { log } = broker
  const { random } = world
  let low = log.stable
  let high = log.end
  if (isLossy) {
    low = log.start
    high = world.profile.commitFlush ? log.stable : log.end
  } else if (!world.profile.commitFlush) {
    // The death of a process alone does not lose page cache; the loss of power does, and is a lossy start (5.3 a).
    if (random.chance(50)) low = log.end
    else isLossy = true
  }
  const kept = random.chance(25) ? low : random.between(low, high)
  world.trace?.push(
    `${world.step} b${broker.id} crashes${isLossy ? ' and loses data' : ''}: log ${log.end} to ${kept}, stable was ${log.stable}`,
  )
  broker.isUp = false
  broker.hasLostData ||= isLossy
  log.crashTo(kept)
  // The checkpoint of the high watermark is a hint, and an old one.
  if (random.chance(50)) log.highWatermark = random.between(log.start, log.highWatermark)
  broker.forget()
}

/** A new process on the directory: it revokes the lease of the one before, or waits for its end. */
export function start(world: ModelWorld, broker: ModelBroker, mayRevoke: boolean): void {
  if (broker.isUp) return
  const { store } = world
  if (store.liveEpoch(store.revision, broker.id) !== ABSENT && !mayRevoke) return
  store.endLease(broker.id)
  broker.isUp = true
  world.incarnations += 1
  broker.incarnation = world.incarnations
  world.trace?.push(`${world.step} b${broker.id} starts as incarnation ${broker.incarnation}`)
  register(world, broker)
}

/** T1, or T7 where the directory lost data or is older than the store knows. */
export function register(world: ModelWorld, broker: ModelBroker): void {
  if (!broker.isUp || broker.sessionEpoch !== 0) return
  const { store } = world
  if (store.leases[broker.id] === 0) {
    broker.lease += 1
    store.leases[broker.id] = broker.lease
  }
  const isOld = store.dataEpoch(store.revision, broker.id) > broker.dataEpoch
  const isLossy = broker.hasLostData || isOld
  world.send(
    newTxn({
      kind: 'register',
      broker: broker.id,
      incarnation: broker.incarnation,
      subject: broker.id,
      subjectLive: ABSENT,
      lease: broker.lease,
      writesData: isLossy && world.rules.dataEpoch,
    }),
  )
}

/** T1f: the lease was lost, the process lives on with the same incarnation and data epoch. */
export function registerAgain(world: ModelWorld, broker: ModelBroker): void {
  const { store, rules } = world
  if (!broker.isUp || broker.sessionEpoch === 0) return
  // Also when it is there already: the reply was lost, and the failure of a repeat shows one's own incarnation.
  if (store.liveEpoch(store.revision, broker.id) === broker.sessionEpoch) return
  if (store.registeredIncarnation(store.revision, broker.id) !== broker.incarnation) return
  if (store.leases[broker.id] === 0) {
    broker.lease += 1
    store.leases[broker.id] = broker.lease
  }
  world.send(
    newTxn({
      kind: 'again',
      broker: broker.id,
      incarnation: broker.incarnation,
      subject: broker.id,
      subjectLive: ABSENT,
      subjectRegistration: rules.registerAgainGuard
        ? store.registration(store.revision, broker.id)
        : -1,
      lease: broker.lease,
    }),
  )
}

export function drain(world: ModelWorld, broker: ModelBroker): void {
  const { store } = world
  if (!broker.isUp || store.state(broker.image, broker.id) !== ACTIVE) return
  if (store.registeredIncarnation(broker.image, broker.id) !== broker.incarnation) return
  world.send(
    newTxn({
      kind: 'drain',
      broker: broker.id,
      incarnation: broker.incarnation,
      selfEpoch: broker.sessionEpoch,
      subject: broker.id,
      subjectRegistration: store.registration(broker.image, broker.id),
    }),
  )
}

/** The end of a drain: everything flushed, clean marker, lease revoked. */
export function shutDown(world: ModelWorld, broker: ModelBroker): void {
  const { store } = world
  if (!broker.isUp || broker.leads) return
  if (store.state(broker.image, broker.id) !== DRAINING) return
  if (store.registeredIncarnation(broker.image, broker.id) !== broker.incarnation) return
  broker.log.syncAll()
  broker.isUp = false
  broker.forget()
  store.endLease(broker.id)
  world.trace?.push(`${world.step} b${broker.id} shuts down cleanly`)
}

/** The reply to a transaction, perhaps late, perhaps of a predecessor. */
export function onReply(world: ModelWorld, txn: ModelTxn): void {
  const broker = world.broker(txn.broker)
  if (!broker.isUp || broker.incarnation !== txn.incarnation) return
  const { store } = world
  if (txn.kind === 'register' || txn.kind === 'again') onRegistered(world, broker, txn)
  else if (txn.kind === 'take') {
    if (txn.applied) broker.controllerEpoch = txn.revision
    broker.logViews.clear()
  } else if (txn.kind === 'control' || txn.kind === 'activate') {
    // Its guard on C failed: another one is the controller.
    const isDeposed = !txn.applied && store.controllerEpoch !== broker.controllerEpoch
    if (isDeposed) broker.controllerEpoch = 0
  } else if (txn.kind === 'leader') {
    const isPending = broker.pending !== undefined && txn.number === broker.pendingNumber
    const isNewer = store.partRevision(txn.revision) > broker.partRevision
    if (isNewer) adopt(world, broker, txn.revision)
    else if (isPending && !txn.applied) {
      // Its guard failed although the record stands: a token that was wrong once stays wrong.
      broker.clearLeader()
    }
  }
}

/** What counts is what the store says now: a repeat of one's own lost reply is recognised by the incarnation. */
function onRegistered(world: ModelWorld, broker: ModelBroker, txn: ModelTxn): void {
  const { store } = world
  if (store.liveIncarnation(txn.revision, broker.id) !== broker.incarnation) return
  const sessionEpoch = store.liveEpoch(txn.revision, broker.id)
  if (sessionEpoch <= broker.sessionEpoch) return
  broker.sessionEpoch = sessionEpoch
  broker.isSelfFenced = false
  // Read with each reply, not taken from the first: a T7 sent twice, with an expiry between, writes two data epochs.
  const dataEpoch = store.dataEpoch(txn.revision, broker.id)
  // Whether it may lead depends on it, so the partition is taken in again.
  if (dataEpoch !== broker.dataEpoch) broker.partRevision = 0
  broker.dataEpoch = dataEpoch
  broker.hasLostData = false
  // All metadata is listed before anything else, and a lease that was lost asks for a fresh read.
  takeIn(world, broker, store.revision)
}
