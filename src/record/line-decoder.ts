/**
 * Decodes a batch into lines: each record's value and a delimiter. The hottest loop of `stream consume`; it knows only
 * records without headers, and hands a batch with any other record to the cursor, which is also the judge of nonsense:
 * nothing outside the batch is read, and CORRUPT_BATCH is thrown by the cursor alone.
 * Bench: test/bench/record-kernel.ts.
 */
import type { DecompressLimits } from './compression.ts'
import type { OutputBuffer } from './output-buffer.ts'
import { RecordCursor } from './record-cursor.ts'

/** From here on memcpy is faster than words. */
const WORDS_BYTES_MAX = 256

export interface LineOptions {
  /** Records before it are left out. Default: none are. */
  readonly fromOffset?: number
  /** Records at it and after are left out. Default: none are. */
  readonly endOffset?: number
  /** At most so many records. Default: all. */
  readonly recordsMax?: number
  /** One byte; default newline. */
  readonly delimiter?: number
  /** Stands for a null value. Default: nothing, so an empty line. */
  readonly nullValue?: Uint8Array
}

export class LineDecoder {
  /**
   * Where to go on: after the last record taken, or after the whole batch (its last offset, though records may be
   * missing at its end) when none is left to take.
   */
  nextOffset = 0

  readonly #cursor: RecordCursor
  #view: DataView = new DataView(new ArrayBuffer(0))
  #viewOf: Uint8Array | undefined

  constructor(limits: DecompressLimits = {}) {
    this.#cursor = new RecordCursor(limits)
  }

  /**
   * Appends the values of the batch at `at` to `out`. Control batches have none.
   * @returns  the number of records appended; see nextOffset
   * @throws StreamError CORRUPT_BATCH, DECOMPRESSION_LIMIT, RUNTIME_MISSING; `out` is as before then
   */
  decode(batch: Uint8Array, at: number, options: LineOptions, out: OutputBuffer): number {
    const cursor = this.#cursor
    cursor.reset(batch, at)
    const lengthBefore = out.length
    const fromOffset = options.fromOffset ?? 0
    const endOffset = options.endOffset ?? Number.MAX_SAFE_INTEGER
    const recordsMax = options.recordsMax ?? Number.MAX_SAFE_INTEGER
    const delimiter = options.delimiter ?? 10
    if (cursor.isControl) {
      this.nextOffset = cursor.batchLastOffset + 1
      return 0
    }
    try {
      const fast = this.#decodeFast(fromOffset, endOffset, recordsMax, delimiter, out)
      if (fast >= 0) return fast
      out.length = lengthBefore
      return this.#decodeAny(fromOffset, endOffset, recordsMax, delimiter, options.nullValue, out)
    } catch (error) {
      out.length = lengthBefore
      throw error
    }
  }

  /** @returns  −1 when a record is not of the plain kind */
  #decodeFast(
    fromOffset: number,
    endOffset: number,
    recordsMax: number,
    delimiter: number,
    out: OutputBuffer,
  ): number {
    const cursor = this.#cursor
    const { bytes, recordsEnd: end, batchBaseOffset, batchLastOffset, recordCount } = cursor
    if (this.#viewOf !== bytes) {
      this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
      this.#viewOf = bytes
    }
    const view = this.#view
    let position = cursor.recordsStart
    // A record is longer than its value and the delimiter, so this is enough for all.
    out.reserve(end - position)
    const target = out.bytes
    const targetView = out.view
    const wordsEnd = bytes.length - 4
    const deltaMax = batchLastOffset - batchBaseOffset
    const fromDelta = fromOffset - batchBaseOffset
    const endDelta = endOffset - batchBaseOffset
    let to = out.length
    let previousDelta = -1
    let taken = 0
    for (let left = recordCount; left > 0; left--) {
      let byte = bytes[position++] as number
      let length = byte & 0x7f
      if (byte >= 0x80) {
        byte = bytes[position++] as number
        length |= (byte & 0x7f) << 7
        if (byte >= 0x80) {
          byte = bytes[position++] as number
          length |= byte << 14
          if (byte >= 0x80) return -1
        }
      }
      const recordEnd = position + (length >>> 1)
      if ((length & 1) !== 0 || recordEnd > end) return -1
      position++
      // Timestamp delta, of any length.
      while ((bytes[position] as number) >= 0x80 && position < recordEnd) position++
      position++
      byte = bytes[position++] as number
      let delta = byte & 0x7f
      if (byte >= 0x80) {
        byte = bytes[position++] as number
        delta |= (byte & 0x7f) << 7
        if (byte >= 0x80) {
          byte = bytes[position++] as number
          delta |= byte << 14
          if (byte >= 0x80) return -1
        }
      }
      if ((delta & 1) !== 0) return -1
      delta >>>= 1
      if (delta <= previousDelta || delta > deltaMax) return -1
      byte = bytes[position++] as number
      if (byte !== 1) {
        if (byte >= 0x80 || (byte & 1) !== 0) return -1
        position += byte >>> 1
      }
      byte = bytes[position++] as number
      let valueBytes = byte & 0x7f
      if (byte >= 0x80) {
        byte = bytes[position++] as number
        valueBytes |= (byte & 0x7f) << 7
        if (byte >= 0x80) {
          byte = bytes[position++] as number
          valueBytes |= byte << 14
          if (byte >= 0x80) return -1
        }
      }
      if ((valueBytes & 1) !== 0) return -1
      valueBytes >>>= 1
      const valueEnd = position + valueBytes
      // No headers, and exactly as long as it says: this also proves that nothing above was read from beyond it.
      if (valueEnd + 1 !== recordEnd || bytes[valueEnd] !== 0) return -1
      if (delta >= fromDelta) {
        if (delta >= endDelta || taken === recordsMax) {
          this.nextOffset = batchBaseOffset + Math.min(delta, endDelta)
          out.length = to
          return taken
        }
        if (valueBytes <= WORDS_BYTES_MAX && valueEnd <= wordsEnd) {
          const shift = to - position
          for (let from = position; from < valueEnd; from += 4) {
            targetView.setInt32(from + shift, view.getInt32(from, true), true)
          }
        } else {
          target.set(bytes.subarray(position, valueEnd), to)
        }
        to += valueBytes
        target[to++] = delimiter
        taken++
      }
      previousDelta = delta
      position = recordEnd
    }
    if (position !== end) return -1
    this.nextOffset = batchLastOffset + 1
    out.length = to
    return taken
  }

  #decodeAny(
    fromOffset: number,
    endOffset: number,
    recordsMax: number,
    delimiter: number,
    nullValue: Uint8Array | undefined,
    out: OutputBuffer,
  ): number {
    const cursor = this.#cursor
    let taken = 0
    while (cursor.next()) {
      if (cursor.offset < fromOffset) continue
      if (cursor.offset >= endOffset || taken === recordsMax) {
        this.nextOffset = Math.min(cursor.offset, endOffset)
        return taken
      }
      if (cursor.valueStart >= 0) out.append(cursor.bytes, cursor.valueStart, cursor.valueEnd)
      else if (nullValue !== undefined) out.append(nullValue)
      out.appendByte(delimiter)
      taken++
    }
    this.nextOffset = cursor.batchLastOffset + 1
    return taken
  }
}
