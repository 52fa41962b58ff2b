import { describe, expect, it } from 'vitest'
import { KafkaError } from '../../../src/protocol/errors.ts'
import { batchOf } from '../batches.ts'
import { DaemonWorld, KAFKA } from '../daemon-world.ts'

const question = {
  topic: 't',
  partition: 0,
  currentLeaderEpoch: -1,
  fetchOffset: 0,
  isolationLevel: 1,
  maxBytes: 1 << 20,
}

async function started() {
  const w = new DaemonWorld()
  const daemon = await w.start()
  const client = w.client()
  await client.create('t')
  return { w, daemon, client }
}

describe('LocalSpans', () => {
  it('says where the batches lie, with the positions of the log', async () => {
    const { w, daemon, client } = await started()
    await client.produce('t', batchOf(['a', 'b']))
    await client.produce('t', batchOf(['c']))
    const answer = await client.call('LocalSpans', 0, question)
    expect(answer).toMatchObject({
      errorCode: 0,
      topicId: daemon.broker.image.topic('t')?.topicId,
      highWatermark: 3,
      lastStableOffset: 3,
      logStartOffset: 0,
      denseEndOffset: Number.MAX_SAFE_INTEGER,
      abortedTransactions: [],
    })
    const [span] = answer.spans
    const file = w.disk.open(span?.path ?? '', 'read')
    expect(span).toMatchObject({
      fileId: file.fileId(),
      position: 0,
      sizeBytes: file.sizeBytes(),
      nextOffset: 3,
    })
    expect(answer.leaderEpoch).toBeGreaterThanOrEqual(0)
  })

  it('refuses what a Fetch would refuse, and has no spans then', async () => {
    const { client } = await started()
    await client.produce('t', batchOf(['a']))
    const cases = [
      [{ topic: 'none' }, KafkaError.UNKNOWN_TOPIC_OR_PARTITION],
      [{ partition: 7 }, KafkaError.UNKNOWN_TOPIC_OR_PARTITION],
      [{ currentLeaderEpoch: 99 }, KafkaError.UNKNOWN_LEADER_EPOCH],
      [{ fetchOffset: 2 }, KafkaError.OFFSET_OUT_OF_RANGE],
      [{ fetchOffset: -1 }, KafkaError.OFFSET_OUT_OF_RANGE],
    ] as const
    for (const [change, errorCode] of cases) {
      const answer = await client.call('LocalSpans', 0, { ...question, ...change })
      expect(answer).toMatchObject({ errorCode, spans: [] })
    }
    expect(await client.call('LocalSpans', 0, { ...question, fetchOffset: 1 })).toMatchObject({
      errorCode: 0,
      spans: [],
    })
  })

  it('is refused at the Kafka door', async () => {
    const { w } = await started()
    const kafka = w.client(KAFKA)
    void kafka.begin('LocalSpans', 0, question)
    await w.run(100)
    expect(kafka.answered).toEqual([])
    expect(kafka.isClosed).toBe(true)
  })
})
