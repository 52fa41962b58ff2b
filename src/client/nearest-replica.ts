/** Which replica a consumer fetches a partition from: its leader, or the one that the leader has named as the nearest (KIP-392). */
import type { Time } from '../ports/time.ts'
import type { Cluster } from './cluster.ts'
import type { Part } from './consumer-part.ts'

/** How long a follower is read from before the leader is asked again who is nearest. */
const NEAREST_MS = 300_000
/** How long the leader is not asked after the one it named was of no use. */
const PAUSE_MS = 10_000

export class NearestReplicas {
  readonly #time: Time
  readonly #cluster: Cluster
  readonly #rack: string | undefined

  constructor(time: Time, cluster: Cluster, rack: string | undefined) {
    this.#time = time
    this.#cluster = cluster
    this.#rack = rack
  }

  /** The nearest replica, where there is one and a connection to it; else the leader. */
  sourceOf(part: Part, leaderId: number): number {
    const { nearest } = part
    if (nearest === undefined) return leaderId
    const isOver = this.#time.monotonicMs() >= nearest.untilMs
    if (isOver || !this.#cluster.metadata.brokers.has(nearest.nodeId)) {
      part.nearest = undefined
      return leaderId
    }
    return this.#cluster.connectionTo(nearest.nodeId) === undefined ? leaderId : nearest.nodeId
  }

  /** The leader names a replica to whoever says where it stands, and sends nothing then: only who will go there says so. */
  rackFor(parts: readonly Part[]): string {
    const nowMs = this.#time.monotonicMs()
    const mayAsk = (part: Part): boolean =>
      part.nearest === undefined && part.notNearestBeforeMs <= nowMs
    return this.#rack !== undefined && parts.every(mayAsk) ? this.#rack : ''
  }

  /** The leader has named `nodeId`. */
  goTo(part: Part, nodeId: number): void {
    part.failures = 0
    if (this.#cluster.metadata.brokers.has(nodeId)) {
      part.nearest = { nodeId, untilMs: this.#time.monotonicMs() + NEAREST_MS }
    } else this.leave(part)
  }

  /** What a follower says against a position may be due to its lag: the leader decides. */
  leave(part: Part): void {
    part.nearest = undefined
    part.notNearestBeforeMs = this.#time.monotonicMs() + PAUSE_MS
    this.#cluster.requestRefresh()
  }
}
