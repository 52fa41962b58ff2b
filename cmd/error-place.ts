/**
 * The place of a usage error in the command line, drawn as two lines:
 *
 *       stream produce orders --compres zstd
 *                             ^^^^^^^^^
 *
 * Nothing is drawn where the place is not certain: a wrong mark is worse than none. A command line with a secret key in
 * it is never repeated.
 */

import type { UsageError } from '../src/base/errors.ts'
import { findKey } from '../src/config/keys.ts'
import { visibleText } from '../src/text/record-writer.ts'

const WIDTH_MAX = 76

/** @returns  lines with their newlines; undefined if it is not certain which word is meant */
export function pointIntoWords(words: readonly string[], error: UsageError): string | undefined {
  if (words.some(mayHoldSecret)) return undefined
  const shown = words.map(showWord)
  const found = findWord(words, error)
  if (found === undefined) return undefined
  const { index, at, length } = found
  const before = ['stream', ...shown.slice(0, index)].join(' ').length + 1
  const isPlain = shown[index] === words[index]
  // Of a quoted word the inside cannot be pointed at by counting.
  const from = isPlain ? before + at : before
  const count = isPlain ? length : (shown[index]?.length ?? 1)
  const line = ['stream', ...shown].join(' ')
  if (from + count > WIDTH_MAX) return undefined
  const cut = line.length > WIDTH_MAX ? `${line.slice(0, WIDTH_MAX - 1)}…` : line
  return `  ${cut}\n  ${' '.repeat(from)}${'^'.repeat(Math.max(1, count))}\n`
}

interface FoundWord {
  readonly index: number
  /** In characters of the word. */
  readonly at: number
  readonly length: number
}

/** The word that the error speaks of: the one that holds its place, or the only one that its first words repeat. */
function findWord(words: readonly string[], { message, place }: UsageError): FoundWord | undefined {
  if (place !== undefined) {
    const index = words.findIndex((word) => word.endsWith(place.text))
    const start = (words[index]?.length ?? 0) - place.text.length
    return index < 0 ? undefined : { index, at: start + place.at, length: place.length }
  }
  const flag = /^(?:unknown flag )?(--?[A-Za-z0-9-]+)(?: (.*?): |:|$| )/.exec(message)
  if (flag !== null) return findFlag(words, flag[1] ?? '', flag[2])
  const subject = /^(?:unexpected argument )?(\S+?)(?::|$)/.exec(message)?.[1]
  const indexes = [...words.keys()].filter((index) => words[index] === subject)
  const [index] = indexes
  if (index === undefined || indexes.length > 1) return undefined
  return { index, at: 0, length: words[index]?.length ?? 0 }
}

/** The value of a flag where the error names it, else the flag. */
function findFlag(
  words: readonly string[],
  flag: string,
  value: string | undefined,
): FoundWord | undefined {
  const index = words.findLastIndex((word) => word === flag || word.startsWith(`${flag}=`))
  const word = words[index]
  if (word === undefined) return undefined
  if (value !== undefined && word === flag && words[index + 1] === value) {
    return { index: index + 1, at: 0, length: value.length }
  }
  if (value !== undefined && word === `${flag}=${value}`) {
    return { index, at: flag.length + 1, length: value.length }
  }
  return { index, at: 0, length: flag.length }
}

function mayHoldSecret(word: string): boolean {
  const name = word.replace(/^-X/, '').split('=')[0] ?? ''
  return findKey('client', name)?.type === 'secret' || /:\/\/[^/]*@/.test(word)
}

/** As it would be typed. */
function showWord(word: string): string {
  const visible = visibleText(word)
  return /^[\w@%+=:,./-]+$/.test(visible) ? visible : `'${visible.replaceAll("'", "'\\''")}'`
}
