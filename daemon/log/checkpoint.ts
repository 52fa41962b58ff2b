/**
 * What the logs themselves cannot give back: log start offsets, recovery points, high watermarks
 * (kafka-protocol.md section 7.8). `stream-checkpoint.a` and `.b` are written in turn; Kafka's three text files beside
 * them, from the same values, for Kafka's tools and for people.
 *
 * Layout (these numbers are permanent):
 *
 *     "STCP" · int16 version = 1 · int64 generation · int32 count
 *     count × { 16 topic id · int32 partition · int64 log start · int64 recovery point · int64 high watermark }
 *     uint32 CRC-32C over all bytes before it
 *
 * Both copies unreadable means unknown, never empty.
 */
import { Buffer } from 'node:buffer'
import type { Disk } from '../../src/ports/disk.ts'
import { int32At, int64At, putInt16, putInt32, putInt64 } from '../../src/record/batch-layout.ts'
import { crc32c } from '../../src/record/crc32c.ts'
import { replaceFile } from './file-writes.ts'
import type { SyncScheduler } from './sync-scheduler.ts'
import { encodeOffsetFile, type OffsetEntry, parseOffsetFile } from './text-checkpoint.ts'
import { topicIdBytes, topicIdText } from './topic-id.ts'

const MAGIC = 0x53544350
const VERSION = 1
const HEAD_BYTES = 18
const ENTRY_BYTES = 44
const CRC_BYTES = 4

export interface CheckpointEntry {
  readonly topic: string
  readonly topicId: string
  readonly partition: number
  readonly logStartOffset: number
  /** Below it data, indexes and a producer snapshot are on the medium. */
  readonly recoveryPoint: number
  /** A hint only. */
  readonly highWatermark: number
}

/** `topic` is not stored: partitions are known by their topic's id. */
export type StoredEntry = Omit<CheckpointEntry, 'topic'>

export function encodeCheckpoint(generation: number, entries: readonly StoredEntry[]): Uint8Array {
  const bytes = new Uint8Array(HEAD_BYTES + entries.length * ENTRY_BYTES + CRC_BYTES)
  putInt32(bytes, 0, MAGIC)
  putInt16(bytes, 4, VERSION)
  putInt64(bytes, 6, generation)
  putInt32(bytes, 14, entries.length)
  let at = HEAD_BYTES
  for (const entry of entries) {
    bytes.set(topicIdBytes(entry.topicId), at)
    putInt32(bytes, at + 16, entry.partition)
    putInt64(bytes, at + 20, entry.logStartOffset)
    putInt64(bytes, at + 28, entry.recoveryPoint)
    putInt64(bytes, at + 36, entry.highWatermark)
    at += ENTRY_BYTES
  }
  putInt32(bytes, at, crc32c(bytes, 0, at))
  return bytes
}

export interface DecodedCheckpoint {
  readonly generation: number
  readonly entries: readonly StoredEntry[]
}

/** @returns undefined for anything but a whole valid checkpoint */
export function decodeCheckpoint(bytes: Uint8Array): DecodedCheckpoint | undefined {
  if (bytes.length < HEAD_BYTES + CRC_BYTES || int32At(bytes, 0) !== MAGIC) return undefined
  if (int32At(bytes, 4) >> 16 !== VERSION) return undefined
  const count = int32At(bytes, 14)
  if (count < 0 || bytes.length !== HEAD_BYTES + count * ENTRY_BYTES + CRC_BYTES) return undefined
  const crcAt = bytes.length - CRC_BYTES
  if (crc32c(bytes, 0, crcAt) !== int32At(bytes, crcAt) >>> 0) return undefined
  const entries: StoredEntry[] = []
  for (let at = HEAD_BYTES; at < crcAt; at += ENTRY_BYTES) {
    entries.push({
      topicId: topicIdText(bytes.subarray(at, at + 16)),
      partition: int32At(bytes, at + 16),
      logStartOffset: int64At(bytes, at + 20),
      recoveryPoint: int64At(bytes, at + 28),
      highWatermark: int64At(bytes, at + 36),
    })
  }
  return { generation: int64At(bytes, 6), entries }
}

export interface LoadedCheckpoint {
  readonly generation: number
  /** False: neither copy could be read although one existed; what it held is unknown. */
  readonly known: boolean
  /** Which copy to write next: the one that does not hold the newest valid content. */
  readonly nextCopy: 'a' | 'b'
  /** What must be carried over for partitions that are not open yet. */
  readonly entries: readonly StoredEntry[]
  find(
    topicId: string,
    topic: string,
    partition: number,
  ): Pick<CheckpointEntry, 'logStartOffset' | 'recoveryPoint' | 'highWatermark'> | undefined
}

export function loadCheckpoint(disk: Disk, directory: string): LoadedCheckpoint {
  const [a, b] = (['a', 'b'] as const).map((copy) => {
    const bytes = disk.readFile(`${directory}/stream-checkpoint.${copy}`)
    return { exists: bytes !== undefined, decoded: bytes && decodeCheckpoint(bytes) }
  }) as [ReadCopy, ReadCopy]
  const newest =
    (a.decoded?.generation ?? -1) >= (b.decoded?.generation ?? -1) ? a.decoded : b.decoded
  if (newest !== undefined) {
    const entries = new Map(newest.entries.map((entry) => [entryKey(entry), entry]))
    return {
      generation: newest.generation,
      known: true,
      nextCopy: newest === a.decoded ? 'b' : 'a',
      entries: newest.entries,
      find: (topicId, _topic, partition) => entries.get(entryKey({ topicId, partition })),
    }
  }
  return loadTextFiles(disk, directory, !a.exists && !b.exists)
}

interface ReadCopy {
  readonly exists: boolean
  readonly decoded: DecodedCheckpoint | undefined
}

/** Kafka's own files: read where ours are both bad, or where a Kafka broker wrote the directory. */
function loadTextFiles(disk: Disk, directory: string, known: boolean): LoadedCheckpoint {
  const files = TEXT_FILES.map(({ name }) => readOffsetFile(disk, `${directory}/${name}`))
  const [logStarts, recoveryPoints, highWatermarks] = files
  return {
    generation: 0,
    known,
    nextCopy: 'a',
    entries: [],
    find(_topicId, topic, partition) {
      const key = `${topic}-${partition}`
      const logStartOffset = logStarts?.get(key)
      const highWatermark = highWatermarks?.get(key)
      if (logStartOffset === undefined && highWatermark === undefined) return undefined
      return {
        logStartOffset: logStartOffset ?? 0,
        // Text has no checksum: a flipped digit here would hide bytes from the scan. Scan from the start instead.
        recoveryPoint: known ? (recoveryPoints?.get(key) ?? 0) : 0,
        highWatermark: highWatermark ?? 0,
      }
    },
  }
}

function readOffsetFile(disk: Disk, path: string): Map<string, number> | undefined {
  const bytes = disk.readFile(path)
  const entries = bytes && parseOffsetFile(Buffer.from(bytes).toString('utf8'))
  return (
    entries && new Map(entries.map((entry) => [`${entry.topic}-${entry.partition}`, entry.offset]))
  )
}

const TEXT_FILES = [
  { name: 'log-start-offset-checkpoint', field: 'logStartOffset' },
  { name: 'recovery-point-offset-checkpoint', field: 'recoveryPoint' },
  { name: 'replication-offset-checkpoint', field: 'highWatermark' },
] as const

/** @throws StreamError of the disk; the other copy stands then */
export async function writeCheckpointCopy(
  disk: Disk,
  syncs: SyncScheduler,
  directory: string,
  options: {
    readonly copy: 'a' | 'b'
    readonly generation: number
    readonly entries: readonly StoredEntry[]
  },
): Promise<void> {
  const bytes = encodeCheckpoint(options.generation, options.entries)
  await replaceFile(disk, syncs, `${directory}/stream-checkpoint.${options.copy}`, bytes)
}

/** For Kafka's tools and for people. @throws StreamError of the disk; the old files stand then */
export async function writeTextCheckpoints(
  disk: Disk,
  syncs: SyncScheduler,
  directory: string,
  entries: readonly CheckpointEntry[],
): Promise<void> {
  for (const { name, field } of TEXT_FILES) {
    const rows = entries.map(
      ({ topic, partition, [field]: offset }): OffsetEntry => ({ topic, partition, offset }),
    )
    await replaceFile(disk, syncs, `${directory}/${name}`, encodeOffsetFile(rows))
  }
}

export function entryKey(entry: { readonly topicId: string; readonly partition: number }): string {
  return `${entry.topicId}-${entry.partition}`
}
