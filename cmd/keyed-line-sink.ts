/**
 * Lines with keys into a producer, whole pieces of the input at a time. Whatever the kernel leaves — a line that crosses two
 * chunks, one that is wrong, the first few, which would not pay for its compilation — goes line by line through a RecordSink.
 *
 * Invariant: the RecordSink is asked first while it holds anything, so records keep the order of the input.
 * Bench: test/bench/throughput.ts.
 */

import type { Producer } from '../src/client/producer.ts'
import { KeyedLines, type KeyedLinesOptions } from '../src/record/keyed-lines.ts'
import type { RecordSink } from './record-sink.ts'

const KERNEL_AFTER_BYTES = 64 * 1024

export type KeyedProducer = Pick<Producer, 'appendKeyedLines' | 'isFull' | 'writable'>

export interface KeyedLineSinkOptions extends KeyedLinesOptions {
  readonly topic: string
}

export class KeyedLineSink {
  readonly #producer: KeyedProducer
  readonly #records: RecordSink
  readonly #options: KeyedLineSinkOptions
  #lines: KeyedLines | undefined
  #bytesBefore = 0
  #waitsForRoom = false

  constructor(producer: KeyedProducer, records: RecordSink, options: KeyedLineSinkOptions) {
    this.#producer = producer
    this.#records = records
    this.#options = options
  }

  get openBytes(): number | undefined {
    return this.#records.openBytes
  }

  get isRecordWaiting(): boolean {
    return this.#records.isRecordWaiting
  }

  get isBlocked(): boolean {
    return this.#waitsForRoom || this.#records.isBlocked
  }

  async ready(): Promise<void> {
    if (this.#waitsForRoom) await this.#producer.writable()
    this.#waitsForRoom = false
    await this.#records.ready()
  }

  feed(chunk: Uint8Array, start: number, end: number): number {
    const lines = this.#kernel(end - start)
    if (lines === undefined) return this.#records.feed(chunk, start, end)
    let at = start
    // Also for a record that waits behind the last byte of a chunk.
    do {
      if (!this.#records.isBlocked && this.#records.openBytes === 0) {
        at += this.#producer.appendKeyedLines(this.#options.topic, lines, chunk, at, end)
        this.#waitsForRoom = this.#producer.isFull
        if (this.#waitsForRoom || at === end) return at
      }
      const found = chunk.indexOf(this.#options.delimiter, at)
      const lineEnd = found < 0 || found >= end ? end : found + 1
      at = this.#records.feed(chunk, at, lineEnd)
      if (at < lineEnd || this.#records.isBlocked) return at
    } while (at < end)
    return at
  }

  finish(): boolean {
    return this.#records.finish()
  }

  drop(): number {
    return this.#records.drop()
  }

  #kernel(bytes: number): KeyedLines | undefined {
    if (this.#lines !== undefined || this.#bytesBefore > KERNEL_AFTER_BYTES) return this.#lines
    this.#bytesBefore += bytes
    if (this.#bytesBefore > KERNEL_AFTER_BYTES) this.#lines = KeyedLines.load(this.#options)
    return this.#lines
  }
}
