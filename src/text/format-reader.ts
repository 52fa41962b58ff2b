/**
 * Input read by a format (`-F`): cuts a byte stream into records and sets their fields, without an object per record.
 * Chunks come at any boundary; the reader stops at any byte and goes on there.
 *
 * Invariants:
 * - Positions are relative to the record's first byte, so that a record that crosses chunks may move to a buffer of the
 *   reader's own; fields are set only when the record is whole.
 * - A record that does not match is told once; reading goes on behind the next final literal. Without one the reader is
 *   lost, and says so.
 * - What is held of one record is bounded: a record that is too long is told and dropped.
 */

import { isStreamError } from '../base/errors.ts'
import { base64Length } from './base64.ts'
import { findBytes } from './find-bytes.ts'
import { FormatFields, type FoundFields } from './format-fields.ts'
import { type FoundNumber, parseMoment, readBinary, readDigits } from './format-numbers.ts'
import type { BytesStep, FormatProgram, FormatStep } from './format-program.ts'
import { NO_TIMESTAMP, type RecordFields } from './record-fields.ts'
import {
  HeldBytes,
  NULL_RECORD,
  type RecordConsumer,
  type RecordSplitter,
  TOO_LONG,
} from './record-splitter.ts'

/** Escapes can make JSON six times as long as its bytes. */
const EXPANSION_MAX = 6
const MARGIN_BYTES = 64
const NULL = -1
const UNSET = -2

/** What a step came to: it is done, more bytes are needed, or they do not match. */
type Progress = 'done' | 'more' | 'bad'

export class FormatReader implements RecordSplitter {
  /** Of the record that was handed on last. */
  readonly fields: RecordFields
  /** Why the record that was handed on last is none; undefined: it is one. */
  defect: string | undefined
  /** Nothing tells where the next record begins: the rest of the input is not read. */
  isLost = false
  readonly #program: FormatProgram
  readonly #bytesMax: number
  readonly #filler: FormatFields
  readonly #held = new HeldBytes()

  // --- of the record in hand
  #step = 0
  /** Bytes of it that have been understood. */
  #at = 0
  /** Up to here the literal that ends a token has been looked for. */
  #searchedTo = 0
  #skipBytes = 0
  #error: string | undefined
  #isTooLong = false
  /** Its bytes are no longer kept. */
  #isDropped = false
  #valueLength = UNSET
  #keyLength = UNSET
  #topicLength = UNSET
  readonly #found: FoundFields = {
    ranges: new Int32Array(6),
    headerRanges: new Int32Array(64),
    headerCount: 0,
    timestampMs: undefined,
    partition: undefined,
  }
  #headerIndex = 0
  readonly #number: FoundNumber = { value: 0, end: 0 }

  /** @param bytesMax  of one value, key or header value */
  constructor(program: FormatProgram, bytesMax: number) {
    this.#program = program
    this.#bytesMax = bytesMax
    this.#filler = new FormatFields(program, this.#found)
    this.fields = this.#filler.fields
    this.#reset()
  }

  get heldBytes(): number {
    return this.#held.length
  }

  get isSkipping(): boolean {
    return this.#isDropped || (this.#isOpen && this.#held.length === 0)
  }

  drop(): boolean {
    const had = this.#isOpen
    this.#held.length = 0
    this.#reset()
    return had
  }

  feed(chunk: Uint8Array, start: number, end: number, consume: RecordConsumer): number {
    let at = start
    if (this.isLost) return end
    if (this.#isOpen) {
      const held = this.#held
      const before = held.length
      held.append(chunk, start, end)
      if (!this.#advance(held.bytes, 0, held.length)) {
        this.#keep()
        return end
      }
      const recordEnd = this.#at
      at = start + (recordEnd - before)
      held.length = 0
      if (!this.#handOn(held.bytes, 0, recordEnd, consume) || this.isLost) {
        return this.isLost ? end : at
      }
    }
    while (at < end) {
      const recordStart = at
      if (!this.#advance(chunk, at, end)) {
        this.#held.append(chunk, recordStart, end)
        this.#keep()
        return end
      }
      at += this.#at
      if (!this.#handOn(chunk, recordStart, at, consume)) return this.isLost ? end : at
      if (this.isLost) return end
    }
    return end
  }

  finish(consume: RecordConsumer): 'cut' | undefined {
    if (!this.#isOpen || this.isLost) return undefined
    const held = this.#held
    if (this.#error === undefined && this.#program.finalLiteral?.at(-1) === 0x0a) {
      held.append(Uint8Array.of(0x0a), 0, 1)
      if (this.#advance(held.bytes, 0, held.length) && this.#at === held.length) {
        this.#handOn(held.bytes, 0, held.length, consume)
        held.length = 0
        return undefined
      }
      if (this.#error === undefined) held.length -= 1
    }
    const isBad = this.#error !== undefined
    if (isBad) this.#handOn(held.bytes, 0, held.length, consume)
    this.drop()
    return isBad ? undefined : 'cut'
  }

  get #isOpen(): boolean {
    return this.#held.length > 0 || this.#step > 0 || this.#at > 0 || this.#skipBytes > 0
  }

  #reset(): void {
    this.#step = 0
    this.#at = 0
    this.#searchedTo = 0
    this.#skipBytes = 0
    this.#error = undefined
    this.#isTooLong = false
    this.#isDropped = false
    this.#valueLength = UNSET
    this.#keyLength = UNSET
    this.#topicLength = UNSET
    this.#found.ranges.fill(UNSET)
    this.#found.timestampMs = undefined
    this.#found.partition = undefined
    this.#found.headerCount = 0
    this.#headerIndex = 0
  }

  /** The record goes on in the next chunk: what has been understood of a dropped one is let go. */
  #keep(): void {
    const held = this.#held
    const limit = this.#bytesMax * EXPANSION_MAX * 2 + 65_536
    if (held.length > limit && !this.#isDropped) {
      this.#isDropped = true
      if (this.#error === undefined) {
        this.#isTooLong = true
        this.#error = 'too long'
      }
    }
    if (!this.#isDropped || this.#at === 0) return
    const rest = Math.max(0, held.length - this.#at)
    held.bytes.copyWithin(0, this.#at, held.length)
    this.#searchedTo = Math.max(0, this.#searchedTo - this.#at)
    this.#at = 0
    held.length = rest
  }

  /** Goes on in `bytes[base, end)`, which begins with the record. @returns whether the record has come to its end */
  #advance(bytes: Uint8Array, base: number, end: number): boolean {
    const { steps } = this.#program
    for (;;) {
      if (this.#skipBytes > 0) {
        const skipped = Math.min(this.#skipBytes, end - base - this.#at)
        this.#skipBytes -= skipped
        this.#at += skipped
        if (this.#skipBytes > 0) return false
      }
      if (this.#error !== undefined && !this.#isTooLong) return this.#findFinal(bytes, base, end)
      const step = steps[this.#step]
      if (step === undefined) return true
      const progress = this.#run(step, bytes, base, end)
      if (progress === 'more') return false
      if (progress === 'bad') this.#isTooLong = false
    }
  }

  /** Looks for the place behind the next final literal. */
  #findFinal(bytes: Uint8Array, base: number, end: number): boolean {
    const literal = this.#program.finalLiteral
    if (literal === undefined) {
      this.isLost = true
      this.#at = end - base
      return true
    }
    const from = Math.max(this.#at, this.#searchedTo)
    const found = findBytes(bytes, base + from, end, literal)
    if (found < 0) {
      const rest = Math.max(this.#at, end - base - literal.length + 1)
      this.#searchedTo = rest
      if (this.#isDropped) this.#at = rest
      return false
    }
    this.#at = found - base + literal.length
    return true
  }

  #bad(message: string): Progress {
    this.#error = `byte ${this.#at + 1} of the record: ${message}`
    this.#searchedTo = 0
    return 'bad'
  }

  #run(step: FormatStep, bytes: Uint8Array, base: number, end: number): Progress {
    switch (step.kind) {
      case 'literal':
        return this.#matchLiteral(step.bytes, bytes, base, end)
      case 'bytes':
        return step.until === undefined
          ? this.#readByLength(step, bytes, base, end)
          : this.#readUntil(step, step.until, bytes, base, end)
      case 'number':
        return this.#readNumber(step, bytes, base, end)
      case 'time':
        return this.#readTime(step, bytes, base, end)
      case 'headers':
        this.#headerIndex = 0
        this.#step = this.#found.headerCount > 0 ? this.#step + 1 : step.after
        if (this.#found.headerCount > 0) this.#beginHeader()
        return 'done'
      case 'next-header':
        this.#headerIndex += 1
        if (this.#headerIndex < this.#found.headerCount) {
          this.#beginHeader()
          this.#step = step.inner
        } else this.#step += 1
        return 'done'
    }
  }

  #matchLiteral(literal: Uint8Array, bytes: Uint8Array, base: number, end: number): Progress {
    const from = base + this.#at
    const count = Math.min(literal.length, end - from)
    for (let index = 0; index < count; index += 1) {
      if (bytes[from + index] !== literal[index]) {
        return this.#bad(`not ${JSON.stringify(Buffer.from(literal).toString('utf8'))}`)
      }
    }
    if (count < literal.length) return 'more'
    this.#at += count
    this.#step += 1
    return 'done'
  }

  // --- bytes

  #readByLength(step: BytesStep, bytes: Uint8Array, base: number, end: number): Progress {
    const length = this.#lengthFor(step)
    const from = base + this.#at
    if (length === NULL) {
      const text = step.nullText
      if (text !== undefined && text.length > 0) {
        if (end - from < text.length) return 'more'
        for (let index = 0; index < text.length; index += 1) {
          if (bytes[from + index] !== text[index])
            return this.#bad(`${step.text}: not its null text`)
        }
        this.#at += text.length
      }
      this.#setRange(step, NULL, NULL)
      this.#step += 1
      return 'done'
    }
    const count =
      step.encoding === 'base64'
        ? base64Length(length)
        : step.encoding === 'hex'
          ? length * 2
          : length
    if (length > this.#bytesMax) {
      this.#dropLong()
      this.#skipBytes = count
      this.#step += 1
      return 'done'
    }
    if (end - from < count) return 'more'
    this.#setRange(step, this.#at, this.#at + count)
    this.#at += count
    this.#step += 1
    return 'done'
  }

  #readUntil(
    step: BytesStep,
    until: Uint8Array,
    bytes: Uint8Array,
    base: number,
    end: number,
  ): Progress {
    const found = this.#findEnd(until, bytes, base, end)
    const length = (found < 0 ? end - base : found) - this.#at
    if (length > this.#textMax(step)) {
      this.#dropLong()
      // Dropped up to the literal that ends it, or up to what may be its beginning.
      this.#at = found < 0 ? Math.max(this.#at, end - base - until.length + 1) : found
      this.#searchedTo = this.#at
    }
    if (found < 0) return 'more'
    this.#setRange(step, this.#at, found)
    this.#at = found
    this.#step += 1
    return 'done'
  }

  #textMax(step: BytesStep): number {
    switch (step.encoding) {
      case 'plain':
        return Math.max(this.#bytesMax, step.nullText?.length ?? 0)
      case 'base64':
      case 'hex':
        return this.#bytesMax * 2 + MARGIN_BYTES
      case 'json':
        return this.#bytesMax * EXPANSION_MAX + MARGIN_BYTES
    }
  }

  #dropLong(): void {
    this.#isTooLong = true
    this.#isDropped = true
    this.#error ??= 'too long'
  }

  /** @returns where the literal begins, relative to the record, or −1 */
  #findEnd(until: Uint8Array, bytes: Uint8Array, base: number, end: number): number {
    const from = Math.max(this.#at, this.#searchedTo)
    const found = findBytes(bytes, base + from, end, until)
    if (found >= 0) return found - base
    this.#searchedTo = Math.max(from, end - base - until.length + 1)
    return -1
  }

  #lengthFor(step: BytesStep): number {
    switch (step.of) {
      case 'value':
        return this.#valueLength
      case 'key':
        return this.#keyLength
      case 'topic':
        return this.#topicLength
    }
  }

  #setRange(step: BytesStep, start: number, end: number): void {
    if (this.#isDropped) return
    if (step.isInHeader) {
      const at = this.#headerIndex * 4 + (step.of === 'key' ? 0 : 2)
      this.#found.headerRanges[at] = start
      this.#found.headerRanges[at + 1] = end
      return
    }
    const at = step.of === 'value' ? 0 : step.of === 'key' ? 2 : 4
    this.#found.ranges[at] = start
    this.#found.ranges[at + 1] = end
  }

  #beginHeader(): void {
    if (this.#isDropped) return
    const at = this.#headerIndex * 4
    if (at + 4 > this.#found.headerRanges.length) {
      const larger = new Int32Array(this.#found.headerRanges.length * 2)
      larger.set(this.#found.headerRanges)
      this.#found.headerRanges = larger
    }
    this.#found.headerRanges.fill(NULL, at, at + 4)
  }

  // --- numbers

  #readNumber(
    step: Extract<FormatStep, { kind: 'number' }>,
    bytes: Uint8Array,
    base: number,
    end: number,
  ): Progress {
    const { form } = step
    const from = base + this.#at
    const number = this.#number
    const outcome =
      form.kind === 'binary'
        ? readBinary(bytes, from, end, form, number)
        : readDigits(bytes, from, end, form.kind === 'hex' ? 16 : 10, number)
    if (outcome === 'more') return 'more'
    if (outcome === 'bad') return this.#bad(`${step.text}: no number`)
    const { value } = number
    const refusal = this.#take(step.of, value)
    if (refusal !== undefined) return this.#bad(`${step.text}: ${value} ${refusal}`)
    this.#at = number.end - base
    this.#step += 1
    return 'done'
  }

  /** @returns what is wrong with it */
  #take(of: Extract<FormatStep, { kind: 'number' }>['of'], value: number): string | undefined {
    switch (of) {
      case 'value-length':
        this.#valueLength = value
        return value < NULL ? 'is no length' : undefined
      case 'key-length':
        this.#keyLength = value
        return value < NULL ? 'is no length' : undefined
      case 'topic-length':
        this.#topicLength = value
        return value < 0 ? 'is no length' : undefined
      case 'header-count':
        this.#found.headerCount = value
        return value < 0 ? 'is no number of headers' : undefined
      case 'partition':
        this.#found.partition = value
        return value < 0 || value > 0x7fffffff ? 'is no partition' : undefined
      case 'timestamp':
        this.#found.timestampMs = value
        return value < NO_TIMESTAMP ? 'is no timestamp' : undefined
      default:
        return undefined
    }
  }

  #readTime(
    step: Extract<FormatStep, { kind: 'time' }>,
    bytes: Uint8Array,
    base: number,
    end: number,
  ): Progress {
    const found = this.#findEnd(step.until, bytes, base, end)
    const length = (found < 0 ? end - base : found) - this.#at
    if (length > MARGIN_BYTES) return this.#bad(`${step.text}: no time`)
    if (found < 0) return 'more'
    const text = Buffer.from(bytes.subarray(base + this.#at, base + found)).toString('latin1')
    const timestampMs = parseMoment(step.pattern, text)
    if (timestampMs === undefined)
      return this.#bad(`${step.text}: ${JSON.stringify(text)} is no time`)
    this.#found.timestampMs = timestampMs
    this.#at = found
    this.#step += 1
    return 'done'
  }

  // --- the whole record

  /** @returns whether to go on */
  #handOn(bytes: Uint8Array, start: number, end: number, consume: RecordConsumer): boolean {
    const isTooLong = this.#isTooLong
    const isDropped = this.#isDropped
    this.defect = this.#error
    if (this.defect === undefined) {
      try {
        this.#filler.fill(this.#found, bytes, start, end)
      } catch (error) {
        if (!isStreamError(error)) throw error
        this.defect = error.message
      }
    }
    this.#reset()
    if (isTooLong) return consume(bytes, TOO_LONG, TOO_LONG)
    // Its bytes are not at hand.
    if (isDropped) return consume(bytes, NULL_RECORD, NULL_RECORD)
    return consume(bytes, start, end)
  }
}
