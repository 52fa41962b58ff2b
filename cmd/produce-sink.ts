/**
 * From a plan to the sink that takes the input: plain lines go chunk by chunk to the producer, everything that needs a
 * look at each record through src/text.
 */

import { sleep } from '../src/ports/time.ts'
import {
  DelimiterSplitter,
  type RecordSplitter,
  SizedSplitter,
  WholeSplitter,
} from '../src/text/record-splitter.ts'
import type { ProducerClient } from './clients.ts'
import type { CommandDeps } from './deps.ts'
import type { Flags } from './flags.ts'
import type { ChunkSink } from './input-pump.ts'
import type { KeyedProducer } from './keyed-line-sink.ts'
import { LineSink } from './line-sink.ts'
import { Pacer } from './pacer.ts'
import type { ProducePlan } from './produce-plan.ts'
import type { RecordErrors } from './record-errors.ts'
import { RecordSink } from './record-sink.ts'
import { topicPattern } from './topic-names.ts'

export interface Sink extends ChunkSink {
  /** Of the record that has begun; undefined: not known, it is being dropped. Meant while no record waits. */
  readonly openBytes: number | undefined
  /** A whole record was taken that is not appended yet. */
  readonly isRecordWaiting: boolean
  /** One input is over. @returns false while there is no room for its last record */
  finish(): boolean
  /** @returns the bytes of an unfinished record that are dropped */
  drop(): number
}

export interface SinkParts {
  readonly producer: ProducerClient
  readonly errors: RecordErrors
  readonly recordBytesMax: number
  readonly prepareTopic: (name: string) => Promise<void>
}

export async function makeSink(
  deps: CommandDeps,
  flags: Flags,
  plan: ProducePlan,
  parts: SinkParts,
): Promise<Sink> {
  const { form, delimiter, topic, partition } = plan
  const { producer, errors, recordBytesMax, prepareTopic } = parts
  const isPlain =
    form === 'value' &&
    delimiter.length === 1 &&
    plan.value === undefined &&
    !looksAtRecords(flags, plan)
  if (isPlain) {
    return new LineSink(producer, errors, {
      topic,
      partition,
      delimiter: delimiter[0] ?? 10,
      recordBytesMax,
    })
  }
  const { key, keySeparator, keyPath, timestampPath, timestampMs, headers, nullValue } = plan
  const required = flags.choice('require', ['json', 'utf8'] as const)
  const rate = flags.rate('rate')
  const pattern = plan.keepTopic ? topicPattern(topic, false) : undefined
  const format = await makeFormatReader(plan, recordBytesMax)
  const records = new RecordSink(producer, errors, format ?? makeSplitter(plan, recordBytesMax), {
    topic: pattern === undefined ? topic : undefined,
    partition,
    ...(pattern === undefined ? {} : { allowTopic: (name: string) => pattern.test(name) }),
    keepPartition: plan.keepPartition,
    prepareTopic,
    form,
    ...(format === undefined ? {} : { format }),
    recordBytesMax,
    stripCarriageReturn: flags.has('strip-cr'),
    ...(nullValue === undefined ? {} : { nullValue: Buffer.from(nullValue, 'utf8') }),
    ...(key === undefined ? {} : { key: Buffer.from(key, 'utf8') }),
    ...(keySeparator === undefined ? {} : { keySeparator }),
    keySeparatorText: flags.text('key-sep') ?? '',
    ...(keyPath === undefined ? {} : { keyPath }),
    ...(timestampPath === undefined ? {} : { timestampPath }),
    ...(timestampMs === undefined ? {} : { timestampMs }),
    ...(headers.length === 0 ? {} : { headers }),
    ...(required === undefined ? {} : { require: required }),
    ...(rate === undefined ? {} : { pacer: new Pacer(deps.time, rate) }),
    sleep: (delayMs) => sleep(deps.time, delayMs),
    nowMs: () => deps.time.wallMs(),
  })
  return keyedLineSink(records, flags, plan, parts)
}

/** Where a key is all that is looked for in a line, whole pieces of the input are worked on at once. */
async function keyedLineSink(
  records: RecordSink,
  flags: Flags,
  plan: ProducePlan,
  { producer, recordBytesMax }: SinkParts,
): Promise<Sink> {
  const { form, delimiter, topic, partition, keepTopic, keyPath, keySeparator } = plan
  const key = keyPath?.map(({ bytes }) => bytes) ?? keySeparator?.[0]
  const isForKernel =
    key !== undefined &&
    (keySeparator === undefined || keySeparator.length === 1) &&
    keySeparator?.[0] !== delimiter[0] &&
    form === 'value' &&
    delimiter.length === 1 &&
    partition === undefined &&
    !keepTopic &&
    plan.value === undefined &&
    !looksBeyondKeys(flags, plan)
  if (!isForKernel || !takesKeyedLines(producer)) return records
  const { KeyedLineSink } = await import('./keyed-line-sink.ts')
  const lines = { topic, key, delimiter: delimiter[0] ?? 10, lineBytesMax: recordBytesMax }
  return new KeyedLineSink(producer, records, lines)
}

async function makeFormatReader(plan: ProducePlan, recordBytesMax: number) {
  if (plan.format === undefined) return undefined
  const { FormatReader } = await import('../src/text/format-reader.ts')
  return new FormatReader(plan.format.program, recordBytesMax)
}

function makeSplitter(plan: ProducePlan, recordBytesMax: number): RecordSplitter {
  const { form, value, delimiter } = plan
  if (form === 'sized') return new SizedSplitter(recordBytesMax)
  // An empty --value is a record too, which no splitter would see: a line of its own is.
  if (form === 'raw') return new WholeSplitter(recordBytesMax)
  return value === undefined
    ? new DelimiterSplitter(delimiter, recordBytesMax)
    : new WholeSplitter(recordBytesMax, { emptyIsRecord: true })
}

function takesKeyedLines(producer: ProducerClient): producer is ProducerClient & KeyedProducer {
  return producer.takesKeyedLines === true
}

/** Whether any flag asks for a look at each record. */
function looksAtRecords(flags: Flags, plan: ProducePlan): boolean {
  const { keySeparator, keyPath } = plan
  return keySeparator !== undefined || keyPath !== undefined || looksBeyondKeys(flags, plan)
}

/** Whether any flag asks for more of each record than a key of its own. */
function looksBeyondKeys(flags: Flags, plan: ProducePlan): boolean {
  const { key, timestampPath, timestampMs, headers } = plan
  return (
    key !== undefined ||
    timestampPath !== undefined ||
    timestampMs !== undefined ||
    headers.length > 0 ||
    // A shorter limit than a batch's is of each line, which the plain path never looks at.
    ['null-value', 'strip-cr', 'require', 'rate', 'max-bytes'].some((name) => flags.has(name))
  )
}
