/**
 * `stream produce`: records from standard input, files or a flag into a topic (commands.md, section 5).
 *
 * Exit 0 ⇔ every record read is durable as --acks says. Whatever ends the run early — an error of a record, a signal,
 * a hang-up — what was taken before is delivered first, and the report's `through_line` says how far it is safe.
 */

import { isStreamError, StreamError, UsageError } from '../src/base/errors.ts'
import type { Delivery, ProducerOptions } from '../src/client/producer.ts'
import type { ByteInput } from '../src/ports/stdio.ts'
import { sleep } from '../src/ports/time.ts'
import type { Codec } from '../src/record/compression.ts'
import { type PathName, parsePath } from '../src/text/json-scanner.ts'
import type { HeaderMatch } from '../src/text/record-filter.ts'
import {
  DelimiterSplitter,
  type RecordSplitter,
  SizedSplitter,
  WholeSplitter,
} from '../src/text/record-splitter.ts'
import { parseTime } from '../src/text/time.ts'
import { parseCount } from '../src/text/units.ts'
import { type Broker, openBroker } from './broker.ts'
import type { ProducerClient } from './clients.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { BrokenPipe, exitCodeOf, joinExitCodes } from './exit-code.ts'
import type { Flags } from './flags.ts'
import { readHeaders } from './header-flag.ts'
import { type ChunkSink, InputPump } from './input-pump.ts'
import { LineSink } from './line-sink.ts'
import type { CommandSpec } from './option-table.ts'
import { Pacer } from './pacer.ts'
import { Progress } from './progress.ts'
import { QueuedOutput } from './queued-output.ts'
import { Receipts } from './receipts.ts'
import { type ErrorPolicy, RecordErrors, withLine } from './record-errors.ts'
import { RecordSink } from './record-sink.ts'
import { Report } from './report.ts'
import { isGlob, topicPattern } from './topic-names.ts'

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'produce',
  summary: 'Send records from standard input or files to a topic',
  description: [
    'Sends each line of standard input, or of the FILEs in order (.gz and .zst unpacked), as a record; prints nothing. Exit 0 means that every record read is durable as --acks says.',
    'The topic is looked up first. An unknown one is created with the defaults of the broker if that was reached by ipc, or with --create.',
    '-k, -p and --ts stand in for what the input does not say; -H adds.',
  ],
  operands: [{ name: 'TOPIC' }, { name: 'FILE', isOptional: true, isRepeatable: true }],
  options: [
    { long: 'value', argument: 'V', help: 'one record, V; standard input is never touched' },
    { long: 'key', short: 'k', argument: 'KEY', help: 'the key of records whose input has none' },
    { long: 'key-sep', short: 'K', argument: 'STR', help: String.raw`each line is KEY STR VALUE (escapes \n \t \r \0 \\ \xHH)` },
    { long: 'key-json', argument: 'PATH', help: "the key is a member of the value's JSON, such as .user.id" },
    { long: 'header', short: 'H', argument: 'NAME=VALUE', isRepeatable: true, help: 'add a header; NAME alone has a null value' },
    { long: 'partition', short: 'p', argument: 'N', help: 'a fixed partition' },
    { long: 'partitioner', argument: 'HASH', choices: ['murmur2', 'crc32'], default: 'murmur2', help: 'how a key chooses the partition' },
    { long: 'ts', argument: 'TIME', help: 'the timestamp of records whose input has none; default now' },
    { long: 'ts-json', argument: 'PATH', help: "the timestamp is a member of the value's JSON" },
    { long: 'input', short: 'i', argument: 'FORM', choices: ['value', 'json', 'sized', 'raw'], default: 'value', help: 'form of the input' },
    { long: 'json', help: 'input is envelopes, the same as -i json; errors as JSON' },
    { long: 'raw', help: 'each input is one record, the same as -i raw' },
    { long: 'null', short: '0', help: 'records end with NUL' },
    { long: 'delim', short: 'D', argument: 'STR', help: 'records end with STR' },
    { long: 'null-value', argument: 'TOKEN', help: 'a value that is TOKEN is null' },
    { long: 'strip-cr', help: 'a carriage return before the end of a line is no part of the value' },
    { long: 'require', argument: 'FORM', choices: ['json', 'utf8'], help: 'other values are errors' },
    { long: 'max-bytes', argument: 'SIZE', help: 'the longest record; default: what the topic takes' },
    { long: 'keep-topic', help: "take the envelope's topic; TOPIC may be a glob of what is allowed" },
    { long: 'keep-partition', help: "take the envelope's partition" },
    { long: 'acks', argument: 'N', choices: ['all', '1', '0'], default: 'all', help: '1 and 0 give up durability and idempotence' },
    { long: 'compression', short: 'z', argument: 'C', choices: ['none', 'gzip', 'snappy', 'lz4', 'zstd'], help: 'codec; default none over ipc, where it costs more than it saves, else lz4' },
    { long: 'linger', argument: 'DUR', default: '5ms', help: 'longest wait for a batch to fill; it leaves early when the input is idle' },
    { long: 'batch-size', argument: 'SIZE', default: '1000KiB', help: 'size at which a batch leaves' },
    { long: 'rate', argument: 'R', help: 'at most so much: 1000/s, 5MiB/s' },
    { long: 'delivery-timeout', argument: 'DUR', default: '2m', help: 'after this a record counts as not delivered' },
    { long: 'on-error', argument: 'WHAT', default: 'stop', help: 'for a record that does not parse or is refused: stop, skip or dead-letter=FILE' },
    { long: 'allow-errors', argument: 'N', default: '0', help: 'so many such records still exit 0 (not with stop)' },
    { long: 'create', help: 'create the topic if it is unknown' },
    { long: 'no-create', help: 'never create it' },
    { long: 'tee', help: 'copy the input to standard output' },
    { long: 'receipts', argument: 'FILE', help: 'TOPIC, PARTITION, OFFSET of each record once it is durable, in input order' },
    { long: 'fail-empty', help: 'exit 3 if there was no record' },
    { long: 'report', argument: 'FILE', help: 'the summary as one JSON object' },
  ],
  examples: [
    { line: 'tail -F access.log | stream produce clicks' },
    { line: "jq -c '{key:.id,value:.}' orders.json | stream produce orders --json" },
    { line: 'stream produce archive dump/*.ndjson.gz --key-json .user.id' },
    { line: 'stream produce jobs --value "$line" -k "$id"', help: 'safe inside while read' },
  ],
  exits: [
    [3, 'no such topic, and it was not to be created'],
    [5, 'a record did not parse or was not delivered; the message names its line'],
    [8, 'fenced'],
  ],
}

type InputForm = 'value' | 'json' | 'sized' | 'raw'

interface ProducePlan {
  readonly topic: string
  readonly files: readonly string[]
  readonly form: InputForm
  readonly value: string | undefined
  readonly delimiter: Uint8Array
  readonly partition: number | undefined
  readonly keepTopic: boolean
  readonly keepPartition: boolean
  readonly key: string | undefined
  readonly keySeparator: Uint8Array | undefined
  readonly keyPath: PathName[] | undefined
  readonly timestampPath: PathName[] | undefined
  readonly timestampMs: number | undefined
  readonly headers: readonly HeaderMatch[]
  readonly onError: 'stop' | 'skip' | { readonly deadLetter: string }
  readonly allowErrors: number
}

const NEWLINE = Uint8Array.of(10)
/** What a batch needs around its only record. */
const BATCH_MARGIN_BYTES = 4096
/** Chunks are gathered from reads of this size; one that ends with a smaller read has emptied the pipe. */
const FULL_READ_BYTES = 65_536

export async function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const plan = readPlan(deps, args)
  const broker = await openBroker(deps, args)
  const job = new ProduceJob(deps, args.flags, plan, broker)
  try {
    return await job.run()
  } finally {
    broker.cluster.close()
  }
}

function readPlan(deps: CommandDeps, { flags, operands }: CommandArgs): ProducePlan {
  const [topic, ...files] = operands
  if (topic === undefined) throw new UsageError('TOPIC is missing', 'try: stream produce --help')
  flags.exclusive('key-sep', 'key-json')
  flags.exclusive('null', 'delim')
  flags.exclusive('ts', 'ts-json')
  flags.exclusive('partition', 'keep-partition')
  const form = inputForm(flags)
  const value = flags.text('value')
  if (value !== undefined && files.length > 0)
    throw new UsageError('--value and FILE cannot be used together')
  if (form !== 'value') {
    for (const name of ['key-sep', 'null', 'delim', 'null-value', 'strip-cr']) {
      const fits = form === 'json' && (name === 'null' || name === 'delim')
      if (flags.has(name) && !fits) throw new UsageError(`--${name} is of lines, not of -i ${form}`)
    }
  }
  if (form !== 'json' && (flags.has('keep-topic') || flags.has('keep-partition'))) {
    throw new UsageError('--keep-topic and --keep-partition need envelopes: --json')
  }
  if (!flags.has('keep-topic') && isGlob(topic)) {
    throw new UsageError(`${topic}: a glob needs --keep-topic`)
  }
  const timestamp = flags.text('ts')
  const timestampMs = timestamp === undefined ? undefined : parseTime(timestamp, deps.time.wallMs())
  if (timestamp !== undefined && (timestampMs === undefined || timestampMs < 0)) {
    throw new UsageError(
      `--ts ${timestamp}: must be a time such as now, 2026-03-01T09:30, -5m, @1730000000`,
    )
  }
  return {
    topic,
    files,
    form,
    value,
    delimiter: flags.has('null') ? Uint8Array.of(0) : (flags.escapedBytes('delim') ?? NEWLINE),
    partition: readPartition(flags),
    keepTopic: flags.has('keep-topic'),
    keepPartition: flags.has('keep-partition'),
    key: flags.text('key'),
    keySeparator: flags.escapedBytes('key-sep'),
    keyPath: readPath(flags, 'key-json'),
    timestampPath: readPath(flags, 'ts-json'),
    timestampMs,
    headers: readHeaders(flags),
    onError: readOnError(flags),
    allowErrors: flags.wholeNumber('allow-errors') ?? 0,
  }
}

function inputForm(flags: Flags): InputForm {
  flags.exclusive('json', 'raw')
  const form = flags.choice('input', ['value', 'json', 'sized', 'raw'] as const)
  const short = flags.has('json') ? 'json' : flags.has('raw') ? 'raw' : undefined
  if (form !== undefined && short !== undefined && form !== short) {
    throw new UsageError(`--input ${form} and --${short} cannot be used together`)
  }
  return form ?? short ?? 'value'
}

function readPartition(flags: Flags): number | undefined {
  const text = flags.text('partition')
  if (text === undefined) return undefined
  const partition = parseCount(text)
  if (partition === undefined || partition > 0x7fffffff) {
    throw new UsageError(`--partition ${text}: must be a partition's number`)
  }
  return partition
}

function readPath(flags: Flags, name: string): PathName[] | undefined {
  const text = flags.text(name)
  if (text === undefined) return undefined
  const path = parsePath(text)
  if (path === undefined) throw new UsageError(`--${name} ${text}: must be a path such as .user.id`)
  return path
}

function readOnError(flags: Flags): ProducePlan['onError'] {
  const text = flags.text('on-error') ?? 'stop'
  if (text === 'stop' || text === 'skip') return text
  const file = /^dead-letter=(.+)$/.exec(text)?.[1]
  if (file === undefined) {
    throw new UsageError(`--on-error ${text}: must be stop, skip or dead-letter=FILE`)
  }
  return { deadLetter: file }
}

interface Sink extends ChunkSink {
  finish(): boolean
  drop(): number
}

class ProduceJob {
  readonly #deps: CommandDeps
  readonly #flags: Flags
  readonly #plan: ProducePlan
  readonly #broker: Broker
  readonly #report: Report
  readonly #errors: RecordErrors
  readonly #recordBytesMax: number
  #pump: InputPump | undefined
  #receipts: Receipts | undefined
  #tee: QueuedOutput | undefined
  #deliveryError: StreamError | undefined
  #inputBytesMax = 0
  #inputBytes = 0

  constructor(deps: CommandDeps, flags: Flags, plan: ProducePlan, broker: Broker) {
    this.#deps = deps
    this.#flags = flags
    this.#plan = plan
    this.#broker = broker
    this.#report = new Report('produce', deps.time)
    this.#errors = new RecordErrors(this.#errorPolicy(), deps.console)
    const requestBytesMax = broker.settings.number('max.request.size') - 65_536
    this.#recordBytesMax = flags.sizeBytes('max-bytes') ?? requestBytesMax - BATCH_MARGIN_BYTES
  }

  async run(): Promise<number> {
    const { clients } = this.#deps
    if (this.#flags.has('tee')) this.#tee = new QueuedOutput(this.#deps.stdio.output)
    const receipts = this.#flags.text('receipts')
    if (receipts !== undefined) {
      this.#receipts = new Receipts(new QueuedOutput(this.#deps.stdio.openOutput(receipts)))
    }
    const producer = await clients.producer(this.#broker.cluster, this.#producerOptions())
    if (!this.#plan.keepTopic) await this.#prepareTopic(producer, this.#plan.topic)
    const failures: unknown[] = []
    try {
      await this.#sendAll(producer)
    } catch (error) {
      failures.push(error)
    }
    await this.#finish(producer, failures)
    producer.close()
    return this.#conclude(producer, failures)
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
      trackOrdinals: this.#receipts !== undefined,
      afterRefusal: this.#plan.onError === 'stop' ? 'stop' : 'continue',
      onDelivery: (delivery) => this.#onDelivery(delivery),
    }
  }

  #errorPolicy(): ErrorPolicy {
    const { onError, delimiter } = this.#plan
    if (onError === 'stop' || onError === 'skip') return { kind: onError }
    const output = this.#deps.stdio.openOutput(onError.deadLetter, { append: true })
    return { kind: 'dead-letter', output: new QueuedOutput(output), delimiter }
  }

  /** Looks the topic up; creates it where that is wanted. */
  async #prepareTopic(producer: ProducerClient, topic: string): Promise<void> {
    try {
      const info = await producer.prepare(topic)
      this.#checkPartition(topic, info.partitions.length)
    } catch (error) {
      if (!isStreamError(error, 'TOPIC_UNKNOWN')) throw error
      if (!this.#mayCreate()) {
        throw new StreamError(error.code, error.message, {
          target: topic,
          hint: `to create it: --create, or stream topics create ${topic}`,
          cause: error,
          ...(error.kafkaError === undefined ? {} : { kafkaError: error.kafkaError }),
        })
      }
      const admin = await this.#deps.clients.admin(this.#broker.cluster)
      const [outcome] = await admin.createTopics([{ name: topic }])
      // Another producer may have been faster.
      if (outcome?.error !== undefined && !isStreamError(outcome.error, 'TOPIC_EXISTS')) {
        throw outcome.error
      }
      await admin.awaitTopic(topic)
      const info = await producer.prepare(topic)
      this.#checkPartition(topic, info.partitions.length)
    }
  }

  #checkPartition(topic: string, count: number): void {
    const { partition } = this.#plan
    if (partition === undefined || partition < count) return
    throw new StreamError('TOPIC_UNKNOWN', `${topic}: no partition ${partition}, only ${count}`, {
      target: topic,
    })
  }

  #mayCreate(): boolean {
    const flag = this.#flags.either('create', 'no-create')
    if (flag !== undefined) return flag
    const { settings, scheme } = this.#broker
    const setting = settings.text('produce.create')
    if (setting === 'auto') return scheme === 'ipc'
    return setting === 'yes' || setting === 'true'
  }

  async #sendAll(producer: ProducerClient): Promise<void> {
    const sink = this.#makeSink(producer)
    const pump = new InputPump(this.#observed(sink, producer))
    this.#pump = pump
    if (this.#deliveryError !== undefined) throw this.#deliveryError
    const { interruption, time } = this.#deps
    const stopListening = interruption.onRaised(() => pump.stop())
    const timeoutMs = this.#flags.durationMs('timeout')
    const timer =
      timeoutMs === undefined
        ? undefined
        : time.setTimer(timeoutMs, () => pump.fail(timedOut(timeoutMs)))
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
      try {
        if ((await pump.run(input)) === 'stopped') return
        await this.#finishInput(sink)
      } finally {
        input.close()
      }
    }
  }

  async #openInput(path: string): Promise<ByteInput> {
    const input = this.#deps.stdio.openInput(path)
    if (input.kind === 'terminal') {
      this.#deps.console.warn('reading records from the terminal, one a line; end with Ctrl-D')
    }
    this.#inputBytesMax += input.sizeBytes ?? 0
    if (path === '-') return input
    const packed = await import('./compressed-input.ts')
    return packed.isCompressedName(path) ? new packed.CompressedInput(input) : input
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

  #makeSink(producer: ProducerClient): Sink {
    const { form, delimiter, topic, partition } = this.#plan
    const recordBytesMax = this.#recordBytesMax
    const isPlain =
      form === 'value' &&
      delimiter.length === 1 &&
      this.#plan.value === undefined &&
      !this.#looksAtRecords()
    if (isPlain) {
      return new LineSink(producer, this.#errors, {
        topic,
        partition,
        delimiter: delimiter[0] ?? 10,
        recordBytesMax,
      })
    }
    const { key, keySeparator, keyPath, timestampPath, timestampMs, headers } = this.#plan
    const nullValue = this.#flags.text('null-value')
    const required = this.#flags.choice('require', ['json', 'utf8'] as const)
    const rate = this.#flags.rate('rate')
    const pattern = this.#plan.keepTopic ? topicPattern(topic, false) : undefined
    return new RecordSink(producer, this.#errors, this.#makeSplitter(), {
      topic: pattern === undefined ? topic : undefined,
      partition,
      ...(pattern === undefined ? {} : { allowTopic: (name: string) => pattern.test(name) }),
      keepPartition: this.#plan.keepPartition,
      prepareTopic: (name) => this.#prepareTopic(producer, name),
      form,
      recordBytesMax,
      stripCarriageReturn: this.#flags.has('strip-cr'),
      ...(nullValue === undefined ? {} : { nullValue: Buffer.from(nullValue, 'utf8') }),
      ...(key === undefined ? {} : { key: Buffer.from(key, 'utf8') }),
      ...(keySeparator === undefined ? {} : { keySeparator }),
      keySeparatorText: this.#flags.text('key-sep') ?? '',
      ...(keyPath === undefined ? {} : { keyPath }),
      ...(timestampPath === undefined ? {} : { timestampPath }),
      ...(timestampMs === undefined ? {} : { timestampMs }),
      ...(headers.length === 0 ? {} : { headers }),
      ...(required === undefined ? {} : { require: required }),
      ...(rate === undefined ? {} : { pacer: new Pacer(this.#deps.time, rate) }),
      sleep: (delayMs) => sleep(this.#deps.time, delayMs),
      nowMs: () => this.#deps.time.wallMs(),
    })
  }

  #makeSplitter(): RecordSplitter {
    const { form, value, delimiter } = this.#plan
    if (form === 'sized') return new SizedSplitter(this.#recordBytesMax)
    // An empty --value is a record too, which no splitter would see: a line of its own is.
    if (form === 'raw') return new WholeSplitter(this.#recordBytesMax)
    return value === undefined
      ? new DelimiterSplitter(delimiter, this.#recordBytesMax)
      : new WholeSplitter(this.#recordBytesMax, { emptyIsRecord: true })
  }

  /** Whether any flag asks for a look at each record. */
  #looksAtRecords(): boolean {
    const { key, keySeparator, keyPath, timestampPath, timestampMs, headers } = this.#plan
    return (
      key !== undefined ||
      keySeparator !== undefined ||
      keyPath !== undefined ||
      timestampPath !== undefined ||
      timestampMs !== undefined ||
      headers.length > 0 ||
      ['null-value', 'strip-cr', 'require', 'rate'].some((name) => this.#flags.has(name))
    )
  }

  /** The sink with what else has to happen to each chunk. */
  #observed(sink: Sink, producer: ProducerClient): ChunkSink {
    const receipts = this.#receipts
    const tee = this.#tee
    const report = this.#report
    const isBeside = (): boolean => tee?.isFull === true || receipts?.isFull === true
    const count = (bytes: number): void => {
      this.#inputBytes += bytes
    }
    return {
      feed: (chunk, start, end) => sink.feed(chunk, start, end),
      get isBlocked() {
        return sink.isBlocked || isBeside()
      },
      ready: async () => {
        if (sink.isBlocked) await sink.ready()
        if (tee?.isFull === true) await tee.drained()
        if (receipts?.isFull === true) await receipts.drained()
      },
      onChunk: (chunk, start, end) => {
        count(end - start)
        report.records = producer.appendedCount
        report.bytes += end - start
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
    try {
      this.#receipts?.add(delivery)
    } catch (failure) {
      this.#pump?.fail(failure)
    }
    if (error === undefined) {
      if (baseOffset >= 0) {
        this.#report.addSpan(topic, partition, baseOffset, baseOffset + recordCount - 1)
      }
      return
    }
    const isOfRecord = error.code === 'RECORD_TOO_LARGE' || error.code === 'RECORD_INVALID'
    if (isOfRecord && this.#errors.refuse(error, delivery.firstOrdinal, recordCount)) return
    this.#deliveryError ??= isOfRecord
      ? withLine(error, this.#errors.lineOf(delivery.firstOrdinal))
      : error
    this.#pump?.fail(this.#deliveryError)
  }

  /** Delivers what was taken and ends what stands beside it. */
  async #finish(producer: ProducerClient, failures: unknown[]): Promise<void> {
    // Out of time: what is not delivered by now is not waited for.
    const isTimedOut = failures.some((failure) => isStreamError(failure, 'TIMED_OUT'))
    try {
      if (isTimedOut) producer.flushSoon()
      else await producer.flush()
    } catch (error) {
      if (this.#deliveryError === undefined) failures.push(error)
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

  async #conclude(producer: ProducerClient, failures: readonly unknown[]): Promise<number> {
    const { console } = this.#deps
    const through = producer.deliveredThrough()
    const appended = producer.appendedCount
    const report = this.#report
    report.records = through
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
      const text = `${appended - through} of ${appended} records not known to be delivered, safe through line ${report.throughLine}`
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
