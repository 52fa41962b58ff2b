/**
 * One run of `pipe` with an input: what is read goes to the machine (pipe-epochs.ts), its epochs through children
 * (pipe-lane.ts), what those made of them into transactions (pipe-transactions.ts).
 *
 * The loop: (1) follow the changes of the share; (2) give what is at hand to the machine; (3) start what may start; (4) sleep until
 * any of them, a child or a transaction has something to say. Ends when all is committed, or at the first failure for good, a
 * signal or --timeout: then nothing new is started, what runs has the grace, and what it came to is committed.
 */

import { isStreamError, StreamError } from '../src/base/errors.ts'
import type { ConsumerEvent } from '../src/client/consumer-events.ts'
import type { GroupPartition } from '../src/client/group-offsets.ts'
import { sleep, type Timer } from '../src/ports/time.ts'
import type { Broker } from './broker.ts'
import type { ConsumerClient } from './clients.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { differentErrors } from './different-errors.ts'
import { dlqTopicOf, retryTopicOf } from './dlq-records.ts'
import { exitCodeOf, joinExitCodes } from './exit-code.ts'
import type { Flags } from './flags.ts'
import { HeldBack } from './held-back.ts'
import { type EpochFailure, takenOver } from './pipe-child.ts'
import { type Epoch, PipeEpochs } from './pipe-epochs.ts'
import { EpochJudge } from './pipe-judge.ts'
import type { LaneEvents, LaneRunner } from './pipe-lane.ts'
import { EpochGrowth } from './pipe-limits.ts'
import { openRunner } from './pipe-open.ts'
import { PipeOutput, producerOptionsOf } from './pipe-output.ts'
import type { PipePlan } from './pipe-plan.ts'
import { PipeShare, type ShareEvent } from './pipe-share.ts'
import { alreadyRuns, PipeSlot } from './pipe-slot.ts'
import { PipeState } from './pipe-state.ts'
import { type FinishedEpoch, PipeTransactions } from './pipe-transactions.ts'
import { Progress } from './progress.ts'
import { type ReadGap, tellGap } from './read-gap.ts'
import { openConsumer, openInTime, timedOut } from './read-open.ts'
import type { ReadPlan } from './read-options.ts'
import { ReadPartitions } from './read-partitions.ts'
import type { PartitionName } from './read-range.ts'
import { Report } from './report.ts'

/** How often a following run looks for new topics and partitions. */
const LOOK_AGAIN_MS = 5000
/** Epochs of a partition that are with the child, which has not acknowledged them. */
const UNACKNOWLEDGED_MAX = 16

export async function runPipe(
  deps: CommandDeps,
  args: CommandArgs,
  plan: PipePlan,
): Promise<number> {
  const { read } = plan
  if (read === undefined) throw new Error('a source has a run of its own')
  if (plan.isDryRun) {
    const { dryRunPipe } = await import('./pipe-dry-run.ts')
    return dryRunPipe(deps, args, plan, read)
  }
  const broker = await openInTime(deps, args, read)
  try {
    return await new PipeJob(deps, args.flags, plan, read, broker).run()
  } finally {
    broker.cluster.close()
  }
}

type StopReason = 'signal' | 'timeout' | 'failed'

class PipeJob {
  readonly #deps: CommandDeps
  readonly #flags: Flags
  readonly #plan: PipePlan
  readonly #read: ReadPlan
  readonly #broker: Broker
  readonly #partitions: ReadPartitions
  readonly #report: Report
  readonly #failures: unknown[] = []
  readonly #heldBack: HeldBack
  #epochs!: PipeEpochs
  #share!: PipeShare
  #transactions!: PipeTransactions
  #runner!: LaneRunner
  #judge!: EpochJudge
  #state: PipeState | undefined
  #growth: EpochGrowth | undefined
  #freeLanes: number[] = []
  readonly #running = new Map<Epoch, Promise<void>>()
  /** Partitions that are paused at the consumer. */
  readonly #paused = new Map<string, GroupPartition>()
  /** What is being given back, until the grace is over. */
  #leaving: { readonly partitions: readonly GroupPartition[]; timer: Timer | undefined } | undefined
  #stopReason: StopReason | undefined
  /** Told already. */
  readonly #idleEnds = new Set<string>()
  readonly #lostTopics = new Set<string>()
  #isSticky = false
  #lookedMs = 0
  #hasRetryTopic = false
  #hasSlept = false
  #wake: () => void = () => undefined
  #isAwake = false
  #isConsumerWaited = false
  #isShareWaited = false

  constructor(deps: CommandDeps, flags: Flags, plan: PipePlan, read: ReadPlan, broker: Broker) {
    this.#deps = deps
    this.#flags = flags
    this.#plan = plan
    this.#read = read
    this.#broker = broker
    this.#partitions = new ReadPartitions(deps.time, read, broker.cluster)
    this.#report = new Report('pipe', deps.time)
    const { isUncommitted } = read
    this.#heldBack = new HeldBack(deps, broker, { isUncommitted, hasFlag: false })
  }

  async run(): Promise<number> {
    const { interruption, time } = this.#deps
    const stopListening = interruption.onRaised(() => this.#stop('signal'))
    const { timeoutMs } = this.#read
    const timer =
      timeoutMs === undefined ? undefined : time.setTimer(timeoutMs, () => this.#stop('timeout'))
    const progress = new Progress(this.#deps, this.#flags, { report: this.#report })
    let slot: PipeSlot | undefined
    try {
      slot = await this.#openSlot()
      await this.#runIn(slot)
    } catch (error) {
      this.#failures.push(error)
    } finally {
      slot?.release()
      timer?.cancel()
      progress.end()
      stopListening()
    }
    return this.#conclude()
  }

  async #openSlot(): Promise<PipeSlot> {
    const { job, isSingleton } = this.#plan
    const clusterId = this.#broker.cluster.metadata.clusterId ?? ''
    const slot = PipeSlot.open(this.#deps, job, { clusterId, isSingleton })
    if (job === undefined || !isSingleton) return slot
    // Another host's run has no lock here.
    const admin = await this.#deps.clients.groupAdmin(this.#broker.cluster)
    const group = await admin.describe(job)
    const other = group?.members.find(({ instanceId }) => instanceId !== slot.instanceId)
    if (other === undefined) return slot
    slot.release()
    throw alreadyRuns(job, `it runs at ${other.host}`)
  }

  async #runIn(slot: PipeSlot): Promise<void> {
    const stopped = new Promise<void>((resolve) => {
      this.#onStopped = resolve
    })
    if (this.#stopReason !== undefined) return
    const found = await this.#partitions.find(stopped)
    if (found === undefined || this.#stopReason !== undefined) return
    await this.#open(slot, found)
    const broker = this.#broker
    // A Kafka door answers in order: what is committed would wait behind the fetches of the records.
    const ownCluster = broker.scheme === 'kafka' ? await broker.openAnother() : undefined
    const source = ownCluster === undefined ? broker : { ...broker, cluster: ownCluster }
    const consumer = await openConsumer(this.#deps, source, this.#read, found.length)
    this.#consumer = consumer
    try {
      await this.#share.start(found, await this.#findRetries())
      await this.#loop(consumer)
    } catch (error) {
      this.#fail(error)
    } finally {
      consumer.close()
      ownCluster?.close()
      await this.#end()
    }
  }

  #onStopped: () => void = () => undefined
  #consumer: ConsumerClient | undefined

  async #open(slot: PipeSlot, found: readonly PartitionName[]): Promise<void> {
    const { job, out, limits, barrier } = this.#plan
    if (job === undefined) {
      this.#deps.console.warn('no --job: this run keeps no position; another one begins anew')
    }
    const outPartitions = Math.max(1, ...found.map(({ partition }) => partition + 1))
    const output =
      out === undefined
        ? undefined
        : new PipeOutput(this.#deps, this.#flags, this.#broker, this.#plan, out)
    await output?.prepareTopic(outPartitions)
    if (job !== undefined) this.#state = new PipeState(this.#deps, this.#broker, this.#plan, job)
    const cores = this.#deps.host.processorCount
    const lanes = Math.max(1, Math.min(this.#plan.lanes ?? cores, found.length))
    this.#freeLanes = Array.from({ length: lanes }, (_, index) => index)
    this.#isSticky = barrier !== 'exit'
    this.#epochs = new PipeEpochs({
      limits: { ...limits },
      countMax: this.#read.countMax,
      isEager: this.#isSticky,
      stickyLanes: this.#isSticky ? lanes : undefined,
      ...(barrier === 'ack' ? { uncommittedMax: UNACKNOWLEDGED_MAX } : {}),
    })
    if (this.#plan.grows) this.#growth = new EpochGrowth(this.#epochs.limits)
    this.#share = await PipeShare.open(this.#deps, this.#broker, this.#read, {
      job,
      slot,
      startsAnew: out === undefined,
    })
    this.#transactions = new PipeTransactions(this.#deps, this.#broker, this.#share, this.#state, {
      transactionalId: slot.transactionalId,
      producerOptions: producerOptionsOf(this.#flags, this.#broker, this.#plan),
      outTopic: out?.keepTopic === true ? undefined : out?.topic,
      dlqTopic: this.#plan.dlq,
      hold: this.#isSticky ? limits : undefined,
      epochBefore: (topic, partition, offset) =>
        this.#consumer?.epochBefore(topic, partition, offset) ?? -1,
      topicId: (topic) => this.#partitions.topicId(topic),
      onCommitted: (epochs) => this.#onCommitted(epochs),
      onSplit: (epochs) => this.#fail(this.#lostCompany(epochs)),
      onFailed: (error) => this.#fail(error),
    })
    // Before any position is asked for: what an earlier run left open is settled then.
    await this.#transactions.open()
    this.#judge = new EpochJudge(this.#deps, this.#broker, this.#plan, found)
    this.#runner = await openRunner(this.#deps, this.#flags, this.#broker, this.#plan, {
      output,
      lanes,
      filePrefix: slot.filePrefix,
      events: this.#laneEvents(),
    })
  }

  // --- the loop

  async #loop(consumer: ConsumerClient): Promise<void> {
    this.#lookedMs = this.#deps.time.monotonicMs()
    for (;;) {
      await this.#follow(consumer)
      if (this.#stopReason !== undefined) break
      for (let event = consumer.poll(); event !== undefined; event = consumer.poll()) {
        this.#onEvent(consumer, event)
      }
      this.#startEpochs(consumer)
      if (this.#isOver()) break
      await this.#lookForMore()
      await this.#sleep(consumer)
    }
  }

  #isOver(): boolean {
    if (this.#stopReason !== undefined) return true
    const isBounded = this.#read.isBounded || this.#epochs.isCounted
    const isDone = isBounded && this.#epochs.isDone && this.#running.size === 0
    // Nothing more comes: what waits for company goes.
    if (isBounded && this.#epochs.isIdle && this.#share.isSettled) {
      this.#transactions.hurry()
      this.#runner.drain?.()
    }
    return isDone && this.#share.isSettled && !this.#share.hasEvents
  }

  async #sleep(consumer: ConsumerClient): Promise<void> {
    if (!this.#isConsumerWaited && !consumer.isDone) {
      this.#isConsumerWaited = true
      void consumer.wait().then(() => {
        this.#isConsumerWaited = false
        this.#rouse()
      })
    }
    if (!this.#isShareWaited) {
      this.#isShareWaited = true
      void this.#share.changed().then(() => {
        this.#isShareWaited = false
        this.#rouse()
      })
    }
    if (this.#isAwake) {
      this.#isAwake = false
      // Others have their turn, however much there is to do.
      if (this.#hasSlept) return
    }
    this.#hasSlept = true
    const nowMs = this.#deps.time.monotonicMs()
    const wakeMs = Math.min(
      this.#epochs.wakeAtMs(nowMs) ?? Infinity,
      this.#lookedMs + LOOK_AGAIN_MS,
    )
    const timer = this.#deps.time.setTimer(Math.max(1, wakeMs - nowMs), () => this.#rouse())
    await new Promise<void>((resolve) => {
      this.#wake = resolve
    })
    timer.cancel()
    this.#isAwake = false
  }

  #rouse(): void {
    this.#isAwake = true
    this.#wake()
  }

  #onEvent(consumer: ConsumerClient, event: ConsumerEvent): void {
    switch (event.kind) {
      case 'records': {
        this.#epochs.take(event, this.#deps.time.monotonicMs())
        event.release?.()
        const { topic, partition } = event
        if (this.#epochs.wantsPause(topic, partition)) {
          consumer.pause(topic, partition)
          this.#paused.set(`${topic}/${partition}`, { topic, partition })
        }
        return
      }
      case 'gap':
        this.#onGap(event)
        this.#epochs.skip(event.topic, event.partition, event.to)
        return
      case 'end':
        this.#epochs.end(event.topic, event.partition, event.offset)
        this.#heldBack.note(event.topic, event.partition, event.offset)
        return
      case 'failed':
        throw event.error
    }
  }

  #onGap(gap: ReadGap): void {
    tellGap(this.#deps.console, this.#report, gap, { gapFails: this.#read.gapFails })
  }

  #startEpochs(consumer: ConsumerClient): void {
    const nowMs = this.#deps.time.monotonicMs()
    for (const lane of [...this.#freeLanes]) {
      const epoch = this.#epochs.next(nowMs, lane)
      if (epoch === undefined) continue
      this.#freeLanes.splice(this.#freeLanes.indexOf(lane), 1)
      const run = this.#runEpoch(epoch, lane)
        .catch((error: unknown) => this.#fail(error))
        .finally(() => {
          this.#running.delete(epoch)
          this.#freeLanes.push(lane)
          this.#freeLanes.sort((left, right) => left - right)
          this.#rouse()
        })
      this.#running.set(epoch, run)
    }
    for (const [name, { topic, partition }] of this.#paused) {
      if (this.#epochs.wantsPause(topic, partition)) continue
      this.#paused.delete(name)
      consumer.resume(topic, partition)
    }
  }

  async #runEpoch(epoch: Epoch, lane: number): Promise<void> {
    if (epoch.records === 0) {
      this.#epochs.done(epoch)
      this.#transactions.add({ epoch })
      return
    }
    await this.#state?.recordBegun(epoch, this.#partitions.topicId(epoch.topic))
    if (!this.#epochs.holds(epoch) || this.#isCut) return
    if (epoch.attempt === 1 && epoch.parent === undefined) this.#judge.addRecords(epoch.records)
    const startMs = this.#deps.time.monotonicMs()
    const carry = this.#state?.carryOf(epoch)
    const outcome = await this.#runner.run(epoch, lane, this.#share.fence, carry)
    if (!this.#epochs.holds(epoch) || outcome.kind === 'stopped') {
      if (outcome.kind === 'done') outcome.drop?.()
      return
    }
    if (outcome.kind === 'done') {
      this.#growth?.note(epoch.records, this.#deps.time.monotonicMs() - startMs)
      this.#epochs.done(epoch)
      if (outcome.carry !== undefined) this.#state?.setCarry(epoch, outcome.carry)
      this.#transactions.add({ epoch, ...outcome })
      return
    }
    if (outcome.kind === 'fed') return this.#epochs.done(epoch)
    if (outcome.kind === 'undone') return this.#epochs.giveBack(epoch)
    await this.#onFailedEpoch(epoch, outcome.failure)
  }

  async #onFailedEpoch(epoch: Epoch, failure: EpochFailure): Promise<void> {
    const next = await this.#judge.judge(epoch, failure)
    if (!this.#epochs.holds(epoch)) return
    switch (next.kind) {
      case 'retry':
        this.#epochs.retry(epoch, this.#deps.time.monotonicMs() + next.pauseMs)
        return
      case 'bisect':
        this.#epochs.bisect(epoch)
        return
      case 'dead':
        this.#report.errors += epoch.records
        this.#epochs.done(epoch)
        this.#transactions.add({ epoch, dead: next.dead })
        if (next.error !== undefined) this.#fail(next.error)
        return
      case 'stop':
        this.#fail(next.error)
        return
    }
  }

  #laneEvents(): LaneEvents {
    return {
      emit: (finished) => this.#transactions.add(...finished),
      divide: (epoch, count) => this.#epochs.divide(epoch, count),
      bury: async (epoch, failure) => {
        const { dlq } = this.#plan
        if (dlq === undefined) return undefined
        const { dead, error } = await this.#judge.bury(epoch, failure, dlq)
        this.#report.errors += epoch.records
        if (error !== undefined) this.#fail(error)
        return { epoch, dead }
      },
      undo: (epochs, failure) => {
        const first = epochs[0]
        if (first === undefined) return
        this.#epochs.reopen(epochs)
        this.#onFailedEpoch(first, failure)
          .catch((error: unknown) => this.#fail(error))
          .finally(() => this.#rouse())
      },
      onFailed: (error) => this.#fail(error),
      onIdleEnd: (words) => this.#tellIdleEnd(words),
    }
  }

  /** Once, however many lanes there are, and not behind a failure: children end then because of it. */
  #tellIdleEnd(words: string): void {
    if (this.#isCut || this.#idleEnds.has(words)) return
    this.#idleEnds.add(words)
    this.#deps.console.warn(words)
  }

  #lostCompany(epochs: readonly FinishedEpoch[]): StreamError {
    const { job } = this.#plan
    const records = epochs.reduce((sum, { epoch }) => sum + (epoch?.records ?? 0), 0)
    return new StreamError(
      'CONFLICT',
      `${job ?? ''}: a partition was lost while ${records} acknowledged records of another one waited for the same transaction`,
      {
        hint: 'start it again: they are done again; with one partition in each lane this cannot be',
      },
    )
  }

  #onCommitted(epochs: readonly FinishedEpoch[]): void {
    for (const { epoch } of epochs) {
      if (epoch === undefined) continue
      this.#epochs.committed(epoch)
      this.#report.records += epoch.records
      this.#report.bytes += epoch.sizeBytes
      if (epoch.records === 0) continue
      this.#report.addSpan(epoch.topic, epoch.partition, epoch.first, epoch.last)
    }
    this.#rouse()
  }

  // --- the share

  async #follow(consumer: ConsumerClient): Promise<void> {
    this.#finishLeaving(false)
    while (this.#leaving === undefined && this.#share.hasEvents) {
      const event = await this.#share.next()
      if (event?.kind === 'taken') await this.#take(event, consumer)
      else if (event?.kind === 'leaving') this.#leave(event, consumer)
    }
  }

  async #take(
    { ranges }: Extract<ShareEvent, { kind: 'taken' }>,
    consumer: ConsumerClient,
  ): Promise<void> {
    for (const { topic, partition, startOffset, endOffset, gap } of ranges) {
      if (gap !== undefined) this.#onGap({ topic, partition, ...gap })
      const topicId = this.#partitions.topicId(topic)
      const known = { topic, topicId, partition }
      await this.#state?.load(known)
      const fixedEnd = await this.#state?.fixedEnd(known, gap?.from ?? startOffset)
      this.#epochs.add(topic, partition, startOffset, fixedEnd)
      const end = endOffset === undefined ? {} : { endOffset: Math.max(endOffset, fixedEnd ?? 0) }
      const leaderEpoch = this.#share.epochBefore(topic, partition, startOffset)
      consumer.assign([{ topic, topicId, partition, startOffset, leaderEpoch, ...end }])
    }
  }

  /** What runs of them has the grace to end and to be committed; of lost ones nothing can be. */
  #leave(
    { partitions, isLost }: Extract<ShareEvent, { kind: 'leaving' }>,
    consumer: ConsumerClient,
  ): void {
    for (const { topic, partition } of partitions) {
      if (consumer.isTopicLost(topic, partition)) this.#tellLost(topic)
      consumer.unassign(topic, partition)
      this.#paused.delete(`${topic}/${partition}`)
      this.#epochs.leave(topic, partition)
      this.#runner.revoke?.(topic, partition)
    }
    this.#transactions.hurry()
    const timer = isLost
      ? undefined
      : this.#deps.time.setTimer(this.#plan.graceMs, () => {
          if (this.#leaving !== undefined) this.#leaving.timer = undefined
          this.#rouse()
        })
    this.#leaving = { partitions, timer }
    this.#finishLeaving(isLost)
  }

  /** Once for each topic: the run goes on without it, and would else look as if nothing were written. */
  #tellLost(topic: string): void {
    if (this.#lostTopics.has(topic)) return
    this.#lostTopics.add(topic)
    this.#deps.console.warn(`${topic}: the topic is gone; nothing more is read of it`)
  }

  #finishLeaving(isLost: boolean): void {
    const leaving = this.#leaving
    if (leaving === undefined) return
    const isQuiet = leaving.partitions.every(({ topic, partition }) =>
      this.#epochs.isQuiet(topic, partition),
    )
    const isLate = leaving.timer === undefined
    if (!isQuiet && !isLate && !isLost) return
    leaving.timer?.cancel()
    this.#leaving = undefined
    for (const { topic, partition } of leaving.partitions) {
      const running = this.#epochs.remove(topic, partition)
      if (running !== undefined) this.#runner.stop(running)
      this.#transactions.lose(topic, partition)
    }
    if (!isQuiet) this.#state?.forget()
    this.#transactions.relax()
    this.#share.released()
  }

  // --- which partitions

  async #findRetries(): Promise<readonly PartitionName[]> {
    const { job } = this.#plan
    if (job === undefined || this.#hasRetryTopic) return []
    const topic = retryTopicOf(job)
    if (this.#read.topics.includes(topic)) return []
    const [info] = await this.#broker.cluster.describeTopics([topic])
    if (info === undefined || info.errorCode !== 0) return []
    this.#hasRetryTopic = true
    return info.partitions.map(({ partition }) => ({ topic, partition }))
  }

  async #lookForMore(): Promise<void> {
    const nowMs = this.#deps.time.monotonicMs()
    if (this.#read.isBounded || nowMs - this.#lookedMs < LOOK_AGAIN_MS) return
    this.#lookedMs = nowMs
    const found = await this.#partitions.findMore()
    const retries = await this.#findRetries().catch(() => [])
    if (found.length + retries.length > 0) this.#share.addPartitions([...found, ...retries])
  }

  // --- the end

  get #isCut(): boolean {
    return this.#stopReason !== undefined
  }

  #stop(reason: StopReason): void {
    this.#stopReason ??= reason
    this.#onStopped()
    this.#share?.stop()
    this.#rouse()
  }

  #fail(error: unknown): void {
    // The children of several lanes fail alike: the first one is told.
    const isRepeated = this.#stopReason === 'failed' && isStreamError(error, 'CHILD_FAILED')
    if (!isRepeated) this.#failures.push(takenOver(error, this.#plan))
    this.#stop('failed')
  }

  /** What runs has the grace; what was made is committed; nothing is left behind. */
  async #end(): Promise<void> {
    this.#epochs.drain()
    this.#transactions.hurry()
    if (this.#running.size > 0) {
      let timer: Timer | undefined
      const late = new Promise<void>((resolve) => {
        // A failure for good needs nobody's work any more.
        const graceMs = this.#stopReason === 'failed' ? 0 : this.#plan.graceMs
        timer = this.#deps.time.setTimer(graceMs, resolve)
      })
      await Promise.race([Promise.all(this.#running.values()), late])
      timer?.cancel()
      for (const epoch of this.#running.keys()) this.#runner.stop(epoch)
      await Promise.all(this.#running.values())
    }
    await this.#runner.close()
    const settled = this.#transactions.settled()
    await Promise.race([settled, sleep(this.#deps.time, this.#plan.graceMs)])
    await this.#transactions.close()
    this.#leaving?.timer?.cancel()
    this.#state?.close()
    await this.#share.close()
  }

  async #conclude(): Promise<number> {
    const { console } = this.#deps
    const report = this.#report
    if (report.errors > 0) this.#failures.push(this.#deadLettered(report.errors))
    const codes = this.#failures.map(exitCodeOf)
    if (this.#stopReason === 'timeout') codes.push(7)
    if (report.gap > 0 && this.#read.isBounded) codes.push(5)
    if (this.#read.failEmpty && report.records === 0) codes.push(3)
    const exit = joinExitCodes(codes)
    if (this.#read.isBounded && this.#stopReason === undefined) await this.#heldBack.tell()
    for (const failure of differentErrors(this.#failures)) {
      if (!isStreamError(failure, 'CLOSED') || this.#failures.length === 1) console.error(failure)
    }
    if (this.#stopReason === 'timeout') console.error(timedOut(this.#read.timeoutMs))
    const path = this.#flags.text('report')
    if (path !== undefined) await report.write(this.#deps, path, exit)
    if (console.wantsSummary) console.print(`stream: ${report.summary('committed')}\n`)
    return exit
  }

  #deadLettered(count: number): StreamError {
    const { dlq = '', job = '' } = this.#plan
    const noun = count === 1 ? 'record was' : 'records were'
    // Dead letters of a topic of another name are no job's.
    const see = dlq === dlqTopicOf(job) ? `stream dlq list ${job}` : `stream cat ${dlq} --json`
    return new StreamError('NOT_DELIVERED', `${count} ${noun} dead-lettered in ${dlq}`, {
      target: dlq,
      hint: `to see why: ${see}`,
    })
  }
}
