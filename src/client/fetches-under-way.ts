/**
 * The Fetch requests of a consumer that are under way, by broker: one for all its partitions, or a second one beside one that
 * waits for new records, for partitions that have come to that broker meanwhile (their leader has moved, or they were assigned,
 * sought or resumed): they shall not wait for the wait of others.
 */
import type { Part } from './consumer-part.ts'

export interface Fetch {
  readonly nodeId: number
  /** It waits for others' records: a second one may go beside it. */
  readonly isQuiet: boolean
  /** Its topics are named by id, not by name. */
  readonly isById: boolean
  readonly asked: readonly Asked[]
}

/** A partition in a Fetch, as it was when that left. */
export interface Asked {
  readonly part: Part
  readonly generation: number
  readonly offset: number
  readonly isFirst: boolean
  readonly wasEndWritten: boolean
  /** Asked of a follower. */
  readonly isNearest: boolean
}

export class FetchesUnderWay {
  readonly #ofNode = new Map<number, readonly Fetch[]>()
  /** The last Fetch that asks for a partition, while its answer has a meaning. */
  readonly #ofPart = new Map<Part, Fetch>()

  /** Whether this broker may be asked for this partition now. */
  mayAsk(nodeId: number, part: Part): boolean {
    const fetches = this.#ofNode.get(nodeId)
    if (fetches === undefined) return true
    const mayGoBeside = fetches.length < 2 && fetches[0]?.isQuiet === true
    return mayGoBeside && this.#ofPart.get(part)?.nodeId !== nodeId
  }

  begin(fetch: Fetch): void {
    for (const { part } of fetch.asked) this.#ofPart.set(part, fetch)
    this.#ofNode.set(fetch.nodeId, [...(this.#ofNode.get(fetch.nodeId) ?? []), fetch])
  }

  finish(fetch: Fetch): void {
    for (const { part } of fetch.asked)
      if (this.#ofPart.get(part) === fetch) this.#ofPart.delete(part)
    const others = this.#ofNode.get(fetch.nodeId)?.filter((other) => other !== fetch) ?? []
    if (others.length === 0) this.#ofNode.delete(fetch.nodeId)
    else this.#ofNode.set(fetch.nodeId, others)
  }

  /** What is under way for a partition has lost its meaning. */
  forget(part: Part): void {
    this.#ofPart.delete(part)
  }
}
