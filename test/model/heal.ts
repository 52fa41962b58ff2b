/**
 * The end of a walk: no more faults, everybody runs, messages arrive in order. Within a bounded number of rounds the partition must
 * become whole: a leader, all replicas in sync with equal logs, everything committed (I15).
 */
import { apply, handle } from './delivery.ts'
import { checkStep } from './invariants.ts'
import { type ModelController, membersText } from './model-controller.ts'
import { advanceHighWatermark, proposeExpansion, proposeRecovered } from './model-leader.ts'
import { onReply, register, registerAgain, shutDown, start } from './model-process.ts'
import { sendFetch, takeIn } from './model-replica.ts'
import type { Message, ModelBroker, ModelWorld } from './model-state.ts'
import { DRAINING, type ModelTxn } from './model-store.ts'

const ROUNDS_MAX = 400

export function heal(world: ModelWorld, controller: ModelController): void {
  for (let round = 0; round < ROUNDS_MAX; round++) {
    world.step += 1
    healRound(world, controller, round)
    checkStep(world)
    if (world.violation !== undefined || isWhole(world) || isStuckRightly(world)) return
  }
  const stored = world.stored()
  world.fail(
    'I15',
    `not whole: replicas ${stored.replicas} adding ${stored.adding} removing ${stored.removing}, leader ${stored.leader}, isr ${membersText(stored.inSyncReplicas)}, elr ${membersText(stored.eligibleReplicas)}, minIsr ${stored.minInSync}, logs ${world.brokers.map((b) => `${b.log.durable}/${b.log.end}/${b.log.highWatermark}`)}`,
  )
}

function healRound(world: ModelWorld, controller: ModelController, round: number): void {
  const { store, profile } = world
  for (let id = 0; id < profile.brokers; id++) healBroker(world, world.broker(id))
  for (let left = world.txns.length; left > 0; left--) apply(world, world.txns.shift() as ModelTxn)
  for (let left = world.replies.length; left > 0; left--) {
    onReply(world, world.replies.shift() as ModelTxn)
  }
  for (let left = 100; left > 0 && world.messageCount > 0; left--) {
    const message = world.messages[0] as Message
    world.dropMessage(0)
    handle(world, message)
  }
  const holder = world.brokers.find(
    (b) => b.isUp && b.controllerEpoch !== 0 && b.controllerEpoch === store.controllerEpoch,
  )
  if (holder !== undefined) {
    const cause = round > 40 ? 'timeout' : 'event'
    controller.evaluate(holder, store.revision, store.revision, cause)
  } else {
    if (store.controllerEpoch !== 0) store.endControllerLease()
    controller.take(world.broker(round % profile.brokers))
  }
}

function healBroker(world: ModelWorld, broker: ModelBroker): void {
  const { store } = world
  if (!broker.isUp) start(world, broker, true)
  else if (broker.sessionEpoch === 0) register(world, broker)
  else if (store.liveEpoch(store.revision, broker.id) !== broker.sessionEpoch)
    registerAgain(world, broker)
  else if (store.state(store.revision, broker.id) === DRAINING) {
    // The wait of a drain is bounded.
    broker.leads = false
    broker.image = store.revision
    shutDown(world, broker)
    return
  }
  if (!broker.isUp || broker.sessionEpoch === 0) return
  takeIn(world, broker, store.revision)
  broker.log.syncAll()
  if (!broker.leads) {
    sendFetch(world, broker)
    return
  }
  if (broker.sessionEpoch === store.liveEpoch(store.revision, broker.id)) {
    broker.isSelfFenced = false
  }
  if (broker.pending !== undefined) world.send(broker.pending)
  else proposeRecovered(world, broker)
  for (const id of broker.part?.replicas ?? []) proposeExpansion(world, broker, id)
  advanceHighWatermark(world, broker)
}

function isWhole(world: ModelWorld): boolean {
  const stored = world.stored()
  if (stored.leader < 0 || stored.adding.length > 0 || stored.removing.length > 0) return false
  if (stored.recovering || stored.inSyncReplicas.length !== stored.replicas.length) return false
  const leader = world.broker(stored.leader)
  if (!leader.leads || leader.epoch !== stored.leaderEpoch) return false
  const end = leader.log.end
  for (const id of stored.replicas) {
    const { log, isUp } = world.broker(id)
    if (!isUp || log.end !== end || log.highWatermark !== end || log.durable !== end) return false
    for (let at = Math.max(log.start, leader.log.start); at < end; at++) {
      if (log.idAt(at) !== leader.log.idAt(at)) return false
    }
  }
  return true
}

/** Without unclean election and with asynchronous flush nobody may choose where no whole replica is left. */
function isStuckRightly(world: ModelWorld): boolean {
  const stored = world.stored()
  const { store, profile } = world
  if (stored.leader >= 0 || profile.uncleanElection || profile.commitFlush) return false
  const members = [...stored.inSyncReplicas, ...stored.eligibleReplicas]
  return members.every((m) => store.dataEpoch(store.revision, m.broker) !== m.dataEpoch)
}
