/**
 * The format language (`-F`, commands.md, section 3.3) from its text to a list of nodes, once a run; format-writer.ts
 * prints by them, format-program.ts turns them into what format-reader.ts reads by. Both directions share one text.
 *
 * Invariants: neighbouring literals are one node; each other node knows its place in the text, for refusals.
 */

import { UsageError } from '../base/errors.ts'
import { parseTimePattern, type TimePattern } from './format-time.ts'

export type BytesEncoding = 'plain' | 'base64' | 'hex' | 'json'

export type NumberForm =
  | { readonly kind: 'ascii' }
  | { readonly kind: 'hex' }
  /** Signed, of 1, 2, 4 or 8 bytes. */
  | { readonly kind: 'binary'; readonly byteCount: number; readonly isLittle: boolean }

export type NumberOf =
  | 'value-length'
  | 'key-length'
  | 'topic-length'
  | 'partition'
  | 'timestamp'
  | 'offset'
  | 'leader-epoch'
  | 'count'
  | 'header-count'
  | 'log-start'
  | 'last-stable'
  | 'high-watermark'

/** Where in the text, from 1, and how it is written there. */
interface Place {
  readonly place: number
  readonly text: string
}

export type FormatNode =
  | { readonly kind: 'literal'; readonly bytes: Uint8Array }
  | (Place & {
      readonly kind: 'bytes'
      readonly of: 'value' | 'key' | 'topic'
      readonly encoding: BytesEncoding
      /** Stands for null. */
      readonly nullText: Uint8Array | undefined
    })
  | (Place & { readonly kind: 'number'; readonly of: NumberOf; readonly form: NumberForm })
  | (Place & { readonly kind: 'time'; readonly pattern: TimePattern })
  | (Place & { readonly kind: 'headers'; readonly inner: readonly FormatNode[] })
  | (Place & { readonly kind: 'header-list' })
  | (Place & { readonly kind: 'envelope' })

const bytesTokens: Readonly<Record<string, 'value' | 'key' | 'topic'>> = {
  v: 'value',
  s: 'value',
  k: 'key',
  t: 'topic',
}
const numberTokens: Readonly<Record<string, NumberOf>> = {
  V: 'value-length',
  S: 'value-length',
  R: 'value-length',
  K: 'key-length',
  T: 'topic-length',
  p: 'partition',
  d: 'timestamp',
  o: 'offset',
  e: 'leader-epoch',
  i: 'count',
  H: 'header-count',
  '[': 'log-start',
  '|': 'last-stable',
  ']': 'high-watermark',
}
const big32: NumberForm = { kind: 'binary', byteCount: 4, isLittle: false }

/** @throws UsageError that names the place */
export function parseFormat(text: string): FormatNode[] {
  const parser = new FormatParser(text)
  const nodes = parser.nodes(false)
  if (nodes.length === 0) throw new UsageError('--format: empty, so it would print nothing')
  return nodes
}

export function formatError(place: number, message: string): UsageError {
  return new UsageError(
    `--format: character ${place}: ${message}`,
    'the language: stream help formats',
  )
}

class FormatParser {
  readonly #text: string
  #at = 0

  constructor(text: string) {
    this.#text = text
  }

  /** @param isInner  between the braces of `%h{…}`, the closing one of which is taken */
  nodes(isInner: boolean): FormatNode[] {
    const nodes: FormatNode[] = []
    const text = this.#text
    const open = this.#at
    let literal: number[] = []
    const endLiteral = (): void => {
      if (literal.length > 0) nodes.push({ kind: 'literal', bytes: Uint8Array.from(literal) })
      literal = []
    }
    for (;;) {
      const character = text[this.#at]
      if (character === undefined) {
        if (isInner) throw formatError(open, 'a { without its }')
        break
      }
      if (isInner && character === '}') {
        this.#at += 1
        break
      }
      if (character === '\\') literal.push(...this.#escape())
      else if (character === '%' && text[this.#at + 1] === '%') {
        literal.push(0x25)
        this.#at += 2
      } else if (character === '%') {
        endLiteral()
        nodes.push(this.#token(isInner))
      } else literal.push(...this.#plain())
    }
    endLiteral()
    return nodes
  }

  #plain(): Uint8Array {
    const character = String.fromCodePoint(this.#text.codePointAt(this.#at) ?? 0)
    this.#at += character.length
    return Buffer.from(character, 'utf8')
  }

  /** `\n \t \r \0 \\ \{ \} \xHH` */
  #escape(): readonly number[] {
    const place = this.#at + 1
    const escaped = this.#text[this.#at + 1]
    if (escaped === 'x') {
      const hex = this.#text.slice(this.#at + 2, this.#at + 4)
      if (!/^[0-9A-Fa-f]{2}$/.test(hex))
        throw formatError(place, String.raw`\x needs two hex digits`)
      this.#at += 4
      return [Number.parseInt(hex, 16)]
    }
    const byte = { n: 10, t: 9, r: 13, '0': 0, '\\': 92, '{': 0x7b, '}': 0x7d }[escaped ?? '']
    if (byte === undefined) {
      throw formatError(place, `\\${escaped ?? ''}: no such escape; there are ${escapes}`)
    }
    this.#at += 2
    return [byte]
  }

  #token(isInner: boolean): FormatNode {
    const start = this.#at
    const place = start + 1
    const letter = this.#text[start + 1]
    if (letter === undefined) throw formatError(place, 'a % at the end; a literal one is %%')
    this.#at += 2
    if (letter === 'h') return this.#headers(start, isInner)
    const modifiers = this.#modifiers()
    const written = { place, text: this.#text.slice(start, this.#at) }
    const isHeaderToken = 'vkVK'.includes(letter)
    if (isInner && !isHeaderToken) {
      throw formatError(place, `${written.text}: inside %h{…} there are %k, %v, %K and %V`)
    }
    if (letter === 'j') {
      const [first] = modifiers
      if (first !== undefined) throw unknownModifier(first, '%j', 'none')
      return { ...written, kind: 'envelope' }
    }
    const bytesOf = Object.hasOwn(bytesTokens, letter) ? bytesTokens[letter] : undefined
    if (bytesOf !== undefined) return this.#bytes(written, bytesOf, modifiers)
    if (letter === 'd') return timeNode(written, modifiers)
    const numberOf = Object.hasOwn(numberTokens, letter) ? numberTokens[letter] : undefined
    if (numberOf === undefined) {
      throw formatError(place, `%${letter}: no such token; a literal % is %%`)
    }
    const [first, second] = modifiers
    if (letter === 'R') {
      if (first !== undefined) throw unknownModifier(first, '%R', 'none')
      return { ...written, kind: 'number', of: numberOf, form: big32 }
    }
    if (second !== undefined)
      throw formatError(second.place, `${written.text}: one modifier at most`)
    const form: NumberForm =
      first === undefined ? { kind: 'ascii' } : requireNumberForm(first, letter)
    return { ...written, kind: 'number', of: numberOf, form }
  }

  #headers(start: number, isInner: boolean): FormatNode {
    const place = start + 1
    if (isInner) throw formatError(place, '%h inside %h{…}')
    if (this.#text[this.#at] !== '{') return { place, text: '%h', kind: 'header-list' }
    this.#at += 1
    const inner = this.nodes(true)
    return { place, text: this.#text.slice(start, this.#at), kind: 'headers', inner }
  }

  #bytes(
    written: Place,
    of: 'value' | 'key' | 'topic',
    modifiers: readonly Modifier[],
  ): FormatNode {
    let encoding: BytesEncoding = 'plain'
    let nullText: Uint8Array | undefined
    for (const modifier of modifiers) {
      const { name, value, place } = modifier
      if (name === 'null' && value !== undefined && of !== 'topic') nullText = value
      else if (name === 'base64' || name === 'hex' || name === 'json') {
        if (encoding !== 'plain') throw formatError(place, `${written.text}: two encodings`)
        encoding = name
      } else {
        const known = of === 'topic' ? 'base64, hex, json' : 'base64, hex, json, null=TEXT'
        throw unknownModifier(modifier, written.text, known)
      }
    }
    return { ...written, kind: 'bytes', of, encoding, nullText }
  }

  /** `{a,b=c}` behind a token; none if there is no brace. */
  #modifiers(): Modifier[] {
    const open = this.#at
    if (this.#text[open] !== '{') return []
    this.#at += 1
    const modifiers: Modifier[] = []
    for (;;) {
      modifiers.push(this.#modifier(open + 1))
      const next = this.#text[this.#at]
      if (next === undefined) throw formatError(open + 1, 'a { without its }')
      this.#at += 1
      if (next === '}') return modifiers
    }
  }

  #modifier(open: number): Modifier {
    const start = this.#at
    const name = /^[a-z0-9]*/.exec(this.#text.slice(start))?.[0] ?? ''
    this.#at += name.length
    const next = this.#text[this.#at]
    if (name === 'strftime' && next === '[') {
      const end = this.#text.indexOf(']', this.#at)
      if (end < 0) throw formatError(this.#at + 1, 'strftime[ without its ]')
      const pattern = this.#text.slice(this.#at + 1, end)
      const place = this.#at + 2
      this.#at = end + 1
      return { name, place, pattern }
    }
    if (next === '=') {
      this.#at += 1
      const value: number[] = []
      for (;;) {
        const character = this.#text[this.#at]
        if (character === undefined) throw formatError(open, 'a { without its }')
        if (character === ',' || character === '}') break
        value.push(...(character === '\\' ? this.#escape() : this.#plain()))
      }
      return { name, place: start + 1, value: Uint8Array.from(value) }
    }
    if (next !== ',' && next !== '}') {
      if (next === undefined) throw formatError(open, 'a { without its }')
      throw formatError(this.#at + 1, `${next}: not a modifier; a literal { is \\{`)
    }
    return { name, place: start + 1 }
  }
}

const escapes = String.raw`\n \t \r \0 \\ \{ \} \xHH`

interface Modifier {
  readonly name: string
  readonly place: number
  /** Behind `=`. */
  readonly value?: Uint8Array
  /** Of `strftime[…]`. */
  readonly pattern?: string
}

const numberForms = 'ascii, hex, big8 to big64, little8 to little64'

function unknownModifier(modifier: Modifier, token: string, known: string): UsageError {
  return formatError(modifier.place, `${token}: no modifier ${modifier.name}; there are: ${known}`)
}

function findNumberForm(modifier: Modifier): NumberForm | undefined {
  const { name, value } = modifier
  if (value !== undefined) return undefined
  if (name === 'ascii' || name === 'hex') return { kind: name }
  const match = /^(big|little)(8|16|32|64)$/.exec(name)
  if (match === null) return undefined
  return { kind: 'binary', byteCount: Number(match[2]) / 8, isLittle: match[1] === 'little' }
}

function requireNumberForm(modifier: Modifier, letter: string): NumberForm {
  const form = findNumberForm(modifier)
  if (form === undefined) throw unknownModifier(modifier, `%${letter}`, numberForms)
  return form
}

/** `%d`: digits of milliseconds, or a time in words. */
function timeNode(written: Place, modifiers: readonly Modifier[]): FormatNode {
  let form: NumberForm | undefined
  let pattern: TimePattern | undefined
  let isMs = false
  let local: Modifier | undefined
  for (const modifier of modifiers) {
    const { name, place } = modifier
    const number = findNumberForm(modifier)
    if (name === 'local') local = modifier
    else if (form !== undefined || pattern !== undefined || (isMs && number === undefined)) {
      throw formatError(place, `${written.text}: two forms of one time`)
    } else if (number !== undefined) form = number
    else if (name === 'ms') isMs = true
    else if (name === 's') pattern = { kind: 'seconds' }
    else if (name === 'iso') pattern = { kind: 'iso', isLocal: false }
    else if (name === 'strftime' && modifier.pattern !== undefined) {
      pattern = parseTimePattern(modifier.pattern, (at, message) => {
        throw formatError(place + at, message)
      })
    } else {
      throw unknownModifier(modifier, '%d', `ms, s, iso, strftime[…], local, ${numberForms}`)
    }
  }
  if (pattern === undefined || pattern.kind === 'seconds') {
    if (local !== undefined) throw formatError(local.place, 'local goes with iso or strftime[…]')
  }
  if (pattern === undefined) {
    return { ...written, kind: 'number', of: 'timestamp', form: form ?? { kind: 'ascii' } }
  }
  const isLocal = local !== undefined
  return {
    ...written,
    kind: 'time',
    pattern: pattern.kind === 'seconds' ? pattern : { ...pattern, isLocal },
  }
}
