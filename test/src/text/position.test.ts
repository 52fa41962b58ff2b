import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  parsePosition,
  parsePositions,
  parseSince,
  positionFor,
} from '../../../src/text/position.ts'
import { formatTime, parseTime } from '../../../src/text/time.ts'

const nowMs = Date.UTC(2026, 2, 15, 12, 30, 45, 678)

describe('parseTime', () => {
  it('reads moments relative to now', () => {
    expect(parseTime('now', nowMs)).toBe(nowMs)
    expect(parseTime('-5m', nowMs)).toBe(nowMs - 300_000)
    expect(parseTime('+1h', nowMs)).toBe(nowMs + 3_600_000)
  })

  it('counts seconds below 10^11 and milliseconds from there up', () => {
    expect(parseTime('@1730000000', nowMs)).toBe(1_730_000_000_000)
    expect(parseTime('@1730000000.5', nowMs)).toBe(1_730_000_000_500)
    expect(parseTime('@1730000000123', nowMs)).toBe(1_730_000_000_123)
    expect(parseTime('@99999999999', nowMs)).toBe(99_999_999_999_000)
    expect(parseTime('@100000000000', nowMs)).toBe(100_000_000_000)
  })

  it('reads dates with a zone', () => {
    expect(parseTime('2026-03-01T09:30Z', nowMs)).toBe(Date.UTC(2026, 2, 1, 9, 30))
    expect(parseTime('2026-03-01T09:30:15.5Z', nowMs)).toBe(Date.UTC(2026, 2, 1, 9, 30, 15, 500))
    expect(parseTime('2026-03-01T09:30:00+02:00', nowMs)).toBe(Date.UTC(2026, 2, 1, 7, 30))
    expect(parseTime('2026-03-01T09:30:00-02:30', nowMs)).toBe(Date.UTC(2026, 2, 1, 12, 0))
  })

  it('dates and clock times without a zone are local', () => {
    expect(parseTime('2026-03-01', nowMs)).toBe(new Date(2026, 2, 1).getTime())
    const today = new Date(nowMs)
    const at = new Date(today.getFullYear(), today.getMonth(), today.getDate(), 9, 30)
    expect(parseTime('09:30', nowMs)).toBe(at.getTime())
    const midnight = new Date(today.getFullYear(), today.getMonth(), today.getDate())
    expect(parseTime('today', nowMs)).toBe(midnight.getTime())
    expect(parseTime('yesterday', nowMs)).toBeLessThan(midnight.getTime())
  })

  it('refuses days and hours that are none', () => {
    for (const text of [
      '',
      '2026-02-29',
      '2026-13-01',
      '2026-00-10',
      '2026-03-01T24:00Z',
      '2026-03-01T10:60Z',
      '2026-3-1',
      '25:00',
      '9:30',
      '@',
      '@x',
      '@-5',
      '5m',
      'tomorrow',
      '2026-03-01T09:30+99:00',
      '0001-01-01',
    ]) {
      expect(parseTime(text, nowMs), text).toBeUndefined()
    }
  })

  it('reads back what output prints', () => {
    const ms = fc.integer({ min: Date.UTC(1971, 0), max: Date.UTC(9000, 0) })
    fc.assert(
      fc.property(ms, (timeMs) => {
        expect(parseTime(formatTime(timeMs), nowMs)).toBe(timeMs)
        expect(formatTime(Number.NaN)).toBe('-')
      }),
    )
  })
})

describe('parsePosition', () => {
  it('tells records from time by the unit', () => {
    expect(parsePosition('-5', nowMs)).toEqual({ kind: 'before-end', count: 5 })
    expect(parsePosition('-5m', nowMs)).toEqual({ kind: 'time', timeMs: nowMs - 300_000 })
    expect(parsePosition('+7', nowMs)).toEqual({ kind: 'after-start', count: 7 })
    expect(parsePosition('42', nowMs)).toEqual({ kind: 'offset', offset: 42 })
  })

  it('knows the words, and their other names', () => {
    for (const text of ['start', 'beginning', 'earliest']) {
      expect(parsePosition(text, nowMs)).toEqual({ kind: 'start' })
    }
    for (const text of ['end', 'latest'])
      expect(parsePosition(text, nowMs)).toEqual({ kind: 'end' })
    expect(parsePosition('stored', nowMs)).toEqual({ kind: 'committed' })
    expect(parsePosition('constructor', nowMs)).toBeUndefined()
    expect(parsePosition('99999999999999999999', nowMs)).toBeUndefined()
  })

  it('is total: any text gives a position or undefined, and offsets come back as they were', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        parsePosition(text, nowMs)
        parsePositions(text, nowMs)
      }),
    )
    fc.assert(
      fc.property(fc.maxSafeNat(), (offset) => {
        expect(parsePosition(String(offset), nowMs)).toEqual({ kind: 'offset', offset })
      }),
    )
  })
})

describe('parsePositions', () => {
  it('gives places of single partitions, of one topic or of all', () => {
    const positions = parsePositions('0=5,orders/1=end,1=-3', nowMs)
    if (positions === undefined) throw new Error('not read')
    expect(positionFor(positions, 'orders', 0)).toEqual({ kind: 'offset', offset: 5 })
    expect(positionFor(positions, 'orders', 1)).toEqual({ kind: 'before-end', count: 3 })
    expect(positionFor(positions, 'other', 1)).toEqual({ kind: 'before-end', count: 3 })
    expect(positionFor(positions, 'orders', 2)).toBeUndefined()
  })

  it('refuses half of a place', () => {
    for (const text of ['0=', '=5', 'x=5', '0=5,', '0=5,7', '/0=5']) {
      expect(parsePositions(text, nowMs), text).toBeUndefined()
    }
  })
})

describe('parseSince', () => {
  it('a bare duration means ago', () => {
    expect(parseSince('1h', nowMs)).toBe(nowMs - 3_600_000)
    expect(parseSince('-1h', nowMs)).toBe(nowMs - 3_600_000)
    expect(parseSince('5', nowMs)).toBeUndefined()
  })
})
