import { afterEach, describe, expect, it } from 'vitest'
import { daemonStatus } from '../../../daemon/apis/1000-daemon-status.ts'
import type { Services } from '../../../daemon/apis/handler.ts'
import { MetadataKeys } from '../../../daemon/metadata/metadata-keys.ts'
import { decodeRegistration } from '../../../daemon/metadata/metadata-values.ts'
import type { Broker } from '../../../daemon/replica/broker.ts'
import type { ResponseInput } from '../../../src/protocol/api-table.ts'
import type { SimDisk } from '../../sim/sim-disk.ts'
import type { SimStore } from '../../sim/sim-store.ts'
import { batchOf } from '../batches.ts'
import { BrokerCluster } from './broker-cluster.ts'

let cluster = new BrokerCluster()

afterEach(async () => {
  for (const nodeId of cluster.hosts.keys()) cluster.crash(nodeId)
  cluster = new BrokerCluster()
})

function cutOff(nodeId: number, isCutOff: boolean): void {
  const { store } = cluster.hosts.get(nodeId) as { store: SimStore }
  store.isCutOff = isCutOff
}

function statusOf(broker: Broker): ResponseInput<'DaemonStatus'> {
  const host = { pid: 1, version: '1', addresses: () => [], residentBytes: () => 0 }
  const services = { broker, host } as unknown as Services
  return daemonStatus(services, {} as never, {}) as ResponseInput<'DaemonStatus'>
}

function leaderOf(broker: Broker, topic: string, partition = 0): number | undefined {
  const id = broker.image.topic(topic)?.topicId ?? ''
  return broker.image.partition(id, partition)?.value.leader
}

describe('brokers of one cluster', () => {
  it('find each other in an empty store, have one controller, and are let in by it', async () => {
    const brokers = await cluster.all()
    expect(new Set(brokers.map((broker) => broker.clusterId)).size).toBe(1)
    await cluster.run(100)
    expect(brokers.filter((broker) => broker.isController)).toHaveLength(1)
    for (const broker of brokers) {
      expect(broker.liveBrokers()).toEqual([1, 2, 3])
      expect(broker.endpointOf(2, 'zmq')).toBe('tcp://host-2:7000')
      expect(broker.endpointOf(2, 'kafka')).toBe('kafka://host-2:9092')
      expect(broker.endpointOf(4, 'zmq')).toBeUndefined()
      expect(broker.session.isSelfFenced()).toBe(false)
    }
  })

  it('only the controller makes topics; leaders and racks are spread', async () => {
    const brokers = await cluster.all()
    await cluster.run(100)
    const controller = cluster.controller()
    const other = brokers.find((broker) => broker !== controller) as Broker
    const assignments = controller.topics.place(6, 3)
    await expect(
      cluster.world.settle(other.topics.create({ name: 't', assignments, config: {} })),
    ).rejects.toMatchObject({ code: 'NOT_CONTROLLER' })
    await cluster.world.settle(controller.topics.create({ name: 't', assignments, config: {} }))
    await cluster.run(100)
    const leaders = [0, 1, 2, 3, 4, 5].map((partition) => leaderOf(other, 't', partition))
    expect(leaders.sort()).toEqual([1, 1, 2, 2, 3, 3])
    const id = other.image.topic('t')?.topicId ?? ''
    expect(other.image.partition(id, 0)?.value).toMatchObject({ minInSync: 2, leaderEpoch: 0 })
    expect(other.image.partition(id, 0)?.value.inSyncReplicas).toHaveLength(3)
  })

  it('one whose sync failed has lost its word, also where its disk has kept no mark of that', async () => {
    const brokers = await cluster.all()
    await cluster.run(100)
    const failing = brokers.find((broker) => !broker.isController) as Broker
    const { nodeId, dataEpoch } = failing
    const { disk } = cluster.hosts.get(nodeId) as { disk: SimDisk }
    disk.failsSync = () => true
    const writing = failing.directory.writeCheckpoint()
    await expect(cluster.world.settle(writing)).rejects.toMatchObject({ code: 'DISK_FAILED' })
    await cluster.run(1000)
    expect(failing.state).toBe('FAILED')
    const others = cluster.controller().image
    expect(others.broker(nodeId)?.live).toBe(false)
    // It is no operator's word, and nobody ends for it.
    expect(cluster.fenced).toEqual([])
    const given = others.broker(nodeId)?.dataEpoch ?? 0
    expect(given).toBeGreaterThan(dataEpoch)
    // A file system that is shut down takes nothing any more.
    disk.unlink('/data/stream-failed')
    disk.failsSync = () => false
    cluster.crash(nodeId)
    const again = await cluster.start(nodeId)
    expect(again.dataEpoch).toBeGreaterThan(given)
    expect(again.state).toBe('RUNNING')
  })

  it('a topic is made once although the controller changes meanwhile, and who asked for it is told so', async () => {
    await cluster.all()
    await cluster.run(100)
    const controller = cluster.controller()
    const { topics, clusterId, nodeId } = controller
    const keys = new MetadataKeys(clusterId)
    const assignments = topics.place(3, 3)
    let outcome: unknown
    topics.create({ name: 't', assignments, config: {} }).then(
      ({ topicId }) => {
        outcome = topicId
      },
      (error: unknown) => {
        outcome = error
      },
    )
    await cluster.world.run({
      until: () => cluster.server.image.get(keys.topic('t')) !== undefined,
    })
    expect(outcome).toBeUndefined()
    // Its controllership ends here, between the topic's records and its end.
    cluster.server.apply({ compare: [], then: [{ kind: 'delete', key: keys.controller() }] })
    await cluster.world.run({ until: () => outcome !== undefined })
    await cluster.run(2000)
    const topic = cluster.controller().image.topic('t')
    expect(topic?.value.state).toBe('READY')
    expect(outcome).toBe(topic?.topicId)
    expect(cluster.hosts.get(nodeId)?.broker?.state).toBe('RUNNING')
  })

  it('a stop hands everything over first, and keeps the data epoch', async () => {
    const brokers = await cluster.all()
    await cluster.run(100)
    const controller = cluster.controller()
    const assignments = controller.topics.place(6, 3)
    await cluster.world.settle(controller.topics.create({ name: 't', assignments, config: {} }))
    const { nodeId, dataEpoch } = controller
    const begun = cluster.world.now
    await cluster.end(nodeId)
    expect(cluster.world.now - begun).toBeLessThan(5000)
    const other = brokers.find((broker) => broker !== controller) as Broker
    await cluster.run(1000)
    for (let partition = 0; partition < 6; partition += 1) {
      expect(leaderOf(other, 't', partition)).not.toBe(nodeId)
      expect(leaderOf(other, 't', partition)).not.toBe(-1)
    }
    expect(cluster.controller()).not.toBe(controller)
    const again = await cluster.start(nodeId)
    expect(again.dataEpoch).toBe(dataEpoch)
  })

  it('a death is noticed when its lease ends; a fast restart does not wait for that', async () => {
    await cluster.all()
    await cluster.run(100)
    const controller = cluster.controller()
    const assignments = controller.topics.place(3, 3)
    await cluster.world.settle(controller.topics.create({ name: 't', assignments, config: {} }))
    const victim = [1, 2, 3].find((id) => id !== controller.nodeId) as number
    const dataEpoch = cluster.hosts.get(victim)?.broker?.dataEpoch
    cluster.crash(victim)
    await cluster.run(12_000)
    for (const partition of [0, 1, 2]) expect(leaderOf(controller, 't', partition)).not.toBe(victim)
    await cluster.start(victim)
    cluster.crash(victim)
    const begun = cluster.world.now
    const again = await cluster.start(victim)
    expect(cluster.world.now - begun).toBeLessThan(2000)
    expect(again.dataEpoch).toBe(dataEpoch)
  })

  it('the death of the controller costs its short lease', async () => {
    await cluster.all()
    await cluster.run(100)
    const controller = cluster.controller()
    cluster.crash(controller.nodeId)
    await cluster.run(6000)
    expect(cluster.controller()).not.toBe(controller)
  })

  it('a broker whose disk fails is dead for the others at once, and leads nothing any more', async () => {
    const brokers = await cluster.all()
    await cluster.run(100)
    const { topics } = cluster.controller()
    const assignments = topics.place(3, 3)
    await cluster.world.settle(topics.create({ name: 't', assignments, config: {} }))
    await cluster.run(500)
    const poor = cluster.controller()
    const host = cluster.hosts.get(poor.nodeId)
    if (host !== undefined) host.disk.failsSync = () => true
    const id = poor.image.topic('t')?.topicId ?? ''
    const led = poor.table.ofTopic(id).find((partition) => partition.notServing === undefined)
    led?.append(batchOf(['a']))
    await cluster.run(1000)
    expect(poor.state).toBe('FAILED')
    const other = brokers.find((broker) => broker !== poor) as Broker
    expect(other.image.session(poor.nodeId)).toBeUndefined()
    expect(cluster.controller()).not.toBe(poor)
    for (const partition of [0, 1, 2]) expect(leaderOf(other, 't', partition)).not.toBe(poor.nodeId)
  })

  it('a second daemon with a node id in use is refused, and harms nothing', async () => {
    const [first] = await cluster.all()
    const epoch = first?.dataEpoch
    await expect(cluster.start(1, 9)).rejects.toMatchObject({
      code: 'FENCED',
      message: 'another daemon with node id 1 holds the session',
      hint: 'stop it, or give this one another --node-id',
    })
    expect(first?.session.isSelfFenced()).toBe(false)
    // Its data directory is nobody's yet: the hint can be followed.
    expect(cluster.hosts.get(9)?.disk.stat('/data')).toBeUndefined()
    expect((await cluster.start(4, 9)).nodeId).toBe(4)
    const keys = new MetadataKeys(first?.clusterId ?? '')
    const data = cluster.server.image.get(keys.data(1))
    expect(data?.modRevision).toBe(epoch)
  })

  it('a broker whose lease was dropped registers again: E rises, D and its state stay', async () => {
    const [first] = await cluster.all()
    const broker = first as Broker
    const { sessionEpoch, dataEpoch, incarnation } = broker.session
    const keys = new MetadataKeys(broker.clusterId)
    cluster.server.expire(cluster.server.image.leaseOf(keys.live(1)) ?? '')
    await cluster.run(3000)
    expect(broker.session.sessionEpoch).toBeGreaterThan(sessionEpoch)
    expect(broker.session).toMatchObject({ dataEpoch, incarnation })
    expect(broker.session.isSelfFenced()).toBe(false)
    const entry = cluster.server.image.get(keys.registration(1))
    expect(decodeRegistration('', entry?.value ?? new Uint8Array()).state).toBe('ACTIVE')
    expect(cluster.fenced).toEqual([])
  })

  it('a broker that cannot reach the store fences itself before its lease ends', async () => {
    const [first] = await cluster.all()
    const broker = first as Broker
    const store = cluster.hosts.get(1)?.store as SimStore
    // Whatever it asks, nothing comes back any more.
    Object.assign(store, { call: () => new Promise<never>(() => undefined) })
    await cluster.run(9001)
    expect(broker.session.isSelfFenced()).toBe(true)
  })

  it('a broker that has lost the store says so, names no controller, and why it gives no orders', async () => {
    const [first] = await cluster.all()
    const broker = first as Broker
    await cluster.run(100)
    expect(statusOf(broker)).toMatchObject({ storeState: 'ANSWERS', storeTrouble: null })
    expect(statusOf(broker).wallMs).toBe(broker.time.wallMs())
    cutOff(1, true)
    await cluster.run(6000)
    const storeTrouble = expect.stringContaining('no answer')
    expect(statusOf(broker)).toMatchObject({ storeState: 'SILENT', storeTrouble })
    expect(broker.controllerId).toBeGreaterThan(0)
    await cluster.run(5000)
    expect(statusOf(broker)).toMatchObject({ storeState: 'LOST', storeTrouble })
    expect(statusOf(broker).storeSilentMs).toBeGreaterThan(9000)
    expect(broker.controllerId).toBe(-1)
    const order = cluster.world.settle(broker.topics.configure('t', (before) => before))
    await expect(order).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' })
  })

  it('a store that is away for less than a session leaves nothing behind', async () => {
    const [first] = await cluster.all()
    const broker = first as Broker
    const { sessionEpoch } = broker.session
    cutOff(1, true)
    await cluster.run(5000)
    cutOff(1, false)
    await cluster.run(2000)
    expect(statusOf(broker)).toMatchObject({ storeState: 'ANSWERS', storeTrouble: null })
    expect(broker.session.sessionEpoch).toBe(sessionEpoch)
  })
})
