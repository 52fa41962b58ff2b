/** What a run of `pipe` learns of its child: how large an epoch should be, and whether too much of it fails. */

import type { Time } from '../src/ports/time.ts'
import type { EpochLimits } from './pipe-epochs.ts'
import type { DlqLimit } from './pipe-plan.ts'

/** Starting the child may take so much of a run. */
const START_SHARE = 0.1
const RECORDS_MAX = 1_000_000
/** Runs of a size before it is judged; the fastest counts. */
const SAMPLES = 3

/** Doubles epochs until starting the child takes under a tenth of a run: two sizes tell how much of it is the start. */
export class EpochGrowth {
  readonly #limits: EpochLimits
  #isSettled = false
  #samples = 0
  #bestMs = Number.POSITIVE_INFINITY
  /** Of the size before. */
  #before: { readonly records: number; readonly ms: number } | undefined

  constructor(limits: EpochLimits) {
    this.#limits = limits
  }

  /** A run over so many records took so long. */
  note(records: number, ms: number): void {
    const { limits } = { limits: this.#limits }
    if (this.#isSettled || records !== limits.records) return
    this.#bestMs = Math.min(this.#bestMs, ms)
    this.#samples += 1
    if (this.#samples < SAMPLES) return
    const before = this.#before
    if (before !== undefined) {
      const perRecordMs = (this.#bestMs - before.ms) / (records - before.records)
      const startMs = this.#bestMs - perRecordMs * records
      if (startMs <= this.#bestMs * START_SHARE) this.#isSettled = true
    }
    if (limits.records * 2 > RECORDS_MAX) this.#isSettled = true
    if (this.#isSettled) return
    this.#before = { records, ms: this.#bestMs }
    this.#samples = 0
    this.#bestMs = Number.POSITIVE_INFINITY
    limits.records *= 2
  }
}

/** So few dead letters are never too many. */
const DEAD_MIN = 10
const BUCKETS = 20

interface Bucket {
  readonly index: number
  records: number
  dead: number
}

/** The share of dead letters in a sliding window. */
export class DeadShare {
  readonly #time: Time
  readonly #limit: DlqLimit
  readonly #buckets: Bucket[] = []

  constructor(time: Time, limit: DlqLimit) {
    this.#time = time
    this.#limit = limit
  }

  /** Records that were tried for the first time. */
  addRecords(count: number): void {
    this.#bucket().records += count
  }

  /** @returns whether there are too many now */
  addDead(count: number): boolean {
    this.#bucket().dead += count
    let records = 0
    let dead = 0
    for (const bucket of this.#buckets) {
      records += bucket.records
      dead += bucket.dead
    }
    return dead > DEAD_MIN && dead > records * this.#limit.share
  }

  #bucket(): Bucket {
    const index = Math.floor(this.#time.monotonicMs() / (this.#limit.windowMs / BUCKETS))
    while ((this.#buckets[0]?.index ?? index) <= index - BUCKETS) this.#buckets.shift()
    const last = this.#buckets.at(-1)
    if (last?.index === index) return last
    const bucket = { index, records: 0, dead: 0 }
    this.#buckets.push(bucket)
    return bucket
  }
}
