/**
 * Reading records and printing them: what consume and cat do (commands.md, section 5).
 *
 * The loop: (1) take the next event at hand; (2) print its records; (3) write when the buffer is full, or when no
 * further event is at hand; (4) wait. A bounded run ends when every partition has reached its end by position.
 */

import { isStreamError, type StreamError } from '../src/base/errors.ts'
import type {
  Assignment,
  ConsumerEvent,
  EndEvent,
  RecordsEvent,
} from '../src/client/consumer-events.ts'
import type { LocalReadOptions } from '../src/client/local-reads.ts'
import { BLOCK_BYTES } from '../src/record/kernel-memory.ts'
import type { Positions } from '../src/text/position.ts'
import type { Broker } from './broker.ts'
import type { ConsumerClient } from './clients.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { differentErrors } from './different-errors.ts'
import { BrokenPipe, exitCodeOf, joinExitCodes } from './exit-code.ts'
import type { Flags } from './flags.ts'
import type { GroupRead } from './group-read.ts'
import { HeldBack } from './held-back.ts'
import { Pacer } from './pacer.ts'
import { Progress } from './progress.ts'
import type { ReadCursor } from './read-cursor.ts'
import { readFraction } from './read-extent.ts'
import { type ReadGap, tellGap } from './read-gap.ts'
import { askOffsets, checkFormat, openConsumer, openInTime, timedOut } from './read-open.ts'
import type { ReadPlan } from './read-options.ts'
import { type Printed, ReadOutput, type RecordOutput } from './read-output.ts'
import { ReadPartitions } from './read-partitions.ts'
import {
  type AskOffsets,
  type PartitionName,
  type PartitionRange,
  resolveRanges,
} from './read-range.ts'
import type { ReadProgress, ReadVariant, VariantOutput } from './read-variant.ts'
import { kernelLoader, makeRecordWriter } from './read-writer.ts'
import { Report } from './report.ts'
import type { MergedPartition } from './time-merge.ts'
import { WakeUp } from './wake-up.ts'

/** How often a following read looks for new topics and partitions. */
const LOOK_AGAIN_MS = 5000
const ORDINARY_BLOCKS = 3

type StopReason = 'signal' | 'timeout' | 'idle' | 'done' | 'failed'

export async function runRead(
  deps: CommandDeps,
  args: CommandArgs,
  plan: ReadPlan,
  variant: ReadVariant = {},
): Promise<number> {
  await checkFormat(plan)
  const startMs = deps.time.monotonicMs()
  const broker = await openInTime(deps, args, plan)
  const job = new ReadJob(deps, args.flags, plan, variant, broker, startMs)
  try {
    return await job.run()
  } finally {
    broker.cluster.close()
  }
}

class ReadJob {
  readonly #deps: CommandDeps
  readonly #flags: Flags
  readonly #plan: ReadPlan
  readonly #variant: ReadVariant
  readonly #broker: Broker
  readonly #startMs: number
  readonly #partitions: ReadPartitions
  readonly #report: Report
  readonly #failures: unknown[] = []
  readonly #pacer: Pacer | undefined
  readonly #heldBack: HeldBack
  /** Of the two at most one. */
  #cursor: ReadCursor | undefined
  #group: GroupRead | undefined
  /** Whatever the loop waits for where nothing is at hand. */
  readonly #wake: WakeUp
  /** The end of the run alone. */
  readonly #stopping: WakeUp
  readonly #stopped: Promise<void>
  #resolveStopped: () => void = () => undefined
  #stopReason: StopReason | undefined
  /** What a bounded read goes through; none of a group, whose share changes. */
  #ranges: readonly PartitionRange[] = []
  #lastRecordMs: number
  #lookedMs: number
  #hasPassedFuture = false
  #endedPartitions = 0
  /** As a member: the group has told once what is its own, if anything; until then the run is not idle. */
  #hasShare = false

  constructor(
    deps: CommandDeps,
    flags: Flags,
    plan: ReadPlan,
    variant: ReadVariant,
    broker: Broker,
    startMs: number,
  ) {
    this.#deps = deps
    this.#flags = flags
    this.#plan = plan
    this.#variant = variant
    this.#broker = broker
    this.#startMs = startMs
    this.#partitions = new ReadPartitions(deps.time, plan, broker.cluster)
    this.#report = new Report(plan.command, deps.time)
    const { isUncommitted } = plan
    this.#heldBack = new HeldBack(deps, broker, { isUncommitted, hasFlag: true })
    this.#pacer = plan.rate === undefined ? undefined : new Pacer(deps.time, plan.rate)
    this.#lastRecordMs = deps.time.monotonicMs()
    this.#lookedMs = this.#lastRecordMs
    this.#wake = new WakeUp(deps.time)
    this.#stopping = new WakeUp(deps.time)
    this.#stopped = new Promise((resolve) => {
      this.#resolveStopped = () => {
        this.#wake.wake()
        this.#stopping.wake()
        resolve()
      }
    })
  }

  async run(): Promise<number> {
    const { interruption, time } = this.#deps
    const stopListening = interruption.onRaised(() => this.#stop('signal'))
    const { timeoutMs } = this.#plan
    const spentMs = time.monotonicMs() - this.#startMs
    const timer =
      timeoutMs === undefined
        ? undefined
        : time.setTimer(Math.max(0, timeoutMs - spentMs), () => this.#stop('timeout'))
    const progress = new Progress(this.#deps, this.#flags, {
      report: this.#report,
      fraction: () => readFraction(this.#report, this.#ranges, this.#plan),
      sharesTerminal: this.#deps.host.isTerminal('output'),
    })
    let output: RecordOutput | undefined
    try {
      this.#cursor = await this.#openCursor()
      this.#group = await this.#openGroup()
      output = await this.#makeOutput()
      await this.#read(output)
      await this.#endCursor(output)
    } catch (error) {
      if (error instanceof BrokenPipe) {
        await this.#progress?.cutShort()
        throw error
      }
      this.#failures.push(error)
      try {
        await this.#settleFailed(error)
        await this.#progress?.cutShort()
      } catch (failure) {
        this.#failures.push(failure)
      }
    } finally {
      timer?.cancel()
      progress.end()
      stopListening()
      await this.#progress?.close()
    }
    return this.#conclude(output)
  }

  async #openCursor(): Promise<ReadCursor | undefined> {
    const plan = this.#plan.cursor
    if (plan === undefined) return undefined
    const { ReadCursor } = await import('./read-cursor.ts')
    return new ReadCursor(this.#deps, plan, (error) => {
      this.#failures.push(error)
      this.#stop('failed')
    })
  }

  async #openGroup(): Promise<GroupRead | undefined> {
    const plan = this.#plan.group
    if (plan === undefined) return undefined
    const { GroupRead } = await import('./group-read.ts')
    const ask: AskOffsets = (...asked) => this.#askOffsets(...asked)
    return GroupRead.open(this.#deps, this.#broker, this.#plan, plan, ask, {
      topicId: (topic) => this.#partitions.topicId(topic),
      onFailure: (error) => {
        this.#failures.push(error)
        this.#stop('failed')
      },
    })
  }

  /** Where what was read is stored. */
  get #progress(): ReadProgress | undefined {
    return this.#cursor ?? this.#group ?? this.#variant.progress
  }

  /** Writes what was taken, and tells so. */
  #write(output: RecordOutput): void | Promise<void> {
    const outcome = output.write()
    const cursor = this.#progress
    if (cursor === undefined) return outcome
    if (outcome === undefined) {
      cursor.onWritten()
      return undefined
    }
    return outcome.then(() => cursor.onWritten())
  }

  async #endCursor(output: RecordOutput): Promise<void> {
    const cursor = this.#progress
    if (cursor === undefined) return
    await this.#write(output)
    await cursor.settle(this.#stopped, () => this.#mayNotWait)
    const isProper = this.#stopReason === undefined || this.#hasProperStop
    await cursor.end(isProper && this.#failures.length === 0)
  }

  /** Who acknowledges has what was printed before the failure, and may say so: it would be given it again. */
  async #settleFailed(error: unknown): Promise<void> {
    const isOfOutput = !isStreamError(error) || error.code === 'OUTPUT_FAILED'
    if (isOfOutput || this.#progress?.acknowledgements === undefined) return
    await this.#progress.settle(this.#stopped, () => this.#mayNotWait)
  }

  async #makeOutput(): Promise<RecordOutput> {
    const isTerminal = this.#deps.host.isTerminal('output')
    const screen = await this.#variant.makeWriter?.()
    let output: ReadOutput | undefined
    const writer =
      screen ??
      (await makeRecordWriter(this.#plan, {
        isTerminal,
        onAmbiguous: () => output?.noteAmbiguous(),
      }))
    const made = this.#variant.makeOutput?.(writer)
    if (made !== undefined) return made
    const acknowledgements = this.#progress?.acknowledgements
    const allowsPlain = !isTerminal && screen === undefined
    // Who stores progress must know when all is written, which a kernel's outputs do not tell one by one.
    const needsEachWrite = this.#cursor !== undefined || this.#group !== undefined
    const mayUseKernel = allowsPlain && !needsEachWrite
    const loadKernel = mayUseKernel
      ? await kernelLoader(this.#plan, this.#deps.stdio.output)
      : undefined
    output = new ReadOutput(this.#deps.stdio.output, {
      plan: this.#plan,
      writer,
      allowsPlain,
      ...(loadKernel === undefined ? {} : { loadKernel }),
      onAmbiguous: (topic, partition) => this.#onAmbiguous(topic, partition),
      ...(acknowledgements === undefined
        ? {}
        : {
            onRecord: (topic, partition, offset) => acknowledgements.add(topic, partition, offset),
          }),
    })
    return output
  }

  get #hasProperStop(): boolean {
    return this.#stopReason === 'done' || this.#stopReason === 'idle'
  }

  get #mayNotWait(): boolean {
    return this.#stopReason !== undefined && !this.#hasProperStop
  }

  #stop(reason: StopReason): void {
    this.#stopReason ??= reason
    this.#resolveStopped()
  }

  async #read(output: RecordOutput): Promise<void> {
    const found = await this.#partitions.find(this.#stopped)
    if (this.#stopReason !== undefined || found === undefined) return
    if (this.#group !== undefined) {
      await this.#readAsMember(this.#group, found, output)
      return
    }
    const partitions = this.#variant.select?.(found) ?? found
    const ranges = await this.#findRanges(partitions)
    this.#ranges = ranges
    for (const { topic, partition, gap } of ranges) {
      if (gap !== undefined) this.#onGap({ topic, partition, ...gap })
    }
    this.#cursor?.begin(ranges)
    if (this.#plan.countMax === 0 || this.#stopReason !== undefined) return
    const localReads = await this.#localReads(output)
    const consumer = await this.#openConsumer(ranges.length, localReads)
    try {
      consumer.assign(this.#assignmentsOf(ranges))
      if (this.#plan.isByTime) await this.#mergeLoop(consumer, output, ranges)
      if (this.#variant.goesOn === true && this.#stopReason === undefined) {
        consumer.assign(this.#assignmentsOf(ranges.map(openEndOf)))
      }
      if (!this.#plan.isByTime || this.#variant.goesOn === true) await this.#loop(consumer, output)
      if (this.#failures.length === 0 && !this.#mayNotWait) finishOf(output)?.()
      await this.#write(output)
      await output.drain?.()
    } catch (error) {
      // What was taken before is whole, and goes out.
      if (!(error instanceof BrokenPipe) && !isStreamError(error, 'OUTPUT_FAILED')) {
        await this.#write(output)
        await output.drain?.()
      }
      throw error
    } finally {
      consumer.close()
    }
  }

  /** The partitions come from the group, while it reads. */
  async #readAsMember(
    group: GroupRead,
    found: readonly PartitionName[],
    output: RecordOutput,
  ): Promise<void> {
    if (this.#plan.countMax === 0) return
    const consumer = await this.#openConsumer(found.length)
    try {
      await group.start(found)
      await this.#loop(consumer, output)
      await this.#write(output)
    } catch (error) {
      if (!(error instanceof BrokenPipe) && !isStreamError(error, 'OUTPUT_FAILED')) {
        await this.#write(output)
      }
      throw error
    } finally {
      consumer.close()
    }
  }

  #followGroup(group: GroupRead, consumer: ConsumerClient, output: RecordOutput): Promise<void> {
    return group.follow({
      consumer,
      write: () => this.#write(output),
      isStopped: () => this.#stopReason !== undefined,
      onGap: ({ topic, partition, gap }) => {
        if (gap !== undefined) this.#onGap({ topic, partition, ...gap })
      },
    })
  }

  async #findRanges(partitions: readonly PartitionName[]): Promise<PartitionRange[]> {
    const ask: AskOffsets = (...asked) => this.#askOffsets(...asked)
    const { findRanges } = this.#variant
    if (findRanges !== undefined) {
      return findRanges(partitions, {
        ask,
        clusterId: this.#broker.cluster.metadata.clusterId,
        topicId: (topic) => this.#partitions.topicId(topic),
        openConsumer: (count) => this.#openConsumer(count),
        isStopped: () => this.#stopReason !== undefined,
      })
    }
    return resolveRanges(partitions, this.#startOf(partitions), this.#plan.until, ask)
  }

  #startOf(partitions: readonly PartitionName[]): Positions {
    const { from } = this.#plan
    const { clusterId } = this.#broker.cluster.metadata
    const topicId = (topic: string): string => this.#partitions.topicId(topic)
    return this.#cursor?.startOf(partitions, from, { clusterId, topicId }) ?? from
  }

  /** Of the topics that were found, and of no others that have come to their names. */
  #assignmentsOf(ranges: readonly Omit<PartitionRange, 'gap'>[]): Assignment[] {
    return ranges.map(({ topic, partition, startOffset, endOffset }) => ({
      topic,
      topicId: this.#partitions.topicId(topic),
      partition,
      startOffset,
      ...(endOffset === undefined ? {} : { endOffset }),
    }))
  }

  #openConsumer(partitionCount: number, localReads?: LocalReadOptions): Promise<ConsumerClient> {
    return openConsumer(this.#deps, this.#broker, this.#plan, partitionCount, localReads)
  }

  /**
   * Files are read right into the memory in which their batches are printed. That memory is used again, so only outputs take part
   * that keep nothing of a batch.
   */
  async #localReads(output: RecordOutput): Promise<LocalReadOptions | undefined> {
    if (!(output instanceof ReadOutput) || this.#plan.isByTime) return undefined
    const disk = await this.#deps.loadDisk()
    return { disk, blocks: () => output.useKernel()?.memory.blocks ?? ordinaryBlocks() }
  }

  #askOffsets(...asked: Parameters<AskOffsets>) {
    return askOffsets(this.#deps, this.#broker, this.#plan, ...asked)
  }

  // --- which partitions

  /** New topics that match, and new partitions: read from their start. */
  async #lookForMore(consumer: ConsumerClient): Promise<void> {
    this.#lookedMs = this.#deps.time.monotonicMs()
    const found = await this.#partitions.findMore()
    if (this.#group !== undefined) {
      if (found.length > 0) this.#group.setTopics(this.#partitions.all())
      return
    }
    const added = this.#variant.select?.(found) ?? found
    if (added.length === 0) return
    const start = { all: { kind: 'start' }, places: [] } as const
    const places = this.#startOf(added).places
    const ranges = await resolveRanges(added, { ...start, places }, undefined, (questions) =>
      this.#askOffsets(questions),
    )
    this.#cursor?.begin(ranges)
    consumer.assign(this.#assignmentsOf(ranges))
  }

  // --- the loop

  async #loop(consumer: ConsumerClient, output: RecordOutput): Promise<void> {
    const group = this.#group
    while (this.#stopReason === undefined) {
      if (group?.hasEvents === true) await this.#followGroup(group, consumer, output)
      const event = consumer.poll()
      if (event === undefined) {
        await this.#write(output)
        if (await this.#isOver(consumer, output)) return
        continue
      }
      const wait = this.#onEvent(consumer, output, event)
      if (wait !== undefined) await wait
    }
  }

  #onEvent(
    consumer: ConsumerClient,
    output: RecordOutput,
    event: ConsumerEvent,
  ): void | Promise<void> {
    switch (event.kind) {
      case 'records':
        return this.#onRecords(consumer, output, event)
      case 'gap':
        this.#onGap(event)
        this.#progress?.take(event.topic, event.partition, event.to)
        return undefined
      case 'end':
        this.#onEnd(consumer, event)
        return undefined
      case 'failed':
        this.#onFailed(event.error)
        return undefined
    }
  }

  /** @returns a promise only when something has to be waited for */
  #onRecords(
    consumer: ConsumerClient,
    output: RecordOutput,
    event: RecordsEvent,
  ): void | Promise<void> {
    this.#lastRecordMs = this.#deps.time.monotonicMs()
    if (this.#pacer === undefined && event.batches.length === 1) {
      const printed = this.#printBatch(consumer, output, event, 0, event.fromOffset)
      if (!printed.isWhole) return this.#printSlowly(consumer, output, event, printed.nextOffset)
      event.release?.()
      return output.isFull ? this.#write(output) : undefined
    }
    return this.#printSlowly(consumer, output, event, event.fromOffset)
  }

  async #printSlowly(
    consumer: ConsumerClient,
    output: RecordOutput,
    event: RecordsEvent,
    firstOffset: number,
  ): Promise<void> {
    let fromOffset = firstOffset
    try {
      for (let index = 0; index < event.batches.length; index += 1) {
        const records = output.records
        const bytes = output.bytes
        let printed = this.#printBatch(consumer, output, event, index, fromOffset)
        while (!printed.isWhole) {
          await this.#write(output)
          if (this.#stopReason !== undefined) return
          printed = this.#printBatch(consumer, output, event, index, printed.nextOffset)
        }
        if (printed.hasPassedTime) return
        fromOffset = printed.nextOffset
        if (output.isFull) await this.#write(output)
        if (this.#stopReason !== undefined) return
        const pacer = this.#pacer
        if (pacer === undefined) continue
        pacer.take(output.records - records, output.bytes - bytes)
        await this.#pause(output, pacer.waitMs)
      }
    } finally {
      event.release?.()
    }
  }

  #onEnd(consumer: ConsumerClient, { topic, partition, offset }: EndEvent): void {
    this.#endedPartitions += 1
    this.#heldBack.note(topic, partition, offset)
    const epoch = consumer.epochBefore(topic, partition, offset)
    this.#progress?.take(topic, partition, offset, epoch)
  }

  #printBatch(
    consumer: ConsumerClient,
    output: RecordOutput,
    event: RecordsEvent,
    index: number,
    fromOffset: number,
  ): Printed {
    const { topic, partition } = event
    const printed = output.addBatch(event, index, fromOffset)
    if (printed.nextOffset > fromOffset) {
      this.#report.addSpan(topic, partition, fromOffset, printed.nextOffset - 1)
    }
    this.#progress?.take(topic, partition, printed.nextOffset)
    this.#report.records = output.records
    this.#report.bytes = output.bytes
    if (printed.isDone) this.#stop('done')
    if (printed.hasPassedTime) {
      consumer.unassign(topic, partition)
      this.#endedPartitions += 1
    }
    return printed
  }

  /** Nothing is at hand: waits for more. @returns whether the run is over */
  async #isOver(consumer: ConsumerClient, output: RecordOutput): Promise<boolean> {
    const follows = !this.#plan.isBounded && !this.#hasPassedFuture
    const group = this.#group
    const isDone = consumer.isDone
    // A member without partitions, or in a rebalance, may still be given some.
    const isSettled = group === undefined || group.isSettled
    if (isDone && isSettled && (!follows || this.#isAllPassed())) return true
    const { time } = this.#deps
    const nowMs = time.monotonicMs()
    const { idleMs, untilFutureMs } = this.#plan
    // An outage is no want of records: the time begins again when they can be had.
    // So it does with the first share of a group, which may have to wait for members that are gone.
    if (isSettled) this.#hasShare = true
    if (idleMs !== undefined && (consumer.isOutOfTouch || !this.#hasShare)) {
      this.#lastRecordMs = nowMs
    }
    if (idleMs !== undefined && nowMs - this.#lastRecordMs >= idleMs) {
      this.#stop('idle')
      return true
    }
    if (untilFutureMs !== undefined && !this.#hasPassedFuture && time.wallMs() >= untilFutureMs) {
      await this.#boundAtNow(consumer)
      return false
    }
    let waitMs = Number.POSITIVE_INFINITY
    if (idleMs !== undefined) waitMs = Math.min(waitMs, this.#lastRecordMs + idleMs - nowMs)
    if (untilFutureMs !== undefined && !this.#hasPassedFuture) {
      waitMs = Math.min(waitMs, Math.max(1, untilFutureMs - time.wallMs()))
    }
    if (follows) {
      if (nowMs - this.#lookedMs >= LOOK_AGAIN_MS) await this.#lookForMore(consumer)
      waitMs = Math.min(waitMs, this.#lookedMs + LOOK_AGAIN_MS - nowMs)
    }
    // With nothing assigned the consumer would not wait: no topic matches yet.
    const wake = this.#wake
    if (group !== undefined) wake.arm('group', () => group.changed())
    if (!isDone) wake.arm('consumer', () => consumer.wait())
    // A write that fails meanwhile ends the run: the next turn of the loop finds it.
    const { settling } = output
    if (settling !== undefined) wake.arm('output', () => settling)
    await wake.wait(waitMs)
    return this.#stopReason !== undefined
  }

  /** With a future end: every partition has shown a record stamped so late. */
  #isAllPassed(): boolean {
    return (
      this.#plan.untilFutureMs !== undefined && this.#endedPartitions >= this.#partitions.known.size
    )
  }

  /** The moment of --until has come: what is there now is read, and no more. */
  async #boundAtNow(consumer: ConsumerClient): Promise<void> {
    this.#hasPassedFuture = true
    const partitions: PartitionName[] = []
    const starts = new Map<string, number>()
    for (const name of this.#partitions.known) {
      const split = name.lastIndexOf('/')
      const topic = name.slice(0, split)
      const partition = Number(name.slice(split + 1))
      const position = consumer.position(topic, partition)
      if (position === undefined) continue
      partitions.push({ topic, partition })
      starts.set(name, position)
    }
    const end = { all: { kind: 'end' }, places: [] } as const
    const ranges = await resolveRanges(partitions, end, end, (questions) =>
      this.#askOffsets(questions),
    )
    consumer.assign(
      this.#assignmentsOf(
        ranges.map((range) => ({
          topic: range.topic,
          partition: range.partition,
          startOffset: starts.get(`${range.topic}/${range.partition}`) ?? range.startOffset,
          endOffset: range.endOffset ?? range.startOffset,
        })),
      ),
    )
  }

  async #mergeLoop(
    consumer: ConsumerClient,
    output: RecordOutput,
    ranges: readonly PartitionRange[],
  ): Promise<void> {
    const { mergeByTime } = await import('./read-merge.ts')
    await mergeByTime(consumer, ranges, {
      isStopped: () => this.#stopReason !== undefined,
      wake: this.#wake,
      write: () => this.#write(output),
      take: (merged) => this.#takeMerged(output, merged),
      onGap: (gap) => this.#onGap(gap),
      onFailed: (error) => this.#onFailed(error),
      onEnd: (topic, partition, offset) => {
        this.#heldBack.note(topic, partition, offset)
        this.#progress?.take(topic, partition, offset)
      },
    })
  }

  #takeMerged(output: RecordOutput, merged: MergedPartition): void | Promise<void> {
    const { topic, partition, cursor } = merged
    output.setPartition(topic, partition)
    output.setEnds(merged.ends)
    const isPrinted = output.addRecord(cursor)
    this.#progress?.take(topic, partition, cursor.offset + 1)
    this.#report.addSpan(topic, partition, cursor.offset, cursor.offset)
    this.#report.records = output.records
    this.#report.bytes = output.bytes
    if (output.isDone) this.#stop('done')
    const pacer = this.#pacer
    if (!isPrinted || pacer === undefined) return output.isFull ? this.#write(output) : undefined
    pacer.take(1, cursor.valueEnd - cursor.valueStart)
    return this.#pause(output, pacer.waitMs)
  }

  async #pause(output: RecordOutput, waitMs: number): Promise<void> {
    if (waitMs === 0) return
    await this.#write(output)
    const { time } = this.#deps
    const untilMs = time.monotonicMs() + waitMs
    for (let leftMs = waitMs; leftMs > 0 && this.#stopReason === undefined; ) {
      await this.#stopping.wait(leftMs)
      leftMs = untilMs - time.monotonicMs()
    }
  }

  // --- what may go wrong

  #onGap(gap: ReadGap): void {
    tellGap(this.#deps.console, this.#report, gap, this.#plan)
  }

  #onFailed(error: StreamError): void {
    // Of a bounded read the other partitions are still wanted; one that follows would go on half.
    if (!this.#plan.isBounded) throw error
    this.#failures.push(error)
  }

  #onAmbiguous(topic: string, partition: number): void {
    this.#deps.console.warn(
      `${topic}: partition ${partition}: a value contains the delimiter; to tell records apart: --json, -0 or -o sized`,
    )
  }

  async #conclude(output: RecordOutput | undefined): Promise<number> {
    const { console } = this.#deps
    const report = this.#report
    const codes = this.#failures.map(exitCodeOf)
    if (this.#stopReason === 'timeout') codes.push(7)
    if (report.gap > 0 && this.#plan.isBounded) codes.push(5)
    if (output?.isAmbiguous === true && this.#plan.isStrict) codes.push(5)
    if (this.#plan.failEmpty && (output?.records ?? 0) === 0) codes.push(3)
    const exit = joinExitCodes(codes)
    report.records = output?.records ?? 0
    report.bytes = output?.bytes ?? 0
    report.errors = this.#failures.length
    const isToTheEnd = this.#stopReason === undefined || this.#stopReason === 'idle'
    if (this.#plan.isBounded && isToTheEnd) await this.#heldBack.tell()
    for (const failure of differentErrors(this.#failures)) console.error(failure)
    if (this.#stopReason === 'timeout') {
      console.error(timedOut(this.#plan.timeoutMs))
    }
    const path = this.#flags.text('report')
    if (path !== undefined) await report.write(this.#deps, path, exit)
    if (console.wantsSummary) {
      console.print(`stream: ${report.summary('printed')}\n`)
    }
    return exit
  }
}

function ordinaryBlocks(): readonly Uint8Array[] {
  return Array.from({ length: ORDINARY_BLOCKS }, () => Buffer.allocUnsafeSlow(BLOCK_BYTES))
}

function openEndOf(range: PartitionRange) {
  const { topic, partition, startOffset, endOffset } = range
  return { topic, partition, startOffset: endOffset ?? startOffset, endOffset: undefined }
}

function finishOf(output: RecordOutput): (() => void) | undefined {
  return 'finish' in output ? () => (output as VariantOutput).finish() : undefined
}
