/**
 * Filters of commands that read records (commands.md, section 3.4): `-k`, `-H`, `--grep`. All given must hold.
 * Keys and headers are compared byte for byte; regular expressions see the bytes as UTF-8 text.
 */

import type { RecordCursor } from '../record/record-cursor.ts'
import { equalBytes } from './find-bytes.ts'

export interface HeaderMatch {
  readonly name: Uint8Array
  /** null: the header's value is null. */
  readonly value: Uint8Array | null
}

export interface GrepTerm {
  readonly isNegated: boolean
  readonly part: 'key' | 'value' | 'topic' | 'header'
  /** Of `header`: its name. */
  readonly name: Uint8Array
  readonly pattern: RegExp
}

/**
 * `[!]k:/RE/`, `v:/RE/`, `t:/RE/`, `h:NAME=/RE/`, each with an `i` after the last slash for any case.
 * @returns a text that says what is wrong, if it is not of this form
 */
export function parseGrep(text: string): GrepTerm | string {
  const match = /^(!?)(?:([kvt]):|h:([^=]+)=)\/(.*)\/(i?)$/s.exec(text)
  if (match === null) return 'must be [!]k:/RE/, v:/RE/, t:/RE/ or h:NAME=/RE/'
  const parts = { k: 'key', v: 'value', t: 'topic' } as const
  const part = match[2] === undefined ? 'header' : parts[match[2] as 'k' | 'v' | 't']
  try {
    return {
      isNegated: match[1] === '!',
      part,
      name: Buffer.from(match[3] ?? '', 'utf8'),
      pattern: new RegExp(match[4] ?? '', match[5] === 'i' ? 'i' : ''),
    }
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}

/** `NAME=VALUE`; `NAME` alone: null. @returns undefined for an empty name */
export function parseHeader(text: string): HeaderMatch | undefined {
  const split = text.indexOf('=')
  const name = split < 0 ? text : text.slice(0, split)
  if (name === '') return undefined
  return {
    name: Buffer.from(name, 'utf8'),
    value: split < 0 ? null : Buffer.from(text.slice(split + 1), 'utf8'),
  }
}

export interface FilterOptions {
  readonly key?: Uint8Array
  readonly headers?: readonly HeaderMatch[]
  readonly grep?: readonly GrepTerm[]
  /** What is known of a record by its place. */
  readonly isWanted?: (partition: number, offset: number) => boolean
}

export class RecordFilter {
  readonly #key: Uint8Array | undefined
  readonly #headers: readonly HeaderMatch[]
  readonly #grep: readonly GrepTerm[]
  readonly #isWanted: FilterOptions['isWanted']
  #topic = ''
  #partition = -1

  constructor(options: FilterOptions) {
    this.#key = options.key
    this.#headers = options.headers ?? []
    this.#grep = options.grep ?? []
    this.#isWanted = options.isWanted
  }

  /** Nothing would be dropped. */
  get isEmpty(): boolean {
    const hasWords = this.#key !== undefined || this.#headers.length > 0 || this.#grep.length > 0
    return !hasWords && this.#isWanted === undefined
  }

  setTopic(topic: string, partition = -1): void {
    this.#topic = topic
    this.#partition = partition
  }

  /** Whether the record the cursor stands on is wanted. Moves the cursor's headers. */
  matches(cursor: RecordCursor): boolean {
    if (this.#isWanted?.(this.#partition, cursor.offset) === false) return false
    const key = this.#key
    if (key !== undefined) {
      if (cursor.keyStart < 0) return false
      if (!equalBytes(cursor.bytes, cursor.keyStart, cursor.keyEnd, key)) return false
    }
    for (const header of this.#headers) {
      if (!hasHeader(cursor, header)) return false
    }
    for (const term of this.#grep) {
      if (this.#holds(term, cursor) === term.isNegated) return false
    }
    return true
  }

  #holds(term: GrepTerm, cursor: RecordCursor): boolean {
    const { bytes } = cursor
    switch (term.part) {
      case 'topic':
        return term.pattern.test(this.#topic)
      case 'key':
        return (
          cursor.keyStart >= 0 && term.pattern.test(textOf(bytes, cursor.keyStart, cursor.keyEnd))
        )
      case 'value':
        return (
          cursor.valueStart >= 0 &&
          term.pattern.test(textOf(bytes, cursor.valueStart, cursor.valueEnd))
        )
      case 'header':
        return headerHolds(term, cursor)
    }
  }
}

function hasHeader(cursor: RecordCursor, wanted: HeaderMatch): boolean {
  cursor.rewindHeaders()
  while (cursor.nextHeader()) {
    const { bytes, headerKeyStart, headerKeyEnd, headerValueStart, headerValueEnd } = cursor
    if (!equalBytes(bytes, headerKeyStart, headerKeyEnd, wanted.name)) continue
    if (wanted.value === null) {
      if (headerValueStart < 0) return true
    } else if (
      headerValueStart >= 0 &&
      equalBytes(bytes, headerValueStart, headerValueEnd, wanted.value)
    ) {
      return true
    }
  }
  return false
}

function headerHolds(term: GrepTerm, cursor: RecordCursor): boolean {
  cursor.rewindHeaders()
  while (cursor.nextHeader()) {
    const { bytes, headerKeyStart, headerKeyEnd, headerValueStart, headerValueEnd } = cursor
    if (headerValueStart < 0) continue
    if (!equalBytes(bytes, headerKeyStart, headerKeyEnd, term.name)) continue
    if (term.pattern.test(textOf(bytes, headerValueStart, headerValueEnd))) return true
  }
  return false
}

function textOf(bytes: Uint8Array, start: number, end: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString('utf8')
}
