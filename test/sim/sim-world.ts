/**
 * One simulated run: virtual time, one event queue ordered by (time, sequence), one seed, one trace.
 *
 * Between two events all promise jobs are drained, so that a run has exactly one order. Events must start no real I/O and no real
 * timers. The trace hash covers every event with its time and label, and what `note` adds; equal seeds give equal hashes.
 */
import { SimRandom } from './sim-random.ts'

export interface SimEvent {
  readonly atMs: number
  cancel(): void
}

export interface RunLimits {
  /** Stops before the first event later than this. */
  readonly untilMs?: number
  /** Stops after the event that makes it true. */
  readonly until?: () => boolean
  readonly eventsMax?: number
}

class Scheduled implements SimEvent {
  readonly atMs: number
  readonly sequence: number
  readonly label: string
  run: (() => void) | undefined

  constructor(atMs: number, sequence: number, label: string, run: () => void) {
    this.atMs = atMs
    this.sequence = sequence
    this.label = label
    this.run = run
  }

  cancel(): void {
    this.run = undefined
  }
}

interface Running {
  readonly limits: RunLimits
  readonly eventsMax: number
  resolve(): void
  reject(error: unknown): void
}

const EVENTS_MAX = 1_000_000
const moment = new Float64Array(1)
const momentWords = new Int32Array(moment.buffer)
const TURNS_QUEUED = 64

export class SimWorld {
  readonly seed: number | string
  readonly random: SimRandom
  /** Events run so far. */
  eventCount = 0
  private nowMs = 0
  private sequence = 0
  private readonly heap: Scheduled[] = []
  private hash = 0xcbf29ce4
  private hashHigh = 0x84222325
  private readonly traceLines: string[] | undefined
  /** Almost always one; a test may run the world while another part of it waits for something. */
  private runs: readonly Running[] = []
  private turnsQueued = 0
  private turnCount = 0

  /** @param keepsTrace  keeps every traced line for a failure's sake (`trace`) */
  constructor(seed: number | string, keepsTrace = false) {
    this.seed = seed
    this.random = new SimRandom(seed)
    this.traceLines = keepsTrace ? [] : undefined
  }

  /** Virtual milliseconds since the run began. */
  get now(): number {
    return this.nowMs
  }

  get traceHash(): string {
    const part = (word: number): string => (word >>> 0).toString(16).padStart(8, '0')
    return part(this.hash) + part(this.hashHigh)
  }

  get trace(): readonly string[] {
    return this.traceLines ?? []
  }

  get pendingEvents(): number {
    return this.heap.reduce((count, event) => (event.run === undefined ? count : count + 1), 0)
  }

  schedule(delayMs: number, label: string, run: () => void): SimEvent {
    const event = new Scheduled(this.nowMs + Math.max(0, delayMs), this.sequence++, label, run)
    this.push(event)
    return event
  }

  /** Adds something that happened to the trace. */
  note(text: string): void {
    this.traceLines?.push(`${this.nowMs.toFixed(3)} ${text}`)
    for (let at = 0; at < text.length; at++) this.mix(text.charCodeAt(at))
  }

  private mix(word: number): void {
    this.hash = Math.imul(this.hash ^ word, 16777619)
    this.hashHigh = Math.imul(this.hashHigh + word, 0x5bd1e995) ^ (this.hash >>> 13)
  }

  /**
   * Runs events until a limit, or until none is left.
   * @throws Error of an event, with the seed in its message; Error when `until` is given and never came true
   */
  run(limits: RunLimits = {}): Promise<void> {
    const eventsMax = this.eventCount + (limits.eventsMax ?? EVENTS_MAX)
    return new Promise((resolve, reject) => {
      this.runs = [...this.runs, { limits, eventsMax, resolve, reject }]
      this.queueTurns()
    })
  }

  /**
   * Between two immediates of one queue all promise jobs are drained; a queue of many saves turns of the real loop. What is left of
   * them when a run is over serves the next one.
   */
  private queueTurns(): void {
    for (; this.turnsQueued < TURNS_QUEUED; this.turnsQueued += 1) setImmediate(this.turn)
  }

  private readonly turn = (): void => {
    this.turnsQueued -= 1
    // One of them a turn: promise jobs are drained between turns only, and may end the next one.
    const run = this.runs[this.turnCount++ % this.runs.length]
    if (run !== undefined) this.goOn(run)
    if (this.runs.length > 0 && this.turnsQueued === 0) this.queueTurns()
  }

  private goOn(run: Running): void {
    try {
      if (this.advance(run.limits, run.eventsMax)) return
      this.end(run)
      run.resolve()
    } catch (error) {
      this.end(run)
      run.reject(error)
    }
  }

  private end(run: Running): void {
    this.runs = this.runs.filter((other) => other !== run)
  }

  /** The next event. @returns false at a limit, or where none is left */
  private advance(limits: RunLimits, eventsMax: number): boolean {
    if (limits.until?.() === true) return false
    const event = this.pop()
    if (event === undefined) {
      if (limits.until !== undefined) throw this.failure('nothing is left to happen')
      if (limits.untilMs !== undefined) this.nowMs = Math.max(this.nowMs, limits.untilMs)
      return false
    }
    if (limits.untilMs !== undefined && event.atMs > limits.untilMs) {
      this.push(event)
      this.nowMs = Math.max(this.nowMs, limits.untilMs)
      return false
    }
    if (this.eventCount >= eventsMax) {
      this.push(event)
      throw this.failure(`no end after ${this.eventCount} events`)
    }
    this.step(event)
    return true
  }

  /** Runs the world until the promise is settled, and answers like it. */
  async settle<T>(promise: Promise<T>): Promise<T> {
    let isSettled = false
    const settled = (): void => {
      isSettled = true
    }
    promise.then(settled, settled)
    await this.run({ until: () => isSettled })
    return promise
  }

  private step(event: Scheduled): void {
    const run = event.run
    if (run === undefined) return
    event.run = undefined
    this.nowMs = event.atMs
    this.eventCount += 1
    // Every bit of the time, which costs far less than its digits.
    moment[0] = event.atMs
    this.mix(momentWords[0] as number)
    this.mix(momentWords[1] as number)
    this.note(event.label)
    try {
      run()
    } catch (error) {
      throw this.failure(`the event ${event.label} failed`, error)
    }
  }

  private failure(what: string, cause?: unknown): Error {
    const detail = cause instanceof Error ? `: ${cause.message}` : ''
    return new Error(`seed ${this.seed}, ${this.nowMs.toFixed(3)} ms: ${what}${detail}`, { cause })
  }

  private push(event: Scheduled): void {
    const heap = this.heap
    let at = heap.length
    heap.push(event)
    while (at > 0) {
      const parent = (at - 1) >> 1
      const above = heap[parent] as Scheduled
      if (!isBefore(event, above)) break
      heap[at] = above
      at = parent
    }
    heap[at] = event
  }

  private pop(): Scheduled | undefined {
    for (;;) {
      const first = this.popAny()
      if (first === undefined || first.run !== undefined) return first
    }
  }

  private popAny(): Scheduled | undefined {
    const heap = this.heap
    const first = heap[0]
    const last = heap.pop()
    if (first === undefined || last === undefined || heap.length === 0) return first
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      if (child >= heap.length) break
      const right = heap[child + 1]
      if (right !== undefined && isBefore(right, heap[child] as Scheduled)) child += 1
      const below = heap[child] as Scheduled
      if (!isBefore(below, last)) break
      heap[at] = below
      at = child
    }
    heap[at] = last
    return first
  }
}

function isBefore(left: Scheduled, right: Scheduled): boolean {
  return left.atMs < right.atMs || (left.atMs === right.atMs && left.sequence < right.sequence)
}
