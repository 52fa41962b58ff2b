/** What plain JavaScript lets through, and no type checker has seen. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { connect, StreamError } from '../../../src/library/index.ts'
import type {
  Connection,
  ConsumerOptions,
  ProducerOptions,
  RecordInput,
} from '../../../src/library/public.d.ts'
import { batchOf } from '../client/client-fixture.ts'
import { LoopbackBrokers } from './loopback-brokers.ts'

describe('options that cannot be used', () => {
  let loopback: LoopbackBrokers
  let stream: Connection
  beforeAll(async () => {
    loopback = await LoopbackBrokers.start()
    loopback.brokers.addTopic('t')[0]?.append(batchOf(['hello']))
    stream = await connect({ broker: loopback.broker })
  })
  afterAll(async () => {
    await stream.close()
    await loopback.stop()
  })

  const failureOf = async (run: () => unknown): Promise<StreamError> => {
    const failure = await Promise.resolve()
      .then(run)
      .then(() => undefined)
      .catch((error: unknown) => error)
    expect(failure).toBeInstanceOf(StreamError)
    return failure as StreamError
  }
  const read = async (options: object): Promise<void> => {
    for await (const _ of stream.consumer({ topics: 't', ...options })) return
  }

  it('no topics at all, and records that cannot be gone through', async () => {
    const none = await failureOf(() => read({ topics: [] }))
    expect(none.code).toBe('CONFIG_INVALID')
    expect(none.message).toContain('give at least one name')
    for (const records of [null, undefined, 5, 'text', {}]) {
      const failure = await failureOf(() => stream.producer().sendAll('t', records as never))
      expect(failure.code).toBe('CONFIG_INVALID')
      expect(failure.message).toContain('records: ')
    }
  })

  it.each([
    [{ compression: 'brotli' }, 'compression: "brotli" cannot be used; give one of none, gzip, '],
    [{ compression: 'GZIP' }, 'none, gzip, snappy, lz4, zstd'],
    [{ acks: 'ALL' }, 'acks: "ALL" cannot be used; give one of all, 1, 0'],
    [{ acks: -1 }, 'acks: -1 '],
    [{ lingerMs: Number.NaN }, 'lingerMs: NaN '],
    [{ lingerMs: -1 }, 'lingerMs: -1 '],
    [{ deliveryTimeoutMs: '5' }, 'deliveryTimeoutMs: "5" '],
  ])('producer(%o): CONFIG_INVALID, and it says what can', async (options, words) => {
    const failure = await failureOf(() => stream.producer(options as ProducerOptions))
    expect(failure.code).toBe('CONFIG_INVALID')
    expect(failure.message).toContain(words)
  })

  it.each([new Map([['h', 'x']]), 'text', ['ab'], [['h']], null])(
    'headers %o: RECORD_INVALID, not a record without them',
    async (headers) => {
      await using producer = stream.producer()
      const failure = await failureOf(() =>
        producer.send('t', { value: 'v', headers } as unknown as RecordInput),
      )
      expect([failure.code, failure.message]).toEqual([
        'RECORD_INVALID',
        'headers are an object, or an array of [name, value]',
      ])
    },
  )

  it.each([
    [{ from: new Date(Number.NaN) }, 'from: an invalid Date cannot be used'],
    [{ from: 1.5 }, 'from: 1.5 '],
    [{ from: Number.NaN }, 'from: NaN '],
    [{ from: 'begin' }, 'from: "begin" '],
    [{ from: [{ topic: 't', partition: 0, offset: 0.5 }] }, 'from: 0.5 '],
    [{ from: [{ topic: 't', partition: 0, offset: -1 }] }, 'from: -1 '],
    [{ from: 0, until: new Date(Number.NaN) }, 'until: an invalid Date '],
    [{ from: 0, until: 0.5 }, 'until: 0.5 '],
    [{ isolation: 'committed' }, 'read_committed, read_uncommitted'],
    [{ topics: undefined }, 'topics: undefined '],
    [{ topics: ['t', 7] }, 'topics: 7 '],
    [{ partitions: 0 }, 'partitions: 0 '],
  ])('consumer(%o): CONFIG_INVALID', async (options, words) => {
    const failure = await failureOf(() =>
      stream.consumer({ topics: 't', ...options } as ConsumerOptions),
    )
    expect(failure.code).toBe('CONFIG_INVALID')
    expect(failure.message).toContain(words)
  })

  it('null is the default', async () => {
    const none = { acks: null, compression: null, lingerMs: null, deliveryTimeoutMs: null }
    await stream.producer(none as unknown as ProducerOptions).close()
    await read({ partitions: null, from: null, until: 'end', isolation: null })
  })

  it.each([[-1], [0.5], [9], [Number.NaN], ['0']])(
    'partitions: [%s] is none of the topic',
    async (partition) => {
      const failure = await failureOf(() => read({ partitions: [partition], from: 'start' }))
      expect(failure.code).toBe('TOPIC_UNKNOWN')
      expect(failure.message).toBe(`t partition ${partition}: no such partition`)
    },
  )

  it('a time before 1970 is asked for as a time, not as the end or the start', async () => {
    const asked: number[] = []
    loopback.brokers.override.ListOffsets = ({ topics }) => {
      for (const { partitions } of topics) asked.push(...partitions.map((row) => row.timestamp))
      return undefined
    }
    const place = new Date(-1)
    await read({ from: place, until: 'end' })
    await stream.admin.offsets('t', place)
    delete loopback.brokers.override.ListOffsets
    expect(asked.filter((time) => time >= 0)).toEqual([0, 0])
  })

  const { NaN: none } = Number
  it.each<readonly [string, string, string, () => unknown]>([
    [
      'createTopic',
      'CONFIG_INVALID',
      'partitions: 1.5 ',
      () => stream.admin.createTopic('x', { partitions: 1.5 }),
    ],
    [
      'createTopic',
      'CONFIG_INVALID',
      'replicas: NaN ',
      () => stream.admin.createTopic('x', { replicas: none }),
    ],
    [
      'addPartitions',
      'CONFIG_INVALID',
      'count: 4294967297 ',
      () => stream.admin.addPartitions('t', 2 ** 32 + 1),
    ],
    [
      'offsets',
      'CONFIG_INVALID',
      'place: an invalid Date ',
      () => stream.admin.offsets('t', new Date(none)),
    ],
    ['trim', 'CONFIG_INVALID', 'beforeOffset: NaN ', () => stream.admin.trim('t', 0, none)],
    ['trim', 'CONFIG_INVALID', 'beforeOffset: 0.5 ', () => stream.admin.trim('t', 0, 0.5)],
    [
      'trim',
      'TOPIC_UNKNOWN',
      't partition -1: no such partition',
      () => stream.admin.trim('t', -1, 0),
    ],
    [
      'trim',
      'TOPIC_UNKNOWN',
      't partition 9: no such partition',
      () => stream.admin.trim('t', 9, 0),
    ],
  ])('admin.%s: %s %s', async (_, code, words, run) => {
    const failure = await failureOf(run)
    expect(failure.code).toBe(code)
    expect(failure.message).toContain(words)
  })
})
