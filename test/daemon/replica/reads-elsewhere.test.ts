/** What consumers and tools may ask of replicas, and of a leader that knows less than they have read. */
import { describe, expect, it } from 'vitest'
import type { RequestInput, Response } from '../../../src/protocol/api-table.ts'
import { KafkaError } from '../../../src/protocol/errors.ts'
import { recordsOf } from '../batches.ts'
import { type Node, ReplicaWorld, TOPIC, type WorldOptions } from './replica-world.ts'

type Row = Response<'Fetch'>['responses'][number]['partitions'][number]

interface Asking {
  readonly offset: number
  readonly rackId?: string
  readonly version?: number
  readonly waitMs?: number
  readonly lastFetchedEpoch?: number
  readonly currentLeaderEpoch?: number
}

async function started(seed: string, options?: WorldOptions) {
  const world = new ReplicaWorld(seed, options)
  await world.startAll()
  await world.until(() => world.node(1).partition().notServing === undefined)
  for (let count = 0; count < 5; count += 1) await world.settle(world.produce(world.node(1)))
  await world.run(1000)
  return world
}

/** As a consumer, over the third broker's links. */
function beginFetch(world: ReplicaWorld, node: Node, asking: Asking): Promise<Row> {
  const from = world.node(node.nodeId === 3 ? 2 : 3).running?.replication.peers
  const { offset, lastFetchedEpoch = -1, currentLeaderEpoch = -1 } = asking
  const partition = {
    ...{ partition: 0, fetchOffset: offset, lastFetchedEpoch, currentLeaderEpoch },
    partitionMaxBytes: 1 << 20,
  }
  const body: RequestInput<'Fetch'> = {
    replicaId: -1,
    maxWaitMs: asking.waitMs ?? 0,
    minBytes: 1,
    maxBytes: 1 << 20,
    isolationLevel: 1,
    sessionId: 0,
    sessionEpoch: -1,
    topics: [{ topic: TOPIC, partitions: [partition] }],
    forgottenTopicsData: [],
    rackId: asking.rackId ?? '',
  }
  const answer = from!.call(node.nodeId, 'Fetch', asking.version ?? 12, body)
  return answer.then(({ responses }) => responses[0]!.partitions[0]!)
}

function fetch(world: ReplicaWorld, node: Node, asking: Asking): Promise<Row> {
  return world.settle(beginFetch(world, node, asking))
}

const valuesOf = (row: Row) => recordsOf(row.records).map(({ value }) => value)

describe('a consumer that names its rack (KIP-392)', () => {
  it('is sent by the leader to the replica in sync there that has the offset', async () => {
    const world = await started('nearest 1')
    const [leader, , third] = world.nodes as [Node, Node, Node]
    const sent = await fetch(world, leader, { offset: 2, rackId: 'rack-3' })
    expect(sent).toMatchObject({ errorCode: 0, preferredReadReplica: 3, highWatermark: 5 })
    expect(valuesOf(sent)).toEqual([])
    for (const rackId of ['', 'rack-1', 'rack-9']) {
      const row = await fetch(world, leader, { offset: 2, rackId })
      expect(row.preferredReadReplica).toBe(-1)
      expect(valuesOf(row)).toEqual(['v3', 'v4', 'v5'])
    }
    const there = await fetch(world, third, { offset: 2, rackId: 'rack-3' })
    expect(there).toMatchObject({ errorCode: 0, highWatermark: 5, preferredReadReplica: -1 })
    expect(valuesOf(there)).toEqual(['v3', 'v4', 'v5'])
  })

  it('stays with the leader while that replica is out of sync, and where the broker says so', async () => {
    const lag = { 'replica.lag.time.max.ms': '1000' }
    const world = await started('nearest 2', { config: lag })
    world.crash(world.node(3))
    world.expire(world.node(3))
    await world.run(3000)
    await world.settle(world.produce(world.node(1)))
    const [, second] = world.nodes as [Node, Node]
    const answer = second.running?.replication.peers.call(1, 'Fetch', 12, {
      ...{ replicaId: -1, maxWaitMs: 0, minBytes: 1, maxBytes: 1000, isolationLevel: 0 },
      ...{ sessionId: 0, sessionEpoch: -1, forgottenTopicsData: [], rackId: 'rack-3' },
      topics: [
        {
          topic: TOPIC,
          partitions: [{ partition: 0, fetchOffset: 5, partitionMaxBytes: 1000 }],
        },
      ],
    })
    const row = (await world.settle(answer!)).responses[0]?.partitions[0]
    expect(row?.preferredReadReplica).toBe(-1)
    expect(valuesOf(row!)).toEqual(['v6'])
    const plain = await started('nearest 3', { config: { 'replica.selector.class': 'leader' } })
    const stays = await fetch(plain, plain.node(1), { offset: 0, rackId: 'rack-3' })
    expect(stays.preferredReadReplica).toBe(-1)
  })

  it('is served by a follower below its high watermark alone, and woken when that moves', async () => {
    const world = await started('nearest 4')
    const [leader, second] = world.nodes as [Node, Node]
    const waiting = beginFetch(world, second, { offset: 5, waitMs: 20_000 })
    await world.run(500)
    const before = world.world.now
    expect(await world.settle(world.produce(leader))).toBe('committed')
    expect(valuesOf(await world.settle(waiting))).toEqual(['v6'])
    expect(world.world.now - before).toBeLessThan(1000)
    // What it has and the leader has not told to be committed is waited for.
    world.network.block('b1', 'b3')
    world.network.block('b3', 'b1')
    void world.produce(leader)
    await world.run(300)
    expect(second.log.logEndOffset).toBe(7)
    expect(second.partition().highWatermark).toBe(6)
    const row = await fetch(world, second, { offset: 6 })
    expect(row).toMatchObject({ errorCode: 0, highWatermark: 6 })
    expect(valuesOf(row)).toEqual([])
    world.network.heal()
  })

  it('hears from a follower what is not there yet, what is gone, and of another epoch', async () => {
    const world = await started('nearest 5')
    const [leader, second] = world.nodes as [Node, Node]
    const code = async (asking: Asking) => (await fetch(world, second, asking)).errorCode
    expect(await code({ offset: 6 })).toBe(KafkaError.OFFSET_NOT_AVAILABLE)
    await world.settle(leader.partition().deleteRecordsBefore(2))
    await world.run(1000)
    expect(await code({ offset: 1 })).toBe(KafkaError.OFFSET_OUT_OF_RANGE)
    expect(await code({ offset: 3, currentLeaderEpoch: 7 })).toBe(KafkaError.UNKNOWN_LEADER_EPOCH)
    // Who does not know of followers that serve is told who leads.
    expect(await code({ offset: 3, version: 10 })).toBe(KafkaError.NOT_LEADER_OR_FOLLOWER)
    if (second.running !== undefined) second.running.session.fenced = true
    expect(await code({ offset: 3 })).toBe(KafkaError.NOT_LEADER_OR_FOLLOWER)
  })
})

describe('a consumer that says what it has read last (KIP-320)', () => {
  it('is told where its history and the log part, and gets no records', async () => {
    const world = await started('cut back 1', { minInSync: 1 })
    const [old, chosen] = world.nodes as [Node, Node, Node]
    world.elect(2)
    await world.until(() => chosen.partition().notServing === undefined)
    await world.settle(world.produce(chosen))
    await world.run(500)
    const fine = await fetch(world, chosen, { offset: 5, lastFetchedEpoch: 0 })
    expect(fine.divergingEpoch).toEqual({ epoch: -1, endOffset: -1 })
    expect(valuesOf(fine)).toEqual(['v6'])
    // Epoch 0 ends at 5 here: who has read further in it read what is gone.
    const cut = await fetch(world, chosen, { offset: 6, lastFetchedEpoch: 0, waitMs: 10_000 })
    expect(cut).toMatchObject({ errorCode: 0, divergingEpoch: { epoch: 0, endOffset: 5 } })
    expect(cut.records?.length).toBe(0)
    const further = await fetch(world, chosen, { offset: 9, lastFetchedEpoch: 0 })
    expect(further.divergingEpoch).toEqual({ epoch: 0, endOffset: 5 })
    const ahead = await fetch(world, chosen, { offset: 6, lastFetchedEpoch: 9 })
    expect(ahead.errorCode).toBe(KafkaError.OFFSET_OUT_OF_RANGE)
    // A follower says the same of what it knows to be committed.
    const there = await fetch(world, old, { offset: 6, lastFetchedEpoch: 0 })
    expect(there.divergingEpoch).toEqual({ epoch: 0, endOffset: 5 })
  })

  it('OffsetForLeaderEpoch: leaders answer consumers and daemons, any replica answers −2', async () => {
    const world = await started('cut back 2')
    const ask = async (nodeId: number, replicaId: number, leaderEpoch: number) => {
      const peers = world.node(3).running?.replication.peers
      const partitions = [{ partition: 0, currentLeaderEpoch: -1, leaderEpoch }]
      const body = { replicaId, topics: [{ topic: TOPIC, partitions }] }
      const answer = await world.settle(peers!.call(nodeId, 'OffsetForLeaderEpoch', 4, body))
      return answer.topics[0]?.partitions[0]
    }
    for (const replicaId of [-1, 3]) {
      expect(await ask(1, replicaId, 0)).toMatchObject({ errorCode: 0, endOffset: 5 })
      const { errorCode } = (await ask(2, replicaId, 0))!
      expect(errorCode).toBe(KafkaError.NOT_LEADER_OR_FOLLOWER)
    }
    expect(await ask(2, -2, 0)).toMatchObject({ errorCode: 0, leaderEpoch: 0, endOffset: 5 })
    expect((await ask(1, 77, 0))?.errorCode).toBe(KafkaError.CLUSTER_AUTHORIZATION_FAILED)
  })
})

describe('who leads instead (KIP-951)', () => {
  it('is named in the refusal, of a fetch and of a produce', async () => {
    const world = await started('elsewhere')
    const [first, second] = world.nodes as [Node, Node, Node]
    world.elect(2)
    await world.until(() => second.partition().notServing === undefined)
    const row = await fetch(world, first, { offset: 0, version: 4 })
    expect(row.errorCode).toBe(KafkaError.NOT_LEADER_OR_FOLLOWER)
    const stale = await fetch(world, first, { offset: 0, currentLeaderEpoch: 0 })
    expect(stale.errorCode).toBe(KafkaError.FENCED_LEADER_EPOCH)
    expect(stale.currentLeader).toEqual({ leaderId: 2, leaderEpoch: 1 })
    const peers = world.node(3).running?.replication.peers
    const body = {
      ...{ transactionalId: null, acks: -1, timeoutMs: 1000 },
      topicData: [{ name: TOPIC, partitionData: [{ index: 0, records: null }] }],
    }
    const answer = await world.settle(peers!.call(1, 'Produce', 12, body))
    expect(answer.responses[0]?.partitionResponses[0]).toMatchObject({
      errorCode: KafkaError.NOT_LEADER_OR_FOLLOWER,
      currentLeader: { leaderId: 2, leaderEpoch: 1 },
    })
  })
})
