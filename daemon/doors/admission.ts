/**
 * How much work the daemon takes on at once, over all doors: requests and their bytes. Above the bound the doors stop
 * reading, and read on once half of it is done. Fetches that only wait for records do not count.
 *
 * And how much it answers: what clients have not taken yet is bounded over all connections. Little room makes answers
 * small, no room makes those wait who have some to take already; so a reader that has stopped costs others nothing but
 * the size of their answers.
 */

import type { Time, Timer } from '../../src/ports/time.ts'

const GARBAGE_BYTES = 32 * 1024 * 1024
/** libzmq cuts small messages out of blocks of this size, and each of them keeps its block. */
const MESSAGE_BYTES_MIN = 8192
/** So much one connection may always have queued, and get as an answer. */
const SHARE_BYTES_MIN = 128 * 1024
/** Of the room that is left: so a few readers that have stopped do not take all of it. */
const SHARE = 1 / 4
/** Links say when they drain only above 1 MiB, so who waits for room looks again after this. */
const LOOK_AGAIN_MS = 5

export interface AdmissionLimits {
  readonly requestsMax: number
  readonly requestBytesMax: number
  /** Of answers queued over all connections. */
  readonly queuedBytesMax: number
}

/** What has answers queued: a connection. */
export interface Queue {
  readonly queuedBytes: number
}

export class Admission {
  readonly #limits: AdmissionLimits
  readonly #time: Time
  readonly #collectGarbage: (() => void) | undefined
  readonly #valves = new Set<Valve>()
  readonly #queues = new Set<Queue>()
  /** Never below what is queued; counted anew when it looks like too much. */
  #queuedBytesAtMost = 0
  /** Promised to answers that are being made. */
  #reservedBytes = 0
  readonly #waiting = new Set<() => void>()
  #timer: Timer | undefined
  #requests = 0
  #bytes = 0
  #heldBytes = 0
  #isPaused = false
  #receivedBytes = 0

  /** @param collectGarbage  called after each 32 MiB received, which keeps received memory warm (performance.md §4) */
  constructor(time: Time, limits: AdmissionLimits, collectGarbage: (() => void) | undefined) {
    this.#time = time
    this.#limits = limits
    this.#collectGarbage = collectGarbage
  }

  get requests(): number {
    return this.#requests
  }

  get isPaused(): boolean {
    return this.#isPaused
  }

  add(valve: Valve): void {
    this.#valves.add(valve)
    if (this.#isPaused) valve.pause()
  }

  remove(valve: Valve): void {
    this.#valves.delete(valve)
  }

  addQueue(queue: Queue): void {
    this.#queues.add(queue)
  }

  removeQueue(queue: Queue): void {
    this.#queues.delete(queue)
  }

  sent(bytes: number): void {
    this.#queuedBytesAtMost += bytes
  }

  /** What one connection may have queued now, and one answer may hold. */
  get shareBytes(): number {
    return Math.max(SHARE_BYTES_MIN, this.#roomBytes() * SHARE)
  }

  #roomBytes(): number {
    const { queuedBytesMax } = this.#limits
    if (this.#queuedBytesAtMost > queuedBytesMax / 2) {
      let bytes = 0
      for (const queue of this.#queues) bytes += queue.queuedBytes
      this.#queuedBytesAtMost = bytes
    }
    return Math.max(0, queuedBytesMax - this.#queuedBytesAtMost - this.#reservedBytes)
  }

  reserve(bytes: number): void {
    this.#reservedBytes += bytes
  }

  unreserve(bytes: number): void {
    this.#reservedBytes -= bytes
  }

  /** Calls `look` once, when there may be room. Asking again is fine. */
  whenRoom(look: () => void): void {
    this.#waiting.add(look)
    this.#timer ??= this.#time.setTimer(LOOK_AGAIN_MS, () => {
      this.#timer = undefined
      const waiting = [...this.#waiting]
      this.#waiting.clear()
      for (const each of waiting) each()
    })
  }

  received(bytes: number): void {
    this.#receivedBytes += Math.max(bytes, MESSAGE_BYTES_MIN)
    if (this.#receivedBytes < GARBAGE_BYTES) return
    this.#receivedBytes = 0
    this.#collectGarbage?.()
  }

  begin(bytes: number): void {
    this.#requests += 1
    this.#bytes += bytes
    const { requestsMax, requestBytesMax } = this.#limits
    if (this.#isPaused || (this.#requests < requestsMax && this.#bytes < requestBytesMax)) return
    this.#isPaused = true
    for (const valve of this.#valves) valve.pause()
  }

  end(bytes: number): void {
    this.#requests -= 1
    this.#bytes -= bytes
    const { requestsMax, requestBytesMax } = this.#limits
    if (!this.#isPaused || this.#requests > requestsMax / 2 || this.#bytes > requestBytesMax / 2) {
      return
    }
    this.#isPaused = false
    for (const valve of this.#valves) valve.resume()
  }

  /** Requests that wait for their turn on one connection. @returns false: there is no room for more of them */
  hold(bytes: number): boolean {
    if (this.#heldBytes + bytes > this.#limits.requestBytesMax) return false
    this.#heldBytes += bytes
    return true
  }

  release(bytes: number): void {
    this.#heldBytes -= bytes
  }
}

/** What stops reading: a listener. */
export interface Valve {
  pause(): void
  resume(): void
}
