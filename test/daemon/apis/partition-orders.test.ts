import { describe, expect, it } from 'vitest'
import { KafkaError } from '../../../src/protocol/errors.ts'
import { DaemonWorld, KAFKA } from '../daemon-world.ts'

async function started(address?: string) {
  const w = new DaemonWorld()
  await w.start()
  const client = w.client(address)
  await client.create('one')
  await client.create('two', { partitions: 2 })
  return { w, client }
}

describe('AlterPartitionReassignments and ListPartitionReassignments', () => {
  it.each([0, 1])(
    'v%i answers each partition by itself; a daemon alone has nowhere to move to',
    async (version) => {
      const { client } = await started(KAFKA)
      const answer = await client.call('AlterPartitionReassignments', version, {
        timeoutMs: 1000,
        topics: [
          {
            name: 'two',
            partitions: [
              { partitionIndex: 0, replicas: [1] },
              { partitionIndex: 1, replicas: [1, 2] },
              { partitionIndex: 2, replicas: [1] },
            ],
          },
          { name: 'one', partitions: [{ partitionIndex: 0, replicas: null }] },
        ],
      })
      expect(answer.errorCode).toBe(0)
      const rows = answer.responses.flatMap(({ name, partitions }) =>
        partitions.map((row) => [name, row.partitionIndex, row.errorCode]),
      )
      expect(rows).toEqual([
        ['two', 0, 0],
        ['two', 1, KafkaError.INVALID_REPLICA_ASSIGNMENT],
        ['two', 2, KafkaError.UNKNOWN_TOPIC_OR_PARTITION],
        ['one', 0, KafkaError.NO_REASSIGNMENT_IN_PROGRESS],
      ])
      expect(answer.responses[0]?.partitions[1]?.errorMessage).toBe('no broker 2')
      const listed = await client.call('ListPartitionReassignments', 0, {
        timeoutMs: 1000,
        topics: null,
      })
      expect(listed).toMatchObject({ errorCode: 0, topics: [] })
    },
  )
})

describe('ElectLeaders', () => {
  it('says of each partition asked for that none is needed, and of none where all are meant', async () => {
    const { client } = await started()
    for (const version of [0, 1, 2]) {
      const asked = await client.call('ElectLeaders', version, {
        ...(version > 0 ? { electionType: 1 } : {}),
        topicPartitions: [{ topic: 'two', partitions: [0, 1, 5] }],
        timeoutMs: 1000,
      })
      expect(asked.errorCode).toBe(0)
      expect(asked.replicaElectionResults).toMatchObject([
        {
          topic: 'two',
          partitionResult: [
            { partitionId: 0, errorCode: KafkaError.ELECTION_NOT_NEEDED },
            { partitionId: 1, errorCode: KafkaError.ELECTION_NOT_NEEDED },
            { partitionId: 5, errorCode: KafkaError.UNKNOWN_TOPIC_OR_PARTITION },
          ],
        },
      ])
      const all = await client.call('ElectLeaders', version, {
        topicPartitions: null,
        timeoutMs: 1000,
      })
      expect(all).toMatchObject({ errorCode: 0, replicaElectionResults: [] })
    }
  })

  it('refuses an election type that there is not', async () => {
    const { client } = await started()
    const answer = await client.call('ElectLeaders', 2, {
      electionType: 7,
      topicPartitions: null,
      timeoutMs: 1000,
    })
    expect(answer.errorCode).toBe(KafkaError.INVALID_REQUEST)
  })
})
