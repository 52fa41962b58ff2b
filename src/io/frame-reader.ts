/**
 * Cuts a byte stream into messages of Kafka's framing: int32 size, then so many bytes.
 *
 * Invariant: `held` is the sum of the chunks' unread bytes; nothing is allocated for bytes that have not arrived.
 */
import { StreamError } from '../base/errors.ts'

const SIZE_BYTES = 4

export class FrameReader {
  messageBytesMax: number
  private chunks: Uint8Array[] = []
  /** Read position in the first chunk. */
  private at = 0
  private held = 0
  /** Size of the message being read; -1 while its size is not known. */
  private wanted = -1

  constructor(messageBytesMax: number) {
    this.messageBytesMax = messageBytesMax
  }

  /** The chunk belongs to the reader, and to the messages cut out of it, from here on. */
  push(chunk: Uint8Array): void {
    if (chunk.length === 0) return
    this.chunks.push(chunk)
    this.held += chunk.length
  }

  /**
   * The next whole message, or undefined until more is pushed.
   * @throws StreamError MALFORMED_MESSAGE for a size that is negative or beyond the limit; the stream is lost then
   */
  next(): Uint8Array | undefined {
    if (this.wanted < 0) {
      if (this.held < SIZE_BYTES) return undefined
      const size = this.take(SIZE_BYTES)
      this.wanted = new DataView(size.buffer, size.byteOffset).getInt32(0)
      if (this.wanted < 0 || this.wanted > this.messageBytesMax) {
        throw new StreamError(
          'MALFORMED_MESSAGE',
          `a frame of ${this.wanted} bytes: the limit is ${this.messageBytesMax}`,
        )
      }
    }
    if (this.held < this.wanted) return undefined
    const message = this.take(this.wanted)
    this.wanted = -1
    return message
  }

  /** Removes `count` held bytes: a view when they lie in one chunk, else one copy. */
  private take(count: number): Uint8Array {
    this.held -= count
    const first = this.chunks[0]
    if (first === undefined) return new Uint8Array(0)
    if (first.length - this.at >= count) {
      const view = first.subarray(this.at, this.at + count)
      this.at += count
      if (this.at === first.length) this.dropChunks(1)
      return view
    }
    return this.gather(count)
  }

  private gather(count: number): Uint8Array {
    const out = new Uint8Array(count)
    let filled = 0
    let used = 0
    while (filled < count) {
      const chunk = this.chunks[used] as Uint8Array
      const part = Math.min(count - filled, chunk.length - this.at)
      out.set(chunk.subarray(this.at, this.at + part), filled)
      filled += part
      this.at += part
      if (this.at < chunk.length) break
      used += 1
      this.at = 0
    }
    if (used > 0) {
      const at = this.at
      this.dropChunks(used)
      this.at = at
    }
    return out
  }

  private dropChunks(count: number): void {
    this.chunks = count === this.chunks.length ? [] : this.chunks.slice(count)
    this.at = 0
  }
}
