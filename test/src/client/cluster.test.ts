import { describe, expect, it } from 'vitest'
import { Cluster } from '../../../src/client/cluster.ts'
import { MetadataCache } from '../../../src/client/metadata-cache.ts'
import type { Response } from '../../../src/protocol/api-table.ts'
import { KafkaError } from '../../../src/protocol/errors.ts'
import { appendAll, fixture, producerOf } from './client-fixture.ts'
import { ClientWorld } from './client-world.ts'
import { FakeCluster } from './fake-cluster.ts'

const ADDRESSES = ['tcp://a:1', 'tcp://b:1', 'tcp://c:1']

function clusterOf(
  world: ClientWorld,
  addresses: readonly string[],
  options: { retryFirstContact?: boolean; connectTimeoutMs?: number } = {},
): { cluster: Cluster; warnings: string[] } {
  const warnings: string[] = []
  const cluster = new Cluster(world.time, world.random, world.net, world.log, {
    addresses,
    onWarning: (warning) => {
      if ('address' in warning) warnings.push(`${warning.kind} ${warning.address}`)
    },
    ...options,
  })
  return { cluster, warnings }
}

describe('cluster: first contact', () => {
  it('takes the first address that answers', async () => {
    const world = new ClientWorld()
    const brokers = new FakeCluster(world, ADDRESSES)
    brokers.stop(0)
    brokers.stop(1)
    const { cluster } = clusterOf(world, ADDRESSES)
    await world.run(cluster.connect())
    expect(world.nowMs).toBeLessThan(100)
  })

  it('an address that swallows everything does not use up the time of the others', async () => {
    const world = new ClientWorld()
    new FakeCluster(world, ADDRESSES)
    world.silence(ADDRESSES[0]!)
    world.silence(ADDRESSES[1]!)
    const { cluster } = clusterOf(world, ADDRESSES)
    await world.run(cluster.connect())
    expect(world.nowMs).toBeLessThan(9000)
  })

  it('UNREACHABLE names the addresses, after connectTimeoutMs, with one warning before', async () => {
    const world = new ClientWorld()
    const { cluster, warnings } = clusterOf(world, ADDRESSES, { connectTimeoutMs: 3000 })
    await expect(world.run(cluster.connect())).rejects.toMatchObject({
      code: 'UNREACHABLE',
      message: expect.stringContaining(ADDRESSES.join(', ')),
    })
    expect(world.nowMs).toBeGreaterThanOrEqual(3000)
    expect(world.nowMs).toBeLessThan(3100)
    expect(warnings.length).toBe(1)
  })

  it('without retries it gives up as soon as every address has refused', async () => {
    const world = new ClientWorld()
    const { cluster, warnings } = clusterOf(world, ADDRESSES, { retryFirstContact: false })
    await expect(world.run(cluster.connect())).rejects.toMatchObject({ code: 'UNREACHABLE' })
    expect(world.nowMs).toBeLessThan(100)
    expect(warnings).toEqual([])
  })

  it('waits for a daemon that is still starting', async () => {
    const world = new ClientWorld()
    const brokers = new FakeCluster(world, ['ipc:///one'])
    brokers.stop(0)
    const { cluster } = clusterOf(world, ['ipc:///one'])
    const connected = cluster.connect()
    await world.pass(4000)
    brokers.start(0)
    await world.run(connected)
    expect(world.nowMs).toBeLessThan(5500)
  })

  it('an address that is none is refused', () => {
    const world = new ClientWorld()
    expect(() => clusterOf(world, ['nonsense'])).toThrow(/not an address/)
    expect(() => clusterOf(world, [])).toThrow(/no broker address/)
  })
})

describe('cluster: brokers', () => {
  it('connects once per address, to the leader it is told', async () => {
    const { world, brokers, cluster } = fixture({ addresses: ADDRESSES })
    brokers.addTopic('t', 3)
    await world.run(cluster.awaitTopic('t'))
    const leaders = [0, 1, 2].map((partition) => cluster.leaderOf('t', partition)?.leaderId)
    expect(leaders).toEqual([0, 1, 2])
    for (const nodeId of [0, 1, 2, 0]) cluster.connectionTo(nodeId)
    await world.pass(100)
    const opened = [0, 1, 2].map((nodeId) => cluster.connectionTo(nodeId)?.address)
    expect(opened).toEqual(ADDRESSES)
    expect(cluster.connectionTo(7)).toBeUndefined()
    expect(brokers.requests.filter(({ api }) => api === 'ApiVersions').length).toBe(3)
  })

  it('speaks to Kafka brokers by host and port', async () => {
    const addresses = ['kafka://k1:9092', 'kafka://k2:9092']
    const { world, brokers, cluster } = fixture({ addresses })
    brokers.addTopic('t', 2)
    await world.run(cluster.awaitTopic('t'))
    cluster.connectionTo(1)
    await world.pass(100)
    expect(cluster.connectionTo(1)?.address).toBe('kafka://k2:9092')
  })

  it('reconnects with pauses that grow, and tells loss and return once each', async () => {
    const world = new ClientWorld()
    const brokers = new FakeCluster(world, ['ipc:///one'])
    const { cluster, warnings } = clusterOf(world, ['ipc:///one'])
    await world.run(cluster.connect())
    brokers.stop(0)
    await world.pass(30_000)
    brokers.addTopic('t')
    brokers.start(0)
    await world.run(cluster.describeTopics(['t']))
    expect(warnings).toEqual(['lost ipc:///one', 'regained ipc:///one'])
  })

  it('a call is sent again after a lost connection, unless it may not be', async () => {
    const { world, brokers, cluster } = fixture()
    await world.run(cluster.connect())
    let count = 0
    brokers.override.Metadata = () => {
      count++
      if (count === 1) world.breakLinks('ipc:///one')
      return undefined
    }
    await world.run(cluster.describeTopics([]))
    expect(count).toBe(2)
    count = 0
    const once = cluster.call(
      'any',
      'Metadata',
      {
        topics: [],
        includeClusterAuthorizedOperations: false,
        includeTopicAuthorizedOperations: false,
      },
      { resend: false },
    )
    await expect(world.run(once)).rejects.toMatchObject({ code: 'CONNECTION_LOST' })
    expect(count).toBe(1)
  })

  it('a question to any broker goes to another where one is silent', async () => {
    const { world, brokers, cluster } = fixture({ addresses: ADDRESSES })
    await world.run(cluster.connect())
    const first = cluster.anyConnection()?.address ?? ''
    brokers.mute.add(ADDRESSES.indexOf(first))
    const body = {
      topics: [],
      includeClusterAuthorizedOperations: false,
      includeTopicAuthorizedOperations: false,
    }
    const deadlineMs = world.nowMs + 90_000
    const answer = await world.run(cluster.call('any', 'Metadata', body, { deadlineMs }))
    expect(answer.brokers.length).toBe(3)
    expect(cluster.anyConnection()?.address).not.toBe(first)
  })

  it('a broker that the others call dead is not waited for', async () => {
    const { world, brokers, cluster } = fixture({ addresses: ADDRESSES })
    await world.run(cluster.describeTopics([]))
    brokers.stop(1)
    // Its lease has three seconds to go: until then nobody knows.
    world.schedule(3000, () => brokers.dead.add(1))
    const beganMs = world.nowMs
    await expect(world.run(cluster.connection(1, beganMs + 30_000))).rejects.toMatchObject({
      code: 'BROKER_GONE',
      message: 'broker 1 is down',
    })
    expect(world.nowMs - beganMs).toBeGreaterThan(2999)
    expect(world.nowMs - beganMs).toBeLessThan(5000)
  })

  it('a controller that died is not waited for once the others have another', async () => {
    const { world, brokers, cluster } = fixture({ addresses: ADDRESSES })
    brokers.controllerId = 1
    await world.run(cluster.describeTopics([]))
    brokers.stop(1)
    world.schedule(3000, () => {
      brokers.dead.add(1)
      brokers.controllerId = 2
    })
    const beganMs = world.nowMs
    const connection = await world.run(cluster.connection('controller', beganMs + 30_000))
    expect(connection.address).toBe(ADDRESSES[2])
    expect(world.nowMs - beganMs).toBeLessThan(5000)
  })

  it('a controller that is never reached is named, though others are', async () => {
    const { world, brokers, cluster } = fixture({ addresses: ADDRESSES })
    brokers.controllerId = 1
    await world.run(cluster.describeTopics([]))
    brokers.stop(1)
    const asking = world.run(cluster.connection('controller', world.nowMs + 10_000))
    await expect(asking).rejects.toMatchObject({
      code: 'UNREACHABLE',
      target: ADDRESSES[1],
      message: `the controller, broker 1, is not reached at ${ADDRESSES[1]}`,
    })
  })

  it('a request to a leader that says nothing goes to the next one when the others call the first dead', async () => {
    const stage = fixture({ addresses: ADDRESSES })
    const { world, brokers } = stage
    brokers.addTopic('t')
    brokers.moveLeader('t', 0, 1)
    const { producer, deliveries } = await producerOf(stage, 't')
    brokers.produceFault = (_, nodeId) => (nodeId === 1 ? { hangs: true } : undefined)
    const beganMs = world.nowMs
    // The process is paused: its links stay, and its lease ends after three seconds.
    world.schedule(3000, () => {
      brokers.dead.add(1)
      brokers.moveLeader('t', 0, 2)
    })
    await appendAll(producer, 't', 0, ['a'])
    await world.run(producer.flush())
    expect(deliveries.map(({ error }) => error)).toEqual([undefined])
    expect(brokers.partition('t').values()).toEqual(['a'])
    expect(world.nowMs - beganMs).toBeGreaterThan(2999)
    expect(world.nowMs - beganMs).toBeLessThan(5000)
  })

  it('a slow leader that the others call live is waited for', async () => {
    const stage = fixture({ addresses: ADDRESSES })
    const { world, brokers } = stage
    brokers.addTopic('t')
    brokers.moveLeader('t', 0, 1)
    const { producer } = await producerOf(stage, 't')
    brokers.produceFault = () => ({ delayMs: 8000 })
    await appendAll(producer, 't', 0, ['a'])
    await world.run(producer.flush())
    const produced = brokers.requests.filter(({ api }) => api === 'Produce')
    expect(produced.length).toBe(1)
  })

  it('a broker that says it has no leader is not the only one asked', async () => {
    const stage = fixture({ addresses: ADDRESSES })
    const { world, brokers, cluster } = stage
    brokers.addTopic('t', 3)
    const { producer } = await producerOf(stage, 't')
    await appendAll(producer, 't', 0, ['a'])
    await appendAll(producer, 't', 1, ['b'])
    await world.run(producer.flush())
    const before = brokers.requests.length
    for (let round = 0; round < 4; round++) {
      cluster.requestRefresh()
      await world.pass(2000)
    }
    const asked = brokers.requests.slice(before).filter(({ api }) => api === 'Metadata')
    expect(new Set(asked.map(({ nodeId }) => nodeId)).size).toBeGreaterThan(1)
  })

  it('whoever asks all brokers asks again when one goes away meanwhile', async () => {
    const { world, brokers, cluster } = fixture({ addresses: ADDRESSES })
    const asked: number[] = []
    brokers.stop(2)
    world.schedule(1000, () => brokers.dead.add(2))
    const body = {
      topics: [],
      includeClusterAuthorizedOperations: false,
      includeTopicAuthorizedOperations: false,
    }
    const answers = await world.run(
      cluster.ofEachBroker(async (nodeId) => {
        asked.push(nodeId)
        await cluster.call(nodeId, 'Metadata', body)
        return nodeId
      }),
    )
    expect(answers).toEqual([0, 1])
    expect(asked).toEqual([0, 1, 2, 0, 1])
  })

  it('a leader that metadata does not list, or that was never reached, makes it ask again', async () => {
    const world = new ClientWorld()
    const brokers = new FakeCluster(world, ADDRESSES)
    brokers.addTopic('t', 3)
    const { cluster } = clusterOf(world, ADDRESSES)
    await world.run(cluster.awaitTopic('t'))
    cluster.addTopic('t')
    const leaders = [0, 1, 2].map((at) => cluster.leaderOf('t', at)?.leaderId ?? -1)
    const away = leaders.find((id) => cluster.metadata.brokers.get(id)?.address === ADDRESSES[2])
    const leaderId = away as number
    // Simulation of the cluster, seed 348: the broker was not live when the answer was made.
    cluster.metadata.brokers.delete(leaderId)
    expect(cluster.connectionTo(leaderId)).toBeUndefined()
    await world.pass(1000)
    expect(cluster.metadata.brokers.has(leaderId)).toBe(true)
    brokers.stop(2)
    const before = brokers.requests.length
    expect(cluster.connectionTo(leaderId)).toBeUndefined()
    await world.pass(3000)
    expect(brokers.requests.length).toBeGreaterThan(before)
  })

  it('refreshes are spaced however often they are asked for', async () => {
    const { world, brokers, cluster } = fixture()
    brokers.addTopic('t')
    await world.run(cluster.awaitTopic('t'))
    cluster.addTopic('t')
    const before = brokers.requests.length
    for (let at = 0; at < 2000; at++) {
      cluster.requestRefresh()
      await world.pass(1)
    }
    expect(brokers.requests.length - before).toBeLessThan(15)
  })

  it('waits for leaders, then says which topic has none', async () => {
    const { world, brokers, cluster } = fixture()
    const [partition] = brokers.addTopic('t')
    partition!.leaderId = -1
    world.schedule(2000, () => brokers.moveLeader('t', 0, 0))
    await world.run(cluster.awaitTopic('t'))
    expect(world.nowMs).toBeGreaterThan(2000)
    brokers.moveLeader('t', 0, -1)
    const waiting = cluster.awaitTopic('t', { deadlineMs: world.time.monotonicMs() + 1000 })
    await expect(world.run(waiting)).rejects.toMatchObject({ code: 'TIMED_OUT', target: 't' })
  })

  it('close ends calls and waits', async () => {
    const { world, cluster } = fixture()
    const call = cluster.describeTopics([])
    cluster.close()
    await expect(world.run(call)).rejects.toMatchObject({ code: 'CLOSED' })
    expect(cluster.anyConnection()).toBeUndefined()
  })
})

describe('metadata cache', () => {
  const answer = (leaderId: number, leaderEpoch: number, topicId: string, errorCode = 0) =>
    ({
      brokers: [{ nodeId: 1, host: 'h', port: 9, rack: null }],
      clusterId: 'c',
      controllerId: 1,
      topics: [
        {
          errorCode,
          name: 't',
          topicId,
          isInternal: false,
          partitions:
            errorCode !== 0
              ? []
              : [
                  {
                    errorCode: 0,
                    partitionIndex: 0,
                    leaderId,
                    leaderEpoch,
                    replicaNodes: [],
                    isrNodes: [],
                    offlineReplicas: [],
                  },
                ],
        },
      ],
    }) as unknown as Response<'Metadata'>

  it('an old leader epoch never comes back, unless the topic is another one', () => {
    const cache = new MetadataCache('kafka')
    cache.update(answer(2, 5, 'a'), false)
    cache.update(answer(1, 4, 'a'), false)
    expect(cache.partition('t', 0)?.leaderId).toBe(2)
    cache.update(answer(3, 0, 'b'), false)
    expect(cache.partition('t', 0)?.leaderId).toBe(3)
    cache.update(answer(4, -1, 'b'), false)
    expect(cache.partition('t', 0)?.leaderId).toBe(4)
  })

  it('a leader named in passing is taken over when it is news, and its broker known (KIP-951)', async () => {
    const { world, brokers, cluster } = fixture({ addresses: ADDRESSES })
    brokers.addTopic('t')
    await world.run(cluster.awaitTopic('t'))
    const { metadata } = cluster
    const other = [...metadata.brokers.keys()].find(
      (id) => id !== metadata.partition('t', 0)?.leaderId,
    ) as number
    const epoch = metadata.partition('t', 0)?.leaderEpoch ?? 0
    expect(metadata.learnLeader('t', 0, other, epoch)).toBe(false)
    expect(metadata.learnLeader('t', 0, 77, epoch + 1)).toBe(false)
    expect(metadata.learnLeader('t', 9, other, epoch + 1)).toBe(false)
    expect(metadata.learnLeader('t', 0, other, epoch + 1)).toBe(true)
    expect(metadata.partition('t', 0)).toMatchObject({ leaderId: other, leaderEpoch: epoch + 1 })
  })

  it('“no leader yet” does not wipe out what is known; “unknown” does', () => {
    const cache = new MetadataCache('kafka')
    cache.update(answer(2, 5, 'a'), false)
    cache.update(answer(0, 0, 'a', KafkaError.LEADER_NOT_AVAILABLE), false)
    expect(cache.partition('t', 0)?.leaderId).toBe(2)
    cache.update(answer(0, 0, 'a', KafkaError.UNKNOWN_TOPIC_OR_PARTITION), false)
    expect(cache.partition('t', 0)).toBeUndefined()
    expect(cache.topic('t')?.errorCode).toBe(KafkaError.UNKNOWN_TOPIC_OR_PARTITION)
  })
})
