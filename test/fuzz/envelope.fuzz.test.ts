/** Envelope lines from anywhere: each gives a record or one error of that line; nothing else may happen. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isStreamError } from '../../src/base/errors.ts'
import { EnvelopeReader } from '../../src/text/envelope-reader.ts'
import { RecordFields } from '../../src/text/record-fields.ts'

const runs = Number(process.env['FUZZ_RUNS'] ?? 3000)

const field = fc.constantFrom(
  'v',
  'topic',
  'partition',
  'offset',
  'ts',
  'key',
  'value',
  'headers',
  'b64',
  'x',
)
const envelope: fc.Arbitrary<string> = fc
  .array(
    fc.tuple(
      field,
      fc.oneof(
        fc.json({ maxDepth: 3 }),
        fc.constantFrom('"AA=="', '{"b64":"AA=="}', '[["a",null]]', '1'),
      ),
    ),
    {
      maxLength: 9,
    },
  )
  .map((members) => `{${members.map(([name, text]) => `"${name}":${text}`).join(',')}}`)

const mutated: fc.Arbitrary<Uint8Array> = fc
  .tuple(
    envelope,
    fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 }), fc.nat(2)), { maxLength: 4 }),
  )
  .map(([text, edits]) => {
    const bytes = [...Buffer.from(text)]
    for (const [place, byte, kind] of edits) {
      const at = place % (bytes.length + 1)
      if (kind === 0) bytes.splice(at, 1)
      else if (kind === 1) bytes.splice(at, 0, byte)
      else bytes[Math.min(at, bytes.length - 1)] = byte
    }
    return Uint8Array.from(bytes)
  })

function parsed(bytes: Uint8Array): Record<string, unknown> | undefined {
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
    const value: unknown = JSON.parse(text)
    const isObject = typeof value === 'object' && value !== null && !Array.isArray(value)
    return isObject ? (value as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
}

function check(bytes: Uint8Array, reader: EnvelopeReader, fields: RecordFields): void {
  const object = parsed(bytes)
  try {
    reader.read(bytes, 0, bytes.length, fields)
  } catch (error) {
    // Errors of a line, and nothing else.
    if (!isStreamError(error, 'RECORD_INVALID')) throw error
    return
  }
  // What is accepted is JSON to everybody, and says the same.
  expect(object).toBeDefined()
  const value = object?.['value']
  if (typeof value === 'string')
    expect(Buffer.from(fields.value?.view() ?? '').toString()).toBe(value)
  if (value === null) expect(fields.value).toBeNull()
  for (const slot of [fields.keySlot, fields.valueSlot]) {
    expect(slot.start).toBeLessThanOrEqual(slot.end)
    expect(slot.end).toBeLessThanOrEqual(slot.bytes.length)
  }
}

describe('fuzz: envelope lines', () => {
  const reader = new EnvelopeReader({ keepTopic: false })
  const fields = new RecordFields()

  it('random bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => check(bytes, reader, fields)),
      { numRuns: runs },
    )
  })

  it('envelopes, whole and damaged', () => {
    fc.assert(
      fc.property(mutated, (bytes) => check(bytes, reader, fields)),
      { numRuns: runs },
    )
  })

  it('accepts every envelope that is well-formed and sensible', () => {
    const good = fc.record({ key: fc.json(), value: fc.json() })
    fc.assert(
      fc.property(good, ({ key, value }) => {
        const hasLoneSurrogate = /\\u[dD][89a-fA-F]/.test(key + value)
        const hasBase64 = /b64/.test(key + value)
        fc.pre(!hasLoneSurrogate && !hasBase64)
        const bytes = Buffer.from(`{"key":${key},"value":${value}}`)
        reader.read(bytes, 0, bytes.length, fields)
      }),
    )
  })
})
