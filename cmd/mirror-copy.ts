/**
 * A run of `stream mirror`: which topics there are, a lane for each (mirror-lane.ts), one consumer of the source for all of them.
 *
 * Whatever fails fails alone: a topic that may not be copied, a partition that cannot be read. The run ends when every lane has.
 */

import { isStreamError, StreamError } from '../src/base/errors.ts'
import type { TopicInfo } from '../src/client/metadata-cache.ts'
import type { Timer } from '../src/ports/time.ts'
import type { Broker } from './broker.ts'
import type { ConsumerClient } from './clients.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { commonExitCode, exitCodeOf, joinExitCodes } from './exit-code.ts'
import type { MirrorLane } from './mirror-lane.ts'
import type { MirrorPlan } from './mirror-plan.ts'
import { askClusterId, MirrorStart } from './mirror-start.ts'
import { flagsForBroker } from './other-broker.ts'
import { Progress } from './progress.ts'
import { openConsumer, openInTime, timedOut } from './read-open.ts'
import { Report } from './report.ts'
import { chooseTopics } from './topic-names.ts'
import { WakeUp } from './wake-up.ts'

/** How often a copy that follows looks for topics and partitions, and for rings. */
const LOOK_AGAIN_MS = 5000

/** A fetch is one round trip, and those between data centers are long. */
const PARTITION_FETCH_BYTES = 4_194_304

export class MirrorCopy {
  readonly #deps: CommandDeps
  readonly #args: CommandArgs
  readonly #plan: MirrorPlan
  readonly #report: Report
  readonly #wake: WakeUp
  readonly #codes: number[] = []
  readonly #lanes = new Map<string, MirrorLane>()
  readonly #running = new Set<MirrorLane>()
  /** Told once. */
  readonly #refused = new Set<string>()
  #stopReason: 'signal' | 'timeout' | undefined
  #start: MirrorStart | undefined
  #isOver = false
  /** A defect of the program, found beside the loop. */
  #crash: unknown

  private constructor(deps: CommandDeps, args: CommandArgs, plan: MirrorPlan) {
    this.#deps = deps
    this.#args = args
    this.#plan = plan
    this.#report = new Report('mirror', deps.time)
    this.#wake = new WakeUp(deps.time)
  }

  static async run(deps: CommandDeps, args: CommandArgs, plan: MirrorPlan): Promise<number> {
    const startMs = deps.time.monotonicMs()
    const flags = flagsForBroker(args.flags, plan.source)
    const source = await openInTime(deps, { ...args, flags }, plan.read)
    try {
      const target = await openInTime(deps, args, plan.read)
      try {
        return await new MirrorCopy(deps, args, plan).#run(source, target, startMs)
      } finally {
        target.cluster.close()
      }
    } finally {
      source.cluster.close()
    }
  }

  async #run(source: Broker, target: Broker, startMs: number): Promise<number> {
    const { interruption, time } = this.#deps
    const sourceId = await askClusterId(source, this.#plan.source)
    const targetId = await askClusterId(target, target.address)
    const consumer = await openConsumer(
      this.#deps,
      source,
      this.#plan.read,
      1,
      undefined,
      source.settings.isSet('max.partition.fetch.bytes') ? undefined : PARTITION_FETCH_BYTES,
    )
    const start = new MirrorStart(this.#deps, this.#plan, source, target, consumer, {
      sourceId,
      targetId,
      report: this.#report,
      onFailure: (error, name) => this.#fail(error, name),
      onReading: () => this.#wake.wake(),
      onLane: (lane) => this.#lanes.set(lane.pair.source, lane),
    })
    this.#start = start
    const stopListening = interruption.onRaised(() => this.#stop('signal'))
    const { timeoutMs } = this.#plan.read
    const leftMs = startMs + (timeoutMs ?? 0) - time.monotonicMs()
    const timer: Timer | undefined =
      timeoutMs === undefined
        ? undefined
        : time.setTimer(Math.max(0, leftMs), () => this.#stop('timeout'))
    const progress = new Progress(this.#deps, this.#args.flags, {
      report: this.#report,
      fraction: () => this.#fraction(),
    })
    try {
      await this.#startLanes(source)
      await this.#loop(source, consumer)
    } finally {
      timer?.cancel()
      progress.end()
      stopListening()
      consumer.close()
    }
    return this.#conclude()
  }

  async #loop(source: Broker, consumer: ConsumerClient): Promise<void> {
    const { time } = this.#deps
    let lookMs = time.monotonicMs() + LOOK_AGAIN_MS
    while (this.#running.size > 0 || this.#awaitsTopics) {
      if (this.#crash !== undefined) throw this.#crash
      for (;;) {
        const event = consumer.poll()
        if (event === undefined) break
        this.#lanes.get(event.topic)?.offer(event)
      }
      const nowMs = time.monotonicMs()
      if (this.#plan.follows && nowMs >= lookMs && this.#stopReason === undefined) {
        // The records go on meanwhile, and so does a stop, however long the brokers take.
        this.#wake.arm('look', () => this.#lookAgain(source))
        lookMs = nowMs + LOOK_AGAIN_MS
      }
      if (!consumer.isDone) this.#wake.arm('consumer', () => consumer.wait())
      await this.#wake.wait(this.#plan.follows ? lookMs - nowMs : Number.POSITIVE_INFINITY)
    }
    this.#isOver = true
  }

  /** Topics that match may still come; where all have failed nobody should believe that it goes on. */
  get #awaitsTopics(): boolean {
    return this.#plan.follows && this.#stopReason === undefined && this.#codes.length === 0
  }

  /** New topics and partitions, and rings that were closed elsewhere. What cannot be told now is told the next time. */
  async #lookAgain(source: Broker): Promise<void> {
    for (const lane of this.#running) lane.tick()
    try {
      await this.#startLanes(source)
      await this.#start?.checkRings([...this.#running])
    } catch (error) {
      if (this.#isOver || this.#stopReason !== undefined) return
      if (!isStreamError(error)) this.#crash = error
      else if (!error.retriable && error.code !== 'TIMED_OUT') {
        this.#fail(error, error.target ?? this.#plan.source)
        for (const lane of this.#running) lane.stop()
      }
    }
  }

  async #startLanes(source: Broker): Promise<void> {
    const { plan, all } = await this.#choose(source)
    for (const error of plan) this.#refuse(error)
    const start = this.#start
    if (start === undefined) return
    const wanted = all.filter(({ name }) => !this.#refused.has(name))
    const fresh = wanted.filter(({ name }) => !this.#lanes.has(name))
    for (const lane of await start.lanes(fresh)) {
      if (this.#stopReason !== undefined) lane.stop()
      this.#running.add(lane)
      void lane.run().then(() => {
        this.#running.delete(lane)
        this.#refused.add(lane.pair.source)
        this.#wake.wake()
      })
    }
    for (const topic of wanted) {
      const lane = this.#lanes.get(topic.name)
      if (lane !== undefined && this.#running.has(lane)) await this.#grow(start, lane, topic)
    }
  }

  async #grow(start: MirrorStart, lane: MirrorLane, topic: TopicInfo): Promise<void> {
    try {
      await start.addPartitions(lane, topic)
    } catch (error) {
      if (!isStreamError(error) || error.retriable || error.code === 'TIMED_OUT') throw error
      // Those that it has go on.
      this.#fail(error, topic.name)
      this.#refused.add(topic.name)
    }
  }

  /** @throws StreamError where the source cannot be asked */
  async #choose(
    source: Broker,
  ): Promise<{ readonly plan: readonly StreamError[]; readonly all: readonly TopicInfo[] }> {
    const topics = await source.cluster.describeTopics(undefined)
    const byName = new Map(topics.map((topic) => [topic.name, topic]))
    const isRegex = this.#plan.read.isRegex
    const { names, empty } = await chooseTopics(this.#plan.topics, { isRegex }, async () =>
      topics.filter((topic) => !topic.isInternal).map(({ name }) => name),
    )
    const missing = names.filter((name) => !byName.has(name))
    // A pattern may be waited for; a name may be one that was mistyped.
    const absent = this.#plan.follows ? missing : [...missing, ...empty]
    const refusals = absent.map(
      (name) =>
        new StreamError(
          'TOPIC_UNKNOWN',
          `${name}: no such topic at ${this.#plan.source} (UNKNOWN_TOPIC_OR_PARTITION)`,
          { target: name, kafkaError: 3 },
        ),
    )
    return { plan: refusals, all: names.flatMap((name) => byName.get(name) ?? []) }
  }

  #refuse(error: StreamError): void {
    const name = error.target ?? ''
    if (this.#refused.has(name)) return
    this.#fail(error, name)
  }

  #fail(error: unknown, name: string): void {
    this.#deps.console.error(error, name)
    this.#codes.push(exitCodeOf(error))
    this.#report.errors += 1
    if (!this.#lanes.has(name)) this.#refused.add(name)
  }

  #stop(reason: 'signal' | 'timeout'): void {
    this.#stopReason ??= reason
    for (const lane of this.#running) lane.stop()
    this.#wake.wake()
  }

  /** Of what this run has to copy, by offsets; undefined where it follows. */
  #fraction(): number | undefined {
    let offsets = 0
    let passed = 0
    for (const lane of this.#lanes.values()) {
      for (const { startOffset, endOffset, taken } of lane.partitions.values()) {
        if (endOffset === undefined) return undefined
        offsets += endOffset - startOffset
        passed += Math.min(taken, endOffset) - startOffset
      }
    }
    return offsets === 0 ? undefined : passed / offsets
  }

  async #conclude(): Promise<number> {
    const { console } = this.#deps
    const report = this.#report
    const codes = [commonExitCode(this.#codes)]
    if (this.#stopReason === 'timeout') {
      codes.push(7)
      console.error(timedOut(this.#plan.read.timeoutMs))
    }
    if (report.gap > 0 && !this.#plan.follows) codes.push(5)
    if (this.#plan.read.failEmpty && report.records === 0) codes.push(3)
    const exit = joinExitCodes(codes)
    const path = this.#args.flags.text('report')
    if (path !== undefined) await report.write(this.#deps, path, exit)
    if (console.wantsSummary) console.print(`stream: ${report.summary('copied')}\n`)
    return exit
  }
}
