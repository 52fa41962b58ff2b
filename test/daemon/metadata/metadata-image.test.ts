import { describe, expect, it } from 'vitest'
import { type ImageChange, MetadataImage } from '../../../daemon/metadata/metadata-image.ts'
import { encodeConfig } from '../../../daemon/metadata/metadata-values.ts'
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

function put(w: StoreWorld, key: string, value: Uint8Array = new Uint8Array(1)): number {
  return w.server.apply({ compare: [], then: [{ kind: 'put', key, value }] }).revision
}

function putConfig(w: StoreWorld, partitions: string): number {
  return put(w, w.keys.config('broker'), encodeConfig({ 'num.partitions': partitions }))
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

  it('takes nothing of a store that has become an older copy of itself, however far that grows', async () => {
    const { w, image } = await started(5)
    const older = w.server.image.copy()
    const reasons: string[] = []
    image.onRegression((reason) => reasons.push(reason))
    for (const partitions of ['2', '3', '4']) putConfig(w, partitions)
    const seen = putConfig(w, '5')
    await w.settle(image.waitFor(seen))

    w.server.restore(older)
    const back = putConfig(w, '6')
    expect(back).toBeLessThan(seen)
    await w.settle(image.refresh())
    expect(reasons).toEqual([`its revision ${back} is below ${seen}, which was seen before`])
    putConfig(w, '7')
    putConfig(w, '8')
    const grown = putConfig(w, '9')
    await w.settle(image.refresh())
    await w.settle(image.catchUp(grown))
    expect(image.revision).toBe(seen)
    expect(image.config('broker').value).toEqual({ 'num.partitions': '5' })
    expect(reasons).toHaveLength(1)
  })

  it('knows an older copy that has grown past what was seen by a key that has gone back', async () => {
    const { w, image } = await started(6)
    const older = w.server.image.copy()
    const reasons: string[] = []
    image.onRegression((reason) => reasons.push(reason))
    for (const partitions of ['2', '3', '4']) putConfig(w, partitions)
    const seen = putConfig(w, '5')
    await w.settle(image.waitFor(seen))

    w.home.isCutOff = true
    w.server.restore(older)
    const back = putConfig(w, '6')
    for (const name of ['a', 'b', 'c']) put(w, `/other/${name}`)
    w.home.isCutOff = false
    await w.settle(image.refresh())
    expect(reasons).toEqual([
      `${w.keys.config('broker')} is of revision ${back}, and of ${seen} was seen before`,
    ])
    put(w, '/other/d')
    expect(image.revision).toBe(seen)
    expect(image.config('broker').value).toEqual({ 'num.partitions': '5' })
  })

  it('asks the store for a topic that it does not know, and waits for no store that is away', async () => {
    const { w, create } = await started(7)
    const home = w.server.connect()
    const other = { ...w.store, store: home }
    const behind = await w.settle(MetadataImage.open(other, w.keys, silent))
    home.watchers.endAll(undefined)
    await w.settle(create('orders', 2))
    expect(behind.topic('orders')).toBeUndefined()
    expect((await w.settle(behind.lookUpTopic('orders')))?.value.partitions).toBe(2)
    expect(await w.settle(behind.lookUpTopic('none'))).toBeUndefined()
    home.isCutOff = true
    const begunMs = w.world.now
    expect(await w.settle(behind.lookUpTopic('none'))).toBeUndefined()
    expect(w.world.now - begunMs).toBeLessThanOrEqual(1000)
  })

  it('ends waiting when it is closed', async () => {
    const { w, image } = await started(4)
    const waiting = image.waitFor(1_000_000)
    image.close()
    await expect(w.settle(waiting)).rejects.toMatchObject({ code: 'CLOSED' })
  })
})
