import { describe, expect, it } from 'vitest'
import { KafkaError } from '../../../src/protocol/errors.ts'
import {
  ATTRIBUTES_AT,
  attributesAt,
  codecOf,
  isLogAppendTime,
  LAST_OFFSET_DELTA_AT,
  leaderEpochAt,
  putInt16,
  putInt32,
  putInt64,
  readBatchHeader,
  stampCrc,
} from '../../../src/record/batch-layout.ts'
import { type Codec, codecId } from '../../../src/record/compression.ts'
import { batchOf, recordsOf } from '../batches.ts'
import { DaemonWorld, KAFKA } from '../daemon-world.ts'

async function started(config: Readonly<Record<string, string>> = {}) {
  const w = new DaemonWorld()
  const daemon = await w.start()
  const client = w.client()
  await client.create('t', { partitions: 2, config })
  const stored = async () => recordsOf((await client.fetch('t')).records)
  return { w, daemon, client, stored }
}

/** A batch with `change` done to its bytes, the CRC right again. */
function changed(change: (batch: Uint8Array) => void, records: readonly string[] = ['a', 'b']) {
  const batch = batchOf(records)
  change(batch)
  stampCrc(batch, 0)
  return batch
}

describe('Produce', () => {
  it('gives back what was sent, at offsets from 0, stamped with the leader epoch', async () => {
    const { w, client, stored } = await started()
    const answer = await client.produce('t', batchOf(['a', 'b']))
    expect(answer).toMatchObject({ errorCode: 0, baseOffset: 0, logStartOffset: 0 })
    expect((await client.produce('t', batchOf(['c']))).baseOffset).toBe(2)
    expect((await stored()).map((record) => [record.offset, record.value])).toEqual([
      [0, 'a'],
      [1, 'b'],
      [2, 'c'],
    ])
    const { records } = await client.fetch('t')
    expect(leaderEpochAt(records!, 0)).toBe(0)
    expect(w.said.filter((line) => line.startsWith('error'))).toEqual([])
  })

  it.each(['none', 'gzip', 'snappy', 'lz4', 'zstd'] as const)(
    'stores a %s batch byte for byte, offset and epoch apart',
    async (codec) => {
      const { client } = await started()
      const batch = batchOf(['x'.repeat(500), 'y'.repeat(500)], { codec })
      await client.produce('t', batch.slice())
      const { records } = await client.fetch('t')
      expect(records!.subarray(16)).toEqual(batch.subarray(16))
    },
  )

  it('acks=0 is appended and has no answer, on either door', async () => {
    const { w, client, stored } = await started()
    for (const each of [client, w.client(KAFKA)]) {
      void each.beginProduce('t', batchOf(['quiet']), { acks: 0 }).catch(() => undefined)
      await each.call('ApiVersions', 0, {})
      expect(each.answered).not.toContain(each === client ? 1 : 0)
    }
    await w.run(1000)
    expect(await stored()).toHaveLength(2)
  })

  it('acks=0 that fails closes the Kafka connection, and sends a notice on the other door', async () => {
    const { w, client } = await started()
    const other = w.client(KAFKA)
    void other.beginProduce('nowhere', batchOf(['x']), { acks: 0 })
    const failing = client.beginProduce('nowhere', batchOf(['x']), { acks: 0 })
    await expect(w.settle(failing)).rejects.toMatchObject({
      kafkaError: KafkaError.NOT_LEADER_OR_FOLLOWER,
    })
    await w.run(100)
    expect(other.isClosed).toBe(true)
  })

  it('is acknowledged only after the sync (I6, I7)', async () => {
    const { w, daemon, client } = await started()
    const partition = daemon.broker.table.find('t', 0)!
    const answer = client.beginProduce('t', batchOf(['a']))
    let isAnswered = false
    void answer.then(() => {
      isAnswered = true
    })
    await w.world.run({ until: () => partition.log.logEndOffset === 1 || isAnswered })
    expect(isAnswered).toBe(false)
    await w.settle(answer)
    expect(partition.log.durableOffset).toBe(1)
  })

  it('one partition that fails fails alone', async () => {
    const { client, stored } = await started()
    const answer = await client.call('Produce', 9, {
      acks: -1,
      timeoutMs: 1000,
      topicData: [
        {
          name: 't',
          partitionData: [
            { index: 7, records: batchOf(['x']) },
            { index: 0, records: batchOf(['good']) },
            { index: 1, records: null },
          ],
        },
        { name: 'unknown', partitionData: [{ index: 0, records: batchOf(['x']) }] },
      ],
    })
    const codes = answer.responses.map((topic) => topic.partitionResponses.map((p) => p.errorCode))
    expect(codes).toEqual([[3, 0, 2], [3]])
    expect((await stored()).map((record) => record.value)).toEqual(['good'])
  })

  it('acks other than -1, 0, 1 are refused', async () => {
    const { client, stored } = await started()
    const { errorCode } = await client.produce('t', batchOf(['x']), { acks: 2 })
    expect(errorCode).toBe(KafkaError.INVALID_REQUIRED_ACKS)
    expect(await stored()).toEqual([])
  })
})

describe('P13 Produce validation', () => {
  const far = 1_790_000_000_000 + 10 * 3_600_000
  const oldMagic = changed((batch) => {
    batch[16] = 1
  })
  const rows: readonly [string, () => Uint8Array, number][] = [
    ['too short for a header', () => new Uint8Array(40).fill(9), KafkaError.CORRUPT_MESSAGE],
    ['cut off', () => batchOf(['a']).subarray(0, -1), KafkaError.CORRUPT_MESSAGE],
    [
      'two batches',
      () => Buffer.concat([batchOf(['a']), batchOf(['b'])]),
      KafkaError.INVALID_RECORD,
    ],
    ['magic 1', () => oldMagic, KafkaError.UNSUPPORTED_FOR_MESSAGE_FORMAT],
    [
      'magic 3',
      () =>
        changed((batch) => {
          batch[16] = 3
        }),
      KafkaError.CORRUPT_MESSAGE,
    ],
    [
      'a flipped bit',
      () => {
        const batch = batchOf(['abcdef'])
        const last = batch.length - 2
        batch[last] = (batch[last] ?? 0) ^ 1
        return batch
      },
      KafkaError.CORRUPT_MESSAGE,
    ],
    ['codec 7', () => changed((b) => putInt16(b, ATTRIBUTES_AT, 7)), KafkaError.INVALID_RECORD],
    [
      'unknown bits',
      () => changed((b) => putInt16(b, ATTRIBUTES_AT, 256)),
      KafkaError.INVALID_RECORD,
    ],
    [
      'a control batch',
      () => changed((b) => putInt16(b, ATTRIBUTES_AT, 32)),
      KafkaError.INVALID_RECORD,
    ],
    [
      'a delete horizon',
      () => changed((b) => putInt16(b, ATTRIBUTES_AT, 64)),
      KafkaError.INVALID_RECORD,
    ],
    [
      'LogAppendTime',
      () => changed((b) => putInt16(b, ATTRIBUTES_AT, 8)),
      KafkaError.INVALID_TIMESTAMP,
    ],
    [
      'a count that does not fit the offsets',
      () => changed((b) => putInt32(b, LAST_OFFSET_DELTA_AT, 5)),
      KafkaError.INVALID_RECORD,
    ],
    [
      'no record',
      () =>
        changed((b) => {
          putInt32(b, LAST_OFFSET_DELTA_AT, -1)
          putInt32(b, 57, 0)
        }),
      KafkaError.INVALID_RECORD,
    ],
    [
      'a producer id without sequence',
      () => changed((b) => putInt64(b, 43, 5)),
      KafkaError.INVALID_RECORD,
    ],
    [
      'a timestamp far ahead',
      () => batchOf([{ value: 'x', timestampMs: far }]),
      KafkaError.INVALID_TIMESTAMP,
    ],
    [
      'larger than max.message.bytes',
      () => batchOf(['x'.repeat(3000)]),
      KafkaError.MESSAGE_TOO_LARGE,
    ],
  ]

  it.each(rows)('refuses %s, and appends nothing', async (_title, make, code) => {
    const { client, stored } = await started({ 'max.message.bytes': '2000' })
    const answer = await client.produce('t', make().slice())
    expect(answer).toMatchObject({ errorCode: code, baseOffset: -1 })
    expect(answer.errorMessage).toBeTruthy()
    expect(await stored()).toEqual([])
  })

  it('does not look at the base offset and leader epoch of the client', async () => {
    const { client } = await started()
    const batch = batchOf(['a'])
    putInt64(batch, 0, 77)
    putInt32(batch, 12, -1)
    expect(await client.produce('t', batch)).toMatchObject({ errorCode: 0, baseOffset: 0 })
  })

  it('refuses zstd below Produce 7', async () => {
    const { client } = await started()
    const answer = await client.produce('t', batchOf(['a'], { codec: 'zstd' }), { version: 6 })
    expect(answer.errorCode).toBe(KafkaError.UNSUPPORTED_COMPRESSION_TYPE)
  })

  it('names the records whose time is outside of what the topic allows', async () => {
    const { client, stored } = await started()
    const values = ['a', { value: 'b', timestampMs: far }, 'c', { value: 'd', timestampMs: far }]
    for (const codec of ['none', 'gzip'] as const) {
      const answer = await client.produce('t', batchOf(values, { codec }))
      expect(answer.errorCode).toBe(KafkaError.INVALID_TIMESTAMP)
      expect(answer.recordErrors.map((each) => each.batchIndex)).toEqual([1, 3])
    }
    expect(await stored()).toEqual([])
  })

  it('a compacted topic needs keys, and names the records without', async () => {
    const { client, stored } = await started({ 'cleanup.policy': 'compact' })
    const batch = batchOf(
      [{ key: 'k', value: '1' }, { value: '2' }, { key: 'k', value: null }, 'x'],
      {
        codec: 'gzip',
      },
    )
    const answer = await client.produce('t', batch)
    expect(answer.errorCode).toBe(KafkaError.INVALID_RECORD)
    expect(answer.recordErrors.map((each) => each.batchIndex)).toEqual([1, 3])
    const good = await client.produce('t', batchOf([{ key: 'k', value: null }]))
    expect(good.errorCode).toBe(0)
    expect(await stored()).toHaveLength(1)
  })
})

describe('P14 idempotence', () => {
  const sequenced = (baseSequence: number, options: { epoch?: number; count?: number } = {}) =>
    batchOf(
      Array.from({ length: options.count ?? 1 }, (_, at) => `s${baseSequence + at}`),
      { producerId: 9, producerEpoch: options.epoch ?? 0, baseSequence },
    )

  it('a duplicate of any of the last 5 batches gets its first offset, and is not stored again', async () => {
    const { client, stored } = await started()
    const bases: number[] = []
    for (let sequence = 0; sequence < 5; sequence += 1) {
      bases.push((await client.produce('t', sequenced(sequence))).baseOffset)
    }
    for (let sequence = 0; sequence < 5; sequence += 1) {
      const again = await client.produce('t', sequenced(sequence))
      expect(again).toMatchObject({ errorCode: 0, baseOffset: bases[sequence] })
    }
    expect(await stored()).toHaveLength(5)
  })

  it('a duplicate sent while the first is being synced is answered when that is durable', async () => {
    const { w, daemon, client, stored } = await started()
    const first = client.beginProduce('t', sequenced(0))
    const second = client.beginProduce('t', sequenced(0))
    const answers = await w.settle(Promise.all([first, second]))
    for (const { responses } of answers) {
      expect(responses[0]?.partitionResponses[0]).toMatchObject({ errorCode: 0, baseOffset: 0 })
    }
    expect(daemon.broker.table.find('t', 0)?.log.durableOffset).toBe(1)
    expect(await stored()).toHaveLength(1)
  })

  it('a gap is refused', async () => {
    const { client, stored } = await started()
    await client.produce('t', sequenced(0))
    const { errorCode } = await client.produce('t', sequenced(2))
    expect(errorCode).toBe(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER)
    expect(await stored()).toHaveLength(1)
  })

  it('the first batch of an unknown producer may have any sequence', async () => {
    const { client } = await started()
    expect((await client.produce('t', sequenced(1234))).errorCode).toBe(0)
    expect((await client.produce('t', sequenced(1235))).errorCode).toBe(0)
  })

  it('a higher epoch begins at 0, a lower one is refused', async () => {
    const { client } = await started()
    await client.produce('t', sequenced(0, { epoch: 3 }))
    const codes: number[] = []
    for (const batch of [
      sequenced(1, { epoch: 4 }),
      sequenced(0, { epoch: 4 }),
      sequenced(1, { epoch: 3 }),
    ]) {
      codes.push((await client.produce('t', batch)).errorCode)
    }
    expect(codes).toEqual([
      KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
      0,
      KafkaError.INVALID_PRODUCER_EPOCH,
    ])
  })

  it('the sequence wraps from 2^31-1 to 0', async () => {
    const { client } = await started()
    await client.produce('t', sequenced(2 ** 31 - 2, { count: 2 }))
    expect((await client.produce('t', sequenced(0))).errorCode).toBe(0)
  })

  it('is remembered over a crash', async () => {
    const { w, client } = await started()
    await client.produce('t', sequenced(0))
    await client.produce('t', sequenced(1))
    const after = await w.crashAndRestart()
    const again = await after.client.produce('t', sequenced(1))
    expect(again).toMatchObject({ errorCode: 0, baseOffset: 1 })
    expect((await after.client.produce('t', sequenced(2))).baseOffset).toBe(2)
  })
})

describe('what a topic stores otherwise than it was sent', () => {
  it('LogAppendTime: every record has the time of the append, and the CRC is right', async () => {
    const { w, client, stored } = await started({ 'message.timestamp.type': 'LogAppendTime' })
    const answer = await client.produce('t', batchOf(['a', { value: 'b', timestampMs: 5 }]))
    expect(answer.errorCode).toBe(0)
    expect(answer.logAppendTimeMs).toBeGreaterThan(w.time.wallMs() - 10_000)
    for (const record of await stored()) expect(record.timestampMs).toBe(answer.logAppendTimeMs)
    const { records } = await client.fetch('t')
    const { crc } = readBatchHeader(records!)
    const copy = records!.slice()
    stampCrc(copy, 0)
    expect(readBatchHeader(copy).crc).toBe(crc)
    expect(isLogAppendTime(attributesAt(records!, 0))).toBe(true)
  })

  const stored: readonly [string, Codec][] = [
    ['uncompressed', 'none'],
    ['gzip', 'gzip'],
    ['snappy', 'snappy'],
    ['lz4', 'lz4'],
    ['zstd', 'zstd'],
  ]
  it.each(stored)('compression.type %s: whatever was sent', async (type, codec) => {
    const { client } = await started({ 'compression.type': type })
    for (const sent of ['none', 'gzip', 'lz4', 'snappy', 'zstd'] as const) {
      const answer = await client.produce('t', batchOf([`by ${sent}`.repeat(20)], { codec: sent }))
      expect(answer.errorCode).toBe(0)
    }
    const { records } = await client.fetch('t')
    expect(recordsOf(records)).toHaveLength(5)
    let count = 0
    for (let at = 0; at < records!.length; at += readBatchHeader(records!, at).batchBytes) {
      expect(codecOf(attributesAt(records!, at))).toBe(codecId(codec))
      count += 1
    }
    expect(count).toBe(5)
  })
})
