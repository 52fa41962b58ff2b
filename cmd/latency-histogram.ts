/**
 * Latencies in buckets that grow with the value: exact below 64 µs, above to within 1/32. Adding allocates nothing.
 */

const SUB_BITS = 5
const SUB_BUCKETS = 1 << SUB_BITS
/** Up to 2^36 µs, nineteen hours. */
const OCTAVES = 32

export class LatencyHistogram {
  readonly #counts = new Float64Array(SUB_BUCKETS * (OCTAVES + 1))
  #total = 0
  #maxUs = 0

  get count(): number {
    return this.#total
  }

  add(latencyMs: number, times = 1): void {
    const us = Math.max(0, Math.round(latencyMs * 1000))
    const bucket = Math.min(bucketOf(us), this.#counts.length - 1)
    this.#counts[bucket] = (this.#counts[bucket] ?? 0) + times
    this.#total += times
    if (us > this.#maxUs) this.#maxUs = us
  }

  /** @param share  0 to 1. @returns milliseconds that so large a share does not exceed; null when nothing was added */
  percentileMs(share: number): number | null {
    if (this.#total === 0) return null
    const wanted = Math.max(1, Math.ceil(share * this.#total))
    let seen = 0
    for (const [bucket, count] of this.#counts.entries()) {
      seen += count
      if (seen >= wanted) return Math.min(topOf(bucket), this.#maxUs) / 1000
    }
    return this.#maxUs / 1000
  }

  get maxMs(): number | null {
    return this.#total === 0 ? null : this.#maxUs / 1000
  }
}

function bucketOf(us: number): number {
  if (us < SUB_BUCKETS * 2) return us
  const octave = Math.floor(Math.log2(us)) - SUB_BITS
  return octave * SUB_BUCKETS + Math.floor(us / 2 ** octave)
}

/** The largest value of a bucket. */
function topOf(bucket: number): number {
  if (bucket < SUB_BUCKETS * 2) return bucket
  const octave = Math.floor(bucket / SUB_BUCKETS) - 1
  return (bucket - octave * SUB_BUCKETS + 1) * 2 ** octave - 1
}
