/** The clock of one simulated process: it can be set wrong, drift, and end with its process. */
import type { Time, Timer } from '../../src/ports/time.ts'
import type { SimEvent, SimWorld } from './sim-world.ts'

export interface SimTimeOptions {
  /** What the wall clock shows when the run begins. */
  readonly wallStartMs?: number
  /** How fast this clock runs: 1.05 gains 5 %. */
  readonly rate?: number
  /** Appears in the trace. */
  readonly name?: string
}

const TICK_MS = 0.001
const WALL_START_MS = 1_790_000_000_000

interface Running {
  event: SimEvent
  fire(): void
}

export class SimTime implements Time {
  private readonly world: SimWorld
  private readonly name: string
  private readonly rate: number
  private readonly timers = new Set<Running>()
  private wallOffsetMs: number
  private isHalted = false
  /** World time in which this clock stood still, in ms. */
  private lostMs = 0
  private frozenSinceMs: number | undefined

  constructor(world: SimWorld, options: SimTimeOptions = {}) {
    this.world = world
    this.name = options.name ?? 'time'
    this.rate = options.rate ?? 1
    this.wallOffsetMs = options.wallStartMs ?? WALL_START_MS
  }

  wallMs(): number {
    return Math.floor(this.wallOffsetMs + this.world.now * this.rate)
  }

  monotonicMs(): number {
    return ((this.frozenSinceMs ?? this.world.now) - this.lostMs) * this.rate
  }

  setTimer(delayMs: number, callback: () => void): Timer {
    if (this.isHalted) return { cancel: () => undefined }
    const timer: Running = {
      event: this.world.schedule(longer(delayMs) / this.rate, `${this.name}.timer`, () =>
        timer.fire(),
      ),
      fire: () => {
        this.timers.delete(timer)
        callback()
      },
    }
    this.timers.add(timer)
    return {
      cancel: () => {
        timer.event.cancel()
        this.timers.delete(timer)
      },
    }
  }

  /** The machine is frozen: its monotonic clock and its timers stand still until `thaw`; the wall clock is set on afterwards. */
  freeze(): void {
    this.frozenSinceMs ??= this.world.now
    for (const { event } of this.timers) event.cancel()
  }

  thaw(): void {
    if (this.frozenSinceMs === undefined) return
    const frozenMs = this.world.now - this.frozenSinceMs
    this.frozenSinceMs = undefined
    this.lostMs += frozenMs
    for (const timer of this.timers) {
      const leftMs = timer.event.atMs + frozenMs - this.world.now
      timer.event = this.world.schedule(leftMs, `${this.name}.timer`, () => timer.fire())
    }
  }

  /** Fault C1: somebody sets the clock. Monotonic time does not move. */
  jumpWall(deltaMs: number): void {
    this.world.note(`${this.name}.jump ${deltaMs}`)
    this.wallOffsetMs += deltaMs
  }

  /** The process has ended: no timer of it fires any more, and none can be set. */
  halt(): void {
    this.isHalted = true
    for (const { event } of this.timers) event.cancel()
    this.timers.clear()
  }
}

/** A rest that is lost in rounding would not bring the clock on: no real timer is as fine. */
function longer(delayMs: number): number {
  return delayMs > 0 ? Math.max(delayMs, TICK_MS) : 0
}
