/**
 * JSON read as bytes (RFC 8259), without building values: where a value ends, where the member of a path stands, what
 * a string decodes to. Made for the hot path of `--key-json` and of envelope input, where JSON.parse for every line
 * would cost several times as much (performance.md, section 2).
 *
 * Invariants:
 * - What is accepted is exactly what JSON.parse accepts, but that bytes above 0x7F are taken in strings as they are:
 *   whether they are UTF-8 is checked by whoever needs text (utf8.ts).
 * - Nesting costs one byte of a stack that is kept, so no depth can overflow the call stack.
 * - Of a repeated member the last counts, as in JSON.parse.
 */

const QUOTE = 0x22
const BACKSLASH = 0x5c
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d
const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d
const COMMA = 0x2c
const COLON = 0x3a

/** No value here; the scanner's `errorAt` says where it ended. */
export const NOT_JSON = -1

export class JsonScanner {
  /** Whether the string skipped last holds an escape. */
  hasEscape = false
  /** Where the last failure was noticed. */
  errorAt = 0
  /** The range found by findPath. */
  foundStart = NOT_JSON
  foundEnd = NOT_JSON
  #nesting = new Uint8Array(64)

  skipSpace(bytes: Uint8Array, from: number, end: number): number {
    let at = from
    while (at < end) {
      const byte = bytes[at]
      if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) break
      at += 1
    }
    return at
  }

  /** @param from  the byte after the opening quote. @returns the byte after the closing one, or NOT_JSON */
  skipString(bytes: Uint8Array, from: number, end: number): number {
    this.hasEscape = false
    let at = from
    while (at < end) {
      const byte = bytes[at] as number
      if (byte === QUOTE) return at + 1
      if (byte < 0x20) break
      if (byte !== BACKSLASH) {
        at += 1
        continue
      }
      this.hasEscape = true
      const escaped = at + 1 < end ? bytes[at + 1] : 0
      switch (escaped) {
        case QUOTE:
        case BACKSLASH:
        case 0x2f:
        case 0x62:
        case 0x66:
        case 0x6e:
        case 0x72:
        case 0x74:
          at += 2
          break
        case 0x75:
          if (readHex4(bytes, at + 2, end) < 0) return this.#fail(at)
          at += 6
          break
        default:
          return this.#fail(at)
      }
    }
    return this.#fail(at)
  }

  /** @param from  the first byte of a value, white space before it is none. @returns the byte after it, or NOT_JSON */
  skipValue(bytes: Uint8Array, from: number, end: number): number {
    let at = from
    let depth = 0
    for (;;) {
      // A value begins at `at`.
      const byte = at < end ? (bytes[at] as number) : 0
      if (byte === QUOTE) {
        at = this.skipString(bytes, at + 1, end)
        if (at === NOT_JSON) return NOT_JSON
      } else if (byte === OPEN_BRACE) {
        at = this.skipSpace(bytes, at + 1, end)
        if (at < end && bytes[at] === CLOSE_BRACE) {
          at += 1
        } else {
          this.#push(depth, CLOSE_BRACE)
          depth += 1
          at = this.#skipName(bytes, at, end)
          if (at === NOT_JSON) return NOT_JSON
          continue
        }
      } else if (byte === OPEN_BRACKET) {
        at = this.skipSpace(bytes, at + 1, end)
        if (at < end && bytes[at] === CLOSE_BRACKET) {
          at += 1
        } else {
          this.#push(depth, CLOSE_BRACKET)
          depth += 1
          continue
        }
      } else {
        at = this.#skipScalar(bytes, at, end)
        if (at === NOT_JSON) return NOT_JSON
      }
      // A value has ended: close what it closes, or go to the next one.
      for (;;) {
        if (depth === 0) return at
        at = this.skipSpace(bytes, at, end)
        const closing = this.#nesting[depth - 1]
        const next = at < end ? bytes[at] : 0
        if (next === closing) {
          at += 1
          depth -= 1
          continue
        }
        if (next !== COMMA) return this.#fail(at)
        at = this.skipSpace(bytes, at + 1, end)
        if (closing === CLOSE_BRACE) {
          at = this.#skipName(bytes, at, end)
          if (at === NOT_JSON) return NOT_JSON
        }
        break
      }
    }
  }

  /** Whether the range is one JSON value with nothing but white space around it. */
  isJson(bytes: Uint8Array, start: number, end: number): boolean {
    const at = this.skipValue(bytes, this.skipSpace(bytes, start, end), end)
    if (at === NOT_JSON) return false
    const rest = this.skipSpace(bytes, at, end)
    if (rest !== end) this.errorAt = rest
    return rest === end
  }

  /**
   * Finds the member of a path in a JSON text and sets foundStart and foundEnd (both NOT_JSON if it is absent).
   * @param path  names from the outermost object inwards
   * @returns whether the text is JSON at all
   */
  findPath(bytes: Uint8Array, start: number, end: number, path: readonly PathName[]): boolean {
    this.foundStart = NOT_JSON
    this.foundEnd = NOT_JSON
    const from = this.skipSpace(bytes, start, end)
    const at = this.#findIn(bytes, from, end, path, 0)
    if (at === NOT_JSON) return false
    const rest = this.skipSpace(bytes, at, end)
    if (rest !== end) this.errorAt = rest
    return rest === end
  }

  #findIn(
    bytes: Uint8Array,
    from: number,
    end: number,
    path: readonly PathName[],
    depth: number,
  ): number {
    const name = path[depth]
    if (name === undefined) {
      const after = this.skipValue(bytes, from, end)
      this.foundStart = from
      this.foundEnd = after
      return after
    }
    if (from >= end || bytes[from] !== OPEN_BRACE) return this.skipValue(bytes, from, end)
    let at = this.skipSpace(bytes, from + 1, end)
    if (at < end && bytes[at] === CLOSE_BRACE) return at + 1
    for (;;) {
      if (at >= end || bytes[at] !== QUOTE) return this.#fail(at)
      const nameStart = at + 1
      at = this.skipString(bytes, nameStart, end)
      if (at === NOT_JSON) return NOT_JSON
      const isWanted = this.#isName(bytes, nameStart, at - 1, name)
      at = this.skipSpace(bytes, at, end)
      if (at >= end || bytes[at] !== COLON) return this.#fail(at)
      at = this.skipSpace(bytes, at + 1, end)
      if (isWanted) {
        // An earlier member of this name no longer counts.
        this.foundStart = NOT_JSON
        this.foundEnd = NOT_JSON
        at = this.#findIn(bytes, at, end, path, depth + 1)
      } else {
        at = this.skipValue(bytes, at, end)
      }
      if (at === NOT_JSON) return NOT_JSON
      at = this.skipSpace(bytes, at, end)
      const next = at < end ? bytes[at] : 0
      if (next === CLOSE_BRACE) return at + 1
      if (next !== COMMA) return this.#fail(at)
      at = this.skipSpace(bytes, at + 1, end)
    }
  }

  /** Whether the string in this range (without its quotes), skipped just now, is `name`. */
  #isName(bytes: Uint8Array, start: number, end: number, name: PathName): boolean {
    if (this.hasEscape) return decodeText(bytes, start, end) === name.text
    const wanted = name.bytes
    if (end - start !== wanted.length) return false
    for (let index = 0; index < wanted.length; index += 1) {
      if (bytes[start + index] !== wanted[index]) return false
    }
    return true
  }

  /** `"name" :` and the space after it; at the first byte of the member's value. */
  #skipName(bytes: Uint8Array, from: number, end: number): number {
    if (from >= end || bytes[from] !== QUOTE) return this.#fail(from)
    let at = this.skipString(bytes, from + 1, end)
    if (at === NOT_JSON) return NOT_JSON
    at = this.skipSpace(bytes, at, end)
    if (at >= end || bytes[at] !== COLON) return this.#fail(at)
    return this.skipSpace(bytes, at + 1, end)
  }

  #skipScalar(bytes: Uint8Array, from: number, end: number): number {
    switch (from < end ? bytes[from] : 0) {
      case 0x74:
        return this.#skipWord(bytes, from, end, 0x72, 0x75, 0x65)
      case 0x6e:
        return this.#skipWord(bytes, from, end, 0x75, 0x6c, 0x6c)
      case 0x66:
        if (from + 4 >= end || bytes[from + 4] !== 0x65) return this.#fail(from)
        return this.#skipWord(bytes, from, end, 0x61, 0x6c, 0x73) === NOT_JSON ? NOT_JSON : from + 5
      default:
        return this.#skipNumber(bytes, from, end)
    }
  }

  #skipWord(
    bytes: Uint8Array,
    from: number,
    end: number,
    second: number,
    third: number,
    fourth: number,
  ): number {
    const isWord =
      from + 3 < end &&
      bytes[from + 1] === second &&
      bytes[from + 2] === third &&
      bytes[from + 3] === fourth
    return isWord ? from + 4 : this.#fail(from)
  }

  #skipNumber(bytes: Uint8Array, from: number, end: number): number {
    let at = from
    if (at < end && bytes[at] === 0x2d) at += 1
    if (at < end && bytes[at] === 0x30) {
      at += 1
    } else {
      const digits = skipDigits(bytes, at, end)
      if (digits === at) return this.#fail(at)
      at = digits
    }
    if (at < end && bytes[at] === 0x2e) {
      const digits = skipDigits(bytes, at + 1, end)
      if (digits === at + 1) return this.#fail(at)
      at = digits
    }
    if (at < end && (bytes[at] === 0x65 || bytes[at] === 0x45)) {
      at += 1
      if (at < end && (bytes[at] === 0x2b || bytes[at] === 0x2d)) at += 1
      const digits = skipDigits(bytes, at, end)
      if (digits === at) return this.#fail(at)
      at = digits
    }
    return at
  }

  #push(depth: number, closing: number): void {
    if (depth === this.#nesting.length) {
      const larger = new Uint8Array(depth * 2)
      larger.set(this.#nesting)
      this.#nesting = larger
    }
    this.#nesting[depth] = closing
  }

  #fail(at: number): typeof NOT_JSON {
    this.errorAt = at
    return NOT_JSON
  }
}

/** A name of a path, in both its forms. */
export interface PathName {
  readonly text: string
  readonly bytes: Uint8Array
}

/**
 * `.a.b`, `."odd name".c`; the leading dot may be left out.
 * @returns undefined if `text` is no path
 */
export function parsePath(text: string): PathName[] | undefined {
  const names: PathName[] = []
  let rest = text.startsWith('.') ? text : `.${text}`
  while (rest !== '') {
    const match = /^\.(?:("(?:[^"\\]|\\.)*")|([^."]+))/.exec(rest)
    if (match === null) return undefined
    const name = match[1] === undefined ? match[2] : parseQuoted(match[1])
    if (name === undefined) return undefined
    names.push({ text: name, bytes: Buffer.from(name, 'utf8') })
    rest = rest.slice(match[0].length)
  }
  return names.length === 0 ? undefined : names
}

function parseQuoted(text: string): string | undefined {
  try {
    return JSON.parse(text) as string
  } catch {
    return undefined
  }
}

function skipDigits(bytes: Uint8Array, from: number, end: number): number {
  let at = from
  while (at < end) {
    const byte = bytes[at] as number
    if (byte < 0x30 || byte > 0x39) break
    at += 1
  }
  return at
}

function readHex4(bytes: Uint8Array, at: number, end: number): number {
  if (at + 4 > end) return -1
  let value = 0
  for (let index = at; index < at + 4; index += 1) {
    const byte = bytes[index] as number
    let digit: number
    if (byte >= 0x30 && byte <= 0x39) digit = byte - 0x30
    else if (byte >= 0x61 && byte <= 0x66) digit = byte - 0x57
    else if (byte >= 0x41 && byte <= 0x46) digit = byte - 0x37
    else return -1
    value = value * 16 + digit
  }
  return value
}

/** A checked string (without its quotes) as text; a lone surrogate stays one. */
export function decodeText(bytes: Uint8Array, start: number, end: number): string {
  const raw = Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString('utf8')
  return JSON.parse(`"${raw}"`) as string
}

/**
 * Writes the UTF-8 bytes that a checked string (without its quotes) stands for to `target` from `targetAt`. They are
 * never more than the string's own.
 * @returns the byte after the last one written, or NOT_JSON for a lone surrogate
 */
export function decodeString(
  bytes: Uint8Array,
  start: number,
  end: number,
  target: Uint8Array,
  targetAt: number,
): number {
  let to = targetAt
  let at = start
  while (at < end) {
    const byte = bytes[at] as number
    if (byte !== BACKSLASH) {
      target[to++] = byte
      at += 1
      continue
    }
    const escaped = bytes[at + 1] as number
    at += 2
    switch (escaped) {
      case 0x62:
        target[to++] = 0x08
        break
      case 0x66:
        target[to++] = 0x0c
        break
      case 0x6e:
        target[to++] = 0x0a
        break
      case 0x72:
        target[to++] = 0x0d
        break
      case 0x74:
        target[to++] = 0x09
        break
      case 0x75: {
        let code = readHex4(bytes, at, end)
        at += 4
        if (code >= 0xdc00 && code <= 0xdfff) return NOT_JSON
        if (code >= 0xd800 && code <= 0xdbff) {
          const hasNext = at + 6 <= end && bytes[at] === BACKSLASH && bytes[at + 1] === 0x75
          const low = hasNext ? readHex4(bytes, at + 2, end) : -1
          if (low < 0xdc00 || low > 0xdfff) return NOT_JSON
          at += 6
          code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00)
        }
        to = writeCodePoint(code, target, to)
        break
      }
      default:
        // The quote, the backslash and the slash stand for themselves.
        target[to++] = escaped
    }
  }
  return to
}

function writeCodePoint(code: number, target: Uint8Array, at: number): number {
  let to = at
  if (code < 0x80) {
    target[to++] = code
  } else if (code < 0x800) {
    target[to++] = 0xc0 | (code >> 6)
    target[to++] = 0x80 | (code & 0x3f)
  } else if (code < 0x10000) {
    target[to++] = 0xe0 | (code >> 12)
    target[to++] = 0x80 | ((code >> 6) & 0x3f)
    target[to++] = 0x80 | (code & 0x3f)
  } else {
    target[to++] = 0xf0 | (code >> 18)
    target[to++] = 0x80 | ((code >> 12) & 0x3f)
    target[to++] = 0x80 | ((code >> 6) & 0x3f)
    target[to++] = 0x80 | (code & 0x3f)
  }
  return to
}
