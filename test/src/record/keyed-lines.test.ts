/**
 * The kernel for keyed lines against the code that works line by line: same records, same partitions, and nothing taken that the
 * other refuses.
 */
import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { BatchBuilder } from '../../../src/record/batch-builder.ts'
import { KeyedLines, type KeyedLinesOptions } from '../../../src/record/keyed-lines.ts'
import { partitionForKey } from '../../../src/record/partitioner.ts'
import { JsonScanner, NOT_JSON } from '../../../src/text/json-scanner.ts'
import { embeddedKernel } from './kernel-build.ts'

const source = new URL('../../../src/record/keyed-line-kernel.assemblyscript', import.meta.url)
const embedded = new URL('../../../src/record/keyed-line-kernel.wasm.ts', import.meta.url)

describe('the embedded kernel of keyed lines', () => {
  test('is what its source compiles to', async () => {
    const module = await embeddedKernel({
      source,
      sourceName: 'keyed-line-kernel.assemblyscript',
      constant: 'keyedLineKernelBase64',
      memoryPages: 10,
    })
    await expect(module).toMatchFileSnapshot(fileURLToPath(embedded))
  })
})

const ROOM_BYTES = 100_000

function load(options: Partial<KeyedLinesOptions> & Pick<KeyedLinesOptions, 'key'>): KeyedLines {
  const lines = KeyedLines.load({ delimiter: 10, lineBytesMax: 1_000_000, ...options })
  if (lines === undefined) throw new Error('no SIMD here: the kernel cannot be tested')
  return lines
}

const path = (...names: string[]): Uint8Array[] => names.map((name) => Buffer.from(name))

/** Where key and value lie, as the code for single lines sees it; undefined: refused, or a key with an escape. */
function judge(line: Buffer, key: KeyedLinesOptions['key']) {
  if (typeof key === 'number') {
    const found = line.indexOf(key)
    return found < 0 ? undefined : { key: line.subarray(0, found), value: line.subarray(found + 1) }
  }
  const scanner = new JsonScanner()
  const names = key.map((bytes) => ({ text: Buffer.from(bytes).toString(), bytes }))
  if (!scanner.findPath(line, 0, line.length, names)) return undefined
  const { foundStart, foundEnd } = scanner
  if (foundStart === NOT_JSON) return undefined
  const isText = line[foundStart] === 0x22
  const found = isText
    ? line.subarray(foundStart + 1, foundEnd - 1)
    : line.subarray(foundStart, foundEnd)
  return isText && found.includes(0x5c) ? undefined : { key: found, value: line }
}

/** All lines through the kernel and through the builder; what the kernel leaves is skipped in both. */
function compare(text: Buffer, options: { key: KeyedLinesOptions['key']; lanes: number }) {
  const { key, lanes } = options
  const lines = load({ key })
  const made = Array.from({ length: lanes }, () => new BatchBuilder(ROOM_BYTES))
  const expected = Array.from({ length: lanes }, () => new BatchBuilder(ROOM_BYTES))
  const batches: Buffer[][] = [[], []]
  for (const builder of [...made, ...expected]) builder.reset({ timestampMs: 7 })
  const seal = (side: number, lane: number) => {
    const builder = (side === 0 ? made : expected)[lane]
    if (builder === undefined || builder.isEmpty) return
    batches[side]?.push(Buffer.from(builder.finish()))
    builder.reset({ timestampMs: 7 })
  }
  const tell = (lane: number) => {
    const builder = made[lane]
    lines.setLane(lane, builder?.recordCount ?? 0, builder?.roomBytes ?? 0)
  }
  lines.setLaneCount(lanes)
  for (let lane = 0; lane < lanes; lane++) tell(lane)
  const order: string[] = []
  let left = 0
  for (let at = 0; at < text.length; ) {
    const step = lines.step(text, at, text.length)
    for (let lane = 0; lane < lanes; lane++) {
      const bytes = lines.recordBytes(lane)
      if (bytes === 0) continue
      const builder = made[lane] as BatchBuilder
      const from = lines.recordsAt(lane)
      const count = lines.nextDelta(lane) - builder.recordCount
      expect(lines.lastLine(lane) - lines.firstLine(lane)).toBeGreaterThanOrEqual(count - 1)
      builder.appendEncoded(lines.memory, from, from + bytes, count)
    }
    const taken = text.subarray(at, at + lines.consumedBytes)
    let lineCount = 0
    for (let from = 0; from < taken.length; lineCount++) {
      const end = taken.indexOf(10, from)
      const found = judge(taken.subarray(from, end), key)
      if (found === undefined) throw new Error(`taken: ${taken.subarray(from, end)}`)
      const lane = partitionForKey('murmur2', lanes, found.key)
      const range = (bytes: Buffer) => ({ bytes, start: 0, end: bytes.length })
      const record = { key: range(found.key), value: range(found.value) }
      if (expected[lane]?.append(record) === false) {
        seal(1, lane)
        expected[lane]?.append(record)
      }
      order.push(`${lane}`)
      from = end + 1
    }
    expect(lineCount).toBe(lines.lineCount)
    at += lines.consumedBytes
    if (step === 'room') {
      seal(0, lines.stoppedLane)
      tell(lines.stoppedLane)
    } else if (step !== 'more') {
      const end = text.indexOf(10, at)
      if (end < 0) break
      if (step === 'judge') left += 1
      at = end + 1
    }
  }
  for (let lane = 0; lane < lanes; lane++) {
    seal(0, lane)
    seal(1, lane)
  }
  const sorted = (side: number) => batches[side]?.map((batch) => batch.toString('base64')).sort()
  expect(sorted(0)).toEqual(sorted(1))
  return { taken: order.length, left }
}

describe('keyed lines', () => {
  const json = (value: unknown): string => JSON.stringify(value)

  test.each([
    ['{"id":"a","n":1}', true],
    ['{"n":1,"id":42}', true],
    ['  { "x" : [1, {"id":2}], "id" : null , "y":"\\u00e9\\n" }  ', true],
    ['{"id":{"deep":[1,2,3]}}', true],
    ['{"id":"first","id":"second"}', true],
    ['{"id":""}', true],
    ['{"id":-0.5e+10}', true],
    ['{"id":true,"z":{}}', true],
    ['{"id":"\\u0061"}', false],
    ['{"i\\u0064":"a"}', false],
    ['{"id":"a"', false],
    ['{"id":"a"}x', false],
    ['{"id":01}', false],
    ['{"id":1.}', false],
    ['{"id":"a","x":tru}', false],
    ['{"id":"a","x":"\\q"}', false],
    ['{"id":"a","x":"\\u12"}', false],
    ['{"id":"a","x":"\t"}', false],
    ['{"id":"a",}', false],
    ['{"ID":"a"}', false],
    ['[{"id":"a"}]', false],
    ['"id"', false],
    ['', false],
    ['{}', false],
    [`{"id":"a","x":${'['.repeat(900)}${']'.repeat(900)}}`, true],
    [`{"id":"a","x":${'['.repeat(1200)}${']'.repeat(1200)}}`, false],
  ])('%s: taken %s', (line, isTaken) => {
    const text = Buffer.from(`{"id":"before"}\n${line}\n{"id":"after"}\n`)
    const outcome = compare(text, { key: path('id'), lanes: 3 })
    expect(outcome).toEqual({ taken: isTaken ? 3 : 2, left: isTaken ? 0 : 1 })
  })

  test('a path of several names, of which an earlier one is forgotten', () => {
    const lines = [
      '{"user":{"id":7,"x":1},"id":1}',
      '{"user":{"id":7},"user":{"id":8}}',
      '{"user":{"id":7},"user":3}',
      '{"user":[{"id":7}]}',
    ]
    const text = Buffer.from(`${lines.join('\n')}\n`)
    expect(compare(text, { key: path('user', 'id'), lanes: 5 })).toEqual({ taken: 2, left: 2 })
  })

  const anyJson = fc
    .record({
      id: fc.oneof(fc.string(), fc.integer(), fc.jsonValue(), fc.constant('x'.repeat(300))),
      rest: fc.dictionary(fc.string(), fc.jsonValue(), { maxKeys: 4 }),
      isFirst: fc.boolean(),
    })
    .map(({ id, rest, isFirst }) => json(isFirst ? { id, ...rest } : { ...rest, id }))
  const broken = fc
    .tuple(anyJson, fc.nat(), fc.constantFrom('', '"', '\\', '}', ',', '\u0001', ' '))
    .map(([text, at, by]) => {
      const place = at % text.length
      return text.slice(0, place) + by + text.slice(place + 1)
    })

  test('any JSON, whole and broken, is judged alike', () => {
    fc.assert(
      fc.property(
        fc.array(fc.oneof(anyJson, broken), { maxLength: 40 }),
        fc.integer({ min: 1, max: 40 }),
        (lines, lanes) => {
          compare(Buffer.from(`${lines.join('\n')}\n`), { key: path('id'), lanes })
        },
      ),
      { numRuns: 300 },
    )
  })

  test('any bytes around a separator', () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ maxLength: 80 }), { maxLength: 60 }),
        fc.integer({ min: 1, max: 12 }),
        (parts, lanes) => {
          const text = Buffer.concat(parts.flatMap((part) => [part, Buffer.from('\n')]))
          compare(text, { key: 9, lanes })
        },
      ),
      { numRuns: 300 },
    )
  })

  test('many lines: batches that fill, several pieces, empty keys and values, a line over a piece', () => {
    const many = Array.from(
      { length: 40_000 },
      (_, index) => `${index % 7 === 0 ? '' : index}\t${index}`,
    )
    many.splice(20_000, 0, `long\t${'x'.repeat(70_000)}`)
    const outcome = compare(Buffer.from(`${many.join('\n')}\nno end`), { key: 9, lanes: 6 })
    expect(outcome).toEqual({ taken: 40_000, left: 1 })
    const empty = Buffer.from('\t\n'.repeat(60_000))
    expect(compare(empty, { key: 9, lanes: 1 })).toEqual({ taken: 60_000, left: 0 })
  })

  test('a line over the limit is left', () => {
    const lines = load({ key: 9, lineBytesMax: 5 })
    lines.setLaneCount(1)
    lines.setLane(0, 0, 1000)
    const text = Buffer.from('a\tbcd\na\tbcde\n')
    expect(lines.step(text, 0, text.length)).toBe('judge')
    expect(lines.consumedBytes).toBe(6)
  })

  test('paths and partitions beyond its memory are refused', () => {
    const options = { delimiter: 10, lineBytesMax: 100 }
    expect(KeyedLines.load({ ...options, key: path('x'.repeat(9000)) })).toBeUndefined()
    expect(KeyedLines.load({ ...options, key: path(...Array(17).fill('a')) })).toBeUndefined()
    expect(load({ key: 9 }).setLaneCount(1024)).toBe(true)
    expect(load({ key: 9 }).setLaneCount(1025)).toBe(false)
  })
})
