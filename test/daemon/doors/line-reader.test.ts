import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type LineHandler, LineReader } from '../../../daemon/doors/line-reader.ts'

/** What a reader says of bytes, in words; `takes` decides which offers are taken. */
class Heard implements LineHandler {
  readonly said: string[] = []
  readonly bytesMax: number
  takes: () => boolean = () => true

  constructor(bytesMax = 5000) {
    this.bytesMax = bytesMax
  }

  recordBytesMax(): number {
    return this.bytesMax
  }

  onRequest(request: Parameters<LineHandler['onRequest']>[0]): boolean {
    if (!this.takes()) return false
    const { verb, topic, partition, timestampMs, bytes } = request
    if (verb === 'SUB') {
      const { from, isUntilEnd } = request
      this.said.push(`SUB ${topic}${partition ?? ''} ${from}${isUntilEnd ? ' until end' : ''}`)
      return true
    }
    const text = (start: number, end: number) =>
      start < 0
        ? 'null'
        : JSON.stringify(Buffer.from(bytes.subarray(start, end)).toString('latin1'))
    const key = text(request.keyStart, request.keyEnd)
    const value = text(request.valueStart, request.valueEnd)
    const place = `${partition ?? ''}${timestampMs === undefined ? '' : `@${timestampMs}`}`
    this.said.push(
      verb === 'PUB' || verb === 'LINE' ? `${verb} ${topic}${place} ${key}=${value}` : verb,
    )
    return true
  }

  onTooLarge(topic: string, bytes: number | undefined, bytesMax: number): void {
    this.said.push(`too large ${topic} ${bytes ?? `more than ${bytesMax}`}`)
  }

  onFatal(message: string): void {
    this.said.push(`fatal ${message}`)
  }
}

function read(text: string | Uint8Array, bytesMax?: number): string[] {
  const heard = new Heard(bytesMax)
  const bytes = typeof text === 'string' ? Buffer.from(text, 'latin1') : text
  new LineReader(heard).feed(bytes, 0, bytes.length)
  return heard.said
}

/** Fed in pieces, with offers refused at random: the outcome must be the same. */
function readInPieces(
  bytes: Uint8Array,
  cuts: readonly number[],
  refusals: readonly boolean[],
): string[] {
  const heard = new Heard()
  let turn = 0
  heard.takes = () => refusals[turn++ % (refusals.length + 1)] !== true
  const reader = new LineReader(heard)
  const edges = [
    ...new Set([0, ...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length]),
  ].sort((a, b) => a - b)
  for (const [index, start] of edges.entries()) {
    const end = edges[index + 1]
    if (end === undefined) break
    for (let at = start, guard = 0; at < end || reader.hasUntaken; guard += 1) {
      if (guard > 10_000) throw new Error('no progress')
      const chunk = Uint8Array.from(bytes.subarray(at, end))
      at += reader.feed(chunk, 0, chunk.length)
      if (heard.said.some((each) => each.startsWith('fatal'))) return heard.said
    }
  }
  return heard.said
}

describe('LineReader', () => {
  it('PUB: lengths, keys, null values, options, any bytes', () => {
    expect(read('PUB t 5\nhello')).toEqual(['PUB t null="hello"'])
    expect(read('PUB t 5\r\nhello\r\nPUB t 0\n\n')).toEqual(['PUB t null="hello"', 'PUB t null=""'])
    expect(read('PUB t 2 key=3\nabc\x00\n\n')).toEqual(['PUB t "abc"="\\u0000\\n"'])
    expect(read('PUB t -1 key=1\nk')).toEqual(['PUB t "k"=null'])
    expect(read('PUB t 1 partition=3 ts=17 key=0\nx')).toEqual(['PUB t3@17 ""="x"'])
  })

  it('LINE: the rest of the line, blanks kept', () => {
    expect(read('LINE t  a b \r\nLINE t\nLINE t \n')).toEqual([
      'LINE t null=" a b "',
      'LINE t null=""',
      'LINE t null=""',
    ])
  })

  it('SUB: all or one partition, from and until', () => {
    expect(
      read('SUB t\nSUB t \r\nSUB t partition=3 from=17\nSUB t until=end from=start\n'),
    ).toEqual(['SUB t end', 'SUB t end', 'SUB t3 17', 'SUB t start until end'])
  })

  it('PING, INFO, QUIT; empty lines are ignored', () => {
    expect(read('\n\r\nPING\nINFO\r\n\nQUIT\n')).toEqual(['PING', 'INFO', 'QUIT'])
  })

  it.each([
    ['GET / HTTP/1.1\r\n\r\n', 'fatal "GET" is no request'],
    ['pub t 1\nx', 'fatal "pub" is no request'],
    ['PUB\n', 'fatal PUB without a topic'],
    ['PUB t\n', 'fatal PUB without the length of its value'],
    ['PUB t x\n', 'fatal PUB without the length of its value'],
    ['PUB t -2\n', 'fatal PUB without the length of its value'],
    ['PUB t 99999999999\n', 'fatal PUB without the length of its value'],
    ['PUB t 1 colour=red\nx', 'fatal "colour=red" is no option of PUB'],
    ['PUB t 1 key=1 key=1\nx', 'fatal key=1: no length'],
    ['SUB\n', 'fatal SUB without a topic'],
    ['SUB t from=\n', 'fatal "from=" is no option of SUB'],
    ['SUB t from=-1\n', 'fatal "from=-1" is no option of SUB'],
    ['SUB t until=5\n', 'fatal "until=5" is no option of SUB'],
    ['SUB t partition=4000000000\n', 'fatal partition=4000000000: no partition'],
    [`SUB t ${'from=end '.repeat(300)}\n`, 'fatal a request line too long'],
    ['PING x\n', 'fatal PING takes no arguments'],
    [`PUB ${'t'.repeat(2000)} 1\nx`, 'fatal a request line too long'],
  ])('%#: a bad request ends the stream', (text, said) => {
    expect(read(`PING\n${text}PING\n`), text).toEqual(['PING', said])
  })

  it('a line without an end does not fill the memory', () => {
    expect(read('x'.repeat(5000))).toEqual(['fatal a request line too long'])
  })

  it('a record that is too large is refused and skipped, whatever its size', () => {
    expect(read(`PUB t 200\n${'x'.repeat(200)}PING\n`, 100)).toEqual(['too large t 200', 'PING'])
    expect(read(`LINE t ${'x'.repeat(3000)}`, 100)).toEqual(['too large t more than 100'])
    const heard = new Heard(100)
    const reader = new LineReader(heard)
    const feed = (text: string) => reader.feed(Buffer.from(text), 0, text.length)
    feed('PUB t 2147483647\n')
    for (let at = 0; at < 100; at += 1) feed('x'.repeat(1000))
    expect(reader.heldBytes).toBe(0)
    feed(`\n`)
    expect(heard.said).toEqual(['too large t 2147483647'])
    const lines = new LineReader(heard)
    const line = `LINE t ${'y'.repeat(900)}`
    lines.feed(Buffer.from(line), 0, line.length)
    for (let at = 0; at < 10; at += 1) lines.feed(Buffer.from('y'.repeat(500)), 0, 500)
    expect(lines.heldBytes).toBe(0)
    lines.feed(Buffer.from('y\nPING\n'), 0, 7)
    expect(heard.said.slice(1)).toEqual(['too large t more than 100', 'PING'])
  })

  it('any cut of a stream into chunks, and any refusals, give the same requests', () => {
    const request = fc.oneof(
      fc
        .tuple(
          fc.oneof(
            fc.uint8Array({ maxLength: 40 }),
            fc.nat(4000).map((size) => new Uint8Array(size).fill(120)),
          ),
          fc.option(fc.uint8Array({ maxLength: 5 })),
        )
        .map(([value, key]) =>
          Buffer.concat([
            Buffer.from(`PUB t ${value.length}${key === null ? '' : ` key=${key.length}`}\n`),
            key ?? Buffer.alloc(0),
            value,
          ]),
        ),
      fc.stringMatching(/^[a-z ]{0,30}$/).map((text) => Buffer.from(`LINE topic ${text}\r\n`)),
      fc
        .constantFrom('PING\n', '\n', 'PUB t -1\n', '\r\n', 'SUB t until=end\n')
        .map((text) => Buffer.from(text)),
    )
    const bytes = fc.array(request, { maxLength: 12 }).map((all) => Buffer.concat(all))
    fc.assert(
      fc.property(
        bytes,
        fc.array(fc.nat(), { maxLength: 9 }),
        fc.array(fc.boolean()),
        (all, cuts, refusals) => {
          expect(readInPieces(all, cuts, refusals)).toEqual(read(all))
        },
      ),
    )
  })

  it('any bytes at all end in something, in bounded memory', () => {
    const noise = fc.oneof(
      fc.uint8Array({ maxLength: 3000 }),
      fc
        .array(
          fc.constantFrom(
            'PUB ',
            't',
            ' ',
            '\n',
            '5',
            'key=',
            '-1',
            'LINE ',
            'SUB ',
            'from=start',
            '\r',
            'PING',
            'x'.repeat(700),
          ),
        )
        .map((parts) => Buffer.from(parts.join(''))),
    )
    fc.assert(
      fc.property(noise, fc.array(fc.nat(), { maxLength: 9 }), (bytes, cuts) => {
        expect(readInPieces(bytes, cuts, []).length).toBeLessThanOrEqual(bytes.length + 1)
      }),
    )
  })
})
