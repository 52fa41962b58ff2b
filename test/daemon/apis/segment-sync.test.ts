/** SegmentSync between replicas: the batches of a range, and its hash alone. */
import { describe, expect, it } from 'vitest'
import { segmentSync } from '../../../daemon/apis/1005-segment-sync.ts'
import type { RequestContext, Services } from '../../../daemon/apis/handler.ts'
import { encodePartition } from '../../../daemon/metadata/metadata-values.ts'
import type { RequestInput, Response } from '../../../src/protocol/api-table.ts'
import { KafkaError } from '../../../src/protocol/errors.ts'
import { baseOffsetAt, batchBytesAt } from '../../../src/record/batch-layout.ts'
import { crc32c } from '../../../src/record/crc32c.ts'
import { batchOf } from '../batches.ts'
import { replaceBatch } from '../other-batch.ts'
import { type Node, ReplicaWorld, TOPIC_ID } from '../replica/replica-world.ts'

const LOG_PATH = '/data/t-0'
type Asked = RequestInput<'SegmentSync'>

const question: Asked = {
  clusterId: 'CbcdefghijklmnopqrstuA',
  replicaId: 2,
  topicId: TOPIC_ID,
  partition: 0,
  currentLeaderEpoch: 1,
  startOffset: 0,
  endOffset: 60,
  maxBytes: 1 << 20,
}

/** Twenty batches of three records, in small segments. */
async function started(seed: number) {
  const topicConfig = { 'internal.segment.bytes': '600', 'index.interval.bytes': '200' }
  const world = new ReplicaWorld(seed, { topicConfig })
  await world.startAll()
  const leader = world.node(1)
  await world.until(() => leader.partition().notServing === undefined)
  await world.run(100)
  const outcomes = Array.from({ length: 20 }, () => world.produce(leader, 0, 3))
  await world.settle(Promise.all(outcomes))
  await world.run(1000)
  const currentLeaderEpoch = leader.partition().leaderEpoch
  const ask = (change: Partial<Asked>, version = 1, to = 1): Promise<Response<'SegmentSync'>> => {
    const peers = world.node(2).running?.replication.peers
    const body = { ...question, currentLeaderEpoch, ...change }
    const answer = peers?.call(to, 'SegmentSync', version, body, { ifListed: true })
    return world.settle(answer as Promise<Response<'SegmentSync'>>)
  }
  const hash = (change: Partial<Asked> = {}) => ask({ hashOnly: true, ...change })
  return { world, leader, ask, hash }
}

/** The batches of a log as its files have them. */
function stored(node: Node): Uint8Array[] {
  const batches: Uint8Array[] = []
  for (const name of node.disk.list(LOG_PATH).filter((each) => each.endsWith('.log'))) {
    const bytes = node.disk.readFile(`${LOG_PATH}/${name}`) ?? new Uint8Array(0)
    for (let at = 0; at < bytes.length; at += batchBytesAt(bytes, at)) {
      batches.push(bytes.subarray(at, at + batchBytesAt(bytes, at)))
    }
  }
  return batches
}

function hashOf(batches: readonly Uint8Array[]) {
  const bytes = Buffer.concat(batches as Uint8Array[])
  return { sizeBytes: bytes.length, checksum: crc32c(bytes) }
}

describe('the batches of a range', () => {
  it('are answered whole, with their checksum, in both versions', async () => {
    const { leader, ask } = await started(1)
    const [first, second] = stored(leader) as [Uint8Array, Uint8Array]
    for (const version of [0, 1]) {
      const answer = await ask({ startOffset: 1, endOffset: 7, hashOnly: false }, version)
      const records = Buffer.concat([first, second])
      expect(answer).toMatchObject({
        errorCode: 0,
        highWatermark: 60,
        logStartOffset: 0,
        nextOffset: 6,
        checksum: crc32c(records),
      })
      expect(Buffer.compare(answer.records ?? new Uint8Array(0), records)).toBe(0)
    }
    expect(await ask({ startOffset: 60, endOffset: 99 })).toMatchObject({ nextOffset: 60 })
    const one = await ask({ startOffset: 10, endOffset: Number.MAX_SAFE_INTEGER, maxBytes: 1 })
    expect(one.nextOffset).toBe(12)
    expect(baseOffsetAt(one.records ?? new Uint8Array(8), 0)).toBe(9)
  })

  it('of version 1 are those of the file, whatever is in memory', async () => {
    const { leader, ask } = await started(2)
    const other = replaceBatch(leader.disk, LOG_PATH, 57)
    const wanted = { startOffset: 57, endOffset: 60 }
    expect((await ask(wanted, 0)).checksum).not.toBe(crc32c(other))
    expect((await ask(wanted, 1)).checksum).toBe(crc32c(other))
  })
})

describe('the hash of a range', () => {
  it('is that of the batches that lie wholly in it, without their bytes', async () => {
    const { leader, hash } = await started(3)
    const batches = stored(leader)
    expect(leader.log.segmentCount).toBeGreaterThan(3)
    for (let first = 0; first < batches.length; first += 3) {
      for (let end = first + 1; end <= batches.length; end += 2) {
        const answer = await hash({ startOffset: first * 3, endOffset: end * 3 })
        const expected = hashOf(batches.slice(first, end))
        expect(answer).toMatchObject({ errorCode: 0, ...expected, nextOffset: end * 3 })
        expect(answer.records).toHaveLength(0)
      }
    }
  })

  it('leaves out a batch that reaches across its start or its end', async () => {
    const { leader, hash } = await started(4)
    const batches = stored(leader)
    const cases = [
      [1, 9, 1, 3],
      [2, 10, 1, 3],
      [0, 8, 0, 2],
      [1, 2, 0, 0],
      [1, 5, 0, 0],
      [3, 5, 0, 0],
    ] as const
    for (const [startOffset, endOffset, first, end] of cases) {
      const expected = { ...hashOf(batches.slice(first, end)), nextOffset: endOffset }
      expect(await hash({ startOffset, endOffset })).toMatchObject(expected)
    }
  })

  it('is told as far as maxBytes go, of one batch at least, and never of more than 4 MiB', async () => {
    const { world, leader, hash } = await started(5)
    const batches = stored(leader)
    const [first, second] = batches as [Uint8Array, Uint8Array]
    const bytes = first.length + second.length
    const two = { ...hashOf([first, second]), nextOffset: 6 }
    expect(await hash({ maxBytes: bytes })).toMatchObject(two)
    expect(await hash({ maxBytes: 1 })).toMatchObject({ ...hashOf([first]), nextOffset: 3 })
    expect(await hash({ maxBytes: -5 })).toMatchObject({ ...hashOf([first]), nextOffset: 3 })
    for (let at = 0; at < 8; at += 1) leader.partition().append(batchOf(['x'.repeat(1_000_000)]))
    await world.until(() => leader.partition().highWatermark === 68)
    const most = await hash({ startOffset: 60, endOffset: 68, maxBytes: 1 << 30 })
    expect(most.nextOffset).toBe(64)
    expect(most.sizeBytes).toBeLessThan(4 * 1024 * 1024)
  })

  it('ends at the high watermark, and tells nothing beyond it', async () => {
    const { leader, hash } = await started(6)
    const all = { ...hashOf(stored(leader)), nextOffset: 60, highWatermark: 60 }
    expect(await hash({ endOffset: 1000 })).toMatchObject(all)
    const none = { errorCode: 0, sizeBytes: 0, checksum: 0 }
    expect(await hash({ startOffset: 60, endOffset: 70 })).toMatchObject({
      ...none,
      nextOffset: 60,
    })
    expect(await hash({ startOffset: 9, endOffset: 9 })).toMatchObject({ ...none, nextOffset: 9 })
  })

  it('is not told of a log that was compacted', async () => {
    const { leader, hash } = await started(7)
    leader.log.applyConfig({ ...leader.log.config, cleanupCompact: true })
    expect(await hash()).toMatchObject({ errorCode: 0, sizeBytes: 0, nextOffset: 0 })
    leader.log.applyConfig({ ...leader.log.config, cleanupCompact: false })
    leader.log.core.cleanOffset = 6
    expect(await hash()).toMatchObject({ errorCode: 0, sizeBytes: 0, nextOffset: 0 })
    // Trimmed to where it had come: what is left was never touched.
    leader.log.core.logStartOffset = 6
    expect(await hash({ startOffset: 6 })).toMatchObject({
      ...hashOf(stored(leader).slice(2)),
      nextOffset: 60,
    })
  })

  it('is refused below the log start, which is told, and where this copy is damaged', async () => {
    const { world, leader, hash } = await started(8)
    const names = leader.disk.list(LOG_PATH).filter((name) => name.endsWith('.log'))
    // Of all of them, so that nobody repairs it.
    for (const { disk } of world.nodes) disk.flipBit(`${LOG_PATH}/${names[1]}`, 200, 2)
    expect((await hash()).errorCode).toBe(KafkaError.CORRUPT_MESSAGE)
    const [damage] = leader.log.damage
    expect(damage).toBeDefined()
    const before = await hash({ endOffset: damage?.startOffset ?? 0 })
    expect(before).toMatchObject({ errorCode: 0, nextOffset: damage?.startOffset })
    await world.settle(leader.partition().deleteRecordsBefore(50))
    expect(await hash({ startOffset: 49 })).toMatchObject({
      errorCode: KafkaError.OFFSET_OUT_OF_RANGE,
      logStartOffset: 50,
    })
  })

  it('is refused where the leadership ends, or the log is cut, while it is read', async () => {
    const { world, leader, hash } = await started(9)
    const { log } = leader
    const hashRange = log.hashRange.bind(log)
    const beside = (work: () => unknown): void => {
      log.hashRange = async (request) => {
        const answer = await hashRange(request)
        await work()
        return answer
      }
    }
    beside(() => {
      log.core.generation += 2
    })
    expect((await hash()).errorCode).toBe(KafkaError.FENCED_LEADER_EPOCH)
    beside(() => {
      const { value } = world.record()
      const next = { ...value, leader: 2, leaderEpoch: value.leaderEpoch + 1 }
      return leader.partition().follow(next)
    })
    expect((await hash()).errorCode).toBe(KafkaError.FENCED_LEADER_EPOCH)
  })
})

describe('whoever asks', () => {
  it('is refused for the same reasons in both modes', async () => {
    const { world, leader, ask } = await started(10)
    const epoch = leader.partition().leaderEpoch
    const cases = [
      [{ replicaId: 9 }, KafkaError.CLUSTER_AUTHORIZATION_FAILED],
      [{ clusterId: 'another' }, KafkaError.INCONSISTENT_CLUSTER_ID],
      [{ partition: 7 }, KafkaError.UNKNOWN_TOPIC_OR_PARTITION],
      [{ currentLeaderEpoch: epoch - 1 }, KafkaError.FENCED_LEADER_EPOCH],
      [{ currentLeaderEpoch: epoch + 1 }, KafkaError.UNKNOWN_LEADER_EPOCH],
    ] as const
    for (const hashOnly of [false, true]) {
      for (const [change, errorCode] of cases) {
        const answer = await ask({ ...change, hashOnly })
        expect(answer).toMatchObject({ errorCode, nextOffset: -1, sizeBytes: 0, checksum: 0 })
        expect(answer.records).toHaveLength(0)
      }
    }
    const { value } = world.record()
    const inSyncReplicas = value.inSyncReplicas.filter(({ broker }) => broker !== 3)
    const left = { ...value, inSyncReplicas, partitionEpoch: value.partitionEpoch + 1 }
    const key = world.keys.partition(TOPIC_ID, 0)
    const revision = world.put({ kind: 'put', key, value: encodePartition(left) })
    const { image } = world.node(3).running as NonNullable<Node['running']>
    await world.until(() => image.revision >= revision)
    for (const hashOnly of [false, true]) {
      expect((await ask({ hashOnly }, 1, 3)).errorCode).toBe(KafkaError.INELIGIBLE_REPLICA)
    }
  })

  it('is refused at any other door, by a broker without others, and by one whose disk has failed', async () => {
    const { world, leader } = await started(11)
    const { replication, image, table, directory, session } = leader.running as NonNullable<
      Node['running']
    >
    const broker = {
      ...{ nodeId: 1, clusterId: question.clusterId, dataEpoch: session.dataEpoch },
      ...{ image, table, directory, replication },
    }
    const codeFor = async (change: object, door = 'zmq'): Promise<number | undefined> => {
      const services = { broker: { ...broker, ...change } } as unknown as Services
      const context = { door, apiVersion: 1 } as RequestContext
      const { leaderEpoch } = leader.partition()
      const request = { ...question, currentLeaderEpoch: leaderEpoch, hashOnly: true }
      const answer = await world.settle(
        Promise.resolve(segmentSync(services, context, request as never)),
      )
      return answer?.errorCode
    }
    expect(await codeFor({})).toBe(0)
    expect(await codeFor({}, 'kafka')).toBe(KafkaError.CLUSTER_AUTHORIZATION_FAILED)
    expect(await codeFor({ replication: undefined })).toBe(KafkaError.CLUSTER_AUTHORIZATION_FAILED)
    expect(await codeFor({ directory: { failure: new Error('EIO') } })).toBe(
      KafkaError.KAFKA_STORAGE_ERROR,
    )
  })
})
