/**
 * From what a child printed to records of the output topic: through the sinks of `produce`, so the same input makes the same
 * records there and here.
 */

import { StreamError } from '../src/base/errors.ts'
import type { TopicInfo } from '../src/client/metadata-cache.ts'
import type { ProducerOptions } from '../src/client/producer.ts'
import type { ByteInput } from '../src/ports/stdio.ts'
import type { RecordInput } from '../src/record/batch-builder.ts'
import type { Codec } from '../src/record/compression.ts'
import type { Broker } from './broker.ts'
import type { ProducerClient } from './clients.ts'
import type { CommandDeps } from './deps.ts'
import { recordBytesMax } from './dlq-records.ts'
import type { Flags } from './flags.ts'
import { InputPump } from './input-pump.ts'
import { tooLarge } from './line-sink.ts'
import { AnswerReader } from './pipe-answers.ts'
import type { PipeOutPlan, PipePlan } from './pipe-plan.ts'
import type { ProducePlan } from './produce-plan.ts'
import { makeSink, type Sink } from './produce-sink.ts'
import { ProduceTopics } from './produce-topics.ts'
import { RecordErrors } from './record-errors.ts'

/** What a batch needs around its only record. */
const BATCH_MARGIN_BYTES = 4096

/** What a child printed over one epoch. */
export interface EpochOutput {
  readonly bytes: number
  /** All of it; undefined: too much. */
  readonly memory: Uint8Array | undefined
  /** Of what is not in memory: from its start, a few times. */
  open(): ByteInput | undefined
  /** It is not read again. */
  drop(): void
}

export class PipeOutput {
  readonly #deps: CommandDeps
  readonly #flags: Flags
  readonly #broker: Broker
  readonly #plan: PipePlan
  readonly #out: PipeOutPlan
  #recordBytesMax: number

  constructor(deps: CommandDeps, flags: Flags, broker: Broker, plan: PipePlan, out: PipeOutPlan) {
    this.#deps = deps
    this.#flags = flags
    this.#broker = broker
    this.#plan = plan
    this.#out = out
    this.#recordBytesMax = broker.settings.number('max.request.size') - 65_536 - BATCH_MARGIN_BYTES
  }

  /**
   * Looks the output topic up, and creates it where that is wanted: with as many partitions as `partitions` where numbers are kept.
   * @throws StreamError TOPIC_UNKNOWN, and what creating it may end with
   */
  async prepareTopic(partitions: number): Promise<void> {
    if (this.#out.keepTopic) return
    const { topic, samePartition } = this.#out
    const producer = await this.#deps.clients.producer(this.#broker.cluster, {})
    try {
      const topics = this.#topics(producer)
      await topics.prepare(topic, samePartition ? partitions : undefined)
      const admin = await this.#deps.clients.admin(this.#broker.cluster)
      const bytesMax = (await recordBytesMax(admin, [topic])) ?? this.#recordBytesMax
      this.#recordBytesMax = Math.min(this.#recordBytesMax, bytesMax - BATCH_MARGIN_BYTES)
      const count = producer.partitionCount(topic)
      if (!samePartition || count >= partitions) return
      throw new StreamError(
        'TOPIC_UNKNOWN',
        `${topic}: has ${count} partitions, fewer than the ${partitions} of the input`,
        {
          target: topic,
          hint: `--same-partition needs more: stream topics alter ${topic} --partitions ${partitions}`,
        },
      )
    } finally {
      producer.close()
    }
  }

  /** For children that answer line by line. */
  answerReader(): AnswerReader {
    return new AnswerReader(this.#plan, this.#out, {
      recordBytesMax: this.#recordBytesMax,
      prepareTopic: (producer, topic) => this.#topics(producer).prepare(topic),
    })
  }

  /** All records of an output, to the producer of the open transaction. @throws StreamError as append; RECORD_INVALID … */
  async append(producer: ProducerClient, output: EpochOutput, partition: number): Promise<void> {
    await this.#feed(producer, output, partition, async (topic) => {
      await this.#topics(producer).prepare(topic)
    })
  }

  async #feed(
    producer: ProducerClient,
    output: EpochOutput,
    partition: number,
    prepareTopic: (topic: string) => Promise<void>,
  ): Promise<void> {
    const sink = await this.#sink(producer, partition, prepareTopic)
    const { memory } = output
    if (memory !== undefined) {
      await feedAll(sink, memory)
      return
    }
    const input = output.open()
    if (input === undefined) {
      throw new StreamError('NOT_DELIVERED', 'an output was read as often as it can be')
    }
    try {
      await new InputPump(sink).run(input)
      while (!sink.finish()) await sink.ready()
    } finally {
      input.close()
    }
  }

  /**
   * Whether an output makes records, without sending any: what is wrong with it belongs to its epoch alone.
   * @throws StreamError RECORD_INVALID, RECORD_TOO_LARGE
   */
  async check(output: EpochOutput, partition: number): Promise<void> {
    const { keySeparator, keyPath } = this.#out
    const isPlain =
      this.#plan.childOut === 'value' && keySeparator === undefined && keyPath === undefined
    if (isPlain && output.bytes <= this.#recordBytesMax) return
    const allowed = new CheckingProducer(this.#recordBytesMax, this.#plan.delimiter[0] ?? 10)
    await this.#feed(allowed, output, partition, async () => undefined)
  }

  #topics(producer: ProducerClient): ProduceTopics {
    const plan = this.#producePlan(undefined)
    return new ProduceTopics(this.#deps, this.#flags, plan, this.#broker, producer)
  }

  #sink(
    producer: ProducerClient,
    partition: number,
    prepareTopic: (topic: string) => Promise<void>,
  ): Promise<Sink> {
    const plan = this.#producePlan(this.#out.samePartition ? partition : undefined)
    return makeSink(this.#deps, this.#flags, plan, {
      producer,
      errors: new RecordErrors({ kind: 'stop' }, this.#deps.console),
      recordBytesMax: this.#recordBytesMax,
      prepareTopic,
    })
  }

  #producePlan(partition: number | undefined): ProducePlan {
    const { topic, keepTopic, key, keySeparator, keyPath } = this.#out
    return {
      topic,
      files: [],
      form: this.#plan.childOut,
      format: undefined,
      value: undefined,
      delimiter: this.#plan.delimiter,
      partition,
      keepTopic,
      keepPartition: false,
      key,
      keySeparator,
      nullValue: undefined,
      keyPath,
      timestampPath: undefined,
      timestampMs: undefined,
      headers: [],
      onError: 'stop',
      allowErrors: 0,
      whole: undefined,
      expectedOffset: undefined,
      resume: undefined,
    }
  }
}

export function producerOptionsOf(
  flags: Flags,
  { settings, scheme }: Broker,
  { delimiter }: PipePlan,
): ProducerOptions {
  const codec = flags.text('compression') ?? settings.text('compression.type')
  return {
    batchBytes: settings.number('batch.size'),
    recordBytesMax: settings.number('max.request.size') - 65_536,
    lingerMs: settings.number('linger.ms'),
    codec: (codec ?? (scheme === 'ipc' ? 'none' : 'lz4')) as Codec,
    partitioner: settings.text('partitioner') === 'crc32' ? 'crc32' : 'murmur2',
    deliveryTimeoutMs: settings.number('delivery.timeout.ms'),
    requestTimeoutMs: settings.number('request.timeout.ms'),
    bufferBytesMax: settings.number('buffer.memory'),
    delimiter: delimiter[0] ?? 10,
  }
}

/** All bytes of one input. @throws what the sink throws */
export async function feedAll(sink: Sink, bytes: Uint8Array): Promise<void> {
  for (let at = 0; ; ) {
    at = sink.feed(bytes, at, bytes.length)
    if (at === bytes.length && !sink.isBlocked) break
    await sink.ready()
  }
  while (!sink.finish()) await sink.ready()
}

/** Takes records as a producer does, and keeps none. */
class CheckingProducer implements ProducerClient {
  readonly isFull = false
  readonly failure = undefined
  appendedCount = 0
  consumedBytes = 0
  readonly #bytesMax: number
  readonly #delimiter: number

  constructor(bytesMax: number, delimiter: number) {
    this.#bytesMax = bytesMax
    this.#delimiter = delimiter
  }

  async prepare(): Promise<TopicInfo> {
    throw new StreamError('CLOSED', 'nothing is sent by a check')
  }

  partitionCount(): number {
    return Number.MAX_SAFE_INTEGER
  }

  partitionForKey(): number {
    return 0
  }

  appendLines(
    _topic: string,
    _partition: number | undefined,
    chunk: Uint8Array,
    start: number,
    end: number,
  ): number {
    let at = start
    for (;;) {
      const found = chunk.indexOf(this.#delimiter, at)
      const lineEnd = found < 0 || found >= end ? end : found
      this.consumedBytes = at - start
      if (lineEnd - at > this.#bytesMax) throw tooLarge(this.#bytesMax)
      if (lineEnd === end) return at - start
      at = lineEnd + 1
      this.appendedCount += 1
    }
  }

  append(_topic: string, _partition: number | undefined, { key, value }: RecordInput): boolean {
    const bytes = lengthOf(key) + lengthOf(value)
    if (bytes > this.#bytesMax) throw tooLarge(this.#bytesMax)
    this.appendedCount += 1
    return true
  }

  deliveredThrough(): number {
    return this.appendedCount
  }

  flushSoon(): void {
    // Nothing is kept.
  }

  async writable(): Promise<void> {
    // There is always room.
  }

  async flush(): Promise<void> {
    // Nothing is kept.
  }

  close(): void {
    // Nothing is open.
  }
}

function lengthOf(range: RecordInput['key']): number {
  return range === undefined || range === null ? 0 : range.end - range.start
}
