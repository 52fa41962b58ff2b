import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Epoch, PipeEpochs } from '../../cmd/pipe-epochs.ts'
import { EpochGrowth } from '../../cmd/pipe-limits.ts'
import { PieceCursor } from '../../cmd/pipe-pieces.ts'
import type { RecordsEvent } from '../../src/client/consumer-events.ts'
import { BatchBuilder } from '../../src/record/batch-builder.ts'
import { stampBatch } from '../../src/record/batch-layout.ts'

/** One batch of the records `first` … with these values. */
function event(first: number, count: number, partition = 0): RecordsEvent {
  const builder = new BatchBuilder(1 << 20, {})
  builder.reset({ timestampMs: 1 })
  for (let index = 0; index < count; index += 1) {
    const bytes = Buffer.from(`v${first + index}`)
    builder.append({ value: { bytes, start: 0, end: bytes.length } })
  }
  const bytes = Uint8Array.from(builder.finish({ codec: 'none' }))
  stampBatch(bytes, 0, { baseOffset: first, leaderEpoch: 0 })
  return {
    kind: 'records',
    topic: 't',
    partition,
    bytes,
    batches: [0],
    fromOffset: first,
    untilOffset: Number.POSITIVE_INFINITY,
    nextOffset: first + count,
    highWatermark: -1,
    lastStableOffset: -1,
    logStartOffset: -1,
  }
}

function machine(records: number, more: Partial<ConstructorParameters<typeof PipeEpochs>[0]> = {}) {
  return new PipeEpochs({
    limits: { records, bytes: 1e9, ms: 100 },
    countMax: Number.POSITIVE_INFINITY,
    isEager: false,
    stickyLanes: undefined,
    ...more,
  })
}

function offsetsOf({ pieces }: Epoch): number[] {
  const cursor = new PieceCursor()
  cursor.reset(pieces)
  const offsets: number[] = []
  while (cursor.next()) offsets.push(cursor.record.offset)
  return offsets
}

describe('epochs', () => {
  it('close by count, by time, and at the end of the partition', () => {
    const epochs = machine(4)
    epochs.add('t', 0, 0)
    epochs.take(event(0, 6), 0)
    const first = epochs.next(0) as Epoch
    expect(offsetsOf(first)).toEqual([0, 1, 2, 3])
    expect([first.startOffset, first.endOffset]).toEqual([0, 4])
    expect(epochs.next(1000)).toBeUndefined()
    epochs.done(first)
    expect(epochs.next(99)).toBeUndefined()
    expect(epochs.wakeAtMs(99)).toBe(100)
    const second = epochs.next(100) as Epoch
    expect(offsetsOf(second)).toEqual([4, 5])
    epochs.done(second)
    epochs.take(event(6, 1), 200)
    epochs.end('t', 0, 9)
    // Two wait for their transaction: no third one meanwhile.
    expect(epochs.next(300)).toBeUndefined()
    epochs.committed(first)
    const third = epochs.next(300) as Epoch
    expect(third.endOffset).toBe(9)
    epochs.done(third)
    expect(epochs.isDone).toBe(false)
    epochs.committed(second)
    epochs.committed(third)
    expect(epochs.isDone).toBe(true)
  })

  it('a position behind the last record moves without a child', () => {
    const epochs = machine(4)
    epochs.add('t', 0, 3)
    epochs.end('t', 0, 5)
    const empty = epochs.next(0) as Epoch
    expect([empty.records, empty.startOffset, empty.endOffset]).toEqual([0, 3, 5])
  })

  it('a retry is the same epoch; halves come in its place and in order', () => {
    const epochs = machine(4)
    epochs.add('t', 0, 0)
    epochs.take(event(0, 8), 0)
    const epoch = epochs.next(0) as Epoch
    epochs.retry(epoch, 50)
    expect(epochs.next(49)).toBeUndefined()
    expect(epochs.next(50)).toBe(epoch)
    expect(epoch.attempt).toBe(2)
    epochs.bisect(epoch)
    const left = epochs.next(50) as Epoch
    expect([offsetsOf(left), left.parent]).toEqual([[0, 1], epoch])
    epochs.done(left)
    epochs.committed(left)
    const right = epochs.next(50) as Epoch
    expect([offsetsOf(right), right.startOffset, right.endOffset]).toEqual([[2, 3], 2, 4])
  })

  it('an epoch that an earlier run began ends where that one ended', () => {
    const epochs = machine(4)
    epochs.add('t', 0, 0, 7)
    epochs.take(event(0, 5), 0)
    expect(epochs.next(1000)).toBeUndefined()
    epochs.take(event(5, 5), 0)
    const fixed = epochs.next(0) as Epoch
    expect([fixed.first, fixed.last, fixed.endOffset]).toEqual([0, 6, 7])
  })

  it('what is taken away is not held any more, and what is held is bounded', () => {
    const epochs = machine(4)
    epochs.add('t', 0, 0)
    epochs.take(event(0, 4), 0)
    expect(epochs.wantsPause('t', 0)).toBe(true)
    const epoch = epochs.next(0) as Epoch
    expect(epochs.wantsPause('t', 0)).toBe(false)
    epochs.leave('t', 0)
    expect(epochs.isQuiet('t', 0)).toBe(false)
    expect(epochs.remove('t', 0)).toBe(epoch)
    expect(epochs.holds(epoch)).toBe(false)
    expect(epochs.isDone).toBe(true)
  })

  it('what a child never acknowledged is given out again, in order', () => {
    const epochs = machine(2, { isEager: true, stickyLanes: 1, uncommittedMax: 9 })
    epochs.add('t', 0, 0)
    epochs.take(event(0, 6), 0)
    const fed = [epochs.next(0), epochs.next(0)] as (Epoch | undefined)[]
    epochs.done(fed[0] as Epoch)
    const second = epochs.next(0) as Epoch
    epochs.done(second)
    const third = epochs.next(0) as Epoch
    const [head, rest] = epochs.divide(fed[0] as Epoch, 1)
    epochs.committed(head)
    epochs.reopen([rest, second])
    expect(epochs.holds(rest)).toBe(true)
    epochs.retry(rest, 0)
    const again: Epoch[] = []
    for (let next = epochs.next(0); next !== undefined; next = epochs.next(0)) {
      again.push(next)
      epochs.done(next)
    }
    expect(again).toEqual([rest, second, third])
    expect(again.flatMap(offsetsOf)).toEqual([1, 2, 3, 4, 5])
  })

  it('any batches, limits, failures: every record once, in order, without gaps', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1, maxLength: 12 }),
        fc.integer({ min: 1, max: 17 }),
        fc.infiniteStream(fc.constantFrom('done', 'retry', 'bisect')),
        fc.option(fc.integer({ min: 0, max: 100 }), { nil: undefined }),
        (counts, records, fates, countMax) => {
          const total = counts.reduce((sum, count) => sum + count, 0)
          const epochs = machine(records, countMax === undefined ? {} : { countMax })
          epochs.add('t', 0, 0)
          let at = 0
          for (const count of counts) {
            epochs.take(event(at, count), 0)
            at += count
          }
          epochs.end('t', 0, at)
          const seen: number[] = []
          let end = 0
          for (let steps = 0; steps < 10_000; steps += 1) {
            const epoch = epochs.next(1e9)
            if (epoch === undefined) break
            const fate = fates.next().value
            if (fate === 'retry' && epoch.attempt < 3) epochs.retry(epoch, 0)
            else if (fate === 'bisect' && epoch.records > 1) epochs.bisect(epoch)
            else {
              expect(epoch.startOffset).toBe(end)
              end = epoch.endOffset
              seen.push(...offsetsOf(epoch))
              epochs.done(epoch)
              epochs.committed(epoch)
            }
          }
          const wanted = Math.min(total, countMax ?? total)
          expect(seen).toEqual(Array.from({ length: wanted }, (_, index) => index))
          expect(epochs.isDone).toBe(true)
        },
      ),
      { numRuns: 200 },
    )
  })
})

describe('growth', () => {
  it('doubles until the start of a child is under a tenth of a run', () => {
    const limits = { records: 5000, bytes: 1, ms: 1 }
    const growth = new EpochGrowth(limits)
    for (let run = 0; run < 100; run += 1) growth.note(limits.records, 30 + limits.records * 0.005)
    expect(30 / (30 + limits.records * 0.005)).toBeLessThan(0.1)
    expect(limits.records).toBeLessThan(200_000)
    growth.note(limits.records, 1)
    expect(limits.records).toBeLessThan(200_000)
  })
})
