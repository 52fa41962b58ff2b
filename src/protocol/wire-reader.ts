/**
 * Reads the primitive types of the Kafka protocol from a message that lies in one or more frames.
 *
 * Invariants: nothing is read beyond the end of the message; every length is compared with the bytes that remain
 * before anything is allocated; frames are never joined, only the one value that lies across a cut is copied. Byte
 * values are views of the frames and keep them alive.
 *
 * All failures are StreamError MALFORMED_MESSAGE and name the field that was being read (`field`).
 */
import { Buffer } from 'node:buffer'
import { StreamError } from '../base/errors.ts'
import { INT64_MAX, INT64_MIN, ZERO_UUID } from './schema.ts'

/** Elements of one array; Kafka's own bound is similar, and no sane message comes near it. */
export const ARRAY_ELEMENTS_MAX = 1_000_000
/** Kafka's bound for strings in both encodings. */
export const STRING_BYTES_MAX = 32_767

const TWO_32 = 0x1_0000_0000
const EMPTY_BYTES = new Uint8Array(0)

export class WireReader {
  /** What is being read, for error messages. The interpreter sets it before every field. */
  field = 'header'
  /** Which message is being read, for error messages. */
  message: string
  private readonly frames: readonly Uint8Array[]
  /** The frame to go on with when the current one is used up, unless a rest is. */
  private nextFrame = 1
  /** What is left of a frame from which a value across a cut was completed. */
  private rest: Uint8Array | undefined
  /** Bytes in the rest and in the frames from `nextFrame` on. */
  private laterBytes: number
  // Plain indexing, no DataView: a message may have a frame per partition, and a view costs more than a frame's reads.
  private bytes: Uint8Array
  private position = 0
  private end: number

  constructor(frames: readonly Uint8Array[], message: string) {
    this.message = message
    this.frames = frames
    let laterBytes = 0
    for (let index = 1; index < frames.length; index++) laterBytes += frames[index]?.length ?? 0
    this.laterBytes = laterBytes
    const first = frames[0] ?? EMPTY_BYTES
    this.bytes = first
    this.end = first.length
  }

  /** Bytes not read yet, in all frames. */
  get remaining(): number {
    return this.end - this.position + this.laterBytes
  }

  malformed(detail: string): StreamError {
    return new StreamError('MALFORMED_MESSAGE', `${this.message}: ${this.field}: ${detail}`)
  }

  bool(): boolean {
    return this.int8() !== 0
  }

  int8(): number {
    return (this.uint8() << 24) >> 24
  }

  uint8(): number {
    if (this.position >= this.end) this.advance(1)
    return this.bytes[this.position++] as number
  }

  int16(): number {
    if (this.position + 2 > this.end) this.advance(2)
    const bytes = this.bytes
    const at = this.position
    this.position = at + 2
    return (((bytes[at] as number) << 24) >> 16) | (bytes[at + 1] as number)
  }

  int32(): number {
    if (this.position + 4 > this.end) this.advance(4)
    const at = this.position
    this.position = at + 4
    return int32At(this.bytes, at)
  }

  /** Exact up to ±(2^53 − 1); the two ends of the int64 range come as INT64_MAX and INT64_MIN; else malformed. */
  int64(): number {
    if (this.position + 8 > this.end) this.advance(8)
    const at = this.position
    this.position = at + 8
    const high = int32At(this.bytes, at)
    const low = int32At(this.bytes, at + 4) >>> 0
    const value = high * TWO_32 + low
    if (value <= Number.MAX_SAFE_INTEGER && value >= Number.MIN_SAFE_INTEGER) return value
    return this.int64Sentinel(high, low)
  }

  float64(): number {
    if (this.position + 8 > this.end) this.advance(8)
    const at = this.position
    this.position = at + 8
    return new DataView(this.bytes.buffer, this.bytes.byteOffset + at, 8).getFloat64(0)
  }

  /** Unsigned varint of at most 5 bytes and 32 bits. */
  uvarint(): number {
    let byte = this.uint8()
    if (byte < 0x80) return byte
    let value = byte & 0x7f
    byte = this.uint8()
    value |= (byte & 0x7f) << 7
    if (byte < 0x80) return value
    byte = this.uint8()
    value |= (byte & 0x7f) << 14
    if (byte < 0x80) return value
    byte = this.uint8()
    value |= (byte & 0x7f) << 21
    if (byte < 0x80) return value
    byte = this.uint8()
    if (byte > 0x0f) throw this.malformed('a varint is longer than 32 bits')
    return value + byte * 0x1000_0000
  }

  uuid(): string {
    if (this.position + 16 > this.end) this.advance(16)
    const at = this.position
    this.position = at + 16
    const bytes = this.bytes
    const first = int32At(bytes, at)
    const second = int32At(bytes, at + 4)
    const third = int32At(bytes, at + 8)
    const fourth = int32At(bytes, at + 12)
    if ((first | second | third | fourth) === 0) return ZERO_UUID
    return asBuffer(bytes).toString('base64url', at, at + 16)
  }

  /** @returns the byte length; −1 for null; bounded by what remains */
  classicLength(wide: boolean): number {
    const length = wide ? this.int32() : this.int16()
    if (length < -1) throw this.malformed(`negative length ${length}`)
    if (length > this.remaining) throw this.tooLong(length)
    return length
  }

  /** As classicLength, for the compact encoding. */
  compactLength(): number {
    const length = this.uvarint() - 1
    if (length > this.remaining) throw this.tooLong(length)
    return length
  }

  /** As the two above, for the element count of an array. */
  arrayLength(flexible: boolean): number {
    const count = flexible ? this.compactLength() : this.classicLength(true)
    if (count > ARRAY_ELEMENTS_MAX) throw this.malformed(`an array of ${count} elements`)
    return count
  }

  string(flexible: boolean): string | null {
    const length = flexible ? this.compactLength() : this.classicLength(false)
    if (length <= 0) return length < 0 ? null : ''
    if (length > STRING_BYTES_MAX) throw this.malformed(`a string of ${length} bytes`)
    if (this.position + length > this.end) this.advance(length)
    const start = this.position
    this.position = start + length
    if (length <= CACHED_STRING_BYTES_MAX) return cachedString(this.bytes, start, this.position)
    return asBuffer(this.bytes).toString('utf8', start, this.position)
  }

  byteRange(flexible: boolean): Uint8Array | null {
    const length = flexible ? this.compactLength() : this.classicLength(true)
    if (length <= 0) return length < 0 ? null : EMPTY_BYTES
    if (this.position + length > this.end) {
      const whole = this.wholeFrame(length)
      if (whole !== undefined) return whole
      this.advance(length)
    }
    const start = this.position
    this.position = start + length
    return new Uint8Array(this.bytes.buffer, this.bytes.byteOffset + start, length)
  }

  skip(length: number): void {
    if (length > this.remaining) throw this.tooLong(length)
    let left = length
    while (left > this.end - this.position) {
      left -= this.end - this.position
      this.position = this.end
      this.advance(1)
    }
    this.position += left
  }

  /** Skips a tag section of which no tag is known. */
  skipTags(): void {
    const count = this.tagCount()
    if (count > 0) this.tags(count, () => false)
  }

  /** Number of tags in the section that begins here. */
  tagCount(): number {
    const count = this.uvarint()
    if (count > this.remaining) throw this.tooLong(count)
    return count
  }

  /**
   * Walks the tags of a section. `read` returns false for a tag it does not know, which is skipped; a known one must
   * use exactly the bytes announced.
   */
  tags(count: number, read: (tag: number) => boolean): void {
    let previous = -1
    for (let index = 0; index < count; index++) {
      const tag = this.uvarint()
      if (tag <= previous) throw this.malformed(`tag ${tag} after tag ${previous}`)
      previous = tag
      const size = this.uvarint()
      if (size > this.remaining) throw this.tooLong(size)
      const remainingAfter = this.remaining - size
      if (!read(tag)) this.skip(size)
      else if (this.remaining !== remainingAfter) {
        throw this.malformed(`tag ${tag} is not as long as its size says`)
      }
    }
  }

  /**
   * Makes `length` bytes readable in one piece: steps to the next frame, or joins just the value that lies across
   * frames.
   */
  private advance(length: number): void {
    if (length > this.remaining) {
      throw this.malformed(`the message ends ${length - this.remaining} bytes too early`)
    }
    let frame = this.takeFrame()
    if (this.position === this.end && frame.length >= length) {
      this.use(frame)
      return
    }
    const joined = Buffer.allocUnsafeSlow(length)
    joined.set(this.bytes.subarray(this.position, this.end))
    let filled = this.end - this.position
    while (filled < length) {
      const taken = Math.min(frame.length, length - filled)
      joined.set(taken === frame.length ? frame : frame.subarray(0, taken), filled)
      filled += taken
      if (taken < frame.length) this.putBack(frame.subarray(taken))
      else if (filled < length) frame = this.takeFrame()
    }
    this.use(joined)
  }

  /** The next frame, if the current one is used up and the next is exactly so long: then nothing need be cut or joined. */
  private wholeFrame(length: number): Uint8Array | undefined {
    if (this.position < this.end) return undefined
    const next = this.rest ?? this.frames[this.nextFrame]
    if (next?.length !== length) return undefined
    const frame = this.takeFrame()
    return Buffer.isBuffer(frame)
      ? new Uint8Array(frame.buffer, frame.byteOffset, frame.byteLength)
      : frame
  }

  private takeFrame(): Uint8Array {
    const frame = this.rest ?? this.frames[this.nextFrame++] ?? EMPTY_BYTES
    this.rest = undefined
    this.laterBytes -= frame.length
    return frame
  }

  private putBack(rest: Uint8Array): void {
    this.rest = rest
    this.laterBytes += rest.length
  }

  private use(frame: Uint8Array): void {
    this.bytes = frame
    this.position = 0
    this.end = frame.length
  }

  private int64Sentinel(high: number, low: number): number {
    if (high === 0x7fff_ffff && low === 0xffff_ffff) return INT64_MAX
    if (high === -0x8000_0000 && low === 0) return INT64_MIN
    throw this.malformed('an integer beyond 2^53')
  }

  private tooLong(length: number): StreamError {
    return this.malformed(`length ${length} with ${this.remaining} bytes left`)
  }
}

function int32At(bytes: Uint8Array, at: number): number {
  return (
    ((bytes[at] as number) << 24) |
    ((bytes[at + 1] as number) << 16) |
    ((bytes[at + 2] as number) << 8) |
    (bytes[at + 3] as number)
  )
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes)
    ? bytes
    : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

/**
 * The same topic names and client ids come with every message, and comparing a short one is four times as fast as
 * making it. A table of the strings seen last, one per hash; it changes nothing but the time that reading takes.
 */
const CACHED_STRING_BYTES_MAX = 32
const CACHED_STRINGS = 512
const cachedStrings: string[] = new Array<string>(CACHED_STRINGS).fill('')

function cachedString(bytes: Uint8Array, start: number, end: number): string {
  let hash = end - start
  for (let at = start; at < end; at++) hash = (Math.imul(hash, 31) + (bytes[at] as number)) | 0
  const slot = (hash ^ (hash >>> 15)) & (CACHED_STRINGS - 1)
  const cached = cachedStrings[slot] as string
  if (cached.length === end - start) {
    let at = start
    while (at < end && cached.charCodeAt(at - start) === bytes[at]) at++
    // A unit equal to a byte above 0x7f would be Latin-1, not UTF-8; only ASCII strings are kept, so it cannot be.
    if (at === end) return cached
  }
  const text = asBuffer(bytes).toString('utf8', start, end)
  if (isAscii(bytes, start, end)) cachedStrings[slot] = text
  return text
}

function isAscii(bytes: Uint8Array, start: number, end: number): boolean {
  for (let at = start; at < end; at++) if ((bytes[at] as number) > 0x7f) return false
  return true
}
