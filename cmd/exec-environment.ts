/** What a child of `consume --exec` finds in its environment (commands.md, section 5). */

import type { RecordCursor } from '../src/record/record-cursor.ts'
import { isUtf8Range } from '../src/text/utf8.ts'

export type Environment = Record<string, string | undefined>

/** Of an outer --exec, perhaps: what a child is not given it must not find. */
const cleared: Environment = Object.fromEntries(
  [
    'TOPIC',
    'PARTITION',
    'OFFSET',
    'TS',
    'HEADERS',
    'KEY',
    'KEY_B64',
    'FIRST',
    'LAST',
    'COUNT',
    'ATTEMPT',
  ].map((name) => [`STREAM_${name}`, undefined]),
)

/** Of one record. @param cursor  on it; its headers are moved */
export function recordEnvironment(
  topic: string,
  partition: number,
  cursor: RecordCursor,
): Environment {
  return {
    ...cleared,
    STREAM_TOPIC: topic,
    STREAM_PARTITION: String(partition),
    STREAM_OFFSET: String(cursor.offset),
    STREAM_TS: cursor.timestampMs < 0 ? undefined : String(cursor.timestampMs),
    STREAM_HEADERS: headersText(cursor),
    ...keyVariable(cursor),
  }
}

/** Of several. Offsets are inclusive. */
export function batchEnvironment(work: {
  readonly part: { readonly topic: string; readonly partition: number }
  readonly firstOffset: number
  readonly lastOffset: number
  readonly count: number
}): Environment {
  return {
    ...cleared,
    STREAM_TOPIC: work.part.topic,
    STREAM_PARTITION: String(work.part.partition),
    STREAM_FIRST: String(work.firstOffset),
    STREAM_LAST: String(work.lastOffset),
    STREAM_COUNT: String(work.count),
  }
}

function keyVariable({ bytes, keyStart, keyEnd }: RecordCursor): Environment {
  if (keyStart < 0) return {}
  const key = bufferOf(bytes, keyStart, keyEnd)
  return key.includes(0) || !isUtf8Range(bytes, keyStart, keyEnd)
    ? { STREAM_KEY_B64: key.toString('base64') }
    : { STREAM_KEY: key.toString('utf8') }
}

/** As in the envelope: pairs; strings, `{"b64":…}` for what is not UTF-8, null. */
function headersText(cursor: RecordCursor): string {
  if (cursor.headerCount === 0) return '[]'
  const pairs: unknown[] = []
  cursor.rewindHeaders()
  while (cursor.nextHeader()) {
    const { bytes, headerKeyStart, headerKeyEnd, headerValueStart, headerValueEnd } = cursor
    const name = textOf(bytes, headerKeyStart, headerKeyEnd)
    const value = headerValueStart < 0 ? null : textOf(bytes, headerValueStart, headerValueEnd)
    pairs.push([name, value])
  }
  return JSON.stringify(pairs)
}

function textOf(bytes: Uint8Array, start: number, end: number): unknown {
  const text = bufferOf(bytes, start, end)
  return isUtf8Range(bytes, start, end) ? text.toString('utf8') : { b64: text.toString('base64') }
}

function bufferOf(bytes: Uint8Array, start: number, end: number): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start)
}
