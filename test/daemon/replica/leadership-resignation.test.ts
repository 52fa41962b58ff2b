import { describe, expect, it } from 'vitest'
import { overwriteFile } from '../../../daemon/log/file-writes.ts'
import {
  decodeTopic,
  encodeDeleted,
  encodePartition,
  encodeTopic,
} from '../../../daemon/metadata/metadata-values.ts'
import { type Node, ReplicaWorld, TOPIC, TOPIC_ID } from './replica-world.ts'

const GIVEN = 'a leadership was given away'
const NOBODY = 'nobody leads a partition'

/** A topic whose first partition these brokers cannot open: something unreadable is in its place. */
async function started(unable: readonly number[], options: { readonly minInSync?: number } = {}) {
  const world = new ReplicaWorld(`resigns ${unable.join()}`, {
    ...options,
    config: { 'replica.lag.time.max.ms': '2000' },
  })
  for (const node of world.nodes) await world.start(node)
  for (const nodeId of unable) {
    const { disk } = world.node(nodeId)
    disk.makeDirectory('/data/t-0')
    overwriteFile(disk, '/data/t-0/partition.metadata', Buffer.from('nothing that can be read'))
  }
  world.createTopic()
  await world.run(2000)
  return world
}

/** As housekeeping does. */
async function retry(world: ReplicaWorld): Promise<void> {
  for (const { running } of world.nodes) {
    await world.settle((running?.table.retry() ?? Promise.resolve()).catch(() => undefined))
  }
  await world.run(1000)
}

function saidOf(world: ReplicaWorld, text: string): number {
  return world.said.filter((line) => line.includes(text)).length
}

describe('a leader that cannot open its log', () => {
  it('gives the lead to a replica in sync, and what it writes is acknowledged', async () => {
    const world = await started([1])
    expect(world.record().value).toMatchObject({ leader: 2, leaderEpoch: 1, uncleanEpoch: 0 })
    expect(world.record().value.inSyncReplicas.map(({ broker }) => broker)).toEqual([2, 3])
    expect(saidOf(world, GIVEN)).toBe(1)
    expect(await world.settle(world.produce(world.leader(0) as Node))).toBe('committed')
    await retry(world)
    expect(world.record().value.leader).toBe(2)
  })

  it('is no ball between two that cannot: the third leads', async () => {
    const world = await started([1, 2], { minInSync: 1 })
    await retry(world)
    expect(world.record().value).toMatchObject({ leader: 3, leaderEpoch: 2 })
    expect(saidOf(world, GIVEN)).toBe(2)
    expect(await world.settle(world.produce(world.node(3)))).toBe('committed')
  })

  it('keeps it, and says so once, where nobody else is in sync', async () => {
    const world = await started([1, 2, 3])
    await retry(world)
    await retry(world)
    const { leader, leaderEpoch } = world.record().value
    expect([leader, leaderEpoch]).toEqual([3, 2])
    await retry(world)
    expect(world.record().value.leaderEpoch).toBe(2)
    expect(saidOf(world, NOBODY)).toBe(1)
  })

  it('keeps it where a topic of the same name was deleted a moment ago and is being taken away', async () => {
    const world = new ReplicaWorld('made anew at once')
    await world.startAll()
    await world.settle(world.produce(world.node(1)))
    const { keys, stores } = world
    const topicId = 'BbcdefghijklmnopqrstuA'
    const topic = keys.topic(TOPIC)
    const before = stores.image.get(topic)?.value ?? new Uint8Array()
    const record = world.record().value
    const value = encodeTopic({ ...decodeTopic(topic, before), topicId })
    const anew = encodePartition({ ...record, leaderEpoch: 0, partitionEpoch: 0 })
    const tombstone = encodeDeleted({ name: TOPIC, at: 0 })
    world.put(
      { kind: 'delete', key: topic },
      { kind: 'put', key: keys.deleted(TOPIC_ID), value: tombstone },
      { kind: 'delete', key: keys.partition(TOPIC_ID, 0) },
    )
    world.put(
      { kind: 'put', key: topic, value },
      { kind: 'put', key: keys.partition(topicId, 0), value: anew },
    )
    await world.run(1000)
    expect(saidOf(world, GIVEN)).toBe(0)
    for (const { running } of world.nodes) {
      expect(running?.table.get(topicId, 0)).toBeDefined()
      expect(running?.directory.strays()).toEqual([])
    }
  })
})
