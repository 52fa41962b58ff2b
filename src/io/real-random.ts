/**
 * Cryptographic randomness: the kernel's, drawn from a pool so that a draw costs no system call. Read from the device, because
 * loading node:crypto for the same bytes would cost a command 4 ms at its start.
 */
import { closeSync, openSync, readSync } from 'node:fs'
import type { Random } from '../ports/random.ts'

const POOL_BYTES = 4096
const FRACTION_BYTES = 8

export class RealRandom implements Random {
  private readonly pool = new Uint8Array(POOL_BYTES)
  private readonly view = new DataView(this.pool.buffer)
  private used = POOL_BYTES

  bytes(count: number): Uint8Array {
    const out = new Uint8Array(count)
    if (count > POOL_BYTES) return fill(out)
    const from = this.take(count)
    out.set(this.pool.subarray(from, from + count))
    return out
  }

  fraction(): number {
    const at = this.take(FRACTION_BYTES)
    // 53 bits: 21 high and 32 low, the most a double in [0, 1) can hold evenly.
    const high = this.view.getUint32(at) >>> 11
    const low = this.view.getUint32(at + 4)
    return (high * 0x1_0000_0000 + low) / 0x20_0000_0000_0000
  }

  /** Position of `count` unused bytes of the pool. */
  private take(count: number): number {
    if (this.used + count > POOL_BYTES) {
      fill(this.pool)
      this.used = 0
    }
    const at = this.used
    this.used += count
    return at
  }
}

function fill(out: Uint8Array): Uint8Array {
  const descriptor = openSync('/dev/urandom', 'r')
  try {
    let filled = 0
    while (filled < out.length) {
      filled += readSync(descriptor, out, filled, out.length - filled, null)
    }
  } finally {
    closeSync(descriptor)
  }
  return out
}
