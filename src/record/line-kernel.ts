/**
 * The scalar encoder of delimited lines into records: the hottest loop of `stream produce`. A line becomes a record with null
 * key, no headers and timestamp delta 0:
 *
 *     length · 0 attributes · 0 timestamp delta · offset delta · 1 (key −1) · value length · value · 0 headers
 *
 * The header's length is guessed to be that of the record before. The value is copied to where that guess puts it in the
 * same pass, four bytes at a time, that looks for the delimiter; then the header is written in front. Only when the
 * guess was wrong is the value copied again. Lines longer than SCAN_BYTES_MAX go on with memchr and memcpy.
 * Bench: test/bench/record-kernel.ts; numbers: performance.md section 2.
 */
import { putVarint, varintBytes } from './varint.ts'

/** Where memchr and memcpy overtake the fused loop. */
const SCAN_BYTES_MAX = 384
const ATTRIBUTES_TO_KEY_BYTES = 3

/** Input and result of a kernel; kept and reused by its owner, so that a call allocates nothing. */
export class LineJob {
  source: Uint8Array = new Uint8Array(0)
  sourceView: DataView = new DataView(this.source.buffer)
  sourceBuffer: Buffer = Buffer.alloc(0)
  /** In: the first byte to read. Out: after the last delimiter taken. */
  sourceAt = 0
  /** Exclusive. */
  sourceEnd = 0
  target: Uint8Array = new Uint8Array(0)
  targetView: DataView = new DataView(this.target.buffer)
  /** In: where the next record goes. Out: after the last record written. */
  targetAt = 0
  /** No record may reach beyond; exclusive. */
  targetEnd = 0
  delimiter = 10
  /** In: offset delta of the next record. Out: as many more as were written. */
  count = 0
  /** Out: a whole or partial line is left that does not fit the target. */
  isFull = false

  setSource(source: Uint8Array): void {
    if (source === this.source) return
    this.source = source
    this.sourceView = new DataView(source.buffer, source.byteOffset, source.byteLength)
    this.sourceBuffer = Buffer.from(source.buffer, source.byteOffset, source.byteLength)
  }

  setTarget(target: Uint8Array): void {
    this.target = target
    this.targetView = new DataView(target.buffer, target.byteOffset, target.byteLength)
  }
}

/** Takes whole lines until the source ends or the target is full. */
export function encodeLinesScalar(job: LineJob): void {
  const { source, sourceView, target, targetView, delimiter, sourceEnd, targetEnd } = job
  const pattern = delimiter * 0x01010101
  let from = job.sourceAt
  let to = job.targetAt
  let count = job.count
  // Value length and bytes in front of the value: those of the record before.
  let headerBytes = 10
  let isFull = false
  while (from < sourceEnd) {
    // The value may end at most here: the header and one byte for the header count must fit too.
    const roomEnd = from + (targetEnd - to - headerBytes - 1)
    const scanEnd = Math.min(sourceEnd, roomEnd, from + SCAN_BYTES_MAX)
    const wordEnd = scanEnd - 3
    const shift = to + headerBytes - from
    let at = from
    let mask = 0
    while (at < wordEnd) {
      const word = sourceView.getInt32(at, true)
      targetView.setInt32(at + shift, word, true)
      const zeroed = word ^ pattern
      mask = (zeroed - 0x01010101) & ~zeroed & -0x7f7f7f80
      if (mask !== 0) break
      at += 4
    }
    let copiedEnd: number
    if (mask !== 0) {
      at += (31 - Math.clz32(mask & -mask)) >> 3
      copiedEnd = at
    } else {
      while (at < scanEnd && source[at] !== delimiter) {
        target[at + shift] = source[at] as number
        at++
      }
      copiedEnd = at
      if (at >= scanEnd) {
        if (at === sourceEnd) break
        const found = job.sourceBuffer.indexOf(delimiter, at)
        if (found < 0 || found >= sourceEnd) {
          // Whether a line without end is too long for the room left is known already.
          isFull = sourceEnd >= roomEnd
          break
        }
        at = found
      }
    }
    const valueBytes = at - from
    const valueLength = valueBytes << 1
    const offsetDelta = count << 1
    const offsetBytes = varintBytes(offsetDelta)
    const bodyLength = (4 + offsetBytes + varintBytes(valueLength) + valueBytes) << 1
    const header =
      varintBytes(bodyLength) + ATTRIBUTES_TO_KEY_BYTES + offsetBytes + varintBytes(valueLength)
    if (to + header + valueBytes + 1 > targetEnd) {
      isFull = true
      break
    }
    if (header !== headerBytes) {
      headerBytes = header
      copiedEnd = from
    }
    if (copiedEnd < at) copy(job, copiedEnd, at, to + header + copiedEnd - from)
    let write = to
    if (bodyLength < 0x80) {
      target[write] = bodyLength
      write += 1
    } else if (bodyLength < 0x4000) {
      target[write] = bodyLength | 0x80
      target[write + 1] = bodyLength >> 7
      write += 2
    } else {
      write = putVarint(target, write, bodyLength)
    }
    target[write] = 0
    target[write + 1] = 0
    write += 2
    if (offsetDelta < 0x80) {
      target[write] = offsetDelta
      write += 1
    } else if (offsetDelta < 0x4000) {
      target[write] = offsetDelta | 0x80
      target[write + 1] = offsetDelta >> 7
      write += 2
    } else {
      write = putVarint(target, write, offsetDelta)
    }
    target[write] = 1
    write += 1
    if (valueLength < 0x80) {
      target[write] = valueLength
      write += 1
    } else if (valueLength < 0x4000) {
      target[write] = valueLength | 0x80
      target[write + 1] = valueLength >> 7
      write += 2
    } else {
      write = putVarint(target, write, valueLength)
    }
    to = write + valueBytes
    target[to] = 0
    to++
    count++
    from = at + 1
  }
  job.sourceAt = from
  job.targetAt = to
  job.count = count
  job.isFull = isFull
}

/** Copies source [from, end) to `to`, where a word more may be overwritten: both lie in front of what is written next. */
function copy(job: LineJob, from: number, end: number, to: number): void {
  const { source, target } = job
  if (end - from > 256) {
    target.set(source.subarray(from, end), to)
    return
  }
  const { sourceView, targetView } = job
  const shift = to - from
  let at = from
  for (; at < end - 3; at += 4) targetView.setInt32(at + shift, sourceView.getInt32(at, true), true)
  for (; at < end; at++) target[at + shift] = source[at] as number
}
