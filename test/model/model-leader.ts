/**
 * The leader's rules in compact form (replication.md sections 2.2 to 2.4, 5.4 and 13): fetches, high watermark, proposals to the store
 * (T4, T5) with the maximal in-sync set, and what becomes of a proposal whose outcome is unknown.
 */
import type { Member, PartitionValue } from '../../daemon/metadata/metadata-values.ts'
import { onHighWatermark, onLeaderWrites } from './invariants.ts'
import { LOG_MAX } from './model-log.ts'
import {
  type FollowerEntry,
  hasMember,
  inSyncBits,
  type Message,
  type ModelBroker,
  type ModelWorld,
  memberEpoch,
  RECORDS_MAX,
} from './model-state.ts'
import { ACTIVE, type ModelTxn, newTxn } from './model-store.ts'
import { completedByLeader } from './reassignment.ts'

/** What counts of a log: with commit flush what is durable, else its end. */
function ackOf(world: ModelWorld, end: number, durable: number): number {
  return world.profile.commitFlush && world.rules.durableNotEnd ? durable : end
}

export function appendRecord(world: ModelWorld, leader: ModelBroker): void {
  if (leader.log.end >= LOG_MAX) return
  onLeaderWrites(world, leader)
  world.recordIds += 1
  world.trace?.push(
    `${world.step} b${leader.id} appends #${world.recordIds} at ${leader.log.end}, epoch ${leader.epoch}`,
  )
  leader.log.append(world.recordIds, leader.epoch)
  advanceHighWatermark(world, leader)
}

export function advanceHighWatermark(world: ModelWorld, leader: ModelBroker): void {
  const part = leader.part
  if (!leader.leads || part === undefined) return
  const { rules } = world
  if (rules.strictMinInSync && part.inSyncReplicas.length < part.minInSync) return
  const maximal = (inSyncBits(part) & ~leader.pendingDropped) | leader.pendingExtra
  let position = ackOf(world, leader.log.end, leader.log.durable)
  for (const id of part.replicas) {
    if (id === leader.id) continue
    const entry = leader.followers[id] as FollowerEntry
    if ((maximal & (1 << id)) !== 0) {
      const counted = ackOf(world, entry.end, entry.durable)
      const epoch = memberEpoch(part, id)
      const isWhole = epoch < 0 || epoch === entry.dataEpoch || !rules.entryDataEpoch
      position = Math.min(position, isWhole ? counted : -1)
    } else if (entry.isCaughtUp && entry.hasFetched && isEligible(world, leader, id, entry)) {
      // For liveness only: wait for one that is about to join.
      position = Math.min(position, ackOf(world, entry.end, entry.durable))
    }
  }
  if (position > leader.log.highWatermark) {
    onHighWatermark(world, leader, maximal, position)
    leader.log.highWatermark = position
  }
}

/** Expand rule 5 as the leader's image shows it. */
function isEligible(
  world: ModelWorld,
  leader: ModelBroker,
  id: number,
  entry: FollowerEntry,
): boolean {
  const { store, rules } = world
  if (!rules.expandEligible) return true
  return (
    store.state(leader.image, id) === ACTIVE &&
    store.liveEpoch(leader.image, id) === entry.sessionEpoch &&
    store.dataEpoch(leader.image, id) === entry.dataEpoch
  )
}

/** A fetch arrives: its answer goes out at once (a parked fetch is one that is delivered late). */
export function onFetch(world: ModelWorld, leader: ModelBroker, fetch: Message): void {
  const part = leader.part
  if (!leader.isUp || !leader.leads || part === undefined) return
  const { rules } = world
  if (rules.fetchLeaderEpoch && fetch.leaderEpoch !== leader.epoch) return
  if (!part.replicas.includes(fetch.from)) return
  const log = leader.log
  if (fetch.offset < log.start || mustStartOver(world, leader, fetch)) {
    answer(world, leader, fetch, 'outOfRange')
    return
  }
  const entry = leader.followers[fetch.from] as FollowerEntry
  if (fetch.sessionEpoch < entry.sessionEpoch && rules.fetchSessionOrder) return
  if (fetch.sessionEpoch === entry.sessionEpoch && fetch.number < entry.number) {
    if (rules.fetchNumberOrder) return
  }
  if (rules.divergenceCheck && diverges(leader, fetch)) {
    answer(world, leader, fetch, 'diverging')
    return
  }
  const position = ackOf(world, fetch.offset, fetch.durable)
  if (fetch.dataEpoch === entry.dataEpoch && position < entry.best) {
    // The walk has no silent loss, so a fall would be a fault of the protocol.
    if (rules.fetchPositionNeverFalls && rules.fetchNumberOrder && rules.fetchSessionOrder) {
      world.fail('POSITION', `b${fetch.from} fell from ${entry.best} to ${position}`)
      return
    }
  }
  if (fetch.sessionEpoch !== entry.sessionEpoch) {
    entry.clear()
    entry.sessionEpoch = fetch.sessionEpoch
    entry.dataEpoch = fetch.dataEpoch
  }
  entry.number = Math.max(entry.number, fetch.number)
  entry.hasFetched = true
  entry.end = fetch.offset
  entry.durable = Math.min(fetch.durable, fetch.offset)
  entry.best = Math.max(entry.best, position)
  entry.isCaughtUp = fetch.offset >= log.end
  const member = memberEpoch(part, fetch.from)
  if (member >= 0 && member !== entry.dataEpoch) proposeShrink(world, leader, 1 << fetch.from)
  proposeExpansion(world, leader, fetch.from)
  advanceHighWatermark(world, leader)
  answer(world, leader, fetch, 'data')
}

/** The follower holds nothing that can be compared with this log, and its position alone says too little. */
function mustStartOver(world: ModelWorld, leader: ModelBroker, fetch: Message): boolean {
  const { log, part } = leader
  const { rules } = world
  if (fetch.lastEpoch >= 0) {
    if (!rules.forgottenEpochStartsOver || fetch.lastEpoch === leader.epoch) return false
    // Where that epoch ended lies below the log start.
    return fetch.offset === log.start && log.floorOf(fetch.lastEpoch) < 0
  }
  if (fetch.offset > log.end) return true
  if (!rules.emptyStartsOver || fetch.offset === log.start || part === undefined) return false
  // Before an unclean election its log may have been another one. Who is counted has been compared since.
  const entry = leader.followers[fetch.from] as FollowerEntry
  if (entry.hasFetched && entry.dataEpoch === fetch.dataEpoch) return false
  const members = [...part.inSyncReplicas, ...part.eligibleReplicas]
  return !members.some((m) => m.broker === fetch.from && m.dataEpoch === fetch.dataEpoch)
}

function diverges(leader: ModelBroker, fetch: Message): boolean {
  if (fetch.lastEpoch < 0) return false
  const { floor, end } = endOfEpoch(leader, fetch.lastEpoch)
  return floor < fetch.lastEpoch || end < fetch.offset
}

/** endOffsetFor of section 2.5 at the leader, whose epoch cache ends with its own epoch. */
function endOfEpoch(leader: ModelBroker, epoch: number): { floor: number; end: number } {
  if (epoch === leader.epoch) return { floor: epoch, end: leader.log.end }
  const floor = leader.log.floorOf(epoch)
  return { floor: floor < 0 ? epoch : floor, end: leader.log.endOf(epoch) }
}

function answer(
  world: ModelWorld,
  leader: ModelBroker,
  fetch: Message,
  kind: 'data' | 'diverging' | 'outOfRange',
): void {
  const reply = world.newMessage()
  if (reply === undefined) return
  const log = leader.log
  reply.kind = kind
  reply.from = leader.id
  reply.to = fetch.from
  reply.incarnation = fetch.incarnation
  reply.sessionEpoch = fetch.sessionEpoch
  reply.number = fetch.number
  reply.leaderEpoch = world.rules.fetchLeaderEpoch ? leader.epoch : fetch.leaderEpoch
  reply.offset = fetch.offset
  reply.highWatermark = log.highWatermark
  reply.start = log.start
  reply.count = 0
  if (kind === 'diverging') {
    const found = endOfEpoch(leader, fetch.lastEpoch)
    reply.divergingEpoch = found.floor
    reply.divergingEnd = found.end
  } else if (kind === 'data') {
    const end = Math.min(log.end, fetch.offset + 1 + world.random.below(RECORDS_MAX))
    for (let offset = fetch.offset; offset < end; offset++) {
      reply.ids[reply.count] = log.idAt(offset)
      reply.epochs[reply.count] = log.epochAt(offset)
      reply.count += 1
    }
  }
}

/** The ELR rule of section 5.6, as the leader's image shows who is whole. */
export function withEligible(
  world: ModelWorld,
  leader: ModelBroker,
  part: PartitionValue,
  inSync: readonly Member[],
): PartitionValue {
  const clears = inSync.length >= part.minInSync
  if (clears && world.rules.eligibleClearedByLeader) {
    return { ...part, inSyncReplicas: inSync, eligibleReplicas: [], known: [] }
  }
  const former = [...part.eligibleReplicas, ...part.inSyncReplicas].filter(
    (m) => !inSync.some((x) => x.broker === m.broker),
  )
  const isWhole = (m: Member): boolean =>
    world.store.dataEpoch(leader.image, m.broker) === m.dataEpoch
  return {
    ...part,
    inSyncReplicas: inSync,
    eligibleReplicas: former.filter(isWhole),
    known: clears ? [] : [...part.known, ...former.filter((m) => !isWhole(m))],
  }
}

export function proposeExpansion(world: ModelWorld, leader: ModelBroker, id: number): void {
  const { part, log } = leader
  const { rules, store } = world
  if (part === undefined || leader.pending !== undefined || leader.isSelfFenced) return
  if (id === leader.id || hasMember(part, id) || !part.replicas.includes(id)) return
  if (part.recovering && rules.noExpansionWhileRecovering) return
  const entry = leader.followers[id] as FollowerEntry
  const position = ackOf(world, entry.end, entry.durable)
  if (position < log.highWatermark && rules.expandAboveHighWatermark) return
  if (position < leader.epochStart && rules.expandAboveEpochStart) return
  if (!entry.hasFetched && rules.expandFetchedInEpoch) return
  if (!isEligible(world, leader, id, entry)) return
  const isBelowMin = part.inSyncReplicas.length < part.minInSync
  if (isBelowMin && !entry.isCaughtUp && rules.expandCaughtUp) return
  const joined = { broker: id, dataEpoch: entry.dataEpoch }
  const grown = withEligible(world, leader, part, [...part.inSyncReplicas, joined])
  const whole = world.profile.leaderCompletes
    ? completedByLeader(grown, world.minInSyncConfig, rules)
    : undefined
  const extra = rules.expandAtOnce ? 1 << id : 0
  propose(world, leader, whole ?? grown, extra, {
    peer: id,
    peerLive: rules.expandGuardLive ? entry.sessionEpoch : -1,
    peerData: rules.expandGuardData ? entry.dataEpoch : -1,
    peerRegistration: rules.expandGuardRegistration ? store.registration(leader.image, id) : -1,
  })
}

/** T5: `dropped` are the bits of the replicas that fell behind. */
export function proposeShrink(world: ModelWorld, leader: ModelBroker, dropped: number): void {
  const { part } = leader
  if (part === undefined || leader.pending !== undefined || leader.isSelfFenced) return
  const kept = part.inSyncReplicas.filter(
    (m) => m.broker === leader.id || (dropped & (1 << m.broker)) === 0,
  )
  if (kept.length === part.inSyncReplicas.length) return
  const shrunk = withEligible(world, leader, part, kept)
  propose(world, leader, shrunk, 0, {})
  if (!world.rules.shrinkWhenConfirmed) leader.pendingDropped = dropped
  advanceHighWatermark(world, leader)
}

/** T5: a recovered leader serves, so followers may join again. */
export function proposeRecovered(world: ModelWorld, leader: ModelBroker): void {
  const { part } = leader
  if (part === undefined || leader.pending !== undefined || leader.isSelfFenced) return
  if (part.recovering) propose(world, leader, { ...part, recovering: false }, 0, {})
}

/** Way out (ii) of an unknown outcome: the same guard with a harmless value; once it is applied the old one never can. */
export function burnToken(world: ModelWorld, leader: ModelBroker): void {
  const { part } = leader
  if (part === undefined || leader.pending === undefined) return
  const burnt = { ...part, partitionEpoch: part.partitionEpoch + 1 }
  leader.proposals += 1
  // The maximal set stays until one of the two is known to be applied.
  leader.pendingNumber = leader.proposals
  leader.pending = leaderTxn(world, leader, burnt, {})
  world.send(leader.pending)
}

function propose(
  world: ModelWorld,
  leader: ModelBroker,
  part: PartitionValue,
  extra: number,
  guards: Partial<ModelTxn>,
): void {
  leader.proposals += 1
  leader.pendingNumber = leader.proposals
  leader.pendingExtra = extra
  const raised = { ...part, partitionEpoch: part.partitionEpoch + 1 }
  leader.pending = leaderTxn(world, leader, raised, guards)
  world.trace?.push(
    `${world.step} b${leader.id} proposes isr ${bitsText(inSyncBits(part))} against R ${leader.partRevision}`,
  )
  world.send(leader.pending)
}

function leaderTxn(
  world: ModelWorld,
  leader: ModelBroker,
  part: PartitionValue,
  guards: Partial<ModelTxn>,
): ModelTxn {
  return newTxn({
    kind: 'leader',
    broker: leader.id,
    incarnation: leader.incarnation,
    number: leader.proposals,
    partRevision: leader.partRevision,
    part,
    selfEpoch: world.rules.selfGuardOfLeader ? leader.sessionEpoch : -1,
    ...guards,
  })
}

export function bitsText(bits: number): string {
  let text = ''
  for (let id = 0; id < 8; id++) if ((bits & (1 << id)) !== 0) text += id
  return `{${text}}`
}
