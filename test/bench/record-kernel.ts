/**
 * Microbench of the record kernels: lines to batches and back, checksums, codecs. Prints MB/s (10^6 bytes of plain text
 * a second), medians of several passes; a script, not a test. Run: node test/bench/record-kernel.ts [filter]
 * Only ratios within one run mean anything (performance.md section 0).
 */
import { BatchBuilder } from '../../src/record/batch-builder.ts'
import { HEADER_BYTES } from '../../src/record/batch-layout.ts'
import { codecs, compress, decompress } from '../../src/record/compression.ts'
import { crc32c, crc32cTable } from '../../src/record/crc32c.ts'
import { KernelMemory, SLACK_BYTES } from '../../src/record/kernel-memory.ts'
import type { KernelRun } from '../../src/record/kernel-run.ts'
import { LineDecoder } from '../../src/record/line-decoder.ts'
import { SimdLineDecoder } from '../../src/record/line-decoder-simd.ts'
import { OutputBuffer } from '../../src/record/output-buffer.ts'
import { RecordCursor } from '../../src/record/record-cursor.ts'
import { EnvelopeKernel } from '../../src/text/envelope-kernel.ts'

const TEXT_BYTES = 32 * 1024 * 1024
const CHUNK_BYTES = 64 * 1024
const BATCH_BYTES = 512 * 1024
const PASSES = 7
const filter = process.argv[2] ?? ''

function makeText(lineBytes: number): Buffer {
  const text = Buffer.alloc(TEXT_BYTES)
  let at = 0
  let seed = 1
  while (at < TEXT_BYTES) {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0
    // Lines vary a little, as real ones do.
    const length =
      Math.max(1, lineBytes + ((seed >>> 16) % (1 + lineBytes / 5)) - lineBytes / 10) | 0
    const line = `{"time":${1730000000000 + at},"level":"info","id":"${seed.toString(36)}","path":"/shop/cart/${seed % 977}","status":200,"agent":"Mozilla/5.0 (X11; Linux x86_64)"}`
    text.write(line.repeat(Math.ceil(length / line.length)).slice(0, length - 1), at, 'latin1')
    at += length
    if (at <= TEXT_BYTES) text[at - 1] = 10
  }
  text[TEXT_BYTES - 1] = 10
  return text
}

function measure(name: string, bytes: number, records: number, pass: () => void): void {
  if (!name.includes(filter)) return
  const times: number[] = []
  pass()
  for (let index = 0; index < PASSES; index++) {
    const start = process.hrtime.bigint()
    pass()
    times.push(Number(process.hrtime.bigint() - start) / 1e3)
  }
  times.sort((a, b) => a - b)
  const median = times[PASSES >> 1] as number
  const rate = (count: number) => (count / median).toFixed(count / median < 10 ? 1 : 0)
  console.log(
    `${name.padEnd(34)} ${rate(bytes).padStart(6)} MB/s  ${rate(records).padStart(5)} M rec/s  (best ${(bytes / (times[0] as number)).toFixed(0)})`,
  )
}

function encodeAll(text: Uint8Array, builder: BatchBuilder, onBatch: (b: Uint8Array) => void) {
  builder.reset({ timestampMs: 1730000000000 })
  let at = 0
  let records = 0
  while (at < text.length) {
    // A chunk as a reader hands it over, with what was left of the one before.
    const end = Math.min(at + CHUNK_BYTES, text.length)
    const consumed = builder.appendLines(text, at, end)
    at += consumed
    if (consumed === 0 && !builder.isFull) break
    if (builder.isFull) {
      records += builder.recordCount
      onBatch(builder.finish())
      builder.reset({ timestampMs: 1730000000000 })
    }
  }
  if (!builder.isEmpty) {
    records += builder.recordCount
    onBatch(builder.finish())
  }
  return records
}

/** The kernels of cmd/kernel-printer.ts, on batches that are copied in; files are read right into their memory. */
function measureKernels(
  name: (what: string) => string,
  textBytes: number,
  records: number,
  batches: readonly Uint8Array[],
): void {
  const memory = KernelMemory.create()
  const bytes = memory?.outputs[0]
  if (memory === undefined || bytes === undefined) return
  const out = new OutputBuffer(0, { bytes, slackBytes: SLACK_BYTES })
  const everything = { fromOffset: 0, endOffset: 2 ** 53, recordsMax: 2 ** 53 }
  const run = (kernel: KernelRun): void => {
    for (const batch of batches) {
      kernel.begin(batch, 0, everything)
      while (kernel.step(out, 256 * 1024) !== 'done') out.clear()
      out.clear()
    }
  }
  const lines = SimdLineDecoder.load(memory, { delimiter: 10 })
  if (lines !== undefined) measure(name('kernel: lines'), textBytes, records, () => run(lines))
  const envelopes = EnvelopeKernel.load(memory, { delimiter: Uint8Array.of(10) })
  if (envelopes === undefined) return
  envelopes.setPartition('topic', 0)
  measure(name('kernel: envelopes'), textBytes, records, () => run(envelopes))
}

for (const lineBytes of [10, 100, 1000]) {
  const text = makeText(lineBytes)
  const builder = new BatchBuilder(BATCH_BYTES)
  const batches: Uint8Array[] = []
  const records = encodeAll(text, builder, (batch) => batches.push(new Uint8Array(batch)))
  const name = (what: string) => `${String(lineBytes).padStart(4)} B ${what}`
  measure(name('encode + crc'), text.length, records, () => {
    encodeAll(text, builder, () => undefined)
  })
  const decoder = new LineDecoder()
  const output = new OutputBuffer(1024 * 1024)
  let decoded = 0
  measure(name('decode to lines'), text.length, records, () => {
    decoded = 0
    for (const batch of batches) {
      output.clear()
      decoder.decode(batch, 0, {}, output)
      decoded += output.length
    }
  })
  if (filter === '' && decoded !== text.length)
    throw new Error(`lines lost: ${decoded} of ${text.length}`)
  measureKernels(name, text.length, records, batches)
  const cursor = new RecordCursor()
  let sum = 0
  measure(name('walk with the cursor'), text.length, records, () => {
    for (const batch of batches) {
      cursor.reset(batch)
      while (cursor.next()) sum += cursor.valueEnd - cursor.valueStart
    }
  })
  if (sum < 0) throw new Error('unreachable')
}

const text = makeText(100)
for (const size of [100, 1000, 65536, 524288]) {
  const count = Math.floor(text.length / size)
  measure(`crc32c of ${size} B`, count * size, count, () => {
    for (let at = 0; at + size <= text.length; at += size) crc32c(text, at, at + size)
  })
  measure(`crc32c table of ${size} B`, count * size, count, () => {
    for (let at = 0; at + size <= text.length; at += size) crc32cTable(text, at, at + size)
  })
}

const batches: Uint8Array[] = []
encodeAll(text.subarray(0, TEXT_BYTES / 4), new BatchBuilder(BATCH_BYTES), (batch) =>
  batches.push(new Uint8Array(batch.subarray(HEADER_BYTES))),
)
const plainBytes = batches.reduce((total, batch) => total + batch.length, 0)
for (const codec of codecs.slice(1)) {
  const packed = batches.map((batch) => compress(codec, batch))
  const ratio = plainBytes / packed.reduce((total, batch) => total + batch.length, 0)
  measure(`${codec} compress (ratio ${ratio.toFixed(2)})`, plainBytes, 0, () => {
    for (const batch of batches) compress(codec, batch)
  })
  measure(`${codec} decompress`, plainBytes, 0, () => {
    for (const batch of packed) decompress(codec, batch)
  })
}
