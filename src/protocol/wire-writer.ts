/**
 * Writes the primitive types of the Kafka protocol, as frames.
 *
 * Messages are laid one after the other into slabs, as Buffer does with its pool: a message handed out is never
 * written to again, so its frames stay valid while the transport holds them. A slab lives as long as one of its
 * messages does. A `records` part of RECORDS_FRAME_BYTES_MIN or more becomes a frame of its own, not copied.
 *
 * Values of the wrong type or range are errors of the programmer (assert); the one exception is a string or a message
 * that is too long, since strings come from users.
 */
import { Buffer } from 'node:buffer'
import { AssertionError } from '../base/assert.ts'
import { StreamError } from '../base/errors.ts'
import { INT64_MAX, INT64_MIN, ZERO_UUID } from './schema.ts'
import { STRING_BYTES_MAX } from './wire-reader.ts'

/** Below this, copying is cheaper than one more frame. */
export const RECORDS_FRAME_BYTES_MIN = 1024

const SLAB_BYTES = 32 * 1024
const TWO_32 = 0x1_0000_0000
/** Strings up to this many UTF-16 units have at most 126 bytes, hence a compact length of one byte. */
const SHORT_STRING_UNITS_MAX = 42

export class WireWriter {
  /** What is being written, for error messages. */
  field = 'header'
  private slab: Buffer = Buffer.allocUnsafeSlow(0)
  private view: DataView = new DataView(this.slab.buffer)
  private frameStart = 0
  private position = 0
  private frames: Uint8Array[] = []

  /** Begins a message; what an earlier, failed one left behind is dropped. */
  begin(): void {
    this.position = this.frameStart
    this.frames = []
    this.field = 'header'
  }

  /** @returns the frames of the message, never empty */
  finish(): Uint8Array[] {
    this.cut()
    const frames = this.frames
    this.frames = []
    return frames
  }

  bool(value: unknown): void {
    if (typeof value !== 'boolean') throw this.wrong(value, 'a boolean')
    this.reserve(1)
    this.slab[this.position++] = value ? 1 : 0
  }

  int8(value: number): void {
    if ((value << 24) >> 24 !== value) throw this.wrong(value, 'an int8')
    this.reserve(1)
    this.view.setInt8(this.position++, value)
  }

  int16(value: number): void {
    if ((value << 16) >> 16 !== value) throw this.wrong(value, 'an int16')
    this.reserve(2)
    this.view.setInt16(this.position, value)
    this.position += 2
  }

  int32(value: number): void {
    if ((value | 0) !== value) throw this.wrong(value, 'an int32')
    this.reserve(4)
    this.view.setInt32(this.position, value)
    this.position += 4
  }

  int64(value: number): void {
    this.reserve(8)
    if ((value | 0) === value) {
      this.view.setInt32(this.position, value >> 31)
      this.view.setInt32(this.position + 4, value)
    } else if (Number.isSafeInteger(value)) {
      this.view.setInt32(this.position, Math.floor(value / TWO_32))
      this.view.setInt32(this.position + 4, value | 0)
    } else if (value === INT64_MAX) {
      this.view.setInt32(this.position, 0x7fff_ffff)
      this.view.setInt32(this.position + 4, -1)
    } else if (value === INT64_MIN) {
      this.view.setInt32(this.position, -0x8000_0000)
      this.view.setInt32(this.position + 4, 0)
    } else {
      throw this.wrong(value, 'an integer up to 2^53 or INT64_MAX or INT64_MIN')
    }
    this.position += 8
  }

  float64(value: unknown): void {
    if (typeof value !== 'number') throw this.wrong(value, 'a number')
    this.reserve(8)
    this.view.setFloat64(this.position, value)
    this.position += 8
  }

  uvarint(value: number): void {
    this.reserve(5)
    let rest = value >>> 0
    while (rest > 0x7f) {
      this.slab[this.position++] = (rest & 0x7f) | 0x80
      rest >>>= 7
    }
    this.slab[this.position++] = rest
  }

  uuid(value: unknown): void {
    if (typeof value !== 'string') throw this.wrong(value, 'a UUID')
    this.reserve(16)
    if (value === ZERO_UUID) {
      this.slab.fill(0, this.position, this.position + 16)
    } else {
      if (value.length !== 22) throw this.wrong(value, 'a UUID of 22 characters')
      const written = this.slab.write(value, this.position, 16, 'base64url')
      if (written !== 16) throw this.wrong(value, 'a UUID in URL-safe base64')
    }
    this.position += 16
  }

  /** Length prefix of an array, bytes or records. −1 is null. */
  length(count: number, flexible: boolean): void {
    if (flexible) this.uvarint(count + 1)
    else this.int32(count)
  }

  /** @throws StreamError MALFORMED_MESSAGE when it has more than STRING_BYTES_MAX bytes of UTF-8 */
  string(value: string | null, flexible: boolean): void {
    if (value === null) {
      if (flexible) this.uvarint(0)
      else this.int16(-1)
      return
    }
    if (typeof value !== 'string') throw this.wrong(value, 'a string')
    if (value.length <= SHORT_STRING_UNITS_MAX) {
      this.shortString(value, flexible)
      return
    }
    const length = Buffer.byteLength(value)
    if (length > STRING_BYTES_MAX) {
      throw new StreamError(
        'MALFORMED_MESSAGE',
        `${this.field}: a string of ${length} bytes; at most ${STRING_BYTES_MAX} can be sent`,
      )
    }
    if (flexible) this.uvarint(length + 1)
    else this.int16(length)
    this.reserve(length)
    this.slab.write(value, this.position, length, 'utf8')
    this.position += length
  }

  bytes(value: unknown, flexible: boolean): void {
    if (value === null) {
      this.length(-1, flexible)
      return
    }
    if (!(value instanceof Uint8Array)) throw this.wrong(value, 'bytes')
    this.length(value.length, flexible)
    this.copy(value)
  }

  records(value: unknown, flexible: boolean): void {
    if (value === null) {
      this.length(-1, flexible)
    } else if (value instanceof Uint8Array) {
      this.length(value.length, flexible)
      this.part(value)
    } else if (Array.isArray(value)) {
      const parts: readonly Uint8Array[] = value
      let length = 0
      for (const part of parts) {
        if (!(part instanceof Uint8Array)) throw this.wrong(part, 'bytes')
        length += part.length
      }
      this.length(length, flexible)
      for (const part of parts) this.part(part)
    } else {
      throw this.wrong(value, 'record batches')
    }
  }

  /** One tag with its size and content; `write` writes the content. Source: KIP-482. */
  tag(tag: number, write: () => void): void {
    this.uvarint(tag)
    this.reserve(1)
    // One byte is kept for the size. Relative to frameStart, as writing may move the message to another slab.
    const sizeAt = this.position - this.frameStart
    this.position++
    write()
    const size = this.position - this.frameStart - sizeAt - 1
    if (size > 0x7f) {
      const more = uvarintBytes(size) - 1
      this.reserve(more)
      const from = this.frameStart + sizeAt + 1
      this.slab.copyWithin(from + more, from, this.position)
      this.position = this.frameStart + sizeAt
      this.uvarint(size)
      this.position += size
    } else {
      this.slab[this.frameStart + sizeAt] = size
    }
  }

  wrong(value: unknown, wanted: string): AssertionError {
    return new AssertionError(`${this.field} must be ${wanted}, not ${String(value)}`)
  }

  private shortString(value: string, flexible: boolean): void {
    this.reserve(2 + 3 * value.length)
    const prefixBytes = flexible ? 1 : 2
    const start = this.position + prefixBytes
    const slab = this.slab
    const units = value.length
    let length = 0
    while (length < units) {
      const unit = value.charCodeAt(length)
      if (unit > 0x7f) break
      slab[start + length] = unit
      length++
    }
    if (length < units) length = slab.write(value, start, 3 * units, 'utf8')
    if (flexible) slab[this.position] = length + 1
    else this.view.setInt16(this.position, length)
    this.position = start + length
  }

  private part(bytes: Uint8Array): void {
    if (bytes.length < RECORDS_FRAME_BYTES_MIN) {
      this.copy(bytes)
      return
    }
    this.cut()
    this.frames.push(bytes)
  }

  private copy(bytes: Uint8Array): void {
    this.reserve(bytes.length)
    this.slab.set(bytes, this.position)
    this.position += bytes.length
  }

  private cut(): void {
    if (this.position === this.frameStart) return
    this.frames.push(
      new Uint8Array(this.slab.buffer, this.frameStart, this.position - this.frameStart),
    )
    this.frameStart = this.position
  }

  private reserve(length: number): void {
    if (this.position + length > this.slab.length) this.grow(length)
  }

  private grow(length: number): void {
    const used = this.position - this.frameStart
    const slab = Buffer.allocUnsafeSlow(Math.max(SLAB_BYTES, 2 * (used + length)))
    this.slab.copy(slab, 0, this.frameStart, this.position)
    this.slab = slab
    this.view = new DataView(slab.buffer)
    this.frameStart = 0
    this.position = used
  }
}

function uvarintBytes(value: number): number {
  let bytes = 1
  for (let rest = value >>> 7; rest > 0; rest >>>= 7) bytes++
  return bytes
}
