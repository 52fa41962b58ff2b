/**
 * Records printed by a format (`-F`; the nodes of format-plan.ts), from the ranges of a record cursor, without an object
 * per record.
 *
 * Invariant: a record is appended whole or, when a number does not fit the form it was asked for in, not at all.
 */

import { StreamError } from '../base/errors.ts'
import type { OutputBuffer } from '../record/output-buffer.ts'
import type { RecordCursor } from '../record/record-cursor.ts'
import { base64Length, encodeBase64 } from './base64.ts'
import { EnvelopeWriter, putJsonText, putNumber } from './envelope-writer.ts'
import type { BytesEncoding, FormatNode, NumberForm, NumberOf } from './format-plan.ts'
import { formatMoment, type TimePattern } from './format-time.ts'
import { type PartitionEnds, putVisible, type RecordWriter } from './record-writer.ts'

const hexDigits = Buffer.from('0123456789abcdef')
const COMMA = 0x2c
const EQUALS = 0x3d
const MINUS = 0x2d
const noBytes = new Uint8Array(0)

export interface FormatWriterOptions {
  /** Control bytes of records are shown as `\x1b`: for terminals. */
  readonly escapeControls?: boolean
  /** Of `%j`. */
  readonly embed?: boolean
}

export class FormatWriter implements RecordWriter {
  readonly #nodes: readonly FormatNode[]
  readonly #escapeControls: boolean
  readonly #envelopes: EnvelopeWriter
  #topic: Uint8Array = noBytes
  #partition = -1
  #ends: PartitionEnds = { logStartOffset: -1, lastStableOffset: -1, highWatermark: -1 }
  #count = 0
  /** Records of one batch often have one timestamp. */
  #momentMs = Number.NaN
  #momentOf: TimePattern | undefined
  #momentText: Uint8Array = noBytes

  constructor(nodes: readonly FormatNode[], options: FormatWriterOptions = {}) {
    this.#nodes = nodes
    this.#escapeControls = options.escapeControls ?? false
    this.#envelopes = new EnvelopeWriter({ embed: options.embed ?? false, delimiter: noBytes })
  }

  setPartition(topic: string, partition: number): void {
    this.#topic = Buffer.from(topic, 'utf8')
    this.#partition = partition
    this.#envelopes.setPartition(topic, partition)
  }

  setEnds(ends: PartitionEnds): void {
    this.#ends = ends
  }

  write(cursor: RecordCursor, out: OutputBuffer): void {
    const before = out.length
    this.#count += 1
    try {
      const nodes = this.#nodes
      for (let index = 0; index < nodes.length; index += 1) {
        this.#put(nodes[index] as FormatNode, cursor, out)
      }
    } catch (error) {
      out.length = before
      this.#count -= 1
      throw error
    }
  }

  #put(node: FormatNode, cursor: RecordCursor, out: OutputBuffer): void {
    switch (node.kind) {
      case 'literal':
        out.append(node.bytes)
        return
      case 'bytes': {
        const { of, encoding, nullText } = node
        if (of === 'value') {
          this.#putBytes(out, cursor.bytes, cursor.valueStart, cursor.valueEnd, encoding, nullText)
        } else if (of === 'key') {
          this.#putBytes(out, cursor.bytes, cursor.keyStart, cursor.keyEnd, encoding, nullText)
        } else this.#putBytes(out, this.#topic, 0, this.#topic.length, encoding, undefined)
        return
      }
      case 'number': {
        const value = this.#numberOf(node.of, cursor)
        if (!putFormNumber(out, value, node.form)) throw doesNotFit(cursor, value, node.text)
        return
      }
      case 'time':
        this.#putMoment(out, node.pattern, cursor.timestampMs)
        return
      case 'headers':
        cursor.rewindHeaders()
        while (cursor.nextHeader()) {
          for (const inner of node.inner) this.#putInHeader(inner, cursor, out)
        }
        return
      case 'header-list':
        this.#putHeaderList(cursor, out)
        return
      case 'envelope':
        this.#envelopes.write(cursor, out)
    }
  }

  #putInHeader(node: FormatNode, cursor: RecordCursor, out: OutputBuffer): void {
    const { bytes, headerKeyStart, headerKeyEnd, headerValueStart, headerValueEnd } = cursor
    if (node.kind === 'literal') out.append(node.bytes)
    else if (node.kind === 'bytes') {
      const { encoding, nullText } = node
      if (node.of === 'key') {
        this.#putBytes(out, bytes, headerKeyStart, headerKeyEnd, encoding, nullText)
      } else this.#putBytes(out, bytes, headerValueStart, headerValueEnd, encoding, nullText)
    } else if (node.kind === 'number') {
      const isKey = node.of === 'key-length'
      const start = isKey ? headerKeyStart : headerValueStart
      const value = start < 0 ? -1 : (isKey ? headerKeyEnd : headerValueEnd) - start
      if (!putFormNumber(out, value, node.form)) throw doesNotFit(cursor, value, node.text)
    }
  }

  #putHeaderList(cursor: RecordCursor, out: OutputBuffer): void {
    cursor.rewindHeaders()
    let isFirst = true
    while (cursor.nextHeader()) {
      const { bytes, headerKeyStart, headerKeyEnd, headerValueStart, headerValueEnd } = cursor
      if (!isFirst) out.appendByte(COMMA)
      isFirst = false
      this.#putBytes(out, bytes, headerKeyStart, headerKeyEnd, 'plain', undefined)
      if (headerValueStart < 0) continue
      out.appendByte(EQUALS)
      this.#putBytes(out, bytes, headerValueStart, headerValueEnd, 'plain', undefined)
    }
  }

  #putBytes(
    out: OutputBuffer,
    bytes: Uint8Array,
    start: number,
    end: number,
    encoding: BytesEncoding,
    nullText: Uint8Array | undefined,
  ): void {
    if (start < 0 && (nullText !== undefined || encoding !== 'json')) {
      if (nullText !== undefined) out.append(nullText)
      return
    }
    switch (encoding) {
      case 'plain':
        if (this.#escapeControls) putVisible(out, bytes, start, end)
        else out.append(bytes, start, end)
        return
      case 'base64':
        out.reserve(base64Length(end - start))
        out.length = encodeBase64(bytes, start, end, out.bytes, out.length)
        return
      case 'hex':
        putHex(out, bytes, start, end)
        return
      case 'json':
        putJsonText(out, bytes, start, end)
    }
  }

  #numberOf(of: NumberOf, cursor: RecordCursor): number {
    switch (of) {
      case 'value-length':
        return cursor.valueStart < 0 ? -1 : cursor.valueEnd - cursor.valueStart
      case 'key-length':
        return cursor.keyStart < 0 ? -1 : cursor.keyEnd - cursor.keyStart
      case 'topic-length':
        return this.#topic.length
      case 'partition':
        return this.#partition
      case 'timestamp':
        return cursor.timestampMs
      case 'offset':
        return cursor.offset
      case 'leader-epoch':
        return cursor.batchLeaderEpoch
      case 'count':
        return this.#count
      case 'header-count':
        return cursor.headerCount
      case 'log-start':
        return this.#ends.logStartOffset
      case 'last-stable':
        return this.#ends.lastStableOffset
      case 'high-watermark':
        return this.#ends.highWatermark
    }
  }

  #putMoment(out: OutputBuffer, pattern: TimePattern, timestampMs: number): void {
    if (timestampMs !== this.#momentMs || pattern !== this.#momentOf) {
      this.#momentMs = timestampMs
      this.#momentOf = pattern
      this.#momentText = Buffer.from(formatMoment(pattern, timestampMs), 'utf8')
    }
    out.append(this.#momentText)
  }
}

function putHex(out: OutputBuffer, bytes: Uint8Array, start: number, end: number): void {
  out.reserve((end - start) * 2)
  const target = out.bytes
  let to = out.length
  for (let at = start; at < end; at += 1) {
    const byte = bytes[at] as number
    target[to++] = hexDigits[byte >> 4] as number
    target[to++] = hexDigits[byte & 15] as number
  }
  out.length = to
}

/** @returns false if the number has more bits than the form */
export function putFormNumber(out: OutputBuffer, value: number, form: NumberForm): boolean {
  switch (form.kind) {
    case 'ascii':
      if (value < 0) out.appendByte(MINUS)
      putNumber(out, Math.abs(value))
      return true
    case 'hex':
      out.append(Buffer.from(value.toString(16)))
      return true
    case 'binary':
      return putBinary(out, value, form.byteCount, form.isLittle)
  }
}

function putBinary(
  out: OutputBuffer,
  value: number,
  byteCount: number,
  isLittle: boolean,
): boolean {
  out.reserve(8)
  const { view, length } = out
  if (byteCount === 8) {
    const high = Math.floor(value / 2 ** 32)
    view.setInt32(isLittle ? length + 4 : length, high, isLittle)
    view.setUint32(isLittle ? length : length + 4, value - high * 2 ** 32, isLittle)
  } else {
    const limit = 2 ** (byteCount * 8 - 1)
    if (value < -limit || value >= limit) return false
    if (byteCount === 4) view.setInt32(length, value, isLittle)
    else if (byteCount === 2) view.setInt16(length, value, isLittle)
    else view.setInt8(length, value)
  }
  out.length += byteCount
  return true
}

function doesNotFit(cursor: RecordCursor, value: number, token: string): StreamError {
  return new StreamError(
    'RECORD_INVALID',
    `offset ${cursor.offset}: ${value} does not fit ${token}`,
    { hint: 'take more bits, or digits' },
  )
}
