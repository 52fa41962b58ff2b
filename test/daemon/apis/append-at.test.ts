import { describe, expect, it } from 'vitest'
import { KafkaError } from '../../../src/protocol/errors.ts'
import { stampProducer } from '../../../src/record/batch-layout.ts'
import { batchOf, recordsOf } from '../batches.ts'
import { DaemonWorld, KAFKA } from '../daemon-world.ts'

async function started() {
  const w = new DaemonWorld()
  await w.start()
  const client = w.client()
  await client.create('t', { partitions: 2 })
  const append = (expectedEndOffset: number, batch: Uint8Array | null, partition = 0) =>
    client.call('AppendAt', 0, {
      topic: 't',
      partition,
      expectedEndOffset,
      timeoutMs: 1000,
      records: batch,
    })
  const stored = async () => recordsOf((await client.fetch('t')).records)
  return { w, client, append, stored }
}

describe('AppendAt', () => {
  it('appends where the log ends at the offset, and nowhere else', async () => {
    const { append, stored } = await started()
    expect(await append(0, batchOf(['a', 'b']))).toMatchObject({
      errorCode: 0,
      baseOffset: 0,
      logEndOffset: 2,
    })
    const refused = await append(0, batchOf(['c']))
    expect(refused).toMatchObject({ errorCode: KafkaError.OFFSET_OUT_OF_RANGE, logEndOffset: 2 })
    expect(refused.errorMessage).toBe('the partition ends at 2, not at 0')
    expect(await append(3, batchOf(['c']))).toMatchObject({
      errorCode: KafkaError.OFFSET_OUT_OF_RANGE,
    })
    expect(await append(2, batchOf(['c']))).toMatchObject({ errorCode: 0, baseOffset: 2 })
    expect((await stored()).map((record) => record.value)).toEqual(['a', 'b', 'c'])
  })

  it('of two that expect the same end one wins', async () => {
    const { append, stored } = await started()
    const answers = await Promise.all([append(0, batchOf(['x'])), append(0, batchOf(['y']))])
    expect(answers.map((answer) => answer.errorCode).sort()).toEqual([0, 1])
    expect(await stored()).toHaveLength(1)
  })

  it('a batch that is sent again after a lost answer is known, though the log has grown', async () => {
    const { client, append, stored } = await started()
    const { producerId, producerEpoch } = await client.call('InitProducerId', 4, {
      transactionalId: null,
      transactionTimeoutMs: 1000,
    })
    const batch = batchOf(['a'])
    stampProducer(batch, 0, { producerId, producerEpoch, baseSequence: 0 })
    expect(await append(0, batch.slice())).toMatchObject({ errorCode: 0, baseOffset: 0 })
    await client.produce('t', batchOf(['b']))
    expect(await append(0, batch.slice())).toMatchObject({ errorCode: 0, baseOffset: 0 })
    expect(await stored()).toHaveLength(2)
  })

  it('refuses what Produce refuses, and is not there at the Kafka door', async () => {
    const { w, append } = await started()
    const damaged = batchOf(['a'])
    damaged[damaged.length - 1] = (damaged.at(-1) ?? 0) ^ 1
    expect((await append(0, damaged)).errorCode).toBe(KafkaError.CORRUPT_MESSAGE)
    expect((await append(0, null)).errorCode).toBe(KafkaError.CORRUPT_MESSAGE)
    expect((await append(0, batchOf(['a']), 9)).errorCode).toBe(
      KafkaError.UNKNOWN_TOPIC_OR_PARTITION,
    )
    const listed = await w.client(KAFKA).call('ApiVersions', 3, {
      clientSoftwareName: 'x',
      clientSoftwareVersion: '1',
    })
    expect(listed.apiKeys.some(({ apiKey }) => apiKey >= 1000)).toBe(false)
  })
})
