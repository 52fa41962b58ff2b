import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { HEADER_BYTES } from '../../../src/record/batch-layout.ts'
import { KernelMemory, SLACK_BYTES } from '../../../src/record/kernel-memory.ts'
import type { RecordRange } from '../../../src/record/kernel-run.ts'
import { LineDecoder } from '../../../src/record/line-decoder.ts'
import { SimdLineDecoder } from '../../../src/record/line-decoder-simd.ts'
import { OutputBuffer } from '../../../src/record/output-buffer.ts'
import { embeddedKernel } from './kernel-build.ts'
import { buildBatch, type PlainRecord } from './record-support.ts'

const source = new URL('../../../src/record/line-decoder.assemblyscript', import.meta.url)
const embedded = new URL('../../../src/record/line-decoder.wasm.ts', import.meta.url)

describe('the embedded line decoder', () => {
  test('is what its source compiles to', async () => {
    const module = await embeddedKernel({
      source,
      sourceName: 'line-decoder.assemblyscript',
      constant: 'lineDecoderBase64',
    })
    await expect(module).toMatchFileSnapshot(fileURLToPath(embedded))
  })
})

const everything: RecordRange = {
  fromOffset: 0,
  endOffset: Number.MAX_SAFE_INTEGER,
  recordsMax: Number.MAX_SAFE_INTEGER,
}

interface Outcome {
  readonly text: string
  readonly taken: number
  readonly nextOffset: number
  readonly isRefused: boolean
}

function scalar(
  batch: Uint8Array,
  at: number,
  range: RecordRange,
  options: { delimiter: number; nullValue?: Uint8Array },
): Outcome {
  const out = new OutputBuffer()
  const decoder = new LineDecoder({ bytesMax: 1_000_000 })
  let taken = 0
  let isRefused = false
  try {
    taken = decoder.decode(batch, at, { ...options, ...range }, out)
  } catch {
    isRefused = true
  }
  return {
    text: Buffer.from(out.filled()).toString('latin1'),
    taken,
    nextOffset: isRefused ? -1 : decoder.nextOffset,
    isRefused,
  }
}

/** The kernel, and the scalar decoder for what it leaves: as cmd/read-output.ts has them work together. */
class Pair {
  readonly memory = KernelMemory.create() as KernelMemory
  readonly output = this.memory.outputs[0] as Uint8Array

  run(
    batch: Uint8Array,
    at: number,
    range: RecordRange,
    options: { delimiter: number; nullValue?: Uint8Array },
    pieceBytes = 65_536,
  ): Outcome & { readonly isAmbiguous: boolean; readonly judged: boolean } {
    const decoder = SimdLineDecoder.load(this.memory, options)
    if (decoder === undefined) throw new Error('no SIMD here: the kernel cannot be tested')
    const out = new OutputBuffer(0, { bytes: this.output, slackBytes: SLACK_BYTES })
    let text = ''
    let taken = 0
    let isBegun: boolean
    try {
      isBegun = decoder.begin(batch, at, range)
    } catch {
      return { text, taken, nextOffset: -1, isRefused: true, isAmbiguous: false, judged: false }
    }
    let step = isBegun ? decoder.step(out, pieceBytes) : 'judge'
    for (;;) {
      taken += decoder.taken
      if (step === 'done' || step === 'judge') break
      if (step === 'full') {
        text += Buffer.from(out.filled()).toString('latin1')
        out.clear()
      }
      step = decoder.step(out, pieceBytes)
    }
    text += Buffer.from(out.filled()).toString('latin1')
    const { isAmbiguous } = decoder
    if (step === 'done') {
      return {
        text,
        taken,
        nextOffset: decoder.nextOffset,
        isRefused: false,
        isAmbiguous,
        judged: false,
      }
    }
    const fromOffset = isBegun ? decoder.nextOffset : range.fromOffset
    const rest = scalar(
      batch,
      at,
      { ...range, fromOffset, recordsMax: range.recordsMax - taken },
      options,
    )
    return {
      ...rest,
      text: text + rest.text,
      taken: taken + rest.taken,
      isAmbiguous,
      judged: true,
    }
  }
}

const anyBytes = fc.oneof(
  { weight: 6, arbitrary: fc.string({ unit: 'binary-ascii', maxLength: 40 }) },
  { weight: 1, arbitrary: fc.constantFrom(15, 16, 17, 63, 64, 127, 128, 8191, 8192, 20_000) },
)
const anyText = anyBytes.map((text) => (typeof text === 'number' ? 'x'.repeat(text) : text))
const anyHeader: fc.Arbitrary<[string, string | null]> = fc.tuple(
  fc.string({ maxLength: 5 }),
  fc.option(fc.string()),
)
const anyRecord: fc.Arbitrary<PlainRecord> = fc.record({
  key: fc.option(anyText, { freq: 3 }),
  value: fc.option(anyText, { freq: 5 }),
  headers: fc.array(anyHeader, { maxLength: 2 }),
  timestampMs: fc.nat(2 ** 40),
})
const plainRecord: fc.Arbitrary<PlainRecord> = anyText.map((value) => ({
  key: null,
  value,
  headers: [],
  timestampMs: 0,
}))
const anyRecords = fc.oneof(
  fc.array(anyRecord, { minLength: 1, maxLength: 60 }),
  fc.array(plainRecord, { minLength: 1, maxLength: 200 }),
)
const anyRange: fc.Arbitrary<RecordRange> = fc.oneof(
  fc.constant(everything),
  fc.record({ fromOffset: fc.nat(70), endOffset: fc.nat(70), recordsMax: fc.nat(70) }),
)

describe('the SIMD line decoder', () => {
  const pair = new Pair()

  test('does what the scalar one does, whatever the records, the range and the pieces', () => {
    fc.assert(
      fc.property(
        anyRecords,
        anyRange,
        fc.constantFrom(0, 10, 120),
        fc.option(fc.constant(Buffer.from('NULL')), { nil: undefined }),
        fc.oneof(fc.nat(200), fc.constant(65_536)),
        fc.boolean(),
        (records, range, delimiter, nullValue, pieceBytes, isInBlock) => {
          const made = buildBatch(records)
          let batch = made
          if (isInBlock) {
            // As a file is read: right into the kernel's memory.
            batch = pair.memory.blocks[1] as Uint8Array
            batch.set(made, 0)
          }
          const options = { delimiter, ...(nullValue === undefined ? {} : { nullValue }) }
          const got = pair.run(batch, 0, range, options, pieceBytes)
          const want = scalar(batch, 0, range, options)
          expect(got).toMatchObject(want)
          const byte = String.fromCharCode(delimiter)
          if (range === everything && !got.judged) {
            const isAmbiguous = records.some((record) => record.value?.includes(byte) === true)
            expect(got.isAmbiguous).toBe(isAmbiguous)
          }
          // Only what is larger than the output is left to the scalar one.
          expect(got.judged).toBe(false)
        },
      ),
      { numRuns: 400 },
    )
  })

  test('takes more than one output, and leaves a record that is larger to the scalar decoder', () => {
    const value = 'v'.repeat(300_000)
    const record = { key: null, value, headers: [], timestampMs: 0 }
    const options = { delimiter: 10 }
    const three = buildBatch([record, record, record])
    expect(pair.run(three, 0, everything, options)).toMatchObject(
      scalar(three, 0, everything, options),
    )
    const small = { ...record, value: 'small' }
    const large = buildBatch([small, { ...record, value: 'L'.repeat(1_060_000) }, small])
    const got = pair.run(large, 0, everything, options)
    expect(got).toMatchObject(scalar(large, 0, everything, options))
    expect(got.judged).toBe(true)
  })

  test('of damaged batches it gives the same verdict, and writes nowhere but into its output', () => {
    const { memory } = pair
    const block = memory.blocks[1] as Uint8Array
    const outside = (): string => {
      const before = memory.bytes.subarray(1024, block.byteOffset)
      const after = memory.bytes.subarray(block.byteOffset + block.length, pair.output.byteOffset)
      return `${Buffer.from(before).reduce((sum, byte) => (sum * 31 + byte) | 0, 0)} ${Buffer.from(
        after.subarray(0, 100_000),
      ).reduce((sum, byte) => (sum * 31 + byte) | 0, 0)}`
    }
    const options = { delimiter: 10 }
    pair.run(buildBatch([{ key: null, value: 'x', headers: [], timestampMs: 0 }]), 0, everything, {
      delimiter: 10,
    })
    const sum = outside()
    fc.assert(
      fc.property(
        anyRecords,
        fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 6 }),
        fc.constantFrom(0, 40, 65_536),
        (records, changes, pieceBytes) => {
          const made = buildBatch(records)
          const bytes = new Uint8Array(made)
          for (const [where, byte] of changes) {
            bytes[HEADER_BYTES + (where % (bytes.length - HEADER_BYTES))] = byte
          }
          block.fill(0xee)
          block.set(bytes, 7)
          const batch = block.subarray(7, 7 + bytes.length)
          const got = pair.run(batch, 0, everything, options, pieceBytes)
          const want = scalar(batch, 0, everything, options)
          expect(got.isRefused).toBe(want.isRefused)
          if (!want.isRefused) expect(got).toMatchObject(want)
        },
      ),
      { numRuns: 600 },
    )
    expect(outside()).toBe(sum)
  })
})
