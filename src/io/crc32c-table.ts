/** CRC-32C (Castagnoli) by one table: for the store's small values; batches have their own, fast one in src/record. */

const POLYNOMIAL_REVERSED = 0x82f63b78

const table = new Uint32Array(256)
for (let byte = 0; byte < 256; byte++) {
  let remainder = byte
  for (let bit = 0; bit < 8; bit++) {
    remainder = remainder & 1 ? (remainder >>> 1) ^ POLYNOMIAL_REVERSED : remainder >>> 1
  }
  table[byte] = remainder
}

/** CRC of all parts one after the other; `123456789` gives e3069283. */
export function crc32cOf(...parts: readonly Uint8Array[]): number {
  let crc = 0xffffffff
  for (const part of parts) {
    for (let at = 0; at < part.length; at++) {
      crc = (table[(crc ^ (part[at] as number)) & 0xff] as number) ^ (crc >>> 8)
    }
  }
  return (crc ^ 0xffffffff) >>> 0
}
