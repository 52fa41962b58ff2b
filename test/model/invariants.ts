/**
 * The invariants of replication.md section 6. Some are checked where something happens (a write, a rise of a high watermark, a change
 * of the record, a truncation), the others after every step. An election that may lose data (uncleanEpoch) begins a new lineage: what
 * is committed is cut to the log of the replica elected, and leaders of earlier epochs commit nothing any more.
 */
import type { PartitionValue } from '../../daemon/metadata/metadata-values.ts'
import { hasMember, type ModelBroker, type ModelWorld, memberEpoch } from './model-state.ts'
import type { ModelTxn } from './model-store.ts'

const NO_RECORD = 0

/** I1: one incarnation accepts writes in a leader epoch. */
export function onLeaderWrites(world: ModelWorld, leader: ModelBroker): void {
  const writer = world.writers.get(leader.epoch)
  if (writer === undefined) world.writers.set(leader.epoch, leader.incarnation)
  else if (writer !== leader.incarnation) {
    world.fail(
      'I1',
      `incarnations ${writer} and ${leader.incarnation} write in epoch ${leader.epoch}`,
    )
  }
  const last = leader.log.lastEpoch()
  if (last > leader.epoch) world.fail('I2', `b${leader.id} writes epoch ${leader.epoch} on ${last}`)
}

/** I5, I6, I9, and what is committed from now on. `log.highWatermark` is still the old one. */
export function onHighWatermark(
  world: ModelWorld,
  leader: ModelBroker,
  maximal: number,
  position: number,
): void {
  const { log } = leader
  const stored = world.stored()
  world.trace?.push(`${world.step} b${leader.id} hw ${log.highWatermark} to ${position}`)
  if (position > log.end) world.fail('I8', `b${leader.id}: hw ${position} above ${log.end}`)
  if (leader.epoch < stored.uncleanEpoch) return
  if (stored.leaderEpoch === leader.epoch) checkSuperset(world, stored, leader, maximal)
  if (world.profile.commitFlush) checkCopies(world, leader, position)
  const from = Math.max(log.start, Math.min(log.highWatermark, world.trueHighWatermark))
  for (let offset = from; offset < position; offset++) {
    const id = log.idAt(offset)
    if (offset >= world.trueHighWatermark) world.committed[offset] = id
    else if (world.committed[offset] !== id) {
      world.fail(
        'I9',
        `offset ${offset} was #${world.committed[offset]} for readers, b${leader.id} serves #${id}`,
      )
    }
  }
  world.trueHighWatermark = Math.max(world.trueHighWatermark, position)
}

function checkSuperset(
  world: ModelWorld,
  stored: PartitionValue,
  leader: ModelBroker,
  maximal: number,
): void {
  for (const members of [stored.inSyncReplicas, stored.eligibleReplicas]) {
    for (const { broker } of members) {
      if ((maximal & (1 << broker)) === 0 && broker !== leader.id) {
        world.fail('I5', `b${broker} may be elected, b${leader.id} does not count it`)
      }
    }
  }
}

function checkCopies(world: ModelWorld, leader: ModelBroker, position: number): void {
  const part = leader.part
  if (part === undefined) return
  const id = leader.log.idAt(position - 1)
  let copies = 0
  for (const replica of part.replicas) {
    const { log, hasLostData, strayEpoch } = world.broker(replica)
    // One that has lost its copy since it was counted had it: that is the failure that minIsr − 1 others allow for.
    const wasCounted = (leader.followers[replica]?.durable ?? 0) >= position
    const dataEpoch = world.store.dataEpoch(world.store.revision, replica)
    const hasLost = hasLostData || dataEpoch !== leader.followers[replica]?.dataEpoch
    // The directory of a replica that a later epoch has removed stays as a stray.
    const isStray = strayEpoch > leader.epoch
    if (wasCounted && (hasLost || isStray)) copies += 1
    else if (log.stable >= position && log.idAt(position - 1) === id) copies += 1
  }
  if (copies < part.minInSync) {
    world.fail(
      'I6',
      `hw ${position} with ${copies} durable copies, ${part.minInSync} are the minimum`,
    )
  }
}

/** I10. @returns whether the follower may cut */
export function onTruncate(world: ModelWorld, broker: ModelBroker, cut: number): boolean {
  const { log } = broker
  const uncleanEpoch = broker.part?.uncleanEpoch ?? 0
  for (let offset = cut; offset < log.highWatermark; offset++) {
    if (uncleanEpoch > log.epochAt(offset)) continue
    if (!world.rules.refuseBelowWatermark) return true
    world.fail('I10', `b${broker.id} cuts to ${cut} below its high watermark ${log.highWatermark}`)
    return false
  }
  return true
}

/** I2, I11, I12 for a record that the store has just taken. */
export function onPartWritten(
  world: ModelWorld,
  before: PartitionValue,
  after: PartitionValue,
  txn: ModelTxn,
): void {
  const { store } = world
  if (after.leaderEpoch < before.leaderEpoch) world.fail('I2', 'the leader epoch fell')
  if (after.partitionEpoch <= before.partitionEpoch) {
    world.fail('I2', 'the partition epoch did not rise')
  }
  if (txn.kind === 'leader') {
    const isLive = store.liveEpoch(store.revision, txn.broker) !== 0
    if (!isLive || before.leader !== txn.broker) {
      world.fail('I12', `b${txn.broker} wrote the record without being the leader with a session`)
    }
  } else if (txn.number !== store.controllerEpoch) {
    world.fail('I12', `b${txn.broker} wrote the record as a controller of the past`)
  }
  const isRecovery = after.uncleanEpoch !== before.uncleanEpoch
  const isNewLeader =
    after.leader !== before.leader || after.leaderIncarnation !== before.leaderIncarnation
  if (after.leader >= 0 && (isNewLeader || isRecovery) && txn.kind === 'control') {
    const epoch = memberEpoch(after, after.leader)
    if (epoch !== store.dataEpoch(store.revision, after.leader)) {
      world.fail(
        'I11',
        `b${after.leader} is elected with data epoch ${epoch}, which is not its own`,
      )
    }
  }
  if (isRecovery) onRecovery(world, before, after, txn)
}

/** What the new lineage keeps; a balanced recovery finds a complete candidate if there is one. */
function onRecovery(
  world: ModelWorld,
  before: PartitionValue,
  after: PartitionValue,
  txn: ModelTxn,
): void {
  const kept = commonPrefix(world, world.broker(after.leader))
  if (txn.peerRegistration !== -2 && kept < world.trueHighWatermark) {
    const members = [...before.known, ...before.inSyncReplicas, ...before.eligibleReplicas]
    for (const { broker } of members) {
      const candidate = world.broker(broker)
      // An empty log has no last epoch to be compared by.
      if (candidate.log.end === candidate.log.start) continue
      if (before.replicas.includes(broker) && commonPrefix(world, candidate) > kept) {
        world.fail(
          'BALANCED',
          `b${after.leader} elected with ${kept} of ${world.trueHighWatermark}, b${broker} holds more`,
        )
      }
    }
  }
  // A log that starts above that leaves a gap, which is nobody's and nobody has to hold.
  const { start } = world.broker(after.leader).log
  for (let offset = kept; offset < start; offset++) world.committed[offset] = NO_RECORD
  world.trueHighWatermark = Math.min(kept, world.trueHighWatermark)
}

/**
 * How much of what is committed a replica holds, with commit flush on stable storage. Below its log start only what the retention of a
 * leader has dropped may be missing.
 */
function commonPrefix(world: ModelWorld, broker: ModelBroker): number {
  const { log } = broker
  const { committed, retired } = world
  const end = Math.min(world.trueHighWatermark, world.profile.commitFlush ? log.stable : log.end)
  let offset = 0
  while (offset < end) {
    const id = committed[offset] ?? 0
    const isHeld = offset < log.start ? retired[id] === 1 : log.idAt(offset) === id
    if (!isHeld) break
    offset += 1
  }
  return offset
}

/** I13: a leader's retention raises the log start, never above its high watermark. */
export function onRetention(world: ModelWorld, leader: ModelBroker, start: number): void {
  const { log } = leader
  if (start > log.highWatermark) world.fail('I13', `b${leader.id} drops what is not committed`)
  for (let offset = log.start; offset < start; offset++) world.retired[log.idAt(offset)] = 1
}

/** After every step: I3, I4, I14. */
export function checkStep(world: ModelWorld): void {
  const stored = world.stored()
  for (const broker of world.brokers) {
    if (broker.id >= world.profile.brokers) break
    checkMatching(world, broker, stored.uncleanEpoch)
    if (isWholeMember(world, stored, broker)) {
      const kept = commonPrefix(world, broker)
      if (kept < world.trueHighWatermark) {
        world.fail(
          'I4',
          `b${broker.id} may be elected with ${kept} of ${world.trueHighWatermark} committed records`,
        )
      }
    }
  }
}

function checkMatching(world: ModelWorld, broker: ModelBroker, uncleanEpoch: number): void {
  const { log } = broker
  if (log.start > log.end) world.fail('I14', `b${broker.id} starts at ${log.start} > ${log.end}`)
  if (broker.reconciledEpoch < uncleanEpoch) return
  const end = Math.min(log.highWatermark, world.trueHighWatermark)
  for (let offset = log.start; offset < end; offset++) {
    if (log.idAt(offset) === world.committed[offset]) continue
    world.fail(
      'I3',
      `b${broker.id} holds #${log.idAt(offset)} at ${offset}, committed is #${world.committed[offset]}`,
    )
    return
  }
}

function isWholeMember(world: ModelWorld, stored: PartitionValue, broker: ModelBroker): boolean {
  // One that lost data and has not registered again cannot act; T7 ends its memberships.
  if (broker.hasLostData && broker.sessionEpoch === 0) return false
  const dataEpoch = world.store.dataEpoch(world.store.revision, broker.id)
  if (hasMember(stored, broker.id)) return memberEpoch(stored, broker.id) === dataEpoch
  for (const member of stored.eligibleReplicas) {
    if (member.broker === broker.id) return member.dataEpoch === dataEpoch
  }
  return false
}
