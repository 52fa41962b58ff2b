/**
 * `--on-error dead-letter=FILE`: input that makes no record as it was, and records that the broker refused in the form
 * of the input, so that the same command can read the file again.
 */

import { OutputBuffer } from '../src/record/output-buffer.ts'
import { RecordCursor } from '../src/record/record-cursor.ts'
import { LineWriter, RawWriter, type RecordWriter, SizedWriter } from '../src/text/record-writer.ts'
import type { ProducePlan } from './produce-plan.ts'
import type { QueuedOutput } from './queued-output.ts'

const noBytes = new Uint8Array(0)

export class DeadLetters {
  readonly #output: QueuedOutput
  readonly #writer: RecordWriter
  readonly #isSized: boolean
  /** After input as it was; a format has its own literals. */
  readonly #delimiter: Uint8Array
  readonly #cursor = new RecordCursor()
  readonly #buffer = new OutputBuffer(4096)

  static async open(output: QueuedOutput, plan: ProducePlan): Promise<DeadLetters> {
    return new DeadLetters(output, plan, await makeWriter(plan))
  }

  private constructor(output: QueuedOutput, plan: ProducePlan, writer: RecordWriter) {
    this.#output = output
    this.#writer = writer
    this.#isSized = plan.form === 'sized'
    this.#delimiter = plan.form === 'value' || plan.form === 'json' ? plan.delimiter : noBytes
  }

  get isFull(): boolean {
    return this.#output.isFull
  }

  drained(): Promise<void> {
    return this.#output.drained()
  }

  finish(): Promise<void> {
    return this.#output.finish()
  }

  /** @throws what the output throws */
  addInput(raw: Uint8Array): void {
    if (this.#isSized) {
      const length = Buffer.alloc(4)
      length.writeInt32BE(raw.length)
      this.#output.write(length)
    }
    this.#output.write(raw)
    this.#output.write(this.#delimiter)
  }

  /** The records of a batch that was refused. @throws what the output throws; StreamError CORRUPT_BATCH */
  addBatch(topic: string, partition: number, batch: Uint8Array): void {
    const buffer = this.#buffer
    this.#writer.setPartition(topic, partition)
    this.#cursor.reset(batch)
    while (this.#cursor.next()) this.#writer.write(this.#cursor, buffer)
    this.#output.write(buffer.filled())
    buffer.clear()
  }
}

async function makeWriter(plan: ProducePlan): Promise<RecordWriter> {
  const { form, format, delimiter, keySeparator } = plan
  switch (form) {
    case 'json': {
      const { EnvelopeWriter } = await import('../src/text/envelope-writer.ts')
      return new EnvelopeWriter({ delimiter })
    }
    case 'sized':
      return new SizedWriter()
    case 'raw':
      return new RawWriter()
    case 'format': {
      const { FormatWriter } = await import('../src/text/format-writer.ts')
      return new FormatWriter(format?.nodes ?? [])
    }
    case 'value': {
      const { nullValue } = plan
      return new LineWriter({
        delimiter,
        ...(keySeparator === undefined ? {} : { keySeparator }),
        ...(nullValue === undefined ? {} : { nullValue: Buffer.from(nullValue, 'utf8') }),
      })
    }
  }
}
