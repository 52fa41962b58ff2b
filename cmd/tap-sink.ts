/**
 * What `tap` does with each chunk: out it goes as it is, and its lines go to the producer.
 *
 * Invariants:
 * - Bytes reach the output before their copy is tried; nothing that happens to the copy changes them.
 * - With back-pressure a chunk is done when both have taken it. With `dropsSlow` only the output is waited for: lines that
 *   the producer has no room for are dropped whole, and counted.
 * - A copy that has failed for good, or is not ready yet, drops everything.
 */

import { StreamError } from '../src/base/errors.ts'
import type { ProducerClient } from './clients.ts'
import type { ChunkSink } from './input-pump.ts'
import type { LineSink } from './line-sink.ts'
import type { QueuedOutput } from './queued-output.ts'

export interface TapSinkOptions {
  readonly delimiter: number
  readonly dropsSlow: boolean
}

/** Chunks are gathered from reads of this size; one that ends with a smaller read has emptied the pipe. */
const FULL_READ_BYTES = 65_536

export class TapSink implements ChunkSink {
  /** Lines that were not copied. */
  droppedCount = 0
  /** Lines before the first one that was dropped; undefined: none was. */
  linesBeforeDrop: number | undefined
  bytes = 0
  readonly #out: QueuedOutput
  readonly #options: TapSinkOptions
  #copy: { readonly producer: ProducerClient; readonly lines: LineSink } | undefined
  #errorCount: () => number = () => 0
  /** The chunk at hand has been written. */
  #isWritten = false
  /** The line at hand began in what was dropped, and goes with it. */
  #isInsideDropped = false
  #isDead = false

  constructor(out: QueuedOutput, options: TapSinkOptions) {
    this.#out = out
    this.#options = options
  }

  /** The copy may begin. @param errorCount  lines that made no record */
  start(producer: ProducerClient, lines: LineSink, errorCount: () => number): void {
    this.#copy = { producer, lines }
    this.#errorCount = errorCount
  }

  /** Nothing more is copied. */
  kill(): void {
    this.#isDead = true
  }

  get isBlocked(): boolean {
    return this.#out.isFull || this.#isCopyBlocked
  }

  get #isCopyBlocked(): boolean {
    if (this.#options.dropsSlow || this.#isDead) return false
    return this.#copy?.lines.isBlocked ?? false
  }

  async ready(): Promise<void> {
    if (this.#out.isFull) await this.#out.drained()
    if (this.#isCopyBlocked) await this.#copy?.lines.ready()
  }

  feed(chunk: Uint8Array, start: number, end: number): number {
    if (!this.#isWritten) {
      this.#out.write(chunk.subarray(start, end))
      this.#isWritten = true
    }
    let at = start
    if (this.#isInsideDropped) {
      const lineEnd = chunk.indexOf(this.#options.delimiter, at)
      if (lineEnd < 0 || lineEnd >= end) return end
      this.#isInsideDropped = false
      at = lineEnd + 1
    }
    if (this.#copy !== undefined && !this.#isDead) {
      at = this.#copy.lines.feed(chunk, at, end)
      if (at < end && !this.#options.dropsSlow) return at
    }
    this.#drop(chunk, at, end)
    return end
  }

  onChunk(_chunk: Uint8Array, start: number, end: number): void {
    this.#isWritten = false
    this.bytes += end - start
    if ((end - start) % FULL_READ_BYTES !== 0) this.#copy?.producer.flushSoon()
  }

  /** The input is over: its last line may have no end. @returns false while there is no room for it */
  finish(): boolean {
    this.#isInsideDropped = false
    if (this.#copy === undefined || this.#isDead) return true
    if (this.#copy.lines.finish()) return true
    if (!this.#options.dropsSlow) return false
    this.#countDropped(1)
    return true
  }

  /** @returns the bytes of an unfinished line that are not copied */
  discard(): number {
    return this.#isDead ? 0 : (this.#copy?.lines.drop() ?? 0)
  }

  #drop(chunk: Uint8Array, start: number, end: number): void {
    let count = 0
    let at = start
    while (at < end) {
      const lineEnd = chunk.indexOf(this.#options.delimiter, at)
      if (lineEnd < 0 || lineEnd >= end) {
        // Its end is still to come and is dropped with it.
        this.#isInsideDropped = true
        count += 1
        break
      }
      count += 1
      at = lineEnd + 1
    }
    if (count > 0) this.#countDropped(count)
  }

  #countDropped(count: number): void {
    const appended = this.#copy?.producer.appendedCount ?? 0
    this.linesBeforeDrop ??= appended + this.#errorCount()
    this.droppedCount += count
  }
}

export function droppedError(dropped: number, lines: number, why: string): StreamError {
  const text = `${dropped} of ${lines} lines were not copied: ${why}`
  return new StreamError('NOT_DELIVERED', text, { hint: 'all bytes were passed on' })
}
