import { describe, expect, it } from 'vitest'
import { isStreamError } from '../../../src/base/errors.ts'
import { Cluster, type ClusterWarning } from '../../../src/client/cluster.ts'
import type { Delivery } from '../../../src/client/delivery.ts'
import type { Net } from '../../../src/ports/net.ts'
import { KafkaError } from '../../../src/protocol/errors.ts'
import { appendAll, fixture, linesOf, producerOf } from './client-fixture.ts'
import { ClientWorld } from './client-world.ts'
import { FakeCluster, type ProduceFault } from './fake-cluster.ts'

/** Applies the faults in turn, one per Produce request. */
function inTurn(faults: readonly (ProduceFault | undefined)[]): () => ProduceFault | undefined {
  const rest = [...faults]
  return () => rest.shift()
}

const failed = (deliveries: readonly Delivery[]) =>
  deliveries.filter(({ error }) => error !== undefined)

describe('producer: the plain way', () => {
  it('delivers lines in order, with offsets and ordinals', async () => {
    const stage = fixture()
    stage.brokers.addTopic('t')
    const { producer, deliveries } = await producerOf(stage, 't', { batchBytes: 200 })
    const lines = linesOf('line ', 40)
    await stage.world.run(appendAll(producer, 't', 0, lines))
    await stage.world.run(producer.flush())
    expect(stage.brokers.partition('t').values()).toEqual(lines)
    expect(deliveries.length).toBeGreaterThan(2)
    for (const { baseOffset, firstOrdinal, lastOrdinal, recordCount } of deliveries) {
      expect(baseOffset).toBe(firstOrdinal)
      expect(lastOrdinal - firstOrdinal + 1).toBe(recordCount)
    }
    expect(producer.deliveredThrough()).toBe(40)
    expect(stage.brokers.defects).toEqual([])
  })

  it('needs three round trips for the first record', async () => {
    const stage = fixture()
    stage.brokers.addTopic('t')
    const { producer } = await producerOf(stage, 't')
    await appendAll(producer, 't', undefined, ['x'])
    await stage.world.run(producer.flush())
    const apis = stage.brokers.requests.map(({ api }) => api)
    expect(apis.toSorted()).toEqual(['ApiVersions', 'InitProducerId', 'Metadata', 'Produce'])
    expect(stage.brokers.requests.at(-1)?.version).toBe(12)
  })

  it('sends at once when the input is idle and nothing is in flight, else with the next acknowledgement', async () => {
    const stage = fixture()
    stage.brokers.addTopic('t')
    const { producer } = await producerOf(stage, 't', { lingerMs: 10_000 })
    await stage.world.pass(100)
    const partition = stage.brokers.partition('t')
    stage.brokers.produceFault = () => ({ delayMs: 50 })
    await appendAll(producer, 't', 0, ['a'])
    producer.flushSoon()
    await appendAll(producer, 't', 0, ['b'])
    producer.flushSoon()
    await appendAll(producer, 't', 0, ['c'])
    await stage.world.pass(40)
    expect(partition.values()).toEqual(['a'])
    await stage.world.pass(40)
    expect(partition.batches.length).toBe(2)
    expect(partition.values()).toEqual(['a', 'b', 'c'])
  })

  it('lets no record wait longer than lingerMs when the window is open', async () => {
    const stage = fixture()
    stage.brokers.addTopic('t')
    const { producer } = await producerOf(stage, 't', { lingerMs: 5 })
    await stage.world.pass(100)
    await appendAll(producer, 't', 0, ['a'])
    await stage.world.pass(9)
    expect(stage.brokers.partition('t').values()).toEqual(['a'])
  })

  it.each([
    ['kafka', 'kafka://one:9092', 5],
    ['native', 'ipc:///one', 16],
  ])(
    'opens the window only after a batch sent alone was acknowledged: %s',
    async (_door, address, window) => {
      const stage = fixture({ addresses: [address] })
      stage.brokers.addTopic('t')
      let first = true
      stage.brokers.produceFault = () => {
        const fault = { delayMs: first ? 50 : 20 }
        first = false
        return fault
      }
      const { producer } = await producerOf(stage, 't', { batchBytes: 120 })
      const appended = appendAll(producer, 't', 0, linesOf('some longer line ', 60))
      await stage.world.pass(40)
      expect(stage.brokers.producesInFlightMax).toBe(1)
      await stage.world.run(appended)
      await stage.world.run(producer.flush())
      expect(stage.brokers.producesInFlightMax).toBe(window)
    },
  )

  it('keeps keyless records together for a batch and changes partitions between batches', async () => {
    const stage = fixture()
    const partitions = stage.brokers.addTopic('t', 4)
    const { producer } = await producerOf(stage, 't', { batchBytes: 200 })
    const lines = linesOf('line ', 200)
    await stage.world.run(appendAll(producer, 't', undefined, lines))
    await stage.world.run(producer.flush())
    const all = partitions.flatMap((partition) => partition.values())
    expect(all.toSorted()).toEqual(lines.toSorted())
    expect(partitions.filter((partition) => partition.logEnd > 0).length).toBeGreaterThan(2)
  })

  it('compresses, and reports the bytes as sent', async () => {
    const stage = fixture()
    stage.brokers.addTopic('t')
    const { producer, deliveries } = await producerOf(stage, 't', { codec: 'gzip' })
    const lines = linesOf('the same words again and again ', 500)
    await stage.world.run(appendAll(producer, 't', 0, lines))
    await stage.world.run(producer.flush())
    expect(stage.brokers.partition('t').values()).toEqual(lines)
    expect(deliveries.reduce((sum, { bytes }) => sum + bytes, 0)).toBeLessThan(5000)
  })

  it('names the ordinals of keyed records when asked to', async () => {
    const stage = fixture()
    stage.brokers.addTopic('t', 2)
    const { producer, deliveries } = await producerOf(stage, 't', { trackOrdinals: true })
    for (const [index, partition] of [0, 1, 1, 0, 1].entries()) {
      const bytes = Buffer.from(`v${index}`)
      producer.append('t', partition, { value: { bytes, start: 0, end: bytes.length } })
    }
    await stage.world.run(producer.flush())
    const byPartition = deliveries.toSorted((a, b) => a.partition - b.partition)
    expect(byPartition.map(({ ordinals }) => ordinals)).toEqual([
      [0, 3],
      [1, 2, 4],
    ])
  })
})

describe('producer: lost answers and moved leaders', () => {
  const losses: readonly (readonly [string, readonly (ProduceFault | undefined)[]])[] = [
    ['the link breaks before the append', [{ breaks: 'before' }]],
    ['the answer of the first batch is lost', [{ breaks: 'after' }]],
    ['the answer is lost twice', [undefined, { breaks: 'after' }, { breaks: 'after' }]],
    ['several in flight lose their answers', [undefined, { delayMs: 30, breaks: 'after' }]],
    [
      'replicas are short, before and after the append',
      [
        { code: KafkaError.NOT_ENOUGH_REPLICAS },
        { code: KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND, appends: true },
      ],
    ],
    [
      'an earlier batch is refused while later ones are in flight',
      [undefined, { code: KafkaError.NOT_ENOUGH_REPLICAS }],
    ],
    ['a later batch is refused', [undefined, undefined, { code: KafkaError.NOT_ENOUGH_REPLICAS }]],
    ['a retriable notice comes instead of an answer', [{ notice: KafkaError.REQUEST_TIMED_OUT }]],
  ]
  for (const [title, faults] of losses) {
    it(`each record is in the log once and in order: ${title}`, async () => {
      const stage = fixture()
      stage.brokers.addTopic('t')
      stage.brokers.produceFault = inTurn(faults)
      const { producer, deliveries } = await producerOf(stage, 't', { batchBytes: 120 })
      const lines = linesOf('some longer line ', 60)
      await stage.world.run(appendAll(producer, 't', 0, lines))
      await stage.world.run(producer.flush())
      expect(stage.brokers.partition('t').values()).toEqual(lines)
      expect(failed(deliveries)).toEqual([])
      expect(deliveries.map(({ baseOffset }) => baseOffset)).toEqual(
        deliveries.map(({ firstOrdinal }) => firstOrdinal),
      )
      expect(stage.brokers.defects).toEqual([])
    })
  }

  it('a broker that never answers loses the connection, and the batches go again', async () => {
    const stage = fixture()
    stage.brokers.addTopic('t')
    stage.brokers.produceFault = inTurn([undefined, { hangs: true }, { hangs: true }])
    const { producer } = await producerOf(stage, 't', { batchBytes: 120, requestTimeoutMs: 1000 })
    const lines = linesOf('some longer line ', 30)
    await stage.world.run(appendAll(producer, 't', 0, lines))
    await stage.world.run(producer.flush())
    expect(stage.brokers.partition('t').values()).toEqual(lines)
  })

  it('follows a leader that moves while batches are in flight', async () => {
    const stage = fixture({ addresses: ['ipc:///one', 'ipc:///two'] })
    stage.brokers.addTopic('t')
    const { producer, deliveries } = await producerOf(stage, 't', { batchBytes: 120 })
    const lines = linesOf('some longer line ', 90)
    const appended = appendAll(producer, 't', 0, lines)
    for (const nodeId of [1, 0, 1]) {
      await stage.world.pass(12)
      stage.brokers.moveLeader('t', 0, nodeId)
    }
    await stage.world.run(appended)
    await stage.world.run(producer.flush())
    expect(stage.brokers.partition('t').values()).toEqual(lines)
    expect(failed(deliveries)).toEqual([])
  })

  it('goes on when the daemon was away for a while, and warns once', async () => {
    const warnings: string[] = []
    const stage = fixture({ cluster: { onWarning: ({ kind }) => warnings.push(kind) } })
    stage.brokers.addTopic('t')
    const { producer } = await producerOf(stage, 't', { batchBytes: 120 })
    await appendAll(producer, 't', 0, ['before'])
    await stage.world.run(producer.flush())
    stage.brokers.stop(0)
    await appendAll(producer, 't', 0, ['after'])
    const flushed = producer.flush()
    await stage.world.pass(20_000)
    stage.brokers.start(0)
    await stage.world.run(flushed)
    expect(stage.brokers.partition('t').values()).toEqual(['before', 'after'])
    expect(warnings).toEqual(['lost', 'regained'])
  })
})

describe('producer: failures for good', () => {
  it('one refused partition fails alone', async () => {
    const stage = fixture()
    const partitions = stage.brokers.addTopic('t', 3)
    const { producer, deliveries } = await producerOf(stage, 't')
    stage.brokers.topics.set('t', [partitions[0]!, partitions[1]!])
    for (const partition of [0, 1, 2]) await appendAll(producer, 't', partition, [`p${partition}`])
    stage.brokers.override.Metadata = () => undefined
    stage.brokers.produceFault = () => undefined
    const outcome = stage.world.run(producer.flush())
    await expect(outcome).rejects.toSatisfy((error) => isStreamError(error, 'NOT_DELIVERED'))
    expect(partitions[0]?.values()).toEqual(['p0'])
    expect(partitions[1]?.values()).toEqual(['p1'])
    expect(failed(deliveries).map(({ partition }) => partition)).toEqual([2])
    expect(producer.deliveredThrough()).toBe(2)
  })

  it('a record too large for the topic is told with the sizes, and nothing behind it is delivered', async () => {
    const stage = fixture()
    stage.brokers.addTopic('t')
    stage.brokers.maxMessageBytes = 150
    const { producer, deliveries } = await producerOf(stage, 't', { batchBytes: 400 })
    await appendAll(producer, 't', 0, ['small'])
    await stage.world.run(producer.flush())
    const lines = [...linesOf('before ', 20), 'huge'.repeat(50), ...linesOf('behind ', 40)]
    await stage.world.run(appendAll(producer, 't', 0, lines).catch(() => {}))
    const outcome = stage.world.run(producer.flush())
    await expect(outcome).rejects.toSatisfy((error) => isStreamError(error, 'RECORD_TOO_LARGE'))
    expect(stage.brokers.partition('t').values()).toEqual(['small', ...lines.slice(0, 20)])
    const [first, ...others] = failed(deliveries)
    expect(first).toMatchObject({ firstOrdinal: 21, lastOrdinal: 21, recordCount: 1 })
    expect(first?.error?.message).toMatch(/\d+ bytes.*MESSAGE_TOO_LARGE/)
    expect(first?.error?.hint).toContain('max.message.bytes')
    expect(others.length).toBeGreaterThan(0)
    for (const { error } of others) expect(error?.code).toMatch(/NOT_DELIVERED|RECORD_TOO_LARGE/)
    expect(others.at(-1)?.error?.code).toBe('NOT_DELIVERED')
    expect(() => producer.appendLines('t', 0, Buffer.from('x\n'), 0, 2)).toThrow()
  })

  it.each([
    ['plain', {}],
    ['compressed', { codec: 'gzip' }],
    ['acks=1', { acks: 1 }],
    ['continue', { afterRefusal: 'continue' }],
  ] as const)(
    'batches too large for the topic are divided, and the next ones made smaller: %s',
    async (_, options) => {
      const stage = fixture()
      stage.brokers.addTopic('t')
      stage.brokers.maxMessageBytes = 150
      const { producer, deliveries } = await producerOf(stage, 't', {
        batchBytes: 2000,
        ...options,
      })
      const lines = Array.from({ length: 3000 }, (_, index) =>
        ((index * 2_654_435_761) % 4_294_967_296).toString(36).repeat(1 + (index % 3)),
      )
      await stage.world.run(appendAll(producer, 't', 0, lines))
      await stage.world.run(producer.flush())
      expect(stage.brokers.partition('t').values()).toEqual(lines)
      expect(failed(deliveries)).toEqual([])
      expect(producer.deliveredThrough()).toBe(lines.length)
      const ordinals = deliveries.flatMap(({ firstOrdinal, recordCount }) =>
        Array.from({ length: recordCount }, (_, index) => firstOrdinal + index),
      )
      // Answers may overtake each other.
      expect(ordinals.toSorted((a, b) => a - b)).toEqual(lines.map((_, index) => index))
      // Whatever had been filled before the first refusal, and what it took to find the size.
      const produces = stage.brokers.requests.filter(({ api }) => api === 'Produce').length
      expect(produces - deliveries.length).toBeLessThan(60)
      expect(stage.brokers.defects).toEqual([])
    },
  )

  it('a divided batch whose records keys have spread is delivered through its last part', async () => {
    const stage = fixture()
    const partitions = stage.brokers.addTopic('t', 2)
    stage.brokers.maxMessageBytes = 150
    const { producer } = await producerOf(stage, 't', { batchBytes: 1000 })
    const lines = linesOf('line ', 60)
    for (const [index, line] of lines.entries()) {
      await stage.world.run(appendAll(producer, 't', index % 2, [line]))
    }
    expect(producer.deliveredThrough()).toBe(0)
    await stage.world.run(producer.flush())
    expect(producer.deliveredThrough()).toBe(60)
    for (const [own, partition] of partitions.entries()) {
      expect(partition.values()).toEqual(lines.filter((_, index) => index % 2 === own))
    }
  })

  it('afterRefusal continue: only the refused batch is missing, the rest is in order', async () => {
    const stage = fixture()
    stage.brokers.addTopic('t')
    stage.brokers.maxMessageBytes = 300
    const options = { batchBytes: 200, afterRefusal: 'continue' } as const
    const { producer, deliveries } = await producerOf(stage, 't', options)
    const lines = linesOf('a longer line ', 60)
    lines.splice(30, 0, 'huge'.repeat(100))
    lines.splice(45, 0, 'vast'.repeat(100))
    await stage.world.run(appendAll(producer, 't', 0, lines))
    await stage.world.run(producer.flush())
    const expected = lines.filter((line) => line.length < 100)
    expect(stage.brokers.partition('t').values()).toEqual(expected)
    expect(
      failed(deliveries)
        .map(({ firstOrdinal }) => firstOrdinal)
        .toSorted(),
    ).toEqual([30, 45])
    expect(producer.deliveredThrough()).toBe(lines.length)
    expect(stage.brokers.defects).toEqual([])
  })

  it.each(['none', 'gzip'] as const)(
    'continue: only the records that a refusal names are missing, and they are told one by one (%s)',
    async (codec) => {
      const stage = fixture()
      stage.brokers.addTopic('t')
      stage.brokers.refusesValue = (value) => value.startsWith('bad')
      const { producer, deliveries } = await producerOf(stage, 't', {
        batchBytes: 400,
        afterRefusal: 'continue',
        codec,
      })
      const lines = linesOf('a longer line ', 200)
      for (const at of [0, 30, 31, 45, 120, 199]) lines[at] = `bad ${at}`
      await stage.world.run(appendAll(producer, 't', 0, lines))
      await stage.world.run(producer.flush())
      const expected = lines.filter((line) => !line.startsWith('bad'))
      expect(stage.brokers.partition('t').values()).toEqual(expected)
      const refused = failed(deliveries)
      for (const { recordCount } of refused) expect(recordCount).toBe(1)
      // As the answers come.
      const ordinals = refused.map(({ firstOrdinal }) => firstOrdinal)
      expect(ordinals.toSorted((left, right) => left - right)).toEqual([0, 30, 31, 45, 120, 199])
      expect(producer.deliveredThrough()).toBe(200)
      expect(stage.brokers.defects).toEqual([])
    },
  )

  it('stop: what comes before the record that a refusal names is delivered, and nothing behind it', async () => {
    const stage = fixture()
    stage.brokers.addTopic('t')
    stage.brokers.refusesValue = (value) => value === 'bad'
    const { producer, deliveries } = await producerOf(stage, 't', { batchBytes: 400 })
    const lines = linesOf('a longer line ', 200)
    lines[77] = 'bad'
    const run = appendAll(producer, 't', 0, lines).then(() => producer.flush())
    const outcome = stage.world.run(run)
    await expect(outcome).rejects.toSatisfy((error) => isStreamError(error, 'RECORD_INVALID'))
    expect(stage.brokers.partition('t').values()).toEqual(lines.slice(0, 77))
    const [first, ...others] = failed(deliveries)
    expect(first).toMatchObject({ firstOrdinal: 77, recordCount: 1 })
    for (const { error } of others) expect(error?.code).toBe('NOT_DELIVERED')
    expect(producer.deliveredThrough()).toBe(77)
  })

  it('a refusal that names records says which they are', async () => {
    const stage = fixture()
    stage.brokers.addTopic('t')
    stage.brokers.refusesValue = (value) => value.startsWith('bad')
    const { producer, deliveries } = await producerOf(stage, 't')
    await stage.world.run(appendAll(producer, 't', 0, ['bad', 'b', 'bad too', 'c']))
    await stage.world.run(producer.flush().catch(() => undefined))
    const [refused] = failed(deliveries)
    expect(refused).toMatchObject({ refusedIndexes: [0, 2], error: { code: 'RECORD_INVALID' } })
    expect(refused?.error?.message).toContain('record 1 of 4 in its batch')
  })

  it('a delivery timeout fails what waits, with the outcome, and everything behind it', async () => {
    const stage = fixture()
    stage.brokers.addTopic('t')
    const options = { batchBytes: 120, deliveryTimeoutMs: 5000, requestTimeoutMs: 1000 }
    const { producer, deliveries } = await producerOf(stage, 't', options)
    stage.brokers.produceFault = inTurn([undefined, { hangs: true }])
    await stage.world.run(appendAll(producer, 't', 0, ['one']))
    await stage.world.run(producer.flush())
    await appendAll(producer, 't', 0, ['two'])
    producer.flushSoon()
    await stage.world.pass(100)
    stage.brokers.stop(0)
    await stage.world.pass(10)
    await appendAll(producer, 't', 0, ['three'])
    const outcome = stage.world.run(producer.flush())
    await expect(outcome).rejects.toSatisfy((error) => isStreamError(error, 'NOT_DELIVERED'))
    expect(failed(deliveries).map(({ outcomeUnknown }) => outcomeUnknown)).toEqual([true, false])
    expect(producer.deliveredThrough()).toBe(1)
    expect(stage.world.nowMs).toBeLessThan(10_000)
  })

  it('a lost producer state is told, never papered over', async () => {
    const stage = fixture()
    stage.brokers.addTopic('t')
    const { producer } = await producerOf(stage, 't')
    await appendAll(producer, 't', 0, ['one'])
    await stage.world.run(producer.flush())
    stage.brokers.produceFault = () => ({ code: KafkaError.UNKNOWN_PRODUCER_ID })
    await appendAll(producer, 't', 0, ['two'])
    const outcome = stage.world.run(producer.flush())
    await expect(outcome).rejects.toMatchObject({ kafkaError: KafkaError.UNKNOWN_PRODUCER_ID })
    expect(stage.brokers.partition('t').values()).toEqual(['one'])
  })

  it('an end of the log that has lost batches is a gap in sequences, and fatal', async () => {
    const stage = fixture()
    stage.brokers.addTopic('t')
    const { producer } = await producerOf(stage, 't')
    await appendAll(producer, 't', 0, ['one'])
    await stage.world.run(producer.flush())
    for (const state of stage.brokers.partition('t').producers.values()) {
      state.batches = [{ firstSequence: 90, lastSequence: 99, baseOffset: 0 }]
    }
    await appendAll(producer, 't', 0, ['two'])
    const outcome = stage.world.run(producer.flush())
    await expect(outcome).rejects.toMatchObject({
      kafkaError: KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
    })
  })

  it('a broker without producer ids is named, with the way out', async () => {
    const stage = fixture()
    stage.brokers.addTopic('t')
    stage.brokers.ranges.delete(22)
    const { producer } = await producerOf(stage, 't')
    await stage.world.pass(100)
    expect(producer.failure).toMatchObject({ code: 'UNSUPPORTED_BY_BROKER', hint: /acks/ })
  })

  it('a line no batch can hold is refused without harm to its neighbours', async () => {
    const stage = fixture()
    stage.brokers.addTopic('t')
    const { producer } = await producerOf(stage, 't', { batchBytes: 1000, recordBytesMax: 2000 })
    const chunk = Buffer.from(`a\nb\n${'x'.repeat(3000)}\nc\n`)
    let at = 0
    const append = () => {
      at += producer.appendLines('t', 0, chunk, at, chunk.length)
    }
    expect(append).toThrow(/3000 bytes/)
    expect(producer.consumedBytes).toBe(4)
    at += producer.consumedBytes + 3001
    append()
    expect(at).toBe(chunk.length)
    await stage.world.run(producer.flush())
    expect(stage.brokers.partition('t').values()).toEqual(['a', 'b', 'c'])
  })

  it('closing gives up what is unresolved and says so', async () => {
    const stage = fixture()
    stage.brokers.addTopic('t')
    const { producer, deliveries } = await producerOf(stage, 't')
    stage.brokers.produceFault = () => ({ hangs: true })
    await appendAll(producer, 't', 0, ['one'])
    producer.flushSoon()
    await stage.world.pass(50)
    await appendAll(producer, 't', 0, ['two'])
    producer.close()
    expect(deliveries.map(({ error }) => error?.code)).toEqual(['NOT_DELIVERED', 'NOT_DELIVERED'])
  })

  it('an unknown topic is told at once', async () => {
    const stage = fixture()
    await expect(producerOf(stage, 'none')).rejects.toMatchObject({ code: 'TOPIC_UNKNOWN' })
    expect(stage.world.nowMs).toBeLessThan(100)
  })
})

describe('producer: buffers on their way', () => {
  /** A net that remembers what was sent as it was then; frames of batches, by link. */
  function remembering(net: Net): { net: Net; sent: { bytes: Uint8Array; copy: Uint8Array }[][] } {
    const sent: { bytes: Uint8Array; copy: Uint8Array }[][] = []
    const connect: Net['connect'] = (address, events) => {
      const frames: { bytes: Uint8Array; copy: Uint8Array }[] = []
      sent.push(frames)
      const link = net.connect(address, events)
      return {
        id: link.id,
        peer: link.peer,
        closable: link.closable,
        get queuedBytes() {
          return link.queuedBytes
        },
        send: (parts) => {
          for (const bytes of parts) {
            if (bytes.length >= 1024) frames.push({ bytes, copy: bytes.slice() })
          }
          link.send(parts)
        },
        close: () => link.close(),
      }
    }
    return { net: { connect, listen: net.listen.bind(net) }, sent }
  }

  async function produceMany(acks: 'all' | 0, faults: readonly ProduceFault[]) {
    const world = new ClientWorld()
    const brokers = new FakeCluster(world, ['ipc:///one'])
    const { net, sent } = remembering(world.net)
    const addresses = brokers.addresses
    const cluster = new Cluster(world.time, world.random, net, world.log, { addresses })
    brokers.addTopic('t')
    brokers.produceFault = inTurn(faults)
    const options = { acks, batchBytes: 2000 }
    const { producer } = await producerOf({ world, brokers, cluster }, 't', options)
    const lines = linesOf('a line that is long enough for a frame of its own ', 2400)
    await world.run(appendAll(producer, 't', 0, lines))
    await world.run(producer.flush())
    expect(brokers.partition('t').values()).toEqual(lines)
    return sent
  }

  it('what a broken link may still hold is never written to again', async () => {
    const [first, second] = await produceMany('all', [{ breaks: 'after' }])
    expect(first?.length).toBe(1)
    expect(second?.length).toBeGreaterThan(10)
    for (const { bytes, copy } of first ?? []) expect(Buffer.compare(bytes, copy)).toBe(0)
    // Acknowledged buffers are used again: there are fewer of them than batches.
    const buffers = new Set(second?.map(({ bytes }) => bytes.buffer))
    expect(buffers.size).toBeLessThan((second?.length ?? 0) / 2)
  })

  it('acks=0 never knows that a buffer is free, so it takes a new one each time', async () => {
    const [first] = await produceMany(0, [])
    expect(first?.length).toBeGreaterThan(10)
    for (const { bytes, copy } of first ?? []) expect(Buffer.compare(bytes, copy)).toBe(0)
  })
})

describe('producer: bounds', () => {
  it('takes the window and two batches more, then says that it is full', async () => {
    const stage = fixture()
    stage.brokers.addTopic('t')
    stage.brokers.produceFault = () => ({ hangs: true })
    const { producer } = await producerOf(stage, 't', { batchBytes: 1000 })
    await stage.world.pass(50)
    const chunk = Buffer.from('x'.repeat(99).concat('\n').repeat(1000))
    const consumed = producer.appendLines('t', 0, chunk, 0, chunk.length)
    expect(producer.isFull).toBe(true)
    expect(consumed).toBeLessThanOrEqual(18 * 1000)
    expect(producer.appendLines('t', 0, chunk, consumed, chunk.length)).toBe(0)
  })

  it('memory is shared by many partitions, and nobody starves', async () => {
    const stage = fixture()
    const partitions = stage.brokers.addTopic('t', 40)
    const options = { batchBytes: 1000, bufferBytesMax: 8000, lingerMs: 60_000 }
    const { producer } = await producerOf(stage, 't', options)
    const sent: string[] = []
    const appended = (async () => {
      for (let index = 0; index < 800; index++) {
        const bytes = Buffer.from(`value ${index}`)
        sent.push(bytes.toString())
        const record = { value: { bytes, start: 0, end: bytes.length } }
        while (!producer.append('t', (index * 7) % 40, record)) await producer.writable()
      }
      await producer.flush()
    })()
    await stage.world.run(appended)
    expect(partitions.flatMap((partition) => partition.values()).toSorted()).toEqual(
      sent.toSorted(),
    )
  })
})

describe('producer: a partition that takes nothing for now', () => {
  it('is told after five seconds, once, and again when it takes records', async () => {
    const warnings: ClusterWarning[] = []
    const stage = fixture({ cluster: { onWarning: (warning) => warnings.push(warning) } })
    stage.brokers.addTopic('t')
    let isFull = true
    stage.brokers.produceFault = () =>
      isFull ? { code: KafkaError.KAFKA_STORAGE_ERROR } : undefined
    const { producer, deliveries } = await producerOf(stage, 't')
    await appendAll(producer, 't', 0, ['a'])
    const flushed = producer.flush()
    await stage.world.pass(4000)
    expect(warnings).toEqual([])
    await stage.world.pass(30_000)
    expect(warnings).toMatchObject([{ kind: 'refused', partition: { topic: 't', partition: 0 } }])
    const [refused] = warnings
    expect(refused?.kind === 'refused' && refused.error.message).toBe(
      't partition 0: the disk of the broker is full or has failed (KAFKA_STORAGE_ERROR)',
    )
    isFull = false
    await stage.world.run(flushed)
    expect(warnings.map(({ kind }) => kind)).toEqual(['refused', 'taken'])
    expect(deliveries.map(({ error }) => error)).toEqual([undefined])
  })

  it('a refusal that is over sooner is not told', async () => {
    const warnings: ClusterWarning[] = []
    const stage = fixture({ cluster: { onWarning: (warning) => warnings.push(warning) } })
    stage.brokers.addTopic('t')
    stage.brokers.produceFault = inTurn([
      { code: KafkaError.NOT_ENOUGH_REPLICAS },
      { code: KafkaError.NOT_LEADER_OR_FOLLOWER },
      undefined,
      { code: KafkaError.NOT_ENOUGH_REPLICAS },
    ])
    const { producer } = await producerOf(stage, 't', { batchBytes: 120 })
    await stage.world.run(appendAll(producer, 't', 0, linesOf('some longer line ', 40)))
    await stage.world.run(producer.flush())
    expect(warnings).toEqual([])
  })
})

describe('producer: acks 1 and 0', () => {
  it('acks=1 has no sequences and one batch in flight, so that order holds', async () => {
    const stage = fixture()
    stage.brokers.addTopic('t')
    stage.brokers.produceFault = inTurn([undefined, { code: KafkaError.NOT_ENOUGH_REPLICAS }])
    const { producer } = await producerOf(stage, 't', { acks: 1, batchBytes: 120 })
    const lines = linesOf('some longer line ', 40)
    await stage.world.run(appendAll(producer, 't', 0, lines))
    await stage.world.run(producer.flush())
    expect(stage.brokers.partition('t').values()).toEqual(lines)
    expect(stage.brokers.producesInFlightMax).toBe(1)
    expect(stage.brokers.partition('t').producers.size).toBe(0)
  })

  it('acks=0 is not answered; flush waits until the broker has taken all', async () => {
    const stage = fixture()
    stage.brokers.addTopic('t')
    const { producer, deliveries } = await producerOf(stage, 't', { acks: 0, batchBytes: 120 })
    const lines = linesOf('some longer line ', 40)
    await stage.world.run(appendAll(producer, 't', 0, lines))
    await stage.world.run(producer.flush())
    expect(stage.brokers.partition('t').values()).toEqual(lines)
    expect(deliveries.every(({ baseOffset, error }) => baseOffset === -1 && !error)).toBe(true)
  })
})
