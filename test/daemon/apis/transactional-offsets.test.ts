/** Offsets inside a transaction (TxnOffsetCommit, replication.md section 9.5): both protocols, fencing, crashes. */
import { describe, expect, it } from 'vitest'
import { KafkaError } from '../../../src/protocol/errors.ts'
import { type Client, DaemonWorld, KAFKA, ZMQ } from '../daemon-world.ts'

const texts = {
  'stream.kafka.phase': 'B',
  'group.initial.rebalance.delay.ms': '0',
  'offsets.topic.num.partitions': '4',
  'transaction.state.log.num.partitions': '3',
}

async function started(address = ZMQ, more: Readonly<Record<string, string>> = {}) {
  const w = new DaemonWorld()
  await w.start({ texts: { ...texts, ...more } })
  const client = w.client(address)
  await client.create('t', { partitions: 3 })
  await client.call('FindCoordinator', 4, { keyType: 0, coordinatorKeys: ['g', 'h'] })
  await w.run(100)
  return { w, client }
}

interface Producer {
  id: string
  producerId: number
  epoch: number
}

async function init(client: Client, id = 'x', timeoutMs = 60_000): Promise<Producer> {
  const answer = await client.call('InitProducerId', 5, {
    transactionalId: id,
    transactionTimeoutMs: timeoutMs,
  })
  expect(answer.errorCode).toBe(0)
  return { id, producerId: answer.producerId, epoch: answer.producerEpoch }
}

interface CommitOptions {
  readonly group?: string
  readonly generation?: number
  readonly memberId?: string
  readonly topic?: string
  readonly version?: number
  readonly metadata?: string
}

/** Of partition 1. @returns the error code */
async function commit(
  client: Client,
  producer: Producer,
  offset: number,
  options: CommitOptions = {},
) {
  const version = options.version ?? 5
  const answer = await client.call('TxnOffsetCommit', version, {
    transactionalId: producer.id,
    groupId: options.group ?? 'g',
    producerId: producer.producerId,
    producerEpoch: producer.epoch,
    ...(version >= 3
      ? { generationId: options.generation ?? -1, memberId: options.memberId ?? '' }
      : {}),
    topics: [
      {
        name: options.topic ?? 't',
        partitions: [
          {
            partitionIndex: 1,
            committedOffset: offset,
            committedMetadata: options.metadata ?? 'note',
          },
        ],
      },
    ],
  })
  return answer.topics[0]!.partitions[0]!.errorCode
}

async function end(client: Client, producer: Producer, committed: boolean, version = 5) {
  const answer = await client.call('EndTxn', version, {
    transactionalId: producer.id,
    producerId: producer.producerId,
    producerEpoch: producer.epoch,
    committed,
  })
  if (answer.errorCode === 0 && version >= 5) {
    producer.producerId = answer.producerId
    producer.epoch = answer.producerEpoch
  }
  return answer.errorCode
}

async function plainCommit(client: Client, offset: number, group = 'g') {
  const answer = await client.call('OffsetCommit', 8, {
    groupId: group,
    generationIdOrMemberEpoch: -1,
    memberId: '',
    topics: [
      {
        name: 't',
        partitions: [{ partitionIndex: 1, committedOffset: offset, committedMetadata: '' }],
      },
    ],
  })
  return answer.topics[0]!.partitions[0]!.errorCode
}

/** Of partition 1; the error code where there is one, negative. */
async function fetched(client: Client, requireStable = false, group = 'g') {
  const answer = await client.call('OffsetFetch', 8, {
    groups: [{ groupId: group, topics: [{ name: 't', partitionIndexes: [1] }] }],
    requireStable,
  })
  const row = answer.groups[0]!.topics[0]!.partitions[0]!
  return row.errorCode === 0 ? row.committedOffset : -row.errorCode
}

const UNSTABLE = -KafkaError.UNSTABLE_OFFSET_COMMIT

describe.each([ZMQ, KAFKA])('offsets of a transaction at %s', (address) => {
  it('count from its commit on, and are unstable before', async () => {
    const { client } = await started(address)
    expect(await plainCommit(client, 5)).toBe(0)
    const producer = await init(client)
    expect(await commit(client, producer, 7)).toBe(0)
    expect(await fetched(client)).toBe(5)
    expect(await fetched(client, true)).toBe(UNSTABLE)
    const all = await client.call('OffsetFetch', 8, {
      groups: [{ groupId: 'g', topics: null }],
      requireStable: true,
    })
    expect(all.groups[0]!.topics[0]!.partitions[0]).toMatchObject({
      partitionIndex: 1,
      errorCode: KafkaError.UNSTABLE_OFFSET_COMMIT,
    })
    expect(await end(client, producer, true)).toBe(0)
    expect(await fetched(client, true)).toBe(7)
    // The next transaction of the same producer.
    expect(await commit(client, producer, 9)).toBe(0)
    expect(await end(client, producer, true)).toBe(0)
    expect(await fetched(client, true)).toBe(9)
  })

  it('are gone with its abort', async () => {
    const { client } = await started(address)
    const producer = await init(client)
    expect(await commit(client, producer, 7)).toBe(0)
    expect(await fetched(client, true)).toBe(UNSTABLE)
    expect(await end(client, producer, false)).toBe(0)
    expect(await fetched(client, true)).toBe(-1)
  })

  it.each([0, 1, 2, 3, 4])('version %i needs AddOffsetsToTxn first', async (version) => {
    const { client } = await started(address)
    const producer = await init(client)
    const without = version < 4 ? KafkaError.INVALID_TXN_STATE : KafkaError.TRANSACTION_ABORTABLE
    expect(await commit(client, producer, 7, { version })).toBe(without)
    const added = await client.call('AddOffsetsToTxn', 3, {
      transactionalId: 'x',
      producerId: producer.producerId,
      producerEpoch: producer.epoch,
      groupId: 'g',
    })
    expect(added.errorCode).toBe(0)
    expect(await commit(client, producer, 7, { version })).toBe(0)
    expect(await end(client, producer, true, 3)).toBe(0)
    expect(await fetched(client, true)).toBe(7)
  })
})

describe('who may commit', () => {
  it('not a producer of an epoch that is over, nor one nobody knows', async () => {
    const { client } = await started()
    const old = await init(client)
    await init(client)
    expect(await commit(client, old, 7)).toBe(KafkaError.INVALID_PRODUCER_EPOCH)
    const stranger = { id: 'y', producerId: 999, epoch: 0 }
    expect(await commit(client, stranger, 7)).toBe(KafkaError.INVALID_PRODUCER_ID_MAPPING)
    expect(await fetched(client, true)).toBe(-1)
  })

  it('not a member of an earlier generation, nor a stranger; a new member settles nothing by itself', async () => {
    const { w, client } = await started()
    const join = (memberId: string) =>
      client.call('JoinGroup', 9, {
        groupId: 'g',
        sessionTimeoutMs: 10_000,
        rebalanceTimeoutMs: 20_000,
        memberId,
        groupInstanceId: null,
        protocolType: 'consumer',
        protocols: [{ name: 'range', metadata: new Uint8Array([0, 0, 0, 0, 0, 0, 0, 0, 0, 0]) }],
      })
    const { memberId } = await join('')
    const joined = await join(memberId)
    expect(joined.errorCode).toBe(0)
    const generation = joined.generationId
    const producer = await init(client)
    // Its assignment is not made yet: transactional commits are let in all the same (KIP-447).
    expect(await commit(client, producer, 3, { generation, memberId })).toBe(0)
    expect(await commit(client, producer, 4, { generation: generation - 1, memberId })).toBe(
      KafkaError.ILLEGAL_GENERATION,
    )
    expect(await commit(client, producer, 4, { generation, memberId: 'other' })).toBe(
      KafkaError.UNKNOWN_MEMBER_ID,
    )
    await w.run(60_000)
    expect(await commit(client, producer, 5, { generation, memberId })).toBe(
      KafkaError.UNKNOWN_MEMBER_ID,
    )
    expect(await end(client, producer, true)).toBe(0)
    expect(await fetched(client, true)).toBe(3)
  })

  it('refuses an unknown topic, a long text and an empty group, each alone', async () => {
    const { client } = await started()
    const producer = await init(client)
    expect(await commit(client, producer, 1, { topic: 'none' })).toBe(
      KafkaError.UNKNOWN_TOPIC_OR_PARTITION,
    )
    expect(await commit(client, producer, 1, { metadata: 'x'.repeat(5000) })).toBe(
      KafkaError.OFFSET_METADATA_TOO_LARGE,
    )
    expect(await commit(client, producer, 1, { group: '' })).toBe(KafkaError.INVALID_GROUP_ID)
    expect(await commit(client, producer, 1, { group: 'new', generation: 3 })).toBe(
      KafkaError.ILLEGAL_GENERATION,
    )
  })
})

describe('with other commits', () => {
  it('the later record counts, whenever its transaction ends', async () => {
    const { w, client } = await started()
    const producer = await init(client)
    expect(await commit(client, producer, 7)).toBe(0)
    expect(await plainCommit(client, 8)).toBe(0)
    expect(await end(client, producer, true)).toBe(0)
    expect(await fetched(client, true)).toBe(8)
    const again = await w.crashAndRestart({ texts })
    await w.run(500)
    expect(await fetched(again.client, true)).toBe(8)
  })

  it('two transactions over one partition: each by its own end', async () => {
    const { client } = await started()
    const first = await init(client, 'x')
    const second = await init(client, 'y')
    expect(await commit(client, first, 7)).toBe(0)
    expect(await commit(client, second, 9)).toBe(0)
    expect(await end(client, second, false)).toBe(0)
    expect(await fetched(client, true)).toBe(UNSTABLE)
    expect(await end(client, first, true)).toBe(0)
    expect(await fetched(client, true)).toBe(7)
  })

  it('a group that is deleted takes what is pending with it, also over a restart', async () => {
    const { w, client } = await started()
    const producer = await init(client)
    expect(await commit(client, producer, 7)).toBe(0)
    const deleted = await client.call('DeleteGroups', 2, { groupsNames: ['g'] })
    expect(deleted.results[0]!.errorCode).toBe(0)
    expect(await fetched(client, true)).toBe(-1)
    const again = await w.crashAndRestart({ texts })
    await w.run(500)
    expect(await fetched(again.client, true)).toBe(-1)
    expect(await end(again.client, producer, true)).toBe(0)
    expect(await fetched(again.client, true)).toBe(-1)
  })

  it('a topic that is deleted takes what is pending for it with it', async () => {
    const { w, client } = await started()
    const producer = await init(client)
    expect(await commit(client, producer, 7)).toBe(0)
    await client.call('DeleteTopics', 6, { topics: [{ name: 't' }], timeoutMs: 5000 })
    await w.run(2000)
    await client.create('t', { partitions: 3 })
    expect(await end(client, producer, true)).toBe(0)
    expect(await fetched(client, true)).toBe(-1)
  })

  it('offsets do not expire under a transaction that is about to replace them', async () => {
    const { w, client } = await started(ZMQ, {
      'offsets.retention.minutes': '1',
      'offsets.retention.check.interval.ms': '1000',
      'transaction.max.timeout.ms': '900000',
    })
    const producer = await init(client, 'x', 900_000)
    expect(await plainCommit(client, 5)).toBe(0)
    expect(await commit(client, producer, 7)).toBe(0)
    await w.run(90_000)
    expect(await fetched(client)).toBe(5)
    expect(await end(client, producer, false)).toBe(0)
    await w.run(5000)
    expect(await fetched(client)).toBe(-1)
  })
})

describe('over a crash', () => {
  it.each([true, false])('what is pending waits for its end: commit %s', async (isCommit) => {
    const { w, client } = await started()
    await plainCommit(client, 5)
    const producer = await init(client)
    expect(await commit(client, producer, 7)).toBe(0)
    const again = await w.crashAndRestart({ texts })
    await w.run(500)
    expect(await fetched(again.client, true)).toBe(UNSTABLE)
    expect(await end(again.client, producer, isCommit)).toBe(0)
    expect(await fetched(again.client, true)).toBe(isCommit ? 7 : 5)
    const third = await w.crashAndRestart({ texts })
    await w.run(500)
    expect(await fetched(third.client, true)).toBe(isCommit ? 7 : 5)
  })

  it('one that nobody ends is aborted when its time is over', async () => {
    const { w, client } = await started()
    await plainCommit(client, 5)
    const producer = await init(client, 'x', 5000)
    expect(await commit(client, producer, 7)).toBe(0)
    const again = await w.crashAndRestart({ texts })
    await w.run(30_000)
    expect(await fetched(again.client, true)).toBe(5)
    expect(await commit(again.client, producer, 8)).toBe(KafkaError.INVALID_PRODUCER_EPOCH)
    expect(w.said.filter((line) => line.startsWith('error'))).toEqual([])
  })
})
