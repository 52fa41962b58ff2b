/**
 * Records to standard output: batches as they came from the consumer into one buffer, written whenever it is full or no
 * further record is at hand.
 *
 * The plain cases (values with a one-byte delimiter, envelopes; no filter) print whole batches at once, through a kernel
 * once there is much to print; everything else goes record by record through a cursor, without objects. What is written
 * always ends with a whole record.
 */

import type { RecordsEvent } from '../src/client/consumer-events.ts'
import type { ByteOutput, WriteOutcome } from '../src/ports/stdio.ts'
import { LineDecoder } from '../src/record/line-decoder.ts'
import { OutputBuffer } from '../src/record/output-buffer.ts'
import { RecordCursor } from '../src/record/record-cursor.ts'
import { RecordFilter } from '../src/text/record-filter.ts'
import type { PartitionEnds, RecordWriter } from '../src/text/record-writer.ts'
import { BrokenPipe } from './exit-code.ts'
import type { KernelPrinter } from './kernel-printer.ts'
import type { ReadPlan } from './read-options.ts'

/** One write of this size costs a pipe's reader least (performance.md, section 1). */
const WRITE_BYTES = 256 * 1024
/** Compiling a kernel costs as much as printing so much without. */
const KERNEL_AFTER_BYTES = 512 * 1024

export interface Printed {
  /** Position after what was taken of the event. */
  readonly nextOffset: number
  /** False: more of the batch is to be taken after a write(). */
  readonly isWhole: boolean
  /** The run is over: --count or --bytes is reached. */
  readonly isDone: boolean
  /** A record stamped at or after the end in time was met. */
  readonly hasPassedTime: boolean
}

/** Where a read job puts its records. */
export interface RecordOutput {
  /** Records printed, and bytes. */
  readonly records: number
  readonly bytes: number
  readonly isAmbiguous: boolean
  /** Whether write() is due. */
  readonly isFull: boolean
  /** Whether all was reached that --count and --bytes ask for. */
  readonly isDone: boolean
  setPartition(topic: string, partition: number): void
  setEnds(ends: PartitionEnds): void
  /**
   * Takes the records of batch `index` of an event from `fromOffset` on.
   * @throws StreamError CORRUPT_BATCH …; nothing of the batch has been taken then
   */
  addBatch(event: RecordsEvent, index: number, fromOffset: number): Printed
  /** Takes the record that a cursor stands on, if the filter lets it through. @returns whether it did */
  addRecord(cursor: RecordCursor): boolean
  /** Writes all that was taken. @throws BrokenPipe; StreamError OUTPUT_FAILED */
  write(): void | Promise<void>
  /** All that was taken is written; write() may leave some on its way. @throws as write */
  drain?(): Promise<void>
  /** Settles with a write under way that nobody waits for, if there is one. */
  readonly settling?: Promise<void> | undefined
}

export interface ReadOutputOptions {
  readonly plan: ReadPlan
  readonly writer: RecordWriter
  /** Plain values and envelopes may go batch by batch, past the writer. */
  readonly allowsPlain: boolean
  /** Called once a run, for a value that contains the delimiter. */
  readonly onAmbiguous: (topic: string, partition: number) => void
  /** Called for each record that is printed. */
  readonly onRecord?: (topic: string, partition: number, offset: number) => void
  /** Loads the kernel of the plan's form, where there is one; asked once at most. */
  readonly loadKernel?: () => KernelPrinter | undefined
}

export class ReadOutput implements RecordOutput {
  /** Records printed, and bytes. */
  records = 0
  bytes = 0
  isAmbiguous = false
  readonly #output: ByteOutput
  readonly #plan: ReadPlan
  readonly #options: ReadOutputOptions
  readonly #ownBuffer = new OutputBuffer(WRITE_BYTES + 64 * 1024)
  readonly #filter: RecordFilter
  readonly #cursor = new RecordCursor()
  /** Of the plain case. */
  readonly #lines: LineDecoder | undefined
  readonly #lineOptions: { delimiter: number; nullValue?: Uint8Array }
  readonly #writer: RecordWriter
  /** Whether a kernel may print what is asked for. */
  readonly #mayUseKernel: boolean
  #kernel: KernelPrinter | undefined
  #kernelTried = false
  /** Of what was printed without a kernel. */
  #isWriting = false
  #topic = ''
  #partition = -1

  constructor(output: ByteOutput, options: ReadOutputOptions) {
    this.#output = output
    this.#options = options
    const { plan } = options
    this.#plan = plan
    this.#filter = new RecordFilter(plan.filter)
    this.#lineOptions = {
      delimiter: plan.delimiter[0] ?? 10,
      ...(plan.nullValue === undefined ? {} : { nullValue: plan.nullValue }),
    }
    const isWhole =
      plan.bytesMax === Number.POSITIVE_INFINITY &&
      plan.untilFutureMs === undefined &&
      plan.rate === undefined &&
      !plan.isByTime &&
      options.allowsPlain &&
      options.onRecord === undefined &&
      this.#filter.isEmpty
    const isPlain =
      isWhole &&
      plan.form === 'value' &&
      plan.delimiter.length === 1 &&
      plan.keySeparator === undefined
    this.#lines = isPlain ? new LineDecoder() : undefined
    this.#mayUseKernel = isPlain || (isWhole && plan.form === 'json' && !plan.embed)
    this.#writer = options.writer
  }

  /** Whether write() is due. */
  get isFull(): boolean {
    return this.#kernel === undefined && this.#buffer.length >= WRITE_BYTES
  }

  /** Settles with a write under way that nobody waits for, if there is one. */
  get settling(): Promise<void> | undefined {
    return this.#kernel?.settling
  }

  get #buffer(): OutputBuffer {
    return this.#kernel?.buffer ?? this.#ownBuffer
  }

  /** The kernel, loaded now if it was not yet; undefined when what is asked for is not printed by one. */
  useKernel(): KernelPrinter | undefined {
    if (!this.#mayUseKernel || this.#kernelTried) return this.#kernel
    this.#kernelTried = true
    const kernel = this.#options.loadKernel?.()
    if (kernel === undefined) return undefined
    kernel.kernel.setPartition?.(this.#topic, this.#partition)
    // What was printed without it goes out first, unless it is on its way.
    if (!this.#isWriting) {
      kernel.buffer.append(this.#ownBuffer.bytes, 0, this.#ownBuffer.length)
      this.#ownBuffer.clear()
    }
    this.#kernel = kernel
    return kernel
  }

  /** Whether all was reached that --count and --bytes ask for. */
  get isDone(): boolean {
    return this.records >= this.#plan.countMax || this.bytes >= this.#plan.bytesMax
  }

  setEnds(ends: PartitionEnds): void {
    this.#writer.setEnds?.(ends)
  }

  setPartition(topic: string, partition: number): void {
    if (topic === this.#topic && partition === this.#partition) return
    this.#topic = topic
    this.#partition = partition
    this.#writer.setPartition(topic, partition)
    this.#kernel?.kernel.setPartition?.(topic, partition)
    this.#filter.setTopic(topic, partition)
  }

  /**
   * Takes the records of batch `index` of an event from `fromOffset` on.
   * @throws StreamError CORRUPT_BATCH …; nothing of the batch has been taken then
   */
  addBatch(event: RecordsEvent, index: number, fromOffset: number): Printed {
    this.setPartition(event.topic, event.partition)
    this.#writer.setEnds?.(event)
    const at = event.batches[index] as number
    const kernel = this.#kernel ?? (this.bytes < KERNEL_AFTER_BYTES ? undefined : this.useKernel())
    if (kernel !== undefined) return this.#addByKernel(kernel, event, at, fromOffset)
    return this.#addByHand(event, at, fromOffset)
  }

  #addByHand(event: RecordsEvent, at: number, fromOffset: number): Printed {
    return this.#lines === undefined
      ? this.#addRecords(event, at, fromOffset)
      : this.#addLines(this.#lines, event, at, fromOffset)
  }

  #addByKernel(
    printer: KernelPrinter,
    event: RecordsEvent,
    at: number,
    fromOffset: number,
  ): Printed {
    const { kernel } = printer
    const range = {
      fromOffset,
      endOffset: event.untilOffset,
      recordsMax: this.#plan.countMax - this.records,
    }
    for (;;) {
      const { buffer } = printer
      const before = buffer.length
      const step = printer.step(event, at, range)
      this.records += kernel.taken
      this.bytes += buffer.length - before
      if (kernel.isAmbiguous) this.noteAmbiguous()
      if (step === 'judge') {
        return this.#addByHand(event, at, kernel.nextOffset)
      }
      printer.flow(step === 'full')
      const { nextOffset } = kernel
      if (step === 'done') {
        return { nextOffset, isWhole: true, isDone: this.isDone, hasPassedTime: false }
      }
      // No other output is free.
      if (step === 'full' && printer.buffer === buffer) {
        return { nextOffset, isWhole: false, isDone: false, hasPassedTime: false }
      }
    }
  }

  /** Takes the record that a cursor stands on, if the filter lets it through. @returns whether it did */
  addRecord(cursor: RecordCursor): boolean {
    if (!this.#filter.isEmpty && !this.#filter.matches(cursor)) return false
    const before = this.#buffer.length
    this.#writer.write(cursor, this.#buffer)
    this.records += 1
    this.bytes += this.#buffer.length - before
    this.#options.onRecord?.(this.#topic, this.#partition, cursor.offset)
    return true
  }

  /**
   * Sends all that was taken on its way. @returns what to wait for before more is taken
   * @throws BrokenPipe; StreamError OUTPUT_FAILED; also of an earlier write
   */
  write(): void | Promise<void> {
    if (this.#kernel !== undefined) return this.#kernel.flush()
    const buffer = this.#ownBuffer
    if (buffer.length === 0) return
    const outcome = this.#output.write(buffer.filled())
    if (outcome === 'broken') throw new BrokenPipe()
    if (outcome === 'written') {
      buffer.clear()
      return
    }
    return this.#written(outcome)
  }

  /** All that was taken is written. @throws as write */
  async drain(): Promise<void> {
    await this.write()
    await this.#kernel?.finish()
  }

  async #written(outcome: Promise<WriteOutcome>): Promise<void> {
    this.#isWriting = true
    const later = await outcome
    this.#isWriting = false
    if (later === 'broken') throw new BrokenPipe()
    this.#ownBuffer.clear()
  }

  #addLines(lines: LineDecoder, event: RecordsEvent, at: number, fromOffset: number): Printed {
    const before = this.#buffer.length
    const recordsMax = this.#plan.countMax - this.records
    const taken = lines.decode(
      event.bytes,
      at,
      { ...this.#lineOptions, fromOffset, endOffset: event.untilOffset, recordsMax },
      this.#buffer,
    )
    this.records += taken
    this.bytes += this.#buffer.length - before
    if (!this.isAmbiguous) this.#checkDelimiters(before, taken)
    return {
      nextOffset: lines.nextOffset,
      isWhole: true,
      isDone: this.isDone,
      hasPassedTime: false,
    }
  }

  #addRecords(event: RecordsEvent, at: number, fromOffset: number): Printed {
    const cursor = this.#cursor
    const { untilFutureMs } = this.#plan
    cursor.reset(event.bytes, at)
    let nextOffset = fromOffset
    while (cursor.next()) {
      if (cursor.offset < fromOffset) continue
      if (cursor.offset >= event.untilOffset) {
        return { nextOffset: event.untilOffset, isWhole: true, isDone: false, hasPassedTime: false }
      }
      if (untilFutureMs !== undefined && cursor.timestampMs >= untilFutureMs) {
        return { nextOffset, isWhole: true, isDone: false, hasPassedTime: true }
      }
      if (this.isDone) return { nextOffset, isWhole: true, isDone: true, hasPassedTime: false }
      this.addRecord(cursor)
      nextOffset = cursor.offset + 1
    }
    return {
      nextOffset: cursor.batchLastOffset + 1,
      isWhole: true,
      isDone: this.isDone,
      hasPassedTime: false,
    }
  }

  /** As many delimiters as records, or a value holds one. */
  #checkDelimiters(from: number, records: number): void {
    const delimiter = this.#plan.delimiter[0] ?? 10
    if (countByte(this.#buffer.bytes, from, this.#buffer.length, delimiter) === records) return
    this.noteAmbiguous()
  }

  /** A value contains the delimiter. */
  noteAmbiguous(): void {
    if (this.isAmbiguous) return
    this.isAmbiguous = true
    this.#options.onAmbiguous(this.#topic, this.#partition)
  }
}

/** How often a byte stands in a range, four at a time. Bench: test/bench/throughput.ts. */
export function countByte(bytes: Uint8Array, start: number, end: number, byte: number): number {
  let count = 0
  let at = start
  const aligned = bytes.byteOffset % 4 === 0
  for (; at < end && (at % 4 !== 0 || !aligned); at += 1) {
    if (bytes[at] === byte) count += 1
  }
  const wordsEnd = at + ((end - at) & ~3)
  if (wordsEnd > at) {
    const words = new Int32Array(bytes.buffer, bytes.byteOffset + at, (wordsEnd - at) >> 2)
    const pattern = Math.imul(byte, 0x01010101)
    for (let index = 0; index < words.length; index += 1) {
      const difference = (words[index] as number) ^ pattern
      // The highest bit of each byte that is equal, and no other bit.
      const equal =
        ~(((difference & 0x7f7f7f7f) + 0x7f7f7f7f) | difference | 0x7f7f7f7f) & 0x80808080
      if (equal !== 0) count += Math.imul(equal >>> 7, 0x01010101) >>> 24
    }
    at = wordsEnd
  }
  for (; at < end; at += 1) {
    if (bytes[at] === byte) count += 1
  }
  return count
}
