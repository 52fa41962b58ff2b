import { describe, expect, it } from 'vitest'
import { type ImageChange, MetadataImage } from '../../../daemon/metadata/metadata-image.ts'
import {
  createTopic,
  deleteTopic,
  initialPartition,
  writeConfig,
} from '../../../daemon/metadata/topic-transactions.ts'
import { StoreWorld, silent } from './store-world.ts'

async function started(seed: number) {
  const w = new StoreWorld(seed)
  const found = await w.settle(w.begin())
  const image = await w.settle(MetadataImage.open(w.store, w.keys, silent))
  const hold = { controllerEpoch: found.controllerEpoch }
  const create = (name: string, partitions: number) =>
    createTopic(
      w.store,
      w.keys,
      hold,
      {
        name,
        topicId: `id-${name}`,
        config: {},
        partitions: Array.from({ length: partitions }, () =>
          initialPartition({
            replicas: [{ broker: 1, dataEpoch: found.session.dataEpoch }],
            leaderIncarnation: 'first',
            minInSync: 1,
            writer: { epoch: 1, counter: 1 },
          }),
        ),
      },
      Number.MAX_SAFE_INTEGER,
    )
  return { w, image, hold, create, ...found }
}

describe('MetadataImage', () => {
  it('shows brokers, controller, topics and partitions as the watch brings them', async () => {
    const { w, image, create, session, controllerEpoch } = await started(1)
    expect(image.broker(1)).toMatchObject({ live: true, dataEpoch: session.dataEpoch })
    expect(image.controller).toMatchObject({ brokerId: 1, controllerEpoch })
    const changes: ImageChange[] = []
    image.onChange((change) => changes.push(change))
    const revision = await w.settle(create('orders', 3))
    await w.settle(image.waitFor(revision))
    expect(image.topic('orders')?.value.partitions).toBe(3)
    expect(image.partitions('id-orders').size).toBe(3)
    expect(image.topicById('id-orders')?.name).toBe('orders')
    expect(changes.at(-1)?.topicIds).toEqual(new Set(['id-orders']))
  })

  it('forgets a deleted topic and keeps its tombstone', async () => {
    const { w, image, hold, create } = await started(2)
    const created = await w.settle(create('orders', 2))
    const topic = { name: 'orders', topicId: 'id-orders', revision: created, partitions: [0, 1] }
    const limit = Number.MAX_SAFE_INTEGER
    const revision = await w.settle(deleteTopic(w.store, w.keys, hold, topic, 77, limit))
    await w.settle(image.waitFor(revision))
    expect(image.topic('orders')).toBeUndefined()
    expect(image.topicById('id-orders')).toBeUndefined()
    expect(image.partitions('id-orders').size).toBe(0)
    expect(image.deletedTopic('id-orders')?.value).toEqual({ name: 'orders', at: 77 })
  })

  it('lists again when the watch ends, and tells what it had missed', async () => {
    const { w, image, hold, create } = await started(3)
    w.server.compact()
    const changes: ImageChange[] = []
    image.onChange((change) => changes.push(change))
    w.home.watchers.endAll(new Error('compacted'))
    await w.settle(create('later', 1))
    const config = { scope: 'broker', revision: 0, value: { 'num.partitions': '4' } }
    const revision = await w.settle(writeConfig(w.store, w.keys, hold, config))
    await w.settle(image.waitFor(revision))
    expect(image.topic('later')).toBeDefined()
    expect(image.config('broker').value).toEqual({ 'num.partitions': '4' })
  })

  it('ends waiting when it is closed', async () => {
    const { w, image } = await started(4)
    const waiting = image.waitFor(1_000_000)
    image.close()
    await expect(w.settle(waiting)).rejects.toMatchObject({ code: 'CLOSED' })
  })
})
