/**
 * Records as text, from the ranges of a record cursor into an output buffer: values with a delimiter, `keySEPvalue`,
 * `sized`, `raw` (commands.md, section 3.1). Envelopes are envelope-writer.ts; plain values without any option go
 * through the batch-wise line decoder of src/record instead.
 */

import type { OutputBuffer } from '../record/output-buffer.ts'
import type { RecordCursor } from '../record/record-cursor.ts'
import { findShort } from './find-bytes.ts'

export interface RecordWriter {
  /** All records until the next call are of this partition. */
  setPartition(topic: string, partition: number): void
  /** What the broker last said of that partition. */
  setEnds?(ends: PartitionEnds): void
  /** Appends the record the cursor stands on. */
  write(cursor: RecordCursor, out: OutputBuffer): void
}

/** −1: not known. */
export interface PartitionEnds {
  readonly logStartOffset: number
  readonly lastStableOffset: number
  readonly highWatermark: number
}

const noBytes = new Uint8Array(0)

export interface LineWriterOptions {
  readonly delimiter: Uint8Array
  /** Between key and value; undefined: no keys. */
  readonly keySeparator?: Uint8Array
  /** Stands for a null value; default: nothing. */
  readonly nullValue?: Uint8Array
  /**
   * Called for each record whose key or value contains the delimiter, so that its reader cannot tell where it ends, or
   * whose key contains the separator. Nothing of the record has been written yet, so it may throw.
   */
  readonly onAmbiguous?: (cursor: RecordCursor) => void
  /** Control bytes are shown as `\x1b`: for terminals. */
  readonly escapeControls?: boolean
}

export class LineWriter implements RecordWriter {
  readonly #delimiter: Uint8Array
  readonly #keySeparator: Uint8Array | undefined
  readonly #nullValue: Uint8Array
  readonly #onAmbiguous: ((cursor: RecordCursor) => void) | undefined
  readonly #escapeControls: boolean

  constructor(options: LineWriterOptions) {
    this.#delimiter = options.delimiter
    this.#keySeparator = options.keySeparator
    this.#nullValue = options.nullValue ?? noBytes
    this.#onAmbiguous = options.onAmbiguous
    this.#escapeControls = options.escapeControls ?? false
  }

  setPartition(): void {
    // Lines do not say where they are from.
  }

  write(cursor: RecordCursor, out: OutputBuffer): void {
    const { bytes, keyStart, keyEnd, valueStart, valueEnd } = cursor
    const separator = this.#keySeparator
    if (this.#onAmbiguous !== undefined && this.#isAmbiguous(cursor)) this.#onAmbiguous(cursor)
    if (separator !== undefined) {
      if (keyStart >= 0) this.#put(out, bytes, keyStart, keyEnd)
      out.append(separator)
    }
    if (valueStart >= 0) this.#put(out, bytes, valueStart, valueEnd)
    else out.append(this.#nullValue)
    out.append(this.#delimiter)
  }

  #put(out: OutputBuffer, bytes: Uint8Array, start: number, end: number): void {
    if (this.#escapeControls) putVisible(out, bytes, start, end)
    else out.append(bytes, start, end)
  }

  #isAmbiguous(cursor: RecordCursor): boolean {
    const { bytes, keyStart, keyEnd, valueStart, valueEnd } = cursor
    if (valueStart >= 0 && findShort(bytes, valueStart, valueEnd, this.#delimiter) >= 0) return true
    if (this.#keySeparator === undefined || keyStart < 0) return false
    return (
      findShort(bytes, keyStart, keyEnd, this.#delimiter) >= 0 ||
      findShort(bytes, keyStart, keyEnd, this.#keySeparator) >= 0
    )
  }
}

/** Each value after its length: 4 bytes, big-endian, signed, −1 for null. */
export class SizedWriter implements RecordWriter {
  setPartition(): void {
    // Lengths do not say where they are from.
  }

  write(cursor: RecordCursor, out: OutputBuffer): void {
    const { bytes, valueStart, valueEnd } = cursor
    const length = valueStart < 0 ? -1 : valueEnd - valueStart
    out.reserve(4)
    out.view.setInt32(out.length, length)
    out.length += 4
    if (length > 0) out.append(bytes, valueStart, valueEnd)
  }
}

/** Values back to back. */
export class RawWriter implements RecordWriter {
  setPartition(): void {
    // Values do not say where they are from.
  }

  write(cursor: RecordCursor, out: OutputBuffer): void {
    if (cursor.valueStart >= 0) out.append(cursor.bytes, cursor.valueStart, cursor.valueEnd)
  }
}

const hexDigits = '0123456789abcdef'

/** Bytes for a terminal: control bytes but tab as `\x1b`, so that a record cannot steer it. */
export function putVisible(out: OutputBuffer, bytes: Uint8Array, start: number, end: number): void {
  out.reserve((end - start) * 4)
  for (let at = start; at < end; at += 1) {
    const byte = bytes[at] as number
    // C1 controls are two bytes in UTF-8: 0xC2 0x80 to 0xC2 0x9F.
    const isC1 = byte >= 0x80 && byte < 0xa0 && at > start && bytes[at - 1] === 0xc2
    if ((byte >= 0x20 && byte !== 0x7f && !isC1) || byte === 0x09) {
      out.bytes[out.length++] = byte
      continue
    }
    if (isC1) out.length -= 1
    out.append(Buffer.from(`\\x${hexDigits[byte >> 4]}${hexDigits[byte & 15]}`))
  }
}

/** As putVisible, for texts in tables and messages. */
export function visibleText(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is replaced
  return text.replaceAll(/[\u0000-\u001f\u007f-\u009f]/g, (character) => {
    return `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`
  })
}
