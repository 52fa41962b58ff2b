/** What the cache of recent batches keeps, and of whose memory. */
import { describe, expect, it } from 'vitest'
import { BatchCache } from '../../../daemon/log/batch-cache.ts'

function read(cache: BatchCache, log = cache.forLog()) {
  return {
    log,
    offsets: (from: number) =>
      log.read(from, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY, true)?.nextOffset,
    bytes: (from: number) =>
      log.read(from, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY, true)?.bytes ?? [],
  }
}

describe('BatchCache', () => {
  it('copies a small batch, which may be a view of something larger; a large one is kept as it came', () => {
    const { log, bytes } = read(new BatchCache({ bytesMax: 1_000_000 }))
    // As a message of libzmq: nothing shows that its memory is a part of a larger block.
    const small = new Uint8Array(300).fill(1)
    const large = new Uint8Array(20_000).fill(2)
    log.add(small, 0, 0)
    log.add(large, 1, 5)
    const [first, second] = bytes(0)
    expect(first).toEqual(Buffer.from(small))
    expect(first?.buffer).not.toBe(small.buffer)
    expect(second).toBe(large)
    small.fill(9)
    expect(first?.[0]).toBe(1)
  })

  it('holds no more than its bytes over all logs; the oldest batch of all goes first', () => {
    const cache = new BatchCache({ bytesMax: 100_000 })
    const [one, other] = [read(cache), read(cache)]
    one.log.add(new Uint8Array(40_000), 0, 9)
    other.log.add(new Uint8Array(40_000), 0, 4)
    one.log.add(new Uint8Array(40_000), 10, 19)
    expect(cache.bytes).toBeLessThanOrEqual(100_000)
    expect(one.offsets(0)).toBeUndefined()
    expect(one.offsets(10)).toBe(20)
    expect(other.offsets(0)).toBe(5)
  })

  it('forgets what was cut off or compacted, and what is larger than all of it', () => {
    const cache = new BatchCache({ bytesMax: 100_000 })
    const { log, offsets } = read(cache)
    for (let offset = 0; offset < 5; offset += 1) log.add(new Uint8Array(100), offset, offset)
    log.truncate(3)
    expect(offsets(0)).toBe(3)
    log.dropBelow(2)
    expect(log.startOffset).toBe(2)
    log.clear()
    expect(cache.bytes).toBe(0)
    log.add(new Uint8Array(200_000), 3, 3)
    expect(offsets(3)).toBeUndefined()
    expect(cache.bytes).toBe(0)
  })
})
