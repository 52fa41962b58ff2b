/**
 * A partition that takes nothing for a while, or a coordinator that refuses: it goes on being asked until a timeout, minutes from
 * now, and nobody should wait in the dark for so long.
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

/** Of what one coordinator is asked: a group, or a transactional id. Once told, it is told too when it answers again. */
export class CoordinatorNotices {
  readonly #time: Time
  readonly #cluster: Cluster
  /** Names it to people. */
  readonly #target: string
  #refusedSinceMs: number | undefined
  #isTold = false

  constructor(time: Time, cluster: Cluster, target: string) {
    this.#time = time
    this.#cluster = cluster
    this.#target = target
  }

  onRefused(error: StreamError): void {
    const nowMs = this.#time.monotonicMs()
    this.#refusedSinceMs ??= nowMs
    const forMs = nowMs - this.#refusedSinceMs
    if (this.#isTold || forMs < TOLD_AFTER_MS) return
    this.#isTold = true
    this.#cluster.warn({ kind: 'unanswered', target: this.#target, error, forMs })
  }

  onAnswered(): void {
    if (this.#refusedSinceMs === undefined) return
    const forMs = this.#time.monotonicMs() - this.#refusedSinceMs
    if (this.#isTold) this.#cluster.warn({ kind: 'answered', target: this.#target, forMs })
    this.#refusedSinceMs = undefined
    this.#isTold = false
  }
}
