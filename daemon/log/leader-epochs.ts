/**
 * The leader epoch cache of one log: which epoch began at which offset (KIP-101; replication.md section 2.5). Kept in
 * `leader-epoch-checkpoint`, and rebuilt from the batches where that file is missing or bad.
 *
 * Invariant: epochs rise strictly from entry to entry, start offsets do not fall (I2).
 */
import type { EpochEnd } from './log-types.ts'
import type { EpochEntry } from './text-checkpoint.ts'

export class LeaderEpochs {
  #entries: EpochEntry[]
  /** Counts changes, so that whoever writes the file knows whether it is behind. */
  #version = 0

  constructor(entries: readonly EpochEntry[] = []) {
    this.#entries = [...entries]
  }

  get entries(): readonly EpochEntry[] {
    return this.#entries
  }

  get version(): number {
    return this.#version
  }

  get latest(): EpochEntry | undefined {
    return this.#entries.at(-1)
  }

  /** The epoch of the batch at `offset`, as far as it is known. */
  epochAt(offset: number): number | undefined {
    let found: number | undefined
    for (const entry of this.#entries) {
      if (entry.startOffset > offset) break
      found = entry.epoch
    }
    return found
  }

  /** Whether the batch at `offset` is of another epoch than the one in force there. Where none is known all are right. */
  differsAt(offset: number, epoch: number): boolean {
    const latest = this.latest
    // What is read most: the end of the log.
    if (latest !== undefined && latest.startOffset <= offset) return latest.epoch !== epoch
    return (this.epochAt(offset) ?? epoch) !== epoch
  }

  /** `epoch` begins at `startOffset`: entries with an epoch or an offset at or beyond are dead. */
  assign(epoch: number, startOffset: number): void {
    const latest = this.latest
    if (latest !== undefined && latest.epoch === epoch && latest.startOffset <= startOffset) return
    this.#entries = this.#entries.filter(
      (entry) => entry.epoch < epoch && entry.startOffset < startOffset,
    )
    this.#entries.push({ epoch, startOffset })
    this.#version++
  }

  /** The log now ends at `endOffset`. An epoch that has begun there without a batch is dead with it. */
  truncateEnd(endOffset: number): void {
    if ((this.latest?.startOffset ?? -1) < endOffset) return
    this.#entries = this.#entries.filter((entry) => entry.startOffset < endOffset)
    this.#version++
  }

  /** The log now starts at `startOffset`: the epoch in force there keeps its entry. */
  truncateStart(startOffset: number): void {
    const first = this.#entries[0]
    if (first === undefined || first.startOffset >= startOffset) return
    const inForce = this.#entries.findLastIndex((entry) => entry.startOffset <= startOffset)
    const kept = this.#entries.slice(inForce)
    const head = kept[0]
    if (head !== undefined) kept[0] = { epoch: head.epoch, startOffset }
    this.#entries = kept
    this.#version++
  }

  clear(): void {
    if (this.#entries.length === 0) return
    this.#entries = []
    this.#version++
  }

  /**
   * End of the last batch written in `epoch`, or in the latest epoch before it.
   * @returns  the epoch found and its end offset (exclusive); undefined where the log knows no epoch so late
   * Source: KIP-101, KIP-279; Kafka LeaderEpochFileCache.endOffsetFor.
   */
  endOffsetFor(epoch: number, logEndOffset: number): EpochEnd | undefined {
    const latest = this.latest
    if (latest === undefined) return undefined
    if (epoch === latest.epoch) return { epoch, endOffset: logEndOffset }
    const higher = this.#entries.find((entry) => entry.epoch > epoch)
    if (higher === undefined) return undefined
    const floor = this.#entries.findLast((entry) => entry.epoch <= epoch)
    if (floor === undefined) return { epoch, endOffset: higher.startOffset }
    return { epoch: floor.epoch, endOffset: higher.startOffset }
  }
}
