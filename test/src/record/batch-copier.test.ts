import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { BatchBuilder, encodeHeader } from '../../../src/record/batch-builder.ts'
import { BatchCopier, type CopierOptions } from '../../../src/record/batch-copier.ts'
import {
  attributesAt,
  baseOffsetAt,
  codecOf,
  findBatchDefect,
  HEADER_BYTES,
  lastOffsetAt,
  lastOffsetDeltaAt,
  leaderEpochAt,
  recordCountAt,
  stampBatch,
  stampLogAppendTime,
  stampProducer,
  stampTransactional,
} from '../../../src/record/batch-layout.ts'
import { type Codec, codecs } from '../../../src/record/compression.ts'
import { RecordCursor } from '../../../src/record/record-cursor.ts'
import {
  anyRecords,
  buildBatch,
  type PlainRecord,
  type ReadRecord,
  readBatch,
} from './record-support.ts'

const BATCH_BYTES_MAX = 1_048_588
const TAG = encodeHeader(Buffer.from('stream.origin'), Buffer.from('A'))

/** Batches as a partition has them: one behind the other, each at its offset. */
function logOf(batches: readonly Uint8Array[], baseOffset = 100) {
  const bytes = new Uint8Array(batches.reduce((sum, batch) => sum + batch.length, 0))
  const starts: number[] = []
  let at = 0
  let offset = baseOffset
  for (const batch of batches) {
    bytes.set(batch, at)
    stampBatch(bytes, at, { baseOffset: offset, leaderEpoch: 7 })
    starts.push(at)
    offset = lastOffsetAt(bytes, at) + 1
    at += batch.length
  }
  return { bytes, batches: starts, fromOffset: baseOffset, untilOffset: offset }
}

/** As the cleaner leaves a batch: some records are gone, the others keep their offsets. */
function compacted(batch: Uint8Array, keeps: (index: number) => boolean, codec: Codec): Uint8Array {
  const cursor = new RecordCursor()
  cursor.reset(batch)
  const builder = new BatchBuilder(4 * 1024 * 1024)
  builder.reset({ timestampMs: 0, baseOffset: 0, deleteHorizonMs: 1_700_000_000_000 })
  for (let index = 0; cursor.next(); index++) if (keeps(index)) builder.appendCopy(cursor)
  const replaces = {
    leaderEpoch: 7,
    lastOffsetDelta: lastOffsetDeltaAt(batch, 0),
    isLogAppendTime: false,
    maxTimestamp: 5,
  }
  return Uint8Array.from(builder.finish({ codec, replaces }))
}

function copyAll(
  range: ReturnType<typeof logOf>,
  options: Partial<CopierOptions> = {},
): Uint8Array[] {
  const copier = new BatchCopier({ batchBytesMax: BATCH_BYTES_MAX, ...options })
  return [...copier.copies(range)]
}

const plain = ({ key, value, headers, timestampMs }: ReadRecord): PlainRecord => ({
  key,
  value,
  headers,
  timestampMs,
})

/** What a broker asks of a batch that a producer sends. */
function checkSendable(batch: Uint8Array): void {
  expect(baseOffsetAt(batch, 0)).toBe(0)
  expect(leaderEpochAt(batch, 0)).toBe(-1)
  expect(recordCountAt(batch, 0)).toBe(lastOffsetDeltaAt(batch, 0) + 1)
  expect(recordCountAt(batch, 0)).toBeGreaterThan(0)
  expect(attributesAt(batch, 0) & 0b1110_1000).toBe(0)
  stampTransactional(batch, 0, true)
  stampProducer(batch, 0, { producerId: 9, producerEpoch: 3, baseSequence: 12 })
  expect(findBatchDefect(batch)).toBeUndefined()
}

const anyCodec = fc.constantFrom<Codec>(...codecs)
/** How a source may have come by a batch. */
const anyKind = fc.constantFrom('plain', 'compacted', 'log-append-time', 'transactional')
const anyBatch = fc.record({
  records: fc
    .array(anyRecords, { minLength: 1, maxLength: 3 })
    .map((lists) => lists.flat())
    .filter((records) => records.length > 0),
  codec: anyCodec,
  kind: anyKind,
  seed: fc.nat(),
})

function sourceBatch({
  records,
  codec,
  kind,
  seed,
}: {
  readonly records: readonly PlainRecord[]
  readonly codec: Codec
  readonly kind: string
  readonly seed: number
}): Uint8Array {
  const batch = buildBatch(records, { codec })
  if (kind === 'compacted') {
    return compacted(buildBatch(records), (index) => ((seed >> (index % 24)) & 1) === 1, codec)
  }
  if (kind === 'log-append-time') stampLogAppendTime(batch, 0, 1_700_000_000_000 + (seed % 1000))
  if (kind === 'transactional') {
    stampTransactional(batch, 0, true)
    stampProducer(batch, 0, { producerId: 4, producerEpoch: 1, baseSequence: 77 })
  }
  return batch
}

describe('batch copies', () => {
  test('any log, cut anywhere: the same records in order, sendable, each in a batch of its codec', () => {
    fc.assert(
      fc.property(
        fc.array(anyBatch, { minLength: 1, maxLength: 5 }),
        fc.nat(30),
        fc.nat(30),
        (made, skip, leave) => {
          const log = logOf(made.map(sourceBatch))
          const range = {
            ...log,
            fromOffset: log.fromOffset + skip,
            untilOffset: log.untilOffset - leave,
          }
          const wanted = range.batches.flatMap((at) =>
            readBatch(log.bytes, at)
              .filter(({ offset }) => offset >= range.fromOffset && offset < range.untilOffset)
              .map((record) => ({ ...plain(record), codec: codecOf(attributesAt(log.bytes, at)) })),
          )
          const copies = copyAll(range)
          for (const copy of copies) checkSendable(copy)
          const got = copies.flatMap((copy) =>
            readBatch(copy).map((record) => ({
              ...plain(record),
              codec: codecOf(attributesAt(copy, 0)),
            })),
          )
          expect(got).toEqual(wanted)
        },
      ),
      { numRuns: 300 },
    )
  })

  test('a filter and a header: what is wanted, each with its header behind its own', () => {
    fc.assert(
      fc.property(fc.array(anyBatch, { minLength: 1, maxLength: 4 }), fc.nat(2), (made, rest) => {
        const log = logOf(made.map(sourceBatch))
        const wanted = log.batches
          .flatMap((at) => readBatch(log.bytes, at))
          .filter(({ offset }) => offset % 3 !== rest)
          .map((record) => ({
            ...plain(record),
            headers: [...record.headers, ['stream.origin', 'A']],
          }))
        const copies = copyAll(log, { wants: ({ offset }) => offset % 3 !== rest, tag: () => TAG })
        for (const copy of copies) checkSendable(copy)
        expect(copies.flatMap((copy) => readBatch(copy)).map(plain)).toEqual(wanted)
      }),
      { numRuns: 200 },
    )
  })

  test.each(codecs)('%s: what need not change goes on in its own bytes', (codec) => {
    const digits = (index: number) =>
      [...Array(400).keys()].map((at) => Math.sin(index * 1000 + at)).join('')
    const records = [...Array(40).keys()].map((index) => ({
      key: `${index}`,
      value: digits(index),
      headers: [],
      timestampMs: 1_700_000_000_000 + index,
    }))
    const log = logOf([
      buildBatch(records.slice(0, 20), { codec }),
      buildBatch(records.slice(20), { codec }),
    ])
    const before = Buffer.from(log.bytes)
    const copies = copyAll(log)
    expect(copies.length).toBe(2)
    for (const [index, copy] of copies.entries()) {
      const at = log.batches[index] as number
      expect(copy.buffer === log.bytes.buffer).toBe(true)
      expect(
        Buffer.compare(
          copy.subarray(HEADER_BYTES),
          before.subarray(at + HEADER_BYTES, at + copy.length),
        ),
      ).toBe(0)
    }
    expect(copies.flatMap((copy) => readBatch(copy)).map(plain)).toEqual(records)
  })

  test('many small batches become few, and a small one that packs well is not unpacked', () => {
    const record = (index: number) => ({
      key: null,
      value: `value ${index}`,
      headers: [],
      timestampMs: 1000 + index,
    })
    const small = logOf(
      [...Array(500).keys()].map((index) => buildBatch([record(index)], { codec: 'lz4' })),
    )
    const copies = copyAll(small)
    expect(copies.length).toBe(1)
    expect(copies.flatMap((copy) => readBatch(copy)).map(({ value }) => value)).toEqual(
      [...Array(500).keys()].map((index) => `value ${index}`),
    )
    const packed = [...Array(2).keys()].map(() =>
      buildBatch(
        [...Array(5000).keys()].map(() => record(1)),
        { codec: 'zstd' },
      ),
    )
    expect(copyAll(logOf(packed)).length).toBe(2)
  })

  test('a batch larger than the target takes is divided; a single record that is too large is refused', () => {
    const record = (bytes: number) => ({
      key: null,
      value: 'v'.repeat(bytes),
      headers: [],
      timestampMs: 1,
    })
    const large = logOf([buildBatch([record(900), record(900), record(900)])])
    const copies = copyAll(large, { batchBytesMax: 2000 })
    expect(copies.map((copy) => copy.length <= 2000)).toEqual([true, true])
    expect(() => copyAll(logOf([buildBatch([record(5000)])]), { batchBytesMax: 2000 })).toThrow(
      expect.objectContaining({ code: 'RECORD_TOO_LARGE' }),
    )
  })

  test('nothing is carried over from a range that was given up', () => {
    const record = { key: null, value: 'a', headers: [], timestampMs: 1 }
    const copier = new BatchCopier({ batchBytesMax: BATCH_BYTES_MAX, wants: () => true })
    const log = logOf([buildBatch([record]), buildBatch([record], { codec: 'lz4' })])
    copier.copies(log).next()
    copier.reset()
    const other = logOf([buildBatch([{ ...record, value: 'b' }])])
    expect(
      [...copier.copies(other)].flatMap((copy) => readBatch(copy)).map(({ value }) => value),
    ).toEqual(['b'])
  })

  test('lengths written with more bytes than they need are walked over', () => {
    // length 10, attributes, time, offset, key length -1 in two bytes (0x81 0x00), value length -1, no headers
    const batch = buildBatch([{ key: null, value: 'aa', headers: [], timestampMs: 5 }])
    const body = [0x00, 0x00, 0x00, 0x81, 0x00, 0x04, 0x61, 0x61, 0x00]
    const made = new Uint8Array(HEADER_BYTES + 1 + body.length)
    made.set(batch.subarray(0, HEADER_BYTES))
    made.set([body.length * 2, ...body], HEADER_BYTES)
    made[11] = made.length - 12
    made[10] = 0
    const [copy] = copyAll(logOf([made]), { tag: () => TAG })
    const records = copy === undefined ? [] : readBatch(copy)
    expect(records.map(plain)).toEqual([
      { key: null, value: 'aa', headers: [['stream.origin', 'A']], timestampMs: 5 },
    ])
  })
})
