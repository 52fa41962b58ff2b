/**
 * The ack barrier: a long-lived child in each lane is fed, and says itself which of its lines are done. Here the lanes; one
 * child and its accounts in pipe-ack-child.ts.
 */

import { isStreamError } from '../src/base/errors.ts'
import type { Children } from '../src/ports/children.ts'
import { OutputBuffer } from '../src/record/output-buffer.ts'
import type { CommandDeps } from './deps.ts'
import { AckChild, type AckChildOptions } from './pipe-ack-child.ts'
import { type Environment, failedBecause } from './pipe-child.ts'
import type { Epoch } from './pipe-epochs.ts'
import type { EpochOutcome, LaneRunner } from './pipe-lane.ts'
import type { PipePlan } from './pipe-plan.ts'
import { PiecePrinter } from './pipe-printer.ts'

const BUFFER_BYTES = 64 * 1024

export interface AckOptions extends AckChildOptions {
  readonly environment: Environment
}

export class AckRunner implements LaneRunner {
  readonly #deps: CommandDeps
  readonly #plan: PipePlan
  readonly #options: AckOptions
  readonly #children: Children
  readonly #printer: PiecePrinter
  readonly #lanes = new Map<number, AckChild>()
  readonly #running = new Map<Epoch, AckChild>()
  #isDraining = false

  private constructor(
    deps: CommandDeps,
    plan: PipePlan,
    options: AckOptions,
    printer: PiecePrinter,
  ) {
    this.#deps = deps
    this.#plan = plan
    this.#options = options
    this.#children = deps.openChildren()
    this.#printer = printer
  }

  static async open(deps: CommandDeps, plan: PipePlan, options: AckOptions): Promise<AckRunner> {
    const printer = await PiecePrinter.open(plan.childIn, plan.delimiter)
    return new AckRunner(deps, plan, options, printer)
  }

  async run(epoch: Epoch, lane: number, fence: number): Promise<EpochOutcome> {
    const input = new OutputBuffer(BUFFER_BYTES)
    try {
      for (const piece of epoch.pieces) {
        this.#printer.print(piece, epoch.topic, epoch.partition, input)
      }
    } catch (error) {
      if (!isStreamError(error, 'RECORD_INVALID')) throw error
      const failure = failedBecause(error.message, error.hint, { isCertain: true })
      return { kind: 'failed', failure }
    }
    this.#isDraining = false
    const child = await this.#childOf(lane, fence, epoch)
    this.#running.set(epoch, child)
    try {
      return await child.feed(epoch, (pieces) => {
        if (pieces === epoch.pieces) return input.filled()
        const rest = new OutputBuffer(BUFFER_BYTES)
        for (const piece of pieces) this.#printer.print(piece, epoch.topic, epoch.partition, rest)
        return rest.filled()
      })
    } finally {
      this.#running.delete(epoch)
    }
  }

  stop(epoch: Epoch): void {
    this.#running.get(epoch)?.stop()
  }

  drain(): void {
    if (this.#isDraining) return
    this.#isDraining = true
    for (const child of this.#lanes.values()) child.drain()
  }

  revoke(topic: string, partition: number): void {
    const isOne = this.#plan.read?.topics.length === 1
    const name = isOne ? String(partition) : `${topic}/${partition}`
    for (const child of this.#lanes.values()) child.revoke(name)
  }

  async close(): Promise<void> {
    this.drain()
    await Promise.all([...this.#lanes.values()].map((child) => child.finish()))
    this.#lanes.clear()
  }

  async #childOf(lane: number, fence: number, { attempt }: Epoch): Promise<AckChild> {
    const known = this.#lanes.get(lane)
    if (known?.isUsable === true) return known
    // What an earlier one still says belongs to what it was fed.
    await known?.finish()
    const { words, graceMs, out } = this.#plan
    const { state, environment } = this.#options
    const stored = await state?.read()
    const child = this.#children.start({
      words,
      environment: {
        ...environment,
        STREAM_LANE: String(lane),
        STREAM_ATTEMPT: String(attempt),
        STREAM_FENCE: String(fence),
      },
      input: 'pipe',
      output: 'pipe',
      control: out === undefined,
      graceMs,
    })
    const made = new AckChild(this.#deps.time, this.#plan, this.#options, child, {
      lane,
      fence,
      state: stored === undefined ? null : JSON.parse(Buffer.from(stored).toString('utf8')),
    })
    this.#lanes.set(lane, made)
    return made
  }
}
