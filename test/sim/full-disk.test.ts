/** What clients see of a cluster while the disk of one daemon is full: next to nothing, for the others have room. */
import { describe, expect, it } from 'vitest'
import { Admin } from '../../src/client/admin.ts'
import type { ClusterWarning } from '../../src/client/cluster.ts'
import { GroupLink } from '../../src/client/group-link.ts'
import { commitGroupOffsets, fetchGroupOffsets } from '../../src/client/group-offsets.ts'
import { Producer } from '../../src/client/producer.ts'
import { TransactionalProducer } from '../../src/client/transactional-producer.ts'
import type { SimBroker } from './sim-broker.ts'
import { simClient } from './sim-clients.ts'
import { startThree } from './three-brokers.ts'

const RESERVE_BYTES = 4096
const TOPIC = 't'
const PARTITIONS = 6
const texts = {
  'log.dir.reserve.bytes': String(RESERVE_BYTES),
  'offsets.topic.num.partitions': '3',
  'transaction.state.log.num.partitions': '3',
}

/** @param freeBytes  below the reserve: nothing is appended, and epochs can still be written */
function fill({ disk }: SimBroker, freeBytes = RESERVE_BYTES / 2): void {
  disk.totalBytes = RESERVE_BYTES * 2000
  const ballast = disk.open('/ballast', 'write')
  ballast.write(0, [new Uint8Array(disk.space('/').freeBytes - freeBytes)])
  ballast.close()
}

/** The ballast is still there. */
function fillAgain(brokers: readonly SimBroker[]): void {
  for (const { disk } of brokers.slice(0, 2)) disk.totalBytes = RESERVE_BYTES * 2000
}

function appendToAll(producer: Producer): void {
  for (let partition = 0; partition < PARTITIONS; partition += 1) {
    producer.append(TOPIC, partition, { value: { bytes: Buffer.from('v'), start: 0, end: 1 } })
  }
}

async function clusterOfThree(seed: string) {
  const { world, network, brokers, addresses } = await startThree(seed, texts)
  const random = world.random.fork('client')
  const warnings: ClusterWarning[] = []
  const clients = { world, network, random, addresses, topic: TOPIC }
  const client = simClient(clients, 'client', {
    requestTimeoutMs: 30_000,
    onWarning: (warning) => warnings.push(warning),
  })
  const { cluster, time } = client
  await world.settle(cluster.connect())
  const run = (ms: number) => world.run({ untilMs: world.now + ms })
  /** @returns how long it took, ms */
  const timed = async (work: () => Promise<unknown>): Promise<number> => {
    const beganMs = world.now
    await world.settle(work())
    return world.now - beganMs
  }
  const make = (name: string, replicas: number) =>
    new Admin(time, random, cluster).createTopics([{ name, partitions: PARTITIONS, replicas }])
  const makeTopic = () => make(TOPIC, 3)
  const produceToAll = async () => {
    const producer = new Producer(time, random, cluster, { lingerMs: 0 })
    await producer.prepare(TOPIC)
    appendToAll(producer)
    await producer.flush()
    producer.close()
  }
  /** Commits for groups that all three partitions of the offsets' topic have some of. */
  const commitAll = async () => {
    for (const groupId of ['a', 'b', 'c', 'd', 'e', 'f']) {
      const link = new GroupLink(time, random, cluster, groupId)
      await commitGroupOffsets(link, [{ topic: TOPIC, partition: 0, offset: 1 }])
      const [stored] = await fetchGroupOffsets(link, [{ topic: TOPIC, partition: 0 }])
      expect(stored?.offset).toBe(1)
    }
  }
  const transactAll = async () => {
    for (const transactionalId of ['a', 'b', 'c', 'd', 'e', 'f']) {
      const producer = new TransactionalProducer(time, random, cluster, {
        transactionalId,
        timeoutMs: 30_000,
      })
      await producer.init()
      const sink = await producer.begin()
      await sink.prepare(TOPIC)
      appendToAll(sink)
      await producer.commit()
    }
  }
  return {
    world,
    brokers,
    warnings,
    make,
    run,
    timed,
    makeTopic,
    produceToAll,
    commitAll,
    transactAll,
  }
}

type Cluster = Awaited<ReturnType<typeof clusterOfThree>>

function leadersOf({ brokers }: Cluster, topic: string): readonly number[] {
  const image = brokers[0]?.daemon?.broker.image
  const records = image?.partitions(image.topic(topic)?.topicId ?? '').values() ?? []
  return [...records].map(({ value }) => value.leader)
}

describe.each([1, 2, 3])('the disk of daemon %i is full', (nodeId) => {
  it('before anything is there: topics are made, also those of groups and transactions', async () => {
    const cluster = await clusterOfThree(`new ${nodeId}`)
    fill(cluster.brokers[nodeId - 1] as SimBroker)
    await cluster.run(5000)
    expect(await cluster.timed(cluster.makeTopic)).toBeLessThan(3000)
    expect(await cluster.timed(cluster.produceToAll)).toBeLessThan(10_000)
    expect(await cluster.timed(cluster.commitAll)).toBeLessThan(10_000)
    expect(await cluster.timed(cluster.transactAll)).toBeLessThan(10_000)
    await cluster.timed(() => cluster.make('alone', 1))
    for (const topic of [TOPIC, 'alone', '__consumer_offsets', '__transaction_state']) {
      expect(leadersOf(cluster, topic)).not.toContain(nodeId)
    }
  })

  it('under everything: it is led elsewhere within seconds', async () => {
    const cluster = await clusterOfThree(`old ${nodeId}`)
    await cluster.timed(cluster.makeTopic)
    await cluster.timed(cluster.produceToAll)
    await cluster.timed(cluster.commitAll)
    await cluster.timed(cluster.transactAll)
    fill(cluster.brokers[nodeId - 1] as SimBroker)
    expect(await cluster.timed(cluster.transactAll)).toBeLessThan(15_000)
    expect(await cluster.timed(cluster.commitAll)).toBeLessThan(5000)
    expect(await cluster.timed(cluster.produceToAll)).toBeLessThan(5000)
    await cluster.run(10_000)
    for (const topic of [TOPIC, '__consumer_offsets', '__transaction_state']) {
      expect(leadersOf(cluster, topic)).not.toContain(nodeId)
    }
  })
})

describe('the disks of two daemons of three are full', () => {
  it('who waits for a coordinator is told why within seconds, and when it is over', async () => {
    const cluster = await clusterOfThree('two')
    const { brokers, world, warnings, run, timed } = cluster
    await timed(cluster.makeTopic)
    await timed(cluster.commitAll)
    await timed(cluster.transactAll)
    fill(brokers[0] as SimBroker)
    fill(brokers[1] as SimBroker)
    await run(10_000)
    for (const [work, target] of [
      [cluster.commitAll, 'group a'],
      [cluster.transactAll, 'transactional id a'],
    ] as const) {
      warnings.length = 0
      const working = work()
      await run(12_000)
      expect(warnings).toMatchObject([{ kind: 'unanswered', target }])
      for (const { disk } of brokers) disk.totalBytes = 2 ** 40
      await world.settle(working)
      expect(warnings).toMatchObject([{ kind: 'unanswered' }, { kind: 'answered', target }])
      fillAgain(brokers)
      await run(10_000)
    }
  })
})
