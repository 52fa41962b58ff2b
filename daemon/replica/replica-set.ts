/**
 * What a leader knows of the replicas of one partition in its epoch: where each follower stands, who counts for the high
 * watermark, which change of the in-sync replicas is under way (replication.md sections 2.3, 2.4, 5.4, 13). Synchronous;
 * the writes to the store are done by InSyncKeeper.
 *
 * Invariants:
 * - The high watermark counts the maximal in-sync replicas: the committed ones and a follower whose joining is proposed.
 *   One that is proposed to leave counts until the store has confirmed it (I5).
 * - A proposal stays until its outcome is known: its own success, its guard's failure, or a later record of the store.
 * - Nothing is known of a follower before it has fetched in this epoch, under its own session (E) and data epoch (D).
 */

import { assert } from '../../src/base/assert.ts'
import type { EpochEnd } from '../log/log-types.ts'
import type { Member, PartitionValue } from '../metadata/metadata-values.ts'

/** Several times as long as a follower's fetch waits for records. */
const DESERTED_MS = 1500

/** One partition of a follower's fetch. */
export interface FollowerFetch {
  readonly replicaId: number
  /** E of the follower's session. */
  readonly sessionEpoch: number
  /** D of the follower. */
  readonly dataEpoch: number
  /** Rises with every fetch of a session. */
  readonly fetchNumber: number
  readonly leaderEpoch: number
  /** The follower's log end offset. */
  readonly fetchOffset: number
  readonly logStartOffset: number
  /** Epoch of the follower's last batch; −1: it has none. */
  readonly lastFetchedEpoch: number
  readonly durableOffset: number
  /** Below it no key has an older record there; −1: it does not say. */
  readonly cleanOffset: number
  /** Partition epoch at which the replica was given to it, when its log was made; −1: it does not say. */
  readonly since: number
}

export type FetchRefusal =
  | 'fencedEpoch'
  | 'unknownEpoch'
  | 'notReplica'
  | 'belowLogStart'
  /** What the follower holds cannot be compared: it begins anew at the log start. */
  | 'startsOver'
  | 'staleFetch'
  | 'lostData'

export type FetchVerdict =
  | { readonly kind: 'read' }
  | { readonly kind: 'diverging'; readonly end: EpochEnd }
  | { readonly kind: 'refused'; readonly why: FetchRefusal }

export interface FollowerPosition {
  readonly logStartOffset: number
  readonly logEndOffset: number
  readonly durableOffset: number
}

/** The leader's own log, as far as it decides. */
export interface LeaderLog {
  readonly logStartOffset: number
  readonly logEndOffset: number
  endOffsetForEpoch(epoch: number): EpochEnd | undefined
}

/** What T4 must still find of the follower that joins. */
export interface JoiningFollower {
  readonly nodeId: number
  readonly sessionEpoch: number
  readonly dataEpoch: number
  readonly registrationRevision: number
}

/** A change of the partition record, to be written against `revision` and sent again unchanged until it is decided. */
export interface Proposal {
  readonly kind: 'expand' | 'shrink' | 'recovered'
  readonly revision: number
  /** Its writer is still that of the record before. */
  readonly value: PartitionValue
  readonly follower: JoiningFollower | undefined
}

/** What a decision needs of the world around. */
export interface Surroundings {
  readonly nowMs: number
  /** replica.lag.time.max.ms */
  readonly lagMsMax: number
  readonly highWatermark: number
  readonly logEndOffset: number
  /** flush.messages = 1: a replica has what it has made durable, not what it has written. */
  readonly isCommitFlush: boolean
  /** Revision of the registration of an active broker; undefined: it may not join. */
  registrationOf(nodeId: number): number | undefined
  /** D as the store shows it; 0: unknown. */
  dataEpochOf(nodeId: number): number
  /** It has said that its disk is full. */
  isFull(nodeId: number): boolean
}

interface Follower {
  readonly nodeId: number
  /** Partition epoch at which the replica was given to it. */
  readonly since: number
  sessionEpoch: number
  dataEpoch: number
  fetchNumber: number
  logStartOffset: number
  logEndOffset: number
  durableOffset: number
  /** As told last, and kept while it is away. */
  cleanOffset: number
  /** Largest position counted in this epoch, of the kind that counts: a replica below it has lost data. */
  best: number
  bestIsDurable: boolean
  /** It has fetched in this epoch. */
  isKnown: boolean
  lastCaughtUpMs: number
  lastFetchMs: number
  /** The leader's end at `markMs`: once the follower is there, it was caught up then. */
  mark: number
  markMs: number
}

export class ReplicaSet {
  #epochStart: number
  readonly #nodeId: number
  readonly #followers = new Map<number, Follower>()
  #value: PartitionValue
  #revision: number
  #pending: Proposal | undefined

  constructor(
    nodeId: number,
    value: PartitionValue,
    revision: number,
    epochStart: number,
    nowMs: number,
  ) {
    this.#nodeId = nodeId
    this.#value = value
    this.#revision = revision
    this.#epochStart = epochStart
    this.#track(nowMs)
  }

  /** LESO: the log end when this epoch began. */
  get epochStart(): number {
    return this.#epochStart
  }

  get value(): PartitionValue {
    return this.#value
  }

  get revision(): number {
    return this.#revision
  }

  get pending(): Proposal | undefined {
    return this.#pending
  }

  get committedCount(): number {
    return this.#value.inSyncReplicas.length
  }

  get maximalCount(): number {
    return this.committedCount + (this.#pending?.kind === 'expand' ? 1 : 0)
  }

  /** Where a follower stands in this epoch; undefined: it has not fetched yet. */
  position(nodeId: number): FollowerPosition | undefined {
    const follower = this.#followers.get(nodeId)
    return follower?.isKnown === true ? follower : undefined
  }

  /**
   * Whether a replica that could have been elected in the leader's place has not fetched in this epoch for a while: one that has
   * moved on to another leader never does again, and without it nothing is committed here.
   */
  isDeserted(nowMs: number): boolean {
    const { inSyncReplicas, eligibleReplicas } = this.#value
    const hasLeft = ({ broker }: Member): boolean => {
      const follower = this.#followers.get(broker)
      return follower !== undefined && nowMs - follower.lastFetchMs > DESERTED_MS
    }
    return inSyncReplicas.some(hasLeft) || eligibleReplicas.some(hasLeft)
  }

  /**
   * Whether all that are in sync, or about to be, have fetched in this epoch, and since the log was cut: none of them has anything
   * that is not here.
   */
  get hasHeardInSync(): boolean {
    const joining = this.#pending?.follower?.nodeId
    const isHeard = (nodeId: number): boolean =>
      nodeId === this.#nodeId || this.#followers.get(nodeId)?.isKnown === true
    if (joining !== undefined && !isHeard(joining)) return false
    return this.#value.inSyncReplicas.every(({ broker }) => isHeard(broker))
  }

  /**
   * The leader's log was cut within its epoch, and ends at `endOffset`: what followers told before says nothing any more. Whoever
   * is in sync stays so.
   */
  forgetPositions(endOffset: number, nowMs: number): void {
    this.#epochStart = endOffset
    for (const follower of this.#followers.values()) {
      follower.isKnown = false
      follower.best = 0
      follower.logEndOffset = 0
      follower.durableOffset = 0
      follower.mark = Number.POSITIVE_INFINITY
      follower.markMs = nowMs
      const isMember = this.#value.inSyncReplicas.some(({ broker }) => broker === follower.nodeId)
      follower.lastCaughtUpMs = isMember ? nowMs : Number.NEGATIVE_INFINITY
    }
  }

  /** A later record of the same leader epoch. It decides whatever is pending: its guard cannot hold any more. */
  adopt(value: PartitionValue, revision: number, nowMs: number): void {
    if (revision <= this.#revision) return
    assert(value.leaderEpoch === this.#value.leaderEpoch, 'a new epoch begins with a new table')
    this.#value = value
    this.#revision = revision
    this.#pending = undefined
    this.#track(nowMs)
  }

  /** The store said that the proposal was not applied, and never will be. */
  refused(proposal: Proposal): void {
    if (this.#pending === proposal) this.#pending = undefined
  }

  /** Takes where a follower says it stands, and says what it gets. */
  onFetch(fetch: FollowerFetch, log: LeaderLog, around: Surroundings): FetchVerdict {
    const { leaderEpoch } = this.#value
    if (fetch.leaderEpoch < leaderEpoch) return refuse('fencedEpoch')
    if (fetch.leaderEpoch > leaderEpoch) return refuse('unknownEpoch')
    const follower = this.#followers.get(fetch.replicaId)
    if (follower === undefined) return refuse('notReplica')
    if (fetch.sessionEpoch < follower.sessionEpoch) return refuse('staleFetch')
    const isSameSession = fetch.sessionEpoch === follower.sessionEpoch
    if (isSameSession && fetch.fetchNumber < follower.fetchNumber) return refuse('staleFetch')
    // It was left out and given again, and has yet to see so: it will set that log aside.
    if (fetch.since >= 0 && fetch.since < follower.since) return refuse('staleFetch')
    // It falls with every fetch, and rises only with one whose log was found to be a part of this one.
    follower.cleanOffset = Math.min(follower.cleanOffset, Math.max(0, fetch.cleanOffset))
    if (fetch.fetchOffset < log.logStartOffset) return refuse('belowLogStart')
    if (fetch.lastFetchedEpoch >= 0) {
      const end = log.endOffsetForEpoch(fetch.lastFetchedEpoch)
      if (end === undefined) return refuse('unknownEpoch')
      if (end.epoch < fetch.lastFetchedEpoch || end.endOffset < fetch.fetchOffset) {
        return { kind: 'diverging', end }
      }
      // Where that epoch ended lies below the log start: nothing tells whether what the follower holds is what was here.
      const isForgotten =
        fetch.lastFetchedEpoch < leaderEpoch && end.endOffset <= log.logStartOffset
      if (isForgotten) return refuse('startsOver')
    } else if (fetch.fetchOffset > log.logEndOffset) {
      return { kind: 'diverging', end: { epoch: leaderEpoch, endOffset: log.logEndOffset } }
    } else if (fetch.fetchOffset > log.logStartOffset && !this.#isCompared(follower, fetch)) {
      return refuse('startsOver')
    }
    const ack = around.isCommitFlush ? fetch.durableOffset : fetch.fetchOffset
    const isComparable =
      fetch.dataEpoch === follower.dataEpoch && follower.bestIsDurable === around.isCommitFlush
    if (!isComparable) follower.best = 0
    if (ack < follower.best) return refuse('lostData')
    follower.bestIsDurable = around.isCommitFlush
    follower.isKnown = true
    follower.sessionEpoch = fetch.sessionEpoch
    follower.dataEpoch = fetch.dataEpoch
    follower.fetchNumber = fetch.fetchNumber
    follower.logStartOffset = fetch.logStartOffset
    follower.lastFetchMs = around.nowMs
    follower.logEndOffset = fetch.fetchOffset
    follower.durableOffset = Math.min(fetch.durableOffset, fetch.fetchOffset)
    follower.cleanOffset = Math.max(0, fetch.cleanOffset)
    follower.best = Math.max(follower.best, ackOf(follower, around))
    noteCaughtUp(follower, around)
    return { kind: 'read' }
  }

  /**
   * How far the maximal in-sync replicas have everything; undefined: too few are in sync, it stays where it is.
   * @param ownAck  the leader's own position
   */
  highWatermarkCandidate(ownAck: number, around: Surroundings): number | undefined {
    const { inSyncReplicas, minInSync } = this.#value
    if (inSyncReplicas.length < minInSync) return undefined
    let least = ownAck
    for (const member of inSyncReplicas) {
      if (member.broker === this.#nodeId) continue
      least = Math.min(least, this.#memberAck(member, around))
    }
    for (const follower of this.#followers.values()) {
      if (inSyncReplicas.some((member) => member.broker === follower.nodeId)) continue
      const joining = this.#pending?.follower
      if (joining?.nodeId === follower.nodeId) {
        const member = { broker: joining.nodeId, dataEpoch: joining.dataEpoch }
        least = Math.min(least, this.#memberAck(member, around))
      } else if (this.#isAboutToJoin(follower, around)) {
        // It is waited for, or under load it never could.
        least = Math.min(least, ackOf(follower, around))
      }
    }
    return least
  }

  /**
   * How far every assigned replica is compacted, those that are away as far as they had told in this epoch; 0: one has not
   * told yet. All their transactions below it are decided and rid of what was aborted, too.
   */
  cleanOffset(ownCleanOffset: number): number {
    let least = ownCleanOffset
    for (const follower of this.#followers.values()) least = Math.min(least, follower.cleanOffset)
    return least
  }

  /** A follower may have come near enough to join, or must leave at once. */
  maybeHasProposal(nodeId: number): boolean {
    if (this.#pending !== undefined) return false
    const follower = this.#followers.get(nodeId)
    const member = this.#value.inSyncReplicas.find((entry) => entry.broker === nodeId)
    return member === undefined || member.dataEpoch !== follower?.dataEpoch
  }

  /** The next change that is called for, pending from now on. */
  propose(around: Surroundings): Proposal | undefined {
    if (this.#pending !== undefined) return undefined
    this.#pending = this.#recovered() ?? this.#shrink(around) ?? this.#expand(around)
    return this.#pending
  }

  #recovered(): Proposal | undefined {
    if (!this.#value.recovering) return undefined
    return this.#proposal('recovered', { recovering: false })
  }

  #shrink(around: Surroundings): Proposal | undefined {
    const { inSyncReplicas, eligibleReplicas, known, minInSync, replicas } = this.#value
    const dropped = inSyncReplicas.filter(
      (member) => member.broker !== this.#nodeId && !this.#isInSync(member, around),
    )
    if (dropped.length === 0) return undefined
    const left = inSyncReplicas.filter((member) => !dropped.includes(member))
    if (left.length >= minInSync) {
      return this.#proposal('shrink', {
        inSyncReplicas: left,
        eligibleReplicas: [],
        known: [],
      })
    }
    const former = [...eligibleReplicas, ...dropped]
    const isWhole = (member: Member): boolean =>
      around.dataEpochOf(member.broker) === member.dataEpoch
    return this.#proposal('shrink', {
      inSyncReplicas: left,
      eligibleReplicas: former.filter(
        (member) =>
          isWhole(member) &&
          replicas.includes(member.broker) &&
          !left.some((entry) => entry.broker === member.broker),
      ),
      known: [...known, ...former.filter((member) => !isWhole(member))],
    })
  }

  #expand(around: Surroundings): Proposal | undefined {
    const { inSyncReplicas, eligibleReplicas, known, minInSync } = this.#value
    for (const follower of this.#followers.values()) {
      const registrationRevision = around.registrationOf(follower.nodeId)
      if (registrationRevision === undefined || !this.#mayJoin(follower, around)) continue
      const { nodeId, sessionEpoch, dataEpoch } = follower
      const joined = [...inSyncReplicas, { broker: nodeId, dataEpoch }]
      const isEnough = joined.length >= minInSync
      return this.#proposal(
        'expand',
        {
          inSyncReplicas: joined,
          eligibleReplicas: isEnough
            ? []
            : eligibleReplicas.filter((member) => member.broker !== nodeId),
          known: isEnough ? [] : known,
        },
        { nodeId, sessionEpoch, dataEpoch, registrationRevision },
      )
    }
    return undefined
  }

  /** Rules 1 to 6 of section 2.4; rule 5's other half are the guards of T4. */
  #mayJoin(follower: Follower, around: Surroundings): boolean {
    const { inSyncReplicas, minInSync, recovering } = this.#value
    if (recovering || inSyncReplicas.some((member) => member.broker === follower.nodeId)) {
      return false
    }
    if (!follower.isKnown || around.isFull(follower.nodeId)) return false
    const ack = ackOf(follower, around)
    if (ack < around.highWatermark || ack < this.#epochStart) return false
    return inSyncReplicas.length >= minInSync || isCaughtUp(follower, around)
  }

  /**
   * An empty log tells by its position alone what it once held, and an unclean election may have changed what that means. Who
   * is a member, or has fetched in this epoch, has been compared since.
   */
  #isCompared(follower: Follower, fetch: FollowerFetch): boolean {
    if (follower.isKnown && follower.dataEpoch === fetch.dataEpoch) return true
    const { inSyncReplicas, eligibleReplicas } = this.#value
    return [...inSyncReplicas, ...eligibleReplicas].some(
      ({ broker, dataEpoch }) => broker === fetch.replicaId && dataEpoch === fetch.dataEpoch,
    )
  }

  #isAboutToJoin(follower: Follower, around: Surroundings): boolean {
    return (
      follower.isKnown &&
      !around.isFull(follower.nodeId) &&
      isCaughtUp(follower, around) &&
      around.registrationOf(follower.nodeId) !== undefined
    )
  }

  #isInSync(member: Member, around: Surroundings): boolean {
    const follower = this.#followers.get(member.broker)
    if (follower === undefined) return false
    if (follower.isKnown && follower.dataEpoch !== member.dataEpoch) return false
    return isCaughtUp(follower, around)
  }

  #memberAck(member: Member, around: Surroundings): number {
    const follower = this.#followers.get(member.broker)
    if (follower === undefined || !follower.isKnown) return Number.NEGATIVE_INFINITY
    if (follower.dataEpoch !== member.dataEpoch) return Number.NEGATIVE_INFINITY
    return ackOf(follower, around)
  }

  #proposal(
    kind: Proposal['kind'],
    change: Partial<PartitionValue>,
    follower?: JoiningFollower,
  ): Proposal {
    const partitionEpoch = this.#value.partitionEpoch + 1
    return {
      kind,
      revision: this.#revision,
      value: { ...this.#value, ...change, partitionEpoch },
      follower,
    }
  }

  /** The followers of the record; what is known of those that stay is kept. */
  #track(nowMs: number): void {
    const { replicas, inSyncReplicas } = this.#value
    for (const nodeId of this.#followers.keys()) {
      if (!replicas.includes(nodeId)) this.#followers.delete(nodeId)
    }
    for (const nodeId of replicas) {
      const since = sinceOf(this.#value, nodeId)
      const former = this.#followers.get(nodeId)
      // Records may be passed over: one that was left out and given again begins a new log.
      if (nodeId === this.#nodeId || former?.since === since) continue
      this.#followers.set(nodeId, {
        nodeId,
        since,
        sessionEpoch: former?.sessionEpoch ?? 0,
        dataEpoch: 0,
        fetchNumber: former?.fetchNumber ?? 0,
        logStartOffset: 0,
        logEndOffset: 0,
        durableOffset: 0,
        cleanOffset: 0,
        best: 0,
        bestIsDurable: true,
        isKnown: false,
        lastCaughtUpMs: inSyncReplicas.some((member) => member.broker === nodeId)
          ? nowMs
          : Number.NEGATIVE_INFINITY,
        lastFetchMs: nowMs,
        mark: Number.POSITIVE_INFINITY,
        markMs: nowMs,
      })
    }
  }
}

function sinceOf({ since }: PartitionValue, nodeId: number): number {
  return since?.[nodeId] ?? 0
}

function refuse(why: FetchRefusal): FetchVerdict {
  return { kind: 'refused', why }
}

/** `ack` of section 13. */
function ackOf(follower: Follower, around: Surroundings): number {
  return around.isCommitFlush ? follower.durableOffset : follower.logEndOffset
}

/** Whoever has reached the leader's end of a moment was caught up at that moment. */
function noteCaughtUp(follower: Follower, around: Surroundings): void {
  const ack = ackOf(follower, around)
  if (ack >= around.logEndOffset) follower.lastCaughtUpMs = around.nowMs
  else if (ack >= follower.mark) follower.lastCaughtUpMs = follower.markMs
  else if (follower.mark !== Number.POSITIVE_INFINITY) return
  follower.mark = around.logEndOffset
  follower.markMs = around.nowMs
}

function isCaughtUp(follower: Follower, around: Surroundings): boolean {
  if (follower.isKnown && ackOf(follower, around) >= around.logEndOffset) return true
  // What it lacks it will not have soon, and everybody would wait for it as long as that takes.
  if (around.isFull(follower.nodeId)) return false
  return around.nowMs - follower.lastCaughtUpMs <= around.lagMsMax
}
