import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { BatchBuilder } from '../../../src/record/batch-builder.ts'
import { findBatchDefect, readBatchHeader } from '../../../src/record/batch-layout.ts'
import { codecs } from '../../../src/record/compression.ts'
import { LineDecoder } from '../../../src/record/line-decoder.ts'
import { OutputBuffer } from '../../../src/record/output-buffer.ts'
import { anyRecords, buildBatch, readBatch, toHex } from './record-support.ts'

const TIMESTAMP_MS = 1_700_000_000_000

/** Lengths around every border: words, varints of one, two and three bytes, the switch to memchr. */
const anyLine = fc
  .oneof(
    { weight: 6, arbitrary: fc.integer({ min: 0, max: 80 }) },
    { weight: 3, arbitrary: fc.integer({ min: 100, max: 400 }) },
    { weight: 1, arbitrary: fc.constantFrom(63, 64, 384, 385, 8191, 8192, 8300, 20_000) },
  )
  .chain((length) =>
    fc.nat(0xffff).map((seed) =>
      Buffer.from(
        Array.from({ length }, (_, at) => {
          const byte = (Math.imul(seed + at, 2654435761) >>> 13) & 0xff
          return byte === 10 ? 0x8a : byte
        }),
      ),
    ),
  )
const anyLines = fc.array(anyLine, { maxLength: 40 })

function join(lines: readonly Uint8Array[], delimiter = 10): Buffer {
  return Buffer.concat(lines.flatMap((line) => [line, Uint8Array.of(delimiter)]))
}

/** Feeds `text` in pieces as a reader would, keeping what is left over; returns all batches. */
function encodeAll(text: Uint8Array, builder: BatchBuilder, pieceBytes: number, delimiter = 10) {
  const batches: Uint8Array[] = []
  const flush = () => {
    if (builder.isEmpty) return
    const batch = builder.finish()
    expect(findBatchDefect(batch)).toBeUndefined()
    batches.push(batch.slice())
    builder.reset({ timestampMs: TIMESTAMP_MS })
  }
  builder.reset({ timestampMs: TIMESTAMP_MS })
  let at = 0
  let end = 0
  while (at < text.length) {
    // The piece is memory of its own, exactly as long, so that reading beyond it would throw.
    const piece = new Uint8Array(text.subarray(at, end))
    const consumed = builder.appendLines(piece, 0, piece.length, { delimiter })
    at += consumed
    if (builder.isFull) flush()
    else if (end === text.length) break
    else end = Math.min(text.length, end + pieceBytes)
  }
  flush()
  return { batches, consumed: at }
}

function decodeAll(batches: readonly Uint8Array[], delimiter = 10): Uint8Array {
  const out = new OutputBuffer(16)
  const decoder = new LineDecoder()
  let records = 0
  for (const batch of batches) records += decoder.decode(batch, 0, { delimiter }, out)
  expect(records).toBe(
    batches.reduce((total, batch) => total + readBatchHeader(batch).recordCount, 0),
  )
  return out.filled()
}

describe('appendLines', () => {
  test('in whatever pieces lines come and however small the batch, decoding gives them back', () => {
    fc.assert(
      fc.property(
        anyLines,
        fc.integer({ min: 1, max: 30_000 }),
        fc.integer({ min: 90, max: 9000 }),
        (lines, pieceBytes, capacityBytes) => {
          const text = join(lines)
          const { batches, consumed } = encodeAll(text, new BatchBuilder(capacityBytes), pieceBytes)
          expect(consumed).toBe(text.length)
          expect(Buffer.compare(decodeAll(batches), text)).toBe(0)
          for (const batch of batches) {
            const { recordCount, batchBytes } = readBatchHeader(batch)
            expect(recordCount === 1 || batchBytes <= capacityBytes).toBe(true)
          }
        },
      ),
      { numRuns: 150 },
    )
  })

  test('makes the very bytes that append makes of the same lines', () => {
    fc.assert(
      fc.property(anyLines, (lines) => {
        if (lines.length === 0) return
        const builder = new BatchBuilder(2 * 1024 * 1024)
        builder.reset({ timestampMs: TIMESTAMP_MS })
        const text = join(lines)
        expect(builder.appendLines(text, 0, text.length)).toBe(text.length)
        const records = lines.map((line) => ({
          key: null,
          value: line.toString('latin1'),
          headers: [],
          timestampMs: TIMESTAMP_MS,
        }))
        expect(toHex(builder.finish())).toBe(toHex(buildBatch(records)))
      }),
      { numRuns: 60 },
    )
  })

  test('offset deltas of one, two and three bytes: 100,000 lines in one batch', () => {
    const text = Buffer.from(Array.from({ length: 100_000 }, (_, index) => `${index}\n`).join(''))
    const { batches } = encodeAll(text, new BatchBuilder(2 * 1024 * 1024), text.length)
    expect(batches).toHaveLength(1)
    expect(Buffer.compare(decodeAll(batches), text)).toBe(0)
    expect(readBatch(batches[0] as Uint8Array)[99_999]).toMatchObject({ offset: 99_999 })
  })

  test('any byte can be the delimiter', () => {
    fc.assert(
      fc.property(
        fc.nat(255),
        fc.array(fc.uint8Array({ maxLength: 30 }), { maxLength: 20 }),
        (delimiter, lines) => {
          const clean = lines.map((line) => line.filter((byte) => byte !== delimiter))
          const text = join(clean, delimiter)
          const { batches } = encodeAll(text, new BatchBuilder(300), 64, delimiter)
          expect(Buffer.compare(decodeAll(batches, delimiter), text)).toBe(0)
        },
      ),
    )
  })

  test('stale delimiters beyond the end are not seen, long line or short', () => {
    for (const length of [0, 1, 3, 4, 5, 380, 384, 385, 5000]) {
      const chunk = Buffer.alloc(10_000, 'x')
      chunk.fill('\n', length)
      const builder = new BatchBuilder(20_000)
      builder.reset({ timestampMs: TIMESTAMP_MS })
      expect(builder.appendLines(chunk, 0, length)).toBe(0)
      expect(builder.isEmpty).toBe(true)
      expect(builder.isFull).toBe(false)
      expect(builder.appendLines(chunk, 0, length + 1)).toBe(length + 1)
    }
  })

  test('a partial line that cannot fit any more says that the batch is full', () => {
    const builder = new BatchBuilder(1000)
    builder.reset({ timestampMs: TIMESTAMP_MS })
    builder.appendLines(Buffer.from('first\n'), 0, 6)
    const partial = Buffer.alloc(2000, 'x')
    expect(builder.appendLines(partial, 0, 2000)).toBe(0)
    expect(builder.isFull).toBe(true)
  })

  test('a line beyond bytesMax is RECORD_TOO_LARGE, whole or still without end', () => {
    const builder = new BatchBuilder(500, { bytesMax: 2000 })
    for (const text of ['x'.repeat(3000), `${'x'.repeat(3000)}\n`]) {
      builder.reset({ timestampMs: TIMESTAMP_MS })
      const chunk = Buffer.from(text)
      expect(() => builder.appendLines(chunk, 0, chunk.length)).toThrow(
        expect.objectContaining({ code: 'RECORD_TOO_LARGE' }),
      )
      expect(builder.isEmpty).toBe(true)
      expect(builder.appendLines(Buffer.from('next\n'), 0, 5)).toBe(5)
    }
  })

  test('follows records with other timestamps', () => {
    const builder = new BatchBuilder(1000)
    builder.reset({ timestampMs: TIMESTAMP_MS })
    builder.append({ timestampMs: 5 })
    const text = Buffer.from('one\ntwo\npart')
    expect(builder.appendLines(text, 0, text.length)).toBe(8)
    expect(readBatch(builder.finish()).map((one) => [one.value, one.timestampMs])).toEqual([
      [null, 5],
      ['one', TIMESTAMP_MS],
      ['two', TIMESTAMP_MS],
    ])
  })
})

describe('LineDecoder', () => {
  test.each(codecs)('%s: prints the value of any record, from and up to any offset', (codec) => {
    fc.assert(
      fc.property(
        anyRecords,
        fc.nat(13),
        fc.nat(13),
        fc.integer({ min: 1, max: 13 }),
        (records, fromOffset, endOffset, recordsMax) => {
          const batch = buildBatch(records, { codec })
          const out = new OutputBuffer(1)
          out.append(Buffer.from('before '))
          const decoder = new LineDecoder()
          const nullValue = Buffer.from('NULL')
          const options = { fromOffset, endOffset, recordsMax, nullValue, delimiter: 0 }
          const taken = decoder.decode(batch, 0, options, out)
          const expected = records.slice(fromOffset, endOffset).slice(0, recordsMax)
          expect(taken).toBe(expected.length)
          expect(Buffer.from(out.filled()).toString('latin1')).toBe(
            `before ${expected.map((one) => `${one.value ?? 'NULL'}\0`).join('')}`,
          )
          // Going on from nextOffset loses and repeats nothing.
          const end = Math.min(records.length, endOffset)
          if (taken > 0) expect(decoder.nextOffset).toBe(Math.min(end, fromOffset + taken))
        },
      ),
      { numRuns: codec === 'none' ? 200 : 40 },
    )
  })

  test('nonsense leaves the output as it was', () => {
    const batch = buildBatch([{ key: null, value: 'a', headers: [], timestampMs: 0 }])
    batch[61] = 0x7f
    const out = new OutputBuffer(1)
    out.append(Buffer.from('before'))
    expect(() => new LineDecoder().decode(batch, 0, {}, out)).toThrow(
      expect.objectContaining({ code: 'CORRUPT_BATCH' }),
    )
    expect(Buffer.from(out.filled()).toString()).toBe('before')
  })
})
