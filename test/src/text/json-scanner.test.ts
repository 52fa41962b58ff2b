import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decodeString, JsonScanner, NOT_JSON, parsePath } from '../../../src/text/json-scanner.ts'

function isJson(text: string): boolean {
  const bytes = Buffer.from(text, 'utf8')
  return new JsonScanner().isJson(bytes, 0, bytes.length)
}

function parses(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

describe('JsonScanner', () => {
  it('accepts what JSON.parse accepts', () => {
    fc.assert(
      fc.property(fc.jsonValue({ noUnicodeString: false }), fc.nat(2), (value, indent) => {
        expect(isJson(JSON.stringify(value, null, indent))).toBe(true)
      }),
      { numRuns: 300 },
    )
  })

  it('agrees with JSON.parse on broken texts', () => {
    const broken = fc
      .tuple(
        fc.jsonValue(),
        fc.nat(),
        fc.constantFrom('', ',', '}', '"', '\\', '0', 'e', ' ', '[', '-'),
      )
      .map(([value, at, insert]) => {
        const text = JSON.stringify(value)
        const place = at % (text.length + 1)
        const cut = insert === '' ? 1 : 0
        return text.slice(0, place) + insert + text.slice(place + cut)
      })
    fc.assert(
      fc.property(broken, (text) => {
        expect(isJson(text)).toBe(parses(text))
      }),
      { numRuns: 2000 },
    )
    for (const text of ['01', '-', '1.', '.5', '1e', '+1', 'tru', 'nul', '"\u0001"', '"\\u12"']) {
      expect(isJson(text), text).toBe(false)
    }
  })

  it('no depth overflows the stack', () => {
    const depth = 200_000
    expect(isJson('['.repeat(depth) + ']'.repeat(depth))).toBe(true)
    expect(isJson('['.repeat(depth))).toBe(false)
  })

  it('finds what JSON.parse would find, the last of repeated members too', () => {
    const name = fc.constantFrom('a', 'b', 'c', 'é', '"')
    const tree: fc.Arbitrary<unknown> = fc.letrec((tie) => ({
      node: fc.oneof(
        { depthSize: 'small' },
        fc.constantFrom(1, 'x', null, true, [1, { a: 2 }], 'a\n"b'),
        fc.dictionary(name, tie('node'), { maxKeys: 4 }),
      ),
    })).node
    const scanner = new JsonScanner()
    fc.assert(
      fc.property(tree, fc.array(name, { minLength: 1, maxLength: 3 }), (value, names) => {
        const text = JSON.stringify(value)
        const bytes = Buffer.from(text)
        const path = names.map((part) => ({ text: part, bytes: Buffer.from(part) }))
        expect(scanner.findPath(bytes, 0, bytes.length, path)).toBe(true)
        let expected: unknown = value
        for (const part of names) {
          const isObject =
            typeof expected === 'object' && expected !== null && !Array.isArray(expected)
          expected = isObject ? (expected as Record<string, unknown>)[part] : undefined
        }
        if (expected === undefined) expect(scanner.foundStart).toBe(NOT_JSON)
        else {
          const found = bytes.subarray(scanner.foundStart, scanner.foundEnd).toString()
          expect(JSON.parse(found)).toEqual(expected)
        }
      }),
    )
    const path = parsePath('.a.b') ?? []
    const find = (text: string): string | undefined => {
      const bytes = Buffer.from(text)
      scanner.findPath(bytes, 0, bytes.length, path)
      return scanner.foundStart < 0
        ? undefined
        : bytes.subarray(scanner.foundStart, scanner.foundEnd).toString()
    }
    expect(find('{"a":{"b":1},"a":{"b":2}}')).toBe('2')
    expect(find('{"a":{"b":1},"a":5}')).toBeUndefined()
    expect(find('{"\\u0061":{"\\u0062":[1, 2]}}')).toBe('[1, 2]')
    expect(find('[]')).toBeUndefined()
  })
})

describe('decodeString', () => {
  it('gives the bytes that JSON.parse gives', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.boolean(), (text, escapeAll) => {
        const inner = escapeAll
          ? [...Array(text.length).keys()]
              .map((at) => `\\u${text.charCodeAt(at).toString(16).padStart(4, '0')}`)
              .join('')
          : JSON.stringify(text).slice(1, -1)
        const bytes = Buffer.from(inner)
        const target = new Uint8Array(bytes.length)
        const length = decodeString(bytes, 0, bytes.length, target, 0)
        expect(Buffer.from(target.subarray(0, length))).toEqual(Buffer.from(text))
      }),
    )
  })

  it('refuses lone surrogates', () => {
    for (const text of ['\\ud800', '\\udc00', '\\ud800\\ud800', '\\ud800x', 'a\\udfff\\ud800']) {
      const bytes = Buffer.from(text)
      expect(decodeString(bytes, 0, bytes.length, new Uint8Array(32), 0)).toBe(NOT_JSON)
    }
  })
})

describe('parsePath', () => {
  it('reads plain and quoted names', () => {
    expect(parsePath('.a.b')?.map((name) => name.text)).toEqual(['a', 'b'])
    expect(parsePath('id')?.map((name) => name.text)).toEqual(['id'])
    expect(parsePath('."odd name".c')?.map((name) => name.text)).toEqual(['odd name', 'c'])
    for (const text of ['', '.', '.a.', '..a', '.a"b"', '."open']) {
      expect(parsePath(text), text).toBeUndefined()
    }
  })
})
