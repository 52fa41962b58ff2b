import { expect, test } from 'vitest'
import { readFraction } from '../../cmd/read-extent.ts'
import { Report } from '../../cmd/report.ts'
import { SimTime } from '../sim/sim-time.ts'
import { SimWorld } from '../sim/sim-world.ts'

const noLimit = { countMax: Number.POSITIVE_INFINITY, bytesMax: Number.POSITIVE_INFINITY }
const ranges = [
  { topic: 't', partition: 0, startOffset: 10, endOffset: 20, gap: undefined },
  { topic: 't', partition: 1, startOffset: 0, endOffset: 30, gap: undefined },
]

function reportOf(records: number, ...spans: [number, number, number][]): Report {
  const report = new Report('cat', new SimTime(new SimWorld(1)))
  report.records = records
  for (const [partition, first, last] of spans) report.addSpan('t', partition, first, last)
  return report
}

test('the part of the offsets that was passed, whatever was printed of them', () => {
  expect(readFraction(reportOf(0), ranges, noLimit)).toBeUndefined()
  expect(readFraction(reportOf(1, [0, 10, 14]), ranges, noLimit)).toBe(5 / 40)
  expect(readFraction(reportOf(1, [0, 10, 19], [1, 3, 29]), ranges, noLimit)).toBe(1)
})

test('the limit that is nearer', () => {
  const report = reportOf(5, [0, 10, 14])
  expect(readFraction(report, ranges, { ...noLimit, countMax: 10 })).toBe(0.5)
  expect(readFraction(report, ranges, { ...noLimit, countMax: 1000 })).toBe(5 / 40)
})

test('an open end: only limits count', () => {
  const open = [{ topic: 't', partition: 0, startOffset: 0, endOffset: undefined, gap: undefined }]
  expect(readFraction(reportOf(5, [0, 0, 4]), open, noLimit)).toBeUndefined()
  expect(readFraction(reportOf(5, [0, 0, 4]), open, { ...noLimit, countMax: 20 })).toBe(0.25)
})
