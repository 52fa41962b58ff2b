import { describe, expect, it } from 'vitest'
import { KafkaError } from '../../../src/protocol/errors.ts'
import { ZERO_UUID } from '../../../src/protocol/schema.ts'
import { batchOf, recordsOf } from '../batches.ts'
import { DaemonWorld } from '../daemon-world.ts'

async function started(texts: Readonly<Record<string, string>> = {}) {
  const w = new DaemonWorld()
  const daemon = await w.start({ texts })
  return { w, daemon, client: w.client() }
}

const request = {
  name: 'new',
  numPartitions: 1,
  replicationFactor: 1,
  assignments: [],
  configs: [],
}

describe('CreateTopics', () => {
  it('answers with id, numbers and configs, and the topic is served when it does', async () => {
    const { client } = await started()
    const made = await client.create('new', { partitions: 3, config: { 'retention.ms': '5' } })
    expect(made).toMatchObject({ errorCode: 0, numPartitions: 3, replicationFactor: 1 })
    expect(made.topicId).not.toBe(ZERO_UUID)
    expect(made.configs?.find((each) => each.name === 'retention.ms')).toMatchObject({
      value: '5',
      configSource: 1,
    })
    expect((await client.produce('new', batchOf(['x']), { partition: 2 })).errorCode).toBe(0)
  })

  it('takes the defaults of the broker for -1', async () => {
    const { client } = await started({ 'num.partitions': '5' })
    const answer = await client.call('CreateTopics', 7, {
      topics: [{ ...request, numPartitions: -1, replicationFactor: -1 }],
      timeoutMs: 1000,
    })
    expect(answer.topics[0]).toMatchObject({ errorCode: 0, numPartitions: 5, replicationFactor: 1 })
  })

  it('takes an assignment by hand', async () => {
    const { client } = await started()
    const ask = async (assignments: { partitionIndex: number; brokerIds: number[] }[]) => {
      const topic = { ...request, numPartitions: -1, replicationFactor: -1, assignments }
      const answer = await client.call('CreateTopics', 7, { topics: [topic], timeoutMs: 1000 })
      return answer.topics[0]?.errorCode
    }
    const wrong = KafkaError.INVALID_REPLICA_ASSIGNMENT
    expect(await ask([{ partitionIndex: 0, brokerIds: [9] }])).toBe(wrong)
    expect(await ask([{ partitionIndex: 1, brokerIds: [1] }])).toBe(wrong)
    expect(await ask([{ partitionIndex: 0, brokerIds: [] }])).toBe(wrong)
    expect(await ask([{ partitionIndex: 0, brokerIds: [1, 1] }])).toBe(wrong)
    expect(
      await ask([
        { partitionIndex: 1, brokerIds: [1] },
        { partitionIndex: 0, brokerIds: [1] },
      ]),
    ).toBe(0)
  })

  it.each([
    ['an invalid name', { name: 'a b' }, KafkaError.INVALID_TOPIC_EXCEPTION],
    ['no partitions', { numPartitions: 0 }, KafkaError.INVALID_PARTITIONS],
    ['-2 partitions', { numPartitions: -2 }, KafkaError.INVALID_PARTITIONS],
    ['millions of partitions', { numPartitions: 2_000_000 }, KafkaError.INVALID_PARTITIONS],
    ['more replicas than brokers', { replicationFactor: 2 }, KafkaError.INVALID_REPLICATION_FACTOR],
    ['an unknown config', { configs: [{ name: 'x', value: '1' }] }, KafkaError.INVALID_CONFIG],
    [
      'a config without value',
      { configs: [{ name: 'retention.ms', value: null }] },
      KafkaError.INVALID_CONFIG,
    ],
    ['a name that is there', { name: 'taken' }, KafkaError.TOPIC_ALREADY_EXISTS],
    ['a name that collides', { name: 'col_lide' }, KafkaError.INVALID_TOPIC_EXCEPTION],
  ])('refuses %s', async (_title, change, code) => {
    const { client } = await started()
    await client.create('taken')
    await client.create('col.lide')
    const topics = [{ ...request, ...change }]
    const answer = await client.call('CreateTopics', 7, { topics, timeoutMs: 1000 })
    expect(answer.topics[0]?.errorCode).toBe(code)
    expect(answer.topics[0]?.errorMessage).toBeTruthy()
    const all = await client.call('Metadata', 12, { topics: null })
    expect(all.topics).toHaveLength(2)
  })

  it('refuses a topic that stands in the request twice, and creates the others', async () => {
    const { client } = await started()
    const topics = [request, request, { ...request, name: 'good' }]
    const answer = await client.call('CreateTopics', 7, { topics, timeoutMs: 1000 })
    expect(answer.topics.map((topic) => topic.errorCode)).toEqual([42, 42, 0])
  })

  it('validate_only creates nothing', async () => {
    const { client } = await started()
    const body = { topics: [request], timeoutMs: 1000, validateOnly: true }
    expect((await client.call('CreateTopics', 7, body)).topics[0]?.errorCode).toBe(0)
    expect((await client.call('Metadata', 12, { topics: null })).topics).toEqual([])
  })

  it('a creation cut short by a crash is finished by the next start', async () => {
    for (let seed = 0; seed < 15; seed += 1) {
      const w = new DaemonWorld(`cut ${seed}`)
      await w.start()
      const client = w.client()
      const creating = client.begin('CreateTopics', 7, {
        topics: [{ ...request, numPartitions: 3 }],
        timeoutMs: 1000,
      })
      creating.catch(() => undefined)
      await w.run(w.world.random.between(0, 12))
      const after = await w.crashAndRestart()
      const found = (await after.client.call('Metadata', 12, { topics: null })).topics
      expect([0, 1]).toContain(found.length)
      for (const { partitions } of found) expect(partitions).toHaveLength(3)
      const again = await after.client.create('new', { partitions: 3 })
      expect(again.errorCode).toBe(found.length === 1 ? 36 : 0)
      for (const partition of [0, 1, 2]) {
        const { errorCode } = await after.client.produce('new', batchOf(['x']), { partition })
        expect(errorCode).toBe(0)
      }
    }
  })
})

describe('DeleteTopics', () => {
  it('by name and by id; a topic made again begins empty', async () => {
    const { client } = await started()
    const { topicId } = await client.create('new')
    await client.produce('new', batchOf(['old']))
    const byId = await client.call('DeleteTopics', 6, {
      topics: [{ name: null, topicId }],
      timeoutMs: 1000,
    })
    expect(byId.responses[0]).toMatchObject({ errorCode: 0, name: 'new', topicId })
    expect((await client.fetch('new')).errorCode).toBe(3)
    await client.create('new')
    expect(recordsOf((await client.fetch('new')).records)).toEqual([])
    const byName = await client.call('DeleteTopics', 4, { topicNames: ['new'], timeoutMs: 1000 })
    expect(byName.responses[0]?.errorCode).toBe(0)
  })

  it('what waits for the topic is told', async () => {
    const { w, client } = await started()
    await client.create('new')
    const producing = client.beginProduce('new', batchOf(['x']))
    const deleting = client.begin('DeleteTopics', 5, { topicNames: ['new'], timeoutMs: 1000 })
    const [produced] = await w.settle(Promise.all([producing, deleting]))
    expect([0, 3]).toContain(produced.responses[0]?.partitionResponses[0]?.errorCode)
  })

  it('unknown topics, topics named twice, and a broker that keeps its topics', async () => {
    const { client } = await started()
    const answer = await client.call('DeleteTopics', 6, {
      topics: [
        { name: 'none', topicId: ZERO_UUID },
        { name: 'none', topicId: ZERO_UUID },
        { name: null, topicId: ZERO_UUID },
        { name: null, topicId: 'AAAAAAAAAAAAAAAAAAAAAQ' },
      ],
      timeoutMs: 1000,
    })
    expect(answer.responses.map((each) => each.errorCode)).toEqual([3, 42, 42, 100])
    const keeping = await started({ 'delete.topic.enable': 'false' })
    await keeping.client.create('new')
    const body = { topicNames: ['new'], timeoutMs: 1000 }
    const kept = await keeping.client.call('DeleteTopics', 5, body)
    expect(kept.responses[0]?.errorCode).toBe(KafkaError.TOPIC_DELETION_DISABLED)
    const old = await keeping.client.call('DeleteTopics', 2, body)
    expect(old.responses[0]?.errorCode).toBe(KafkaError.INVALID_REQUEST)
  })

  it('a deletion cut short by a crash is finished, and nothing else is deleted (I13)', async () => {
    for (let seed = 0; seed < 15; seed += 1) {
      const w = new DaemonWorld(`delete ${seed}`)
      await w.start()
      const client = w.client()
      await client.create('kept')
      await client.produce('kept', batchOf(['precious']))
      await client.create('gone', { partitions: 2 })
      client
        .begin('DeleteTopics', 5, { topicNames: ['gone'], timeoutMs: 1000 })
        .catch(() => undefined)
      await w.run(w.world.random.between(0, 8))
      const after = await w.crashAndRestart()
      const names = (await after.client.call('Metadata', 12, { topics: null })).topics.map(
        (topic) => topic.name,
      )
      expect(names).toContain('kept')
      const { records } = await after.client.fetch('kept')
      expect(recordsOf(records).map((record) => record.value)).toEqual(['precious'])
      if (!names.includes('gone')) {
        expect((await after.client.create('gone')).errorCode).toBe(0)
        expect((await after.client.fetch('gone')).highWatermark).toBe(0)
      }
    }
  })
})

describe('CreatePartitions', () => {
  it('grows a topic, and the old partitions keep what they hold', async () => {
    const { w, client } = await started()
    await client.create('new')
    await client.produce('new', batchOf(['kept']))
    const grow = async (count: number, validateOnly = false) => {
      const answer = await client.call('CreatePartitions', 3, {
        topics: [{ name: 'new', count, assignments: null }],
        timeoutMs: 1000,
        validateOnly,
      })
      return answer.results[0]
    }
    expect(await grow(4, true)).toMatchObject({ name: 'new', errorCode: 0 })
    expect((await client.produce('new', batchOf(['x']), { partition: 3 })).errorCode).toBe(3)
    expect(await grow(4)).toMatchObject({ name: 'new', errorCode: 0 })
    expect((await client.produce('new', batchOf(['x']), { partition: 3 })).errorCode).toBe(0)
    expect((await grow(4))?.errorCode).toBe(KafkaError.INVALID_PARTITIONS)
    expect((await grow(2))?.errorCode).toBe(KafkaError.INVALID_PARTITIONS)
    const after = await w.crashAndRestart()
    expect(recordsOf((await after.client.fetch('new')).records)).toHaveLength(1)
    expect(recordsOf((await after.client.fetch('new', { partition: 3 })).records)).toHaveLength(1)
  })

  it('the answer names every topic asked for', async () => {
    const { client } = await started()
    const answer = await client.call('CreatePartitions', 3, {
      topics: [
        { name: 'a', count: 2, assignments: null },
        { name: 'a', count: 2, assignments: null },
      ],
      timeoutMs: 1000,
      validateOnly: false,
    })
    expect(answer.results.map((result) => [result.name, result.errorCode])).toEqual([
      ['a', 3],
      ['a', 42],
    ])
  })
})

describe('DeleteRecords', () => {
  const trim = (client: ReturnType<DaemonWorld['client']>, offset: number) =>
    client
      .call('DeleteRecords', 2, {
        topics: [{ name: 'new', partitions: [{ partitionIndex: 0, offset }] }],
        timeoutMs: 1000,
      })
      .then((answer) => answer.topics[0]!.partitions[0]!)

  it('raises the log start, for good', async () => {
    const { w, client } = await started()
    await client.create('new')
    await client.produce('new', batchOf(['a', 'b', 'c']))
    expect(await trim(client, 2)).toMatchObject({ errorCode: 0, lowWatermark: 2 })
    // A lower offset takes nothing back (I14).
    expect(await trim(client, 1)).toMatchObject({ errorCode: 0, lowWatermark: 2 })
    expect((await trim(client, 4)).errorCode).toBe(KafkaError.OFFSET_OUT_OF_RANGE)
    const after = await w.crashAndRestart()
    expect((await after.client.offset('new', -2)).offset).toBe(2)
    expect(await trim(after.client, -1)).toMatchObject({ errorCode: 0, lowWatermark: 3 })
  })
})

describe('the rest', () => {
  it('InitProducerId gives ids once, over restarts too', async () => {
    const { w, client } = await started()
    const take = async (each: typeof client, version: number) => {
      const answer = await each.call('InitProducerId', version, {
        transactionalId: null,
        transactionTimeoutMs: 1000,
      })
      expect(answer).toMatchObject({ errorCode: 0, producerEpoch: 0 })
      return answer.producerId
    }
    const ids = [await take(client, 0), await take(client, 4)]
    const after = await w.crashAndRestart()
    ids.push(await take(after.client, 3))
    expect(new Set(ids).size).toBe(3)
  })

  it('OffsetForLeaderEpoch says where an epoch ended', async () => {
    const { w, client } = await started()
    await client.create('new')
    await client.produce('new', batchOf(['a', 'b']))
    const after = await w.crashAndRestart()
    await after.client.produce('new', batchOf(['c']))
    const ask = async (leaderEpoch: number) => {
      const answer = await after.client.call('OffsetForLeaderEpoch', 4, {
        topics: [{ topic: 'new', partitions: [{ partition: 0, leaderEpoch }] }],
      })
      const { errorCode, endOffset, leaderEpoch: epoch } = answer.topics[0]!.partitions[0]!
      return [errorCode, epoch, endOffset]
    }
    expect(await ask(0)).toEqual([0, 0, 2])
    expect(await ask(1)).toEqual([0, 1, 3])
    expect(await ask(9)).toEqual([0, -1, -1])
  })

  it('ACLs are off', async () => {
    const { client } = await started()
    const any = {
      resourceTypeFilter: 1,
      resourceNameFilter: null,
      patternTypeFilter: 1,
      principalFilter: null,
      hostFilter: null,
      operation: 1,
      permissionType: 1,
    }
    expect((await client.call('DescribeAcls', 3, any)).errorCode).toBe(54)
    const deleted = await client.call('DeleteAcls', 3, { filters: [any] })
    expect(deleted.filterResults.map((each) => each.errorCode)).toEqual([54])
  })

  it('DescribeLogDirs sums up the one directory', async () => {
    const { client } = await started()
    await client.create('new', { partitions: 2 })
    await client.produce('new', batchOf(['x'.repeat(100)]))
    const answer = await client.call('DescribeLogDirs', 4, { topics: null })
    const [directory] = answer.results
    expect(directory).toMatchObject({ errorCode: 0, logDir: '/data' })
    const sizes = directory!.topics[0]!.partitions.map((each) => each.partitionSize)
    expect(sizes[0]).toBeGreaterThan(100)
    expect(sizes[1]).toBe(0)
  })

  it('DaemonStatus says what it serves, DaemonStop ends it', async () => {
    const { w, daemon, client } = await started()
    await client.create('new', { partitions: 2 })
    const status = await client.call('DaemonStatus', 0, {})
    expect(status).toMatchObject({
      errorCode: 0,
      pid: 42,
      nodeId: 1,
      topics: 1,
      partitions: 2,
      state: 'RUNNING',
      dataDirectory: '/data',
    })
    expect(status.addresses).toEqual(daemon.addresses)
    await client.call('DaemonStop', 0, {})
    await w.run(10)
    expect(w.stopAsked).toBe(1)
  })

  it('a private API is unknown on the Kafka door: it closes', async () => {
    const { w } = await started()
    const client = w.client('kafka://daemon:9092')
    void client.begin('DaemonStop', 0, {})
    await w.run(50)
    expect(client.isClosed).toBe(true)
    expect(w.stopAsked).toBe(0)
  })
})
