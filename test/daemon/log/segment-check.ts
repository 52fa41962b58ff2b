/**
 * Judges the files of one log as Kafka's DumpLogSegments does (kafka-protocol.md section 7.6): every batch of every
 * segment, and that each entry of each index names what stands there. Reads files only, and shares no code with the
 * log's own index readers.
 */

import type { Disk } from '../../../src/ports/disk.ts'
import { findBatchDefect, readBatchHeader } from '../../../src/record/batch-layout.ts'
import { crc32cTable } from '../../../src/record/crc32c.ts'

interface Found {
  readonly position: number
  readonly baseOffset: number
  readonly lastOffset: number
  readonly maxTimestamp: number
}

/** @returns what is wrong, one line each */
export function findFaults(disk: Disk, directory: string): string[] {
  const faults: string[] = []
  const names = disk.list(directory)
  for (const name of names) {
    const base = Number(name.slice(0, 20))
    const bytes = disk.readFile(`${directory}/${name}`) ?? new Uint8Array(0)
    if (/^\d{20}\.log$/.test(name)) checkSegment(disk, directory, name, base, bytes, faults)
    else if (name.endsWith('.snapshot')) checkSnapshot(name, bytes, faults)
    else if (/\.(cleaned|swap|tmp)$/.test(name)) faults.push(`${name}: left over`)
  }
  for (const name of names.filter((each) => /^\d{20}\.(time)?index$/.test(each))) {
    if (!names.includes(`${name.slice(0, 20)}.log`)) faults.push(`${name}: without its segment`)
  }
  return faults
}

function checkSegment(
  disk: Disk,
  directory: string,
  name: string,
  base: number,
  bytes: Uint8Array,
  faults: string[],
): void {
  const batches: Found[] = []
  let at = 0
  while (at < bytes.length) {
    const defect = findBatchDefect(bytes, at)
    if (defect !== undefined) {
      faults.push(`${name}@${at}: ${defect.kind}: ${defect.detail}`)
      break
    }
    const header = readBatchHeader(bytes, at)
    const before = batches.at(-1)
    if (header.baseOffset <= (before?.lastOffset ?? base - 1)) {
      faults.push(`${name}@${at}: offset ${header.baseOffset} after ${before?.lastOffset}`)
    }
    batches.push({ position: at, ...header })
    at += header.batchBytes
  }
  const stem = `${directory}/${name.slice(0, 20)}`
  checkOffsetIndex(`${stem}.index`, disk.readFile(`${stem}.index`), base, batches, faults)
  checkTimeIndex(`${stem}.timeindex`, disk.readFile(`${stem}.timeindex`), base, batches, faults)
}

function checkOffsetIndex(
  path: string,
  bytes: Uint8Array | undefined,
  base: number,
  batches: readonly Found[],
  faults: string[],
): void {
  if (bytes === undefined) return
  if (bytes.length % 8 !== 0) faults.push(`${path}: ${bytes.length} bytes`)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  let before = -1
  for (let at = 0; at + 8 <= bytes.length; at += 8) {
    const relative = view.getInt32(at)
    const position = view.getInt32(at + 4)
    if (relative <= before) faults.push(`${path}: offset ${relative} after ${before}`)
    if (relative === 0 && at > 0) faults.push(`${path}: an entry that means the end`)
    before = relative
    const batch = batches.find((each) => each.position === position)
    if (batch?.lastOffset !== base + relative) {
      faults.push(`${path}: Mismatches in ${base + relative} at ${position}: ${batch?.lastOffset}`)
    }
  }
}

function checkTimeIndex(
  path: string,
  bytes: Uint8Array | undefined,
  base: number,
  batches: readonly Found[],
  faults: string[],
): void {
  if (bytes === undefined) return
  if (bytes.length % 12 !== 0) faults.push(`${path}: ${bytes.length} bytes`)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  let before = -1
  for (let at = 0; at + 12 <= bytes.length; at += 12) {
    const timestamp = Number(view.getBigInt64(at))
    const offset = base + view.getInt32(at + 8)
    if (timestamp <= before) faults.push(`${path}: out of order timestamp ${timestamp}`)
    before = timestamp
    const batch = batches.find((each) => each.lastOffset === offset)
    if (batch === undefined) faults.push(`${path}: indexed offsets are not found: ${offset}`)
    else if (batch.maxTimestamp !== timestamp) {
      faults.push(`${path}: Found timestamp mismatch ${timestamp} ${batch.maxTimestamp}`)
    }
  }
}

function checkSnapshot(name: string, bytes: Uint8Array, faults: string[]): void {
  if (bytes.length < 10) {
    faults.push(`${name}: ${bytes.length} bytes`)
    return
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  if (view.getInt16(0) !== 1) faults.push(`${name}: unknown file version`)
  if (view.getUint32(2) !== crc32cTable(bytes, 6)) faults.push(`${name}: Snapshot is corrupt`)
}
