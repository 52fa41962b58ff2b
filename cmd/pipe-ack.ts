/**
 * The ack barrier: a long-lived child in each lane is fed, and says itself which of its lines are done. Here the lanes; one
 * child and its accounts in pipe-ack-child.ts.
 */

import { assert } from '../src/base/assert.ts'
import type { CommandDeps } from './deps.ts'
import { AckChild, type AckChildOptions } from './pipe-ack-child.ts'
import type { Environment } from './pipe-child.ts'
import type { Epoch } from './pipe-epochs.ts'
import type { EpochOutcome, LaneRunner } from './pipe-lane.ts'
import { type LaneTools, laneEnvironment, openLaneTools, printEpoch } from './pipe-lane-tools.ts'
import type { PipePlan } from './pipe-plan.ts'

export interface AckOptions extends AckChildOptions {
  readonly environment: Environment
}

export class AckRunner implements LaneRunner {
  readonly #tools: LaneTools
  readonly #options: AckOptions
  readonly #lanes = new Map<number, AckChild>()
  readonly #running = new Map<Epoch, AckChild>()
  #isDraining = false

  private constructor(tools: LaneTools, options: AckOptions) {
    this.#tools = tools
    this.#options = options
  }

  static async open(deps: CommandDeps, plan: PipePlan, options: AckOptions): Promise<AckRunner> {
    return new AckRunner(await openLaneTools(deps, plan), options)
  }

  async run(epoch: Epoch, lane: number, fence: number): Promise<EpochOutcome> {
    const input = printEpoch(this.#tools, epoch)
    if (!(input instanceof Uint8Array)) return { kind: 'failed', failure: input }
    this.#isDraining = false
    const child = await this.#childOf(lane, fence, epoch)
    this.#running.set(epoch, child)
    try {
      return await child.feed(epoch, (pieces) => {
        const told = pieces === epoch.pieces ? input : printEpoch(this.#tools, { ...epoch, pieces })
        // It was told once.
        assert(told instanceof Uint8Array, 'what was printed once is printed again')
        return told
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
    const isOne = this.#tools.plan.read?.topics.length === 1
    const name = isOne ? String(partition) : `${topic}/${partition}`
    for (const child of this.#lanes.values()) child.revoke(name)
  }

  async close(): Promise<void> {
    this.drain()
    await Promise.all([...this.#lanes.values()].map((child) => child.finish()))
    this.#lanes.clear()
  }

  async #childOf(lane: number, fence: number, epoch: Epoch): Promise<AckChild> {
    const known = this.#lanes.get(lane)
    if (known?.isUsable === true) return known
    // What an earlier one still says belongs to what it was fed.
    await known?.finish()
    const { words, graceMs, out } = this.#tools.plan
    const { state, environment } = this.#options
    const stored = await state?.read()
    const child = this.#tools.children.start({
      words,
      environment: laneEnvironment(environment, lane, epoch, fence),
      input: 'pipe',
      output: 'pipe',
      control: out === undefined,
      graceMs,
    })
    const made = new AckChild(this.#tools.deps.time, this.#tools.plan, this.#options, child, {
      lane,
      fence,
      state: stored === undefined ? null : JSON.parse(Buffer.from(stored).toString('utf8')),
    })
    this.#lanes.set(lane, made)
    return made
  }
}
