/**
 * One replica's log: for each offset the identity of its record and the leader epoch it was written in. What is on stable storage
 * (`stable`, the truth) is kept apart from what the replica says about it (`durable`), so that a rule about the second can be wrong.
 * The epoch cache of the design is derived from the records.
 */

/** Offsets of one walk stay below this. */
export const LOG_MAX = 56

export class ModelLog {
  readonly ids = new Int32Array(LOG_MAX)
  readonly epochs = new Int32Array(LOG_MAX)
  /** logStartOffset */
  start = 0
  /** Log end offset, exclusive. */
  end = 0
  /** What the replica believes to be on stable storage, exclusive. */
  durable = 0
  /** What really is, exclusive. */
  stable = 0
  highWatermark = 0
  /** End that the fdatasync under way covers; -1: none. */
  syncing = -1
  /** The truth about it: lowered by a truncation under way. */
  syncingTruly = -1

  clear(): void {
    this.startAt(0)
  }

  /** Drops everything and begins at `offset`. */
  startAt(offset: number): void {
    this.start = offset
    this.end = offset
    this.durable = offset
    this.stable = offset
    this.highWatermark = offset
    this.syncing = -1
    this.syncingTruly = -1
  }

  idAt(offset: number): number {
    return this.ids[offset] ?? 0
  }

  epochAt(offset: number): number {
    return this.epochs[offset] ?? 0
  }

  /** -1: the log is empty. */
  lastEpoch(): number {
    return this.end > this.start ? this.epochAt(this.end - 1) : -1
  }

  append(id: number, epoch: number): void {
    this.ids[this.end] = id
    this.epochs[this.end] = epoch
    this.end += 1
  }

  beginSync(): void {
    this.syncing = this.end
    this.syncingTruly = this.end
  }

  endSync(): void {
    this.durable = Math.max(this.durable, Math.min(this.syncing, this.end))
    this.stable = Math.max(this.stable, this.syncingTruly)
    this.syncing = -1
    this.syncingTruly = -1
  }

  syncAll(): void {
    this.syncing = -1
    this.syncingTruly = -1
    this.durable = this.end
    this.stable = this.end
  }

  /** Cuts to `cut`. `lowersDurable` and `cancelsSync` are the two rules of section 7.1, which a mutation leaves out. */
  truncate(cut: number, lowersDurable: boolean, cancelsSync: boolean): void {
    if (cut >= this.end) return
    this.end = cut
    this.stable = Math.min(this.stable, cut)
    this.syncingTruly = Math.min(this.syncingTruly, cut)
    if (lowersDurable) this.durable = Math.min(this.durable, cut)
    if (cancelsSync) {
      this.syncing = -1
      this.syncingTruly = -1
    }
    this.highWatermark = Math.min(this.highWatermark, cut)
  }

  /** What a crash leaves: the first `kept` offsets. The recovery scan ends with a sync. */
  crashTo(kept: number): void {
    this.end = kept
    this.start = Math.min(this.start, kept)
    this.highWatermark = Math.min(this.highWatermark, kept)
    this.syncAll()
  }

  /** End of the records with an epoch ≤ `epoch` (section 2.5): the first record of a later one, or the log end. */
  endOf(epoch: number): number {
    let at = this.end
    while (at > this.start && this.epochAt(at - 1) > epoch) at -= 1
    return at
  }

  /** Largest epoch ≤ `epoch` of which the log holds a record; -1: none. */
  floorOf(epoch: number): number {
    const at = this.endOf(epoch)
    return at > this.start ? this.epochAt(at - 1) : -1
  }
}
