import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { BatchBuilder } from '../../../src/record/batch-builder.ts'
import { HEADER_BYTES, putInt64, stampLogAppendTime } from '../../../src/record/batch-layout.ts'
import { KernelMemory, SLACK_BYTES } from '../../../src/record/kernel-memory.ts'
import type { RecordRange } from '../../../src/record/kernel-run.ts'
import { OutputBuffer } from '../../../src/record/output-buffer.ts'
import { RecordCursor } from '../../../src/record/record-cursor.ts'
import { EnvelopeKernel } from '../../../src/text/envelope-kernel.ts'
import { EnvelopeWriter } from '../../../src/text/envelope-writer.ts'
import { embeddedKernel } from '../record/kernel-build.ts'

const source = new URL('../../../src/text/envelope-kernel.assemblyscript', import.meta.url)
const embedded = new URL('../../../src/text/envelope-kernel.wasm.ts', import.meta.url)

describe('the embedded envelope kernel', () => {
  test('is what its source compiles to', async () => {
    const module = await embeddedKernel({
      source,
      sourceName: 'envelope-kernel.assemblyscript',
      constant: 'envelopeKernelBase64',
    })
    await expect(module).toMatchFileSnapshot(fileURLToPath(embedded))
  })
})

interface PlainRecord {
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  readonly headers: readonly (readonly [Uint8Array, Uint8Array | null])[]
  readonly timestampMs: number
}

function batchOf(records: readonly PlainRecord[]): Uint8Array {
  const range = (bytes: Uint8Array) => ({ bytes, start: 0, end: bytes.length })
  const builder = new BatchBuilder(4 << 20)
  builder.reset({ timestampMs: 0 })
  for (const { key, value, headers, timestampMs } of records) {
    const isIn = builder.append({
      key: key === null ? null : range(key),
      value: value === null ? null : range(value),
      headers: headers.map(([name, text]) => ({
        key: range(name),
        value: text === null ? null : range(text),
      })),
      timestampMs,
    })
    if (!isIn) throw new Error('the test batch is full')
  }
  return new Uint8Array(builder.finish())
}

interface Outcome {
  readonly text: string
  readonly taken: number
  readonly isRefused: boolean
}

const everything: RecordRange = {
  fromOffset: 0,
  endOffset: Number.MAX_SAFE_INTEGER,
  recordsMax: Number.MAX_SAFE_INTEGER,
}
const newline = Uint8Array.of(10)
const topic = 'tö"p\\ic'

function byHand(batch: Uint8Array, range: RecordRange, delimiter: Uint8Array): Outcome {
  const writer = new EnvelopeWriter({ delimiter })
  const out = new OutputBuffer()
  const cursor = new RecordCursor()
  writer.setPartition(topic, 3)
  let taken = 0
  let isRefused = false
  try {
    cursor.reset(batch, 0)
    while (cursor.next()) {
      if (cursor.offset < range.fromOffset) continue
      if (cursor.offset >= range.endOffset || taken === range.recordsMax) break
      writer.write(cursor, out)
      taken++
    }
  } catch {
    isRefused = true
  }
  return { text: Buffer.from(out.filled()).toString('latin1'), taken, isRefused }
}

const memory = KernelMemory.create() as KernelMemory

/** The kernel, and the writer for what it leaves. */
function byKernel(
  batch: Uint8Array,
  range: RecordRange,
  delimiter: Uint8Array,
  pieceBytes = 65_536,
): Outcome & { readonly judged: boolean } {
  const kernel = EnvelopeKernel.load(memory, { delimiter })
  if (kernel === undefined) throw new Error('no SIMD here: the kernel cannot be tested')
  kernel.setPartition(topic, 3)
  const home = { bytes: memory.outputs[1] as Uint8Array, slackBytes: SLACK_BYTES }
  const out = new OutputBuffer(0, home)
  let text = ''
  let taken = 0
  try {
    if (!kernel.begin(batch, 0, range)) throw new Error('not even begun')
  } catch {
    return { text, taken, isRefused: true, judged: false }
  }
  for (;;) {
    const step = kernel.step(out, pieceBytes)
    taken += kernel.taken
    text += Buffer.from(out.filled()).toString('latin1')
    out.clear()
    if (step === 'done') return { text, taken, isRefused: false, judged: false }
    if (step !== 'judge') continue
    const { nextOffset: fromOffset } = kernel
    const left = { ...range, fromOffset, recordsMax: range.recordsMax - taken }
    const rest = byHand(batch, left, delimiter)
    return { ...rest, text: text + rest.text, taken: taken + rest.taken, judged: true }
  }
}

const anyText: fc.Arbitrary<Uint8Array> = fc.oneof(
  { weight: 4, arbitrary: fc.string({ maxLength: 40 }).map((text) => Buffer.from(text)) },
  {
    weight: 3,
    arbitrary: fc.string({ unit: 'grapheme', maxLength: 30 }).map((text) => Buffer.from(text)),
  },
  { weight: 2, arbitrary: fc.uint8Array({ maxLength: 40 }) },
  {
    weight: 2,
    arbitrary: fc
      .array(fc.constantFrom('"', '\\', '\n', '\x00', '\x1f', '\x7f', '\b', 'é', '€', '😀', 'x'), {
        maxLength: 50,
      })
      .map((parts) => Buffer.from(parts.join(''))),
  },
  // Ends of sequences cut, overlong forms, surrogates, above U+10FFFF, each behind some ASCII.
  {
    weight: 2,
    arbitrary: fc
      .tuple(
        fc.nat(20),
        fc.constantFrom('c3', 'e282', 'f09f98', 'c0af', 'e08080', 'eda080', 'f4908080', 'f08080af'),
      )
      .map(([count, tail]) => Buffer.concat([Buffer.alloc(count, 'a'), Buffer.from(tail, 'hex')])),
  },
  { weight: 1, arbitrary: fc.nat(9000).map((count) => Buffer.alloc(count, 'long "line" ')) },
)
const anyHeader: fc.Arbitrary<[Uint8Array, Uint8Array | null]> = fc.tuple(
  anyText,
  fc.option(anyText),
)
const anyRecord: fc.Arbitrary<PlainRecord> = fc.record({
  key: fc.option(anyText),
  value: fc.option(anyText),
  headers: fc.oneof(fc.constant([]), fc.array(anyHeader, { maxLength: 3 })),
  timestampMs: fc.oneof(
    fc.integer({ min: 1_700_000_000_000, max: 1_700_000_000_999 }),
    fc.constantFrom(-1, 0, 9, 10, 999_999_999, 4_294_967_295, 4_294_967_296, 2 ** 46),
  ),
})
const anyRecords = fc.array(anyRecord, { minLength: 1, maxLength: 30 })
const anyRange: fc.Arbitrary<RecordRange> = fc.oneof(
  fc.constant(everything),
  fc.record({ fromOffset: fc.nat(40), endOffset: fc.nat(40), recordsMax: fc.nat(40) }),
)

describe('the envelope kernel', () => {
  test('writes what EnvelopeWriter writes, whatever the records, the offsets and the pieces', () => {
    fc.assert(
      fc.property(
        anyRecords,
        anyRange,
        fc.constantFrom(newline, Uint8Array.of(0), Buffer.from('--\r\n')),
        fc.oneof(fc.nat(500), fc.constant(65_536)),
        fc.constantFrom(0, 5, 95, 99_990, 9_999_999_980, 2 ** 53 - 100),
        (records, range, delimiter, pieceBytes, baseOffset) => {
          const batch = batchOf(records)
          putInt64(batch, 0, baseOffset)
          const shifted = {
            ...range,
            fromOffset: range.fromOffset + baseOffset,
            endOffset: Math.min(Number.MAX_SAFE_INTEGER, range.endOffset + baseOffset),
          }
          const got = byKernel(batch, shifted, delimiter, pieceBytes)
          expect(got).toMatchObject(byHand(batch, shifted, delimiter))
          expect(got.judged).toBe(false)
        },
      ),
      { numRuns: 500 },
    )
  })

  test('gives all records the time of the append where the batch says so', () => {
    const record = { key: null, value: Buffer.from('v'), headers: [], timestampMs: 5 }
    const batch = batchOf([record, { ...record, timestampMs: 9 }])
    stampLogAppendTime(batch, 0, 1_800_000_000_123)
    const got = byKernel(batch, everything, newline)
    expect(got).toMatchObject(byHand(batch, everything, newline))
    expect(got.text.match(/"ts":1800000000123,/g)).toHaveLength(2)
  })

  test('leaves values that could outgrow the output to the writer, and nothing else', () => {
    const record = { key: null, value: Buffer.from('v'), headers: [], timestampMs: 5 }
    const large = { ...record, value: Buffer.alloc(400_000, 'large ') }
    const batch = batchOf([record, large, record])
    const got = byKernel(batch, everything, newline)
    expect(got).toMatchObject(byHand(batch, everything, newline))
    expect(got.judged).toBe(true)
  })

  test('of damaged batches it gives the same verdict, and writes nowhere but into its output', () => {
    const block = memory.blocks[1] as Uint8Array
    const sumOf = (bytes: Uint8Array) => bytes.reduce((sum, byte) => (sum * 31 + byte) | 0, 0)
    const outside = () => [
      sumOf(memory.bytes.subarray(10_000, block.byteOffset)),
      sumOf(memory.outputs[0] as Uint8Array),
      sumOf(memory.outputs[2] as Uint8Array),
    ]
    const before = outside()
    fc.assert(
      fc.property(
        anyRecords,
        fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 6 }),
        fc.constantFrom(0, 300, 65_536),
        (records, changes, pieceBytes) => {
          const bytes = batchOf(records)
          for (const [where, byte] of changes) {
            bytes[HEADER_BYTES + (where % (bytes.length - HEADER_BYTES))] = byte
          }
          block.fill(0xee)
          block.set(bytes, 5)
          const batch = block.subarray(5, 5 + bytes.length)
          const got = byKernel(batch, everything, newline, pieceBytes)
          const want = byHand(batch, everything, newline)
          expect(got.isRefused).toBe(want.isRefused)
          if (!want.isRefused) expect(got).toMatchObject(want)
        },
      ),
      { numRuns: 600 },
    )
    expect(outside()).toEqual(before)
  })
})
