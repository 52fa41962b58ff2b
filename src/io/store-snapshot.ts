/**
 * The store's content as a text file that outlives it: readable without lmdb, checked as a whole.
 *
 *     stream-store-snapshot 1
 *     revision 42
 *     {"key":"…","createRevision":1,"modRevision":42,"isLeased":false,"value":"BASE64"}     one line an entry, in key order
 *     crc32c e3069283                                                                        of all bytes before this line
 */
import { StreamError } from '../base/errors.ts'
import type { StoreEntry } from '../ports/metadata-store.ts'
import { crc32cOf } from './crc32c-table.ts'
import type { StoreRecord } from './store-record.ts'

const TITLE = 'stream-store-snapshot 1'

export interface StoreSnapshot {
  readonly revision: number
  readonly records: readonly StoreRecord[]
}

export function formatSnapshot(snapshot: StoreSnapshot): Uint8Array {
  let text = `${TITLE}\nrevision ${snapshot.revision}\n`
  for (const { entry, isLeased } of snapshot.records) {
    const { key, createRevision, modRevision } = entry
    const value = Buffer.from(entry.value).toString('base64')
    text += `${JSON.stringify({ key, createRevision, modRevision, isLeased, value })}\n`
  }
  const body = Buffer.from(text)
  return Buffer.concat([body, Buffer.from(`crc32c ${hexOf(crc32cOf(body))}\n`)])
}

/** @throws StreamError STORE_DAMAGED */
export function parseSnapshot(bytes: Uint8Array): StoreSnapshot {
  const text = Buffer.from(bytes).toString('utf8')
  const end = text.lastIndexOf('\ncrc32c ') + 1
  const body = text.slice(0, end)
  if (text.slice(end) !== `crc32c ${hexOf(crc32cOf(Buffer.from(body)))}\n`) {
    throw unreadable('its checksum is wrong')
  }
  const [title, revisionLine, ...lines] = body.trimEnd().split('\n')
  const revision = /^revision (\d+)$/.exec(revisionLine ?? '')?.[1]
  if (title !== TITLE || revision === undefined) throw unreadable('its head is unknown')
  return { revision: Number(revision), records: lines.map(parseLine) }
}

function parseLine(line: string): StoreRecord {
  const fields = JSON.parse(line) as Omit<StoreEntry, 'value'> & {
    value: string
    isLeased: boolean
  }
  const { key, createRevision, modRevision, isLeased } = fields
  const value = new Uint8Array(Buffer.from(fields.value, 'base64'))
  return { entry: { key, value, createRevision, modRevision }, isLeased }
}

function hexOf(crc: number): string {
  return crc.toString(16).padStart(8, '0')
}

function unreadable(why: string): StreamError {
  return new StreamError('STORE_DAMAGED', `the store's snapshot cannot be read: ${why}`)
}
