/**
 * Records of forms that are for programs, on a terminal: control bytes shown as `\x1b` (in envelopes as `\u001b`, which
 * JSON has), so that a record cannot steer it. A newline at the end of a record stays.
 */

import { OutputBuffer } from '../record/output-buffer.ts'
import type { RecordCursor } from '../record/record-cursor.ts'
import { type PartitionEnds, putVisible, type RecordWriter } from './record-writer.ts'

const NEWLINE = 0x0a

export class VisibleWriter implements RecordWriter {
  readonly #writer: RecordWriter
  readonly #isJson: boolean
  readonly #record = new OutputBuffer(4096)

  constructor(writer: RecordWriter, isJson: boolean) {
    this.#writer = writer
    this.#isJson = isJson
  }

  setPartition(topic: string, partition: number): void {
    this.#writer.setPartition(topic, partition)
  }

  setEnds(ends: PartitionEnds): void {
    this.#writer.setEnds?.(ends)
  }

  write(cursor: RecordCursor, out: OutputBuffer): void {
    const record = this.#record
    record.clear()
    this.#writer.write(cursor, record)
    const hasEnd = record.length > 0 && record.bytes[record.length - 1] === NEWLINE
    const end = hasEnd ? record.length - 1 : record.length
    if (this.#isJson) this.#putJson(out, end)
    else putVisible(out, record.bytes, 0, end)
    if (hasEnd) out.appendByte(NEWLINE)
  }

  /** What JSON strings may hold as it is: DEL, and C1 controls, which are two bytes. */
  #putJson(out: OutputBuffer, end: number): void {
    const { bytes } = this.#record
    let from = 0
    for (let at = 0; at < end; at += 1) {
      const byte = bytes[at] as number
      const next = bytes[at + 1] as number
      const isC1 = byte === 0xc2 && at + 1 < end && next >= 0x80 && next < 0xa0
      if (byte !== 0x7f && !isC1) continue
      out.append(bytes, from, at)
      out.append(Buffer.from(isC1 ? `\\u00${next.toString(16)}` : '\\u007f'))
      if (isC1) at += 1
      from = at + 1
    }
    out.append(bytes, from, end)
  }
}
