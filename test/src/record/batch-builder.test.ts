import { createRequire } from 'node:module'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { BatchBuilder } from '../../../src/record/batch-builder.ts'
import { findBatchDefect, HEADER_BYTES, readBatchHeader } from '../../../src/record/batch-layout.ts'
import { codecs } from '../../../src/record/compression.ts'
import { RecordCursor } from '../../../src/record/record-cursor.ts'
import {
  anyRecords,
  buildBatch,
  currentRecord,
  hex,
  readBatch,
  toHex,
  toInput,
} from './record-support.ts'

/** Three records with null key, null value, empty ones, headers, and a timestamp before the first. */
const records = [
  { key: null, value: 'hello', headers: [], timestampMs: 1700000000000 },
  { key: 'k', value: null, headers: [], timestampMs: 1699999998500 },
  {
    key: '',
    value: '',
    headers: [
      ['a', '1'],
      ['bb', ''],
    ] as [string, string][],
    timestampMs: 1700000300000,
  },
]
/** These records by kafkajs 2.2.4, with producer 7, epoch 1, sequence 42, transactional. */
const kafkajsPlain =
  '000000000000000000000057ffffffff0211101f690010000000020000018bcfe568000000018bcfe9fbe0000000000000000700010000002a0000000316000000010a68656c6c6f001000b71702026b01002000c0cf24040000040261023104626200'
/** By kafkajs and @platformatic/kafka 2.12.1 (sequence 0), compressed. */
const foreignPacked = {
  gzip: '00000000000000000000006bffffffff02ec199fbb0011000000020000018bcfe568000000018bcfe9fbe0000000000000000700010000002a000000031f8b08000000000000031363606060e4ca48cdc9c9671060d82ecec494cdc8a0c070e0bc0a0b03030b532293214b521203003148e12726000000',
  snappy:
    '000000000000000000000059ffffffff02aaab69a80012000000020000018bcfe568000000018bcfe9fbe0000000000000000700010000000000000003269416000000010a68656c6c6f001000b71702026b01002000c0cf24040000040261023104626200',
  lz4: '000000000000000000000066ffffffff02c7a70beb0013000000020000018bcfe568000000018bcfe9fbe000000000000000070001000000000000000304224d186040822600008016000000010a68656c6c6f001000b71702026b01002000c0cf2404000004026102310462620000000000',
  zstd: '000000000000000000000060ffffffff02aa0bcd460014000000020000018bcfe568000000018bcfe9fbe000000000000000070001000000000000000328b52ffd202631010016000000010a68656c6c6f001000b71702026b01002000c0cf24040000040261023104626200',
} as const
/** By Kafka's Java client 4.2.0, not transactional. */
const javaBatches = {
  none: '000000000000000000000057ffffffff02953ea7f20000000000020000018bcfe568000000018bcfe9fbe0000000000000000700010000002a0000000316000000010a68656c6c6f001000b71702026b01002000c0cf24040000040261023104626200',
  gzip: '00000000000000000000006bffffffff02696ec71a0001000000020000018bcfe568000000018bcfe9fbe0000000000000000700010000002a000000031f8b08000000000000ff1363606060e4ca48cdc9c9671060d82ecec494cdc8a0c070e0bc0a0b03030b532293214b521203003148e12726000000',
  snappy:
    '00000000000000000000006dffffffff022b3f18db0002000000020000018bcfe568000000018bcfe9fbe0000000000000000700010000002a0000000382534e4150505900000000010000000100000028269416000000010a68656c6c6f001000b71702026b01002000c0cf24040000040261023104626200',
  lz4: '000000000000000000000066ffffffff02c521c0620003000000020000018bcfe568000000018bcfe9fbe0000000000000000700010000002a0000000304224d186040822600008016000000010a68656c6c6f001000b71702026b01002000c0cf2404000004026102310462620000000000',
  zstd: '000000000000000000000063ffffffff0270d3bdbe0004000000020000018bcfe568000000018bcfe9fbe0000000000000000700010000002a0000000328b52ffd005830010016000000010a68656c6c6f001000b71702026b01002000c0cf24040000040261023104626200010000',
} as const
const producer = { producerId: 7, producerEpoch: 1, baseSequence: 42, isTransactional: true }

describe('golden bytes', () => {
  test('builds byte for byte what kafkajs builds', () => {
    expect(toHex(buildBatch(records, producer))).toBe(kafkajsPlain)
  })

  test('@platformatic/kafka builds the same from the same records', async () => {
    const foreign = (await import('@platformatic/kafka')) as unknown as {
      createRecordsBatch: (messages: unknown[], options: unknown) => { buffer: Buffer }
    }
    const messages = records.map((record) => ({
      topic: 't',
      key: record.key === null ? null : Buffer.from(record.key),
      value: record.value === null ? null : Buffer.from(record.value),
      headers: new Map(
        record.headers.map(([key, value]) => [Buffer.from(key), Buffer.from(value)]),
      ),
      timestamp: BigInt(record.timestampMs),
    }))
    const options = {
      transactionalId: 'x',
      producerId: 7n,
      producerEpoch: 1,
      partitionLeaderEpoch: -1,
    }
    const batch = foreign.createRecordsBatch(messages, options)
    expect(toHex(batch.buffer)).toBe(toHex(buildBatch(records, { ...producer, baseSequence: 0 })))
  })

  test.each(Object.entries(foreignPacked))('reads what others wrote with %s', (codec, text) => {
    const batch = hex(text)
    expect(findBatchDefect(batch)).toBeUndefined()
    expect(readBatch(batch)).toEqual(records.map((record, offset) => ({ ...record, offset })))
    expect(codecs[readBatchHeader(batch).attributes & 7]).toBe(codec)
  })

  test.each(Object.entries(javaBatches))('reads what Java wrote with %s', (codec, text) => {
    const batch = hex(text)
    expect(findBatchDefect(batch)).toBeUndefined()
    expect(readBatch(batch)).toEqual(records.map((record, offset) => ({ ...record, offset })))
    expect(codecs[readBatchHeader(batch).attributes & 7]).toBe(codec)
    if (codec === 'none' || codec === 'snappy') {
      const built = buildBatch(records, { ...producer, isTransactional: false, codec })
      expect(toHex(built)).toBe(text)
    }
  })

  test('kafkajs reads what is built here', async () => {
    const require = createRequire(import.meta.url)
    const decode = require('kafkajs/src/protocol/recordBatch/v0/decoder.js') as (
      decoder: unknown,
    ) => Promise<{ records: { value: Buffer | null; key: Buffer | null; timestamp: string }[] }>
    const Decoder = require('kafkajs/src/protocol/decoder.js') as new (
      bytes: Buffer,
    ) => {
      readInt64(): unknown
      readInt32(): number
      readInt8(): number
    }
    for (const codec of ['none', 'gzip'] as const) {
      const decoder = new Decoder(Buffer.from(buildBatch(records, { ...producer, codec })))
      // kafkajs reads offset, length, epoch and magic before it hands over to this decoder.
      const fetched = await decode(decoder)
      expect(
        fetched.records.map((one) => [
          one.key === null ? null : one.key.toString(),
          one.value === null ? null : one.value.toString(),
          Number(one.timestamp),
        ]),
      ).toEqual(records.map((one) => [one.key, one.value, one.timestampMs]))
    }
  })
})

describe('append', () => {
  test.each(codecs)('%s: reading gives back the records appended', (codec) => {
    fc.assert(
      fc.property(anyRecords, (input) => {
        const batch = buildBatch(input, { codec })
        expect(findBatchDefect(batch)).toBeUndefined()
        expect(readBatch(batch)).toEqual(input.map((record, offset) => ({ ...record, offset })))
        const header = readBatchHeader(batch)
        expect(header.baseTimestamp).toBe(input[0]?.timestampMs)
        expect(header.maxTimestamp).toBe(Math.max(...input.map((one) => one.timestampMs)))
      }),
      { numRuns: codec === 'none' ? 150 : 50 },
    )
  })

  test('stops at the capacity, and the record goes whole into the next batch', () => {
    fc.assert(
      fc.property(anyRecords, fc.integer({ min: 100, max: 600 }), (input, capacityBytes) => {
        const builder = new BatchBuilder(capacityBytes)
        const read: unknown[] = []
        builder.reset({ timestampMs: 0 })
        for (const record of input) {
          if (!builder.append(toInput(record))) {
            expect(builder.isFull).toBe(true)
            expect(builder.sizeBytes).toBeLessThanOrEqual(
              builder.recordCount === 1 ? Number.MAX_SAFE_INTEGER : capacityBytes,
            )
            read.push(...readBatch(builder.finish()))
            builder.reset({ timestampMs: 0 })
            expect(builder.append(toInput(record))).toBe(true)
          }
        }
        read.push(...readBatch(builder.finish()))
        expect(read.map((one) => ({ ...(one as object), offset: 0 }))).toEqual(
          input.map((record) => ({ ...record, offset: 0 })),
        )
      }),
    )
  })

  test('a record larger than the capacity has a batch of its own, up to bytesMax', () => {
    const builder = new BatchBuilder(200, { bytesMax: 1000 })
    const large = (bytes: number) => ({
      key: null,
      value: 'x'.repeat(bytes),
      headers: [],
      timestampMs: 5,
    })
    builder.reset({ timestampMs: 5 })
    expect(builder.append(toInput(large(900)))).toBe(true)
    expect(readBatch(builder.finish())).toHaveLength(1)
    expect(builder.append(toInput(large(1)))).toBe(false)
    builder.reset({ timestampMs: 5 })
    expect(() => builder.append(toInput(large(1000)))).toThrow(
      expect.objectContaining({ code: 'RECORD_TOO_LARGE' }),
    )
    expect(builder.isEmpty).toBe(true)
    expect(builder.append(toInput(large(1)))).toBe(true)
    expect(readBatch(builder.finish())).toHaveLength(1)
  })

  test('a timestamp that is no integer in range is RECORD_INVALID', () => {
    const builder = new BatchBuilder(1000)
    builder.reset({ timestampMs: 0 })
    for (const timestampMs of [Number.NaN, 0.5, 2 ** 53, -(2 ** 52), Infinity]) {
      expect(() => builder.append({ timestampMs })).toThrow(
        expect.objectContaining({ code: 'RECORD_INVALID' }),
      )
    }
    expect(builder.isEmpty).toBe(true)
  })

  test('finish may be called again with a new producer epoch', () => {
    const builder = new BatchBuilder(1000)
    builder.reset({ timestampMs: 5 })
    builder.append({})
    builder.finish({ producerId: 1, producerEpoch: 0, baseSequence: 5 })
    const again = builder.finish({ producerId: 1, producerEpoch: 1, baseSequence: 0 })
    expect(findBatchDefect(again)).toBeUndefined()
    expect(readBatchHeader(again)).toMatchObject({ producerEpoch: 1, baseSequence: 0 })
  })

  test('compressed output does not change when the builder is used again', () => {
    const builder = new BatchBuilder(1000)
    builder.reset({ timestampMs: 5 })
    builder.append({ value: toInput(records[0] as (typeof records)[0]).value ?? null })
    const batch = builder.finish({ codec: 'zstd' })
    const before = toHex(batch)
    builder.reset({ timestampMs: 99 })
    builder.append({})
    builder.finish()
    expect(toHex(batch)).toBe(before)
  })
})

describe('appendCopy', () => {
  test('keeps offsets, timestamps, keys, values and headers of the records kept', () => {
    fc.assert(
      fc.property(
        anyRecords,
        fc.array(fc.boolean(), { minLength: 12, maxLength: 12 }),
        fc.option(fc.integer({ min: 0, max: 2 ** 41 }), { nil: undefined }),
        (input, kept, deleteHorizonMs) => {
          const source = buildBatch(input, { producerId: 3, producerEpoch: 1, baseSequence: 8 })
          const header = readBatchHeader(source)
          const cursor = new RecordCursor()
          cursor.reset(source)
          const builder = new BatchBuilder(4 * 1024 * 1024)
          builder.reset({
            timestampMs: 0,
            baseOffset: header.baseOffset,
            ...(deleteHorizonMs === undefined ? {} : { deleteHorizonMs }),
          })
          const expected: unknown[] = []
          while (cursor.next()) {
            if (kept[cursor.offset] !== true) continue
            expect(builder.appendCopy(cursor)).toBe(true)
            expected.push(currentRecord(cursor))
          }
          const batch = builder.finish({
            producerId: 3,
            producerEpoch: 1,
            baseSequence: 8,
            replaces: {
              leaderEpoch: 4,
              lastOffsetDelta: header.lastOffsetDelta,
              isLogAppendTime: false,
              maxTimestamp: header.maxTimestamp,
            },
          })
          expect(findBatchDefect(batch)).toBeUndefined()
          expect(readBatch(batch)).toEqual(expected)
          const rewritten = readBatchHeader(batch)
          expect(rewritten.lastOffset).toBe(header.lastOffset)
          expect(rewritten.baseSequence).toBe(8)
          expect(rewritten.partitionLeaderEpoch).toBe(4)
          if (deleteHorizonMs !== undefined) {
            expect(rewritten.baseTimestamp).toBe(deleteHorizonMs)
            expect(rewritten.attributes & 64).toBe(64)
          }
          if (expected.length === 0) {
            expect(batch).toHaveLength(HEADER_BYTES)
            expect(rewritten.maxTimestamp).toBe(header.maxTimestamp)
          }
        },
      ),
    )
  })
})
