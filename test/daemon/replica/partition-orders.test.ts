/** Orders of an operator to real brokers on one simulated store; what data moves is seen in test/process. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { PartitionImage } from '../../../daemon/metadata/metadata-image.ts'
import { WriterCounter, writeOwnPartition } from '../../../daemon/metadata/topic-transactions.ts'
import type { Broker } from '../../../daemon/replica/broker.ts'
import type { PartitionOutcome } from '../../../daemon/replica/partition-orders.ts'
import { KafkaError } from '../../../src/protocol/errors.ts'
import { BrokerCluster } from './broker-cluster.ts'

let cluster = new BrokerCluster()
let controller: Broker
/** The other two. */
let others: readonly number[] = []

beforeEach(async () => {
  await cluster.all()
  await cluster.run(100)
  controller = cluster.controller()
  others = [1, 2, 3].filter((id) => id !== controller.nodeId)
})

afterEach(() => {
  for (const nodeId of cluster.hosts.keys()) cluster.crash(nodeId)
  cluster = new BrokerCluster()
})

function create(assignments: readonly (readonly number[])[], config = {}): Promise<unknown> {
  return cluster.world.settle(controller.topics.create({ name: 't', assignments, config }))
}

function record(partition = 0): PartitionImage {
  const id = controller.image.topic('t')?.topicId ?? ''
  const found = controller.image.partition(id, partition)
  if (found === undefined) throw new Error(`no partition ${partition}`)
  return found
}

const move = (replicas: readonly number[] | null, partition = 0, mayResize = true) =>
  cluster.world.settle(
    controller.topics.reassign([{ topic: 't', partition, replicas }], { mayResize }),
  )

const elect = (kind: 'preferred' | 'unclean', partition = 0) =>
  cluster.world.settle(controller.topics.electLeaders(kind, [{ topic: 't', partition }]))

const codes = (outcomes: readonly PartitionOutcome[]): number[] => outcomes.map(({ code }) => code)

describe('reassignment', () => {
  it('adds first, lists what is under way, and goes back when it is cancelled', async () => {
    const [a, b] = others as [number, number]
    await create([[a, b]])
    const before = record().value
    const target = [controller.nodeId, a]
    expect(codes(await move(target))).toEqual([0])
    expect(record().value).toMatchObject({
      replicas: [...target, b],
      adding: [controller.nodeId],
      removing: [b],
      leader: a,
      leaderEpoch: before.leaderEpoch,
      inSyncReplicas: before.inSyncReplicas,
    })
    expect(controller.topics.reassignments()).toEqual([
      {
        topic: 't',
        partition: 0,
        replicas: [...target, b],
        adding: [controller.nodeId],
        removing: [b],
      },
    ])
    const { revision } = record()
    expect(codes(await move(target))).toEqual([0])
    expect(record().revision).toBe(revision)
    expect(codes(await move(null))).toEqual([0])
    expect(record().value).toMatchObject({ replicas: [a, b], adding: [], removing: [], leader: a })
    expect(record().value.leaderEpoch).toBeGreaterThan(before.leaderEpoch)
    expect(controller.topics.reassignments()).toEqual([])
    expect(codes(await move(null))).toEqual([KafkaError.NO_REASSIGNMENT_IN_PROGRESS])
  })

  it('that copies nothing ends at once: another order, fewer replicas', async () => {
    const [a, b] = others as [number, number]
    const c = controller.nodeId
    await create([
      [a, b, c],
      [a, b, c],
    ])
    expect(codes(await move([b, a, c]))).toEqual([0])
    expect(record().value).toMatchObject({ replicas: [b, a, c], adding: [], removing: [] })
    expect(codes(await move([b, c], 1))).toEqual([0])
    const { value } = record(1)
    expect(value).toMatchObject({ replicas: [b, c], adding: [], removing: [], leader: b })
    expect(value.inSyncReplicas.map(({ broker }) => broker).sort()).toEqual([b, c].sort())
    expect(value.leaderEpoch).toBeGreaterThan(0)
  })

  it('refuses what is no assignment, each partition by itself', async () => {
    const [a, b] = others as [number, number]
    await create([[a, b]])
    const before = record().revision
    const orders = [[], [a, a], [a, 9]].map((replicas) => ({ topic: 't', partition: 0, replicas }))
    for (const order of orders) {
      const [outcome] = await cluster.world.settle(controller.topics.reassign([order]))
      expect(outcome?.code).toBe(KafkaError.INVALID_REPLICA_ASSIGNMENT)
    }
    expect(codes(await move([a], 0, false))).toEqual([KafkaError.INVALID_REPLICATION_FACTOR])
    const mixed = await cluster.world.settle(
      controller.topics.reassign([
        { topic: 't', partition: 7, replicas: [a] },
        { topic: 'nobody', partition: 0, replicas: [a] },
      ]),
    )
    const { UNKNOWN_TOPIC_OR_PARTITION } = KafkaError
    expect(codes(mixed)).toEqual([UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_OR_PARTITION])
    expect(record().revision).toBe(before)
  })

  it('is not begun by a broker that is not the controller', async () => {
    const other = cluster.hosts.get(others[0] as number)?.broker as Broker
    const orders = [{ topic: 't', partition: 0, replicas: null }]
    await expect(cluster.world.settle(other.topics.reassign(orders))).rejects.toMatchObject({
      code: 'NOT_CONTROLLER',
    })
  })

  it('hundreds of partitions go in transactions that the store takes', async () => {
    const [a, b] = others as [number, number]
    await create(Array.from({ length: 300 }, () => [a, b]))
    const orders = Array.from({ length: 300 }, (_, partition) => ({
      topic: 't',
      partition,
      replicas: [b, a],
    }))
    const outcomes = await cluster.world.settle(controller.topics.reassign(orders))
    expect(codes(outcomes)).toEqual(Array.from({ length: 300 }, () => 0))
    expect(record(299).value.replicas).toEqual([b, a])
  })
})

describe('forgetting a broker', () => {
  const forget = (nodeId: number) => cluster.world.settle(controller.topics.forgetBroker(nodeId))

  it('refuses one that lives, holds replicas or is not known', async () => {
    const [a] = others as [number, number]
    expect(await forget(9)).toMatchObject({ code: KafkaError.BROKER_ID_NOT_REGISTERED })
    expect(await forget(a)).toMatchObject({
      code: KafkaError.INVALID_REQUEST,
      message: 'it is alive; stop it first',
    })
    await create([[controller.nodeId, a]])
    cluster.crash(a)
    await cluster.run(12_000)
    expect(await forget(a)).toMatchObject({
      code: KafkaError.INVALID_REQUEST,
      message: `it holds 1 replicas; take them off it first: stream cluster drain ${a}`,
    })
  })

  it('it is gone from the image, and joins anew when it is started again', async () => {
    const [a] = others as [number, number]
    const before = cluster.hosts.get(a)?.broker?.dataEpoch ?? 0
    cluster.crash(a)
    await cluster.run(12_000)
    expect(await forget(a)).toEqual({ code: 0, message: null })
    expect(controller.image.broker(a)).toBeUndefined()
    expect([...controller.image.brokers().keys()]).not.toContain(a)
    const again = await cluster.start(a)
    expect(again.dataEpoch).toBeGreaterThan(before)
    expect(controller.liveBrokers()).toEqual([1, 2, 3])
  })
})

describe('election', () => {
  it('gives the lead to the preferred replica, once', async () => {
    const [a, b] = others as [number, number]
    await create([[a, b]])
    expect(codes(await elect('preferred'))).toEqual([KafkaError.ELECTION_NOT_NEEDED])
    await move([b, a])
    expect(record().value.leader).toBe(a)
    expect(codes(await elect('preferred'))).toEqual([0])
    expect(record().value).toMatchObject({ leader: b, uncleanEpoch: 0 })
    const all = await cluster.world.settle(controller.topics.electLeaders('preferred'))
    expect(all).toEqual([])
  })

  it('says why the preferred replica cannot lead', async () => {
    const [a] = others as [number, number]
    await create([[a, controller.nodeId]])
    cluster.crash(a)
    await cluster.run(12_000)
    expect(await elect('preferred')).toMatchObject([
      {
        code: KafkaError.PREFERRED_LEADER_NOT_AVAILABLE,
        message: `the preferred replica, broker ${a}, is not alive`,
      },
    ])
    expect(codes(await elect('preferred', 5))).toEqual([KafkaError.UNKNOWN_TOPIC_OR_PARTITION])
  })

  it('uncleanly only where it is asked for and nobody leads; the record says so', async () => {
    const [a] = others as [number, number]
    await create([[a, controller.nodeId], [a]], { 'min.insync.replicas': '1' })
    expect(codes(await elect('unclean'))).toEqual([KafkaError.ELECTION_NOT_NEEDED])
    const leader = cluster.hosts.get(a)?.broker as Broker
    const { session } = leader
    const { value, revision, topicId } = record()
    const alone = {
      ...value,
      inSyncReplicas: value.inSyncReplicas.filter(({ broker }) => broker === a),
      partitionEpoch: value.partitionEpoch + 1,
      writer: new WriterCounter(session.sessionEpoch).next(),
    }
    const change = { topicId, partition: 0, revision, value: alone }
    await cluster.world.settle(writeOwnPartition(leader.store, leader.keys, session, change))
    cluster.crash(a)
    await cluster.run(12_000)
    expect(record().value.leader).toBe(-1)
    expect(codes(await elect('preferred'))).toEqual([KafkaError.PREFERRED_LEADER_NOT_AVAILABLE])
    expect(codes(await elect('unclean', 1))).toEqual([KafkaError.ELIGIBLE_LEADERS_NOT_AVAILABLE])
    await cluster.run(60_000)
    expect(record().value.leader).toBe(-1)
    expect(codes(await elect('unclean'))).toEqual([0])
    const elected = record().value
    expect(elected).toMatchObject({ leader: controller.nodeId, uncleanEpoch: elected.leaderEpoch })
  })
})
