/**
 * `stream tap`: standard input to standard output as it is, and a copy of its lines to a topic.
 *
 * The pipe comes first: once bytes flow, nothing that goes wrong with the copy ends them. With back-pressure (the default)
 * the pipe is as slow as the topic; with --drop-slow it never waits for it, not even for the first contact.
 */

import { isStreamError, StreamError, UsageError } from '../src/base/errors.ts'
import type { Delivery } from '../src/client/delivery.ts'
import type { Codec } from '../src/record/compression.ts'
import { parseCount } from '../src/text/units.ts'
import { type Broker, openBroker } from './broker.ts'
import type { ProducerClient } from './clients.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { BrokenPipe, exitCodeOf, joinExitCodes } from './exit-code.ts'
import type { Flags } from './flags.ts'
import { InputPump } from './input-pump.ts'
import { LineSink } from './line-sink.ts'
import { type CommandSpec, jsonErrorOption, reportOption } from './option-table.ts'
import { Progress } from './progress.ts'
import { QueuedOutput } from './queued-output.ts'
import { RecordErrors } from './record-errors.ts'
import { Report } from './report.ts'
import { droppedError, TapSink } from './tap-sink.ts'
import { isGlob, unknownPartition } from './topic-names.ts'

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'tap',
  summary: 'Pass standard input on, and send a copy of its lines to a topic',
  description: [
    'Standard output gets every byte of standard input, unchanged; the topic gets each line as a record. Exit 0 means that all of it was passed on and every line is durable as --acks says.',
    'The pipe waits for the topic where that is slower. With --drop-slow it never does, not even for the first contact: lines that find no room are not copied, and are counted on standard error at the end, exit 5.',
    'Once bytes flow, the pipe goes on whatever happens to the copy. When the reader of the output goes away, what was read is still delivered.',
  ],
  operands: [{ name: 'TOPIC' }],
  options: [
    { long: 'drop-slow', help: 'never slow the pipe: lines the topic has no room for are not copied' },
    { long: 'partition', short: 'p', argument: 'N', help: 'a fixed partition' },
    { long: 'null', short: '0', help: 'lines end with NUL' },
    { long: 'delim', short: 'D', argument: 'C', help: String.raw`lines end with the byte C (escapes \n \t \r \0 \\ \xHH)` },
    { long: 'acks', argument: 'N', choices: ['all', '1', '0'], default: 'all', help: '1 and 0 give up durability and idempotence' },
    { long: 'compression', short: 'z', argument: 'C', choices: ['none', 'gzip', 'snappy', 'lz4', 'zstd'], help: 'codec; default none over ipc, where it costs more than it saves, else lz4' },
    { long: 'linger', argument: 'DUR', default: '5ms', help: 'longest wait for a batch to fill; it leaves early when the input is idle' },
    { long: 'batch-size', argument: 'SIZE', default: '1000KiB', help: 'size at which a batch leaves' },
    { long: 'delivery-timeout', argument: 'DUR', default: '2m', help: 'after this a record counts as not delivered' },
    { long: 'create', help: 'create the topic if it is unknown' },
    { long: 'no-create', help: 'never create it' },
    jsonErrorOption,
    reportOption,
  ],
  examples: [
    { line: './import.sh | stream tap imported | psql -c "\\copy items from stdin"' },
    { line: 'tail -F access.log | stream tap clicks --drop-slow | ./detect.py' },
  ],
  exits: [
    [3, 'no such topic, and it was not to be created'],
    [5, 'some lines were not copied; all bytes were passed on'],
    [141, 'the reader of the output has gone; what was read is in the topic'],
  ],
}

/** What a batch needs around its only record. */
const BATCH_MARGIN_BYTES = 4096

export async function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const [topic, ...others] = args.operands
  if (topic === undefined) throw new UsageError('TOPIC is missing', 'try: stream tap --help')
  if (others.length > 0) throw new UsageError(`unexpected argument ${others[0]}`)
  if (isGlob(topic)) throw new UsageError(`${topic}: one topic, not a glob`)
  return new TapJob(deps, args, topic).run()
}

class TapJob {
  readonly #deps: CommandDeps
  readonly #args: CommandArgs
  readonly #flags: Flags
  readonly #topic: string
  readonly #partition: number | undefined
  readonly #delimiter: number
  readonly #report: Report
  readonly #errors: RecordErrors
  readonly #sink: TapSink
  readonly #out: QueuedOutput
  #broker: Broker | undefined
  #producer: ProducerClient | undefined
  /** Records that the broker refused for what they are. */
  #refusedCount = 0
  /** Why nothing more is copied. */
  #copyFailure: unknown

  constructor(deps: CommandDeps, args: CommandArgs, topic: string) {
    const { flags } = args
    this.#deps = deps
    this.#args = args
    this.#flags = flags
    this.#topic = topic
    this.#partition = readPartition(flags)
    this.#delimiter = readDelimiter(flags)
    this.#report = new Report('tap', deps.time)
    this.#errors = new RecordErrors({ kind: 'skip' }, deps.console)
    this.#out = new QueuedOutput(deps.stdio.output)
    this.#sink = new TapSink(this.#out, {
      delimiter: this.#delimiter,
      dropsSlow: flags.has('drop-slow'),
    })
  }

  async run(): Promise<number> {
    let connecting: Promise<void> | undefined
    if (this.#flags.has('drop-slow')) {
      connecting = this.#connect().catch((error: unknown) => this.#failCopy(error))
    } else await this.#connect()
    const failures: unknown[] = []
    try {
      await this.#pass()
    } catch (error) {
      failures.push(error)
    }
    await this.#deliver(connecting, failures)
    this.#producer?.close()
    this.#broker?.cluster.close()
    return this.#conclude(failures)
  }

  async #connect(): Promise<void> {
    const broker = await openBroker(this.#deps, this.#args)
    this.#broker = broker
    const requestBytesMax = broker.settings.number('max.request.size') - 65_536
    const recordBytesMax = requestBytesMax - BATCH_MARGIN_BYTES
    const producer = await this.#makeProducer(broker, recordBytesMax)
    this.#producer = producer
    await this.#prepareTopic(broker, producer)
    const lines = new LineSink(producer, this.#errors, {
      topic: this.#topic,
      partition: this.#partition,
      delimiter: this.#delimiter,
      recordBytesMax,
    })
    this.#sink.start(producer, lines, () => this.#errors.count)
  }

  #makeProducer({ cluster, settings, scheme }: Broker, recordBytesMax: number) {
    const flags = this.#flags
    const acks = flags.text('acks') ?? settings.text('acks')
    const codec = flags.text('compression') ?? settings.text('compression.type')
    return this.#deps.clients.producer(cluster, {
      acks: acks === '1' ? 1 : acks === '0' ? 0 : 'all',
      batchBytes: flags.sizeBytes('batch-size') ?? settings.number('batch.size'),
      recordBytesMax: recordBytesMax + BATCH_MARGIN_BYTES,
      lingerMs: flags.durationMs('linger') ?? settings.number('linger.ms'),
      codec: (codec ?? (scheme === 'ipc' ? 'none' : 'lz4')) as Codec,
      deliveryTimeoutMs:
        flags.durationMs('delivery-timeout') ?? settings.number('delivery.timeout.ms'),
      requestTimeoutMs: settings.number('request.timeout.ms'),
      bufferBytesMax: settings.number('buffer.memory'),
      delimiter: this.#delimiter,
      afterRefusal: 'continue',
      onDelivery: (delivery) => this.#onDelivery(delivery),
    })
  }

  async #prepareTopic(broker: Broker, producer: ProducerClient): Promise<void> {
    const topic = this.#topic
    let info: Awaited<ReturnType<ProducerClient['prepare']>>
    try {
      info = await producer.prepare(topic)
    } catch (error) {
      if (!isStreamError(error, 'TOPIC_UNKNOWN')) throw error
      if (!this.#mayCreate(broker)) {
        throw new StreamError(error.code, error.message, {
          target: topic,
          hint: `to create it: --create, or stream topics create ${topic}`,
          cause: error,
          ...(error.kafkaError === undefined ? {} : { kafkaError: error.kafkaError }),
        })
      }
      const admin = await this.#deps.clients.admin(broker.cluster)
      const [outcome] = await admin.createTopics([{ name: topic }])
      // Another producer may have been faster.
      if (outcome?.error !== undefined && !isStreamError(outcome.error, 'TOPIC_EXISTS')) {
        throw outcome.error
      }
      await admin.awaitTopic(topic)
      info = await producer.prepare(topic)
    }
    const count = info.partitions.length
    if (this.#partition === undefined || this.#partition < count) return
    throw unknownPartition(topic, this.#partition, count)
  }

  #mayCreate({ settings, scheme }: Broker): boolean {
    const flag = this.#flags.either('create', 'no-create')
    if (flag !== undefined) return flag
    const setting = settings.text('produce.create')
    if (setting === 'auto') return scheme === 'ipc'
    return setting === 'yes' || setting === 'true'
  }

  // --- the pipe

  async #pass(): Promise<void> {
    const { interruption, time, stdio, console, host } = this.#deps
    const input = stdio.openInput('-')
    if (input.kind === 'terminal') {
      console.warn('reading lines from the terminal; end with Ctrl-D')
    }
    const pump = new InputPump(this.#sink)
    const stopListening = interruption.onRaised(() => pump.stop())
    const timeoutMs = this.#flags.durationMs('timeout')
    const timer =
      timeoutMs === undefined
        ? undefined
        : time.setTimer(timeoutMs, () => pump.fail(timedOut(timeoutMs)))
    const progress = new Progress(this.#deps, this.#flags, {
      report: this.#report,
      sharesTerminal: host.isTerminal('output'),
    })
    try {
      const reason = await pump.run(input)
      if (reason === 'end') {
        while (!this.#sink.finish()) await this.#sink.ready()
      } else {
        const bytes = this.#sink.discard()
        if (bytes > 0) console.warn(`an unfinished last line of ${bytes} bytes is not copied`)
      }
      await this.#out.drained()
    } finally {
      input.close()
      timer?.cancel()
      progress.end()
      // A second signal must still end at once: the subscription stays until all is delivered.
      this.#stopListening = stopListening
    }
  }

  #stopListening: () => void = () => undefined

  // --- the copy

  #onDelivery(delivery: Delivery): void {
    const { error, topic, partition, baseOffset, recordCount } = delivery
    if (error === undefined) {
      this.#report.records += recordCount
      if (baseOffset >= 0) {
        this.#report.addSpan(topic, partition, baseOffset, baseOffset + recordCount - 1)
      }
      return
    }
    const isOfRecord = error.code === 'RECORD_TOO_LARGE' || error.code === 'RECORD_INVALID'
    if (!isOfRecord) {
      this.#failCopy(error)
      return
    }
    this.#refusedCount += recordCount
    this.#errors.refuse(error, delivery)
  }

  /** The pipe goes on without a copy. */
  #failCopy(error: unknown): void {
    if (this.#copyFailure !== undefined) return
    this.#copyFailure = error
    this.#sink.kill()
    this.#deps.console.error(error, this.#topic)
    this.#deps.console.warn('the pipe goes on; what follows is not copied')
  }

  async #deliver(connecting: Promise<void> | undefined, failures: unknown[]): Promise<void> {
    await connecting
    const isTimedOut = failures.some((failure) => isStreamError(failure, 'TIMED_OUT'))
    try {
      if (isTimedOut) this.#producer?.flushSoon()
      else await this.#producer?.flush()
    } catch (error) {
      if (this.#copyFailure === undefined) failures.push(error)
    }
    this.#stopListening()
  }

  async #conclude(failures: readonly unknown[]): Promise<number> {
    const { console } = this.#deps
    const { droppedCount, linesBeforeDrop, bytes } = this.#sink
    const report = this.#report
    const appended = this.#producer?.appendedCount ?? 0
    const through = this.#producer?.deliveredThrough() ?? 0
    const notCopied = appended - report.records - this.#refusedCount + droppedCount
    const lines = appended - this.#refusedCount + this.#errors.count + droppedCount
    report.bytes = bytes
    report.errors = notCopied + this.#errors.count
    const safe = this.#errors.linesThrough(through)
    report.throughLine = linesBeforeDrop === undefined ? safe : Math.min(safe, linesBeforeDrop)
    const codes: number[] = []
    for (const failure of failures) {
      if (failure instanceof BrokenPipe) continue
      const code = exitCodeOf(failure)
      codes.push(notCopied > 0 && (code === 4 || code === 7) ? 5 : code)
      console.error(failure, this.#topic)
    }
    if (notCopied > 0) {
      const isSlow = this.#copyFailure === undefined
      console.error(droppedError(notCopied, lines, isSlow ? 'the topic was too slow' : 'it failed'))
    }
    if (notCopied + this.#errors.count > 0) codes.push(5)
    else if (this.#copyFailure !== undefined) codes.push(exitCodeOf(this.#copyFailure))
    const exit = joinExitCodes(codes)
    const path = this.#flags.text('report')
    if (path !== undefined) await report.write(this.#deps, path, exit)
    if (console.wantsSummary) console.print(`stream: ${report.summary('copied')}\n`)
    const broken = failures.find((failure) => failure instanceof BrokenPipe)
    if (broken !== undefined) throw broken
    return exit
  }
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

function readDelimiter(flags: Flags): number {
  flags.exclusive('null', 'delim')
  if (flags.has('null')) return 0
  const bytes = flags.escapedBytes('delim')
  if (bytes === undefined) return 10
  if (bytes.length !== 1) throw new UsageError('--delim: must be one byte here')
  return bytes[0] ?? 10
}

function timedOut(timeoutMs: number): StreamError {
  return new StreamError('TIMED_OUT', `not done within ${timeoutMs} ms`)
}
