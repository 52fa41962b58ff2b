import { describe, expect, it } from 'vitest'
import { KafkaError } from '../../../src/protocol/errors.ts'
import { batchOf } from '../batches.ts'
import { DaemonWorld } from '../daemon-world.ts'

const T = 1_790_000_000_000

async function started() {
  const w = new DaemonWorld()
  await w.start()
  const client = w.client()
  await client.create('t')
  const at = (...times: number[]) => times.map((ms) => ({ value: `at ${ms}`, timestampMs: T + ms }))
  await client.produce('t', batchOf(at(10, 20, 30)))
  await client.produce('t', batchOf(at(25, 90, 40), { codec: 'lz4' }))
  await client.produce('t', batchOf(at(50), { codec: 'zstd' }))
  return { w, client }
}

describe('P7 ListOffsets', () => {
  it.each([
    ['before all', 0, 0, 10],
    ['exactly a record', 20, 1, 20],
    ['between two of one batch', 21, 2, 30],
    ['inside a compressed batch', 31, 4, 90],
    ['the largest', 90, 4, 90],
  ])(
    'by timestamp, %s: the first record at or after it, with its own time',
    async (_t, ask, offset, ms) => {
      const { client } = await started()
      expect(await client.offset('t', T + ask)).toMatchObject({
        errorCode: 0,
        offset,
        timestamp: T + ms,
        leaderEpoch: 0,
      })
    },
  )

  it('by timestamp, after all: none', async () => {
    const { client } = await started()
    expect(await client.offset('t', T + 91)).toMatchObject({ offset: -1, timestamp: -1 })
  })

  it('latest and earliest', async () => {
    const { client } = await started()
    expect(await client.offset('t', -1)).toMatchObject({ offset: 7, timestamp: -1 })
    expect(await client.offset('t', -2)).toMatchObject({ offset: 0, timestamp: -1 })
  })

  it('-3 is the record with the largest timestamp, from v7 on', async () => {
    const { client } = await started()
    expect(await client.offset('t', -3)).toMatchObject({ offset: 4, timestamp: T + 90 })
    const old = await client.offset('t', -3, { version: 6 })
    expect(old.errorCode).toBe(KafkaError.UNSUPPORTED_VERSION)
  })

  it('other special values are refused for that partition', async () => {
    const { client } = await started()
    for (const timestamp of [-4, -5, -6, -100]) {
      const { errorCode } = await client.offset('t', timestamp)
      expect(errorCode).toBe(KafkaError.UNSUPPORTED_VERSION)
    }
  })

  it('unknown partitions and topics are errors of their own', async () => {
    const { client } = await started()
    expect((await client.offset('t', -1, { partition: 5 })).errorCode).toBe(3)
    expect((await client.offset('none', -1)).errorCode).toBe(3)
  })

  it('an empty log has neither', async () => {
    const { client } = await started()
    await client.create('empty')
    expect(await client.offset('empty', -3)).toMatchObject({ errorCode: 0, offset: -1 })
    expect(await client.offset('empty', T)).toMatchObject({ errorCode: 0, offset: -1 })
    expect(await client.offset('empty', -1)).toMatchObject({ errorCode: 0, offset: 0 })
  })

  it('v1 answers like v7', async () => {
    const { client } = await started()
    expect(await client.offset('t', T + 21, { version: 1 })).toMatchObject({ offset: 2 })
  })
})
