import { describe, expect, it } from 'vitest'
import { KafkaError } from '../../../src/protocol/errors.ts'
import { ZERO_UUID } from '../../../src/protocol/schema.ts'
import { batchOf } from '../batches.ts'
import { DaemonWorld, KAFKA, ZMQ } from '../daemon-world.ts'

async function started(texts: Readonly<Record<string, string>> = {}) {
  const w = new DaemonWorld()
  const daemon = await w.start({ texts })
  const client = w.client()
  await client.create('one')
  await client.create('two', { partitions: 3 })
  const ask = (names: readonly string[] | null, version = 12, allowAutoTopicCreation = true) =>
    client.call('Metadata', version, {
      topics: names?.map((name) => ({ name })) ?? null,
      allowAutoTopicCreation,
    })
  return { w, daemon, client, ask }
}

describe('P8 Metadata', () => {
  it('v0: an empty list is all; v1 on: null is all, empty is none', async () => {
    const { ask } = await started()
    const names = async (list: readonly string[] | null, version: number) =>
      (await ask(list, version)).topics.map((topic) => topic.name)
    expect(await names([], 0)).toEqual(['one', 'two'])
    for (const version of [1, 4, 9, 12]) {
      expect(await names(null, version)).toEqual(['one', 'two'])
      expect(await names([], version)).toEqual([])
    }
  })

  it('shows leader, epoch, replicas, cluster id and a controller among the brokers', async () => {
    const { ask, daemon } = await started()
    const answer = await ask(['two'])
    expect(answer.topics[0]?.partitions).toHaveLength(3)
    expect(answer.topics[0]?.partitions[2]).toMatchObject({
      errorCode: 0,
      partitionIndex: 2,
      leaderId: 1,
      leaderEpoch: 0,
      replicaNodes: [1],
      isrNodes: [1],
      offlineReplicas: [],
    })
    expect(answer.clusterId).toBe(daemon.broker.clusterId)
    expect(answer.brokers.map((broker) => broker.nodeId)).toContain(answer.controllerId)
    expect(answer.topics[0]?.topicAuthorizedOperations).toBe(-2147483648)
  })

  it('names the broker by the listener that was asked', async () => {
    const { w, ask } = await started()
    expect((await ask([])).brokers[0]).toMatchObject({ nodeId: 1, host: ZMQ, port: 0 })
    const other = await w.client(KAFKA).call('Metadata', 9, { topics: [] })
    expect(other.brokers[0]).toMatchObject({ host: 'daemon', port: 9092 })
  })

  it('an unknown topic is error 3 without partitions; nothing is created by default', async () => {
    const { ask } = await started()
    const answer = await ask(['nowhere'])
    expect(answer.topics[0]).toMatchObject({
      errorCode: KafkaError.UNKNOWN_TOPIC_OR_PARTITION,
      name: 'nowhere',
      partitions: [],
    })
    expect((await ask(null)).topics).toHaveLength(2)
  })

  it('creates where it is configured and allowed, and answers with the topic at once', async () => {
    const texts = { 'auto.create.topics.enable': 'true', 'num.partitions': '4' }
    const { client, ask } = await started(texts)
    expect((await ask(['no'], 12, false)).topics[0]?.errorCode).toBe(3)
    const made = (await ask(['made'])).topics[0]
    expect(made?.errorCode).toBe(0)
    expect(made?.partitions).toHaveLength(4)
    // Below v4 the flag counts as set.
    expect((await ask(['old'], 1)).topics[0]?.errorCode).toBe(0)
    expect((await client.produce('made', batchOf(['x']), { partition: 3 })).errorCode).toBe(0)
  })

  it('several clients that ask for a new topic at once get one topic', async () => {
    const { w } = await started({ 'auto.create.topics.enable': 'true' })
    const asks = Array.from({ length: 5 }, () =>
      w.client(KAFKA).begin('Metadata', 12, { topics: [{ name: 'race' }] }),
    )
    const answers = await w.settle(Promise.all(asks))
    expect(new Set(answers.map((answer) => answer.topics[0]?.topicId)).size).toBe(1)
  })

  it.each(['', '.', '..', 'a b', 'ü', 'a/b', 'x\0y', 'n'.repeat(250)])(
    'an invalid name (%j) is error 17, and nothing is created',
    async (name) => {
      const { ask } = await started({ 'auto.create.topics.enable': 'true' })
      const answer = await ask([name])
      expect(answer.topics[0]?.errorCode).toBe(KafkaError.INVALID_TOPIC_EXCEPTION)
      expect((await ask(null)).topics).toHaveLength(2)
    },
  )
})

describe('P3 topic ids', () => {
  it('are real, survive restarts, and change when a topic is made again', async () => {
    const { w, client, ask } = await started()
    const before = (await ask(['one'])).topics[0]?.topicId
    expect(before).toMatch(/^[A-Za-z0-9_-]{22}$/)
    expect(before).not.toBe(ZERO_UUID)
    await client.call('DeleteTopics', 5, { topicNames: ['two'], timeoutMs: 1000 })
    const again = await client.create('two')
    const after = await w.crashAndRestart()
    const answer = await after.client.call('Metadata', 12, { topics: null })
    const ids = new Map(answer.topics.map((topic) => [topic.name, topic.topicId]))
    expect(ids.get('one')).toBe(before)
    expect(ids.get('two')).toBe(again.topicId)
  })

  it('can be asked for by id', async () => {
    const { client, ask } = await started()
    const topicId = (await ask(['one'])).topics[0]!.topicId
    const topics = [
      { topicId, name: null },
      { topicId: 'AAAAAAAAAAAAAAAAAAAAAQ', name: null },
    ]
    const answer = await client.call('Metadata', 12, { topics })
    expect(answer.topics.map((topic) => [topic.errorCode, topic.name])).toEqual([
      [0, 'one'],
      [KafkaError.UNKNOWN_TOPIC_ID, null],
    ])
  })
})

describe('DescribeCluster and DescribeTopicPartitions', () => {
  it('describe what Metadata describes', async () => {
    const { client, daemon } = await started()
    const cluster = await client.call('DescribeCluster', 1, {
      includeClusterAuthorizedOperations: true,
      endpointType: 1,
    })
    expect(cluster).toMatchObject({
      errorCode: 0,
      clusterId: daemon.broker.clusterId,
      controllerId: 1,
      brokers: [{ brokerId: 1, host: ZMQ, port: 0 }],
    })
    expect(cluster.clusterAuthorizedOperations).toBeGreaterThan(0)
  })

  it('go page by page', async () => {
    const { client } = await started()
    const page = (cursor: { topicName: string; partitionIndex: number } | null) =>
      client.call('DescribeTopicPartitions', 0, { topics: [], responsePartitionLimit: 2, cursor })
    const first = await page(null)
    const shape = (answer: typeof first) =>
      answer.topics.map((topic) => [topic.name, topic.partitions.map((p) => p.partitionIndex)])
    expect(shape(first)).toEqual([
      ['one', [0]],
      ['two', [0]],
    ])
    expect(first.nextCursor).toEqual({ topicName: 'two', partitionIndex: 1 })
    const second = await page(first.nextCursor)
    expect(shape(second)).toEqual([['two', [1, 2]]])
    expect(second.nextCursor).toBeNull()
  })
})
