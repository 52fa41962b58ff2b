import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { base64Length, decodeBase64, encodeBase64 } from '../../../src/text/base64.ts'

function decode(text: string): Uint8Array | undefined {
  const bytes = Buffer.from(text, 'latin1')
  const target = new Uint8Array(bytes.length + 4)
  const length = decodeBase64(bytes, 0, bytes.length, target, 0)
  return length < 0 ? undefined : target.slice(0, length)
}

describe('base64', () => {
  it('writes what Buffer writes, and reads it back', () => {
    fc.assert(
      fc.property(fc.uint8Array(), fc.nat(3), (bytes, skip) => {
        const start = Math.min(skip, bytes.length)
        const target = new Uint8Array(base64Length(bytes.length - start))
        const end = encodeBase64(bytes, start, bytes.length, target, 0)
        const text = Buffer.from(target.subarray(0, end)).toString('latin1')
        expect(text).toBe(Buffer.from(bytes.subarray(start)).toString('base64'))
        expect(decode(text)).toEqual(bytes.slice(start))
      }),
    )
  })

  it('refuses every other text, so that one meaning has one text', () => {
    const refused = [
      'A',
      'AA',
      'AAA',
      'AA=',
      'A===',
      '====',
      'AB==',
      'AAB=',
      'AA==AA==',
      '_w==',
      'AA A',
    ]
    for (const text of refused) expect(decode(text), text).toBeUndefined()
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom('A', 'B', '/', '=', '-', 'w'), maxLength: 12 }),
        (text) => {
          const decoded = decode(text)
          if (decoded !== undefined) expect(Buffer.from(decoded).toString('base64')).toBe(text)
        },
      ),
      { numRuns: 2000 },
    )
  })

  it('decodes in place', () => {
    const bytes = Buffer.from('aGVsbG8gd29ybGQ=')
    const length = decodeBase64(bytes, 0, bytes.length, bytes, 0)
    expect(bytes.subarray(0, length).toString()).toBe('hello world')
  })
})
