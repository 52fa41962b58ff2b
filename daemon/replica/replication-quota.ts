/**
 * The limit on copying replicas (KIP-73), one for what this broker sends as a leader and one for what it takes as a
 * follower: bytes a second over all partitions that are limited.
 *
 * Invariants:
 * - What has passed is counted whatever it was; a partition is held back only while its replica is out of sync, so that no
 *   limit ever throws a replica out of sync.
 * - A second's worth may pass at once. One answer may exceed what is left; the next one then waits for it.
 */

import type { Time } from '../../src/ports/time.ts'

export class ReplicationQuota {
  readonly #time: Time
  readonly #bytesPerSecond: () => number
  #left = 0
  #atMs: number
  #rate = Number.POSITIVE_INFINITY

  /** @param bytesPerSecond  the limit in force; Infinity: none */
  constructor(time: Time, bytesPerSecond: () => number) {
    this.#time = time
    this.#bytesPerSecond = bytesPerSecond
    this.#atMs = time.monotonicMs()
  }

  /** How many bytes may pass now; none while it is zero or less. */
  get bytesLeft(): number {
    this.#fill()
    return this.#rate === Number.POSITIVE_INFINITY ? this.#rate : Math.floor(this.#left)
  }

  /** Until some of it may pass again: a tenth of a second's worth, so that answers do not get tiny. */
  get pauseMs(): number {
    this.#fill()
    if (this.#rate === Number.POSITIVE_INFINITY) return 0
    return Math.max(1, Math.ceil(((this.#rate / 10 - this.#left) / this.#rate) * 1000))
  }

  record(bytes: number): void {
    this.#fill()
    this.#left -= bytes
  }

  #fill(): void {
    const nowMs = this.#time.monotonicMs()
    const rate = this.#bytesPerSecond()
    if (rate !== this.#rate) {
      this.#rate = rate
      this.#left = rate
    }
    const passed = (this.#rate * (nowMs - this.#atMs)) / 1000
    this.#left = Math.min(this.#rate, this.#left + (Number.isNaN(passed) ? 0 : passed))
    this.#atMs = nowMs
  }
}

/** Whether a list of `partition:broker`, or `*`, names this replica. */
export function isListed(list: readonly string[], partition: number, nodeId: number): boolean {
  if (list.length === 0) return false
  return list.includes('*') || list.includes(`${partition}:${nodeId}`)
}
