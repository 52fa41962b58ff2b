import { describe, expect, it } from 'vitest'
import { encodeSubscription } from '../../../src/protocol/consumer-metadata.ts'
import { KafkaError } from '../../../src/protocol/errors.ts'
import { type Client, DaemonWorld, KAFKA } from '../daemon-world.ts'

const texts = {
  'group.initial.rebalance.delay.ms': '0',
  'offsets.topic.num.partitions': '4',
  'group.consumer.session.timeout.ms': '10000',
}

async function started(more: Readonly<Record<string, string>> = {}) {
  const w = new DaemonWorld()
  const daemon = await w.start({ texts: { ...texts, ...more } })
  const client = w.client()
  const { topicId } = await client.create('t', { partitions: 4 })
  await client.call('FindCoordinator', 4, { keyType: 0, coordinatorKeys: ['g'] })
  await w.run(100)
  return { w, daemon, client, topicId }
}

interface Beat {
  group?: string
  epoch?: number
  instance?: string
  topics?: readonly string[]
  regex?: string
  /** Of the topic t. */
  owned?: readonly number[]
  version?: number
  topicId?: string
  /** For partitions of others: it is to ask again soon. */
  isWaiting?: boolean
}

function body(memberId: string, beat: Beat) {
  const isJoin = (beat.epoch ?? 0) === 0
  const owned = beat.owned ?? (isJoin ? [] : undefined)
  return {
    groupId: beat.group ?? 'g',
    memberId,
    memberEpoch: beat.epoch ?? 0,
    instanceId: beat.instance ?? null,
    rebalanceTimeoutMs: isJoin ? 30_000 : -1,
    subscribedTopicNames: beat.topics ?? (isJoin ? ['t'] : null),
    ...(beat.regex === undefined ? {} : { subscribedTopicRegex: beat.regex }),
    topicPartitions:
      owned === undefined
        ? null
        : owned.length === 0
          ? []
          : [{ topicId: beat.topicId ?? '', partitions: owned }],
  }
}

/** @returns its epoch and its partitions, one topic after the other; null where they were not told */
async function beat(client: Client, memberId: string, options: Beat = {}) {
  const answer = await client.call(
    'ConsumerGroupHeartbeat',
    options.version ?? 1,
    body(memberId, options),
  )
  if (answer.errorCode === 0) expect(answer.errorMessage).toBe(null)
  if (answer.errorCode !== 0) return answer.errorCode
  expect(answer.heartbeatIntervalMs).toBe(options.isWaiting ? 500 : 5000)
  const partitions = answer.assignment?.topicPartitions.map((row) => row.partitions) ?? null
  return [answer.memberEpoch, partitions]
}

async function described(client: Client, group = 'g') {
  const answer = await client.call('ConsumerGroupDescribe', 1, {
    groupIds: [group],
    includeAuthorizedOperations: false,
  })
  return answer.groups[0]!
}

async function commit(
  client: Client,
  offset: number,
  name: { memberId?: string; epoch?: number; version?: number; group?: string } = {},
) {
  const answer = await client.call('OffsetCommit', name.version ?? 9, {
    groupId: name.group ?? 'g',
    generationIdOrMemberEpoch: name.epoch ?? -1,
    memberId: name.memberId ?? '',
    topics: [
      {
        name: 't',
        partitions: [{ partitionIndex: 1, committedOffset: offset, committedMetadata: '' }],
      },
    ],
  })
  return answer.topics[0]!.partitions[0]!.errorCode
}

async function fetched(client: Client, member: { memberId?: string; memberEpoch?: number } = {}) {
  const answer = await client.call('OffsetFetch', 9, {
    groups: [{ groupId: 'g', ...member, topics: [{ name: 't', partitionIndexes: [1] }] }],
    requireStable: false,
  })
  const group = answer.groups[0]!
  return group.errorCode === 0 ? group.topics[0]!.partitions[0]!.committedOffset : group.errorCode
}

async function listed(client: Client, filter: { typesFilter?: string[]; statesFilter?: string[] }) {
  const answer = await client.call('ListGroups', 5, {
    statesFilter: [],
    typesFilter: [],
    ...filter,
  })
  return answer.groups.map((row) => `${row.groupId} ${row.groupType} ${row.groupState}`).sort()
}

const subscription = encodeSubscription({
  topics: ['t'],
  userData: null,
  ownedPartitions: [],
  generationId: -1,
})

async function joinClassic(client: Client, group = 'g') {
  const request = {
    groupId: group,
    sessionTimeoutMs: 10_000,
    rebalanceTimeoutMs: 20_000,
    memberId: '',
    protocolType: 'consumer',
    protocols: [{ name: 'range', metadata: subscription }],
  }
  const first = await client.call('JoinGroup', 9, request)
  if (first.errorCode !== KafkaError.MEMBER_ID_REQUIRED) return first
  return client.call('JoinGroup', 9, { ...request, memberId: first.memberId })
}

describe('groups of the consumer protocol through the doors', () => {
  it('join, share, commit, leave', async () => {
    const { w, client, topicId } = await started()
    const kafka = w.client(KAFKA)
    expect(await beat(client, 'a')).toEqual([1, [[0, 1, 2, 3]]])
    expect(await beat(kafka, 'b', { isWaiting: true })).toEqual([2, []])
    expect(await beat(client, 'a', { epoch: 1 })).toEqual([1, [[0, 1]]])
    expect(await beat(client, 'a', { epoch: 1, owned: [0, 1], topicId })).toEqual([2, null])
    expect(await beat(kafka, 'b', { epoch: 2 })).toEqual([2, [[2, 3]]])
    expect(await described(client)).toMatchObject({
      errorCode: 0,
      groupState: 'Stable',
      groupEpoch: 2,
      assignmentEpoch: 2,
      assignorName: 'uniform',
      members: [
        {
          memberId: 'a',
          memberEpoch: 2,
          memberType: 1,
          clientId: 'test',
          subscribedTopicNames: ['t'],
          assignment: { topicPartitions: [{ topicId, topicName: 't', partitions: [0, 1] }] },
          targetAssignment: { topicPartitions: [{ topicId, topicName: 't', partitions: [0, 1] }] },
        },
        {
          memberId: 'b',
          assignment: { topicPartitions: [{ topicId, topicName: 't', partitions: [2, 3] }] },
        },
      ],
    })
    expect(await commit(client, 7, { memberId: 'a', epoch: 2 })).toBe(0)
    expect(await commit(client, 8, { memberId: 'a', epoch: 1 })).toBe(KafkaError.STALE_MEMBER_EPOCH)
    expect(await commit(client, 8, { memberId: 'x', epoch: 1 })).toBe(KafkaError.UNKNOWN_MEMBER_ID)
    expect(await commit(client, 8)).toBe(KafkaError.UNKNOWN_MEMBER_ID)
    expect(await commit(client, 8, { memberId: 'a', epoch: 2, version: 8 })).toBe(
      KafkaError.UNSUPPORTED_VERSION,
    )
    expect(await fetched(client)).toBe(7)
    expect(await fetched(client, { memberId: 'a', memberEpoch: 2 })).toBe(7)
    expect(await fetched(client, { memberId: 'a', memberEpoch: 1 })).toBe(
      KafkaError.STALE_MEMBER_EPOCH,
    )
    expect(await fetched(client, { memberId: 'x', memberEpoch: 1 })).toBe(
      KafkaError.UNKNOWN_MEMBER_ID,
    )
    expect(await beat(kafka, 'b', { epoch: -1 })).toEqual([-1, null])
    expect(await beat(client, 'a', { epoch: 2 })).toEqual([3, [[0, 1, 2, 3]]])
    expect(await beat(client, 'a', { epoch: -1 })).toEqual([-1, null])
    expect(await described(client)).toMatchObject({ groupState: 'Empty', members: [] })
    // By hand, as administrators do.
    expect(await commit(client, 3)).toBe(0)
    expect(await fetched(client)).toBe(3)
  })

  it('version 0 gets its id from the broker', async () => {
    const { client } = await started()
    const answer = await client.call('ConsumerGroupHeartbeat', 0, body('', {}))
    expect(answer).toMatchObject({ errorCode: 0, memberEpoch: 1 })
    expect(answer.memberId).toHaveLength(22)
    expect(await beat(client, '', { version: 1 })).toBe(KafkaError.INVALID_REQUEST)
  })

  it('is refused where there is nothing to beat for', async () => {
    const { client } = await started()
    expect(await beat(client, 'a', { group: '' })).toBe(KafkaError.INVALID_GROUP_ID)
    expect(await beat(client, 'a', { epoch: 1 })).toBe(KafkaError.GROUP_ID_NOT_FOUND)
    expect(await beat(client, 'a', { regex: '(' })).toBe(KafkaError.INVALID_REGULAR_EXPRESSION)
    expect(await listed(client, {})).toEqual([])
    expect(await described(client)).toMatchObject({ errorCode: KafkaError.GROUP_ID_NOT_FOUND })
    expect(await described(client, '')).toMatchObject({ errorCode: KafkaError.INVALID_GROUP_ID })
    expect(await beat(client, 'a', { topics: [], regex: 't.*' })).toEqual([1, [[0, 1, 2, 3]]])
    expect(await described(client)).toMatchObject({ members: [{ subscribedTopicRegex: 't.*' }] })
  })

  it('lists by type and state; each kind is described by its own question', async () => {
    const { client } = await started()
    await beat(client, 'a')
    await joinClassic(client, 'old')
    expect(await listed(client, {})).toEqual([
      'g consumer Stable',
      'old classic CompletingRebalance',
    ])
    expect(await listed(client, { typesFilter: ['Consumer'] })).toEqual(['g consumer Stable'])
    expect(await listed(client, { statesFilter: ['stable'] })).toEqual(['g consumer Stable'])
    expect(await listed(client, { typesFilter: ['share'] })).toEqual([])
    expect(await described(client, 'old')).toMatchObject({
      errorCode: KafkaError.GROUP_ID_NOT_FOUND,
      errorMessage: 'Group old is not a consumer group.',
    })
    const body = { groups: ['g'], includeAuthorizedOperations: false }
    const before = await client.call('DescribeGroups', 5, body)
    expect(before.groups[0]).toMatchObject({ errorCode: 0, groupState: 'Dead' })
  })

  it('a topic that grows is shared out with the next heartbeat', async () => {
    const { w, client } = await started()
    await beat(client, 'a')
    await client.call('CreatePartitions', 3, {
      topics: [{ name: 't', count: 6, assignments: null }],
      timeoutMs: 1000,
      validateOnly: false,
    })
    await w.run(100)
    expect(await beat(client, 'a', { epoch: 1 })).toEqual([2, [[0, 1, 2, 3, 4, 5]]])
    await client.call('DeleteTopics', 5, { topicNames: ['t'], timeoutMs: 1000 })
    await w.run(100)
    expect(await beat(client, 'a', { epoch: 2 })).toEqual([2, []])
    expect(await beat(client, 'a', { epoch: 2, owned: [] })).toEqual([3, null])
  })

  it.each(['power', 'process'] as const)(
    'outlives a cut (%s) in the middle of a rebalance',
    async (kind) => {
      const { w, client, topicId } = await started()
      await beat(client, 'a')
      await beat(client, 'b', { isWaiting: true })
      await beat(client, 'a', { epoch: 1 })
      expect(await commit(client, 7, { memberId: 'a', epoch: 1 })).toBe(0)
      const again = await w.crashAndRestart({ texts }, kind)
      await w.run(500)
      const next = again.client
      expect(await described(next)).toMatchObject({ groupState: 'Reconciling', groupEpoch: 2 })
      expect(await beat(next, 'b', { epoch: 2, isWaiting: true })).toEqual([2, null])
      expect(await beat(next, 'a', { epoch: 1, owned: [0, 1], topicId })).toEqual([2, null])
      expect(await beat(next, 'b', { epoch: 2 })).toEqual([2, [[2, 3]]])
      expect(await fetched(next, { memberId: 'a', memberEpoch: 2 })).toBe(7)
      // Nobody beats any more: sessions are over by the clock of this process.
      await w.run(9000)
      expect((await described(next)).members).toHaveLength(2)
      await w.run(2000)
      expect(await described(next)).toMatchObject({ groupState: 'Empty' })
      const last = await w.crashAndRestart({ texts }, kind)
      await w.run(500)
      expect(await described(last.client)).toMatchObject({ groupState: 'Empty', groupEpoch: 4 })
      expect(await fetched(last.client)).toBe(7)
    },
  )

  it('is deleted when nobody is in it, with its offsets, for good', async () => {
    const { w, client } = await started()
    await beat(client, 'a')
    await commit(client, 7, { memberId: 'a', epoch: 1 })
    const remove = async (each: Client) =>
      (await each.call('DeleteGroups', 2, { groupsNames: ['g'] })).results[0]!.errorCode
    expect(await remove(client)).toBe(KafkaError.NON_EMPTY_GROUP)
    const offsets = await client.call('OffsetDelete', 0, {
      groupId: 'g',
      topics: [{ name: 't', partitions: [{ partitionIndex: 1 }] }],
    })
    expect(offsets.topics[0]!.partitions[0]!.errorCode).toBe(KafkaError.GROUP_SUBSCRIBED_TO_TOPIC)
    await beat(client, 'a', { epoch: -1 })
    expect(await remove(client)).toBe(0)
    expect(await remove(client)).toBe(KafkaError.GROUP_ID_NOT_FOUND)
    const again = await w.crashAndRestart({ texts })
    await w.run(500)
    expect(await listed(again.client, {})).toEqual([])
    expect(await fetched(again.client)).toBe(-1)
    expect(await beat(again.client, 'a')).toEqual([1, [[0, 1, 2, 3]]])
  })

  it('offsets of an empty one are forgotten after a while, and the group with them', async () => {
    const { w, client } = await started({
      'offsets.retention.minutes': '1',
      'offsets.retention.check.interval.ms': '10000',
      'group.consumer.session.timeout.ms': '600000',
    })
    await beat(client, 'a')
    await commit(client, 7, { memberId: 'a', epoch: 1 })
    await w.run(120_000)
    expect(await fetched(client)).toBe(7)
    await beat(client, 'a', { epoch: -1 })
    await w.run(50_000)
    expect(await fetched(client)).toBe(7)
    await w.run(30_000)
    expect(await fetched(client)).toBe(-1)
    expect(await listed(client, {})).toEqual([])
  })

  it('an empty group changes its protocol, both ways and with its offsets; one with members not, where it may not', async () => {
    const { w, client } = await started({ 'group.consumer.migration.policy': 'disabled' })
    const joined = await joinClassic(client)
    expect(joined.errorCode).toBe(0)
    expect(await beat(client, 'a')).toBe(KafkaError.GROUP_ID_NOT_FOUND)
    const left = await client.call('LeaveGroup', 3, {
      groupId: 'g',
      members: [{ memberId: joined.memberId }],
    })
    expect(left.members[0]!.errorCode).toBe(0)
    expect(await commit(client, 7)).toBe(0)
    expect(await beat(client, 'a')).toEqual([1, [[0, 1, 2, 3]]])
    expect(await fetched(client, { memberId: 'a', memberEpoch: 1 })).toBe(7)
    const again = await w.crashAndRestart({ texts })
    await w.run(500)
    const next = again.client
    expect(await listed(next, {})).toEqual(['g consumer Stable'])
    await beat(next, 'a', { epoch: -1 })
    expect((await joinClassic(next)).errorCode).toBe(0)
    expect(await listed(next, {})).toEqual(['g classic CompletingRebalance'])
    const last = await w.crashAndRestart({ texts })
    await w.run(500)
    expect(await listed(last.client, {})).toEqual(['g classic Empty'])
    expect(await fetched(last.client)).toBe(7)
  })

  it('a disk that is full refuses, and what was refused has not happened', async () => {
    const { w, client } = await started()
    await beat(client, 'a')
    const { totalBytes } = w.disk
    w.disk.totalBytes = 0
    const refused = await beat(client, 'b', { isWaiting: true })
    expect([KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.NOT_COORDINATOR]).toContain(refused)
    w.disk.totalBytes = totalBytes
    expect(w.said.join('\n')).toContain('a group could not be written')
    await w.run(20_000)
    // Read from the log again, whatever of it memory had seen.
    expect(await described(client)).toMatchObject({ errorCode: 0 })
    const again = await w.crashAndRestart({ texts })
    await w.run(500)
    const next = again.client
    const members = (await described(next)).members.map(({ memberId }) => memberId)
    expect(members).not.toContain('b')
    expect(await beat(next, 'c', { isWaiting: members.length > 0 })).toEqual([
      expect.any(Number),
      members.length > 0 ? [] : [[0, 1, 2, 3]],
    ])
  })

  it('a stop answers nothing that is not stored, and another start knows all that was answered', async () => {
    const { w, daemon, client } = await started()
    const answers = Array.from({ length: 20 }, (_, index) =>
      client.begin('ConsumerGroupHeartbeat', 1, body(`m${index}`, {})),
    )
    await w.settle(Promise.all(answers))
    await w.stop(daemon)
    const again = await w.crashAndRestart({ texts })
    await w.run(500)
    expect((await described(again.client)).members).toHaveLength(20)
  })
})
