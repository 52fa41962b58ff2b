import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { UsageError } from '../../../src/base/errors.ts'
import { OutputBuffer } from '../../../src/record/output-buffer.ts'
import { RecordCursor } from '../../../src/record/record-cursor.ts'
import { EnvelopeReader } from '../../../src/text/envelope-reader.ts'
import { EnvelopeWriter } from '../../../src/text/envelope-writer.ts'
import { parseFormat } from '../../../src/text/format-plan.ts'
import { compileFormat } from '../../../src/text/format-program.ts'
import { FormatReader } from '../../../src/text/format-reader.ts'
import { FormatWriter } from '../../../src/text/format-writer.ts'
import { RecordFields } from '../../../src/text/record-fields.ts'
import {
  DelimiterSplitter,
  NULL_RECORD,
  SizedSplitter,
  TOO_LONG,
} from '../../../src/text/record-splitter.ts'
import { LineWriter, type RecordWriter, SizedWriter } from '../../../src/text/record-writer.ts'
import {
  anyRecords as anyRecordsAtAll,
  buildBatch,
  type PlainRecord,
} from '../record/record-support.ts'

/** A time before 1970 is none. */
const anyRecords = anyRecordsAtAll.map((records) =>
  records.map((record) => ({ ...record, timestampMs: Math.max(-1, record.timestampMs) })),
)

const whole = '%K{big32}%k%V{big32}%v%d{big64}%H{big32}%h{%K{big32}%k%V{big32}%v}'

interface ReadRecord {
  readonly key: string | null
  readonly value: string | null
  readonly headers: readonly (readonly [string, string | null])[]
  readonly timestampMs: number | undefined
  readonly topic: string | undefined
  readonly partition: number | undefined
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('latin1')
}

function taken(fields: RecordFields): ReadRecord {
  const { key, value, headers, timestampMs, topic, partition } = fields
  return {
    key: key === null ? null : latin1(key.view()),
    value: value === null ? null : latin1(value.view()),
    headers: headers.map((header) => [
      latin1(header.key.view()),
      header.value === null ? null : latin1(header.value.view()),
    ]),
    timestampMs,
    topic,
    partition,
  }
}

function print(writer: RecordWriter, records: readonly PlainRecord[]): Buffer {
  const out = new OutputBuffer(16)
  const cursor = new RecordCursor()
  cursor.reset(buildBatch(records))
  writer.setPartition('orders', 3)
  writer.setEnds?.({ logStartOffset: 1, lastStableOffset: 2, highWatermark: 3 })
  while (cursor.next()) writer.write(cursor, out)
  return Buffer.from(out.filled())
}

function printed(format: string, ...records: Partial<PlainRecord>[]): string {
  return latin1(print(new FormatWriter(parseFormat(format)), records.map(plain)))
}

function plain(record: Partial<PlainRecord>): PlainRecord {
  return { key: null, value: null, headers: [], timestampMs: 1_700_000_000_123, ...record }
}

/** Feeds chunks cut at `cuts`, stopping after each record now and then, as a full producer does. */
function readAll(
  format: string,
  input: Uint8Array,
  options: { readonly cuts?: readonly number[]; readonly bytesMax?: number } = {},
): { records: (ReadRecord | string)[]; defect: string | undefined; isLost: boolean } {
  const reader = new FormatReader(compileFormat(parseFormat(format)), options.bytesMax ?? 1 << 20)
  const records: (ReadRecord | string)[] = []
  const consume = (_bytes: Uint8Array, start: number): boolean => {
    if (start === TOO_LONG) records.push('too long')
    else records.push(reader.defect ?? taken(reader.fields))
    return records.length % 3 !== 0
  }
  const cuts = (options.cuts ?? []).map((cut) => cut % (input.length + 1))
  let from = 0
  for (const to of [...new Set(cuts)].sort((a, b) => a - b).concat(input.length)) {
    const chunk = new Uint8Array(to - from + 6).fill(0x0a)
    chunk.set(input.subarray(from, to), 3)
    for (let at = 3; at < 3 + to - from; ) at = reader.feed(chunk, at, 3 + to - from, consume)
    chunk.fill(0xee)
    from = to
  }
  return { records, defect: reader.finish(consume), isLost: reader.isLost }
}

function values(format: string, input: string): (string | null | undefined)[] {
  return readAll(format, Buffer.from(input, 'latin1')).records.map((record) =>
    typeof record === 'string' ? record : record.value,
  )
}

describe('format: round trip of arbitrary bytes', () => {
  const cuts = fc.array(fc.nat(), { maxLength: 12 })

  it('all fields with lengths, at any chunk boundaries', () => {
    fc.assert(
      fc.property(anyRecords, cuts, (records, places) => {
        const bytes = print(new FormatWriter(parseFormat(whole)), records)
        const read = readAll(whole, bytes, { cuts: places })
        expect(read.defect).toBeUndefined()
        expect(read.records).toEqual(
          records.map((record) => ({ ...record, topic: undefined, partition: undefined })),
        )
      }),
    )
  })

  it.each([
    '%k{json}\\t%v{json}\\n',
    '%k{hex,null=-},%v{hex,null=-}\\n',
    '%k{base64,null=!} %v{base64,null=!}\\n',
    '%K{little64}%V{ascii} %k{hex}%v{base64,null=x};',
    '%V %K{hex}:%v%k',
    '%T{big8}%t%V{little32}%v%K{big64}%k%p{big16}%o{big64}%e{big32}%i{little64}',
  ])('keys and values by %s', (format) => {
    fc.assert(
      fc.property(anyRecords, cuts, (records, places) => {
        const bytes = print(new FormatWriter(parseFormat(format)), records)
        const read = readAll(format, bytes, { cuts: places })
        expect(read.defect).toBeUndefined()
        expect(read.records).toMatchObject(records.map(({ key, value }) => ({ key, value })))
      }),
    )
  })

  it('headers by their encodings', () => {
    const format = '%H{ascii} %h{%k{json}\\x01%V{little32}%v{hex},}%d{s};'
    fc.assert(
      fc.property(anyRecords, cuts, (records, places) => {
        const small = records.map((record) => ({
          ...record,
          timestampMs: Math.min(record.timestampMs, 9e14),
        }))
        const bytes = print(new FormatWriter(parseFormat(format)), small)
        const read = readAll(format, bytes, { cuts: places })
        expect(read.records).toMatchObject(
          small.map(({ headers, timestampMs }) => ({ headers, timestampMs })),
        )
      }),
    )
  })

  it('the other forms: NUL and text delimiters where they do not occur, sized, envelopes', () => {
    const collect = (splitter: SizedSplitter | DelimiterSplitter, bytes: Buffer) => {
      const found: (string | null)[] = []
      const consume = (from: Uint8Array, start: number, end: number): boolean => {
        found.push(start === NULL_RECORD ? null : latin1(from.subarray(start, end)))
        return true
      }
      splitter.feed(bytes, 0, bytes.length, consume)
      splitter.finish(consume)
      return found
    }
    fc.assert(
      fc.property(anyRecords, fc.constantFrom('\0', '--'), (records, text) => {
        const delimiter = Buffer.from(text)
        const sized = print(new SizedWriter(), records)
        const expected = records.map(({ value }) => value)
        expect(collect(new SizedSplitter(1 << 20), sized)).toEqual(expected)
        const without = records.map((record) => ({
          ...record,
          // A value that ends in half a delimiter would be taken for it.
          value: (record.value ?? '').replaceAll(/[\0-]/g, '.'),
        }))
        const lines = print(new LineWriter({ delimiter }), without)
        expect(collect(new DelimiterSplitter(delimiter, 1 << 20), lines)).toEqual(
          without.map(({ value }) => value),
        )
        const envelopes = print(new EnvelopeWriter(), records)
        const reader = new EnvelopeReader()
        const fields = new RecordFields()
        let at = 0
        for (const record of records) {
          const end = envelopes.indexOf(10, at)
          reader.read(envelopes, at, end, fields)
          expect(taken(fields)).toMatchObject({ ...record })
          at = end + 1
        }
      }),
    )
  })

  it('damaged input is refused or read, never a crash, and ends', () => {
    fc.assert(
      fc.property(
        anyRecords,
        fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 }))),
        fc.constantFrom(whole, '%k:%v\\n', '%V,%v;%H{big8}%h{%k=%v,}\\n', '%d{iso} %p %v{json}\\n'),
        (records, edits, format) => {
          const bytes = print(new FormatWriter(parseFormat(whole)), records)
          for (const [place, byte] of edits) bytes[place % bytes.length] = byte
          const read = readAll(format, bytes, { cuts: [7, 20, 33] })
          expect(read.records.length).toBeLessThanOrEqual(bytes.length)
        },
      ),
    )
  })
})

describe('format: output', () => {
  it('all tokens', () => {
    const record = {
      key: 'k',
      value: 'v\xff',
      headers: [
        ['h', 'x'],
        ['n', null],
      ] as const,
    }
    expect(printed('%t/%p@%o %k=%v %K,%V,%T %H %e %i\\n', record)).toBe(
      'orders/3@0 k=v\xff 1,2,6 2 -1 1\n',
    )
    expect(printed('%s|%S|%R', record)).toBe('v\xff|2|\0\0\0\x02')
    expect(printed('%h', record)).toBe('h=x,n')
    expect(printed('%h{(%k:%v{null=NULL},%K,%V)}', record)).toBe('(h:x,1,1)(n:NULL,1,-1)')
    expect(printed('%[ %| %]', record)).toBe('1 2 3')
    expect(printed('%j\\n', { key: 'k', value: 'v' })).toBe(
      '{"v":1,"topic":"orders","partition":3,"offset":0,"ts":1700000000123,"key":"k","value":"v","headers":[]}\n',
    )
    expect(printed('%i,', {}, {}, {})).toBe('1,2,3,')
  })

  it('literals and escapes', () => {
    expect(printed(String.raw`\n\t\r\0\\\{%%\xff}é`, {})).toBe('\n\t\r\0\\{%\xff}\xc3\xa9')
    expect(printed(String.raw`%v\{a}`, { value: 'x' })).toBe('x{a}')
  })

  it('modifiers of bytes, and null', () => {
    const value = { key: '\xff\0', value: null }
    expect(printed('%k{hex} %k{base64} %k{json}', value)).toBe('ff00 /wA= {"b64":"/wA="}')
    expect(printed('%v|%v{null=NIL}|%v{json}|%v{hex}|%V', value)).toBe('|NIL|null||-1')
    expect(printed(String.raw`%v{json,null=a\x2cb\}}`, value)).toBe('a,b}')
    expect(printed('%t{hex}', value)).toBe('6f7264657273')
  })

  it('numbers', () => {
    const record = { value: null, timestampMs: 258 }
    expect(printed('%d{ascii},%d{hex},%d{big16}%d{little16}%d{little32}%d{big64}', record)).toBe(
      '258,102,\x01\x02\x02\x01\x02\x01\0\0\0\0\0\0\0\0\x01\x02',
    )
    expect(printed('%V{ascii},%V{hex},%V{big8}%V{little64}', record)).toBe(
      '-1,-1,\xff\xff\xff\xff\xff\xff\xff\xff\xff',
    )
    expect(() => printed('%d{big8}', record)).toThrow(/258 does not fit %d\{big8\}/)
  })

  it('times', () => {
    const record = { timestampMs: Date.UTC(2026, 2, 1, 9, 5, 7, 42) }
    expect(printed('%d{ms} %d{s} %d{iso}', record)).toBe(
      '1772355907042 1772355907.042 2026-03-01T09:05:07.042Z',
    )
    expect(printed('%d{strftime[%F %T.%L %j %a %b %e %y %z %Z %%]}', record)).toBe(
      '2026-03-01 09:05:07.042 060 Sun Mar  1 26 +0000 UTC %',
    )
    expect(printed('%d{strftime[%G-W%V-%u %I%p]}', { timestampMs: 0 })).toBe('1970-W01-4 12AM')
    expect(printed('%d %d{s} %d{iso} %d{strftime[%F]}', { timestampMs: -1 })).toBe('-1 -1 - -')
    expect(printed('%d{iso,local}', record)).toMatch(/^2026-0.-..T..:..:07\.042[+-]\d\d:\d\d$/)
  })

  it('control bytes of records are shown on a terminal, literals are not', () => {
    const writer = new FormatWriter(parseFormat('%k\\t%v\\n'), { escapeControls: true })
    expect(latin1(print(writer, [plain({ key: '\x1b', value: 'a\nb' })]))).toBe('\\x1b\ta\\x0ab\n')
  })
})

describe('format: input', () => {
  it('a token ends at the first occurrence of the literal; a missing final newline is forgiven', () => {
    expect(values('%v\\n', 'a\n\nb')).toEqual(['a', '', 'b'])
    expect(values('%v--\\n', 'a-b--\n--\n')).toEqual(['a-b', ''])
    const read = readAll('%k:%v\\n', Buffer.from('k:a:b\n'))
    expect(read.records).toMatchObject([{ key: 'k', value: 'a:b' }])
    expect(values('%v;', 'a;b')).toEqual(['a'])
    expect(readAll('%v;', Buffer.from('a;b')).defect).toBe('cut')
  })

  it('what is said of topic, partition and time', () => {
    const read = readAll(
      '%t %p %d{iso} %v\\n',
      Buffer.from('a 7 2026-03-01T00:00:00Z x\nb 8 - y\n'),
    )
    expect(read.records).toMatchObject([
      { topic: 'a', partition: 7, timestampMs: Date.UTC(2026, 2, 1), value: 'x' },
      { topic: 'b', partition: 8, timestampMs: -1, value: 'y' },
    ])
    const seconds = readAll('%d{s},%i,%o,%e %v\\n', Buffer.from('1.5,1,2,3 x\n'))
    expect(seconds.records).toMatchObject([{ timestampMs: 1500, value: 'x' }])
  })

  it('null texts, in both kinds of token', () => {
    expect(values('%v{null=NULL}\\n', 'NULL\nNUL\n')).toEqual([null, 'NUL'])
    expect(values('%V %v{null=NULL}\\n', '-1 NULL\n4 NULL\n')).toEqual([null, 'NULL'])
    expect(values('%v\\n', '\n')).toEqual([''])
    expect(values('%v{json}\\n', 'null\n"a\\n"\n[1, 2]\n')).toEqual([null, 'a\n', '[1, 2]'])
  })

  it('a record that does not match is one error, and reading goes on after the final literal', () => {
    const read = values('%p,%v\\n', '1,a\nx,b\n2,c\n')
    expect(read[0]).toBe('a')
    expect(read[1]).toMatch(/byte 1 of the record: %p: no number/)
    expect(read[2]).toBe('c')
    expect(values('%V %v!\\n', '1 a!\n1 bb!\n1 c!\n')).toEqual([
      'a',
      expect.stringMatching(/byte 4 of the record: not "!\\n"/),
      'c',
    ])
    expect(values('%v{hex}\\n', 'zz\n61\n')).toEqual(['%v{hex}: not hex', 'a'])
    expect(values('%V %v\\n', '-7 a\n1 b\n')[0]).toMatch(/-7 is no length/)
  })

  it('without a final literal the first error is the last record', () => {
    const read = readAll('%V{ascii};%v', Buffer.from('1;ax;b1;c'))
    expect(read.records).toHaveLength(2)
    expect(read.isLost).toBe(true)
  })

  it('a record that is too long is told once and never held', () => {
    const long = 'x'.repeat(500)
    const read = (format: string, input: string) =>
      readAll(format, Buffer.from(input), {
        bytesMax: 20,
        cuts: Array.from({ length: 100 }, (_, index) => index * 7),
      }).records.map((record) => (typeof record === 'string' ? record : record.value))
    expect(read('%v\\n', `a\n${long}\nb\n`)).toEqual(['a', 'too long', 'b'])
    expect(read('%V,%v', `1,a500,${long}1,b`)).toEqual(['a', 'too long', 'b'])
    expect(read('%k:%v\\n', `k:a\n${long}:y\nk:b\n`)).toEqual(['a', 'too long', 'b'])
  })

  it.each([
    ['%v', /character 1: .*a literal is needed/],
    ['%k%v\\n', /character 1: to read %k before %v/],
    ['%V%v', /character 1: to read the digits of %V/],
    ['%p7%v\\n', /begins with a digit/],
    ['%v\\n%h{%k=%v,}', /character 5: .*needs %H before it/],
    ['%H{big8}%h{%v,}%v\\n', /needs %k/],
    ['%v %h\\n', /%h without \{…\} is for output only/],
    ['%j\\n', /%j is for output only/],
    ['%v %]\\n', /%\] is for output only/],
    ['%d{strftime[%F]} %v\\n', /output only; to read/],
    ['literal\\n', /no token/],
  ])('refuses to read %s', (format, message) => {
    expect(() => compileFormat(parseFormat(format))).toThrow(message)
    expect(() => compileFormat(parseFormat(format))).toThrow(UsageError)
  })
})

describe('format: what is no format', () => {
  it.each([
    ['', /empty/],
    ['abc%', /character 4: a % at the end/],
    ['ab%q', /character 3: %q: no such token/],
    [String.raw`a\q`, /character 2: \\q: no such escape/],
    [String.raw`\x1`, /two hex digits/],
    ['%v{', /character 3: a \{ without its \}/],
    ['%v{hex', /a \{ without its \}/],
    ['%v{big32}', /character 4: %v\{big32\}: no modifier big32; there are: base64, hex, json/],
    ['%v{hex,json}', /character 8: .*two encodings/],
    ['%V{hex64}', /no modifier hex64; there are: ascii, hex, big8/],
    ['%V{big8,hex}', /one modifier at most/],
    ['%R{hex}', /no modifier hex; there are: none/],
    ['%t{null=x}', /no modifier null/],
    ['%d{iso,s}', /two forms/],
    ['%d{local}', /local goes with iso/],
    ['%d{strftime[%Q]}', /character 13: strftime: no %Q/],
    ['%h{%p}', /inside %h\{…\} there are/],
    ['%h{%h}', /%h inside %h/],
    ['%h{%k', /a \{ without its \}/],
    ['%v{a b}', /a literal \{ is/],
  ])('%s', (format, message) => {
    expect(() => parseFormat(format)).toThrow(message)
  })
})
