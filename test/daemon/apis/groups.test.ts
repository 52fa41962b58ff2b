import { describe, expect, it } from 'vitest'
import {
  decodeAssignment,
  encodeAssignment,
  encodeSubscription,
} from '../../../src/protocol/consumer-metadata.ts'
import { KafkaError } from '../../../src/protocol/errors.ts'
import { batchOf } from '../batches.ts'
import { type Client, DaemonWorld, KAFKA, ZMQ } from '../daemon-world.ts'

const texts = {
  'stream.kafka.phase': 'B',
  'group.initial.rebalance.delay.ms': '0',
  'offsets.topic.num.partitions': '4',
}

async function started(more: Readonly<Record<string, string>> = {}) {
  const w = new DaemonWorld()
  const daemon = await w.start({ texts: { ...texts, ...more } })
  const client = w.client()
  await client.create('t', { partitions: 3 })
  const found = await client.call('FindCoordinator', 4, { keyType: 0, coordinatorKeys: ['g'] })
  expect(found.coordinators[0]).toMatchObject({ key: 'g', nodeId: 1, errorCode: 0 })
  await w.run(100)
  return { w, daemon, client }
}

const subscription = encodeSubscription({
  topics: ['t'],
  userData: null,
  ownedPartitions: [],
  generationId: -1,
})

function joinBody(memberId = '', instance: string | null = null, group = 'g') {
  return {
    groupId: group,
    sessionTimeoutMs: 10_000,
    rebalanceTimeoutMs: 20_000,
    memberId,
    groupInstanceId: instance,
    protocolType: 'consumer',
    protocols: [{ name: 'range', metadata: subscription }],
  }
}

/** Joins as a new dynamic member does; alone, so it leads. */
async function joinAlone(client: Client, group = 'g') {
  const first = await client.call('JoinGroup', 9, joinBody('', null, group))
  expect(first.errorCode).toBe(KafkaError.MEMBER_ID_REQUIRED)
  const joined = await client.call('JoinGroup', 9, joinBody(first.memberId, null, group))
  expect(joined).toMatchObject({ errorCode: 0, leader: first.memberId, protocolName: 'range' })
  const assignment = encodeAssignment({
    partitions: [{ topic: 't', partitions: [0, 1, 2] }],
    userData: null,
  })
  const synced = await client.call('SyncGroup', 5, {
    groupId: group,
    generationId: joined.generationId,
    memberId: joined.memberId,
    protocolType: 'consumer',
    protocolName: 'range',
    assignments: [{ memberId: joined.memberId, assignment }],
  })
  expect(synced).toMatchObject({ errorCode: 0, protocolType: 'consumer', protocolName: 'range' })
  expect(decodeAssignment(synced.assignment)?.partitions).toEqual([
    { topic: 't', partitions: [0, 1, 2] },
  ])
  return { memberId: joined.memberId, generation: joined.generationId }
}

function commitBody(
  offset: number,
  options: {
    memberId?: string
    generation?: number
    group?: string
    topic?: string
    metadata?: string | null
  } = {},
) {
  return {
    groupId: options.group ?? 'g',
    generationIdOrMemberEpoch: options.generation ?? -1,
    memberId: options.memberId ?? '',
    topics: [
      {
        name: options.topic ?? 't',
        partitions: [
          {
            partitionIndex: 1,
            committedOffset: offset,
            committedMetadata: options.metadata === undefined ? 'note' : options.metadata,
          },
        ],
      },
    ],
  }
}

async function commit(client: Client, ...args: Parameters<typeof commitBody>): Promise<number> {
  const answer = await client.call('OffsetCommit', 8, commitBody(...args))
  return answer.topics[0]!.partitions[0]!.errorCode
}

async function fetched(client: Client, group = 'g') {
  const answer = await client.call('OffsetFetch', 8, {
    groups: [{ groupId: group, topics: null }],
    requireStable: false,
  })
  const row = answer.groups[0]!
  expect(row.errorCode).toBe(0)
  return Object.fromEntries(
    row.topics.flatMap(({ name, partitions }) =>
      partitions.map((p) => [`${name}-${p.partitionIndex}`, p.committedOffset]),
    ),
  )
}

describe('groups through the doors', () => {
  it.each([ZMQ, KAFKA])('join, sync, beat, commit, leave at %s', async (address) => {
    const { w } = await started()
    const client = w.client(address)
    const { memberId, generation } = await joinAlone(client)
    const beat = await client.call('Heartbeat', 4, {
      groupId: 'g',
      generationId: generation,
      memberId,
    })
    expect(beat.errorCode).toBe(0)
    expect(await commit(client, 7, { memberId, generation })).toBe(0)
    expect(await fetched(client)).toEqual({ 't-1': 7 })
    const described = await client.call('DescribeGroups', 6, {
      groups: ['g'],
      includeAuthorizedOperations: true,
    })
    expect(described.groups[0]).toMatchObject({
      errorCode: 0,
      groupState: 'Stable',
      protocolType: 'consumer',
      protocolData: 'range',
      authorizedOperations: (1 << 3) | (1 << 6) | (1 << 8),
    })
    expect(described.groups[0]!.members).toHaveLength(1)
    expect(described.groups[0]!.members[0]).toMatchObject({ memberId, clientId: 'test' })
    const listed = await client.call('ListGroups', 5, {
      statesFilter: ['stable'],
      typesFilter: ['classic'],
    })
    expect(listed.groups).toEqual([
      { groupId: 'g', protocolType: 'consumer', groupState: 'Stable', groupType: 'classic' },
    ])
    const left = await client.call('LeaveGroup', 5, { groupId: 'g', members: [{ memberId }] })
    expect(left.members[0]).toMatchObject({ memberId, errorCode: 0 })
    const after = await client.call('DescribeGroups', 5, {
      groups: ['g'],
      includeAuthorizedOperations: false,
    })
    expect(after.groups[0]).toMatchObject({ groupState: 'Empty', members: [] })
    expect(await fetched(client)).toEqual({ 't-1': 7 })
  })

  it('a group and its offsets outlive a power cut, and its member goes on', async () => {
    const { w, client } = await started()
    const { memberId, generation } = await joinAlone(client)
    expect(await commit(client, 7, { memberId, generation })).toBe(0)
    expect(await commit(client, 9, { memberId, generation })).toBe(0)
    const again = await w.crashAndRestart({ texts })
    await w.run(200)
    expect(await fetched(again.client)).toEqual({ 't-1': 9 })
    const beat = await again.client.call('Heartbeat', 4, {
      groupId: 'g',
      generationId: generation,
      memberId,
    })
    expect(beat.errorCode).toBe(0)
    expect(await commit(again.client, 11, { memberId, generation })).toBe(0)
    // Who does not show itself within its session is gone.
    await w.run(11_000)
    const described = await again.client.call('DescribeGroups', 5, {
      groups: ['g'],
      includeAuthorizedOperations: false,
    })
    expect(described.groups[0]).toMatchObject({ groupState: 'Empty' })
  })

  it('MEMBER_ID_REQUIRED is never sent below version 4, and never to static members (P10)', async () => {
    const { client } = await started()
    const old = await client.call('JoinGroup', 3, joinBody('', null, 'old'))
    expect(old.errorCode).toBe(0)
    expect(old.memberId).toMatch(/^test-/)
    const fixed = await client.call('JoinGroup', 9, joinBody('', 'one', 'fixed'))
    expect(fixed.errorCode).toBe(0)
    expect(fixed.memberId).toMatch(/^one-/)
  })

  it('refuses what is out of bounds', async () => {
    const { client } = await started()
    const join = async (change: object) =>
      (await client.call('JoinGroup', 9, { ...joinBody(), ...change })).errorCode
    expect(await join({ sessionTimeoutMs: 10 })).toBe(KafkaError.INVALID_SESSION_TIMEOUT)
    expect(await join({ sessionTimeoutMs: 10_000_000 })).toBe(KafkaError.INVALID_SESSION_TIMEOUT)
    expect(await join({ groupId: '' })).toBe(KafkaError.INVALID_GROUP_ID)
    expect(await join({ memberId: 'ghost' })).toBe(KafkaError.UNKNOWN_MEMBER_ID)
    expect(await join({ protocols: [] })).toBe(KafkaError.INCONSISTENT_GROUP_PROTOCOL)
    expect(await join({ protocolType: '' })).toBe(KafkaError.INCONSISTENT_GROUP_PROTOCOL)
  })

  it('commits: who may, and what is refused alone', async () => {
    const { client } = await started()
    expect(await commit(client, 3, { group: 'plain' })).toBe(0)
    expect(await commit(client, 3, { group: 'plain', metadata: null })).toBe(0)
    expect(await commit(client, 3, { group: 'new', generation: 5 })).toBe(
      KafkaError.ILLEGAL_GENERATION,
    )
    const { memberId, generation } = await joinAlone(client)
    expect(await commit(client, 3)).toBe(KafkaError.UNKNOWN_MEMBER_ID)
    expect(await commit(client, 3, { memberId: 'x', generation })).toBe(
      KafkaError.UNKNOWN_MEMBER_ID,
    )
    expect(await commit(client, 3, { memberId, generation: generation - 1 })).toBe(
      KafkaError.ILLEGAL_GENERATION,
    )
    expect(await commit(client, 3, { memberId, generation, topic: 'none' })).toBe(
      KafkaError.UNKNOWN_TOPIC_OR_PARTITION,
    )
    expect(await commit(client, 3, { memberId, generation, metadata: 'x'.repeat(4097) })).toBe(
      KafkaError.OFFSET_METADATA_TOO_LARGE,
    )
    expect(await commit(client, 3, { memberId, generation, metadata: 'ü'.repeat(2048) })).toBe(0)
    const answer = await client.call('OffsetFetch', 7, {
      groupId: 'g',
      topics: [{ name: 't', partitionIndexes: [0, 1] }],
      requireStable: true,
    })
    expect(answer.topics[0]!.partitions).toMatchObject([
      { partitionIndex: 0, committedOffset: -1, errorCode: 0 },
      { partitionIndex: 1, committedOffset: 3, metadata: 'ü'.repeat(2048), errorCode: 0 },
    ])
  })

  it('by topic id (v10), and of topics that are gone', async () => {
    const { w, client } = await started()
    const { topics } = await client.call('Metadata', 12, {
      topics: [{ topicId: undefined, name: 't' }] as never,
    })
    const { topicId } = topics[0]!
    const body = commitBody(5)
    const byId = { ...body, topics: [{ ...body.topics[0]!, name: undefined, topicId }] } as never
    const done = await client.call('OffsetCommit', 10, byId)
    expect(done.topics[0]).toMatchObject({ topicId, partitions: [{ errorCode: 0 }] })
    const ask = (id: string) =>
      client.call('OffsetFetch', 10, {
        groups: [{ groupId: 'g', topics: [{ topicId: id, partitionIndexes: [1] }] }],
        requireStable: false,
      } as never)
    expect((await ask(topicId)).groups[0]!.topics[0]).toMatchObject({
      topicId,
      partitions: [{ committedOffset: 5, errorCode: 0 }],
    })
    const other = 'AAAAAAAAQACAAAAAAAAAAQ'
    expect((await ask(other)).groups[0]!.topics[0]!.partitions[0]!.errorCode).toBe(
      KafkaError.UNKNOWN_TOPIC_ID,
    )
    await client.call('DeleteTopics', 6, {
      topics: [{ name: 't', topicId: 'AAAAAAAAAAAAAAAAAAAAAA' }],
      timeoutMs: 1000,
    } as never)
    await w.run(100)
    expect(await fetched(client)).toEqual({})
  })

  it('deletes groups without members, and offsets that nobody reads', async () => {
    const { w, client } = await started()
    const { memberId, generation } = await joinAlone(client)
    await client.create('u')
    expect(await commit(client, 3, { memberId, generation })).toBe(0)
    const remove = async (names: string[]) =>
      (await client.call('DeleteGroups', 2, { groupsNames: names })).results.map(
        (row) => row.errorCode,
      )
    expect(await remove(['g', 'none'])).toEqual([
      KafkaError.NON_EMPTY_GROUP,
      KafkaError.GROUP_ID_NOT_FOUND,
    ])
    const drop = (topic: string) =>
      client.call('OffsetDelete', 0, {
        groupId: 'g',
        topics: [{ name: topic, partitions: [{ partitionIndex: 1 }] }],
      })
    expect((await drop('t')).topics[0]!.partitions[0]!.errorCode).toBe(
      KafkaError.GROUP_SUBSCRIBED_TO_TOPIC,
    )
    expect((await drop('nope')).topics[0]!.partitions[0]!.errorCode).toBe(
      KafkaError.UNKNOWN_TOPIC_OR_PARTITION,
    )
    await client.call('LeaveGroup', 1, { groupId: 'g', memberId })
    expect((await drop('t')).topics[0]!.partitions[0]!.errorCode).toBe(0)
    expect(await fetched(client)).toEqual({})
    expect(await commit(client, 4)).toBe(0)
    expect(await remove(['g'])).toEqual([0])
    const again = await w.crashAndRestart({ texts })
    await w.run(200)
    expect((await again.client.call('ListGroups', 4, { statesFilter: [] })).groups).toEqual([])
    expect(await fetched(again.client)).toEqual({})
  })

  it('offsets of empty groups are forgotten after offsets.retention.minutes, with the group', async () => {
    const { w, client } = await started({
      'offsets.retention.minutes': '1',
      'offsets.retention.check.interval.ms': '1000',
    })
    expect(await commit(client, 4, { group: 'plain' })).toBe(0)
    await w.run(30_000)
    expect(await fetched(client, 'plain')).toEqual({ 't-1': 4 })
    await w.run(45_000)
    expect(await fetched(client, 'plain')).toEqual({})
    expect((await client.call('ListGroups', 4, { statesFilter: [] })).groups).toEqual([])
  })

  it('an active group keeps what it reads, however old', async () => {
    const { w, client } = await started({
      'offsets.retention.minutes': '1',
      'offsets.retention.check.interval.ms': '1000',
    })
    const { memberId, generation } = await joinAlone(client)
    expect(await commit(client, 4, { memberId, generation })).toBe(0)
    for (let minute = 0; minute < 20; minute += 1) {
      await w.run(6000)
      await client.call('Heartbeat', 4, { groupId: 'g', generationId: generation, memberId })
    }
    expect(await fetched(client)).toEqual({ 't-1': 4 })
  })

  it('FindCoordinator refuses share groups and the empty group (P1: it stays listed from 0)', async () => {
    const { client } = await started()
    const listed = (await client.call('ApiVersions', 0, {})).apiKeys
    expect(listed.find((row) => row.apiKey === 10)).toMatchObject({ minVersion: 0, maxVersion: 6 })
    expect((await client.call('FindCoordinator', 0, { key: 'g' })).errorCode).toBe(0)
    expect((await client.call('FindCoordinator', 3, { key: 'x', keyType: 2 })).errorCode).toBe(
      KafkaError.INVALID_REQUEST,
    )
    expect((await client.call('FindCoordinator', 3, { key: '', keyType: 0 })).errorCode).toBe(
      KafkaError.INVALID_GROUP_ID,
    )
  })

  it('a stop answers parked joins', async () => {
    const { w, daemon } = await started()
    const [a, b] = [w.client(), w.client()]
    await joinAlone(a)
    const first = await b.call('JoinGroup', 9, joinBody())
    const parked = b.begin('JoinGroup', 9, joinBody(first.memberId))
    await w.run(10)
    await w.stop(daemon)
    expect((await parked).errorCode).toBe(KafkaError.NOT_COORDINATOR)
  })

  it('the offsets topic is compacted, internal, and not for clients to write', async () => {
    const { client } = await started()
    const { topics } = await client.call('Metadata', 12, { topics: null })
    expect(topics.find(({ name }) => name === '__consumer_offsets')).toMatchObject({
      isInternal: true,
    })
    const refused = await client.produce('__consumer_offsets', batchOf([{ key: 'k', value: 'x' }]))
    expect(refused.errorCode).toBe(KafkaError.INVALID_TOPIC_EXCEPTION)
  })
})
