/** The library's consumer over simulated brokers. */
import { describe, expect, it } from 'vitest'
import { Admin } from '../../../src/client/admin.ts'
import { Consumer as Client } from '../../../src/client/consumer.ts'
import { LibraryConsumer } from '../../../src/library/consumer.ts'
import type { ConsumerOptions } from '../../../src/library/public.d.ts'
import { BatchBuilder } from '../../../src/record/batch-builder.ts'
import { codecs } from '../../../src/record/compression.ts'
import { batchOf, type Fixture, fixture } from '../client/client-fixture.ts'
import { FakePartition } from '../client/fake-cluster.ts'

function consumerOf(
  { world, cluster }: Fixture,
  options: Omit<ConsumerOptions, 'topics'>,
): LibraryConsumer {
  const { time, random } = world
  return new LibraryConsumer(new Client(time, random, cluster), {
    topics: 't',
    ...options,
    time,
    admin: () => new Admin(time, random, cluster),
    onWarning: () => undefined,
    onClose: () => undefined,
  })
}

/** Reads on beside the test. */
function follow(scene: Fixture, options: Omit<ConsumerOptions, 'topics'>) {
  const consumer = consumerOf(scene, options)
  const read: string[] = []
  const ended = (async () => {
    for await (const { partition, value } of consumer) {
      read.push(`${partition} ${Buffer.from(value ?? []).toString()}`)
    }
  })()
  return { consumer, read, ended }
}

function addPartition(scene: Fixture, ...values: readonly string[]): FakePartition {
  const added = new FakePartition()
  added.append(batchOf(values))
  scene.brokers.topics.get('t')?.push(added)
  return added
}

describe('partitions that are added', () => {
  it.each([
    ['start', ['0 a', '1 b', '1 c', '1 d']],
    ['end', ['1 b', '1 c', '1 d']],
  ] as const)('are found within seconds and read from their start, from %s', async (from, all) => {
    const scene = fixture()
    scene.brokers.addTopic('t')[0]?.append(batchOf(['a']))
    const { consumer, read, ended } = follow(scene, { from })
    await scene.world.pass(1000)
    const added = addPartition(scene, 'b', 'c')
    await scene.world.pass(6000)
    added.append(batchOf(['d']))
    await scene.world.pass(1000)
    expect(read).toEqual(all)
    expect(consumer.positions()).toEqual([
      { topic: 't', partition: 0, offset: 1 },
      { topic: 't', partition: 1, offset: 3 },
    ])
    await consumer.close()
    await scene.world.run(ended)
  })

  it('are found too while there is always something at hand, and while a broker was away', async () => {
    const scene = fixture()
    const [first] = scene.brokers.addTopic('t')
    first?.append(batchOf(['a']))
    const { consumer, read, ended } = follow(scene, { from: 'start' })
    await scene.world.pass(1000)
    scene.brokers.stop(0)
    await scene.world.pass(7000)
    scene.brokers.start(0)
    addPartition(scene, 'b')
    for (let step = 0; step < 400; step += 1) {
      first?.append(batchOf(['x']))
      await scene.world.pass(20)
    }
    expect(read).toContain('1 b')
    await consumer.close()
    await scene.world.run(ended)
  })

  it('go on at saved positions', async () => {
    const scene = fixture()
    scene.brokers.addTopic('t')
    const from = [{ topic: 't', partition: 1, offset: 1 }]
    const { consumer, read, ended } = follow(scene, { from })
    await scene.world.pass(1000)
    addPartition(scene, 'b', 'c')
    await scene.world.pass(6000)
    expect(read).toEqual(['1 c'])
    await consumer.close()
    await scene.world.run(ended)
  })

  it('are no concern of a reader that was told its partitions', async () => {
    const scene = fixture()
    scene.brokers.addTopic('t')[0]?.append(batchOf(['a']))
    const { consumer, read, ended } = follow(scene, { from: 'start', partitions: [0] })
    await scene.world.pass(1000)
    addPartition(scene, 'b')
    await scene.world.pass(12_000)
    expect(read).toEqual(['0 a'])
    await consumer.close()
    await scene.world.run(ended)
  })
})

describe('positions', () => {
  it('are behind the last message given, where the consumer is closed in the midst of a batch', async () => {
    const scene = fixture()
    scene.brokers.addTopic('t')[0]?.append(batchOf(['a', 'b', 'c', 'd']))
    const consumer = consumerOf(scene, { from: 'start' })
    const read: string[] = []
    const ended = (async () => {
      for await (const message of consumer) {
        read.push(message.text() ?? '')
        if (message.text() === 'b') await consumer.close()
      }
    })()
    await scene.world.run(ended)
    expect(read).toEqual(['a', 'b'])
    expect(consumer.positions()).toEqual([{ topic: 't', partition: 0, offset: 2 }])
  })
})

describe('keys, values and headers', () => {
  it.each(codecs)(
    'are plain Uint8Arrays in memory of their own, whoever wrote them with %s',
    async (codec) => {
      const scene = fixture()
      const text = (word: string) => ({ bytes: Buffer.from(word), start: 0, end: word.length })
      const builder = new BatchBuilder(1024)
      builder.reset({ timestampMs: 1 })
      const headers = [{ key: text('h'), value: text('x') }]
      builder.append({ key: text('key'), value: text('value'), headers })
      scene.brokers.addTopic('t')[0]?.append(Buffer.from(builder.finish({ codec })))
      const read = consumerOf(scene, { until: 'end' })[Symbol.asyncIterator]()
      const { value: message } = await scene.world.run(read.next())
      const given = [message?.key, message?.value, message?.headers[0]?.[1]]
      expect(given.map((bytes) => bytes?.constructor)).toEqual([Uint8Array, Uint8Array, Uint8Array])
      expect(given).toEqual(['key', 'value', 'x'].map((word) => new TextEncoder().encode(word)))
      expect(given.map((bytes) => bytes?.buffer.byteLength)).toEqual([3, 5, 1])
      expect([message?.text(), message?.headers[0]?.[0]]).toEqual(['value', 'h'])
      await read.return?.(undefined)
    },
  )
})
