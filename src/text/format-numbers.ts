/** Numbers and times of the format language read from bytes; a number goes into an object that is used again. */

import type { NumberForm } from './format-plan.ts'
import type { TimePattern } from './format-time.ts'
import { NO_TIMESTAMP } from './record-fields.ts'
import { parseTime } from './time.ts'

export interface FoundNumber {
  value: number
  /** The byte after it. */
  end: number
}

/** Found, not all there yet, or no number. */
export type NumberOutcome = 'found' | 'more' | 'bad'

const DIGITS_MAX = 16
const MINUS = 0x2d

/** A signed integer; beyond 2^53 it is none. */
export function readBinary(
  bytes: Uint8Array,
  start: number,
  end: number,
  form: Extract<NumberForm, { kind: 'binary' }>,
  found: FoundNumber,
): NumberOutcome {
  const { byteCount, isLittle } = form
  if (end - start < byteCount) return 'more'
  let value = 0
  for (let index = 0; index < byteCount; index += 1) {
    const at = isLittle ? start + byteCount - 1 - index : start + index
    const byte = bytes[at] as number
    // The first byte has the sign.
    value = index === 0 ? (byte ^ 0x80) - 0x80 : value * 256 + byte
  }
  if (!Number.isSafeInteger(value)) return 'bad'
  found.value = value
  found.end = start + byteCount
  return 'found'
}

/** Digits up to a byte that is none; a minus before them. */
export function readDigits(
  bytes: Uint8Array,
  start: number,
  end: number,
  base: 10 | 16,
  found: FoundNumber,
): NumberOutcome {
  if (start >= end) return 'more'
  const isNegative = bytes[start] === MINUS
  const from = isNegative ? start + 1 : start
  let value = 0
  let at = from
  for (; at < end; at += 1) {
    const digit = hexValue(bytes[at] as number)
    if (digit < 0 || digit >= base) break
    value = value * base + digit
    if (at - from >= DIGITS_MAX) return 'bad'
  }
  if (at === end) return 'more'
  if (at === from || !Number.isSafeInteger(value)) return 'bad'
  found.value = isNegative ? 0 - value : value
  found.end = at
  return 'found'
}

/** −1: no hex digit. */
export function hexValue(digit: number): number {
  if (digit >= 0x30 && digit <= 0x39) return digit - 0x30
  const letter = digit | 0x20
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1
}

/** What `%d{s}` and `%d{iso}` print. @returns milliseconds, NO_TIMESTAMP, or undefined for anything else */
export function parseMoment(pattern: TimePattern, text: string): number | undefined {
  if (pattern.kind === 'seconds') {
    if (text === '-1') return NO_TIMESTAMP
    return /^\d{1,12}(\.\d{1,9})?$/.test(text) ? Math.round(Number(text) * 1000) : undefined
  }
  if (text === '-') return NO_TIMESTAMP
  if (!/^\d{4}-/.test(text)) return undefined
  const hasZone = /(Z|[+-]\d{2}:\d{2})$/.test(text)
  const isUtc = pattern.kind === 'iso' && !pattern.isLocal
  const isPlainDate = !text.includes('T')
  const zoned = hasZone || !isUtc ? text : isPlainDate ? `${text}T00:00Z` : `${text}Z`
  const timestampMs = parseTime(zoned, 0)
  return timestampMs === undefined || timestampMs < 0 ? undefined : timestampMs
}
