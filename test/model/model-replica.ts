/**
 * A broker's replica between leading and following (replication.md sections 5.7 and 2.5): taking in metadata, the follower's fetch and
 * its one-shot answers, truncation.
 */
import { onTruncate } from './invariants.ts'
import { advanceHighWatermark, bitsText, proposeRecovered } from './model-leader.ts'
import { LOG_MAX } from './model-log.ts'
import {
  inSyncBits,
  type Message,
  type ModelBroker,
  type ModelWorld,
  memberEpoch,
} from './model-state.ts'
import { ACTIVE, DRAINING } from './model-store.ts'

/** The broker's view moves on to `revision`; it takes in the partition as it stands there. */
export function takeIn(world: ModelWorld, broker: ModelBroker, revision: number): void {
  const { store } = world
  if (revision > broker.image) broker.image = revision
  const state = store.state(broker.image, broker.id)
  const isOwn = store.registeredIncarnation(broker.image, broker.id) === broker.incarnation
  if (!broker.isStarted && isOwn && (state === ACTIVE || state === DRAINING)) {
    broker.isStarted = true
    // What was read before it was active is taken in now.
    broker.partRevision = 0
  }
  adopt(world, broker, revision)
}

/** A transition is keyed on the revision; the role only changes with the leader epoch. */
export function adopt(world: ModelWorld, broker: ModelBroker, revision: number): void {
  const { store, rules } = world
  const partRevision = store.partRevision(revision)
  if (!broker.isStarted || partRevision <= broker.partRevision) return
  const part = store.part(revision)
  if (!part.replicas.includes(broker.id) && broker.log.end > 0) {
    // Removed: the directory becomes a stray and is never used again.
    world.trace?.push(`${world.step} b${broker.id} is no replica any more`)
    broker.log.clear()
    broker.reconciledEpoch = -1
    broker.strayEpoch = part.leaderEpoch
  }
  const mayLead =
    part.leader === broker.id &&
    (part.leaderIncarnation === String(broker.incarnation) || !rules.leaderIncarnation) &&
    (memberEpoch(part, broker.id) === broker.dataEpoch || !rules.dataEpoch)
  const isNewEpoch = part.leaderEpoch !== broker.epoch
  if (mayLead && (isNewEpoch || !broker.leads) && rules.freshReadBeforeLeading) {
    const now = world.stored()
    if (now.leaderEpoch !== part.leaderEpoch || now.leader !== broker.id) return
  }
  broker.part = part
  broker.partRevision = partRevision
  broker.clearLeader()
  if (isNewEpoch || mayLead !== broker.leads) {
    broker.epoch = part.leaderEpoch
    broker.leads = mayLead
    broker.outstanding = 0
    if (mayLead) beginLeading(world, broker)
    else beginFollowing(world, broker)
  }
  if (broker.leads) {
    proposeRecovered(world, broker)
    advanceHighWatermark(world, broker)
  }
}

function beginLeading(world: ModelWorld, broker: ModelBroker): void {
  const { log, part } = broker
  broker.epochStart = log.end
  broker.reconciledEpoch = broker.epoch
  world.trace?.push(
    `${world.step} b${broker.id} (incarnation ${broker.incarnation}) leads epoch ${broker.epoch} from ${log.end}, hw ${log.highWatermark}, isr ${part === undefined ? '' : bitsText(inSyncBits(part))}`,
  )
  for (const entry of broker.followers) {
    if (world.rules.tableClearedPerEpoch) entry.clear()
    entry.hasFetched = false
    entry.isCaughtUp = false
  }
}

function beginFollowing(world: ModelWorld, broker: ModelBroker): void {
  if (world.rules.truncateByEpochNotWatermark) return
  truncate(world, broker, broker.log.highWatermark)
}

/** Sends a fetch, which replaces the one outstanding. */
export function sendFetch(world: ModelWorld, broker: ModelBroker): void {
  const { part, log } = broker
  if (!broker.isStarted || broker.leads || part === undefined) return
  if (part.leader < 0 || part.leader === broker.id || !part.replicas.includes(broker.id)) return
  broker.fetchNumber += 1
  broker.outstanding = broker.fetchNumber
  const fetch = world.newMessage()
  if (fetch === undefined) return
  fetch.kind = 'fetch'
  fetch.from = broker.id
  fetch.to = part.leader
  fetch.incarnation = broker.incarnation
  fetch.sessionEpoch = broker.sessionEpoch
  fetch.dataEpoch = broker.dataEpoch
  fetch.number = broker.fetchNumber
  fetch.leaderEpoch = broker.epoch
  fetch.offset = log.end
  fetch.lastEpoch = log.lastEpoch()
  fetch.durable = log.durable
  fetch.highWatermark = log.highWatermark
  fetch.start = log.start
  fetch.count = 0
}

export function onAnswer(world: ModelWorld, broker: ModelBroker, answer: Message): void {
  if (!broker.isUp || broker.leads || answer.incarnation !== broker.incarnation) return
  if (answer.leaderEpoch !== broker.epoch) return
  const { log } = broker
  if (world.rules.oneShotAnswers) {
    if (answer.number !== broker.outstanding) return
  } else if (answer.sessionEpoch !== broker.sessionEpoch || answer.offset !== log.end) return
  broker.outstanding = 0
  if (answer.kind === 'outOfRange') {
    onOutOfRange(world, broker, answer)
  } else if (answer.kind === 'diverging') {
    truncate(world, broker, cutFor(broker, answer))
  } else {
    // The answer continues the log, or it is none of ours.
    if (answer.offset !== log.end) return
    for (let at = 0; at < answer.count && log.end < LOG_MAX; at++) {
      log.append(answer.ids[at] ?? 0, answer.epochs[at] ?? 0)
    }
    log.highWatermark = Math.min(answer.highWatermark, log.end)
    raiseStart(broker, answer.start)
    broker.reconciledEpoch = broker.epoch
  }
}

/**
 * Section 2.5: where the follower cuts when the leader's log of epoch e ends before its own. A follower whose records are all of later
 * epochs has (e, its first offset): with "no entry ≤ e: cut to the leader's end" it would ask the same question for ever.
 */
function cutFor(broker: ModelBroker, answer: Message): number {
  const { log } = broker
  const floor = log.floorOf(answer.divergingEpoch)
  const end = log.endOf(answer.divergingEpoch)
  const isKnown = floor < 0 || floor === answer.divergingEpoch
  return isKnown ? Math.min(answer.divergingEnd, end) : end
}

function raiseStart(broker: ModelBroker, start: number): void {
  const { log } = broker
  if (start <= log.start || start > log.end) return
  log.start = start
  log.highWatermark = Math.max(log.highWatermark, start)
}

function onOutOfRange(world: ModelWorld, broker: ModelBroker, answer: Message): void {
  const { log } = broker
  if (log.end > answer.start && log.end > log.start) return
  world.trace?.push(`${world.step} b${broker.id} starts over at ${answer.start}`)
  log.startAt(answer.start)
}

function truncate(world: ModelWorld, broker: ModelBroker, wanted: number): void {
  const { log } = broker
  const { rules } = world
  const cut = Math.max(wanted, log.start)
  if (cut >= log.end) return
  world.trace?.push(`${world.step} b${broker.id} truncates ${log.end} to ${cut}`)
  if (cut < log.highWatermark && !onTruncate(world, broker, cut)) return
  log.truncate(cut, rules.durableFallsWithTruncation, rules.cutCancelsSync)
}
