/**
 * Progress on standard error: redrawn on a terminal once a run lasts over half a second, a line every ten seconds with
 * `--progress always`, and at once on SIGUSR1 (commands.md, section 1).
 */

import type { Timer } from '../src/ports/time.ts'
import { formatDuration, formatSize } from '../src/text/units.ts'
import type { CommandDeps } from './deps.ts'
import type { Flags } from './flags.ts'
import type { Report } from './report.ts'

const FIRST_MS = 500
const REDRAW_MS = 200
const LINE_MS = 10_000

export interface ProgressOptions {
  readonly report: Report
  /** Done part, 0 to 1; undefined where the end is not known. */
  readonly fraction?: () => number | undefined
  /** What is being done, where a command does several things. */
  readonly label?: string
  /** Nothing is drawn where records are printed on the same terminal. */
  readonly sharesTerminal?: boolean
}

export class Progress {
  readonly #deps: CommandDeps
  readonly #options: ProgressOptions
  readonly #isDrawn: boolean
  readonly #stopSignal: () => void
  #timer: Timer | undefined
  #hasLine = false

  constructor(deps: CommandDeps, flags: Flags, options: ProgressOptions) {
    this.#deps = deps
    this.#options = options
    const when = flags.text('progress') ?? 'auto'
    const isQuiet = deps.console.isQuiet || options.sharesTerminal === true
    this.#isDrawn = when !== 'never' && !isQuiet && deps.console.isTerminal
    const stops = (['SIGUSR1', 'SIGINFO'] as const).map((signal) =>
      deps.host.onSignal(signal, () => this.#print()),
    )
    this.#stopSignal = () => {
      for (const stop of stops) stop()
    }
    if (this.#isDrawn) this.#schedule(FIRST_MS, () => this.#redraw())
    else if (when === 'always' && !deps.console.isQuiet) {
      this.#schedule(LINE_MS, () => {
        this.#print()
        this.#repeat()
      })
    }
  }

  /** Takes the drawn line away. */
  end(): void {
    this.#timer?.cancel()
    this.#timer = undefined
    this.#stopSignal()
    this.clear()
  }

  /** Before anything else is printed on standard error. */
  clear(): void {
    if (!this.#hasLine) return
    this.#hasLine = false
    this.#deps.console.print('\r\x1b[K')
  }

  #repeat(): void {
    this.#schedule(LINE_MS, () => {
      this.#print()
      this.#repeat()
    })
  }

  #redraw(): void {
    // A longer line would wrap, and only its last part would be taken away again.
    const columns = this.#deps.host.columns('error') ?? 80
    this.#deps.console.print(`\r\x1b[K${this.#line().slice(0, columns - 1)}`)
    this.#hasLine = true
    this.#schedule(REDRAW_MS, () => this.#redraw())
  }

  #schedule(delayMs: number, callback: () => void): void {
    this.#timer = this.#deps.time.setTimer(delayMs, callback)
  }

  #print(): void {
    this.clear()
    this.#deps.console.print(`stream: ${this.#line()}\n`)
  }

  #line(): string {
    const { report, fraction, label } = this.#options
    const seconds = Math.max(report.elapsedMs, 1) / 1000
    const parts = [
      ...(label === undefined ? [] : [label]),
      `${report.records} records`,
      formatSize(report.bytes),
      `${Math.round(report.records / seconds)}/s`,
    ]
    const done = fraction?.()
    if (done !== undefined && done > 0) {
      const share = Math.min(done, 1)
      parts.push(`${Math.floor(share * 100)}%`)
      const leftSeconds = Math.ceil((seconds * (1 - share)) / share)
      if (leftSeconds > 0) parts.push(`${formatDuration(leftSeconds * 1000)} left`)
    }
    return parts.join('  ')
  }
}
