/**
 * Cuts a byte stream into records of text: by a delimiter, or by the length before each (`sized`). Chunks come as they
 * were read, at any boundary; a record that lies in one chunk is handed on as a range of it, one that crosses chunks is
 * joined in a buffer of the splitter's own.
 *
 * Invariants:
 * - Byte for byte: nothing is trimmed, an empty record is a record, a last record without delimiter is one too.
 * - A record longer than `bytesMax` is told once, as too long, and never held in memory.
 * - The consumer may stop in the middle of a chunk (it returns false); the splitter says how far it came, and the rest
 *   is fed again.
 */

import { findBytes } from './find-bytes.ts'

/** A record longer than the limit; its bytes are not kept. */
export const TOO_LONG = -2
/** `sized` input only: the null value. */
export const NULL_RECORD = -1

/**
 * One record: `bytes[start, end)`; `start` TOO_LONG or NULL_RECORD for those. @returns whether to go on
 */
export type RecordConsumer = (bytes: Uint8Array, start: number, end: number) => boolean

export interface RecordSplitter {
  /**
   * Takes `chunk[start, end)`.
   * @returns where it stopped: `end`, or the place after the record at which the consumer said no
   */
  feed(chunk: Uint8Array, start: number, end: number, consume: RecordConsumer): number
  /** The input is over. @returns what is wrong with its end; undefined if nothing */
  finish(consume: RecordConsumer): 'cut' | undefined
  /** Bytes of an unfinished record. */
  readonly heldBytes: number
  /** The unfinished record is dropped as it comes: `heldBytes` is not all of it. */
  readonly isSkipping: boolean
  /** Drops the unfinished record: @returns whether there was one */
  drop(): boolean
  /** Nothing tells where the next record begins: the rest of the input cannot be read. */
  readonly isLost: boolean
}

/** Bytes of a record that is not whole yet. */
export class HeldBytes {
  bytes = new Uint8Array(4096)
  length = 0

  append(chunk: Uint8Array, start: number, end: number): void {
    const needed = this.length + end - start
    if (needed > this.bytes.length) {
      const larger = new Uint8Array(Math.max(needed, this.bytes.length * 2))
      larger.set(this.bytes.subarray(0, this.length))
      this.bytes = larger
    }
    this.bytes.set(chunk.subarray(start, end), this.length)
    this.length = needed
  }
}

export class DelimiterSplitter implements RecordSplitter {
  readonly isLost = false
  readonly #delimiter: Uint8Array
  readonly #bytesMax: number
  readonly #held = new HeldBytes()
  #isTooLong = false

  /** @param bytesMax  of a record without its delimiter */
  constructor(delimiter: Uint8Array, bytesMax: number) {
    this.#delimiter = delimiter
    this.#bytesMax = bytesMax
  }

  get heldBytes(): number {
    return this.#held.length
  }

  get isSkipping(): boolean {
    return this.#isTooLong
  }

  drop(): boolean {
    const had = this.#held.length > 0 || this.#isTooLong
    this.#held.length = 0
    this.#isTooLong = false
    return had
  }

  feed(chunk: Uint8Array, start: number, end: number, consume: RecordConsumer): number {
    let at = start
    const held = this.#held
    if (held.length > 0) {
      at = this.#completeHeld(chunk, start, end)
      if (at < 0) return end
      if (!this.#endHeld(consume)) return at
    }
    const count = this.#delimiter.length
    while (at < end) {
      const found = findBytes(chunk, at, end, this.#delimiter)
      if (found < 0) break
      const recordStart = at
      at = found + count
      const isShort = found - recordStart <= this.#bytesMax
      const goesOn = isShort
        ? consume(chunk, recordStart, found)
        : consume(chunk, TOO_LONG, TOO_LONG)
      if (!goesOn) return at
    }
    this.#hold(chunk, at, end)
    return end
  }

  finish(consume: RecordConsumer): 'cut' | undefined {
    const { bytes, length } = this.#held
    const isTooLong = this.#isTooLong || length > this.#bytesMax
    if (isTooLong) consume(bytes, TOO_LONG, TOO_LONG)
    else if (length > 0) consume(bytes, 0, length)
    this.#held.length = 0
    this.#isTooLong = false
    return undefined
  }

  /** Adds the chunk up to the first delimiter to what is held. @returns the place after it, or −1 if there is none */
  #completeHeld(chunk: Uint8Array, start: number, end: number): number {
    const held = this.#held
    const count = this.#delimiter.length
    // A delimiter of several bytes may have begun in the chunk before.
    const before = Math.min(count - 1, held.length)
    const heldLength = held.length
    const joinEnd = Math.min(end, start + count - 1)
    held.append(chunk, start, joinEnd)
    const joined = findBytes(held.bytes, heldLength - before, held.length, this.#delimiter)
    if (joined >= 0) {
      held.length = joined
      return start + (joined + count - heldLength)
    }
    held.length = heldLength
    const found = findBytes(chunk, start, end, this.#delimiter)
    if (found < 0) {
      this.#hold(chunk, start, end)
      return -1
    }
    this.#hold(chunk, start, found)
    return found + count
  }

  #hold(chunk: Uint8Array, start: number, end: number): void {
    if (start >= end) return
    const held = this.#held
    const keep = this.#delimiter.length - 1
    if (this.#isTooLong || held.length + (end - start) > this.#bytesMax + keep) {
      this.#isTooLong = true
      // What could be the beginning of a delimiter stays, and at least a byte, to know that a record is open.
      const from = Math.max(start, end - Math.max(1, keep))
      if (end - start >= keep) held.length = 0
      held.append(chunk, from, end)
      return
    }
    held.append(chunk, start, end)
  }

  #endHeld(consume: RecordConsumer): boolean {
    const { bytes, length } = this.#held
    const isTooLong = this.#isTooLong || length > this.#bytesMax
    this.#held.length = 0
    this.#isTooLong = false
    return isTooLong ? consume(bytes, TOO_LONG, TOO_LONG) : consume(bytes, 0, length)
  }
}

const LENGTH_BYTES = 4

/** `sized`: before each value its length, 4 bytes, big-endian, signed, −1 for null. */
export class SizedSplitter implements RecordSplitter {
  isLost = false
  readonly #bytesMax: number
  readonly #held = new HeldBytes()
  /** Bytes still to skip of a value that is too long. */
  #skipBytes = 0

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax
  }

  get heldBytes(): number {
    return this.#held.length
  }

  get isSkipping(): boolean {
    return this.#skipBytes > 0
  }

  drop(): boolean {
    const had = this.#held.length > 0 || this.#skipBytes > 0
    this.#held.length = 0
    this.#skipBytes = 0
    return had
  }

  feed(chunk: Uint8Array, start: number, end: number, consume: RecordConsumer): number {
    let at = start
    const held = this.#held
    while (at < end) {
      if (this.#skipBytes > 0) {
        const skipped = Math.min(this.#skipBytes, end - at)
        this.#skipBytes -= skipped
        at += skipped
        continue
      }
      if (held.length === 0 && end - at >= LENGTH_BYTES) {
        const length = readLength(chunk, at)
        const valueStart = at + LENGTH_BYTES
        if (length < -1) return this.#refuse(consume, at)
        if (length === -1 || length > this.#bytesMax) {
          at = valueStart
          this.#skipBytes = Math.max(0, length)
          const kind = length === -1 ? NULL_RECORD : TOO_LONG
          if (!consume(chunk, kind, kind)) return at
          continue
        }
        if (end - valueStart >= length) {
          at = valueStart + length
          if (!consume(chunk, valueStart, at)) return at
          continue
        }
      }
      const needed =
        held.length < LENGTH_BYTES ? LENGTH_BYTES : LENGTH_BYTES + readLength(held.bytes, 0)
      const taken = Math.min(needed - held.length, end - at)
      held.append(chunk, at, at + taken)
      at += taken
      if (!this.#endHeld(consume)) return at
    }
    return end
  }

  finish(): 'cut' | undefined {
    const isCut = this.#held.length > 0 || this.#skipBytes > 0
    this.drop()
    return isCut ? 'cut' : undefined
  }

  /** Hands on what is held once it is whole. */
  #endHeld(consume: RecordConsumer): boolean {
    const held = this.#held
    if (held.length < LENGTH_BYTES) return true
    const length = readLength(held.bytes, 0)
    if (length < -1) {
      this.#refuse(consume, 0)
      return false
    }
    if (length === -1 || length > this.#bytesMax) {
      held.length = 0
      this.#skipBytes = Math.max(0, length)
      const kind = length === -1 ? NULL_RECORD : TOO_LONG
      return consume(held.bytes, kind, kind)
    }
    if (held.length < LENGTH_BYTES + length) return true
    held.length = 0
    return consume(held.bytes, LENGTH_BYTES, LENGTH_BYTES + length)
  }

  /** After a length that cannot be, nothing tells where the next record begins. */
  #refuse(consume: RecordConsumer, at: number): number {
    this.#held.length = 0
    this.#skipBytes = Number.MAX_SAFE_INTEGER
    this.isLost = true
    consume(this.#held.bytes, TOO_LONG, TOO_LONG)
    return at
  }
}

function readLength(bytes: Uint8Array, at: number): number {
  return (
    ((bytes[at] as number) << 24) |
    ((bytes[at + 1] as number) << 16) |
    ((bytes[at + 2] as number) << 8) |
    (bytes[at + 3] as number)
  )
}

/** All of the input is one record; no input is none, unless an empty one counts. */
export class WholeSplitter implements RecordSplitter {
  readonly isLost = false
  readonly #bytesMax: number
  readonly #held = new HeldBytes()
  readonly #emptyIsRecord: boolean
  #isTooLong = false

  constructor(bytesMax: number, options: { readonly emptyIsRecord?: boolean } = {}) {
    this.#bytesMax = bytesMax
    this.#emptyIsRecord = options.emptyIsRecord ?? false
  }

  get heldBytes(): number {
    return this.#held.length
  }

  get isSkipping(): boolean {
    return this.#isTooLong
  }

  drop(): boolean {
    const had = this.#held.length > 0
    this.#held.length = 0
    this.#isTooLong = false
    return had
  }

  feed(chunk: Uint8Array, start: number, end: number): number {
    if (this.#isTooLong || this.#held.length + (end - start) > this.#bytesMax) {
      this.#isTooLong = true
      this.#held.length = 0
    } else {
      this.#held.append(chunk, start, end)
    }
    return end
  }

  finish(consume: RecordConsumer): 'cut' | undefined {
    const { bytes, length } = this.#held
    if (this.#isTooLong) consume(bytes, TOO_LONG, TOO_LONG)
    else if (length > 0 || this.#emptyIsRecord) consume(bytes, 0, length)
    this.drop()
    return undefined
  }
}
