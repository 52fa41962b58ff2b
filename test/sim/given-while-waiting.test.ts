/** A regression: what was given to a broker while it waited for its former session to end was never opened. */
import { expect, it } from 'vitest'
import { Admin } from '../../src/client/admin.ts'
import { ClusterAdmin } from '../../src/client/cluster-admin.ts'
import { ClusterTruth, TOPIC } from './cluster-truth.ts'
import { SimBroker } from './sim-broker.ts'
import { simClient } from './sim-clients.ts'
import { SimNetwork } from './sim-net.ts'
import { SimStoreServer } from './sim-store.ts'
import { SimWorld } from './sim-world.ts'

it('a broker with an empty disk takes up a partition that it got before its session began', async () => {
  const world = new SimWorld('given')
  const network = new SimNetwork(world)
  const stores = new SimStoreServer(world, { leases: 'time' })
  const config = new Map([['log.dir.reserve.bytes', '0']])
  const brokers = [1, 2, 3, 4].map((id) => new SimBroker({ world, network, stores, config }, id))
  const [, , third, fourth] = brokers as [SimBroker, SimBroker, SimBroker, SimBroker]
  for (const broker of brokers) broker.start()
  await world.run({ until: () => brokers.every(({ daemon }) => daemon !== undefined) })
  const random = world.random.fork('clients')
  const addresses = [third.address]
  const clients = { world, network, random, addresses, topic: TOPIC }
  const { cluster, time } = simClient(clients, 'operator')
  await world.settle(cluster.connect())
  const topic = { name: TOPIC, partitions: 1, replicationFactor: 3, configs: {} }
  await world.settle(new Admin(time, random, cluster).createTopics([topic]))
  const truth = new ClusterTruth(stores, brokers)
  const admin = new ClusterAdmin(time, random, cluster)
  const moveTo = (replicas: readonly number[]) =>
    world.settle(admin.reassign([{ topic: TOPIC, partition: 0, replicas }]))
  const hasMoved = (): boolean => {
    const [record] = truth.partitions()
    return record?.adding.length === 0 && record.removing.length === 0
  }
  await moveTo([1, 2, 3])
  await world.run({ until: hasMoved })
  fourth.replaceDisk()
  fourth.start()
  await world.run({ untilMs: world.now + 2000 })
  expect(fourth.daemon, 'it waits for its session').toBeUndefined()
  const [outcome] = await moveTo([1, 2, 4])
  expect(outcome?.error).toBeUndefined()
  await world.run({ untilMs: world.now + 60_000 })
  expect(fourth.daemon).toBeDefined()
  expect(
    truth
      .partitions()[0]
      ?.inSyncReplicas.map(({ broker }) => broker)
      .sort(),
  ).toEqual([1, 2, 4])
})
