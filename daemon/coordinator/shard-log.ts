/**
 * What the partitions of both internal topics share: reading a coordinator's whole log before it serves, and waiting for a
 * commit. Keys and values are the caller's to make sense of.
 *
 * Damage takes with it only what it covers: reading goes on behind it, because the records beside it are still wanted.
 */

import { isStreamError } from '../../src/base/errors.ts'
import type { Log } from '../../src/ports/log.ts'
import {
  attributesAt,
  batchBytesAt,
  isControl,
  isTransactional,
  producerEpochAt,
  producerIdAt,
} from '../../src/record/batch-layout.ts'
import { readControlBatch } from '../../src/record/control-batch.ts'
import { RecordCursor } from '../../src/record/record-cursor.ts'
import type { Partition } from '../replica/partition.ts'

const READ_BYTES = 1024 * 1024

/** Whose transaction a record belongs to. */
export interface TransactionOwner {
  readonly producerId: number
  readonly producerEpoch: number
}

export interface ShardLogOptions {
  /** Exclusive. */
  readonly endOffset: number
  readonly log: Log
  /** Of the operator's messages: `committed offsets`, `the state of transactions`. */
  readonly what: string
  /** Asked between reads; false ends the reading. */
  readonly isWanted: () => boolean
  /** Every record with a key, in order. What it throws as a StreamError is said, and the record left out. */
  readonly onRecord: (
    key: Uint8Array,
    value: Uint8Array | null,
    offset: number,
    owner: TransactionOwner | undefined,
  ) => void
  /** The end of a transaction, at its place among the records. */
  readonly onMarker?: (producerId: number, isCommit: boolean) => void
}

/** @throws StreamError what the log throws, but for damage */
export async function readShardLog(partition: Partition, options: ShardLogOptions): Promise<void> {
  const { endOffset, isWanted } = options
  const cursor = new RecordCursor()
  let offset = partition.log.logStartOffset
  while (offset < endOffset && isWanted()) {
    offset = await readSome(partition, cursor, offset, options)
  }
}

/** Resolves when the high watermark has reached `endOffset`. @returns false when it never will here */
export function whenCommitted(partition: Partition, endOffset: number): Promise<boolean> {
  return new Promise((resolve) => {
    partition.whenCommitted({
      endOffset,
      onCommitted: () => resolve(true),
      onLost: () => resolve(false),
    })
  })
}

export function rangeOf(bytes: Uint8Array) {
  return { bytes, start: 0, end: bytes.length }
}

/** @returns where to go on */
async function readSome(
  partition: Partition,
  cursor: RecordCursor,
  offset: number,
  options: ShardLogOptions,
): Promise<number> {
  const { endOffset } = options
  let slice: Awaited<ReturnType<typeof partition.log.read>>
  try {
    slice = await partition.log.read({ offset, maxBytes: READ_BYTES, endOffset })
  } catch (error) {
    const next = afterDamage(partition, error, offset, options)
    if (next === undefined) throw error
    return next
  }
  for (const bytes of slice.bytes) {
    for (let at = 0; at < bytes.length; at += batchBytesAt(bytes, at)) {
      if (isControl(attributesAt(bytes, at))) takeMarker(bytes, at, options)
      else takeBatch(partition, cursor, bytes, at, options)
    }
  }
  return slice.nextOffset > offset ? slice.nextOffset : endOffset
}

/** Where the log goes on behind damage. */
function afterDamage(
  partition: Partition,
  error: unknown,
  offset: number,
  { log, what }: ShardLogOptions,
): number | undefined {
  if (!isStreamError(error, 'DATA_DAMAGED')) return undefined
  const range = partition.log.damage.find(
    ({ startOffset, endOffset }) => startOffset <= offset && offset < endOffset,
  )
  if (range === undefined || !Number.isFinite(range.endOffset)) return undefined
  log.error(`damaged and left out: ${what}`, {
    partition: partition.partition,
    from: offset,
    to: range.endOffset,
  })
  return range.endOffset
}

function takeMarker(batches: Uint8Array, at: number, { onMarker }: ShardLogOptions): void {
  if (onMarker === undefined) return
  const record = readControlBatch(batches, at)
  if (record?.kind === 'marker') onMarker(record.producerId, record.type === 'commit')
}

function takeBatch(
  partition: Partition,
  cursor: RecordCursor,
  batches: Uint8Array,
  at: number,
  { log, what, onRecord }: ShardLogOptions,
): void {
  const owner = isTransactional(attributesAt(batches, at))
    ? { producerId: producerIdAt(batches, at), producerEpoch: producerEpochAt(batches, at) }
    : undefined
  cursor.reset(batches, at)
  while (cursor.next()) {
    const { bytes, keyStart, keyEnd, valueStart, valueEnd, offset } = cursor
    if (keyStart < 0) continue
    const value = valueStart < 0 ? null : bytes.subarray(valueStart, valueEnd)
    try {
      onRecord(bytes.subarray(keyStart, keyEnd), value, offset, owner)
    } catch (error) {
      if (!isStreamError(error)) throw error
      log.error(`a record that cannot be read is left out: ${what}`, {
        partition: partition.partition,
        offset,
        error: error.message,
      })
    }
  }
}
