/**
 * The five codecs of a record batch and their framings (kafka-protocol.md section 7.4). Owns the numbers and names of
 * codecs, and the bounds under which foreign bytes are expanded: no output beyond `bytesMax`, none beyond `ratioMax`
 * times the input (once past RATIO_FREE_BYTES), and no allocation that the input could not fill.
 *
 *   gzip    RFC 1952 members
 *   snappy  written as xerial's blocks (what Java writes, what all known clients read); read as xerial or one raw block
 *   lz4     lz4-frame.ts
 *   zstd    frames
 *
 * All is synchronous: a batch is expanded where it is used, and thread-pool work would have no fixed order.
 */
import { isStreamError, StreamError } from '../base/errors.ts'
import { int32At, putInt32 } from './batch-layout.ts'
import { compressLz4, decompressLz4 } from './lz4-frame.ts'
import { loadPackage, loadZlib } from './native-packages.ts'
import { splitZstdFrames } from './zstd-frame.ts'

/** By number: permanent. */
export const codecs = ['none', 'gzip', 'snappy', 'lz4', 'zstd'] as const
export type Codec = (typeof codecs)[number]

/** What the daemon and the client allow one batch to expand to unless told otherwise. */
export const DECOMPRESSED_BYTES_MAX = 128 * 1024 * 1024
/** Highest honest expansion; a batch of equal lines compresses further only while it is small. */
const RATIO_MAX = 1024
const RATIO_FREE_BYTES = 4 * 1024 * 1024
/** zstd's own default for streams, and enough for its level 22 (128 MiB of address space, touched only when filled). */
const ZSTD_WINDOW_LOG_MAX = 27
const ZSTD_LEVEL = 1
const GZIP_LEVEL = 6
const CHUNK_BYTES_MIN = 16 * 1024
const CHUNK_BYTES_MAX = 4 * 1024 * 1024

const XERIAL_HEADER = Uint8Array.of(
  ...[0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0x00],
  ...[0, 0, 0, 1],
  ...[0, 0, 0, 1],
)
/** Java's own block size. */
const XERIAL_BLOCK_BYTES = 32 * 1024
/** snappy's densest element is three bytes for 64. */
const SNAPPY_RATIO_MAX = 22

export interface DecompressLimits {
  /** Of output. Default DECOMPRESSED_BYTES_MAX. */
  readonly bytesMax?: number
  /** Output bytes for each input byte, where the output exceeds 4 MiB. Default 1024. */
  readonly ratioMax?: number
}

interface Snappy {
  compressSync(input: Uint8Array): Uint8Array
  uncompressSync(input: Uint8Array, options: { asBuffer: true }): Uint8Array
}

export function codecId(codec: Codec): number {
  return codecs.indexOf(codec)
}

/** @throws StreamError UNSUPPORTED_COMPRESSION for a number without codec */
export function codecFromId(id: number): Codec {
  const codec = codecs[id]
  if (codec === undefined) throw new StreamError('UNSUPPORTED_COMPRESSION', `unknown codec ${id}`)
  return codec
}

/**
 * @param level  of gzip (1–9, default 6) and zstd (−7–22, default 1); the others have none
 * @returns  fresh memory, except for 'none', which returns `bytes` itself
 * @throws StreamError RUNTIME_MISSING when the codec's package has no binary on this machine
 */
export function compress(codec: Codec, bytes: Uint8Array, level?: number): Uint8Array {
  switch (codec) {
    case 'none':
      return bytes
    case 'gzip':
      return loadZlib().gzipSync(bytes, {
        level: level ?? GZIP_LEVEL,
        chunkSize: compressChunkBytes(bytes.length),
      })
    case 'snappy':
      return compressXerial(bytes)
    case 'lz4':
      return compressLz4(bytes)
    case 'zstd':
      return compressZstd(bytes, level ?? ZSTD_LEVEL)
  }
}

/**
 * @returns  fresh memory, except for 'none', which returns `bytes` itself
 * @throws StreamError DECOMPRESSION_LIMIT when the output would pass the limits; CORRUPT_BATCH for bytes that are not
 *   of this codec or end early; RUNTIME_MISSING as above
 */
export function decompress(
  codec: Codec,
  bytes: Uint8Array,
  limits: DecompressLimits = {},
): Uint8Array {
  const outputMax = outputBytesMax(bytes.length, limits)
  try {
    switch (codec) {
      case 'none':
        if (bytes.length > outputMax) throw limitError(codec, outputMax)
        return bytes
      case 'gzip':
        return loadZlib().gunzipSync(bytes, {
          maxOutputLength: outputMax,
          chunkSize: decompressChunkBytes(bytes.length, outputMax),
        })
      case 'snappy':
        return decompressSnappy(bytes, outputMax)
      case 'lz4':
        return decompressLz4(bytes, outputMax)
      case 'zstd':
        return decompressZstd(bytes, outputMax)
    }
  } catch (error) {
    if (isStreamError(error)) throw error
    if (error instanceof Error && 'code' in error && error.code === 'ERR_BUFFER_TOO_LARGE') {
      throw limitError(codec, outputMax)
    }
    throw new StreamError('CORRUPT_BATCH', `the ${codec} data of a batch cannot be expanded`, {
      cause: error,
    })
  }
}

function outputBytesMax(inputBytes: number, limits: DecompressLimits): number {
  const byRatio = Math.max(RATIO_FREE_BYTES, inputBytes * (limits.ratioMax ?? RATIO_MAX))
  return Math.max(1, Math.min(limits.bytesMax ?? DECOMPRESSED_BYTES_MAX, byRatio))
}

function limitError(codec: Codec, outputMax: number): StreamError {
  return new StreamError(
    'DECOMPRESSION_LIMIT',
    `the ${codec} data of a batch expands beyond ${outputMax} bytes`,
  )
}

/** One call into the library when the chunk holds the whole output (performance.md section 2). */
function compressChunkBytes(inputBytes: number): number {
  return clamp(inputBytes + (inputBytes >> 7) + 1024, CHUNK_BYTES_MIN, CHUNK_BYTES_MAX)
}

function decompressChunkBytes(inputBytes: number, outputMax: number): number {
  return clamp(Math.min(inputBytes * 8, outputMax), CHUNK_BYTES_MIN, CHUNK_BYTES_MAX)
}

function clamp(value: number, min: number, max: number): number {
  return Math.max(min, Math.min(max, value))
}

function compressXerial(bytes: Uint8Array): Uint8Array {
  const snappy = loadPackage<Snappy>('snappy')
  const blocks: Uint8Array[] = []
  let total = XERIAL_HEADER.length
  for (let at = 0; at < bytes.length; at += XERIAL_BLOCK_BYTES) {
    const block = snappy.compressSync(bytes.subarray(at, at + XERIAL_BLOCK_BYTES))
    blocks.push(block)
    total += 4 + block.length
  }
  const output = new Uint8Array(total)
  output.set(XERIAL_HEADER)
  let at = XERIAL_HEADER.length
  for (const block of blocks) {
    putInt32(output, at, block.length)
    output.set(block, at + 4)
    at += 4 + block.length
  }
  return output
}

function decompressSnappy(bytes: Uint8Array, outputMax: number): Uint8Array {
  if (!isXerial(bytes)) return decompressSnappyBlock(bytes, outputMax)
  const blocks: Uint8Array[] = []
  let total = 0
  let at = XERIAL_HEADER.length
  while (at < bytes.length) {
    const length = bytes.length - at >= 4 ? int32At(bytes, at) : -1
    at += 4
    if (length < 0 || length > bytes.length - at)
      throw new Error(`a snappy block of ${length} bytes`)
    const block = decompressSnappyBlock(bytes.subarray(at, at + length), outputMax - total)
    blocks.push(block)
    total += block.length
    at += length
  }
  const only = blocks[0]
  return blocks.length === 1 && only !== undefined ? only : concat(blocks, total)
}

function isXerial(bytes: Uint8Array): boolean {
  if (bytes.length < XERIAL_HEADER.length) return false
  for (let at = 0; at < 8; at++) if (bytes[at] !== XERIAL_HEADER[at]) return false
  return true
}

function decompressSnappyBlock(block: Uint8Array, outputMax: number): Uint8Array {
  // The library believes the length that stands in front, so it is judged here first.
  const claimed = readSnappyLength(block)
  if (claimed > block.length * SNAPPY_RATIO_MAX) {
    throw new Error(`a snappy block of ${block.length} bytes claims ${claimed}`)
  }
  if (claimed > outputMax) throw limitError('snappy', outputMax)
  return loadPackage<Snappy>('snappy').uncompressSync(block, { asBuffer: true })
}

function readSnappyLength(block: Uint8Array): number {
  let length = 0
  for (let index = 0; index < 5; index++) {
    const byte = block[index]
    if (byte === undefined) break
    length += (byte & 0x7f) * 2 ** (7 * index)
    if (byte < 0x80) return length
  }
  throw new Error('a snappy block without length')
}

function compressZstd(bytes: Uint8Array, level: number): Uint8Array {
  const { constants, zstdCompressSync } = loadZlib()
  return zstdCompressSync(bytes, {
    params: { [constants.ZSTD_c_compressionLevel]: level },
    chunkSize: compressChunkBytes(bytes.length),
    pledgedSrcSize: bytes.length,
  })
}

function decompressZstd(bytes: Uint8Array, outputMax: number): Uint8Array {
  const { constants, zstdDecompressSync } = loadZlib()
  const parts: Uint8Array[] = []
  let total = 0
  for (const frame of splitZstdFrames(bytes)) {
    const part = zstdDecompressSync(frame, {
      // 0 would mean no limit.
      maxOutputLength: Math.max(1, outputMax - total),
      chunkSize: decompressChunkBytes(frame.length, outputMax),
      params: { [constants.ZSTD_d_windowLogMax]: ZSTD_WINDOW_LOG_MAX },
    })
    total += part.length
    if (total > outputMax) throw limitError('zstd', outputMax)
    parts.push(part)
  }
  const only = parts[0]
  return parts.length === 1 && only !== undefined ? only : concat(parts, total)
}

function concat(parts: readonly Uint8Array[], total: number): Uint8Array {
  const output = new Uint8Array(total)
  let at = 0
  for (const part of parts) {
    output.set(part, at)
    at += part.length
  }
  return output
}
