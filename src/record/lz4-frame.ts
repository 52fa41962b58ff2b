/**
 * LZ4 frames, written and read around a native block codec: the native frame decoder has no bound on its output and is
 * eight times slower than its block decoder (performance.md section 2).
 *
 *   int32 LE 184D2204 · FLG · BD · [content size 8] · [dictionary id 4] · header checksum 1
 *   { int32 LE size (bit 31: stored as it is) · bytes · [block checksum 4] }*
 *   int32 LE 0 · [content checksum 4]
 *
 * Written: version 1, independent blocks of 64 KiB, no checksums (the batch has its CRC), no content size: what Java
 * writes and the strictest reader takes (it refuses linked blocks). Read: all of the above, linked blocks, and several
 * frames in a row. These numbers are permanent.
 * Source: lz4_Frame_format.md; Kafka Lz4BlockInputStream.java.
 */
import { StreamError } from '../base/errors.ts'
import { loadPackage } from './native-packages.ts'
import { xxhash32 } from './xxhash32.ts'

const MAGIC = 0x184d2204
const FLG_VERSION_1 = 0x40
const FLG_INDEPENDENT = 0x20
const FLG_BLOCK_CHECKSUM = 0x10
const FLG_CONTENT_SIZE = 0x08
const FLG_CONTENT_CHECKSUM = 0x04
const FLG_DICTIONARY_ID = 0x01
const BLOCK_BYTES = 64 * 1024
const STORED_BIT = 0x8000_0000
const HISTORY_BYTES = 64 * 1024
/** LZ4's densest element adds 255 bytes for each of its own. */
const RATIO_MAX = 256

interface Lz4 {
  /** The size of the input as int32 LE, then the block. */
  compressSync(input: Uint8Array): Uint8Array
  uncompressSync(input: Uint8Array, dictionary?: Uint8Array): Uint8Array
}

/** @throws StreamError RUNTIME_MISSING */
export function compressLz4(bytes: Uint8Array): Uint8Array {
  const lz4 = loadPackage<Lz4>('lz4-napi')
  const blockCount = Math.ceil(bytes.length / BLOCK_BYTES)
  // A block is stored as it is when it would not shrink, so this is enough.
  const output = Buffer.allocUnsafeSlow(7 + blockCount * 4 + bytes.length + 4)
  output.writeUInt32LE(MAGIC, 0)
  output[4] = FLG_VERSION_1 | FLG_INDEPENDENT
  output[5] = 0x40
  output[6] = headerChecksum(output, 4, 6)
  let at = 7
  for (let from = 0; from < bytes.length; from += BLOCK_BYTES) {
    const input = bytes.subarray(from, Math.min(from + BLOCK_BYTES, bytes.length))
    // 4 bytes of size that the library puts in front do not belong to the block.
    const block = lz4.compressSync(input)
    const blockBytes = block.length - 4
    if (blockBytes < input.length) {
      output.writeUInt32LE(blockBytes, at)
      output.set(block.subarray(4), at + 4)
      at += 4 + blockBytes
    } else {
      output.writeUInt32LE((input.length | STORED_BIT) >>> 0, at)
      output.set(input, at + 4)
      at += 4 + input.length
    }
  }
  output.writeUInt32LE(0, at)
  return output.subarray(0, at + 4)
}

/**
 * @param outputMax  bytes of output allowed
 * @throws StreamError DECOMPRESSION_LIMIT, RUNTIME_MISSING; Error for bytes that are no whole frames
 */
export function decompressLz4(bytes: Uint8Array, outputMax: number): Uint8Array {
  const output = new Lz4Output(bytes.length, outputMax)
  let at = 0
  do {
    at = readFrame(bytes, at, output)
  } while (at < bytes.length)
  return output.bytes.subarray(0, output.length)
}

/** @returns  the end of the frame */
function readFrame(bytes: Uint8Array, start: number, output: Lz4Output): number {
  need(bytes, start, 7)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (view.getUint32(start, true) !== MAGIC) throw new Error('no lz4 frame')
  const flg = bytes[start + 4] as number
  const blockBytesMax = readBlockBytesMax(bytes[start + 5] as number)
  if ((flg & 0xc2) !== FLG_VERSION_1) throw new Error(`lz4 frame flags ${flg}`)
  if ((flg & FLG_DICTIONARY_ID) !== 0) throw new Error('an lz4 frame with a dictionary')
  const descriptorBytes = 2 + ((flg & FLG_CONTENT_SIZE) !== 0 ? 8 : 0)
  need(bytes, start, 4 + descriptorBytes + 1)
  let at = start + 4 + descriptorBytes
  if (bytes[at] !== headerChecksum(bytes, start + 4, at)) throw new Error('lz4 header checksum')
  at++
  const frameStart = output.length
  for (;;) {
    need(bytes, at, 4)
    const size = view.getUint32(at, true)
    at += 4
    if (size === 0) break
    const blockBytes = size & ~STORED_BIT
    if (blockBytes > blockBytesMax) throw new Error(`an lz4 block of ${blockBytes} bytes`)
    const checksumBytes = (flg & FLG_BLOCK_CHECKSUM) !== 0 ? 4 : 0
    need(bytes, at, blockBytes + checksumBytes)
    const block = bytes.subarray(at, at + blockBytes)
    if (checksumBytes > 0 && view.getUint32(at + blockBytes, true) !== xxhash32(block)) {
      throw new Error('lz4 block checksum')
    }
    if (size >= STORED_BIT) output.append(block)
    else {
      const linked = (flg & FLG_INDEPENDENT) === 0
      output.append(
        decodeBlock(block, blockBytesMax, linked ? output.history(frameStart) : undefined),
      )
    }
    at += blockBytes + checksumBytes
  }
  if ((flg & FLG_CONTENT_SIZE) !== 0) {
    const size = view.getUint32(start + 6, true) + view.getUint32(start + 10, true) * 2 ** 32
    if (size !== output.length - frameStart) throw new Error('lz4 content size')
  }
  if ((flg & FLG_CONTENT_CHECKSUM) !== 0) {
    need(bytes, at, 4)
    if (view.getUint32(at, true) !== xxhash32(output.bytes, frameStart, output.length)) {
      throw new Error('lz4 content checksum')
    }
    at += 4
  }
  return at
}

function decodeBlock(
  block: Uint8Array,
  blockBytesMax: number,
  history: Uint8Array | undefined,
): Uint8Array {
  // The library allocates the size that stands in front, so it is told the most that this block can make.
  const sized = new Uint8Array(4 + block.length)
  const sizeMax = Math.min(blockBytesMax, block.length * RATIO_MAX)
  new DataView(sized.buffer).setUint32(0, sizeMax, true)
  sized.set(block, 4)
  const lz4 = loadPackage<Lz4>('lz4-napi')
  return history === undefined ? lz4.uncompressSync(sized) : lz4.uncompressSync(sized, history)
}

function readBlockBytesMax(bd: number): number {
  const code = (bd >> 4) & 7
  if (code < 4 || (bd & 0x8f) !== 0) throw new Error(`lz4 block descriptor ${bd}`)
  return 1 << (8 + 2 * code)
}

function headerChecksum(bytes: Uint8Array, start: number, end: number): number {
  return (xxhash32(bytes, start, end) >>> 8) & 0xff
}

function need(bytes: Uint8Array, at: number, count: number): void {
  if (bytes.length - at < count) throw new Error('an lz4 frame that ends early')
}

/** Grows by doubling, never beyond its limit. */
class Lz4Output {
  bytes: Uint8Array
  length = 0
  readonly #bytesMax: number

  constructor(inputBytes: number, bytesMax: number) {
    this.#bytesMax = bytesMax
    this.bytes = Buffer.allocUnsafeSlow(Math.min(bytesMax, inputBytes * 4))
  }

  append(block: Uint8Array): void {
    const length = this.length + block.length
    if (length > this.#bytesMax) {
      throw new StreamError(
        'DECOMPRESSION_LIMIT',
        `the lz4 data of a batch expands beyond ${this.#bytesMax} bytes`,
      )
    }
    if (length > this.bytes.length) {
      const grown = Buffer.allocUnsafeSlow(
        Math.min(this.#bytesMax, Math.max(length, this.bytes.length * 2)),
      )
      grown.set(this.bytes.subarray(0, this.length))
      this.bytes = grown
    }
    this.bytes.set(block, this.length)
    this.length = length
  }

  /** What a linked block may refer to. */
  history(frameStart: number): Uint8Array | undefined {
    const from = Math.max(frameStart, this.length - HISTORY_BYTES)
    return from === this.length ? undefined : this.bytes.subarray(from, this.length)
  }
}
