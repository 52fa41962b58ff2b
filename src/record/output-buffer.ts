/**
 * A growing buffer for output that is filled, written out and filled again. Owns its memory; grows by doubling and never
 * shrinks, so its owner bounds what goes in. `bytes` and `view` change when it grows: take them anew after reserve().
 * One that was given a home (memory that kernels write into) leaves it when it grows and returns when it is cleared.
 */
const SLACK_BYTES = 32

export class OutputBuffer {
  bytes: Uint8Array
  view: DataView
  /** Bytes filled. */
  length = 0
  /** At the end of `bytes`: fast loops may overwrite them, nothing else goes there. */
  readonly slackBytes: number
  readonly #home: Uint8Array | undefined

  /** @param home  its last `slackBytes` are slack */
  constructor(
    capacityBytes = 64 * 1024,
    home?: { readonly bytes: Uint8Array; readonly slackBytes: number },
  ) {
    this.#home = home?.bytes
    this.slackBytes = Math.max(SLACK_BYTES, home?.slackBytes ?? 0)
    this.bytes = home?.bytes ?? Buffer.allocUnsafeSlow(capacityBytes + SLACK_BYTES)
    this.view = new DataView(this.bytes.buffer, this.bytes.byteOffset, this.bytes.byteLength)
  }

  /** Not grown out of the memory it was given. */
  get isAtHome(): boolean {
    return this.bytes === this.#home
  }

  /** Makes room for `count` more bytes, and for a few beyond them that fast loops may overwrite. */
  reserve(count: number): void {
    const needed = this.length + count + this.slackBytes
    if (needed <= this.bytes.length) return
    const grown = Buffer.allocUnsafeSlow(Math.max(needed, this.bytes.length * 2))
    grown.set(this.bytes.subarray(0, this.length))
    this.bytes = grown
    this.view = new DataView(grown.buffer, grown.byteOffset, grown.byteLength)
  }

  append(bytes: Uint8Array, start = 0, end = bytes.length): void {
    const count = end - start
    this.reserve(count)
    this.bytes.set(
      start === 0 && end === bytes.length ? bytes : bytes.subarray(start, end),
      this.length,
    )
    this.length += count
  }

  appendByte(byte: number): void {
    this.reserve(1)
    this.bytes[this.length++] = byte
  }

  /** What is filled, without a copy: valid until the next reserve, append or clear. */
  filled(): Uint8Array {
    return this.bytes.subarray(0, this.length)
  }

  clear(): void {
    this.length = 0
    const home = this.#home
    if (home === undefined || this.bytes === home) return
    this.bytes = home
    this.view = new DataView(home.buffer, home.byteOffset, home.byteLength)
  }
}
