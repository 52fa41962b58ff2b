/**
 * Compares what this broker's scrubber has read sound with what the leader holds (replication.md section 7.3). Batches whose
 * checksums are right, and which are not the leader's, are found by nothing else: a fault of a program, a disk that gave back
 * an old page. What is found is said, counted and left alone: nobody knows which copy is right.
 *
 * The machine is comparison.ts; this is its driver, one range at a time. The leader reads for it no more than the scrubber
 * reads here, at the scrubber's pace, and a few times a range of a megabyte where one differs.
 *
 * Invariants: what replicas may differ in is never reported.
 * - Above the high watermark of either side: only what is below both is compared.
 * - Below the log start of either side, or across it: a range begins with a batch at or above both.
 * - Ranges that are quarantined on either side, and those of a replica that is held back because of damage. Repair puts
 *   the bytes of a replica in sync in place, so what was repaired is compared like anything else.
 * - What compaction has made: topics that are compacted, or were and have not been trimmed to where it came to; batches that
 *   lack records or have a delete horizon, and gaps, wherever they come from (range-hash.ts: a replica that began anew copies
 *   what another one had cleaned); a batch of a transaction that is plain on one side (comparison.ts). Markers that are gone
 *   leave gaps.
 * - Mirrored partitions: what a link has brought may be cut again.
 * - A replica that is not in sync, is being cut, or follows another leader than the record says; a leader of another epoch. An
 *   answer counts only where the follower, its leader epoch, the log and its cuts are those it was asked for: `Place`.
 * All else is the same on all replicas: they append the very bytes of their leader, leader epoch included, wherever a later
 * leader has taken over. Segments are cut differently, so only batches are compared.
 */
import { Buffer } from 'node:buffer'
import { isStreamError, type StreamError } from '../../src/base/errors.ts'
import type { Log } from '../../src/ports/log.ts'
import type { Time } from '../../src/ports/time.ts'
import type { Response } from '../../src/protocol/api-table.ts'
import { crc32c } from '../../src/record/crc32c.ts'
import type { PartitionLog } from '../log/partition-log.ts'
import type { SoundRange } from '../log/range-hash.ts'
import type { RangeComparer } from '../log/scrubber.ts'
import type { MetadataImage } from '../metadata/metadata-image.ts'
import { Comparison, type Difference, type Verdict } from './comparison.ts'
import type { FollowerLog } from './follower-log.ts'
import type { Partition } from './partition.ts'
import type { Peers } from './peers.ts'
import type { SessionView } from './session-keeper.ts'

/** With hashes: daemon/apis/1005-segment-sync.ts. */
const VERSION = 1
/** A leader that is busy is waited for: a request that misses its time ends the link, which replication needs. */
const CALL_TIMEOUT_MS = 30_000
/** A leader that cannot be asked is left alone for so long. */
const REST_MS = 60_000
/** What one request makes the leader read, but for one batch. */
const ASKED_BYTES_MAX = 4 * 1024 * 1024
const READ_BYTES = 1024 * 1024
/** A piece of the scrubber gives one or two ranges. */
const WAITING_MAX = 16
/** Differences that are remembered. */
const KNOWN_MAX = 1000

/** What the log says of a difference. */
export const DIFFERENCE_SAID =
  'a batch differs from the leader’s, and both are sound: nobody knows which is right'

export interface ComparerPorts {
  readonly time: Time
  readonly log: Log
  readonly image: MetadataImage
  readonly peers: Pick<Peers, 'call'>
  readonly clusterId: string
  readonly session: SessionView
  readonly find: (topicId: string, partition: number) => Partition | undefined
  /** It is kept back because of damage (repairer.ts). */
  readonly isHeld: (partition: Partition) => boolean
}

/** What an answer must still be true of. */
interface Place {
  readonly partition: Partition
  readonly follower: FollowerLog
  readonly range: SoundRange
}

interface Known {
  readonly partition: Partition
  /** That it was compared with. */
  readonly leader: number
  readonly difference: Difference
}

type Answer = Response<'SegmentSync'>

export class Comparer implements RangeComparer {
  readonly #ports: ComparerPorts
  readonly #waiting: Place[] = []
  /** Leaders that could not be asked, which was said once until they answer again: until when, monotonic ms. */
  readonly #resting = new Map<number, number>()
  readonly #known = new Map<string, Known>()
  #isWorking = false
  #isStopped = false
  #comparedCount = 0

  constructor(ports: ComparerPorts) {
    this.#ports = ports
  }

  stop(): void {
    this.#isStopped = true
    this.#waiting.length = 0
  }

  /**
   * Batches whose copies differ, one a range, as far as this process knows: until they are found the same, are trimmed or
   * cut away, or one of the two replicas is taken away.
   */
  get differing(): number {
    this.#prune()
    return this.#known.size
  }

  /** Ranges that were found the same since this process began. */
  get comparedCount(): number {
    return this.#comparedCount
  }

  // --- for the scrubber

  get isBusy(): boolean {
    return this.#isWorking
  }

  wants(log: PartitionLog): boolean {
    // So that a replica that is away for a while is noticed.
    this.#prune()
    const partition = this.#ports.find(log.topicId, log.partition)
    const follower = partition?.follower
    if (this.#isStopped || partition?.log !== log || follower === undefined) return false
    return !this.#isResting(follower.following.leader) && this.#isComparable(partition, follower)
  }

  take(log: PartitionLog, range: SoundRange): void {
    if (!this.wants(log) || this.#waiting.length >= WAITING_MAX) return
    const partition = this.#ports.find(log.topicId, log.partition)
    const follower = partition?.follower
    if (partition === undefined || follower === undefined) return
    this.#waiting.push({ partition, follower, range })
    if (!this.#isWorking) void this.#work()
  }

  // --- one range after the other

  async #work(): Promise<void> {
    this.#isWorking = true
    for (let place = this.#waiting.shift(); place !== undefined; place = this.#waiting.shift()) {
      try {
        await this.#compare(place)
      } catch (error) {
        this.#ports.log.error('comparing replicas failed', {
          partition: nameOf(place.partition),
          error: String(error),
        })
      }
    }
    this.#isWorking = false
  }

  async #compare(place: Place): Promise<void> {
    const comparison = new Comparison(place.range)
    for (;;) {
      const { step } = comparison
      if (!this.#holds(place)) return
      if (step.kind === 'done') {
        this.#judged(place, step.verdict)
        return
      }
      try {
        if (step.kind === 'read') {
          const bytes = await this.#read(place)
          if (this.#holds(place)) comparison.onRead(bytes)
        } else {
          const answer = await this.#ask(place, step)
          // What does not hold any more is not looked at.
          if (!this.#holds(place)) return
          this.#take(comparison, answer)
        }
      } catch (error) {
        if (!isStreamError(error)) throw error
        if (step.kind !== 'read') this.#rest(place.follower.following.leader, error)
        comparison.giveUp(error.message)
      }
    }
  }

  #take(comparison: Comparison, answer: Answer): void {
    const { errorCode, highWatermark, logStartOffset, checksum } = answer
    const { startOffset, endOffset } = comparison.range
    if (errorCode !== 0) comparison.giveUp(`error ${errorCode}`)
    else if (logStartOffset > startOffset) comparison.giveUp('the leader begins behind it')
    else if (highWatermark < endOffset) comparison.giveUp('the leader has not committed it')
    else if (comparison.step.kind === 'hash') comparison.onHash({ ...answer, checksum })
    else {
      const records = answer.records ?? new Uint8Array(0)
      if (crc32c(records) === checksum) comparison.onBatch(records)
      else comparison.giveUp('its answer was damaged on the way')
    }
  }

  /** From the file: once more, whatever the scrubber has read. */
  async #read({ partition, range }: Place): Promise<Uint8Array> {
    const { endOffset } = range
    const parts: Uint8Array[] = []
    let offset = range.startOffset
    while (offset < endOffset) {
      const request = { offset, endOffset, maxBytes: READ_BYTES }
      const slice = await partition.log.readStored(request)
      if (slice.sizeBytes === 0) break
      parts.push(...slice.bytes)
      offset = slice.nextOffset
    }
    return Buffer.concat(parts)
  }

  async #ask(
    { partition, follower }: Place,
    step:
      | { kind: 'hash'; startOffset: number; endOffset: number }
      | { kind: 'batch'; offset: number },
  ): Promise<Answer> {
    const { peers, session, clusterId } = this.#ports
    const { leader, leaderEpoch } = follower.following
    const wanted =
      step.kind === 'hash'
        ? { startOffset: step.startOffset, endOffset: step.endOffset, maxBytes: ASKED_BYTES_MAX }
        : // However far its batch reaches.
          { startOffset: step.offset, endOffset: Number.MAX_SAFE_INTEGER, maxBytes: 1 }
    const answer = await peers.call(
      leader,
      'SegmentSync',
      VERSION,
      {
        clusterId,
        replicaId: session.nodeId,
        topicId: partition.topicId,
        partition: partition.partition,
        currentLeaderEpoch: leaderEpoch,
        ...wanted,
        hashOnly: step.kind === 'hash',
      },
      { timeoutMs: CALL_TIMEOUT_MS, ifListed: true },
    )
    this.#resting.delete(leader)
    return answer
  }

  // --- what must hold

  #isComparable(partition: Partition, follower: FollowerLog): boolean {
    const { image, session, isHeld } = this.#ports
    const { topic, topicId, log } = partition
    const { leader, leaderEpoch } = follower.following
    if (leader < 0 || leader === session.nodeId || follower.isBusy || isHeld(partition))
      return false
    if (log.wasCompacted || partition.config.cleanupCompact) return false
    if (image.links.writerOf(topic, topicId, partition.partition) !== undefined) return false
    const record = image.partition(topicId, partition.partition)?.value
    if (record?.leader !== leader || record.leaderEpoch !== leaderEpoch) return false
    return record.inSyncReplicas.some(
      (member) => member.broker === session.nodeId && member.dataEpoch === session.dataEpoch,
    )
  }

  #holds({ partition, follower, range }: Place): boolean {
    const { log } = partition
    if (this.#isStopped || partition.follower !== follower) return false
    if (this.#ports.find(partition.topicId, partition.partition) !== partition) return false
    if (log.generation !== range.generation || range.startOffset < log.logStartOffset) return false
    if (range.endOffset > partition.highWatermark) return false
    const isDamaged = log.damage.some(
      ({ startOffset, endOffset }) =>
        startOffset < range.endOffset && range.startOffset < endOffset,
    )
    return !isDamaged && this.#isComparable(partition, follower)
  }

  // --- leaders that cannot be asked

  #isResting(leader: number): boolean {
    return (this.#resting.get(leader) ?? 0) > this.#ports.time.monotonicMs()
  }

  #rest(leader: number, error: StreamError): void {
    if (this.#isStopped) return
    const { time, log } = this.#ports
    const wasSaid = this.#resting.has(leader)
    this.#resting.set(leader, time.monotonicMs() + REST_MS)
    if (wasSaid) return
    const isOld = error.code === 'UNSUPPORTED_BY_BROKER'
    const why = isOld ? 'it runs an older version' : error.message
    log.info('copies cannot be compared with a leader now', { leader, why })
  }

  // --- what came of it

  #judged({ partition, follower, range }: Place, verdict: Verdict): void {
    const { log } = this.#ports
    const { leader } = follower.following
    const place = {
      partition: nameOf(partition),
      offsets: `${range.startOffset} to ${range.endOffset - 1}`,
      leader,
    }
    if (verdict.kind === 'unknown') {
      log.debug('a range could not be compared with the leader', { ...place, why: verdict.why })
      return
    }
    if (verdict.kind === 'same') {
      this.#comparedCount += 1
      this.#forget(partition, range)
      return
    }
    const { difference } = verdict
    const { startOffset, endOffset, checksum, leaderChecksum } = difference
    const key = `${partition.topicId}/${partition.partition}/${startOffset}`
    const before = this.#known.get(key)?.difference
    const isKnown = before?.checksum === checksum && before.leaderChecksum === leaderChecksum
    // Below it all is the leader's again.
    this.#forget(partition, { startOffset: range.startOffset, endOffset: startOffset })
    if (isKnown || (before === undefined && this.#known.size >= KNOWN_MAX)) return
    this.#known.set(key, { partition, leader, difference })
    log.error(DIFFERENCE_SAID, {
      ...place,
      offsets: `${startOffset} to ${endOffset - 1}`,
      checksum: hex(checksum),
      leaderChecksum: hex(leaderChecksum),
      todo: `read both copies (stream dump ${partition.log.directory} --batches --from ${startOffset}, there too); then take the wrong one away and back with stream cluster reassign: it is copied from the leader`,
    })
  }

  #forget(
    partition: Partition,
    { startOffset, endOffset }: { startOffset: number; endOffset: number },
  ): void {
    for (const [key, known] of this.#known) {
      const offset = known.difference.startOffset
      if (known.partition === partition && offset >= startOffset && offset < endOffset) {
        this.#known.delete(key)
      }
    }
  }

  #prune(): void {
    for (const [key, known] of this.#known) if (this.#isGone(known)) this.#known.delete(key)
  }

  #isGone({ partition, leader, difference }: Known): boolean {
    const { find, image } = this.#ports
    const { log, topicId } = partition
    if (find(topicId, partition.partition) !== partition) return true
    const record = image.partition(topicId, partition.partition)?.value
    if (record?.replicas.includes(leader) !== true) return true
    return difference.endOffset <= log.logStartOffset || difference.startOffset >= log.logEndOffset
  }
}

function hex(checksum: number): string {
  return checksum.toString(16).padStart(8, '0')
}

function nameOf({ topic, partition }: Partition): string {
  return `${topic}-${partition}`
}
