/**
 * JSON values as the bytes they stand for (commands.md, section 3.2): a string its text, `{"b64":"…"}` what it encodes,
 * null null, anything else its own JSON text, byte for byte as written.
 *
 * Invariant: what must be decoded goes to one scratch buffer, which is made large enough before the first value of a
 * record, so that ranges set earlier stay where they are.
 */

import { StreamError } from '../base/errors.ts'
import { decodeBase64 } from './base64.ts'
import { decodeString, decodeText, type JsonScanner, NOT_JSON } from './json-scanner.ts'
import type { RangeSlot } from './record-fields.ts'

const QUOTE = 0x22
const OPEN_BRACE = 0x7b
const COMMA = 0x2c
const LETTER_N = 0x6e

export class JsonBytes {
  readonly #scanner: JsonScanner
  #scratch = new Uint8Array(4096)
  #scratchAt = 0

  constructor(scanner: JsonScanner) {
    this.#scanner = scanner
  }

  /** Before the values of a record of so many bytes: what they decode to is never longer. */
  begin(byteCount: number): void {
    this.#scratchAt = 0
    if (this.#scratch.length < byteCount) this.#scratch = new Uint8Array(byteCount * 2)
  }

  /**
   * Sets `target` to the value whose JSON, which has been checked, is `bytes[start, end)`.
   * @throws StreamError RECORD_INVALID: bad base64, a lone surrogate
   */
  read(bytes: Uint8Array, start: number, end: number, target: RangeSlot, name: string): void {
    switch (bytes[start]) {
      case LETTER_N:
        target.setNull()
        return
      case QUOTE:
        this.#readString(bytes, start, end, target, name)
        return
      case OPEN_BRACE:
        if (this.#readBase64(bytes, start, end, target, name)) return
        target.set(bytes, start, end)
        return
      default:
        target.set(bytes, start, end)
    }
  }

  /** As read, for strings and base64 only. @returns false for anything else */
  readText(
    bytes: Uint8Array,
    start: number,
    end: number,
    target: RangeSlot,
    name: string,
  ): boolean {
    if (bytes[start] !== QUOTE) {
      return bytes[start] === OPEN_BRACE && this.#readBase64(bytes, start, end, target, name)
    }
    this.#readString(bytes, start, end, target, name)
    return true
  }

  #readString(
    bytes: Uint8Array,
    start: number,
    end: number,
    target: RangeSlot,
    name: string,
  ): void {
    let at = start + 1
    while (at < end - 1 && bytes[at] !== 0x5c) at += 1
    if (at === end - 1) {
      target.set(bytes, start + 1, end - 1)
      return
    }
    const from = this.#scratchAt
    const to = decodeString(bytes, start + 1, end - 1, this.#scratch, from)
    if (to === NOT_JSON) throw invalid(`${name}: lone surrogate`)
    this.#scratchAt = to
    target.set(this.#scratch, from, to)
  }

  /** @returns false if the object is not `{"b64":string}` */
  #readBase64(
    bytes: Uint8Array,
    start: number,
    end: number,
    target: RangeSlot,
    name: string,
  ): boolean {
    const inner = findOnlyBase64(this.#scanner, bytes, start, end)
    if (inner === NOT_JSON || bytes[inner] !== QUOTE) return false
    const innerEnd = this.#scanner.skipString(bytes, inner + 1, end) - 1
    const from = this.#scratchAt
    let to: number
    if (this.#scanner.hasEscape) {
      // `\/` is the usual case; the digits are decoded in place, which never needs more room.
      const digitsEnd = decodeString(bytes, inner + 1, innerEnd, this.#scratch, from)
      to =
        digitsEnd === NOT_JSON
          ? -1
          : decodeBase64(this.#scratch, from, digitsEnd, this.#scratch, from)
    } else {
      to = decodeBase64(bytes, inner + 1, innerEnd, this.#scratch, from)
    }
    if (to < 0) throw invalid(`${name}: bad base64`)
    this.#scratchAt = to
    target.set(this.#scratch, from, to)
    return true
  }
}

/**
 * Where the value of `b64` begins in a checked object whose members all have that name (of several the last counts);
 * NOT_JSON if the object is empty or has other members.
 */
export function findOnlyBase64(
  scanner: JsonScanner,
  bytes: Uint8Array,
  start: number,
  end: number,
): number {
  let found: number = NOT_JSON
  let at = scanner.skipSpace(bytes, start + 1, end)
  while (at < end && bytes[at] === QUOTE) {
    const nameStart = at + 1
    at = scanner.skipString(bytes, nameStart, end)
    const isBase64 = scanner.hasEscape
      ? decodeText(bytes, nameStart, at - 1) === 'b64'
      : at - 1 - nameStart === 3 &&
        bytes[nameStart] === 0x62 &&
        bytes[nameStart + 1] === 0x36 &&
        bytes[nameStart + 2] === 0x34
    if (!isBase64) return NOT_JSON
    found = scanner.skipSpace(bytes, scanner.skipSpace(bytes, at, end) + 1, end)
    at = scanner.skipSpace(bytes, scanner.skipValue(bytes, found, end), end)
    if (at < end && bytes[at] === COMMA) at = scanner.skipSpace(bytes, at + 1, end)
  }
  return found
}

function invalid(message: string): StreamError {
  return new StreamError('RECORD_INVALID', message)
}
