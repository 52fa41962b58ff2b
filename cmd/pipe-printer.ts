/** Records as a child reads them: lines, envelopes or sized values, of whole batches where that can be. */

import { StreamError } from '../src/base/errors.ts'
import { LineDecoder } from '../src/record/line-decoder.ts'
import type { OutputBuffer } from '../src/record/output-buffer.ts'
import type { RecordCursor } from '../src/record/record-cursor.ts'
import { LineWriter, type RecordWriter, SizedWriter } from '../src/text/record-writer.ts'
import { type Piece, PieceCursor } from './pipe-pieces.ts'
import type { ChildForm } from './pipe-plan.ts'
import { countByte } from './read-output.ts'

export class PiecePrinter {
  readonly #lines: LineDecoder | undefined
  readonly #writer: RecordWriter
  readonly #delimiter: Uint8Array
  readonly #cursor = new PieceCursor()

  private constructor(lines: LineDecoder | undefined, writer: RecordWriter, delimiter: Uint8Array) {
    this.#lines = lines
    this.#writer = writer
    this.#delimiter = delimiter
  }

  static async open(form: ChildForm, delimiter: Uint8Array): Promise<PiecePrinter> {
    if (form === 'json') {
      const { EnvelopeWriter } = await import('../src/text/envelope-writer.ts')
      return new PiecePrinter(undefined, new EnvelopeWriter({ delimiter }), delimiter)
    }
    if (form === 'sized') return new PiecePrinter(undefined, new SizedWriter(), delimiter)
    const writer = new LineWriter({ delimiter, onAmbiguous: refuse })
    const isPlain = delimiter.length === 1
    return new PiecePrinter(isPlain ? new LineDecoder() : undefined, writer, delimiter)
  }

  /**
   * Appends all records of a piece.
   * @throws StreamError RECORD_INVALID for a value that contains the delimiter; CORRUPT_BATCH …
   */
  print(piece: Piece, topic: string, partition: number, out: OutputBuffer): void {
    if (this.#lines === undefined) {
      this.#printRecords(piece, topic, partition, out)
      return
    }
    const before = out.length
    const delimiter = this.#delimiter[0] as number
    const range = { fromOffset: piece.first, endOffset: piece.last + 1, delimiter }
    const taken = this.#lines.decode(piece.bytes, piece.at, range, out)
    if (countByte(out.bytes, before, out.length, delimiter) !== taken) refuse(undefined)
  }

  #printRecords(piece: Piece, topic: string, partition: number, out: OutputBuffer): void {
    this.#writer.setPartition(topic, partition)
    this.#cursor.reset([piece])
    while (this.#cursor.next()) this.#writer.write(this.#cursor.record, out)
  }
}

function refuse(cursor: RecordCursor | undefined): never {
  const place = cursor === undefined ? '' : ` (offset ${cursor.offset})`
  throw new StreamError('RECORD_INVALID', `a value contains the delimiter${place}`, {
    hint: 'to tell records apart: --child-in json, --child-in sized, or -0',
  })
}
