import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  formatDuration,
  formatSize,
  parseCount,
  parseDuration,
  parseEscapes,
  parsePartitions,
  parseRate,
  parseSize,
} from '../../../src/text/units.ts'

describe('parseDuration', () => {
  it('reads every unit, and joined ones', () => {
    expect(parseDuration('500ms')).toBe(500)
    expect(parseDuration('1d12h')).toBe(129_600_000)
    expect(parseDuration('1.5s')).toBe(1500)
    expect(parseDuration('1w')).toBe(604_800_000)
    expect(parseDuration('2m')).toBe(120_000)
  })

  it('refuses what has no unit, unknown units, signs and blanks', () => {
    for (const text of ['', '5', '-5s', '5x', '5 s', 's', '1h ', '.5s', '1e3s', '99999999999w']) {
      expect(parseDuration(text), text).toBeUndefined()
    }
  })

  it('adds up: joined units are the sum of their parts', () => {
    const unit = fc.constantFrom('ms', 's', 'm', 'h', 'd')
    const part = fc.tuple(fc.nat(1000), unit).map(([count, name]) => `${count}${name}`)
    fc.assert(
      fc.property(fc.array(part, { minLength: 1, maxLength: 4 }), (parts) => {
        const sum = parts.reduce((total, text) => total + (parseDuration(text) ?? Number.NaN), 0)
        expect(parseDuration(parts.join(''))).toBe(sum)
      }),
    )
  })
})

describe('parseSize, parseRate, parseCount', () => {
  it('knows binary and decimal units', () => {
    expect(parseSize('512')).toBe(512)
    expect(parseSize('64KiB')).toBe(65_536)
    expect(parseSize('8M')).toBe(8_388_608)
    expect(parseSize('1kB')).toBe(1000)
    expect(parseSize('1.5GiB')).toBe(1_610_612_736)
    for (const text of ['', 'K', '-1', '1 K', '1KB', '1kib', '1e3']) {
      expect(parseSize(text), text).toBeUndefined()
    }
  })

  it('tells records from bytes', () => {
    expect(parseRate('1000/s')).toEqual({ unit: 'records', perSecond: 1000 })
    expect(parseRate('60/m')).toEqual({ unit: 'records', perSecond: 1 })
    expect(parseRate('5MiB/s')).toEqual({ unit: 'bytes', perSecond: 5_242_880 })
    for (const text of ['1000', '/s', '0/s', 'x/s', '1/d']) {
      expect(parseRate(text), text).toBeUndefined()
    }
  })

  it('counts are whole and not negative', () => {
    expect(parseCount('0')).toBe(0)
    for (const text of ['', '-1', '1.5', '1e3', '99999999999999999999']) {
      expect(parseCount(text), text).toBeUndefined()
    }
  })
})

describe('parsePartitions', () => {
  it('joins numbers and ranges, rising, each once', () => {
    expect(parsePartitions('0,2-4,3')).toEqual([0, 2, 3, 4])
    for (const text of ['', ',', '1-', '-1', '4-2', 'a', '1,,2', '0-999999999']) {
      expect(parsePartitions(text), text).toBeUndefined()
    }
  })
})

describe('parseEscapes', () => {
  it('reads escapes and UTF-8', () => {
    expect(parseEscapes(String.raw`\t`)).toEqual(Uint8Array.of(9))
    expect(parseEscapes(String.raw`a\x00\\\r\n\0`)).toEqual(Uint8Array.of(97, 0, 92, 13, 10, 0))
    expect(parseEscapes('é')).toEqual(Uint8Array.of(0xc3, 0xa9))
    for (const text of ['', '\\', String.raw`\q`, String.raw`\x4`, String.raw`\xzz`]) {
      expect(parseEscapes(text), text).toBeUndefined()
    }
  })

  it('any bytes can be given in hex', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1 }), (bytes) => {
        const text = [...bytes].map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('')
        expect(parseEscapes(text)).toEqual(bytes)
      }),
    )
  })
})

describe('formats for people', () => {
  it('sizes and durations keep two places of meaning', () => {
    expect(formatSize(512)).toBe('512 B')
    expect(formatSize(1536)).toBe('1.5 KiB')
    expect(formatSize(200 * 1024)).toBe('200 KiB')
    expect(formatDuration(250)).toBe('250ms')
    expect(formatDuration(129_600_000)).toBe('1d12h')
    expect(formatDuration(303_000)).toBe('5m3s')
  })
})
