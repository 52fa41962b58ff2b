/**
 * From a record's key to its partition, byte for byte as other clients do it, so that keys written by several programs
 * meet in one partition: murmur2 as in Java's default partitioner, crc32 as in librdkafka's `consistent`.
 */

export type PartitionerName = 'murmur2' | 'crc32'

const M = 0x5bd1e995
const SEED = 0x9747b28c

/** 32-bit murmur2 with Kafka's seed, as an unsigned number. Source: Kafka Utils.murmur2. */
export function murmur2(bytes: Uint8Array, start = 0, end = bytes.length): number {
  const length = end - start
  let h = SEED ^ length
  let at = start
  for (const last = start + (length & ~3); at < last; at += 4) {
    let k =
      (bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24)
    k = Math.imul(k, M)
    k ^= k >>> 24
    k = Math.imul(k, M)
    h = Math.imul(h, M) ^ k
  }
  const rest = length & 3
  if (rest === 3) h ^= (bytes[at + 2] as number) << 16
  if (rest >= 2) h ^= (bytes[at + 1] as number) << 8
  if (rest >= 1) h = Math.imul(h ^ (bytes[at] as number), M)
  h ^= h >>> 13
  h = Math.imul(h, M)
  h ^= h >>> 15
  return h >>> 0
}

let crc32Table: Uint32Array | undefined

/** CRC-32 (IEEE), as zlib's and librdkafka's. Not the checksum of batches, which is CRC-32C. */
export function crc32(bytes: Uint8Array, start = 0, end = bytes.length): number {
  crc32Table ??= makeCrc32Table()
  let crc = 0xffffffff
  for (let at = start; at < end; at++) {
    crc = (crc32Table[(crc ^ (bytes[at] as number)) & 0xff] as number) ^ (crc >>> 8)
  }
  return (crc ^ 0xffffffff) >>> 0
}

function makeCrc32Table(): Uint32Array {
  const table = new Uint32Array(256)
  for (let n = 0; n < 256; n++) {
    let c = n
    for (let bit = 0; bit < 8; bit++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1
    table[n] = c >>> 0
  }
  return table
}

/**
 * @param partitionCount  of the topic, at least 1
 * @returns  0 ≤ partition < partitionCount
 */
export function partitionForKey(
  name: PartitionerName,
  partitionCount: number,
  bytes: Uint8Array,
  start = 0,
  end = bytes.length,
): number {
  if (name === 'crc32') return crc32(bytes, start, end) % partitionCount
  return (murmur2(bytes, start, end) & 0x7fffffff) % partitionCount
}
