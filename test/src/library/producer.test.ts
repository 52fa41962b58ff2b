/** The library's producer over simulated brokers. */
import { describe, expect, it } from 'vitest'
import { Admin } from '../../../src/client/admin.ts'
import { Producer as Client } from '../../../src/client/producer.ts'
import { LibraryProducer } from '../../../src/library/producer.ts'
import { type Fixture, fixture } from '../client/client-fixture.ts'
import { FakePartition } from '../client/fake-cluster.ts'

function producerOf({ world, cluster }: Fixture): LibraryProducer {
  const { time, random } = world
  return new LibraryProducer(
    (onDelivery) =>
      new Client(time, random, cluster, {
        onDelivery,
        trackOrdinals: true,
        afterRefusal: 'continue',
      }),
    {
      time,
      create: false,
      admin: () => new Admin(time, random, cluster),
      onClose: () => undefined,
    },
  )
}

describe('send: a partition that is not known', () => {
  const countLooks = ({ brokers }: Fixture): number =>
    brokers.requests.filter(({ api }) => api === 'Metadata').length

  it('takes a record for one that somebody else has added since', async () => {
    const scene = fixture()
    const rows = scene.brokers.addTopic('t')
    const producer = producerOf(scene)
    await scene.world.run(producer.send('t', 'a'))
    rows.push(new FakePartition())
    const sent = ['b', 'c'].map((value) => producer.send('t', { value, partition: 1 }))
    const after = producer.send('t', { value: 'd', partition: 0 })
    expect(await scene.world.run(Promise.all([...sent, after]))).toEqual([
      { topic: 't', partition: 1, offset: 0 },
      { topic: 't', partition: 1, offset: 1 },
      { topic: 't', partition: 0, offset: 1 },
    ])
    expect(rows[1]?.values()).toEqual(['b', 'c'])
  })

  it('asks once for all calls that are made before, and no oftener than every 100 ms', async () => {
    const scene = fixture()
    const rows = scene.brokers.addTopic('t')
    const producer = producerOf(scene)
    const sendWrongly = () =>
      producer.send('t', { value: 'x', partition: 1 }).catch(({ code }) => code)
    await scene.world.run(producer.send('t', 'a'))
    await scene.world.pass(1000)
    const before = countLooks(scene)
    const burst = Array.from({ length: 1000 }, sendWrongly)
    expect(new Set(await scene.world.run(Promise.all(burst)))).toEqual(new Set(['TOPIC_UNKNOWN']))
    expect(countLooks(scene)).toBe(before + 1)
    const startMs = scene.world.nowMs
    for (let call = 0; call < 5; call += 1) await scene.world.run(sendWrongly())
    expect(countLooks(scene)).toBe(before + 6)
    expect(scene.world.nowMs - startMs).toBeGreaterThan(400)
    // Right behind a refusal it is found too.
    rows.push(new FakePartition())
    expect(await scene.world.run(sendWrongly())).toMatchObject({ partition: 1, offset: 0 })
  })

  it('asks nobody for what is no number of a partition', async () => {
    const scene = fixture()
    scene.brokers.addTopic('t')
    const producer = producerOf(scene)
    await scene.world.run(producer.send('t', 'a'))
    const before = countLooks(scene)
    for (const partition of [-1, 1.5, Number.NaN]) {
      await expect(producer.send('t', { value: 'x', partition })).rejects.toMatchObject({
        code: 'RECORD_INVALID',
      })
    }
    expect(countLooks(scene)).toBe(before)
  })
})

describe('send: timestampMs', () => {
  it.each([-1, -1000, Number.NEGATIVE_INFINITY, Number.NaN, 0.5])(
    '%s is refused, and the next record goes on',
    async (timestampMs) => {
      const scene = fixture()
      const [partition] = scene.brokers.addTopic('t')
      const producer = producerOf(scene)
      await expect(
        scene.world.run(producer.send('t', { value: 'x', timestampMs })),
      ).rejects.toMatchObject({ code: 'RECORD_INVALID' })
      await scene.world.run(producer.send('t', { value: 'y', timestampMs: 0 }))
      expect(partition?.values()).toEqual(['y'])
    },
  )
})
