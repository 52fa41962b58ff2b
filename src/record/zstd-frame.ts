/**
 * Where the frames of zstd data end. Node's synchronous decompression stops after the first frame, or does not,
 * depending on how the output fills its chunks, and says nothing about what it left; so frames are told apart here.
 *
 *   int32 LE FD2FB528 · descriptor · [window 1] · [dictionary id 0–4] · [content size 0–8]
 *   { int24 LE: bit 0 last, bits 1–2 type (0 raw, 1 one byte repeated, 2 compressed), size above }*
 *   [content checksum 4]
 *   or int32 LE 184D2A50–5F · int32 LE size · bytes to be skipped
 *
 * Source: RFC 8878, section 3.
 */
const MAGIC = 0xfd2fb528
const SKIPPABLE_MAGIC = 0x184d2a50
const DICTIONARY_ID_BYTES = [0, 1, 2, 4] as const
const CONTENT_SIZE_BYTES = [0, 2, 4, 8] as const
const BLOCK_REPEATED = 1
const BLOCK_RESERVED = 3

/**
 * @returns  the frames of data, without skippable ones, as views
 * @throws Error for bytes that are not whole frames
 */
export function splitZstdFrames(bytes: Uint8Array): Uint8Array[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const frames: Uint8Array[] = []
  let at = 0
  do {
    const magic = view.getUint32(at, true)
    if (((magic ^ SKIPPABLE_MAGIC) & ~0xf) === 0) {
      at += 8 + view.getUint32(at + 4, true)
      continue
    }
    if (magic !== MAGIC) throw new Error('no zstd frame')
    const end = findFrameEnd(view, at)
    frames.push(bytes.subarray(at, end))
    at = end
  } while (at < bytes.length)
  if (at > bytes.length) throw new Error('a zstd frame that ends early')
  return frames
}

/** Reading beyond the view throws a RangeError, and what it returns may lie beyond by the last block. */
function findFrameEnd(view: DataView, start: number): number {
  const descriptor = view.getUint8(start + 4)
  const isSingleSegment = (descriptor & 0x20) !== 0
  const contentSizeCode = descriptor >> 6
  const contentSizeBytes =
    contentSizeCode === 0 && isSingleSegment ? 1 : (CONTENT_SIZE_BYTES[contentSizeCode] as number)
  let at =
    start +
    5 +
    (isSingleSegment ? 0 : 1) +
    (DICTIONARY_ID_BYTES[descriptor & 3] as number) +
    contentSizeBytes
  let isLast = false
  while (!isLast) {
    const header = view.getUint16(at, true) | (view.getUint8(at + 2) << 16)
    isLast = (header & 1) !== 0
    const type = (header >> 1) & 3
    if (type === BLOCK_RESERVED) throw new Error('a zstd block of the reserved type')
    at += 3 + (type === BLOCK_REPEATED ? 1 : header >> 3)
  }
  return at + ((descriptor & 4) !== 0 ? 4 : 0)
}
