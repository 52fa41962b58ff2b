/** Keys, revisions and entries between etcd's form and the store's. */
import { assert } from '../base/assert.ts'
import type { StoreEntry } from '../ports/metadata-store.ts'
import type { EtcdKeyValue } from './etcd-schema.ts'

const ZERO = Uint8Array.of(0)
const EMPTY = new Uint8Array(0)
const decoder = new TextDecoder('utf-8', { fatal: true })

export function keyBytes(key: string): Uint8Array {
  return Buffer.from(key, 'utf8')
}

/** @throws TypeError for a key that is no UTF-8; all keys below our prefixes are written by us */
export function keyText(bytes: Uint8Array): string {
  return decoder.decode(bytes)
}

/** Of the range of all keys that begin with `prefix`. */
export function prefixStart(prefix: string): Uint8Array {
  return prefix === '' ? ZERO : keyBytes(prefix)
}

/** Exclusive. etcd reads a zero byte as "no end". */
export function prefixEnd(prefix: string): Uint8Array {
  const bytes = Buffer.from(prefix, 'utf8')
  // UTF-8 has no byte 0xff: the last one can always be raised.
  const last = bytes.at(-1)
  if (last === undefined) return ZERO
  bytes[bytes.length - 1] = last + 1
  return bytes
}

/** Absent stands for 0, as protobuf has it. */
export function revisionOf(text: string | undefined): number {
  const revision = Number(text ?? 0)
  assert(Number.isSafeInteger(revision), 'revisions are whole numbers below 2^53')
  return revision
}

export function entryOf(found: EtcdKeyValue): StoreEntry {
  return {
    key: keyText(found.key),
    // A copy: the value as it came keeps the whole message.
    value: found.value === undefined ? EMPTY : new Uint8Array(found.value),
    createRevision: revisionOf(found.createRevision),
    modRevision: revisionOf(found.modRevision),
  }
}
