/** A cluster in which bits flip where nobody reads: the scrubbers find them, the other replicas repair them. */
import { expect, it } from 'vitest'
import { Admin } from '../../src/client/admin.ts'
import { logFiles, partitionOf, TOPIC } from './cluster-truth.ts'
import { SimBroker } from './sim-broker.ts'
import { produceLines, type Sent, simClient } from './sim-clients.ts'
import { SimNetwork } from './sim-net.ts'
import { SimStoreServer } from './sim-store.ts'
import { SimWorld } from './sim-world.ts'

async function started(config: Readonly<Record<string, string>>) {
  const world = new SimWorld('scrub')
  const network = new SimNetwork(world)
  const stores = new SimStoreServer(world, { leases: 'time' })
  const texts = new Map(Object.entries({ 'log.dir.reserve.bytes': '0', ...config }))
  const brokers = [1, 2, 3].map(
    (id) => new SimBroker({ world, network, stores, config: texts }, id),
  )
  for (const broker of brokers) broker.start()
  await world.run({ until: () => brokers.every(({ daemon }) => daemon !== undefined) })
  const addresses = brokers.map(({ address }) => address)
  const clients = { world, network, random: world.random.fork('clients'), addresses, topic: TOPIC }
  const { cluster, time, random } = simClient(clients, 'operator')
  await world.settle(cluster.connect())
  const configs = { 'internal.segment.bytes': '1500', 'index.interval.bytes': '512' }
  const topic = { name: TOPIC, partitions: 1, replicationFactor: 3, configs }
  await world.settle(new Admin(time, random, cluster).createTopics([topic]))
  cluster.close()
  const sent: Sent[] = []
  await world.settle(produceLines(clients, 'p', sent, { records: 300, partitions: 1 }))
  await world.run({ untilMs: world.now + 2000 })
  for (const broker of brokers) expect(sealedOf(broker).length).toBeGreaterThan(2)
  return { world, brokers }
}

it('damage in sealed segments of leader and follower is repaired, though nobody reads there', async () => {
  const { world, brokers } = await started({ 'stream.scrub.interval.ms': '3000' })
  const before = brokers.map((broker) => filesOf(broker))
  for (const [index, broker] of brokers.entries()) {
    const path = sealedOf(broker)[index] as string
    broker.disk.flipBit(path, 400 + 100 * index, 4)
  }
  expect(brokers.map((broker) => filesOf(broker))).not.toEqual(before)
  await world.run({ untilMs: world.now + 30_000 })
  expect(brokers.map((broker) => filesOf(broker))).toEqual(before)
  for (const broker of brokers) {
    expect(partitionOf(broker, 0)?.log.damage).toEqual([])
    expect(broker.daemon?.broker.scrubber.status.endedMs).toBeGreaterThan(0)
  }
})

it('without scrubbing it stays: what a reader would meet is nobody’s yet', async () => {
  const { world, brokers } = await started({ 'stream.scrub.interval.ms': '-1' })
  const [first] = brokers as [SimBroker]
  const before = filesOf(first)
  first.disk.flipBit(sealedOf(first)[1] as string, 400, 4)
  await world.run({ untilMs: world.now + 600_000 })
  expect(filesOf(first)).not.toBe(before)
})

function sealedOf(broker: SimBroker): string[] {
  return logFiles(broker.disk, partitionOf(broker, 0)?.log.directory ?? '').slice(0, -1)
}

/** The sealed segments, byte for byte. */
function filesOf(broker: SimBroker): string {
  return sealedOf(broker)
    .map((path) => Buffer.from(broker.disk.readFile(path) ?? []).toString('latin1'))
    .join('\n')
}
