/**
 * Plain lines into a producer, the hot path of `produce`: chunks go to the batch builder as they are, and nothing is
 * done per line here. Only a line that crosses two chunks is joined, in a buffer of its own.
 *
 * Bench: test/bench/throughput.ts.
 */

import { isStreamError, StreamError } from '../src/base/errors.ts'
import type { ProducerClient } from './clients.ts'
import type { ChunkSink } from './input-pump.ts'
import type { RecordErrors } from './record-errors.ts'

export interface LineSinkOptions {
  readonly topic: string
  readonly partition: number | undefined
  /** One byte. */
  readonly delimiter: number
  readonly recordBytesMax: number
}

export class LineSink implements ChunkSink {
  isBlocked = false
  readonly #producer: ProducerClient
  readonly #errors: RecordErrors
  readonly #options: LineSinkOptions
  #carry = new Uint8Array(64 * 1024)
  #carryLength = 0
  /** The carry is a whole line and waits for room. */
  #isCarryWhole = false
  /** The rest of a line that is too long is dropped. */
  #isSkipping = false

  constructor(producer: ProducerClient, errors: RecordErrors, options: LineSinkOptions) {
    this.#producer = producer
    this.#errors = errors
    this.#options = options
  }

  get openBytes(): number | undefined {
    return this.#isSkipping ? undefined : this.#carryLength
  }

  get isRecordWaiting(): boolean {
    return this.#isCarryWhole
  }

  async ready(): Promise<void> {
    if (this.#errors.isFull) await this.#errors.drained()
    if (this.#producer.isFull) await this.#producer.writable()
    this.isBlocked = this.#isCarryWhole
  }

  feed(chunk: Uint8Array, start: number, end: number): number {
    let at = start
    this.isBlocked = false
    if (this.#isSkipping) {
      at = this.#afterDelimiter(chunk, at, end)
      if (at < 0) return end
      this.#isSkipping = false
    }
    if (this.#carryLength > 0) {
      if (!this.#isCarryWhole) {
        const next = this.#afterDelimiter(chunk, at, end)
        if (next < 0) {
          this.#keep(chunk, at, end)
          return end
        }
        this.#keep(chunk, at, next)
        at = next
        this.#isCarryWhole = this.#carryLength > 0
        this.#isSkipping = false
      }
      if (this.#isCarryWhole && !this.#appendCarry()) return at
    }
    while (at < end) {
      at += this.#append(chunk, at, end)
      if (this.isBlocked) return at
      if (!this.#isSkipping) {
        // What is left has no end yet.
        if (at < end) this.#keep(chunk, at, end)
        break
      }
      at = this.#afterDelimiter(chunk, at, end)
      if (at < 0) return end
      this.#isSkipping = false
    }
    this.isBlocked = this.#errors.isFull
    return end
  }

  /** The input is over: a last line without delimiter is a record. @returns false while there is no room for it */
  finish(): boolean {
    this.#isSkipping = false
    if (this.#carryLength === 0) return true
    if (!this.#isCarryWhole) {
      this.#reserve(1)
      this.#carry[this.#carryLength++] = this.#options.delimiter
      this.#isCarryWhole = true
    }
    return this.#appendCarry()
  }

  /** @returns the bytes of an unfinished line that are dropped */
  drop(): number {
    const dropped = this.#isCarryWhole ? 0 : this.#carryLength
    if (!this.#isCarryWhole) this.#carryLength = 0
    return dropped
  }

  /** @returns bytes taken; sets isBlocked, or #isSkipping at a line that is too long */
  #append(chunk: Uint8Array, start: number, end: number): number {
    const { topic, partition } = this.#options
    try {
      const consumed = this.#producer.appendLines(topic, partition, chunk, start, end)
      this.isBlocked = this.#producer.isFull
      return consumed
    } catch (error) {
      if (!isStreamError(error, 'RECORD_TOO_LARGE')) throw error
      const consumed = this.#producer.consumedBytes
      const next = this.#afterDelimiter(chunk, start + consumed, end)
      const raw = next < 0 ? undefined : chunk.subarray(start + consumed, next - 1)
      this.#isSkipping = true
      this.#errors.reject(error, this.#producer.appendedCount, raw)
      return consumed
    }
  }

  /** @returns whether the carry is gone */
  #appendCarry(): boolean {
    const length = this.#carryLength
    const consumed = this.#append(this.#carry, 0, length)
    if (this.#isSkipping) this.#isSkipping = false
    else if (consumed < length) {
      this.isBlocked = true
      return false
    }
    this.#carryLength = 0
    this.#isCarryWhole = false
    return true
  }

  #keep(chunk: Uint8Array, start: number, end: number): void {
    if (this.#carryLength + (end - start) > this.#options.recordBytesMax) {
      this.#carryLength = 0
      this.#isSkipping = true
      this.#errors.reject(
        tooLarge(this.#options.recordBytesMax),
        this.#producer.appendedCount,
        undefined,
      )
      return
    }
    this.#reserve(end - start)
    this.#carry.set(chunk.subarray(start, end), this.#carryLength)
    this.#carryLength += end - start
  }

  #reserve(count: number): void {
    const needed = this.#carryLength + count
    if (needed <= this.#carry.length) return
    const larger = new Uint8Array(Math.max(needed, this.#carry.length * 2))
    larger.set(this.#carry.subarray(0, this.#carryLength))
    this.#carry = larger
  }

  /** The place after the next delimiter, or −1. */
  #afterDelimiter(chunk: Uint8Array, start: number, end: number): number {
    const found = chunk.indexOf(this.#options.delimiter, start)
    return found < 0 || found >= end ? -1 : found + 1
  }
}

export function tooLarge(bytesMax: number): StreamError {
  return new StreamError('RECORD_TOO_LARGE', `record longer than ${bytesMax} bytes`, {
    hint: 'the limit: --max-bytes, and max.message.bytes of the topic',
  })
}
