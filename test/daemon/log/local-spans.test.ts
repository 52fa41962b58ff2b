import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { findLocalSpans } from '../../../daemon/log/local-spans.ts'
import type { LocalSpan } from '../../../daemon/log/log-types.ts'
import type { PartitionLog } from '../../../daemon/log/partition-log.ts'
import { batchBytesAt, findBatchDefect, lastOffsetAt } from '../../../src/record/batch-layout.ts'
import { recordsOf } from '../batches.ts'
import { append, LOG_PATH, LogWorld, values } from './log-world.ts'

const PLENTY = 1 << 30

/** What a reader of the files finds in a span. */
function bytesOf(world: LogWorld, span: LocalSpan): Uint8Array {
  const file = world.disk.open(span.path, 'read')
  expect(file.fileId()).toBe(span.fileId)
  const bytes = new Uint8Array(span.sizeBytes)
  expect(file.read(span.position, bytes)).toBe(span.sizeBytes)
  file.close()
  return bytes
}

/** Checks that spans are whole batches that follow one another. @returns their values from `offset` on */
function valuesIn(world: LogWorld, spans: readonly LocalSpan[], offset: number): string[] {
  const found: string[] = []
  let next = offset
  for (const span of spans) {
    const bytes = bytesOf(world, span)
    for (let at = 0; at < bytes.length; at += batchBytesAt(bytes, at)) {
      expect(findBatchDefect(bytes, at)).toBeUndefined()
      const lastOffset = lastOffsetAt(bytes, at)
      expect(lastOffset).toBeLessThan(span.nextOffset)
      if (lastOffset >= next) next = lastOffset + 1
    }
    expect(next).toBe(span.nextOffset)
    for (const record of recordsOf(bytes)) {
      if (record.offset >= offset) found.push(record.value ?? '')
    }
  }
  return found
}

describe('local spans', () => {
  it('are what a reader of the log would get, from any offset to any end, in about the size asked for', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 60 }),
        fc.constantFrom(300, 1000, 5000, 1 << 20),
        fc.constantFrom(1, 200, 4096),
        fc.array(fc.tuple(fc.nat(200), fc.nat(200), fc.constantFrom(1, 500, 3000, PLENTY)), {
          minLength: 1,
          maxLength: 6,
        }),
        async (counts, segmentBytes, indexIntervalBytes, questions) => {
          const world = new LogWorld()
          const log = await world.log({ segmentBytes, indexIntervalBytes })
          const all: string[] = []
          for (const count of counts) {
            const some = values(all.length, count, 30)
            append(log, some)
            all.push(...some)
          }
          await world.settle(log.flush())
          for (const [from, to, maxBytes] of questions) {
            const offset = from % (all.length + 1)
            const endOffset = to % (all.length + 1)
            const spans = log.localSpans({ offset, endOffset, maxBytes })
            const found = valuesIn(world, spans, offset)
            const end = spans.at(-1)?.nextOffset ?? offset
            expect(found).toEqual(all.slice(offset, Math.max(offset, end)))
            if (spans.length > 0) expect(end).toBeLessThanOrEqual(endOffset)
            // Without an index nothing can be said inside of a segment; from one end to the other all can.
            const isWhole = offset === 0 && endOffset === all.length && maxBytes === PLENTY
            if (isWhole) expect(end).toBe(all.length)
          }
          await world.close()
        },
      ),
      { numRuns: 60 },
    )
  })

  it('hold nothing that is not durable', async () => {
    const world = new LogWorld()
    const log = await world.log({ flushMessages: 1000, flushMs: 1_000_000, indexIntervalBytes: 1 })
    for (let index = 0; index < 10; index++) append(log, values(index * 2, 2, 40))
    expect(log.localSpans({ offset: 0, endOffset: 20, maxBytes: PLENTY })).toEqual([])
    await world.settle(log.flush())
    const spans = log.localSpans({ offset: 0, endOffset: 20, maxBytes: PLENTY })
    expect(valuesIn(world, spans, 0)).toEqual(values(0, 20, 40))
    for (let index = 10; index < 15; index++) append(log, values(index * 2, 2, 40))
    const before = log.localSpans({ offset: 0, endOffset: 30, maxBytes: PLENTY })
    expect(before.at(-1)?.nextOffset).toBeLessThanOrEqual(20)
    await world.close()
  })

  it('end before damage that is known, begin behind it, and leave a read to find what is not', async () => {
    const world = new LogWorld()
    const log = await world.log({ indexIntervalBytes: 1 })
    for (let index = 0; index < 10; index++) append(log, values(index * 2, 2, 40))
    await world.settle(log.flush())
    const path = `${LOG_PATH}/00000000000000000000.log`
    const size = (world.disk.readFile(path) ?? new Uint8Array(0)).length / 10
    const file = world.disk.open(path, 'write')
    file.write(size * 4 + 80, [Uint8Array.of(0xff, 0xff, 0xff)])
    file.close()
    log.core.cache.clear()
    expect(spansOf(log, 0).at(-1)?.nextOffset).toBe(20)
    await expect(world.settle(log.read({ offset: 8, maxBytes: 1000 }))).rejects.toMatchObject({
      code: 'DATA_DAMAGED',
    })
    const before = spansOf(log, 0)
    expect(valuesIn(world, before, 0)).toEqual(values(0, 8, 40))
    expect(spansOf(log, 8)).toEqual([])
    expect(valuesIn(world, spansOf(log, 10), 10)).toEqual(values(10, 10, 40))
    await world.close()
  })

  it('are none in a closed log, and none where an index does not fit', async () => {
    const world = new LogWorld()
    const log = await world.log({ indexIntervalBytes: 1 })
    for (let index = 0; index < 10; index++) append(log, values(index * 2, 2, 40))
    await world.settle(log.flush())
    const { offsetIndex } = log.core.active
    const entry = offsetIndex.entry(3)
    offsetIndex.truncateToOffset(world.disk, entry.offset)
    offsetIndex.append(entry.offset, entry.position + 1)
    expect(spansOf(log, entry.offset + 1)).toEqual([])
    await world.close()
    expect(() => findLocalSpans(log.core, { offset: 0, endOffset: 20, maxBytes: 1 })).toThrow(
      'closed',
    )
  })
})

function spansOf(log: PartitionLog, offset: number): LocalSpan[] {
  return log.localSpans({ offset, endOffset: log.logEndOffset, maxBytes: PLENTY })
}
