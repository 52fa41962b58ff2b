/**
 * What a broker among others does while its disk is full: it says so in the store, so that nobody waits for it as for a replica
 * that is slow, and gives the partitions that it leads to replicas in sync, where these are enough to take writes.
 *
 * Invariants:
 * - A leadership is given away only when everything here is committed: what was acknowledged to acks=1 is held by the others.
 * - It comes back by the ordinary way alone: with room the replica catches up, joins, and is preferred again.
 */
import { isStreamError, type StreamError } from '../../src/base/errors.ts'
import type { Log } from '../../src/ports/log.ts'
import type { Time, Timer } from '../../src/ports/time.ts'
import type { MetadataImage, PartitionImage } from '../metadata/metadata-image.ts'
import { inParallel } from './in-parallel.ts'
import type { Partition } from './partition.ts'

const LOOK_MS = 1000
/** Retention, or what an operator deletes, may make room in a moment; a change of leaders costs one as well. */
const PATIENCE_MS = 3000
const WRITES_AT_ONCE = 16

export interface FullDiskPorts {
  readonly nodeId: number
  readonly time: Time
  readonly log: Log
  readonly image: MetadataImage
  readonly partitions: () => Iterable<Partition>
  readonly refusesWrites: () => StreamError | undefined
  /** Writes it into the store. @throws StreamError STORE_UNAVAILABLE */
  readonly tell: (isFull: boolean) => Promise<void>
  /**
   * @param isForWrites  only to a leader that has enough others in sync
   * @returns whether another one leads now
   * @throws StreamError STORE_UNAVAILABLE
   */
  readonly resign: (record: PartitionImage, isForWrites: boolean) => Promise<boolean>
}

export class FullDisk {
  readonly #ports: FullDiskPorts
  #timer: Timer | undefined
  #fullSinceMs: number | undefined
  #isStopped = false

  constructor(ports: FullDiskPorts) {
    this.#ports = ports
  }

  start(): void {
    this.#timer = this.#ports.time.setTimer(LOOK_MS, () => {
      this.#look()
        .catch((error: unknown) => this.#report(error))
        .finally(() => {
          if (!this.#isStopped) this.start()
        })
    })
  }

  stop(): void {
    this.#isStopped = true
    this.#timer?.cancel()
  }

  /** The session tells of a store that is away; it is tried again. */
  #report(error: unknown): void {
    if (this.#isStopped) return
    const { log } = this.#ports
    if (isStreamError(error, 'STORE_UNAVAILABLE')) {
      log.debug('the store does not know how full the disk is', { error: error.message })
    } else log.error('looking after a full disk failed', { error: String(error) })
  }

  async #look(): Promise<void> {
    const { nodeId, time, image, tell } = this.#ports
    const isTold = image.broker(nodeId)?.isFull === true
    if (!isStreamError(this.#ports.refusesWrites(), 'DISK_FULL')) {
      this.#fullSinceMs = undefined
      if (isTold) await tell(false)
      return
    }
    const nowMs = time.monotonicMs()
    this.#fullSinceMs ??= nowMs
    if (nowMs - this.#fullSinceMs < PATIENCE_MS) return
    if (!isTold) await tell(true)
    await this.#giveAway()
  }

  async #giveAway(): Promise<void> {
    const { nodeId, image, partitions, resign, log } = this.#ports
    const led: { readonly record: PartitionImage; readonly isServed: boolean }[] = []
    for (const partition of partitions()) {
      const record = image.partition(partition.topicId, partition.partition)
      if (record?.value.leader !== nodeId || record.value.inSyncReplicas.length < 2) continue
      if (!isAtRest(partition, record)) continue
      led.push({ record, isServed: partition.notServing === undefined })
    }
    let given = 0
    await inParallel(led, WRITES_AT_ONCE, async ({ record, isServed }) => {
      if (!this.#isStopped && (await resign(record, isServed))) given += 1
    })
    if (given === 0) return
    log.warn('leaderships were given away: the disk is full', { partitions: given })
  }
}

/** Nothing is on its way to the others; or its leadership could not even be begun, without room for a word about it. */
function isAtRest(partition: Partition, { value }: PartitionImage): boolean {
  const { notServing, follower, leaderEpoch, highWatermark, log } = partition
  if (notServing !== undefined) return notServing === 'notLeader' && follower === undefined
  return value.leaderEpoch === leaderEpoch && highWatermark >= log.logEndOffset
}
