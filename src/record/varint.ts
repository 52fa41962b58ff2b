/**
 * The zigzag varints inside record batches: seven bits a byte, lowest first, the sign folded into bit 0. (The protocol's
 * compact lengths are unsigned varints and live in src/protocol: mixing the two is the classic bug.)
 * Numbers of up to 52 bits and sign pass; Kafka's 64-bit varlongs beyond that are refused by the readers.
 */

/** Largest magnitude whose zigzag form is exact in a number. */
export const VARLONG_MAX = 2 ** 52 - 1

/** Bytes that `unsigned` (0 to 2^53) takes as a plain varint; zigzag it first. */
export function varintBytes(unsigned: number): number {
  if (unsigned < 0x80) return 1
  if (unsigned < 0x4000) return 2
  if (unsigned < 0x20_0000) return 3
  if (unsigned < 0x1000_0000) return 4
  let bytes = 5
  for (let rest = unsigned / 0x8_0000_0000; rest >= 1; rest /= 0x80) bytes++
  return bytes
}

/** @param value  an integer within ±VARLONG_MAX */
export function zigzag(value: number): number {
  return value >= 0 ? value * 2 : value * -2 - 1
}

/** The inverse of zigzag, for 0 to 2^53 − 1. */
export function unzigzag(unsigned: number): number {
  if (unsigned % 2 === 0) return unsigned / 2
  return -(unsigned + 1) / 2
}

/**
 * Writes `unsigned` (0 to 2^53) as a plain varint.
 * @returns  the position after it
 */
export function putVarint(bytes: Uint8Array, at: number, unsigned: number): number {
  let position = at
  let rest = unsigned
  while (rest > 0x7fff_ffff) {
    bytes[position++] = (rest % 0x80) | 0x80
    rest = Math.floor(rest / 0x80)
  }
  while (rest > 0x7f) {
    bytes[position++] = rest | 0x80
    rest >>>= 7
  }
  bytes[position++] = rest
  return position
}
