/** Standard base64 with padding (RFC 4648, section 4), over byte ranges and without strings. */

const alphabet = Buffer.from('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/')
const PAD = 0x3d

export function base64Length(byteCount: number): number {
  return Math.ceil(byteCount / 3) * 4
}

/** @returns the byte after the last one written; `target` must have room for base64Length(end - start) */
export function encodeBase64(
  bytes: Uint8Array,
  start: number,
  end: number,
  target: Uint8Array,
  targetAt: number,
): number {
  let to = targetAt
  let at = start
  for (; at + 2 < end; at += 3) {
    const group =
      ((bytes[at] as number) << 16) | ((bytes[at + 1] as number) << 8) | (bytes[at + 2] as number)
    target[to++] = alphabet[group >> 18] as number
    target[to++] = alphabet[(group >> 12) & 63] as number
    target[to++] = alphabet[(group >> 6) & 63] as number
    target[to++] = alphabet[group & 63] as number
  }
  if (at < end) {
    const isPair = at + 1 < end
    const group = ((bytes[at] as number) << 16) | (isPair ? (bytes[at + 1] as number) << 8 : 0)
    target[to++] = alphabet[group >> 18] as number
    target[to++] = alphabet[(group >> 12) & 63] as number
    target[to++] = isPair ? (alphabet[(group >> 6) & 63] as number) : PAD
    target[to++] = PAD
  }
  return to
}

function digitValue(digit: number): number {
  if (digit >= 0x41 && digit <= 0x5a) return digit - 0x41
  if (digit >= 0x61 && digit <= 0x7a) return digit - 0x47
  if (digit >= 0x30 && digit <= 0x39) return digit + 4
  if (digit === 0x2b) return 62
  if (digit === 0x2f) return 63
  return -1
}

/**
 * Strict: whole groups of four, padding only at the end, unused bits zero, so that each text has one meaning and each
 * meaning one text.
 * @returns the byte after the last one written, or −1 if the range is no base64
 */
export function decodeBase64(
  bytes: Uint8Array,
  start: number,
  end: number,
  target: Uint8Array,
  targetAt: number,
): number {
  if ((end - start) % 4 !== 0) return -1
  let to = targetAt
  for (let at = start; at < end; at += 4) {
    const isLast = at + 4 === end
    const padding = isLast && bytes[at + 3] === PAD ? (bytes[at + 2] === PAD ? 2 : 1) : 0
    const first = digitValue(bytes[at] as number)
    const second = digitValue(bytes[at + 1] as number)
    const third = padding === 2 ? 0 : digitValue(bytes[at + 2] as number)
    const fourth = padding > 0 ? 0 : digitValue(bytes[at + 3] as number)
    if ((first | second | third | fourth) < 0) return -1
    const group = (first << 18) | (second << 12) | (third << 6) | fourth
    if (padding === 2 && (group & 0xffff) !== 0) return -1
    if (padding === 1 && (group & 0xff) !== 0) return -1
    target[to++] = group >> 16
    if (padding < 2) target[to++] = (group >> 8) & 0xff
    if (padding < 1) target[to++] = group & 0xff
  }
  return to
}
