import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Consumer } from '../../../src/client/consumer.ts'
import type { ConsumerEvent } from '../../../src/client/consumer-events.ts'
import { listOffsets } from '../../../src/client/offsets.ts'
import { apiTable, type Request } from '../../../src/protocol/api-table.ts'
import { KafkaError } from '../../../src/protocol/errors.ts'
import { stampBatch, stampCrc } from '../../../src/record/batch-layout.ts'
import { buildControlBatch } from '../../../src/record/control-batch.ts'
import {
  batchOf,
  consumerOf,
  type Fixture,
  fixture,
  linesOf,
  readAll,
  valuesOf,
} from './client-fixture.ts'
import type { FakePartition } from './fake-cluster.ts'

/** Batches of the given sizes; values are their own offsets. */
function fill(partition: FakePartition, sizes: readonly number[]): void {
  for (const size of sizes) {
    const first = partition.logEnd
    partition.append(batchOf(linesOf('', size).map((_, index) => String(first + index))))
  }
}

const numbers = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, index) => String(from + index))

/** Moves the log's end on as if batches had been there: compaction removed them, or they hold no records. */
function skip(partition: FakePartition, offsets: number): void {
  partition.logEnd += offsets
}

function marker(partition: FakePartition, type: 'commit' | 'abort', producerId: number): void {
  const timestampMs = 1_700_000_000_000
  const fields = { type, producerId, producerEpoch: 0, coordinatorEpoch: 0, timestampMs }
  partition.append(buildControlBatch(fields))
}

const kinds = (events: readonly { readonly kind: string }[]) => events.map(({ kind }) => kind)

describe('consumer: bounded reads', () => {
  it('reads each partition from its start to its end, once, in order', async () => {
    const stage = fixture({ addresses: ['ipc:///one', 'ipc:///two'] })
    const partitions = stage.brokers.addTopic('t', 3)
    fill(partitions[0]!, [5, 1, 9])
    fill(partitions[1]!, [100])
    const consumer = consumerOf(stage)
    consumer.assign([
      { topic: 't', partition: 0, startOffset: 0, endOffset: 15 },
      { topic: 't', partition: 1, startOffset: 0, endOffset: 100 },
      { topic: 't', partition: 2, startOffset: 0, endOffset: 0 },
    ])
    const { values, events } = await stage.world.run(readAll(consumer))
    expect(values.toSorted()).toEqual([...numbers(0, 15), ...numbers(0, 100)].toSorted())
    expect(kinds(events).filter((kind) => kind === 'end').length).toBe(3)
    expect(consumer.isDone).toBe(true)
    expect(consumer.position('t', 0)).toBe(15)
    expect(stage.brokers.fetches[0]).toMatchObject({ maxWaitMs: 500, minBytes: 1, sessionId: 0 })
  })

  it('P5: starts and ends inside batches', async () => {
    const stage = fixture()
    const [partition] = stage.brokers.addTopic('t')
    fill(partition!, [10, 10, 10])
    const consumer = consumerOf(stage)
    consumer.assign([{ topic: 't', partition: 0, startOffset: 7, endOffset: 24 }])
    const { values } = await stage.world.run(readAll(consumer))
    expect(values).toEqual(numbers(7, 24))
    expect(consumer.position('t', 0)).toBe(24)
  })

  it('an empty range ends at once, without a request', async () => {
    const stage = fixture()
    stage.brokers.addTopic('t')
    const consumer = consumerOf(stage)
    consumer.assign([{ topic: 't', partition: 0, startOffset: 0, endOffset: 0 }])
    expect(kinds((await stage.world.run(readAll(consumer))).events)).toEqual(['end'])
    expect(stage.brokers.fetches.length).toBe(0)
  })

  it('what is appended after the end snapshot is not delivered', async () => {
    const stage = fixture()
    const [partition] = stage.brokers.addTopic('t')
    fill(partition!, [4])
    const consumer = consumerOf(stage)
    consumer.assign([{ topic: 't', partition: 0, startOffset: 0, endOffset: 4 }])
    fill(partition!, [4])
    expect((await stage.world.run(readAll(consumer))).values).toEqual(numbers(0, 4))
  })

  it('an end whose last batches were compacted away is reached by the broker’s word', async () => {
    const stage = fixture()
    const [partition] = stage.brokers.addTopic('t')
    fill(partition!, [4])
    skip(partition!, 6)
    const consumer = consumerOf(stage)
    consumer.assign([{ topic: 't', partition: 0, startOffset: 0, endOffset: 10 }])
    const { values, events } = await stage.world.run(readAll(consumer))
    expect(values).toEqual(numbers(0, 4))
    expect(kinds(events)).toEqual(['records', 'end'])
    expect(consumer.position('t', 0)).toBe(10)
    expect(stage.world.nowMs).toBeLessThan(2000)
  })

  it('an end inside a hole between batches is reached', async () => {
    const stage = fixture()
    const [partition] = stage.brokers.addTopic('t')
    fill(partition!, [4])
    skip(partition!, 6)
    fill(partition!, [5])
    const consumer = consumerOf(stage)
    consumer.assign([{ topic: 't', partition: 0, startOffset: 0, endOffset: 8 }])
    const { values, events } = await stage.world.run(readAll(consumer))
    expect(values).toEqual(numbers(0, 4))
    expect(kinds(events)).toEqual(['records', 'end'])
  })

  it('an empty answer while another partition takes all the room is not taken for the end', async () => {
    const stage = fixture()
    const [busy, small] = stage.brokers.addTopic('t', 2)
    fill(busy!, new Array(50).fill(20))
    fill(small!, [3])
    const consumer = consumerOf(stage, { fetchBytesMax: 200 })
    consumer.assign([
      { topic: 't', partition: 0, startOffset: 0, endOffset: 1000 },
      { topic: 't', partition: 1, startOffset: 0, endOffset: 3 },
    ])
    const { values } = await stage.world.run(readAll(consumer))
    expect(values.length).toBe(1003)
  })

  it('an end in the future is waited for', async () => {
    const stage = fixture()
    const [partition] = stage.brokers.addTopic('t')
    fill(partition!, [2])
    const consumer = consumerOf(stage)
    consumer.assign([{ topic: 't', partition: 0, startOffset: 0, endOffset: 6 }])
    const reading = readAll(consumer)
    for (const size of [2, 3]) {
      await stage.world.pass(3000)
      fill(partition!, [size])
    }
    expect((await stage.world.run(reading)).values).toEqual(numbers(0, 6))
  })

  it('property: any ranges over any layout of batches, holes and markers', async () => {
    const piece = fc.oneof(
      fc.record({ kind: fc.constant('batch' as const), size: fc.integer({ min: 1, max: 9 }) }),
      fc.record({ kind: fc.constant('hole' as const), size: fc.integer({ min: 1, max: 9 }) }),
      fc.record({ kind: fc.constant('marker' as const), size: fc.constant(1) }),
    )
    const plan = fc.record({
      seed: fc.integer({ min: 0, max: 1_000_000 }),
      layouts: fc.array(fc.array(piece, { maxLength: 12 }), { minLength: 1, maxLength: 4 }),
      from: fc.double({ min: 0, max: 1, noNaN: true }),
      to: fc.double({ min: 0, max: 1, noNaN: true }),
      fetchBytesMax: fc.constantFrom(1, 150, 400, 1_000_000),
      losesPerMille: fc.constantFrom(0, 30),
    })
    await fc.assert(
      fc.asyncProperty(plan, async ({ seed, layouts, from, to, fetchBytesMax, losesPerMille }) => {
        const stage = fixture({ seed })
        stage.world.network.faults.loseLink = losesPerMille / 1000
        const partitions = stage.brokers.addTopic('t', layouts.length)
        const consumer = consumerOf(stage, { fetchBytesMax, prefetchBytesMax: 500 })
        const expected: string[] = []
        for (const [index, layout] of layouts.entries()) {
          const partition = partitions[index]!
          for (const { kind, size } of layout) {
            if (kind === 'batch') fill(partition, [size])
            else if (kind === 'hole') skip(partition, size)
            else marker(partition, 'commit', 5)
          }
          const startOffset = Math.floor(from * partition.logEnd)
          const span = partition.logEnd - startOffset
          const endOffset = startOffset + Math.min(span, Math.floor(to * (span + 1)))
          expected.push(
            ...partition.values().filter((value) => {
              const offset = Number(value)
              return offset >= startOffset && offset < endOffset
            }),
          )
          consumer.assign([{ topic: 't', partition: index, startOffset, endOffset }])
        }
        const { values, events } = await stage.world.run(readAll(consumer))
        expect(values.toSorted()).toEqual(expected.toSorted())
        expect(kinds(events).filter((kind) => kind === 'end').length).toBe(layouts.length)
        consumer.close()
      }),
      { numRuns: 80 },
    )
  })
})

describe('consumer: following', () => {
  it('delivers what is appended later', async () => {
    const stage = fixture()
    const [partition] = stage.brokers.addTopic('t')
    const consumer = consumerOf(stage)
    consumer.assign([{ topic: 't', partition: 0, startOffset: 0 }])
    await stage.world.pass(2000)
    expect(consumer.poll()).toBeUndefined()
    fill(partition!, [3])
    await stage.world.pass(10)
    expect(consumer.poll()).toMatchObject({ kind: 'records', nextOffset: 3, highWatermark: 3 })
    expect(await stage.world.run(consumer.wait(200))).toBe(false)
    consumer.close()
    expect(await consumer.next()).toBeUndefined()
  })

  it('where all there is has come, and it is little, asks for more when the reader waits again', async () => {
    const stage = fixture()
    const [partition] = stage.brokers.addTopic('t')
    fill(partition!, [3])
    const consumer = consumerOf(stage)
    consumer.assign([{ topic: 't', partition: 0, startOffset: 0 }])
    await stage.world.run(consumer.wait())
    expect(consumer.poll()).toMatchObject({ kind: 'records', nextOffset: 3 })
    expect(consumer.poll()).toBeUndefined()
    await stage.world.pass(20)
    expect(stage.brokers.fetches.length).toBe(1)
    const waiting = consumer.wait()
    fill(partition!, [2])
    expect(await stage.world.run(waiting)).toBe(true)
    expect(consumer.poll()).toMatchObject({ kind: 'records', nextOffset: 5 })
    // Whoever only polls is served too.
    await stage.world.pass(2000)
    expect(consumer.poll()).toBeUndefined()
    fill(partition!, [1])
    await stage.world.pass(20)
    expect(consumer.poll()).toMatchObject({ kind: 'records', nextOffset: 6 })
    fill(partition!, [1])
    const found: unknown[] = []
    for (let polls = 0; polls < 4; polls++) {
      found.push(consumer.poll())
      await stage.world.pass(20)
    }
    expect(found).toContainEqual(expect.objectContaining({ kind: 'records', nextOffset: 7 }))
  })

  it('asks for more before anything of an answer is handed out, up to the bound', async () => {
    const stage = fixture()
    const [partition] = stage.brokers.addTopic('t')
    fill(partition!, new Array(40).fill(10))
    const bytes = partition!.batches[0]!.length
    const consumer = consumerOf(stage, { fetchBytesMax: bytes * 2, prefetchBytesMax: bytes * 6 })
    consumer.assign([{ topic: 't', partition: 0, startOffset: 0 }])
    await stage.world.pass(1000)
    const asked = stage.brokers.fetches.length
    expect(asked).toBeGreaterThan(2)
    expect(consumer.prefetchedBytes).toBeGreaterThanOrEqual(bytes * 6)
    expect(consumer.prefetchedBytes).toBeLessThanOrEqual(bytes * 8)
    // Nothing more is asked for, however long nobody polls.
    await stage.world.pass(10_000)
    expect(stage.brokers.fetches.length).toBe(asked)
    consumer.poll()
    consumer.poll()
    await stage.world.pass(1000)
    expect(stage.brokers.fetches.length).toBeGreaterThan(asked)
    consumer.close()
  })

  it('keeps what was fetched of a paused partition and hands it out after resume', async () => {
    const stage = fixture()
    const partitions = stage.brokers.addTopic('t', 2)
    for (const partition of partitions) fill(partition, [3])
    const consumer = consumerOf(stage)
    consumer.assign([
      { topic: 't', partition: 0, startOffset: 0, endOffset: 3 },
      { topic: 't', partition: 1, startOffset: 0, endOffset: 3 },
    ])
    await stage.world.pass(100)
    consumer.pause('t', 0)
    expect(consumer.poll()).toMatchObject({ partition: 1 })
    expect(consumer.poll()).toMatchObject({ partition: 1, kind: 'end' })
    expect(consumer.poll()).toBeUndefined()
    expect(consumer.isDone).toBe(false)
    consumer.resume('t', 0)
    expect(consumer.poll()).toMatchObject({ partition: 0, kind: 'records' })
  })

  it('what is held for a paused partition does not starve the others', async () => {
    const stage = fixture()
    const [held, other] = stage.brokers.addTopic('t', 2)
    fill(held!, new Array(30).fill(10))
    const consumer = consumerOf(stage, { fetchBytesMax: 500, prefetchBytesMax: 500 })
    consumer.assign([{ topic: 't', partition: 0, startOffset: 0 }])
    await stage.world.pass(100)
    consumer.pause('t', 0)
    fill(other!, [3])
    consumer.assign([{ topic: 't', partition: 1, startOffset: 0, endOffset: 3 }])
    expect(await stage.world.run(consumer.next())).toMatchObject({ partition: 1, nextOffset: 3 })
    consumer.close()
  })

  it('seek drops what was under way', async () => {
    const stage = fixture()
    const [partition] = stage.brokers.addTopic('t')
    fill(partition!, [10, 10])
    const consumer = consumerOf(stage)
    consumer.assign([{ topic: 't', partition: 0, startOffset: 0, endOffset: 20 }])
    await stage.world.pass(1)
    consumer.seek('t', 0, 15)
    const { values } = await stage.world.run(readAll(consumer))
    expect(values).toEqual(numbers(15, 20))
    consumer.seek('t', 0, 18)
    expect((await stage.world.run(readAll(consumer))).values).toEqual(numbers(18, 20))
    consumer.unassign('t', 0)
    expect(consumer.isDone).toBe(true)
  })
})

describe('consumer: transactions', () => {
  /** open 7: 0,1 · open 8: 2 · abort 7 · plain 4 · 8: 5 · commit 8 · 7 again: 7 · commit 7 */
  function transactions(partition: FakePartition): void {
    partition.append(batchOf(['a0', 'a1'], { producerId: 7, baseSequence: 0 }))
    partition.append(batchOf(['b2'], { producerId: 8, baseSequence: 0 }))
    marker(partition, 'abort', 7)
    partition.append(batchOf(['p4']))
    partition.append(batchOf(['b5'], { producerId: 8, baseSequence: 1 }))
    marker(partition, 'commit', 8)
    partition.append(batchOf(['a7'], { producerId: 7, baseSequence: 2 }))
    marker(partition, 'commit', 7)
    partition.aborted.push({ producerId: 7, firstOffset: 0, lastOffset: 3 })
  }

  it('P6: read_committed leaves aborted batches and markers out, and only those', async () => {
    const stage = fixture()
    const [partition] = stage.brokers.addTopic('t')
    transactions(partition!)
    const consumer = consumerOf(stage)
    consumer.assign([{ topic: 't', partition: 0, startOffset: 0, endOffset: 9 }])
    const { values } = await stage.world.run(readAll(consumer))
    expect(values).toEqual(['b2', 'p4', 'b5', 'a7'])
  })

  it('P6: it makes no difference where the answers are cut', async () => {
    const stage = fixture()
    const [partition] = stage.brokers.addTopic('t')
    transactions(partition!)
    const consumer = consumerOf(stage, { fetchBytesMax: 1 })
    consumer.assign([{ topic: 't', partition: 0, startOffset: 1, endOffset: 9 }])
    const { values } = await stage.world.run(readAll(consumer))
    expect(values).toEqual(['b2', 'p4', 'b5', 'a7'])
  })

  it('read_uncommitted shows all but the markers', async () => {
    const stage = fixture()
    const [partition] = stage.brokers.addTopic('t')
    transactions(partition!)
    const consumer = consumerOf(stage, { isolation: 'read_uncommitted' })
    consumer.assign([{ topic: 't', partition: 0, startOffset: 0, endOffset: 9 }])
    const { values } = await stage.world.run(readAll(consumer))
    expect(values).toEqual(['a0', 'a1', 'b2', 'p4', 'b5', 'a7'])
  })

  it('an open transaction does not hold a read up to the last stable offset', async () => {
    const stage = fixture()
    const [partition] = stage.brokers.addTopic('t')
    fill(partition!, [3])
    partition!.append(batchOf(['open'], { producerId: 7, baseSequence: 0 }))
    partition!.lastStableOffset = 3
    const { world, cluster } = stage
    const question = { topic: 't', partition: 0, at: 'latest' as const }
    const [end] = await world.run(listOffsets(world.time, world.random, cluster, [question]))
    expect(end?.offset).toBe(3)
    const consumer = consumerOf(stage)
    consumer.assign([{ topic: 't', partition: 0, startOffset: 0, endOffset: end!.offset }])
    expect((await world.run(readAll(consumer))).values).toEqual(numbers(0, 3))
  })

  it('a marker that cannot be read is damage, not a crash', async () => {
    const stage = fixture()
    const [partition] = stage.brokers.addTopic('t')
    transactions(partition!)
    const bad = batchOf(['x'], { producerId: 7, baseSequence: 0 })
    bad[22]! |= 0x20
    stampCrc(bad, 0)
    stampBatch(bad, 0, { baseOffset: 3, leaderEpoch: 0 })
    partition!.batches[2] = bad
    const consumer = consumerOf(stage)
    consumer.assign([{ topic: 't', partition: 0, startOffset: 0, endOffset: 9 }])
    const { values, events } = await stage.world.run(readAll(consumer))
    expect(values).toEqual(['b2'])
    expect(events.at(-1)).toMatchObject({ kind: 'failed', error: { code: 'CORRUPT_BATCH' } })
  })

  it('a range that ends in markers only is reached', async () => {
    const stage = fixture()
    const [partition] = stage.brokers.addTopic('t')
    fill(partition!, [1])
    for (const producerId of [5, 6, 7]) marker(partition!, 'commit', producerId)
    const consumer = consumerOf(stage)
    consumer.assign([{ topic: 't', partition: 0, startOffset: 0, endOffset: 4 }])
    const { values, events } = await stage.world.run(readAll(consumer))
    expect(values).toEqual(['0'])
    expect(kinds(events)).toEqual(['records', 'end'])
  })
})

describe('consumer: partitions that come to a broker whose Fetch waits for others', () => {
  /** Both partitions are read to their ends; then one record comes where `arrive` has put the reader. */
  async function waitFor(
    addresses: readonly string[],
    arrive: (stage: Fixture, consumer: Consumer) => void,
  ): Promise<{ waitedMs: number; values: string[]; fetches: number }> {
    const stage = fixture({ addresses })
    const { world, brokers } = stage
    for (const partition of brokers.addTopic('t', 4).slice(0, 2)) fill(partition, [3])
    const consumer = consumerOf(stage)
    consumer.assign([0, 1].map((partition) => ({ topic: 't', partition, startOffset: 3 })))
    await world.pass(1210)
    const fetchesBefore = brokers.fetches.length
    const fromMs = world.nowMs
    arrive(stage, consumer)
    const event = await world.run(consumer.next())
    const values = event?.kind === 'records' ? valuesOf(event) : []
    const waitedMs = world.nowMs - fromMs
    await world.pass(10_000)
    const fetches = brokers.fetches.length - fetchesBefore
    consumer.close()
    return { waitedMs, values, fetches }
  }
  const native = ['ipc:///one', 'ipc:///two']

  it('a moved leader', async () => {
    const { waitedMs, values } = await waitFor(native, ({ brokers }) => {
      brokers.moveLeader('t', 0, 1)
      fill(brokers.partition('t', 0), [1])
    })
    expect(values).toEqual(['3'])
    expect(waitedMs).toBeLessThan(200)
  })

  it('a partition that is assigned', async () => {
    const { waitedMs, values } = await waitFor(native, ({ brokers }, consumer) => {
      fill(brokers.partition('t', 2), [1])
      consumer.assign([{ topic: 't', partition: 2, startOffset: 0 }])
    })
    expect(values).toEqual(['0'])
    expect(waitedMs).toBeLessThan(50)
  })

  it('a position that is sought', async () => {
    const { waitedMs, values } = await waitFor(native, (_, consumer) => consumer.seek('t', 0, 1))
    expect(values).toEqual(['1', '2'])
    expect(waitedMs).toBeLessThan(50)
  })

  it('no more than two wait at a broker, whatever comes', async () => {
    const { fetches } = await waitFor(native, ({ brokers }, consumer) => {
      fill(brokers.partition('t', 2), [1])
      consumer.assign([{ topic: 't', partition: 2, startOffset: 0 }])
      consumer.assign([{ topic: 't', partition: 3, startOffset: 0 }])
    })
    expect(fetches).toBeLessThan((3 * 10_000) / 500)
  })

  it('a Kafka broker answers in order: nothing is put behind a request that waits', async () => {
    const addresses = ['kafka://one:9092', 'kafka://two:9092']
    const { waitedMs } = await waitFor(addresses, ({ brokers }, consumer) => {
      fill(brokers.partition('t', 2), [1])
      consumer.assign([{ topic: 't', partition: 2, startOffset: 0 }])
    })
    expect(waitedMs).toBeGreaterThan(100)
    expect(waitedMs).toBeLessThan(500)
  })
})

describe('consumer: trouble', () => {
  async function readThrough(stage: Fixture, trouble: () => Promise<void>): Promise<string[]> {
    const [partition] = stage.brokers.addTopic('t')
    fill(partition!, new Array(60).fill(5))
    const consumer = consumerOf(stage, { fetchBytesMax: 300, prefetchBytesMax: 600 })
    consumer.assign([{ topic: 't', partition: 0, startOffset: 0, endOffset: 300 }])
    const reading = readAll(consumer)
    await trouble()
    return (await stage.world.run(reading)).values
  }

  it('survives lost links and a daemon that restarts', async () => {
    const stage = fixture()
    const values = await readThrough(stage, async () => {
      for (let round = 0; round < 5; round++) {
        await stage.world.pass(7)
        stage.world.breakLinks('ipc:///one')
      }
      stage.brokers.stop(0)
      await stage.world.pass(5000)
      stage.brokers.start(0)
    })
    expect(values).toEqual(numbers(0, 300))
  })

  it('follows the leader', async () => {
    const stage = fixture({ addresses: ['ipc:///one', 'ipc:///two'] })
    const values = await readThrough(stage, async () => {
      for (const nodeId of [1, 0, 1]) {
        await stage.world.pass(7)
        stage.brokers.moveLeader('t', 0, nodeId)
      }
    })
    expect(values).toEqual(numbers(0, 300))
  })

  it('a broker that swallows requests is left after the timeout', async () => {
    const stage = fixture({ cluster: { requestTimeoutMs: 1000 } })
    const values = await readThrough(stage, async () => {
      await stage.world.pass(10)
      stage.world.silence('ipc:///one')
      await stage.world.pass(10_000)
      stage.world.network.heal()
    })
    expect(values).toEqual(numbers(0, 300))
  })

  it('tells the gap that retention has made, and goes on at the log start', async () => {
    const stage = fixture()
    const [partition] = stage.brokers.addTopic('t')
    fill(partition!, [10, 10, 10])
    partition!.batches.splice(0, 2)
    partition!.logStart = 20
    const consumer = consumerOf(stage)
    consumer.assign([{ topic: 't', partition: 0, startOffset: 4, endOffset: 30 }])
    const { values, events } = await stage.world.run(readAll(consumer))
    expect(events[0]).toEqual({ kind: 'gap', topic: 't', partition: 0, from: 4, to: 20 })
    expect(values).toEqual(numbers(20, 30))
  })

  it('a gap that swallows the whole range ends at its end', async () => {
    const stage = fixture()
    const [partition] = stage.brokers.addTopic('t')
    fill(partition!, [10, 10, 10])
    partition!.batches.splice(0, 2)
    partition!.logStart = 20
    const consumer = consumerOf(stage)
    consumer.assign([{ topic: 't', partition: 0, startOffset: 4, endOffset: 12 }])
    const { events } = await stage.world.run(readAll(consumer))
    expect(events).toEqual([
      { kind: 'gap', topic: 't', partition: 0, from: 4, to: 12 },
      { kind: 'end', topic: 't', partition: 0, offset: 12 },
    ])
  })

  it('a position beyond the end is an error, not a wait for ever', async () => {
    const stage = fixture()
    const [partition] = stage.brokers.addTopic('t')
    fill(partition!, [3])
    const consumer = consumerOf(stage)
    consumer.assign([{ topic: 't', partition: 0, startOffset: 9 }])
    const { events } = await stage.world.run(readAll(consumer))
    expect(events).toMatchObject([{ kind: 'failed', error: { code: 'OFFSET_OUT_OF_RANGE' } }])
  })

  it('a topic that is deleted fails after a while; others are read on', async () => {
    const stage = fixture()
    fill(stage.brokers.addTopic('gone')[0]!, [3])
    const [kept] = stage.brokers.addTopic('kept')
    fill(kept!, [3])
    const consumer = consumerOf(stage)
    consumer.assign([{ topic: 'gone', partition: 0, startOffset: 0 }])
    await stage.world.pass(100)
    consumer.poll()
    stage.brokers.topics.delete('gone')
    consumer.assign([{ topic: 'kept', partition: 0, startOffset: 0, endOffset: 3 }])
    const { values, events } = await stage.world.run(readAll(consumer))
    expect(values).toEqual(numbers(0, 3))
    expect(events.at(-1)).toMatchObject({ kind: 'failed', error: { code: 'TOPIC_UNKNOWN' } })
  })

  it('a topic that is deleted fails, though somebody asks for all topics meanwhile', async () => {
    const stage = fixture()
    const { world, brokers, cluster } = stage
    fill(brokers.addTopic('t')[0]!, [1])
    const consumer = consumerOf(stage, { unknownTopicMs: 2000 })
    consumer.assign([{ topic: 't', partition: 0, startOffset: 0 }])
    expect(await world.run(consumer.next())).toMatchObject({ kind: 'records' })
    brokers.deleteTopic('t')
    const failed = consumer.next()
    for (let second = 0; second < 5; second++) {
      await world.pass(1000)
      await world.run(cluster.describeTopics(undefined))
    }
    consumer.close()
    expect(await world.run(failed)).toMatchObject({
      kind: 'failed',
      error: { code: 'TOPIC_UNKNOWN' },
    })
  })

  it('a batch damaged on its way is asked for again', async () => {
    const stage = fixture()
    const [partition] = stage.brokers.addTopic('t')
    fill(partition!, [3, 3, 3])
    const damaged = partition!.batches[1]!
    const sound = damaged.slice()
    damaged[damaged.length - 1]! ^= 1
    const consumer = consumerOf(stage)
    consumer.assign([{ topic: 't', partition: 0, startOffset: 0, endOffset: 9 }])
    const reading = readAll(consumer)
    await stage.world.pass(20)
    damaged.set(sound)
    const { values, events } = await stage.world.run(reading)
    expect(values).toEqual(numbers(0, 9))
    expect(kinds(events)).not.toContain('failed')
  })

  it('a batch that stays damaged is named by its offset; nothing behind it is delivered', async () => {
    const stage = fixture()
    const [partition] = stage.brokers.addTopic('t')
    fill(partition!, [3, 3, 3])
    partition!.batches[1]![70]! ^= 1
    const consumer = consumerOf(stage)
    consumer.assign([{ topic: 't', partition: 0, startOffset: 0, endOffset: 9 }])
    const { values, events } = await stage.world.run(readAll(consumer))
    expect(values).toEqual(numbers(0, 3))
    const last = events.at(-1)
    expect(last).toMatchObject({ kind: 'failed', error: { code: 'CORRUPT_BATCH' } })
    expect(last?.kind === 'failed' && last.error.message).toMatch(/damaged batch at 3/)
  })

  it.each([
    { what: 'is waited out where other replicas can mend it', mendedMs: 5000 },
    { what: 'that nobody mends fails in the end', mendedMs: undefined },
  ])('damage $what', async ({ mendedMs }) => {
    const stage = fixture()
    const [partition] = stage.brokers.addTopic('t')
    partition!.replicas = [0, 1, 2]
    fill(partition!, [3, 3, 3])
    const damaged = partition!.batches[1]!
    const sound = damaged.slice()
    damaged[damaged.length - 1]! ^= 1
    const consumer = consumerOf(stage)
    consumer.assign([{ topic: 't', partition: 0, startOffset: 0, endOffset: 9 }])
    let isDone = false
    const reading = readAll(consumer).finally(() => {
      isDone = true
    })
    await stage.world.pass(mendedMs ?? 25_000)
    expect(isDone).toBe(false)
    if (mendedMs !== undefined) damaged.set(sound)
    const { values, events } = await stage.world.run(reading)
    expect(values).toEqual(numbers(0, mendedMs === undefined ? 3 : 9))
    expect(kinds(events).includes('failed')).toBe(mendedMs === undefined)
  })

  it('an answer whose batches do not follow each other is refused', async () => {
    const stage = fixture()
    const [partition] = stage.brokers.addTopic('t')
    fill(partition!, [3, 3])
    const repeated = partition!.batches[0]!.slice()
    stampBatch(repeated, 0, { baseOffset: 1, leaderEpoch: 0 })
    partition!.batches.splice(1, 0, repeated)
    const consumer = consumerOf(stage)
    consumer.assign([{ topic: 't', partition: 0, startOffset: 0, endOffset: 6 }])
    const { events } = await stage.world.run(readAll(consumer))
    expect(events.at(-1)).toMatchObject({ kind: 'failed', error: { code: 'CORRUPT_BATCH' } })
  })

  it('random bytes instead of batches fail the partition and nothing else', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 200 }), async (bytes) => {
        const stage = fixture()
        stage.brokers.addTopic('t')
        stage.brokers.override.Fetch = (body) => ({
          responses: body.topics.map(({ topic, partitions }) => ({
            topic,
            partitions: partitions.map(({ partition }) => ({
              partitionIndex: partition,
              errorCode: 0,
              highWatermark: 0,
              records: bytes,
            })),
          })),
        })
        const consumer = consumerOf(stage)
        consumer.assign([{ topic: 't', partition: 0, startOffset: 0 }])
        await stage.world.pass(30_000)
        const event = consumer.poll()
        if (event !== undefined) expect(event.kind).toBe('failed')
        consumer.close()
      }),
      { numRuns: 40 },
    )
  })

  it('what may not be read fails with NOT_ALLOWED', async () => {
    const stage = fixture()
    stage.brokers.addTopic('t')
    stage.brokers.override.Fetch = () => ({
      responses: [
        {
          topic: 't',
          partitions: [{ partitionIndex: 0, errorCode: KafkaError.TOPIC_AUTHORIZATION_FAILED }],
        },
      ],
    })
    const consumer = consumerOf(stage)
    consumer.assign([{ topic: 't', partition: 0, startOffset: 0 }])
    const { events } = await stage.world.run(readAll(consumer))
    expect(events).toMatchObject([{ kind: 'failed', error: { code: 'NOT_ALLOWED' } }])
  })
})

describe('consumer: the nearest replica (KIP-392)', () => {
  async function nearby(rack?: string) {
    const stage = fixture({ addresses: ['ipc:///one', 'ipc:///two'] })
    const [partition] = stage.brokers.addTopic('t')
    fill(partition!, new Array(60).fill(5))
    partition!.followers.add(1)
    stage.brokers.racks.set('here', 1)
    const consumer = consumerOf(stage, {
      fetchBytesMax: 300,
      prefetchBytesMax: 600,
      ...(rack === undefined ? {} : { rack }),
    })
    consumer.assign([{ topic: 't', partition: 0, startOffset: 0, endOffset: 300 }])
    return { stage, partition: partition!, consumer }
  }

  it('is read from by who names its rack', async () => {
    const { stage, consumer } = await nearby('here')
    expect((await stage.world.run(readAll(consumer))).values).toEqual(numbers(0, 300))
    expect(stage.brokers.fetchesOf.get(1)).toBeGreaterThan(10)
    expect(stage.brokers.fetchesOf.get(0)).toBeLessThan(10)
  })

  it('is not looked for without a rack, nor where nobody stands in it', async () => {
    for (const rack of [undefined, 'elsewhere']) {
      const { stage, consumer } = await nearby(rack)
      expect((await stage.world.run(readAll(consumer))).values).toEqual(numbers(0, 300))
      expect(stage.brokers.fetchesOf.get(1)).toBeUndefined()
    }
  })

  it('that refuses, or is gone, is left for the leader', async () => {
    for (const trouble of ['refuses', 'gone'] as const) {
      const { stage, partition, consumer } = await nearby('here')
      const reading = readAll(consumer)
      await stage.world.pass(8)
      if (trouble === 'gone') stage.brokers.stop(1)
      else {
        partition.followers.clear()
        stage.brokers.racks.set('nowhere', 1)
      }
      expect((await stage.world.run(reading)).values).toEqual(numbers(0, 300))
      expect(stage.world.nowMs).toBeLessThan(5000)
    }
  })
})

describe('consumer: a log that was cut back (KIP-320)', () => {
  it('says the epoch it has read last, and fails where the leader knows less of it', async () => {
    const stage = fixture()
    const [partition] = stage.brokers.addTopic('t')
    partition!.leaderEpoch = 4
    fill(partition!, [5, 5])
    const consumer = consumerOf(stage, { fetchBytesMax: 100 })
    consumer.assign([{ topic: 't', partition: 0, startOffset: 0 }])
    await stage.world.run(consumer.wait())
    expect(stage.brokers.fetches[0]?.topics[0]?.partitions[0]?.lastFetchedEpoch).toBe(-1)
    await stage.world.pass(1000)
    void consumer.wait()
    expect(stage.brokers.fetches.at(-1)?.topics[0]?.partitions[0]).toMatchObject({
      fetchOffset: 10,
      lastFetchedEpoch: 4,
    })
    const row = { partitionIndex: 0, highWatermark: 7, divergingEpoch: { epoch: 3, endOffset: 7 } }
    stage.brokers.override.Fetch = () => ({ responses: [{ topic: 't', partitions: [row] }] })
    const { events, values } = await stage.world.run(readAll(consumer))
    expect(values).toEqual(numbers(0, 10))
    const last = events.at(-1)
    expect(last?.kind === 'failed' && last.error).toMatchObject({
      code: 'OFFSET_OUT_OF_RANGE',
      message: expect.stringContaining('cut back to offset 7'),
    })
  })

  it('tells the epoch of what was read before an offset, over changes of leaders', async () => {
    const stage = fixture()
    const [partition] = stage.brokers.addTopic('t')
    partition!.leaderEpoch = 4
    fill(partition!, [5])
    partition!.leaderEpoch = 6
    fill(partition!, [5, 5])
    const consumer = consumerOf(stage)
    consumer.assign([{ topic: 't', partition: 0, startOffset: 0, endOffset: 15 }])
    await stage.world.run(readAll(consumer))
    const epochs = (...offsets: number[]) =>
      offsets.map((offset) => consumer.epochBefore('t', 0, offset))
    expect(epochs(0, 1, 5, 6, 15)).toEqual([-1, 4, 4, 6, 6])
    consumer.assign([{ topic: 't', partition: 0, startOffset: 5, endOffset: 15, leaderEpoch: 4 }])
    expect(epochs(4, 5)).toEqual([-1, 4])
    await stage.world.run(readAll(consumer))
    expect(epochs(4, 5, 6, 15)).toEqual([-1, 4, 6, 6])
    expect(consumer.epochBefore('u', 0, 5)).toBe(-1)
  })

  it('begins with the epoch that was committed, and fails where its records are gone', async () => {
    const stage = fixture()
    const [partition] = stage.brokers.addTopic('t')
    fill(partition!, [5, 5])
    const consumer = consumerOf(stage)
    consumer.assign([{ topic: 't', partition: 0, startOffset: 8, leaderEpoch: 4 }])
    const row = { partitionIndex: 0, highWatermark: 7, divergingEpoch: { epoch: 3, endOffset: 7 } }
    let asked: unknown
    stage.brokers.override.Fetch = (request) => {
      asked = request
      return { responses: [{ topic: 't', partitions: [row] }] }
    }
    const { events } = await stage.world.run(readAll(consumer))
    const [{ partitions } = { partitions: [] }] = (asked as Request<'Fetch'>).topics
    expect(partitions[0]).toMatchObject({
      fetchOffset: 8,
      lastFetchedEpoch: 4,
    })
    const last = events.at(-1)
    expect(last?.kind === 'failed' && last.error.message).toContain('cut back to offset 7')
  })
})

describe('consumer: a topic that is deleted and created again', () => {
  const OLD = `old${'A'.repeat(18)}g`
  const NEW = `new${'A'.repeat(18)}g`

  function recreate({ brokers }: Fixture, topicId: string, records: readonly number[]): void {
    brokers.deleteTopic('t')
    brokers.topicIds.set('t', topicId)
    fill(brokers.addTopic('t')[0]!, records)
  }

  /** Three records of the old topic were read; then it gives way to one of five. */
  async function following(versionMax: number, topicId?: string) {
    const stage = fixture()
    const { world, brokers } = stage
    brokers.ranges.set(apiTable.Fetch.key, { min: 4, max: versionMax })
    brokers.topicIds.set('t', OLD)
    fill(brokers.addTopic('t')[0]!, [3])
    await world.run(stage.cluster.describeTopics(['t']))
    const consumer = consumerOf(stage)
    const values: string[] = []
    consumer.assign([{ topic: 't', partition: 0, startOffset: 0, ...(topicId && { topicId }) }])
    const next = async (): Promise<ConsumerEvent | undefined> => {
      const event = await world.run(consumer.next())
      if (event?.kind === 'records') values.push(...valuesOf(event))
      return event
    }
    return { stage, consumer, values, next }
  }

  for (const [way, versionMax] of [
    ['by id', 13],
    ['by name', 12],
  ] as const) {
    it(`asked for ${way}: fails, and gives nothing of the new one`, async () => {
      const { stage, consumer, values, next } = await following(versionMax)
      await next()
      void consumer.wait()
      await stage.world.pass(100)
      expect(consumer.isTopicLost('t', 0)).toBe(false)
      stage.brokers.deleteTopic('t')
      await stage.world.pass(300)
      expect(consumer.isTopicLost('t', 0)).toBe(true)
      recreate(stage, NEW, [5])
      expect(await next()).toMatchObject({ kind: 'failed', error: { code: 'CONFLICT' } })
      expect(values).toEqual(['0', '1', '2'])
      expect(consumer.isTopicLost('t', 0)).toBe(true)
      const asked = stage.brokers.requests.filter(({ api }) => api === 'Fetch')
      expect(new Set(asked.map(({ version }) => version))).toEqual(new Set([versionMax]))
      consumer.close()
    })
  }

  it('asked for by id: never told of its absence, it is not fooled either', async () => {
    const { stage, consumer, values, next } = await following(13)
    await next()
    await stage.world.pass(100)
    // No Fetch waits that would be told: the link is away meanwhile.
    stage.brokers.stop(0)
    await stage.world.pass(100)
    recreate(stage, NEW, [5])
    stage.brokers.start(0)
    expect(await next()).toMatchObject({ kind: 'failed', error: { code: 'CONFLICT' } })
    expect(values).toEqual(['0', '1', '2'])
    consumer.close()
  })

  it('a position of a topic that was gone before the reader came is not taken for one of the new', async () => {
    const { consumer, values, next } = await following(12, NEW)
    expect(await next()).toMatchObject({ kind: 'failed', error: { code: 'CONFLICT' } })
    expect(values).toEqual([])
    consumer.close()
  })

  it('one broker that lags behind and describes the topic before it is not believed', async () => {
    const { stage, consumer, values, next } = await following(13)
    const { brokers, cluster, world } = stage
    await next()
    brokers.topicIds.set('t', NEW)
    await world.run(cluster.describeTopics(['t']))
    brokers.topicIds.set('t', OLD)
    await world.pass(1000)
    fill(brokers.partition('t'), [1])
    expect(await next()).toMatchObject({ kind: 'records' })
    expect(values).toEqual(['0', '1', '2', '3'])
    consumer.close()
  })

  it('no gap is told of where the new one begins', async () => {
    const { stage, consumer, next } = await following(13)
    const { brokers } = stage
    brokers.partition('t').logStart = 2
    brokers.override.ListOffsets = () => {
      brokers.override = {}
      recreate(stage, NEW, [9])
      brokers.partition('t').logStart = 8
      return undefined
    }
    consumer.seek('t', 0, 1)
    const kinds: string[] = []
    for (let event = await next(); event !== undefined; event = await next()) {
      kinds.push(event.kind)
      if (event.kind === 'failed') break
    }
    expect(kinds).not.toContain('gap')
    expect(kinds.at(-1)).toBe('failed')
    consumer.close()
  })
})
