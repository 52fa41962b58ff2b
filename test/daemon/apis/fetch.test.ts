import { describe, expect, it } from 'vitest'
import { KafkaError } from '../../../src/protocol/errors.ts'
import { buildControlBatch } from '../../../src/record/control-batch.ts'
import { batchOf, recordsOf } from '../batches.ts'
import { DaemonWorld, fetchBody } from '../daemon-world.ts'

async function started(config: Readonly<Record<string, string>> = {}) {
  const w = new DaemonWorld()
  const daemon = await w.start()
  const client = w.client()
  await client.create('t', { partitions: 3, config })
  return { w, daemon, client }
}

describe('Fetch', () => {
  it('answers with records, high watermark, last stable offset and log start', async () => {
    const { client } = await started()
    await client.produce('t', batchOf(['a', 'b']))
    const partition = await client.fetch('t')
    expect(partition).toMatchObject({
      errorCode: 0,
      highWatermark: 2,
      lastStableOffset: 2,
      logStartOffset: 0,
    })
    expect(recordsOf(partition.records).map((record) => record.value)).toEqual(['a', 'b'])
  })

  it('never gives what is not durable yet (I8)', async () => {
    const { w, daemon, client } = await started()
    const { log } = daemon.broker.table.find('t', 0)!
    const producing = client.beginProduce('t', batchOf(['a']))
    await w.world.run({ until: () => log.logEndOffset === 1 })
    if (log.durableOffset === 0) {
      const early = client.beginFetch('t')
      const partition = (await w.settle(early)).responses[0]!.partitions[0]!
      expect(recordsOf(partition.records).length).toBeLessThanOrEqual(partition.highWatermark)
    }
    await w.settle(producing)
  })

  it('waits for records, and is woken by a produce', async () => {
    const { w, daemon, client } = await started()
    const waiting = client.beginFetch('t', { maxWaitMs: 10_000 })
    await w.run(100)
    expect(daemon.requests).toBe(0)
    const before = w.world.now
    await client.produce('t', batchOf(['news']))
    const answer = await w.settle(waiting)
    expect(recordsOf(answer.responses[0]!.partitions[0]!.records)[0]?.value).toBe('news')
    expect(w.world.now - before).toBeLessThan(1000)
  })

  it('answers empty, with records of length 0, when max_wait_ms has passed', async () => {
    const { w, client } = await started()
    const before = w.world.now
    const partition = await client.fetch('t', { maxWaitMs: 500 })
    expect(partition).toMatchObject({ errorCode: 0, highWatermark: 0 })
    expect(partition.records).toEqual(new Uint8Array(0))
    expect(w.world.now - before).toBeGreaterThanOrEqual(500)
  })

  it('waits for min_bytes, and gives what there is at the end of its wait', async () => {
    const { w, client } = await started()
    const batch = batchOf(['x'.repeat(100)])
    const waiting = client.beginFetch('t', { maxWaitMs: 2000, minBytes: batch.length * 3 })
    let isAnswered = false
    void waiting.then(() => {
      isAnswered = true
    })
    await client.produce('t', batch.slice())
    await client.produce('t', batch.slice())
    await w.run(50)
    expect(isAnswered).toBe(false)
    await client.produce('t', batch.slice())
    await w.run(50)
    expect(isAnswered).toBe(true)
    const second = await client.fetch('t', { offset: 2, maxWaitMs: 300, minBytes: 1 << 20 })
    expect(recordsOf(second.records)).toHaveLength(1)
  })

  it('an error on any partition answers at once', async () => {
    const { w, client } = await started()
    const body = fetchBody('t', { maxWaitMs: 60_000 })
    const more = fetchBody('unknown', {}).topics
    const before = w.world.now
    const answer = await client.call('Fetch', 12, { ...body, topics: [...body.topics, ...more] })
    expect(answer.responses.map((topic) => topic.partitions[0]?.errorCode)).toEqual([0, 3])
    expect(w.world.now - before).toBeLessThan(100)
  })

  it('is woken by the deletion of its topic', async () => {
    const { w, client } = await started()
    const waiting = client.beginFetch('t', { maxWaitMs: 60_000 })
    await w.run(50)
    await client.call('DeleteTopics', 5, { topicNames: ['t'], timeoutMs: 1000 })
    const answer = await w.settle(waiting)
    expect(answer.responses[0]?.partitions[0]?.errorCode).toBe(
      KafkaError.UNKNOWN_TOPIC_OR_PARTITION,
    )
  })

  it('by topic id (v13): a deleted one is unknown, whatever has come to its name', async () => {
    const { w, client } = await started()
    await client.produce('t', batchOf(['old']))
    const idOf = async (): Promise<string> => {
      const body = { topics: [{ topicId: undefined, name: 't' }] } as never
      return (await client.call('Metadata', 12, body)).topics[0]!.topicId
    }
    const topicId = await idOf()
    const body = (offset: number, maxWaitMs = 0) => {
      const { topics, ...rest } = fetchBody('', { offset, maxWaitMs })
      return { ...rest, topics: topics.map((topic) => ({ ...topic, topicId })) }
    }
    const answer = await client.call('Fetch', 13, body(0))
    expect(answer.responses[0]).toMatchObject({ topicId })
    const [partition] = answer.responses[0]!.partitions
    expect(recordsOf(partition!.records).map(({ value }) => value)).toEqual(['old'])
    const waiting = client.begin('Fetch', 13, body(1, 60_000))
    await w.run(50)
    await client.call('DeleteTopics', 5, { topicNames: ['t'], timeoutMs: 1000 })
    const errorsOf = ({ responses }: Awaited<typeof waiting>) =>
      responses[0]!.partitions.map(({ errorCode }) => errorCode)
    expect(errorsOf(await w.settle(waiting))).toEqual([KafkaError.UNKNOWN_TOPIC_ID])
    await client.create('t')
    await client.produce('t', batchOf(['new', 'new']))
    expect(await idOf()).not.toBe(topicId)
    expect(errorsOf(await client.call('Fetch', 13, body(1)))).toEqual([KafkaError.UNKNOWN_TOPIC_ID])
    expect(await client.fetch('t', { offset: 1 })).toMatchObject({ errorCode: 0 })
  })

  it('is not kept when its client is gone', async () => {
    const { w, daemon, client } = await started()
    const other = w.client()
    void other.beginFetch('t', { maxWaitMs: 60_000 })
    await w.run(50)
    w.network.loseLinks('client')
    await w.run(50)
    expect(daemon.requests).toBe(0)
    expect(client.isClosed).toBe(true)
  })

  it('is answered at once where too many wait already', async () => {
    const w = new DaemonWorld()
    await w.start({ texts: { 'stream.fetch.parked.max': '1' } })
    const client = w.client()
    await client.create('t')
    void client.beginFetch('t', { maxWaitMs: 60_000 })
    const before = w.world.now
    await client.fetch('t', { maxWaitMs: 60_000 })
    expect(w.world.now - before).toBeLessThan(100)
  })

  it('a replica id without cluster rights is refused', async () => {
    const { client } = await started()
    const { errorCode } = await client.fetch('t', { replicaId: 2 })
    expect(errorCode).toBe(KafkaError.CLUSTER_AUTHORIZATION_FAILED)
  })

  it('fences an old leader epoch, and does not know a newer one', async () => {
    const { w, client } = await started()
    await client.produce('t', batchOf(['a']))
    const after = await w.crashAndRestart()
    const fenced = await after.client.fetch('t', { currentLeaderEpoch: 0 })
    expect(fenced.errorCode).toBe(KafkaError.FENCED_LEADER_EPOCH)
    // P6: the positions that are known come with the error.
    expect(fenced.highWatermark).toBe(1)
    const ahead = await after.client.fetch('t', { currentLeaderEpoch: 9 })
    expect(ahead.errorCode).toBe(KafkaError.UNKNOWN_LEADER_EPOCH)
    expect((await after.client.fetch('t', { currentLeaderEpoch: 1 })).errorCode).toBe(0)
  })

  it('reads from the disk what the cache no longer holds', async () => {
    const { w, client } = await started()
    for (let at = 0; at < 20; at += 1) {
      await client.produce('t', batchOf([`${at}`.repeat(200)]))
    }
    const after = await w.crashAndRestart()
    const { records } = await after.client.fetch('t', { offset: 5 })
    expect(recordsOf(records).map((record) => record.offset)).toEqual(
      Array.from({ length: 15 }, (_, at) => at + 5),
    )
  })

  it('zstd is refused below Fetch 10, and given from there on', async () => {
    const { client } = await started()
    await client.produce('t', batchOf(['a'.repeat(100)], { codec: 'zstd' }))
    const old = await client.fetch('t', { version: 9 })
    expect(old.errorCode).toBe(KafkaError.UNSUPPORTED_COMPRESSION_TYPE)
    expect(recordsOf((await client.fetch('t', { version: 10 })).records)).toHaveLength(1)
  })
})

describe('P4 fetch sessions', () => {
  it('are answered with id 0, so that clients go on with full fetches', async () => {
    const { client } = await started()
    const answer = await client.call('Fetch', 12, { ...fetchBody('t', {}), sessionEpoch: 0 })
    expect(answer).toMatchObject({ errorCode: 0, sessionId: 0 })
  })

  it('an unknown session is an error of the whole answer', async () => {
    const { client } = await started()
    const answer = await client.call('Fetch', 12, {
      ...fetchBody('t', { sessionId: 77 }),
      sessionEpoch: 3,
    })
    expect(answer).toMatchObject({
      errorCode: KafkaError.FETCH_SESSION_ID_NOT_FOUND,
      responses: [],
    })
  })
})

describe('P5 Fetch returns whole batches', () => {
  it('from the middle of a batch: all of it', async () => {
    const { client } = await started()
    await client.produce('t', batchOf(['a', 'b', 'c']))
    const { records } = await client.fetch('t', { offset: 1 })
    expect(recordsOf(records).map((record) => record.offset)).toEqual([0, 1, 2])
  })

  it('at least one, even above max_bytes and partition_max_bytes', async () => {
    const { client } = await started()
    await client.produce('t', batchOf(['x'.repeat(5000)]))
    const { records } = await client.fetch('t', { maxBytes: 10, partitionMaxBytes: 10 })
    expect(recordsOf(records)).toHaveLength(1)
  })

  it('serves partitions in the order of the request, within max_bytes', async () => {
    const { client } = await started()
    for (const partition of [0, 1, 2]) {
      await client.produce('t', batchOf(['x'.repeat(1000)]), { partition })
    }
    const partitions = [2, 0, 1].map((partition) => ({
      partition,
      fetchOffset: 0,
      partitionMaxBytes: 1 << 20,
    }))
    const body = fetchBody('t', { maxBytes: 1100 })
    const answer = await client.call('Fetch', 12, { ...body, topics: [{ topic: 't', partitions }] })
    const found = answer.responses[0]!.partitions
    expect(found.map((p) => [p.partitionIndex, recordsOf(p.records).length])).toEqual([
      [2, 1],
      [0, 0],
      [1, 0],
    ])
  })

  it('OFFSET_OUT_OF_RANGE only below the log start and above the log end; at the end it waits', async () => {
    const { client } = await started()
    await client.produce('t', batchOf(['a', 'b', 'c']))
    await client.call('DeleteRecords', 2, {
      topics: [{ name: 't', partitions: [{ partitionIndex: 0, offset: 2 }] }],
      timeoutMs: 1000,
    })
    const code = async (offset: number) => (await client.fetch('t', { offset })).errorCode
    expect(await code(1)).toBe(KafkaError.OFFSET_OUT_OF_RANGE)
    expect(await code(2)).toBe(0)
    expect(await code(3)).toBe(0)
    expect(await code(4)).toBe(KafkaError.OFFSET_OUT_OF_RANGE)
    expect(await code(-1)).toBe(KafkaError.OFFSET_OUT_OF_RANGE)
  })
})

describe('P6 read_committed', () => {
  /** Writes as another broker's log would have them: transactions are appended as they were. */
  async function withTransactions() {
    const { w, daemon, client } = await started()
    const partition = daemon.broker.table.find('t', 0)!
    const transactional = { producerEpoch: 0, baseSequence: 0, isTransactional: true }
    partition.append(batchOf(['aborted'], { producerId: 1, ...transactional }))
    partition.append(
      buildControlBatch({
        type: 'abort',
        producerId: 1,
        producerEpoch: 0,
        coordinatorEpoch: 0,
        timestampMs: 1,
      }),
    )
    partition.append(batchOf(['open'], { producerId: 2, ...transactional }))
    partition.append(batchOf(['plain']))
    await w.settle(partition.log.flush())
    await w.run(10)
    return { client, w }
  }

  it('gives nothing at or above the last stable offset, and the list of what was aborted', async () => {
    const { client } = await withTransactions()
    const committed = await client.fetch('t', { isolationLevel: 1 })
    expect(committed).toMatchObject({ highWatermark: 4, lastStableOffset: 2 })
    expect(recordsOf(committed.records).map((record) => record.value)).toEqual(['aborted'])
    expect(committed.abortedTransactions).toEqual([{ producerId: 1, firstOffset: 0 }])
    const all = await client.fetch('t')
    expect(recordsOf(all.records).map((r) => r.value)).toEqual(['aborted', 'open', 'plain'])
    expect(all.abortedTransactions).toBeNull()
  })

  it('the end of a read_committed listing is the last stable offset', async () => {
    const { client } = await withTransactions()
    expect((await client.offset('t', -1, { isolationLevel: 1 })).offset).toBe(2)
    expect((await client.offset('t', -1)).offset).toBe(4)
  })
})
