/**
 * Records and batches as lines of text, from three readers: our record package over a segment file, `stream cat --json`,
 * and (Witness.java prints the same form) Kafka's consumer. So any two can be compared line by line.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  type BatchHeader,
  batchBytesAt,
  codecOf,
  findBatchDefect,
  int16At,
  int32At,
  isControl,
  isLogAppendTime,
  isTransactional,
  readBatchHeader,
} from '../../src/record/batch-layout.ts'
import { codecFromId } from '../../src/record/compression.ts'
import { RecordCursor } from '../../src/record/record-cursor.ts'

export interface BatchVisit {
  readonly header: BatchHeader
  /** In the file. */
  readonly position: number
  readonly cursor: RecordCursor
}

/** All batches of the bytes of a segment. @throws Error on a defect */
export function visitBatches(bytes: Uint8Array, visit: (batch: BatchVisit) => void): void {
  const cursor = new RecordCursor()
  let position = 0
  while (position < bytes.length) {
    const defect = findBatchDefect(bytes, position, bytes.length)
    if (defect !== undefined) throw new Error(`at ${position}: ${defect.kind}: ${defect.detail}`)
    const header = readBatchHeader(bytes, position)
    cursor.reset(bytes, position)
    visit({ header, position, cursor })
    position += batchBytesAt(bytes, position)
  }
}

/** Segment files of a partition directory, in the order of offsets. */
export function segmentsOf(directory: string): string[] {
  return readdirSync(directory)
    .filter((name) => /^\d{20}\.log$/.test(name))
    .sort()
    .map((name) => join(directory, name))
}

/** What DumpLogSegments prints of a batch, in its words and order. */
export function batchLine(header: BatchHeader, position: number): string {
  const lastSequence =
    header.baseSequence < 0 ? -1 : (header.baseSequence + header.lastOffsetDelta) & 0x7fffffff
  const timestampName = isLogAppendTime(header.attributes) ? 'LogAppendTime' : 'CreateTime'
  return [
    `baseOffset: ${header.baseOffset} lastOffset: ${header.lastOffset} count: ${header.recordCount}`,
    `baseSequence: ${header.baseSequence} lastSequence: ${lastSequence}`,
    `producerId: ${header.producerId} producerEpoch: ${header.producerEpoch}`,
    `partitionLeaderEpoch: ${header.partitionLeaderEpoch}`,
    `isTransactional: ${isTransactional(header.attributes)} isControl: ${isControl(header.attributes)}`,
    `position: ${position} ${timestampName}: ${header.maxTimestamp}`,
    `size: ${header.batchBytes} magic: ${header.magic}`,
    `compresscodec: ${codecFromId(codecOf(header.attributes))} crc: ${header.crc} isvalid: true`,
  ].join(' ')
}

/** What DumpLogSegments prints of a record, or of a transaction's marker; key and value are text without line ends. */
export function recordLine(header: BatchHeader, cursor: RecordCursor): string {
  const names: string[] = []
  while (cursor.nextHeader()) names.push(text(cursor, cursor.headerKeyStart, cursor.headerKeyEnd))
  const keySize = cursor.keyStart < 0 ? -1 : cursor.keyEnd - cursor.keyStart
  const valueSize = cursor.valueStart < 0 ? -1 : cursor.valueEnd - cursor.valueStart
  const sequence =
    header.baseSequence < 0
      ? -1
      : (header.baseSequence + cursor.offset - header.baseOffset) & 0x7fffffff
  const timestampName = isLogAppendTime(header.attributes) ? 'LogAppendTime' : 'CreateTime'
  let line = `| offset: ${cursor.offset} ${timestampName}: ${cursor.timestampMs} keySize: ${keySize} valueSize: ${valueSize} sequence: ${sequence} headerKeys: [${names.join(',')}]`
  if (isControl(header.attributes)) {
    const marker = int16At(cursor.bytes, cursor.keyStart + 2) === 1 ? 'COMMIT' : 'ABORT'
    return `${line} endTxnMarker: ${marker} coordinatorEpoch: ${int32At(cursor.bytes, cursor.valueStart + 2)}`
  }
  if (keySize >= 0) line += ` key: ${text(cursor, cursor.keyStart, cursor.keyEnd)}`
  if (valueSize >= 0) line += ` payload: ${text(cursor, cursor.valueStart, cursor.valueEnd)}`
  return line
}

/** Data records of the batches in `bytes`, as Witness.java prints them. `isWanted` leaves batches out. */
export function recordLines(
  partition: number,
  bytes: Uint8Array,
  isWanted: (header: BatchHeader) => boolean = () => true,
): string[] {
  const lines: string[] = []
  visitBatches(bytes, ({ header, cursor }) => {
    if (isControl(header.attributes) || !isWanted(header)) return
    while (cursor.next()) {
      const headers: string[] = []
      while (cursor.nextHeader()) {
        const name = base64(cursor, cursor.headerKeyStart, cursor.headerKeyEnd)
        headers.push(`${name}=${base64(cursor, cursor.headerValueStart, cursor.headerValueEnd)}`)
      }
      const key = base64(cursor, cursor.keyStart, cursor.keyEnd)
      const value = base64(cursor, cursor.valueStart, cursor.valueEnd)
      lines.push(
        `${partition}\t${cursor.offset}\t${cursor.timestampMs}\t${key}\t${value}\t${headers.join(',')}`,
      )
    }
  })
  return lines
}

type EnvelopeBytes = string | { readonly b64: string } | null

/** The output of `stream cat --json`, as Witness.java prints it. */
export function envelopeLines(output: string): string[] {
  return output
    .split('\n')
    .slice(0, -1)
    .map((line) => {
      const envelope = JSON.parse(line) as {
        partition: number
        offset: number
        ts: number
        key: EnvelopeBytes
        value: EnvelopeBytes
        headers: [string, EnvelopeBytes][]
      }
      const headers = envelope.headers.map(
        ([name, value]) => `${envelopeBytes(name)}=${envelopeBytes(value)}`,
      )
      return `${envelope.partition}\t${envelope.offset}\t${envelope.ts}\t${envelopeBytes(envelope.key)}\t${envelopeBytes(envelope.value)}\t${headers.join(',')}`
    })
}

/** By partition, then offset. */
export function inOrder(lines: readonly string[]): string[] {
  const place = (line: string) => line.split('\t', 2).map(Number) as [number, number]
  return [...lines].sort((left, right) => {
    const [leftPartition, leftOffset] = place(left)
    const [rightPartition, rightOffset] = place(right)
    return leftPartition - rightPartition || leftOffset - rightOffset
  })
}

export function linesOf(output: string): string[] {
  return output.split('\n').filter((line) => line !== '')
}

export function segmentBytes(path: string): Uint8Array {
  return readFileSync(path)
}

function envelopeBytes(value: EnvelopeBytes): string {
  if (value === null) return '-'
  return typeof value === 'string' ? Buffer.from(value).toString('base64') : value.b64
}

function text(cursor: RecordCursor, start: number, end: number): string {
  return Buffer.from(cursor.bytes.subarray(start, end)).toString()
}

function base64(cursor: RecordCursor, start: number, end: number): string {
  return start < 0 ? '-' : Buffer.from(cursor.bytes.subarray(start, end)).toString('base64')
}
