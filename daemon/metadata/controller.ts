/**
 * The controller's decision for one partition: a pure, total, deterministic function (replication.md section 5.6).
 * Who calls it writes the result with T3, guarded by the revisions that the views below were read at.
 *
 * Invariants (property-tested):
 * - leader epoch and partition epoch never fall, and the partition epoch rises exactly when anything changed (I2);
 * - a leader is a replica, is active, and its entry in the in-sync replicas carries its current data epoch (I11),
 *   under its current incarnation;
 * - a clean election takes only whole members of the in-sync or eligible replicas (I4, I11); every other election
 *   sets uncleanEpoch and recovering;
 * - applied to its own result with the same views it changes nothing;
 * - a reassignment ends only with all added replicas in sync and a final set that has its minimum, and with an epoch of
 *   its own.
 */

import type { BrokerState, Member, PartitionValue } from './metadata-values.ts'

/** A broker as the store shows it. */
export interface BrokerView {
  readonly nodeId: number
  /** Its session's key exists. */
  readonly live: boolean
  readonly incarnation: string
  readonly state: BrokerState
  /** 0: none recorded. */
  readonly dataEpoch: number
  readonly directoryOnline: boolean
  /** Its disk is full, as it has said in this session: it keeps what it has, and takes nothing. */
  readonly isFull?: boolean
}

/** What a replica says about its log (LogInfo); gathered before the call, only where a branch asks for it. */
export interface LogView {
  /** Of its last batch. */
  readonly lastEpoch: number
  readonly logEndOffset: number
  /** The latest that it knows, with or without batches; above the record's only where the store is an old copy. */
  readonly latestEpoch?: number
}

export interface ControllerConfig {
  /** `unclean.leader.election.enable` of the topic. */
  readonly uncleanElection: boolean
  /** flush.messages = 1: nothing that was acknowledged can be missing from a whole replica. */
  readonly commitFlush: boolean
  /** Effective min.insync.replicas of the topic for so many replicas; absent: as the record has it. */
  readonly minInSync?: (replicas: number) => number
}

/** Why the partition is looked at: `timeout` means that waiting for a better copy has run out. */
export type Cause = 'event' | 'timeout'

export interface Decision {
  readonly partition: PartitionValue
  /** Not the very object given when this is true. */
  readonly changed: boolean
  /** Replicas whose LogView would let a recovery go on; asked for only when nobody else can lead. */
  readonly wantsLogs: readonly number[]
}

export function next(
  record: PartitionValue,
  brokers: ReadonlyMap<number, BrokerView>,
  logs: ReadonlyMap<number, LogView>,
  config: ControllerConfig,
  cause: Cause,
): Decision {
  const first = decide(record, brokers, logs, config, cause)
  if (!first.changed || !isReassigning(first.partition)) return first
  // Whom it elected may be all that the end of the reassignment waited for.
  const second = decide(first.partition, brokers, logs, config, cause)
  if (!second.changed) return first
  const partition = { ...second.partition, partitionEpoch: record.partitionEpoch + 1 }
  return { ...second, partition }
}

function decide(
  record: PartitionValue,
  brokers: ReadonlyMap<number, BrokerView>,
  logs: ReadonlyMap<number, LogView>,
  config: ControllerConfig,
  cause: Cause,
): Decision {
  const isActing = (nodeId: number): boolean => {
    const broker = brokers.get(nodeId)
    return broker?.live === true && broker.state !== 'FENCED' && broker.directoryOnline
  }
  const isDraining = (nodeId: number): boolean => brokers.get(nodeId)?.state === 'DRAINING'
  const isFull = (nodeId: number): boolean => brokers.get(nodeId)?.isFull === true
  const isWhole = (member: Member): boolean =>
    brokers.get(member.broker)?.dataEpoch === member.dataEpoch

  let inSync: readonly Member[] = record.inSyncReplicas.filter(
    (m) => isActing(m.broker) && isWhole(m),
  )
  const completed = completeReassignment({ ...record, inSyncReplicas: inSync }, config.minInSync)
  const partition =
    completed === undefined ? record : { ...completed, inSyncReplicas: record.inSyncReplicas }
  const isCompleted = completed !== undefined
  if (isCompleted) inSync = completed.inSyncReplicas
  inSync = withoutDraining(inSync, partition.minInSync, isDraining)

  let leader = -1
  let recovered = false
  let wantsLogs: readonly number[] = []
  const isMember = (nodeId: number): boolean => inSync.some((m) => m.broker === nodeId)
  if (
    partition.leader >= 0 &&
    isMember(partition.leader) &&
    brokers.get(partition.leader)?.incarnation === partition.leaderIncarnation &&
    !isDraining(partition.leader)
  ) {
    leader = partition.leader
  } else if (
    isMember(partition.leader) &&
    brokers.get(partition.leader)?.incarnation === partition.leaderIncarnation &&
    inSync.every((m) => isDraining(m.broker))
  ) {
    // All of them are going: moving it about helps nobody.
    leader = partition.leader
  } else if (inSync.length > 0) {
    leader =
      partition.replicas.find((id) => isMember(id) && !isDraining(id) && !isFull(id)) ??
      partition.replicas.find((id) => isMember(id) && !isDraining(id)) ??
      partition.replicas.find(isMember) ??
      -1
  } else {
    const eligible = partition.eligibleReplicas.filter((m) => isActing(m.broker) && isWhole(m))
    const chosen = partition.replicas.find((id) => eligible.some((m) => m.broker === id))
    if (chosen !== undefined) {
      leader = chosen
      inSync = eligible.filter((m) => m.broker === chosen)
    } else {
      const recovery = recover(partition, brokers, logs, config, cause, isActing, isWhole)
      wantsLogs = recovery.wantsLogs
      const broker = recovery.elect === undefined ? undefined : brokers.get(recovery.elect)
      if (broker !== undefined) {
        leader = broker.nodeId
        recovered = true
        inSync = [{ broker: broker.nodeId, dataEpoch: broker.dataEpoch }]
      }
    }
  }

  const leaderIncarnation = leader < 0 ? '' : (brokers.get(leader)?.incarnation ?? '')
  // A recovery is an epoch of its own even for the same leader: uncleanEpoch names it.
  const leaderChanged =
    recovered ||
    isCompleted ||
    leader !== partition.leader ||
    leaderIncarnation !== partition.leaderIncarnation
  const epochBefore = recovered ? latestEpochOf(partition, logs) : partition.leaderEpoch
  const leaderEpoch = epochBefore + (leaderChanged ? 1 : 0)

  let eligibleReplicas: readonly Member[] = []
  let known: readonly Member[] = []
  if (!recovered && inSync.length < partition.minInSync) {
    const former = [...partition.eligibleReplicas, ...partition.inSyncReplicas]
    eligibleReplicas = uniqueMembers(
      former.filter(
        (m) =>
          !inSync.some((x) => x.broker === m.broker) &&
          isWhole(m) &&
          partition.replicas.includes(m.broker),
      ),
    )
    known = uniqueMembers([...partition.known, ...former.filter((m) => !isWhole(m))])
  }
  const lastLeader =
    leader >= 0
      ? partition.lastLeader
      : partition.leader >= 0
        ? lastLeaderOf(partition)
        : partition.lastLeader

  const decided: PartitionValue = {
    ...partition,
    leader,
    leaderIncarnation,
    leaderEpoch,
    inSyncReplicas: inSync,
    eligibleReplicas,
    known,
    lastLeader,
    uncleanEpoch: recovered ? leaderEpoch : partition.uncleanEpoch,
    recovering: recovered ? true : partition.recovering,
  }
  if (!isCompleted && isSame(record, decided))
    return { partition: record, changed: false, wantsLogs }
  return {
    partition: { ...decided, partitionEpoch: record.partitionEpoch + 1 },
    changed: true,
    wantsLogs,
  }
}

/**
 * The record with another effective minimum of in-sync replicas; its eligible and known replicas go with the change (section
 * 5.3, 2). While nobody is in sync it stays as it is: the eligible replicas are all there is to elect from.
 */
export function withMinInSync(partition: PartitionValue, minInSync: number): PartitionValue {
  if (partition.minInSync === minInSync || partition.inSyncReplicas.length === 0) return partition
  return {
    ...partition,
    minInSync,
    eligibleReplicas: [],
    known: [],
    partitionEpoch: partition.partitionEpoch + 1,
  }
}

/** Replicas that count for min.insync.replicas: those that are being added do so only when the reassignment ends. */
export function settledReplicas(partition: PartitionValue): number {
  return partition.replicas.length - partition.adding.length
}

/** A reassignment goes on. */
export function isReassigning(partition: PartitionValue): boolean {
  return partition.adding.length > 0 || partition.removing.length > 0
}

/**
 * The record at the end of its reassignment, still with the leader and epochs of before; undefined: it is none, or can not end
 * yet. The leader may end it with T4 where it stays (partition and leader epoch + 1), else the controller does.
 */
export function completeReassignment(
  partition: PartitionValue,
  minInSyncOf: (replicas: number) => number = (replicas) => Math.min(partition.minInSync, replicas),
): PartitionValue | undefined {
  // After an election that could lose data its leader speaks first (T5).
  if (!isReassigning(partition) || partition.recovering) return undefined
  const replicas = partition.replicas.filter((id) => !partition.removing.includes(id))
  const settled = withOnly(partition, replicas)
  const { inSyncReplicas } = settled
  const minInSync = minInSyncOf(replicas.length)
  const allJoined = partition.adding.every((id) => inSyncReplicas.some((m) => m.broker === id))
  if (!allJoined || inSyncReplicas.length < Math.max(1, minInSync)) return undefined
  return { ...settled, minInSync }
}

/** The record with these replicas and no others, at rest. */
function withOnly(partition: PartitionValue, replicas: readonly number[]): PartitionValue {
  const stays = (member: Member): boolean => replicas.includes(member.broker)
  return {
    ...withSince(partition, replicas, []),
    replicas,
    adding: [],
    removing: [],
    inSyncReplicas: partition.inSyncReplicas.filter(stays),
    eligibleReplicas: [],
    known: [],
  }
}

/** Since when each of `replicas` has the partition: those of `added` from this change on; whoever leaves is forgotten. */
function withSince(
  partition: PartitionValue,
  replicas: readonly number[],
  added: readonly number[],
): PartitionValue {
  const { since: before = {}, ...rest } = partition
  const since: Record<string, number> = {}
  for (const id of replicas) {
    const epoch = added.includes(id) ? partition.partitionEpoch + 1 : before[id]
    if (epoch !== undefined) since[id] = epoch
  }
  return Object.keys(since).length === 0 ? rest : { ...rest, since }
}

/**
 * The record with the begin of a reassignment to `target`, preferred leader first, or with its target changed. All members stay
 * in sync; the minimum is that of the replicas of before.
 */
export function beginReassignment(
  partition: PartitionValue,
  target: readonly number[],
): PartitionValue {
  const settled = partition.replicas.filter((id) => !partition.adding.includes(id))
  const { inSyncReplicas, eligibleReplicas, known, lastLeader } = partition
  const members = [...inSyncReplicas, ...eligibleReplicas, ...known]
  if (lastLeader !== null) members.push(lastLeader)
  // Of a reassignment before this one: who has never joined leaves at once.
  const kept = partition.replicas.filter(
    (id) => target.includes(id) || settled.includes(id) || members.some((m) => m.broker === id),
  )
  const removing = kept.filter((id) => !target.includes(id))
  const replicas = [...target, ...removing]
  return {
    ...withSince(
      partition,
      replicas,
      replicas.filter((id) => !partition.replicas.includes(id)),
    ),
    replicas,
    adding: target.filter((id) => !settled.includes(id)),
    removing,
    leaderEpoch: partition.leaderEpoch + (kept.length < partition.replicas.length ? 1 : 0),
    partitionEpoch: partition.partitionEpoch + 1,
  }
}

/**
 * The record without its reassignment; the leader, where it was one of the added, is elected by `next` afterwards.
 * @returns undefined where the replicas of before have fewer in sync than their minimum: reverting would lose copies
 */
export function cancelReassignment(partition: PartitionValue): PartitionValue | undefined {
  const replicas = partition.replicas.filter((id) => !partition.adding.includes(id))
  const settled = withOnly(partition, replicas)
  if (settled.inSyncReplicas.length < Math.max(1, partition.minInSync)) return undefined
  const { leaderEpoch, partitionEpoch } = partition
  return { ...settled, leaderEpoch: leaderEpoch + 1, partitionEpoch: partitionEpoch + 1 }
}

/**
 * The record led by its preferred replica.
 * @returns undefined where it leads already, or is not in sync, whole, active and staying, or has no room
 */
export function preferLeader(
  partition: PartitionValue,
  brokers: ReadonlyMap<number, BrokerView>,
): PartitionValue | undefined {
  const preferred = partition.replicas[0]
  if (preferred === undefined || preferred === partition.leader) return undefined
  if (partition.removing.includes(preferred) || partition.recovering) return undefined
  const broker = brokers.get(preferred)
  const member = partition.inSyncReplicas.find((m) => m.broker === preferred)
  const mayLead =
    broker?.live === true &&
    broker.state === 'ACTIVE' &&
    broker.directoryOnline &&
    broker.isFull !== true &&
    member?.dataEpoch === broker.dataEpoch
  if (!mayLead || broker === undefined) return undefined
  return {
    ...partition,
    leader: preferred,
    leaderIncarnation: broker.incarnation,
    leaderEpoch: partition.leaderEpoch + 1,
    partitionEpoch: partition.partitionEpoch + 1,
  }
}

/**
 * Recovery, when no whole member of the in-sync or eligible replicas is left. Balanced: everyone who may hold
 * acknowledged records is back and has answered, so the longest log loses the least. Unclean: only where the topic
 * allows it and waiting has run out.
 */
function recover(
  partition: PartitionValue,
  brokers: ReadonlyMap<number, BrokerView>,
  logs: ReadonlyMap<number, LogView>,
  config: ControllerConfig,
  cause: Cause,
  isActing: (nodeId: number) => boolean,
  isWhole: (member: Member) => boolean,
): { elect: number | undefined; wantsLogs: readonly number[] } {
  // A leader that stands in the record is a later one than the last leader it replaced.
  const lastLeader = partition.leader >= 0 ? lastLeaderOf(partition) : partition.lastLeader
  const members = [
    ...partition.known,
    ...partition.inSyncReplicas,
    ...partition.eligibleReplicas,
    ...(lastLeader === null ? [] : [lastLeader]),
  ]
  const candidates = [...new Set(members.map((m) => m.broker))].filter((id) =>
    partition.replicas.includes(id),
  )
  // A whole member that is merely away still holds everything: wait for it.
  const waitsForWhole = [...partition.inSyncReplicas, ...partition.eligibleReplicas].some(
    (m) => isWhole(m) && !isActing(m.broker),
  )
  const mayBalance = config.commitFlush || partition.replicas.length === 1
  if (!waitsForWhole && mayBalance && candidates.length > 0 && candidates.every(isActing)) {
    const missing = candidates.filter((id) => !logs.has(id))
    if (missing.length > 0) return { elect: undefined, wantsLogs: missing }
    return { elect: longest(candidates, logs), wantsLogs: [] }
  }
  if (config.uncleanElection && cause === 'timeout') {
    const acting = partition.replicas.filter((id) => isActing(id) && brokers.has(id))
    const answered = acting.filter((id) => logs.has(id))
    if (answered.length === 0) return { elect: undefined, wantsLogs: acting }
    return { elect: longest(answered, logs), wantsLogs: [] }
  }
  return { elect: undefined, wantsLogs: [] }
}

/** Over the record and all that logs know: a store that was restored may be behind them (section 5.8). */
function latestEpochOf(partition: PartitionValue, logs: ReadonlyMap<number, LogView>): number {
  let latest = partition.leaderEpoch
  for (const { lastEpoch, latestEpoch = -1 } of logs.values()) {
    latest = Math.max(latest, lastEpoch, latestEpoch)
  }
  return latest
}

function longest(
  candidates: readonly number[],
  logs: ReadonlyMap<number, LogView>,
): number | undefined {
  let best: number | undefined
  let bestLog: LogView | undefined
  for (const id of candidates) {
    const log = logs.get(id)
    if (log === undefined) continue
    const isBetter =
      bestLog === undefined ||
      log.lastEpoch > bestLog.lastEpoch ||
      (log.lastEpoch === bestLog.lastEpoch && log.logEndOffset > bestLog.logEndOffset)
    if (isBetter) {
      best = id
      bestLog = log
    }
  }
  return best
}

/** A draining member leaves only while enough others stay. */
function withoutDraining(
  members: readonly Member[],
  minInSync: number,
  isDraining: (nodeId: number) => boolean,
): readonly Member[] {
  let kept = members
  for (const member of members) {
    if (isDraining(member.broker) && kept.length - 1 >= minInSync) {
      kept = kept.filter((m) => m !== member)
    }
  }
  return kept
}

function lastLeaderOf(partition: PartitionValue): Member | null {
  const entry = [...partition.inSyncReplicas, ...partition.eligibleReplicas].find(
    (m) => m.broker === partition.leader,
  )
  return entry ?? partition.lastLeader
}

function uniqueMembers(members: readonly Member[]): readonly Member[] {
  const seen = new Map<string, Member>()
  for (const member of members) seen.set(`${member.broker}/${member.dataEpoch}`, member)
  return [...seen.values()].sort((a, b) => a.broker - b.broker || a.dataEpoch - b.dataEpoch)
}

function isSame(a: PartitionValue, b: PartitionValue): boolean {
  return (
    a.leader === b.leader &&
    a.leaderIncarnation === b.leaderIncarnation &&
    a.leaderEpoch === b.leaderEpoch &&
    a.uncleanEpoch === b.uncleanEpoch &&
    a.recovering === b.recovering &&
    sameMember(a.lastLeader, b.lastLeader) &&
    sameMembers(a.inSyncReplicas, b.inSyncReplicas) &&
    sameMembers(a.eligibleReplicas, b.eligibleReplicas) &&
    sameMembers(a.known, b.known)
  )
}

function sameMember(a: Member | null, b: Member | null): boolean {
  if (a === null || b === null) return a === b
  return a.broker === b.broker && a.dataEpoch === b.dataEpoch
}

/** As sets: the order of members means nothing. */
function sameMembers(a: readonly Member[], b: readonly Member[]): boolean {
  return a.length === b.length && a.every((m) => b.some((x) => sameMember(m, x)))
}
