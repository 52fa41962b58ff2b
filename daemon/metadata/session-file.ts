/**
 * What a data directory remembers of its sessions: the files `stream-session.a` and `stream-session.b`, written in turn
 * (temp, fsync, rename, fsync of the directory), so that one valid copy always exists.
 *
 *   "STSE" | int16 version = 1 | int64 generation | int32 length | JSON of that length | uint32 CRC-32C of all before
 *
 * These numbers are permanent. Both copies unreadable means unknown, never empty: the start is then lossy.
 */

import { isStreamError, StreamError } from '../../src/base/errors.ts'
import type { Disk } from '../../src/ports/disk.ts'
import { crc32c } from '../../src/record/crc32c.ts'
import type { RecordedIncarnation } from './lossy-start.ts'

const MAGIC = 'STSE'
const VERSION = 1
const HEAD_BYTES = 18
const CRC_BYTES = 4
const INCARNATIONS_MAX = 64

export interface SessionRecord {
  /** Oldest first; the newest 64 are kept. */
  readonly incarnations: readonly RecordedIncarnation[]
  readonly dataEpoch: number | undefined
  /** The largest store revision seen. */
  readonly revision: number
  /** Of the session, where it lives by time: the next process of this directory ends it instead of waiting. */
  readonly leaseId?: string | undefined
  /** The operator's last word on an old store that this directory has followed. */
  readonly restoredId?: string | undefined
  /** Partition epochs of the store as last seen, by topic id and partition; only of partitions held here, -1: another's. */
  readonly partitionEpochs?: PartitionEpochs | undefined
}

export type PartitionEpochs = Readonly<Record<string, readonly number[]>>

export type SessionFileState =
  | { readonly kind: 'absent' }
  | { readonly kind: 'damaged' }
  | { readonly kind: 'found'; readonly record: SessionRecord }

export class SessionFile {
  readonly #disk: Disk
  readonly #directory: string
  #generation = 0

  constructor(disk: Disk, directory: string) {
    this.#disk = disk
    this.#directory = directory
  }

  read(): SessionFileState {
    let best: { generation: number; record: SessionRecord } | undefined
    let isPresent = false
    for (const path of this.#paths()) {
      const bytes = this.#disk.readFile(path)
      if (bytes === undefined) continue
      isPresent = true
      const copy = decodeSessionFile(bytes)
      if (copy !== undefined && (best === undefined || copy.generation > best.generation)) {
        best = copy
      }
    }
    if (best === undefined) return isPresent ? { kind: 'damaged' } : { kind: 'absent' }
    this.#generation = best.generation
    return { kind: 'found', record: best.record }
  }

  async write(record: SessionRecord): Promise<void> {
    this.#generation += 1
    const [a, b] = this.#paths()
    const path = this.#generation % 2 === 0 ? a : b
    const temporary = `${path}.tmp`
    const bytes = encodeSessionFile(this.#generation, record)
    this.#disk.unlink(temporary)
    try {
      await this.#writeWhole(temporary, bytes)
    } catch (error) {
      this.#disk.unlink(temporary)
      const isOld = this.#disk.stat(path) !== undefined
      if (!isStreamError(error, 'DISK_FULL') || !isOld) throw error
      // Over the older copy, which needs no room: torn, it is invalid, and the other one counts.
      await this.#writeWhole(path, bytes)
      return
    }
    this.#disk.rename(temporary, path)
    await this.#disk.syncDirectory(this.#directory)
  }

  async #writeWhole(path: string, bytes: Uint8Array): Promise<void> {
    const file = this.#disk.open(path, 'write')
    try {
      file.write(0, [bytes])
      file.truncate(bytes.length)
      await file.sync()
    } finally {
      file.close()
    }
  }

  #paths(): readonly [string, string] {
    return [`${this.#directory}/stream-session.a`, `${this.#directory}/stream-session.b`]
  }
}

export function encodeSessionFile(generation: number, record: SessionRecord): Uint8Array {
  const json = Buffer.from(
    JSON.stringify({
      incarnations: record.incarnations.slice(-INCARNATIONS_MAX),
      dataEpoch: record.dataEpoch ?? null,
      revision: record.revision,
      ...(record.leaseId === undefined ? {} : { leaseId: record.leaseId }),
      ...(record.restoredId === undefined ? {} : { restoredId: record.restoredId }),
      ...(record.partitionEpochs === undefined ? {} : { partitionEpochs: record.partitionEpochs }),
    }),
    'utf8',
  )
  const bytes = Buffer.alloc(HEAD_BYTES + json.length + CRC_BYTES)
  bytes.write(MAGIC, 0, 'latin1')
  bytes.writeInt16BE(VERSION, 4)
  bytes.writeBigInt64BE(BigInt(generation), 6)
  bytes.writeInt32BE(json.length, 14)
  bytes.set(json, HEAD_BYTES)
  bytes.writeUInt32BE(crc32c(bytes, 0, HEAD_BYTES + json.length) >>> 0, HEAD_BYTES + json.length)
  return bytes
}

/** @returns undefined for anything but a whole, unchanged copy */
export function decodeSessionFile(
  bytes: Uint8Array,
): { generation: number; record: SessionRecord } | undefined {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  if (view.length < HEAD_BYTES + CRC_BYTES) return undefined
  if (view.toString('latin1', 0, 4) !== MAGIC || view.readInt16BE(4) !== VERSION) return undefined
  const jsonBytes = view.readInt32BE(14)
  if (jsonBytes < 0 || view.length !== HEAD_BYTES + jsonBytes + CRC_BYTES) return undefined
  const end = HEAD_BYTES + jsonBytes
  if (crc32c(view, 0, end) >>> 0 !== view.readUInt32BE(end)) return undefined
  const generation = Number(view.readBigInt64BE(6))
  if (!Number.isSafeInteger(generation) || generation < 0) return undefined
  const record = readRecord(view.toString('utf8', HEAD_BYTES, end))
  return record === undefined ? undefined : { generation, record }
}

function readRecord(json: string): SessionRecord | undefined {
  let value: unknown
  try {
    value = JSON.parse(json)
  } catch {
    return undefined
  }
  if (typeof value !== 'object' || value === null) return undefined
  const fields = value as Record<string, unknown>
  const { incarnations, dataEpoch, revision, leaseId, restoredId, partitionEpochs } = fields
  if (!Array.isArray(incarnations) || !Number.isSafeInteger(revision)) return undefined
  const isEpoch = dataEpoch === null || Number.isSafeInteger(dataEpoch)
  if (!isEpoch) return undefined
  if (leaseId !== undefined && typeof leaseId !== 'string') return undefined
  if (restoredId !== undefined && typeof restoredId !== 'string') return undefined
  if (partitionEpochs !== undefined && !isEpochTable(partitionEpochs)) return undefined
  const entries: RecordedIncarnation[] = []
  for (const entry of incarnations) {
    const { incarnation, registered } = (entry ?? {}) as Record<string, unknown>
    if (typeof incarnation !== 'string' || typeof registered !== 'boolean') return undefined
    entries.push({ incarnation, registered })
  }
  return {
    incarnations: entries,
    dataEpoch: (dataEpoch as number | null) ?? undefined,
    revision: revision as number,
    ...(leaseId === undefined ? {} : { leaseId }),
    ...(restoredId === undefined ? {} : { restoredId }),
    ...(partitionEpochs === undefined ? {} : { partitionEpochs }),
  }
}

function isEpochTable(value: unknown): value is PartitionEpochs {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false
  return Object.values(value).every(
    (epochs) => Array.isArray(epochs) && epochs.every((epoch) => Number.isSafeInteger(epoch)),
  )
}

/** The store is an older copy than what this directory knows. `shared`: other daemons have it too. */
export function regressedStore(directory: string, reason: string, shared: boolean): StreamError {
  const hint = shared
    ? 'put back the newer copy of etcd; or, to go on with the old one, start one daemon with --restored once, then the others'
    : 'put back the newer copy of the metadata, or announce the old one: --restored'
  return new StreamError('DATA_DIRECTORY_INVALID', `${directory}: ${reason}`, {
    target: directory,
    hint,
  })
}
