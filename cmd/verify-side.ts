/**
 * One side of `verify`: a topic up to its end snapshot, or a file of envelopes. Both can be read as often as is needed,
 * in whole or one partition at a time, with bounded memory.
 */

import { StreamError } from '../src/base/errors.ts'
import type { RecordsEvent } from '../src/client/consumer-events.ts'
import type { OffsetQuestion } from '../src/client/offsets.ts'
import type { ByteInput } from '../src/ports/stdio.ts'
import { RecordCursor } from '../src/record/record-cursor.ts'
import { EnvelopeReader } from '../src/text/envelope-reader.ts'
import { RecordFields } from '../src/text/record-fields.ts'
import { DelimiterSplitter, TOO_LONG } from '../src/text/record-splitter.ts'
import type { Broker } from './broker.ts'
import type { ConsumerClient } from './clients.ts'
import type { CommandDeps } from './deps.ts'
import { askOffsets, openConsumer } from './read-open.ts'
import type { ReadPlan } from './read-options.ts'
import { type PartitionRange, resolveRanges } from './read-range.ts'
import { withLine } from './record-errors.ts'
import type { ComparedRecord } from './verify-record.ts'

export interface RecordStream {
  /** @returns whether there was another record; it is in `record` then */
  next(record: ComparedRecord): boolean | Promise<boolean>
  close(): void
}

export interface VerifySide {
  /** Rising. */
  readonly partitions: readonly number[]
  /** @param partition  undefined: all, in any order over partitions */
  read(partition: number | undefined): Promise<RecordStream>
}

export async function openTopicSide(
  deps: CommandDeps,
  broker: Broker,
  plan: ReadPlan,
  topic: string,
): Promise<VerifySide> {
  const info = await broker.cluster.awaitTopic(topic)
  const names = info.partitions.map(({ partition }) => ({ topic, partition }))
  const ask = (questions: readonly OffsetQuestion[]) => askOffsets(deps, broker, plan, questions)
  const asked = await resolveRanges(names, plan.from, plan.until, ask)
  const ends = await ask(names.map((name) => ({ ...name, at: 'latest' })))
  // What is not there yet is not waited for.
  const ranges = asked.map((range) => {
    const end = ends.find(({ partition }) => partition === range.partition)?.offset ?? 0
    const endOffset = Math.max(range.startOffset, Math.min(range.endOffset ?? end, end))
    return { ...range, endOffset }
  })
  for (const { partition, gap } of ranges) {
    if (gap !== undefined) warnOfGap(deps, topic, partition, gap)
  }
  return {
    partitions: names.map(({ partition }) => partition),
    read: async (partition) => {
      const wanted = ranges.filter(
        (range) => partition === undefined || range.partition === partition,
      )
      return new TopicStream(deps, await openConsumer(deps, broker, plan, wanted.length), wanted)
    },
  }
}

function warnOfGap(
  deps: CommandDeps,
  topic: string,
  partition: number,
  { from, to }: { readonly from: number; readonly to: number },
): void {
  deps.console.warn(`${topic}: partition ${partition}: offsets ${from} to ${to - 1} are gone`)
}

/** Records of ranges that are known; closes the consumer with itself. */
export function openRanges(
  deps: CommandDeps,
  consumer: ConsumerClient,
  ranges: readonly Omit<PartitionRange, 'gap'>[],
): RecordStream {
  return new TopicStream(deps, consumer, ranges)
}

class TopicStream implements RecordStream {
  readonly #deps: CommandDeps
  readonly #consumer: ConsumerClient
  readonly #cursor = new RecordCursor()
  #event: RecordsEvent | undefined
  #batch = 0

  constructor(
    deps: CommandDeps,
    consumer: ConsumerClient,
    ranges: readonly Omit<PartitionRange, 'gap'>[],
  ) {
    this.#deps = deps
    this.#consumer = consumer
    consumer.assign(
      ranges.map(({ topic, partition, startOffset, endOffset }) => ({
        topic,
        partition,
        startOffset,
        ...(endOffset === undefined ? {} : { endOffset }),
      })),
    )
  }

  next(record: ComparedRecord): boolean | Promise<boolean> {
    for (;;) {
      if (this.#nextInEvent(record)) return true
      const event = this.#consumer.poll()
      if (event === undefined) {
        if (this.#consumer.isDone) return false
        return this.#consumer.wait().then(() => this.next(record))
      }
      if (event.kind === 'failed') throw event.error
      if (event.kind === 'gap') warnOfGap(this.#deps, event.topic, event.partition, event)
      if (event.kind !== 'records') continue
      this.#event = event
      this.#batch = 0
    }
  }

  close(): void {
    this.#consumer.close()
  }

  #nextInEvent(record: ComparedRecord): boolean {
    const event = this.#event
    if (event === undefined) return false
    const cursor = this.#cursor
    for (;;) {
      while (this.#batch > 0 && cursor.next()) {
        if (cursor.offset < event.fromOffset) continue
        if (cursor.offset >= event.untilOffset) break
        record.topic = event.topic
        record.partition = event.partition
        record.setFromCursor(cursor)
        return true
      }
      const at = event.batches[this.#batch]
      if (at === undefined) {
        this.#event = undefined
        return false
      }
      cursor.reset(event.bytes, at)
      this.#batch += 1
    }
  }
}

export interface FileOptions {
  /** As it is named in messages. */
  readonly name: string
  /** Envelopes must say their partition, and their offset. */
  readonly needsPartition: boolean
  readonly needsOffset: boolean
  readonly open: () => Promise<ByteInput>
}

/** Reads the file once to see which partitions it has. */
export async function openFileSide(options: FileOptions): Promise<VerifySide> {
  const partitions = new Set<number>()
  if (options.needsPartition) {
    const stream = new FileStream(await options.open(), options, (partition) => {
      partitions.add(partition)
      return false
    })
    try {
      await stream.skipAll()
    } finally {
      stream.close()
    }
  }
  return {
    partitions: [...partitions].sort((left, right) => left - right),
    read: async (partition) =>
      new FileStream(
        await options.open(),
        options,
        (found) => partition === undefined || found === partition,
      ),
  }
}

const NEWLINE = Uint8Array.of(10)
const LINE_BYTES_MAX = 512 * 1024 * 1024

/** Envelopes one at a time: the input is paused while there are bytes in hand. */
class FileStream implements RecordStream {
  readonly #input: ByteInput
  readonly #options: FileOptions
  readonly #isWanted: (partition: number) => boolean
  readonly #splitter = new DelimiterSplitter(NEWLINE, LINE_BYTES_MAX)
  readonly #reader: EnvelopeReader
  readonly #fields = new RecordFields()
  readonly #chunks: Uint8Array[] = []
  readonly #consume = (bytes: Uint8Array, start: number, end: number): boolean => {
    this.#line += 1
    this.#read(bytes, start, end)
    this.#hasRecord = this.#isWanted(this.#fields.partition ?? 0)
    return !this.#hasRecord
  }
  #at = 0
  #line = 0
  #hasRecord = false
  #hasEnded = false
  #error: Error | undefined
  #wake: () => void = () => undefined

  constructor(input: ByteInput, options: FileOptions, isWanted: (partition: number) => boolean) {
    this.#input = input
    this.#options = options
    this.#isWanted = isWanted
    this.#reader = new EnvelopeReader({
      keepPartition: options.needsPartition,
      keepOffset: options.needsOffset,
    })
    input.start({
      onBytes: (chunk, start, end) => {
        this.#chunks.push(Uint8Array.from(chunk.subarray(start, end)))
        input.pause()
        this.#wake()
      },
      onEnd: (error) => {
        this.#hasEnded = true
        this.#error = error
        this.#wake()
      },
    })
  }

  next(record: ComparedRecord): boolean | Promise<boolean> {
    for (;;) {
      const chunk = this.#chunks[0]
      this.#hasRecord = false
      if (chunk !== undefined) {
        this.#at = this.#splitter.feed(chunk, this.#at, chunk.length, this.#consume)
        if (this.#at >= chunk.length) {
          this.#chunks.shift()
          this.#at = 0
        }
      } else if (this.#hasEnded) {
        if (this.#error !== undefined) throw this.#error
        this.#splitter.finish(this.#consume)
        if (!this.#hasRecord) return false
      } else return this.#more().then(() => this.next(record))
      if (!this.#hasRecord) continue
      record.topic = this.#fields.topic ?? ''
      record.setFromFields(this.#fields)
      return true
    }
  }

  /** Nothing is wanted of it. */
  async skipAll(): Promise<void> {
    while (await this.next(undefined as never)) {
      // Only its partitions were of interest.
    }
  }

  close(): void {
    this.#input.close()
  }

  #more(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve
      this.#input.resume()
    })
  }

  #read(bytes: Uint8Array, start: number, end: number): void {
    const hasMark = this.#line === 1 && bytes[start] === 0xef && bytes[start + 1] === 0xbb
    try {
      if (start === TOO_LONG) throw new StreamError('RECORD_TOO_LARGE', 'a line too long')
      this.#reader.read(bytes, hasMark ? start + 3 : start, end, this.#fields)
    } catch (error) {
      if (!(error instanceof StreamError)) throw error
      const named = new StreamError(error.code, error.message, { target: this.#options.name })
      throw withLine(named, this.#line)
    }
  }
}
