/**
 * The line barrier: a child that lives on, one for each lane, and answers line k of its input by line k of its output. An
 * epoch is done when all of its lines are answered; an empty answer drops the record.
 *
 * Invariants:
 * - Output is drained while input is fed, so neither pipe can fill up for good.
 * - What a child answered is used only if it answered all of the epoch; a child that failed is never fed again.
 * - An answer that nobody asked for is a failure: from then on nobody would know which line it answers.
 */

import { StreamError } from '../src/base/errors.ts'
import type { Child, ChildEnd } from '../src/ports/children.ts'
import { sleep, type Time, type Timer } from '../src/ports/time.ts'
import { OutputBuffer } from '../src/record/output-buffer.ts'
import { formatDuration } from '../src/text/units.ts'
import type { ProducerClient } from './clients.ts'
import type { CommandDeps } from './deps.ts'
import type { AnswerReader } from './pipe-answers.ts'
import {
  childFailed,
  cureOf,
  type Environment,
  type EpochFailure,
  failedBecause,
} from './pipe-child.ts'
import type { Epoch } from './pipe-epochs.ts'
import { tellIdleEnd } from './pipe-idle-end.ts'
import type { EpochOutcome, LaneEvents, LaneRunner } from './pipe-lane.ts'
import { type LaneTools, laneEnvironment, openLaneTools, printEpoch } from './pipe-lane-tools.ts'
import type { PipePlan } from './pipe-plan.ts'
import { describeFailure, judgeEnd } from './retry-policy.ts'

const WRITE_BYTES = 64 * 1024
/** Between the end of a child's output and its own. */
const EXIT_MS = 250
const QUIET_MS = 1

export interface LineOptions {
  readonly environment: Environment
  /** Undefined: a sink. */
  readonly answers: AnswerReader | undefined
  readonly events: Pick<LaneEvents, 'onFailed' | 'onIdleEnd'>
}

export class LineRunner implements LaneRunner {
  readonly #tools: LaneTools
  readonly #options: LineOptions
  readonly #lanes = new Map<number, LineChild>()
  readonly #running = new Map<Epoch, LineChild>()

  private constructor(tools: LaneTools, options: LineOptions) {
    this.#tools = tools
    this.#options = options
  }

  static async open(deps: CommandDeps, plan: PipePlan, options: LineOptions): Promise<LineRunner> {
    return new LineRunner(await openLaneTools(deps, plan), options)
  }

  async run(epoch: Epoch, lane: number, fence: number): Promise<EpochOutcome> {
    const input = printEpoch(this.#tools, epoch)
    if (!(input instanceof Uint8Array)) return { kind: 'failed', failure: input }
    const child = this.#childOf(lane, fence, epoch)
    this.#running.set(epoch, child)
    try {
      const answers = await child.ask(input, epoch.records)
      if (!(answers instanceof Uint8Array)) {
        this.#lanes.delete(lane)
        return answers === undefined ? { kind: 'stopped' } : { kind: 'failed', failure: answers }
      }
      return this.#made(epoch, answers)
    } finally {
      this.#running.delete(epoch)
    }
  }

  stop(epoch: Epoch): void {
    this.#running.get(epoch)?.stop()
  }

  async close(): Promise<void> {
    const said = await Promise.all([...this.#lanes.values()].map((child) => child.finish()))
    this.#lanes.clear()
    for (const failure of said) {
      if (failure === undefined) continue
      this.#options.events.onFailed(childFailed(this.#tools.plan, failure, ''))
    }
  }

  #childOf(lane: number, fence: number, epoch: Epoch): LineChild {
    const known = this.#lanes.get(lane)
    // What it said unasked is told by the next epoch.
    if (known !== undefined && (known.isUsable || known.hasFailed)) return known
    const { words, graceMs } = this.#tools.plan
    const child = this.#tools.children.start({
      words,
      environment: laneEnvironment(this.#options.environment, lane, epoch, fence),
      input: 'pipe',
      output: 'pipe',
      graceMs,
    })
    const { events } = this.#options
    const made = new LineChild(this.#tools.deps.time, this.#tools.plan, child, events)
    this.#lanes.set(lane, made)
    return made
  }

  async #made(epoch: Epoch, lines: Uint8Array): Promise<EpochOutcome> {
    const { answers } = this.#options
    if (answers === undefined) return { kind: 'done' }
    try {
      answers.check(epoch, lines)
    } catch (error) {
      if (!(error instanceof StreamError)) throw error
      const words = `answered what makes no record: ${error.message}`
      return { kind: 'failed', failure: failedBecause(words, cureOf(error, this.#tools.plan)) }
    }
    return {
      kind: 'done',
      append: (producer: ProducerClient) => answers.append(producer, epoch, lines),
    }
  }
}

/** One child, asked one epoch at a time. */
class LineChild {
  readonly #time: Time
  readonly #plan: PipePlan
  readonly #child: Child
  readonly #ended: Promise<void>
  readonly #answers = new OutputBuffer(WRITE_BYTES)
  /** Lines that are owed, and those that came. */
  #wanted = 0
  #seen = 0
  /** Up to here the answers were looked through. */
  #scannedAt = 0
  #failure: EpochFailure | undefined
  #end: ChildEnd | undefined
  #isStopped = false
  #resolve: () => void = () => undefined
  #timer: Timer | undefined

  constructor(time: Time, plan: PipePlan, child: Child, events: LineOptions['events']) {
    this.#time = time
    this.#plan = plan
    this.#child = child
    const reading = this.#readAll()
    this.#ended = child.ended.then(async (end) => {
      await reading
      this.#end = end
      const isIdle = this.#seen >= this.#wanted && this.#failure === undefined && !this.#isStopped
      if (isIdle) tellIdleEnd(end, plan, events)
      this.#resolve()
    })
  }

  get isUsable(): boolean {
    return this.#failure === undefined && this.#end === undefined && !this.#isStopped
  }

  get hasFailed(): boolean {
    return this.#failure !== undefined
  }

  /** @returns the lines that answer the input; why there are none; undefined: it was stopped */
  async ask(input: Uint8Array, records: number): Promise<Uint8Array | EpochFailure | undefined> {
    this.#wanted = records
    this.#seen = 0
    const done = new Promise<void>((resolve) => {
      this.#resolve = resolve
    })
    this.#restartTimer()
    const writing = this.#write(input)
    if (this.#failure === undefined && this.#end === undefined) await done
    this.#timer?.cancel()
    if (this.#seen === records && this.#failure === undefined) {
      const answers = Uint8Array.from(this.#answers.filled())
      this.#answers.clear()
      this.#scannedAt = 0
      this.#wanted = 0
      // All was answered, so all was taken; or the child is odd, and has more to say.
      await writing
      await this.#quiet()
      if (this.#failure === undefined) return answers
    }
    this.#child.stop()
    await this.#child.ended
    await writing
    if (this.#isStopped) return undefined
    return this.#failure ?? this.#judgeEnd(records)
  }

  /** A child that answers too much is in the middle of it when the count is full: what it says now is still in time. */
  async #quiet(): Promise<void> {
    // Two timers, since one may be due before what has arrived is read.
    await sleep(this.#time, QUIET_MS)
    await sleep(this.#time, QUIET_MS)
  }

  stop(): void {
    this.#isStopped = true
    this.#child.stop()
    this.#resolve()
  }

  /** It sees the end of its input, and has the grace. @returns what it said then that is no answer */
  async finish(): Promise<EpochFailure | undefined> {
    const failure = this.#failure
    this.#child.input?.end()
    const timer = this.#time.setTimer(this.#plan.graceMs, () => this.#child.stop())
    await this.#ended
    timer.cancel()
    // One that had failed before was told.
    return failure === undefined ? this.#failure : undefined
  }

  async #write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length && this.isUsable; at += WRITE_BYTES) {
      const isTaken = await this.#child.input?.write(bytes.subarray(at, at + WRITE_BYTES))
      if (isTaken !== true) return
    }
  }

  async #readAll(): Promise<void> {
    const { output } = this.#child
    for (let chunk = await output?.read(); chunk !== undefined; chunk = await output?.read()) {
      if (this.#failure !== undefined || this.#isStopped) continue
      if (this.#wanted === this.#seen) {
        this.#refuse()
        continue
      }
      this.#answers.append(chunk)
      this.#count()
    }
    if (this.#wanted <= this.#seen) return
    // Its end is heard a moment after that of its output, and says more. One that lives on will never answer.
    const timer = this.#time.setTimer(EXIT_MS, () => this.#child.stop())
    await this.#child.ended
    timer.cancel()
  }

  #count(): void {
    const { delimiter } = this.#plan
    const bytes = Buffer.from(this.#answers.bytes.buffer, this.#answers.bytes.byteOffset)
    const before = this.#seen
    while (this.#seen < this.#wanted) {
      const found = bytes.indexOf(delimiter, this.#scannedAt)
      if (found < 0 || found + delimiter.length > this.#answers.length) break
      this.#seen += 1
      this.#scannedAt = found + delimiter.length
    }
    if (this.#seen > before) this.#restartTimer()
    if (this.#seen < this.#wanted) return
    if (this.#scannedAt < this.#answers.length) this.#refuse()
    this.#resolve()
  }

  #refuse(): void {
    const words = 'answered more lines than it was given'
    const cure = 'line wants one line for each line; for any number: --barrier exit'
    this.#failure = failedBecause(words, cure, { verdict: 'stop' })
    this.#resolve()
  }

  #restartTimer(): void {
    this.#timer?.cancel()
    this.#timer = this.#time.setTimer(this.#plan.stallMs, () => {
      const words = `no answer for ${formatDuration(this.#plan.stallMs)}, after ${this.#seen} of ${this.#wanted} lines: it buffers its output, or leaves lines out (an empty line drops one)`
      const cure =
        '--barrier exit; or unbuffered: jq --unbuffered, grep --line-buffered, mawk -W interactive, python -u, stdbuf -oL; or more time: --stall DUR'
      this.#failure = failedBecause(words, cure, { verdict: 'stop' })
      this.#resolve()
    })
  }

  #judgeEnd(records: number): EpochFailure {
    const end = this.#end as ChildEnd
    const exit = end.exit === undefined ? (end.signal ?? '') : String(end.exit)
    const facts = { exit, stderr: end.errorTail }
    const verdict = judgeEnd(end, this.#plan.success)
    const answered = `after ${this.#seen} of ${records} lines`
    if (verdict === 'stop')
      return failedBecause(describeFailure(end), undefined, { ...facts, verdict })
    if (end.stopped === 'asked') {
      return failedBecause(
        `closed its output ${answered}`,
        'line wants a line for each line',
        facts,
      )
    }
    if (verdict === 'done') {
      const cure = 'line wants a child that lives on; for one run over each epoch: --barrier exit'
      return failedBecause(`exited ${answered}`, cure, facts)
    }
    return failedBecause(`${describeFailure(end)}, ${answered}`, undefined, { ...facts, verdict })
  }
}
