import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  DelimiterSplitter,
  NULL_RECORD,
  type RecordSplitter,
  SizedSplitter,
  TOO_LONG,
  WholeSplitter,
} from '../../../src/text/record-splitter.ts'

const LONG = 'too long'

/** Feeds chunks cut at `cuts`, stopping after each record where `stops` says so, and gives what came out. */
function run(
  splitter: RecordSplitter,
  input: Uint8Array,
  cuts: readonly number[],
  stops: readonly boolean[] = [],
): { records: (string | null)[]; defect: string | undefined } {
  const records: (string | null)[] = []
  const consume = (bytes: Uint8Array, start: number, end: number): boolean => {
    if (start === TOO_LONG) records.push(LONG)
    else if (start === NULL_RECORD) records.push(null)
    else records.push(Buffer.from(bytes.subarray(start, end)).toString('latin1'))
    return stops[records.length % Math.max(1, stops.length)] !== true
  }
  const places = [...new Set(cuts.map((cut) => cut % (input.length + 1)))].sort((a, b) => a - b)
  let from = 0
  for (const to of [...places, input.length]) {
    // The splitter may look only at its range of a larger memory that is used again.
    const chunk = new Uint8Array(to - from + 6).fill(10)
    chunk.set(input.subarray(from, to), 3)
    let at = 3
    let rounds = 0
    while (at < 3 + to - from) {
      at = splitter.feed(chunk, at, 3 + to - from, consume)
      rounds += 1
      if (rounds > 10_000) throw new Error('no progress')
    }
    chunk.fill(0xee)
    from = to
  }
  const defect = splitter.finish(consume)
  return { records, defect }
}

function expectedLines(input: string, delimiter: string, bytesMax: number): string[] {
  const parts = input.split(delimiter)
  if (parts.at(-1) === '') parts.pop()
  return parts.map((part) => (part.length > bytesMax ? LONG : part))
}

describe('DelimiterSplitter', () => {
  it('cuts as split does, at any chunk boundaries, with any pauses', () => {
    const alphabet = fc.constantFrom('a', '\n', '\r', '\0', 'é', '|')
    const text = fc.string({ unit: alphabet, maxLength: 60 })
    const delimiter = fc.constantFrom('\n', '\0', '\r\n', '||', 'a|a', '\n\n')
    fc.assert(
      fc.property(
        text,
        delimiter,
        fc.array(fc.nat()),
        fc.array(fc.boolean(), { maxLength: 3 }),
        fc.constantFrom(1000, 5, 3, 0),
        (input, separator, cuts, stops, bytesMax) => {
          const bytes = Buffer.from(input, 'latin1')
          const splitter = new DelimiterSplitter(Buffer.from(separator, 'latin1'), bytesMax)
          const { records, defect } = run(splitter, bytes, cuts, stops)
          expect(defect).toBeUndefined()
          expect(records).toEqual(expectedLines(input, separator, bytesMax))
        },
      ),
      { numRuns: 3000 },
    )
  })

  it('an empty line is a record, empty input is none, a last line needs no end', () => {
    const lines = (input: string) =>
      run(new DelimiterSplitter(Uint8Array.of(10), 100), Buffer.from(input), []).records
    expect(lines('')).toEqual([])
    expect(lines('\n')).toEqual([''])
    expect(lines('a\n\nb')).toEqual(['a', '', 'b'])
  })

  it('a record that is too long costs no memory, and is told once', () => {
    const splitter = new DelimiterSplitter(Uint8Array.of(10), 1000)
    const records: number[] = []
    const chunk = new Uint8Array(65_536).fill(65)
    for (let index = 0; index < 50; index += 1) {
      splitter.feed(chunk, 0, chunk.length, (_, start) => records.push(start) > 0)
      expect(splitter.heldBytes).toBeLessThan(1100)
    }
    splitter.feed(Uint8Array.of(10, 66, 10), 0, 3, (_, start) => records.push(start) > 0)
    expect(records).toEqual([TOO_LONG, 1])
  })

  it('drop forgets an unfinished record', () => {
    const splitter = new DelimiterSplitter(Uint8Array.of(10), 100)
    splitter.feed(Buffer.from('abc'), 0, 3, () => true)
    expect(splitter.heldBytes).toBe(3)
    expect(splitter.drop()).toBe(true)
    expect(splitter.drop()).toBe(false)
    expect(run(splitter, Buffer.from('d\n'), []).records).toEqual(['d'])
  })
})

function sized(values: readonly (string | null)[]): Buffer {
  return Buffer.concat(
    values.map((value) => {
      const body = Buffer.from(value ?? '', 'latin1')
      const head = Buffer.alloc(4)
      head.writeInt32BE(value === null ? -1 : body.length)
      return Buffer.concat([head, body])
    }),
  )
}

describe('SizedSplitter', () => {
  it('gives back what was framed, null and empty values too', () => {
    const value = fc.option(
      fc.string({ unit: fc.constantFrom('a', '\n', '\0', 'ÿ'), maxLength: 9 }),
      { nil: null },
    )
    fc.assert(
      fc.property(
        fc.array(value),
        fc.array(fc.nat()),
        fc.array(fc.boolean(), { maxLength: 3 }),
        (values, cuts, stops) => {
          const { records, defect } = run(new SizedSplitter(7), sized(values), cuts, stops)
          expect(defect).toBeUndefined()
          expect(records).toEqual(
            values.map((text) => (text !== null && text.length > 7 ? LONG : text)),
          )
        },
      ),
      { numRuns: 1000 },
    )
  })

  it('says that the input ends inside a record', () => {
    for (const length of [1, 3, 4, 6]) {
      const cut = sized(['abc']).subarray(0, length)
      expect(run(new SizedSplitter(100), cut, []).defect, String(length)).toBe('cut')
    }
  })

  it('a length that cannot be ends the reading with one error', () => {
    const input = Buffer.concat([sized(['a']), Buffer.from([0xff, 0, 0, 0]), sized(['b'])])
    const { records } = run(new SizedSplitter(100), input, [])
    expect(records).toEqual(['a', LONG])
    expect(run(new SizedSplitter(100), input, [6, 7]).records).toEqual(['a', LONG])
  })
})

describe('WholeSplitter', () => {
  it('all is one record, nothing is none, unless an empty one counts', () => {
    expect(run(new WholeSplitter(100), Buffer.from('a\nb'), [1, 2]).records).toEqual(['a\nb'])
    expect(run(new WholeSplitter(100), Buffer.from(''), []).records).toEqual([])
    const empty = new WholeSplitter(100, { emptyIsRecord: true })
    expect(run(empty, Buffer.from(''), []).records).toEqual([''])
    expect(run(new WholeSplitter(2), Buffer.from('abc'), [1]).records).toEqual([LONG])
  })
})
