/** Searching bytes for bytes; one byte goes through the engine's own scan. */

/** @returns where `needle` (at least one byte) first begins in `[start, end)` with all of it inside, or −1 */
export function findBytes(
  bytes: Uint8Array,
  start: number,
  end: number,
  needle: Uint8Array,
): number {
  const first = needle[0] as number
  const last = end - needle.length
  let at = start
  while (at <= last) {
    const found = bytes.indexOf(first, at)
    if (found < 0 || found > last) return -1
    let matched = 1
    while (matched < needle.length && bytes[found + matched] === needle[matched]) matched += 1
    if (matched === needle.length) return found
    at = found + 1
  }
  return -1
}

/** As findBytes, for ranges so short that a call into the engine costs more than the loop. */
export function findShort(
  bytes: Uint8Array,
  start: number,
  end: number,
  needle: Uint8Array,
): number {
  const first = needle[0] as number
  const count = needle.length
  const last = end - count
  for (let at = start; at <= last; at += 1) {
    if (bytes[at] !== first) continue
    let matched = 1
    while (matched < count && bytes[at + matched] === needle[matched]) matched += 1
    if (matched === count) return at
  }
  return -1
}

export function equalBytes(
  bytes: Uint8Array,
  start: number,
  end: number,
  wanted: Uint8Array,
): boolean {
  if (end - start !== wanted.length) return false
  for (let index = 0; index < wanted.length; index += 1) {
    if (bytes[start + index] !== wanted[index]) return false
  }
  return true
}
