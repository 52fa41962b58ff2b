/**
 * Foreign bytes against every reader of src/record: whatever they are, the answer is a defect or a typed error, in
 * bounded time and memory, and never a read outside the batch. Everything is repeatable: fast-check prints its seed.
 */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { isStreamError } from '../../src/base/errors.ts'
import {
  batchBytesAt,
  findBatchDefect,
  HEADER_BYTES,
  readBatchHeader,
  stampCrc,
} from '../../src/record/batch-layout.ts'
import { codecs, decompress } from '../../src/record/compression.ts'
import { readControlBatch } from '../../src/record/control-batch.ts'
import { LineDecoder } from '../../src/record/line-decoder.ts'
import { OutputBuffer } from '../../src/record/output-buffer.ts'
import { RecordCursor } from '../../src/record/record-cursor.ts'
import { anyRecords, buildBatch } from '../src/record/record-support.ts'

const BYTES_MAX = 1024 * 1024
const cursor = new RecordCursor({ bytesMax: BYTES_MAX })
const decoder = new LineDecoder({ bytesMax: BYTES_MAX })
const allowed = new Set(['CORRUPT_BATCH', 'DECOMPRESSION_LIMIT', 'UNSUPPORTED_COMPRESSION'])

/** Runs a reader; undefined when it refused the bytes with one of the errors it may throw. */
function attempt<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch (error) {
    if (isStreamError(error) && allowed.has(error.code)) return undefined
    throw error
  }
}

/** Reads everything that can be read; both decoders must agree, and stay inside the batch. */
function readEverything(bytes: Uint8Array, at: number): void {
  findBatchDefect(bytes, at)
  attempt(() => readBatchHeader(bytes, at))
  attempt(() => readControlBatch(bytes, at))
  const batchEnd = at + batchBytesAt(bytes, at)
  const walked = attempt(() => {
    cursor.reset(bytes, at)
    const isPlain = cursor.bytes === bytes
    const start = isPlain ? at + HEADER_BYTES : 0
    const end = isPlain ? batchEnd : cursor.bytes.length
    let lines = 0
    let count = 0
    while (cursor.next()) {
      count++
      for (const [from, to] of [
        [cursor.keyStart, cursor.keyEnd],
        [cursor.valueStart, cursor.valueEnd],
      ] as const) {
        if (from >= 0 && (from < start || to < from || to > end)) throw new Error('outside')
        if (from < 0 && (from !== -1 || to !== -1)) throw new Error('half a null')
      }
      while (cursor.nextHeader()) {
        if (cursor.headerKeyStart < start || cursor.headerValueEnd > end) throw new Error('outside')
      }
      lines += Math.max(0, cursor.valueEnd - cursor.valueStart) + 1
    }
    if (count !== cursor.recordCount) throw new Error('another count than the header has')
    return cursor.isControl ? 0 : lines
  })
  const out = new OutputBuffer(64)
  const decoded = attempt(() => {
    decoder.decode(bytes, at, {}, out)
    return out.length
  })
  expect(decoded).toBe(walked)
}

function mutate(batch: Uint8Array, changes: readonly (readonly [number, number])[]): Uint8Array {
  const mutated = new Uint8Array(batch)
  for (const [where, byte] of changes) mutated[where % mutated.length] = byte
  return mutated
}

const anyChanges = fc.array(
  fc.tuple(
    fc.oneof(fc.integer({ min: 57, max: 90 }), fc.nat(2000)),
    fc.oneof(fc.nat(255), fc.constantFrom(0, 1, 0x7f, 0x80, 0xff)),
  ),
  { minLength: 1, maxLength: 4 },
)

describe('fuzz: batches', () => {
  test('random bytes', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(20), readEverything), {
      numRuns: 2000,
    })
  })

  test('a valid header before random bytes', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 120 }),
        fc.nat(4),
        fc.nat(20),
        fc.nat(20),
        (rest, codec, count, extra) => {
          const template = buildBatch([{ key: null, value: '', headers: [], timestampMs: 0 }])
          const batch = new Uint8Array(Buffer.concat([template.subarray(0, HEADER_BYTES), rest]))
          const view = new DataView(batch.buffer)
          view.setInt32(8, batch.length - 12)
          batch[22] = codec
          view.setInt32(23, count + extra)
          view.setInt32(57, count + 1)
          stampCrc(batch, 0)
          readEverything(batch, 0)
        },
      ),
      { numRuns: 3000 },
    )
  })

  test('cut at every length', () => {
    for (const codec of codecs) {
      const value = 'some value '.repeat(20)
      const record = { key: 'key', value, headers: [['h', 'x'] as const], timestampMs: 5 }
      const batch = buildBatch([record, record], { codec })
      for (let length = 0; length < batch.length; length++) {
        const cut = batch.slice(0, length)
        expect(findBatchDefect(cut)?.kind).toBe('truncated')
        readEverything(cut, 0)
        if (length < HEADER_BYTES) continue
        // The same with a length and CRC that are right.
        new DataView(cut.buffer).setInt32(8, length - 12)
        stampCrc(cut, 0)
        readEverything(cut, 0)
      }
    }
  })

  test.each(codecs)('%s: valid batches with some bytes changed', (codec) => {
    fc.assert(
      fc.property(anyRecords, anyChanges, (records, changes) => {
        const batch = mutate(buildBatch(records, { codec }), changes)
        readEverything(batch, 0)
        if (batchBytesAt(batch, 0) !== batch.length) return
        stampCrc(batch, 0)
        readEverything(batch, 0)
      }),
      { numRuns: 400 },
    )
  })
})

describe('fuzz: compressed data', () => {
  test.each(codecs.slice(1))(
    '%s: random bytes and bytes changed expand within the bound',
    (codec) => {
      const good = buildBatch(
        [{ key: null, value: 'text '.repeat(30_000), headers: [], timestampMs: 5 }],
        { codec },
      ).subarray(HEADER_BYTES)
      const expand = (bytes: Uint8Array) => {
        const output = attempt(() => decompress(codec, bytes, { bytesMax: BYTES_MAX }))
        expect(output === undefined || output.length <= BYTES_MAX).toBe(true)
      }
      fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), expand), { numRuns: 300 })
      const changes = fc.array(fc.tuple(fc.nat(good.length + 100), fc.nat(255)), {
        minLength: 1,
        maxLength: 3,
      })
      fc.assert(
        fc.property(changes, (some) => expand(mutate(good, some))),
        { numRuns: 300 },
      )
    },
  )

  test('a few bytes do not make anything large', () => {
    const before = process.memoryUsage()
    for (let round = 0; round < 200; round++) {
      // xerial and raw snappy with huge claims; lz4 with the largest blocks; zstd with a huge content size.
      attempt(() => decompress('snappy', Buffer.from('ffffff7f1068656c6c6f', 'hex')))
      attempt(() => decompress('lz4', Buffer.from('04224d186070730500000010', 'hex')))
      attempt(() => decompress('zstd', Buffer.from('28b52ffde0ffffffffffff0f00010000', 'hex')))
    }
    const after = process.memoryUsage()
    expect(after.rss - before.rss).toBeLessThan(256 * 1024 * 1024)
  })
})
