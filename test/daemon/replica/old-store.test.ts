/** An etcd that was restored from an old snapshot (replication.md section 5.8); the records come back in test/process. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { MetadataKeys } from '../../../daemon/metadata/metadata-keys.ts'
import { decodeProducerIds } from '../../../daemon/metadata/metadata-values.ts'
import { PRODUCER_IDS_LEAP } from '../../../daemon/metadata/restored-store.ts'
import { WriterCounter, writeOwnPartition } from '../../../daemon/metadata/topic-transactions.ts'
import type { Broker } from '../../../daemon/replica/broker.ts'
import type { StoreImage } from '../../../src/io/store-image.ts'
import { batchOf } from '../batches.ts'
import { BrokerCluster } from './broker-cluster.ts'

let cluster = new BrokerCluster()
let snapshot: StoreImage
let controller: Broker

/** A topic, a snapshot of the store, and an election after it. */
beforeEach(async () => {
  await cluster.all()
  await cluster.run(100)
  controller = cluster.controller()
  const { world, server } = cluster
  const order = [1, 2, 3]
  await world.settle(controller.topics.create({ name: 't', assignments: [order], config: {} }))
  await world.settle(controller.producerIds.take())
  snapshot = server.image.copy()
  await world.settle(
    controller.topics.reassign([{ topic: 't', partition: 0, replicas: [2, 3, 1] }]),
  )
  await world.settle(controller.topics.electLeaders('preferred'))
  await cluster.run(200)
})

afterEach(() => {
  for (const nodeId of cluster.hosts.keys()) cluster.crash(nodeId)
  cluster = new BrokerCluster()
})

/** Not the broker itself: a failed expectation would print all of it. */
async function started(nodeId: number): Promise<number> {
  return (await cluster.start(nodeId)).nodeId
}

function crashAll(): void {
  for (const nodeId of [1, 2, 3]) cluster.crash(nodeId)
}

describe('a metadata store that is an older copy of itself', () => {
  it('is refused by the revision that was seen last, with one line that says what to do', async () => {
    await cluster.run(6000)
    crashAll()
    cluster.server.restore(snapshot)
    for (const nodeId of [1, 2, 3]) {
      await expect(started(nodeId)).rejects.toMatchObject({
        code: 'DATA_DIRECTORY_INVALID',
        message: '/data: the metadata store is older than the data directory',
        hint: expect.stringContaining('start one daemon with --restored once, then the others'),
      })
    }
  })

  it('is refused by the epochs of the logs where no revision was written down yet', async () => {
    const leader = cluster.hosts.get(2)?.broker?.table.find('t', 0)
    leader?.log.append([batchOf(['x'])], { leaderEpoch: leader.leaderEpoch })
    await cluster.run(200)
    crashAll()
    cluster.server.restore(snapshot)
    await expect(started(2)).rejects.toMatchObject({
      code: 'DATA_DIRECTORY_INVALID',
      message: expect.stringMatching(/t-0 was led at epoch \d+, the store knows \d+$/),
    })
  })

  it('is refused by partition epochs where leaders are the same and revisions have risen again', async () => {
    const leader = cluster.hosts.get(2)?.broker as Broker
    snapshot = cluster.server.image.copy()
    const topicId = leader.image.topic('t')?.topicId ?? ''
    const found = leader.image.partition(topicId, 0)
    if (found === undefined) throw new Error('no partition')
    const { value, revision } = found
    // As a leader does whose follower has fallen behind: what is committed from now on, broker 1 may lack.
    const shrunk = {
      ...value,
      inSyncReplicas: value.inSyncReplicas.filter(({ broker }) => broker !== 1),
      partitionEpoch: value.partitionEpoch + 1,
      writer: new WriterCounter(leader.session.sessionEpoch).next(),
    }
    const change = { topicId, partition: 0, revision, value: shrunk }
    await cluster.world.settle(writeOwnPartition(leader.store, leader.keys, leader.session, change))
    await cluster.run(6000)
    crashAll()
    cluster.server.restore(snapshot)
    for (let count = 0; count < 100; count += 1) {
      const key = '/other/key'
      cluster.server.apply({ compare: [], then: [{ kind: 'put', key, value: new Uint8Array(1) }] })
    }
    await expect(started(2)).rejects.toMatchObject({
      code: 'DATA_DIRECTORY_INVALID',
      message: expect.stringMatching(/t-0 was at partition epoch \d+, the store knows \d+$/),
    })
  })

  it('is noticed by daemons that run: they serve nothing more and say why', async () => {
    cluster.server.restore(snapshot)
    await cluster.run(45_000)
    expect(cluster.fenced.length).toBeGreaterThanOrEqual(3)
    for (const { message } of cluster.fenced) expect(message).toContain('the metadata store is old')
    for (const { broker } of cluster.hosts.values()) {
      for (const partition of broker?.table.all() ?? []) {
        expect(partition.notServing).toBe('stopping')
      }
    }
  })

  it('leaves no trace in the directories of daemons that refuse it: with the newer copy back they start', async () => {
    const newest = cluster.server.image.copy()
    cluster.server.restore(snapshot)
    // As the first daemon to look again finds it, after others have written to it.
    const looking = controller.image.refresh()
    await cluster.world.settle(looking)
    for (let count = 0; count < 100; count += 1) {
      const key = '/other/key'
      cluster.server.apply({ compare: [], then: [{ kind: 'put', key, value: new Uint8Array(1) }] })
    }
    await cluster.run(45_000)
    for (const nodeId of [1, 2, 3]) await cluster.end(nodeId)
    cluster.server.restore(newest)
    for (const nodeId of [1, 2, 3]) expect(await started(nodeId)).toBe(nodeId)
  })

  it('counts when an operator says so: no membership of it holds, and no producer id comes twice', async () => {
    await cluster.run(6000)
    crashAll()
    cluster.server.restore(snapshot)
    const keys = new MetadataKeys(controller.clusterId)
    const before = new Map(
      [1, 2, 3].map((id) => [id, snapshot.get(keys.data(id))?.modRevision ?? 0]),
    )
    const first = await cluster.startRestored(1)
    for (const nodeId of [2, 3]) await cluster.start(nodeId)
    await cluster.run(500)
    for (const [nodeId, dataEpoch] of before) {
      expect(first.image.broker(nodeId)?.dataEpoch).toBeGreaterThan(dataEpoch)
    }
    const topicId = first.image.topic('t')?.topicId ?? ''
    // Their logs cannot be asked in this world, so nobody leads yet: least of all who was in sync once.
    expect(first.image.partition(topicId, 0)?.value).toMatchObject({
      leader: -1,
      inSyncReplicas: [],
      eligibleReplicas: [],
    })
    const nextIn = (store: { get(key: string): { readonly value: Uint8Array } | undefined }) =>
      decodeProducerIds(
        keys.producerIds(),
        store.get(keys.producerIds())?.value ?? new Uint8Array(),
      )
    // Daemons that have started since may have taken blocks of their own.
    expect(nextIn(cluster.server.image)).toBeGreaterThanOrEqual(
      nextIn(snapshot) + PRODUCER_IDS_LEAP,
    )
    cluster.crash(2)
    await cluster.start(2)
    expect(first.liveBrokers()).toEqual([1, 2, 3])
  })

  it('a topic that it does not know makes way for one of its name, and its logs are kept', async () => {
    const { world, server } = cluster
    const assignments = [
      [1, 2, 3],
      [2, 3, 1],
      [3, 1, 2],
    ]
    const create = (name: string) =>
      world.settle(cluster.controller().topics.create({ name, assignments, config: {} }))
    const { topicId: forgotten } = await create('made-since')
    await cluster.run(6000)
    crashAll()
    server.restore(snapshot)
    await cluster.startRestored(1)
    for (const nodeId of [2, 3]) await cluster.start(nodeId)
    await cluster.run(500)
    const { topicId } = await create('made-since')
    await cluster.run(2_000)
    for (const nodeId of [1, 2, 3]) {
      const broker = cluster.hosts.get(nodeId)?.broker as Broker
      const led = broker.table.ofTopic(topicId).filter(({ notServing }) => notServing === undefined)
      expect(led.map(({ partition }) => partition)).toEqual([nodeId - 1])
      expect(broker.table.ofTopic(topicId)).toHaveLength(3)
      const strays = (): readonly string[] =>
        broker.directory.strays().flatMap((stray) => stray.topicId ?? [])
      expect(strays()).toEqual([forgotten, forgotten, forgotten])
      // Nobody knows them, so nobody says that they may go.
      broker.table.removeStrays(0)
      broker.table.removeStrays(1e9)
      expect(strays()).toHaveLength(3)
    }
  })

  it('nothing makes way for what it says before it counts', async () => {
    const { world, server } = cluster
    const old = controller.image.topic('t')?.topicId
    await world.settle(controller.topics.delete('t'))
    const order = [1, 2, 3]
    const again = await world.settle(
      controller.topics.create({ name: 't', assignments: [order], config: {} }),
    )
    await cluster.run(6000)
    crashAll()
    const newest = server.image.copy()
    server.restore(snapshot)
    await expect(started(3)).rejects.toMatchObject({ code: 'DATA_DIRECTORY_INVALID' })
    server.restore(newest)
    const third = await cluster.start(3)
    expect(third.table.get(again.topicId, 0)).toBeDefined()
    expect(third.directory.strays()).toEqual([])
    crashAll()
    server.restore(snapshot)
    const first = await cluster.startRestored(1)
    expect(first.table.ofTopic(old ?? '')).toHaveLength(1)
    expect(first.directory.strays().map(({ topicId }) => topicId)).toEqual([again.topicId])
  })

  it('what was deleted and made anew while a broker was away is deleted there, not set aside', async () => {
    const { world } = cluster
    const away = controller.nodeId === 3 ? 2 : 3
    cluster.crash(away)
    await cluster.run(30_000)
    await world.settle(controller.topics.delete('t'))
    const order = [1, 2, 3]
    const again = await world.settle(
      controller.topics.create({ name: 't', assignments: [order], config: {} }),
    )
    const back = await cluster.start(away)
    await cluster.run(500)
    expect(back.table.ofTopic(again.topicId)).toHaveLength(1)
    expect(back.directory.strays()).toEqual([])
  })

  it('the word holds for that copy alone: another one is refused again', async () => {
    await cluster.run(6000)
    crashAll()
    cluster.server.restore(snapshot)
    await cluster.startRestored(1)
    await cluster.run(6000)
    crashAll()
    cluster.server.restore(snapshot)
    await expect(started(1)).rejects.toMatchObject({ code: 'DATA_DIRECTORY_INVALID' })
  })
})
