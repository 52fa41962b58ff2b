/**
 * A partition that takes nothing for a while: its records may go on being sent until the delivery timeout, minutes from now, and
 * nobody should wait in the dark for so long.
 */
import type { StreamError } from '../base/errors.ts'
import type { Time } from '../ports/time.ts'
import type { Cluster } from './cluster.ts'
import type { Lane } from './producer-lane.ts'

/** A moment's refusal, while a leader moves, is nobody's concern. */
const TOLD_AFTER_MS = 5000

export class RefusalNotices {
  readonly #time: Time
  readonly #cluster: Cluster

  constructor(time: Time, cluster: Cluster) {
    this.#time = time
    this.#cluster = cluster
  }

  onRefused(lane: Lane, error: StreamError): void {
    const { topic, partition } = lane
    const nowMs = this.#time.monotonicMs()
    lane.refusedSinceMs ??= nowMs
    const forMs = nowMs - lane.refusedSinceMs
    if (lane.isRefusalTold || forMs < TOLD_AFTER_MS) return
    lane.isRefusalTold = true
    this.#cluster.warn({ kind: 'refused', partition: { topic, partition }, error, forMs })
  }

  onTaken(lane: Lane): void {
    if (lane.refusedSinceMs === undefined) return
    const { topic, partition } = lane
    const forMs = this.#time.monotonicMs() - lane.refusedSinceMs
    if (lane.isRefusalTold)
      this.#cluster.warn({ kind: 'taken', partition: { topic, partition }, forMs })
    lane.refusedSinceMs = undefined
    lane.isRefusalTold = false
  }
}
