/**
 * From the ranges that a format reader found to the fields of a record: encodings undone, null texts recognised.
 *
 * Invariant: what is decoded lies in a scratch buffer that is made large enough before the first field of a record, so
 * that no range moves while the record is filled.
 */

import { StreamError } from '../base/errors.ts'
import { decodeBase64 } from './base64.ts'
import { equalBytes } from './find-bytes.ts'
import { hexValue } from './format-numbers.ts'
import type { BytesStep, FormatProgram } from './format-program.ts'
import { JsonBytes } from './json-bytes.ts'
import { JsonScanner } from './json-scanner.ts'
import { RangeSlot, RecordFields } from './record-fields.ts'

/** Where things are in a record, relative to its first byte; a start below 0: null. */
export interface FoundFields {
  /** start, end of value, key, topic. */
  readonly ranges: Int32Array
  /** start, end of name and value, for each header. */
  headerRanges: Int32Array
  headerCount: number
  timestampMs: number | undefined
  partition: number | undefined
}

export class FormatFields {
  readonly fields = new RecordFields()
  readonly #program: FormatProgram
  readonly #scanner = new JsonScanner()
  readonly #json = new JsonBytes(this.#scanner)
  #found: FoundFields
  #scratch = new Uint8Array(1024)
  #scratchAt = 0
  #topicBytes: Uint8Array = new Uint8Array(0)
  #topicText = ''
  readonly #topicSlot = new RangeSlot()

  constructor(program: FormatProgram, found: FoundFields) {
    this.#program = program
    this.#found = found
  }

  /** @throws StreamError RECORD_INVALID for encodings that are none */
  fill(found: FoundFields, bytes: Uint8Array, base: number, end: number): void {
    const { fields } = this
    this.#found = found
    fields.reset()
    this.#json.begin(end - base)
    if (this.#scratch.length < end - base) this.#scratch = new Uint8Array((end - base) * 2)
    this.#scratchAt = 0
    fields.timestampMs = found.timestampMs
    fields.partition = found.partition
    fields.hasKey = this.#program.hasKey
    const { fieldSteps } = this.#program
    for (let index = 0; index < fieldSteps.length; index += 1) {
      this.#fillField(fieldSteps[index] as BytesStep, bytes, base)
    }
    const count = this.#program.headerSteps.length === 0 ? 0 : found.headerCount
    for (let header = 0; header < count; header += 1) this.#fillHeader(header, bytes, base)
  }

  #fillHeader(header: number, bytes: Uint8Array, base: number): void {
    const { headerSteps } = this.#program
    const slot = this.fields.addHeader()
    slot.valueSlot.setNull()
    for (let index = 0; index < headerSteps.length; index += 1) {
      const step = headerSteps[index] as BytesStep
      const at = header * 4 + (step.of === 'key' ? 0 : 2)
      const target = step.of === 'key' ? slot.key : slot.valueSlot
      const start = this.#found.headerRanges[at] as number
      this.#fillSlot(step, bytes, base, start, this.#found.headerRanges[at + 1] as number, target)
    }
    // A name is never null.
    if (slot.key.start < 0) slot.key.set(bytes, base, base)
  }

  #fillField(step: BytesStep, bytes: Uint8Array, base: number): void {
    const at = step.of === 'value' ? 0 : step.of === 'key' ? 2 : 4
    const start = this.#found.ranges[at] as number
    const end = this.#found.ranges[at + 1] as number
    const { fields } = this
    if (step.of === 'value') this.#fillSlot(step, bytes, base, start, end, fields.valueSlot)
    else if (step.of === 'key') this.#fillSlot(step, bytes, base, start, end, fields.keySlot)
    else {
      this.#fillSlot(step, bytes, base, start, end, this.#topicSlot)
      fields.topic = this.#topicOf(this.#topicSlot)
    }
  }

  /** A run names few topics: their texts are made once. */
  #topicOf(slot: RangeSlot): string {
    if (!equalBytes(slot.bytes, slot.start, slot.end, this.#topicBytes)) {
      this.#topicBytes = Uint8Array.from(slot.view())
      this.#topicText = Buffer.from(this.#topicBytes).toString('utf8')
    }
    return this.#topicText
  }

  #fillSlot(
    step: BytesStep,
    bytes: Uint8Array,
    base: number,
    start: number,
    end: number,
    slot: RangeSlot,
  ): void {
    if (start < 0) {
      slot.setNull()
      return
    }
    const from = base + start
    const to = base + end
    const { nullText } = step
    if (
      step.until !== undefined &&
      nullText !== undefined &&
      equalBytes(bytes, from, to, nullText)
    ) {
      slot.setNull()
      return
    }
    switch (step.encoding) {
      case 'plain':
        slot.set(bytes, from, to)
        return
      case 'json':
        if (from === to || this.#scanner.skipValue(bytes, from, to) !== to) {
          throw notEncoded(step, 'JSON')
        }
        this.#json.read(bytes, from, to, slot, step.text)
        return
      case 'base64': {
        const scratchStart = this.#scratchAt
        const scratchEnd = decodeBase64(bytes, from, to, this.#scratch, scratchStart)
        if (scratchEnd < 0) throw notEncoded(step, 'base64')
        this.#scratchAt = scratchEnd
        slot.set(this.#scratch, scratchStart, scratchEnd)
        return
      }
      case 'hex':
        this.#fillHex(step, bytes, from, to, slot)
    }
  }

  #fillHex(step: BytesStep, bytes: Uint8Array, from: number, to: number, slot: RangeSlot): void {
    const scratchStart = this.#scratchAt
    if ((to - from) % 2 !== 0) throw notEncoded(step, 'hex')
    for (let at = from; at < to; at += 2) {
      const high = hexValue(bytes[at] as number)
      const low = hexValue(bytes[at + 1] as number)
      if ((high | low) < 0) throw notEncoded(step, 'hex')
      this.#scratch[this.#scratchAt++] = (high << 4) | low
    }
    slot.set(this.#scratch, scratchStart, this.#scratchAt)
  }
}

function notEncoded(step: BytesStep, encoding: string): StreamError {
  return new StreamError('RECORD_INVALID', `${step.text}: not ${encoding}`)
}
