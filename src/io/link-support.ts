/** What links of all transports share: their ids and the accounting of queued bytes. */

let lastLinkId = 0

/** Unique within the process, as the Link port asks; the one counter that no instance can own. */
export function nextLinkId(): number {
  lastLinkId += 1
  return lastLinkId
}

/** Below this a queue never reports a drain: nobody slows down for so little. */
export const DRAIN_PEAK_BYTES = 1024 * 1024

/** Counts queued bytes and says when onDrain is due: at half of the highest mark, if that was above 1 MiB. */
export class QueueMeter {
  private queued = 0
  private peak = 0

  get bytes(): number {
    return this.queued
  }

  add(count: number): void {
    this.queued += count
    if (this.queued > this.peak) this.peak = this.queued
  }

  /** @returns whether onDrain is due now */
  remove(count: number): boolean {
    return this.settle(this.queued - count)
  }

  /** As remove, told what is left. */
  settle(left: number): boolean {
    this.queued = left
    if (this.peak <= DRAIN_PEAK_BYTES) {
      if (left === 0) this.peak = 0
      return false
    }
    if (left > this.peak / 2) return false
    this.peak = left
    return true
  }
}

export function framesBytes(frames: readonly Uint8Array[]): number {
  let sum = 0
  for (const frame of frames) sum += frame.length
  return sum
}
