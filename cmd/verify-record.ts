/** One record as `verify` compares it: its bytes in one buffer that is used again, whatever it was read from. */

import { BatchBuilder } from '../src/record/batch-builder.ts'
import { putInt64 } from '../src/record/batch-layout.ts'
import { OutputBuffer } from '../src/record/output-buffer.ts'
import { RecordCursor } from '../src/record/record-cursor.ts'
import { xxhash32 } from '../src/record/xxhash32.ts'
import { EnvelopeWriter } from '../src/text/envelope-writer.ts'
import { NO_TIMESTAMP, type RecordFields } from '../src/text/record-fields.ts'

export interface Comparison {
  readonly key: boolean
  readonly headers: boolean
  readonly timestamp: boolean
  readonly offset: boolean
}

const NULL_LENGTH = -1
const SECOND_SEED = 0x5bd1e995

export class ComparedRecord {
  topic = ''
  partition = 0
  offset = -1
  timestampMs = NO_TIMESTAMP
  /** Key, value and headers, each with its length before it. */
  readonly #buffer = new OutputBuffer(1024)
  #keyEnd = 0
  #valueEnd = 0

  /** Takes the record a cursor stands on. Moves the cursor's headers. */
  setFromCursor(cursor: RecordCursor): void {
    const { bytes } = cursor
    this.#buffer.clear()
    this.offset = cursor.offset
    this.timestampMs = Math.max(NO_TIMESTAMP, cursor.timestampMs)
    this.#put(bytes, cursor.keyStart, cursor.keyEnd)
    this.#keyEnd = this.#buffer.length
    this.#put(bytes, cursor.valueStart, cursor.valueEnd)
    this.#valueEnd = this.#buffer.length
    cursor.rewindHeaders()
    while (cursor.nextHeader()) {
      this.#put(bytes, cursor.headerKeyStart, cursor.headerKeyEnd)
      this.#put(bytes, cursor.headerValueStart, cursor.headerValueEnd)
    }
  }

  /** Takes what an envelope said; without a time it has none. */
  setFromFields(fields: RecordFields): void {
    this.#buffer.clear()
    this.offset = fields.offset ?? -1
    this.partition = fields.partition ?? 0
    this.timestampMs = fields.timestampMs ?? NO_TIMESTAMP
    const { keySlot, valueSlot, headers } = fields
    this.#put(keySlot.bytes, keySlot.start, keySlot.end)
    this.#keyEnd = this.#buffer.length
    this.#put(valueSlot.bytes, valueSlot.start, valueSlot.end)
    this.#valueEnd = this.#buffer.length
    for (const header of headers) {
      this.#put(header.key.bytes, header.key.start, header.key.end)
      this.#put(header.valueSlot.bytes, header.valueSlot.start, header.valueSlot.end)
    }
  }

  copyFrom(other: ComparedRecord): void {
    this.topic = other.topic
    this.partition = other.partition
    this.offset = other.offset
    this.timestampMs = other.timestampMs
    this.#buffer.clear()
    this.#buffer.append(other.#buffer.bytes, 0, other.#buffer.length)
    this.#keyEnd = other.#keyEnd
    this.#valueEnd = other.#valueEnd
  }

  equals(other: ComparedRecord, what: Comparison): boolean {
    if (what.timestamp && this.timestampMs !== other.timestampMs) return false
    if (what.offset && this.offset !== other.offset) return false
    const from = what.key ? 0 : this.#keyEnd
    const to = what.headers ? this.#buffer.length : this.#valueEnd
    const otherFrom = what.key ? 0 : other.#keyEnd
    const otherTo = what.headers ? other.#buffer.length : other.#valueEnd
    if (to - from !== otherTo - otherFrom) return false
    return (
      Buffer.compare(
        this.#buffer.bytes.subarray(from, to),
        other.#buffer.bytes.subarray(otherFrom, otherTo),
      ) === 0
    )
  }

  /** 64 bits in two numbers: `target[0]`, `target[1]`. Equal records have equal hashes. */
  hash(what: Comparison, target: Int32Array): void {
    const buffer = this.#buffer
    const length = buffer.length
    buffer.reserve(24)
    const from = what.key ? 0 : this.#keyEnd
    let to = what.headers ? length : this.#valueEnd
    // Behind what is compared; the buffer's own length stays.
    buffer.view.setFloat64(to, what.timestamp ? this.timestampMs : 0)
    buffer.view.setFloat64(to + 8, what.offset ? this.offset : 0)
    to += 16
    const first = xxhash32(buffer.bytes, from, to)
    buffer.view.setUint32(to, (first ^ SECOND_SEED) >>> 0)
    target[0] = first | 0
    target[1] = xxhash32(buffer.bytes, from, to + 4) | 0
  }

  /** The text of the first header of that name; undefined: none, null: without a value. */
  header(name: string): string | null | undefined {
    const { bytes, view } = this.#buffer
    const textAt = (at: number): string | null => {
      const length = view.getInt32(at)
      if (length === NULL_LENGTH) return null
      return Buffer.from(bytes.buffer, bytes.byteOffset + at + 4, length).toString('utf8')
    }
    const after = (at: number): number => at + 4 + Math.max(0, view.getInt32(at))
    for (let at = this.#valueEnd; at < this.#buffer.length; at = after(after(at))) {
      if (textAt(at) === name) return textAt(after(at))
    }
    return undefined
  }

  /** As an envelope, with its newline. */
  envelope(): string {
    const builder = new BatchBuilder(this.#buffer.length + 4096)
    builder.reset({ timestampMs: this.timestampMs })
    const { bytes, view } = this.#buffer
    const slot = (at: number) => {
      const length = view.getInt32(at)
      return length === NULL_LENGTH ? null : { bytes, start: at + 4, end: at + 4 + length }
    }
    const after = (at: number): number => at + 4 + Math.max(0, view.getInt32(at))
    const headers: { key: NonNullable<ReturnType<typeof slot>>; value: ReturnType<typeof slot> }[] =
      []
    for (let at = this.#valueEnd; at < this.#buffer.length; ) {
      const valueAt = after(at)
      const key = slot(at)
      if (key !== null) headers.push({ key, value: slot(valueAt) })
      at = after(valueAt)
    }
    builder.append({
      key: slot(0),
      value: slot(this.#keyEnd),
      headers,
      timestampMs: this.timestampMs,
    })
    const batch = builder.finish()
    putInt64(batch, 0, Math.max(0, this.offset))
    const cursor = new RecordCursor()
    cursor.reset(batch)
    cursor.next()
    const out = new OutputBuffer(this.#buffer.length + 256)
    const writer = new EnvelopeWriter()
    writer.setPartition(this.topic, this.partition)
    writer.write(cursor, out)
    return Buffer.from(out.filled()).toString('utf8')
  }

  #put(bytes: Uint8Array, start: number, end: number): void {
    const buffer = this.#buffer
    buffer.reserve(4)
    buffer.view.setInt32(buffer.length, start < 0 ? NULL_LENGTH : end - start)
    buffer.length += 4
    if (end > start && start >= 0) buffer.append(bytes, start, end)
  }
}
