/**
 * The fetches by which one leader is followed. A fetch names all its partitions, so those that get records have one of
 * their own: its cost goes by what is busy, and the quiet ones, of which there may be a thousand, cost a fetch in half a
 * second.
 *
 * Invariant: a partition is in one lane at a time, and changes it only while none of its records are being worked in.
 */

import type { Time, Timer } from '../../src/ports/time.ts'
import { Fetcher, type FetcherPorts } from './fetcher.ts'
import type { FollowerLog } from './follower-log.ts'
import type { Partition } from './partition.ts'

/** Numbers of the lanes, as the leader tells their fetches apart. */
export const QUIET_LANE = 0
export const BUSY_LANE = 1

/** Without records for so long a partition goes back among the quiet ones. */
const QUIET_MS = 5000

export type FetchLanesPorts = Omit<FetcherPorts, 'lane' | 'onRecords'>

export class FetchLanes {
  readonly #time: Time
  readonly #quiet: Fetcher
  readonly #busy: Fetcher
  /** When the partitions of the busy lane got records last. */
  readonly #recordsAtMs = new Map<Partition, number>()
  #timer: Timer | undefined

  constructor(ports: FetchLanesPorts, leaderId: number) {
    this.#time = ports.time
    const quiet = { ...ports, lane: QUIET_LANE, onRecords: (one: Partition) => this.#promote(one) }
    const busy = { ...ports, lane: BUSY_LANE, onRecords: (one: Partition) => this.#note(one) }
    this.#quiet = new Fetcher(quiet, leaderId)
    this.#busy = new Fetcher(busy, leaderId)
  }

  get isIdle(): boolean {
    return this.#quiet.size === 0 && this.#busy.size === 0
  }

  add(partition: Partition, follower: FollowerLog): void {
    this.remove(partition)
    this.#quiet.add(partition, follower)
  }

  remove(partition: Partition): void {
    this.#recordsAtMs.delete(partition)
    this.#quiet.remove(partition)
    this.#busy.remove(partition)
  }

  /** A partition may be fetched again. */
  wake(): void {
    this.#quiet.wake()
    this.#busy.wake()
  }

  stop(): void {
    this.#timer?.cancel()
    this.#quiet.stop()
    this.#busy.stop()
  }

  #promote(partition: Partition): void {
    const { follower } = partition
    if (follower === undefined) return
    this.#quiet.remove(partition)
    this.#busy.add(partition, follower)
    this.#note(partition)
    this.#lookLater()
  }

  #note(partition: Partition): void {
    this.#recordsAtMs.set(partition, this.#time.monotonicMs())
  }

  #lookLater(): void {
    this.#timer ??= this.#time.setTimer(QUIET_MS, () => {
      this.#timer = undefined
      this.#demote()
      if (this.#recordsAtMs.size > 0) this.#lookLater()
    })
  }

  #demote(): void {
    const quietSinceMs = this.#time.monotonicMs() - QUIET_MS
    for (const [partition, recordsAtMs] of this.#recordsAtMs) {
      const { follower } = partition
      if (recordsAtMs > quietSinceMs || follower === undefined) continue
      if (this.#busy.isTaking(partition)) continue
      this.#recordsAtMs.delete(partition)
      this.#busy.remove(partition)
      this.#quiet.add(partition, follower)
    }
  }
}
