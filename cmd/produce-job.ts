/**
 * One run of `produce`: input through a sink into the producer, what stands beside it, and what it came to.
 *
 * Exit 0 ⇔ every record read is durable as --acks says. Whatever ends the run early — an error of a record, a signal,
 * a hang-up — what was taken before is delivered first, and the report's `through_line` says how far it is safe. Only
 * with --expect-offset nothing is delivered then.
 */

import { isStreamError, StreamError } from '../src/base/errors.ts'
import type { Delivery } from '../src/client/delivery.ts'
import type { ProducerOptions } from '../src/client/producer.ts'
import type { ByteInput } from '../src/ports/stdio.ts'
import type { Codec } from '../src/record/compression.ts'
import type { AtomicProducer } from './atomic-producer.ts'
import type { Broker } from './broker.ts'
import type { ProducerClient } from './clients.ts'
import type { CommandDeps } from './deps.ts'
import { BrokenPipe, exitCodeOf, joinExitCodes } from './exit-code.ts'
import type { Flags } from './flags.ts'
import { type ChunkSink, InputPump } from './input-pump.ts'
import type { ProducePlan } from './produce-plan.ts'
import type { ResumeSink } from './produce-resume.ts'
import { makeSink, type Sink } from './produce-sink.ts'
import { ProduceTopics } from './produce-topics.ts'
import type { ProduceTransactions } from './produce-transactions.ts'
import { Progress } from './progress.ts'
import { QueuedOutput } from './queued-output.ts'
import { Receipts } from './receipts.ts'
import { type ErrorPolicy, firstRefused, RecordErrors, withLine } from './record-errors.ts'
import { Report } from './report.ts'
import type { SpoolProducer } from './txn-produce.ts'

/** What a batch needs around its only record. */
const BATCH_MARGIN_BYTES = 4096
/** Chunks are gathered from reads of this size; one that ends with a smaller read has emptied the pipe. */
const FULL_READ_BYTES = 65_536

export class ProduceJob {
  readonly #deps: CommandDeps
  readonly #flags: Flags
  readonly #plan: ProducePlan
  readonly #broker: Broker
  readonly #report: Report
  #errors: RecordErrors
  readonly #recordBytesMax: number
  #pump: InputPump | undefined
  #receipts: Receipts | undefined
  #topics: ProduceTopics | undefined
  #atomic: AtomicProducer | undefined
  #transactions: ProduceTransactions | undefined
  #resume: ResumeSink | undefined
  #spool: SpoolProducer | undefined
  #tee: QueuedOutput | undefined
  /** Opened before its turn. */
  #standardInput: ByteInput | undefined
  #deliveryError: StreamError | undefined
  #isAborting = false
  #spooling: { fail(error: unknown): void } | undefined
  /** Records that are delivered, or refused and left out, wherever in the input they stood. */
  #settledCount = 0
  #inputBytesMax = 0
  #inputBytes = 0

  constructor(deps: CommandDeps, flags: Flags, plan: ProducePlan, broker: Broker) {
    this.#deps = deps
    this.#flags = flags
    this.#plan = plan
    this.#broker = broker
    this.#report = new Report('produce', deps.time)
    this.#errors = new RecordErrors({ kind: 'stop' }, deps.console)
    const requestBytesMax = broker.settings.number('max.request.size') - 65_536
    this.#recordBytesMax = flags.sizeBytes('max-bytes') ?? requestBytesMax - BATCH_MARGIN_BYTES
  }

  async run(): Promise<number> {
    this.#errors = new RecordErrors(await this.#errorPolicy(), this.#deps.console)
    if (this.#flags.has('tee')) this.#tee = new QueuedOutput(this.#deps.stdio.output)
    const receipts = this.#flags.text('receipts')
    if (receipts !== undefined) {
      this.#receipts = new Receipts(new QueuedOutput(this.#deps.stdio.openOutput(receipts)))
    }
    const producer = await this.#openProducer()
    this.#topics = new ProduceTopics(this.#deps, this.#flags, this.#plan, this.#broker, producer)
    const preparing = this.#plan.keepTopic ? undefined : this.#topics.prepare(this.#plan.topic)
    // The input is opened meanwhile; should that fail, it is told in place of what the topic comes to.
    preparing?.catch(() => undefined)
    this.#openStandardInput()
    await preparing
    const failures: unknown[] = []
    try {
      await this.#sendAll(producer)
    } catch (error) {
      failures.push(error)
    }
    await this.#finish(producer, failures)
    const exit = await this.#conclude(producer, failures)
    // Only now: what is around the records is in order too.
    if (exit === 0 && this.#deps.interruption.signal === undefined) await this.#spool?.done()
    producer.close()
    return exit
  }

  async #openProducer(): Promise<ProducerClient> {
    const { clients } = this.#deps
    const { expectedOffset, resume, whole } = this.#plan
    const { cluster } = this.#broker
    const options = this.#producerOptions()
    const outer = this.#deps.host.environment['STREAM_TXN'] ?? ''
    if (outer !== '') {
      const { openSpool } = await import('./txn-produce.ts')
      this.#spool = await openSpool(this.#deps, this.#flags, this.#broker, outer, options)
      return this.#spool
    }
    if (whole !== undefined || resume !== undefined) {
      const { ProduceTransactions } = await import('./produce-transactions.ts')
      this.#transactions = new ProduceTransactions(this.#deps, this.#broker, this.#plan, options)
      this.#atomic = await this.#transactions.open()
      return this.#atomic
    }
    return expectedOffset === undefined
      ? clients.producer(cluster, options)
      : clients.conditionalProducer(cluster, options, expectedOffset)
  }

  #producerOptions(): ProducerOptions {
    const flags = this.#flags
    const { settings, scheme } = this.#broker
    const acks = flags.text('acks') ?? settings.text('acks')
    const codec = flags.text('compression') ?? settings.text('compression.type')
    const partitioner = flags.text('partitioner') ?? settings.text('partitioner')
    return {
      acks: acks === '1' ? 1 : acks === '0' ? 0 : 'all',
      batchBytes: flags.sizeBytes('batch-size') ?? settings.number('batch.size'),
      recordBytesMax: this.#recordBytesMax + BATCH_MARGIN_BYTES,
      lingerMs: flags.durationMs('linger') ?? settings.number('linger.ms'),
      codec: (codec ?? (scheme === 'ipc' ? 'none' : 'lz4')) as Codec,
      partitioner: partitioner === 'crc32' ? 'crc32' : 'murmur2',
      deliveryTimeoutMs:
        flags.durationMs('delivery-timeout') ?? settings.number('delivery.timeout.ms'),
      requestTimeoutMs: settings.number('request.timeout.ms'),
      bufferBytesMax: settings.number('buffer.memory'),
      delimiter: this.#plan.delimiter[0] ?? 10,
      // A broker names the records it refuses by their places in a batch; lines with no more than keys it takes as they are.
      trackOrdinals:
        this.#receipts !== undefined ||
        this.#plan.form !== 'value' ||
        this.#plan.timestampPath !== undefined,
      afterRefusal: this.#plan.onError === 'stop' ? 'stop' : 'continue',
      onDelivery: (delivery) =>
        this.#onDelivery(this.#atomic === undefined ? delivery : this.#atomic.shifted(delivery)),
      onFailure: (error) => {
        this.#deliveryError ??= error
        this.#pump?.fail(this.#deliveryError)
      },
    }
  }

  async #errorPolicy(): Promise<ErrorPolicy> {
    const { onError } = this.#plan
    if (onError === 'stop' || onError === 'skip') return { kind: onError }
    const output = this.#deps.stdio.openOutput(onError.deadLetter, { append: true })
    const { DeadLetters } = await import('./dead-letters.ts')
    return {
      kind: 'dead-letter',
      letters: await DeadLetters.open(new QueuedOutput(output), this.#plan),
    }
  }

  async #sendAll(producer: ProducerClient): Promise<void> {
    const plain = await makeSink(this.#deps, this.#flags, this.#plan, {
      producer,
      errors: this.#errors,
      recordBytesMax: this.#recordBytesMax,
      prepareTopic: async (name) => this.#topics?.prepare(name),
    })
    this.#resume = await this.#transactions?.resumed(plain, this.#errors, (error) =>
      this.#pump?.fail(error),
    )
    const sink = this.#resume ?? plain
    const pump = new InputPump(this.#observed(sink, producer))
    this.#pump = pump
    if (this.#deliveryError !== undefined) throw this.#deliveryError
    const { interruption, time } = this.#deps
    const stopListening = interruption.onRaised(() => pump.stop())
    const timeoutMs = this.#flags.durationMs('timeout')
    const timer =
      timeoutMs === undefined
        ? undefined
        : time.setTimer(timeoutMs, () => {
            this.#spooling?.fail(timedOut(timeoutMs))
            pump.fail(timedOut(timeoutMs))
          })
    const progress = this.#startProgress()
    try {
      await this.#pumpAll(pump, sink)
      if (interruption.signal !== undefined) this.#dropUnfinished(sink)
    } finally {
      timer?.cancel()
      progress.end()
      // A second signal must still end at once: the subscription stays until all is delivered.
      this.#stopListening = stopListening
    }
  }

  #stopListening: () => void = () => undefined

  async #pumpAll(pump: InputPump, sink: Sink): Promise<void> {
    const { value, files } = this.#plan
    if (value !== undefined) {
      await this.#finishInput(sink, Buffer.from(value, 'utf8'))
      return
    }
    for (const path of files.length === 0 ? ['-'] : files) {
      const input = await this.#openInput(path)
      const whole = await this.#wholeInput(input, path)
      if (whole === undefined) return
      if (this.#plan.whole !== undefined) {
        await this.#transactions?.allowFor(files, whole, this.#flags.has('rate'))
      }
      try {
        if ((await pump.run(whole)) === 'stopped') return
        await this.#finishInput(sink)
        if (this.#plan.whole === 'file') await this.#endTransaction()
      } finally {
        whole.close()
      }
    }
    this.#resume?.checkEnd()
  }

  /** Not files: the opening of a named pipe waits for a writer, and whoever waits says nothing of the topic. */
  #openStandardInput(): void {
    const { value, files } = this.#plan
    if (value === undefined && files.length === 0) {
      this.#standardInput = this.#deps.stdio.openInput('-')
    }
  }

  async #openInput(path: string): Promise<ByteInput> {
    const input = this.#standardInput ?? this.#deps.stdio.openInput(path)
    this.#standardInput = undefined
    if (input.kind === 'terminal') {
      this.#deps.console.warn('reading records from the terminal, one a line; end with Ctrl-D')
    }
    this.#inputBytesMax += input.sizeBytes ?? 0
    if (path === '-') return input
    const packed = await import('./compressed-input.ts')
    return packed.isCompressedName(path) ? new packed.CompressedInput(input) : input
  }

  /** An input that may end badly is read to its end first. @returns undefined: it was stopped */
  async #wholeInput(input: ByteInput, path: string): Promise<ByteInput | undefined> {
    if (this.#plan.whole === undefined || input.kind === 'file') return input
    const { interruption, random } = this.#deps
    if (path !== '-') return input
    const { spool } = await import('./spool.ts')
    const name = `produce-${Buffer.from(random.bytes(8)).toString('hex')}`
    const spooling = spool(this.#deps, input, name)
    this.#spooling = spooling
    const stopListening = interruption.onRaised(() => spooling.stop())
    try {
      return await spooling.done
    } finally {
      stopListening()
      input.close()
      this.#spooling = undefined
    }
  }

  /** Commits what was appended since the last call, or gives it up where it is not whole. */
  async #endTransaction(isCutShort = false): Promise<void> {
    const atomic = this.#atomic
    if (atomic === undefined) return
    if (this.#resume !== undefined) {
      // Chunks are wholes of their own: what came before the end is committed, however the run ended.
      if (this.#deliveryError === undefined) await this.#resume.commitRest()
      await this.#abort(atomic)
      return
    }
    const isWhole = !isCutShort && this.#errors.count <= this.#plan.allowErrors
    if (isWhole && this.#deliveryError === undefined) await atomic.commit()
    else await this.#abort(atomic)
    await atomic.begin()
  }

  /** Without effect on a transaction that holds nothing. */
  async #abort(atomic: AtomicProducer): Promise<void> {
    // What is under way is given up by this command, and is no failure of its own.
    this.#isAborting = true
    try {
      await atomic.abort()
    } finally {
      this.#isAborting = false
    }
  }

  /** A whole input is over, or `only` is all there is: its last record. */
  async #finishInput(sink: Sink, only?: Uint8Array): Promise<void> {
    for (let at = 0; only !== undefined && (at < only.length || sink.isBlocked); ) {
      if (sink.isBlocked) await sink.ready()
      at = sink.feed(only, at, only.length)
    }
    while (!sink.finish()) {
      await sink.ready()
      if (this.#deliveryError !== undefined) throw this.#deliveryError
    }
    if (sink.isBlocked) await sink.ready()
  }

  #dropUnfinished(sink: Sink): void {
    const bytes = sink.drop()
    if (bytes === 0) return
    this.#deps.console.warn(`dropped an unfinished last line of ${bytes} bytes`)
  }

  /** The sink with what else has to happen to each chunk. */
  #observed(sink: Sink, producer: ProducerClient): ChunkSink {
    const receipts = this.#receipts
    const tee = this.#tee
    const report = this.#report
    const isBeside = (): boolean => tee?.isFull === true || receipts?.isFull === true
    const count = (bytes: number): void => {
      this.#inputBytes += bytes
      report.bytes += bytes
      report.records = producer.appendedCount
    }
    return {
      // By what is taken: at a low rate one chunk takes long.
      feed: (chunk, start, end) => {
        const at = sink.feed(chunk, start, end)
        count(at - start)
        return at
      },
      get isBlocked() {
        return sink.isBlocked || isBeside()
      },
      ready: async () => {
        if (sink.isBlocked) await sink.ready()
        if (tee?.isFull === true) await tee.drained()
        if (receipts?.isFull === true) await receipts.drained()
      },
      onChunk: (chunk, start, end) => {
        tee?.write(chunk.subarray(start, end))
        // The pipe is empty for the moment: what is there need not wait for more.
        if ((end - start) % FULL_READ_BYTES !== 0) producer.flushSoon()
      },
    }
  }

  #startProgress(): Progress {
    return new Progress(this.#deps, this.#flags, {
      report: this.#report,
      fraction: () =>
        this.#inputBytesMax === 0 ? undefined : this.#inputBytes / this.#inputBytesMax,
    })
  }

  #onDelivery(delivery: Delivery): void {
    const { error, topic, partition, baseOffset, recordCount } = delivery
    if (this.#isAborting) return
    if (error === undefined && this.#transactions?.isOwnTopic(topic) === true) return
    try {
      this.#receipts?.add(delivery)
    } catch (failure) {
      this.#pump?.fail(failure)
    }
    if (error === undefined) {
      this.#settledCount += recordCount
      if (baseOffset >= 0) {
        this.#report.addSpan(topic, partition, baseOffset, baseOffset + recordCount - 1)
      }
      return
    }
    const isOfRecord = error.code === 'RECORD_TOO_LARGE' || error.code === 'RECORD_INVALID'
    if (isOfRecord && this.#refuse(error, delivery)) {
      this.#settledCount += recordCount
      return
    }
    this.#deliveryError ??= isOfRecord
      ? withLine(error, this.#errors.lineOf(firstRefused(delivery)))
      : error
    this.#pump?.fail(this.#deliveryError)
  }

  /** @returns whether to go on */
  #refuse(error: StreamError, delivery: Delivery): boolean {
    try {
      return this.#errors.refuse(error, delivery)
    } catch (failure) {
      this.#pump?.fail(failure)
      return true
    }
  }

  /** Delivers what was taken and ends what stands beside it. */
  async #finish(producer: ProducerClient, failures: unknown[]): Promise<void> {
    // Out of time: what is not delivered by now is not waited for.
    const isTimedOut = failures.some((failure) => isStreamError(failure, 'TIMED_OUT'))
    // A batch that depends on a condition goes whole or not at all.
    const isGivenUp = this.#plan.expectedOffset !== undefined && this.#isCutShort(failures)
    try {
      if (this.#atomic !== undefined) await this.#endTransaction(this.#isCutShort(failures))
      else if (isTimedOut) producer.flushSoon()
      else if (!isGivenUp) await producer.flush()
    } catch (error) {
      if (this.#deliveryError === undefined && !failures.includes(error)) failures.push(error)
      await this.#abortAfter(error, failures)
    }
    this.#stopListening()
    if (this.#deliveryError !== undefined && !failures.includes(this.#deliveryError)) {
      failures.push(this.#deliveryError)
    }
    for (const output of [this.#tee, this.#receipts, this.#errors]) {
      try {
        await output?.finish()
      } catch (error) {
        if (!failures.includes(error)) failures.push(error)
      }
    }
  }

  /**
   * A commit that could not be leaves its transaction open: readers of the topic, and jobs whose positions share a partition
   * with this one's, would wait until its time is over.
   */
  async #abortAfter(failed: unknown, failures: unknown[]): Promise<void> {
    // Of a commit without an answer nobody knows what it came to, and a newer owner of the id has ended it.
    if (isStreamError(failed, 'TIMED_OUT') || isStreamError(failed, 'FENCED')) return
    try {
      if (this.#atomic !== undefined) await this.#abort(this.#atomic)
    } catch (error) {
      failures.push(error)
    }
  }

  #isCutShort(failures: readonly unknown[]): boolean {
    return failures.length > 0 || this.#deps.interruption.signal !== undefined
  }

  async #conclude(producer: ProducerClient, failures: readonly unknown[]): Promise<number> {
    const { console } = this.#deps
    const through = producer.deliveredThrough()
    const appended = producer.appendedCount
    const report = this.#report
    report.records = through - this.#errors.refusedBelow(through)
    report.errors = this.#errors.count
    report.throughLine = this.#errors.linesThrough(through)
    const codes = failures.flatMap((failure) =>
      failure instanceof BrokenPipe ? [] : [workedExitCode(failure, through < appended)],
    )
    if (through < appended) codes.push(5)
    if (this.#errors.count > this.#plan.allowErrors) codes.push(5)
    if (appended === 0 && this.#errors.count === 0 && this.#flags.has('fail-empty')) codes.push(3)
    const exit = joinExitCodes(codes)
    const shown = failures.filter((failure) => !(failure instanceof BrokenPipe))
    if (through < appended) {
      const text =
        this.#atomic === undefined
          ? `${appended - Math.max(through, this.#settledCount)} of ${appended} records not known to be delivered, safe through line ${report.throughLine}`
          : through === 0
            ? 'nothing was committed'
            : `only the first ${through} of ${appended} records were committed`
      const last = shown.pop()
      if (last === undefined) console.warn(text)
      else shown.push(withDelivery(last, text))
    }
    for (const failure of shown) console.error(failure, this.#plan.topic)
    const path = this.#flags.text('report')
    if (path !== undefined) await report.write(this.#deps, path, exit)
    if (console.wantsSummary) console.print(`stream: ${report.summary('delivered')}\n`)
    const broken = failures.find((failure) => failure instanceof BrokenPipe)
    if (broken !== undefined) throw broken
    return exit
  }
}

/** After work has begun unreachable brokers and the like mean: not delivered. */
function workedExitCode(error: unknown, hasUndelivered: boolean): number {
  const code = exitCodeOf(error)
  if (!hasUndelivered) return code
  return code === 8 || code === 6 || code === 1 ? code : 5
}

function timedOut(timeoutMs: number): StreamError {
  return new StreamError('TIMED_OUT', `not done within ${timeoutMs} ms`)
}

/** One line says both what went wrong and how far the input is safe. */
function withDelivery(failure: unknown, text: string): unknown {
  if (!(failure instanceof StreamError)) return failure
  const { code, message, hint, target, line, kafkaError } = failure
  return new StreamError(code, `${message}; ${text}`, {
    cause: failure,
    ...(hint === undefined ? {} : { hint }),
    ...(target === undefined ? {} : { target }),
    ...(line === undefined ? {} : { line }),
    ...(kafkaError === undefined ? {} : { kafkaError }),
  })
}
