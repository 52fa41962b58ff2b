import { describe, expect, it } from 'vitest'
import { ClusterAdmin } from '../../../src/client/cluster-admin.ts'
import type { Request } from '../../../src/protocol/api-table.ts'
import { apiTable } from '../../../src/protocol/api-table.ts'
import { KafkaError } from '../../../src/protocol/errors.ts'
import { type Fixture, fixture } from './client-fixture.ts'

const apis = [
  'ElectLeaders',
  'AlterPartitionReassignments',
  'ListPartitionReassignments',
  'DescribeTopicPartitions',
  'UnregisterBroker',
  'DescribeCluster',
] as const

function stageWith(...offered: (typeof apis)[number][]): Fixture {
  const stage = fixture()
  for (const api of offered) {
    const { key, min, max } = apiTable[api]
    stage.brokers.ranges.set(key, { min, max })
  }
  return stage
}

function adminOf({ world, cluster }: Fixture): ClusterAdmin {
  return new ClusterAdmin(world.time, world.random, cluster, { timeoutMs: 5000 })
}

describe('cluster admin: elections', () => {
  it('each partition has its outcome; one that needs none is no failure', async () => {
    const stage = stageWith('ElectLeaders')
    let seen: Request<'ElectLeaders'> | undefined
    stage.brokers.override.ElectLeaders = (body) => {
      seen = body
      return {
        errorCode: 0,
        replicaElectionResults: [
          {
            topic: 't',
            partitionResult: [
              { partitionId: 0, errorCode: 0, errorMessage: null },
              { partitionId: 1, errorCode: KafkaError.ELECTION_NOT_NEEDED, errorMessage: 'x' },
              {
                partitionId: 2,
                errorCode: KafkaError.PREFERRED_LEADER_NOT_AVAILABLE,
                errorMessage: null,
              },
            ],
          },
        ],
      }
    }
    const names = [0, 1, 2].map((partition) => ({ topic: 't', partition }))
    const outcomes = await stage.world.run(adminOf(stage).electLeaders('unclean', names))
    expect(outcomes).toMatchObject([
      { partition: 0, wasNeeded: true, error: undefined },
      { partition: 1, wasNeeded: false, error: undefined },
      { partition: 2, wasNeeded: true, error: { code: 'BROKER_ERROR', kafkaError: 80 } },
    ])
    expect(seen).toMatchObject({
      electionType: 1,
      topicPartitions: [{ topic: 't', partitions: [0, 1, 2] }],
    })
  })

  it('follows the controller, by the code of the answer and by that of a partition', async () => {
    const stage = stageWith('ElectLeaders')
    let count = 0
    stage.brokers.override.ElectLeaders = () => {
      count += 1
      const errorCode = count === 1 ? KafkaError.NOT_CONTROLLER : 0
      const inner = count === 2 ? KafkaError.NOT_CONTROLLER : 0
      const partitionResult = [{ partitionId: 0, errorCode: inner, errorMessage: null }]
      return { errorCode, replicaElectionResults: [{ topic: 't', partitionResult }] }
    }
    const [outcome] = await stage.world.run(
      adminOf(stage).electLeaders('preferred', [{ topic: 't', partition: 0 }]),
    )
    expect(outcome?.error).toBeUndefined()
    expect(count).toBe(3)
  })

  it('a refusal of the whole order is thrown; a broker without it says so', async () => {
    const stage = stageWith('ElectLeaders')
    stage.brokers.override.ElectLeaders = () => ({
      errorCode: KafkaError.CLUSTER_AUTHORIZATION_FAILED,
      replicaElectionResults: [],
    })
    const names = [{ topic: 't', partition: 0 }]
    await expect(
      stage.world.run(adminOf(stage).electLeaders('preferred', names)),
    ).rejects.toMatchObject({ code: 'NOT_ALLOWED' })
    const bare = stageWith()
    await expect(
      bare.world.run(adminOf(bare).electLeaders('preferred', names)),
    ).rejects.toMatchObject({ code: 'UNSUPPORTED_BY_BROKER' })
  })
})

describe('cluster admin: moves', () => {
  it('orders by topic; sent again when the answer is lost, since it names what is wanted', async () => {
    const stage = stageWith('AlterPartitionReassignments')
    const seen: Request<'AlterPartitionReassignments'>[] = []
    stage.brokers.override.AlterPartitionReassignments = (body) => {
      seen.push(body)
      if (seen.length === 1) stage.world.breakLinks('ipc:///one')
      return {
        errorCode: 0,
        errorMessage: null,
        responses: body.topics.map(({ name, partitions }) => ({
          name,
          partitions: partitions.map(({ partitionIndex }) => ({
            partitionIndex,
            errorCode: partitionIndex === 1 ? KafkaError.NO_REASSIGNMENT_IN_PROGRESS : 0,
            errorMessage: null,
          })),
        })),
      }
    }
    const outcomes = await stage.world.run(
      adminOf(stage).reassign([
        { topic: 'a', partition: 0, replicas: [1, 2] },
        { topic: 'b', partition: 0, replicas: [2] },
        { topic: 'a', partition: 1, replicas: null },
      ]),
    )
    expect(outcomes.map(({ error }) => error?.code)).toEqual([undefined, undefined, 'CONFLICT'])
    expect(seen).toHaveLength(2)
    expect(seen[0]?.topics).toMatchObject([
      {
        name: 'a',
        partitions: [
          { partitionIndex: 0, replicas: [1, 2] },
          { partitionIndex: 1, replicas: null },
        ],
      },
      { name: 'b', partitions: [{ partitionIndex: 0, replicas: [2] }] },
    ])
  })

  it('lists what is on its way', async () => {
    const stage = stageWith('ListPartitionReassignments')
    const row = {
      partitionIndex: 3,
      replicas: [1, 2, 3],
      addingReplicas: [3],
      removingReplicas: [1],
    }
    stage.brokers.override.ListPartitionReassignments = () => ({
      errorCode: 0,
      errorMessage: null,
      topics: [
        { name: 'b', partitions: [row] },
        { name: 'a', partitions: [row] },
      ],
    })
    const moves = await stage.world.run(adminOf(stage).reassignments())
    expect(moves.map(({ topic }) => topic)).toEqual(['a', 'b'])
    expect(moves[0]).toMatchObject({ partition: 3, adding: [3], removing: [1] })
  })

  it('an unknown broker to forget is NAME_UNKNOWN', async () => {
    const stage = stageWith('UnregisterBroker')
    stage.brokers.override.UnregisterBroker = () => ({
      errorCode: KafkaError.BROKER_ID_NOT_REGISTERED,
      errorMessage: null,
    })
    await expect(stage.world.run(adminOf(stage).unregister(7))).rejects.toMatchObject({
      code: 'NAME_UNKNOWN',
    })
  })
})

describe('cluster admin: what is there', () => {
  it('fenced brokers are listed where the cluster tells', async () => {
    const stage = stageWith('DescribeCluster')
    stage.brokers.override.DescribeCluster = (body) => {
      expect(body.includeFencedBrokers).toBe(true)
      return {
        errorCode: 0,
        clusterId: 'c',
        controllerId: 2,
        brokers: [
          { brokerId: 2, host: 'ipc:///two', port: 0, rack: 'r', isFenced: true },
          { brokerId: 1, host: 'ipc:///one', port: 0, rack: null, isFenced: false },
        ],
      }
    }
    const overview = await stage.world.run(adminOf(stage).describe())
    expect(overview).toMatchObject({
      clusterId: 'c',
      controllerId: 2,
      brokers: [
        { nodeId: 1, address: 'ipc:///one', isFenced: false },
        { nodeId: 2, address: 'ipc:///two', rack: 'r', isFenced: true },
      ],
    })
  })

  it('without DescribeCluster it is what Metadata says, and fenced is unknown', async () => {
    const stage = stageWith()
    const overview = await stage.world.run(adminOf(stage).describe())
    expect(overview.brokers).toMatchObject([{ nodeId: 0, isFenced: undefined }])
  })

  it('eligible replicas: every page of the answer, and an end to one that stands still', async () => {
    const stage = stageWith('DescribeTopicPartitions')
    const cursors: unknown[] = []
    stage.brokers.override.DescribeTopicPartitions = ({ cursor }) => {
      cursors.push(cursor?.partitionIndex)
      const partitionIndex = cursor?.partitionIndex ?? 0
      const partition = {
        errorCode: 0,
        partitionIndex,
        leaderId: 1,
        leaderEpoch: 0,
        replicaNodes: [1, 2],
        isrNodes: [1],
        eligibleLeaderReplicas: partitionIndex === 0 ? [2] : null,
        lastKnownElr: null,
        offlineReplicas: [],
      }
      return {
        topics: [{ errorCode: 0, name: 't', partitions: [partition] }],
        nextCursor: { topicName: 't', partitionIndex: Math.min(2, partitionIndex + 1) },
      }
    }
    const rows = await stage.world.run(adminOf(stage).eligibleReplicas(['t']))
    expect(rows?.map(({ partition, eligible }) => [partition, eligible])).toEqual([
      [0, [2]],
      [1, []],
      [2, []],
    ])
    expect(cursors).toEqual([undefined, 1, 2])
    const bare = stageWith()
    expect(await bare.world.run(adminOf(bare).eligibleReplicas(['t']))).toBeUndefined()
  })

  it('a broker that does not answer is told in its row', async () => {
    const stage = stageWith()
    stage.brokers.override.DescribeLogDirs = () => ({
      errorCode: 0,
      results: [
        {
          errorCode: 0,
          logDir: '/d',
          totalBytes: -1,
          usableBytes: 5,
          topics: [
            {
              name: 't',
              partitions: [
                { partitionIndex: 0, partitionSize: 9, offsetLag: 2, isFutureKey: false },
                { partitionIndex: 0, partitionSize: 1, offsetLag: 0, isFutureKey: true },
              ],
            },
          ],
        },
      ],
    })
    await stage.world.run(stage.cluster.describeTopics([]))
    const [known, unknown] = await stage.world.run(adminOf(stage).storage([0, 9], 500))
    expect(unknown).toMatchObject({ nodeId: 9, error: { code: 'BROKER_GONE' }, directories: [] })
    expect(known).toEqual({
      nodeId: 0,
      error: undefined,
      directories: [
        {
          path: '/d',
          error: undefined,
          totalBytes: undefined,
          usableBytes: 5,
          partitions: [{ topic: 't', partition: 0, bytes: 9, lag: 2 }],
        },
      ],
    })
  })
})
