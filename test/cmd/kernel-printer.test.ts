import { describe, expect, it } from 'vitest'
import { BrokenPipe } from '../../cmd/exit-code.ts'
import { KernelPrinter } from '../../cmd/kernel-printer.ts'
import { StreamError } from '../../src/base/errors.ts'
import type { RecordsEvent } from '../../src/client/consumer-events.ts'
import type { ByteOutput, WriteOutcome } from '../../src/ports/stdio.ts'
import { batchBytesAt } from '../../src/record/batch-layout.ts'
import { SimdLineDecoder } from '../../src/record/line-decoder-simd.ts'
import { buildBatch } from '../src/record/record-support.ts'

const everything = {
  fromOffset: 0,
  endOffset: Number.MAX_SAFE_INTEGER,
  recordsMax: Number.MAX_SAFE_INTEGER,
}

/** Takes what is written when it is told to, and looks whether the bytes have stayed as they were. */
class HeldOutput implements ByteOutput {
  readonly kind = 'pipe'
  readonly isBroken = false
  bytesWritten = 0
  readonly taken: Buffer[] = []
  /** Writes under way; more than one would be against the port's contract. */
  readonly #held: (() => void)[] = []
  outcome: WriteOutcome | Error = 'written'

  write(bytes: Uint8Array): Promise<WriteOutcome> {
    expect(this.#held).toHaveLength(0)
    const before = Buffer.from(bytes)
    return new Promise((resolve, reject) => {
      this.#held.push(() => {
        expect(before.equals(bytes)).toBe(true)
        if (this.outcome instanceof Error) {
          reject(this.outcome)
          return
        }
        if (this.outcome === 'written') this.taken.push(before)
        resolve(this.outcome)
      })
    })
  }

  hangUp(): void {}

  get isHolding(): boolean {
    return this.#held.length > 0
  }

  async letGo(): Promise<void> {
    this.#held.shift()?.()
    await new Promise((done) => setImmediate(done))
  }

  sync(): void {}
  close(): void {}
}

function started() {
  const output = new HeldOutput()
  const printer = KernelPrinter.load(output, (memory) =>
    SimdLineDecoder.load(memory, { delimiter: 10 }),
  )
  if (printer === undefined) throw new Error('no SIMD here: the kernel cannot be tested')
  return { output, printer }
}

function eventOf(values: readonly string[]): RecordsEvent {
  const bytes = buildBatch(
    values.map((value) => ({ key: null, value, headers: [], timestampMs: 0 })),
  )
  expect(batchBytesAt(bytes, 0)).toBe(bytes.length)
  return { bytes, batches: [0] } as unknown as RecordsEvent
}

/** Prints a batch as read-output.ts does. @returns false when there was no room left in it all */
function print(printer: KernelPrinter, event: RecordsEvent): boolean {
  for (;;) {
    const { buffer } = printer
    const step = printer.step(event, 0, everything)
    expect(step).not.toBe('judge')
    printer.flow(step === 'full')
    if (step === 'done') return true
    if (step === 'full' && printer.buffer === buffer) return false
  }
}

const manyValues = (from: number) =>
  Array.from({ length: 5000 }, (_, index) => `${from + index} ${'x'.repeat((from + index) % 300)}`)

describe('KernelPrinter', () => {
  it('fills on while a slow reader takes what was written, in order, and stops when all memory is full', async () => {
    const { output, printer } = started()
    const values: string[] = []
    let waits = 0
    for (let round = 0; round < 10; round++) {
      const some = manyValues(round * 5000)
      values.push(...some)
      const event = eventOf(some)
      while (!print(printer, event)) {
        waits += 1
        const room = printer.flush()
        expect(room).toBeInstanceOf(Promise)
        await output.letGo()
        await room
      }
    }
    expect(waits).toBeGreaterThan(2)
    const finished = printer.finish()
    while (output.isHolding) await output.letGo()
    await finished
    expect(Buffer.concat(output.taken).toString()).toBe(`${values.join('\n')}\n`)
  })

  it('writes a little at once when it is flushed, and waits for nothing', async () => {
    const { output, printer } = started()
    print(printer, eventOf(['a', 'b']))
    expect(output.isHolding).toBe(false)
    expect(printer.flush()).toBeUndefined()
    expect(output.isHolding).toBe(true)
    print(printer, eventOf(['c']))
    expect(printer.flush()).toBeUndefined()
    const { settling } = printer
    await output.letGo()
    await settling
    await output.letGo()
    expect(Buffer.concat(output.taken).toString()).toBe('a\nb\nc\n')
    expect(printer.settling).toBeUndefined()
    await printer.finish()
  })

  it('a reader that goes away, or a disk that is full, is told by whatever comes next', async () => {
    const full = new StreamError('OUTPUT_FAILED', 'cannot write: ENOSPC')
    for (const outcome of ['broken', full] as const) {
      const { output, printer } = started()
      const wanted = outcome === 'broken' ? BrokenPipe : StreamError
      print(printer, eventOf(['a']))
      expect(printer.flush()).toBeUndefined()
      output.outcome = outcome
      const { settling } = printer
      await output.letGo()
      await settling
      expect(() => printer.flow(false)).toThrow(wanted)
      expect(() => printer.flush()).toThrow(wanted)
      await expect(printer.finish()).rejects.toBeInstanceOf(wanted)
    }
  })

  it('who waits for room when it happens is told too', async () => {
    const { output, printer } = started()
    let round = 0
    while (print(printer, eventOf(manyValues(round++ * 5000))));
    const told = expect(printer.flush()).rejects.toBeInstanceOf(BrokenPipe)
    output.outcome = 'broken'
    await output.letGo()
    await told
  })
})
