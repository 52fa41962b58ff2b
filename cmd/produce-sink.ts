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
import { LineSink } from './line-sink.ts'
import { Pacer } from './pacer.ts'
import type { ProducePlan } from './produce-plan.ts'
import type { RecordErrors } from './record-errors.ts'
import { RecordSink } from './record-sink.ts'
import { topicPattern } from './topic-names.ts'

export interface Sink extends ChunkSink {
  /** Of the record that has begun; undefined: not known, it is being dropped. Meant while nothing waits for room. */
  readonly openBytes: number | undefined
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
  return new RecordSink(producer, errors, format ?? makeSplitter(plan, recordBytesMax), {
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

/** Whether any flag asks for a look at each record. */
function looksAtRecords(flags: Flags, plan: ProducePlan): boolean {
  const { key, keySeparator, keyPath, timestampPath, timestampMs, headers } = plan
  return (
    key !== undefined ||
    keySeparator !== undefined ||
    keyPath !== undefined ||
    timestampPath !== undefined ||
    timestampMs !== undefined ||
    headers.length > 0 ||
    // A shorter limit than a batch's is of each line, which the plain path never looks at.
    ['null-value', 'strip-cr', 'require', 'rate', 'max-bytes'].some((name) => flags.has(name))
  )
}
