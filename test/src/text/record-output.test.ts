import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { BatchBuilder, type RecordInput } from '../../../src/record/batch-builder.ts'
import { OutputBuffer } from '../../../src/record/output-buffer.ts'
import { RecordCursor } from '../../../src/record/record-cursor.ts'
import { parseGrep, parseHeader, RecordFilter } from '../../../src/text/record-filter.ts'
import {
  LineWriter,
  RawWriter,
  type RecordWriter,
  SizedWriter,
  visibleText,
} from '../../../src/text/record-writer.ts'
import { escapeTsv, jsonLine, tableLines, tsvLine } from '../../../src/text/rows.ts'

interface Text {
  readonly key?: string | null
  readonly value: string | null
  readonly headers?: readonly (readonly [string, string | null])[]
}

function range(text: string) {
  const bytes = Buffer.from(text, 'latin1')
  return { bytes, start: 0, end: bytes.length }
}

function cursorOver(records: readonly Text[]): RecordCursor {
  const builder = new BatchBuilder(1 << 20)
  builder.reset({ timestampMs: 5 })
  for (const { key, value, headers } of records) {
    const input: RecordInput = {
      key: key == null ? null : range(key),
      value: value === null ? null : range(value),
      headers: (headers ?? []).map(([name, text]) => ({
        key: range(name),
        value: text === null ? null : range(text),
      })),
    }
    builder.append(input)
  }
  const cursor = new RecordCursor()
  cursor.reset(builder.finish())
  return cursor
}

function write(writer: RecordWriter, records: readonly Text[]): string {
  const out = new OutputBuffer(16)
  const cursor = cursorOver(records)
  while (cursor.next()) writer.write(cursor, out)
  return Buffer.from(out.filled()).toString('latin1')
}

const newline = Uint8Array.of(10)

describe('LineWriter', () => {
  it('every value is followed by the delimiter, null by nothing but it', () => {
    const records = [{ value: 'a' }, { value: null }, { value: '' }, { value: '\xff\0' }]
    expect(write(new LineWriter({ delimiter: newline }), records)).toBe('a\n\n\n\xff\0\n')
  })

  it('prints keys before a separator, and a token for null', () => {
    const records = [
      { key: 'k', value: 'v' },
      { key: null, value: null },
    ]
    const options = {
      delimiter: Buffer.from('|\0'),
      keySeparator: Buffer.from('\t'),
      nullValue: Buffer.from('NULL'),
    }
    expect(write(new LineWriter(options), records)).toBe('k\tv|\0\tNULL|\0')
  })

  it('tells when a reader cannot tell records apart', () => {
    const count = (records: readonly Text[], keySeparator?: Uint8Array): number => {
      let told = 0
      const writer = new LineWriter({
        delimiter: newline,
        onAmbiguous: () => {
          told += 1
        },
        ...(keySeparator === undefined ? {} : { keySeparator }),
      })
      write(writer, records)
      return told
    }
    expect(count([{ value: 'a' }, { value: 'b\nc' }])).toBe(1)
    expect(count([{ key: 'k\n', value: 'a' }])).toBe(0)
    expect(count([{ key: 'k\n', value: 'a' }], Buffer.from('\t'))).toBe(1)
    expect(count([{ key: 'k\t', value: 'a' }], Buffer.from('\t'))).toBe(1)
    expect(count([{ key: 'k', value: 'a\t' }], Buffer.from('\t'))).toBe(0)
  })

  it('on a terminal control bytes are shown, so that a record cannot steer it', () => {
    const writer = new LineWriter({ delimiter: newline, escapeControls: true })
    expect(write(writer, [{ value: '\x1b[2J\ta\x7f\xc2\x9b\xc3\xa9' }])).toBe(
      '\\x1b[2J\ta\\x7f\\x9b\xc3\xa9\n',
    )
    expect(visibleText('a\u001b\u009b\nb')).toBe('a\\x1b\\x9b\\x0ab')
  })
})

describe('SizedWriter, RawWriter', () => {
  it('lengths are four bytes, big-endian, −1 for null; raw has nothing between values', () => {
    const records = [{ value: 'ab' }, { value: null }, { value: '' }]
    expect(write(new SizedWriter(), records)).toBe('\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\0')
    expect(write(new RawWriter(), records)).toBe('ab')
  })
})

describe('RecordFilter', () => {
  const records: Text[] = [
    {
      key: 'a',
      value: 'one Error',
      headers: [
        ['h', 'x'],
        ['h', 'y'],
      ],
    },
    { key: null, value: 'two', headers: [['h', null]] },
    { key: 'A', value: null },
  ]

  function matching(options: ConstructorParameters<typeof RecordFilter>[0]): number[] {
    const filter = new RecordFilter(options)
    filter.setTopic('orders')
    const cursor = cursorOver(records)
    const found: number[] = []
    while (cursor.next()) if (filter.matches(cursor)) found.push(cursor.offset)
    return found
  }

  function grep(...texts: string[]): number[] {
    return matching({
      grep: texts.map((text) => {
        const term = parseGrep(text)
        if (typeof term === 'string') throw new Error(term)
        return term
      }),
    })
  }

  function headers(...texts: string[]): number[] {
    return matching({
      headers: texts.map((text) => parseHeader(text) ?? { name: Buffer.from(''), value: null }),
    })
  }

  it('keys and headers are equal byte for byte', () => {
    expect(matching({ key: Buffer.from('a') })).toEqual([0])
    expect(headers('h=y')).toEqual([0])
    expect(headers('h=x', 'h=y')).toEqual([0])
    expect(headers('h')).toEqual([1])
    expect(headers('h=')).toEqual([])
    expect(parseHeader('=x')).toBeUndefined()
  })

  it('regular expressions of keys, values, headers and topics, negated too', () => {
    expect(grep('v:/error/')).toEqual([])
    expect(grep('v:/error/i')).toEqual([0])
    expect(grep('!v:/error/i')).toEqual([1, 2])
    expect(grep('k:/^a$/i')).toEqual([0, 2])
    expect(grep('h:h=/^[xz]$/')).toEqual([0])
    expect(grep('t:/^ord/', '!k:/a/')).toEqual([1, 2])
    expect(grep('v:/one/', 'v:/two/')).toEqual([])
  })

  it('says what is wrong with a filter', () => {
    for (const text of ['', 'v:x', 'x:/a/', 'v:/(/', 'h:/a/', 'v:/a/g']) {
      expect(typeof parseGrep(text), text).toBe('string')
    }
  })
})

describe('rows', () => {
  const shape = { kind: 'thing', columns: ['NAME', 'COUNT', 'LIST'] }

  it('TSV escapes, and shows what is absent as -', () => {
    expect(tsvLine(['a\tb\n\\', 5, [1, 2]])).toBe('a\\tb\\n\\\\\t5\t1,2\n')
    expect(tsvLine([null, true, []])).toBe('-\ttrue\t-\n')
    fc.assert(
      fc.property(fc.array(fc.string(), { minLength: 1 }), (cells) => {
        const line = tsvLine(cells)
        expect(line.slice(0, -1).split('\t')).toHaveLength(cells.length)
        expect(line.indexOf('\n')).toBe(line.length - 1)
      }),
    )
    expect(escapeTsv('plain')).toBe('plain')
  })

  it('JSON has the columns in lower case', () => {
    expect(jsonLine(shape, ['a', null, [1]])).toBe(
      '{"v":1,"kind":"thing","name":"a","count":null,"list":[1]}\n',
    )
  })

  it('tables align, numbers to the right, and cut what is too wide', () => {
    const rows = [
      ['a', 5, 'x'],
      ['long', 1234, '\x1b'],
    ]
    expect(tableLines(shape, rows, { hasTitles: true })).toEqual([
      'NAME  COUNT  LIST',
      'a         5  x',
      'long   1234  \\x1b',
    ])
    expect(tableLines(shape, rows, { hasTitles: false, widthMax: 8 })).toEqual([
      'a      …',
      'long  1…',
    ])
  })
})
