import { describe, expect, it } from 'vitest'
import {
  decodePartition,
  decodeTopic,
  type PartitionValue,
} from '../../../daemon/metadata/metadata-values.ts'
import type { Session } from '../../../daemon/metadata/session.ts'
import {
  addPartitions,
  chunkPartitionChanges,
  createTopic,
  deleteTopic,
  initialPartition,
  takeProducerIds,
  WriterCounter,
  withoutRecovering,
  writeOwnPartition,
  writePartitions,
  writeTopic,
} from '../../../daemon/metadata/topic-transactions.ts'
import { StoreWorld } from './store-world.ts'

const NO_LIMIT = Number.MAX_SAFE_INTEGER
const ETCD_LIMIT = 128

function newPartition(session: Session): PartitionValue {
  return initialPartition({
    replicas: [{ broker: session.nodeId, dataEpoch: session.dataEpoch }],
    leaderIncarnation: session.incarnation,
    minInSync: 1,
    writer: { epoch: 1, counter: 1 },
  })
}

async function withTopic(w: StoreWorld, partitions = 2, operationsMax = NO_LIMIT) {
  const { session, controllerEpoch } = await w.begin()
  const hold = { controllerEpoch }
  const topic = {
    name: 'orders',
    topicId: 'id-1',
    config: { 'retention.ms': '5' },
    partitions: Array.from({ length: partitions }, () => newPartition(session)),
  }
  await createTopic(w.store, w.keys, hold, topic, operationsMax)
  const entry = await w.home.get(w.keys.topic('orders'))
  const revision = entry?.modRevision ?? -1
  const value = decodeTopic('k', entry?.value ?? new Uint8Array())
  return { session, hold, topic, revision, value }
}

describe('T8: creating a topic', () => {
  it.each([
    ['in one transaction', 5, NO_LIMIT],
    ['in pieces of 128 operations', 300, ETCD_LIMIT],
  ])('writes topic and partitions %s', async (_title, partitions, operationsMax) => {
    const w = new StoreWorld(1)
    const { value } = await w.settle(withTopic(w, partitions, operationsMax))
    expect(value).toMatchObject({ topicId: 'id-1', partitions, state: 'CREATING' })
    const { entries } = await w.settle(w.home.list(`${w.keys.prefix}part/id-1/`))
    expect(entries).toHaveLength(partitions)
  })

  it('refuses a name that is there', async () => {
    const w = new StoreWorld(2)
    const { hold, topic } = await w.settle(withTopic(w))
    const again = { ...topic, topicId: 'id-2' }
    await expect(
      w.settle(createTopic(w.store, w.keys, hold, again, NO_LIMIT)),
    ).rejects.toMatchObject({ code: 'TOPIC_EXISTS' })
  })

  it('refuses who is no longer the controller (I12)', async () => {
    const w = new StoreWorld(3)
    const { hold, topic } = await w.settle(withTopic(w))
    const stale = { controllerEpoch: hold.controllerEpoch - 1 }
    await expect(
      w.settle(createTopic(w.store, w.keys, stale, { ...topic, name: 'other' }, NO_LIMIT)),
    ).rejects.toMatchObject({ code: 'NOT_CONTROLLER' })
  })

  it('takes its own write for its own after a lost answer', async () => {
    for (let seed = 0; seed < 40; seed += 1) {
      const w = new StoreWorld(`create ${seed}`)
      const { session, controllerEpoch } = await w.settle(w.begin())
      const partitions = Array.from({ length: 200 }, () => newPartition(session))
      const topic = { name: 'orders', topicId: 'id-1', config: {}, partitions }
      w.server.faults.answerLost = 0.3
      w.server.faults.appliedLate = 0.1
      await w.settle(createTopic(w.store, w.keys, { controllerEpoch }, topic, ETCD_LIMIT))
      w.server.calm()
      const { entries } = await w.settle(w.home.list(`${w.keys.prefix}part/id-1/`))
      expect(entries).toHaveLength(200)
    }
  })
})

describe('growing and finishing a topic', () => {
  it('adds records behind those that are seen, and shows them with the topic', async () => {
    const w = new StoreWorld(4)
    const { session, hold, revision, value } = await w.settle(withTopic(w, 2))
    const topic = { name: 'orders', revision, value }
    const added = [newPartition(session), newPartition(session)]
    await w.settle(addPartitions(w.store, w.keys, hold, topic, added, NO_LIMIT))
    const { entries } = await w.settle(w.home.list(`${w.keys.prefix}part/id-1/`))
    expect(entries).toHaveLength(4)
    const ready = { ...topic, value: { ...value, partitions: 4, state: 'READY' as const } }
    const written = await w.settle(writeTopic(w.store, w.keys, hold, ready))
    expect(written).toBeGreaterThan(revision)
    // The old revision no longer fits.
    const late = { ...ready, value: { ...ready.value, partitions: 9 } }
    await expect(w.settle(writeTopic(w.store, w.keys, hold, late))).rejects.toMatchObject({
      code: 'CONFLICT',
    })
  })
})

describe('T9: deleting a topic', () => {
  it.each([
    ['at once', 3, NO_LIMIT],
    ['tombstone first, then pieces', 300, ETCD_LIMIT],
  ])('%s', async (_title, partitions, operationsMax) => {
    const w = new StoreWorld(5)
    const { hold, revision } = await w.settle(withTopic(w, partitions, operationsMax))
    const topic = {
      name: 'orders',
      topicId: 'id-1',
      revision,
      partitions: Array.from({ length: partitions }, (_, at) => at),
    }
    await w.settle(deleteTopic(w.store, w.keys, hold, topic, 1234, operationsMax))
    expect(await w.settle(w.home.get(w.keys.topic('orders')))).toBeUndefined()
    expect(await w.settle(w.home.get(w.keys.deleted('id-1')))).toBeDefined()
    const { entries } = await w.settle(w.home.list(`${w.keys.prefix}part/`))
    expect(entries).toHaveLength(0)
  })

  it('refuses a topic that has changed', async () => {
    const w = new StoreWorld(6)
    const { hold } = await w.settle(withTopic(w))
    const topic = { name: 'orders', topicId: 'id-1', revision: 1, partitions: [0] }
    await expect(
      w.settle(deleteTopic(w.store, w.keys, hold, topic, 0, NO_LIMIT)),
    ).rejects.toMatchObject({ code: 'CONFLICT' })
  })
})

describe('T3 and T6: the controller writes elections', () => {
  async function prepared(w: StoreWorld) {
    const found = await withTopic(w, 1)
    const key = w.keys.partition('id-1', 0)
    const entry = await w.home.get(key)
    const writers = new WriterCounter(found.hold.controllerEpoch)
    const before = decodePartition(key, entry?.value ?? new Uint8Array())
    const change = {
      topicId: 'id-1',
      partition: 0,
      revision: entry?.modRevision ?? 0,
      value: { ...before, leaderEpoch: 1, writer: writers.next() },
    }
    const guard = {
      nodeId: 1,
      sessionEpoch: found.session.sessionEpoch,
      dataEpoch: found.session.dataEpoch,
    }
    return { ...found, key, change, guard, writers }
  }

  it('together with the registration', async () => {
    const w = new StoreWorld(7)
    const p = await w.settle(prepared(w))
    const result = await w.settle(
      writePartitions(w.store, w.keys, p.hold, [p.change], [p.guard], p.session),
    )
    expect(result.succeeded).toBe(true)
    const registration = await w.settle(w.home.get(w.keys.registration(1)))
    expect(Buffer.from(registration?.value ?? []).toString()).toContain('ACTIVE')
  })

  it.each([
    ['a partition that moved', { change: { revision: 1 } }],
    ['a leader with another data epoch', { guard: { dataEpoch: 999 } }],
    ['a leader with another session', { guard: { sessionEpoch: 999 } }],
    ['a former controller', { hold: { controllerEpoch: 1 } }],
  ])('refuses %s', async (_title, wrong: Record<string, object>) => {
    const w = new StoreWorld(8)
    const p = await w.settle(prepared(w))
    const result = await w.settle(
      writePartitions(
        w.store,
        w.keys,
        { ...p.hold, ...wrong['hold'] },
        [{ ...p.change, ...wrong['change'] }],
        [{ ...p.guard, ...wrong['guard'] }],
      ),
    )
    expect(result.succeeded).toBe(false)
  })

  it('knows its own write after a lost answer by its writer', async () => {
    for (let seed = 0; seed < 40; seed += 1) {
      const w = new StoreWorld(`own ${seed}`)
      const p = await w.settle(prepared(w))
      w.server.faults.answerLost = 0.5
      const result = await w.settle(writePartitions(w.store, w.keys, p.hold, [p.change], [p.guard]))
      expect(result.succeeded).toBe(true)
    }
  })

  it('T5: only a leader with its session clears `recovering`', async () => {
    const w = new StoreWorld(9)
    const p = await w.settle(prepared(w))
    const recovering = { ...p.change.value, recovering: true }
    const value = withoutRecovering(recovering, p.writers.next())
    expect(value).toMatchObject({
      recovering: false,
      partitionEpoch: recovering.partitionEpoch + 1,
    })
    const change = { ...p.change, value }
    const zombie = { nodeId: 1, sessionEpoch: 999 }
    const refused = await w.settle(writeOwnPartition(w.store, w.keys, zombie, change))
    expect(refused.succeeded).toBe(false)
    const done = await w.settle(writeOwnPartition(w.store, w.keys, p.session, change))
    expect(done.succeeded).toBe(true)
  })

  it('T4: a follower joins only as it was seen', async () => {
    const w = new StoreWorld(10)
    const p = await w.settle(prepared(w))
    const other = await w.settle(w.register({ nodeId: 2, lossyReason: 'new' }))
    const seen = {
      nodeId: 2,
      sessionEpoch: other.sessionEpoch,
      dataEpoch: other.dataEpoch,
      registrationRevision: other.registrationRevision,
    }
    const { store, keys } = w
    for (const wrong of [{ dataEpoch: 1 }, { sessionEpoch: 999 }, { registrationRevision: 1 }]) {
      const guard = { ...seen, ...wrong }
      const refused = await w.settle(writeOwnPartition(store, keys, p.session, p.change, guard))
      expect(refused.succeeded).toBe(false)
    }
    const done = await w.settle(writeOwnPartition(store, keys, p.session, p.change, seen))
    expect(done.succeeded).toBe(true)
  })

  it('chunks leave room for the guards', () => {
    const change = { topicId: 't', partition: 0, revision: 0, value: {} as PartitionValue }
    const chunks = chunkPartitionChanges(
      Array.from({ length: 250 }, () => change),
      ETCD_LIMIT,
    )
    expect(chunks.map((chunk) => chunk.length)).toEqual([120, 120, 10])
  })
})

it('T10: blocks of producer ids are never handed out twice', async () => {
  const w = new StoreWorld(11)
  w.server.faults.answerLost = 0.3
  w.server.faults.appliedLate = 0.2
  const takes = Array.from({ length: 20 }, () => takeProducerIds(w.store, w.keys))
  const blocks = await w.settle(Promise.all(takes))
  expect(new Set(blocks).size).toBe(20)
  for (const first of blocks) expect(first % 1000).toBe(0)
})
