/**
 * Records for a person in front of a terminal: one line each, what it is from before it, the value cut to the width.
 *
 *     09:30:00.123 orders/0@41 key  value that is longer than the line…
 *
 * Invariant: nothing of a record reaches the terminal but printable text: control bytes are shown as `\x1b`, bytes that
 * are no UTF-8 as U+FFFD, and a line is never longer than the width.
 */

import type { OutputBuffer } from '../record/output-buffer.ts'
import type { RecordCursor } from '../record/record-cursor.ts'
import { type RecordWriter, visibleText } from './record-writer.ts'

export interface ScreenOptions {
  /** Columns of the terminal at this moment; undefined: not known, and nothing is cut. */
  readonly columns: () => number | undefined
  readonly hasColor: boolean
  /** Whether records are of more than one topic. */
  readonly showsTopic: boolean
  /** Milliseconds since 1970: of other days the date is shown. */
  readonly nowMs: () => number
}

/** No more of a value is looked at than a wide line could show. */
const BYTES_MAX = 8192
const KEY_WIDTH_MAX = 32
const dim = '\x1b[2m'
const cyan = '\x1b[36m'
const reset = '\x1b[0m'

export class ScreenWriter implements RecordWriter {
  readonly #options: ScreenOptions
  #place = ''

  constructor(options: ScreenOptions) {
    this.#options = options
  }

  setPartition(topic: string, partition: number): void {
    this.#place = this.#options.showsTopic
      ? `${visibleText(topic)}/${partition}`
      : String(partition)
  }

  write(cursor: RecordCursor, out: OutputBuffer): void {
    const { hasColor } = this.#options
    const paint = (style: string, text: string): string =>
      hasColor && text !== '' ? `${style}${text}${reset}` : text
    const head = `${this.#time(cursor.timestampMs)} ${this.#place}@${cursor.offset}`
    const key = cursor.keyStart < 0 ? '' : this.#text(cursor, cursor.keyStart, cursor.keyEnd)
    const shownKey = cutToWidth(key, KEY_WIDTH_MAX)
    const columns = this.#options.columns() ?? Number.POSITIVE_INFINITY
    const used = displayWidth(head) + 1 + (shownKey === '' ? 0 : displayWidth(shownKey) + 1)
    const left = Math.max(8, columns - used)
    const isNull = cursor.valueStart < 0
    const value = isNull ? 'null' : this.#text(cursor, cursor.valueStart, cursor.valueEnd)
    const shownValue = cutToWidth(value, left)
    const parts = [paint(dim, head)]
    if (shownKey !== '') parts.push(paint(cyan, shownKey))
    parts.push(isNull ? paint(dim, shownValue) : shownValue)
    out.append(Buffer.from(`${parts.join(' ')}\n`, 'utf8'))
  }

  #text(cursor: RecordCursor, start: number, end: number): string {
    const cut = Math.min(end, start + BYTES_MAX)
    const text = Buffer.from(cursor.bytes.subarray(start, cut)).toString('utf8')
    return visibleText(cut < end ? `${text}…` : text)
  }

  /** Local time of day, with the date where that is not today. */
  #time(ms: number): string {
    if (ms < 0 || ms > 8.64e15) return '-'
    const date = new Date(ms)
    const two = (value: number): string => String(value).padStart(2, '0')
    const time = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${String(date.getMilliseconds()).padStart(3, '0')}`
    const today = new Date(this.#options.nowMs())
    const isToday = date.toDateString() === today.toDateString()
    if (isToday) return time
    return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${time}`
  }
}

/** Cells that a text takes on a terminal: wide letters take two, marks that join none. */
export function displayWidth(text: string): number {
  let width = 0
  for (const character of text) width += cellsOf(character.codePointAt(0) ?? 0)
  return width
}

export function cutToWidth(text: string, widthMax: number): string {
  let width = 0
  let at = 0
  /** Where the text is cut if it turns out too long. */
  let cutAt = 0
  for (const character of text) {
    width += cellsOf(character.codePointAt(0) ?? 0)
    if (width > widthMax) return `${text.slice(0, cutAt)}…`
    at += character.length
    if (width <= widthMax - 1) cutAt = at
  }
  return text
}

function cellsOf(code: number): number {
  if (code < 0x300) return 1
  const joins =
    (code >= 0x300 && code <= 0x36f) ||
    (code >= 0x200b && code <= 0x200f) ||
    (code >= 0x202a && code <= 0x202e) ||
    (code >= 0xfe00 && code <= 0xfe0f) ||
    code === 0xfeff
  if (joins) return 0
  const isWide =
    (code >= 0x1100 && code <= 0x115f) ||
    (code >= 0x2e80 && code <= 0xa4cf) ||
    (code >= 0xac00 && code <= 0xd7a3) ||
    (code >= 0xf900 && code <= 0xfaff) ||
    (code >= 0xfe30 && code <= 0xfe6f) ||
    (code >= 0xff00 && code <= 0xff60) ||
    (code >= 0xffe0 && code <= 0xffe6) ||
    (code >= 0x1f300 && code <= 0x1faff) ||
    (code >= 0x20000 && code <= 0x3fffd)
  return isWide ? 2 : 1
}
