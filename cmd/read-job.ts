/**
 * Reading records and printing them: what consume and cat do (commands.md, section 5).
 *
 * The loop: (1) take the next event at hand; (2) print its records; (3) write when the buffer is full, or when no
 * further event is at hand; (4) wait. A bounded run ends when every partition has reached its end by position.
 */

import { isStreamError, StreamError } from '../src/base/errors.ts'
import type { ConsumerEvent, RecordsEvent } from '../src/client/consumer.ts'
import type { LocalReadOptions } from '../src/client/local-reads.ts'
import { nearestName } from '../src/config/nearest-name.ts'
import { sleep } from '../src/ports/time.ts'
import { BLOCK_BYTES } from '../src/record/kernel-memory.ts'
import { SimdLineDecoder } from '../src/record/line-decoder-simd.ts'
import type { EnvelopeKernel } from '../src/text/envelope-kernel.ts'
import { type Broker, openBroker } from './broker.ts'
import type { ConsumerClient } from './clients.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { BrokenPipe, exitCodeOf, joinExitCodes } from './exit-code.ts'
import type { Flags } from './flags.ts'
import { KernelPrinter } from './kernel-printer.ts'
import { Pacer } from './pacer.ts'
import { Progress } from './progress.ts'
import type { ReadPlan } from './read-options.ts'
import { type Printed, ReadOutput } from './read-output.ts'
import { type PartitionName, type PartitionRange, resolveRanges } from './read-range.ts'
import { Report } from './report.ts'
import { chooseTopics } from './topic-names.ts'

/** How often a following read looks for new topics and partitions. */
const LOOK_AGAIN_MS = 5000
const ORDINARY_BLOCKS = 3
const WAIT_TOPIC_FIRST_MS = 50
const WAIT_TOPIC_MAX_MS = 1000

type StopReason = 'signal' | 'timeout' | 'idle' | 'done'

export async function runRead(
  deps: CommandDeps,
  args: CommandArgs,
  plan: ReadPlan,
): Promise<number> {
  const broker = await openBroker(deps, args)
  const job = new ReadJob(deps, args.flags, plan, broker)
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
  readonly #broker: Broker
  readonly #report: Report
  readonly #failures: unknown[] = []
  readonly #pacer: Pacer | undefined
  readonly #known = new Set<string>()
  readonly #stopped: Promise<void>
  #resolveStopped: () => void = () => undefined
  #stopReason: StopReason | undefined
  #envelopeKernel: typeof EnvelopeKernel | undefined
  #lastRecordMs: number
  #lookedMs: number
  #hasPassedFuture = false
  #endedPartitions = 0

  constructor(deps: CommandDeps, flags: Flags, plan: ReadPlan, broker: Broker) {
    this.#deps = deps
    this.#flags = flags
    this.#plan = plan
    this.#broker = broker
    this.#report = new Report(plan.command, deps.time)
    this.#pacer = plan.rate === undefined ? undefined : new Pacer(deps.time, plan.rate)
    this.#lastRecordMs = deps.time.monotonicMs()
    this.#lookedMs = this.#lastRecordMs
    this.#stopped = new Promise((resolve) => {
      this.#resolveStopped = resolve
    })
  }

  async run(): Promise<number> {
    const { interruption, time } = this.#deps
    const stopListening = interruption.onRaised(() => this.#stop('signal'))
    const { timeoutMs } = this.#plan
    const timer =
      timeoutMs === undefined ? undefined : time.setTimer(timeoutMs, () => this.#stop('timeout'))
    const output = new ReadOutput(this.#deps.stdio.output, {
      plan: this.#plan,
      isTerminal: this.#deps.host.isTerminal('output') && this.#plan.form === 'value',
      onAmbiguous: (topic, partition) => this.#onAmbiguous(topic, partition),
      envelopes: await this.#makeEnvelopes(),
      loadKernel: () => this.#loadKernel(),
    })
    const progress = new Progress(this.#deps, this.#flags, {
      report: this.#report,
      sharesTerminal: this.#deps.host.isTerminal('output'),
    })
    try {
      await this.#read(output)
    } catch (error) {
      if (error instanceof BrokenPipe) throw error
      this.#failures.push(error)
    } finally {
      timer?.cancel()
      progress.end()
      stopListening()
    }
    return this.#conclude(output)
  }

  async #makeEnvelopes() {
    if (this.#plan.form !== 'json') return undefined
    const { EnvelopeWriter } = await import('../src/text/envelope-writer.ts')
    if (!this.#plan.embed) {
      this.#envelopeKernel = (await import('../src/text/envelope-kernel.ts')).EnvelopeKernel
    }
    return new EnvelopeWriter({ embed: this.#plan.embed, delimiter: this.#plan.delimiter })
  }

  #loadKernel(): KernelPrinter | undefined {
    const { form, delimiter, nullValue } = this.#plan
    const envelopes = this.#envelopeKernel
    return KernelPrinter.load(this.#deps.stdio.output, (memory) =>
      form === 'value'
        ? SimdLineDecoder.load(memory, {
            delimiter: delimiter[0] ?? 0x0a,
            ...(nullValue === undefined ? {} : { nullValue }),
          })
        : envelopes?.load(memory, { delimiter }),
    )
  }

  #stop(reason: StopReason): void {
    this.#stopReason ??= reason
    this.#resolveStopped()
  }

  async #read(output: ReadOutput): Promise<void> {
    const partitions = await this.#findPartitions()
    if (this.#stopReason !== undefined) return
    const ranges = await resolveRanges(partitions, this.#plan.from, this.#plan.until, (questions) =>
      this.#askOffsets(questions),
    )
    for (const { topic, partition, gap } of ranges) {
      if (gap !== undefined) this.#onGap({ kind: 'gap', topic, partition, ...gap })
    }
    if (this.#plan.countMax === 0) return
    const consumer = await this.#openConsumer(output, ranges.length)
    try {
      consumer.assign(ranges.map(assignmentOf))
      if (this.#plan.isByTime) await this.#mergeLoop(consumer, output, ranges)
      else await this.#loop(consumer, output)
      await output.finish()
    } catch (error) {
      // What was taken before is whole, and goes out.
      if (!(error instanceof BrokenPipe) && !isStreamError(error, 'OUTPUT_FAILED')) {
        await output.finish()
      }
      throw error
    } finally {
      consumer.close()
    }
  }

  async #openConsumer(output: ReadOutput, partitionCount: number): Promise<ConsumerClient> {
    const { settings, cluster } = this.#broker
    const { isByTime, isUncommitted } = this.#plan
    const fetchBytesMax = settings.number('fetch.max.bytes')
    const isolation = isUncommitted ? 'read_uncommitted' : settings.text('isolation.level')
    return this.#deps.clients.consumer(cluster, {
      isolation: isolation === 'read_uncommitted' ? 'read_uncommitted' : 'read_committed',
      maxWaitMs: settings.number('fetch.max.wait.ms'),
      minBytes: settings.number('fetch.min.bytes'),
      fetchBytesMax,
      partitionBytesMax: isByTime
        ? Math.min(1_048_576, settings.number('max.partition.fetch.bytes'))
        : settings.number('max.partition.fetch.bytes'),
      // Merging holds every partition's next records; none of them may be kept from coming by the others.
      ...(isByTime
        ? { prefetchBytesMax: fetchBytesMax * 2 + partitionCount * 2_097_152 }
        : { localReads: await this.#localReads(output) }),
    })
  }

  /** Files are read right into the memory in which their batches are printed. */
  async #localReads(output: ReadOutput): Promise<LocalReadOptions> {
    const disk = await this.#deps.loadDisk()
    return { disk, blocks: () => output.useKernel()?.memory.blocks ?? ordinaryBlocks() }
  }

  #askOffsets(questions: Parameters<CommandDeps['clients']['listOffsets']>[1]) {
    return this.#deps.clients.listOffsets(this.#broker.cluster, questions, {
      isolation: this.#plan.isUncommitted ? 'read_uncommitted' : 'read_committed',
    })
  }

  // --- which partitions

  async #findPartitions(): Promise<PartitionName[]> {
    for (let delayMs = WAIT_TOPIC_FIRST_MS; ; delayMs = Math.min(delayMs * 2, WAIT_TOPIC_MAX_MS)) {
      try {
        return await this.#lookUp()
      } catch (error) {
        if (!isStreamError(error, 'TOPIC_UNKNOWN') || !this.#plan.waitTopic) throw error
      }
      await Promise.race([sleep(this.#deps.time, delayMs), this.#stopped])
      if (this.#stopReason !== undefined) return []
    }
  }

  /** @throws StreamError TOPIC_UNKNOWN */
  async #lookUp(): Promise<PartitionName[]> {
    const { cluster } = this.#broker
    const { names, empty } = await chooseTopics(
      this.#plan.topics,
      { isRegex: this.#plan.isRegex },
      async () => {
        const topics = await cluster.describeTopics(undefined)
        return topics.map((topic) => topic.name)
      },
    )
    if (names.length === 0 && (this.#plan.waitTopic || this.#plan.isBounded)) {
      throw new StreamError('TOPIC_UNKNOWN', `${empty.join(', ')}: no such topic`)
    }
    const found: PartitionName[] = []
    for (const name of names) {
      const info = await this.#awaitTopic(name)
      for (const { partition } of info.partitions) {
        if (this.#plan.partitions?.includes(partition) ?? true) {
          found.push({ topic: name, partition })
        }
      }
      for (const partition of this.#plan.partitions ?? []) {
        if (partition < info.partitions.length) continue
        throw new StreamError(
          'TOPIC_UNKNOWN',
          `${name}: no partition ${partition}, only ${info.partitions.length}`,
          { target: name },
        )
      }
    }
    for (const { topic, partition } of found) this.#known.add(`${topic}/${partition}`)
    return found
  }

  async #awaitTopic(name: string) {
    try {
      return await this.#broker.cluster.awaitTopic(name)
    } catch (error) {
      if (!isStreamError(error, 'TOPIC_UNKNOWN')) throw error
      const topics = await this.#broker.cluster.describeTopics(undefined).catch(() => [])
      const nearest = nearestName(
        name,
        topics.map((topic) => topic.name),
      )
      const toWait = 'to wait for it: --wait-topic'
      throw new StreamError(error.code, error.message, {
        target: name,
        hint: nearest === undefined ? toWait : `did you mean ${nearest}? ${toWait}`,
        cause: error,
        ...(error.kafkaError === undefined ? {} : { kafkaError: error.kafkaError }),
      })
    }
  }

  /** New topics that match, and new partitions: read from their start. */
  async #lookForMore(consumer: ConsumerClient): Promise<void> {
    this.#lookedMs = this.#deps.time.monotonicMs()
    const known = new Set(this.#known)
    let partitions: PartitionName[]
    try {
      partitions = await this.#lookUp()
    } catch {
      // The consumer itself says what is wrong with what is being read.
      return
    }
    const added = partitions.filter(({ topic, partition }) => !known.has(`${topic}/${partition}`))
    if (added.length === 0) return
    const start = { all: { kind: 'start' }, places: [] } as const
    const ranges = await resolveRanges(added, start, undefined, (questions) =>
      this.#askOffsets(questions),
    )
    consumer.assign(ranges.map(assignmentOf))
  }

  // --- the loop

  async #loop(consumer: ConsumerClient, output: ReadOutput): Promise<void> {
    while (this.#stopReason === undefined) {
      const event = consumer.poll()
      if (event === undefined) {
        await output.write()
        if (await this.#isOver(consumer, output)) return
        continue
      }
      const wait = this.#onEvent(consumer, output, event)
      if (wait !== undefined) await wait
    }
  }

  #onEvent(
    consumer: ConsumerClient,
    output: ReadOutput,
    event: ConsumerEvent,
  ): void | Promise<void> {
    switch (event.kind) {
      case 'records':
        return this.#onRecords(consumer, output, event)
      case 'gap':
        this.#onGap(event)
        return undefined
      case 'end':
        this.#endedPartitions += 1
        return undefined
      case 'failed':
        this.#onFailed(event.error)
        return undefined
    }
  }

  /** @returns a promise only when something has to be waited for */
  #onRecords(
    consumer: ConsumerClient,
    output: ReadOutput,
    event: RecordsEvent,
  ): void | Promise<void> {
    this.#lastRecordMs = this.#deps.time.monotonicMs()
    if (this.#pacer === undefined && event.batches.length === 1) {
      const printed = this.#printBatch(consumer, output, event, 0, event.fromOffset)
      if (!printed.isWhole) return this.#printSlowly(consumer, output, event, printed.nextOffset)
      event.release?.()
      return output.isFull ? output.write() : undefined
    }
    return this.#printSlowly(consumer, output, event, event.fromOffset)
  }

  async #printSlowly(
    consumer: ConsumerClient,
    output: ReadOutput,
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
          await output.write()
          if (this.#stopReason !== undefined) return
          printed = this.#printBatch(consumer, output, event, index, printed.nextOffset)
        }
        if (printed.hasPassedTime) return
        fromOffset = printed.nextOffset
        if (output.isFull) await output.write()
        if (this.#stopReason !== undefined) return
        if (this.#pacer !== undefined) await this.#pace(this.#pacer, output, { records, bytes })
      }
    } finally {
      event.release?.()
    }
  }

  async #pace(
    pacer: Pacer,
    output: ReadOutput,
    before: { readonly records: number; readonly bytes: number },
  ): Promise<void> {
    pacer.take(output.records - before.records, output.bytes - before.bytes)
    const { waitMs } = pacer
    if (waitMs === 0) return
    await output.write()
    await Promise.race([sleep(this.#deps.time, waitMs), this.#stopped])
  }

  #printBatch(
    consumer: ConsumerClient,
    output: ReadOutput,
    event: RecordsEvent,
    index: number,
    fromOffset: number,
  ): Printed {
    const { topic, partition } = event
    const printed = output.addBatch(event, index, fromOffset)
    if (printed.nextOffset > fromOffset) {
      this.#report.addSpan(topic, partition, fromOffset, printed.nextOffset - 1)
    }
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
  async #isOver(consumer: ConsumerClient, output: ReadOutput): Promise<boolean> {
    const follows = !this.#plan.isBounded && !this.#hasPassedFuture
    const isDone = consumer.isDone
    if (isDone && (!follows || this.#isAllPassed())) return true
    const { time } = this.#deps
    const nowMs = time.monotonicMs()
    const { idleMs, untilFutureMs } = this.#plan
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
    const next = isDone
      ? sleep(time, Math.max(1, waitMs))
      : consumer.wait(waitMs === Number.POSITIVE_INFINITY ? undefined : Math.max(1, waitMs))
    // A write that fails meanwhile ends the run: the next turn of the loop finds it.
    const { settling } = output
    const first = settling === undefined ? next : Promise.race([next, settling])
    await Promise.race([first, this.#stopped])
    return this.#stopReason !== undefined
  }

  /** With a future end: every partition has shown a record stamped so late. */
  #isAllPassed(): boolean {
    return this.#plan.untilFutureMs !== undefined && this.#endedPartitions >= this.#known.size
  }

  /** The moment of --until has come: what is there now is read, and no more. */
  async #boundAtNow(consumer: ConsumerClient): Promise<void> {
    this.#hasPassedFuture = true
    const partitions: PartitionName[] = []
    const starts = new Map<string, number>()
    for (const name of this.#known) {
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
      ranges.map((range) => ({
        topic: range.topic,
        partition: range.partition,
        startOffset: starts.get(`${range.topic}/${range.partition}`) ?? range.startOffset,
        endOffset: range.endOffset ?? range.startOffset,
      })),
    )
  }

  async #mergeLoop(
    consumer: ConsumerClient,
    output: ReadOutput,
    ranges: readonly PartitionRange[],
  ): Promise<void> {
    const { TimeMerge } = await import('./time-merge.ts')
    const merge = new TimeMerge(ranges, consumer)
    while (this.#stopReason === undefined) {
      const merged = merge.next()
      if (merged !== undefined) {
        const { topic, partition, cursor } = merged
        output.setPartition(topic, partition)
        const isPrinted = output.addRecord(cursor)
        this.#report.addSpan(topic, partition, cursor.offset, cursor.offset)
        this.#report.records = output.records
        this.#report.bytes = output.bytes
        merge.take(merged)
        if (output.isFull) await output.write()
        if (output.isDone) this.#stop('done')
        if (isPrinted && this.#pacer !== undefined) {
          this.#pacer.take(1, cursor.valueEnd - cursor.valueStart)
          const { waitMs } = this.#pacer
          if (waitMs > 0) await Promise.race([sleep(this.#deps.time, waitMs), this.#stopped])
        }
        continue
      }
      const event = consumer.poll()
      if (event === undefined) {
        await output.write()
        if (consumer.isDone) return
        await Promise.race([consumer.wait(), this.#stopped])
        continue
      }
      if (event.kind === 'records') merge.add(event)
      else if (event.kind === 'gap') this.#onGap(event)
      else {
        if (event.kind === 'failed') this.#onFailed(event.error)
        merge.end(event.topic, event.partition)
      }
    }
  }

  // --- what may go wrong

  #onGap(gap: Extract<ConsumerEvent, { kind: 'gap' }>): void {
    const { topic, partition, from, to } = gap
    this.#report.gap += to - from
    const words = `${topic}: partition ${partition}: offsets ${from} to ${to - 1} are gone`
    if (this.#plan.gapFails) {
      throw new StreamError('OFFSET_OUT_OF_RANGE', words, {
        target: topic,
        hint: `the log begins at ${to}`,
      })
    }
    this.#deps.console.warn(`${words}; reading on at ${to}`)
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

  async #conclude(output: ReadOutput): Promise<number> {
    const { console } = this.#deps
    const report = this.#report
    const codes = this.#failures.map(exitCodeOf)
    if (this.#stopReason === 'timeout') codes.push(7)
    if (report.gap > 0 && this.#plan.isBounded) codes.push(5)
    if (output.isAmbiguous && this.#plan.isStrict) codes.push(5)
    if (this.#plan.failEmpty && output.records === 0) codes.push(3)
    const exit = joinExitCodes(codes)
    report.records = output.records
    report.bytes = output.bytes
    report.errors = this.#failures.length
    for (const failure of this.#failures) console.error(failure)
    if (this.#stopReason === 'timeout') {
      console.error(new StreamError('TIMED_OUT', `not done within ${this.#plan.timeoutMs} ms`))
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

function assignmentOf(range: PartitionRange) {
  const { topic, partition, startOffset, endOffset } = range
  return { topic, partition, startOffset, ...(endOffset === undefined ? {} : { endOffset }) }
}
