import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isStreamError } from '../../../src/base/errors.ts'
import { BatchBuilder, type RecordInput } from '../../../src/record/batch-builder.ts'
import { OutputBuffer } from '../../../src/record/output-buffer.ts'
import { RecordCursor } from '../../../src/record/record-cursor.ts'
import { EnvelopeReader } from '../../../src/text/envelope-reader.ts'
import { EnvelopeWriter } from '../../../src/text/envelope-writer.ts'
import { RecordFields } from '../../../src/text/record-fields.ts'

interface PlainRecord {
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  readonly headers: readonly (readonly [Uint8Array, Uint8Array | null])[]
  readonly timestampMs: number
}

function range(bytes: Uint8Array) {
  return { bytes, start: 0, end: bytes.length }
}

function cursorOver(records: readonly PlainRecord[]): RecordCursor {
  const builder = new BatchBuilder(1 << 20)
  builder.reset({ timestampMs: 0 })
  for (const { key, value, headers, timestampMs } of records) {
    const input: RecordInput = {
      key: key === null ? null : range(key),
      value: value === null ? null : range(value),
      headers: headers.map(([name, text]) => ({
        key: range(name),
        value: text === null ? null : range(text),
      })),
      timestampMs,
    }
    expect(builder.append(input)).toBe(true)
  }
  const cursor = new RecordCursor()
  cursor.reset(builder.finish())
  return cursor
}

function writeAll(
  records: readonly PlainRecord[],
  options: { embed?: boolean; delimiter?: Uint8Array } = {},
): string {
  const writer = new EnvelopeWriter(options)
  const out = new OutputBuffer(64)
  const cursor = cursorOver(records)
  writer.setPartition('t', 0)
  while (cursor.next()) writer.write(cursor, out)
  return Buffer.from(out.filled()).toString('utf8')
}

function read(line: string | Uint8Array, reader = new EnvelopeReader()): PlainRecord {
  const bytes = typeof line === 'string' ? Buffer.from(line, 'utf8') : line
  const fields = new RecordFields()
  // Not at the beginning of its memory, as lines in a chunk are not.
  const padded = Buffer.concat([Buffer.from('xx'), bytes, Buffer.from('yy')])
  reader.read(padded, 2, 2 + bytes.length, fields)
  const copy = (slot: { view(): Uint8Array } | null): Uint8Array | null =>
    slot === null ? null : Uint8Array.from(slot.view())
  return {
    key: copy(fields.key),
    value: copy(fields.value),
    headers: fields.headers.map((header) => [
      Uint8Array.from(header.key.view()),
      copy(header.value),
    ]),
    timestampMs: fields.timestampMs ?? Number.NaN,
  }
}

function text(line: string): (string | null)[] {
  const { key, value } = read(line)
  return [key, value].map((bytes) => (bytes === null ? null : Buffer.from(bytes).toString('utf8')))
}

function refusal(line: string | Uint8Array): string {
  try {
    read(line)
  } catch (error) {
    if (isStreamError(error, 'RECORD_INVALID')) return error.message
    throw error
  }
  throw new Error('accepted')
}

const someBytes = fc.oneof(
  fc.uint8Array({ maxLength: 40 }),
  fc.string({ unit: 'binary', maxLength: 20 }).map((value) => Uint8Array.from(Buffer.from(value))),
  fc.json().map((value) => Uint8Array.from(Buffer.from(value))),
  fc.constant(Uint8Array.from(Buffer.from('{"b64":"AAAA"}'))),
  fc.constant(Uint8Array.from(Buffer.from(' {"a":1} '))),
  fc.constant(Uint8Array.from(Buffer.from('{"a":\n1}'))),
)
const nullable = fc.option(someBytes, { nil: null })
const plainRecord: fc.Arbitrary<PlainRecord> = fc.record({
  key: nullable,
  value: nullable,
  headers: fc.array(fc.tuple(someBytes, nullable), { maxLength: 3 }),
  timestampMs: fc.oneof(fc.constant(-1), fc.integer({ min: 0, max: 2_000_000_000_000 })),
})

describe('envelope: round trip', () => {
  it('any records come back equal, plain and embedded', () => {
    fc.assert(
      fc.property(
        fc.array(plainRecord, { minLength: 1, maxLength: 5 }),
        fc.boolean(),
        (records, embed) => {
          const lines = writeAll(records, { embed }).split('\n')
          expect(lines.pop()).toBe('')
          expect(lines).toHaveLength(records.length)
          const reader = new EnvelopeReader()
          for (const [index, line] of lines.entries()) {
            expect(read(line, reader)).toEqual(records[index])
            // Other programs read the same.
            expect(Object.keys(JSON.parse(line) as object)).toEqual([
              'v',
              'topic',
              'partition',
              'offset',
              'ts',
              'key',
              'value',
              'headers',
            ])
          }
        },
      ),
      { numRuns: 500 },
    )
  })

  it('strings that need several parts survive', () => {
    const value = Uint8Array.from(Buffer.from('é"\n\u0001x'.repeat(20_000)))
    const record = { key: null, value, headers: [], timestampMs: 5 }
    expect(read(writeAll([record]).trimEnd())).toEqual(record)
    const ascii = { ...record, value: Uint8Array.from(Buffer.from('"\n'.repeat(40_000))) }
    expect(read(writeAll([ascii]).trimEnd())).toEqual(ascii)
  })
})

describe('envelope: output', () => {
  const base: PlainRecord = { key: null, value: null, headers: [], timestampMs: 0 }

  it('has the eight fields in their order, without spaces', () => {
    const record = {
      key: Buffer.from('k'),
      value: Buffer.from('v'),
      headers: [
        [Buffer.from('h'), Buffer.from('x')],
        [Buffer.from('n'), null],
      ],
      timestampMs: 1_730_000_000_000,
    } as const
    expect(writeAll([base, record])).toBe(
      '{"v":1,"topic":"t","partition":0,"offset":0,"ts":0,"key":null,"value":null,"headers":[]}\n' +
        '{"v":1,"topic":"t","partition":0,"offset":1,"ts":1730000000000,"key":"k","value":"v","headers":[["h","x"],["n",null]]}\n',
    )
  })

  it('escapes quote, backslash and control bytes, and nothing else', () => {
    const value = Buffer.from('"\\\b\t\n\f\r\u0000\u001f\u007f/é\u2028')
    expect(writeAll([{ ...base, value }])).toContain(
      '"value":"\\"\\\\\\b\\t\\n\\f\\r\\u0000\\u001f\u007f/é\u2028"',
    )
  })

  it('what is not UTF-8 is base64, a missing timestamp null', () => {
    const value = Uint8Array.of(0xff, 0xfe)
    const line = writeAll([{ ...base, value, timestampMs: -1 }])
    expect(line).toContain('"ts":null')
    expect(line).toContain('"value":{"b64":"//4="}')
    // Overlong forms and surrogates are no UTF-8 either.
    expect(writeAll([{ ...base, value: Uint8Array.of(0xc0, 0x80) }])).toContain('b64')
    expect(writeAll([{ ...base, value: Uint8Array.of(0xed, 0xa0, 0x80) }])).toContain('b64')
  })

  it('embeds only what reads back as it was', () => {
    const embedded = (value: string): boolean =>
      writeAll([{ ...base, value: Buffer.from(value) }], { embed: true }).includes(
        `"value":${value},"headers"`,
      )
    for (const value of ['{}', '{"a": [1, 2]}', '[]', '[{"b64":"AA=="}]', '{"b64":"x","y":1}']) {
      expect(embedded(value), value).toBe(true)
    }
    for (const value of [
      '1',
      '"x"',
      'null',
      ' {}',
      '{} ',
      '{"a":\n1}',
      '{"b64":"AA=="}',
      '{"b64":1}',
      '{',
    ]) {
      expect(embedded(value), value).toBe(false)
    }
  })

  it('with another delimiter a newline in the value is still not embedded', () => {
    const value = Buffer.from('[1,\n2]')
    const out = writeAll([{ ...base, value }], { embed: true, delimiter: Uint8Array.of(0) })
    expect(out).toContain(String.raw`"[1,\n2]"`)
    expect(out.endsWith('\0')).toBe(true)
  })
})

describe('envelope: input', () => {
  it('only value is required; unknown fields are ignored', () => {
    expect(text('{"value":"x"}')).toEqual([null, 'x'])
    expect(text(' {"other":{"value":1}, "value" : "x" , "offset":"no"} \r')).toEqual([null, 'x'])
    expect(text('{"value":null}')).toEqual([null, null])
    expect(text('{"value":"","key":""}')).toEqual(['', ''])
  })

  it('numbers, booleans, arrays and objects keep their own text', () => {
    expect(text('{"key":1.50,"value":{"a" : [1,2 ]}}')).toEqual(['1.50', '{"a" : [1,2 ]}'])
    expect(text('{"key":true,"value":[]}')).toEqual(['true', '[]'])
    expect(text('{"key":-0e1,"value":{"b64":5}}')).toEqual(['-0e1', '{"b64":5}'])
    expect(text('{"value":{"b64":"AA==","x":1}}')).toEqual([null, '{"b64":"AA==","x":1}'])
  })

  it('of a repeated field the last counts, however its name is written', () => {
    expect(text('{"value":"a","value":"b"}')).toEqual([null, 'b'])
    expect(text('{"value":"a","\\u0076alue":"b"}')).toEqual([null, 'b'])
    expect(text('{"v":2,"v":1,"value":"a"}')).toEqual([null, 'a'])
  })

  it('escapes and base64 are decoded', () => {
    expect(text('{"key":"\\u00e9\\n\\ud83d\\ude00","value":"\\/"}')).toEqual(['é\n😀', '/'])
    expect(read('{"value":{"b64":"\\/\\/4="}}').value).toEqual(Uint8Array.of(0xff, 0xfe))
    expect(text('{"value":{"\\u0062\\u0036\\u0034":"eA=="}}')).toEqual([null, 'x'])
  })

  it('headers are pairs or an object, in order, repeated names kept', () => {
    const names = (line: string): unknown =>
      read(line).headers.map(([name, value]) => [
        Buffer.from(name).toString(),
        value === null ? null : Buffer.from(value).toString(),
      ])
    expect(
      names('{"value":1,"headers":[["a","1"],["a",null],[{"b64":"Yg=="},{"b64":"eA=="}]]}'),
    ).toEqual([
      ['a', '1'],
      ['a', null],
      ['b', 'x'],
    ])
    expect(names('{"value":1,"headers":{"x":"1","y":null,"z":2}}')).toEqual([
      ['x', '1'],
      ['y', null],
      ['z', '2'],
    ])
    expect(names('{"value":1,"headers":[ ] }')).toEqual([])
    expect(names('{"value":1,"headers":null}')).toEqual([])
  })

  it('a timestamp is absent, null or whole milliseconds', () => {
    expect(read('{"value":1}').timestampMs).toBeNaN()
    expect(read('{"value":1,"ts":null}').timestampMs).toBe(-1)
    expect(read('{"value":1,"ts":1730000000000}').timestampMs).toBe(1_730_000_000_000)
    expect(read('{"value":1,"ts":1e3}').timestampMs).toBe(1000)
    for (const ts of ['-5', '1.5', '"5"', 'true', '1e30', '{}']) {
      expect(refusal(`{"value":1,"ts":${ts}}`), ts).toContain('"ts"')
    }
  })

  it('says what is wrong with a line', () => {
    expect(refusal('')).toContain('empty line')
    expect(refusal('  ')).toContain('empty line')
    expect(refusal('5')).toContain('no JSON object')
    expect(refusal('{"value":1')).toContain('not JSON at byte 11')
    expect(refusal('{"value":1} x')).toContain('not JSON')
    expect(refusal('{}')).toContain('no "value"')
    expect(refusal('{"v":2,"value":1}')).toContain('version 2')
    expect(refusal('{"v":"1","value":1}')).toContain('"v"')
    expect(refusal('{"value":{"b64":"x"}}')).toContain('bad base64')
    expect(refusal('{"value":"\\ud800"}')).toContain('lone surrogate')
    expect(refusal('{"value":1,"headers":5}')).toContain('"headers"')
    expect(refusal('{"value":1,"headers":[["a"]]}')).toContain('pair')
    expect(refusal('{"value":1,"headers":[[]]}')).toContain('pair')
    expect(refusal('{"value":1,"headers":[["a",1,2]]}')).toContain('pair')
    expect(refusal('{"value":1,"headers":[[5,"x"]]}')).toContain('header name')
    expect(refusal(Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x7d]))).toContain('UTF-8')
  })

  it('topic and partition count only when they are kept', () => {
    const fields = new RecordFields()
    const line = Buffer.from('{"topic":"a","partition":3,"value":1}')
    new EnvelopeReader().read(line, 0, line.length, fields)
    expect([fields.topic, fields.partition]).toEqual([undefined, undefined])
    new EnvelopeReader({ keepTopic: true, keepPartition: true }).read(line, 0, line.length, fields)
    expect([fields.topic, fields.partition]).toEqual(['a', 3])
    const without = Buffer.from('{"value":1}')
    expect(() =>
      new EnvelopeReader({ keepPartition: true }).read(without, 0, without.length, fields),
    ).toThrow('partition')
  })
})
