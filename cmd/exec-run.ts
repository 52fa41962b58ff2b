/**
 * Children at the work of an ExecQueue: starts them while there are free places, feeds them, judges their ends, and tries
 * again (commands.md, section 5, consume).
 *
 * Invariants: a child that was started is waited for; of one lane at most one runs; nothing is started once it has stopped.
 */

import { StreamError } from '../src/base/errors.ts'
import type { Child, ChildEnd, ChildPlan, Children } from '../src/ports/children.ts'
import type { Time, Timer } from '../src/ports/time.ts'
import { formatDuration } from '../src/text/units.ts'
import type { Console } from './console.ts'
import { failureOf } from './dlq-records.ts'
import type { ExecOutput } from './exec-output.ts'
import type { ExecPlan } from './exec-plan.ts'
import type { ExecQueue } from './exec-queue.ts'
import type { Part, Work } from './exec-work.ts'
import { describeFailure, judgeEnd } from './retry-policy.ts'

/** A child that runs so long without a limit is told of, once. */
const LONG_RUN_MS = 60_000

export interface RunnerPorts {
  readonly time: Time
  readonly console: Console
  readonly children: Children
}

export interface RunnerHooks {
  /** More is done, or given up. */
  readonly onDone: (work: Work) => void
  /** The run has failed: CHILD_FAILED. */
  readonly onFailure: (error: StreamError) => void
  /** Something has changed. */
  readonly onChange: () => void
}

export class ExecRunner {
  readonly #ports: RunnerPorts
  readonly #plan: ExecPlan
  readonly #queue: ExecQueue
  readonly #output: ExecOutput
  readonly #hooks: RunnerHooks
  readonly #running = new Map<Work, Promise<void>>()
  /** Work that waits to be tried again. */
  readonly #pauses = new Map<Work, Timer>()
  #graceTimer: Timer | undefined
  #hasStopped = false
  #hasToldLeft = false
  #hasToldLong = false

  constructor(
    ports: RunnerPorts,
    plan: ExecPlan,
    queue: ExecQueue,
    output: ExecOutput,
    hooks: RunnerHooks,
  ) {
    this.#ports = ports
    this.#plan = plan
    this.#queue = queue
    this.#output = output
    this.#hooks = hooks
  }

  get isIdle(): boolean {
    return this.#running.size === 0
  }

  /** Starts what can be started. */
  pump(): void {
    while (!this.#hasStopped && this.#running.size < this.#plan.parallel && this.#queue.hasReady) {
      const work = this.#queue.next()
      if (work !== undefined) this.#running.set(work, this.#run(work))
    }
  }

  /** Partitions go: what is being worked on is finished within the grace, or ended; the rest is dropped. */
  async release(parts: readonly Part[], isLost: boolean): Promise<void> {
    const ends: Promise<void>[] = []
    const timers: Timer[] = []
    for (const part of parts) this.#dropWaiting(part)
    for (const [work, end] of this.#running) {
      if (!parts.includes(work.part)) continue
      ends.push(end)
      // Whoever has the partition now may be at the same records.
      if (isLost) work.child?.stop()
      else timers.push(this.#stopAfterGrace([work]))
    }
    await Promise.all(ends)
    for (const timer of timers) timer.cancel()
  }

  /** Nothing is started any more; what runs has the grace, or `now` not even that. */
  stop(now = false): void {
    this.#hasStopped = true
    for (const part of this.#queue.parts.values()) this.#dropWaiting(part)
    const works = [...this.#running.keys()]
    if (now) for (const work of works) work.child?.stop()
    else this.#graceTimer ??= this.#stopAfterGrace(works)
  }

  /** All children have ended. */
  async settled(): Promise<void> {
    await Promise.all(this.#running.values())
    this.#graceTimer?.cancel()
  }

  #stopAfterGrace(works: readonly Work[]): Timer {
    const { graceMs } = this.#plan
    return this.#ports.time.setTimer(graceMs, () => {
      for (const work of works) {
        if (work.child === undefined) continue
        this.#ports.console.warn(
          `${work.name}: the command is still running ${formatDuration(graceMs)} later, and is ended; its records will be done again`,
        )
        work.child.stop()
      }
    })
  }

  #dropWaiting(part: Part): void {
    for (const [work, timer] of this.#pauses) {
      if (work.part !== part) continue
      timer.cancel()
      this.#pauses.delete(work)
    }
    this.#queue.drop(part)
  }

  // --- one child

  async #run(work: Work): Promise<void> {
    const child = this.#ports.children.start(this.#planOf(work))
    work.child = child
    const watch = this.#watch(work)
    void feed(child, work.input.filled())
    const [end] = await Promise.all([child.ended, this.#output.pass(child)])
    watch?.cancel()
    work.child = undefined
    this.#running.delete(work)
    this.#conclude(work, end)
    this.pump()
    this.#hooks.onChange()
  }

  #planOf(work: Work): ChildPlan {
    const { command, graceMs, childTimeoutMs, onFail } = this.#plan
    const attempt = String(work.attemptsBefore + work.attempts.number)
    return {
      words: ['sh', '-c', command],
      environment: { ...work.environment, STREAM_ATTEMPT: attempt },
      input: 'pipe',
      output: 'pipe',
      // Its last words are wanted only for a dead letter.
      error: onFail === 'stop' ? 'inherit' : 'copy',
      graceMs,
      ...(childTimeoutMs === undefined ? {} : { timeoutMs: childTimeoutMs }),
    }
  }

  #watch(work: Work): Timer | undefined {
    if (this.#hasToldLong || this.#plan.childTimeoutMs !== undefined) return undefined
    return this.#ports.time.setTimer(LONG_RUN_MS, () => {
      if (this.#hasToldLong) return
      this.#hasToldLong = true
      this.#ports.console.warn(
        `${work.name}: the command has been running for ${formatDuration(LONG_RUN_MS)}; to end such a one: --child-timeout DUR`,
      )
    })
  }

  #conclude(work: Work, end: ChildEnd): void {
    if (end.hasLeftProcesses) this.#tellLeft(work)
    const verdict = judgeEnd(end, this.#plan.success)
    if (verdict === 'done') {
      this.#queue.done(work)
      this.#hooks.onDone(work)
      return
    }
    if (this.#hasStopped || work.part.isReleased) {
      this.#queue.abandon(work)
      return
    }
    if (verdict === 'stop') {
      this.#fail(work, end, true)
      return
    }
    const mayRetry = verdict === 'later' || !(work.isPart && work.count > 1)
    // No further attempt would find more room for the environment.
    const isHopeless = end.cannotStart === 'E2BIG'
    const pauseMs = mayRetry && !isHopeless ? work.attempts.next(verdict) : undefined
    if (pauseMs === undefined) this.#giveUp(work, end)
    else this.#pause(work, end, pauseMs, verdict)
  }

  #pause(work: Work, end: ChildEnd, pauseMs: number, verdict: 'failed' | 'later'): void {
    const { time, console } = this.#ports
    const { retry } = this.#plan
    const count = verdict === 'later' ? '' : ` (${work.attempts.retries} of ${retry.times})`
    const words = describeFailure(end)
    console.warn(`${work.name}: ${words}; again in ${formatDuration(pauseMs)}${count}`)
    const timer = time.setTimer(pauseMs, () => {
      this.#pauses.delete(work)
      this.#queue.retry(work)
      this.pump()
    })
    this.#pauses.set(work, timer)
  }

  #giveUp(work: Work, end: ChildEnd): void {
    const { onFail, job } = this.#plan
    if (onFail === 'stop') {
      this.#fail(work, end, false)
      return
    }
    if (onFail === 'bisect' && work.count > 1) {
      this.#ports.console.note(`${work.name}: ${describeFailure(end)}; tried again in halves`)
      this.#queue.split(work)
      return
    }
    const { topic, partition } = work.part
    const batch = `${job}/${topic}/${partition}/${work.firstOffset}-${work.lastOffset}`
    const attempts = work.attemptsBefore + work.attempts.number
    work.failure = failureOf(end, { job, batch, attempts })
    this.#queue.giveUp(work)
    this.#hooks.onDone(work)
  }

  /** @param stopsOthers  they are ended, not only waited for */
  #fail(work: Work, end: ChildEnd, stopsOthers: boolean): void {
    this.#queue.abandon(work)
    const { number } = work.attempts
    const attempts = number === 1 ? '' : ` (${number} attempts)`
    this.#hooks.onFailure(
      new StreamError(
        'CHILD_FAILED',
        `${work.name}: the command failed: ${describeFailure(end)}${attempts}`,
        { target: work.part.topic, hint: hintOf(end) },
      ),
    )
    this.stop(stopsOthers)
  }

  #tellLeft(work: Work): void {
    if (this.#hasToldLeft) return
    this.#hasToldLeft = true
    this.#ports.console.warn(
      `${work.name}: the command left processes behind, which were ended after ${formatDuration(this.#plan.graceMs)}; to let them finish it must wait for them (sh: wait)`,
    )
  }
}

async function feed({ input }: Child, bytes: Uint8Array): Promise<void> {
  if (input === undefined) return
  // A child that does not read is free not to: what it says of itself counts.
  if (bytes.length > 0) await input.write(bytes)
  input.end()
}

function hintOf({ exit, cannotStart, stopped }: ChildEnd): string {
  if (stopped === 'timed-out') return 'to give it more time: --child-timeout DUR'
  if (exit === 127) return 'check the command: sh does not find a part of it'
  if (exit === 126) return 'check the command: a part of it may not be executed (chmod +x)'
  if (exit === 255) return 'exit 255 stops the run'
  if (cannotStart === 'E2BIG') {
    return 'to give keys and headers on standard input instead: --batch 2 --json'
  }
  return 'to put such records aside and go on: --on-fail dlq'
}
