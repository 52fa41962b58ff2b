/** A link without transport: what is sent stays in the test's hand. */
import type { Link } from '../../../src/ports/net.ts'

export class MemoryLink implements Link {
  readonly id = 1
  readonly peer = 'memory'
  readonly closable: boolean
  queuedBytes = 0
  readonly sent: Uint8Array[] = []
  isClosed = false

  constructor(closable = true) {
    this.closable = closable
  }

  send(frames: readonly Uint8Array[]): void {
    if (!this.isClosed) this.sent.push(Buffer.concat(frames))
  }

  close(): void {
    this.isClosed = true
  }

  /** Correlation ids of what was sent, in order. */
  get answered(): number[] {
    return this.sent.map((message) => Buffer.from(message).readInt32BE(0))
  }
}
