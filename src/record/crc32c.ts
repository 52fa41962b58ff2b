/**
 * CRC-32C (Castagnoli), the checksum of a record batch. Owns the choice between two equal implementations: a table in
 * JavaScript, soon there, and a native one five times as fast whose loading takes 4 ms. The native one is loaded
 * only when a process has checksummed more than NATIVE_AFTER_BYTES, so a command that sends a line never pays for it.
 * The check value of '123456789' is e3069283.
 */
import { tryLoadPackage } from './native-packages.ts'

const POLYNOMIAL_REVERSED = 0x82f63b78
const TABLE_ENTRIES = 256
const NATIVE_AFTER_BYTES = 64 * 1024
/** Below, the call into native code costs more than it saves. */
const NATIVE_BYTES_MIN = 192
const SLICE_BYTES_MIN = 64
/** Checksummed a byte at a time until then: the seven further tables take 0.2 ms. */
const SLICE_AFTER_BYTES = 4096

type NativeCrc = (bytes: Uint8Array, initial?: number) => number

// Process-wide by intent: a cache of constant tables and of a loaded library, not state.
let table: Int32Array | undefined
let tableBytesSoFar = 0
let native: NativeCrc | undefined
let nativeTried = false
let bytesSoFar = 0

/**
 * @param end  exclusive
 * @param before  the checksum of what stands before, for what comes in pieces
 * @returns  unsigned
 */
export function crc32c(bytes: Uint8Array, start = 0, end = bytes.length, before = 0): number {
  const count = end - start
  if (count >= NATIVE_BYTES_MIN) {
    if (native === undefined && !nativeTried) {
      bytesSoFar += count
      if (bytesSoFar > NATIVE_AFTER_BYTES) loadNative()
    }
    if (native !== undefined) {
      const isWhole = start === 0 && end === bytes.length
      return native(isWhole ? bytes : bytes.subarray(start, end), before)
    }
  }
  return crc32cTable(bytes, start, end, before)
}

function loadNative(): void {
  nativeTried = true
  native = tryLoadPackage<{ crc32c: NativeCrc }>('@node-rs/crc32')?.crc32c
}

/** The JavaScript implementation (slicing by 8); exported for tests and benches. */
export function crc32cTable(bytes: Uint8Array, start = 0, end = bytes.length, before = 0): number {
  table ??= makeTable()
  if (table.length === TABLE_ENTRIES) {
    tableBytesSoFar += end - start
    if (tableBytesSoFar > SLICE_AFTER_BYTES) table = withFurtherTables(table)
  }
  let crc = ~before
  let at = start
  if (end - start >= SLICE_BYTES_MIN && table.length > TABLE_ENTRIES) {
    const sliceEnd = end - 7
    while (at < sliceEnd) {
      crc ^=
        (bytes[at] as number) |
        ((bytes[at + 1] as number) << 8) |
        ((bytes[at + 2] as number) << 16) |
        ((bytes[at + 3] as number) << 24)
      crc =
        (table[0x700 | (crc & 0xff)] as number) ^
        (table[0x600 | ((crc >>> 8) & 0xff)] as number) ^
        (table[0x500 | ((crc >>> 16) & 0xff)] as number) ^
        (table[0x400 | (crc >>> 24)] as number) ^
        (table[0x300 | (bytes[at + 4] as number)] as number) ^
        (table[0x200 | (bytes[at + 5] as number)] as number) ^
        (table[0x100 | (bytes[at + 6] as number)] as number) ^
        (table[bytes[at + 7] as number] as number)
      at += 8
    }
  }
  while (at < end) {
    crc = (table[(crc ^ (bytes[at] as number)) & 0xff] as number) ^ (crc >>> 8)
    at++
  }
  return ~crc >>> 0
}

/**
 * What a byte adds. In as many steps as it has entries: by eight for each it would be hot enough for V8 to compile it on another
 * thread, and the first time that thread and ours want the same lock of V8 costs 3 ms (absl measures the processor's speed).
 */
function makeTable(): Int32Array {
  const made = new Int32Array(TABLE_ENTRIES)
  let crc = 1
  for (let step = TABLE_ENTRIES / 2; step > 0; step >>= 1) {
    crc = (crc >>> 1) ^ (POLYNOMIAL_REVERSED & -(crc & 1))
    for (let at = 0; at < TABLE_ENTRIES; at += 2 * step) {
      made[step + at] = crc ^ (made[at] as number)
    }
  }
  return made
}

/** Eight tables: the k-th advances a byte past k further zero bytes. */
function withFurtherTables(first: Int32Array): Int32Array {
  const made = new Int32Array(8 * TABLE_ENTRIES)
  made.set(first)
  for (let at = TABLE_ENTRIES; at < made.length; at++) {
    const previous = made[at - TABLE_ENTRIES] as number
    made[at] = (made[previous & 0xff] as number) ^ (previous >>> 8)
  }
  return made
}
