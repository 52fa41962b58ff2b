/**
 * Background work of a broker on its timers: retention, compaction, checkpoints, leaderships that could not be taken, old
 * tombstones. One job of a kind runs
 * at a time; each works in slices that leave the loop to requests (the log sees to that).
 *
 * An error of one partition is reported and the others go on; a failed disk stops the broker by itself.
 */

import { isStreamError } from '../../src/base/errors.ts'
import type { Log } from '../../src/ports/log.ts'
import type { Time, Timer } from '../../src/ports/time.ts'
import type { DataDirectory } from '../log/data-directory.ts'
import type { BrokerConfig } from './broker-config.ts'
import type { Partition } from './partition.ts'
import type { PartitionTable } from './partition-table.ts'
import type { TopicController } from './topic-controller.ts'

const COMPACTION_PAUSE_MS = 15_000
const RETRY_PAUSE_MS = 5_000
const STRAY_PAUSE_MS = 600_000
const TOMBSTONE_PAUSE_MS = 24 * 3_600_000

export interface HousekeepingPorts {
  readonly time: Time
  readonly log: Log
  readonly table: PartitionTable
  readonly directory: DataDirectory
  readonly config: BrokerConfig
  readonly topics: TopicController
  /** A mirror keeps what its source keeps. */
  readonly keepsAll: (partition: Partition) => boolean
}

export class Housekeeping {
  readonly #ports: HousekeepingPorts
  readonly #timers = new Set<Timer>()
  readonly #running = new Set<Promise<void>>()
  #stopped = false
  #checkpointed = ''

  constructor(ports: HousekeepingPorts) {
    this.#ports = ports
  }

  start(): void {
    const { config } = this.#ports
    const checkpointMs = Math.min(
      config.number('replica.high.watermark.checkpoint.interval.ms'),
      config.number('log.flush.offset.checkpoint.interval.ms'),
      config.number('log.flush.start.offset.checkpoint.interval.ms'),
    )
    const retentionMs = config.number('log.retention.check.interval.ms')
    this.#every(retentionMs, () => this.retain())
    this.#every(Math.min(COMPACTION_PAUSE_MS, retentionMs), () => this.compact())
    this.#every(Math.max(checkpointMs, 100), () => this.checkpoint())
    this.#every(RETRY_PAUSE_MS, () => this.#retry())
    this.#every(STRAY_PAUSE_MS, () => this.removeStrays())
    this.#every(TOMBSTONE_PAUSE_MS, () => this.forgetTombstones())
  }

  /** Starts nothing new and waits for what runs. */
  async stop(): Promise<void> {
    this.#stopped = true
    for (const timer of this.#timers) timer.cancel()
    this.#timers.clear()
    await Promise.allSettled(this.#running)
  }

  async retain(): Promise<void> {
    const { table, time, keepsAll } = this.#ports
    for (const partition of table.all()) {
      if (this.#stopped) return
      if (partition.notServing !== undefined || keepsAll(partition)) continue
      await this.#try('retention', partition, async () => {
        const before = partition.log.logStartOffset
        await partition.log.enforceRetention(time.wallMs(), partition.highWatermark)
        if (partition.log.logStartOffset !== before) partition.logStartMoved()
      })
    }
  }

  /** The dirtiest log first, one at a time, until none is due. */
  async compact(): Promise<void> {
    const { table, time, config } = this.#ports
    if (config.number('log.cleaner.threads') === 0) return
    const tried = new Set<Partition>()
    while (!this.#stopped) {
      let dirtiest: Partition | undefined
      let ratio = -1
      for (const partition of table.all()) {
        if (!partition.config.cleanupCompact || !partition.isCompactable) continue
        if (tried.has(partition)) continue
        const need = partition.log.compactionNeed(time.wallMs(), partition.lastStableOffset)
        if (need.due && need.dirtyRatio > ratio) {
          dirtiest = partition
          ratio = need.dirtyRatio
        }
      }
      if (dirtiest === undefined) return
      const partition = dirtiest
      tried.add(partition)
      await this.#try('compaction', partition, async () => {
        const { removalFloor } = partition
        await partition.log.compact({
          nowMs: time.wallMs(),
          lastStableOffset: partition.lastStableOffset,
          mapBytesMax: config.number('log.cleaner.dedupe.buffer.size'),
          ...(removalFloor === undefined ? {} : { removalFloor }),
        })
      })
    }
  }

  async #retry(): Promise<void> {
    try {
      await this.#ports.table.retry()
    } catch (error) {
      // A full disk is told once, when it is found.
      if (!isStreamError(error, 'DISK_FULL')) throw error
    }
  }

  removeStrays(): Promise<void> {
    const { table, time } = this.#ports
    table.removeStrays(time.monotonicMs())
    return Promise.resolve()
  }

  /** The controller's work; on other brokers nothing. */
  async forgetTombstones(): Promise<void> {
    const { topics, time } = this.#ports
    try {
      await topics.forgetTombstones(time.wallMs())
    } catch (error) {
      // A store that is away is told by the session; the tombstones wait for the next round.
      const isNotNow =
        isStreamError(error, 'NOT_CONTROLLER') || isStreamError(error, 'STORE_UNAVAILABLE')
      if (!isNotNow) throw error
    }
  }

  /** Nothing is written while nothing has moved. */
  async checkpoint(): Promise<void> {
    const { table, directory } = this.#ports
    if (directory.failure !== undefined) return
    directory.keepReserve()
    let count = 0
    let sum = 0
    for (const partition of table.all()) {
      count += 1
      const { logStartOffset, cleanOffset } = partition.log
      sum += partition.highWatermark + logStartOffset * 7 + cleanOffset * 13
    }
    const state = `${count}/${sum}`
    if (state === this.#checkpointed) return
    await directory.writeCheckpoint()
    this.#checkpointed = state
  }

  #every(pauseMs: number, job: () => Promise<void>): void {
    if (!Number.isFinite(pauseMs)) return
    const { directory } = this.#ports
    const timer = this.#ports.time.setTimer(pauseMs, () => {
      this.#timers.delete(timer)
      if (this.#stopped) return
      const run = job()
        .catch((error: unknown) => {
          // That the disk is full is told once (disk-guard.ts); the next round tries again.
          if (isStreamError(error, 'DISK_FULL') && directory.refusesWrites() !== undefined) return
          this.#ports.log.error('background work failed', { error: String(error) })
        })
        .finally(() => {
          this.#running.delete(run)
          if (!this.#stopped) this.#every(pauseMs, job)
        })
      this.#running.add(run)
    })
    this.#timers.add(timer)
  }

  async #try(what: string, partition: Partition, work: () => Promise<void>): Promise<void> {
    try {
      await work()
    } catch (error) {
      if (!partition.isCompactable) return
      this.#ports.log.error(`${what} failed`, {
        partition: `${partition.topic}-${partition.partition}`,
        error: String(error),
      })
    }
  }
}
