/**
 * No barrier: a long-lived child in each lane is fed, and what it prints is sent as it comes. A position counts as done when the
 * records before it were written to the child; nothing ties output to input.
 */

import { isStreamError } from '../src/base/errors.ts'
import type { Child, ChildEnd } from '../src/ports/children.ts'
import { sleep } from '../src/ports/time.ts'
import { OutputBuffer } from '../src/record/output-buffer.ts'
import { formatDuration } from '../src/text/units.ts'
import type { CommandDeps } from './deps.ts'
import {
  childFailed,
  cureOf,
  type Environment,
  type EpochFailure,
  failedBecause,
} from './pipe-child.ts'
import type { Epoch } from './pipe-epochs.ts'
import type { EpochOutcome, LaneEvents, LaneRunner } from './pipe-lane.ts'
import { type LaneTools, laneEnvironment, openLaneTools, printEpoch } from './pipe-lane-tools.ts'
import type { PipeOutput } from './pipe-output.ts'
import type { PipePlan } from './pipe-plan.ts'
import { describeFailure, judgeEnd } from './retry-policy.ts'

const WRITE_BYTES = 64 * 1024
const ENDING_MS = 200
/** What a child printed and is not stored yet; then nothing more of it is read. */
const UNSENT_BYTES_MAX = 4 * 1024 * 1024

export interface FreeOptions {
  readonly environment: Environment
  /** Undefined: a sink. */
  readonly output: PipeOutput | undefined
  readonly events: Pick<LaneEvents, 'emit' | 'onFailed'>
}

export class FreeRunner implements LaneRunner {
  readonly #tools: LaneTools
  readonly #options: FreeOptions
  readonly #lanes = new Map<number, FreeChild>()
  readonly #running = new Map<Epoch, FreeChild>()

  private constructor(tools: LaneTools, options: FreeOptions) {
    this.#tools = tools
    this.#options = options
  }

  static async open(deps: CommandDeps, plan: PipePlan, options: FreeOptions): Promise<FreeRunner> {
    return new FreeRunner(await openLaneTools(deps, plan), options)
  }

  async run(epoch: Epoch, lane: number, fence: number): Promise<EpochOutcome> {
    const input = printEpoch(this.#tools, epoch)
    if (!(input instanceof Uint8Array)) return { kind: 'failed', failure: input }
    const child = this.#childOf(lane, fence, epoch)
    this.#running.set(epoch, child)
    try {
      const failure = await child.feed(input)
      if (failure === 'stopped') return { kind: 'stopped' }
      return failure === undefined ? { kind: 'done' } : { kind: 'failed', failure }
    } finally {
      this.#running.delete(epoch)
    }
  }

  stop(epoch: Epoch): void {
    this.#running.get(epoch)?.stop()
  }

  async close(): Promise<void> {
    await Promise.all([...this.#lanes.values()].map((child) => child.finish()))
    this.#lanes.clear()
  }

  #childOf(lane: number, fence: number, epoch: Epoch): FreeChild {
    const known = this.#lanes.get(lane)
    if (known?.isUsable === true) return known
    const { words, graceMs } = this.#tools.plan
    const child = this.#tools.children.start({
      words,
      environment: laneEnvironment(this.#options.environment, lane, epoch, fence),
      input: 'pipe',
      output: 'pipe',
      graceMs,
    })
    const made = new FreeChild(
      this.#tools.deps,
      this.#tools.plan,
      this.#options,
      child,
      epoch.partition,
    )
    this.#lanes.set(lane, made)
    return made
  }
}

class FreeChild {
  readonly #deps: CommandDeps
  readonly #plan: PipePlan
  readonly #options: FreeOptions
  readonly #child: Child
  readonly #partition: number
  readonly #reading: Promise<void>
  #end: ChildEnd | undefined
  #isStopped = false
  #unsentBytes = 0
  #wake: () => void = () => undefined

  /** @param partition  of the input that it was started for; with --same-partition that of its outputs */
  constructor(
    deps: CommandDeps,
    plan: PipePlan,
    options: FreeOptions,
    child: Child,
    partition: number,
  ) {
    this.#deps = deps
    this.#plan = plan
    this.#options = options
    this.#child = child
    this.#partition = partition
    this.#reading = this.#readAll().catch((error: unknown) => {
      options.events.onFailed(error)
      child.stop()
    })
    void child.ended.then((end) => {
      this.#end = end
      this.#wake()
    })
  }

  get isUsable(): boolean {
    return this.#end === undefined && !this.#isStopped
  }

  /** @returns undefined when all was written */
  async feed(input: Uint8Array): Promise<EpochFailure | 'stopped' | undefined> {
    const { stallMs } = this.#plan
    for (let at = 0; at < input.length; at += WRITE_BYTES) {
      let isStalled = false
      const timer = this.#deps.time.setTimer(stallMs, () => {
        isStalled = true
        this.#child.stop()
      })
      const isTaken = await this.#child.input?.write(input.subarray(at, at + WRITE_BYTES))
      timer.cancel()
      if (isTaken === true) continue
      // One that reads no more has ended, or soon will.
      await Promise.race([this.#child.ended, sleep(this.#deps.time, ENDING_MS)])
      this.#child.stop()
      const end = await this.#child.ended
      await this.#reading
      if (this.#isStopped) return 'stopped'
      if (!isStalled) return this.#judge(end)
      const words = `took nothing for ${formatDuration(stallMs)}`
      return failedBecause(words, 'allow more time: --stall DUR', { stderr: end.errorTail })
    }
    return undefined
  }

  stop(): void {
    this.#isStopped = true
    this.#child.stop()
  }

  /** It sees the end of its input, and has the grace; what it prints by then is sent. */
  async finish(): Promise<void> {
    this.#child.input?.end()
    const timer = this.#deps.time.setTimer(this.#plan.graceMs, () => this.#child.stop())
    const end = await this.#child.ended
    timer.cancel()
    await this.#reading
    if (this.#isStopped || end.stopped !== undefined) return
    const failure = this.#judge(end)
    const isFine = judgeEnd(end, this.#plan.success) === 'done'
    if (!isFine) this.#options.events.onFailed(childFailed(this.#plan, failure, ''))
  }

  async #readAll(): Promise<void> {
    const { output } = this.#child
    const { delimiter } = this.#plan
    const pending = new OutputBuffer(WRITE_BYTES)
    for (let chunk = await output?.read(); chunk !== undefined; chunk = await output?.read()) {
      if (this.#options.output === undefined) continue
      pending.append(chunk)
      const bytes = Buffer.from(pending.bytes.buffer, pending.bytes.byteOffset, pending.length)
      const found = bytes.lastIndexOf(delimiter)
      if (found < 0) continue
      const end = found + delimiter.length
      await this.#send(Uint8Array.from(bytes.subarray(0, end)))
      pending.bytes.copyWithin(0, end, pending.length)
      pending.length -= end
    }
    if (pending.length > 0) await this.#send(Uint8Array.from(pending.filled()))
  }

  async #send(bytes: Uint8Array): Promise<void> {
    const { output, events } = this.#options
    if (output === undefined) return
    const printed = {
      bytes: bytes.length,
      memory: bytes,
      open: () => undefined,
      drop: () => undefined,
    }
    try {
      await output.check(printed, this.#partition)
    } catch (error) {
      if (!isStreamError(error)) throw error
      const words = `printed what makes no record: ${error.message}`
      throw childFailed(this.#plan, failedBecause(words, cureOf(error, this.#plan)), '')
    }
    this.#unsentBytes += bytes.length
    events.emit([
      {
        epoch: undefined,
        append: (producer) => output.append(producer, printed, this.#partition),
        drop: () => {
          this.#unsentBytes -= bytes.length
          this.#wake()
        },
      },
    ])
    while (this.#unsentBytes > UNSENT_BYTES_MAX && this.isUsable) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  #judge(end: ChildEnd): EpochFailure {
    const exit = end.exit === undefined ? (end.signal ?? '') : String(end.exit)
    const facts = { exit, stderr: end.errorTail }
    const verdict = judgeEnd(end, this.#plan.success)
    if (verdict === 'done') {
      const cure = 'for one run over each epoch: --barrier exit'
      return failedBecause('exited before the end of its input', cure, facts)
    }
    return failedBecause(describeFailure(end), undefined, { ...facts, verdict })
  }
}
