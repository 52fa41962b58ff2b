/**
 * Repairs damaged ranges of this broker's logs with what replicas in sync hold (replication.md section 7.3), one range at
 * a time, the leader's copy first, and says so.
 *
 * Invariants:
 * - A range is served again only when its bytes were checked, put in place and synced (daemon/log/repair.ts). Without a
 *   sound copy it stays quarantined, and is tried again.
 * - A replica that was found damaged at a start, or could not be repaired at once, does not fetch: so it does not join
 *   the replicas in sync, or leaves them, until it is whole.
 * - Only a replica that nobody counts on gives up records to copy them again.
 */
import { isStreamError, StreamError } from '../../src/base/errors.ts'
import type { Log } from '../../src/ports/log.ts'
import type { Time, Timer } from '../../src/ports/time.ts'
import type { Response } from '../../src/protocol/api-table.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import { crc32c } from '../../src/record/crc32c.ts'
import type { DamagedRange } from '../log/log-types.ts'
import type { MetadataImage } from '../metadata/metadata-image.ts'
import type { PartitionValue } from '../metadata/metadata-values.ts'
import type { Partition } from './partition.ts'
import type { Peers } from './peers.ts'
import type { SessionView } from './session-keeper.ts'

const LOOK_MS = 500
const PIECE_BYTES = 1024 * 1024
const CALL_TIMEOUT_MS = 10_000
/** As long as readers ask again. */
const AWAITED_MS_MAX = 30_000

export interface RepairerPorts {
  readonly time: Time
  readonly log: Log
  readonly image: MetadataImage
  readonly peers: Peers
  readonly clusterId: string
  readonly session: SessionView
  readonly partitions: () => Iterable<Partition>
  /** It may be fetched for again. */
  readonly wake: (partition: Partition) => void
}

type Answer = Response<'SegmentSync'>

export class Repairer {
  readonly #ports: RepairerPorts
  /** Damaged partitions that a round could not repair, with what was said last. */
  readonly #failed = new Map<Partition, string>()
  /** Since when producers were told to come again, monotonic ms. */
  readonly #awaited = new WeakMap<Partition, number>()
  #timer: Timer | undefined
  #isStopped = false

  constructor(ports: RepairerPorts) {
    this.#ports = ports
  }

  start(): void {
    this.#timer = this.#ports.time.setTimer(0, () => this.#look())
  }

  stop(): void {
    this.#isStopped = true
    this.#timer?.cancel()
  }

  /** Whether it must not fetch from its leader: it would count as whole. */
  isHeld(partition: Partition): boolean {
    const { damage } = partition.log
    if (damage.length === 0) return false
    return this.#failed.has(partition) || damage.some((range) => range.foundAtStart === true)
  }

  /** Whether what producers did in a damaged range may soon be learnt; not for ever, where no other replica has it. */
  isAwaited(partition: Partition): boolean {
    const isUnseen = partition.log.damage.some((range) => range.foundAtStart === true)
    if (!isUnseen) {
      this.#awaited.delete(partition)
      return false
    }
    const nowMs = this.#ports.time.monotonicMs()
    const sinceMs = this.#awaited.get(partition) ?? nowMs
    this.#awaited.set(partition, sinceMs)
    return nowMs - sinceMs < AWAITED_MS_MAX
  }

  #look(): void {
    this.#round()
      .catch((error: unknown) => {
        this.#ports.log.error('repairing logs failed', { error: String(error) })
      })
      .finally(() => {
        if (this.#isStopped) return
        this.#timer = this.#ports.time.setTimer(LOOK_MS, () => this.#look())
      })
  }

  async #round(): Promise<void> {
    for (const partition of this.#ports.partitions()) {
      if (this.#isStopped) return
      if (partition.log.damage.length > 0) await this.#repair(partition)
      else this.#failed.delete(partition)
    }
  }

  async #repair(partition: Partition): Promise<void> {
    const { image, log, wake } = this.#ports
    const record = image.partition(partition.topicId, partition.partition)?.value
    const follower = partition.follower
    if (record === undefined || (partition.notServing !== undefined && follower === undefined))
      return
    let why: string | undefined
    for (const range of partition.log.damage) {
      if (this.#isStopped) return
      const failure = await this.#repairRange(partition, record, range)
      why ??= failure
    }
    if (partition.log.damage.length === 0) {
      this.#failed.delete(partition)
      wake(partition)
    } else if (why !== undefined && this.#failed.get(partition) !== why) {
      this.#failed.set(partition, why)
      log.error('a damaged log cannot be repaired now: the range is not served', {
        partition: nameOf(partition),
        why,
      })
    }
  }

  /** @returns why it could not be done */
  async #repairRange(
    partition: Partition,
    record: PartitionValue,
    range: DamagedRange,
  ): Promise<string | undefined> {
    const offsets = `${range.startOffset} to ${range.endOffset - 1}`
    let why = `offsets ${offsets}: no other replica is in sync`
    for (const source of this.#sources(record)) {
      try {
        const { bytes, how } = await partition.log.repair(range, (offset, endOffset) =>
          this.#fetch(partition, source, { offset, endOffset, range }),
        )
        this.#ports.log.warn('a damaged range was repaired from another replica', {
          partition: nameOf(partition),
          file: range.file,
          offsets,
          bytes,
          how,
          from: source,
        })
        return undefined
      } catch (error) {
        if (!isStreamError(error)) throw error
        // It is no damage any more, or not this one.
        if (error.code === 'CONFLICT' || error.code === 'CLOSED') return undefined
        why = `offsets ${offsets}, broker ${source}: ${error.message}`
      }
    }
    return why
  }

  /** The replicas in sync, the leader first. */
  #sources(record: PartitionValue): number[] {
    const { image, session } = this.#ports
    const members = record.inSyncReplicas.filter(({ broker, dataEpoch }) => {
      const view = image.broker(broker)
      return broker !== session.nodeId && view?.live === true && view.dataEpoch === dataEpoch
    })
    const nodeIds = members.map(({ broker }) => broker)
    return nodeIds.sort((a, b) => Number(b === record.leader) - Number(a === record.leader))
  }

  async #fetch(
    partition: Partition,
    source: number,
    wanted: { readonly offset: number; readonly endOffset: number; readonly range: DamagedRange },
  ): Promise<{ readonly records: Uint8Array; readonly nextOffset: number }> {
    const { peers, session, clusterId } = this.#ports
    const following = partition.follower?.following
    const answer = await peers.call(
      source,
      'SegmentSync',
      0,
      {
        clusterId,
        replicaId: session.nodeId,
        topicId: partition.topicId,
        partition: partition.partition,
        currentLeaderEpoch: following?.leaderEpoch ?? partition.leaderEpoch,
        startOffset: wanted.offset,
        endOffset: wanted.endOffset,
        maxBytes: PIECE_BYTES,
      },
      { timeoutMs: CALL_TIMEOUT_MS },
    )
    if (answer.errorCode !== 0) throw await this.#refused(partition, source, wanted.range, answer)
    const { nextOffset, checksum, highWatermark } = answer
    const records = answer.records ?? new Uint8Array(0)
    if (crc32c(records) !== checksum) {
      throw new StreamError('CORRUPT_BATCH', `broker ${source}: its answer was damaged on the way`)
    }
    if (highWatermark < wanted.endOffset && source === following?.leader) {
      await this.#giveUpTail(partition, wanted.range)
    }
    return { records, nextOffset }
  }

  async #refused(
    partition: Partition,
    source: number,
    range: DamagedRange,
    answer: Answer,
  ): Promise<StreamError> {
    const { errorCode, logStartOffset } = answer
    const isDeleted = errorCode === KafkaError.OFFSET_OUT_OF_RANGE && logStartOffset > 0
    if (isDeleted && source === partition.follower?.following.leader) {
      // The leader's log begins behind it: nobody asks for it any more.
      const { log } = partition
      const start = Math.min(logStartOffset, log.logEndOffset)
      if (start > log.logStartOffset) await log.deleteRecordsBefore(start)
      if (!log.damage.includes(range)) return new StreamError('CONFLICT', 'it was deleted')
    }
    const kafkaError = errorCode
    return new StreamError('BROKER_ERROR', `error ${errorCode}`, { kafkaError })
  }

  /**
   * The range reaches beyond what is committed, so that the leader may have other records there. Where this replica is
   * no member it is cut there and copies what the leader has.
   */
  async #giveUpTail(partition: Partition, range: DamagedRange): Promise<void> {
    const { image, log, session } = this.#ports
    const record = image.partition(partition.topicId, partition.partition)?.value
    if (record === undefined) return
    const isMember = [...record.inSyncReplicas, ...record.eligibleReplicas].some(
      (member) => member.broker === session.nodeId && member.dataEpoch === session.dataEpoch,
    )
    if (isMember || !this.isHeld(partition)) return
    log.warn('a damaged tail is given up and copied again from the leader', {
      partition: nameOf(partition),
      offset: range.startOffset,
    })
    await partition.follower?.dropFrom(range.startOffset)
  }
}

function nameOf({ topic, partition }: Partition): string {
  return `${topic}-${partition}`
}
