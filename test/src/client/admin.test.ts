import { describe, expect, it } from 'vitest'
import { Admin } from '../../../src/client/admin.ts'
import { kafkaFailure } from '../../../src/client/kafka-failure.ts'
import type { Request } from '../../../src/protocol/api-table.ts'
import { KafkaError } from '../../../src/protocol/errors.ts'
import { batchOf, type Fixture, fixture, linesOf } from './client-fixture.ts'

function adminOf(stage: Fixture): Admin {
  return new Admin(stage.world.time, stage.world.random, stage.cluster, { timeoutMs: 5000 })
}

describe('admin: topics', () => {
  it('lists topics by name, and describes one that is not there', async () => {
    const stage = fixture()
    for (const name of ['b', 'c', 'a']) stage.brokers.addTopic(name)
    const admin = adminOf(stage)
    const topics = await stage.world.run(admin.listTopics())
    expect(topics.map(({ name }) => name)).toEqual(['a', 'b', 'c'])
    const [gone] = await stage.world.run(admin.describeTopics(['gone']))
    expect(gone).toMatchObject({ errorCode: KafkaError.UNKNOWN_TOPIC_OR_PARTITION, partitions: [] })
  })

  it('creates topics; each has its own outcome', async () => {
    const stage = fixture()
    let seen: Request<'CreateTopics'> | undefined
    stage.brokers.override.CreateTopics = (body) => {
      seen = body
      return {
        topics: body.topics.map(({ name }) =>
          name === 'old'
            ? { name, errorCode: KafkaError.TOPIC_ALREADY_EXISTS }
            : { name, errorCode: 0 },
        ),
      }
    }
    const outcomes = await stage.world.run(
      adminOf(stage).createTopics([
        { name: 'new', partitions: 3, configs: { 'retention.ms': '5' } },
        { name: 'old' },
      ]),
    )
    expect(outcomes).toMatchObject([
      { name: 'new', error: undefined },
      { name: 'old', error: { code: 'TOPIC_EXISTS', exit: 8 } },
    ])
    expect(seen?.topics).toMatchObject([
      {
        numPartitions: 3,
        replicationFactor: -1,
        configs: [{ name: 'retention.ms', value: '5' }],
      },
      { numPartitions: -1, replicationFactor: -1 },
    ])
    expect(seen?.validateOnly).toBe(false)
  })

  it('an order whose answer is lost is not sent again', async () => {
    const stage = fixture()
    let count = 0
    stage.brokers.override.CreateTopics = () => {
      count++
      stage.world.breakLinks('ipc:///one')
      return { topics: [] }
    }
    const order = stage.world.run(adminOf(stage).createTopics([{ name: 'x' }]))
    await expect(order).rejects.toMatchObject({ code: 'CONNECTION_LOST' })
    expect(count).toBe(1)
  })

  it('follows the controller', async () => {
    const stage = fixture()
    let count = 0
    stage.brokers.override.DeleteTopics = (body) => {
      count++
      const errorCode = count < 3 ? KafkaError.NOT_CONTROLLER : 0
      return { responses: body.topics.map(({ name }) => ({ name, errorCode })) }
    }
    const [outcome] = await stage.world.run(adminOf(stage).deleteTopics(['t']))
    expect(outcome).toEqual({ name: 't', error: undefined })
    expect(count).toBe(3)
  })

  it('names topics as old brokers want them', async () => {
    const stage = fixture()
    stage.brokers.ranges.set(20, { min: 1, max: 5 })
    let seen: Request<'DeleteTopics'> | undefined
    stage.brokers.override.DeleteTopics = (body) => {
      seen = body
      return { responses: [] }
    }
    const [outcome] = await stage.world.run(adminOf(stage).deleteTopics(['t']))
    expect(seen?.topicNames).toEqual(['t'])
    expect(outcome?.error).toMatchObject({ code: 'MALFORMED_MESSAGE' })
  })

  it('adds partitions', async () => {
    const stage = fixture()
    stage.brokers.override.CreatePartitions = (body) => ({
      results: body.topics.map(({ name, count }) => ({
        name,
        errorCode: count < 4 ? KafkaError.INVALID_PARTITIONS : 0,
        errorMessage: count < 4 ? 'there are 4 already' : null,
      })),
    })
    const outcomes = await stage.world.run(
      adminOf(stage).createPartitions([
        { name: 'a', count: 8 },
        { name: 'b', count: 2 },
      ]),
    )
    expect(outcomes[0]?.error).toBeUndefined()
    expect(outcomes[1]?.error?.message).toBe('b: there are 4 already (INVALID_PARTITIONS)')
  })
})

describe('admin: configs', () => {
  const described = {
    results: [
      {
        errorCode: 0,
        resourceType: 2,
        resourceName: 't',
        configs: [
          { name: 'retention.ms', value: '5', configSource: 1 },
          { name: 'cleanup.policy', value: 'delete', configSource: 5 },
          { name: 'max.message.bytes', value: '9', configSource: 1 },
        ],
      },
    ],
  }

  it('describes with the origin of each setting', async () => {
    const stage = fixture()
    stage.brokers.override.DescribeConfigs = () => described
    const [topic] = await stage.world.run(
      adminOf(stage).describeConfigs([{ kind: 'topic', name: 't' }]),
    )
    expect(topic?.configs.map(({ name, origin }) => [name, origin])).toEqual([
      ['retention.ms', 'topic'],
      ['cleanup.policy', 'default'],
      ['max.message.bytes', 'topic'],
    ])
  })

  it('sets and unsets single keys', async () => {
    const stage = fixture()
    let seen: Request<'IncrementalAlterConfigs'> | undefined
    stage.brokers.override.IncrementalAlterConfigs = (body) => {
      seen = body
      return { responses: [{ errorCode: 0, resourceType: 2, resourceName: 't' }] }
    }
    const change = { kind: 'topic', name: 't', set: { a: '1' }, unset: ['b'] } as const
    const [outcome] = await stage.world.run(adminOf(stage).alterConfigs([change]))
    expect(outcome?.error).toBeUndefined()
    expect(seen?.resources[0]?.configs).toEqual([
      { name: 'a', configOperation: 0, value: '1' },
      { name: 'b', configOperation: 1, value: null },
    ])
  })

  it('asks again while no broker is the controller', async () => {
    const stage = fixture()
    stage.brokers.addTopic('t')
    let asked = 0
    stage.brokers.override.IncrementalAlterConfigs = ({ resources }) => {
      asked += 1
      const [resource] = resources
      return {
        throttleTimeMs: 0,
        responses: [{ ...resource, errorCode: asked < 3 ? 41 : 0, errorMessage: null }],
      }
    }
    const [outcome] = await stage.world.run(
      adminOf(stage).alterConfigs([{ kind: 'topic', name: 't', set: { 'retention.ms': '1' } }]),
    )
    expect(outcome).toEqual({ name: 't', error: undefined })
    expect(asked).toBe(3)
  })

  it('replaces the whole set where the broker knows nothing else, keeping what it does not change', async () => {
    const stage = fixture()
    stage.brokers.ranges.delete(44)
    stage.brokers.override.DescribeConfigs = () => described
    let seen: Request<'AlterConfigs'> | undefined
    stage.brokers.override.AlterConfigs = (body) => {
      seen = body
      const errorCode = KafkaError.INVALID_CONFIG
      return { responses: [{ errorCode, resourceType: 2, resourceName: 't' }] }
    }
    const change = { kind: 'topic', name: 't', set: { a: '1' }, unset: ['retention.ms'] } as const
    const [outcome] = await stage.world.run(adminOf(stage).alterConfigs([change]))
    expect(outcome?.error).toMatchObject({ code: 'CONFIG_INVALID' })
    expect(seen?.resources[0]?.configs).toEqual([
      { name: 'max.message.bytes', value: '9' },
      { name: 'a', value: '1' },
    ])
  })
})

describe('admin: offsets, records, brokers', () => {
  it('lists several places of several partitions, in the order asked', async () => {
    const stage = fixture({ addresses: ['ipc:///one', 'ipc:///two'] })
    const [first, second] = stage.brokers.addTopic('t', 2)
    first?.append(batchOf(linesOf('', 7)))
    second?.append(batchOf(linesOf('', 3)))
    first!.logStart = 2
    stage.world.schedule(1, () => stage.brokers.moveLeader('t', 1, 0))
    const answers = await stage.world.run(
      adminOf(stage).listOffsets([
        { topic: 't', partition: 0, at: 'latest' },
        { topic: 't', partition: 1, at: 'latest' },
        { topic: 't', partition: 0, at: 'earliest' },
        { topic: 't', partition: 1, at: 1_700_000_000_000 },
      ]),
    )
    expect(answers.map(({ offset }) => offset)).toEqual([7, 3, 2, -1])
  })

  it('two places of one partition are two requests, sent together', async () => {
    const stage = fixture()
    stage.brokers.addTopic('t')
    const asked: { readonly timestamp: number; readonly atMs: number }[] = []
    stage.brokers.override.ListOffsets = ({ topics }) => {
      const [row] = topics[0]?.partitions ?? []
      asked.push({ timestamp: row?.timestamp ?? 0, atMs: stage.world.nowMs })
      return undefined
    }
    await stage.world.run(
      adminOf(stage).listOffsets([
        { topic: 't', partition: 0, at: 'latest' },
        { topic: 't', partition: 0, at: 'earliest' },
      ]),
    )
    expect(asked.map(({ timestamp }) => timestamp)).toEqual([-1, -2])
    expect(asked[1]?.atMs).toBe(asked[0]?.atMs)
  })

  it('a partition that is not there is TOPIC_UNKNOWN', async () => {
    const stage = fixture()
    stage.brokers.addTopic('t')
    const admin = adminOf(stage)
    for (const question of [
      { topic: 't', partition: 4, at: 'latest' as const },
      { topic: 'gone', partition: 0, at: 'latest' as const },
    ]) {
      await expect(stage.world.run(admin.listOffsets([question]))).rejects.toMatchObject({
        code: 'TOPIC_UNKNOWN',
      })
    }
  })

  it('offsets of a partition without leader time out', async () => {
    const stage = fixture()
    const [partition] = stage.brokers.addTopic('t')
    partition!.leaderId = -1
    const asked = adminOf(stage).listOffsets([{ topic: 't', partition: 0, at: 'latest' }])
    await expect(stage.world.run(asked)).rejects.toMatchObject({ code: 'TIMED_OUT' })
    expect(stage.world.nowMs).toBeLessThan(7000)
  })

  it('each question by itself: one without an answer costs the others nothing', async () => {
    const stage = fixture({ addresses: ['ipc:///one', 'ipc:///two'] })
    const [first, second] = stage.brokers.addTopic('t', 2)
    first?.append(batchOf(linesOf('', 7)))
    second!.leaderId = -1
    const outcomes = await stage.world.run(
      adminOf(stage).listOffsetsEach(
        [
          { topic: 't', partition: 0, at: 'latest' },
          { topic: 't', partition: 1, at: 'latest' },
          { topic: 't', partition: 4, at: 'latest' },
        ],
        { timeoutMs: 2000 },
      ),
    )
    expect(outcomes.map(({ answer }) => answer?.offset)).toEqual([7, undefined, undefined])
    expect(outcomes.map(({ error }) => error?.code)).toEqual([
      undefined,
      'TIMED_OUT',
      'TOPIC_UNKNOWN',
    ])
    expect(outcomes.map(({ leaderId }) => leaderId)).toEqual([0, -1, -1])
    expect(stage.world.nowMs).toBeLessThan(3000)
  })

  it('what a leader refuses is the cause of its missing answer', async () => {
    const stage = fixture()
    stage.brokers.addTopic('t')
    stage.brokers.override.ListOffsets = () => ({
      throttleTimeMs: 0,
      topics: [{ name: 't', partitions: [{ partitionIndex: 0, errorCode: 6 }] }],
    })
    const [outcome] = await stage.world.run(
      adminOf(stage).listOffsetsEach([{ topic: 't', partition: 0, at: 'latest' }], {
        timeoutMs: 1000,
      }),
    )
    expect(outcome?.error).toMatchObject({ code: 'TIMED_OUT', cause: { kafkaError: 6 } })
  })

  it('log directories: a broker that does not answer is told, if that is wanted', async () => {
    const stage = fixture({ addresses: ['ipc:///one', 'ipc:///two'] })
    stage.brokers.addTopic('t')
    stage.brokers.override.DescribeLogDirs = () => ({ throttleTimeMs: 0, results: [] })
    stage.brokers.stop(1)
    const silent: number[] = []
    const asked = adminOf(stage).describeLogDirectories(undefined, {
      timeoutMs: 1000,
      onUnanswered: (nodeId) => silent.push(nodeId),
    })
    expect(await stage.world.run(asked)).toEqual([])
    expect(silent).toEqual([1])
  })

  it('deletes records at each leader; refusals are per partition', async () => {
    const stage = fixture({ addresses: ['ipc:///one', 'ipc:///two'] })
    stage.brokers.addTopic('t', 2)
    stage.brokers.override.DeleteRecords = (body) => ({
      topics: body.topics.map(({ name, partitions }) => ({
        name,
        partitions: partitions.map(({ partitionIndex, offset }) => ({
          partitionIndex,
          lowWatermark: offset,
          errorCode: partitionIndex === 1 ? KafkaError.OFFSET_OUT_OF_RANGE : 0,
        })),
      })),
    })
    const outcomes = await stage.world.run(
      adminOf(stage).deleteRecords([
        { topic: 't', partition: 1, beforeOffset: 9 },
        { topic: 't', partition: 0, beforeOffset: 5 },
        { topic: 'gone', partition: 0, beforeOffset: 5 },
      ]),
    )
    expect(outcomes).toMatchObject([
      { error: { code: 'OFFSET_OUT_OF_RANGE' } },
      { logStartOffset: 5, error: undefined },
      { error: { code: 'TOPIC_UNKNOWN' } },
    ])
  })

  it('what only a daemon can do is refused by others, in words', async () => {
    const stage = fixture()
    await expect(stage.world.run(adminOf(stage).daemonStatus())).rejects.toMatchObject({
      code: 'UNSUPPORTED_BY_BROKER',
      exit: 2,
    })
  })

  it('describes the cluster and what its brokers store', async () => {
    const stage = fixture({ addresses: ['ipc:///one', 'ipc:///two'] })
    stage.brokers.addTopic('t')
    stage.brokers.override.DescribeLogDirs = (body) => ({
      results: [
        {
          errorCode: 0,
          logDir: '/d',
          topics: (body.topics ?? []).map(({ topic, partitions }) => ({
            name: topic,
            partitions: partitions.map((partitionIndex) => ({ partitionIndex, partitionSize: 70 })),
          })),
        },
      ],
    })
    const admin = adminOf(stage)
    const cluster = await stage.world.run(admin.describeCluster())
    expect(cluster).toMatchObject({ clusterId: 'fake', controllerId: 0 })
    expect(cluster.brokers.map(({ nodeId }) => nodeId)).toEqual([0, 1])
    const topics = await stage.world.run(admin.listTopics())
    const rows = await stage.world.run(admin.describeLogDirectories(topics))
    expect(rows).toEqual(
      [0, 1].map((nodeId) => ({ nodeId, directory: '/d', topic: 't', partition: 0, bytes: 70 })),
    )
  })
})

describe('kafka failure', () => {
  it('is one line: what, what happened, the protocol’s name', () => {
    const error = kafkaFailure(KafkaError.UNKNOWN_TOPIC_OR_PARTITION, { target: 'orders' })
    expect(error.message).toBe('orders: no such topic (UNKNOWN_TOPIC_OR_PARTITION)')
    expect(error).toMatchObject({ code: 'TOPIC_UNKNOWN', kafkaError: 3, exit: 3, target: 'orders' })
  })

  it('every number has a row, also one from the future', () => {
    for (const number of [...Object.values(KafkaError), 999, -1]) {
      if (number === 0) continue
      expect(kafkaFailure(number).message).toMatch(/\(.+\)$/)
    }
  })
})
