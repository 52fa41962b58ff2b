import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { encodeLinesScalar, LineJob } from '../../../src/record/line-kernel.ts'
import { loadSimdKernel } from '../../../src/record/line-kernel-simd.ts'
import { embeddedKernel } from './kernel-build.ts'

const source = new URL('../../../src/record/line-kernel.assemblyscript', import.meta.url)
const embedded = new URL('../../../src/record/line-kernel.wasm.ts', import.meta.url)

describe('the embedded kernel', () => {
  test('is what its source compiles to', async () => {
    const module = await embeddedKernel({
      source,
      sourceName: 'line-kernel.assemblyscript',
      constant: 'lineKernelBase64',
      memoryPages: 8,
    })
    await expect(module).toMatchFileSnapshot(fileURLToPath(embedded))
  })
})

describe('the SIMD kernel', () => {
  const simd = (job: LineJob): void => {
    const kernel = loadSimdKernel()
    if (kernel === undefined) throw new Error('no SIMD here: the kernel cannot be tested')
    kernel(job)
  }

  const run = (
    kernel: (job: LineJob) => void,
    input: { text: Buffer; start: number; end: number; room: number; count: number; byte: number },
  ) => {
    const job = new LineJob()
    const target = new Uint8Array(8 + input.room + 32)
    job.setSource(new Uint8Array(input.text))
    job.setTarget(target)
    job.sourceAt = input.start
    job.sourceEnd = input.end
    job.targetAt = 8
    job.targetEnd = 8 + input.room
    job.count = input.count
    job.delimiter = input.byte
    kernel(job)
    return {
      sourceAt: job.sourceAt,
      targetAt: job.targetAt,
      count: job.count,
      written: Buffer.from(target.subarray(8, job.targetAt)).toString('base64'),
      // Of a line without end the kernels may judge differently whether it can still fit.
      isFull:
        job.sourceAt < input.end && input.text.indexOf(input.byte, job.sourceAt) < input.end
          ? input.text.indexOf(input.byte, job.sourceAt) >= 0 && job.isFull
          : false,
    }
  }

  test('a record that fits to the byte is taken, whatever was guessed', () => {
    const input = {
      text: Buffer.from('xxxxxxxxxxxxx\0'),
      start: 13,
      end: 14,
      room: 7,
      count: 0,
      byte: 0,
    }
    expect(run(simd, input)).toEqual(run(encodeLinesScalar, input))
    expect(run(simd, input).count).toBe(1)
  })

  test('does what the scalar one does, on any bytes and rooms', () => {
    const anyLine = fc.oneof(
      { weight: 5, arbitrary: fc.nat(40) },
      { weight: 3, arbitrary: fc.nat(700) },
      { weight: 1, arbitrary: fc.constantFrom(15, 16, 17, 63, 64, 8191, 8192, 65_535, 70_000) },
    )
    fc.assert(
      fc.property(
        fc.array(anyLine, { maxLength: 60 }),
        fc.oneof(fc.nat(400), fc.nat(30_000), fc.constant(400_000)),
        fc.oneof(fc.nat(100), fc.constantFrom(63, 64, 8191, 8192, 1_048_575)),
        fc.nat(20),
        fc.nat(20),
        fc.nat(255),
        (lengths, room, count, skip, cut, byte) => {
          const text = Buffer.concat(
            lengths.flatMap((length) => [
              Buffer.alloc(length, byte === 120 ? 'y' : 'x'),
              Uint8Array.of(byte),
            ]),
          )
          const start = Math.min(skip, text.length)
          const end = Math.max(start, text.length - cut)
          const input = { text, start, end, room, count, byte }
          expect(run(simd, input)).toEqual(run(encodeLinesScalar, input))
        },
      ),
      { numRuns: 300 },
    )
  })

  test('lines of no bytes, which grow most, over several calls', () => {
    const text = Buffer.alloc(200_000, '\n')
    const input = { text, start: 0, end: text.length, room: 3_000_000, count: 0, byte: 10 }
    const result = run(simd, input)
    expect(result.count).toBe(200_000)
    expect(result).toEqual(run(encodeLinesScalar, input))
  })
})
