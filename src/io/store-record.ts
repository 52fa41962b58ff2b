/**
 * One value as the embedded store keeps it (replication.md, section 15: lmdb has no checksums of its own).
 * These numbers are permanent; all integers big-endian:
 *
 *     0  format         int8    1
 *     1  flags          int8    bit 0: the key belongs to a lease, and goes when the store is opened again
 *     2  createRevision int64
 *    10  modRevision    int64
 *    18  crc            uint32  CRC-32C of the key in UTF-8, bytes 0–17, and the value
 *    22  value          …
 */
import { StreamError } from '../base/errors.ts'
import type { StoreEntry } from '../ports/metadata-store.ts'
import { crc32cOf } from './crc32c-table.ts'

const FORMAT = 1
const FLAG_LEASED = 1
const CRC_AT = 18
const HEADER_BYTES = 22

export interface StoreRecord {
  readonly entry: StoreEntry
  readonly isLeased: boolean
}

export function encodeStoreRecord(record: StoreRecord): Uint8Array {
  const { entry, isLeased } = record
  const bytes = new Uint8Array(HEADER_BYTES + entry.value.length)
  const view = new DataView(bytes.buffer)
  view.setUint8(0, FORMAT)
  view.setUint8(1, isLeased ? FLAG_LEASED : 0)
  view.setBigInt64(2, BigInt(entry.createRevision))
  view.setBigInt64(10, BigInt(entry.modRevision))
  bytes.set(entry.value, HEADER_BYTES)
  view.setUint32(CRC_AT, crcOf(entry.key, bytes))
  return bytes
}

/** @throws StreamError STORE_DAMAGED, naming the key */
export function decodeStoreRecord(key: string, bytes: Uint8Array): StoreRecord {
  if (bytes.length < HEADER_BYTES) throw damaged(key, 'its value is cut off')
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  if (view.getUint8(0) !== FORMAT) throw damaged(key, `its format is ${view.getUint8(0)}`)
  if (view.getUint32(CRC_AT) !== crcOf(key, bytes)) throw damaged(key, 'its checksum is wrong')
  return {
    entry: {
      key,
      value: new Uint8Array(bytes.subarray(HEADER_BYTES)),
      createRevision: Number(view.getBigInt64(2)),
      modRevision: Number(view.getBigInt64(10)),
    },
    isLeased: (view.getUint8(1) & FLAG_LEASED) !== 0,
  }
}

export function damaged(key: string, why: string): StreamError {
  return new StreamError(
    'STORE_DAMAGED',
    `the metadata store is damaged at the key ${key}: ${why}`,
    {
      target: key,
      hint: 'its last exported snapshot is the file metadata.snapshot beside it',
    },
  )
}

function crcOf(key: string, bytes: Uint8Array): number {
  return crc32cOf(
    new TextEncoder().encode(key),
    bytes.subarray(0, CRC_AT),
    bytes.subarray(HEADER_BYTES),
  )
}
