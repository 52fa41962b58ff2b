/**
 * `stream consume --exec`: a command for each record of a group's partitions (commands.md, section 5). Here: what the loop
 * (exec-loop.ts) needs, its beginning and its end.
 *
 * Invariants: no position is committed beyond a record that is neither done nor put aside; when a run ends by a failure, a
 * signal or a time limit nothing new is started, children have the grace, and what is done is committed.
 */

import { isStreamError, StreamError, UsageError } from '../src/base/errors.ts'
import type { Timer } from '../src/ports/time.ts'
import type { Broker } from './broker.ts'
import type { ConsumerClient } from './clients.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { differentErrors } from './different-errors.ts'
import { dlqTopicOf, retryTopicOf } from './dlq-records.ts'
import { ExecLetters } from './exec-letters.ts'
import { ExecLoop, type LoopParts } from './exec-loop.ts'
import { ExecOutput } from './exec-output.ts'
import { type ExecPlan, execReadPlan, readExecPlan } from './exec-plan.ts'
import { ExecQueue } from './exec-queue.ts'
import { ExecRunner } from './exec-run.ts'
import { ExecStop } from './exec-stop.ts'
import type { Work } from './exec-work.ts'
import { BrokenPipe, exitCodeOf, joinExitCodes } from './exit-code.ts'
import type { Flags } from './flags.ts'
import { GroupRead } from './group-read.ts'
import { HeldBack } from './held-back.ts'
import { Pacer } from './pacer.ts'
import { Progress } from './progress.ts'
import { type ReadGap, tellGap } from './read-gap.ts'
import { askOffsets, checkFormat, openConsumer, openInTime, timedOut } from './read-open.ts'
import type { GroupPlan, ReadPlan } from './read-options.ts'
import { ReadPartitions } from './read-partitions.ts'
import type { AskOffsets, PartitionName } from './read-range.ts'
import { makeRecordWriter } from './read-writer.ts'
import { Report } from './report.ts'
import { WakeUp } from './wake-up.ts'

/** So many dead letters are told of one by one. */
const LETTERS_TOLD = 10

/** @throws UsageError; StreamError as first contact */
export async function runExec(
  deps: CommandDeps,
  args: CommandArgs,
  plain: ReadPlan,
): Promise<number> {
  const exec = readExecPlan(deps, args.flags, plain)
  const plan = execReadPlan(args.flags, plain)
  for (const own of [dlqTopicOf(exec.job), retryTopicOf(exec.job)]) {
    if (!plan.topics.includes(own)) continue
    throw new UsageError(`${own}: belongs to the group itself`, 'give another --group NAME')
  }
  await checkFormat(plan)
  const startMs = deps.time.monotonicMs()
  const broker = await openInTime(deps, args, plan)
  try {
    return await new ExecJob(deps, args.flags, plan, exec, broker).run(startMs)
  } finally {
    broker.cluster.close()
  }
}

class ExecJob {
  readonly #deps: CommandDeps
  readonly #flags: Flags
  readonly #plan: ReadPlan
  readonly #exec: ExecPlan
  readonly #broker: Broker
  readonly #partitions: ReadPartitions
  readonly #report: Report
  readonly #wake: WakeUp
  readonly #stop: ExecStop
  readonly #pacer: Pacer | undefined
  readonly #failures: unknown[] = []
  readonly #heldBack: HeldBack
  readonly #ask: AskOffsets
  #brokenPipe: BrokenPipe | undefined
  /** Of JOB.retry; none while there is no such topic. */
  #again: readonly PartitionName[] = []
  #loop: ExecLoop | undefined
  #deadRecords = 0
  #isAmbiguous = false

  constructor(deps: CommandDeps, flags: Flags, plan: ReadPlan, exec: ExecPlan, broker: Broker) {
    this.#deps = deps
    this.#flags = flags
    this.#plan = plan
    this.#exec = exec
    this.#broker = broker
    this.#partitions = new ReadPartitions(deps.time, plan, broker.cluster)
    this.#report = new Report(plan.command, deps.time)
    const { isUncommitted } = plan
    this.#heldBack = new HeldBack(deps, broker, { isUncommitted, hasFlag: true })
    this.#wake = new WakeUp(deps.time)
    this.#stop = new ExecStop(() => this.#wake.wake())
    this.#pacer = plan.rate === undefined ? undefined : new Pacer(deps.time, plan.rate)
    this.#ask = (questions, isUncommitted) =>
      askOffsets(deps, broker, plan, questions, isUncommitted)
  }

  async run(startMs: number): Promise<number> {
    const { interruption, time, host } = this.#deps
    const stopListening = interruption.onRaised(() => this.#stop.stop('signal'))
    const timer = this.#startTimeout(time.monotonicMs() - startMs)
    const progress = new Progress(this.#deps, this.#flags, {
      report: this.#report,
      sharesTerminal: host.isTerminal('output'),
    })
    try {
      await this.#work()
    } catch (error) {
      this.#failures.push(error)
    } finally {
      timer?.cancel()
      progress.end()
      stopListening()
    }
    if (this.#brokenPipe !== undefined) throw this.#brokenPipe
    return this.#conclude()
  }

  #startTimeout(spentMs: number): Timer | undefined {
    const { timeoutMs } = this.#plan
    if (timeoutMs === undefined) return undefined
    const leftMs = Math.max(0, timeoutMs - spentMs)
    return this.#deps.time.setTimer(leftMs, () => this.#stop.stop('timeout'))
  }

  #fail(error: unknown): void {
    if (error instanceof BrokenPipe) this.#brokenPipe ??= error
    else this.#failures.push(error)
    this.#stop.stop('failed')
  }

  async #work(): Promise<void> {
    const { group: groupPlan, countMax } = this.#plan
    const found = await this.#partitions.find(this.#stop.stopped)
    if (this.#stop.reason !== undefined || found === undefined) return
    if (groupPlan === undefined || countMax === 0) return
    const foreign = this.#withoutOwn(found)
    this.#again = await this.#findRetryTopic()
    const queue = await this.#makeQueue()
    const letters = this.#makeLetters(queue, groupPlan)
    const group = await this.#openGroup(groupPlan, queue, letters)
    try {
      const consumer = await this.#openConsumer(found.length)
      const runner = this.#makeRunner(queue, group)
      const loop = new ExecLoop(this.#loopParts({ queue, runner, group, consumer }))
      this.#loop = loop
      try {
        if (this.#exec.onFail !== 'stop') await letters.takeOver()
        await group.start(foreign, this.#again)
        await loop.run()
      } catch (error) {
        this.#fail(error)
      } finally {
        // The work of a membership that is over may be another's already.
        const isOthers = this.#failures.some((error) => isStreamError(error, 'FENCED'))
        runner.stop(isOthers || this.#brokenPipe !== undefined)
        await runner.settled()
        consumer.close()
      }
      await group.end(this.#stop.isProper && this.#failures.length === 0)
    } finally {
      await group.close()
      letters.close()
    }
  }

  #loopParts(parts: Pick<LoopParts, 'queue' | 'runner' | 'group' | 'consumer'>): LoopParts {
    return {
      ...parts,
      time: this.#deps.time,
      plan: this.#plan,
      stop: this.#stop,
      wake: this.#wake,
      ask: this.#ask,
      pacer: this.#pacer,
      lookForMore: () => this.#lookForMore(parts.group),
      onEnd: (topic, partition, offset) => this.#heldBack.note(topic, partition, offset),
      onGap: (gap) => this.#onGap(gap),
      onFailed: ({ error }) => {
        // Of a bounded read the other partitions are still wanted; one that follows would go on half.
        if (!this.#plan.isBounded) throw error
        this.#failures.push(error)
      },
      partitionCount: () => this.#withoutOwn(this.#partitions.all()).length + this.#again.length,
    }
  }

  // --- the parts

  #openConsumer(partitionCount: number): Promise<ConsumerClient> {
    return openConsumer(this.#deps, this.#broker, this.#plan, partitionCount)
  }

  async #makeQueue(): Promise<ExecQueue> {
    const { batch } = this.#exec
    const writer = await makeRecordWriter(this.#plan, {
      isTerminal: false,
      // One record is all that its child gets: there is nothing to be told apart.
      onAmbiguous: () => this.#onAmbiguous(batch > 1),
    })
    return new ExecQueue(this.#exec, this.#plan, writer, this.#deps.random, {
      onPassedTime: (part) => this.#loop?.passed(part),
      onTaken: (bytes) => {
        this.#pacer?.take(1, bytes)
        this.#loop?.touch()
      },
    })
  }

  #makeLetters(queue: ExecQueue, { instanceId }: GroupPlan): ExecLetters {
    return new ExecLetters(this.#deps, this.#broker, queue, {
      job: this.#exec.job,
      instanceId,
      sources: () => [
        ...new Set(this.#withoutOwn(this.#partitions.all()).map(({ topic }) => topic)),
      ],
      onLetters: (work) => this.#onLetters(work),
    })
  }

  #openGroup(plan: GroupPlan, queue: ExecQueue, letters: ExecLetters): Promise<GroupRead> {
    return GroupRead.open(this.#deps, this.#broker, this.#plan, plan, this.#ask, {
      topicId: (topic) => this.#partitions.topicId(topic),
      onFailure: (error) => this.#fail(error),
      commit: (offsets, member) => letters.commit(offsets, member),
      done: {
        positions: () => queue.positions(),
        openCount: 0,
        hasEnded: true,
        error: undefined,
        close: () => undefined,
      },
    })
  }

  #makeRunner(queue: ExecQueue, group: GroupRead): ExecRunner {
    const { time, console, stdio } = this.#deps
    const output = new ExecOutput(stdio.output, {
      isShared: this.#exec.parallel > 1,
      onFailure: (error) => {
        this.#fail(error)
        // What they print has nowhere to go.
        runner.stop(true)
      },
    })
    const children = this.#deps.openChildren()
    const runner: ExecRunner = new ExecRunner(
      { time, console, children },
      this.#exec,
      queue,
      output,
      {
        onDone: (work) => {
          if (work.failure === undefined) this.#onDone(work)
          group.onDone()
        },
        onFailure: (error) => this.#fail(error),
        onChange: () => {
          this.#loop?.touch()
          this.#wake.wake()
        },
      },
    )
    return runner
  }

  #onDone({ part, firstOffset, lastOffset, count, input }: Work): void {
    this.#report.records += count
    this.#report.bytes += input.length
    this.#report.addSpan(part.topic, part.partition, firstOffset, lastOffset)
  }

  #onLetters(work: Work): void {
    const { console } = this.#deps
    const { failure, count } = work
    const isTold = this.#deadRecords < LETTERS_TOLD
    this.#deadRecords += count
    if (failure === undefined) return
    const attempts = failure.attempts === 1 ? '' : ` after ${failure.attempts} attempts`
    const words = `${work.name}: ${failure.error}${attempts}; put aside in ${dlqTopicOf(this.#exec.job)}`
    if (isTold) console.warn(words)
    else console.note(words)
  }

  // --- which partitions

  /** Its own dead letters must not come back by a pattern. */
  #withoutOwn(partitions: readonly PartitionName[]): PartitionName[] {
    const own = new Set([dlqTopicOf(this.#exec.job), retryTopicOf(this.#exec.job)])
    return partitions.filter(({ topic }) => !own.has(topic))
  }

  async #findRetryTopic(): Promise<readonly PartitionName[]> {
    const topic = retryTopicOf(this.#exec.job)
    const [info] = await this.#broker.cluster.describeTopics([topic])
    if (info === undefined || info.errorCode !== 0) return []
    return info.partitions.map(({ partition }) => ({ topic, partition }))
  }

  async #lookForMore(group: GroupRead): Promise<void> {
    await this.#partitions.findMore()
    try {
      this.#again = await this.#findRetryTopic()
    } catch (error) {
      // Looked for again in a while.
      if (!isStreamError(error)) throw error
    }
    group.setTopics([...this.#withoutOwn(this.#partitions.all()), ...this.#again])
  }

  // --- what may go wrong

  #onGap(gap: ReadGap): void {
    tellGap(this.#deps.console, this.#report, gap, this.#plan)
  }

  #onAmbiguous(matters: boolean): void {
    if (!matters || this.#isAmbiguous) return
    this.#isAmbiguous = true
    this.#deps.console.warn(
      'a value contains the delimiter; to tell records apart: --json, -0 or -o sized',
    )
  }

  async #conclude(): Promise<number> {
    const { console } = this.#deps
    const report = this.#report
    const { job } = this.#exec
    if (this.#deadRecords > 0) {
      const noun = this.#deadRecords === 1 ? 'record was' : 'records were'
      this.#failures.push(
        new StreamError('NOT_DELIVERED', `${this.#deadRecords} ${noun} put aside`, {
          target: dlqTopicOf(job),
          hint: `to see why: stream dlq list ${job}`,
        }),
      )
    }
    const codes = this.#failures.map(exitCodeOf)
    if (this.#stop.reason === 'timeout') codes.push(7)
    if (report.gap > 0 && this.#plan.isBounded) codes.push(5)
    if (this.#isAmbiguous && this.#plan.isStrict) codes.push(5)
    if (this.#plan.failEmpty && report.records + this.#deadRecords === 0) codes.push(3)
    const exit = joinExitCodes(codes)
    report.errors = this.#deadRecords + this.#failures.length - (this.#deadRecords > 0 ? 1 : 0)
    if (this.#plan.isBounded && this.#stop.reason === undefined) await this.#heldBack.tell()
    for (const failure of differentErrors(this.#failures)) console.error(failure)
    if (this.#stop.reason === 'timeout') console.error(timedOut(this.#plan.timeoutMs))
    const path = this.#flags.text('report')
    if (path !== undefined) await report.write(this.#deps, path, exit)
    if (console.wantsSummary) console.print(`stream: ${report.summary('done')}\n`)
    return exit
  }
}
