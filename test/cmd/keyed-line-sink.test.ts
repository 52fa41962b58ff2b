/** Lines with keys on their whole way to brokers that fail now and then: every good line once, in its partition, in order. */
import { describe, expect, it } from 'vitest'
import { KeyedLineSink } from '../../cmd/keyed-line-sink.ts'
import { RecordErrors } from '../../cmd/record-errors.ts'
import { RecordSink } from '../../cmd/record-sink.ts'
import { partitionForKey } from '../../src/record/partitioner.ts'
import { parsePath } from '../../src/text/json-scanner.ts'
import { DelimiterSplitter } from '../../src/text/record-splitter.ts'
import { fixture, producerOf } from '../src/client/client-fixture.ts'

const PARTITIONS = 7
const LINES = 12_000
const LINE_BYTES_MAX = 80_000

/** A line, and its key; without one it is refused. */
function makeLine(index: number): { readonly text: string; readonly key: string | undefined } {
  const key = `user-${(index * 7919) % 997}`
  if (index % 1009 === 17) return { text: '{"id":', key: undefined }
  if (index % 2003 === 19) return { text: `{"n":${index}}`, key: undefined }
  if (index % 307 === 5) return { text: `{"id":"\\u0075${key.slice(1)}","n":${index}}`, key }
  if (index === 7000) return { text: `{"id":"${key}","x":"${'x'.repeat(70_000)}"}`, key }
  return { text: `{"n":${index},"id":"${key}","text":"${'t'.repeat(index % 120)}"}`, key }
}

async function run(seed: number): Promise<void> {
  const stage = fixture({ seed })
  const { world, brokers } = stage
  const partitions = brokers.addTopic('t', PARTITIONS)
  let requests = 0
  brokers.produceFault = () => {
    requests += 1
    return requests % 5 === 2
      ? { breaks: requests % 2 === 0 ? 'before' : 'after' }
      : { delayMs: requests % 3 }
  }
  const options = { batchBytes: 8192, bufferBytesMax: 200_000, requestTimeoutMs: 1000 }
  const { producer, deliveries } = await producerOf(stage, 't', options)
  const said: number[] = []
  const console = { error: ({ line }: { readonly line?: number }) => said.push(line ?? -1) }
  const errors = new RecordErrors({ kind: 'skip' }, console as never)
  const keyPath = parsePath('.id') ?? []
  const records = new RecordSink(
    producer,
    errors,
    new DelimiterSplitter(Buffer.from('\n'), LINE_BYTES_MAX),
    {
      topic: 't',
      partition: undefined,
      prepareTopic: async () => undefined,
      form: 'value',
      recordBytesMax: LINE_BYTES_MAX,
      keyPath,
      sleep: async () => undefined,
      nowMs: () => 0,
    },
  )
  const sink = new KeyedLineSink(producer, records, {
    topic: 't',
    delimiter: 10,
    lineBytesMax: LINE_BYTES_MAX,
    key: keyPath.map(({ bytes }) => bytes),
  })
  const made = Array.from({ length: LINES }, (_, index) => makeLine(index))
  // The last one has no end.
  const input = Buffer.from(made.map(({ text }) => text).join('\n'))
  const feedAll = async (): Promise<void> => {
    for (let from = 0; from < input.length; ) {
      const end = Math.min(input.length, from + 1 + Math.floor(world.random.fraction() * 150_000))
      for (let at = from; at < end || sink.isBlocked; ) {
        if (sink.isBlocked) await sink.ready()
        at = sink.feed(input, at, end)
      }
      from = end
    }
    while (!sink.finish()) await sink.ready()
    await producer.flush()
  }
  await world.run(feedAll())
  const expected = Array.from({ length: PARTITIONS }, (): string[] => [])
  const refused: number[] = []
  for (const [index, { text, key }] of made.entries()) {
    if (key === undefined) refused.push(index + 1)
    else expected[partitionForKey('murmur2', PARTITIONS, Buffer.from(key))]?.push(text)
  }
  expect(partitions.map((partition) => partition.values())).toEqual(expected)
  expect(said).toEqual(refused)
  expect(brokers.defects).toEqual([])
  // Ordinals count the good lines in the order of the input.
  const good = made.filter(({ key }) => key !== undefined)
  expect(producer.appendedCount).toBe(good.length)
  expect(producer.deliveredThrough()).toBe(good.length)
  const placeOf = (ordinal: number): number =>
    partitionForKey('murmur2', PARTITIONS, Buffer.from(good[ordinal]?.key ?? ''))
  for (const { error, partition, firstOrdinal, lastOrdinal } of deliveries) {
    expect(error).toBeUndefined()
    expect([placeOf(firstOrdinal), placeOf(lastOrdinal)]).toEqual([partition, partition])
  }
  expect(new Set(deliveries.map(({ firstOrdinal }) => firstOrdinal)).size).toBe(deliveries.length)
}

describe('keyed lines, by whole pieces and line by line', () => {
  it.each([1, 2, 3])('every good line once, in order; seed %i', (seed) => run(seed))
})
